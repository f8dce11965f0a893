/* Appending by key. (Reading a shard is in client_read.c.) */
#include <stdio.h>
#include <string.h>

#include "client_call.h"
#include "client_memory.h"
#include "shard_key.h"

uint32_t ironwal_shard_of_key(const void *key, size_t key_len, uint32_t shard_count)
{
	return shard_count > 0 ? shard_of_key(key, key_len, shard_count) : 0;
}

size_t ironwal_shard_name(uint32_t shard, char ret_name[IRONWAL_SHARD_NAME_MAX])
{
	return (size_t)snprintf(ret_name, IRONWAL_SHARD_NAME_MAX, "shard_%02u", (unsigned)shard);
}

/* ---- requests ---- */

/* Known before anything is copied; what is around the bytes is checked when the frame is closed. A connection that is
 * not ready knows no limits: append_begin says so. */
static int add_bytes(const ironwal *connection, uint64_t *total, size_t len, ironwal_error *error)
{
	uint64_t limit = connection->ready ? connection->max_message_bytes : UINT64_MAX;
	*total += len <= limit ? mp_bin_bytes(len) : len;
	return *total > limit ? cerr_too_large(error, "bytes of the request", limit, *total) : 0;
}

static int add_value(const ironwal *connection, uint64_t *total, size_t len, ironwal_error *error)
{
	uint64_t limit = connection->ready ? ironwal_max_entry_bytes(connection) : UINT64_MAX;
	if (len > limit)
		return cerr_too_large(error, "bytes of the entry", limit, len);
	return add_bytes(connection, total, len, error);
}

static int check_count(size_t count, ironwal_error *error)
{
	return count > ARRAY_ELEMENTS_MAX ? cerr_too_large(error, "entries in the batch", ARRAY_ELEMENTS_MAX, count)
					  : 0;
}

/* Opens a request with that many params and, if it is asked for, sync. */
static int append_begin(ironwal *connection, struct core_request *request, size_t param_count,
	const ironwal_shard_append_options *given, struct mp_writer **ret_writer, ironwal_error *error)
{
	ironwal_shard_append_options options = IRONWAL_SHARD_APPEND_OPTIONS_INIT;
	if (options_read(&options, sizeof(options), given, error) != 0) {
		block_free(request->memory);
		return cerr_fate(error, IRONWAL_FATE_NOT_SENT, false);
	}
	bool sync = options.sync != 0;
	if (call_begin(connection, request, param_count + sync, ret_writer, error) != 0)
		return -1;
	if (sync) {
		mp_write_key(*ret_writer, KEY_SYNC);
		mp_write_bool(*ret_writer, true);
	}
	return 0;
}

/* ---- one key ---- */

/* request->start_id is the shard that the key has. */
static int read_shard(
	const ironwal *connection, const struct core_answer *answer, uint32_t *ret_shard, struct error *err)
{
	uint64_t shard;
	if (field_u64(&answer->response.fields, KEY_SHARD, &shard, err) != 0)
		return -1;
	if (shard >= connection->shard_count || shard != answer->request.start_id)
		return error_set(err, ERR_SERIALIZATION, "shard %llu is not the key's", (unsigned long long)shard);
	*ret_shard = (uint32_t)shard;
	return 0;
}

int read_position(
	const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err)
{
	result->position.written = 1;
	if (read_shard(connection, answer, &result->position.shard, err) != 0)
		return -1;
	return field_u64(&answer->response.fields, KEY_ID, &result->position.id, err);
}

static int put_shard_append(ironwal *connection, enum how how, const void *key, size_t key_len, const void *value,
	size_t value_len, const ironwal_shard_append_options *options, uint32_t *ret_msgid, ironwal_error *error)
{
	struct core_request request = call_request(METHOD_SHARD_APPEND, how);
	struct mp_writer *w;
	uint64_t total = 0;
	if (add_bytes(connection, &total, key_len, error) != 0 || add_value(connection, &total, value_len, error) != 0)
		return -1;
	request.start_id = ironwal_shard_of_key(key, key_len, connection->shard_count);
	if (append_begin(connection, &request, 2, options, &w, error) != 0)
		return -1;
	put_bytes(w, KEY_KEY, key, key_len);
	put_bytes(w, KEY_VALUE, value, value_len);
	return call_commit(connection, 0, ret_msgid, error);
}

int ironwal_submit_shard_append(ironwal *connection, const void *key, size_t key_len, const void *value,
	size_t value_len, const ironwal_shard_append_options *options, uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection, put_shard_append(connection, SUBMITTED, key, key_len, value, value_len, options,
					     ret_request_id, error));
}

