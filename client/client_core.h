/*
 * client_core: requests and their answers over one transport. Only what is called ..._wait and core_flush waits.
 *
 * Owns the transport, the two buffers, and the requests in flight (client_slots). Used by the thread that uses the
 * connection.
 * Invariant, in bytes of the stream to the server: consumed by the kernel (sent) <= queued; a request whose frame ends
 * at or before `sent` may have been executed, any other has not been and, once the transport is closed, never will be.
 *
 * The path of a request:
 *   core_begin     takes a slot, opens a frame at the end of the out buffer; the caller writes the params
 *   core_commit    closes the frame; it is queued
 *   core_process   writes what the socket takes and reads what is there, so that neither side can wait for the other;
 *                  an answer finds its slot by msgid
 *   core_wait      for blocking calls: until this one is done;  core_next: a submitted one that is done
 * A request that its caller gave up, or whose deadline passed, keeps its slot until its answer comes and is dropped, so
 * that a late answer is never taken for another request's.
 *
 * What can fail: the connection ends (or speaks nonsense, which ends it too): everything in flight is done then, with
 * that failure, and a fate by the invariant above. It never comes back: the caller makes a new one.
 */
#ifndef IRONWAL_CLIENT_CORE_H
#define IRONWAL_CLIENT_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "client_error.h"
#include "client_slots.h"
#include "client_transport.h"
#include "message.h"

#define CORE_IN_FLIGHT_MAX 32768

struct core;

struct core_limits {
	uint32_t in_flight_count;
	uint64_t in_flight_bytes; /* of submitted requests; of answers that nobody took */
	uint64_t request_bytes;	  /* of a message that is sent */
	uint64_t answer_bytes;	  /* of one that is received */
};

/* Without a transport: requests are queued until there is one. NULL: no memory. address is the caller's. */
struct core *core_new(const struct mem *mem, const char *address, const struct core_limits *limits);
/* NULL is legal. */
void core_free(struct core *core);

/* Owns the transport from here on. */
void core_attach(struct core *core, struct transport *transport);
/* Ends the connection, for this reason. */
void core_abort(struct core *core, const struct ironwal_error *reason);
/* After hello. */
void core_set_message_limits(struct core *core, uint64_t request_bytes, uint64_t answer_bytes);
/* Nothing comes any more. */
bool core_is_lost(const struct core *core);
/* Requests can be begun. If it is neither, the server takes nothing, and what it has said is still to be read. */
bool core_is_usable(const struct core *core);
/* core_next has something. */
bool core_has_results(const struct core *core);
/* Submitted ones whose results were not taken. */
uint32_t core_submitted(const struct core *core);
/* Why it was lost. Returns -1. */
int core_failure(const struct core *core, ironwal_error *error);

/* -1: the connection is unusable, or AGAIN; fate not sent (for writes). After 0, core_commit must follow. Takes
 * request->memory over, also if it fails. */
int core_begin(struct core *core, const struct core_request *request, size_t param_count, struct mp_writer **ret_writer,
	ironwal_error *error);
/* -1: TooLarge or no memory; nothing is queued, fate not sent. The deadline counts for a submitted request only. */
int core_commit(struct core *core, uint64_t deadline_ns, uint32_t *ret_msgid, ironwal_error *error);

/* ---- without waiting ---- */

/* -1 if there is none. */
int core_fd(const struct core *core);
/* IRONWAL_READABLE, IRONWAL_WRITABLE. */
unsigned core_events(const struct core *core);
/* Not after the first deadline of a submitted request. */
uint64_t core_deadline_ns(const struct core *core);
/* Failures show up at the requests, and in core_is_usable. */
void core_process(struct core *core, unsigned events);
/* The same if enough is queued to be worth it. */
void core_nudge(struct core *core);

/* A submitted request that is done: 1 and its answer; -1 and its error (then of ret_answer only request and tag count,
 * and the payload if a refusal was kept); 0: none is. */
int core_next(struct core *core, uint32_t *ret_msgid, struct core_answer *ret_answer, ironwal_error *error);
void core_set_tag(struct core *core, uint32_t msgid, void *tag);
/* Nobody wants the answer to this one any more, which was not submitted. */
void core_drop(struct core *core, uint32_t msgid);

/* ---- waiting ---- */

/* Until all that is queued is with the kernel. -1: deadline or failure. */
int core_flush(struct core *core, uint64_t deadline_ns, ironwal_error *error);
/* -1: an error of this request, or the deadline: the request is given up then (see its fate). *ret_answer as core_next;
 * its blocks are NULL if there is none. */
int core_wait(
	struct core *core, uint32_t msgid, uint64_t deadline_ns, struct core_answer *ret_answer, ironwal_error *error);
/* Until core_next has something: 1. 0: nothing is in flight. -1: the deadline passed. */
int core_wait_next(struct core *core, uint64_t deadline_ns, ironwal_error *error);

/* The answer to one request was well-formed, yet not what the protocol says: ends the connection. Returns -1. */
int core_reject_answer(struct core *core, const struct error *reason, ironwal_error *error);

#endif
