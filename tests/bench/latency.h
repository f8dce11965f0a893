/*
 * latency: how long things took, for those who cannot include the generator's histogram: the engine has one of its own
 * by that name.
 *
 * Owns its memory. One thread.
 * Invariant: count is how many were added.
 */
#ifndef BENCH_LATENCY_H
#define BENCH_LATENCY_H

#include <stdint.h>

struct latency;

struct latency *latency_new(void); /* NULL: no memory */
void latency_free(struct latency *latency);
void latency_clear(struct latency *latency);
void latency_add(struct latency *latency, uint64_t ns);
uint64_t latency_count(const struct latency *latency);
/* In us: what the share of all is not over; 1: the longest. */
double latency_us_at(const struct latency *latency, double share);

#endif
