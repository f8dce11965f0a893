/*
 * checkpoint_index: where in the checkpoint log which checkpoint stands, in memory: 56 bytes for each.
 *
 * Owns its arrays. Used by one thread at a time: start-up's, then the checkpoint log's.
 * Invariant: entries rise in offset and timestamp; of those with the same hash the last is live and the others are not,
 * and `live` counts these.
 */
#ifndef IRONWALD_CHECKPOINT_INDEX_H
#define IRONWALD_CHECKPOINT_INDEX_H

#include "checkpoint_format.h"

/* A process does not hold more. */
#define CHECKPOINTS_MAX (UINT32_C(1) << 24)

struct checkpoint_entry {
	uint64_t offset, bytes, timestamp;
	struct checkpoint_hash hash; /* not known: damage that nothing tells the id of */
	uint32_t shard_count;
	bool live;	 /* false: replaced since */
	bool unreadable; /* known to be damaged: nobody can read its id */
};

struct checkpoint_index {
	struct checkpoint_entry *entries;
	uint32_t count, cap;
	uint32_t live;	     /* distinct ids */
	uint32_t unknown;    /* entries without a hash */
	uint32_t unreadable; /* of those that were not replaced */
	uint32_t *slots;     /* by hash: number of an entry plus 1 */
	uint32_t slot_count;
};

/* Room for one more (or more), so that checkpoint_index_add cannot fail. -1: out of memory. */
int checkpoint_index_reserve(struct checkpoint_index *index, uint32_t extra);
/* Behind the last; takes the place of what has the same hash. live is set here. */
void checkpoint_index_add(struct checkpoint_index *index, const struct checkpoint_entry *entry);
/* The live one of that hash; NULL. */
const struct checkpoint_entry *checkpoint_index_find(const struct checkpoint_index *index, struct checkpoint_hash hash);
/* entry: one of the index's. */
void checkpoint_index_mark_unreadable(struct checkpoint_index *index, const struct checkpoint_entry *entry);
/* The newest one whose id nobody knows, else the newest unreadable one that was not replaced; NULL. */
const struct checkpoint_entry *checkpoint_index_unreadable(const struct checkpoint_index *index);
void checkpoint_index_clear(struct checkpoint_index *index);

static inline bool checkpoint_hash_is_known(struct checkpoint_hash hash)
{
	return hash.low != 0 || hash.high != 0;
}

#endif
