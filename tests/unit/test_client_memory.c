/*
 * libironwal's memory: all of it comes from the allocator of the options, and goes back there; and whichever allocation
 * fails, the call says so, nothing is lost or leaked, and what is said of a write is true.
 */
#include "fake_server_allocator.h"
#include "fake_server_model.h"

/* ---- the server ---- */

static struct model model;
static int over_before; /* connections that were over when this one was made: they are served one by one */

static void script(struct fake *f)
{
	do {
		if (next_request(f)) { /* else not even that could be sent */
			answer_hello(f, 1, 16u << 20);
			model_serve(f, &model);
		}
		set_step(f, f->step + 1); /* this one is over */
	} while (accept_next(f));
}

static int connect_once(void)
{
	ironwal_options options = IRONWAL_OPTIONS_INIT;
	options.timeout_ms = 60000;
	options.allocator = &allocator;
	if (ironwal_connect(fake.address, &options, &c, err) != 0)
		return -1;
	pthread_mutex_lock(&fake.lock);
	over_before = fake.step;
	pthread_mutex_unlock(&fake.lock);
	return 0;
}

/* And until the server is done with it. */
static void disconnect(void)
{
	ironwal_close(c);
	c = NULL;
	wait_step(&fake, over_before + 1);
}

/* ---- every function, blocking ---- */

static const ironwal_bytes two[] = {{"two", 3}, {"", 0}};
static const ironwal_key_value pairs[] = {{{"a", 1}, {"x", 1}}, {{"b", 1}, {"y", 1}}, {{"c", 1}, {"z", 1}}};

static int run_ping_and_info(void)
{
	ironwal_stream_info info;
	uint64_t id;
	if (ironwal_ping(c, err) != 0 || ironwal_get_stream_info(c, "s", 1, &info, err) != 0)
		return -1;
	cr_assert(info.end >= 2);
	return ironwal_current_segment_start_id(c, "s", 1, &id, err) < 0 ? -1 : 0;
}

static int run_append(void)
{
	return ironwal_append(c, "s", 1, "one", 3, NULL, NULL, err);
}

static int run_batch(void)
{
	return ironwal_append_batch(c, "s", 1, two, 2, NULL, NULL, err);
}

static int run_conflict(void) /* an error that is the server's, with its fields */
{
	ironwal_append_options options = IRONWAL_APPEND_OPTIONS_INIT;
	ironwal_append_result result;
	ironwal_fate fate;
	uint64_t actual;
	options.has_expected_id = 1;
	if (ironwal_append(c, "s", 1, "one", 3, &options, &result, err) == 0)
		return 1;
	if (ironwal_error_get_code(err) != IRONWAL_ERR_CONFLICT)
		return -1;
	cr_assert(ironwal_error_get_uint(err, "actual", &actual) == 1 && actual >= 2);
	const ironwal_bytes first = {"first", 5};
	if (ironwal_settle_append(c, "s", 1, &first, 1, &options, &fate, &result, err) != 0) {
		cr_assert(ironwal_error_fate(err) == IRONWAL_FATE_UNKNOWN);
		return -1;
	}
	cr_assert(fate == IRONWAL_FATE_WRITTEN);
	return 0;
}

static int run_txn(void)
{
	static char large[3000];
	ironwal_txn *txn;
	int rc;
	if (ironwal_txn_begin(c, "s", 1, &txn, err) != 0)
		return -1;
	rc = 0;
	for (int i = 0; i < 40 && rc == 0; i++) {
		size_t count = ironwal_txn_count(txn);
		rc = ironwal_txn_add(txn, large, sizeof(large), err);
		cr_assert(ironwal_txn_count(txn) == count + (rc == 0));
	}
	if (rc == 0)
		rc = ironwal_txn_commit(txn, NULL, NULL, err);
	ironwal_txn_free(txn);
	return rc;
}

static int run_get(void)
{
	void *entry;
	size_t len;
	if (ironwal_get(c, "s", 1, 0, &entry, &len, err) != 0)
		return -1;
	cr_assert(len == 5 && memcmp(entry, "first", 5) == 0);
	ironwal_entry_free(entry);
	return 0;
}

static int run_get_batch(void)
{
	static const uint64_t ids[] = {1, 0, 9999};
	ironwal_entries *entries;
	const void *data;
	uint64_t id;
	size_t len;
	if (ironwal_get_batch(c, "s", 1, ids, 3, &entries, err) != 0)
		return -1;
	cr_assert(ironwal_entries_count(entries) == 3);
	cr_assert(ironwal_entries_get(entries, 1, &id, &data, &len) == 1 && id == 0 && len == 5);
	cr_assert(ironwal_entries_get(entries, 2, &id, &data, &len) == 0 && id == 9999);
	ironwal_entries_free(entries);
	return 0;
}

