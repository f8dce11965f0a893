/*
 * progress: one line on a terminal that tells how far a long run is, at what rate, and how long it will still take.
 *
 * Owns the last line of the terminal at stderr while it is shown. One thread.
 * Invariant: writes nothing if stderr is no terminal (or one that cannot erase a line), or before a second has passed.
 */
#ifndef IRONWALD_FSCK_PROGRESS_H
#define IRONWALD_FSCK_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool enabled, shown;
	uint64_t total_bytes;
	uint64_t start_ns, next_ns;
};

void progress_start(struct progress *progress, uint64_t total_bytes);
/* Cheap to call often. */
void progress_update(struct progress *progress, uint64_t bytes);
/* Takes the line away, until the next update. */
void progress_end(struct progress *progress);

#endif
