/*
 * fake_server_allocator: an allocator for libironwal that counts, and fails where it is told to; and a look at what is
 * allocated without it.
 *
 * Owns nothing: each block is its holder's. Used by the test's own thread.
 * Invariant: a block comes back to the counts that it came from, once. A program that includes this is linked with
 * --wrap for malloc, calloc and realloc.
 */
#ifndef IRONWALD_FAKE_SERVER_ALLOCATOR_H
#define IRONWALD_FAKE_SERVER_ALLOCATOR_H

#include "fake_server.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static __thread bool is_watched; /* this thread calls the library, and allocates nothing itself */
static unsigned strays;

void *__wrap_malloc(size_t size)
{
	strays += is_watched;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	strays += is_watched;
	return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
	strays += is_watched;
	return __real_realloc(memory, size);
}

#define MAGIC UINT64_C(0x1207a1d5eed5eed5)

struct counts {
	unsigned long live, total;
	unsigned long fail_at; /* which allocation fails, counted from 1; 0: none */
	bool has_failed;
};

struct head {
	uint64_t magic;
	struct counts *counts;
};

static bool fails(struct counts *counts)
{
	counts->total++;
	if (counts->total != counts->fail_at)
		return false;
	return counts->has_failed = true;
}

static void *hook_allocate(size_t size, void *arg)
{
	struct counts *counts = arg;
	struct head *head = fails(counts) ? NULL : __real_malloc(sizeof(*head) + size);
	if (head == NULL)
		return NULL;
	*head = (struct head){MAGIC, counts};
	counts->live++;
	return head + 1;
}

static struct head *head_of(void *memory, struct counts *counts)
{
	MUST(memory != NULL);
	struct head *head = (struct head *)memory - 1;
	MUST(head->magic == MAGIC && head->counts == counts);
	return head;
}

static void *hook_reallocate(void *memory, size_t size, void *arg)
{
	struct head *head = head_of(memory, arg);
	if (fails(arg))
		return NULL;
	head = __real_realloc(head, sizeof(*head) + size);
	return head != NULL ? head + 1 : NULL;
}

static void hook_release(void *memory, void *arg)
{
	struct head *head = head_of(memory, arg);
	head->magic = 0;
	((struct counts *)arg)->live--;
	free(head);
}

static struct counts counts;
static const ironwal_allocator allocator = {hook_allocate, hook_reallocate, hook_release, &counts};

#endif