static int run_iterate(void)
{
	ironwal_read_options options = IRONWAL_READ_OPTIONS_INIT;
	ironwal_iterator *it;
	uint64_t id;
	const void *data;
	size_t len;
	int rc = 1;
	options.max_entries = 1;
	if (ironwal_iterator_open(c, "i", 1, &options, &it, err) != 0)
		return -1;
	for (uint64_t i = 0; i < 3 && rc > 0; i++) {
		rc = ironwal_iterator_next(it, &id, &data, &len, err);
		cr_assert(rc < 0 || (rc == 1 && id == i && len == 1 && *(const char *)data == (char)('0' + i)));
	}
	if (rc > 0 && (rc = ironwal_iterator_next(it, &id, &data, &len, err)) == 0)
		rc = 1;
	ironwal_iterator_free(it);
	return rc < 0 ? -1 : 0;
}

static int run_read_shard(void)
{
	ironwal_entries *entries;
	ironwal_iterator *it;
	if (ironwal_read_shard(c, 0, NULL, &entries, err) != 0)
		return -1;
	ironwal_entries_free(entries);
	if (ironwal_shard_iterator_open(c, 0, NULL, &it, err) != 0)
		return -1;
	ironwal_iterator_free(it);
	return 0;
}

static int run_truncate_and_sync(void)
{
	uint64_t deleted;
	return ironwal_truncate(c, "u", 1, 0, &deleted, err) != 0 || ironwal_sync(c, "s", 1, err) != 0 ||
			       ironwal_sync(c, NULL, 0, err) != 0
		       ? -1
		       : 0;
}

static int run_names(void)
{
	ironwal_names *names;
	if (ironwal_list_streams(c, "", 0, "", 0, 0, &names, err) != 0)
		return -1;
	cr_assert(ironwal_names_count(names) >= 2);
	ironwal_names_free(names);
	return 0;
}

static int run_shard_append(void)
{
	return ironwal_shard_append(c, "key", 3, "v", 1, NULL, NULL, err);
}

static int run_shard_batch(void)
{
	ironwal_shard_position positions[3];
	memset(positions, 0xee, sizeof(positions));
	int rc = ironwal_shard_append_batch(c, pairs, 3, NULL, positions, err);
	for (int i = 0; i < 3; i++) {
		if (rc == 0)
			cr_assert(positions[i].written == 1 && positions[i].shard < 4);
		else if (ironwal_error_fate(err) != IRONWAL_FATE_NOT_SENT)
			cr_assert(positions[i].written == 0 && positions[i].id == 0);
	}
	return rc;
}

static int run_shard_key(void)
{
	return ironwal_shard_append_batch_for_key(c, "key", 3, two, 2, NULL, NULL, err);
}

static int run_checkpoints(void)
{
	ironwal_checkpoint *checkpoint;
	ironwal_checkpoints *list;
	ironwal_prune_stats pruned;
	ironwal_compaction_stats compacted;
	uint64_t count;
	if (ironwal_create_checkpoint(c, "cp", 2, &checkpoint, err) != 0)
		return -1;
	ironwal_checkpoint_free(checkpoint);
	if (ironwal_load_checkpoint(c, "cp", 2, &checkpoint, err) != 0)
		return -1;
	ironwal_checkpoint_free(checkpoint);
	if (ironwal_load_latest_checkpoint(c, &checkpoint, err) != 0)
		return -1;
	ironwal_checkpoint_free(checkpoint);
	if (ironwal_list_checkpoints(c, 0, &list, err) != 0)
		return -1;
	cr_assert(ironwal_checkpoints_count(list) == 1);
	ironwal_checkpoints_free(list);
	if (ironwal_checkpoint_count(c, &count, err) != 0 ||
		ironwal_prune_before_checkpoint(c, "cp", 2, &pruned, err) != 0)
		return -1;
	return ironwal_compact_checkpoints(c, 4, &compacted, err);
}

static int run_stats(void)
{
	ironwal_value *value;
	if (ironwal_stats(c, &value, err) != 0)
		return -1;
	ironwal_value_free(value);
	return 0;
}

/* ---- every function, submitted ---- */

