/*
 * client_slots: the requests in flight of one connection, each in a slot.
 *
 * Owns the slots and what hangs on them: what the answer is checked against, the refusal or the payload until it is
 * taken. Used by client_core, in the thread that uses the connection.
 * Invariant: a slot is free, being written (open), waiting, given up (waiting for an answer that nobody wants), or
 * done; a submitted one that is done is in the queue of results, once. waiting counts the answers that can still come.
 */
#ifndef IRONWAL_CLIENT_SLOTS_H
#define IRONWAL_CLIENT_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "client_error.h"
#include "mem.h"
#include "message.h"

#define NO_SLOT UINT32_MAX

struct core_request {
	enum method method;
	bool is_write;	    /* its fate is told */
	bool is_submitted;  /* its result is taken by core_next, and it counts against the bounds; else by core_wait */
	bool is_repeatable; /* executed twice it does no more than once: it carries an expected_id, or is of that kind
			     */
	bool keeps_refusal; /* what the server refuses it with is handed out as an answer is */
	/* What the answer is checked against. */
	uint64_t count; /* appends: entries in it; get_batch, shard batches: elements; list: the limit */
	bool has_start_id;
	uint64_t start_id; /* iter */
	void *memory;	   /* a block, freed with the request: ids of get_batch, a checkpoint's id, positions */
	size_t memory_len; /* in bytes, of a checkpoint's id */
};

/* A result. Appends to streams: `append`. Others: `response`, whose spans point into `payload`, a block. Both blocks
 * are the taker's to free. */
struct core_answer {
	struct core_request request;
	void *tag;
	ironwal_append_result append;
	struct response response;
	uint8_t *payload;
	size_t payload_len;
};

enum slot_state { SLOT_FREE, SLOT_OPEN, SLOT_WAITING, SLOT_GIVEN_UP, SLOT_DONE };

struct slot {
	enum slot_state state;
	uint16_t generation;
	uint32_t next;	   /* SLOT_FREE: of the free list; SLOT_DONE: of the queue of results */
	uint64_t from, to; /* where its frame is in the stream to the server */
	uint64_t deadline_ns;
	/* SLOT_DONE: one of the four */
	bool lost;		   /* with the connection */
	bool expired;		   /* its deadline passed; answer_to_come: and its answer still can be on its way */
	struct error *refusal;	   /* a block: what the server said */
	struct core_answer answer; /* of which request and tag count from the beginning */
	bool answer_to_come;
	bool taken_back; /* none of its frame has left, nor will */
	ironwal_fate fate;
};

struct slots {
	const struct mem *mem; /* the owner's */
	struct slot *table;
	uint32_t count, free;
	uint32_t waiting;     /* answers to come */
	uint32_t submitted;   /* is_submitted, until taken */
	uint64_t held_bytes;  /* of submitted requests without an answer */
	uint64_t kept_bytes;  /* of answers to submitted requests, until taken */
	uint64_t deadline_ns; /* no deadline of a submitted one that waits is before it; never, if none waits */
	uint32_t done_first, done_last;
};

void slots_init(struct slots *slots, const struct mem *mem);
void slots_free(struct slots *slots);

/* A slot that is open, or NO_SLOT: no memory, or as many as there can be (slots_full). */
uint32_t slots_open(struct slots *slots, const struct core_request *request);
bool slots_full(const struct slots *slots);
/* Its frame is [from, to). */
void slots_commit(struct slots *slots, struct slot *slot, uint64_t from, uint64_t to, uint64_t deadline_ns);
uint32_t slots_msgid(const struct slots *slots, const struct slot *slot);
/* NULL: no request in flight has it. */
struct slot *slots_find(const struct slots *slots, uint32_t msgid);
/* It is not waited for any more; what it became is filled in before. A given up one is released. */
void slots_done(struct slots *slots, struct slot *slot);
/* The frames in these len bytes, which begin at `from` in the stream to the server, without those of the requests that
 * are taken_back, as if they had never been: in one pass, however many there are. Returns how many bytes that were. */
size_t slots_take_back(struct slots *slots, uint8_t *frames, size_t len, uint64_t from);
/* Takes it out, whatever it is; frees what hangs on it. */
void slots_release(struct slots *slots, struct slot *slot);
/* The oldest result of a submitted request, out of the queue; NULL: there is none. */
struct slot *slots_pop(struct slots *slots);

#endif
