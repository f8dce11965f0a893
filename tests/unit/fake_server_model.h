/*
 * fake_server_model: streams, shards and checkpoints in memory, for fake servers that really do what they are asked.
 *
 * Owns copies of the entries. It outlives connections; one thread at a time may use it: that of the fake server while a
 * connection lasts, the test's own after that (a step of the fake's tells).
 * Invariant: ids of a stream are without gaps; an append is applied in whole or not at all, and only at its
 * expected_id. model_execute leaves one answer, encoded, in answer_buf: whether it is sent is the script's business.
 */
#ifndef IRONWALD_FAKE_SERVER_MODEL_H
#define IRONWALD_FAKE_SERVER_MODEL_H

#include <pthread.h>

#include "fake_server.h"

#define MODEL_STREAMS 16
#define MODEL_SHARDS 4
#define MODEL_CHECKPOINTS 8

struct model_stream {
	char name[32];
	size_t name_len;
	struct model_entry {
		uint8_t *bytes;
		size_t len;
	} * entries;
	uint64_t first, end, cap; /* entries [0, end) are kept here, also those that were truncated away */
};

struct model {
	struct model_stream streams[MODEL_STREAMS];
	size_t stream_count;
	struct {
		char id[32];
		size_t id_len;
		uint64_t offsets[MODEL_SHARDS], timestamp;
	} checkpoints[MODEL_CHECKPOINTS];
	size_t checkpoint_count;
	uint64_t timestamp;
	uint64_t executed; /* appends that were applied */
	bool durable;	   /* what appends are answered with */
};

static inline void model_free(struct model *m)
{
	for (size_t i = 0; i < m->stream_count; i++) {
		for (uint64_t id = 0; id < m->streams[i].end; id++)
			free(m->streams[i].entries[id].bytes);
		free(m->streams[i].entries);
	}
	memset(m, 0, sizeof(*m));
}

/* NULL: it was never. */
static inline struct model_stream *model_find(struct model *m, const void *name, size_t len)
{
	for (size_t i = 0; i < m->stream_count; i++) {
		if (m->streams[i].name_len == len && memcmp(m->streams[i].name, name, len) == 0)
			return &m->streams[i];
	}
	return NULL;
}

static inline struct model_stream *model_make(struct model *m, const void *name, size_t len)
{
	struct model_stream *s = model_find(m, name, len);
	if (s != NULL)
		return s;
	MUST(m->stream_count < MODEL_STREAMS && len < sizeof(s->name));
	s = &m->streams[m->stream_count++];
	memcpy(s->name, name, len);
	s->name_len = len;
	return s;
}

static inline struct model_stream *model_shard(struct model *m, uint32_t shard)
{
	char name[IRONWAL_SHARD_NAME_MAX];
	size_t len = ironwal_shard_name(shard, name);
	return model_make(m, name, len);
}

static inline uint64_t model_append(struct model *m, struct model_stream *s, const void *bytes, size_t len)
{
	if (s->end == s->cap) {
		s->cap = s->cap == 0 ? 64 : s->cap * 2;
		s->entries = realloc(s->entries, s->cap * sizeof(*s->entries));
		MUST(s->entries != NULL);
	}
	uint8_t *copy = malloc(len + 1);
	MUST(copy != NULL);
	memcpy(copy, bytes, len);
	s->entries[s->end] = (struct model_entry){copy, len};
	m->executed++;
	return s->end++;
}

/* Whether the entry is these bytes. */
static inline bool model_is(const struct model_stream *s, uint64_t id, const void *bytes, size_t len)
{
	return s != NULL && id < s->end && s->entries[id].len == len &&
	       (len == 0 || memcmp(s->entries[id].bytes, bytes, len) == 0);
}

/* ---- answers, encoded and not sent ---- */

static inline void encode_done(void)
{
	MUST(frame_end(&answer) == 0);
}

static inline void encode_error(struct fake *f, const struct error *e)
{
	mp_writer_init(&answer, &answer_buf);
	MUST(response_error(&answer, f->request.msgid, e) == 0);
}

