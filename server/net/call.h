/*
 * call: one request on its way from dispatch to its one answer.
 *
 * Owns a reference to its connection, and what it charged there. Loop thread only.
 * Invariant: after call_begin exactly one of call_reply_end, call_send and the call_fail functions is called, and
 * ends it.
 *
 * A call that is answered at once lives on the stack of dispatch; one that takes longer is copied (plain
 * assignment) into memory of its handler's, and the original is forgotten.
 */
#ifndef IRONWALD_CALL_H
#define IRONWALD_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "conn.h"
#include "error.h"
#include "message.h"
#include "net.h"

struct call {
	struct net *net;
	struct conn *conn;
	uint32_t msgid;
	enum method method;
	uint64_t started_ns;
	size_t charged_bytes;
};

void call_begin(struct call *call, struct net *net, struct conn *conn, uint32_t msgid, enum method method);

/* Counts bytes that the call holds, until it ends; replaces what was counted before. */
void call_charge(struct call *call, size_t bytes);

/* Opens the answer for a result of field_count fields. False: the connection is gone, and the call has ended. */
bool call_reply_begin(struct call *call, struct mp_writer *writer, size_t field_count);
void call_reply_end(struct call *call, struct mp_writer *writer);

/* A whole answer (frame) in a buffer of its own; taken over. */
void call_send(struct call *call, struct buf *answer);

void call_fail(struct call *call, const struct error *err);
/* The same in two parts, for an error that carries extra_count more fields, written in between. False: the connection
 * is gone, and the call has ended. */
bool call_fail_begin(struct call *call, struct mp_writer *writer, const struct error *err, size_t extra_count);
void call_fail_end(struct call *call, struct mp_writer *writer, const struct error *err);
void call_fail_stream_not_found(struct call *call, struct span name);
/* The error is the connection's last answer, after those that are owed. */
void call_fail_connection(struct call *call, const struct error *err);

#endif
