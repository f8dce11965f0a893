/* recovery_aside: damaged files get another name, and a stream a new segment behind them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "recovery_judge.h"

#define TORN_ENDING ".torn"

void judge_pop_segment(struct judge *judge)
{
	struct stream *stream = judge->stream;
	stream->segment_count--;
	segment_unref(judge->segment, NULL);
	judge->segment = NULL;
	stream->tail = (struct tail){0};
}

/* A new, empty, durable segment whose name tells the next id, whatever becomes of the old one. */
int recovery_successor(struct engine *engine, struct stream *stream, uint64_t next_id, uint32_t prev_check,
	struct segment **ret_segment)
{
	struct io *io = engine->io;
	struct segment *segment = segment_new(stream, next_id);
	if (!segment || stream_reserve_segment(stream) != 0) {
		segment_unref(segment, NULL);
		return -ENOMEM;
	}
	struct segment_header header = {
		.first_id = next_id,
		.created_ns = io->ops->wall_ns(io),
		.prev_check = prev_check,
		.name_len = stream->name_len,
	};
	memcpy(header.name, stream->name, stream->name_len);
	uint8_t bytes[SEGMENT_HEADER_MAX];
	char path[SEGMENT_PATH_MAX];
	segment_path(segment, path);
	struct io_file *file = NULL;
	/* What a journal has just made again must not lose its name while this one keeps its own: it would be taken for
	 * deleted, and not made again. */
	int r = io->ops->sync_dir(io, stream->dir);
	if (r == 0)
		r = io->ops->random(io, &header.salt, sizeof(header.salt));
	if (r == 0)
		r = io->ops->open(io, path, IO_READ | IO_WRITE | IO_CREATE, &file);
	if (r == 0) {
		struct iovec iov = {bytes, segment_header_encode(&header, bytes)};
		r = io->ops->pwritev(file, &iov, 1, 0);
		if (r == 0)
			r = io->ops->sync(file);
		io->ops->close(file);
	}
	if (r == 0)
		r = io->ops->sync_dir(io, stream->dir);
	if (r != 0) {
		segment_unref(segment, NULL);
		return r;
	}
	segment->salt = header.salt;
	segment->header_bytes = header.header_bytes;
	segment->header_check = header.check;
	segment->data_end = header.header_bytes;
	segment->indexed = true;
	stream->tail = (struct tail){
		.segment = segment,
		.written = header.header_bytes,
		.prepared = header.header_bytes,
		.synced = header.header_bytes,
		.check = header.check,
		.name_durable = true,
	};
	*ret_segment = segment;
	return 0;
}

int judge_set_aside(struct judge *judge, uint64_t next_id, const char *why)
{
	struct io *io = judge->engine->io;
	struct stream *stream = judge->stream;
	struct segment *old = judge->segment, *successor = NULL;
	char path[SEGMENT_PATH_MAX], aside[SEGMENT_PATH_MAX + sizeof(TORN_ENDING)];
	segment_path(old, path);
	/* What the journal has put into it must be durable before its new name is: the journal does not know that name.
	 */
	int r = io->ops->sync(judge->file);
	if (r != 0)
		return judge_io_failed(judge, r, "sync");
	io->ops->close(judge->file);
	judge->file = NULL;
	stream->tail = (struct tail){0};
	/* With nothing good in it, and no id to keep, the name itself is wanted again: there can be no successor first.
	 */
	if (next_id > old->first_id)
		r = recovery_successor(judge->engine, stream, next_id, judge->at.prev_check, &successor);
	if (r == 0) {
		old->cut = true;
		old->end_id = judge->at.id;
		segment_path(old, aside);
		if (!successor) /* its ids are given again: it is none of the log's files any more */
			memcpy(aside + strlen(aside) - strlen(".cut"), TORN_ENDING, sizeof(TORN_ENDING));
		r = io->ops->rename(io, path, aside);
	}
	if (r == 0)
		r = io->ops->sync_dir(io, stream->dir);
	if (r != 0) {
		segment_unref(successor, NULL);
		return error_set_io(judge->err, -r, "setting damage aside (this needs free space) in", stream->dir);
	}
	log_warn("engine",
		"segment %s: %s at byte %llu; set aside as %s, ids up to %llu are read from it, the next id is %llu",
		path, why, (unsigned long long)judge->at.offset, aside, (unsigned long long)judge->at.id,
		(unsigned long long)next_id);
	judge->engine->recovery.files_set_aside++;
	segment_index_path(old, path);
	(void)io->ops->unlink(io, path);
	index_clear(&old->index);
	old->sealed = true;
	old->data_end = judge->size;
	old->header_bytes = 0; /* loaded anew when it is read */
	/* With nothing good in it, it stays on the list only to say from where on entries are missing. */
	if (judge->at.id == old->first_id && !successor) {
		struct tail tail = stream->tail;
		judge_pop_segment(judge);
		stream->tail = tail;
	}
	if (successor)
		stream_push_segment(stream, successor);
	stream->next_id = next_id;
	return 0;
}

