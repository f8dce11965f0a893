/*
 * check_streams: every segment of every stream, frame by frame, as the engine knows them after its recovery.
 *
 * What a reader of the daemon would answer is what is said here: a frame counts if it follows the one before it; behind
 * a break the next frame with a whole header counts again. Beyond what readers look at: every block unpacks and its
 * ends are right, padding is zeros, each segment begins where the one before it ends, and index points name frames.
 */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "crc32c.h"

#define CHUNK_BYTES (1u << 20)

/* Between one segment of a stream and the next. */
struct link {
	bool known;	 /* the end of the one before was reached by its frames */
	bool was_cut;	 /* it is a file that was set aside: what is missing behind it is known to be */
	uint64_t end_id; /* one past its last entry, or what is known to be lost of it */
	uint64_t offset; /* where its frames end */
	uint32_t check;	 /* of its last frame */
	char path[SEGMENT_PATH_MAX];
};

struct walk {
	struct check *check;
	struct stream *stream;
	struct segment *segment;
	char path[SEGMENT_PATH_MAX];
	struct segment_header header;
	struct index_check index;
	struct index_point at; /* where the next frame should be */
	uint64_t size, end_id;
	/* a frame's blocks */
	uint64_t block_id, bad_from, bad_to, bad_offset;
};

static void found(struct walk *walk, struct finding finding)
{
	finding.stream = walk->stream->name;
	finding.stream_len = walk->stream->name_len;
	if (!finding.file)
		finding.file = walk->path;
	report_add(walk->check->report, &finding);
}

static int failed(const struct walk *walk, int r, const char *what, struct error *err)
{
	return error_set_io(err, -r, what, walk->path);
}

static void lost(struct walk *walk, const char *kind, const char *text, uint64_t bytes, uint64_t first, uint64_t end)
{
	found(walk, (struct finding){.severity = SEVERITY_DAMAGE,
			    .kind = kind,
			    .has_offset = true,
			    .offset = walk->at.offset,
			    .bytes = bytes,
			    .has_ids = true,
			    .first = first,
			    .end = end,
			    .text = text,
			    .ids_text = "cannot be read"});
}

/* ---- blocks ----------------------------------------------------------------------------------------------------- */

/* 1, 0 or -ENOMEM. */
static int block_is_good(struct check *check, const struct block *block, const uint8_t *stored)
{
	if (block->stored_bytes == block->raw_bytes)
		return block_check_ends(block, stored);
	struct buf *raw = &check->raw;
	raw->len = 0;
	if (buf_reserve(raw, block->raw_bytes) != 0)
		return -ENOMEM;
	return block_unpack(block, stored, raw->data) && block_check_ends(block, raw->data);
}

static void tell_bad_blocks(struct walk *walk)
{
	if (walk->bad_to > walk->bad_from)
		found(walk, (struct finding){.severity = SEVERITY_DAMAGE,
				    .kind = "block",
				    .has_offset = true,
				    .offset = walk->bad_offset,
				    .has_ids = true,
				    .first = walk->bad_from,
				    .end = walk->bad_to,
				    .text = "a block is damaged",
				    .ids_text = "cannot be read"});
	walk->bad_from = walk->bad_to = 0;
}

static int block_cb(const struct block *block, uint64_t offset, const uint8_t *stored, bool whole, void *arg)
{
	struct walk *walk = arg;
	uint64_t first = walk->block_id;
	walk->block_id += block->entry_count;
	int good = whole ? block_is_good(walk->check, block, stored) : 0;
	if (good < 0)
		return good;
	if (good) {
		tell_bad_blocks(walk);
		return 0;
	}
	if (walk->bad_to != first) {
		tell_bad_blocks(walk);
		walk->bad_from = first;
		walk->bad_offset = offset;
	}
	walk->bad_to = walk->block_id;
	return 0;
}

