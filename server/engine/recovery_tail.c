/*
 * recovery_tail: judges the end of one stream's newest segment.
 *
 * Frames are walked from the last index point that is whole (a point is written only behind a sync) to the first place
 * X where no frame follows. `known` is how far the file is known to have been durable: that point, the clean-stop
 * record, and the synced_end of every whole frame, also of those found behind X.
 *
 *   behind X only zeros, known <= X         a clean end
 *   rubbish behind X, no whole frame,       a torn tail: cut in place, the cut synced
 *     known <= X
 *   whole frames behind X, known <= X       a torn tail too (sectors reach a disk in any order): the file is set aside,
 *                                           the next segment begins with X's id
 *   known > X                               rot: on_corruption says whether the start is refused, or the file set aside
 * and the next segment begun behind every id that may have been acknowledged
 *
 * Undecidable, and taken for a torn tail: damage to what was synced last, when no later frame, index point or clean
 * stop tells that it had been (rule 5 of the contract).
 */
#include <errno.h>
#include <string.h>

#include "log.h"
#include "recovery_judge.h"

static void tell(const struct judge *judge, enum finding_kind kind, uint64_t next_id)
{
	char path[SEGMENT_PATH_MAX];
	const struct recovery_finding finding = {
		.kind = kind,
		.stream = judge->stream->name,
		.stream_len = judge->stream->name_len,
		.file = judge_path(judge, path),
		.offset = judge->at.offset,
		.bytes = judge->behind_bytes,
		.id = judge->at.id,
		.next_id = next_id,
		.frames_behind = judge->behind_frames,
	};
	recovery_tell(judge->engine, &finding);
}

/* ---- what is there ---------------------------------------------------------------------------------------------- */

/* A disk writes a header, which lies in one sector, or leaves the zeros that were there. A write that fails, or whose
 * process dies, may leave a part of it, and then nothing behind it. */
static int read_torn_header(struct judge *judge)
{
	size_t whole = align_up(SEGMENT_HEADER_FIXED + judge->stream->name_len + 4u, FRAME_ALIGN);
	uint64_t last = 0, last_of_all = 0, limit = judge->window.limit;
	int r = 0;
	if (judge->size >= whole) {
		judge->window.limit = whole;
		r = scan_zeros(&judge->window, 0, &last);
		judge->window.limit = limit;
		if (r == 0 && last > 0 && last < whole)
			r = scan_zeros(&judge->window, 0, &last_of_all);
	}
	judge->header_may_be_torn = judge->size < whole || last == 0 || (last < whole && last_of_all == last);
	return r == 0 ? 0 : judge_io_failed(judge, r, "read");
}

static int read_header(struct judge *judge)
{
	const uint8_t *bytes;
	size_t len = judge->size < SEGMENT_HEADER_MAX ? (size_t)judge->size : SEGMENT_HEADER_MAX;
	int r = window_need(&judge->window, 0, len, &bytes);
	if (r < 0)
		return judge_io_failed(judge, r, "read");
	enum header_result result = r == 0 ? segment_header_decode(bytes, len, &judge->header) : HEADER_BAD;
	char path[SEGMENT_PATH_MAX];
	if (result == HEADER_VERSION)
		return error_set(judge->err, ERR_CONFIG,
			"segment %s has another format version; this program serves version %u",
			judge_path(judge, path), FORMAT_VERSION);
	judge->header_good = result == HEADER_OK && judge->header.first_id == judge->segment->first_id &&
			     judge->header.name_len == judge->stream->name_len &&
			     memcmp(judge->header.name, judge->stream->name, judge->header.name_len) == 0;
	return judge->header_good ? 0 : read_torn_header(judge);
}

static void count_known(struct judge *judge, uint64_t known)
{
	if (known > judge->known)
		judge->known = known;
}