static int take_result(int rc, const uint32_t *id)
{
	ironwal_result *result;
	size_t len;
	if (rc != 0)
		return -1;
	cr_assert(ironwal_wait_result(c, &result, err) == 1 && ironwal_result_request_id(result) == *id);
	if (ironwal_result_error(result) != NULL) {
		ironwal_error_copy(err, ironwal_result_error(result));
		cr_assert(ironwal_result_take_entries(result) == NULL && ironwal_result_take_value(result) == NULL);
		return -1;
	}
	ironwal_entry_free(ironwal_result_take_entry(result, &len));
	ironwal_entries_free(ironwal_result_take_entries(result));
	return 0; /* the rest is not taken: it goes with the result */
}

static unsigned kind;

static int run_submit(void)
{
	static const uint64_t ids[] = {0, 1};
	uint32_t id = 0;
	int rc = -1;
	switch (kind) {
#define SUBMIT(number, call)                                                                                           \
	case number:                                                                                                   \
		rc = call;                                                                                             \
		break
		SUBMIT(0, ironwal_submit_ping(c, &id, err));
		SUBMIT(1, ironwal_submit_append(c, "s", 1, "e", 1, NULL, &id, err));
		SUBMIT(2, ironwal_submit_get(c, "s", 1, 0, &id, err));
		SUBMIT(3, ironwal_submit_get_batch(c, "s", 1, ids, 2, &id, err));
		SUBMIT(4, ironwal_submit_read(c, "s", 1, NULL, &id, err));
		SUBMIT(5, ironwal_submit_get_stream_info(c, "s", 1, &id, err));
		SUBMIT(6, ironwal_submit_truncate(c, "u", 1, 0, &id, err));
		SUBMIT(7, ironwal_submit_sync(c, "s", 1, &id, err));
		SUBMIT(8, ironwal_submit_list_streams(c, "", 0, "", 0, 0, &id, err));
		SUBMIT(9, ironwal_submit_shard_append(c, "k", 1, "v", 1, NULL, &id, err));
		SUBMIT(10, ironwal_submit_create_checkpoint(c, "cp", 2, &id, err));
		SUBMIT(11, ironwal_submit_load_checkpoint(c, "cp", 2, &id, err));
		SUBMIT(12, ironwal_submit_load_latest_checkpoint(c, &id, err));
		SUBMIT(13, ironwal_submit_list_checkpoints(c, 0, &id, err));
		SUBMIT(14, ironwal_submit_checkpoint_count(c, &id, err));
		SUBMIT(15, ironwal_submit_prune_before_checkpoint(c, "cp", 2, &id, err));
		SUBMIT(16, ironwal_submit_compact_checkpoints(c, 4, &id, err));
		SUBMIT(17, ironwal_submit_stats(c, &id, err));
		SUBMIT(18, ironwal_submit_read_shard(c, 1, NULL, &id, err));
		SUBMIT(19, ironwal_submit_current_segment_start_id(c, "s", 1, &id, err));
	default:
		cr_assert_fail("no such kind");
	}
	return take_result(rc, &id);
}
#define KINDS 20

static int run_submit_batch(void)
{
	uint32_t id = 0;
	return take_result(ironwal_submit_append_batch(c, "s", 1, two, 2, NULL, &id, err), &id);
}

static int run_submit_shards(void)
{
	uint32_t id = 0;
	return take_result(ironwal_submit_shard_append_batch(c, pairs, 3, NULL, &id, err), &id);
}

static int run_submit_shard_key(void)
{
	uint32_t id = 0;
	return take_result(ironwal_submit_shard_append_batch_for_key(c, "k", 1, two, 2, NULL, &id, err), &id);
}

static int run_submit_txn(void)
{
	ironwal_txn *txn;
	uint32_t id = 0;
	if (ironwal_txn_begin(c, "s", 1, &txn, err) != 0)
		return -1;
	int rc = ironwal_txn_add(txn, "e", 1, err);
	if (rc == 0)
		rc = ironwal_submit_txn_commit(txn, NULL, &id, err);
	ironwal_txn_free(txn);
	return take_result(rc, &id);
}

static const struct {
	int (*run)(void);
	unsigned writes; /* entries */
} steps[] = {
	{run_ping_and_info, 0},
	{run_append, 1},
	{run_batch, 2},
	{run_conflict, 0},
	{run_txn, 40},
	{run_get, 0},
	{run_get_batch, 0},
	{run_iterate, 0},
	{run_read_shard, 0},
	{run_truncate_and_sync, 0},
	{run_names, 0},
	{run_shard_append, 1},
	{run_shard_batch, 3},
	{run_shard_key, 2},
	{run_checkpoints, 0},
	{run_stats, 0},
	{run_submit_batch, 2},
	{run_submit_shards, 3},
	{run_submit_shard_key, 2},
	{run_submit_txn, 1},
};
#define STEPS (sizeof(steps) / sizeof(steps[0]))

/* ---- running them ---- */

