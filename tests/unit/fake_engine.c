#include "fake_engine.h"

#include "checkpoint.h"
#include "clock.h"

#include <pthread.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAMS_MAX 64
#define SHARD_COUNT 4

struct entry {
	uint8_t *bytes;
	size_t len;
};

struct stream {
	char name[STREAM_NAME_MAX + 1];
	size_t name_len;
	bool is_shard; /* there without entries, too */
	struct entry *entries;
	uint64_t first, end, cap;
	void *user;
};

struct engine {
	pthread_mutex_t lock;
	struct engine_hooks hooks;
	struct stream streams[STREAMS_MAX];
	size_t stream_count;
	struct op *held, **held_tail; /* submitted, not completed */
	struct op *done, **done_tail;
	uint64_t held_count;
	atomic_uint_least64_t waiting, waiting_since_ns;
	bool hold;
	_Atomic(const char *) failed;
};

static atomic_bool cold;
static _Atomic uint64_t damaged = UINT64_MAX;
static _Atomic uint32_t failing_shard = UINT32_MAX;
static enum error_outcome failing_outcome;

struct engine *fake_engine_new(const struct engine_hooks *hooks)
{
	struct engine *engine = calloc(1, sizeof(*engine));
	pthread_mutex_init(&engine->lock, NULL);
	engine->hooks = *hooks;
	engine->held_tail = &engine->held;
	engine->done_tail = &engine->done;
	for (unsigned i = 0; i < SHARD_COUNT; i++) {
		struct stream *stream = &engine->streams[engine->stream_count++];
		stream->name_len = (size_t)snprintf(stream->name, sizeof(stream->name), "shard_%02u", i);
		stream->is_shard = true;
	}
	return engine;
}

void fake_engine_free(struct engine *engine)
{
	for (size_t i = 0; i < engine->stream_count; i++) {
		for (uint64_t id = 0; id < engine->streams[i].end; id++)
			free(engine->streams[i].entries[id].bytes);
		free(engine->streams[i].entries);
	}
	pthread_mutex_destroy(&engine->lock);
	free(engine);
}

void fake_engine_cold(bool on)
{
	atomic_store(&cold, on);
}

void fake_engine_damage(uint64_t id)
{
	atomic_store(&damaged, id);
}

void fake_engine_fail_shard(uint32_t shard, enum error_outcome outcome)
{
	failing_outcome = outcome;
	atomic_store(&failing_shard, shard);
}

uint64_t fake_engine_ops_held(struct engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	uint64_t count = engine->held_count;
	pthread_mutex_unlock(&engine->lock);
	return count;
}

/* ---- with the lock held ----------------------------------------------------------------------------------------- */

static struct stream *find(struct engine *engine, const char *name, size_t len)
{
	for (size_t i = 0; i < engine->stream_count; i++) {
		struct stream *stream = &engine->streams[i];
		if (stream->name_len == len && memcmp(stream->name, name, len) == 0)
			return stream;
	}
	return NULL;
}

static void append(struct engine *engine, struct op *op)
{
	struct stream *stream = op->stream;
	if (stream == engine_shard(engine, atomic_load(&failing_shard))) {
		op->error = malloc(sizeof(*op->error));
		error_set_io(op->error, EIO, "write", stream->name);
		error_set_outcome(op->error, failing_outcome);
		return;
	}
	if (op->has_expected && op->expected_id != stream->end) {
		op->error = malloc(sizeof(*op->error));
		error_set(op->error, ERR_CONFLICT, "conflict");
		error_set_u64(op->error, EFI_EXPECTED, op->expected_id);
		error_set_u64(op->error, EFI_ACTUAL, stream->end);
		return;
	}
	op->first = stream->end;
	for (uint64_t i = 0; i < op->source->count; i++) {
		const uint8_t *bytes;
		size_t len;
		op->source->next(op->source, &bytes, &len);
		if (stream->end == stream->cap) {
			stream->cap = stream->cap == 0 ? 16 : 2 * stream->cap;
			stream->entries = realloc(stream->entries, stream->cap * sizeof(struct entry));
		}
		struct entry *entry = &stream->entries[stream->end++];
		entry->bytes = malloc(len + 1);
		entry->len = len;
		memcpy(entry->bytes, bytes, len);
	}
	op->end = stream->end;
	op->durable = true;
}

