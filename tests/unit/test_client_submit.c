/*
 * Requests of libironwal that do not wait, in one thread with poll(2): every method and its result, tags, the bounds on
 * what is in flight, answers in any order, and pipelines deeper than any socket's buffer.
 */
#include "fake_server_loop.h"
#include "fake_server_model.h"

static struct model model;

static void script_model(struct fake *f)
{
	hello(f);
	model_serve(f, &model);
}

static void end(void)
{
	stop();
	model_free(&model);
}

/* ---- every method ---- */

static int submit_ping(uint32_t *id)
{
	return ironwal_submit_ping(c, id, err);
}

static int submit_append(uint32_t *id)
{
	return ironwal_submit_append(c, "s", 1, "one", 3, NULL, id, err);
}

static const ironwal_bytes two[] = {{"two", 3}, {"", 0}};

static int submit_append_batch(uint32_t *id)
{
	ironwal_append_options options = IRONWAL_APPEND_OPTIONS_INIT;
	options.has_expected_id = options.sync = 1;
	options.expected_id = 1;
	return ironwal_submit_append_batch(c, "s", 1, two, 2, &options, id, err);
}

static int submit_txn(uint32_t *id)
{
	ironwal_txn *txn;
	cr_assert(ironwal_txn_begin(c, "t", 1, &txn, err) == 0);
	cr_assert(ironwal_txn_add(txn, "x", 1, err) == 0);
	int rc = ironwal_submit_txn_commit(txn, NULL, id, err);
	cr_assert(ironwal_txn_count(txn) == 1, "it keeps its entries");
	ironwal_txn_free(txn); /* the request has its own copy */
	return rc;
}

static int submit_get(uint32_t *id)
{
	return ironwal_submit_get(c, "s", 1, 0, id, err);
}

static int submit_get_none(uint32_t *id)
{
	return ironwal_submit_get(c, "s", 1, 99, id, err);
}

static int submit_get_batch(uint32_t *id)
{
	static const uint64_t ids[] = {1, 77, 0};
	return ironwal_submit_get_batch(c, "s", 1, ids, 3, id, err);
}

static int submit_read(uint32_t *id)
{
	return ironwal_submit_read(c, "s", 1, NULL, id, err);
}

static int submit_info(uint32_t *id)
{
	return ironwal_submit_get_stream_info(c, "s", 1, id, err);
}

static int submit_truncate(uint32_t *id)
{
	return ironwal_submit_truncate(c, "s", 1, 1, id, err);
}

static int submit_segment(uint32_t *id)
{
	return ironwal_submit_current_segment_start_id(c, "s", 1, id, err);
}

static int submit_segment_none(uint32_t *id)
{
	return ironwal_submit_current_segment_start_id(c, "none", 4, id, err);
}

static int submit_sync(uint32_t *id)
{
	return ironwal_submit_sync(c, "s", 1, id, err);
}

static int submit_sync_all(uint32_t *id)
{
	return ironwal_submit_sync(c, NULL, 0, id, err);
}

static int submit_names(uint32_t *id)
{
	return ironwal_submit_list_streams(c, NULL, 0, NULL, 0, 0, id, err);
}

static int submit_shard(uint32_t *id)
{
	return ironwal_submit_shard_append(c, "key", 3, "value", 5, NULL, id, err);
}

static int submit_shard_batch(uint32_t *id)
{
	static const ironwal_key_value pairs[] = {{{"a", 1}, {"x", 1}}, {{NULL, 0}, {NULL, 0}}, {{"b", 1}, {"y", 1}}};
	return ironwal_submit_shard_append_batch(c, pairs, 3, NULL, id, err);
}

static int submit_shard_key(uint32_t *id)
{
	return ironwal_submit_shard_append_batch_for_key(c, "key", 3, two, 2, NULL, id, err);
}

static int submit_read_shard(uint32_t *id)
{
	return ironwal_submit_read_shard(c, ironwal_shard_of_key("key", 3, 4), NULL, id, err);
}

static int submit_create(uint32_t *id)
{
	return ironwal_submit_create_checkpoint(c, "cp", 2, id, err);
}

static int submit_load(uint32_t *id)
{
	return ironwal_submit_load_checkpoint(c, "cp", 2, id, err);
}

static int submit_latest(uint32_t *id)
{
	return ironwal_submit_load_latest_checkpoint(c, id, err);
}

static int submit_list(uint32_t *id)
{
	return ironwal_submit_list_checkpoints(c, 0, id, err);
}

static int submit_count(uint32_t *id)
{
	return ironwal_submit_checkpoint_count(c, id, err);
}

