/*
 * What became of an append whose answer was lost: ironwal_settle_append, against a server that executed it or did not,
 * alone or beside other writers; and transactions that are committed over more than one connection.
 */
#include <poll.h>

#include "fake_server_model.h"

static struct model model;
static bool executes; /* what is lost */
static uint64_t requests;

/* The answer to the first append is lost, whether it was executed or not; then it serves well. */
static void script_loses(struct fake *f)
{
	hello(f);
	MUST(next_request(f));
	if (executes)
		model_execute(f, &model);
	answer_buf.len = 0;
	if (!accept_next(f))
		return;
	do {
		hello(f);
		model_serve(f, &model);
	} while (accept_next(f));
}

static void script_serves(struct fake *f)
{
	hello(f);
	model_serve(f, &model);
}

static void connect_again(void)
{
	ironwal_close(c);
	cr_assert(ironwal_connect(fake.address, NULL, &c, err) == 0, "%s", ironwal_error_message(err));
}

static void end(void)
{
	ironwal_close(c);
	c = NULL;
	fake_stop_listening(&fake);
	ironwal_error_free(err);
	fake_join(&fake);
	model_free(&model);
}

static ironwal_append_options expecting(uint64_t id, int sync)
{
	ironwal_append_options options = IRONWAL_APPEND_OPTIONS_INIT;
	options.has_expected_id = 1;
	options.expected_id = id;
	options.sync = sync;
	return options;
}

static const ironwal_bytes three[] = {{"one", 3}, {"", 0}, {"three", 5}};

static void add(const char *stream, const char *entry)
{
	(void)model_append(&model, model_make(&model, stream, strlen(stream)), entry, strlen(entry));
}

static ironwal_append_result settled;

static int settle(const ironwal_bytes *entries, size_t count, uint64_t expected, int sync, ironwal_fate *fate)
{
	const ironwal_append_options options = expecting(expected, sync);
	*fate = IRONWAL_FATE_NOT_A_WRITE;
	memset(&settled, 0xee, sizeof(settled));
	return ironwal_settle_append(c, "s", 1, entries, count, &options, fate, &settled, err);
}

/* ---- the answer is lost ---- */

