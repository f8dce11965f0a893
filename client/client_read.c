/* Reading entries, and walking a stream or a shard. */
#include <stdlib.h>
#include <string.h>

#include "client_connection.h"

/* ---- one entry ---- */

int ironwal_get(ironwal *connection, const char *stream, size_t stream_len, uint64_t id, void **ret_entry,
	size_t *ret_len, ironwal_error *error)
{
	struct mp_writer *w;
	struct core_answer answer;
	struct error err;
	struct span bytes;
	if (call_begin(connection, METHOD_GET, 2, &w, error) != 0)
		return -1;
	put_stream(w, stream, stream_len);
	put_u64(w, KEY_ID, id);
	if (call_end(connection, 0, &answer, error) != 0)
		return -1;
	if (!fields_has(&answer.response.fields, KEY_ENTRY)) {
		call_free(&answer);
		*ret_entry = NULL;
		*ret_len = 0;
		return 0;
	}
	if (field_bytes(&answer.response.fields, KEY_ENTRY, &bytes, &err) != 0)
		return call_reject(connection, &answer, &err, error);
	/* The answer's own memory becomes the entry's. */
	memmove(answer.payload, bytes.data, bytes.len);
	*ret_entry = answer.payload;
	*ret_len = bytes.len;
	return 0;
}

void ironwal_entry_free(void *entry)
{
	free(entry);
}

/* ---- many entries ---- */

struct ironwal_entries {
	uint8_t *payload;
	struct span *spans; /* into payload; data NULL: missing */
	uint64_t *ids;	    /* get_batch; NULL: consecutive from first */
	size_t count;
	uint64_t first, next, end;
};

void ironwal_entries_free(ironwal_entries *entries)
{
	if (entries == NULL)
		return;
	free(entries->payload);
	free(entries->spans);
	free(entries->ids);
	free(entries);
}

/* Takes the payload over. -1 with reason NULL: no memory. */
static struct ironwal_entries *entries_new(struct core_answer *answer, const struct byte_array *array)
{
	struct ironwal_entries *entries = calloc(1, sizeof(*entries));
	struct span *spans = calloc((size_t)array->count + 1, sizeof(*spans));
	if (entries == NULL || spans == NULL) {
		free(entries);
		free(spans);
		call_free(answer);
		return NULL;
	}
	struct byte_iter iter = byte_iter_of(array);
	for (size_t i = 0; byte_iter_next(&iter, &spans[i]); i++)
		;
	entries->payload = answer->payload;
	entries->spans = spans;
	entries->count = array->count;
	return entries;
}

int ironwal_get_batch(ironwal *connection, const char *stream, size_t stream_len, const uint64_t *ids, size_t count,
	ironwal_entries **ret_entries, ironwal_error *error)
{
	struct mp_writer *w;
	struct core_answer answer;
	struct byte_array array;
	struct error err;
	if (count > ARRAY_ELEMENTS_MAX) {
		cerr_too_large(error, "ids in the request", ARRAY_ELEMENTS_MAX, count);
		return cerr_fate(error, IRONWAL_FATE_NOT_A_WRITE, false);
	}
	uint64_t *ids_copy = calloc(count + 1, sizeof(*ids_copy));
	if (ids_copy == NULL)
		return cerr_no_memory(error);
	if (call_begin(connection, METHOD_GET_BATCH, 2, &w, error) != 0)
		goto fail;
	put_stream(w, stream, stream_len);
	mp_write_key(w, KEY_IDS);
	mp_write_array(w, count);
	for (size_t i = 0; i < count; i++) {
		ids_copy[i] = ids[i];
		mp_write_u64(w, ids[i]);
	}
	if (call_end(connection, 0, &answer, error) != 0)
		goto fail;
	if (field_byte_array(&answer.response.fields, KEY_ENTRIES, true, &array, &err) != 0) {
		call_reject(connection, &answer, &err, error);
		goto fail;
	}
	if (array.count != count) {
		error_set(&err, ERR_SERIALIZATION, "%u entries for %zu ids", array.count, count);
		call_reject(connection, &answer, &err, error);
		goto fail;
	}
	struct ironwal_entries *entries = entries_new(&answer, &array);
	if (entries == NULL) {
		cerr_no_memory(error);
		goto fail;
	}
	entries->ids = ids_copy;
	*ret_entries = entries;
	return 0;
fail:
	free(ids_copy);
	return -1;
}

