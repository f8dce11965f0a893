/* Appending by key. (Reading a shard is in client_read.c.) */
#include <stdio.h>
#include <string.h>

#include "client_connection.h"
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

/* Known before anything is copied; what is around the bytes is checked when the frame is closed. */
static int add_bytes(const ironwal *connection, uint64_t *total, size_t len, ironwal_error *error)
{
	uint64_t limit = connection->max_message_bytes;
	*total += len <= limit ? mp_bin_bytes(len) : len;
	return *total > limit ? cerr_too_large(error, "bytes of the request", limit, *total) : 0;
}

static int add_value(const ironwal *connection, uint64_t *total, size_t len, ironwal_error *error)
{
	uint64_t limit = ironwal_max_entry_bytes(connection);
	if (len > limit)
		return cerr_too_large(error, "bytes of the entry", limit, len);
	return add_bytes(connection, total, len, error);
}

/* Opens a request with that many params and, if it is asked for, sync. */
static int append_begin(ironwal *connection, enum method method, size_t param_count,
	const ironwal_shard_append_options *given, struct mp_writer **ret_writer, ironwal_error *error)
{
	ironwal_shard_append_options options = IRONWAL_SHARD_APPEND_OPTIONS_INIT;
	if (given != NULL)
		memcpy(&options, given, given->struct_size < sizeof(options) ? given->struct_size : sizeof(options));
	bool sync = options.sync != 0;
	struct core_request request = {
		.method = method,
		.is_write = true,
		.keeps_refusal = method == METHOD_SHARD_APPEND_BATCH,
	};
	if (core_begin(connection->core, &request, param_count + sync, ret_writer, error) != 0)
		return -1;
	if (sync) {
		mp_write_key(*ret_writer, KEY_SYNC);
		mp_write_bool(*ret_writer, true);
	}
	return 0;
}

/* The server answered something that is not the protocol: what it says of the entries is not relied on either. */
static int append_reject(
	ironwal *connection, struct core_answer *answer, const struct error *reason, ironwal_error *error)
{
	call_reject(connection, answer, reason, error);
	return cerr_fate(error, IRONWAL_FATE_UNKNOWN, false);
}

/* ---- one key ---- */

static int read_shard(const ironwal *connection, const struct fields *fields, const void *key, size_t key_len,
	uint32_t *ret_shard, struct error *err)
{
	uint64_t shard;
	if (field_u64(fields, KEY_SHARD, &shard, err) != 0)
		return -1;
	if (shard >= connection->shard_count || shard != shard_of_key(key, key_len, connection->shard_count))
		return error_set(err, ERR_SERIALIZATION, "shard %llu is not the key's", (unsigned long long)shard);
	*ret_shard = (uint32_t)shard;
	return 0;
}

int ironwal_shard_append(ironwal *connection, const void *key, size_t key_len, const void *value, size_t value_len,
	const ironwal_shard_append_options *options, ironwal_shard_position *ret_position, ironwal_error *error)
{
	struct mp_writer *w;
	struct core_answer answer;
	struct error err;
	uint64_t total = 0;
	ironwal_shard_position position = {.written = 1};
	if (add_bytes(connection, &total, key_len, error) != 0 ||
		add_value(connection, &total, value_len, error) != 0 ||
		append_begin(connection, METHOD_SHARD_APPEND, 2, options, &w, error) != 0)
		return -1;
	put_bytes(w, KEY_KEY, key, key_len);
	put_bytes(w, KEY_VALUE, value, value_len);
	if (call_end(connection, 0, &answer, error) != 0)
		return -1;
	const struct fields *fields = &answer.response.fields;
	if (read_shard(connection, fields, key, key_len, &position.shard, &err) != 0 ||
		field_u64(fields, KEY_ID, &position.id, &err) != 0)
		return append_reject(connection, &answer, &err, error);
	call_free(&answer);
	if (ret_position != NULL)
		*ret_position = position;
	return 0;
}

int ironwal_shard_append_batch_for_key(ironwal *connection, const void *key, size_t key_len,
	const ironwal_bytes *values, size_t count, const ironwal_shard_append_options *options,
	ironwal_shard_range *ret_range, ironwal_error *error)
{
	struct mp_writer *w;
	struct core_answer answer;
	struct error err;
	uint64_t total = 0;
	ironwal_shard_range range;
	if (count > ARRAY_ELEMENTS_MAX)
		return cerr_too_large(error, "entries in the batch", ARRAY_ELEMENTS_MAX, count);
	if (add_bytes(connection, &total, key_len, error) != 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		if (add_value(connection, &total, values[i].len, error) != 0)
			return -1;
	}
	if (append_begin(connection, METHOD_SHARD_APPEND_BATCH_FOR_KEY, 2, options, &w, error) != 0)
		return -1;
	put_bytes(w, KEY_KEY, key, key_len);
	mp_write_key(w, KEY_VALUES);
	mp_write_array(w, count);
	for (size_t i = 0; i < count; i++)
		mp_write_bin(w, values[i].data, values[i].len);
	if (call_end(connection, 0, &answer, error) != 0)
		return -1;
	const struct fields *fields = &answer.response.fields;
	if (read_shard(connection, fields, key, key_len, &range.shard, &err) != 0 ||
		field_u64(fields, KEY_FIRST, &range.first, &err) != 0 ||
		field_u64(fields, KEY_END, &range.end, &err) != 0)
		return append_reject(connection, &answer, &err, error);
	if (range.end < range.first || range.end - range.first != count) {
		error_set(&err, ERR_SERIALIZATION, "the ids of an append do not fit the number of its entries");
		return append_reject(connection, &answer, &err, error);
	}
	call_free(&answer);
	if (ret_range != NULL)
		*ret_range = range;
	return 0;
}

