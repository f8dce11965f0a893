#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger.h"

static bool joins(const struct ledger_range *a, const struct ledger_range *b)
{
	return a->to == b->from && a->fate == b->fate &&
	       (a->fate != IRONWAL_FATE_WRITTEN || a->first + (a->to - a->from) == b->first);
}

void ledger_add(struct ledger *ledger, uint64_t from, uint64_t to, ironwal_fate fate, uint64_t first)
{
	if (from == to)
		return;
	const struct ledger_range range = {from, to, fate, first};
	size_t at = ledger->count;
	while (at > 0 && ledger->ranges[at - 1].from > from)
		at--;
	if (at > 0 && joins(&ledger->ranges[at - 1], &range)) {
		ledger->ranges[at - 1].to = to;
		if (at < ledger->count && joins(&ledger->ranges[at - 1], &ledger->ranges[at])) {
			ledger->ranges[at - 1].to = ledger->ranges[at].to;
			memmove(&ledger->ranges[at], &ledger->ranges[at + 1], (ledger->count - at - 1) * sizeof(range));
			ledger->count--;
		}
		return;
	}
	if (at < ledger->count && joins(&range, &ledger->ranges[at])) {
		ledger->ranges[at].from = from;
		ledger->ranges[at].first = first;
		return;
	}
	if (ledger->count == ledger->cap) {
		size_t cap = ledger->cap == 0 ? 16 : ledger->cap * 2;
		struct ledger_range *ranges = realloc(ledger->ranges, cap * sizeof(*ranges));
		if (ranges == NULL) {
			fputs("ironwal: out of memory\n", stderr);
			exit(1);
		}
		ledger->ranges = ranges;
		ledger->cap = cap;
	}
	memmove(&ledger->ranges[at + 1], &ledger->ranges[at], (ledger->count - at) * sizeof(range));
	ledger->ranges[at] = range;
	ledger->count++;
}

void ledger_free(struct ledger *ledger)
{
	free(ledger->ranges);
}
