/*
 * net: what the request handlers work with.
 *
 * Owned by server.c; handlers borrow it. Loop thread only.
 * Invariant: everything in it lives longer than any connection or request.
 */
#ifndef IRONWALD_NET_H
#define IRONWALD_NET_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "conn.h"
#include "engine.h"
#include "net_stats.h"
#include "server.h"
#include "waiters.h"

struct net {
	struct server_options options;
	uv_loop_t loop;
	struct engine *engine;
	struct conn_group *conns;
	struct waiters *waiters;
	struct net_stats stats;
	uint64_t started_ns;
	uint64_t pool_reads; /* handed to libuv's pool and not yet back */
	bool stopping;
};

/* Per connection, what is not about bytes: the user pointer of struct conn. */
struct session {
	bool greeted; /* hello was answered */
	bool refused; /* over max_connections: it only gets told so */
	struct waiter_owner waiting;
};

#endif