static inline void encode_empty(struct fake *f)
{
	answer_begin(f->request.msgid, 0);
	encode_done();
}

static inline void encode_number(struct fake *f, enum key key, uint64_t value)
{
	answer_begin(f->request.msgid, 1);
	answer_u64(key, value);
	encode_done();
}

static inline void answer_flush(struct fake *f)
{
	send_bytes(f, answer_buf.data, answer_buf.len);
	answer_buf.len = 0;
}

static inline struct span model_param(struct fake *f, enum key key)
{
	struct span bytes;
	MUST(field_bytes(&f->request.params, key, &bytes, NULL) == 0);
	return bytes;
}

/* ---- what requests do ---- */

/* False: it conflicts, and the answer says so. */
static inline bool model_expected(struct fake *f, const struct model_stream *s)
{
	struct error e;
	uint64_t expected, end = s != NULL ? s->end : 0;
	if (!fields_has(&f->request.params, KEY_EXPECTED_ID))
		return true;
	expected = param_u64(f, KEY_EXPECTED_ID);
	if (expected == end)
		return true;
	error_set(&e, ERR_CONFLICT, "the next id is not the expected one");
	error_set_u64(&e, EFI_EXPECTED, expected);
	error_set_u64(&e, EFI_ACTUAL, end);
	encode_error(f, &e);
	return false;
}

static inline void do_append(struct fake *f, struct model *m)
{
	struct span name = model_param(f, KEY_STREAM), entry = model_param(f, KEY_ENTRY);
	if (!model_expected(f, model_find(m, name.data, name.len)))
		return;
	uint64_t id = model_append(m, model_make(m, name.data, name.len), entry.data, entry.len);
	answer_begin(f->request.msgid, 2);
	answer_u64(KEY_ID, id);
	answer_bool(KEY_DURABLE, m->durable);
	encode_done();
}

static inline uint64_t append_all(struct fake *f, struct model *m, struct model_stream *s, enum key key)
{
	struct byte_array array;
	struct span bytes;
	uint64_t first = s->end;
	MUST(field_byte_array(&f->request.params, key, false, &array, NULL) == 0);
	for (struct byte_iter iter = byte_iter_of(&array); byte_iter_next(&iter, &bytes);)
		(void)model_append(m, s, bytes.data, bytes.len);
	return first;
}

static inline void do_append_batch(struct fake *f, struct model *m)
{
	struct span name = model_param(f, KEY_STREAM);
	if (!model_expected(f, model_find(m, name.data, name.len)))
		return;
	struct model_stream *s = model_make(m, name.data, name.len);
	uint64_t first = append_all(f, m, s, KEY_ENTRIES);
	answer_begin(f->request.msgid, 3);
	answer_u64(KEY_FIRST, first);
	answer_u64(KEY_END, s->end);
	answer_bool(KEY_DURABLE, m->durable);
	encode_done();
}

static inline void write_entry(const struct model_stream *s, uint64_t id)
{
	if (s != NULL && id >= s->first && id < s->end)
		mp_write_bin(&answer, s->entries[id].bytes, s->entries[id].len);
	else
		mp_write_nil(&answer);
}

static inline void do_get(struct fake *f, struct model *m)
{
	struct span name = model_param(f, KEY_STREAM);
	answer_begin(f->request.msgid, 1);
	mp_write_key(&answer, KEY_ENTRY);
	write_entry(model_find(m, name.data, name.len), param_u64(f, KEY_ID));
	encode_done();
}

static inline void do_get_batch(struct fake *f, struct model *m)
{
	struct span name = model_param(f, KEY_STREAM);
	struct u64_array ids;
	uint64_t id;
	MUST(field_u64_array(&f->request.params, KEY_IDS, &ids, NULL) == 0);
	answer_begin(f->request.msgid, 1);
	mp_write_key(&answer, KEY_ENTRIES);
	mp_write_array(&answer, ids.count);
	for (struct u64_iter iter = u64_iter_of(&ids); u64_iter_next(&iter, &id);)
		write_entry(model_find(m, name.data, name.len), id);
	encode_done();
}

