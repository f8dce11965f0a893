#include "engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block_map.h"
#include "checkpointer.h"
#include "cores.h"
#include "engine_private.h"
#include "log.h"
#include "spare.h"
#include "writer.h"

#define BLOCK_MAPS_BYTES (16u << 20)
#define READ_BUFFER_MIN 4096u
#define READ_BUFFER_MAX (64u << 20)

/* ---- open and close ---------------------------------------------------------------------------------------------- */

/* A writer each for up to WRITERS_MAX shards, but not more than the cores can run beside the loop: a writer of several
 * shards makes them durable by one sync, and answers a connection in one portion. Without threads it is the same on
 * every machine. */
static uint32_t writers_wanted(const struct engine *engine)
{
	uint32_t cores = engine->hooks.no_threads ? WRITERS_MAX + 1 : cores_usable();
	uint32_t most = cores > 1 ? cores - 1 : 1;
	most = most < WRITERS_MAX ? most : WRITERS_MAX;
	most = engine->options.max_writers < most ? engine->options.max_writers : most;
	return engine->options.shard_count < most ? engine->options.shard_count : most;
}

static void raise_to_needed(struct engine *engine)
{
	struct engine_options *options = &engine->options;
	engine->writer_count = writers_wanted(engine);
	/* Each writer has a group of a few files in hand while readers and the filler hold others. */
	uint32_t needed = 8 + 4 * engine->writer_count;
	if (options->max_open_segments < needed)
		options->max_open_segments = needed;
	if (options->write_buffer_size == 0)
		options->write_buffer_size = 1;
	if (options->read_buffer_size < READ_BUFFER_MIN)
		options->read_buffer_size = READ_BUFFER_MIN;
	if (options->read_buffer_size > READ_BUFFER_MAX)
		options->read_buffer_size = READ_BUFFER_MAX;
	if (options->max_segment_size == 0)
		options->max_segment_size = 1;
}

static int open_journals(struct engine *engine, struct error *err)
{
	for (uint32_t i = 0; i < engine->writer_count; i++) {
		int r = journal_open(engine->io, i, engine->writer_count, &engine->writers[i]->journal);
		if (io_no_room(r)) {
			log_warn("engine",
				"no space for the journal of writer %u: groups that touch many streams cost a sync "
				"each until a restart with free space",
				i);
		} else if (r != 0) {
			char path[JOURNAL_PATH_MAX];
			journal_path(i, 0, path);
			return error_set_io(err, -r, "prepare the journal", path);
		}
	}
	int r = engine->io->ops->sync_dir(engine->io, "");
	return r == 0 ? 0 : error_set_io(err, -r, "sync", "the data directory");
}

static int start_threads(struct engine *engine, struct error *err)
{
	bool threads = !engine->hooks.no_threads;
	int r = chores_start(threads, "filler", false, &engine->filler);
	if (r == 0)
		r = chores_start(threads, "keeper", false, &engine->keeper);
	if (r == 0)
		r = chores_start(threads, "maker", false, &engine->maker);
	if (r != 0)
		return error_set_io(err, -r, "start a thread", "");
	for (uint32_t i = 0; threads && i < engine->writer_count; i++)
		if (writer_start(engine->writers[i], err) != 0)
			return -1;
	return 0;
}

static void free_all(struct engine *engine)
{
	for (uint32_t i = 0; engine->writers && i < engine->writer_count; i++)
		if (engine->writers[i])
			writer_stop(engine->writers[i]);
	checkpointer_stop(engine->checkpointer);
	chores_stop(engine->filler);
	chores_stop(engine->keeper);
	chores_stop(engine->maker);
	for (size_t i = 0; engine->table.buckets && i < engine->table.bucket_count; i++)
		for (struct stream *stream = engine->table.buckets[i], *next; stream; stream = next) {
			next = stream->table_next;
			stream_free(stream, engine->open_cache);
		}
	stream_table_free(&engine->table);
	for (uint32_t i = 0; engine->writers && i < engine->writer_count; i++)
		writer_free(engine->writers[i]);
	free(engine->writers);
	free(engine->shards);
	free(engine->shard_floors);
	free(engine->shard_failures);
	readers_free(engine);
	open_cache_free(engine->open_cache);
	block_cache_free(engine->block_cache);
	block_maps_free(engine->block_maps);
	if (engine->lock)
		engine->io->ops->unlock(engine->lock);
	pthread_mutex_destroy(&engine->done_lock);
	pthread_mutex_destroy(&engine->readers_lock);
	pthread_mutex_destroy(&engine->root_lock);
	free(engine);
}

