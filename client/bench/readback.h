/*
 * readback: reads once more what a run with --verify wrote, and holds it against what was acknowledged.
 *
 * Owns nothing: it connects, reads, and closes. One thread, which waits.
 * Invariant: found counts ids at which exactly the entry that was acknowledged there was read, whole; every id that was
 * acknowledged and is not counted has a complaint, its own or that of the log that could not be read further.
 */
#ifndef IRONWAL_BENCH_READBACK_H
#define IRONWAL_BENCH_READBACK_H

#include "traffic.h"

struct readback_result {
	uint64_t expected, found; /* entries */
	uint64_t strays;	  /* entries of the run at ids at which none was acknowledged */
	bool interrupted;
	struct complaints complaints;
};

/* Between two requests. */
typedef void (*readback_tick_cb)(const struct readback_result *so_far, void *arg);

/* acked: sorted. unknown: how many entries may have been written without being acknowledged, and are no complaint.
 * Ends early when *stop changes. *ret_result is set in any case; -1 with the fault. */
int readback_run(const struct bench_plan *plan, const struct requests *requests, const struct server_facts *facts,
	const struct acked *acked, uint64_t unknown, atomic_int *stop, readback_tick_cb tick, void *arg,
	struct readback_result *ret_result, struct fault *fault);

#endif
