/*
 * crew: the threads of a load, each with a traffic of its own.
 *
 * Owns them, and the record of what was acknowledged. Called by one thread, which waits while a phase runs and is told
 * how it goes; SIGINT and SIGTERM stay with it.
 * Invariant: threads share nothing that changes but `stop` and the figures that are looked at.
 */
#ifndef IRONWAL_BENCH_CREW_H
#define IRONWAL_BENCH_CREW_H

#include "traffic.h"

struct crew;

struct crew_result {
	struct figures figures[BENCH_OPS];
	uint64_t sent, elapsed_ns, wakeups, unknown, checked;
	double cpu_share_max, cpu_share_sum; /* of a core each: of the busiest thread, of all */
	bool record_full;
	struct complaints complaints;
};

/* What has been counted so far in the phase that runs; good until it returns. */
typedef void (*crew_tick_cb)(const struct figures figures[BENCH_OPS], uint64_t elapsed_ns, void *arg);

/* Connects all. record_max: how many acknowledged requests are recorded, 0: none. stop: see traffic.h. */
struct crew *crew_new(const struct bench_plan *plan, const struct requests *requests, size_t record_max,
	atomic_int *stop, struct fault *fault);
void crew_free(struct crew *crew);

/* duration_ns UINT64_MAX: until the count; request_count is that of all threads. tick, if not NULL, is called every
 * tick_ns. *ret_result is set in any case. -1 with the fault: it could not go on, nor can another phase. */
int crew_run(struct crew *crew, bool prefill, uint64_t duration_ns, uint64_t request_count, uint64_t tick_ns,
	crew_tick_cb tick, void *arg, struct crew_result *ret_result, struct fault *fault);

/* Gives what is readable of each log to all threads; NULL: what the first thread knows, after a prefill. */
void crew_share_extents(struct crew *crew, const struct extent *extents);

/* All that was recorded, sorted; phases are over then. */
struct acked *crew_acked(struct crew *crew);

#endif