/* From the last index point to X. */
static int walk(struct judge *judge)
{
	struct segment *segment = judge->segment;
	char path[SEGMENT_PATH_MAX];
	segment_index_path(segment, path);
	int r = judge->no_index
			? 0
			: index_file_load(judge->engine->io, path, judge->header.salt, UINT64_MAX, &segment->index);
	if (r != 0)
		return judge_io_failed(judge, r, "load the index of");
	judge->at = (struct index_point){judge->header.first_id, judge->header.header_bytes, judge->header.check};
	/* Rising, so that the first one tells whether they are this segment's. */
	if (segment->index.count > 0 && (segment->index.points[0].id < judge->header.first_id ||
						segment->index.points[0].offset < judge->header.header_bytes))
		index_clear(&segment->index);
	if (segment->index.count > 0) {
		struct index_point last = segment->index.points[segment->index.count - 1];
		count_known(judge, last.offset);
		if (last.id > judge->known_next_id)
			judge->known_next_id = last.id;
		if (last.offset <= judge->size)
			judge->at = last;
	}
	segment->salt = judge->header.salt;
	for (;;) {
		struct frame frame;
		uint64_t where;
		int error = 0;
		enum scan_result result =
			scan_frame(&judge->window, judge->header.salt, judge->at.offset, &frame, NULL, &error);
		if (result == SCAN_FRAME &&
			(frame.first_id != judge->at.id || frame.prev_check != judge->at.prev_check))
			result = SCAN_BROKEN;
		if (result == SCAN_FRAME)
			result = scan_payload(&judge->window, &frame, &where, &error);
		if (result == SCAN_ERROR)
			return judge_io_failed(judge, error, "read");
		if (result != SCAN_FRAME)
			break;
		count_known(judge, frame.synced_end);
		index_note(&segment->index, judge->at);
		judge->at = (struct index_point){
			frame.first_id + frame.entry_count, frame.offset + frame.total_bytes, frame.check};
	}
	return 0;
}

/* Behind a broken header even the salt is unknown: a frame that is whole by its own salt tells it. */
static int salt_of_any_frame(struct judge *judge, uint64_t *ret_salt, bool *ret_found)
{
	*ret_found = false;
	for (uint64_t at = 0; at + FRAME_HEADER_MIN <= judge->size; at += FRAME_ALIGN) {
		const uint8_t *bytes;
		struct frame frame;
		int error = 0;
		int r = window_need(&judge->window, at, FRAME_FIXED_BYTES, &bytes);
		if (r < 0)
			return judge_io_failed(judge, r, "read");
		if (r == 1)
			return 0;
		uint64_t salt = get_u64(bytes + 40);
		if (memcmp(bytes, "IWFR", 4) != 0 ||
			scan_frame(&judge->window, salt, at, &frame, NULL, &error) != SCAN_FRAME)
			continue;
		*ret_salt = salt;
		*ret_found = true;
		return 0;
	}
	return 0;
}

static int look_behind(struct judge *judge)
{
	uint64_t last, salt = judge->header.salt;
	int r = scan_zeros(&judge->window, judge->at.offset, &last);
	if (r != 0)
		return judge_io_failed(judge, r, "read");
	judge->rubbish = last > judge->at.offset;
	judge->behind_bytes = last - judge->at.offset;
	if (!judge->rubbish)
		return 0;
	if (!judge->header_good) {
		bool found;
		if (salt_of_any_frame(judge, &salt, &found) != 0)
			return -1;
		if (!found)
			return 0;
		judge->segment->salt = salt;
	}
	for (uint64_t from = judge->at.offset;;) {
		struct frame frame;
		int error = 0;
		enum scan_result result = scan_next_header(&judge->window, salt, from, &frame, &error);
		if (result == SCAN_ERROR)
			return judge_io_failed(judge, error, "read");
		if (result == SCAN_END)
			return 0;
		/* A whole header tells what was durable before it, even if its own payload is torn, or cut short. */
		count_known(judge, frame.synced_end);
		if (frame.synced_end > judge->at.offset && frame.first_id > judge->known_next_id)
			judge->known_next_id = frame.first_id;
		uint64_t where;
		bool cut_short = frame.total_bytes > judge->window.limit - frame.offset;
		result = cut_short ? SCAN_BROKEN : scan_payload(&judge->window, &frame, &where, &error);
		if (result == SCAN_ERROR)
			return judge_io_failed(judge, error, "read");
		if (result != SCAN_FRAME) {
			from = frame.offset + FRAME_ALIGN;
			continue;
		}
		judge->behind_frames++;
		if (frame.first_id + frame.entry_count > judge->behind_next_id)
			judge->behind_next_id = frame.first_id + frame.entry_count;
		from = frame.offset + frame.total_bytes;
	}
}

