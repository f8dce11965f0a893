/*
 * client_connection: what is behind an `ironwal`: a core, and what the server said in its hello.
 *
 * Owns the core and the texts. Used by the thread that uses the connection.
 * Invariant: between two public calls no frame is open in the core.
 *
 * A blocking call is: call_begin, the params, call_end (which waits), call_free when the answer was read. (Appends
 * begin with core_begin.)
 */
#ifndef IRONWAL_CLIENT_CONNECTION_H
#define IRONWAL_CLIENT_CONNECTION_H

#include "client_core.h"

struct ironwal {
	struct core *core;
	char *address;
	int64_t timeout_ms;
	uint32_t protocol, shard_count;
	uint64_t max_message_bytes;
	char *server, *sync_mode, *compression;
};

/* Opens a request with that many params. */
int call_begin(ironwal *connection, enum method method, size_t param_count, struct mp_writer **ret_writer,
	ironwal_error *error);
/* Sends it and waits for the answer; extra_ms is added to the timeout. */
int call_end(ironwal *connection, uint64_t extra_ms, struct core_answer *ret_answer, ironwal_error *error);
void call_free(struct core_answer *answer);
/* The answer is not what the protocol says (reason: from a getter of fields.h): frees it, ends the connection. */
int call_reject(ironwal *connection, struct core_answer *answer, const struct error *reason, ironwal_error *error);

/* A key and its value. */
void put_stream(struct mp_writer *writer, const char *stream, size_t stream_len);
void put_u64(struct mp_writer *writer, enum key key, uint64_t value);
void put_bytes(struct mp_writer *writer, enum key key, const void *bytes, size_t len);

#endif
