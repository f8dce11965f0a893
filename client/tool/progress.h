/*
 * progress: one line on a terminal that tells how far a long job is, at what rate, and how long it will still take.
 *
 * Owns the last line of the terminal at stderr while it is shown. One thread.
 * Invariant: writes nothing if stderr is no terminal (or one that cannot erase a line), or before a second has passed;
 * never more than one row, whatever the terminal's width.
 */
#ifndef IRONWAL_PROGRESS_H
#define IRONWAL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool enabled, shown;
	const char *noun; /* what is counted: "entries" */
	/* How much there will be, in bytes or by count; 0: not known. */
	uint64_t total_bytes, total_count;
	uint64_t start_ns, next_ns;
};

void progress_start(struct progress *progress, const char *noun, uint64_t total_bytes, uint64_t total_count);
/* Cheap to call often. */
void progress_update(struct progress *progress, uint64_t bytes, uint64_t count);
/* Takes the line away. */
void progress_end(struct progress *progress);
/* The same, from a signal handler. */
void progress_end_in_handler(const struct progress *progress);

#endif
