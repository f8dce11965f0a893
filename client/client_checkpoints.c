/* Checkpoints of all shards: taking, loading, listing, and dropping them and what they make superfluous. */
#include <string.h>

#include "client_call.h"
#include "client_memory.h"

#define ID_BYTES_MAX 65535

/* A request whose one param is an id. Whether that is legal is the server's to say. */
static int put_with_id(ironwal *connection, enum how how, enum method method, const void *id, size_t id_len,
	uint32_t *ret_msgid, ironwal_error *error)
{
	struct core_request request = call_request(method, how);
	struct mp_writer *w;
	if (connection->ready && id_len > connection->max_message_bytes) {
		cerr_too_large(error, "bytes of the checkpoint's id", connection->max_message_bytes, id_len);
		return cerr_fate(error, request.is_write ? IRONWAL_FATE_NOT_SENT : IRONWAL_FATE_NOT_A_WRITE, false);
	}
	/* The answer to these two does not repeat it. */
	if (method == METHOD_CREATE_CHECKPOINT || method == METHOD_LOAD_CHECKPOINT) {
		request.memory = block_copy(block_mem(connection), id, id_len);
		request.memory_len = id_len;
		if (request.memory == NULL) {
			cerr_no_memory(error);
			return cerr_fate(error, request.is_write ? IRONWAL_FATE_NOT_SENT : IRONWAL_FATE_NOT_A_WRITE,
				request.is_repeatable);
		}
	}
	if (call_begin(connection, &request, 1, &w, error) != 0)
		return -1;
	put_bytes(w, KEY_ID, id, id_len);
	return call_commit(connection, 0, ret_msgid, error);
}

/* A request without params. */
static int put_bare(ironwal *connection, enum how how, enum method method, uint32_t *ret_msgid, ironwal_error *error)
{
	struct mp_writer *w;
	if (call_begin_plain(connection, method, how, 0, &w, error) != 0)
		return -1;
	return call_commit(connection, 0, ret_msgid, error);
}

static int check_id(struct span id, struct error *err)
{
	if (id.len < 1 || id.len > ID_BYTES_MAX)
		return error_set(err, ERR_SERIALIZATION, "a checkpoint's id of %zu bytes", id.len);
	return 0;
}

/* ---- one checkpoint ---- */

struct ironwal_checkpoint {
	uint64_t timestamp_ns;
	uint32_t shard_count;
	uint64_t *offsets;
	size_t id_len;
	uint8_t id[];
};

int read_checkpoint(
	const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err)
{
	const struct fields *fields = &answer->response.fields;
	const struct core_request *request = &answer->request;
	const struct mem *mem = block_mem(connection);
	struct u64_array offsets;
	uint64_t timestamp_ns;
	uint32_t shard_count;
	struct span id = {request->memory, request->memory_len};
	if (request->memory == NULL && (field_bytes(fields, KEY_ID, &id, err) != 0 || check_id(id, err) != 0))
		return -1;
	if (field_u64_array(fields, KEY_OFFSETS, &offsets, err) != 0 ||
		field_u64(fields, KEY_TIMESTAMP, &timestamp_ns, err) != 0 ||
		field_u32(fields, KEY_SHARD_COUNT, &shard_count, err) != 0)
		return -1;
	/* Who goes through the connection's shards finds an offset for each. */
	if (shard_count != connection->shard_count || offsets.count != shard_count)
		return error_set(err, ERR_SERIALIZATION,
			"a checkpoint of %u shards with %u offsets, where there are %u", shard_count, offsets.count,
			connection->shard_count);
	struct ironwal_checkpoint *checkpoint = block_alloc(mem, sizeof(*checkpoint) + id.len);
	uint64_t *copies = block_array(mem, (size_t)offsets.count + 1, sizeof(*copies));
	if (checkpoint == NULL || copies == NULL) {
		block_free(checkpoint);
		block_free(copies);
		return READ_NO_MEMORY;
	}
	struct u64_iter iter = u64_iter_of(&offsets);
	for (size_t i = 0; u64_iter_next(&iter, &copies[i]); i++)
		;
	checkpoint->timestamp_ns = timestamp_ns;
	checkpoint->shard_count = shard_count;
	checkpoint->offsets = copies;
	checkpoint->id_len = id.len;
	if (id.len > 0)
		memcpy(checkpoint->id, id.data, id.len);
	result->checkpoint = checkpoint;
	return 0;
}

