/*
 * target: the two protocols, behind one interface.
 *
 * A request is made once for each stream, as a template: the whole frame, with the places where an id, a message's
 * number and the entries go. For each request it is copied and filled, so that nothing is encoded twice.
 * Owns the frame of a template; answers are plain memory, spans of what was received. One thread.
 * Invariant: all templates of one operation have the same length, whatever is filled in.
 */
#ifndef BENCH_TARGET_H
#define BENCH_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "options.h"

#define TEMPLATE_IDS_MAX 2
#define ANSWER_ERROR_MAX 256

enum load_op { LOAD_APPEND, LOAD_PREFILL, LOAD_GET, LOAD_ITER };

struct template
{
	struct buf frame;
	size_t number_at; /* of the request; SIZE_MAX: it has none */
	size_t id_at[TEMPLATE_IDS_MAX];
	size_t id_count;
	size_t entry_at, entry_stride, entry_count; /* bytes of the first, from one to the next, how many */
};

enum parse_status { PARSE_MORE, PARSE_ANSWER, PARSE_MALFORMED };

struct answer {
	size_t used_bytes;
	uint32_t number; /* of the request; with numbered_answers */
	/* Append: what was given to the entries (Redis: milliseconds and sequence in one number, end is first + 1).
	 * Iter: the first id returned, if the protocol says so, and the one behind the last. Get: 0, and how many. */
	uint64_t first, end;
	bool failed;
	char error[ANSWER_ERROR_MAX]; /* if it failed or is malformed */
};

struct target {
	const char *name;
	bool numbered_answers; /* else they come in the order of the requests */
	size_t prefill_batch;  /* entries in one LOAD_PREFILL */
	/* What opens a connection, and whether its answer is good. NULL: nothing. 0 or -1 (no memory). */
	int (*greet)(struct buf *out);
	/* 0 or -1 (no memory). */
	int (*make)(const struct load_options *options, enum load_op op, uint64_t stream, struct template *ret);
	void (*put_number)(uint8_t *at, uint32_t number);
	void (*put_id)(uint8_t *at, uint64_t id);
	/* op of the request that it answers. For a greeting, LOAD_APPEND does: any failure is one, the rest is not
	 * looked at if `greeting`. */
	enum parse_status (*parse)(const uint8_t *data, size_t len, enum load_op op, bool greeting,
		const struct load_options *options, struct answer *ret);
};

extern const struct target target_ironwald, target_redis;

/* How many entries a request of the operation carries or asks for. */
uint64_t target_entries(const struct target *target, const struct load_options *options, enum load_op op);

#endif
