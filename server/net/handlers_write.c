/*
 * handlers_write: append, append_batch, their like for a shard, truncate, sync: requests that go through the engine's
 * queue as one op. (Batches over many shards: handlers_shard_batch.c.)
 *
 * The entries of an append stay encoded: they are copied once out of the read buffer if the frame is small, or the
 * whole receive buffer becomes the request's; the writer thread decodes them from there, one by one.
 */
#include <inttypes.h>
#include <string.h>

#include "frame.h"
#include "handlers.h"
#include "handlers_write.h"
#include "shard_key.h"

struct write_call {
	struct call call;
	struct op op;
	struct entry_source source;
	struct byte_array entries; /* append_batch */
	struct byte_iter iter;
	struct span entry; /* append */
	uint32_t shard;	   /* those for a shard */
	struct buf owner;
	size_t block_bytes; /* of this block */
	uint8_t bytes[];
};

static struct write_call *of_op(struct op *op)
{
	return (struct write_call *)((char *)op - offsetof(struct write_call, op));
}

static struct write_call *of_source(struct entry_source *source)
{
	return (struct write_call *)((char *)source - offsetof(struct write_call, source));
}

static void completed(struct op *op);

static void free_write(struct write_call *write)
{
	struct blocks *blocks = conn_group_blocks(write->call.net->conns);
	buf_free(&write->owner);
	blocks_release(blocks, write, write->block_bytes);
}

/* ---- where the engine gets the entries from: writer threads ---------------------------------------------------- */

static void rewind_entry(struct entry_source *source)
{
	(void)source;
}

static void next_entry(struct entry_source *source, const uint8_t **ret_bytes, size_t *ret_len)
{
	const struct write_call *write = of_source(source);
	*ret_bytes = write->entry.data;
	*ret_len = write->entry.len;
}

static void rewind_entries(struct entry_source *source)
{
	struct write_call *write = of_source(source);
	write->iter = byte_iter_of(&write->entries);
}

static void next_of_entries(struct entry_source *source, const uint8_t **ret_bytes, size_t *ret_len)
{
	struct span entry = {0};
	byte_iter_next(&of_source(source)->iter, &entry);
	*ret_bytes = entry.data;
	*ret_len = entry.len;
}

static struct entry_source source_of_entry(struct span entry)
{
	return (struct entry_source){.count = 1, .total_bytes = entry.len, .rewind = rewind_entry, .next = next_entry};
}

static struct entry_source source_of_entries(const struct byte_array *entries)
{
	return (struct entry_source){.count = entries->count,
		.total_bytes = entries->total_bytes,
		.rewind = rewind_entries,
		.next = next_of_entries};
}

/* ---- on the way in ----------------------------------------------------------------------------------------------- */

/* The call moves into memory of its own, with the bytes that `keep` spans; keep points to their new place then.
 * NULL: no memory, and the call was answered. */
static struct write_call *start(struct call *call, struct span *keep, struct buf *owner)
{
	bool take = owner != NULL && keep->len > COPY_MAX;
	size_t size = sizeof(struct write_call) + (take ? 0 : keep->len);
	struct write_call *write = blocks_alloc(conn_group_blocks(call->net->conns), size);
	if (write == NULL) {
		struct error err;
		error_set(&err, ERR_BUSY, "no memory for a request of %zu bytes: send it again later", keep->len);
		call_fail(call, &err);
		return NULL;
	}
	/* The rest is the handler's to fill in, as far as it has to do with that kind. */
	write->call = *call;
	write->op = (struct op){.done_cb = completed};
	write->owner = (struct buf){0};
	write->block_bytes = size;
	if (take) {
		write->owner = *owner;
		*owner = (struct buf){0};
		size += write->owner.cap;
	} else {
		if (keep->len > 0)
			memcpy(write->bytes, keep->data, keep->len);
		keep->data = write->bytes;
	}
	call_charge(&write->call, size);
	return write;
}

static void submit(struct write_call *write, const struct span *name)
{
	struct error err;
	const char *bytes = name != NULL ? (const char *)name->data : NULL;
	if (engine_submit(write->call.net->engine, &write->op, bytes, name != NULL ? name->len : 0, &err) == 0)
		return;
	call_fail(&write->call, &err);
	free_write(write);
}

int check_entry_len(const struct call *call, uint64_t len, uint64_t index, struct error *err)
{
	uint64_t limit = call->net->options->max_message_bytes - ENTRY_OVERHEAD_BYTES;
	if (len <= limit)
		return 0;
	error_set(err, ERR_TOO_LARGE,
		"entry %" PRIu64 " of the request has %" PRIu64 " bytes, the most is %" PRIu64
		" (max_message_bytes less %d)",
		index, len, limit, ENTRY_OVERHEAD_BYTES);
	error_set_u64(err, EFI_LIMIT, limit);
	error_set_u64(err, EFI_SIZE, len);
	return -1;
}

struct append_params {
	struct span name;
	bool sync, has_expected;
	uint64_t expected_id;
};

static int append_params_of(const struct fields *params, struct append_params *ret, struct error *err)
{
	ret->has_expected = fields_has(params, KEY_EXPECTED_ID);
	if (field_stream(params, &ret->name, err) != 0 || field_bool_or(params, KEY_SYNC, false, &ret->sync, err) != 0)
		return -1;
	return field_u64_or(params, KEY_EXPECTED_ID, 0, &ret->expected_id, err);
}

static void submit_append(struct write_call *write, const struct append_params *params)
{
	write->op.kind = OP_APPEND;
	write->op.source = &write->source;
	write->op.sync = params->sync;
	write->op.has_expected = params->has_expected;
	write->op.expected_id = params->expected_id;
	write->source.rewind(&write->source);
	submit(write, &params->name);
}

