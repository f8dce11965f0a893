/*
 * handlers_shard_batch: shard_append_batch: one op for each shard that it concerns, all at once; one answer when the
 * last of them is done, in the order of the request.
 *
 * The entries stay encoded, as in handlers_write.c; a table says which part each belongs to, and where its value is.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "handlers.h"
#include "handlers_write.h"
#include "shard_key.h"

/* Of an entry in the answer: an array of two, a shard's number, an id. */
#define RESULT_BYTES_MAX 13
/* Of what is around the results: the error, if there is one, with its texts. */
#define RESULTS_OVERHEAD_BYTES 2048

struct shard_batch;

/* What goes to one shard. */
struct part {
	struct op op;
	struct entry_source source;
	struct shard_batch *batch;
	uint32_t shard;
	uint32_t from; /* in batch->values: its entries stand there in a row */
	uint32_t at;   /* of the source's pass */
	uint32_t answered;
};

struct shard_batch {
	struct call call;
	struct buf bytes;     /* what holds the request's entries */
	const uint8_t *first; /* they, encoded */
	uint32_t count;	      /* of entries */
	uint32_t *part_of;    /* by entry, in the order of the request */
	uint32_t *values;     /* offsets in bytes, grouped by part */
	struct part *parts;   /* in the order of their first entries */
	uint32_t part_count, parts_left;
};

static void free_batch(struct shard_batch *batch)
{
	for (uint32_t i = 0; i < batch->part_count; i++)
		error_free(batch->parts[i].op.error);
	buf_free(&batch->bytes);
	free(batch->part_of);
	free(batch->values);
	free(batch->parts);
	free(batch);
}

/* ---- where the engine gets the entries from: writer threads ---------------------------------------------------- */

static struct part *of_source(struct entry_source *source)
{
	return (struct part *)((char *)source - offsetof(struct part, source));
}

static void rewind_part(struct entry_source *source)
{
	of_source(source)->at = 0;
}

static void next_of_part(struct entry_source *source, const uint8_t **ret_bytes, size_t *ret_len)
{
	struct part *part = of_source(source);
	struct span value = bytes_at(part->batch->first + part->batch->values[part->from + part->at++]);
	*ret_bytes = value.data;
	*ret_len = value.len;
}

/* ---- on the way in --------------------------------------------------------------------------------------------- */

/* Which part each entry belongs to, how many entries each part has, and where each value is, in the order of the
 * request. */
static int find_parts(
	struct shard_batch *batch, const struct pair_array *entries, uint32_t shard_count, uint32_t *places)
{
	uint32_t *part_of_shard = calloc(shard_count, sizeof(*part_of_shard)); /* plus 1 */
	if (part_of_shard == NULL)
		return -1;
	struct pair_iter iter = pair_iter_of(entries);
	struct span key, value;
	for (uint32_t i = 0; pair_iter_next(&iter, &key, &value); i++) {
		uint32_t shard = shard_of_key(key.data, key.len, shard_count);
		if (part_of_shard[shard] == 0) {
			batch->parts[batch->part_count] = (struct part){.batch = batch, .shard = shard};
			part_of_shard[shard] = ++batch->part_count;
		}
		struct part *part = &batch->parts[part_of_shard[shard] - 1];
		batch->part_of[i] = part_of_shard[shard] - 1;
		places[i] = (uint32_t)(key.data + key.len - batch->first); /* its encoding begins where the key ends */
		part->source.count++;
		part->source.total_bytes += value.len;
	}
	free(part_of_shard);
	return 0;
}

/* The same part by part. */
static void group_values(struct shard_batch *batch, const uint32_t *places)
{
	uint32_t from = 0;
	for (uint32_t i = 0; i < batch->part_count; i++) {
		batch->parts[i].from = batch->parts[i].at = from;
		from += (uint32_t)batch->parts[i].source.count;
	}
	for (uint32_t i = 0; i < batch->count; i++)
		batch->values[batch->parts[batch->part_of[i]].at++] = places[i];
}

static int keep_entries(struct shard_batch *batch, struct span entries, struct buf *owner)
{
	batch->first = entries.data;
	if (owner != NULL && entries.len > COPY_MAX) {
		batch->bytes = *owner;
		*owner = (struct buf){0};
		return 0;
	}
	if (buf_append(&batch->bytes, entries.data, entries.len) != 0)
		return -1;
	batch->first = batch->bytes.data;
	return 0;
}

