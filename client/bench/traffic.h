/*
 * traffic: the connections of one thread, and phases of load on them.
 *
 * Owns its connections and tables; everything is allocated by traffic_new, a phase allocates nothing. One thread at a
 * time; only `figures` may be read by others while a phase runs (counter.h), and only `stop` written.
 * Invariant: between phases nothing is in flight; in one, each slot of a connection has exactly one request in flight
 * until the phase is over.
 *
 * A closed loop: a request goes out when an earlier one of the same connection is answered.
 */
#ifndef IRONWAL_BENCH_TRAFFIC_H
#define IRONWAL_BENCH_TRAFFIC_H

#include <stdatomic.h>

#include "acked.h"
#include "requests.h"

struct traffic;

/* What ends phases from outside: of all threads of a run. A signal handler may set it. */
enum {
	STOP_NOT,
	STOP_SENDING, /* what is in flight is waited for */
	STOP_NOW,
};

/* The ids of a log that can be read: all from the first to the last that was acknowledged to this thread. They can be
 * read because a log's readable end is one point. end 0: none. */
struct extent {
	uint64_t first, end;
};

struct traffic_setup {
	const struct bench_plan *plan;
	const struct requests *requests;
	uint32_t thread,
		threads_count; /* connections `thread`, thread + threads_count, ... of the plan's are its own */
	struct acked *acked;   /* NULL: nothing is recorded */
	atomic_int *stop;
};

struct phase {
	bool prefill; /* BENCH_PREFILL on the first connection alone; else the plan's mix on all */
	uint64_t begin_ns;
	uint64_t end_ns; /* UINT64_MAX: until the count */
	uint64_t request_count;
};

struct phase_result {
	struct figures figures[BENCH_OPS]; /* until the phase was over; errors of what was in flight then, too */
	uint64_t sent;
	uint64_t ended_ns; /* when it was over: at its end, or with the last answer that counts */
	uint64_t wakeups;
	uint64_t cpu_ns, wall_ns; /* that the thread took, and in which time */
	uint64_t unknown;	  /* entries that may have been written, or not: their appends failed so */
	uint64_t checked;	  /* entries read whose contents were good */
	bool record_full;	  /* ended because of that */
	struct complaints complaints;
};

/* Connects and greets. NULL with the fault. */
struct traffic *traffic_new(const struct traffic_setup *setup, struct fault *fault);
void traffic_free(struct traffic *traffic);

/* 0; -1 with the fault: it could not go on. Wrong answers are counted, and it goes on. *ret_result is set in any case,
 * and its figures are counted up while it runs. */
int traffic_run(
	struct traffic *traffic, const struct phase *phase, struct phase_result *ret_result, struct fault *fault);

/* What can be read, of each log: to be given to the other threads after a prefill, or told before. */
struct extent *traffic_extents(struct traffic *traffic);

#endif
