/*
 * group: one turn of group commit.
 *
 *   collect   ops from the front of the queue, as many as a group may hold, ids given as if each ran alone
 *   prepare   per stream: segment there (sealed and new if need be), frame built, space reserved; it can fail alone
 *   write     direct, or by the journal if the group touches several files or makes one; and the syncs
 *   publish   under the list lock: readers see all of it
 *   complete  the ops, in order
 *
 * Up to the first write an error costs only the appends of its stream, nothing is written (outcome none). From there
 * on, an error other than "no space" or "no descriptor" stops the shard: what of its share is on disk is not known
 * (outcome unknown). Other shards' share goes on, but for a failure of the journal, which is everybody's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "writer.h"

#define GROUP_OPS_MAX 65536
/* A group of more bytes than this, headers included, does not go through the journal; one of small appends is kept
 * below it. */
#define JOURNALED_MAX (JOURNAL_SOFT_BYTES / 2)
/* What the journal adds for an op, at most: its header, the directory's name, padding. */
#define JOURNAL_OP_MAX 256

struct error *op_io_error(int os_errno, const char *what, const char *path, enum error_outcome outcome)
{
	struct error error;
	error_set_io(&error, os_errno, what, path);
	error_set_outcome(&error, outcome);
	return error_copy(&error);
}

static bool wants_sync(const struct writer *writer, const struct op *op)
{
	enum sync_mode mode = writer->engine->options.sync_mode;
	return op->sync || mode == SYNC_STRICT || (mode == SYNC_BATCH_ONLY && op->batch);
}

/* ---- collect ---------------------------------------------------------------------------------------------------- */

/* NULL: no memory for one more; there always is for the first PLANS_MIN. */
static struct plan *plan_for(struct writer *writer, struct stream *stream)
{
	if (stream->group_first)
		return &writer->plans[stream->group_plan];
	if (writer->plan_count == writer->plan_cap) {
		size_t cap = writer->plan_cap * 2;
		struct plan *plans = realloc(writer->plans, sizeof(*plans) * cap);
		if (!plans)
			return NULL;
		writer->plans = plans;
		writer->plan_cap = cap;
	}
	stream->group_plan = (uint32_t)writer->plan_count;
	stream->group_entries = stream->group_bytes = 0;
	struct plan *plan = &writer->plans[writer->plan_count++];
	memset(plan, 0, sizeof(*plan));
	plan->stream = stream;
	return plan;
}

static uint64_t op_weight(const struct op *op)
{
	return op->source->total_bytes + 4 * op->source->count;
}

/* Alone, the op would begin a new segment because of what the group holds for its stream already. */
static bool would_rotate(const struct writer *writer, const struct stream *stream)
{
	const struct engine_options *options = &writer->engine->options;
	if (!stream->group_first || stream->group_entries == 0)
		return false;
	bool fresh = !stream->tail.segment || tail_is_full(writer, stream);
	uint64_t entries = stream->group_entries + (fresh ? 0 : stream->tail.entries);
	uint64_t bytes = stream->group_bytes + (fresh ? 0 : stream->tail.written);
	return bytes >= options->max_segment_size ||
	       (options->max_entries_per_segment > 0 && entries >= options->max_entries_per_segment);
}

/* Many small entries to many streams are mostly headers: what would go through the journal has to fit into it. */
static bool journal_is_full(const struct writer *writer, uint64_t frame_bytes)
{
	return writer->plan_count > DIRECT_FILES_MAX && frame_bytes > JOURNALED_MAX;
}

static void take_front(struct writer *writer, struct op *op)
{
	writer->ready_first = op->next;
	if (!writer->ready_first)
		writer->ready_last = NULL;
	op->next = NULL;
	if (writer->group_last)
		writer->group_last->next = op;
	else
		writer->group_first = op;
	writer->group_last = op;
	writer->group_ops++;
}

