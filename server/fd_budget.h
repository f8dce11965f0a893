/*
 * fd_budget: do the descriptors that the system grants suffice for what the configuration allows.
 *
 * Owns nothing; pure arithmetic but for fd_budget_raise, which the main thread calls at start.
 * Invariant: after a fit, connections + segments + 2 per writer (its journal) + one per listener + others +
 * FD_RESERVE <= limit.
 */
#ifndef IRONWALD_FD_BUDGET_H
#define IRONWALD_FD_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

/* Standard streams, the loop's own, the directory, its lock, and files that are open for a moment. */
#define FD_RESERVE 24

/* With fewer connections a server is no use: one that is asked for at least these does not start with less. */
#define FD_MIN_CONNECTIONS 4

/* As the engine has it (server/engine/engine.c): writers, and the open segments below which it raises what it is asked
 * for. */
#define FD_WRITERS_MAX 16
#define FD_SEGMENTS_BASE 8
#define FD_SEGMENTS_PER_WRITER 4

struct fd_budget {
	/* in */
	uint64_t limit; /* descriptors this process may have */
	uint32_t shards, listeners;
	uint32_t others;		/* that are held besides, or may be at any time */
	uint32_t connections, segments; /* in: as asked; out: as granted */
	/* out */
	uint64_t minimum; /* the least limit that will do */
	uint64_t wanted;  /* the limit that would do for all that was asked */
};

/* Raises the soft limit to the hard one, as far as that goes, and returns what holds then. */
uint64_t fd_budget_raise(void);

/* Fits connections and segments into the limit: connections go down first, to 16, then segments, then connections
 * again, to the minimum. Segments come out as at least what the engine needs. False if the limit is below `minimum`. */
bool fd_budget_fit(struct fd_budget *budget);

#endif
