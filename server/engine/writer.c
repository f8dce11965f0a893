#include "writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "activity.h"
#include "checkpointer.h"
#include "log.h"
#include "thread.h"

/* A sync for which there was no descriptor is not tried again at once. */
#define LATE_SYNC_MIN_NS UINT64_C(100000000)
/* Descriptors that one writer may keep open because their bytes are not durable. */
#define PINNED_MAX 64u

void stat_record(struct histogram *histogram, uint64_t value)
{
	unsigned bucket = value < 2 ? 0 : 63u - (unsigned)__builtin_clzll(value);
	if (bucket >= HISTOGRAM_BUCKETS)
		bucket = HISTOGRAM_BUCKETS - 1;
	__atomic_store_n(&histogram->buckets[bucket], histogram->buckets[bucket] + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&histogram->count, histogram->count + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&histogram->sum, histogram->sum + value, __ATOMIC_RELAXED);
	if (value > histogram->max)
		__atomic_store_n(&histogram->max, value, __ATOMIC_RELAXED);
}

static uint32_t shards_of(const struct writer *writer)
{
	uint32_t shards = writer->engine->options.shard_count, writers = writer->engine->writer_count;
	return shards / writers + (writer->index < shards % writers);
}

int writer_new(struct engine *engine, uint32_t index, struct writer **ret_writer, struct error *err)
{
	struct writer *writer = calloc(1, sizeof(*writer));
	if (!writer)
		return error_set_io(err, ENOMEM, "writer", "");
	writer->engine = engine;
	writer->index = index;
	writer->stats.shards = shards_of(writer);
	uint32_t share = engine->options.max_open_segments / (2 * engine->writer_count);
	writer->pinned_max = share < PINNED_MAX ? share : PINNED_MAX;
	pthread_mutex_init(&writer->queue_lock, NULL);
	pthread_mutex_init(&writer->list_lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&writer->queue_changed, &attr);
	pthread_condattr_destroy(&attr);
	writer->plans = malloc(sizeof(*writer->plans) * PLANS_MIN);
	writer->plan_cap = PLANS_MIN;
	if (!writer->plans || frame_builder_init(&writer->builder, engine->options.compression,
				      engine->options.min_compression_size) != 0) {
		writer_free(writer);
		return error_set_io(err, ENOMEM, "writer", "");
	}
	*ret_writer = writer;
	return 0;
}

void writer_free(struct writer *writer)
{
	if (!writer)
		return;
	journal_close(writer->journal);
	frame_builder_free(&writer->builder);
	free(writer->plans);
	recent_unref(writer->recent_kept);
	pthread_mutex_destroy(&writer->queue_lock);
	pthread_mutex_destroy(&writer->list_lock);
	pthread_cond_destroy(&writer->queue_changed);
	free(writer);
}

/* ---- what has stopped ------------------------------------------------------------------------------------------- */

/* False: it had failed before. */
static bool mark_failed(
	struct writer *writer, const struct stream *stream, int os_errno, const char *what, const char *path)
{
	struct failure *failure = stream ? &writer->engine->shard_failures[stream->shard] : &writer->failure;
	pthread_mutex_lock(&writer->list_lock);
	bool first = !atomic_load(&failure->is) && !atomic_load(&writer->failure.is);
	if (first) {
		failure->os_errno = os_errno > 0 ? os_errno : EIO;
		snprintf(failure->reason, sizeof(failure->reason), "%s %s: %s", what, path, error_errno_name(os_errno));
		__atomic_store_n(&writer->stats.failed_shards,
			stream ? writer->stats.failed_shards + 1 : writer->stats.shards, __ATOMIC_RELAXED);
		atomic_store(&failure->is, true);
		if (!atomic_load(&writer->first_failure))
			atomic_store(&writer->first_failure, failure);
		atomic_store(&writer->engine->any_failed, true);
	}
	pthread_mutex_unlock(&writer->list_lock);
	return first;
}

static void tell_failed(
	const struct writer *writer, const struct stream *stream, int os_errno, const char *what, const char *path)
{
	if (stream)
		log_error("engine",
			"shard %u: %s %s failed (%s): it refuses writes until a restart, reads and other shards go on, "
			"slower where they write to many streams; look at the disk, then restart",
			stream->shard, what, path, error_errno_name(os_errno));
	else
		log_error("engine",
			"writer %u: %s %s failed (%s): all its shards refuse writes until a restart, reads go on; "
			"look at the disk, then restart",
			writer->index, what, path, error_errno_name(os_errno));
}