static void lose_and_settle(size_t count, bool executed)
{
	const ironwal_append_options options = expecting(2, 0);
	ironwal_fate fate;
	executes = executed;
	add("s", "before");
	add("s", "before too");
	start(script_loses);
	cr_assert(ironwal_append_batch(c, "s", 1, three, count, &options, &settled, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_CONNECTION_LOST, IRONWAL_FATE_UNKNOWN, 0);
	cr_assert(ironwal_error_is_retriable(err));
	cr_assert(settle(three, count, 2, 0, &fate) == -1, "over the connection that is lost");
	ASSERT_ERROR(IRONWAL_ERR_CONNECTION_LOST, IRONWAL_FATE_UNKNOWN, 0);
	connect_again();
	for (int again = 0; again < 2; again++) {
		cr_assert(settle(three, count, 2, 0, &fate) == 0, "%s", ironwal_error_message(err));
		cr_assert(fate == IRONWAL_FATE_WRITTEN && settled.first == 2 && settled.end == 2 + count);
	}
	end();
}

Test(client_settle, lost_before_and_after_it_was_executed, .timeout = 60)
{
	for (size_t count = 1; count <= 3; count += 2) {
		lose_and_settle(count, false);
		lose_and_settle(count, true);
	}
}

/* ---- somebody was there first ---- */

/* What the stream holds from id 1 on, and what becomes of three entries that were to be there. */
static void check_conflict(const char *const *held, ironwal_fate expected)
{
	ironwal_fate fate;
	add("s", "before");
	for (int i = 0; held[i] != NULL; i++)
		add("s", held[i]);
	uint64_t executed = model.executed;
	start(script_serves);
	int rc = settle(three, 3, 1, 0, &fate);
	if (expected == IRONWAL_FATE_UNKNOWN) {
		cr_assert(rc == -1 && fate == IRONWAL_FATE_NOT_A_WRITE);
		ASSERT_ERROR(IRONWAL_ERR_CONFLICT, IRONWAL_FATE_UNKNOWN, 1);
	} else {
		cr_assert(rc == 0 && fate == expected, "%s", ironwal_fate_name(fate));
		cr_assert(ironwal_error_get_code(err) == IRONWAL_OK, "success leaves the error alone");
	}
	cr_assert(model.executed == executed, "nothing was written twice");
	end();
}

Test(client_settle, what_is_there_is_compared, .timeout = 60)
{
	static const char *const same[] = {"one", "", "three", NULL};
	static const char *const same_and_more[] = {"one", "", "three", "four", NULL};
	static const char *const other[] = {"two", "", "three", NULL};
	static const char *const beginning[] = {"one", "", "thrice", NULL};
	static const char *const middle[] = {"one", "x", "three", NULL};
	static const char *const prefix[] = {"one", "", "three and more", NULL};
	static const char *const ends_among[] = {"one", "", NULL};
	static const char *const one_of_another[] = {"one", NULL};
	check_conflict(same, IRONWAL_FATE_WRITTEN);
	check_conflict(same_and_more, IRONWAL_FATE_WRITTEN);
	check_conflict(other, IRONWAL_FATE_REFUSED);
	check_conflict(beginning, IRONWAL_FATE_REFUSED);
	check_conflict(middle, IRONWAL_FATE_REFUSED);
	check_conflict(prefix, IRONWAL_FATE_REFUSED);
	check_conflict(ends_among, IRONWAL_FATE_REFUSED);
	check_conflict(one_of_another, IRONWAL_FATE_REFUSED);
}

Test(client_settle, a_stream_that_has_not_come_so_far_can_still_let_it_in, .timeout = 60)
{
	ironwal_fate fate;
	add("s", "before");
	start(script_serves);
	cr_assert(settle(three, 3, 2, 0, &fate) == -1);
	ASSERT_ERROR(IRONWAL_ERR_CONFLICT, IRONWAL_FATE_UNKNOWN, 1);
	cr_assert(fate == IRONWAL_FATE_NOT_A_WRITE, "untouched");
	end();
}

Test(client_settle, what_was_truncated_away_cannot_be_told, .timeout = 60)
{
	ironwal_fate fate;
	uint64_t first;
	for (int i = 0; i < 5; i++)
		add("s", "x");
	model_find(&model, "s", 1)->first = 3;
	start(script_serves);
	cr_assert(settle(three, 1, 1, 0, &fate) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TRUNCATED, IRONWAL_FATE_UNKNOWN, 1);
	cr_assert(ironwal_error_get_uint(err, "first_id", &first) == 1 && first == 3);
	end();
}

Test(client_settle, it_takes_an_expected_id_and_entries)
{
	const ironwal_append_options without = IRONWAL_APPEND_OPTIONS_INIT;
	ironwal_fate fate;
	start(script_silent);
	cr_assert(ironwal_settle_append(c, "s", 1, three, 3, &without, &fate, NULL, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_INVALID_ARGUMENT, IRONWAL_FATE_UNKNOWN, 1);
	cr_assert(ironwal_settle_append(c, "s", 1, three, 3, NULL, &fate, NULL, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_INVALID_ARGUMENT, IRONWAL_FATE_UNKNOWN, 1);
	cr_assert(settle(NULL, 0, 0, 0, &fate) == -1);
	ASSERT_ERROR(IRONWAL_ERR_INVALID_ARGUMENT, IRONWAL_FATE_UNKNOWN, 1);
	stop();
}

/* ---- how durable it is ---- */

static void script_counts_syncs(struct fake *f)
{
	f->sync_mode = executes ? "strict" : "async";
	hello(f);
	while (next_request(f)) {
		requests += f->request.method == METHOD_SYNC;
		model_execute(f, &model);
		answer_flush(f);
	}
}

static void check_durable(bool strict, int sync, int durable, uint64_t syncs)
{
	ironwal_fate fate;
	executes = strict;
	requests = 0;
	add("s", "one");
	start(script_counts_syncs);
	cr_assert(settle(three, 1, 0, sync, &fate) == 0 && fate == IRONWAL_FATE_WRITTEN);
	cr_assert(settled.durable == durable, "strict %d sync %d: %d", strict, sync, settled.durable);
	ironwal_close(c);
	c = NULL;
	stop();
	cr_assert(requests == syncs);
	model_free(&model);
}

Test(client_settle, durable_is_what_was_asked_for, .timeout = 60)
{
	check_durable(true, 0, 1, 0);
	check_durable(true, 1, 1, 0);
	check_durable(false, 0, 0, 0);
	check_durable(false, 1, 1, 1); /* a Conflict does not promise it there */
}

/* ---- time ---- */

/* A conflict, and then one entry of a hundred a time, slowly. */
static void script_slow(struct fake *f)
{
	struct error e;
	hello(f);
	expect(f, METHOD_APPEND_BATCH);
	error_set(&e, ERR_CONFLICT, "no");
	error_set_u64(&e, EFI_EXPECTED, 0);
	error_set_u64(&e, EFI_ACTUAL, 100);
	answer_error(f, f->request.msgid, &e);
	for (requests = 0; next_request(f) && f->request.method == METHOD_ITER; requests++) {
		answer_iter(f, param_u64(f, KEY_START_ID), 1, 100);
		(void)poll(NULL, 0, 50);
	}
}

Test(client_settle, one_deadline_for_all_that_it_does, .timeout = 60)
{
	static char texts[100][16];
	static ironwal_bytes entries[100];
	const ironwal_append_options options = expecting(0, 0);
	ironwal_fate fate;
	uint32_t id;
	start(script_slow);
	for (int i = 0; i < 100; i++)
		entries[i] = (ironwal_bytes){texts[i], (size_t)sprintf(texts[i], "entry %d", i)};
	ironwal_set_timeout_ms(c, 1000);
	cr_assert(ironwal_settle_append(c, "s", 1, entries, 100, &options, &fate, NULL, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_UNKNOWN, 1);
	cr_assert(ironwal_error_is_retriable(err));
	cr_assert(ironwal_submit_ping(c, &id, err) == 0);
	cr_assert(ironwal_next_deadline_ms(c) > 300, "the timeout is what it was before");
	stop();
	cr_assert(requests < 50, "%llu", (unsigned long long)requests);
}

static void script_conflicts_and_falls_silent(struct fake *f)
{
	struct error e;
	hello(f);
	expect(f, METHOD_APPEND);
	error_set(&e, ERR_CONFLICT, "no");
	error_set_u64(&e, EFI_EXPECTED, 0);
	error_set_u64(&e, EFI_ACTUAL, 1);
	answer_error(f, f->request.msgid, &e);
	expect(f, METHOD_ITER);
	uint32_t late = f->request.msgid;
	expect(f, METHOD_PING);
	answer_empty(f, late);
	wait_step(f, 1);
	answer_empty(f, f->request.msgid);
	until_closed(f);
}

Test(client_settle, a_timeout_in_between, .timeout = 60)
{
	ironwal_fate fate;
	start(script_conflicts_and_falls_silent);
	ironwal_set_timeout_ms(c, 300);
	cr_assert(settle(three, 1, 0, 0, &fate) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_UNKNOWN, 1);
	cr_assert(ironwal_ping(c, err) == -1, "the connection lives, and the server is silent");
	ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_NOT_A_WRITE, 1);
	set_step(&fake, 1);
	stop();
}

/* ---- transactions ---- */

static void script_txn(struct fake *f)
{
	struct byte_array array;
	struct error e;
	hello_with(f, 1, 8192);
	expect(f, METHOD_APPEND_BATCH);
	MUST(field_byte_array(&f->request.params, KEY_ENTRIES, false, &array, NULL) == 0 && array.count == 2);
	error_set(&e, ERR_BUSY, "later");
	answer_error(f, f->request.msgid, &e);
	expect(f, METHOD_APPEND_BATCH);
	MUST(field_byte_array(&f->request.params, KEY_ENTRIES, false, &array, NULL) == 0 && array.count == 2);
	answer_batch(f, f->request.msgid, 0, 2);
	MUST(!next_request(f) && f->left_bytes == 0);
}

Test(client_settle, transactions)
{
	static char large[7000];
	ironwal_append_result result;
	ironwal_txn *txn;
	uint64_t limit;
	start(script_txn);
	cr_assert(ironwal_txn_begin(c, "s", 1, &txn, err) == 0);
	cr_assert(ironwal_txn_add(txn, large, sizeof(large), err) == 0);
	cr_assert(ironwal_txn_add(txn, "", 0, err) == 0);
	cr_assert(ironwal_txn_add(txn, large, sizeof(large), err) == -1, "does not fit in one message");
	ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(ironwal_error_get_uint(err, "limit", &limit) == 1 && limit <= 8192);
	cr_assert(ironwal_txn_count(txn) == 2);
	cr_assert(ironwal_txn_commit(txn, NULL, &result, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_BUSY, IRONWAL_FATE_REFUSED, 1);
	cr_assert(ironwal_error_is_retriable(err));
	cr_assert(ironwal_txn_count(txn) == 2);
	cr_assert(ironwal_txn_commit(txn, NULL, &result, err) == 0 && result.first == 0 && result.end == 2);
	cr_assert(ironwal_txn_count(txn) == 0);
	cr_assert(ironwal_txn_add(txn, "discarded", 9, err) == 0);
	ironwal_txn_free(txn);
	stop();
}

Test(client_settle, a_transaction_over_several_connections, .timeout = 60)
{
	const ironwal_append_options options = expecting(0, 0);
	ironwal_append_result result;
	ironwal_result *submitted;
	ironwal_txn *txn;
	uint32_t id;
	executes = true;
	start(script_loses);
	cr_assert(ironwal_txn_begin(c, "s", 1, &txn, err) == 0);
	for (int i = 0; i < 3; i++)
		cr_assert(ironwal_txn_add(txn, three[i].data, three[i].len, err) == 0);
	cr_assert(ironwal_txn_commit(txn, &options, &result, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_CONNECTION_LOST, IRONWAL_FATE_UNKNOWN, 0);
	cr_assert(ironwal_txn_count(txn) == 3);
	ironwal_close(c);
	c = NULL;
	for (int how = 0; how < 2; how++) { /* its connection is closed */
		cr_assert((how ? ironwal_submit_txn_commit(txn, &options, &id, err)
			       : ironwal_txn_commit(txn, &options, &result, err)) == -1);
		cr_assert(ironwal_error_get_code(err) == IRONWAL_ERR_CONNECTION_LOST);
		cr_assert(ironwal_error_fate(err) == IRONWAL_FATE_NOT_SENT && !ironwal_error_connection_usable(err));
	}
	cr_assert(ironwal_txn_add(txn, "four", 4, err) == 0 && ironwal_txn_count(txn) == 4, "it can be filled");
	cr_assert(ironwal_connect(fake.address, NULL, &c, err) == 0);
	ironwal_txn_rebind(txn, c);
	cr_assert(ironwal_txn_commit(txn, &options, &result, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_CONFLICT, IRONWAL_FATE_REFUSED, 1); /* the first commit was executed */
	cr_assert(ironwal_submit_txn_commit(txn, NULL, &id, err) == 0 && ironwal_txn_count(txn) == 4);
	ironwal_txn_clear(txn);
	cr_assert(ironwal_wait_result(c, &submitted, err) == 1);
	cr_assert(ironwal_result_append(submitted, &result) == 1 && result.first == 3 && result.end == 7);
	cr_assert(ironwal_txn_add(txn, "", 0, err) == 0 && ironwal_txn_count(txn) == 1);
	cr_assert(ironwal_txn_commit(txn, NULL, &result, err) == 0 && result.first == 7 && result.end == 8);
	cr_assert(ironwal_txn_count(txn) == 0);
	cr_assert(ironwal_txn_commit(txn, NULL, &result, err) == 0 && result.first == 8 && result.end == 8);
	connect_again(); /* with the transaction still bound to the old one */
	cr_assert(model_is(model_find(&model, "s", 1), 6, "four", 4));
	ironwal_txn_rebind(txn, c);
	ironwal_txn_free(txn);
	end();
}

static void script_small_messages(struct fake *f)
{
	hello_with(f, 1, 8192);
	until_closed(f);
	if (!accept_next(f))
		return;
	wait_step(f, 1);
	hello_with(f, 1, 65536);
	model_serve(f, &model);
}

/* The limits of a connection that is not ready are not known: those of the last one count until they are. */
Test(client_settle, a_transaction_can_be_bound_to_a_connection_that_is_on_its_way, .timeout = 60)
{
	static char large[20000];
	ironwal_append_result result;
	ironwal_txn *txn;
	start(script_small_messages);
	cr_assert(ironwal_txn_begin(c, "s", 1, &txn, err) == 0);
	cr_assert(ironwal_txn_add(txn, large, sizeof(large), err) == -1);
	cr_assert(ironwal_error_get_code(err) == IRONWAL_ERR_TOO_LARGE);
	ironwal_close(c);
	cr_assert(ironwal_connect_start(fake.address, NULL, &c, err) == 0);
	ironwal_txn_rebind(txn, c);
	cr_assert(ironwal_txn_add(txn, "small", 5, err) == 0, "%s", ironwal_error_message(err));
	cr_assert(ironwal_txn_commit(txn, NULL, &result, err) == -1);
	cr_assert(ironwal_error_get_code(err) == IRONWAL_ERR_AGAIN, "%s", ironwal_error_message(err));
	cr_assert(ironwal_error_fate(err) == IRONWAL_FATE_NOT_SENT);
	set_step(&fake, 1);
	while (ironwal_get_state(c) == IRONWAL_STATE_CONNECTING) {
		struct pollfd p = {.fd = ironwal_fd(c), .events = POLLIN};
		(void)poll(&p, 1, 5);
		(void)ironwal_process(c, IRONWAL_READABLE, err);
	}
	cr_assert(ironwal_txn_add(txn, large, sizeof(large), err) == 0, "%s", ironwal_error_message(err));
	cr_assert(ironwal_txn_commit(txn, NULL, &result, err) == 0 && result.end == 2);
	ironwal_txn_free(txn);
	end();
}
