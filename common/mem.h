/*
 * mem: where memory comes from, for those who let their user say so.
 *
 * Owns nothing. Any thread may call it, as far as the functions behind it may be called there.
 * Invariant: what was allocated with a mem is reallocated and freed with the same.
 */
#ifndef IRONWALD_MEM_H
#define IRONWALD_MEM_H

#include <stdlib.h>

/* As malloc, realloc and free, with arg behind. allocate NULL: those three themselves; so does a NULL for the whole. */
struct mem {
	void *(*allocate)(size_t size, void *arg);
	void *(*reallocate)(void *memory, size_t size, void *arg);
	void (*release)(void *memory, void *arg);
	void *arg;
};

static inline void *mem_alloc(const struct mem *mem, size_t size)
{
	return mem != NULL && mem->allocate != NULL ? mem->allocate(size, mem->arg) : malloc(size);
}

static inline void *mem_realloc(const struct mem *mem, void *memory, size_t size)
{
	if (mem == NULL || mem->allocate == NULL)
		return realloc(memory, size);
	return memory != NULL ? mem->reallocate(memory, size, mem->arg) : mem->allocate(size, mem->arg);
}

static inline void mem_free(const struct mem *mem, void *memory)
{
	if (mem == NULL || mem->allocate == NULL)
		free(memory);
	else if (memory != NULL)
		mem->release(memory, mem->arg);
}

#endif
