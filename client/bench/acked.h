/*
 * acked: the record of every append of a run that was acknowledged, for reading it all back.
 *
 * Owns its memory: address space for all that it may hold, taken at once; pages come as it fills. One thread adds; only
 * when it has ended may another one read.
 * Invariant: in the order of adding, until acked_sort; never more than `max`.
 */
#ifndef IRONWAL_BENCH_ACKED_H
#define IRONWAL_BENCH_ACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One request: entries with serials from `serial` on have ids from `first` on, in log `log`. */
struct acked_record {
	uint64_t first, serial;
	uint32_t log, count;
};

struct acked {
	struct acked_record *records;
	size_t count, max;
};

/* As much as a run may record, in bytes of memory. */
#define ACKED_BYTES_MAX (UINT64_C(768) << 20)
#define ACKED_RECORDS_MAX (ACKED_BYTES_MAX / sizeof(struct acked_record))

/* -1 with errno. */
int acked_open(struct acked *acked, size_t max);
void acked_close(struct acked *acked);

static inline bool acked_is_full(const struct acked *acked)
{
	return acked->count == acked->max;
}

/* Not when it is full. */
static inline void acked_add(struct acked *acked, const struct acked_record *record)
{
	acked->records[acked->count++] = *record;
}

/* By log, and in it by id. */
void acked_sort(struct acked *acked);

#endif
