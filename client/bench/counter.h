/*
 * counter: a number that one thread counts in and others look at.
 *
 * Owns nothing. Only one thread at a time may change a counter; so it needs no locked instruction, and costs what a
 * plain variable does.
 * Invariant: whoever looks sees a value that the counter had.
 */
#ifndef IRONWAL_BENCH_COUNTER_H
#define IRONWAL_BENCH_COUNTER_H

#include <stdint.h>

static inline uint64_t counter_get(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static inline void counter_set(uint64_t *counter, uint64_t value)
{
	__atomic_store_n(counter, value, __ATOMIC_RELAXED);
}

static inline void counter_add(uint64_t *counter, uint64_t value)
{
	counter_set(counter, counter_get(counter) + value);
}

#endif
