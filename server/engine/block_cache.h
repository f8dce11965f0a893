/*
 * block_cache: unpacked blocks of segments that were read and checked before, so that the next read need not.
 *
 * Owns the buffers given to it. Any thread may call anything; a block got from here stays whole, wherever it is in the
 * cache's life, until it is released. Least recently used blocks leave first.
 * Invariant: the bytes held by the cache, bookkeeping included, never exceed its capacity when a call returns; what
 * is under a key never changes (segment serials are not used twice, and published blocks are immutable).
 */
#ifndef IRONWALD_BLOCK_CACHE_H
#define IRONWALD_BLOCK_CACHE_H

#include <stddef.h>
#include <stdint.h>

struct block_cache;
struct cached_block;

struct block_cache_stats {
	uint64_t hits, misses;	/* of block_cache_get; a disabled cache counts neither */
	uint64_t bytes, blocks; /* held now, bookkeeping included */
};

/* capacity 0: nothing is ever kept. NULL if out of memory. */
struct block_cache *block_cache_new(uint64_t capacity_bytes);
/* Blocks that are still held by callers outlive it. NULL is legal. */
void block_cache_free(struct block_cache *cache);

/* A block with a reference for the caller, or NULL. */
struct cached_block *block_cache_get(struct block_cache *cache, uint64_t segment_serial, uint64_t block_offset);

/* Takes over bytes (from malloc) and returns a block with a reference for the caller: with these bytes, or, if another
 * thread was quicker, with those that are there already. The block is good to read even if the cache does not keep it
 * (disabled, or larger than the whole cache). NULL if out of memory: bytes are still the caller's then. */
struct cached_block *block_cache_put(
	struct block_cache *cache, uint64_t segment_serial, uint64_t block_offset, uint8_t *bytes, size_t len);

const uint8_t *cached_block_bytes(const struct cached_block *block, size_t *ret_len);
/* Gives the reference back. NULL is legal. */
void cached_block_release(struct cached_block *block);

void block_cache_stats(struct block_cache *cache, struct block_cache_stats *ret_stats);

#endif
