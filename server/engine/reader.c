/*
 * reader: from an id to the entry's bytes. Any thread; never in the writers' queue.
 *
 *   the list (under its lock): which segment, how far it is published, the nearest index point before the id
 *   the file (pinned open):    frame after frame from there to the one that holds the id, block by block through it
 * What is found broken is answered with the place where reading can go on; nothing is cut here.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block_map.h"
#include "crc32c.h"
#include "engine_private.h"
#include "scan.h"
#include "writer.h"

#define READERS_KEPT 8u
#define GET_CHUNK (8u << 10)
#define KEEP_WINDOW (1u << 20)
#define NOWAIT_BLOCK_MAX (64u << 10)

struct reader {
	struct reader *next;
	struct window window;
	struct buf header, raw;
	struct buf places; /* of blocks that were walked over, for the map */
};

/* One call of engine_read. */
struct job {
	struct engine *engine;
	struct stream *stream;
	struct reader *reader;
	uint64_t next, end, view_end;
	bool nowait, stopped;
	read_entry_cb cb;
	void *arg;
	struct error *err;
};

/* What was true of a segment when the list was locked. */
struct snapshot {
	struct segment *segment; /* referenced */
	struct held *held;	 /* referenced; NULL: all is in the file */
	struct recent *recent;	 /* referenced, where nothing is held; NULL: it is in the file alone */
	uint64_t first_id, end_id, data_end, salt;
	uint32_t header_bytes, header_check;
	bool cut, sealed, indexed, loaded;
};

static struct reader *reader_take(struct engine *engine)
{
	pthread_mutex_lock(&engine->readers_lock);
	struct reader *reader = engine->readers;
	if (reader) {
		engine->readers = reader->next;
		engine->reader_count--;
	}
	pthread_mutex_unlock(&engine->readers_lock);
	return reader ? reader : calloc(1, sizeof(*reader));
}

static void reader_free(struct reader *reader)
{
	window_free(&reader->window);
	buf_free(&reader->header);
	buf_free(&reader->raw);
	buf_free(&reader->places);
	free(reader);
}

static void reader_give(struct engine *engine, struct reader *reader)
{
	if (reader->window.cap > KEEP_WINDOW)
		window_free(&reader->window);
	if (reader->raw.cap > KEEP_WINDOW)
		buf_free(&reader->raw);
	pthread_mutex_lock(&engine->readers_lock);
	bool keep = engine->reader_count < READERS_KEPT;
	if (keep) {
		reader->next = engine->readers;
		engine->readers = reader;
		engine->reader_count++;
	}
	pthread_mutex_unlock(&engine->readers_lock);
	if (!keep)
		reader_free(reader);
}

void readers_free(struct engine *engine)
{
	while (engine->readers) {
		struct reader *reader = engine->readers;
		engine->readers = reader->next;
		reader_free(reader);
	}
}

/* ---- errors ----------------------------------------------------------------------------------------------------- */

