/*
 * checkpoint: a consistent cut through all shards, kept under an id: what the engine offers of it.
 *
 * The ops are the caller's memory; the engine holds one from engine_submit_checkpoint until engine_take gives its `op`
 * back. [loop] as in engine.h. Invariant: a checkpoint that was answered is on disk, and so is every entry below each
 * of its offsets.
 *
 * The path of a creation:
 *   loop          copies the readable ends of all shards in one go: that is the cut. What anyone was told of lies
 *                 below it, and what was sent after an answer cannot be below it without what was answered.
 *   writers       make durable what of it is not yet (never in strict), one sync at a time between their groups
 *   loop          creations go on in the order of their cuts, so that offsets never go back
 *   checkpointer  one write and one sync for all that wait; then it comes back through engine_take
 * What can fail before the log is written costs nothing (outcome none), but for the sync of the data directory, by
 * which the first creation and a compaction name the file: that stops all writers, too. Once that, or a write or its
 * sync, failed, the log takes nothing more until a restart (outcome unknown for those in it, none for later ones);
 * reading goes on.
 */
#ifndef IRONWALD_CHECKPOINT_H
#define IRONWALD_CHECKPOINT_H

#include "buf.h"
#include "engine.h"

struct checkpoint_op {
	/* kind is OP_CREATE_CHECKPOINT or one behind it; error, if it failed */
	struct op op;

	/* in; id is not used by latest, list and compact */
	const void *id;
	size_t id_len;
	uint64_t limit;	    /* list: the newest so many; UINT64_MAX: all */
	uint64_t max_bytes; /* list: of ids, with CHECKPOINT_LISTED_BYTES more for each; over it: ERR_TOO_LARGE */
	uint64_t keep;	    /* compact: the newest so many */

	/* out; freed by checkpoint_op_clear */
	uint64_t *offsets; /* create, load, latest: of each shard, its next id */
	uint32_t shard_count;
	uint64_t timestamp;    /* Unix time in nanoseconds */
	struct buf ids;	       /* latest: the id. list: see checkpoint_listed */
	uint64_t listed_count; /* list: oldest first */
	uint64_t nameless;     /* list: records left out, as nothing tells their ids */
	uint32_t shards_pruned;
	uint64_t segments_deleted;
	uint64_t count_before, count_after, bytes_reclaimed;

	/* the engine's own */
	struct checkpoint_op *cut_next;
	bool cut_is_durable; /* or failed */
	struct buf list;     /* what is to be listed */
	size_t list_at;
	bool begun;
};

#define CHECKPOINT_LISTED_BYTES 16u

/* [loop] Returns 0: it will come back. -1 with err: refused at once (ERR_INVALID_CHECKPOINT_ID, ERR_SHUTTING_DOWN,
 * ERR_IO for memory). Errors it may come back with: ERR_IO, ERR_CHECKPOINT_NOT_FOUND, ERR_CHECKPOINT_CORRUPTED,
 * ERR_SHARD_COUNT_MISMATCH, ERR_NO_CHECKPOINTS (latest), ERR_TOO_LARGE (list), ERR_BUSY (create: too many). */
int engine_submit_checkpoint(struct engine *engine, struct checkpoint_op *checkpoint, struct error *err);

void checkpoint_op_clear(struct checkpoint_op *checkpoint);

/* Goes through what a list gave; *at begins at 0. False at the end. */
bool checkpoint_listed(const struct checkpoint_op *checkpoint, size_t *at, const uint8_t **ret_id, size_t *ret_id_len,
	uint64_t *ret_timestamp);

/* [any] How many distinct ids there are. */
uint64_t engine_checkpoint_count(struct engine *engine);

struct checkpoint_stats {
	bool failed;		 /* takes no more until a restart */
	char failed_reason[160]; /* empty if it did not */
	uint64_t count, records, bytes;
	uint64_t damage_found; /* how often a damaged record was met, at start and since */
	uint64_t created, loaded, groups, compactions;
	struct histogram sync_ns;
};

/* [any] */
void engine_checkpoint_stats(struct engine *engine, struct checkpoint_stats *ret_stats);

#endif