static int take_lock(struct engine *engine, struct error *err)
{
	int r = engine->io->ops->lock(engine->io, LOCK_PATH, &engine->lock);
	if (r == -EWOULDBLOCK)
		return error_set(err, ERR_CONFIG,
			"the data directory is in use by another process; stop that one, or choose another root_path");
	return r == 0 ? 0 : error_set_io(err, -r, "lock", LOCK_PATH);
}

/* Before recovery: what a checkpoint names was durable. */
static int open_checkpoints(struct engine *engine, struct error *err)
{
	struct checkpoint_log *log;
	if (checkpoint_log_open(engine->io, engine->options.shard_count, &engine->hooks, &log, err) != 0)
		return -1;
	int r = checkpointer_start(engine, !engine->hooks.no_threads, log, &engine->checkpointer);
	if (r != 0)
		return error_set_io(err, -r, "start a thread", "");
	return shards_load_floors(engine, err);
}

static int open_parts(struct engine *engine, struct error *err)
{
	engine->open_cache = open_cache_new(engine->io, engine->options.max_open_segments);
	engine->block_cache = block_cache_new(engine->options.block_cache_size);
	engine->block_maps = block_maps_new(BLOCK_MAPS_BYTES);
	engine->writers = calloc(engine->writer_count, sizeof(struct writer *));
	engine->shard_failures = calloc(engine->options.shard_count, sizeof(struct failure));
	if (!engine->open_cache || !engine->block_cache || !engine->block_maps || !engine->writers ||
		!engine->shard_failures || stream_table_init(&engine->table) != 0)
		return error_set_io(err, ENOMEM, "open", "");
	bool fresh;
	if (manifest_refuse_foreign(engine, err) != 0 || take_lock(engine, err) != 0 ||
		manifest_check(engine, &fresh, err) != 0)
		return -1;
	for (uint32_t i = 0; i < engine->writer_count; i++)
		if (writer_new(engine, i, &engine->writers[i], err) != 0)
			return -1;
	if (open_checkpoints(engine, err) != 0)
		return -1;
	if (!fresh && recovery_run(engine, err) != 0)
		return -1;
	if (shards_make(engine, err) != 0)
		return -1;
	if (open_journals(engine, err) != 0)
		return -1;
	return start_threads(engine, err);
}

int engine_open(struct io *io, const struct engine_options *options, const struct engine_hooks *hooks,
	struct engine **ret_engine, struct error *err)
{
	if (options->shard_count == 0 || options->shard_count > 65535)
		return error_set(err, ERR_CONFIG, "shard_count is %u; 1 to 65535 are possible", options->shard_count);
	struct engine *engine = calloc(1, sizeof(*engine));
	if (!engine)
		return error_set_io(err, ENOMEM, "open", "");
	engine->io = io;
	engine->options = *options;
	engine->max_streams = options->max_streams;
	engine->hooks = *hooks;
	engine->done_last = &engine->done_first;
	engine->cuts_last = &engine->cuts;
	pthread_mutex_init(&engine->done_lock, NULL);
	pthread_mutex_init(&engine->readers_lock, NULL);
	pthread_mutex_init(&engine->root_lock, NULL);
	raise_to_needed(engine);
	uint64_t begin = io->ops->monotonic_ns(io);
	if (open_parts(engine, err) != 0) {
		free_all(engine);
		return -1;
	}
	engine->recovery.duration_ns = io->ops->monotonic_ns(io) - begin;
	*ret_engine = engine;
	return 0;
}

