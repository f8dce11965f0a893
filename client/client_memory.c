#include "client_memory.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

/* In front of each block. */
struct head {
	alignas(max_align_t) struct mem mem;
};

struct mem mem_from(const ironwal_allocator *allocator)
{
	if (allocator == NULL)
		return (struct mem){0};
	return (struct mem){allocator->allocate, allocator->reallocate, allocator->release, allocator->arg};
}

void *block_alloc(const struct mem *mem, size_t size)
{
	if (size > SIZE_MAX - sizeof(struct head))
		return NULL;
	struct head *head = mem_alloc(mem, sizeof(*head) + size);
	if (head == NULL)
		return NULL;
	head->mem = mem != NULL ? *mem : (struct mem){0};
	return head + 1;
}

void *block_new(const struct mem *mem, size_t size)
{
	void *block = block_alloc(mem, size);
	if (block != NULL)
		memset(block, 0, size);
	return block;
}

void *block_array(const struct mem *mem, size_t count, size_t size)
{
	return size > 0 && count > SIZE_MAX / size ? NULL : block_new(mem, count * size);
}

void *block_copy(const struct mem *mem, const void *bytes, size_t len)
{
	char *copy = len < SIZE_MAX ? block_alloc(mem, len + 1) : NULL;
	if (copy == NULL)
		return NULL;
	if (len > 0)
		memcpy(copy, bytes, len);
	copy[len] = '\0';
	return copy;
}

const struct mem *block_mem(const void *block)
{
	return &((const struct head *)block - 1)->mem;
}

void block_free(void *block)
{
	if (block == NULL)
		return;
	struct head *head = (struct head *)block - 1;
	const struct mem mem = head->mem;
	mem_free(&mem, head);
}
