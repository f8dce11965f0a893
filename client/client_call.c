#include "client_call.h"

#include <string.h>

#include "client_memory.h"

static bool is_write(enum method method)
{
	switch (method) {
	case METHOD_APPEND:
	case METHOD_APPEND_BATCH:
	case METHOD_SHARD_APPEND:
	case METHOD_SHARD_APPEND_BATCH:
	case METHOD_SHARD_APPEND_BATCH_FOR_KEY:
		return true;
	default:
		return false;
	}
}

/* All of these may be done twice: what was deleted stays so, and a checkpoint of the same id replaces the first one. */
static bool is_repeatable_write(enum method method)
{
	return method == METHOD_TRUNCATE || method == METHOD_CREATE_CHECKPOINT ||
	       method == METHOD_PRUNE_BEFORE_CHECKPOINT || method == METHOD_COMPACT_CHECKPOINTS;
}

struct core_request call_request(enum method method, enum how how)
{
	return (struct core_request){
		.method = method,
		.is_write = is_write(method) || is_repeatable_write(method),
		.is_repeatable = is_repeatable_write(method),
		.is_submitted = how == SUBMITTED,
		.keeps_refusal = method == METHOD_SHARD_APPEND_BATCH,
	};
}

int call_begin(ironwal *connection, const struct core_request *request, size_t param_count,
	struct mp_writer **ret_writer, ironwal_error *error)
{
	if (!connection->ready && !core_is_lost(connection->core)) {
		block_free(request->memory);
		cerr_set(error, IRONWAL_ERR_AGAIN, "the connection to %s is not ready yet: process its events first",
			connection->address);
		return cerr_fate(error, request->is_write ? IRONWAL_FATE_NOT_SENT : IRONWAL_FATE_NOT_A_WRITE,
			request->is_repeatable);
	}
	return core_begin(connection->core, request, param_count, ret_writer, error);
}

int call_begin_plain(ironwal *connection, enum method method, enum how how, size_t param_count,
	struct mp_writer **ret_writer, ironwal_error *error)
{
	const struct core_request request = call_request(method, how);
	return call_begin(connection, &request, param_count, ret_writer, error);
}

uint64_t call_deadline_ns(const ironwal *connection, uint64_t extra_ms)
{
	return deadline_add_ms(deadline_in_ms(connection->timeout_ms), extra_ms);
}

int call_commit(ironwal *connection, uint64_t extra_ms, uint32_t *ret_msgid, ironwal_error *error)
{
	return core_commit(connection->core, call_deadline_ns(connection, extra_ms), ret_msgid, error);
}

int call_wait_until(ironwal *connection, uint32_t msgid, uint64_t deadline_ns, struct ironwal_result *ret_result,
	ironwal_error *error)
{
	struct core_answer answer;
	int rc = core_wait(connection->core, msgid, deadline_ns, &answer, &ret_result->error);
	rc = result_make(connection, msgid, &answer, rc, ret_result);
	if (rc != 0 && error != NULL)
		*error = ret_result->error;
	return rc;
}

int call_wait(
	ironwal *connection, uint32_t msgid, uint64_t extra_ms, struct ironwal_result *ret_result, ironwal_error *error)
{
	return call_wait_until(connection, msgid, call_deadline_ns(connection, extra_ms), ret_result, error);
}

int submitted(ironwal *connection, int rc)
{
	if (rc == 0)
		core_nudge(connection->core);
	return rc;
}

void put_stream(struct mp_writer *writer, const char *stream, size_t stream_len)
{
	mp_write_key(writer, KEY_STREAM);
	mp_write_str_len(writer, stream, stream_len);
}

void put_u64(struct mp_writer *writer, enum key key, uint64_t value)
{
	mp_write_key(writer, key);
	mp_write_u64(writer, value);
}

void put_bytes(struct mp_writer *writer, enum key key, const void *bytes, size_t len)
{
	mp_write_key(writer, key);
	mp_write_bin(writer, bytes, len);
}

int options_read(void *ret, size_t size, const void *given, ironwal_error *error)
{
	size_t given_size;
	if (given == NULL)
		return 0;
	memcpy(&given_size, given, sizeof(given_size)); /* struct_size is the first member of each */
	if (given_size < sizeof(given_size))
		return cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT,
			"options: begin with their IRONWAL_..._OPTIONS_INIT (struct_size is %zu)", given_size);
	memcpy(ret, given, given_size < size ? given_size : size);
	return 0;
}

int field_u32(const struct fields *fields, enum key key, uint32_t *ret_value, struct error *err)
{
	uint64_t value;
	if (field_u64(fields, key, &value, err) != 0)
		return -1;
	if (value > UINT32_MAX)
		return error_set(err, ERR_SERIALIZATION, "%s is out of range", key_name(key));
	*ret_value = (uint32_t)value;
	return 0;
}
