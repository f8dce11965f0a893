#include "response_calls.h"

#include <string.h>

#include "frame.h"
#include "fuzz.h"
#include "ironwal.h"

/* An iterator that gives more than this is not ended by what came. */
#define ITERATIONS_MAX 100000

static void add(struct calls *calls, const void *bytes, size_t len)
{
	calls->hash = fuzz_hash(calls->hash, bytes, len);
}

static void add_number(struct calls *calls, uint64_t number)
{
	add(calls, &number, sizeof(number));
}

/* Whose reason and fate are asked for; not its words, which name what differs (how much came in one piece). */
static void add_error(struct calls *calls, const ironwal_error *error)
{
	FUZZ_CHECK(ironwal_error_message(error)[0] != '\0', "an error without a reason");
	add_number(calls, (uint64_t)ironwal_error_get_code(error));
	add_number(calls, (uint64_t)ironwal_error_fate(error));
	add_number(calls, (uint64_t)ironwal_error_is_retriable(error));
}

/* ---- what is handed out ------------------------------------------------------------------------------------------ */

static void take_entries(struct calls *calls, ironwal_entries *entries)
{
	size_t count = ironwal_entries_count(entries);
	for (size_t i = 0; i < count; i++) {
		const void *data = NULL;
		uint64_t id = 0;
		size_t len = 0;
		if (ironwal_entries_get(entries, i, &id, &data, &len) == 1)
			add(calls, data, len);
		add_number(calls, id);
	}
	add_number(calls, ironwal_entries_next_id(entries));
	add_number(calls, ironwal_entries_end_id(entries));
	ironwal_entries_free(entries);
}

static void take_names(struct calls *calls, ironwal_names *names)
{
	for (size_t i = 0; i < ironwal_names_count(names); i++) {
		size_t len;
		const char *name = ironwal_names_get(names, i, &len);
		add(calls, name, len);
	}
	add_number(calls, (uint64_t)ironwal_names_more(names));
	ironwal_names_free(names);
}

static void take_checkpoint(struct calls *calls, ironwal_checkpoint *checkpoint)
{
	size_t len, count;
	const void *id = ironwal_checkpoint_id(checkpoint, &len);
	const uint64_t *offsets = ironwal_checkpoint_offsets(checkpoint, &count);
	FUZZ_CHECK(count == ironwal_checkpoint_shard_count(checkpoint), "%zu offsets", count);
	add(calls, id, len);
	add(calls, offsets, count * sizeof(*offsets));
	add_number(calls, ironwal_checkpoint_timestamp_ns(checkpoint));
	ironwal_checkpoint_free(checkpoint);
}

static void take_checkpoints(struct calls *calls, ironwal_checkpoints *list)
{
	for (size_t i = 0; i < ironwal_checkpoints_count(list); i++) {
		const void *id;
		size_t len;
		uint64_t timestamp_ns;
		FUZZ_CHECK(ironwal_checkpoints_get(list, i, &id, &len, &timestamp_ns) == 1, "%zu is not there", i);
		add(calls, id, len);
		add_number(calls, timestamp_ns);
	}
	add_number(calls, ironwal_checkpoints_damaged(list));
	ironwal_checkpoints_free(list);
}

struct walk {
	struct calls *calls;
	unsigned depth;
	uint64_t items;
};

static int item_cb(const ironwal_value_item *item, void *arg)
{
	struct walk *walk = arg;
	bool begins = item->kind == IRONWAL_VALUE_MAP_BEGIN || item->kind == IRONWAL_VALUE_ARRAY_BEGIN;
	bool ends = item->kind == IRONWAL_VALUE_MAP_END || item->kind == IRONWAL_VALUE_ARRAY_END;
	walk->depth -= ends;
	FUZZ_CHECK(item->depth == walk->depth, "it is %u deep, and says %u", walk->depth, item->depth);
	walk->depth += begins;
	if (item->kind == IRONWAL_VALUE_TEXT || item->kind == IRONWAL_VALUE_BYTES)
		add(walk->calls, item->data, item->len);
	add_number(walk->calls, (uint64_t)item->kind + (item->is_key ? 100 : 0));
	walk->items++;
	return 0;
}

