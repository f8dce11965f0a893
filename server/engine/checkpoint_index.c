#include "checkpoint_index.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS_MIN 64u

static uint32_t *slot_of(const struct checkpoint_index *index, struct checkpoint_hash hash)
{
	uint32_t mask = index->slot_count - 1;
	for (uint32_t at = (uint32_t)hash.low & mask;; at = (at + 1) & mask) {
		uint32_t *slot = &index->slots[at];
		if (*slot == 0)
			return slot;
		const struct checkpoint_hash *there = &index->entries[*slot - 1].hash;
		if (there->low == hash.low && there->high == hash.high)
			return slot;
	}
}

static int grow_slots(struct checkpoint_index *index, uint32_t wanted)
{
	uint32_t slot_count = index->slot_count ? index->slot_count : SLOTS_MIN;
	while (slot_count < wanted)
		slot_count *= 2;
	if (slot_count == index->slot_count)
		return 0;
	uint32_t *slots = calloc(slot_count, sizeof(*slots));
	if (!slots)
		return -1;
	free(index->slots);
	index->slots = slots;
	index->slot_count = slot_count;
	for (uint32_t i = 0; i < index->count; i++)
		if (index->entries[i].live)
			*slot_of(index, index->entries[i].hash) = i + 1;
	return 0;
}

int checkpoint_index_reserve(struct checkpoint_index *index, uint32_t extra)
{
	if (index->cap - index->count < extra) {
		uint32_t cap = index->cap + index->cap / 2 + extra;
		struct checkpoint_entry *entries = realloc(index->entries, sizeof(*entries) * cap);
		if (!entries)
			return -1;
		index->entries = entries;
		index->cap = cap;
	}
	/* At most half full: a search ends soon. */
	return grow_slots(index, 2 * (index->live + extra));
}

void checkpoint_index_add(struct checkpoint_index *index, const struct checkpoint_entry *entry)
{
	struct checkpoint_entry *added = &index->entries[index->count++];
	*added = *entry;
	added->live = checkpoint_hash_is_known(entry->hash);
	index->unreadable += added->unreadable;
	if (!added->live) {
		index->unknown++;
		return;
	}
	uint32_t *slot = slot_of(index, entry->hash);
	struct checkpoint_entry *before = *slot != 0 ? &index->entries[*slot - 1] : NULL;
	if (before) {
		before->live = false;
		index->unreadable -= before->unreadable;
	} else {
		index->live++;
	}
	*slot = index->count;
}

const struct checkpoint_entry *checkpoint_index_find(const struct checkpoint_index *index, struct checkpoint_hash hash)
{
	if (index->slot_count == 0)
		return NULL;
	uint32_t slot = *slot_of(index, hash);
	return slot != 0 ? &index->entries[slot - 1] : NULL;
}

void checkpoint_index_mark_unreadable(struct checkpoint_index *index, const struct checkpoint_entry *entry)
{
	struct checkpoint_entry *own = &index->entries[entry - index->entries];
	bool counts = own->live || !checkpoint_hash_is_known(own->hash);
	index->unreadable += counts && !own->unreadable;
	own->unreadable = true;
}

const struct checkpoint_entry *checkpoint_index_unreadable(const struct checkpoint_index *index)
{
	const struct checkpoint_entry *found = NULL;
	for (uint32_t i = index->unreadable > 0 ? index->count : 0; i > 0; i--) {
		const struct checkpoint_entry *entry = &index->entries[i - 1];
		if (!checkpoint_hash_is_known(entry->hash))
			return entry;
		if (!found && entry->unreadable && entry->live)
			found = entry;
	}
	return found;
}

void checkpoint_index_clear(struct checkpoint_index *index)
{
	free(index->entries);
	free(index->slots);
	memset(index, 0, sizeof(*index));
}