static int wait_for_checkpoint(
	ironwal *connection, uint32_t request_id, ironwal_checkpoint **ret_checkpoint, ironwal_error *error)
{
	struct ironwal_result result;
	if (call_wait(connection, request_id, 0, &result, error) != 0)
		return -1;
	if (ret_checkpoint != NULL)
		*ret_checkpoint = result.checkpoint;
	else
		ironwal_checkpoint_free(result.checkpoint);
	return 0;
}

int ironwal_submit_create_checkpoint(
	ironwal *connection, const void *id, size_t id_len, uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection,
		put_with_id(connection, SUBMITTED, METHOD_CREATE_CHECKPOINT, id, id_len, ret_request_id, error));
}

int ironwal_create_checkpoint(
	ironwal *connection, const void *id, size_t id_len, ironwal_checkpoint **ret_checkpoint, ironwal_error *error)
{
	uint32_t request_id;
	if (put_with_id(connection, BLOCKING, METHOD_CREATE_CHECKPOINT, id, id_len, &request_id, error) != 0)
		return -1;
	return wait_for_checkpoint(connection, request_id, ret_checkpoint, error);
}

int ironwal_submit_load_checkpoint(
	ironwal *connection, const void *id, size_t id_len, uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection,
		put_with_id(connection, SUBMITTED, METHOD_LOAD_CHECKPOINT, id, id_len, ret_request_id, error));
}

int ironwal_load_checkpoint(
	ironwal *connection, const void *id, size_t id_len, ironwal_checkpoint **ret_checkpoint, ironwal_error *error)
{
	uint32_t request_id;
	if (put_with_id(connection, BLOCKING, METHOD_LOAD_CHECKPOINT, id, id_len, &request_id, error) != 0)
		return -1;
	return wait_for_checkpoint(connection, request_id, ret_checkpoint, error);
}

int ironwal_submit_load_latest_checkpoint(ironwal *connection, uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(
		connection, put_bare(connection, SUBMITTED, METHOD_LOAD_LATEST_CHECKPOINT, ret_request_id, error));
}

int ironwal_load_latest_checkpoint(ironwal *connection, ironwal_checkpoint **ret_checkpoint, ironwal_error *error)
{
	uint32_t request_id;
	if (put_bare(connection, BLOCKING, METHOD_LOAD_LATEST_CHECKPOINT, &request_id, error) != 0)
		return -1;
	return wait_for_checkpoint(connection, request_id, ret_checkpoint, error);
}

const void *ironwal_checkpoint_id(const ironwal_checkpoint *checkpoint, size_t *ret_len)
{
	*ret_len = checkpoint->id_len;
	return checkpoint->id;
}

uint64_t ironwal_checkpoint_timestamp_ns(const ironwal_checkpoint *checkpoint)
{
	return checkpoint->timestamp_ns;
}

uint32_t ironwal_checkpoint_shard_count(const ironwal_checkpoint *checkpoint)
{
	return checkpoint->shard_count;
}

const uint64_t *ironwal_checkpoint_offsets(const ironwal_checkpoint *checkpoint, size_t *ret_count)
{
	if (ret_count != NULL)
		*ret_count = checkpoint->shard_count;
	return checkpoint->offsets;
}

void ironwal_checkpoint_free(ironwal_checkpoint *checkpoint)
{
	if (checkpoint == NULL)
		return;
	block_free(checkpoint->offsets);
	block_free(checkpoint);
}

/* ---- all of them ---- */

struct listed {
	struct span id; /* into payload */
	uint64_t timestamp_ns;
};

struct ironwal_checkpoints {
	uint8_t *payload;
	struct listed *listed;
	size_t count;
	uint64_t damaged;
};