static void take_value(struct calls *calls, ironwal_value *value)
{
	struct walk walk = {.calls = calls};
	size_t len;
	const void *bytes = ironwal_value_msgpack(value, &len);
	add(calls, bytes, len);
	int r = ironwal_value_walk(value, item_cb, &walk);
	FUZZ_CHECK(r == 0 && walk.depth == 0 && walk.items <= 3 * len, "%llu items of %zu bytes",
		(unsigned long long)walk.items, len);
	ironwal_value_free(value);
}

static void take_positions(struct calls *calls, const ironwal_shard_position *positions, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		add_number(calls, positions[i].id);
		add_number(calls, positions[i].shard);
		add_number(calls, (uint64_t)positions[i].written);
	}
}

static void ask_numbers(struct calls *calls, const ironwal_result *result)
{
	ironwal_append_result append = {0};
	ironwal_stream_info info = {0};
	ironwal_shard_position position = {0};
	ironwal_shard_range range = {0};
	ironwal_prune_stats prune = {0};
	ironwal_compaction_stats compaction = {0};
	uint64_t number = 0;
	add_number(calls, (uint64_t)ironwal_result_append(result, &append));
	add_number(calls, append.first ^ append.end << 20 ^ (uint64_t)append.durable << 40);
	add_number(calls, (uint64_t)ironwal_result_stream_info(result, &info));
	add_number(
		calls, info.first ^ info.end << 10 ^ info.durable_end << 20 ^ info.segments << 30 ^ info.bytes << 40);
	add_number(calls, (uint64_t)ironwal_result_uint(result, &number));
	add_number(calls, number);
	add_number(calls, (uint64_t)ironwal_result_shard_position(result, &position));
	take_positions(calls, &position, 1);
	add_number(calls, (uint64_t)ironwal_result_shard_range(result, &range));
	add_number(calls, range.first ^ range.end << 20 ^ (uint64_t)range.shard << 40);
	add_number(calls, (uint64_t)ironwal_result_prune_stats(result, &prune));
	add_number(calls, prune.segments_deleted ^ (uint64_t)prune.shards_pruned << 32);
	add_number(calls, (uint64_t)ironwal_result_compaction_stats(result, &compaction));
	add_number(calls,
		compaction.checkpoints_before ^ compaction.checkpoints_after << 20 ^ compaction.bytes_reclaimed << 40);
	/* What an append says was checked against what was asked. */
	FUZZ_CHECK(append.end >= append.first, "ids that go back");
}

static void ask_all(struct calls *calls, ironwal_result *result)
{
	const void *data = NULL;
	size_t len = 0, count = 0;
	ask_numbers(calls, result);
	if (ironwal_result_entry(result, &data, &len) == 1) {
		add(calls, data, len);
		/* In half of them it is left to the result. */
		void *entry = len % 2 == 0 ? ironwal_result_take_entry(result, &len) : NULL;
		if (entry != NULL)
			add(calls, entry, len);
		ironwal_entry_free(entry);
	}
	ironwal_entries *entries = ironwal_result_take_entries(result);
	if (entries != NULL)
		take_entries(calls, entries);
	ironwal_names *names = ironwal_result_take_names(result);
	if (names != NULL)
		take_names(calls, names);
	ironwal_checkpoint *checkpoint = ironwal_result_take_checkpoint(result);
	if (checkpoint != NULL)
		take_checkpoint(calls, checkpoint);
	ironwal_checkpoints *list = ironwal_result_take_checkpoints(result);
	if (list != NULL)
		take_checkpoints(calls, list);
	ironwal_value *value = ironwal_result_take_value(result);
	if (value != NULL)
		take_value(calls, value);
	const ironwal_shard_position *positions = ironwal_result_shard_positions(result, &count);
	if (positions != NULL)
		take_positions(calls, positions, count);
}

/* ---- the requests ------------------------------------------------------------------------------------------------ */

static const ironwal_bytes batch[] = {{"one", 3}, {"", 0}, {"three", 5}};
static const ironwal_key_value pairs[] = {{{"k", 1}, {"v", 1}}, {{"", 0}, {"w", 1}}, {{"key", 3}, {"", 0}}};
static const uint64_t wanted[] = {0, 1, 1, 7};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* SUBMIT: the submit call without its last two arguments' names; BLOCK: the same with waiting, and how its result is
 * taken. In the order in which they get their msgids. */