int engine_close(struct engine *engine, struct error *err)
{
	if (!engine)
		return 0;
	int result = 0;
	engine->closing = true;
	engine_kick(engine);
	for (uint32_t i = 0; i < engine->writer_count; i++)
		writer_stop(engine->writers[i]);
	chores_drain(engine->filler); /* first: what is to be deleted may be in its hands */
	chores_drain(engine->keeper);
	for (uint32_t i = 0; i < engine->writer_count; i++)
		(void)spare_drop(engine->writers[i]);
	chores_drain(engine->maker);
	for (uint32_t i = 0; i < engine->writer_count; i++)
		if (writer_settle(engine->writers[i], result == 0 ? err : NULL) != 0)
			result = -1;
	if (result == 0) {
		/* What the journals hold is in place, but perhaps only in the page cache. */
		int r = engine->io->ops->sync_all(engine->io);
		if (r != 0)
			result = error_set_io(err, -r, "final sync of", "the data directory");
		else if (checkpointer_mark_end(engine->checkpointer, err) != 0)
			result = -1;
		else if (!atomic_load(&engine->leftovers))
			result = clean_stop_write(engine, err);
	}
	free_all(engine);
	return result;
}

/* Of syncs of everything: they are the engine's own, all other ops are the caller's. */
static void free_parts(struct op *op)
{
	for (struct op *next; op; op = next) {
		next = op->next;
		if (op->parent)
			free(op);
	}
}

void engine_abandon(struct engine *engine)
{
	atomic_store(&engine->abandoned, true);
	checkpointer_drop(engine->checkpointer);
	for (size_t i = 0; i < engine->table.bucket_count; i++)
		for (struct stream *stream = engine->table.buckets[i]; stream; stream = stream->table_next)
			tail_end(stream->writer, stream);
	chores_drain(engine->filler);
	chores_drain(engine->keeper);
	chores_drain(engine->maker);
	for (uint32_t i = 0; i < engine->writer_count; i++) {
		(void)spare_drop(engine->writers[i]);
		struct writer *writer = engine->writers[i];
		atomic_store(&writer->failure.is, true); /* no sync by the interval any more */
		atomic_store(&writer->first_failure, &writer->failure);
		free_parts(writer->pending_first);
		free_parts(writer->queue_first);
		free_parts(writer->ready_first);
		writer->pending_first = writer->queue_first = writer->ready_first = NULL;
	}
	free_all(engine);
}

/* ---- completions ------------------------------------------------------------------------------------------------- */

void engine_complete(struct engine *engine, struct op *first, struct op *last)
{
	pthread_mutex_lock(&engine->done_lock);
	bool was_empty = !engine->done_first;
	*engine->done_last = first;
	engine->done_last = &last->next;
	last->next = NULL;
	atomic_store_explicit(&engine->has_done, true, memory_order_release);
	pthread_mutex_unlock(&engine->done_lock);
	if (was_empty && engine->hooks.notify_cb)
		engine->hooks.notify_cb(engine->hooks.notify_arg);
}

/* A stream that came to nothing: its only appends were refused. */
static void forget_unborn(struct engine *engine, struct stream *stream)
{
	/* After a failure there may be something of it on disk. */
	if (stream->visible || stream->is_shard || stream->loop_ops > 0 || stream->tail.segment ||
		(stream->dir_made && failure_of(stream)))
		return;
	stream_table_remove(&engine->table, stream);
	stream_free(stream, engine->open_cache);
}

/* The loop's copy goes forward. The op's stream may be gone afterwards if it never came to be. */
static void advance_view(struct engine *engine, struct op *op)
{
	struct stream *stream = op->stream;
	stream->loop_ops--;
	if (op->kind == OP_APPEND && !op->error && op->end > op->first) {
		if (!stream->visible) {
			stream->loop_first = stream->loop_end = op->first;
			stream_table_show(&engine->table, stream);
			count_add(&engine->stream_count, 1);
		}
		if (op->end > stream->loop_end)
			stream->loop_end = op->end;
	}
	if (op->kind == OP_TRUNCATE && !op->error && op->first != UINT64_MAX && op->first > stream->loop_first)
		stream->loop_first = op->first;
	if (!stream->visible) {
		op->stream = NULL;
		forget_unborn(engine, stream);
	}
}

