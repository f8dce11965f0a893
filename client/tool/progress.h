/*
 * progress: one line on a terminal that tells how far a long job is, at what rate, and how long it will still take.
 *
 * Owns the last line of the terminal at stderr while it is shown. One thread.
 * Invariant: writes nothing if stderr is no terminal, or before a second has passed.
 */
#ifndef IRONWAL_PROGRESS_H
#define IRONWAL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool enabled, shown;
	uint64_t total_bytes; /* 0: not known */
	uint64_t start_ns, next_ns;
};

void progress_start(struct progress *progress, uint64_t total_bytes);
/* Cheap to call often. */
void progress_update(struct progress *progress, uint64_t bytes, uint64_t entries);
/* Takes the line away. */
void progress_end(struct progress *progress);

#endif
