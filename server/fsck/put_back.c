#include "put_back.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define CHUNK_BYTES (1u << 20)
#define NEW_ENDING ".new"

/* Frames that follow one another, in a file that was set aside. */
struct run {
	uint64_t first_id, end_id;
	uint32_t last_check; /* as they stand there */
	/* the new file, while it is written */
	struct io_file *file;
	char path[SEGMENT_PATH_MAX + sizeof(NEW_ENDING)];
	uint64_t salt, at;
	uint32_t check;
};

struct put_back {
	struct check *check;
	struct stream *stream;
	uint32_t number, done; /* of the segment that is looked through, and how many behind it are from it */
	struct segment *from;  /* the same */
	struct run run;	       /* run.file NULL: none */
	uint64_t files;
};

/* Of the file that entries of `from` are put back into. That it follows from the old one's tells where a file is from.
 */
static uint64_t salt_from(const struct segment *from, uint64_t first_id)
{
	uint8_t id[8];
	put_u64(id, first_id);
	uint64_t salt = XXH3_64bits_withSeed(id, sizeof(id), from->salt);
	return salt | (salt == 0);
}

/* The segments behind the number-th that were put back from it. Ids up to where they end, or begin, are those that
 * recovery kept free when it set that one aside: frames in it with other ids are older than those that have them now.
 */
static uint32_t count_put_back(const struct stream *stream, uint32_t number)
{
	uint32_t count = 0;
	for (uint32_t i = number + 1; i < stream->segment_count; i++, count++) {
		const struct segment *segment = stream->segments[i];
		if (!segment->cut || segment->salt != salt_from(stream->segments[number], segment->first_id))
			break;
	}
	return count;
}

/* Is there a hole around all ids of the frame? */
static bool is_free(const struct put_back *put_back, const struct frame *frame)
{
	const struct stream *stream = put_back->stream;
	uint64_t end_id = frame->first_id + frame->entry_count;
	for (uint32_t i = put_back->number; i <= put_back->number + put_back->done; i++)
		if (stream->segments[i]->end_id <= frame->first_id && end_id <= stream->segments[i + 1]->first_id)
			return true;
	return false;
}

/* ---- the new file ----------------------------------------------------------------------------------------------- */

static int write_at_end(struct put_back *put_back, const void *bytes, size_t len)
{
	struct run *run = &put_back->run;
	struct iovec iov = {(void *)bytes, len};
	int r = put_back->check->io->ops->pwritev(run->file, &iov, 1, run->at);
	run->at += len;
	return r;
}

static int begin_run(struct put_back *put_back, const struct frame *frame)
{
	struct io *io = put_back->check->io;
	struct run *run = &put_back->run;
	const struct stream *stream = put_back->stream;
	struct segment_header header = {
		.first_id = frame->first_id, .created_ns = io->ops->wall_ns(io), .name_len = stream->name_len};
	uint8_t bytes[SEGMENT_HEADER_MAX];
	*run = (struct run){.first_id = frame->first_id, .end_id = frame->first_id};
	header.salt = run->salt = salt_from(put_back->from, frame->first_id);
	memcpy(header.name, stream->name, stream->name_len);
	size_t len = segment_header_encode(&header, bytes);
	snprintf(run->path, sizeof(run->path), "%s/%016llx.cut" NEW_ENDING, stream->dir, (unsigned long long)run->salt);
	int r = io->ops->open(io, run->path, IO_READ | IO_WRITE | IO_CREATE | IO_EXCLUSIVE, &run->file);
	run->check = header.check;
	return r == 0 ? write_at_end(put_back, bytes, len) : r;
}

/* The frame at the run's end: its header moved, what follows it as it is. */
static int add_frame(struct put_back *put_back, struct frame frame)
{
	struct check *check = put_back->check;
	struct run *run = &put_back->run;
	uint64_t from = frame.offset + frame.header_bytes, end = frame.offset + frame.total_bytes;
	const uint8_t *bytes;
	int r = window_need(&check->window, frame.offset, frame.header_bytes, &bytes);
	check->raw.len = 0;
	if (r == 0 && buf_append(&check->raw, bytes, frame.header_bytes) != 0)
		r = -ENOMEM;
	if (r != 0)
		return r < 0 ? r : -EIO;
	run->end_id = frame.first_id + frame.entry_count;
	run->last_check = frame.check;
	frame_move(check->raw.data, &frame, run->salt, run->at, run->check);
	run->check = frame.check;
	r = write_at_end(put_back, check->raw.data, frame.header_bytes);
	while (r == 0 && from < end) {
		size_t len = end - from < CHUNK_BYTES ? (size_t)(end - from) : CHUNK_BYTES;
		r = window_need(&check->window, from, len, &bytes);
		r = r == 0 ? write_at_end(put_back, bytes, len) : r < 0 ? r : -EIO;
		from += len;
	}
	return r;
}

