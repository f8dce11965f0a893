/*
 * handlers_checkpoint: checkpoints, and what is done by them. All of it is the engine's work (checkpoint.h); here the
 * params become its op, and the op an answer.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint.h"
#include "handlers.h"

/* Around the offsets of an answer, besides an id. */
#define ANSWER_OVERHEAD_BYTES 128
#define OFFSET_BYTES_MAX 9

struct checkpoint_call {
	struct call call;
	struct checkpoint_op checkpoint;
	uint8_t id[];
};

static void completed(struct op *op);

static void free_call(struct checkpoint_call *own)
{
	error_free(own->checkpoint.op.error);
	checkpoint_op_clear(&own->checkpoint);
	free(own);
}

/* What the answer holds in memory, at most, counts as in flight from here on. */
static size_t answer_bytes_max(const struct call *call, enum op_kind kind)
{
	if (kind == OP_LIST_CHECKPOINTS)
		return (size_t)call->net->options->max_message_bytes;
	return sizeof(uint64_t) * engine_shard_count(call->net->engine);
}

/* With a copy of id. NULL: no memory, and the call was answered. */
static struct checkpoint_call *start(struct call *call, enum op_kind kind, struct span id)
{
	struct checkpoint_call *own = calloc(1, sizeof(*own) + id.len);
	if (own == NULL) {
		struct error err;
		error_set(&err, ERR_BUSY, "no memory for the request: send it again later");
		call_fail(call, &err);
		return NULL;
	}
	own->call = *call;
	if (id.len > 0)
		memcpy(own->id, id.data, id.len);
	own->checkpoint.op.kind = kind;
	own->checkpoint.op.done_cb = completed;
	own->checkpoint.id = own->id;
	own->checkpoint.id_len = id.len;
	call_charge(&own->call, sizeof(*own) + id.len + answer_bytes_max(call, kind));
	return own;
}

static void submit(struct checkpoint_call *own)
{
	struct error err;
	if (engine_submit_checkpoint(own->call.net->engine, &own->checkpoint, &err) == 0)
		return;
	call_fail(&own->call, &err);
	free_call(own);
}

static int too_large(uint64_t limit, uint64_t size, struct error *err)
{
	error_set(err, ERR_TOO_LARGE,
		"the answer may have %" PRIu64 " bytes, the most is %" PRIu64 " (max_message_bytes): raise it", size,
		limit);
	error_set_u64(err, EFI_LIMIT, limit);
	error_set_u64(err, EFI_SIZE, size);
	return -1;
}

/* Whether the offsets of all shards fit in an answer, whatever they are. */
static int check_offsets_fit(const struct call *call, struct error *err)
{
	uint64_t limit = call->net->options->max_message_bytes;
	uint64_t size = (uint64_t)OFFSET_BYTES_MAX * engine_shard_count(call->net->engine) + ANSWER_OVERHEAD_BYTES;
	return size <= limit ? 0 : too_large(limit, size, err);
}

static void handle_with_id(struct call *call, const struct request *request, enum op_kind kind, bool gives_offsets)
{
	struct span id;
	struct error err;
	if (field_bytes(&request->params, KEY_ID, &id, &err) != 0 ||
		(gives_offsets && check_offsets_fit(call, &err) != 0)) {
		call_fail(call, &err);
		return;
	}
	struct checkpoint_call *own = start(call, kind, id);
	if (own != NULL)
		submit(own);
}

void handle_CREATE_CHECKPOINT(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	handle_with_id(call, request, OP_CREATE_CHECKPOINT, true);
}

void handle_LOAD_CHECKPOINT(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	handle_with_id(call, request, OP_LOAD_CHECKPOINT, true);
}

void handle_PRUNE_BEFORE_CHECKPOINT(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	handle_with_id(call, request, OP_PRUNE, false);
}

