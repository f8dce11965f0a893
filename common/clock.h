/*
 * clock: time that never goes back, for deadlines and durations.
 *
 * Owns nothing; any thread may call it. The engine does not: it has its clock from io.h.
 * Invariant: clock_now_ns never decreases within a process.
 */
#ifndef IRONWALD_CLOCK_H
#define IRONWALD_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_SECOND UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

static inline uint64_t clock_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

#endif