static int submit_prune(uint32_t *id)
{
	return ironwal_submit_prune_before_checkpoint(c, "cp", 2, id, err);
}

static int submit_compact(uint32_t *id)
{
	return ironwal_submit_compact_checkpoints(c, 5, id, err);
}

static int submit_stats(uint32_t *id)
{
	return ironwal_submit_stats(c, id, err);
}

enum {
	APPEND = 1 << 0,
	ENTRY = 1 << 1,
	TAKEN_ENTRY = 1 << 2,
	ENTRIES = 1 << 3,
	INFO = 1 << 4,
	NUMBER = 1 << 5,
	NAMES = 1 << 6,
	POSITION = 1 << 7,
	POSITIONS = 1 << 8,
	RANGE = 1 << 9,
	CHECKPOINT = 1 << 10,
	CHECKPOINTS = 1 << 11,
	PRUNED = 1 << 12,
	COMPACTED = 1 << 13,
	VALUE = 1 << 14,
	ONCE = ENTRY | TAKEN_ENTRY | ENTRIES | NAMES | CHECKPOINT | CHECKPOINTS | VALUE,
};

static const struct {
	int (*submit)(uint32_t *id);
	unsigned has;
} methods[] = {
	{submit_ping, 0},
	{submit_append, APPEND},
	{submit_append_batch, APPEND},
	{submit_txn, APPEND},
	{submit_get, ENTRY | TAKEN_ENTRY},
	{submit_get_none, 0},
	{submit_get_batch, ENTRIES},
	{submit_read, ENTRIES},
	{submit_info, INFO},
	{submit_truncate, NUMBER},
	{submit_segment, NUMBER},
	{submit_segment_none, 0},
	{submit_sync, 0},
	{submit_sync_all, 0},
	{submit_names, NAMES},
	{submit_shard, POSITION},
	{submit_shard_batch, POSITIONS},
	{submit_shard_key, RANGE},
	{submit_read_shard, ENTRIES},
	{submit_create, CHECKPOINT},
	{submit_load, CHECKPOINT},
	{submit_latest, CHECKPOINT},
	{submit_list, CHECKPOINTS},
	{submit_count, NUMBER},
	{submit_prune, PRUNED},
	{submit_compact, COMPACTED},
	{submit_stats, VALUE},
};
#define METHOD_TOTAL (sizeof(methods) / sizeof(methods[0]))

/* What the result gives to whom asks for everything, and checks it a little. */
static unsigned has(ironwal_result *result)
{
	union {
		ironwal_append_result append;
		ironwal_stream_info info;
		uint64_t number;
		ironwal_shard_position position;
		ironwal_shard_range range;
		ironwal_prune_stats prune;
		ironwal_compaction_stats compaction;
	} v;
	unsigned found = 0;
	const void *data;
	size_t len;
	void *any;
	if (ironwal_result_append(result, &v.append)) {
		cr_assert(v.append.end > v.append.first);
		found |= APPEND;
	}
	if (ironwal_result_entry(result, &data, &len)) {
		cr_assert(len == 3 && memcmp(data, "one", 3) == 0);
		found |= ENTRY;
	}
	if ((any = ironwal_result_take_entry(result, &len)) != NULL) {
		cr_assert(len == 3 && memcmp(any, "one", 3) == 0);
		cr_assert(ironwal_result_entry(result, &data, &len) == 0, "it is the taker's now");
		ironwal_entry_free(any);
		found |= TAKEN_ENTRY;
	}
	if ((any = ironwal_result_take_entries(result)) != NULL) {
		cr_assert(ironwal_entries_count(any) > 0);
		ironwal_entries_free(any);
		found |= ENTRIES;
	}
	if (ironwal_result_stream_info(result, &v.info)) {
		cr_assert(v.info.end == 3 && v.info.bytes == 300);
		found |= INFO;
	}
	if (ironwal_result_uint(result, &v.number))
		found |= NUMBER;
	if ((any = ironwal_result_take_names(result)) != NULL) {
		cr_assert(ironwal_names_get(any, 0, &len) != NULL && len == 1);
		ironwal_names_free(any);
		found |= NAMES;
	}
	if (ironwal_result_shard_position(result, &v.position)) {
		cr_assert(v.position.written && v.position.shard == ironwal_shard_of_key("key", 3, 4));
		found |= POSITION;
	}
	const ironwal_shard_position *positions = ironwal_result_shard_positions(result, &len);
	if (positions != NULL) {
		cr_assert(len == 3 && positions[0].written && positions[1].written && positions[2].written);
		found |= POSITIONS;
	}
	if (ironwal_result_shard_range(result, &v.range)) {
		cr_assert(v.range.end == v.range.first + 2);
		found |= RANGE;
	}
	if ((any = ironwal_result_take_checkpoint(result)) != NULL) {
		cr_assert(memcmp(ironwal_checkpoint_id(any, &len), "cp", 2) == 0 && len == 2);
		ironwal_checkpoint_free(any);
		found |= CHECKPOINT;
	}
	if ((any = ironwal_result_take_checkpoints(result)) != NULL) {
		cr_assert(ironwal_checkpoints_count(any) == 1);
		ironwal_checkpoints_free(any);
		found |= CHECKPOINTS;
	}
	if (ironwal_result_prune_stats(result, &v.prune)) {
		cr_assert(v.prune.segments_deleted == 5);
		found |= PRUNED;
	}
	if (ironwal_result_compaction_stats(result, &v.compaction)) {
		cr_assert(v.compaction.bytes_reclaimed == 7);
		found |= COMPACTED;
	}
	if ((any = ironwal_result_take_value(result)) != NULL) {
		cr_assert(ironwal_value_msgpack(any, &len) != NULL && len > 0);
		ironwal_value_free(any);
		found |= VALUE;
	}
	return found;
}

