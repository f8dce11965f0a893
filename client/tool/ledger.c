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

uint64_t ledger_written(const struct ledger *ledger)
{
	uint64_t count = 0;
	for (size_t i = 0; i < ledger->count; i++) {
		if (ledger->ranges[i].fate == IRONWAL_FATE_WRITTEN)
			count += ledger->ranges[i].to - ledger->ranges[i].from;
	}
	return count;
}

void ledger_json(const struct ledger *ledger, bool complete)
{
	struct json *json = json_new();
	uint64_t written = ledger_written(ledger);
	json_map(json);
	json_put_u64(json, "entries", written);
	json_put_bool(json, "complete", complete);
	if (!ledger->without_ids) { /* neither is told of appends by key */
		json_put_bool(json, "durable", written > 0 && ledger->durable);
	}
	json_key(json, "ranges");
	json_array(json);
	for (size_t i = 0; i < ledger->count; i++) {
		const struct ledger_range *r = &ledger->ranges[i];
		json_map(json);
		json_put_str(json, "fate", ironwal_fate_name(r->fate));
		json_key(json, "lines");
		json_array(json);
		json_u64(json, r->from + 1);
		json_u64(json, r->to);
		json_array_end(json);
		if (r->fate == IRONWAL_FATE_WRITTEN && !ledger->without_ids) {
			json_put_u64(json, "first", r->first);
			json_put_u64(json, "end", r->first + (r->to - r->from));
		}
		json_map_end(json);
	}
	json_array_end(json);
	json_map_end(json);
	json_line(json);
	json_free(json);
}

char *ledger_describe(const struct ledger *ledger)
{
	char *text = NULL;
	size_t size;
	FILE *memory = open_memstream(&text, &size);
	if (memory == NULL)
		return NULL;
	for (size_t i = 0; i < ledger->count; i++) {
		const struct ledger_range *r = &ledger->ranges[i];
		unsigned long long count = r->to - r->from;
		fprintf(memory, "%slines %llu to %llu ", i > 0 ? ", " : "", (unsigned long long)r->from + 1,
			(unsigned long long)r->to);
		switch (r->fate) {
		case IRONWAL_FATE_WRITTEN:
			fputs("are written", memory);
			if (!ledger->without_ids)
				fprintf(memory, " as ids %llu to %llu", (unsigned long long)r->first,
					(unsigned long long)r->first + count - 1);
			break;
		case IRONWAL_FATE_PARTLY: /* of a whole batch: never of one line */
		case IRONWAL_FATE_UNKNOWN:
			fputs("may be written or not", memory);
			break;
		default:
			fputs("are not written", memory);
		}
	}
	uint64_t end = ledger->count > 0 ? ledger->ranges[ledger->count - 1].to : 0;
	fprintf(memory, "%snothing is written from line %llu on", ledger->count > 0 ? ", " : "",
		(unsigned long long)end + 1);
	return fclose(memory) == 0 ? text : NULL;
}

void ledger_free(struct ledger *ledger)
{
	free(ledger->ranges);
}