/* A part of a sync of everything: the whole is done when its last part is. */
static struct op *merge_part(struct engine *engine, struct op *part)
{
	struct op *whole = part->parent;
	if (part->error && !whole->error)
		whole->error = part->error;
	else
		error_free(part->error);
	if (whole->kind == OP_PRUNE && checkpoint_prune_next(engine, part))
		return NULL;
	free(part);
	return --whole->parts_left == 0 ? whole : NULL;
}

/* NULL: it is not done yet. */
static struct op *whole_of(struct engine *engine, struct op *part)
{
	struct op *whole = merge_part(engine, part);
	if (!whole || whole->kind != OP_CREATE_CHECKPOINT)
		return whole;
	checkpoint_cut_durable(engine, whole);
	return NULL;
}

struct op *engine_take(struct engine *engine)
{
	pthread_mutex_lock(&engine->done_lock);
	struct op *op = engine->done_first;
	engine->done_first = NULL;
	engine->done_last = &engine->done_first;
	atomic_store_explicit(&engine->has_done, false, memory_order_relaxed);
	pthread_mutex_unlock(&engine->done_lock);
	struct op *first = NULL, **last = &first;
	while (op) {
		struct op *next = op->next;
		if (op->stream)
			advance_view(engine, op);
		if (op->parent)
			op = whole_of(engine, op);
		else if (op->kind == OP_PRUNE && !op->error && checkpoint_prune_begin(engine, op))
			op = NULL;
		if (op) {
			engine->ops_held--;
			*last = op;
			last = &op->next;
		}
		op = next;
	}
	*last = NULL;
	return first;
}

bool engine_has_done(struct engine *engine)
{
	return atomic_load_explicit(&engine->has_done, memory_order_acquire);
}

bool engine_idle(struct engine *engine)
{
	return engine->ops_held == 0;
}

uint64_t engine_held_ops(struct engine *engine, uint32_t *ret_writers)
{
	if (!ret_writers)
		return engine->ops_held;
	*ret_writers = 0;
	for (uint32_t i = 0; i < engine->writer_count && engine->ops_held > 0; i++)
		*ret_writers += atomic_load_explicit(&engine->writers[i]->queued, memory_order_relaxed) > 0;
	return engine->ops_held;
}

uint64_t engine_waiting_ops(const struct engine *engine, uint64_t *ret_since_ns)
{
	*ret_since_ns = engine->waiting_since_ns;
	return engine->ops_waiting;
}

void engine_set_max_streams(struct engine *engine, uint64_t max_streams)
{
	engine->max_streams = max_streams;
}

/* ---- submission -------------------------------------------------------------------------------------------------- */

struct stream *engine_new_stream(struct engine *engine, const char *name, size_t len, uint64_t hash)
{
	uint32_t shard;
	if (!shard_number(name, len, &shard) || shard >= engine->options.shard_count)
		shard = (uint32_t)(hash % engine->options.shard_count);
	return stream_new(name, len, hash, (uint16_t)shard, engine->writers[shard % engine->writer_count]);
}

static struct stream *make_stream(struct engine *engine, const char *name, size_t len, uint64_t hash, struct error *err)
{
	/* The logs of the shards are always there: they do not count. */
	size_t count = engine->table.count - engine->options.shard_count;
	if (count >= engine->max_streams) {
		error_set(err, ERR_BUSY, "there are %zu streams, and max_streams is %llu; raise it to make more", count,
			(unsigned long long)engine->max_streams);
		return NULL;
	}
	struct stream *stream = engine_new_stream(engine, name, len, hash);
	if (!stream || stream_table_add(&engine->table, stream) != 0) {
		stream_free(stream, NULL);
		error_set_io(err, ENOMEM, "make stream", name);
		return NULL;
	}
	return stream;
}