/* ---- what to do about it ---------------------------------------------------------------------------------------- */

/* The file ends at X from here on, durably. */
static int cut_in_place(struct judge *judge)
{
	struct io *io = judge->engine->io;
	char path[SEGMENT_PATH_MAX];
	int r = io->ops->truncate(judge->file, judge->at.offset);
	if (r == 0)
		r = io->ops->sync(judge->file);
	if (r != 0)
		return judge_io_failed(judge, r, "cut");
	log_warn("engine",
		"segment %s: torn tail cut at byte %llu (%llu bytes, never acknowledged as durable); next id %llu",
		judge_path(judge, path), (unsigned long long)judge->at.offset,
		(unsigned long long)(judge->size - judge->at.offset), (unsigned long long)judge->at.id);
	judge->engine->recovery.torn_tails_cut++;
	judge->engine->recovery.torn_bytes_cut += judge->size - judge->at.offset;
	judge->size = judge->at.offset;
	return 0;
}

/* What was accepted and is not known to be durable is written again, in place (rule 10); the caller syncs. */
static int write_again(struct judge *judge, bool *ret_rewritten)
{
	struct io *io = judge->engine->io;
	uint64_t from = judge->rewrite_from;
	for (uint64_t at = from; at < judge->at.offset;) {
		size_t len = judge->at.offset - at < JUDGE_CHUNK ? (size_t)(judge->at.offset - at) : JUDGE_CHUNK;
		const uint8_t *bytes;
		int r = window_need(&judge->window, at, len, &bytes);
		if (r == 1)
			r = -EIO;
		struct iovec iov = {(void *)bytes, len};
		if (r == 0)
			r = io->ops->pwritev(judge->file, &iov, 1, at);
		if (r != 0)
			return judge_io_failed(judge, r, "write again");
		at += len;
		*ret_rewritten = true;
	}
	judge->engine->recovery.entries_rewritten += from < judge->at.offset;
	return 0;
}

/* What was made ahead of the end, which is up to a whole segment. If it cannot be cut, the zeros do no harm. */
static void give_back_room(struct judge *judge)
{
	uint64_t end = align_up(judge->at.offset, IO_PAGE_BYTES);
	if (judge->size > end && judge->engine->io->ops->truncate(judge->file, end) == 0)
		judge->size = end;
}

static void accept(struct judge *judge)
{
	struct segment *segment = judge->segment;
	segment->salt = judge->header.salt;
	segment->header_bytes = judge->header.header_bytes;
	segment->header_check = judge->header.check;
	segment->data_end = judge->at.offset;
	segment->end_id = judge->at.id;
	segment->indexed = true;
	judge->stream->next_id = judge->at.id;
	judge->stream->tail = (struct tail){
		.segment = segment,
		.written = judge->at.offset,
		.prepared = judge->at.offset, /* what is behind it may have no blocks */
		.synced = judge->at.offset,
		.entries = judge->at.id - segment->first_id,
		.check = judge->at.prev_check,
		.name_durable = true,
	};
}

/* A header without frames, or not even that. With another segment before it, its name stays: that one was durable
 * before this name was made, and where its end is damaged nothing else tells the next id. */
static int drop_empty(struct judge *judge)
{
	struct io *io = judge->engine->io;
	bool name_stays = judge->stream->segment_count > 1;
	char path[SEGMENT_PATH_MAX];
	judge_path(judge, path);
	int r = name_stays && judge->size > 0 ? io->ops->truncate(judge->file, 0) : 0;
	if (r == 0 && name_stays)
		r = io->ops->sync(judge->file);
	io->ops->close(judge->file);
	judge->file = NULL;
	if (r == 0 && !name_stays)
		r = io->ops->unlink(io, path);
	if (r == 0)
		r = io->ops->sync_dir(io, judge->stream->dir);
	if (r != 0)
		return judge_io_failed(judge, r, name_stays ? "clear the unfinished" : "remove the empty");
	segment_index_path(judge->segment, path);
	(void)io->ops->unlink(io, path);
	uint64_t next_id = judge->segment->first_id;
	judge_pop_segment(judge);
	judge->stream->next_id = next_id;
	return 0;
}

