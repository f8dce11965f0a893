/*
 * block_map: where the blocks behind an index point are, so that a get reads one block and no frame's header.
 *
 * Owns what it keeps: for each point that was used lately, the blocks from there on, as far as reads have walked.
 * Headers were checked when they were walked; what they say does not change, as what is published does not. Any thread
 * may call anything. Invariant: all that is kept takes no more than the bound that was given.
 */
#ifndef IRONWALD_BLOCK_MAP_H
#define IRONWALD_BLOCK_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format.h"
#include "index.h"

/* Blocks behind one point that are kept at most. */
#define BLOCK_MAP_MAX 1024u

struct block_maps;

struct block_place {
	uint64_t first_id, offset;
	struct block block;
};

/* NULL: out of memory. */
struct block_maps *block_maps_new(size_t capacity_bytes);
void block_maps_free(struct block_maps *maps); /* NULL is legal */

/* Behind the point of the segment, which entry `id` is not before. True: it is in *ret_place. False: it is not known;
 * walking may begin at *at, which goes forward to where what is known ends. */
bool block_maps_find(struct block_maps *maps, uint64_t segment_serial, uint64_t id, struct index_point *at,
	struct block_place *ret_place);

/* The blocks of the frames from `from` (which block_maps_find gave for the point) up to `to`. Without memory, or with
 * too many, they are not kept. */
void block_maps_add(struct block_maps *maps, uint64_t segment_serial, const struct index_point *point,
	const struct index_point *from, const struct index_point *to, const struct block_place *places, size_t count);

#endif
