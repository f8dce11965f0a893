/*
 * ledger: what became of each line of an input that is appended in many batches.
 *
 * Owns its list of ranges; neighbours that fit together are one, so an undisturbed run needs one. One thread.
 * Invariant: ranges are disjoint and sorted by line.
 */
#ifndef IRONWAL_LEDGER_H
#define IRONWAL_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ironwal.h"

struct ledger_range {
	uint64_t from, to; /* lines, counted from 0, half open */
	ironwal_fate fate;
	uint64_t first; /* IRONWAL_FATE_WRITTEN: the id of line `from` */
};

struct ledger {
	struct ledger_range *ranges;
	size_t count, cap;
	bool durable; /* all that was written */
};

/* Ends the program if there is no memory. */
void ledger_add(struct ledger *ledger, uint64_t from, uint64_t to, ironwal_fate fate, uint64_t first);
void ledger_free(struct ledger *ledger);

#endif
