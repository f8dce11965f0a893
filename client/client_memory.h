/*
 * client_memory: blocks that know their allocator, so that whoever frees one need not.
 *
 * Owns nothing; each block is its holder's. Used by the thread that uses the connection.
 * Invariant: all memory of a connection, and of what it handed out, comes from the allocator of its options; what
 * common/ and proto/ need grows in bufs, whose `mem` is that of the block which they are part of.
 */
#ifndef IRONWAL_CLIENT_MEMORY_H
#define IRONWAL_CLIENT_MEMORY_H

#include <stddef.h>

#include "ironwal.h"
#include "mem.h"

/* NULL: malloc. */
struct mem mem_from(const ironwal_allocator *allocator);

/* Aligned for anything; NULL: no memory. */
void *block_alloc(const struct mem *mem, size_t size);
/* The same, all zeros. */
void *block_new(const struct mem *mem, size_t size);
/* count elements of size bytes, all zeros; NULL also if that is more than there can be. */
void *block_array(const struct mem *mem, size_t count, size_t size);
/* A copy of len bytes and a NUL; bytes may be NULL if len is 0. */
void *block_copy(const struct mem *mem, const void *bytes, size_t len);
/* Good as long as the block is. */
const struct mem *block_mem(const void *block);
/* NULL is legal. */
void block_free(void *block);

#endif
