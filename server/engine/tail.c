/* The active segment of a stream, from its creation to its seal. Runs on the writer's thread. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fill.h"
#include "io_util.h"
#include "log.h"
#include "spare.h"
#include "writer.h"

#define FILL_MIN_SEGMENT (64u << 10) /* a segment smaller than this gets nothing ahead */
#define FILL_MAX_BYTES (4u << 20)
/* A stream that writes so much in a segment, and so much a second, gets a spare next. */
#define FAST_BYTES (4u << 20)
#define FAST_BYTES_PER_S (UINT64_C(8) << 20)
/* Where the disk was full so recently, none is made. */
#define NO_ROOM_NS UINT64_C(10000000000)
/* Index points are saved in pieces: one piece for about a MiB of frames. */
#define INDEX_SAVE_POINTS 16u

bool tail_is_full(const struct writer *writer, const struct stream *stream)
{
	const struct engine_options *options = &writer->engine->options;
	const struct tail *tail = &stream->tail;
	return tail->segment && tail->entries > 0 &&
	       (tail->written >= options->max_segment_size ||
		       (options->max_entries_per_segment > 0 && tail->entries >= options->max_entries_per_segment));
}

int tail_pin(struct writer *writer, struct segment *segment, struct io_file **ret_file)
{
	return open_cache_pin(writer->engine->open_cache, segment, 0, 0, ret_file, NULL, NULL);
}

static void unpin(struct writer *writer, struct segment *segment)
{
	open_cache_unpin(writer->engine->open_cache, segment);
}

/* Takes over what a fill that ended has prepared. */
static void settle_fill(struct tail *tail, bool wait)
{
	if (!tail->fill || (!wait && fill_state(tail->fill) <= FILL_RUNNING))
		return;
	uint64_t to = fill_to(tail->fill);
	if (fill_end(tail->fill) == FILL_DONE && to > tail->prepared)
		tail->prepared = to;
	tail->fill = NULL;
}

/* ---- durability ------------------------------------------------------------------------------------------------- */

bool tail_names_durable(const struct writer *writer, const struct stream *stream)
{
	const struct tail *tail = &stream->tail;
	if (tail->name_durable && stream->dir_durable)
		return true;
	return tail->named_gen > 0 && writer->journal && tail->named_gen <= journal_checkpointed(writer->journal);
}

static int sync_dir_once(struct writer *writer, const char *dir)
{
	struct io *io = writer->engine->io;
	return dir ? io->ops->sync_dir(io, dir) : writer_sync_root(writer->engine);
}

/* NULL: the data directory. A directory is opened for it: where descriptors are short, one of the cache goes. Nothing
 * was tried then. */
static int sync_dir(struct writer *writer, const char *dir)
{
	struct io *io = writer->engine->io;
	uint64_t begin = io->ops->monotonic_ns(io);
	int r = sync_dir_once(writer, dir);
	while (io_no_descriptor(r) && open_cache_evict(writer->engine->open_cache))
		r = sync_dir_once(writer, dir);
	stat_record(&writer->stats.sync_ns, io->ops->monotonic_ns(io) - begin);
	STAT_ADD(writer, dir_syncs, 1);
	return r;
}

static int sync_names(struct writer *writer, struct stream *stream)
{
	int r = stream->tail.name_durable ? 0 : sync_dir(writer, stream->dir);
	if (r != 0) {
		if (!io_no_descriptor(r))
			writer_fail(writer, stream, -r, "sync of directory", stream->dir);
		return r;
	}
	return stream->dir_durable ? 0 : sync_dir(writer, NULL);
}

int tail_sync_names(struct writer *writer, struct stream *stream)
{
	int r = tail_names_durable(writer, stream) ? 0 : sync_names(writer, stream);
	if (r == 0)
		stream->tail.name_durable = stream->dir_durable = true;
	return r;
}

static void dirty_list_add(struct writer *writer, struct stream *stream)
{
	if (stream->dirty_prev || stream->dirty_next || writer->dirty == stream)
		return;
	stream->dirty_next = writer->dirty;
	if (writer->dirty)
		writer->dirty->dirty_prev = stream;
	writer->dirty = stream;
	uint64_t interval = writer->engine->options.async_sync_interval_ns;
	if (writer->next_sync_ns == 0 && interval > 0)
		writer->next_sync_ns = writer->engine->io->ops->monotonic_ns(writer->engine->io) + interval;
}

