/*
 * probe: what is to be known of a server before a load.
 *
 * Owns nothing: it connects, asks, and closes. One thread, which waits.
 */
#ifndef IRONWAL_BENCH_PROBE_H
#define IRONWAL_BENCH_PROBE_H

#include "traffic.h"

/* Where the protocol tells nothing, one shard. */
int probe_server(const struct bench_plan *plan, const struct target *target, struct server_facts *ret_facts,
	struct fault *fault);

/* What can be read of each log of the requests, in ret_extents; a log that is not there is empty. */
int probe_extents(const struct bench_plan *plan, const struct requests *requests, struct extent *ret_extents,
	struct fault *fault);

#endif