static void collect(struct writer *writer)
{
	uint64_t bytes = 0, limit = writer->engine->options.write_buffer_size;
	uint64_t frame_bytes = 0; /* with headers: many small entries to many streams are mostly those */
	writer->group_first = writer->group_last = NULL;
	writer->group_ops = 0;
	writer->plan_count = 0;
	while (writer->ready_first && writer->ready_first->kind == OP_APPEND && writer->group_ops < GROUP_OPS_MAX) {
		struct op *op = writer->ready_first;
		struct stream *stream = op->stream;
		if (writer->group_ops > 0 &&
			(writer->solo > 0 || bytes + op_weight(op) > limit || journal_is_full(writer, frame_bytes) ||
				would_rotate(writer, stream)))
			break;
		struct plan *plan = plan_for(writer, stream);
		if (!plan)
			break; /* the rest is the next group's */
		uint64_t next_id = stream->next_id + stream->group_entries;
		op->conflict = op->has_expected && op->expected_id != next_id;
		op->first = op->end = next_id;
		if (!op->conflict) {
			stream->group_entries += op->source->count;
			stream->group_bytes += op_weight(op);
			op->end = next_id + op->source->count;
			plan->entries = stream->group_entries;
		}
		plan->sync |= wants_sync(writer, op);
		op->stream_next = NULL;
		if (stream->group_last)
			stream->group_last->stream_next = op;
		else
			stream->group_first = plan->first = op;
		stream->group_last = op;
		bytes += op_weight(op);
		frame_bytes += op_weight(op);
		if (!op->stream_next && stream->group_first == op)
			frame_bytes +=
				FRAME_HEADER_MIN + JOURNAL_OP_MAX + (stream->tail.segment ? 0 : SEGMENT_HEADER_MAX);
		take_front(writer, op);
	}
	if (writer->solo > 0)
		writer->solo--;
}

/* ---- prepare ---------------------------------------------------------------------------------------------------- */

static int build_frame(struct writer *writer, struct plan *plan, uint64_t now_ns)
{
	struct frame_builder *builder = &writer->builder;
	struct tail *tail = &plan->stream->tail;
	frame_builder_begin(builder, plan->stream->group_bytes);
	for (struct op *op = plan->first; op; op = op->stream_next) {
		if (op->conflict)
			continue;
		op->source->rewind(op->source);
		for (uint64_t i = 0; i < op->source->count; i++) {
			const uint8_t *bytes;
			size_t len;
			op->source->next(op->source, &bytes, &len);
			if (frame_builder_add(builder, bytes, len) != 0) {
				frame_builder_cancel(builder);
				return -ENOMEM;
			}
		}
	}
	struct frame frame = {
		.offset = tail->written,
		.first_id = plan->stream->next_id,
		.time_ns = now_ns,
		.synced_end = tail->synced,
		.prev_check = tail->check,
	};
	if (frame_builder_finish(builder, &frame, tail->segment->salt, &plan->built) != 0) {
		frame_builder_cancel(builder);
		return -ENOMEM;
	}
	plan->frame_offset = tail->written;
	plan->offset = plan->fresh ? 0 : tail->written;
	plan->first_id = plan->stream->next_id;
	plan->has_frame = true;
	return 0;
}

/* The tail was taken from a clean-stop record: is the file what the record says? */
static int check_tail(struct writer *writer, struct plan *plan)
{
	struct tail *tail = &plan->stream->tail;
	struct io *io = writer->engine->io;
	struct io_file *file;
	int r = tail_pin(writer, tail->segment, &file);
	if (r != 0)
		return r;
	uint8_t bytes[SEGMENT_HEADER_MAX];
	struct segment_header header;
	uint64_t size;
	r = io->ops->size(file, &size);
	if (r == 0) {
		ssize_t got = io->ops->pread(file, bytes, sizeof(bytes), 0, 0);
		if (got < 0)
			r = (int)got;
		else if (size < tail->written || segment_header_decode(bytes, (size_t)got, &header) != HEADER_OK ||
			 header.salt != tail->segment->salt)
			r = -EBADMSG;
	}
	open_cache_unpin(writer->engine->open_cache, tail->segment);
	struct index index = {0};
	char path[SEGMENT_PATH_MAX];
	segment_index_path(tail->segment, path);
	if (r == 0)
		r = index_file_load(io, path, header.salt, tail->written, &index);
	if (r != 0)
		return r;
	/* From here on only this thread changes the index. */
	pthread_mutex_lock(&writer->list_lock);
	struct segment *segment = tail->segment;
	if (!segment->indexed) {
		segment->header_bytes = header.header_bytes;
		segment->header_check = header.check;
		segment->index = index;
		segment->indexed = true;
		index = (struct index){0};
	}
	tail->index_saved = segment->index.count;
	pthread_mutex_unlock(&writer->list_lock);
	index_clear(&index);
	tail->prepared = tail->written; /* what is behind it may have no blocks */
	tail->unchecked = false;
	return r;
}

