/* What the loop has to do with checkpoints: the cut, its durability, the order of creations; pruning. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpointer.h"
#include "writer.h"

/* ---- the cut ---------------------------------------------------------------------------------------------------- */

/* All readable ends in one go, between two completions: see checkpoint.h. */
static int take_cut(struct engine *engine, struct checkpoint_op *checkpoint)
{
	uint32_t count = engine->options.shard_count;
	checkpoint->offsets = malloc(sizeof(*checkpoint->offsets) * count);
	if (!checkpoint->offsets)
		return -1;
	for (uint32_t i = 0; i < count; i++)
		checkpoint->offsets[i] = engine->shards[i]->loop_end;
	return 0;
}

static bool is_durable(const struct stream *stream, uint64_t next_id)
{
	return atomic_load_explicit(&stream->durable_end, memory_order_acquire) >= next_id;
}

static bool writer_has_undurable(const struct engine *engine, uint32_t writer, const uint64_t *cut)
{
	for (uint32_t i = writer; i < engine->options.shard_count; i += engine->writer_count)
		if (!is_durable(engine->shards[i], cut[i]))
			return true;
	return false;
}

static void free_parts(struct op **parts, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		free(parts[i]);
}

/* A part for each writer that has something of the cut to make durable. */
static int sync_cut(struct engine *engine, struct checkpoint_op *checkpoint)
{
	struct op *parts[WRITERS_MAX] = {0};
	checkpoint->op.parts_left = 0;
	for (uint32_t i = 0; i < engine->writer_count; i++) {
		if (!writer_has_undurable(engine, i, checkpoint->offsets))
			continue;
		if (!(parts[i] = calloc(1, sizeof(struct op)))) {
			free_parts(parts, engine->writer_count);
			return -1;
		}
		*parts[i] = (struct op){
			.kind = OP_SYNC_CUT, .parent = &checkpoint->op, .cut = checkpoint->offsets, .cut_at = i};
		checkpoint->op.parts_left++;
	}
	for (uint32_t i = 0; i < engine->writer_count; i++)
		if (parts[i])
			writer_submit(engine->writers[i], parts[i]);
	checkpoint->cut_is_durable = checkpoint->op.parts_left == 0;
	return 0;
}

bool checkpoint_sync_cut(struct writer *writer, struct op *part)
{
	struct engine *engine = writer->engine;
	bool synced = false;
	for (; part->cut_at < engine->options.shard_count; part->cut_at += engine->writer_count) {
		struct stream *stream = engine->shards[part->cut_at];
		if (is_durable(stream, part->cut[part->cut_at]))
			continue;
		if (synced)
			return false; /* no append waits for more than one */
		const struct failure *failure = failure_of(stream);
		if (failure) {
			part->error = failure_refusal(failure);
			return true;
		}
		int r = tail_sync(writer, stream);
		if (r != 0) {
			part->error = op_io_error(-r, "sync of", stream->dir, OUTCOME_NONE);
			return true;
		}
		synced = true;
	}
	return true;
}

/* Creations go on in the order of their cuts, each when its own is durable. */
static void pass_on(struct engine *engine)
{
	struct checkpoint_op *first;
	while ((first = engine->cuts) != NULL && first->cut_is_durable) {
		engine->cuts = first->cut_next;
		if (!engine->cuts)
			engine->cuts_last = &engine->cuts;
		if (first->op.error)
			engine_complete(engine, &first->op, &first->op);
		else
			checkpointer_submit(engine->checkpointer, first);
	}
}

void checkpoint_cut_durable(struct engine *engine, struct op *op)
{
	((struct checkpoint_op *)op)->cut_is_durable = true;
	pass_on(engine);
}

static int submit_creation(struct engine *engine, struct checkpoint_op *checkpoint, struct error *err)
{
	if (take_cut(engine, checkpoint) != 0 || sync_cut(engine, checkpoint) != 0) {
		checkpoint_op_clear(checkpoint);
		return error_set_io(err, ENOMEM, "create a checkpoint", "");
	}
	checkpoint->cut_next = NULL;
	*engine->cuts_last = checkpoint;
	engine->cuts_last = &checkpoint->cut_next;
	pass_on(engine);
	return 0;
}

/* ---- pruning: shard by shard, so that no append of a writer waits for more than one ----------------------------- */