/* It does not wait: wait_ms is passed over. */
static inline void do_iter(struct fake *f, struct model_stream *s)
{
	uint64_t start, max;
	struct error e;
	if (s == NULL) {
		error_set(&e, ERR_STREAM_NOT_FOUND, "there is no such stream");
		encode_error(f, &e);
		return;
	}
	MUST(field_u64_or(&f->request.params, KEY_START_ID, s->first, &start, NULL) == 0);
	MUST(field_u64_or(&f->request.params, KEY_MAX_ENTRIES, 1000, &max, NULL) == 0);
	if (start < s->first) {
		error_set(&e, ERR_TRUNCATED, "the entries are gone");
		error_set_u64(&e, EFI_FIRST_ID, s->first);
		encode_error(f, &e);
		return;
	}
	uint64_t end = start < s->end ? s->end : start;
	if (end - start > max)
		end = start + max;
	answer_begin(f->request.msgid, 4);
	answer_u64(KEY_FIRST, start);
	mp_write_key(&answer, KEY_ENTRIES);
	mp_write_array(&answer, (size_t)(end - start));
	for (uint64_t id = start; id < end; id++)
		write_entry(s, id);
	answer_u64(KEY_NEXT, end);
	answer_u64(KEY_END, s->end);
	encode_done();
}

static inline void do_stream_info(struct fake *f, struct model *m)
{
	struct span name = model_param(f, KEY_STREAM);
	const struct model_stream *s = model_find(m, name.data, name.len);
	struct error e;
	if (s == NULL) {
		error_set(&e, ERR_STREAM_NOT_FOUND, "there is no such stream");
		encode_error(f, &e);
		return;
	}
	answer_begin(f->request.msgid, 5);
	answer_u64(KEY_FIRST, s->first);
	answer_u64(KEY_END, s->end);
	answer_u64(KEY_DURABLE_END, s->end);
	answer_u64(KEY_SEGMENTS, 1);
	answer_u64(KEY_BYTES, 100 * s->end);
	encode_done();
}

static inline void do_truncate(struct fake *f, struct model *m)
{
	struct span name = model_param(f, KEY_STREAM);
	struct model_stream *s = model_make(m, name.data, name.len);
	uint64_t safe_id = param_u64(f, KEY_SAFE_ID);
	if (safe_id > s->first)
		s->first = safe_id < s->end ? safe_id : s->end;
	encode_number(f, KEY_SEGMENTS_DELETED, safe_id);
}

static inline void do_list_streams(struct fake *f, struct model *m)
{
	answer_begin(f->request.msgid, 2);
	mp_write_key(&answer, KEY_STREAMS);
	mp_write_array(&answer, m->stream_count);
	for (size_t i = 0; i < m->stream_count; i++)
		mp_write_str_len(&answer, m->streams[i].name, m->streams[i].name_len);
	answer_bool(KEY_MORE, false);
	encode_done();
}

static inline void do_shard_append(struct fake *f, struct model *m)
{
	struct span key = model_param(f, KEY_KEY), value = model_param(f, KEY_VALUE);
	uint32_t shard = ironwal_shard_of_key(key.data, key.len, MODEL_SHARDS);
	uint64_t id = model_append(m, model_shard(m, shard), value.data, value.len);
	answer_begin(f->request.msgid, 2);
	answer_u64(KEY_SHARD, shard);
	answer_u64(KEY_ID, id);
	encode_done();
}

static inline void do_shard_append_batch(struct fake *f, struct model *m)
{
	struct pair_array pairs;
	struct span key, value;
	MUST(field_pair_array(&f->request.params, KEY_ENTRIES, &pairs, NULL) == 0);
	answer_begin(f->request.msgid, 1);
	mp_write_key(&answer, KEY_RESULTS);
	mp_write_array(&answer, pairs.count);
	for (struct pair_iter iter = pair_iter_of(&pairs); pair_iter_next(&iter, &key, &value);) {
		uint32_t shard = ironwal_shard_of_key(key.data, key.len, MODEL_SHARDS);
		mp_write_array(&answer, 2);
		mp_write_u64(&answer, shard);
		mp_write_u64(&answer, model_append(m, model_shard(m, shard), value.data, value.len));
	}
	encode_done();
}