/* Fails the stream's share of the group: nothing of it is written. */
void plan_fail(struct writer *writer, struct plan *plan, int r, const char *what)
{
	char path[SEGMENT_PATH_MAX];
	if (plan->stream->tail.segment)
		segment_path(plan->stream->tail.segment, path);
	else
		memcpy(path, plan->stream->dir, strlen(plan->stream->dir) + 1);
	if (plan->fresh)
		tail_discard(writer, plan);
	plan->has_frame = false;
	if (io_no_room(r)) {
		STAT_ADD(writer, no_space_errors, 1);
		tail_give_back_room(writer);
	}
	if (plan->error)
		return;
	if (r != -EBADMSG) {
		plan->error = op_io_error(-r, what, path, OUTCOME_NONE);
		return;
	}
	struct error err;
	error_set(&err, ERR_CORRUPTION,
		"segment %s is not as the clean stop left it: appends to the stream are refused; restart to have it "
		"examined",
		path);
	error_set_text(&err, EFI_STREAM, plan->stream->name, plan->stream->name_len);
	error_set_text(&err, EFI_SEGMENT, path, strlen(path));
	error_set_u64(&err, EFI_OFFSET, plan->stream->tail.written);
	error_set_u64(&err, EFI_ID, plan->stream->next_id);
	plan->error = error_copy(&err);
}

static void prepare(struct writer *writer, struct plan *plan, uint64_t now_ns)
{
	struct stream *stream = plan->stream;
	struct tail *tail = &stream->tail;
	if (plan->entries == 0)
		return;
	int r = tail->segment && tail->unchecked ? check_tail(writer, plan) : 0;
	if (r != 0) {
		plan_fail(writer, plan, r, "open");
		return;
	}
	if (tail_is_full(writer, stream)) {
		r = tail_seal(writer, stream);
		if (r != 0) {
			plan_fail(writer, plan, r, "close the full segment");
			return;
		}
	}
	if (!tail->segment && (r = tail_create(writer, plan)) != 0) {
		plan_fail(writer, plan, r, "make a segment in");
		return;
	}
	if ((r = build_frame(writer, plan, now_ns)) != 0) {
		plan_fail(writer, plan, r, "pack entries for");
		return;
	}
	r = tail_reserve(writer, tail->segment, tail, tail->written + plan->built.total_bytes);
	if (r != 0)
		plan_fail(writer, plan, r, "reserve space in");
}

/* A stream had no room for all of its appends at once: the group's ops are tried one by one, as if they had come so.
 * Nothing of it is written yet; segments that were made for it go. */
static bool retry_alone(struct writer *writer)
{
	bool retry = false;
	for (size_t i = 0; i < writer->plan_count; i++) {
		const struct plan *plan = &writer->plans[i];
		retry |= plan->error && plan->first->stream_next && !failure_of(plan->stream);
	}
	if (!retry)
		return false;
	for (size_t i = 0; i < writer->plan_count; i++) {
		struct plan *plan = &writer->plans[i];
		if (plan->fresh)
			tail_discard(writer, plan);
		error_free(plan->error);
		plan->stream->group_first = plan->stream->group_last = NULL;
	}
	writer->group_last->next = writer->ready_first;
	if (!writer->ready_first)
		writer->ready_last = writer->group_last;
	writer->ready_first = writer->group_first;
	writer->solo = (uint32_t)writer->group_ops;
	return true;
}

/* ---- publish and complete --------------------------------------------------------------------------------------- */

static void publish(struct writer *writer)
{
	struct engine *engine = writer->engine;
	uint64_t bytes = 0, segments = 0;
	pthread_mutex_lock(&writer->list_lock);
	for (size_t i = 0; i < writer->plan_count; i++) {
		struct plan *plan = &writer->plans[i];
		if (!plan->has_frame || plan->lost)
			continue;
		struct segment *segment = plan->stream->tail.segment;
		index_note(&segment->index, (struct index_point){plan->first_id, plan->frame_offset,
						    plan->frame_offset == segment->header_bytes ? segment->header_check
												: plan->prev_check});
		segment->data_end = plan->frame_offset + plan->built.total_bytes;
		segment->end_id = plan->first_id + plan->entries;
		bytes += plan->built.total_bytes;
		if (plan->fresh) {
			stream_push_segment(plan->stream, plan->fresh);
			plan->fresh = NULL;
			bytes += segment->header_bytes;
			segments++;
		}
	}
	pthread_mutex_unlock(&writer->list_lock);
	count_add(&engine->segment_bytes, bytes);
	count_add(&engine->segment_count, segments);
}