/* [id, timestamp] */
static int read_listed(struct mp_reader *reader, struct listed *ret_listed)
{
	struct mp_value value;
	if (mp_read(reader, &value) != 0 || value.type != MP_ARRAY || value.count != 2 ||
		mp_read(reader, &value) != 0 || (value.type != MP_BIN && value.type != MP_STR))
		return -1;
	ret_listed->id = value.bytes;
	if (mp_read(reader, &value) != 0 || value.type != MP_UINT)
		return -1;
	ret_listed->timestamp_ns = value.u64;
	return 0;
}

int read_checkpoints(
	const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err)
{
	const struct fields *fields = &answer->response.fields;
	const struct mem *mem = block_mem(connection);
	uint64_t limit = answer->request.count, damaged;
	struct mp_reader reader = {0};
	struct mp_value head;
	if (field_u64_or(fields, KEY_DAMAGED, 0, &damaged, err) != 0)
		return -1;
	if (fields_has(fields, KEY_CHECKPOINTS))
		reader = mp_reader_of(fields->values[KEY_CHECKPOINTS]);
	if (reader.at == NULL || mp_read(&reader, &head) != 0 || head.type != MP_ARRAY)
		return error_set(err, ERR_SERIALIZATION, "checkpoints: missing or mistyped, expected an array");
	if (limit > 0 && head.count > limit)
		return error_set(err, ERR_SERIALIZATION, "checkpoints: %u where at most %llu were asked for",
			head.count, (unsigned long long)limit);
	struct ironwal_checkpoints *list = block_new(mem, sizeof(*list));
	struct listed *listed = block_array(mem, (size_t)head.count + 1, sizeof(*listed));
	int rc = list != NULL && listed != NULL ? 0 : READ_NO_MEMORY;
	for (uint32_t i = 0; rc == 0 && i < head.count; i++) {
		if (read_listed(&reader, &listed[i]) != 0)
			rc = error_set(err, ERR_SERIALIZATION, "checkpoints[%u]: expected [id, timestamp]", i);
		else
			rc = check_id(listed[i].id, err);
	}
	if (rc != 0) {
		block_free(list);
		block_free(listed);
		return rc;
	}
	*list = (struct ironwal_checkpoints){answer->payload, listed, head.count, damaged};
	answer->payload = NULL;
	result->checkpoints = list;
	return 0;
}

static int put_list_checkpoints(
	ironwal *connection, enum how how, uint64_t limit, uint32_t *ret_msgid, ironwal_error *error)
{
	struct core_request request = call_request(METHOD_LIST_CHECKPOINTS, how);
	struct mp_writer *w;
	request.count = limit;
	if (call_begin(connection, &request, limit > 0 ? 1 : 0, &w, error) != 0)
		return -1;
	if (limit > 0)
		put_u64(w, KEY_LIMIT, limit);
	return call_commit(connection, 0, ret_msgid, error);
}

int ironwal_submit_list_checkpoints(ironwal *connection, uint64_t limit, uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection, put_list_checkpoints(connection, SUBMITTED, limit, ret_request_id, error));
}

int ironwal_list_checkpoints(ironwal *connection, uint64_t limit, ironwal_checkpoints **ret_list, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t id;
	if (put_list_checkpoints(connection, BLOCKING, limit, &id, error) != 0 ||
		call_wait(connection, id, 0, &result, error) != 0)
		return -1;
	*ret_list = result.checkpoints;
	return 0;
}

size_t ironwal_checkpoints_count(const ironwal_checkpoints *list)
{
	return list->count;
}

int ironwal_checkpoints_get(
	const ironwal_checkpoints *list, size_t index, const void **ret_id, size_t *ret_len, uint64_t *ret_timestamp_ns)
{
	if (index >= list->count)
		return 0;
	*ret_id = list->listed[index].id.data;
	*ret_len = list->listed[index].id.len;
	if (ret_timestamp_ns != NULL)
		*ret_timestamp_ns = list->listed[index].timestamp_ns;
	return 1;
}

uint64_t ironwal_checkpoints_damaged(const ironwal_checkpoints *list)
{
	return list->damaged;
}