/* ---- many keys ---- */

struct batch {
	ironwal *connection;
	const ironwal_key_value *entries;
	size_t count;
	ironwal_shard_position *positions; /* NULL: nobody wants them */
};

static uint32_t shard_of_entry(const struct batch *batch, size_t index)
{
	const ironwal_bytes *key = &batch->entries[index].key;
	return ironwal_shard_of_key(key->data, key->len, batch->connection->shard_count);
}

static void nothing_is_known_written(const struct batch *batch)
{
	for (size_t i = 0; batch->positions != NULL && i < batch->count; i++)
		batch->positions[i] = (ironwal_shard_position){.shard = shard_of_entry(batch, i)};
}

/* [shard, id], or nil where that is allowed. */
static int read_position(
	struct mp_reader *reader, bool nil_allowed, uint64_t *ret_shard, ironwal_shard_position *position)
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
static int read_results(
	const struct batch *batch, struct span results, bool nil_allowed, size_t *ret_written, struct error *err)
{
	struct mp_reader reader = mp_reader_of(results);
	struct mp_value value;
	size_t written = 0;
	if (mp_read(&reader, &value) != 0 || value.type != MP_ARRAY || value.count != batch->count)
		return error_set(err, ERR_SERIALIZATION, "results: expected an array of %zu", batch->count);
	for (size_t i = 0; i < batch->count; i++) {
		uint32_t expected = shard_of_entry(batch, i);
		uint64_t shard = expected;
		ironwal_shard_position position = {.shard = expected};
		if (read_position(&reader, nil_allowed, &shard, &position) != 0)
			return error_set(err, ERR_SERIALIZATION, "results[%zu]: expected [shard, id]", i);
		if (position.written && (shard >= batch->connection->shard_count || shard != expected))
			return error_set(err, ERR_SERIALIZATION, "results[%zu]: shard %llu is not the key's", i,
				(unsigned long long)shard);
		if (batch->positions != NULL)
			batch->positions[i] = position;
		written += position.written != 0;
	}
	*ret_written = written;
	return 0;
}

static int batch_reject(
	const struct batch *batch, struct core_answer *answer, const struct error *reason, ironwal_error *error)
{
	nothing_is_known_written(batch);
	return append_reject(batch->connection, answer, reason, error);
}

/* After an error that the server may have answered; error is not NULL. */
static int batch_failed(const struct batch *batch, struct core_answer *answer, ironwal_error *error)
{
	struct error err;
	struct span results;
	size_t written;
	if (error->fate == IRONWAL_FATE_NOT_SENT)
		return -1;
	if (answer->payload == NULL || mp_map_find(answer->response.error, key_name(KEY_RESULTS), &results) != 0 ||
		mp_is_nil(results)) {
		nothing_is_known_written(batch);
		call_free(answer);
		return -1;
	}
	if (read_results(batch, results, true, &written, &err) != 0)
		return batch_reject(batch, answer, &err, error);
	if (written > 0 && written == batch->count) {
		error_set(&err, ERR_SERIALIZATION, "an error says that everything was written");
		return batch_reject(batch, answer, &err, error);
	}
	if (written > 0 && error->fate == IRONWAL_FATE_REFUSED)
		cerr_fate(error, IRONWAL_FATE_PARTLY, false);
	call_free(answer);
	return -1;
}

int ironwal_shard_append_batch(ironwal *connection, const ironwal_key_value *entries, size_t count,
	const ironwal_shard_append_options *options, ironwal_shard_position *ret_positions, ironwal_error *error)
{
	const struct batch batch = {connection, entries, count, ret_positions};
	struct ironwal_error
		own; /* what the positions mean hangs on the fate, whether the caller wants to know or not */
	struct mp_writer *w;
	struct core_answer answer = {0};
	struct error err;
	struct span results = {0};
	uint64_t total = 0;
	size_t written;
	if (error == NULL)
		error = &own;
	if (count > ARRAY_ELEMENTS_MAX)
		return cerr_too_large(error, "entries in the batch", ARRAY_ELEMENTS_MAX, count);
	for (size_t i = 0; i < count; i++) {
		total++; /* the pair's header */
		if (add_bytes(connection, &total, entries[i].key.len, error) != 0 ||
			add_value(connection, &total, entries[i].value.len, error) != 0)
			return -1;
	}
	if (append_begin(connection, METHOD_SHARD_APPEND_BATCH, 1, options, &w, error) != 0)
		return -1;
	mp_write_key(w, KEY_ENTRIES);
	mp_write_array(w, count);
	for (size_t i = 0; i < count; i++) {
		mp_write_array(w, 2);
		mp_write_bin(w, entries[i].key.data, entries[i].key.len);
		mp_write_bin(w, entries[i].value.data, entries[i].value.len);
	}
	if (call_end(connection, 0, &answer, error) != 0)
		return batch_failed(&batch, &answer, error);
	if (fields_has(&answer.response.fields, KEY_RESULTS))
		results = answer.response.fields.values[KEY_RESULTS];
	if (read_results(&batch, results, false, &written, &err) != 0)
		return batch_reject(&batch, &answer, &err, error);
	call_free(&answer);
	return 0;
}
