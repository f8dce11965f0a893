/*
 * client_call: what every method of the public header is made of.
 *
 * Owns nothing. Used by the thread that uses the connection.
 * Invariant: between two public calls no frame is open in the core.
 *
 * Each method has a put_... that writes its request with call_begin and call_commit, for a submitted or a blocking call
 * (`how`), and a read_... that makes a result of the answer (client_result.h). The submit is put_..., then submitted;
 * the blocking call is put_..., then call_wait, then it takes what it wants out of the result.
 */
#ifndef IRONWAL_CLIENT_CALL_H
#define IRONWAL_CLIENT_CALL_H

#include "client_connection.h"
#include "client_result.h"

enum how { BLOCKING, SUBMITTED };

/* What the request writes, and whether it may be done twice, is known by the method; appends set is_repeatable. */
struct core_request call_request(enum method method, enum how how);
/* Opens the request with that many params. -1 as core_begin, which also takes request->memory over. */
int call_begin(ironwal *connection, const struct core_request *request, size_t param_count,
	struct mp_writer **ret_writer, ironwal_error *error);
/* Queues it; extra_ms is added to the timeout. *ret_msgid is untouched on failure. */
int call_commit(ironwal *connection, uint64_t extra_ms, uint32_t *ret_msgid, ironwal_error *error);
/* For requests of no special kind: how many params, then call_commit. */
int call_begin_plain(ironwal *connection, enum method method, enum how how, size_t param_count,
	struct mp_writer **ret_writer, ironwal_error *error);

/* Waits for a blocking one until its deadline (extra_ms as above). -1: the error is also the result's; the result has
 * to be freed all the same. */
int call_wait(ironwal *connection, uint32_t msgid, uint64_t extra_ms, struct ironwal_result *ret_result,
	ironwal_error *error);
/* The same until a deadline, for calls that make more than one request: call_deadline_ns is that of the whole. */
int call_wait_until(ironwal *connection, uint32_t msgid, uint64_t deadline_ns, struct ironwal_result *ret_result,
	ironwal_error *error);
uint64_t call_deadline_ns(const ironwal *connection, uint64_t extra_ms);
/* The end of each ironwal_submit_...: passes on what put_... returned, and sends if it is worth it. */
int submitted(ironwal *connection, int rc);

/* A key and its value. */
void put_stream(struct mp_writer *writer, const char *stream, size_t stream_len);
void put_u64(struct mp_writer *writer, enum key key, uint64_t value);
void put_bytes(struct mp_writer *writer, enum key key, const void *bytes, size_t len);

/* The caller's struct of options may be that of an older release, and shorter; NULL: the defaults, which *ret holds.
 * -1: it has no size, so that nothing in it can be relied on (an expected_id that is passed over would be a lie). */
int options_read(void *ret, size_t size, const void *given, ironwal_error *error);

/* A number of 32 bits. */
int field_u32(const struct fields *fields, enum key key, uint32_t *ret_value, struct error *err);

#endif