static const char *const results[] = {
	"",							      /* 0 ping */
	"id=u durable=o",					      /* 1 append */
	"first=1 end=4 durable=o",				      /* 2 append_batch */
	"entry?=b",						      /* 3 get */
	"entries=N",						      /* 4 get_batch */
	"first=u entries=B next=u end=u",			      /* 5 iter */
	"first=u entries=B next=u end=u",			      /* 6 iter_shard */
	"first=u end=u durable_end=u segments=u bytes=u",	      /* 7 stream_info */
	"segments_deleted=u",					      /* 8 truncate */
	"id?=u",						      /* 9 current_segment_start_id */
	"",							      /* 10 sync */
	"streams=S more=o",					      /* 11 list_streams */
	"shard=u id=u",						      /* 12 shard_append */
	"results=R",						      /* 13 shard_append_batch */
	"shard=u first=1 end=4",				      /* 14 shard_append_batch_for_key */
	"offsets=U timestamp=u shard_count=4",			      /* 15 create_checkpoint */
	"offsets=U timestamp=u shard_count=4",			      /* 16 load_checkpoint */
	"id=b offsets=U timestamp=u shard_count=4",		      /* 17 load_latest_checkpoint */
	"checkpoints=C damaged?=u",				      /* 18 list_checkpoints */
	"count=u",						      /* 19 checkpoint_count */
	"shards_pruned=u segments_deleted=u",			      /* 20 prune_before_checkpoint */
	"checkpoints_before=u checkpoints_after=u bytes_reclaimed=u", /* 21 compact_checkpoints */
	"uptime=u methods=M engine=M writers=U",		      /* 22 stats */
};

size_t calls_count(void)
{
	return COUNT(results);
}

const char *calls_result(size_t which)
{
	return results[which];
}

uint32_t calls_msgid(size_t which)
{
	/* The slot of hello is used again. */
	return which == 0 ? 0x20000 : 0x10000 | (uint32_t)which;
}

static int submit(ironwal *c, size_t which, uint32_t *id, ironwal_error *error)
{
	const ironwal_read_options from = {sizeof(from), 1, 5, 10, 1000, 0};
	switch (which) {
	case 0:
		return ironwal_submit_ping(c, id, error);
	case 1:
		return ironwal_submit_append(c, "s", 1, "entry", 5, NULL, id, error);
	case 2:
		return ironwal_submit_append_batch(c, "s", 1, batch, COUNT(batch), NULL, id, error);
	case 3:
		return ironwal_submit_get(c, "s", 1, 3, id, error);
	case 4:
		return ironwal_submit_get_batch(c, "s", 1, wanted, COUNT(wanted), id, error);
	case 5:
		return ironwal_submit_read(c, "s", 1, NULL, id, error);
	case 6:
		return ironwal_submit_read_shard(c, 1, &from, id, error);
	case 7:
		return ironwal_submit_get_stream_info(c, "s", 1, id, error);
	case 8:
		return ironwal_submit_truncate(c, "s", 1, 9, id, error);
	case 9:
		return ironwal_submit_current_segment_start_id(c, "s", 1, id, error);
	case 10:
		return ironwal_submit_sync(c, NULL, 0, id, error);
	case 11:
		return ironwal_submit_list_streams(c, "", 0, "", 0, 0, id, error);
	case 12:
		return ironwal_submit_shard_append(c, "k", 1, "v", 1, NULL, id, error);
	case 13:
		return ironwal_submit_shard_append_batch(c, pairs, COUNT(pairs), NULL, id, error);
	case 14:
		return ironwal_submit_shard_append_batch_for_key(c, "k", 1, batch, COUNT(batch), NULL, id, error);
	case 15:
		return ironwal_submit_create_checkpoint(c, "a", 1, id, error);
	case 16:
		return ironwal_submit_load_checkpoint(c, "a", 1, id, error);
	case 17:
		return ironwal_submit_load_latest_checkpoint(c, id, error);
	case 18:
		return ironwal_submit_list_checkpoints(c, 0, id, error);
	case 19:
		return ironwal_submit_checkpoint_count(c, id, error);
	case 20:
		return ironwal_submit_prune_before_checkpoint(c, "a", 1, id, error);
	case 21:
		return ironwal_submit_compact_checkpoints(c, 2, id, error);
	default:
		return ironwal_submit_stats(c, id, error);
	}
}

