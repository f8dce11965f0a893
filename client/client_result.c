#include "client_result.h"

#include "client_memory.h"

static result_reader *reader_of(enum method method)
{
	switch (method) {
	case METHOD_GET:
		return read_entry;
	case METHOD_GET_BATCH:
		return read_entries;
	case METHOD_ITER:
	case METHOD_ITER_SHARD:
		return read_iter;
	case METHOD_STREAM_INFO:
		return read_stream_info;
	case METHOD_TRUNCATE:
		return read_segments_deleted;
	case METHOD_CURRENT_SEGMENT_START_ID:
		return read_segment_start;
	case METHOD_LIST_STREAMS:
		return read_names;
	case METHOD_SHARD_APPEND:
		return read_position;
	case METHOD_SHARD_APPEND_BATCH:
		return read_positions;
	case METHOD_SHARD_APPEND_BATCH_FOR_KEY:
		return read_range;
	case METHOD_CREATE_CHECKPOINT:
	case METHOD_LOAD_CHECKPOINT:
	case METHOD_LOAD_LATEST_CHECKPOINT:
		return read_checkpoint;
	case METHOD_LIST_CHECKPOINTS:
		return read_checkpoints;
	case METHOD_CHECKPOINT_COUNT:
		return read_checkpoint_count;
	case METHOD_PRUNE_BEFORE_CHECKPOINT:
		return read_prune;
	case METHOD_COMPACT_CHECKPOINTS:
		return read_compaction;
	case METHOD_STATS:
		return read_value;
	default:
		return NULL;
	}
}

static bool is_shard_append(enum method method)
{
	return method == METHOD_SHARD_APPEND || method == METHOD_SHARD_APPEND_BATCH ||
	       method == METHOD_SHARD_APPEND_BATCH_FOR_KEY;
}

/* The server has done it; what it says of it is not there to be handed out. */
static int read_failed(ironwal *connection, const struct core_request *request, int rc, const struct error *reason,
	struct ironwal_result *result)
{
	ironwal_fate fate = request->is_write ? IRONWAL_FATE_WRITTEN : IRONWAL_FATE_NOT_A_WRITE;
	if (rc == READ_NO_MEMORY) {
		cerr_no_memory(&result->error);
		cerr_unusable(&result->error, !core_is_usable(connection->core));
	} else {
		core_reject_answer(connection->core, reason, &result->error);
		/* Positions that are not the protocol's are not relied on either. */
		if (is_shard_append(request->method))
			fate = IRONWAL_FATE_UNKNOWN;
	}
	return cerr_fate(&result->error, fate, false);
}

int result_make(
	ironwal *connection, uint32_t request_id, struct core_answer *answer, int rc, struct ironwal_result *result)
{
	const struct core_request *request = &answer->request;
	struct error err;
	result->request_id = request_id;
	result->method = request->method;
	result->tag = answer->tag;
	result->is_there = false;
	result->entry.payload = NULL; /* and with it, whatever pointer shares its place */
	result->positions = NULL;
	result->position_count = 0;
	if (rc == 0) {
		result_reader *reader = reader_of(request->method);
		if (reader != NULL)
			rc = reader(connection, answer, result, &err);
		else
			result->append = answer->append;
		if (rc != 0)
			rc = read_failed(connection, request, rc, &err, result);
	} else if (request->method == METHOD_SHARD_APPEND_BATCH) {
		read_refused_positions(connection, answer, result);
	} else if (request->method == METHOD_PRUNE_BEFORE_CHECKPOINT && result->error.code == IRONWAL_ERR_IO &&
		   result->error.fate == IRONWAL_FATE_REFUSED) {
		/* One shard's failure says nothing of the others. */
		cerr_fate(&result->error, IRONWAL_FATE_UNKNOWN, true);
	}
	result->failed = rc != 0;
	block_free(answer->payload);
	block_free(answer->request.memory);
	return rc;
}

void result_clear(struct ironwal_result *result)
{
	result_reader *reader = reader_of(result->method);
	if (reader == read_entry)
		block_free(result->entry.payload);
	else if (reader == read_entries || reader == read_iter)
		ironwal_entries_free(result->entries);
	else if (reader == read_names)
		ironwal_names_free(result->names);
	else if (reader == read_checkpoint)
		ironwal_checkpoint_free(result->checkpoint);
	else if (reader == read_checkpoints)
		ironwal_checkpoints_free(result->checkpoints);
	else if (reader == read_value)
		ironwal_value_free(result->value);
	block_free(result->positions);
	result->positions = NULL;
	result->entry.payload = NULL;
	result->method = METHOD_PING; /* of which there is nothing */
}

