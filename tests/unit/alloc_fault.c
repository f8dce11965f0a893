#include "alloc_fault.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
char *__real_strdup(const char *text);
void __real_free(void *block);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *block);

static _Thread_local unsigned depth, exempt;
static atomic_bool every_thread;
static atomic_uint_least64_t counted, fired, first_failing, behind_failing;
static atomic_int_least64_t live;

void alloc_fault_arm(uint64_t nth, uint64_t run)
{
	atomic_store(&counted, 0);
	atomic_store(&fired, 0);
	atomic_store(&first_failing, nth);
	atomic_store(&behind_failing, nth == 0 ? 0 : nth + run);
}

void alloc_fault_begin(void)
{
	depth++;
}

void alloc_fault_end(void)
{
	depth--;
}

void alloc_fault_every_thread(bool on)
{
	atomic_store(&every_thread, on);
}

void alloc_fault_exempt(bool on)
{
	exempt = on ? exempt + 1 : exempt - 1;
}

uint64_t alloc_fault_count(void)
{
	return atomic_load(&counted);
}

uint64_t alloc_fault_fired(void)
{
	return atomic_load(&fired);
}

int64_t alloc_fault_live(void)
{
	return atomic_load(&live);
}

static bool fails(void)
{
	if (exempt > 0 || (depth == 0 && !atomic_load_explicit(&every_thread, memory_order_relaxed)))
		return false;
	uint64_t number = atomic_fetch_add(&counted, 1) + 1;
	if (number < atomic_load(&first_failing) || number >= atomic_load(&behind_failing))
		return false;
	atomic_fetch_add(&fired, 1);
	return true;
}

static void *born(void *block)
{
	if (block != NULL)
		atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
	return block;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : born(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : born(__real_calloc(count, size));
}

void *__wrap_realloc(void *block, size_t size)
{
	if (fails())
		return NULL;
	void *moved = __real_realloc(block, size);
	return block == NULL ? born(moved) : moved;
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : born(__real_strdup(text));
}

void __wrap_free(void *block)
{
	if (block != NULL)
		atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
	__real_free(block);
}