int ironwal_shard_append(ironwal *connection, const void *key, size_t key_len, const void *value, size_t value_len,
	const ironwal_shard_append_options *options, ironwal_shard_position *ret_position, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t id;
	if (put_shard_append(connection, BLOCKING, key, key_len, value, value_len, options, &id, error) != 0 ||
		call_wait(connection, id, 0, &result, error) != 0)
		return -1;
	if (ret_position != NULL)
		*ret_position = result.position;
	return 0;
}

int read_range(const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err)
{
	const struct fields *fields = &answer->response.fields;
	ironwal_shard_range *range = &result->range;
	if (read_shard(connection, answer, &range->shard, err) != 0 ||
		field_u64(fields, KEY_FIRST, &range->first, err) != 0 ||
		field_u64(fields, KEY_END, &range->end, err) != 0)
		return -1;
	if (range->end < range->first || range->end - range->first != answer->request.count)
		return error_set(err, ERR_SERIALIZATION, "the ids of an append do not fit the number of its entries");
	return 0;
}

static int put_batch_for_key(ironwal *connection, enum how how, const void *key, size_t key_len,
	const ironwal_bytes *values, size_t count, const ironwal_shard_append_options *options, uint32_t *ret_msgid,
	ironwal_error *error)
{
	struct core_request request = call_request(METHOD_SHARD_APPEND_BATCH_FOR_KEY, how);
	struct mp_writer *w;
	uint64_t total = 0;
	request.count = count;
	if (check_count(count, error) != 0 || add_bytes(connection, &total, key_len, error) != 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		if (add_value(connection, &total, values[i].len, error) != 0)
			return -1;
	}
	request.start_id = ironwal_shard_of_key(key, key_len, connection->shard_count);
	if (append_begin(connection, &request, 2, options, &w, error) != 0)
		return -1;
	put_bytes(w, KEY_KEY, key, key_len);
	mp_write_key(w, KEY_VALUES);
	mp_write_array(w, count);
	for (size_t i = 0; i < count; i++)
		mp_write_bin(w, values[i].data, values[i].len);
	return call_commit(connection, 0, ret_msgid, error);
}

int ironwal_submit_shard_append_batch_for_key(ironwal *connection, const void *key, size_t key_len,
	const ironwal_bytes *values, size_t count, const ironwal_shard_append_options *options,
	uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection,
		put_batch_for_key(connection, SUBMITTED, key, key_len, values, count, options, ret_request_id, error));
}

int ironwal_shard_append_batch_for_key(ironwal *connection, const void *key, size_t key_len,
	const ironwal_bytes *values, size_t count, const ironwal_shard_append_options *options,
	ironwal_shard_range *ret_range, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t id;
	if (put_batch_for_key(connection, BLOCKING, key, key_len, values, count, options, &id, error) != 0 ||
		call_wait(connection, id, 0, &result, error) != 0)
		return -1;
	if (ret_range != NULL)
		*ret_range = result.range;
	return 0;
}

/* ---- many keys ---- */

/* Takes the positions, whose shards are those of the keys since the submit, out of the request. */
static void take_positions(struct core_answer *answer, struct ironwal_result *result)
{
	result->positions = answer->request.memory;
	result->position_count = (size_t)answer->request.count;
	answer->request.memory = NULL;
}

static void nothing_is_known_written(struct ironwal_result *result)
{
	for (size_t i = 0; i < result->position_count; i++) {
		result->positions[i].id = 0;
		result->positions[i].written = 0;
	}
}

/* [shard, id], or nil where that is allowed. */
static int read_pair(struct mp_reader *reader, bool nil_allowed, uint64_t *ret_shard, ironwal_shard_position *position)
{
	struct mp_value value;
	if (mp_read(reader, &value) != 0)
		return -1;
	if (value.type == MP_NIL)
		return nil_allowed ? 0 : -1;
	if (value.type != MP_ARRAY || value.count != 2 || mp_read(reader, &value) != 0 || value.type != MP_UINT)
		return -1;
	*ret_shard = value.u64;
	if (mp_read(reader, &value) != 0 || value.type != MP_UINT)
		return -1;
	position->id = value.u64;
	position->written = 1;
	return 0;
}