/* The part's next shard that has something older, from cut_at on; false: there is none. */
static bool prune_shard(struct engine *engine, struct op *part)
{
	for (; part->cut_at < engine->options.shard_count; part->cut_at += engine->writer_count) {
		struct stream *stream = engine->shards[part->cut_at];
		if (part->cut[part->cut_at] <= stream->loop_first)
			continue;
		part->stream = stream;
		part->safe_id = part->cut[part->cut_at];
		part->segments_deleted = 0;
		part->error = NULL;
		stream->loop_ops++;
		writer_submit(stream->writer, part);
		return true;
	}
	return false;
}

bool checkpoint_prune_begin(struct engine *engine, struct op *op)
{
	struct checkpoint_op *checkpoint = (struct checkpoint_op *)op;
	struct op *parts[WRITERS_MAX] = {0};
	op->parts_left = 0;
	for (uint32_t i = 0; i < engine->writer_count; i++) {
		if (!(parts[i] = calloc(1, sizeof(struct op)))) {
			free_parts(parts, engine->writer_count);
			op->error = op_io_error(ENOMEM, "prune", "", OUTCOME_NONE);
			return false;
		}
	}
	for (uint32_t i = 0; i < engine->writer_count; i++) {
		*parts[i] = (struct op){.kind = OP_TRUNCATE, .parent = op, .cut = checkpoint->offsets, .cut_at = i};
		if (prune_shard(engine, parts[i]))
			op->parts_left++;
		else
			free(parts[i]);
	}
	engine_kick(engine);
	return op->parts_left > 0;
}

bool checkpoint_prune_next(struct engine *engine, struct op *part)
{
	struct checkpoint_op *checkpoint = (struct checkpoint_op *)part->parent;
	checkpoint->segments_deleted += part->segments_deleted;
	checkpoint->shards_pruned += part->segments_deleted > 0;
	part->cut_at += engine->writer_count;
	if (!prune_shard(engine, part))
		return false;
	engine_kick(engine);
	return true;
}

/* ---- for outside ------------------------------------------------------------------------------------------------ */

static bool takes_id(enum op_kind kind)
{
	return kind == OP_CREATE_CHECKPOINT || kind == OP_LOAD_CHECKPOINT || kind == OP_PRUNE;
}

int engine_submit_checkpoint(struct engine *engine, struct checkpoint_op *checkpoint, struct error *err)
{
	struct op *op = &checkpoint->op;
	op->error = NULL;
	op->stream = NULL;
	op->parent = NULL;
	if (engine->closing)
		return error_set(err, ERR_SHUTTING_DOWN, "the server is stopping; try again when it is back");
	if (takes_id(op->kind) && (checkpoint->id_len == 0 || checkpoint->id_len > CHECKPOINT_ID_MAX))
		return error_set(err, ERR_INVALID_CHECKPOINT_ID,
			"a checkpoint's id has %zu bytes; 1 to %u are possible", checkpoint->id_len, CHECKPOINT_ID_MAX);
	if (op->kind == OP_CREATE_CHECKPOINT) {
		if (submit_creation(engine, checkpoint, err) != 0)
			return -1;
	} else {
		checkpointer_submit(engine->checkpointer, checkpoint);
	}
	engine->ops_held++;
	return 0;
}

uint64_t engine_checkpoint_count(struct engine *engine)
{
	return __atomic_load_n(&checkpointer_log(engine->checkpointer)->stats.count, __ATOMIC_RELAXED);
}

void engine_checkpoint_stats(struct engine *engine, struct checkpoint_stats *ret_stats)
{
	struct checkpoint_log *log = checkpointer_log(engine->checkpointer);
	pthread_mutex_lock(&log->lock);
	memcpy(ret_stats->failed_reason, log->stats.failed_reason, sizeof(ret_stats->failed_reason));
	ret_stats->failed = __atomic_load_n(&log->stats.failed, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&log->lock);
	/* Word by word, as in engine_writer_stats. */
	const uint64_t *from = &log->stats.count;
	uint64_t *to = &ret_stats->count;
	size_t words = (sizeof(struct checkpoint_stats) - offsetof(struct checkpoint_stats, count)) / sizeof(uint64_t);
	for (size_t i = 0; i < words; i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}