static void dirty_list_remove(struct writer *writer, struct stream *stream)
{
	if (writer->dirty == stream)
		writer->dirty = stream->dirty_next;
	else if (!stream->dirty_prev)
		return;
	if (stream->dirty_prev)
		stream->dirty_prev->dirty_next = stream->dirty_next;
	if (stream->dirty_next)
		stream->dirty_next->dirty_prev = stream->dirty_prev;
	stream->dirty_prev = stream->dirty_next = NULL;
	if (!writer->dirty)
		writer->next_sync_ns = 0;
}

/* Bytes stand in the file (or only in the unsynced journal) that are not durable yet. */
void tail_mark_dirty(struct writer *writer, struct stream *stream)
{
	dirty_list_add(writer, stream);
}

void tail_mark_synced(struct writer *writer, struct stream *stream)
{
	stream->tail.synced = stream->tail.written;
	atomic_store_explicit(&stream->durable_end, stream->next_id, memory_order_release);
	dirty_list_remove(writer, stream);
}

static void drop_pin(struct writer *writer, struct tail *tail)
{
	if (!tail->pinned)
		return;
	tail->pinned = false;
	writer->pinned--;
	unpin(writer, tail->segment);
}

int tail_sync(struct writer *writer, struct stream *stream)
{
	struct tail *tail = &stream->tail;
	if (tail->synced == tail->written && !tail->dirty)
		return 0;
	if (!tail->dirty)
		return writer_journal_sync(writer);
	struct io *io = writer->engine->io;
	struct io_file *file;
	int r = tail_pin(writer, tail->segment, &file);
	if (r != 0)
		return r;
	uint64_t begin = io->ops->monotonic_ns(io);
	r = io->ops->sync(file);
	stat_record(&writer->stats.sync_ns, io->ops->monotonic_ns(io) - begin);
	STAT_ADD(writer, file_syncs, 1);
	unpin(writer, tail->segment);
	if (r != 0) {
		writer_fail_segment(tail->segment, -r, "sync of");
		return r;
	}
	r = tail_sync_names(writer, stream);
	if (r != 0)
		return r;
	tail->dirty = false;
	drop_pin(writer, tail);
	tail_mark_synced(writer, stream);
	return 0;
}

void tail_let_go(struct writer *writer, struct stream *stream)
{
	drop_pin(writer, &stream->tail);
	dirty_list_remove(writer, stream);
}

/* ---- creation and seal ------------------------------------------------------------------------------------------ */

/* -EEXIST: the directory is another stream's, whose name has the same hash. */
static int make_dir(struct engine *engine, struct stream *stream)
{
	struct io *io = engine->io;
	char owner[NAMES_STREAM_MAX + 1], aside[sizeof(NAMES_ASIDE) + NAMES_DIR_MAX] = NAMES_ASIDE;
	size_t owner_len;
	bool hashed = name_from_dirname(stream->dir, owner, &owner_len) != 0;
	int r = 0;
	if (hashed) {
		/* Its entries were set aside with their ids: they are not given again while that is there. */
		memcpy(aside + strlen(aside), stream->dir, strlen(stream->dir) + 1);
		r = io->ops->exists(io, aside);
		if (r != 0)
			return r < 0 ? r : -EEXIST;
	}
	r = io->ops->mkdir(io, stream->dir);
	if (r != -EEXIST || !hashed)
		return r == -EEXIST ? 0 : r; /* it may be left over from a creation that did not come to its end */
	r = recovery_dir_owner(engine, stream->dir, owner, &owner_len);
	if (r != 0)
		return r == 2 ? -EEXIST : r < 0 ? r : 0;
	return owner_len == stream->name_len && memcmp(owner, stream->name, owner_len) == 0 ? 0 : -EEXIST;
}

/* A file may be there from a creation that did not come to its end: empty, or zeros where a header would be. Anything
 * else is not ours to destroy. */
static int take_over_file(struct io *io, struct io_file *file)
{
	uint8_t bytes[512];
	static const uint8_t zeros[sizeof(bytes)];
	uint64_t size;
	int r = io->ops->size(file, &size);
	if (r != 0 || size == 0)
		return r;
	ssize_t got = io->ops->pread(file, bytes, sizeof(bytes), 0, 0);
	if (got < 0)
		return (int)got;
	if (memcmp(bytes, zeros, (size_t)got) != 0)
		return -EEXIST;
	return io->ops->truncate(file, 0);
}