void calls_submit(struct calls *calls, ironwal *connection, uint32_t which)
{
	for (size_t i = 0; i < calls_count(); i++) {
		struct ironwal_error error = {0};
		if (which != 0 && !(which >> i & 1))
			continue;
		uint32_t id = 0;
		if (submit(connection, i, &id, &error) != 0) {
			add_error(calls, &error);
			continue;
		}
		FUZZ_CHECK(id != 0, "a request without an id");
		calls->ids[i] = id;
		ironwal_set_request_tag(connection, id, &calls->ids[i]);
	}
}

/* Whether there is an answer to this one among the frames. */
static bool is_answered(const struct calls *calls, uint32_t msgid)
{
	const uint8_t *at = calls->bytes;
	size_t left = calls->len, total;
	struct span payload;
	while (frame_next(at, left, UINT32_MAX, &payload, &total) == FRAME_READY) {
		struct mp_reader reader = mp_reader_of(payload);
		struct mp_value array, type, id;
		if (mp_read(&reader, &array) == 0 && array.type == MP_ARRAY && mp_read(&reader, &type) == 0 &&
			mp_read(&reader, &id) == 0 && id.type == MP_UINT && id.u64 == msgid)
			return true;
		at += total;
		left -= total;
	}
	return false;
}

void calls_take(struct calls *calls, ironwal *connection, ironwal_result *result)
{
	uint32_t *slot = ironwal_result_tag(result);
	FUZZ_CHECK(slot >= calls->ids && slot < calls->ids + CALLS_MAX, "a result of what was not submitted");
	FUZZ_CHECK(*slot == ironwal_result_request_id(result), "a second result of one request, or that of another");
	(void)connection;
	const ironwal_error *error = ironwal_result_error(result);
	FUZZ_CHECK(error != NULL || is_answered(calls, *slot), "request %x has a result and no answer", *slot);
	*slot = 0;
	add_number(calls, (uint64_t)(slot - calls->ids));
	if (error != NULL)
		add_error(calls, error);
	ask_all(calls, result);
}

void calls_check(const struct calls *calls)
{
	for (size_t i = 0; i < CALLS_MAX; i++)
		FUZZ_CHECK(calls->ids[i] == 0, "request %zu has no result", i);
}

/* ---- waiting ---------------------------------------------------------------------------------------------------- */

static int block_read(struct calls *calls, ironwal *c, size_t which, ironwal_error *error)
{
	const ironwal_read_options from = {sizeof(from), 1, 5, 10, 1000, 5};
	ironwal_entries *entries = NULL;
	ironwal_iterator *iterator = NULL;
	ironwal_names *names = NULL;
	const void *data;
	void *entry = NULL;
	uint64_t id;
	size_t len = 0;
	int r, left = ITERATIONS_MAX;
	switch (which) {
	case 3:
		r = ironwal_get(c, "s", 1, 3, &entry, &len, error);
		if (r == 0 && entry != NULL)
			add(calls, entry, len);
		ironwal_entry_free(entry);
		return r;
	case 4:
		r = ironwal_get_batch(c, "s", 1, wanted, COUNT(wanted), &entries, error);
		break;
	case 5:
		r = ironwal_read(c, "s", 1, &from, &entries, error);
		break;
	case 6: /* answers behind this one are the iterator's too */
		r = ironwal_iterator_open(c, "s", 1, NULL, &iterator, error);
		while (r == 0 && left > 0 && (r = ironwal_iterator_next(iterator, &id, &data, &len, error)) == 1) {
			add_number(calls, id);
			add(calls, data, len);
			r = 0;
			left--;
		}
		FUZZ_CHECK(left > 0, "an iterator without an end");
		ironwal_iterator_free(iterator);
		return r;
	default:
		r = ironwal_list_streams(c, "a", 1, "b", 1, 5, &names, error);
		if (r == 0)
			take_names(calls, names);
		return r;
	}
	if (r == 0)
		take_entries(calls, entries);
	return r;
}

