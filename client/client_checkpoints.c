/* Checkpoints of all shards: taking, loading, listing, and dropping them and what they make superfluous. */
#include <stdlib.h>
#include <string.h>

#include "client_connection.h"

#define ID_BYTES_MAX 65535

/* Opens a request whose one param is an id. Whether that is legal is the server's to say. */
static int begin_with_id(ironwal *connection, enum method method, const void *id, size_t id_len,
	struct mp_writer **ret_writer, ironwal_error *error)
{
	if (id_len > connection->max_message_bytes) {
		bool reads = method == METHOD_LOAD_CHECKPOINT;
		cerr_too_large(error, "bytes of the checkpoint's id", connection->max_message_bytes, id_len);
		return cerr_fate(error, reads ? IRONWAL_FATE_NOT_A_WRITE : IRONWAL_FATE_NOT_SENT, false);
	}
	if (call_begin(connection, method, 1, ret_writer, error) != 0)
		return -1;
	put_bytes(*ret_writer, KEY_ID, id, id_len);
	return 0;
}

/* The answer to a request that writes is not what the protocol says; that it was done, it says. */
static int write_reject(
	ironwal *connection, struct core_answer *answer, const struct error *reason, ironwal_error *error)
{
	call_reject(connection, answer, reason, error);
	return cerr_fate(error, IRONWAL_FATE_WRITTEN, false);
}

