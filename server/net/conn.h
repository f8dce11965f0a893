/*
 * conn: one connection: framing, what it has in flight, order, output, and how it ends.
 *
 * Owns its transport, its receive buffer and its queued output. Loop thread only, but for conn_dead.
 * Invariant: bytes in flight (requests held and answers not yet taken by the system) only ever grow past the
 * bounds by one request of a connection that had none: what is over is left unread, nothing is dropped.
 *
 * A connection's life:
 *   open     frames are read and handed to message_cb
 *   ending   no further request (the peer sent no more, a protocol error, a timeout, the server stops);
 *            input_end_cb was called; input is thrown away; answers that are owed are sent, then a last error if any
 *   shut     the sending side is ended; input is thrown away until the peer ends too, or for a bounded time
 *   closed   the transport is closing or gone; answers go nowhere
 * It lives on, closed, until the last request holds no reference to it.
 */
#ifndef IRONWALD_CONN_H
#define IRONWALD_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blocks.h"
#include "buf.h"
#include "error.h"
#include "mp_read.h"
#include "transport.h"

struct conn;
struct conn_group;

struct conn_limits {
	uint64_t max_message_bytes;
	uint64_t first_message_bytes; /* the same until conn_welcome */
	uint64_t welcome_timeout_ns;  /* without conn_welcome by then it is closed; 0: never */
	uint64_t max_inflight_bytes, max_inflight_bytes_total;
	uint64_t idle_timeout_ns, write_timeout_ns; /* 0: never */
	uint64_t drain_timeout_ns, drain_bytes;	    /* what is thrown away at the end, at most */
};

struct conn_events {
	/* One frame. payload is good during the call. owner, if not NULL, is a buffer that holds just this frame: who
	 * wants to keep the bytes may move it (and leave {0}). Not called once input_end_cb was. */
	void (*message_cb)(struct conn *conn, struct span payload, struct buf *owner, void *arg);
	/* There will be no further request: answer what only waits. Exactly once per connection. */
	void (*input_end_cb)(struct conn *conn, void *arg);
	/* The transport is gone; the user pointer is not used any more. */
	void (*closed_cb)(struct conn *conn, void *arg);
};

/* ---- all connections of a server --------------------------------------------------------------------------------- */

struct conn_group_stats {
	uint64_t connections, inflight_bytes, receive_bytes; /* now */
	uint64_t bytes_in, bytes_out, protocol_errors, timeouts;
};

/* NULL: out of memory. events must outlive the group. */
struct conn_group *conn_group_new(const struct conn_limits *limits, const struct conn_events *events, void *arg);
/* After the last connection is gone. NULL is legal. */
void conn_group_free(struct conn_group *group);

/* They hold for all connections, also for those that are there. max_message_bytes must be the same. */
void conn_group_set_limits(struct conn_group *group, const struct conn_limits *limits);

/* Once per loop turn, before waiting for events: sends what is queued, goes on with requests that were held back.
 * True: there is more to do, come again without waiting. */
bool conn_group_service(struct conn_group *group);

/* Now and then (see server.c): timeouts. */
void conn_group_tick(struct conn_group *group, uint64_t now_ns);

/* Graceful stop: each connection ends as soon as it owes nothing, not before grace_ns (requests that arrive
 * meanwhile still reach message_cb), and is closed at deadline_ns. */
void conn_group_stop(struct conn_group *group, uint64_t grace_ns, uint64_t deadline_ns);

/* Closes all, now. */
void conn_group_abort(struct conn_group *group);

/* Calls cb for each connection that is not closed; cb may end that one. */
void conn_group_each(struct conn_group *group, void (*cb)(struct conn *conn, void *arg), void *arg);

void conn_group_stats(const struct conn_group *group, struct conn_group_stats *ret_stats);

/* True if all connections together are at their bound: answers should be kept small. */
bool conn_group_is_full(const struct conn_group *group);

/* The loop's clock as it was read last: when bytes came, when completions came, when an answer was worked out. It is
 * good for what a millisecond more or less is nothing to, and saves a small request from reading it. */
uint64_t conn_group_now_ns(const struct conn_group *group);
/* Reads it anew. */
uint64_t conn_group_read_clock(struct conn_group *group);

/* Memory for requests in hand. */
struct blocks *conn_group_blocks(struct conn_group *group);

/* ---- one connection ---------------------------------------------------------------------------------------------- */

/* Takes the transport (also on failure, where it is closed). NULL: out of memory. Reading begins. */
struct conn *conn_new(struct conn_group *group, struct transport *transport, void *user);

void *conn_user(const struct conn *conn);
const char *conn_peer(const struct conn *conn);
/* NULL: it is closed. */
const struct transport_peer *conn_peer_id(const struct conn *conn);

/* It has said who it is: from here on its messages may be long, and it may take its time. */
void conn_welcome(struct conn *conn);

/* [any] Closed: what is still being worked out for it goes nowhere. */
bool conn_dead(const struct conn *conn);

/* A request begins and ends: between them the connection stays in memory, and is not ended as if it owed nothing. */
void conn_request_begin(struct conn *conn);
void conn_request_end(struct conn *conn);

/* Something that needs room for an answer may begin. waiting_bytes: what is in flight only of those who wait for
 * this. True at any time if there is nothing else, so that no bound keeps a connection from being served. */
bool conn_has_room(const struct conn *conn, size_t waiting_bytes);

/* Bytes of a request that are held in memory. */
void conn_charge(struct conn *conn, size_t bytes);
void conn_release(struct conn *conn, size_t bytes);

/* The buffer that frames of answers are added to. Between begin and end nothing else of the connection is called.
 * NULL: closed, or no memory (and then it is closed now). */
struct buf *conn_output_begin(struct conn *conn);
void conn_output_end(struct conn *conn);
/* A whole answer in a buffer of its own, which is taken over ({0} afterwards), also if the connection is closed. */
void conn_send(struct conn *conn, struct buf *answer);

/* Ends the connection with this error as its last answer, after all that is owed. */
void conn_fail(struct conn *conn, uint32_t msgid, const struct error *err);

/* Closes it now; what it is owed is lost. why is for the log; NULL: nothing worth a line. */
void conn_abort(struct conn *conn, const char *why);

#endif
