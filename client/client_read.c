/* Reading entries: one, those of a list of ids, and consecutive ones of a stream or a shard. */
#include <string.h>

#include "client_entries.h"
#include "client_memory.h"

/* ---- one entry ---- */

int read_entry(const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err)
{
	struct span bytes;
	(void)connection;
	result->is_there = fields_has(&answer->response.fields, KEY_ENTRY);
	if (!result->is_there)
		return 0;
	if (field_bytes(&answer->response.fields, KEY_ENTRY, &bytes, err) != 0)
		return -1;
	result->entry.payload = answer->payload;
	result->entry.data = bytes.data;
	result->entry.len = bytes.len;
	answer->payload = NULL;
	return 0;
}

void *entry_take(struct ironwal_result *result, size_t *ret_len)
{
	uint8_t *entry = result->entry.payload;
	if (entry == NULL)
		return NULL;
	/* The answer's own memory becomes the entry's. */
	memmove(entry, result->entry.data, result->entry.len);
	*ret_len = result->entry.len;
	result->entry.payload = NULL;
	return entry;
}

void ironwal_entry_free(void *entry)
{
	block_free(entry);
}

static int put_get(ironwal *connection, enum how how, const char *stream, size_t stream_len, uint64_t id,
	uint32_t *ret_msgid, ironwal_error *error)
{
	struct mp_writer *w;
	if (call_begin_plain(connection, METHOD_GET, how, 2, &w, error) != 0)
		return -1;
	put_stream(w, stream, stream_len);
	put_u64(w, KEY_ID, id);
	return call_commit(connection, 0, ret_msgid, error);
}

int ironwal_submit_get(ironwal *connection, const char *stream, size_t stream_len, uint64_t id,
	uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection, put_get(connection, SUBMITTED, stream, stream_len, id, ret_request_id, error));
}

int ironwal_get(ironwal *connection, const char *stream, size_t stream_len, uint64_t id, void **ret_entry,
	size_t *ret_len, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t request_id;
	if (put_get(connection, BLOCKING, stream, stream_len, id, &request_id, error) != 0 ||
		call_wait(connection, request_id, 0, &result, error) != 0)
		return -1;
	*ret_len = 0;
	*ret_entry = result.is_there ? entry_take(&result, ret_len) : NULL;
	return 0;
}

/* ---- many entries ---- */

void ironwal_entries_free(ironwal_entries *entries)
{
	if (entries == NULL)
		return;
	block_free(entries->payload);
	block_free(entries->spans);
	block_free(entries->ids);
	block_free(entries);
}

/* Takes the payload over. NULL: no memory. */
static struct ironwal_entries *entries_new(struct core_answer *answer, const struct byte_array *array)
{
	const struct mem *mem = block_mem(answer->payload);
	struct ironwal_entries *entries = block_new(mem, sizeof(*entries));
	struct span *spans = block_array(mem, (size_t)array->count + 1, sizeof(*spans));
	if (entries == NULL || spans == NULL) {
		block_free(entries);
		block_free(spans);
		return NULL;
	}
	struct byte_iter iter = byte_iter_of(array);
	for (size_t i = 0; byte_iter_next(&iter, &spans[i]); i++)
		;
	entries->payload = answer->payload;
	entries->spans = spans;
	entries->count = array->count;
	answer->payload = NULL;
	return entries;
}

int read_entries(
	const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err)
{
	struct byte_array array;
	(void)connection;
	if (field_byte_array(&answer->response.fields, KEY_ENTRIES, true, &array, err) != 0)
		return -1;
	if (array.count != answer->request.count)
		return error_set(err, ERR_SERIALIZATION, "%u entries for %llu ids", array.count,
			(unsigned long long)answer->request.count);
	result->entries = entries_new(answer, &array);
	if (result->entries == NULL)
		return READ_NO_MEMORY;
	result->entries->ids = answer->request.memory;
	answer->request.memory = NULL;
	return 0;
}