static inline void do_batch_for_key(struct fake *f, struct model *m)
{
	struct span key = model_param(f, KEY_KEY);
	uint32_t shard = ironwal_shard_of_key(key.data, key.len, MODEL_SHARDS);
	struct model_stream *s = model_shard(m, shard);
	uint64_t first = append_all(f, m, s, KEY_VALUES);
	answer_begin(f->request.msgid, 3);
	answer_u64(KEY_SHARD, shard);
	answer_u64(KEY_FIRST, first);
	answer_u64(KEY_END, s->end);
	encode_done();
}

static inline void encode_checkpoint(struct fake *f, struct model *m, size_t index, bool with_id)
{
	answer_begin(f->request.msgid, with_id ? 4 : 3);
	if (with_id) {
		mp_write_key(&answer, KEY_ID);
		mp_write_bin(&answer, m->checkpoints[index].id, m->checkpoints[index].id_len);
	}
	mp_write_key(&answer, KEY_OFFSETS);
	mp_write_array(&answer, MODEL_SHARDS);
	for (size_t i = 0; i < MODEL_SHARDS; i++)
		mp_write_u64(&answer, m->checkpoints[index].offsets[i]);
	answer_u64(KEY_TIMESTAMP, m->checkpoints[index].timestamp);
	answer_u64(KEY_SHARD_COUNT, MODEL_SHARDS);
	encode_done();
}

static inline size_t find_checkpoint(const struct model *m, struct span id)
{
	size_t i = 0;
	while (i < m->checkpoint_count &&
		(m->checkpoints[i].id_len != id.len || memcmp(m->checkpoints[i].id, id.data, id.len) != 0))
		i++;
	return i;
}

static inline void remove_checkpoint(struct model *m, size_t index)
{
	m->checkpoint_count--;
	memmove(&m->checkpoints[index], &m->checkpoints[index + 1],
		(m->checkpoint_count - index) * sizeof(m->checkpoints[0]));
}

static inline void do_create_checkpoint(struct fake *f, struct model *m)
{
	struct span id = model_param(f, KEY_ID);
	size_t index = find_checkpoint(m, id);
	if (index < m->checkpoint_count)
		remove_checkpoint(m, index);
	MUST(m->checkpoint_count < MODEL_CHECKPOINTS && id.len <= sizeof(m->checkpoints[0].id));
	index = m->checkpoint_count++;
	memcpy(m->checkpoints[index].id, id.data, id.len);
	m->checkpoints[index].id_len = id.len;
	m->checkpoints[index].timestamp = ++m->timestamp;
	for (uint32_t i = 0; i < MODEL_SHARDS; i++)
		m->checkpoints[index].offsets[i] = model_shard(m, i)->end;
	encode_checkpoint(f, m, index, false);
}

static inline void do_load_checkpoint(struct fake *f, struct model *m, bool latest)
{
	struct error e;
	size_t index = latest ? m->checkpoint_count - 1 : find_checkpoint(m, model_param(f, KEY_ID));
	if (index < m->checkpoint_count) {
		encode_checkpoint(f, m, index, latest);
		return;
	}
	error_set(&e, latest ? ERR_NO_CHECKPOINTS : ERR_CHECKPOINT_NOT_FOUND, "there is none");
	encode_error(f, &e);
}

static inline void do_list_checkpoints(struct fake *f, struct model *m)
{
	answer_begin(f->request.msgid, 1);
	mp_write_key(&answer, KEY_CHECKPOINTS);
	mp_write_array(&answer, m->checkpoint_count);
	for (size_t i = 0; i < m->checkpoint_count; i++) {
		mp_write_array(&answer, 2);
		mp_write_bin(&answer, m->checkpoints[i].id, m->checkpoints[i].id_len);
		mp_write_u64(&answer, m->checkpoints[i].timestamp);
	}
	encode_done();
}