Test(client_submit, every_method_has_its_own_kind_of_result_once)
{
	begin_ready(script_model, 60000, NULL);
	for (size_t i = 0; i < METHOD_TOTAL; i++) {
		uint32_t id = 0;
		int tag;
		cr_assert(methods[i].submit(&id) == 0, "%zu: %s", i, ironwal_error_message(err));
		cr_assert(id != 0 && ironwal_in_flight(c) == 1);
		ironwal_set_request_tag(c, id, &tag);
		ironwal_set_request_tag(c, id + 1, &i); /* of nobody */
		ironwal_result *result = next_result();
		cr_assert(ironwal_result_request_id(result) == id && ironwal_result_tag(result) == &tag);
		cr_assert(ironwal_result_error(result) == NULL, "%zu: %s", i,
			ironwal_error_message(ironwal_result_error(result)));
		unsigned found = has(result);
		cr_assert(found == methods[i].has, "%zu: %x", i, found);
		found = has(result);
		cr_assert(found == (methods[i].has & ~(unsigned)ONCE), "%zu: %x", i, found);
		cr_assert(ironwal_in_flight(c) == 0);
	}
	cr_assert(ironwal_error_get_code(err) == IRONWAL_OK, "success leaves the error alone");
	end();
}

/* Here it is the leak sanitizer that looks. */
Test(client_submit, what_is_not_taken_is_freed)
{
	uint32_t id;
	begin_ready(script_model, 60000, NULL);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < METHOD_TOTAL; i++)
			cr_assert(methods[i].submit(&id) == 0);
		for (size_t i = 0; i < METHOD_TOTAL; i++)
			cr_assert(ironwal_result_tag(next_result()) == NULL);
	}
	for (size_t i = 0; i < METHOD_TOTAL; i++)
		cr_assert(methods[i].submit(&id) == 0);
	for (size_t i = 0; i < METHOD_TOTAL / 2; i++)
		(void)next_result();
	end(); /* results that nobody asked for, and one that was not looked into */
}

static void script_refuses(struct fake *f)
{
	struct error e;
	hello(f);
	error_set(&e, ERR_BUSY, "later");
	while (next_request(f))
		answer_error(f, f->request.msgid, &e);
}

Test(client_submit, a_failed_one_gives_nothing_but_its_error)
{
	begin_ready(script_refuses, 60000, NULL);
	for (size_t i = 0; i < METHOD_TOTAL; i++) {
		uint32_t id;
		cr_assert(methods[i].submit(&id) == 0);
		ironwal_result *result = next_result();
		const ironwal_error *error = ironwal_result_error(result);
		cr_assert(ironwal_error_get_code(error) == IRONWAL_ERR_BUSY && ironwal_error_is_retriable(error));
		cr_assert(ironwal_error_connection_usable(error));
		if (methods[i].submit == submit_shard_batch) { /* which says of each that it is not written */
			size_t count;
			const ironwal_shard_position *positions = ironwal_result_shard_positions(result, &count);
			cr_assert(positions != NULL && count == 3 && !positions[0].written);
			cr_assert(ironwal_error_fate(error) == IRONWAL_FATE_REFUSED);
		} else {
			cr_assert(has(result) == 0, "%zu", i);
		}
		ironwal_error_copy(err, error);
	}
	end();
}

/* ---- not yet, and not now ---- */