static int check_padding(struct walk *walk, const struct frame *frame)
{
	static const uint8_t zeros[FRAME_ALIGN];
	uint64_t at = frame->offset + frame->header_bytes + frame->stored_bytes,
		 end = frame->offset + frame->total_bytes;
	const uint8_t *bytes;
	int r = window_need(&walk->check->window, at, (size_t)(end - at), &bytes);
	if (r < 0)
		return r;
	if (r == 0 && memcmp(bytes, zeros, (size_t)(end - at)) != 0)
		found(walk, (struct finding){.severity = SEVERITY_DAMAGE,
				    .kind = "padding",
				    .has_offset = true,
				    .offset = at,
				    .text = "the padding of a frame is not zeros; no entry is hurt"});
	return 0;
}

static int check_frame(struct walk *walk, const struct frame *frame)
{
	struct counts *counts = &walk->check->counts;
	walk->block_id = frame->first_id;
	walk->bad_from = walk->bad_to = UINT64_MAX;
	int r = scan_blocks(&walk->check->window, frame, block_cb, walk);
	if (r == 0) {
		tell_bad_blocks(walk);
		r = check_padding(walk, frame);
	}
	counts->frames++;
	counts->entries += frame->entry_count;
	index_check_frame(&walk->index, walk->at);
	walk->at = (struct index_point){
		frame->first_id + frame->entry_count, frame->offset + frame->total_bytes, frame->check};
	if (walk->check->progress)
		progress_update(walk->check->progress, walk->check->bytes_done + walk->at.offset);
	return r;
}

/* ---- a break ---------------------------------------------------------------------------------------------------- */

/* No frame follows at walk->at. Finds the next one that can: 1; 0: there is none. */
static int find_next(struct walk *walk, struct frame *ret_frame)
{
	struct window *window = &walk->check->window;
	for (uint64_t from = walk->at.offset + 1;;) {
		int error = 0;
		enum scan_result result = scan_next_whole(window, walk->header.salt, from, false, ret_frame, &error);
		if (result == SCAN_ERROR)
			return error;
		if (result == SCAN_END)
			return 0;
		if (ret_frame->first_id >= walk->at.id && ret_frame->first_id < walk->end_id)
			return 1;
		from = ret_frame->offset + 1;
	}
}

/* 1: the walk goes on behind it. 0: the frames end here. */
static int go_over(struct walk *walk)
{
	struct window *window = &walk->check->window;
	struct frame frame;
	uint64_t last;
	int r = scan_zeros(window, walk->at.offset, &last);
	if (r < 0)
		return r;
	if (last <= walk->at.offset)
		return 0;
	r = find_next(walk, &frame);
	if (r < 0)
		return r;
	const char *text = window->unreadable ? "some of it cannot be read from the disk" : "a frame is broken";
	if (r == 1) {
		lost(walk, "frame", text, frame.offset - walk->at.offset, walk->at.id, frame.first_id);
		index_check_skip(&walk->index, walk->at.offset, frame.offset);
		walk->at = (struct index_point){frame.first_id, frame.offset, frame.prev_check};
		return 1;
	}
	if (walk->at.id < walk->end_id)
		lost(walk, "frame", text, last - walk->at.offset, walk->at.id, walk->end_id);
	else if (walk->segment->sealed)
		lost(walk, "behind_end", "something stands behind its last frame", last - walk->at.offset, 0, 0);
	else /* only without a look of recovery: the daemon cuts it before the first write */
		found(walk, (struct finding){.severity = SEVERITY_TORN,
				    .kind = "torn_tail",
				    .has_offset = true,
				    .offset = walk->at.offset,
				    .bytes = last - walk->at.offset,
				    .text = "a torn tail, which the daemon cuts"});
	index_check_skip(&walk->index, walk->at.offset, UINT64_MAX);
	walk->at.id = walk->end_id;
	return 0;
}