/* ---- the public side ---- */

uint32_t ironwal_result_request_id(const ironwal_result *result)
{
	return result->request_id;
}

void *ironwal_result_tag(const ironwal_result *result)
{
	return result->tag;
}

const ironwal_error *ironwal_result_error(const ironwal_result *result)
{
	return result->failed ? &result->error : NULL;
}

static bool has(const ironwal_result *result, result_reader *reader)
{
	return !result->failed && reader_of(result->method) == reader;
}

int ironwal_result_append(const ironwal_result *result, ironwal_append_result *ret_append)
{
	if (result->failed || (result->method != METHOD_APPEND && result->method != METHOD_APPEND_BATCH))
		return 0;
	*ret_append = result->append;
	return 1;
}

int ironwal_result_entry(const ironwal_result *result, const void **ret_data, size_t *ret_len)
{
	if (!has(result, read_entry) || !result->is_there || result->entry.payload == NULL)
		return 0;
	*ret_data = result->entry.data;
	*ret_len = result->entry.len;
	return 1;
}

void *ironwal_result_take_entry(ironwal_result *result, size_t *ret_len)
{
	if (!has(result, read_entry) || !result->is_there)
		return NULL;
	return entry_take(result, ret_len);
}

/* What is behind a pointer of the union, once. */
#define TAKE(result, reader, member)                                                                                   \
	do {                                                                                                           \
		if (!has(result, reader))                                                                              \
			return NULL;                                                                                   \
		__typeof__(result->member) taken = result->member;                                                     \
		result->member = NULL;                                                                                 \
		return taken;                                                                                          \
	} while (0)

ironwal_entries *ironwal_result_take_entries(ironwal_result *result)
{
	if (has(result, read_iter))
		TAKE(result, read_iter, entries);
	TAKE(result, read_entries, entries);
}

ironwal_names *ironwal_result_take_names(ironwal_result *result)
{
	TAKE(result, read_names, names);
}

ironwal_checkpoint *ironwal_result_take_checkpoint(ironwal_result *result)
{
	TAKE(result, read_checkpoint, checkpoint);
}

ironwal_checkpoints *ironwal_result_take_checkpoints(ironwal_result *result)
{
	TAKE(result, read_checkpoints, checkpoints);
}

ironwal_value *ironwal_result_take_value(ironwal_result *result)
{
	TAKE(result, read_value, value);
}

int ironwal_result_stream_info(const ironwal_result *result, ironwal_stream_info *ret_info)
{
	if (!has(result, read_stream_info))
		return 0;
	*ret_info = result->info;
	return 1;
}

int ironwal_result_uint(const ironwal_result *result, uint64_t *ret_value)
{
	if (!has(result, read_segments_deleted) && !has(result, read_segment_start) &&
		!has(result, read_checkpoint_count))
		return 0;
	if (!result->is_there)
		return 0;
	*ret_value = result->number;
	return 1;
}

int ironwal_result_shard_position(const ironwal_result *result, ironwal_shard_position *ret_position)
{
	if (!has(result, read_position))
		return 0;
	*ret_position = result->position;
	return 1;
}

const ironwal_shard_position *ironwal_result_shard_positions(const ironwal_result *result, size_t *ret_count)
{
	if (result->positions != NULL)
		*ret_count = result->position_count;
	return result->positions;
}

int ironwal_result_shard_range(const ironwal_result *result, ironwal_shard_range *ret_range)
{
	if (!has(result, read_range))
		return 0;
	*ret_range = result->range;
	return 1;
}

int ironwal_result_prune_stats(const ironwal_result *result, ironwal_prune_stats *ret_stats)
{
	if (!has(result, read_prune))
		return 0;
	*ret_stats = result->prune;
	return 1;
}

int ironwal_result_compaction_stats(const ironwal_result *result, ironwal_compaction_stats *ret_stats)
{
	if (!has(result, read_compaction))
		return 0;
	*ret_stats = result->compaction;
	return 1;
}