static void complete_held(struct engine *engine)
{
	while (engine->held != NULL) {
		struct op *op = engine->held;
		engine->held = op->next;
		engine->held_count--;
		op->next = NULL;
		if (op->kind == OP_APPEND) {
			append(engine, op);
		} else if (op->kind == OP_TRUNCATE && op->safe_id > op->stream->first) {
			op->stream->first = op->safe_id < op->stream->end ? op->safe_id : op->stream->end;
			op->segments_deleted = 1;
		}
		*engine->done_tail = op;
		engine->done_tail = &op->next;
	}
	engine->held_tail = &engine->held;
}

static void complete(struct engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	engine->waiting = 0;
	if (!engine->hold)
		complete_held(engine);
	bool any = engine->done != NULL;
	pthread_mutex_unlock(&engine->lock);
	if (any)
		engine->hooks.notify_cb(engine->hooks.notify_arg);
}

void fake_engine_hold(struct engine *engine, bool hold)
{
	pthread_mutex_lock(&engine->lock);
	engine->hold = hold;
	pthread_mutex_unlock(&engine->lock);
	complete(engine);
}

/* ---- engine.h --------------------------------------------------------------------------------------------------- */

static void hold(struct engine *engine, struct op *op)
{
	op->next = NULL;
	*engine->held_tail = op;
	engine->held_tail = &op->next;
	engine->held_count++;
	if (engine->waiting++ == 0)
		engine->waiting_since_ns = clock_now_ns();
}

int engine_submit(struct engine *engine, struct op *op, const char *name, size_t name_len, struct error *err)
{
	pthread_mutex_lock(&engine->lock);
	if (name != NULL) {
		op->stream = find(engine, name, name_len);
		if (op->stream == NULL && op->kind == OP_APPEND && engine->stream_count < STREAMS_MAX) {
			op->stream = &engine->streams[engine->stream_count++];
			memcpy(op->stream->name, name, name_len);
			op->stream->name_len = name_len;
		}
		if (op->stream == NULL) {
			pthread_mutex_unlock(&engine->lock);
			error_set(err, ERR_STREAM_NOT_FOUND, "not found");
			error_set_text(err, EFI_STREAM, name, name_len);
			return -1;
		}
	}
	hold(engine, op);
	pthread_mutex_unlock(&engine->lock);
	return 0;
}

struct stream *engine_shard(struct engine *engine, uint32_t shard)
{
	return shard < SHARD_COUNT ? &engine->streams[shard] : NULL;
}

int engine_submit_shard(struct engine *engine, struct op *op, uint32_t shard, struct error *err)
{
	(void)err;
	pthread_mutex_lock(&engine->lock);
	op->stream = engine_shard(engine, shard);
	hold(engine, op);
	pthread_mutex_unlock(&engine->lock);
	return 0;
}

/* There are none here: what is asked about them is tested with the real engine. */
int engine_submit_checkpoint(struct engine *engine, struct checkpoint_op *checkpoint, struct error *err)
{
	(void)engine;
	(void)checkpoint;
	return error_set(err, ERR_NO_CHECKPOINTS, "there are no checkpoints");
}

uint64_t engine_checkpoint_count(struct engine *engine)
{
	(void)engine;
	return 0;
}

void engine_checkpoint_stats(struct engine *engine, struct checkpoint_stats *ret_stats)
{
	(void)engine;
	*ret_stats = (struct checkpoint_stats){0};
}

void engine_kick(struct engine *engine)
{
	complete(engine);
}

struct op *engine_take(struct engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	struct op *done = engine->done;
	engine->done = NULL;
	engine->done_tail = &engine->done;
	pthread_mutex_unlock(&engine->lock);
	return done;
}

bool engine_has_done(struct engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	bool has_done = engine->done != NULL;
	pthread_mutex_unlock(&engine->lock);
	return has_done;
}

uint64_t engine_held_ops(struct engine *engine, uint32_t *ret_writers)
{
	if (ret_writers)
		*ret_writers = 1;
	uint64_t held = fake_engine_ops_held(engine);
	return engine_idle(engine) || held > 2 ? held : 2;
}

uint64_t engine_waiting_ops(const struct engine *engine, uint64_t *ret_since_ns)
{
	*ret_since_ns = engine->waiting_since_ns;
	return engine->waiting;
}