void writer_fail(struct writer *writer, const struct stream *stream, int os_errno, const char *what, const char *path)
{
	if (mark_failed(writer, stream, os_errno, what, path))
		tell_failed(writer, stream, os_errno, what, path);
}

void writer_fail_segment(const struct segment *segment, int os_errno, const char *what)
{
	char path[SEGMENT_PATH_MAX];
	segment_path(segment, path);
	writer_fail(segment->stream->writer, segment->stream, os_errno, what, path);
}

void writer_fail_all(struct engine *engine, int os_errno, const char *what, const char *path)
{
	bool first[WRITERS_MAX];
	atomic_store(&engine->all_failed, true);
	for (uint32_t i = 0; i < engine->writer_count; i++)
		first[i] = mark_failed(engine->writers[i], NULL, os_errno, what, path);
	for (uint32_t i = 0; i < engine->writer_count; i++)
		if (first[i])
			tell_failed(engine->writers[i], NULL, os_errno, what, path);
}

int writer_sync_root(struct engine *engine)
{
	struct io *io = engine->io;
	pthread_mutex_lock(&engine->root_lock);
	int r = atomic_load(&engine->all_failed) ? -EIO : io->ops->sync_dir(io, "");
	if (r != 0 && !io_no_descriptor(r)) /* the names of all streams are in there */
		writer_fail_all(engine, -r, "sync of", "the data directory");
	pthread_mutex_unlock(&engine->root_lock);
	return r;
}

const struct failure *failure_of(const struct stream *stream)
{
	const struct writer *writer = stream->writer;
	if (!atomic_load(&writer->first_failure))
		return NULL;
	const struct failure *failure = &writer->engine->shard_failures[stream->shard];
	if (atomic_load(&writer->failure.is))
		failure = &writer->failure;
	return atomic_load(&failure->is) ? failure : NULL;
}

struct error *failure_refusal(const struct failure *failure)
{
	return op_io_error(failure->os_errno, "shard has stopped writing after", failure->reason, OUTCOME_NONE);
}

/* ---- syncs ------------------------------------------------------------------------------------------------------ */

int writer_journal_sync(struct writer *writer)
{
	struct io *io = writer->engine->io;
	uint64_t begin = io->ops->monotonic_ns(io);
	int r = journal_sync(writer->journal);
	stat_record(&writer->stats.sync_ns, io->ops->monotonic_ns(io) - begin);
	STAT_ADD(writer, journal_syncs, 1);
	if (r != 0) {
		writer_fail(writer, NULL, -r, "sync of", "the journal");
		return r;
	}
	for (struct stream *stream = writer->dirty, *next; stream; stream = next) {
		next = stream->dirty_next;
		if (!stream->tail.dirty && !failure_of(stream))
			tail_mark_synced(writer, stream);
	}
	return 0;
}

int writer_sync_all(struct writer *writer)
{
	if (atomic_load(&writer->failure.is))
		return -writer->failure.os_errno;
	int r = writer->journal && journal_unsynced(writer->journal) ? writer_journal_sync(writer) : 0;
	if (r != 0)
		return r;
	for (struct stream *stream = writer->dirty, *next; stream; stream = next) {
		next = stream->dirty_next;
		r = failure_of(stream) ? 0 : tail_sync(writer, stream);
		if (r != 0 && !failure_of(stream))
			return r;
		if (failure_of(stream))
			tail_let_go(writer, stream);
	}
	return atomic_load(&writer->failure.is) ? -writer->failure.os_errno : 0;
}