static int copy_to(struct judge *judge, struct io_file *to)
{
	uint64_t last;
	int r = scan_zeros(&judge->window, 0, &last);
	for (uint64_t at = 0; r == 0 && at < last; at += JUDGE_CHUNK) {
		size_t len = last - at < JUDGE_CHUNK ? (size_t)(last - at) : JUDGE_CHUNK;
		const uint8_t *bytes;
		r = window_need(&judge->window, at, len, &bytes);
		struct iovec iov = {(void *)bytes, len};
		r = r == 1 ? -EIO : r == 0 ? judge->engine->io->ops->pwritev(to, &iov, 1, at) : r;
	}
	return r;
}

/* An earlier start, which did not come to its end, may have kept the same. 1: so it is. */
static int is_kept(struct judge *judge, const char *path)
{
	struct io *io = judge->engine->io;
	struct io_file *file;
	uint8_t chunk[IO_PAGE_BYTES];
	uint64_t size, last;
	int r = io->ops->open(io, path, IO_READ, &file);
	if (r != 0)
		return r;
	r = io->ops->size(file, &size);
	if (r == 0)
		r = scan_zeros(&judge->window, 0, &last);
	bool same = r == 0 && size == last;
	for (uint64_t at = 0; r == 0 && same && at < last; at += sizeof(chunk)) {
		size_t len = last - at < sizeof(chunk) ? (size_t)(last - at) : sizeof(chunk);
		const uint8_t *bytes;
		r = window_need(&judge->window, at, len, &bytes);
		ssize_t got = r == 0 ? io->ops->pread(file, chunk, len, at, 0) : 0;
		r = r == 1 ? -EIO : got < 0 ? (int)got : r;
		same = r == 0 && (size_t)got == len && memcmp(bytes, chunk, len) == 0;
	}
	io->ops->close(file);
	return r == 0 ? same : r;
}

int judge_set_copy_aside(struct judge *judge)
{
	struct io *io = judge->engine->io;
	char file[NAMES_FILE_MAX], path[SEGMENT_PATH_MAX + sizeof(TORN_ENDING) + 8];
	struct io_file *copy;
	cut_file_name(judge->at.id, judge->at.id, judge->segment->salt, file);
	int len = snprintf(path, sizeof(path), "%s/%s", judge->stream->dir, file) - (int)strlen(".cut");
	int r = -EEXIST;
	for (unsigned n = 0; n < 1000 && r == -EEXIST; n++) { /* it may have happened before */
		(void)snprintf(path + len, sizeof(path) - (size_t)len, n > 0 ? "%s.%u" : "%s", TORN_ENDING, n);
		r = io->ops->open(io, path, IO_WRITE | IO_CREATE | IO_EXCLUSIVE, &copy);
		int kept = r == -EEXIST ? is_kept(judge, path) : 0;
		if (kept == 1)
			return 0;
		r = kept < 0 ? kept : r;
	}
	if (r == 0) {
		r = copy_to(judge, copy);
		if (r == 0)
			r = io->ops->sync(copy);
		io->ops->close(copy);
		if (r != 0)
			(void)io->ops->unlink(io, path);
	}
	if (io_no_room(r))
		return 1;
	if (r == 0)
		r = io->ops->sync_dir(io, judge->stream->dir);
	if (r != 0)
		return error_set_io(judge->err, -r, "copying a torn tail to", path);
	log_warn("engine", "%s: a torn tail with whole frames behind the break, kept as a copy", path);
	judge->engine->recovery.files_set_aside++;
	return 0;
}