static int read_iter_answer(const struct fields *fields, const ironwal_read_options *options, struct byte_array *array,
	uint64_t *first, uint64_t *next, uint64_t *end, struct error *err)
{
	if (field_byte_array(fields, KEY_ENTRIES, false, array, err) != 0 ||
		field_u64(fields, KEY_FIRST, first, err) != 0 || field_u64(fields, KEY_NEXT, next, err) != 0 ||
		field_u64(fields, KEY_END, end, err) != 0)
		return -1;
	/* A reader must never skip entries without knowing. */
	if (*next < *first || *next - *first != array->count)
		return error_set(err, ERR_SERIALIZATION, "next does not follow from first and the entries");
	if (options->has_start_id && *first != options->start_id)
		return error_set(err, ERR_SERIALIZATION, "the entries do not begin at the id that was asked for");
	return 0;
}

static void copy_read_options(const ironwal_read_options *given, ironwal_read_options *ret_options)
{
	const ironwal_read_options defaults = IRONWAL_READ_OPTIONS_INIT;
	*ret_options = defaults;
	if (given != NULL)
		memcpy(ret_options, given,
			given->struct_size < sizeof(defaults) ? given->struct_size : sizeof(defaults));
}

/* What is read: a stream, or the log of a shard by its number. */
struct source {
	const char *stream; /* NULL: the shard */
	size_t stream_len;
	uint32_t shard;
};

static int read_source(ironwal *connection, const struct source *source, const ironwal_read_options *given,
	ironwal_entries **ret_entries, ironwal_error *error)
{
	ironwal_read_options options;
	struct mp_writer *w;
	struct core_answer answer;
	struct byte_array array;
	struct error err;
	uint64_t first, next, end;
	copy_read_options(given, &options);
	size_t params = 1u + (options.has_start_id != 0) + (options.max_entries != 0) + (options.max_bytes != 0) +
			(options.wait_ms != 0);
	bool is_stream = source->stream != NULL;
	if (call_begin(connection, is_stream ? METHOD_ITER : METHOD_ITER_SHARD, params, &w, error) != 0)
		return -1;
	if (is_stream)
		put_stream(w, source->stream, source->stream_len);
	else
		put_u64(w, KEY_SHARD, source->shard);
	if (options.has_start_id)
		put_u64(w, KEY_START_ID, options.start_id);
	if (options.max_entries != 0)
		put_u64(w, KEY_MAX_ENTRIES, options.max_entries);
	if (options.max_bytes != 0)
		put_u64(w, KEY_MAX_BYTES, options.max_bytes);
	if (options.wait_ms != 0)
		put_u64(w, KEY_WAIT_MS, options.wait_ms);
	if (call_end(connection, options.wait_ms, &answer, error) != 0)
		return -1;
	if (read_iter_answer(&answer.response.fields, &options, &array, &first, &next, &end, &err) != 0)
		return call_reject(connection, &answer, &err, error);
	struct ironwal_entries *entries = entries_new(&answer, &array);
	if (entries == NULL)
		return cerr_no_memory(error);
	entries->first = first;
	entries->next = next;
	entries->end = end;
	*ret_entries = entries;
	return 0;
}