bool engine_idle(struct engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	bool idle = engine->held == NULL && engine->done == NULL;
	pthread_mutex_unlock(&engine->lock);
	return idle;
}

struct stream *engine_find(struct engine *engine, const char *name, size_t name_len)
{
	pthread_mutex_lock(&engine->lock);
	struct stream *stream = find(engine, name, name_len);
	if (stream != NULL && stream->end == 0 && !stream->is_shard)
		stream = NULL;
	pthread_mutex_unlock(&engine->lock);
	return stream;
}

struct stream_view stream_view(const struct stream *stream)
{
	return (struct stream_view){.first = stream->first, .end = stream->end};
}

const char *stream_name(const struct stream *stream, size_t *ret_len)
{
	*ret_len = stream->name_len;
	return stream->name;
}

void stream_set_user(struct stream *stream, void *user)
{
	stream->user = user;
}

void *stream_user(const struct stream *stream)
{
	return stream->user;
}

void engine_stream_info(struct engine *engine, struct stream *stream, struct stream_info *ret_info)
{
	(void)engine;
	*ret_info = (struct stream_info){
		.first = stream->first, .end = stream->end, .durable_end = stream->end, .segments = 1};
}

bool engine_list(struct engine *engine, const char *prefix, size_t prefix_len, const char *after, size_t after_len,
	size_t limit, void (*cb)(struct stream *stream, void *arg), void *arg)
{
	(void)after;
	(void)after_len;
	for (size_t i = 0; i < engine->stream_count; i++) {
		struct stream *stream = &engine->streams[i];
		if (stream->end == 0 || stream->name_len < prefix_len || memcmp(stream->name, prefix, prefix_len) != 0)
			continue;
		if (limit-- == 0)
			return true;
		cb(stream, arg);
	}
	return false;
}

enum read_result engine_read(struct engine *engine, struct stream *stream, struct stream_view view, uint64_t start,
	uint64_t end, bool nowait, read_entry_cb cb, void *arg, uint64_t *ret_next, struct error *err)
{
	*ret_next = start;
	if (nowait && atomic_load(&cold))
		return READ_WOULD_BLOCK;
	for (; *ret_next < end && *ret_next < view.end; ++*ret_next) {
		pthread_mutex_lock(&engine->lock);
		struct entry entry = stream->entries[*ret_next];
		uint64_t first = stream->first;
		pthread_mutex_unlock(&engine->lock);
		if (*ret_next < first) {
			error_set(err, ERR_TRUNCATED, "truncated");
			error_set_u64(err, EFI_FIRST_ID, first);
			return READ_ERROR;
		}
		if (*ret_next == atomic_load(&damaged)) {
			error_set(err, ERR_CORRUPTION, "damaged");
			error_set_text(err, EFI_STREAM, stream->name, stream->name_len);
			error_set_text(err, EFI_SEGMENT, "0", 1);
			error_set_u64(err, EFI_OFFSET, 0);
			error_set_u64(err, EFI_ID, *ret_next);
			return READ_ERROR;
		}
		if (cb(*ret_next, entry.bytes, entry.len, arg) != 0)
			break;
	}
	return READ_DONE;
}

void engine_stats(struct engine *engine, struct engine_stats *ret_stats)
{
	(void)engine;
	*ret_stats = (struct engine_stats){.writer_count = 1};
}

void engine_writer_stats(struct engine *engine, uint32_t writer, struct writer_stats *ret_stats)
{
	(void)writer;
	*ret_stats = (struct writer_stats){.queue_depth = fake_engine_ops_held(engine),
		.shards = SHARD_COUNT,
		.failed = atomic_load(&engine->failed) != NULL,
		.failed_shards = atomic_load(&engine->failed) != NULL ? SHARD_COUNT - 1 : 0};
}

uint32_t engine_shard_count(const struct engine *engine)
{
	(void)engine;
	return SHARD_COUNT;
}

uint32_t engine_writer_count(const struct engine *engine)
{
	(void)engine;
	return 1;
}

const char *engine_writer_failed(struct engine *engine, uint32_t writer)
{
	(void)writer;
	return engine->failed;
}

void fake_engine_fail(struct engine *engine, const char *why)
{
	engine->failed = why;
}

void engine_set_max_streams(struct engine *engine, uint64_t max_streams)
{
	(void)engine;
	(void)max_streams;
}
