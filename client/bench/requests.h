/*
 * requests: the templates of all requests of a plan.
 *
 * Owns them. Made once; then read only, by any thread.
 * Invariant: what requests_fill writes has the length that requests_bytes said, and is at most frame_bytes_max.
 *
 * A name is what is appended to: a stream, or a key. A log is what is read: the stream, or a shard.
 */
#ifndef IRONWAL_BENCH_REQUESTS_H
#define IRONWAL_BENCH_REQUESTS_H

#include <string.h>

#include "target.h"

#define NAME_TEXT_BYTES 256

struct requests {
	const struct bench_plan *plan;
	const struct target *target;
	struct head *heads[BENCH_OPS]; /* NULL: the plan has none; appends one for each name, reads one for each log */
	size_t heads_count[BENCH_OPS];
	struct tail tails[BENCH_OPS];
	size_t entry_count[BENCH_OPS]; /* that a request carries or asks for */
	uint32_t *log_of;	       /* each name */
	uint64_t logs_count;
	size_t frame_bytes_max;
};

/* shard_count is used by key only. NULL: no memory. */
struct requests *requests_new(const struct bench_plan *plan, const struct target *target, uint32_t shard_count);
void requests_free(struct requests *requests);

void requests_name_text(const struct bench_plan *plan, uint64_t name, char ret_text[NAME_TEXT_BYTES]);
void requests_log_text(const struct bench_plan *plan, uint64_t log, char ret_text[NAME_TEXT_BYTES]);

static inline size_t requests_bytes(const struct requests *requests, enum bench_op op, uint64_t at)
{
	return requests->heads[op][at].bytes.len + requests->tails[op].bytes.len;
}

/* The request to name or log `at`; its entries are those of the template. Returns where they are. */
static inline uint8_t *requests_fill(
	const struct requests *requests, enum bench_op op, uint64_t at, uint32_t number, uint64_t id, uint8_t *frame)
{
	const struct head *head = &requests->heads[op][at];
	const struct tail *tail = &requests->tails[op];
	memcpy(frame, head->bytes.data, head->bytes.len);
	if (tail->bytes.len > 0)
		memcpy(frame + head->bytes.len, tail->bytes.data, tail->bytes.len);
	if (head->number_at != SIZE_MAX)
		requests->target->put_number(frame + head->number_at, number);
	for (size_t i = 0; i < head->id_count; i++)
		requests->target->put_id(frame + head->id_at[i], id);
	return frame + head->bytes.len + tail->entry_at;
}

#endif
