/*
 * net_stats: what the network side counts: requests by method with their latency, errors by code, connections.
 *
 * Owns only numbers. Loop thread only (the engine's writers have their own).
 * Invariant: a request is counted once, when it is answered (or its connection is gone).
 */
#ifndef IRONWALD_NET_STATS_H
#define IRONWALD_NET_STATS_H

#include <stdint.h>

#include "engine.h"
#include "error.h"
#include "method.h"

struct method_stats {
	uint64_t errors;
	struct histogram latency_ns; /* from the request's last byte read to its answer queued; waiting not counted */
};

struct net_stats {
	struct method_stats methods[METHOD_UNKNOWN + 1];
	uint64_t errors[ERR_OTHER + 1];
	uint64_t connections_accepted, connections_refused, accept_errors;
	uint64_t reads_on_loop, reads_in_pool;
};

void histogram_add(struct histogram *histogram, uint64_t value);

/* An upper bound of the value that `percent` of all values do not exceed; 0 if there are none. */
uint64_t histogram_percentile(const struct histogram *histogram, unsigned percent);

#endif