static void prepare(void)
{
	struct model_stream *s = model_make(&model, "s", 1), *i = model_make(&model, "i", 1);
	(void)model_append(&model, s, "first", 5);
	(void)model_append(&model, s, "second", 6);
	for (char digit = '0'; digit < '3'; digit++)
		(void)model_append(&model, i, &digit, 1);
	fake_start(&fake, script);
	err = ironwal_error_new_with(&allocator);
	cr_assert(err != NULL);
}

static void finish(void)
{
	fake_stop_listening(&fake);
	fake_join(&fake);
	ironwal_error_free(err);
	cr_assert(counts.live == 0, "%lu blocks were not freed", counts.live);
	cr_assert(strays == 0, "%u allocations were not the allocator's", strays);
	model_free(&model);
}

/* A call failed because of the allocation: what it says of the write is so. */
static void check_failure(size_t step, uint64_t executed, uint64_t writes)
{
	ironwal_fate fate = ironwal_error_fate(err);
	cr_assert(counts.has_failed, "%zu: %s", step, ironwal_error_message(err));
	cr_assert(ironwal_error_get_code(err) == IRONWAL_ERR_NO_MEMORY, "%zu: %s", step, ironwal_error_message(err));
	cr_assert(ironwal_error_connection_usable(err) == ironwal_is_usable(c));
	if (!ironwal_is_usable(c)) {
		disconnect();
		cr_assert(connect_once() == 0, "%s", ironwal_error_message(err));
	}
	cr_assert(ironwal_ping(c, err) == 0, "%s", ironwal_error_message(err)); /* all before it is done now */
	uint64_t now = model.executed - executed;
	cr_assert(now == 0 || now == writes);
	cr_assert(fate != IRONWAL_FATE_WRITTEN || now == writes, "%zu", step);
	cr_assert(fate == IRONWAL_FATE_WRITTEN || fate == IRONWAL_FATE_UNKNOWN || now == 0, "%zu: %s", step,
		ironwal_fate_name(fate));
}

/* The next attempt works. */
static void run_step(size_t step, int (*run)(void), uint64_t writes)
{
	uint64_t executed = model.executed;
	if (run() != 0) {
		check_failure(step, executed, writes);
		executed = model.executed;
		cr_assert(run() == 0, "%zu, again: %s", step, ironwal_error_message(err));
	}
	cr_assert(model.executed - executed == writes, "%zu: a success that is none, or is two", step);
}

/* As far as the failure, and one step more. */
static void run_all(void)
{
	counts.total = 0;
	counts.has_failed = false;
	if (connect_once() != 0) {
		cr_assert(counts.has_failed && ironwal_error_get_code(err) == IRONWAL_ERR_NO_MEMORY);
		cr_assert(!ironwal_error_connection_usable(err) && c == NULL);
		cr_assert(counts.live == 1, "there is only the error object");
		cr_assert(connect_once() == 0, "%s", ironwal_error_message(err));
	}
	for (size_t i = 0; i < STEPS && !counts.has_failed; i++)
		run_step(i, steps[i].run, steps[i].writes);
	for (kind = 0; kind < KINDS && !counts.has_failed; kind++)
		run_step(100 + kind, run_submit, kind == 1 || kind == 9);
	disconnect();
	cr_assert(counts.live == 1, "%lu blocks were not freed", counts.live - 1);
}

Test(client_memory, all_of_it_is_the_allocators, .timeout = 120)
{
	prepare();
	is_watched = true;
	run_all();
	is_watched = false;
	cr_assert(counts.total > 100 && !counts.has_failed);
	finish();
}

Test(client_memory, each_allocation_fails_once, .timeout = 300)
{
	prepare();
	for (unsigned long n = 1; n == 1 || counts.has_failed; n++) {
		counts.fail_at = n;
		run_all();
	}
	cr_assert(counts.fail_at > 100, "%lu", counts.fail_at);
	counts.fail_at = 0;
	finish();
}