static int refuse(struct judge *judge)
{
	char path[SEGMENT_PATH_MAX];
	judge_path(judge, path);
	const char *file = strrchr(path, '/') + 1;
	bool by_offset = judge->known > judge->at.offset;
	error_set(judge->err, ERR_CORRUPTION,
		"segment %s is damaged at byte %llu (entry %llu), which had been durable up to %s %llu: restore it, or "
		"start with on_corruption = truncate to set it aside there",
		path, (unsigned long long)judge->at.offset, (unsigned long long)judge->at.id,
		by_offset ? "byte" : "entry", (unsigned long long)(by_offset ? judge->known : judge->known_next_id));
	error_set_text(judge->err, EFI_STREAM, judge->stream->name, judge->stream->name_len);
	error_set_text(judge->err, EFI_SEGMENT, file, strlen(file));
	error_set_u64(judge->err, EFI_OFFSET, judge->at.offset);
	error_set_u64(judge->err, EFI_ID, judge->at.id);
	return -1;
}

static int act(struct judge *judge, bool *ret_rewritten)
{
	/* Behind the last index point, that is: what cannot be read before it answers when it is read. */
	bool unreadable = judge->window.unreadable && judge->rubbish;
	bool rot = unreadable || judge->known > judge->at.offset || judge->known_next_id > judge->at.id;
	if (rot) {
		uint64_t next_id = judge->at.id;
		next_id = judge->behind_next_id > next_id ? judge->behind_next_id : next_id;
		next_id = judge->known_next_id > next_id ? judge->known_next_id : next_id;
		/* Something durable was lost and nothing tells how many ids: the one that stood there is not given
		 * again. */
		next_id = next_id == judge->at.id ? next_id + 1 : next_id;
		judge->engine->recovery.rot_found++;
		tell(judge, FINDING_ROT, next_id);
		if (judge->engine->options.on_corruption == ON_CORRUPTION_ERROR)
			return refuse(judge);
		if (write_again(judge, ret_rewritten) != 0)
			return -1;
		return judge_set_aside(judge, next_id, "damaged");
	}
	if (judge->behind_frames > 0) {
		static const char why[] = "a torn tail with whole frames behind the break";
		tell(judge, FINDING_TORN_TAIL_FRAMES, judge->at.id);
		if (write_again(judge, ret_rewritten) != 0)
			return -1;
		/* Something good stands in it, or the name tells nothing: it gets another one. */
		if (judge->at.id > judge->segment->first_id || judge->at.id == 0)
			return judge_set_aside(judge, judge->at.id, why);
		int copied = judge_set_copy_aside(judge);
		if (copied == 1 && judge->header_good)
			return error_set_io(judge->err, ENOSPC, "copying a torn tail (this needs free space) in",
				judge->stream->dir);
		if (copied != 0)
			return copied < 0 ? -1 : judge_set_aside(judge, judge->at.id, why);
		if (!judge->header_good)
			return drop_empty(judge);
		if (cut_in_place(judge) != 0)
			return -1;
		judge->rubbish = false;
	}
	bool empty = judge->at.id == judge->header.first_id && judge->stream->segment_count == 1 &&
		     judge->header.first_id == 0;
	if (!judge->header_good || empty || judge->rubbish)
		tell(judge, judge->rubbish && judge->header_good ? FINDING_TORN_TAIL : FINDING_UNFINISHED,
			judge->at.id);
	if (!judge->header_good)
		return drop_empty(judge);
	if (judge->rubbish && cut_in_place(judge) != 0)
		return -1;
	if (empty)
		return drop_empty(judge);
	if (write_again(judge, ret_rewritten) != 0)
		return -1;
	give_back_room(judge);
	accept(judge);
	return 0;
}

