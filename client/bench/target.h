/*
 * target: a protocol, behind one interface.
 *
 * A request is made once, as a template, in two parts: a head for each stream (or key), with the places where a
 * message's number and an id go, and a tail with the entries, which is the same for all. For each request both are
 * copied and filled, so that nothing is encoded twice.
 * Owns the bytes of templates; answers are plain memory, spans of what was received. Any thread may call it.
 * Invariant: all heads of one operation that go to names of the same length have the same length, whatever is filled
 * in.
 */
#ifndef IRONWAL_BENCH_TARGET_H
#define IRONWAL_BENCH_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "figures.h"
#include "message.h"
#include "plan.h"

#define TEMPLATE_IDS_MAX 2

struct head {
	struct buf bytes;
	size_t number_at; /* of the request; SIZE_MAX: it has none */
	size_t id_at[TEMPLATE_IDS_MAX];
	size_t id_count;
};

struct tail {
	struct buf bytes;
	size_t entry_at, entry_stride, entry_count; /* bytes of the first, from one to the next, how many */
};

/* What a greeting tells; 0 and empty where the protocol tells nothing. */
struct server_facts {
	uint32_t shard_count;
	uint64_t max_message_bytes;
	char server[64], sync_mode[24];
};

enum parse_status { PARSE_MORE, PARSE_ANSWER, PARSE_MALFORMED };

struct answer {
	/* by parse */
	size_t used_bytes;
	uint32_t number; /* of the request; with numbered_answers */
	bool failed;
	bool unknown;				     /* failed, and may have been done all the same */
	char code[COMPLAINT_CODE_BYTES], error[256]; /* if it failed or is malformed */
	union {
		struct response response;
		struct {
			uint8_t type;
			int64_t elements;    /* of an array */
			const uint8_t *text; /* of what is none */
			size_t len;
			uint64_t bulk_bytes; /* of all bulk strings in it */
		} resp;
	} raw; /* for read */

	/* By read. Append: what was given to the entries (Redis: milliseconds and sequence in one number, end is first
	 * + 1). Iter: the first id returned, if the protocol says so, and the one behind the last. Get: 0, and how
	 * many. */
	uint64_t first, end;
	uint64_t bytes;		   /* of all entries in it */
	uint32_t shard;		   /* of an append by key */
	struct span entry;	   /* of a get */
	struct byte_array entries; /* of an iter */
};

struct target {
	const char *name;
	bool numbered_answers; /* else they come in the order of the requests */
	size_t prefill_batch;  /* at most so many entries in one BENCH_PREFILL */
	/* What opens a connection. NULL: nothing does. 0 or -1 (no memory). */
	int (*greet)(const struct bench_plan *plan, struct buf *out);
	/* Of the answer to it. 0, or -1: it fails, and says why. */
	int (*read_greeting)(struct answer *answer, struct server_facts *ret_facts);
	/* name: of a stream or key, with its length. tail_bytes: how much follows. 0 or -1 (no memory). */
	int (*make_head)(const struct bench_plan *plan, enum bench_op op, const char *name, size_t entry_count,
		size_t tail_bytes, struct head *ret_head);
	/* Entries of BENCH_PATTERN. The tail is empty for what carries none. 0 or -1 (no memory). */
	int (*make_tail)(const struct bench_plan *plan, size_t entry_count, struct tail *ret_tail);
	void (*put_number)(uint8_t *at, uint32_t number);
	void (*put_id)(uint8_t *at, uint64_t id);
	/* The next whole answer, of at most limit_bytes. */
	enum parse_status (*parse)(const uint8_t *data, size_t len, size_t limit_bytes, struct answer *ret_answer);
	/* What is in an answer that did not fail, to a request of op with entry_count entries. Afterwards it may have
	 * failed. */
	void (*read)(const struct bench_plan *plan, enum bench_op op, size_t entry_count, struct answer *answer);
};

extern const struct target target_ironwald;

/* The answer is not what it was to be: printf format. */
void answer_fail(struct answer *answer, const char *code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