/* What is taken out of a connection is freed after it, by the same allocator. */
Test(client_memory, what_was_taken_outlives_the_connection)
{
	ironwal_entries *entries;
	ironwal_iterator *it;
	ironwal_txn *txn;
	ironwal_value *value;
	void *entry;
	uint64_t id;
	const void *data;
	size_t len;
	prepare();
	cr_assert(connect_once() == 0);
	cr_assert(ironwal_read(c, "s", 1, NULL, &entries, err) == 0);
	cr_assert(ironwal_get(c, "s", 1, 0, &entry, &len, err) == 0);
	cr_assert(ironwal_stats(c, &value, err) == 0);
	cr_assert(ironwal_iterator_open(c, "s", 1, NULL, &it, err) == 0);
	cr_assert(ironwal_iterator_next(it, &id, &data, &len, err) == 1);
	cr_assert(ironwal_txn_begin(c, "s", 1, &txn, err) == 0 && ironwal_txn_add(txn, "e", 1, err) == 0);
	disconnect();
	cr_assert(ironwal_entries_get(entries, 0, &id, &data, &len) == 1 && memcmp(data, "first", 5) == 0);
	cr_assert(memcmp(entry, "first", 5) == 0);
	cr_assert(ironwal_iterator_next(it, &id, &data, &len, err) == 1 && id == 1 && memcmp(data, "second", 6) == 0);
	ironwal_entries_free(entries);
	ironwal_entry_free(entry);
	ironwal_value_free(value);
	ironwal_iterator_free(it);
	ironwal_txn_free(txn);
	finish();
}

/* Of what an iterator asked for ahead nothing is left when it has gone, or has gone elsewhere. */
Test(client_memory, an_iterator_leaves_nothing)
{
	unsigned long live = 0;
	prepare();
	cr_assert(connect_once() == 0);
	for (int i = 0; i < 40; i++) {
		ironwal_read_options options = IRONWAL_READ_OPTIONS_INIT;
		ironwal_iterator *it;
		uint64_t id;
		const void *data;
		size_t len;
		options.max_entries = 1;
		cr_assert(ironwal_iterator_open(c, "i", 1, &options, &it, err) == 0);
		cr_assert(ironwal_iterator_next(it, &id, &data, &len, err) == 1 && id == 0);
		if (i % 2 == 0)
			cr_assert(ironwal_ping(c, err) == 0); /* the next answer has come */
		if (i % 4 < 2) {
			ironwal_iterator_rebind(it, c);
			cr_assert(ironwal_iterator_next(it, &id, &data, &len, err) == 1 && id == 1);
		}
		ironwal_iterator_free(it);
		cr_assert(ironwal_ping(c, err) == 0); /* if it came after that, it was dropped */
		live = i == 3 ? counts.live : live;
		cr_assert(i < 4 || counts.live == live, "%lu, %lu", counts.live, live);
	}
	disconnect();
	finish();
}

/* Executes, and says that it does not know. */
static void script_does_not_know(struct fake *f)
{
	struct error e;
	error_set_io(&e, EIO, "sync", "/a/segment");
	error_set_outcome(&e, OUTCOME_UNKNOWN);
	do {
		hello(f);
		while (next_request(f)) {
			model_execute(f, &model);
			answer_buf.len = 0;
			answer_error(f, f->request.msgid, &e);
		}
		set_step(f, f->step + 1);
	} while (accept_next(f));
}

Test(client_memory, a_refusal_that_there_is_no_memory_for, .timeout = 60)
{
	bool lost = false;
	fake_start(&fake, script_does_not_know);
	err = ironwal_error_new_with(&allocator);
	cr_assert(err != NULL);
	for (unsigned long n = 1; n == 1 || counts.has_failed; n++) {
		counts.fail_at = 0;
		cr_assert(connect_once() == 0);
		uint64_t executed = model.executed;
		counts.total = 0;
		counts.has_failed = false;
		counts.fail_at = n;
		cr_assert(run_append() == -1);
		ironwal_error_code code = ironwal_error_get_code(err);
		ironwal_fate fate = ironwal_error_fate(err);
		cr_assert(code == (counts.has_failed ? IRONWAL_ERR_NO_MEMORY : IRONWAL_ERR_IO));
		lost |= !ironwal_is_usable(c) && fate == IRONWAL_FATE_UNKNOWN;
		disconnect();
		cr_assert(fate == (model.executed > executed ? IRONWAL_FATE_UNKNOWN : IRONWAL_FATE_NOT_SENT), "%lu: %s",
			n, ironwal_fate_name(fate));
	}
	cr_assert(lost, "it never was the refusal's");
	finish();
}

Test(client_memory, null_is_no_error_and_freed_as_well)
{
	cr_assert(ironwal_error_get_code(NULL) == IRONWAL_OK);
	cr_assert(strcmp(ironwal_error_code_name(NULL), "Ok") == 0);
	cr_assert(ironwal_error_connection_usable(NULL) == 1);
	ironwal_close(NULL);
	ironwal_error_free(NULL);
	ironwal_entries_free(NULL);
	ironwal_iterator_free(NULL);
	ironwal_txn_free(NULL);
	ironwal_names_free(NULL);
	ironwal_value_free(NULL);
	cr_assert(strcmp(ironwal_version(), IRONWAL_VERSION_STRING) == 0);
}
