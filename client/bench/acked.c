#include "acked.h"

#include <stdlib.h>
#include <sys/mman.h>

int acked_open(struct acked *acked, size_t max)
{
	void *memory = mmap(NULL, max * sizeof(struct acked_record), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -1;
	*acked = (struct acked){.records = memory, .max = max};
	return 0;
}

void acked_close(struct acked *acked)
{
	if (acked->records != NULL)
		munmap(acked->records, acked->max * sizeof(struct acked_record));
	*acked = (struct acked){0};
}

static int compare(const void *left, const void *right)
{
	const struct acked_record *a = left, *b = right;
	if (a->log != b->log)
		return a->log < b->log ? -1 : 1;
	if (a->first != b->first)
		return a->first < b->first ? -1 : 1;
	return a->serial < b->serial ? -1 : a->serial > b->serial;
}

void acked_sort(struct acked *acked)
{
	qsort(acked->records, acked->count, sizeof(struct acked_record), compare);
}