/* Fills the positions; those that were read stay there after -1. */
static int read_results(const ironwal *connection, const struct ironwal_result *result, struct span results,
	bool nil_allowed, size_t *ret_written, struct error *err)
{
	struct mp_reader reader = mp_reader_of(results);
	struct mp_value value;
	size_t written = 0;
	if (mp_read(&reader, &value) != 0 || value.type != MP_ARRAY || value.count != result->position_count)
		return error_set(err, ERR_SERIALIZATION, "results: expected an array of %zu", result->position_count);
	for (size_t i = 0; i < result->position_count; i++) {
		ironwal_shard_position *position = &result->positions[i];
		uint64_t shard = position->shard;
		if (read_pair(&reader, nil_allowed, &shard, position) != 0)
			return error_set(err, ERR_SERIALIZATION, "results[%zu]: expected [shard, id]", i);
		if (shard != position->shard || (position->written && shard >= connection->shard_count))
			return error_set(err, ERR_SERIALIZATION, "results[%zu]: shard %llu is not the key's", i,
				(unsigned long long)shard);
		written += position->written != 0;
	}
	*ret_written = written;
	return 0;
}

int read_positions(
	const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err)
{
	struct span results = {0};
	size_t written;
	take_positions(answer, result);
	if (fields_has(&answer->response.fields, KEY_RESULTS))
		results = answer->response.fields.values[KEY_RESULTS];
	if (read_results(connection, result, results, false, &written, err) == 0)
		return 0;
	nothing_is_known_written(result);
	return -1;
}

void read_refused_positions(ironwal *connection, struct core_answer *answer, struct ironwal_result *result)
{
	struct error err;
	struct span results;
	size_t written;
	if (result->error.fate == IRONWAL_FATE_NOT_SENT)
		return;
	take_positions(answer, result);
	if (answer->payload == NULL || mp_map_find(answer->response.error, key_name(KEY_RESULTS), &results) != 0 ||
		mp_is_nil(results))
		return;
	int rc = read_results(connection, result, results, true, &written, &err);
	if (rc == 0 && written > 0 && written == result->position_count)
		rc = error_set(&err, ERR_SERIALIZATION, "an error says that everything was written");
	if (rc != 0) {
		nothing_is_known_written(result);
		core_reject_answer(connection->core, &err, &result->error);
		cerr_fate(&result->error, IRONWAL_FATE_UNKNOWN, false);
	} else if (written > 0 && result->error.fate == IRONWAL_FATE_REFUSED) {
		cerr_fate(&result->error, IRONWAL_FATE_PARTLY, false);
	}
}

static int put_batch(ironwal *connection, enum how how, const ironwal_key_value *entries, size_t count,
	const ironwal_shard_append_options *options, uint32_t *ret_msgid, ironwal_error *error)
{
	struct core_request request = call_request(METHOD_SHARD_APPEND_BATCH, how);
	struct mp_writer *w;
	uint64_t total = 0;
	if (check_count(count, error) != 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		total++; /* the pair's header */
		if (add_bytes(connection, &total, entries[i].key.len, error) != 0 ||
			add_value(connection, &total, entries[i].value.len, error) != 0)
			return -1;
	}
	/* What the answer is checked against, and then where it goes. */
	ironwal_shard_position *positions = block_array(block_mem(connection), count + 1, sizeof(*positions));
	if (positions == NULL) {
		cerr_no_memory(error);
		return cerr_fate(error, IRONWAL_FATE_NOT_SENT, false);
	}
	for (size_t i = 0; i < count; i++)
		positions[i].shard =
			ironwal_shard_of_key(entries[i].key.data, entries[i].key.len, connection->shard_count);
	request.count = count;
	request.memory = positions;
	if (append_begin(connection, &request, 1, options, &w, error) != 0)
		return -1;
	mp_write_key(w, KEY_ENTRIES);
	mp_write_array(w, count);
	for (size_t i = 0; i < count; i++) {
		mp_write_array(w, 2);
		mp_write_bin(w, entries[i].key.data, entries[i].key.len);
		mp_write_bin(w, entries[i].value.data, entries[i].value.len);
	}
	return call_commit(connection, 0, ret_msgid, error);
}

int ironwal_submit_shard_append_batch(ironwal *connection, const ironwal_key_value *entries, size_t count,
	const ironwal_shard_append_options *options, uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection, put_batch(connection, SUBMITTED, entries, count, options, ret_request_id, error));
}

int ironwal_shard_append_batch(ironwal *connection, const ironwal_key_value *entries, size_t count,
	const ironwal_shard_append_options *options, ironwal_shard_position *ret_positions, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t id;
	if (put_batch(connection, BLOCKING, entries, count, options, &id, error) != 0)
		return -1;
	int rc = call_wait(connection, id, 0, &result, error);
	if (ret_positions != NULL && result.positions != NULL && count > 0)
		memcpy(ret_positions, result.positions, count * sizeof(*ret_positions));
	result_clear(&result);
	return rc;
}
