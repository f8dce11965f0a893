/* What there is to know of streams, and what can be done with them besides appending and reading. */
#include "client_call.h"
#include "client_memory.h"

/* A request whose one param is a stream's name. */
static int put_with_stream(ironwal *connection, enum how how, enum method method, const char *stream, size_t stream_len,
	uint32_t *ret_msgid, ironwal_error *error)
{
	struct mp_writer *w;
	if (call_begin_plain(connection, method, how, 1, &w, error) != 0)
		return -1;
	put_stream(w, stream, stream_len);
	return call_commit(connection, 0, ret_msgid, error);
}

/* ---- info ---- */

int read_stream_info(
	const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err)
{
	const struct fields *fields = &answer->response.fields;
	ironwal_stream_info *info = &result->info;
	(void)connection;
	if (field_u64(fields, KEY_FIRST, &info->first, err) != 0 || field_u64(fields, KEY_END, &info->end, err) != 0 ||
		field_u64(fields, KEY_DURABLE_END, &info->durable_end, err) != 0 ||
		field_u64(fields, KEY_SEGMENTS, &info->segments, err) != 0)
		return -1;
	return field_u64(fields, KEY_BYTES, &info->bytes, err);
}

int ironwal_submit_get_stream_info(
	ironwal *connection, const char *stream, size_t stream_len, uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection,
		put_with_stream(connection, SUBMITTED, METHOD_STREAM_INFO, stream, stream_len, ret_request_id, error));
}

int ironwal_get_stream_info(
	ironwal *connection, const char *stream, size_t stream_len, ironwal_stream_info *ret_info, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t id;
	if (put_with_stream(connection, BLOCKING, METHOD_STREAM_INFO, stream, stream_len, &id, error) != 0 ||
		call_wait(connection, id, 0, &result, error) != 0)
		return -1;
	*ret_info = result.info;
	return 0;
}

/* ---- truncate ---- */

int read_segments_deleted(
	const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err)
{
	(void)connection;
	result->is_there = true;
	return field_u64(&answer->response.fields, KEY_SEGMENTS_DELETED, &result->number, err);
}

static int put_truncate(ironwal *connection, enum how how, const char *stream, size_t stream_len, uint64_t safe_id,
	uint32_t *ret_msgid, ironwal_error *error)
{
	struct mp_writer *w;
	if (call_begin_plain(connection, METHOD_TRUNCATE, how, 2, &w, error) != 0)
		return -1;
	put_stream(w, stream, stream_len);
	put_u64(w, KEY_SAFE_ID, safe_id);
	return call_commit(connection, 0, ret_msgid, error);
}

int ironwal_submit_truncate(ironwal *connection, const char *stream, size_t stream_len, uint64_t safe_id,
	uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(
		connection, put_truncate(connection, SUBMITTED, stream, stream_len, safe_id, ret_request_id, error));
}

int ironwal_truncate(ironwal *connection, const char *stream, size_t stream_len, uint64_t safe_id,
	uint64_t *ret_segments_deleted, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t id;
	if (put_truncate(connection, BLOCKING, stream, stream_len, safe_id, &id, error) != 0 ||
		call_wait(connection, id, 0, &result, error) != 0)
		return -1;
	if (ret_segments_deleted != NULL)
		*ret_segments_deleted = result.number;
	return 0;
}

/* ---- the segment that is written ---- */

int read_segment_start(
	const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err)
{
	(void)connection;
	result->is_there = fields_has(&answer->response.fields, KEY_ID);
	return result->is_there ? field_u64(&answer->response.fields, KEY_ID, &result->number, err) : 0;
}

int ironwal_submit_current_segment_start_id(
	ironwal *connection, const char *stream, size_t stream_len, uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection, put_with_stream(connection, SUBMITTED, METHOD_CURRENT_SEGMENT_START_ID, stream,
					     stream_len, ret_request_id, error));
}

int ironwal_current_segment_start_id(
	ironwal *connection, const char *stream, size_t stream_len, uint64_t *ret_id, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t id;
	if (put_with_stream(connection, BLOCKING, METHOD_CURRENT_SEGMENT_START_ID, stream, stream_len, &id, error) !=
			0 ||
		call_wait(connection, id, 0, &result, error) != 0)
		return -1;
	if (!result.is_there)
		return 0;
	*ret_id = result.number;
	return 1;
}

/* ---- sync ---- */