/* ---- room made ahead -------------------------------------------------------------------------------------------- */

static uint64_t room_max(const struct writer *writer)
{
	const struct engine_options *options = &writer->engine->options;
	return align_up(options->max_segment_size + options->write_buffer_size, IO_PAGE_BYTES);
}

/* Nobody is in the file: the caller holds no descriptor for a write. If it cannot be, the zeros do no harm. */
static void trim(struct writer *writer, struct stream *stream)
{
	struct tail *tail = &stream->tail;
	struct io_file *file;
	uint64_t end = align_up(tail->written, IO_PAGE_BYTES);
	recent_end(writer, stream);
	if (!tail->segment || tail->unchecked || failure_of(stream) || tail->prepared <= end ||
		tail_pin(writer, tail->segment, &file) != 0)
		return;
	settle_fill(tail, true);
	if (writer->engine->io->ops->truncate(file, end) == 0)
		tail->prepared = end;
	unpin(writer, tail->segment);
}

void tail_trim_all(struct writer *writer)
{
	for (unsigned i = 0; i < ROOMY_MAX; i++)
		if (writer->roomy[i] && !writer->roomy[i]->group_first)
			trim(writer, writer->roomy[i]);
}

void tail_give_back_room(struct writer *writer)
{
	struct io *io = writer->engine->io;
	atomic_store(&writer->engine->no_room_ns, io->ops->monotonic_ns(io));
	if (spare_drop(writer))
		chores_run_once(writer->engine->maker);
	tail_trim_all(writer);
}

bool tail_is_roomy(const struct writer *writer, const struct stream *stream)
{
	for (unsigned i = 0; i < ROOMY_MAX; i++)
		if (writer->roomy[i] == stream)
			return true;
	return false;
}

/* A place among those that hold much room. NULL: all are taken by streams that this group writes to. */
static struct stream **roomy_place(struct writer *writer, struct stream *stream)
{
	for (unsigned i = 0; i < ROOMY_MAX; i++)
		if (writer->roomy[i] == stream)
			return &writer->roomy[i];
	for (unsigned i = 0; i < ROOMY_MAX; i++) {
		struct stream **place = &writer->roomy[writer->roomy_next++ % ROOMY_MAX];
		if (!*place || !(*place)->group_first)
			return place;
	}
	return NULL;
}

/* A spare takes the segment's name. 0: there is none; else its size. */
static uint64_t take_spare(struct writer *writer, struct segment *segment)
{
	struct io *io = writer->engine->io;
	char path[SEGMENT_PATH_MAX];
	uint64_t bytes = 0;
	struct stream **place = roomy_place(writer, segment->stream);
	segment_path(segment, path);
	if (!place || io->ops->exists(io, path) != 0 || spare_take(writer, path, &bytes) != 0)
		return 0;
	if (*place && *place != segment->stream)
		trim(writer, *place);
	*place = segment->stream;
	return bytes;
}

/* How long the next segment will be, if it is like this one. */
static uint64_t spare_bytes_for(const struct writer *writer, const struct tail *tail)
{
	const struct engine_options *options = &writer->engine->options;
	uint64_t bytes = room_max(writer);
	if (options->max_entries_per_segment > 0 && tail->entries > 0) {
		uint64_t each = tail->written / tail->entries + 1;
		if (each < bytes / options->max_entries_per_segment)
			bytes = each * options->max_entries_per_segment;
		bytes = align_up(bytes, IO_PAGE_BYTES);
	}
	return bytes < SPARE_MAX_BYTES ? bytes : SPARE_MAX_BYTES;
}

static void want_spare(struct writer *writer, struct tail *tail)
{
	struct engine *engine = writer->engine;
	uint64_t now = engine->io->ops->monotonic_ns(engine->io), bytes = spare_bytes_for(writer, tail);
	uint64_t no_room_ns = atomic_load(&engine->no_room_ns);
	if (no_room_ns != 0 && now - no_room_ns < NO_ROOM_NS) {
		(void)spare_drop(writer);
		return;
	}
	if (tail->began_ns == 0) {
		tail->began_ns = now;
		tail->began_at = tail->written;
	}
	uint64_t written = tail->written - tail->began_at, passed_ns = now - tail->began_ns;
	if (bytes < SPARE_MIN_BYTES || written < (bytes / 16 < FAST_BYTES ? bytes / 16 : FAST_BYTES))
		return;
	tail->fast = passed_ns / 1000000 <= written * 1000 / FAST_BYTES_PER_S;
	if (!tail->fast)
		return;
	/* Half of the time that the rest of the segment takes. */
	double left = bytes > tail->written ? (double)(bytes - tail->written) : 0;
	spare_want(writer, bytes, now + (uint64_t)(left * (double)passed_ns / (double)written / 2));
}