int ironwal_read(ironwal *connection, const char *stream, size_t stream_len, const ironwal_read_options *options,
	ironwal_entries **ret_entries, ironwal_error *error)
{
	/* An empty name may be NULL; it is the server that refuses it. */
	const struct source source = {.stream = stream != NULL ? stream : "", .stream_len = stream_len};
	return read_source(connection, &source, options, ret_entries, error);
}

int ironwal_read_shard(ironwal *connection, uint32_t shard, const ironwal_read_options *options,
	ironwal_entries **ret_entries, ironwal_error *error)
{
	const struct source source = {.shard = shard};
	return read_source(connection, &source, options, ret_entries, error);
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

/* ---- iterators ---- */

struct ironwal_iterator {
	ironwal *connection;
	char *name; /* of source, which points to it; NULL for a shard */
	struct source source;
	ironwal_read_options options;	 /* has_start_id, start_id: of the next request */
	struct ironwal_entries *entries; /* of the last answer */
	size_t index;			 /* in entries: the next one to give */
};

/* Takes name over. */
static int iterator_open(ironwal *connection, char *name, const struct source *source,
	const ironwal_read_options *options, ironwal_iterator **ret_iterator, ironwal_error *error)
{
	struct ironwal_iterator *iterator = calloc(1, sizeof(*iterator));
	if (iterator == NULL) {
		free(name);
		return cerr_no_memory(error);
	}
	iterator->connection = connection;
	iterator->name = name;
	iterator->source = *source;
	copy_read_options(options, &iterator->options);
	iterator->options.struct_size = sizeof(iterator->options);
	*ret_iterator = iterator;
	return 0;
}

int ironwal_iterator_open(ironwal *connection, const char *stream, size_t stream_len,
	const ironwal_read_options *options, ironwal_iterator **ret_iterator, ironwal_error *error)
{
	char *name = malloc(stream_len > 0 ? stream_len : 1);
	if (name == NULL)
		return cerr_no_memory(error);
	if (stream_len > 0)
		memcpy(name, stream, stream_len);
	const struct source source = {.stream = name, .stream_len = stream_len};
	return iterator_open(connection, name, &source, options, ret_iterator, error);
}

int ironwal_shard_iterator_open(ironwal *connection, uint32_t shard, const ironwal_read_options *options,
	ironwal_iterator **ret_iterator, ironwal_error *error)
{
	const struct source source = {.shard = shard};
	return iterator_open(connection, NULL, &source, options, ret_iterator, error);
}

int ironwal_iterator_buffered(const ironwal_iterator *iterator)
{
	return iterator->entries != NULL && iterator->index < iterator->entries->count;
}

int ironwal_iterator_next(
	ironwal_iterator *iterator, uint64_t *ret_id, const void **ret_data, size_t *ret_len, ironwal_error *error)
{
	if (!ironwal_iterator_buffered(iterator)) {
		struct ironwal_entries *entries;
		if (read_source(iterator->connection, &iterator->source, &iterator->options, &entries, error) != 0)
			return -1;
		ironwal_entries_free(iterator->entries);
		iterator->entries = entries;
		iterator->index = 0;
		iterator->options.has_start_id = 1;
		iterator->options.start_id = entries->next;
		if (entries->count == 0)
			return 0;
	}
	return ironwal_entries_get(iterator->entries, iterator->index++, ret_id, ret_data, ret_len);
}

int ironwal_iterator_next_id(const ironwal_iterator *iterator, uint64_t *ret_id)
{
	if (!iterator->options.has_start_id)
		return 0;
	*ret_id = ironwal_iterator_buffered(iterator) ? iterator->entries->first + iterator->index
						      : iterator->options.start_id;
	return 1;
}

void ironwal_iterator_rebind(ironwal_iterator *iterator, ironwal *connection)
{
	iterator->connection = connection;
}

void ironwal_iterator_free(ironwal_iterator *iterator)
{
	if (iterator == NULL)
		return;
	ironwal_entries_free(iterator->entries);
	free(iterator->name);
	free(iterator);
}
