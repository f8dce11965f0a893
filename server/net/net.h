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

#include "auth.h"
#include "conn.h"
#include "engine.h"
#include "health.h"
#include "net_stats.h"
#include "server.h"
#include "tls.h"
#include "waiters.h"

struct net {
	const struct server_options *options; /* a snapshot, which a reload replaces as a whole between two turns */
	uv_loop_t loop;
	struct engine *engine;
	struct conn_group *conns;
	struct waiters *waiters;
	struct auth *auth; /* NULL: nobody is asked for a token */
	struct tls *tls;   /* NULL: TCP is not encrypted */
	struct health *health;
	struct net_stats stats;
	uint64_t started_ns;
	uint64_t started_unix_ns;		   /* the same in Unix time, as it was then */
	uint64_t pool_reads;			   /* handed to libuv's pool and not yet back */
	struct read_line *lines_head, *lines_tail; /* those with reads in them; each goes on in its turn */
	size_t line_count;
	bool stopping;
	bool completing; /* completions are being answered, all of them at the time that the clock shows */
};

/* What health_report says, and what else there is to say about being ready. */
void net_health(const struct net *net, struct health_report *ret_report);

#define NET_REFUSING_MAX 96
/* How many shards of a writer take no writes, and nothing that only some may read. False: all take them. */
bool net_refusing(const struct net *net, uint32_t writer, char ret_line[NET_REFUSING_MAX]);

struct read_call; /* of handlers_read.c */

/* Reads of one connection that may begin only once there is room for their answers: iters that were woken. */
struct read_line {
	struct conn *conn;
	struct read_line *next; /* of net's lines */
	bool listed;
	struct read_call *head, *tail;
	size_t bytes; /* what they count for as in flight */
};

/* Per connection, what is not about bytes: the user pointer of struct conn. */
struct session {
	bool greeted;		   /* hello was answered */
	const struct token *token; /* with net->auth: what it came in with; NULL: that is not valid any more */
	bool refused;		   /* over max_connections: it only gets told so */
	struct waiter_owner waiting;
	struct read_line reads;
};

#endif