static int read_u32(const struct fields *fields, enum key key, uint32_t *ret_value, struct error *err)
{
	uint64_t value;
	if (field_u64(fields, key, &value, err) != 0)
		return -1;
	if (value > UINT32_MAX)
		return error_set(err, ERR_SERIALIZATION, "%s is out of range", key_name(key));
	*ret_value = (uint32_t)value;
	return 0;
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

/* 0 and a checkpoint; NULL in its place: no memory. -1: the answer is not one. */
static int read_checkpoint(const ironwal *connection, const struct fields *fields, struct span id,
	ironwal_checkpoint **ret_checkpoint, struct error *err)
{
	struct u64_array offsets;
	uint64_t timestamp_ns;
	uint32_t shard_count;
	if (field_u64_array(fields, KEY_OFFSETS, &offsets, err) != 0 ||
		field_u64(fields, KEY_TIMESTAMP, &timestamp_ns, err) != 0 ||
		read_u32(fields, KEY_SHARD_COUNT, &shard_count, err) != 0)
		return -1;
	/* Who goes through the connection's shards finds an offset for each. */
	if (shard_count != connection->shard_count || offsets.count != shard_count)
		return error_set(err, ERR_SERIALIZATION,
			"a checkpoint of %u shards with %u offsets, where there are %u", shard_count, offsets.count,
			connection->shard_count);
	*ret_checkpoint = NULL;
	struct ironwal_checkpoint *checkpoint = malloc(sizeof(*checkpoint) + id.len);
	uint64_t *copies = calloc((size_t)offsets.count + 1, sizeof(*copies));
	if (checkpoint == NULL || copies == NULL) {
		free(checkpoint);
		free(copies);
		return 0;
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
	*ret_checkpoint = checkpoint;
	return 0;
}

int ironwal_create_checkpoint(
	ironwal *connection, const void *id, size_t id_len, ironwal_checkpoint **ret_checkpoint, ironwal_error *error)
{
	struct mp_writer *w;
	struct core_answer answer;
	struct error err;
	ironwal_checkpoint *checkpoint;
	if (begin_with_id(connection, METHOD_CREATE_CHECKPOINT, id, id_len, &w, error) != 0 ||
		call_end(connection, 0, &answer, error) != 0)
		return -1;
	if (read_checkpoint(connection, &answer.response.fields, (struct span){id, id_len}, &checkpoint, &err) != 0)
		return write_reject(connection, &answer, &err, error);
	call_free(&answer);
	if (ret_checkpoint == NULL) {
		ironwal_checkpoint_free(checkpoint);
		return 0;
	}
	if (checkpoint == NULL) {
		cerr_no_memory(error);
		return cerr_fate(error, IRONWAL_FATE_WRITTEN, false);
	}
	*ret_checkpoint = checkpoint;
	return 0;
}

/* The rest of loading one; id is NULL if it is in the answer. */
static int load_end(
	ironwal *connection, const struct span *given, ironwal_checkpoint **ret_checkpoint, ironwal_error *error)
{
	struct core_answer answer;
	struct error err;
	struct span id;
	ironwal_checkpoint *checkpoint;
	if (call_end(connection, 0, &answer, error) != 0)
		return -1;
	const struct fields *fields = &answer.response.fields;
	if (given != NULL)
		id = *given;
	else if (field_bytes(fields, KEY_ID, &id, &err) != 0 || check_id(id, &err) != 0)
		return call_reject(connection, &answer, &err, error);
	if (read_checkpoint(connection, fields, id, &checkpoint, &err) != 0)
		return call_reject(connection, &answer, &err, error);
	call_free(&answer);
	if (checkpoint == NULL)
		return cerr_no_memory(error);
	*ret_checkpoint = checkpoint;
	return 0;
}

int ironwal_load_checkpoint(
	ironwal *connection, const void *id, size_t id_len, ironwal_checkpoint **ret_checkpoint, ironwal_error *error)
{
	const struct span given = {id, id_len};
	struct mp_writer *w;
	if (begin_with_id(connection, METHOD_LOAD_CHECKPOINT, id, id_len, &w, error) != 0)
		return -1;
	return load_end(connection, &given, ret_checkpoint, error);
}

int ironwal_load_latest_checkpoint(ironwal *connection, ironwal_checkpoint **ret_checkpoint, ironwal_error *error)
{
	struct mp_writer *w;
	if (call_begin(connection, METHOD_LOAD_LATEST_CHECKPOINT, 0, &w, error) != 0)
		return -1;
	return load_end(connection, NULL, ret_checkpoint, error);
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
	free(checkpoint->offsets);
	free(checkpoint);
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

/* 0 and the array; NULL in its place: no memory. -1: the answer is no list. */
static int read_list(
	const struct fields *fields, uint64_t limit, struct listed **ret_listed, size_t *ret_count, struct error *err)
{
	struct mp_reader reader = {0};
	struct mp_value head;
	if (fields_has(fields, KEY_CHECKPOINTS))
		reader = mp_reader_of(fields->values[KEY_CHECKPOINTS]);
	if (reader.at == NULL || mp_read(&reader, &head) != 0 || head.type != MP_ARRAY)
		return error_set(err, ERR_SERIALIZATION, "checkpoints: missing or mistyped, expected an array");
	if (limit > 0 && head.count > limit)
		return error_set(err, ERR_SERIALIZATION, "checkpoints: %u where at most %llu were asked for",
			head.count, (unsigned long long)limit);
	*ret_count = head.count;
	*ret_listed = calloc((size_t)head.count + 1, sizeof(**ret_listed));
	for (uint32_t i = 0; *ret_listed != NULL && i < head.count; i++) {
		struct listed *one = &(*ret_listed)[i];
		if (read_listed(&reader, one) != 0)
			error_set(err, ERR_SERIALIZATION, "checkpoints[%u]: expected [id, timestamp]", i);
		else if (check_id(one->id, err) == 0)
			continue;
		free(*ret_listed);
		return -1;
	}
	return 0;
}

int ironwal_list_checkpoints(ironwal *connection, uint64_t limit, ironwal_checkpoints **ret_list, ironwal_error *error)
{
	struct mp_writer *w;
	struct core_answer answer;
	struct error err;
	struct listed *listed = NULL;
	size_t count = 0;
	uint64_t damaged;
	if (call_begin(connection, METHOD_LIST_CHECKPOINTS, limit > 0 ? 1 : 0, &w, error) != 0)
		return -1;
	if (limit > 0)
		put_u64(w, KEY_LIMIT, limit);
	if (call_end(connection, 0, &answer, error) != 0)
		return -1;
	if (field_u64_or(&answer.response.fields, KEY_DAMAGED, 0, &damaged, &err) != 0 ||
		read_list(&answer.response.fields, limit, &listed, &count, &err) != 0)
		return call_reject(connection, &answer, &err, error);
	struct ironwal_checkpoints *list = malloc(sizeof(*list));
	if (list == NULL || listed == NULL) {
		free(list);
		free(listed);
		call_free(&answer);
		return cerr_no_memory(error);
	}
	*list = (struct ironwal_checkpoints){answer.payload, listed, count, damaged};
	*ret_list = list;
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
	free(list->payload);
	free(list->listed);
	free(list);
}

int ironwal_checkpoint_count(ironwal *connection, uint64_t *ret_count, ironwal_error *error)
{
	struct mp_writer *w;
	struct core_answer answer;
	struct error err;
	uint64_t count;
	if (call_begin(connection, METHOD_CHECKPOINT_COUNT, 0, &w, error) != 0 ||
		call_end(connection, 0, &answer, error) != 0)
		return -1;
	if (field_u64(&answer.response.fields, KEY_COUNT, &count, &err) != 0)
		return call_reject(connection, &answer, &err, error);
	call_free(&answer);
	*ret_count = count;
	return 0;
}

/* ---- what is not needed any more ---- */

int ironwal_prune_before_checkpoint(
	ironwal *connection, const void *id, size_t id_len, ironwal_prune_stats *ret_stats, ironwal_error *error)
{
	struct mp_writer *w;
	struct core_answer answer;
	struct error err;
	ironwal_prune_stats stats;
	if (begin_with_id(connection, METHOD_PRUNE_BEFORE_CHECKPOINT, id, id_len, &w, error) != 0)
		return -1;
	if (call_end(connection, 0, &answer, error) != 0) {
		/* One shard's failure says nothing of the others. */
		if (ironwal_error_get_code(error) == IRONWAL_ERR_IO)
			cerr_fate(error, IRONWAL_FATE_UNKNOWN, true);
		return -1;
	}
	const struct fields *fields = &answer.response.fields;
	if (read_u32(fields, KEY_SHARDS_PRUNED, &stats.shards_pruned, &err) != 0 ||
		field_u64(fields, KEY_SEGMENTS_DELETED, &stats.segments_deleted, &err) != 0)
		return write_reject(connection, &answer, &err, error);
	if (stats.shards_pruned > connection->shard_count || stats.shards_pruned > stats.segments_deleted) {
		error_set(&err, ERR_SERIALIZATION, "%llu segments deleted from %u shards, where there are %u",
			(unsigned long long)stats.segments_deleted, stats.shards_pruned, connection->shard_count);
		return write_reject(connection, &answer, &err, error);
	}
	call_free(&answer);
	if (ret_stats != NULL)
		*ret_stats = stats;
	return 0;
}

int ironwal_compact_checkpoints(
	ironwal *connection, uint64_t keep_latest_n, ironwal_compaction_stats *ret_stats, ironwal_error *error)
{
	struct mp_writer *w;
	struct core_answer answer;
	struct error err;
	ironwal_compaction_stats stats;
	if (call_begin(connection, METHOD_COMPACT_CHECKPOINTS, 1, &w, error) != 0)
		return -1;
	put_u64(w, KEY_KEEP_LATEST_N, keep_latest_n);
	if (call_end(connection, 0, &answer, error) != 0)
		return -1;
	const struct fields *fields = &answer.response.fields;
	if (field_u64(fields, KEY_CHECKPOINTS_BEFORE, &stats.checkpoints_before, &err) != 0 ||
		field_u64(fields, KEY_CHECKPOINTS_AFTER, &stats.checkpoints_after, &err) != 0 ||
		field_u64(fields, KEY_BYTES_RECLAIMED, &stats.bytes_reclaimed, &err) != 0)
		return write_reject(connection, &answer, &err, error);
	call_free(&answer);
	if (ret_stats != NULL)
		*ret_stats = stats;
	return 0;
}