int writer_settle(struct writer *writer, struct error *err)
{
	for (size_t i = 0; i < writer->engine->table.bucket_count; i++)
		for (struct stream *stream = writer->engine->table.buckets[i]; stream; stream = stream->table_next)
			if (stream->writer == writer)
				tail_end(writer, stream);
	writer->held_due_ns = 0; /* the keeper has gone, and what is held goes into its files here */
	if (atomic_load(&writer->failure.is))
		return error_set_io(err, writer->failure.os_errno, "writer stopped earlier:", writer->failure.reason);
	tail_trim_all(writer);
	int r = 0;
	if (writer->journal && !atomic_load(&writer->engine->any_failed))
		r = held_write_all(writer, journal_generation(writer->journal));
	if (r != 0)
		return error_set_io(err, -r, "write of what the journal holds:", "a segment");
	r = writer_sync_all(writer);
	const char *failed = engine_writer_failed(writer->engine, writer->index);
	if (r != 0)
		return error_set_io(err, -r, "final sync:", failed ? failed : "");
	return failed ? error_set_io(err, EIO, "a shard has stopped:", failed) : 0;
}

const char *engine_writer_failed(struct engine *engine, uint32_t index)
{
	const struct failure *failure = atomic_load(&engine->writers[index]->first_failure);
	return failure ? failure->reason : NULL;
}

uint32_t engine_writer_count(const struct engine *engine)
{
	return engine->writer_count;
}

/* ---- the queue -------------------------------------------------------------------------------------------------- */

void writer_submit(struct writer *writer, struct op *op)
{
	op->next = NULL;
	if (writer->pending_last)
		writer->pending_last->next = op;
	else
		writer->pending_first = op;
	writer->pending_last = op;
	atomic_fetch_add_explicit(&writer->queued, 1, memory_order_relaxed);
}

void writer_kick(struct writer *writer)
{
	if (!writer->pending_first)
		return;
	uint64_t now = writer->engine->io->ops->monotonic_ns(writer->engine->io);
	for (struct op *op = writer->pending_first; op; op = op->next)
		op->submitted_ns = now;
	pthread_mutex_lock(&writer->queue_lock);
	bool was_empty = !writer->queue_first;
	if (writer->queue_last)
		writer->queue_last->next = writer->pending_first;
	else
		writer->queue_first = writer->pending_first;
	writer->queue_last = writer->pending_last;
	pthread_mutex_unlock(&writer->queue_lock);
	if (was_empty)
		pthread_cond_signal(&writer->queue_changed);
	writer->pending_first = writer->pending_last = NULL;
}

/* Under the queue lock: what waits goes behind what is ready. */
static void pull(struct writer *writer)
{
	if (!writer->queue_first)
		return;
	if (writer->ready_last)
		writer->ready_last->next = writer->queue_first;
	else
		writer->ready_first = writer->queue_first;
	writer->ready_last = writer->queue_last;
	writer->queue_first = writer->queue_last = NULL;
}

static void run_sync(struct writer *writer, struct op *op)
{
	const struct failure *failure = op->stream ? failure_of(op->stream) : atomic_load(&writer->first_failure);
	if (failure && op->stream) {
		op->error = failure_refusal(failure);
		return;
	}
	/* Shards that go on are made durable, but it is not everything that was asked for. */
	int r = op->stream ? tail_sync(writer, op->stream) : writer_sync_all(writer);
	if (r == 0 && !op->stream)
		failure = atomic_load(&writer->first_failure);
	if (r != 0)
		op->error = op_io_error(-r, "sync of", op->stream ? op->stream->dir : "the log", OUTCOME_NONE);
	else if (failure)
		op->error = failure_refusal(failure);
	else
		STAT_ADD(writer, syncs_asked, 1);
}

static void ready_again(struct writer *writer, struct op *op)
{
	if (writer->ready_last)
		writer->ready_last->next = op;
	else
		writer->ready_first = op;
	writer->ready_last = op;
}

/* False: not done yet, to be called again behind what waits. */
static bool run_op(struct writer *writer, struct op *op)
{
	if (op->kind == OP_SYNC_CUT)
		return checkpoint_sync_cut(writer, op);
	const struct failure *failure = op->stream ? failure_of(op->stream) : NULL;
	if (op->kind == OP_SYNC)
		run_sync(writer, op);
	else if (failure)
		op->error = failure_refusal(failure);
	else
		writer_truncate(writer, op);
	return true;
}

static void run_single(struct writer *writer)
{
	struct op *op = writer->ready_first;
	writer->ready_first = op->next;
	if (!writer->ready_first)
		writer->ready_last = NULL;
	op->next = NULL;
	if (!run_op(writer, op)) {
		ready_again(writer, op);
		return;
	}
	atomic_fetch_sub_explicit(&writer->queued, 1, memory_order_relaxed);
	engine_complete(writer->engine, op, op);
}