static void tell(struct put_back *put_back)
{
	const struct run *run = &put_back->run;
	const struct stream *stream = put_back->stream;
	char path[SEGMENT_PATH_MAX];
	segment_path(put_back->from, path);
	const struct finding finding = {
		.severity = SEVERITY_NOTE,
		.kind = "put_back",
		.stream = stream->name,
		.stream_len = stream->name_len,
		.file = path,
		.has_ids = true,
		.first = run->first_id,
		.end = run->end_id,
		.text = "whole frames stand behind the break",
		.ids_text = "can be read again after the repair",
	};
	report_add(put_back->check->report, &finding);
}

static int end_run(struct put_back *put_back)
{
	struct io *io = put_back->check->io;
	struct run *run = &put_back->run;
	char file[NAMES_FILE_MAX], path[SEGMENT_PATH_MAX];
	if (!run->file)
		return 0;
	int r = io->ops->sync(run->file);
	io->ops->close(run->file);
	run->file = NULL;
	cut_file_name(run->first_id, run->end_id, run->salt, file);
	snprintf(path, sizeof(path), "%s/%s", put_back->stream->dir, file);
	if (r == 0)
		r = io->ops->rename(io, run->path, path);
	if (r == 0)
		r = io->ops->sync_dir(io, put_back->stream->dir);
	if (r == 0) {
		put_back->files++;
		tell(put_back);
	}
	return r;
}

/* ---- the file that was set aside -------------------------------------------------------------------------------- */

static int take_frame(struct put_back *put_back, const struct frame *frame)
{
	struct run *run = &put_back->run;
	int r = 0;
	if (!is_free(put_back, frame) || frame->first_id < run->end_id)
		return 0;
	if (run->file && (frame->first_id != run->end_id || frame->prev_check != run->last_check))
		r = end_run(put_back);
	if (r == 0 && !run->file)
		r = begin_run(put_back, frame);
	return r == 0 ? add_frame(put_back, *frame) : r;
}

static int take_all(struct put_back *put_back, struct io_file *file, uint64_t size)
{
	struct check *check = put_back->check;
	window_aim(&check->window, check->io, file, size, CHUNK_BYTES);
	check->window.bridge = true;
	for (uint64_t from = 0;;) {
		struct frame frame;
		int error = 0;
		enum scan_result result =
			scan_next_whole(&check->window, put_back->from->salt, from, true, &frame, &error);
		if (result == SCAN_ERROR)
			return error;
		if (result == SCAN_END)
			return 0;
		int r = take_frame(put_back, &frame);
		if (r < 0)
			return r;
		from = frame.offset + frame.total_bytes;
	}
}

static int from_segment(struct put_back *put_back)
{
	struct io *io = put_back->check->io;
	char path[SEGMENT_PATH_MAX];
	struct io_file *file;
	uint64_t size;
	segment_path(put_back->from, path);
	int r = io->ops->open(io, path, IO_READ, &file);
	if (r != 0)
		return r == -ENOENT ? 0 : r;
	put_back->run = (struct run){0};
	r = io->ops->size(file, &size);
	if (r == 0)
		r = take_all(put_back, file, size);
	if (r == 0)
		r = end_run(put_back);
	io->ops->close(put_back->run.file);
	put_back->run.file = NULL;
	io->ops->close(file);
	return r;
}

/* ---- a stream --------------------------------------------------------------------------------------------------- */

struct leftovers {
	char path[SEGMENT_PATH_MAX + NAMES_FILE_MAX];
	const char *dir;
};

static int leftover_cb(const char *name, bool is_dir, void *arg)
{
	struct leftovers *left = arg;
	size_t len = strlen(name), ending = strlen(".cut" NEW_ENDING);
	if (is_dir || len != 16 + ending || strcmp(name + 16, ".cut" NEW_ENDING) != 0)
		return 0;
	snprintf(left->path, sizeof(left->path), "%s/%s", left->dir, name);
	return 1;
}

/* Of a repair that was cut off. */
static int remove_leftovers(struct io *io, const char *dir)
{
	struct leftovers left = {.dir = dir};
	int r;
	while ((r = io->ops->list_dir(io, dir, leftover_cb, &left)) == 1) {
		r = io->ops->unlink(io, left.path);
		if (r != 0)
			return r;
	}
	return r;
}

int put_back_all(struct check *check, uint64_t *ret_files, struct error *err)
{
	struct stream_table *table = &check->engine->table;
	struct put_back put_back = {.check = check};
	stream_table_sort(table);
	for (size_t i = 0; i < table->sorted_count; i++) {
		struct stream *stream = put_back.stream = table->sorted[i];
		int r = 0;
		bool cleaned = false;
		for (uint32_t k = 0; r == 0 && k + 1 < stream->segment_count; k++) {
			put_back.from = stream->segments[put_back.number = k];
			if (!put_back.from->cut)
				continue;
			put_back.done = count_put_back(stream, k);
			if (k + put_back.done + 1 == stream->segment_count)
				break; /* the newest one is never set aside */
			if (!cleaned)
				r = remove_leftovers(check->io, stream->dir);
			cleaned = true;
			if (r == 0)
				r = from_segment(&put_back);
		}
		if (r != 0)
			return error_set_io(err, -r, "put back what can be read in", stream->dir);
	}
	*ret_files = put_back.files;
	return 0;
}