static inline void do_compact(struct fake *f, struct model *m)
{
	size_t before = m->checkpoint_count;
	while (m->checkpoint_count > param_u64(f, KEY_KEEP_LATEST_N))
		remove_checkpoint(m, 0);
	answer_begin(f->request.msgid, 3);
	answer_u64(KEY_CHECKPOINTS_BEFORE, before);
	answer_u64(KEY_CHECKPOINTS_AFTER, m->checkpoint_count);
	answer_u64(KEY_BYTES_RECLAIMED, 7);
	encode_done();
}

static inline void do_prune(struct fake *f)
{
	answer_begin(f->request.msgid, 2);
	answer_u64(KEY_SHARDS_PRUNED, 2);
	answer_u64(KEY_SEGMENTS_DELETED, 5);
	encode_done();
}

static inline struct model_stream *param_stream(struct fake *f, struct model *m)
{
	struct span name = model_param(f, KEY_STREAM);
	return model_find(m, name.data, name.len);
}

/* Any request but hello: does it, and leaves the answer in answer_buf. */
static inline void model_execute(struct fake *f, struct model *m)
{
	struct model_stream *s;
	switch (f->request.method) {
	case METHOD_APPEND:
		do_append(f, m);
		break;
	case METHOD_APPEND_BATCH:
		do_append_batch(f, m);
		break;
	case METHOD_GET:
		do_get(f, m);
		break;
	case METHOD_GET_BATCH:
		do_get_batch(f, m);
		break;
	case METHOD_ITER:
		do_iter(f, param_stream(f, m));
		break;
	case METHOD_ITER_SHARD:
		do_iter(f, model_shard(m, (uint32_t)param_u64(f, KEY_SHARD)));
		break;
	case METHOD_TRUNCATE:
		do_truncate(f, m);
		break;
	case METHOD_CURRENT_SEGMENT_START_ID:
		s = param_stream(f, m);
		if (s != NULL)
			encode_number(f, KEY_ID, s->first);
		else
			encode_empty(f);
		break;
	case METHOD_STREAM_INFO:
		do_stream_info(f, m);
		break;
	case METHOD_LIST_STREAMS:
		do_list_streams(f, m);
		break;
	case METHOD_SHARD_APPEND:
		do_shard_append(f, m);
		break;
	case METHOD_SHARD_APPEND_BATCH:
		do_shard_append_batch(f, m);
		break;
	case METHOD_SHARD_APPEND_BATCH_FOR_KEY:
		do_batch_for_key(f, m);
		break;
	case METHOD_CREATE_CHECKPOINT:
		do_create_checkpoint(f, m);
		break;
	case METHOD_LOAD_CHECKPOINT:
		do_load_checkpoint(f, m, false);
		break;
	case METHOD_LOAD_LATEST_CHECKPOINT:
		do_load_checkpoint(f, m, true);
		break;
	case METHOD_LIST_CHECKPOINTS:
		do_list_checkpoints(f, m);
		break;
	case METHOD_CHECKPOINT_COUNT:
		encode_number(f, KEY_COUNT, m->checkpoint_count);
		break;
	case METHOD_PRUNE_BEFORE_CHECKPOINT:
		do_prune(f);
		break;
	case METHOD_COMPACT_CHECKPOINTS:
		do_compact(f, m);
		break;
	case METHOD_STATS:
		encode_number(f, KEY_COUNT, m->executed);
		break;
	default:
		MUST(f->request.method == METHOD_PING || f->request.method == METHOD_SYNC);
		encode_empty(f);
	}
}

/* ---- scripts with a model ---- */

/* Serves until the client has closed. */
static inline void model_serve(struct fake *f, struct model *m)
{
	while (next_request(f)) {
		model_execute(f, m);
		answer_flush(f);
	}
}

/* The next connection, after this one. False: the test has closed the listener (fake_stop_listening). */
static inline bool accept_next(struct fake *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->in.len = 0;
	f->fd = accept(f->listener, NULL, NULL);
	return f->fd >= 0;
}

static inline void fake_stop_listening(struct fake *f)
{
	shutdown(f->listener, SHUT_RDWR);
}

#endif