void ironwal_checkpoints_free(ironwal_checkpoints *list)
{
	if (list == NULL)
		return;
	block_free(list->payload);
	block_free(list->listed);
	block_free(list);
}

int read_checkpoint_count(
	const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err)
{
	(void)connection;
	result->is_there = true;
	return field_u64(&answer->response.fields, KEY_COUNT, &result->number, err);
}

int ironwal_submit_checkpoint_count(ironwal *connection, uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection, put_bare(connection, SUBMITTED, METHOD_CHECKPOINT_COUNT, ret_request_id, error));
}

int ironwal_checkpoint_count(ironwal *connection, uint64_t *ret_count, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t id;
	if (put_bare(connection, BLOCKING, METHOD_CHECKPOINT_COUNT, &id, error) != 0 ||
		call_wait(connection, id, 0, &result, error) != 0)
		return -1;
	*ret_count = result.number;
	return 0;
}

/* ---- what is not needed any more ---- */

int read_prune(const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err)
{
	const struct fields *fields = &answer->response.fields;
	ironwal_prune_stats *stats = &result->prune;
	if (field_u32(fields, KEY_SHARDS_PRUNED, &stats->shards_pruned, err) != 0 ||
		field_u64(fields, KEY_SEGMENTS_DELETED, &stats->segments_deleted, err) != 0)
		return -1;
	if (stats->shards_pruned > connection->shard_count || stats->shards_pruned > stats->segments_deleted)
		return error_set(err, ERR_SERIALIZATION, "%llu segments deleted from %u shards, where there are %u",
			(unsigned long long)stats->segments_deleted, stats->shards_pruned, connection->shard_count);
	return 0;
}

int ironwal_submit_prune_before_checkpoint(
	ironwal *connection, const void *id, size_t id_len, uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection,
		put_with_id(connection, SUBMITTED, METHOD_PRUNE_BEFORE_CHECKPOINT, id, id_len, ret_request_id, error));
}

int ironwal_prune_before_checkpoint(
	ironwal *connection, const void *id, size_t id_len, ironwal_prune_stats *ret_stats, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t request_id;
	if (put_with_id(connection, BLOCKING, METHOD_PRUNE_BEFORE_CHECKPOINT, id, id_len, &request_id, error) != 0 ||
		call_wait(connection, request_id, 0, &result, error) != 0)
		return -1;
	if (ret_stats != NULL)
		*ret_stats = result.prune;
	return 0;
}

int read_compaction(
	const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err)
{
	const struct fields *fields = &answer->response.fields;
	ironwal_compaction_stats *stats = &result->compaction;
	(void)connection;
	if (field_u64(fields, KEY_CHECKPOINTS_BEFORE, &stats->checkpoints_before, err) != 0 ||
		field_u64(fields, KEY_CHECKPOINTS_AFTER, &stats->checkpoints_after, err) != 0)
		return -1;
	return field_u64(fields, KEY_BYTES_RECLAIMED, &stats->bytes_reclaimed, err);
}

static int put_compact(
	ironwal *connection, enum how how, uint64_t keep_latest_n, uint32_t *ret_msgid, ironwal_error *error)
{
	struct mp_writer *w;
	if (call_begin_plain(connection, METHOD_COMPACT_CHECKPOINTS, how, 1, &w, error) != 0)
		return -1;
	put_u64(w, KEY_KEEP_LATEST_N, keep_latest_n);
	return call_commit(connection, 0, ret_msgid, error);
}

int ironwal_submit_compact_checkpoints(
	ironwal *connection, uint64_t keep_latest_n, uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection, put_compact(connection, SUBMITTED, keep_latest_n, ret_request_id, error));
}

int ironwal_compact_checkpoints(
	ironwal *connection, uint64_t keep_latest_n, ironwal_compaction_stats *ret_stats, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t id;
	if (put_compact(connection, BLOCKING, keep_latest_n, &id, error) != 0 ||
		call_wait(connection, id, 0, &result, error) != 0)
		return -1;
	if (ret_stats != NULL)
		*ret_stats = result.compaction;
	return 0;
}