static void script_late_hello(struct fake *f)
{
	wait_step(f, 1);
	script_model(f);
}

Test(client_submit, nothing_can_be_asked_before_it_is_ready)
{
	ironwal_result *result;
	ironwal_txn *txn;
	uint32_t id = 7;
	begin(script_late_hello, 60000, NULL);
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < METHOD_TOTAL; i++) {
			if (methods[i].submit == submit_txn)
				continue;
			cr_assert(methods[i].submit(&id) == -1);
			cr_assert(ironwal_error_get_code(err) == IRONWAL_ERR_AGAIN, "%s", ironwal_error_message(err));
			ironwal_fate fate = ironwal_error_fate(err);
			cr_assert(fate == IRONWAL_FATE_NOT_SENT || fate == IRONWAL_FATE_NOT_A_WRITE);
			cr_assert(ironwal_error_is_retriable(err) && ironwal_error_connection_usable(err));
		}
		cr_assert(ironwal_txn_begin(c, "t", 1, &txn, err) == -1);
		cr_assert(ironwal_error_get_code(err) == IRONWAL_ERR_AGAIN);
		cr_assert(ironwal_ping(c, err) == -1 && ironwal_error_get_code(err) == IRONWAL_ERR_AGAIN);
		cr_assert(id == 7 && ironwal_in_flight(c) == 0 && !ironwal_is_usable(c));
		cr_assert(ironwal_next_result(c, &result) == 0 && ironwal_wait_result(c, &result, err) == 0);
		cr_assert(turn_within(1) == 0, "%s", ironwal_error_message(err));
	}
	set_step(&fake, 1);
	cr_assert(until_connected() == IRONWAL_STATE_READY);
	cr_assert(ironwal_is_usable(c) && submit_append(&id) == 0);
	ASSERT_APPENDED(next_result(), id, 0);
	end();
}

