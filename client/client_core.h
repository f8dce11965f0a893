/*
 * client_core: requests and their answers over one transport, without blocking except where a deadline is given.
 *
 * Owns the transport, the two buffers, and a slot per request in flight. Used by the thread that uses the connection.
 * Invariant, in bytes of the stream to the server: consumed by the kernel (sent) <= queued; a request whose frame ends
 * at or before `sent` may have been executed, any other has not been and, once the transport is closed, never will be.
 *
 * The path of a request:
 *   core_begin     takes a slot, opens a frame at the end of the out buffer; the caller writes the params
 *   core_commit    closes the frame; it is queued
 *   (turns)        each writes what the socket takes and reads what is there, so that neither side can wait for the
 *                  other; an answer finds its slot by msgid
 *   core_wait      for blocking calls: until this one is done;  core_next: for submitted ones: until any is done
 * A request that its caller gave up keeps its slot until its answer comes and is dropped, so that a late answer is
 * never taken for another request's.
 *
 * What can fail: the connection ends (or speaks nonsense, which ends it too): everything in flight is done then, with
 * that failure, and a fate by the invariant above. It never comes back: the caller makes a new one.
 */
#ifndef IRONWAL_CLIENT_CORE_H
#define IRONWAL_CLIENT_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "client_error.h"
#include "client_transport.h"
#include "message.h"

#define CORE_IN_FLIGHT_MAX 32768

struct core;

struct core_limits {
	uint32_t in_flight_count;
	uint64_t in_flight_bytes;
	uint64_t request_bytes; /* of a message that is sent */
	uint64_t answer_bytes;	/* of one that is received */
};

struct core_request {
	enum method method;
	bool is_write;	    /* its fate is told */
	bool is_submitted;  /* its result is taken by core_next, and it counts against the bounds; else by core_wait */
	bool is_repeatable; /* executed twice it does no more than once: it carries an expected_id, or is of that kind
			     */
	bool keeps_refusal; /* what the server refuses it with is handed out as an answer is */
	uint64_t count;	    /* appends: entries in it, against which the answer is checked */
};

/* A result. Appends to streams: `append`. Others: `response`, whose spans point into `payload`, which is the taker's to
 * free. */
struct core_answer {
	ironwal_append_result append;
	struct response response;
	uint8_t *payload;
};

/* Owns transport from here on, also when it fails (NULL: no memory). */
struct core *core_new(struct transport *transport, const char *address, const struct core_limits *limits);
/* NULL is legal. */
void core_free(struct core *core);

/* After hello. */
void core_set_message_limits(struct core *core, uint64_t request_bytes, uint64_t answer_bytes);
bool core_is_usable(const struct core *core);
/* Submitted ones whose results were not taken. */
uint32_t core_submitted(const struct core *core);

/* -1: the connection is unusable, or AGAIN; fate not sent (for writes). After 0, core_commit must follow. */
int core_begin(struct core *core, const struct core_request *request, size_t param_count, struct mp_writer **ret_writer,
	ironwal_error *error);
/* -1: TooLarge or no memory; nothing is queued, fate not sent. */
int core_commit(struct core *core, uint32_t *ret_msgid, ironwal_error *error);

/* Moves bytes as far as they go without waiting, if enough is queued to be worth it. Failures show up at the requests.
 */
void core_nudge(struct core *core);
/* Until all that is queued is with the kernel. -1: deadline or failure. */
int core_flush(struct core *core, uint64_t deadline_ns, ironwal_error *error);

/* -1: an error of this request, or the deadline: the request is given up then (see its fate). *ret_answer is written
 * with -1, too, if the server refused a request that keeps_refusal. */
int core_wait(
	struct core *core, uint32_t msgid, uint64_t deadline_ns, struct core_answer *ret_answer, ironwal_error *error);
/* As ironwal_wait_next. */
int core_next(struct core *core, uint64_t deadline_ns, uint32_t *ret_msgid, struct core_answer *ret_answer,
	ironwal_error *error);

/* The answer to one request was well-formed, yet not what the protocol says: ends the connection. Returns -1. */
int core_reject_answer(struct core *core, const struct error *reason, ironwal_error *error);

#endif
