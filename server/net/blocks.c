#include "blocks.h"

#include <stdlib.h>

/* A block in a list is nobody's: AddressSanitizer is told so, as it would have been by free. But for the link in it, as
 * what is found only through hidden memory counts as leaked. */
#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#endif
#ifdef HAS_ASAN
#include <sanitizer/asan_interface.h>
#define HIDE(memory, size) ASAN_POISON_MEMORY_REGION(memory, size)
#define SHOW(memory, size) ASAN_UNPOISON_MEMORY_REGION(memory, size)
#else
#define HIDE(memory, size) ((void)(memory), (void)(size))
#define SHOW(memory, size) ((void)(memory), (void)(size))
#endif

#define CACHE_LINE_BYTES 64
#define FETCH_BYTES ((size_t)512)

struct block {
	struct block *next;
};

static size_t class_of(size_t size)
{
	return (size - 1) / BLOCK_STEP_BYTES;
}

static size_t class_bytes(size_t class)
{
	return (class + 1) * BLOCK_STEP_BYTES;
}

/* The next block's lines may be another processor's: the thread that used it last wrote to it. They come over while the
 * request before is worked on. */
static inline void fetch(const struct block *block)
{
	for (size_t at = 0; at < FETCH_BYTES; at += CACHE_LINE_BYTES)
		__builtin_prefetch((const char *)block + at, 1);
}

static void *take(struct blocks *blocks, size_t class)
{
	struct block *block = blocks->lists[class];
	if (block == NULL)
		return NULL;
	SHOW(block + 1, class_bytes(class) - sizeof(*block));
	blocks->lists[class] = block->next;
	blocks->kept_bytes -= class_bytes(class);
	if (block->next != NULL)
		fetch(block->next);
	return block;
}

/* There is none of the size that is asked for: as many bytes of the others are freed, while more than half of what may
 * be kept is. So sizes that are asked for no more make way for one that is, and two of them for each other. */
static void make_way(struct blocks *blocks, size_t bytes)
{
	for (size_t class = 0, freed = 0;
		class < BLOCK_CLASSES && freed < bytes && blocks->kept_bytes > BLOCKS_KEPT_BYTES / 2;) {
		void *memory = take(blocks, class);
		if (memory == NULL) {
			class ++;
			continue;
		}
		free(memory);
		freed += class_bytes(class);
	}
}

void *blocks_alloc(struct blocks *blocks, size_t size)
{
	if (size > BLOCK_BYTES_MAX)
		return malloc(size);
	size_t class = class_of(size);
	void *memory = take(blocks, class);
	if (memory != NULL)
		return memory;
	make_way(blocks, class_bytes(class));
	return malloc(class_bytes(class));
}

void blocks_release(struct blocks *blocks, void *memory, size_t size)
{
	size_t class = class_of(size);
	if (size > BLOCK_BYTES_MAX || blocks->kept_bytes + class_bytes(class) > BLOCKS_KEPT_BYTES) {
		free(memory);
		return;
	}
	struct block *block = memory;
	block->next = blocks->lists[class];
	blocks->lists[class] = block;
	blocks->kept_bytes += class_bytes(class);
	HIDE(block + 1, class_bytes(class) - sizeof(*block));
}

void blocks_free(struct blocks *blocks)
{
	for (size_t class = 0; class < BLOCK_CLASSES; class ++)
		for (void *memory; (memory = take(blocks, class)) != NULL;)
			free(memory);
}