static int put_sync(ironwal *connection, enum how how, const char *stream, size_t stream_len, uint32_t *ret_msgid,
	ironwal_error *error)
{
	struct mp_writer *w;
	bool all = stream == NULL && stream_len == 0;
	if (call_begin_plain(connection, METHOD_SYNC, how, all ? 0 : 1, &w, error) != 0)
		return -1;
	if (!all)
		put_stream(w, stream, stream_len);
	return call_commit(connection, 0, ret_msgid, error);
}

int ironwal_submit_sync(
	ironwal *connection, const char *stream, size_t stream_len, uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection, put_sync(connection, SUBMITTED, stream, stream_len, ret_request_id, error));
}

int ironwal_sync(ironwal *connection, const char *stream, size_t stream_len, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t id;
	if (put_sync(connection, BLOCKING, stream, stream_len, &id, error) != 0)
		return -1;
	return call_wait(connection, id, 0, &result, error);
}

/* ---- names ---- */

struct ironwal_names {
	uint8_t *payload;   /* a block, and so are the spans */
	struct span *spans; /* into payload */
	size_t count;
	bool more;
};

int read_names(const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err)
{
	const struct mem *mem = block_mem(connection);
	struct byte_array array;
	bool more;
	if (field_byte_array(&answer->response.fields, KEY_STREAMS, false, &array, err) != 0 ||
		field_bool(&answer->response.fields, KEY_MORE, &more, err) != 0)
		return -1;
	if (more && array.count == 0) /* who pages through would turn in a circle */
		return error_set(err, ERR_SERIALIZATION, "there are more streams after none");
	struct ironwal_names *names = block_new(mem, sizeof(*names));
	struct span *spans = block_array(mem, (size_t)array.count + 1, sizeof(*spans));
	if (names == NULL || spans == NULL) {
		block_free(names);
		block_free(spans);
		return READ_NO_MEMORY;
	}
	struct byte_iter iter = byte_iter_of(&array);
	for (size_t i = 0; byte_iter_next(&iter, &spans[i]); i++)
		;
	*names = (struct ironwal_names){answer->payload, spans, array.count, more};
	answer->payload = NULL;
	result->names = names;
	return 0;
}

static int put_list_streams(ironwal *connection, enum how how, const char *prefix, size_t prefix_len, const char *after,
	size_t after_len, uint64_t limit, uint32_t *ret_msgid, ironwal_error *error)
{
	struct mp_writer *w;
	size_t params = (size_t)(prefix_len > 0) + (size_t)(after_len > 0) + (size_t)(limit > 0);
	if (call_begin_plain(connection, METHOD_LIST_STREAMS, how, params, &w, error) != 0)
		return -1;
	if (prefix_len > 0) {
		mp_write_key(w, KEY_PREFIX);
		mp_write_str_len(w, prefix, prefix_len);
	}
	if (after_len > 0) {
		mp_write_key(w, KEY_AFTER);
		mp_write_str_len(w, after, after_len);
	}
	if (limit > 0)
		put_u64(w, KEY_LIMIT, limit);
	return call_commit(connection, 0, ret_msgid, error);
}

int ironwal_submit_list_streams(ironwal *connection, const char *prefix, size_t prefix_len, const char *after,
	size_t after_len, uint64_t limit, uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection, put_list_streams(connection, SUBMITTED, prefix, prefix_len, after, after_len,
					     limit, ret_request_id, error));
}

int ironwal_list_streams(ironwal *connection, const char *prefix, size_t prefix_len, const char *after,
	size_t after_len, uint64_t limit, ironwal_names **ret_names, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t id;
	if (put_list_streams(connection, BLOCKING, prefix, prefix_len, after, after_len, limit, &id, error) != 0 ||
		call_wait(connection, id, 0, &result, error) != 0)
		return -1;
	*ret_names = result.names;
	return 0;
}

size_t ironwal_names_count(const ironwal_names *names)
{
	return names->count;
}

const char *ironwal_names_get(const ironwal_names *names, size_t index, size_t *ret_len)
{
	if (index >= names->count)
		return NULL;
	*ret_len = names->spans[index].len;
	return (const char *)names->spans[index].data;
}

int ironwal_names_more(const ironwal_names *names)
{
	return names->more;
}

void ironwal_names_free(ironwal_names *names)
{
	if (names == NULL)
		return;
	block_free(names->payload);
	block_free(names->spans);
	block_free(names);
}