static int walk_frames(struct walk *walk, bool *ret_whole)
{
	struct window *window = &walk->check->window;
	*ret_whole = true;
	/* Of a file that was set aside only what is before its end is the log's. */
	while (!walk->segment->cut || walk->at.id < walk->end_id) {
		struct frame frame;
		int error = 0;
		enum scan_result result = scan_frame(window, walk->header.salt, walk->at.offset, &frame, NULL, &error);
		if (result == SCAN_ERROR)
			return error;
		int r;
		if (result == SCAN_FRAME && frame.first_id == walk->at.id && frame.prev_check == walk->at.prev_check) {
			r = check_frame(walk, &frame);
		} else {
			uint64_t before = walk->at.id;
			r = go_over(walk);
			if (r == 0) {
				*ret_whole &= walk->at.id == before;
				return 0;
			}
		}
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- a segment -------------------------------------------------------------------------------------------------- */

/* 1: it is whole; 0: it is not, and that was told. */
static int read_header(struct walk *walk)
{
	const struct segment *segment = walk->segment;
	struct segment_header *header = &walk->header;
	const uint8_t *bytes;
	size_t len = walk->size < SEGMENT_HEADER_MAX ? (size_t)walk->size : SEGMENT_HEADER_MAX;
	int r = window_need(&walk->check->window, 0, len, &bytes);
	if (r < 0)
		return r;
	bool good = r == 0 && segment_header_decode(bytes, len, header) == HEADER_OK;
	/* The salt is known of what was set aside, and from a clean stop. */
	if (good && header->first_id == segment->first_id && header->name_len == walk->stream->name_len &&
		memcmp(header->name, walk->stream->name, header->name_len) == 0 &&
		(segment->salt == 0 || header->salt == segment->salt))
		return 1;
	walk->at = (struct index_point){.id = segment->first_id};
	if (segment->cut && walk->end_id == segment->first_id)
		return 0; /* nothing of it is good, and nobody reads it */
	lost(walk, "header",
		good ? "it is another segment than its name or the clean stop says" : "its header is broken", 0,
		segment->first_id, walk->end_id);
	return 0;
}

/* What is missing between the end of the one before and the beginning of this one. */
static void check_gap(struct walk *walk, const struct link *link, bool header_good)
{
	uint64_t first = walk->segment->first_id;
	struct finding finding = {
		.has_ids = true, .first = link->end_id, .end = first, .ids_text = "lost", .file = link->path};
	if (link->end_id == first)
		return;
	if (link->end_id > first) {
		finding.severity = SEVERITY_DAMAGE;
		finding.kind = "overlap";
		finding.text = "it holds entries that the next segment holds, too";
		finding.first = first;
		finding.end = link->end_id;
		finding.ids_text = "there twice";
		found(walk, finding);
		return;
	}
	/* A start that went on behind something that was lost leaves a file that was set aside, or says in the next
	 * segment that it follows nothing. */
	bool known = link->was_cut || (header_good && walk->header.prev_check == 0);
	const char *mark = link->was_cut ? link->path : walk->path;
	if (known && !check_was_there(walk->check, mark))
		return; /* this recovery made it, and told of it */
	finding.severity = known ? SEVERITY_NOTE : SEVERITY_DAMAGE;
	finding.kind = known ? "lost_before" : "missing_frames";
	finding.text = known ? "lost earlier, and a start went on behind it; these ids answer that they are gone"
			     : "the end of it is missing, or segments behind it";
	if (!known) {
		finding.has_offset = true;
		finding.offset = link->offset;
	}
	walk->check->counts.ids_lost_before += known ? first - link->end_id : 0;
	found(walk, finding);
}

static void check_link(struct walk *walk, const struct link *link, bool header_good)
{
	if (walk->segment != walk->stream->segments[0])
		check_gap(walk, link, header_good);
	/* What follows a file that was set aside was made by a start, and perhaps before a repair put entries between.
	 */
	if (header_good && link->known && !link->was_cut && link->end_id == walk->segment->first_id &&
		walk->header.prev_check != 0 && walk->header.prev_check != link->check)
		found(walk,
			(struct finding){.severity = SEVERITY_DAMAGE,
				.kind = "chain",
				.text = "it was not written behind the segment that is before it: one of them is from "
					"elsewhere"});
}

static int end_segment(struct walk *walk, struct link *link, bool whole)
{
	bool stale = index_check_end(&walk->index, walk->at);
	link->known = whole;
	link->check = walk->at.prev_check;
	link->offset = walk->at.offset;
	link->end_id = walk->at.id;
	/* What is missing before a next segment is seen when that is reached. */
	const struct stream *stream = walk->stream;
	bool last = walk->segment == stream->segments[stream->segment_count - 1];
	if ((last || walk->segment->cut) && walk->at.id < walk->end_id) {
		lost(walk, "missing_frames", "its end is missing", 0, walk->at.id, walk->end_id);
		link->end_id = walk->end_id;
	}
	struct check *check = walk->check;
	return stale && check->index_cb ? check->index_cb(check, &walk->index, walk->header.salt) : 0;
}

static int walk_opened(struct walk *walk, struct io_file *file, struct link *link)
{
	struct check *check = walk->check;
	int r = check->io->ops->size(file, &walk->size);
	if (r != 0)
		return r;
	window_aim(&check->window, check->io, file, walk->size, CHUNK_BYTES);
	check->window.bridge = true;
	int good = read_header(walk);
	if (good < 0)
		return good;
	check_link(walk, link, good);
	memcpy(link->path, walk->path, sizeof(link->path));
	link->was_cut = walk->segment->cut;
	link->known = false;
	link->end_id = walk->end_id;
	if (good) {
		bool whole;
		walk->at = (struct index_point){walk->header.first_id, walk->header.header_bytes, walk->header.check};
		r = index_check_begin(&walk->index, check, walk->segment, walk->header.salt);
		if (r == 0)
			r = walk_frames(walk, &whole);
		if (r == 0)
			r = end_segment(walk, link, whole);
		index_check_free(&walk->index);
	}
	check->counts.segments++;
	check->counts.bytes += walk->size;
	return r;
}

static void is_missing(struct walk *walk, struct link *link)
{
	check_link(walk, link, false);
	memcpy(link->path, walk->path, sizeof(link->path));
	link->was_cut = walk->segment->cut;
	link->known = false;
	link->end_id = walk->end_id;
	found(walk, (struct finding){.severity = SEVERITY_DAMAGE,
			    .kind = "missing_segment",
			    .has_ids = true,
			    .first = walk->segment->first_id,
			    .end = walk->end_id,
			    .text = "it is missing",
			    .ids_text = "lost"});
}

static int check_segment(
	struct check *check, struct stream *stream, uint32_t number, struct link *link, struct error *err)
{
	struct segment *segment = stream->segments[number];
	struct walk walk = {.check = check, .stream = stream, .segment = segment};
	bool last = number + 1 == stream->segment_count;
	walk.end_id = segment->cut ? segment->end_id : last ? stream->next_id : stream->segments[number + 1]->first_id;
	segment_path(segment, walk.path);
	struct io_file *file;
	int r = check->io->ops->open(check->io, walk.path, IO_READ, &file);
	if (r == -ENOENT) {
		is_missing(&walk, link);
		return 0;
	}
	if (r == 0) {
		r = walk_opened(&walk, file, link);
		check->io->ops->close(file);
	}
	check->bytes_done += walk.size;
	return r == 0 ? 0 : failed(&walk, r, "read", err);
}

/* ---- all -------------------------------------------------------------------------------------------------------- */

static uint64_t bytes_of_all(const struct check *check)
{
	uint64_t bytes = 0;
	for (size_t i = 0; i < check->engine->table.sorted_count; i++) {
		const struct stream *stream = check->engine->table.sorted[i];
		for (uint32_t k = 0; k < stream->segment_count; k++)
			bytes += stream->segments[k]->data_end;
	}
	return bytes;
}

int check_streams(struct check *check, struct error *err)
{
	struct stream_table *table = &check->engine->table;
	stream_table_sort(table);
	if (check->progress)
		progress_start(check->progress, bytes_of_all(check));
	for (size_t i = 0; i < table->sorted_count; i++) {
		struct stream *stream = table->sorted[i];
		struct link link = {.known = false};
		check->counts.streams++;
		for (uint32_t k = 0; k < stream->segment_count; k++)
			if (check_segment(check, stream, k, &link, err) != 0)
				return -1;
	}
	if (check->progress)
		progress_end(check->progress);
	return 0;
}