static int put_get_batch(ironwal *connection, enum how how, const char *stream, size_t stream_len, const uint64_t *ids,
	size_t count, uint32_t *ret_msgid, ironwal_error *error)
{
	struct core_request request = call_request(METHOD_GET_BATCH, how);
	struct mp_writer *w;
	if (count > ARRAY_ELEMENTS_MAX) {
		cerr_too_large(error, "ids in the request", ARRAY_ELEMENTS_MAX, count);
		return cerr_fate(error, IRONWAL_FATE_NOT_A_WRITE, false);
	}
	uint64_t *copies = block_array(block_mem(connection), count + 1, sizeof(*copies));
	if (copies == NULL)
		return cerr_no_memory(error);
	if (count > 0)
		memcpy(copies, ids, count * sizeof(*ids));
	request.count = count;
	request.memory = copies;
	if (call_begin(connection, &request, 2, &w, error) != 0)
		return -1;
	put_stream(w, stream, stream_len);
	mp_write_key(w, KEY_IDS);
	mp_write_array(w, count);
	for (size_t i = 0; i < count; i++)
		mp_write_u64(w, ids[i]);
	return call_commit(connection, 0, ret_msgid, error);
}

int ironwal_submit_get_batch(ironwal *connection, const char *stream, size_t stream_len, const uint64_t *ids,
	size_t count, uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection,
		put_get_batch(connection, SUBMITTED, stream, stream_len, ids, count, ret_request_id, error));
}

/* What a blocking read ends with. */
static int wait_for_entries(
	ironwal *connection, uint32_t id, uint64_t extra_ms, ironwal_entries **ret_entries, ironwal_error *error)
{
	struct ironwal_result result;
	if (call_wait(connection, id, extra_ms, &result, error) != 0)
		return -1;
	*ret_entries = result.entries;
	return 0;
}

int ironwal_get_batch(ironwal *connection, const char *stream, size_t stream_len, const uint64_t *ids, size_t count,
	ironwal_entries **ret_entries, ironwal_error *error)
{
	uint32_t id;
	if (put_get_batch(connection, BLOCKING, stream, stream_len, ids, count, &id, error) != 0)
		return -1;
	return wait_for_entries(connection, id, 0, ret_entries, error);
}

int read_iter(const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err)
{
	const struct fields *fields = &answer->response.fields;
	const struct core_request *request = &answer->request;
	struct byte_array array;
	uint64_t first, next, end;
	(void)connection;
	if (field_byte_array(fields, KEY_ENTRIES, false, &array, err) != 0 ||
		field_u64(fields, KEY_FIRST, &first, err) != 0 || field_u64(fields, KEY_NEXT, &next, err) != 0 ||
		field_u64(fields, KEY_END, &end, err) != 0)
		return -1;
	/* A reader must never skip entries without knowing. */
	if (next < first || next - first != array.count)
		return error_set(err, ERR_SERIALIZATION, "next does not follow from first and the entries");
	if (request->has_start_id && first != request->start_id)
		return error_set(err, ERR_SERIALIZATION, "the entries do not begin at the id that was asked for");
	result->entries = entries_new(answer, &array);
	if (result->entries == NULL)
		return READ_NO_MEMORY;
	result->entries->first = first;
	result->entries->next = next;
	result->entries->end = end;
	return 0;
}