static int block_shards(struct calls *calls, ironwal *c, size_t which, ironwal_error *error)
{
	ironwal_shard_position positions[COUNT(pairs)] = {{0}};
	ironwal_shard_range range = {0};
	int r;
	if (which == 12)
		r = ironwal_shard_append(c, "k", 1, "v", 1, NULL, positions, error);
	else if (which == 13)
		r = ironwal_shard_append_batch(c, pairs, COUNT(pairs), NULL, positions, error);
	else
		r = ironwal_shard_append_batch_for_key(c, "k", 1, batch, COUNT(batch), NULL, &range, error);
	take_positions(calls, positions, COUNT(pairs));
	add_number(calls, range.first ^ range.end << 20 ^ (uint64_t)range.shard << 40);
	return r;
}

static int block_checkpoints(struct calls *calls, ironwal *c, size_t which, ironwal_error *error)
{
	ironwal_checkpoint *checkpoint = NULL;
	ironwal_checkpoints *list = NULL;
	ironwal_prune_stats prune = {0};
	ironwal_compaction_stats compaction = {0};
	uint64_t number = 0;
	int r;
	switch (which) {
	case 15:
		r = ironwal_create_checkpoint(c, "a", 1, &checkpoint, error);
		break;
	case 16:
		r = ironwal_load_checkpoint(c, "a", 1, &checkpoint, error);
		break;
	case 17:
		r = ironwal_load_latest_checkpoint(c, &checkpoint, error);
		break;
	case 18:
		r = ironwal_list_checkpoints(c, 2, &list, error);
		break;
	case 19:
		r = ironwal_checkpoint_count(c, &number, error);
		break;
	case 20:
		r = ironwal_prune_before_checkpoint(c, "a", 1, &prune, error);
		break;
	default:
		r = ironwal_compact_checkpoints(c, 2, &compaction, error);
		break;
	}
	if (checkpoint != NULL)
		take_checkpoint(calls, checkpoint);
	if (list != NULL)
		take_checkpoints(calls, list);
	add_number(calls, number ^ prune.segments_deleted ^ compaction.bytes_reclaimed);
	return r;
}

static int block_one(struct calls *calls, ironwal *c, size_t which, ironwal_error *error)
{
	const ironwal_append_options expected = {sizeof(expected), 0, 1, 1};
	ironwal_append_result append = {0};
	ironwal_stream_info info = {0};
	ironwal_value *value = NULL;
	uint64_t number = 0;
	int r;
	switch (which) {
	case 0:
		return ironwal_ping(c, error);
	case 1:
		r = ironwal_append(c, "s", 1, "entry", 5, NULL, &append, error);
		break;
	case 2:
		r = ironwal_append_batch(c, "s", 1, batch, COUNT(batch), &expected, &append, error);
		break;
	case 7:
		r = ironwal_get_stream_info(c, "s", 1, &info, error);
		break;
	case 8:
		r = ironwal_truncate(c, "s", 1, 9, &number, error);
		break;
	case 9:
		r = ironwal_current_segment_start_id(c, "s", 1, &number, error);
		break;
	case 10:
		return ironwal_sync(c, "s", 1, error);
	case 22:
		r = ironwal_stats(c, &value, error);
		if (r == 0)
			take_value(calls, value);
		return r;
	default:
		return which < 12   ? block_read(calls, c, which, error)
		       : which < 15 ? block_shards(calls, c, which, error)
				    : block_checkpoints(calls, c, which, error);
	}
	add_number(calls, append.first ^ append.end << 20 ^ info.end ^ number);
	return r;
}

void calls_block(struct calls *calls, ironwal *connection, uint32_t which)
{
	for (size_t i = 0; i < calls_count(); i++) {
		struct ironwal_error error = {0};
		if (which != 0 && !(which >> i & 1))
			continue;
		int r = block_one(calls, connection, i, &error);
		add_number(calls, (uint64_t)r);
		if (r < 0)
			add_error(calls, &error);
	}
}
