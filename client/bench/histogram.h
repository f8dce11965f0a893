/*
 * histogram: latencies in log buckets, 64 to a power of two (so within 1.6 %).
 *
 * Owns nothing but itself, plain memory of the caller's. One thread at a time may add to it; any other may read or copy
 * it meanwhile, and sees numbers that are each right, if not all of the same moment.
 * Invariant: once nobody adds, count is the sum of all buckets.
 */
#ifndef IRONWAL_BENCH_HISTOGRAM_H
#define IRONWAL_BENCH_HISTOGRAM_H

#include <stdint.h>

#include "counter.h"

#define HISTOGRAM_SUB_BITS 6
#define HISTOGRAM_SUB (UINT64_C(1) << HISTOGRAM_SUB_BITS)
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_SUB_BITS) * HISTOGRAM_SUB + HISTOGRAM_SUB)

struct histogram {
	uint64_t count, max;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
	uint64_t index = value;
	if (value >= HISTOGRAM_SUB) {
		unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
		index = (shift + 1) * HISTOGRAM_SUB + ((value >> shift) - HISTOGRAM_SUB);
	}
	counter_add(&histogram->buckets[index], 1);
	counter_add(&histogram->count, 1);
	if (value > histogram->max)
		counter_set(&histogram->max, value);
}

/* Adds all of another one, which may be added to meanwhile, to one that is the caller's alone. */
static inline void histogram_merge(struct histogram *sum, const struct histogram *other)
{
	uint64_t max = counter_get(&other->max);
	for (uint64_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t count = counter_get(&other->buckets[i]);
		sum->buckets[i] += count;
		sum->count += count;
	}
	if (max > sum->max)
		sum->max = max;
}

/* What came between two states of one histogram; its max is only as exact as a bucket. */
static inline void histogram_since(
	const struct histogram *now, const struct histogram *before, struct histogram *ret_between)
{
	*ret_between = (struct histogram){.max = now->max};
	for (uint64_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		ret_between->buckets[i] = now->buckets[i] - before->buckets[i];
		ret_between->count += ret_between->buckets[i];
	}
}

/* The largest value of the bucket at which the share (0 to 1) of all values is reached; 0 if there are none. */
static inline uint64_t histogram_at(const struct histogram *histogram, double share)
{
	uint64_t wanted = (uint64_t)(share * (double)histogram->count), seen = 0;
	if (wanted >= histogram->count)
		return histogram->max;
	for (uint64_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += histogram->buckets[i];
		if (seen <= wanted)
			continue;
		if (i < HISTOGRAM_SUB)
			return i;
		uint64_t shift = i / HISTOGRAM_SUB - 1;
		uint64_t top = ((i % HISTOGRAM_SUB + HISTOGRAM_SUB + 1) << shift) - 1;
		return top < histogram->max ? top : histogram->max;
	}
	return histogram->max;
}

#endif