int put_read(ironwal *connection, enum how how, const struct source *source, const ironwal_read_options *options,
	uint32_t *ret_msgid, ironwal_error *error)
{
	bool is_stream = source->stream != NULL;
	struct core_request request = call_request(is_stream ? METHOD_ITER : METHOD_ITER_SHARD, how);
	struct mp_writer *w;
	size_t params = 1u + (options->has_start_id != 0) + (options->max_entries != 0) + (options->max_bytes != 0) +
			(options->wait_ms != 0);
	request.has_start_id = options->has_start_id != 0;
	request.start_id = options->start_id;
	if (call_begin(connection, &request, params, &w, error) != 0)
		return -1;
	if (is_stream)
		put_stream(w, source->stream, source->stream_len);
	else
		put_u64(w, KEY_SHARD, source->shard);
	if (options->has_start_id)
		put_u64(w, KEY_START_ID, options->start_id);
	if (options->max_entries != 0)
		put_u64(w, KEY_MAX_ENTRIES, options->max_entries);
	if (options->max_bytes != 0)
		put_u64(w, KEY_MAX_BYTES, options->max_bytes);
	if (options->wait_ms != 0)
		put_u64(w, KEY_WAIT_MS, options->wait_ms);
	return call_commit(connection, options->wait_ms, ret_msgid, error);
}

static int read_submitted(ironwal *connection, const struct source *source, const ironwal_read_options *given,
	uint32_t *ret_request_id, ironwal_error *error)
{
	ironwal_read_options options = IRONWAL_READ_OPTIONS_INIT;
	if (options_read(&options, sizeof(options), given, error) != 0)
		return -1;
	return submitted(connection, put_read(connection, SUBMITTED, source, &options, ret_request_id, error));
}

static int read_and_wait(ironwal *connection, const struct source *source, const ironwal_read_options *given,
	ironwal_entries **ret_entries, ironwal_error *error)
{
	ironwal_read_options options = IRONWAL_READ_OPTIONS_INIT;
	uint32_t id;
	if (options_read(&options, sizeof(options), given, error) != 0 ||
		put_read(connection, BLOCKING, source, &options, &id, error) != 0)
		return -1;
	return wait_for_entries(connection, id, options.wait_ms, ret_entries, error);
}

/* An empty name may be NULL; it is the server that refuses it. */
static struct source stream_source(const char *stream, size_t stream_len)
{
	return (struct source){.stream = stream != NULL ? stream : "", .stream_len = stream_len};
}

int ironwal_submit_read(ironwal *connection, const char *stream, size_t stream_len, const ironwal_read_options *options,
	uint32_t *ret_request_id, ironwal_error *error)
{
	const struct source source = stream_source(stream, stream_len);
	return read_submitted(connection, &source, options, ret_request_id, error);
}

int ironwal_read(ironwal *connection, const char *stream, size_t stream_len, const ironwal_read_options *options,
	ironwal_entries **ret_entries, ironwal_error *error)
{
	const struct source source = stream_source(stream, stream_len);
	return read_and_wait(connection, &source, options, ret_entries, error);
}

int ironwal_submit_read_shard(ironwal *connection, uint32_t shard, const ironwal_read_options *options,
	uint32_t *ret_request_id, ironwal_error *error)
{
	const struct source source = {.shard = shard};
	return read_submitted(connection, &source, options, ret_request_id, error);
}

int ironwal_read_shard(ironwal *connection, uint32_t shard, const ironwal_read_options *options,
	ironwal_entries **ret_entries, ironwal_error *error)
{
	const struct source source = {.shard = shard};
	return read_and_wait(connection, &source, options, ret_entries, error);
}

size_t ironwal_entries_count(const ironwal_entries *entries)
{
	return entries->count;
}

int ironwal_entries_get(
	const ironwal_entries *entries, size_t index, uint64_t *ret_id, const void **ret_data, size_t *ret_len)
{
	if (index >= entries->count)
		return 0;
	if (ret_id != NULL)
		*ret_id = entries->ids != NULL ? entries->ids[index] : entries->first + index;
	if (entries->spans[index].data == NULL)
		return 0;
	*ret_data = entries->spans[index].data;
	*ret_len = entries->spans[index].len;
	return 1;
}

uint64_t ironwal_entries_next_id(const ironwal_entries *entries)
{
	return entries->next;
}

uint64_t ironwal_entries_end_id(const ironwal_entries *entries)
{
	return entries->end;
}