static int look(struct judge *judge, const struct tail_facts *facts)
{
	judge->known = facts->proven_end;
	judge->known_next_id = facts->proven_next_id;
	judge->no_index = facts->no_index;
	/* All before it were deleted: only after it had been made durable (truncate.c). */
	const struct stream *stream = judge->stream;
	if (stream->segment_count == 1 && judge->segment->first_id > 0)
		count_known(judge, 1);
	/* The successor of a set-aside file was durable before that was renamed; not so that of a hole (shards.c). */
	const struct segment *before = stream->segment_count > 1 ? stream->segments[stream->segment_count - 2] : NULL;
	if (before && before->cut && (before->end_id > 0 || before->salt != 0))
		count_known(judge, 1);
	if (read_header(judge) != 0)
		return -1;
	judge->at = (struct index_point){judge->segment->first_id, 0, 0};
	/* Neither written nor torn: it was damaged later. */
	if (!judge->header_good && !judge->header_may_be_torn)
		count_known(judge, 1);
	if (judge->header_good && walk(judge) != 0)
		return -1;
	judge->rewrite_from = judge->known < judge->at.offset ? judge->known : judge->at.offset;
	return look_behind(judge);
}

/* The clean stop tells of a file that is not there any more. What it held answers SegmentNotFound. */
static int missing(struct judge *judge, const struct tail_facts *facts)
{
	struct engine *engine = judge->engine;
	struct stream *stream = judge->stream;
	struct segment *successor;
	judge->known = facts->proven_end;
	judge->at.id = judge->segment->first_id;
	engine->recovery.rot_found++;
	tell(judge, FINDING_MISSING_SEGMENT, facts->proven_next_id);
	if (engine->options.on_corruption == ON_CORRUPTION_ERROR)
		return refuse(judge);
	uint64_t next_id = facts->proven_next_id > judge->at.id ? facts->proven_next_id : judge->at.id;
	int r = engine->io->ops->mkdir(engine->io, stream->dir);
	if (r == 0 || r == -EEXIST)
		r = recovery_successor(engine, stream, next_id, 0, &successor);
	if (r == 0)
		r = engine->io->ops->sync_dir(engine->io, "");
	if (r != 0)
		return judge_io_failed(judge, r, "begin what follows the missing");
	char path[SEGMENT_PATH_MAX];
	log_error("engine", "segment %s is missing: %llu entries are lost; the next id is %llu",
		judge_path(judge, path), (unsigned long long)(next_id - judge->at.id), (unsigned long long)next_id);
	judge->segment->sealed = true;
	if (next_id == judge->at.id) { /* it was empty: the new one is in its place */
		struct tail tail = stream->tail;
		judge_pop_segment(judge);
		stream->tail = tail;
	}
	stream_push_segment(stream, successor);
	stream->next_id = next_id;
	return 0;
}

int recovery_tail(struct engine *engine, struct stream *stream, const struct tail_facts *facts, bool *ret_rewritten,
	struct error *err)
{
	struct io *io = engine->io;
	struct judge judge = {.engine = engine, .stream = stream, .segment = stream->tail.segment, .err = err};
	char path[SEGMENT_PATH_MAX];
	judge_path(&judge, path);
	int r = io->ops->open(io, path, IO_READ | IO_WRITE, &judge.file);
	if (r == -ENOENT)
		return missing(&judge, facts);
	if (r == 0)
		r = io->ops->size(judge.file, &judge.size);
	if (r != 0) {
		io->ops->close(judge.file);
		return judge_io_failed(&judge, r, "open");
	}
	index_clear(&judge.segment->index);
	window_aim(&judge.window, io, judge.file, judge.size, JUDGE_CHUNK);
	/* A sector that cannot be read is rot like any other; under on_corruption = error the start says which it is.
	 */
	judge.window.bridge = engine->options.on_corruption == ON_CORRUPTION_TRUNCATE;
	engine->recovery.tails_read++;
	int result = look(&judge, facts);
	if (result == 0)
		result = act(&judge, ret_rewritten);
	engine->recovery.tail_bytes_read += judge.window.bytes_read;
	window_free(&judge.window);
	io->ops->close(judge.file);
	if (result == 0 && stream->next_id < facts->proven_next_id)
		stream->next_id = facts->proven_next_id;
	return result;
}