Test(client_submit, the_bound_on_bytes)
{
	static char large[100];
	ironwal_options options = IRONWAL_OPTIONS_INIT;
	ironwal_result *result;
	uint32_t ids[2], id;
	options.max_in_flight_bytes = 50;
	begin_ready(script_model, 60000, &options);
	cr_assert(ironwal_submit_append(c, "s", 1, large, sizeof(large), NULL, &ids[0], err) == 0, "one alone may");
	cr_assert(ironwal_submit_append(c, "s", 1, "e", 1, NULL, &id, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_AGAIN, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(ironwal_ping(c, err) == 0, "a blocking call has no bound: %s", ironwal_error_message(err));
	cr_assert(ironwal_submit_append(c, "s", 1, "e", 1, NULL, &ids[1], err) == 0, "the first one is answered");
	cr_assert(ironwal_next_result(c, &result) == 1);
	ASSERT_APPENDED(result, ids[0], 0);
	ASSERT_APPENDED(next_result(), ids[1], 1);
	end();
}

/* ---- in which order ---- */

#define SHUFFLED 300

static void script_shuffles(struct fake *f)
{
	static uint32_t ids[SHUFFLED];
	hello(f);
	for (int i = 0; i < SHUFFLED; i++) {
		expect(f, METHOD_GET);
		MUST(param_u64(f, KEY_ID) == (uint64_t)i);
		ids[i] = f->request.msgid;
	}
	for (int i = 0; i < SHUFFLED; i++) {
		int at = (i * 7 + 5) % SHUFFLED; /* each once, as 7 does not divide 300 */
		answer_begin(ids[at], 1);
		mp_write_key(&answer, KEY_ENTRY);
		mp_write_bin(&answer, &at, sizeof(at));
		answer_done(f);
	}
	until_closed(f);
}

Test(client_submit, answers_find_their_requests_in_any_order)
{
	static uint32_t ids[SHUFFLED];
	static int numbers[SHUFFLED];
	begin_ready(script_shuffles, 60000, NULL);
	for (int i = 0; i < SHUFFLED; i++) {
		numbers[i] = i;
		cr_assert(ironwal_submit_get(c, "s", 1, (uint64_t)i, &ids[i], err) == 0);
		ironwal_set_request_tag(c, ids[i], &numbers[i]);
	}
	for (int i = 0; i < SHUFFLED; i++) {
		const void *data;
		size_t len;
		ironwal_result *result = next_result();
		int expected = (i * 7 + 5) % SHUFFLED;
		cr_assert(ironwal_result_tag(result) == &numbers[expected]);
		cr_assert(ironwal_result_request_id(result) == ids[expected]);
		cr_assert(ironwal_result_entry(result, &data, &len) == 1 && len == sizeof(int));
		cr_assert(memcmp(data, &expected, sizeof(int)) == 0);
	}
	cr_assert(ironwal_in_flight(c) == 0);
	end();
}

/* ---- deep ---- */

#define DEEP 32768

static void script_counts(struct fake *f)
{
	hello(f);
	wait_step(f, 1);
	for (uint64_t i = 0; next_request(f); i++)
		answer_append(f, f->request.msgid, i);
}

Test(client_submit, as_many_as_there_can_be_in_flight, .timeout = 120)
{
	static uint8_t used[65536];
	static uint32_t ids[DEEP];
	ironwal_options options = IRONWAL_OPTIONS_INIT;
	uint32_t id;
	options.max_in_flight_count = DEEP;
	begin_ready(script_counts, 60000, &options);
	for (int i = 0; i < DEEP; i++) {
		cr_assert(ironwal_submit_append(c, "s", 1, "e", 1, NULL, &ids[i], err) == 0, "%s",
			ironwal_error_message(err));
		cr_assert(ids[i] != 0 && !used[ids[i] & 0xffff], "no two in flight share a slot, nor an id");
		used[ids[i] & 0xffff] = 1;
	}
	cr_assert(ironwal_submit_append(c, "s", 1, "e", 1, NULL, &id, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_AGAIN, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(ironwal_in_flight(c) == DEEP);
	set_step(&fake, 1);
	for (uint64_t i = 0; i < DEEP; i++)
		ASSERT_APPENDED(next_result(), ids[i], i);
	stop();
}

/* A window of requests moves over more than there are ids of one slot. */
Test(client_submit, ids_are_never_0_and_never_those_of_two_in_flight, .timeout = 120)
{
	enum { TOTAL = 70000, WINDOW = 5 };
	uint32_t window[WINDOW], id, highest = 0;
	begin_ready(script_counts, 60000, NULL);
	set_step(&fake, 1);
	for (uint32_t i = 0; i < TOTAL; i++) {
		if (i >= WINDOW)
			ASSERT_APPENDED(next_result(), window[i % WINDOW], (uint64_t)i - WINDOW);
		cr_assert(ironwal_submit_append(c, "s", 1, "e", 1, NULL, &id, err) == 0);
		cr_assert(id != 0);
		for (uint32_t j = 0; j < WINDOW && j < i; j++)
			cr_assert(j == i % WINDOW || window[j] != id);
		window[i % WINDOW] = id;
		highest = id > highest ? id : highest;
	}
	for (uint32_t i = TOTAL; i < TOTAL + WINDOW; i++)
		ASSERT_APPENDED(next_result(), window[i % WINDOW], (uint64_t)i - WINDOW);
	stop();
}

#define FAT 600

/* It does not read the next request before the answer to the last one is with the socket, and answers with more than
 * it is asked. */
static void script_talks_first(struct fake *f)
{
	hello(f);
	for (unsigned i = 0; i < FAT; i++) {
		send_notification(f, 60000);
		expect(f, METHOD_APPEND);
		answer_append(f, f->request.msgid, i);
	}
	until_closed(f);
}

Test(client_submit, neither_side_waits_for_the_other, .timeout = 120)
{
	static char entry[60000];
	static uint32_t ids[FAT];
	begin_ready(script_talks_first, 60000, NULL);
	for (unsigned i = 0; i < FAT; i++)
		cr_assert(ironwal_submit_append(c, "s", 1, entry, sizeof(entry), NULL, &ids[i], err) == 0, "%s",
			ironwal_error_message(err));
	for (unsigned i = 0; i < FAT; i++)
		ASSERT_APPENDED(next_result(), ids[i], i);
	stop();
}

Test(client_submit, flush_waits_until_all_is_sent, .timeout = 120)
{
	static char entry[60000];
	static uint32_t ids[FAT];
	begin_ready(script_talks_first, 60000, NULL);
	for (unsigned i = 0; i < FAT; i++)
		cr_assert(ironwal_submit_append(c, "s", 1, entry, sizeof(entry), NULL, &ids[i], err) == 0);
	cr_assert(ironwal_flush(c, err) == 0, "%s", ironwal_error_message(err));
	cr_assert((ironwal_events(c) & IRONWAL_WRITABLE) == 0 && ironwal_in_flight(c) == FAT);
	for (unsigned i = 0; i < FAT; i++) {
		ironwal_result *result;
		cr_assert(ironwal_wait_result(c, &result, err) == 1, "%s", ironwal_error_message(err));
		ASSERT_APPENDED(result, ids[i], i);
	}
	stop();
}