static int check_entries(struct engine *engine, struct entry_source *source, struct error *err)
{
	uint64_t limit = engine->options.max_entry_bytes;
	if (source->total_bytes <= limit)
		return 0;
	source->rewind(source);
	for (uint64_t i = 0; i < source->count; i++) {
		const uint8_t *bytes;
		size_t len;
		source->next(source, &bytes, &len);
		if (len > limit) {
			error_set(err, ERR_TOO_LARGE,
				"entry %llu of the request has %zu bytes; the limit is %llu (max_message_bytes less 1 "
				"KiB)",
				(unsigned long long)i, len, (unsigned long long)limit);
			error_set_u64(err, EFI_LIMIT, limit);
			error_set_u64(err, EFI_SIZE, len);
			return -1;
		}
	}
	return 0;
}

static int not_found(struct error *err, const char *name, size_t len)
{
	error_set(err, ERR_STREAM_NOT_FOUND, "there is no stream %.*s; the first append makes one",
		(int)(len < 100 ? len : 100), name);
	error_set_text(err, EFI_STREAM, name, len);
	return -1;
}

static void count_held(struct engine *engine)
{
	engine->ops_held++;
	if (engine->ops_waiting++ == 0)
		engine->waiting_since_ns = engine->io->ops->monotonic_ns(engine->io);
}

static int submit_sync_all(struct engine *engine, struct op *op, struct error *err)
{
	struct op *parts[WRITERS_MAX];
	for (uint32_t i = 0; i < engine->writer_count; i++)
		if (!(parts[i] = calloc(1, sizeof(struct op)))) {
			while (i > 0)
				free(parts[--i]);
			return error_set_io(err, ENOMEM, "sync", "");
		}
	op->parts_left = engine->writer_count;
	for (uint32_t i = 0; i < engine->writer_count; i++) {
		parts[i]->kind = OP_SYNC;
		parts[i]->parent = op;
		writer_submit(engine->writers[i], parts[i]);
	}
	count_held(engine);
	return 0;
}

static int submit_begin(struct engine *engine, struct op *op, struct error *err)
{
	op->error = NULL;
	op->stream = NULL;
	op->parent = NULL;
	op->durable = op->conflict = false;
	if (engine->closing)
		return error_set(err, ERR_SHUTTING_DOWN, "the server is stopping; try again when it is back");
	return 0;
}

static int submit_to(struct engine *engine, struct op *op, struct stream *stream)
{
	op->stream = stream;
	stream->loop_ops++;
	count_held(engine);
	writer_submit(stream->writer, op);
	return 0;
}

int engine_submit_shard(struct engine *engine, struct op *op, uint32_t shard, struct error *err)
{
	if (submit_begin(engine, op, err) != 0)
		return -1;
	if (op->kind == OP_APPEND && check_entries(engine, op->source, err) != 0)
		return -1;
	return submit_to(engine, op, engine->shards[shard]);
}

int engine_submit(struct engine *engine, struct op *op, const char *name, size_t name_len, struct error *err)
{
	if (submit_begin(engine, op, err) != 0)
		return -1;
	if (!name)
		return submit_sync_all(engine, op, err);
	if (stream_name_check(name, name_len, err) != 0)
		return -1;
	if (op->kind == OP_APPEND && check_entries(engine, op->source, err) != 0)
		return -1;
	uint64_t hash = stream_hash(name, name_len);
	struct stream *stream = stream_table_find(&engine->table, name, name_len, hash);
	if (op->kind != OP_APPEND && (!stream || (!stream->visible && !stream->is_shard)))
		return not_found(err, name, name_len);
	if (!stream && !(stream = make_stream(engine, name, name_len, hash, err)))
		return -1;
	return submit_to(engine, op, stream);
}

void engine_kick(struct engine *engine)
{
	engine->ops_waiting = 0;
	for (uint32_t i = 0; i < engine->writer_count; i++)
		writer_kick(engine->writers[i]);
}

/* ---- tests: one thread, any order ------------------------------------------------------------------------------ */

unsigned engine_step_count(struct engine *engine)
{
	return engine->writer_count + 4;
}

bool engine_step(struct engine *engine, unsigned which)
{
	if (which < engine->writer_count)
		return writer_step(engine->writers[which]);
	switch (which - engine->writer_count) {
	case 0:
		return chores_step(engine->filler);
	case 1:
		return chores_step(engine->keeper);
	case 2:
		return checkpointer_step(engine->checkpointer);
	default:
		return chores_step(engine->maker);
	}
}