int tail_create(struct writer *writer, struct plan *plan)
{
	struct engine *engine = writer->engine;
	struct stream *stream = plan->stream;
	struct io *io = engine->io;
	if (!stream->dir_made) {
		int r = make_dir(engine, stream);
		if (r != 0)
			return r;
		stream->dir_made = true;
	}
	struct segment *segment = segment_new(stream, stream->next_id);
	if (!segment)
		return -ENOMEM;
	struct segment_header header = {
		.first_id = stream->next_id,
		.created_ns = io->ops->wall_ns(io),
		.prev_check = stream->tail.check,
		.name_len = stream->name_len,
	};
	memcpy(header.name, stream->name, stream->name_len);
	pthread_mutex_lock(&writer->list_lock);
	int r = stream_reserve_segment(stream) == 0 ? 0 : -ENOMEM;
	pthread_mutex_unlock(&writer->list_lock);
	if (r == 0)
		r = io->ops->random(io, &header.salt, sizeof(header.salt));
	struct io_file *file;
	uint64_t spare_bytes = r == 0 && stream->tail.fast ? take_spare(writer, segment) : 0;
	if (r == 0)
		r = open_cache_pin(engine->open_cache, segment, OPEN_CREATE, 0, &file, NULL, NULL);
	if (r == -ENOENT || r == -ENOTDIR)
		stream->dir_made = stream->dir_durable =
			false; /* something else stood there: made anew, once it is gone */
	if (r != 0) {
		segment_unref(segment, engine->open_cache);
		return r;
	}
	r = spare_bytes == 0 ? take_over_file(io, file) : 0;
	unpin(writer, segment);
	if (r != 0) {
		segment_unref(segment, engine->open_cache);
		return r;
	}
	plan->segment_header_bytes = segment_header_encode(&header, plan->segment_header);
	segment->salt = header.salt;
	segment->header_bytes = header.header_bytes;
	segment->header_check = header.check;
	segment->data_end = header.header_bytes;
	segment->indexed = true;
	plan->fresh = segment;
	plan->prev_check = stream->tail.check;
	stream->tail = (struct tail){
		.segment = segment,
		.written = header.header_bytes,
		.prepared = spare_bytes,
		.whole_pages = spare_bytes > 0,
		.synced = 0,
		.check = header.check,
		.fast = stream->tail.fast,
	};
	return 0;
}

void tail_discard(struct writer *writer, struct plan *plan)
{
	struct engine *engine = writer->engine;
	char path[SEGMENT_PATH_MAX];
	segment_path(plan->fresh, path);
	tail_end(writer, plan->stream);
	/* The name tells the next id, with a damaged segment before it perhaps nothing else does: it stays, once made.
	 */
	struct io_file *file;
	bool name_stays = plan->stream->segment_count > 0;
	if (name_stays && tail_pin(writer, plan->fresh, &file) == 0) {
		(void)engine->io->ops->truncate(file, 0);
		unpin(writer, plan->fresh);
	}
	open_cache_drop(engine->open_cache, plan->fresh);
	if (!name_stays)
		engine->io->ops->unlink(engine->io, path);
	segment_unref(plan->fresh, engine->open_cache);
	plan->fresh = NULL;
	plan->stream->tail = (struct tail){.check = plan->prev_check};
}

int tail_seal(struct writer *writer, struct stream *stream)
{
	struct tail *tail = &stream->tail;
	struct segment *segment = tail->segment;
	struct io *io = writer->engine->io;
	tail_end(writer, stream);
	struct io_file *file;
	int r = tail_pin(writer, segment, &file);
	if (r != 0)
		return r; /* no descriptor: the segment stays as it is */
	/* What the journal holds may be in place only in the page cache, or not at all: the successor must not be
	 * written before it is durable. */
	r = held_write(writer, stream);
	if (r == 0) {
		tail->dirty = true;
		r = tail_sync(writer, stream);
	} else if (!io_no_room(r) && !io_no_descriptor(r)) {
		writer_fail_segment(segment, -r, "write of");
	}
	if (r == 0) {
		tail_save_index(writer, stream, true);
		/* What was written ahead goes back; if it cannot, the zeros do no harm. */
		(void)io->ops->truncate(file, tail->written);
	}
	unpin(writer, segment);
	if (r != 0)
		return r;
	pthread_mutex_lock(&writer->list_lock);
	segment->sealed = true;
	pthread_mutex_unlock(&writer->list_lock);
	STAT_ADD(writer, rotations, 1);
	*tail = (struct tail){.check = tail->check, .fast = tail->fast};
	return 0;
}

