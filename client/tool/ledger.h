/*
 * ledger: what became of each line of an input that is appended in many batches, and how that is told.
 *
 * Owns its list of ranges; neighbours that fit together are one, so an undisturbed run needs one. One thread.
 * Invariant: ranges are disjoint and sorted by line.
 */
#ifndef IRONWAL_LEDGER_H
#define IRONWAL_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tool.h"

struct ledger_range {
	uint64_t from, to; /* lines, counted from 0, half open */
	ironwal_fate fate;
	uint64_t first; /* IRONWAL_FATE_WRITTEN: the id of line `from`; without ids, `from` */
};

struct ledger {
	struct ledger_range *ranges;
	size_t count, cap;
	bool durable;	  /* all that was written */
	bool without_ids; /* they are not neighbours of each other: each shard has its own */
};

/* Ends the program if there is no memory. */
void ledger_add(struct ledger *ledger, uint64_t from, uint64_t to, ironwal_fate fate, uint64_t first);
/* How many lines are written. */
uint64_t ledger_written(const struct ledger *ledger);
/* "lines 1 to 5000 are written as ids 0 to 4999, lines 5001 to 6000 are not written, nothing is written from line 6001
 * on"; to be freed. NULL: out of memory. */
char *ledger_describe(const struct ledger *ledger);
/* A line of JSON. complete: it was all of the input. */
void ledger_json(const struct ledger *ledger, bool complete);
void ledger_free(struct ledger *ledger);

#endif