void handle_APPEND(struct call *call, const struct request *request, struct buf *owner)
{
	struct append_params params;
	struct span entry;
	struct error err;
	if (append_params_of(&request->params, &params, &err) != 0 ||
		field_bytes(&request->params, KEY_ENTRY, &entry, &err) != 0 ||
		check_entry_len(call, entry.len, 0, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	struct write_call *write = start(call, &entry, owner);
	if (write == NULL)
		return;
	write->entry = entry;
	write->source = source_of_entry(entry);
	submit_append(write, &params);
}

void handle_APPEND_BATCH(struct call *call, const struct request *request, struct buf *owner)
{
	struct append_params params;
	struct byte_array entries;
	struct error err;
	if (append_params_of(&request->params, &params, &err) != 0 ||
		field_byte_array(&request->params, KEY_ENTRIES, false, &entries, &err) != 0 ||
		check_entry_len(call, entries.longest_bytes, entries.longest_index, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	struct write_call *write = start(call, &entries.elements, owner);
	if (write == NULL)
		return;
	write->entries = entries;
	write->source = source_of_entries(&entries);
	write->op.batch = true;
	submit_append(write, &params);
}

/* ---- to the log of a key's shard ------------------------------------------------------------------------------- */

static void submit_to_shard(struct write_call *write, struct span key, bool sync)
{
	struct error err;
	struct engine *engine = write->call.net->engine;
	write->shard = shard_of_key(key.data, key.len, engine_shard_count(engine));
	write->op.kind = OP_APPEND;
	write->op.source = &write->source;
	write->op.sync = sync;
	write->source.rewind(&write->source);
	if (engine_submit_shard(engine, &write->op, write->shard, &err) == 0)
		return;
	call_fail(&write->call, &err);
	free_write(write);
}

void handle_SHARD_APPEND(struct call *call, const struct request *request, struct buf *owner)
{
	struct span key, value;
	bool sync;
	struct error err;
	if (field_bytes(&request->params, KEY_KEY, &key, &err) != 0 ||
		field_bytes(&request->params, KEY_VALUE, &value, &err) != 0 ||
		field_bool_or(&request->params, KEY_SYNC, false, &sync, &err) != 0 ||
		check_entry_len(call, value.len, 0, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	struct write_call *write = start(call, &value, owner);
	if (write == NULL)
		return;
	write->entry = value;
	write->source = source_of_entry(value);
	submit_to_shard(write, key, sync);
}

void handle_SHARD_APPEND_BATCH_FOR_KEY(struct call *call, const struct request *request, struct buf *owner)
{
	struct span key;
	struct byte_array values;
	bool sync;
	struct error err;
	if (field_bytes(&request->params, KEY_KEY, &key, &err) != 0 ||
		field_byte_array(&request->params, KEY_VALUES, false, &values, &err) != 0 ||
		field_bool_or(&request->params, KEY_SYNC, false, &sync, &err) != 0 ||
		check_entry_len(call, values.longest_bytes, values.longest_index, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	struct write_call *write = start(call, &values.elements, owner);
	if (write == NULL)
		return;
	write->entries = values;
	write->source = source_of_entries(&values);
	write->op.batch = true;
	submit_to_shard(write, key, sync);
}

void handle_TRUNCATE(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	struct span name, nothing = {0};
	uint64_t safe_id;
	struct error err;
	if (field_stream(&request->params, &name, &err) != 0 ||
		field_u64(&request->params, KEY_SAFE_ID, &safe_id, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	struct write_call *write = start(call, &nothing, NULL);
	if (write == NULL)
		return;
	write->op.kind = OP_TRUNCATE;
	write->op.safe_id = safe_id;
	submit(write, &name);
}

void handle_SYNC(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	struct span name, nothing = {0};
	struct error err;
	bool has_stream = fields_has(&request->params, KEY_STREAM);
	if (has_stream && field_stream(&request->params, &name, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	struct write_call *write = start(call, &nothing, NULL);
	if (write == NULL)
		return;
	write->op.kind = OP_SYNC;
	submit(write, has_stream ? &name : NULL);
}

/* ---- on the way out ---------------------------------------------------------------------------------------------- */

static void write_ids(struct mp_writer *writer, const struct write_call *write)
{
	const struct op *op = &write->op;
	enum method method = write->call.method;
	bool sharded = method == METHOD_SHARD_APPEND || method == METHOD_SHARD_APPEND_BATCH_FOR_KEY;
	if (sharded)
		mp_write_key_u64(writer, KEY_SHARD, write->shard);
	mp_write_key_u64(writer, op->batch ? KEY_FIRST : KEY_ID, op->first);
	if (op->batch)
		mp_write_key_u64(writer, KEY_END, op->end);
	if (!sharded)
		mp_write_key_bool(writer, KEY_DURABLE, op->durable);
}

static void answer(struct write_call *write)
{
	const struct op *op = &write->op;
	struct mp_writer writer;
	size_t field_count = op->kind == OP_SYNC ? 0 : op->kind == OP_TRUNCATE ? 1 : op->batch ? 3 : 2;
	if (!call_reply_begin(&write->call, &writer, field_count))
		return;
	if (op->kind == OP_TRUNCATE) {
		mp_write_key(&writer, KEY_SEGMENTS_DELETED);
		mp_write_u64(&writer, op->segments_deleted);
	} else if (op->kind == OP_APPEND) {
		write_ids(&writer, write);
	}
	call_reply_end(&write->call, &writer);
}

static void completed(struct op *op)
{
	struct write_call *write = of_op(op);
	if (op->error != NULL)
		call_fail(&write->call, op->error);
	else
		answer(write);
	error_free(op->error);
	free_write(write);
}
