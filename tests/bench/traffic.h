/*
 * traffic: the connections, and phases of load on them.
 *
 * Owns all sockets and buffers, everything is allocated by traffic_new; a phase allocates nothing. One thread.
 * Invariant: between phases nothing is in flight; in one, each slot of a connection has exactly one request in flight
 * until the phase is over.
 */
#ifndef BENCH_TRAFFIC_H
#define BENCH_TRAFFIC_H

#include <stdint.h>

#include "histogram.h"
#include "options.h"
#include "target.h"

struct traffic;

struct phase {
	enum load_op op;
	uint64_t duration_ns; /* UINT64_MAX: until the count */
	uint64_t request_count;
	bool one_connection;
};

struct phase_result {
	uint64_t answers;    /* until the phase was over; what was in flight then is checked, not counted */
	uint64_t sent;	     /* all requests */
	uint64_t entries;    /* in the answers */
	uint64_t bytes;	     /* of their entries */
	uint64_t elapsed_ns; /* from the first request */
	uint64_t wakeups;
	uint64_t errors; /* of all answers */
	struct histogram *latency_ns;
};

/* Connects and greets. NULL: said on stderr. */
struct traffic *traffic_new(const struct load_options *options);
void traffic_free(struct traffic *traffic);

/* 0; -1: it could not go on, said on stderr. Wrong answers are said (the first few) and counted, and it goes on. */
int traffic_run(struct traffic *traffic, const struct phase *phase, struct phase_result *ret_result);

#endif