static int fill(struct shard_batch *batch, const struct pair_array *encoded, uint32_t shard_count, struct buf *owner)
{
	struct pair_array entries = *encoded;
	uint32_t most = entries.count < shard_count ? entries.count : shard_count;
	uint32_t *places = malloc(sizeof(*places) * ((size_t)entries.count + 1));
	batch->count = entries.count;
	batch->part_of = malloc(sizeof(*batch->part_of) * ((size_t)entries.count + 1));
	batch->values = malloc(sizeof(*batch->values) * ((size_t)entries.count + 1));
	batch->parts = malloc(sizeof(*batch->parts) * ((size_t)most + 1));
	bool filled = places != NULL && batch->part_of != NULL && batch->values != NULL && batch->parts != NULL &&
		      keep_entries(batch, entries.elements, owner) == 0;
	if (filled) {
		entries.elements.data = batch->first;
		filled = find_parts(batch, &entries, shard_count, places) == 0;
	}
	if (filled)
		group_values(batch, places);
	free(places);
	if (!filled)
		return -1;
	call_charge(&batch->call, sizeof(*batch) + batch->bytes.cap +
					  (sizeof(*batch->part_of) + sizeof(*batch->values)) * (size_t)entries.count +
					  sizeof(*batch->parts) * (size_t)most);
	return 0;
}

static void submit_parts(struct shard_batch *batch, bool sync);

static int check_answer_bytes(const struct call *call, uint32_t count, struct error *err)
{
	uint64_t limit = call->net->options->max_message_bytes;
	uint64_t size = (uint64_t)RESULT_BYTES_MAX * count + RESULTS_OVERHEAD_BYTES;
	if (size <= limit)
		return 0;
	error_set(err, ERR_TOO_LARGE,
		"the answer to %" PRIu32 " entries may have %" PRIu64 " bytes, the most is %" PRIu64
		" (max_message_bytes): send less at once; nothing was written",
		count, size, limit);
	error_set_u64(err, EFI_LIMIT, limit);
	error_set_u64(err, EFI_SIZE, size);
	return -1;
}

void handle_SHARD_APPEND_BATCH(struct call *call, const struct request *request, struct buf *owner)
{
	struct pair_array entries;
	bool sync;
	struct error err;
	if (field_pair_array(&request->params, KEY_ENTRIES, &entries, &err) != 0 ||
		field_bool_or(&request->params, KEY_SYNC, false, &sync, &err) != 0 ||
		check_entry_len(call, entries.longest_bytes, entries.longest_index, &err) != 0 ||
		check_answer_bytes(call, entries.count, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	struct shard_batch *batch = calloc(1, sizeof(*batch));
	if (batch != NULL)
		batch->call = *call;
	if (batch == NULL || fill(batch, &entries, engine_shard_count(call->net->engine), owner) != 0) {
		if (batch != NULL)
			free_batch(batch);
		error_set(&err, ERR_BUSY, "no memory for a batch of %" PRIu32 " entries: send it again later",
			entries.count);
		call_fail(call, &err);
		return;
	}
	submit_parts(batch, sync);
}

/* ---- on the way out -------------------------------------------------------------------------------------------- */

static void write_results(struct mp_writer *writer, struct shard_batch *batch)
{
	mp_write_key(writer, KEY_RESULTS);
	mp_write_array(writer, batch->count);
	for (uint32_t i = 0; i < batch->count; i++) {
		struct part *part = &batch->parts[batch->part_of[i]];
		if (part->op.error != NULL) {
			mp_write_nil(writer);
			continue;
		}
		mp_write_array(writer, 2);
		mp_write_u64(writer, part->shard);
		mp_write_u64(writer, part->op.first + part->answered++);
	}
}

/* Of the first entry that failed. */
static const struct error *first_error(const struct shard_batch *batch)
{
	for (uint32_t i = 0; i < batch->part_count; i++)
		if (batch->parts[i].op.error != NULL)
			return batch->parts[i].op.error;
	return NULL;
}

static void answer(struct shard_batch *batch)
{
	struct mp_writer writer;
	const struct error *err = first_error(batch);
	bool open = err != NULL ? call_fail_begin(&batch->call, &writer, err, 1)
				: call_reply_begin(&batch->call, &writer, 1);
	if (open)
		write_results(&writer, batch);
	if (open && err != NULL)
		call_fail_end(&batch->call, &writer, err);
	else if (open)
		call_reply_end(&batch->call, &writer);
	free_batch(batch);
}

static void part_done(struct op *op)
{
	struct shard_batch *batch = ((struct part *)op)->batch;
	if (--batch->parts_left == 0)
		answer(batch);
}

static void submit_parts(struct shard_batch *batch, bool sync)
{
	batch->parts_left = batch->part_count + 1; /* none is answered while they are being submitted */
	for (uint32_t i = 0; i < batch->part_count; i++) {
		struct part *part = &batch->parts[i];
		struct error err;
		part->source.rewind = rewind_part;
		part->source.next = next_of_part;
		part->op.kind = OP_APPEND;
		part->op.source = &part->source;
		part->op.batch = true;
		part->op.sync = sync;
		part->op.done_cb = part_done;
		rewind_part(&part->source);
		if (engine_submit_shard(batch->call.net->engine, &part->op, part->shard, &err) == 0)
			continue;
		part->op.error = error_copy(&err);
		batch->parts_left--;
	}
	if (--batch->parts_left == 0)
		answer(batch);
}
