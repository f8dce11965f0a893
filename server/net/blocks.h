/*
 * blocks: memory for requests in hand, kept for the requests that come next.
 *
 * Owns the blocks that nobody uses now, at most BLOCKS_KEPT_BYTES of them; {0} is a legal empty store. Loop thread only
 * (other threads may use a block between alloc and release).
 * Invariant: kept_bytes is the sum of the sizes of the blocks in the lists.
 */
#ifndef IRONWALD_BLOCKS_H
#define IRONWALD_BLOCKS_H

#include <stddef.h>

/* Sizes are rounded up to a multiple of the step; what is over the most comes from malloc each time. */
#define BLOCK_STEP_BYTES ((size_t)256)
#define BLOCK_BYTES_MAX ((size_t)5120)
#define BLOCK_CLASSES (BLOCK_BYTES_MAX / BLOCK_STEP_BYTES)
#define BLOCKS_KEPT_BYTES ((size_t)2 * 1024 * 1024)

struct block;

struct blocks {
	struct block *lists[BLOCK_CLASSES];
	size_t kept_bytes;
};

/* size > 0. NULL: out of memory. */
void *blocks_alloc(struct blocks *blocks, size_t size);
/* size as it was given to blocks_alloc. */
void blocks_release(struct blocks *blocks, void *memory, size_t size);
/* Frees what is kept; the store is empty afterwards. */
void blocks_free(struct blocks *blocks);

#endif