void handle_LOAD_LATEST_CHECKPOINT(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	(void)request;
	struct error err;
	if (check_offsets_fit(call, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	struct checkpoint_call *own = start(call, OP_LOAD_LATEST_CHECKPOINT, (struct span){0});
	if (own != NULL)
		submit(own);
}

void handle_LIST_CHECKPOINTS(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	uint64_t limit;
	struct error err;
	if (field_u64_or(&request->params, KEY_LIMIT, UINT64_MAX, &limit, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	struct checkpoint_call *own = start(call, OP_LIST_CHECKPOINTS, (struct span){0});
	if (own == NULL)
		return;
	own->checkpoint.limit = limit;
	own->checkpoint.max_bytes = call->net->options->max_message_bytes - ANSWER_OVERHEAD_BYTES;
	submit(own);
}

void handle_COMPACT_CHECKPOINTS(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	uint64_t keep;
	struct error err;
	if (field_u64(&request->params, KEY_KEEP_LATEST_N, &keep, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	struct checkpoint_call *own = start(call, OP_COMPACT_CHECKPOINTS, (struct span){0});
	if (own == NULL)
		return;
	own->checkpoint.keep = keep;
	submit(own);
}

/* ---- on the way out -------------------------------------------------------------------------------------------- */

static void write_count(struct mp_writer *writer, enum key key, uint64_t value)
{
	mp_write_key(writer, key);
	mp_write_u64(writer, value);
}

static void write_offsets(struct mp_writer *writer, const struct checkpoint_op *checkpoint)
{
	if (checkpoint->op.kind == OP_LOAD_LATEST_CHECKPOINT) {
		mp_write_key(writer, KEY_ID);
		mp_write_bin(writer, checkpoint->ids.data, checkpoint->ids.len);
	}
	mp_write_key(writer, KEY_OFFSETS);
	mp_write_array(writer, checkpoint->shard_count);
	for (uint32_t i = 0; i < checkpoint->shard_count; i++)
		mp_write_u64(writer, checkpoint->offsets[i]);
	write_count(writer, KEY_TIMESTAMP, checkpoint->timestamp);
	write_count(writer, KEY_SHARD_COUNT, checkpoint->shard_count);
}

static void write_list(struct mp_writer *writer, const struct checkpoint_op *checkpoint)
{
	size_t at = 0, id_len;
	const uint8_t *id;
	uint64_t timestamp;
	mp_write_key(writer, KEY_CHECKPOINTS);
	mp_write_array(writer, checkpoint->listed_count);
	while (checkpoint_listed(checkpoint, &at, &id, &id_len, &timestamp)) {
		mp_write_array(writer, 2);
		mp_write_bin(writer, id, id_len);
		mp_write_u64(writer, timestamp);
	}
	if (checkpoint->nameless > 0)
		write_count(writer, KEY_DAMAGED, checkpoint->nameless);
}

static size_t field_count(const struct checkpoint_op *checkpoint)
{
	switch (checkpoint->op.kind) {
	case OP_LOAD_LATEST_CHECKPOINT:
		return 4;
	case OP_LIST_CHECKPOINTS:
		return checkpoint->nameless > 0 ? 2 : 1;
	case OP_PRUNE:
		return 2;
	default:
		return 3;
	}
}

static void answer(struct checkpoint_call *own)
{
	const struct checkpoint_op *checkpoint = &own->checkpoint;
	struct mp_writer writer;
	if (!call_reply_begin(&own->call, &writer, field_count(checkpoint)))
		return;
	if (checkpoint->op.kind == OP_LIST_CHECKPOINTS) {
		write_list(&writer, checkpoint);
	} else if (checkpoint->op.kind == OP_PRUNE) {
		write_count(&writer, KEY_SHARDS_PRUNED, checkpoint->shards_pruned);
		write_count(&writer, KEY_SEGMENTS_DELETED, checkpoint->segments_deleted);
	} else if (checkpoint->op.kind == OP_COMPACT_CHECKPOINTS) {
		write_count(&writer, KEY_CHECKPOINTS_BEFORE, checkpoint->count_before);
		write_count(&writer, KEY_CHECKPOINTS_AFTER, checkpoint->count_after);
		write_count(&writer, KEY_BYTES_RECLAIMED, checkpoint->bytes_reclaimed);
	} else {
		write_offsets(&writer, checkpoint);
	}
	call_reply_end(&own->call, &writer);
}

/* The newest id may be long: only now is it known. */
static bool latest_is_too_large(const struct checkpoint_call *own, struct error *err)
{
	const struct checkpoint_op *checkpoint = &own->checkpoint;
	uint64_t limit = own->call.net->options->max_message_bytes;
	uint64_t size =
		(uint64_t)OFFSET_BYTES_MAX * checkpoint->shard_count + checkpoint->ids.len + ANSWER_OVERHEAD_BYTES;
	return checkpoint->op.kind == OP_LOAD_LATEST_CHECKPOINT && size > limit && too_large(limit, size, err) != 0;
}

/* The engine knows of the room that is left for a list, and not of the limit that it comes from. */
static void add_overhead(struct error *err)
{
	error_set_u64(err, EFI_LIMIT, err->limit + ANSWER_OVERHEAD_BYTES);
	error_set_u64(err, EFI_SIZE, err->size + ANSWER_OVERHEAD_BYTES);
}

static void completed(struct op *op)
{
	struct checkpoint_call *own =
		(struct checkpoint_call *)((char *)op - offsetof(struct checkpoint_call, checkpoint));
	struct error err;
	if (op->error != NULL && op->error->code == ERR_TOO_LARGE)
		add_overhead(op->error);
	if (op->error != NULL)
		call_fail(&own->call, op->error);
	else if (latest_is_too_large(own, &err))
		call_fail(&own->call, &err);
	else
		answer(own);
	free_call(own);
}