/* ---- space ------------------------------------------------------------------------------------------------------ */

int tail_reserve(struct writer *writer, struct segment *segment, struct tail *tail, uint64_t end)
{
	struct io *io = writer->engine->io;
	settle_fill(tail, tail->fill && end > fill_from(tail->fill));
	if (end <= tail->prepared)
		return 0;
	struct io_file *file;
	int r = tail_pin(writer, segment, &file);
	if (r != 0)
		return r;
	uint64_t ahead = tail->written / 2 < FILL_MIN_SEGMENT ? tail->written / 2 : FILL_MIN_SEGMENT;
	uint64_t to = align_up(end + ahead, IO_PAGE_BYTES);
	r = io->ops->allocate(file, tail->prepared, to - tail->prepared);
	if (io_no_room(r)) {
		tail_give_back_room(writer);
		r = io->ops->allocate(file, tail->prepared, to - tail->prepared);
	}
	if (io_no_room(r) && to > align_up(end, IO_PAGE_BYTES)) {
		to = align_up(end, IO_PAGE_BYTES);
		r = io->ops->allocate(file, tail->prepared, to - tail->prepared);
	}
	if (r == -EOPNOTSUPP)
		r = io_write_zeros(io, file, tail->prepared, to);
	if (r == 0)
		tail->prepared = to;
	unpin(writer, segment);
	return r;
}

int tail_take_back(struct tail *tail, struct io *io, struct io_file *file, uint64_t offset)
{
	settle_fill(tail, true); /* it must not write behind the cut afterwards */
	int r = io->ops->truncate(file, offset);
	if (r == 0)
		tail->prepared = offset;
	return r;
}

void tail_end(struct writer *writer, struct stream *stream)
{
	settle_fill(&stream->tail, true);
	recent_end(writer, stream);
}

void tail_fill_ahead(struct writer *writer, struct stream *stream)
{
	struct tail *tail = &stream->tail;
	settle_fill(tail, false);
	if (tail->by_journal > 0) { /* nobody waits for syncs of the file */
		tail->fast = false;
		return;
	}
	want_spare(writer, tail);
	if (tail->fill || tail->written < FILL_MIN_SEGMENT)
		return;
	uint64_t chunk = tail->written < FILL_MAX_BYTES ? align_up(tail->written, IO_PAGE_BYTES) : FILL_MAX_BYTES;
	uint64_t max = room_max(writer);
	/* It begins behind what the next groups will use while it is at work. */
	uint64_t from = tail->prepared > tail->written ? tail->prepared : tail->written, to = from + chunk;
	if (from - tail->written >= chunk / 2 || from >= max)
		return;
	if (to > max)
		to = max;
	if (to > from)
		tail->fill = fill_start(writer, tail->segment, from, to);
}

/* ---- index ------------------------------------------------------------------------------------------------------ */

void tail_save_index(struct writer *writer, struct stream *stream, bool all)
{
	struct tail *tail = &stream->tail;
	const struct index *index = &tail->segment->index; /* only this thread adds to it: reading needs no lock */
	uint32_t proven = index->count;
	if (proven <= tail->index_saved || (!all && proven - tail->index_saved < INDEX_SAVE_POINTS))
		return;
	while (proven > tail->index_saved && index->points[proven - 1].offset > tail->synced)
		proven--;
	char path[SEGMENT_PATH_MAX];
	segment_index_path(tail->segment, path);
	int r = index_file_append(writer->engine->io, path, tail->segment->salt, index, tail->index_saved, proven);
	if (r != 0)
		log_debug("engine", "index %s: not saved (%s); reads rebuild it", path, error_errno_name(-r));
	/* Also after an error: missing points cost time only, and the next piece is tried anew. */
	tail->index_saved = proven;
}