static const char *file_of(const struct segment *segment, char path[SEGMENT_PATH_MAX])
{
	segment_path(segment, path);
	char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static enum read_result fail_io(struct job *job, const struct segment *segment, int r)
{
	if (r == -EAGAIN && job->nowait)
		return READ_WOULD_BLOCK;
	char path[SEGMENT_PATH_MAX];
	segment_path(segment, path);
	error_set_io(job->err, -r, "read", path);
	return READ_ERROR;
}

static void set_place(struct job *job, const struct segment *segment, uint64_t offset, uint64_t first_id)
{
	char path[SEGMENT_PATH_MAX];
	const char *file = file_of(segment, path);
	error_set_text(job->err, EFI_STREAM, job->stream->name, job->stream->name_len);
	error_set_text(job->err, EFI_SEGMENT, file, strlen(file));
	error_set_u64(job->err, EFI_OFFSET, offset);
	error_set_u64(job->err, EFI_ID, job->next);
	if (first_id > job->next && first_id <= job->view_end)
		error_set_u64(job->err, EFI_FIRST_ID, first_id);
	count_add(&job->engine->damage_found, 1);
}

static enum read_result fail_damage(struct job *job, const struct segment *segment, uint64_t offset, uint64_t first_id)
{
	char path[SEGMENT_PATH_MAX];
	error_set(job->err, ERR_CORRUPTION,
		"stream %.100s: entry %llu is damaged (%s at byte %llu); entries from %llu on can be read",
		job->stream->name, (unsigned long long)job->next, file_of(segment, path), (unsigned long long)offset,
		(unsigned long long)first_id);
	set_place(job, segment, offset, first_id);
	return READ_ERROR;
}

static enum read_result fail_crc(struct job *job, const struct segment *segment, uint64_t offset, uint64_t first_id,
	uint32_t expected, uint32_t actual)
{
	char path[SEGMENT_PATH_MAX];
	error_set(job->err, ERR_CRC_MISMATCH,
		"stream %.100s: entry %llu is damaged (%s at byte %llu: checksum %08x, not %08x); entries from %llu on "
		"can be read",
		job->stream->name, (unsigned long long)job->next, file_of(segment, path), (unsigned long long)offset,
		actual, expected, (unsigned long long)first_id);
	error_set_u64(job->err, EFI_EXPECTED, expected);
	error_set_u64(job->err, EFI_ACTUAL, actual);
	set_place(job, segment, offset, first_id);
	return READ_ERROR;
}

/* ---- segments that were not opened since the start -------------------------------------------------------------- */

/* Reads the header of a sealed segment and makes its index complete. */
static int load_segment(struct job *job, struct snapshot *snapshot, struct window *window)
{
	struct io *io = job->engine->io;
	struct segment *segment = snapshot->segment;
	const uint8_t *bytes;
	uint64_t size;
	int r = io->ops->size(window->file, &size);
	if (r != 0)
		return r;
	window->limit = size < snapshot->data_end ? size : snapshot->data_end;
	size_t len = window->limit < SEGMENT_HEADER_MAX ? (size_t)window->limit : SEGMENT_HEADER_MAX;
	r = window_need(window, 0, len, &bytes);
	if (r < 0)
		return r;
	struct segment_header header;
	if (r == 1 || segment_header_decode(bytes, len, &header) != HEADER_OK ||
		header.first_id != snapshot->first_id || header.name_len != job->stream->name_len ||
		memcmp(header.name, job->stream->name, header.name_len) != 0 ||
		(snapshot->cut && header.salt != segment->salt))
		return -EBADMSG;

	struct index index = {0};
	char path[SEGMENT_PATH_MAX];
	segment_index_path(segment, path);
	if (!snapshot->cut && (r = index_file_load(io, path, header.salt, size, &index)) != 0)
		return r;
	struct index_point at = {header.first_id, header.header_bytes, header.check};
	if (index.count > 0)
		at = index.points[index.count - 1];
	for (;;) {
		struct frame frame;
		int error = 0;
		enum scan_result result = scan_frame(window, header.salt, at.offset, &frame, NULL, &error);
		if (result == SCAN_ERROR) {
			index_clear(&index);
			return error;
		}
		if (result != SCAN_FRAME || frame.prev_check != at.prev_check || frame.first_id != at.id)
			break; /* the end, or damage: readers meet it themselves */
		index_note(&index, at);
		at = (struct index_point){
			frame.first_id + frame.entry_count, frame.offset + frame.total_bytes, frame.check};
	}

	pthread_mutex_lock(&job->stream->writer->list_lock);
	if (!segment->indexed) {
		index_clear(&segment->index);
		segment->index = index;
		index = (struct index){0};
		segment->salt = header.salt;
		segment->header_bytes = header.header_bytes;
		segment->header_check = header.check;
		segment->indexed = true;
	}
	snapshot->salt = segment->salt;
	snapshot->header_bytes = segment->header_bytes;
	snapshot->header_check = segment->header_check;
	snapshot->data_end = segment->data_end;
	pthread_mutex_unlock(&job->stream->writer->list_lock);
	index_clear(&index);
	return 0;
}

/* ---- blocks ----------------------------------------------------------------------------------------------------- */

static bool deliver(struct job *job, const struct block *block, const uint8_t *raw, uint64_t block_first_id)
{
	uint64_t block_end = block_first_id + block->entry_count;
	uint64_t entries = 0, total = 0;
	while (job->next < job->end && job->next < block_end) {
		const uint8_t *bytes;
		size_t len;
		block_entry(block, raw, (uint32_t)(job->next - block_first_id), &bytes, &len);
		if (job->cb(job->next, bytes, len, job->arg) != 0) {
			job->stopped = true;
			break;
		}
		job->next++;
		entries++;
		total += len;
	}
	count_add(&job->engine->entries_read, entries);
	count_add(&job->engine->bytes_read, total);
	return !job->stopped;
}

static enum read_result read_block(
	struct job *job, struct snapshot *snapshot, const struct block *block, uint64_t offset, uint64_t block_first_id)
{
	struct reader *reader = job->reader;
	struct block_cache *cache = job->engine->block_cache;
	bool caching = job->engine->options.block_cache_size > 0;
	uint64_t after = block_first_id + block->entry_count;
	/* A large one would be read, checked and perhaps thrown away on the loop: others would wait for it. */
	if (job->nowait && block->raw_bytes > NOWAIT_BLOCK_MAX)
		return READ_WOULD_BLOCK;
	struct cached_block *cached = caching ? block_cache_get(cache, snapshot->segment->serial, offset) : NULL;
	if (cached) {
		size_t len;
		(void)deliver(job, block, cached_block_bytes(cached, &len), block_first_id);
		cached_block_release(cached);
		return READ_DONE;
	}
	const uint8_t *stored;
	int r = window_need(&reader->window, offset, block->stored_bytes, &stored);
	if (r < 0)
		return fail_io(job, snapshot->segment, r);
	if (r == 1)
		return fail_damage(job, snapshot->segment, offset, after);
	uint32_t crc = crc32c(0, stored, block->stored_bytes);
	if (crc != block->crc)
		return fail_crc(job, snapshot->segment, offset, after, block->crc, crc);
	const uint8_t *raw = stored;
	uint8_t *unpacked = NULL;
	if (caching) {
		raw = unpacked = malloc(block->raw_bytes ? block->raw_bytes : 1);
	} else if (block->stored_bytes != block->raw_bytes) {
		reader->raw.len = 0;
		raw = unpacked = buf_reserve(&reader->raw, block->raw_bytes) == 0 ? reader->raw.data : NULL;
	}
	if (!raw)
		return fail_io(job, snapshot->segment, -ENOMEM);
	if ((unpacked && !block_unpack(block, stored, unpacked)) || !block_check_ends(block, raw)) {
		if (caching)
			free(unpacked);
		return fail_damage(job, snapshot->segment, offset, after);
	}
	if (caching &&
		(cached = block_cache_put(cache, snapshot->segment->serial, offset, unpacked, block->raw_bytes))) {
		size_t len;
		raw = cached_block_bytes(cached, &len);
	}
	(void)deliver(job, block, raw, block_first_id);
	if (cached)
		cached_block_release(cached);
	else if (caching)
		free(unpacked);
	return READ_DONE;
}

static enum read_result read_frame(
	struct job *job, struct snapshot *snapshot, const struct frame *frame, const uint8_t *header)
{
	struct reader *reader = job->reader;
	/* Blocks push the header out of the window: the rest of it is kept aside. */
	if (frame->block_count > 1) {
		reader->header.len = 0;
		if (buf_append(&reader->header, header, frame->header_bytes) != 0)
			return fail_io(job, snapshot->segment, -ENOMEM);
		header = reader->header.data;
	}
	uint64_t offset = frame->offset + frame->header_bytes, id = frame->first_id;
	for (uint32_t i = 0; i < frame->block_count && job->next < job->end && !job->stopped; i++) {
		struct block block = frame_block(header, frame, i);
		if (id + block.entry_count > job->next) {
			enum read_result result = read_block(job, snapshot, &block, offset, id);
			if (result != READ_DONE)
				return result;
		}
		id += block.entry_count;
		offset += block.stored_bytes;
	}
	return READ_DONE;
}

/* ---- frames of one segment -------------------------------------------------------------------------------------- */

/* Damage at offset, where the frame with `expected_id` should be. Finds where to go on; if the wanted id is behind
 * that, *at is set. */
static enum read_result skip_damage(
	struct job *job, struct snapshot *snapshot, uint64_t offset, struct index_point *at, bool *ret_skipped)
{
	if (job->nowait)
		return READ_WOULD_BLOCK; /* it may take a while */
	uint64_t first_id = snapshot->end_id;
	struct frame frame;
	int error = 0;
	if (!snapshot->cut) {
		enum scan_result result =
			scan_next_whole(&job->reader->window, snapshot->salt, offset + 1, false, &frame, &error);
		if (result == SCAN_ERROR)
			return fail_io(job, snapshot->segment, error);
		if (result == SCAN_FRAME && frame.first_id <= job->next && frame.first_id >= snapshot->first_id) {
			*at = (struct index_point){frame.first_id, frame.offset, frame.prev_check};
			*ret_skipped = true;
			return READ_DONE;
		}
		if (result == SCAN_FRAME && frame.first_id < snapshot->end_id)
			first_id = frame.first_id;
	}
	return fail_damage(job, snapshot->segment, offset, first_id);
}

/* For the map of blocks. Without memory, or with many of them, it ends before this frame. False: so it is. */
static bool note_blocks(struct reader *reader, const struct frame *frame, const uint8_t *header)
{
	struct buf *places = &reader->places;
	uint64_t offset = frame->offset + frame->header_bytes, id = frame->first_id;
	if (frame->block_count > BLOCK_MAP_MAX - places->len / sizeof(struct block_place) ||
		buf_reserve(places, frame->block_count * sizeof(struct block_place)) != 0)
		return false;
	for (uint32_t i = 0; i < frame->block_count; i++) {
		struct block_place place = {id, offset, frame_block(header, frame, i)};
		(void)buf_append(places, &place, sizeof(place)); /* there is room */
		id += place.block.entry_count;
		offset += place.block.stored_bytes;
	}
	return true;
}

/* known: NULL, or how far the blocks are noted, from `at` on. */
static enum read_result read_frames(
	struct job *job, struct snapshot *snapshot, struct index_point at, struct index_point *known)
{
	uint64_t end = job->end < snapshot->end_id ? job->end : snapshot->end_id;
	while (job->next < end && !job->stopped) {
		struct frame frame;
		const uint8_t *header;
		int error = 0;
		enum scan_result result =
			scan_frame(&job->reader->window, snapshot->salt, at.offset, &frame, &header, &error);
		if (result == SCAN_ERROR)
			return fail_io(job, snapshot->segment, error);
		if (result != SCAN_FRAME || frame.first_id != at.id || frame.prev_check != at.prev_check) {
			bool skipped = false;
			enum read_result done = skip_damage(job, snapshot, at.offset, &at, &skipped);
			if (done != READ_DONE)
				return done;
			continue;
		}
		bool noted = known && known->offset == frame.offset && note_blocks(job->reader, &frame, header);
		at = (struct index_point){
			frame.first_id + frame.entry_count, frame.offset + frame.total_bytes, frame.check};
		if (noted)
			*known = at;
		if (at.id <= job->next)
			continue;
		enum read_result done = read_frame(job, snapshot, &frame, header);
		if (done != READ_DONE)
			return done;
	}
	return READ_DONE;
}

/* A single entry: its block is known, or is found on the way of read_frames, which is remembered. */
static enum read_result read_one(struct job *job, struct snapshot *snapshot, struct index_point at)
{
	struct reader *reader = job->reader;
	const struct index_point point = at;
	struct block_place place;
	if (block_maps_find(job->engine->block_maps, snapshot->segment->serial, job->next, &at, &place)) {
		reader->window.chunk = place.block.stored_bytes;
		return read_block(job, snapshot, &place.block, place.offset, place.first_id);
	}
	const struct index_point from = at;
	struct index_point known = at;
	reader->places.len = 0;
	enum read_result result = read_frames(job, snapshot, at, &known);
	block_maps_add(job->engine->block_maps, snapshot->segment->serial, &point, &from, &known,
		(const struct block_place *)reader->places.data, reader->places.len / sizeof(struct block_place));
	if (reader->places.cap > KEEP_WINDOW)
		buf_free(&reader->places);
	return result;
}

static enum read_result read_segment(struct job *job, struct snapshot *snapshot)
{
	struct engine *engine = job->engine;
	struct window *window = &job->reader->window;
	int flags = job->nowait ? OPEN_NOWAIT : 0;
	if (engine->options.read_strategy == READ_MMAP)
		flags |= OPEN_MAP;
	if (job->nowait && !snapshot->loaded)
		return READ_WOULD_BLOCK;
	struct io_file *file;
	struct io_map *map = NULL;
	uint64_t map_len = 0;
	int r = open_cache_pin(engine->open_cache, snapshot->segment, flags, snapshot->data_end, &file, &map, &map_len);
	if (r == -ENOENT) {
		char path[SEGMENT_PATH_MAX];
		error_set(job->err, ERR_SEGMENT_NOT_FOUND,
			"stream %.100s: segment %s is missing; entries from %llu on can be read", job->stream->name,
			file_of(snapshot->segment, path), (unsigned long long)snapshot->end_id);
		error_set_u64(job->err, EFI_ID, job->next);
		if (snapshot->end_id <= job->view_end)
			error_set_u64(job->err, EFI_FIRST_ID, snapshot->end_id);
		count_add(&engine->damage_found, 1);
		return READ_ERROR;
	}
	if (r != 0)
		return fail_io(job, snapshot->segment, r);
	size_t chunk = job->end - job->next == 1 && engine->options.read_buffer_size > GET_CHUNK
			       ? GET_CHUNK
			       : engine->options.read_buffer_size;
	window_aim(window, engine->io, file, snapshot->data_end, chunk);
	window->map = map;
	window->map_len = map_len;
	window->nowait = job->nowait;
	if (snapshot->held) {
		window->memory = snapshot->held->bytes;
		window->memory_from = snapshot->held->from;
	} else if (snapshot->recent) {
		window->memory = snapshot->recent->bytes;
		window->memory_from = snapshot->recent->from;
	}
	enum read_result result;
	r = snapshot->loaded && snapshot->indexed ? 0 : load_segment(job, snapshot, window);
	if (r == -EBADMSG) {
		result = fail_damage(job, snapshot->segment, 0, snapshot->end_id);
	} else if (r != 0) {
		result = fail_io(job, snapshot->segment, r);
	} else {
		window->limit = snapshot->data_end;
		window->len = 0;
		struct index_point at = {snapshot->first_id, snapshot->header_bytes, snapshot->header_check}, nearer;
		pthread_mutex_lock(&job->stream->writer->list_lock);
		if (index_find(&snapshot->segment->index, job->next, &nearer))
			at = nearer;
		pthread_mutex_unlock(&job->stream->writer->list_lock);
		bool one = job->end - job->next == 1 && !snapshot->cut;
		result = one ? read_one(job, snapshot, at) : read_frames(job, snapshot, at, NULL);
	}
	open_cache_unpin(engine->open_cache, snapshot->segment);
	return result;
}

/* ---- the whole -------------------------------------------------------------------------------------------------- */

static enum read_result fail_truncated(struct job *job, uint64_t first_id)
{
	error_set(job->err, ERR_TRUNCATED,
		"stream %.100s: entry %llu was truncated away; the oldest that is kept is %llu", job->stream->name,
		(unsigned long long)job->next, (unsigned long long)first_id);
	error_set_u64(job->err, EFI_FIRST_ID, first_id);
	return READ_ERROR;
}

static enum read_result read_some(struct job *job)
{
	struct stream *stream = job->stream;
	struct snapshot snapshot = {0};
	pthread_mutex_lock(&stream->writer->list_lock);
	uint64_t first_kept = stream->segment_count > 0 ? stream->segments[0]->first_id : 0;
	struct segment *segment = stream_segment_at(stream, job->next);
	if (segment)
		snapshot = (struct snapshot){segment, held_of(segment), recent_of(segment), segment->first_id,
			segment->end_id, segment->data_end, segment->salt, segment->header_bytes, segment->header_check,
			segment->cut, segment->sealed, segment->indexed, segment->header_bytes != 0};
	pthread_mutex_unlock(&stream->writer->list_lock);
	enum read_result result;
	if (job->next < first_kept)
		result = fail_truncated(job, first_kept);
	else if (!segment)
		return fail_truncated(job, job->view_end);
	else if (snapshot.first_id > job->next)
		result = fail_damage(job, segment, 0, snapshot.first_id); /* a hole that recovery left: it speaks */
	else
		result = read_segment(job, &snapshot);
	held_unref(snapshot.held);
	recent_unref(snapshot.recent);
	segment_unref(segment, job->engine->open_cache);
	return result;
}

enum read_result engine_read(struct engine *engine, struct stream *stream, struct stream_view view, uint64_t start,
	uint64_t end, bool nowait, read_entry_cb cb, void *arg, uint64_t *ret_next, struct error *err)
{
	struct job job = {
		.engine = engine,
		.stream = stream,
		.next = start,
		.end = end < view.end ? end : view.end,
		.view_end = view.end,
		.nowait = nowait,
		.cb = cb,
		.arg = arg,
		.err = err,
	};
	enum read_result result = READ_DONE;
	*ret_next = start;
	if (start < job.end) {
		if (start < view.first)
			return fail_truncated(&job, view.first);
		job.reader = reader_take(engine);
		if (!job.reader)
			return error_set_io(err, ENOMEM, "read", stream->dir);
		while (result == READ_DONE && job.next < job.end && !job.stopped)
			result = read_some(&job);
		reader_give(engine, job.reader);
	}
	*ret_next = job.next;
	return result;
}