static bool interval_is_over(struct writer *writer)
{
	struct io *io = writer->engine->io;
	return writer->next_sync_ns != 0 && !atomic_load(&writer->failure.is) &&
	       io->ops->monotonic_ns(io) >= writer->next_sync_ns;
}

static void sync_by_interval(struct writer *writer)
{
	writer->next_sync_ns = 0;
	int r = writer_sync_all(writer);
	bool late = io_no_descriptor(r);
	if (r != 0 && !atomic_load(&writer->failure.is)) {
		struct io *io = writer->engine->io;
		uint64_t interval = writer->engine->options.async_sync_interval_ns;
		writer->next_sync_ns =
			io->ops->monotonic_ns(io) + (interval > LATE_SYNC_MIN_NS ? interval : LATE_SYNC_MIN_NS);
	}
	if (late && !writer->sync_is_late)
		log_warn("engine",
			"writer %u: no descriptor for a sync (%s): what was to be durable by async_sync_interval is "
			"not yet, it is tried again; raise the limit (ulimit -n, LimitNOFILE=)",
			writer->index, error_errno_name(-r));
	writer->sync_is_late = late;
}

static bool held_is_due(struct writer *writer)
{
	struct io *io = writer->engine->io;
	return writer->held_due_ns != 0 && !atomic_load(&writer->failure.is) &&
	       io->ops->monotonic_ns(io) >= writer->held_due_ns;
}

bool writer_step(struct writer *writer)
{
	bool worked = false;
	pthread_mutex_lock(&writer->queue_lock);
	pull(writer);
	pthread_mutex_unlock(&writer->queue_lock);
	if (interval_is_over(writer)) {
		sync_by_interval(writer);
		worked = true;
	}
	if (writer->ready_first) {
		if (!group_run(writer))
			run_single(writer);
		worked = true;
	} else if (held_is_due(writer)) {
		group_write_idle(writer);
		worked = true;
	}
	return worked;
}

/* ---- the thread ------------------------------------------------------------------------------------------------- */

/* Waits for work, for the end of the sync interval, until what is held is due, or for the stop. False: stop, and
 * nothing is left. */
static bool wait_for_work(struct writer *writer)
{
	pthread_mutex_lock(&writer->queue_lock);
	while (!writer->queue_first && !writer->stop) {
		uint64_t until_ns = writer->next_sync_ns;
		if (until_ns == 0 || (writer->held_due_ns != 0 && writer->held_due_ns < until_ns))
			until_ns = writer->held_due_ns;
		if (until_ns == 0 || atomic_load(&writer->failure.is)) {
			pthread_cond_wait(&writer->queue_changed, &writer->queue_lock);
			continue;
		}
		struct timespec until = {
			.tv_sec = (time_t)(until_ns / 1000000000),
			.tv_nsec = (long)(until_ns % 1000000000),
		};
		if (pthread_cond_timedwait(&writer->queue_changed, &writer->queue_lock, &until) == ETIMEDOUT)
			break;
	}
	bool go_on = writer->queue_first || !writer->stop;
	pthread_mutex_unlock(&writer->queue_lock);
	return go_on;
}

static void *work(void *arg)
{
	struct writer *writer = arg;
	char name[ACTIVITY_NAME_MAX];
	snprintf(name, sizeof(name), "writer-%u", writer->index);
	activity_join(name, &writer->queued, true);
	while (wait_for_work(writer))
		while (writer_step(writer) || writer->ready_first)
			activity_step();
	activity_leave();
	return NULL;
}

int writer_start(struct writer *writer, struct error *err)
{
	char name[16];
	snprintf(name, sizeof(name), "writer-%u", writer->index);
	int r = thread_start(&writer->thread, name, work, writer);
	if (r != 0)
		return error_set_io(err, r, "start a writer's thread", "");
	writer->started = true;
	return 0;
}

void writer_stop(struct writer *writer)
{
	if (!writer->started) {
		while (writer_step(writer))
			;
		return;
	}
	pthread_mutex_lock(&writer->queue_lock);
	writer->stop = true;
	pthread_cond_signal(&writer->queue_changed);
	pthread_mutex_unlock(&writer->queue_lock);
	pthread_join(writer->thread, NULL);
	writer->started = false;
}
