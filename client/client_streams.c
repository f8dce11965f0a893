/* What there is to know of streams, and what can be done with them besides appending and reading. */
#include <stdlib.h>

#include "client_connection.h"

int ironwal_get_stream_info(
	ironwal *connection, const char *stream, size_t stream_len, ironwal_stream_info *ret_info, ironwal_error *error)
{
	struct mp_writer *w;
	struct core_answer answer;
	struct error err;
	ironwal_stream_info info;
	if (call_begin(connection, METHOD_STREAM_INFO, 1, &w, error) != 0)
		return -1;
	put_stream(w, stream, stream_len);
	if (call_end(connection, 0, &answer, error) != 0)
		return -1;
	const struct fields *fields = &answer.response.fields;
	if (field_u64(fields, KEY_FIRST, &info.first, &err) != 0 || field_u64(fields, KEY_END, &info.end, &err) != 0 ||
		field_u64(fields, KEY_DURABLE_END, &info.durable_end, &err) != 0 ||
		field_u64(fields, KEY_SEGMENTS, &info.segments, &err) != 0 ||
		field_u64(fields, KEY_BYTES, &info.bytes, &err) != 0)
		return call_reject(connection, &answer, &err, error);
	call_free(&answer);
	*ret_info = info;
	return 0;
}

int ironwal_truncate(ironwal *connection, const char *stream, size_t stream_len, uint64_t safe_id,
	uint64_t *ret_segments_deleted, ironwal_error *error)
{
	struct mp_writer *w;
	struct core_answer answer;
	struct error err;
	uint64_t deleted;
	if (call_begin(connection, METHOD_TRUNCATE, 2, &w, error) != 0)
		return -1;
	put_stream(w, stream, stream_len);
	put_u64(w, KEY_SAFE_ID, safe_id);
	if (call_end(connection, 0, &answer, error) != 0)
		return -1;
	if (field_u64(&answer.response.fields, KEY_SEGMENTS_DELETED, &deleted, &err) != 0) {
		call_reject(connection, &answer, &err, error);
		return cerr_fate(error, IRONWAL_FATE_WRITTEN, false);
	}
	call_free(&answer);
	if (ret_segments_deleted != NULL)
		*ret_segments_deleted = deleted;
	return 0;
}

int ironwal_current_segment_start_id(
	ironwal *connection, const char *stream, size_t stream_len, uint64_t *ret_id, ironwal_error *error)
{
	struct mp_writer *w;
	struct core_answer answer;
	struct error err;
	uint64_t id;
	if (call_begin(connection, METHOD_CURRENT_SEGMENT_START_ID, 1, &w, error) != 0)
		return -1;
	put_stream(w, stream, stream_len);
	if (call_end(connection, 0, &answer, error) != 0)
		return -1;
	if (!fields_has(&answer.response.fields, KEY_ID)) {
		call_free(&answer);
		return 0;
	}
	if (field_u64(&answer.response.fields, KEY_ID, &id, &err) != 0)
		return call_reject(connection, &answer, &err, error);
	call_free(&answer);
	*ret_id = id;
	return 1;
}

int ironwal_sync(ironwal *connection, const char *stream, size_t stream_len, ironwal_error *error)
{
	struct mp_writer *w;
	struct core_answer answer;
	bool all = stream == NULL && stream_len == 0;
	if (call_begin(connection, METHOD_SYNC, all ? 0 : 1, &w, error) != 0)
		return -1;
	if (!all)
		put_stream(w, stream, stream_len);
	if (call_end(connection, 0, &answer, error) != 0)
		return -1;
	call_free(&answer);
	return 0;
}

/* ---- names ---- */

struct ironwal_names {
	uint8_t *payload;
	struct span *spans; /* into payload */
	size_t count;
	bool more;
};

int ironwal_list_streams(ironwal *connection, const char *prefix, size_t prefix_len, const char *after,
	size_t after_len, uint64_t limit, ironwal_names **ret_names, ironwal_error *error)
{
	struct mp_writer *w;
	struct core_answer answer;
	struct byte_array array;
	struct error err;
	bool more;
	if (call_begin(connection, METHOD_LIST_STREAMS,
		    (size_t)(prefix_len > 0) + (size_t)(after_len > 0) + (size_t)(limit > 0), &w, error) != 0)
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
	if (call_end(connection, 0, &answer, error) != 0)
		return -1;
	if (field_byte_array(&answer.response.fields, KEY_STREAMS, false, &array, &err) != 0 ||
		field_bool(&answer.response.fields, KEY_MORE, &more, &err) != 0)
		return call_reject(connection, &answer, &err, error);
	if (more && array.count == 0) {
		/* Who pages through would turn in a circle. */
		error_set(&err, ERR_SERIALIZATION, "there are more streams after none");
		return call_reject(connection, &answer, &err, error);
	}
	struct ironwal_names *names = calloc(1, sizeof(*names));
	struct span *spans = calloc((size_t)array.count + 1, sizeof(*spans));
	if (names == NULL || spans == NULL) {
		free(names);
		free(spans);
		call_free(&answer);
		return cerr_no_memory(error);
	}
	struct byte_iter iter = byte_iter_of(&array);
	for (size_t i = 0; byte_iter_next(&iter, &spans[i]); i++)
		;
	names->payload = answer.payload;
	names->spans = spans;
	names->count = array.count;
	names->more = more;
	*ret_names = names;
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
	free(names->payload);
	free(names->spans);
	free(names);
}