/* What a shard that has stopped was to write: also where a sync by another thread has failed meanwhile it must not be
 * acknowledged. What was begun in segments that nobody has seen yet is left to the next start. */
static void drop_lost(struct writer *writer)
{
	for (size_t i = 0; i < writer->plan_count; i++) {
		struct plan *plan = &writer->plans[i];
		plan->lost = plan->error ? NULL : failure_of(plan->stream);
		if (!plan->lost)
			continue;
		tail_let_go(writer, plan->stream);
		if (!plan->fresh)
			continue;
		tail_end(writer, plan->stream);
		plan->stream->tail = (struct tail){.check = plan->prev_check};
		segment_unref(plan->fresh, writer->engine->open_cache);
		plan->fresh = NULL;
	}
}

static void finish_op(struct writer *writer, struct op *op)
{
	struct stream *stream = op->stream;
	const struct plan *plan = &writer->plans[stream->group_plan];
	if (plan->error) {
		op->error = error_copy(plan->error);
	} else if (plan->lost) {
		bool written = !op->conflict && op->source->count > 0;
		op->error = op_io_error(
			plan->lost->os_errno, "write to", stream->dir, written ? OUTCOME_UNKNOWN : OUTCOME_NONE);
	} else if (op->conflict) {
		struct error err;
		error_set(&err, ERR_CONFLICT, "the stream's next id is %llu, not the expected %llu",
			(unsigned long long)op->first, (unsigned long long)op->expected_id);
		error_set_u64(&err, EFI_EXPECTED, op->expected_id);
		error_set_u64(&err, EFI_ACTUAL, op->first);
		op->error = error_copy(&err);
		STAT_ADD(writer, conflicts, 1);
	} else {
		op->durable = stream->tail.synced >= stream->tail.written;
		STAT_ADD(writer, appends, 1);
		STAT_ADD(writer, batches, op->batch);
		STAT_ADD(writer, entries, op->source->count);
		STAT_ADD(writer, bytes, op->source->total_bytes);
	}
}

static void complete(struct writer *writer)
{
	struct io *io = writer->engine->io;
	uint64_t now = io->ops->monotonic_ns(io);
	stat_record(&writer->stats.group_ops, writer->group_ops);
	STAT_ADD(writer, groups, 1);
	for (struct op *op = writer->group_first; op; op = op->next) {
		finish_op(writer, op);
		stat_record(&writer->stats.queue_ns, now - op->submitted_ns);
	}
	for (size_t i = 0; i < writer->plan_count; i++) {
		struct plan *plan = &writer->plans[i];
		plan->stream->group_first = plan->stream->group_last = NULL;
		error_free(plan->error);
	}
	atomic_fetch_sub_explicit(&writer->queued, writer->group_ops, memory_order_relaxed);
	engine_complete(writer->engine, writer->group_first, writer->group_last);
}

/* Shards that have stopped, earlier or in a seal just now, write nothing. */
static void refuse_stopped(struct writer *writer)
{
	for (size_t i = 0; i < writer->plan_count; i++) {
		struct plan *plan = &writer->plans[i];
		const struct failure *failure = failure_of(plan->stream);
		if (!failure)
			continue;
		if (plan->fresh)
			tail_discard(writer, plan);
		plan->has_frame = false;
		if (!plan->error)
			plan->error = failure_refusal(failure);
	}
}

bool group_run(struct writer *writer)
{
	collect(writer);
	if (writer->group_ops == 0)
		return false;
	uint64_t now_ns = writer->engine->io->ops->wall_ns(writer->engine->io);
	frame_builder_reset(&writer->builder);
	for (size_t i = 0; i < writer->plan_count; i++) {
		struct plan *plan = &writer->plans[i];
		plan->prev_check = plan->stream->tail.check;
		if (!failure_of(plan->stream))
			prepare(writer, plan, now_ns);
	}
	if (retry_alone(writer))
		return true;
	refuse_stopped(writer);
	group_write(writer);
	drop_lost(writer);
	publish(writer);
	complete(writer);
	for (size_t i = 0; i < writer->plan_count; i++) {
		const struct plan *plan = &writer->plans[i];
		if (!plan->has_frame || plan->lost)
			continue;
		tail_save_index(writer, plan->stream, false);
		tail_fill_ahead(writer, plan->stream);
	}
	return true;
}
