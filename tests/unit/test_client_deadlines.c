/*
 * The time that libironwal's requests have: results at their deadlines, answers that come after them, requests that are
 * taken back out of what is queued; and what the connection asks an event loop to wait for meanwhile.
 */
#include "fake_server_loop.h"

/* Past the longest pause that a loaded machine makes between a submit and what follows it, one hopes. */
#define SOON_MS 500

static int submit(const void *entry, size_t len, int64_t timeout_ms, uint32_t *id)
{
	ironwal_set_timeout_ms(c, timeout_ms);
	return ironwal_submit_append(c, "s", 1, entry, len, NULL, id, err);
}

/* Until ironwal_process has nothing to write, or the socket takes no more. */
static void send_what_goes(void)
{
	cr_assert(ironwal_process(c, IRONWAL_WRITABLE, err) == 0, "%s", ironwal_error_message(err));
}

static void sleep_ms(int ms)
{
	uint64_t until_ns = clock_now_ns() + (uint64_t)ms * NS_PER_MS;
	while (clock_now_ns() < until_ns)
		(void)poll(NULL, 0, 1);
}

/* ---- answers that are late ---- */

/* Answers the first two late, in the other order, and everything else at once. */
static void script_late(struct fake *f)
{
	uint32_t late[2];
	hello(f);
	for (int i = 0; i < 2; i++) {
		expect(f, METHOD_APPEND);
		late[i] = f->request.msgid;
	}
	set_step(f, 1);
	wait_step(f, 2);
	answer_append(f, late[1], 1);
	expect(f, METHOD_PING);
	answer_empty(f, f->request.msgid);
	wait_step(f, 3);
	answer_append(f, late[0], 0);
	for (uint64_t id = 2; next_request(f); id++) {
		MUST(f->request.msgid != late[0] && f->request.msgid != late[1]);
		answer_append(f, f->request.msgid, id);
	}
}

Test(client_deadlines, answers_after_the_deadline_are_dropped_before_and_after_the_result_is_taken)
{
	uint32_t ids[2], id;
	begin_ready(script_late, 60000, NULL);
	uint64_t before_ns = clock_now_ns();
	for (int i = 0; i < 2; i++)
		cr_assert(submit("e", 1, SOON_MS, &ids[i]) == 0);
	int64_t left_ms = ironwal_next_deadline_ms(c);
	cr_assert(left_ms >= 0 && left_ms <= SOON_MS);
	send_what_goes();
	wait_step(&fake, 1);
	ASSERT_FAILED(next_result(), ids[0], IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_UNKNOWN);
	cr_assert(clock_now_ns() - before_ns >= SOON_MS * NS_PER_MS, "not before its deadline");
	cr_assert(ironwal_in_flight(c) == 1, "the other one has expired too, and is not taken");
	cr_assert(ironwal_next_deadline_ms(c) == 0, "so it is to be taken now");
	set_step(&fake, 2);
	ironwal_set_timeout_ms(c, 60000);
	cr_assert(ironwal_ping(c, err) == 0, "%s", ironwal_error_message(err)); /* its late answer has come by now */
	ASSERT_FAILED(next_result(), ids[1], IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_UNKNOWN);
	cr_assert(ironwal_next_deadline_ms(c) == -1, "nothing waits for anything");
	set_step(&fake, 3);
	for (uint64_t i = 2; i < 40; i++) { /* the slots are used again */
		cr_assert(submit("e", 1, 60000, &id) == 0 && id != ids[0] && id != ids[1]);
		ASSERT_APPENDED(next_result(), id, i);
	}
	stop();
}

#define IN_TIME 100

static void script_answers_all(struct fake *f)
{
	hello(f);
	for (uint64_t i = 0; i < IN_TIME; i++) {
		expect(f, METHOD_APPEND);
		answer_append(f, f->request.msgid, i);
	}
	set_step(f, 1);
	until_closed(f);
}

/* Who comes back to its loop after the deadline finds the answers that are there, not timeouts. */
Test(client_deadlines, an_answer_that_has_come_is_in_time)
{
	static uint32_t ids[IN_TIME];
	for (int blocking = 0; blocking < 2; blocking++) {
		begin_ready(script_answers_all, 60000, NULL);
		for (int i = 0; i < IN_TIME; i++)
			cr_assert(submit("e", 1, 2 * SOON_MS, &ids[i]) == 0);
		while (ironwal_events(c) & IRONWAL_WRITABLE)
			send_what_goes();
		wait_step(&fake, 1); /* they are in this side's socket */
		sleep_ms(2 * SOON_MS);
		cr_assert(ironwal_next_deadline_ms(c) == 0);
		for (uint64_t i = 0; i < IN_TIME; i++) {
			ironwal_result *result;
			if (blocking)
				cr_assert(ironwal_wait_result(c, &result, err) == 1);
			else if (ironwal_next_result(c, &result) == 0) {
				cr_assert(ironwal_process(c, 0, err) == 0, "it looks by itself before it gives up");
				cr_assert(ironwal_next_result(c, &result) == 1);
			}
			ASSERT_APPENDED(result, ids[i], i);
		}
		cr_assert(ironwal_next_deadline_ms(c) == -1);
		stop();
	}
}

/* ---- requests that are taken back ---- */

static char large[8 << 20]; /* more than a socket takes */

/* Reads nothing until it is told to; then expects entries of these lengths, in this order. */
static size_t expected_lengths[8];

static void script_reads_late(struct fake *f)
{
	hello(f);
	wait_step(f, 1);
	for (uint64_t i = 0; i < 8 && expected_lengths[i] > 0; i++) {
		struct span entry;
		expect(f, METHOD_APPEND);
		MUST(field_bytes(&f->request.params, KEY_ENTRY, &entry, NULL) == 0 && entry.len == expected_lengths[i]);
		answer_append(f, f->request.msgid, i);
	}
	MUST(!next_request(f) && f->left_bytes == 0);
}

/* Of what waits behind a half-sent request, some expire at once: first, in the middle, side by side, last. */
Test(client_deadlines, unsent_requests_are_taken_back_and_those_around_them_are_whole)
{
	enum { COUNT = 9 };
	static const bool expires[COUNT] = {0, 1, 0, 1, 1, 0, 0, 1, 1};
	uint32_t ids[COUNT];
	unsigned failed = 0, answered = 0, kept = 0;
	for (int i = 0; i < COUNT; i++) {
		if (!expires[i])
			expected_lengths[kept++] = i == 0 ? sizeof(large) : (size_t)(100 * i);
	}
	begin_ready(script_reads_late, 60000, NULL);
	for (int i = 0; i < COUNT; i++)
		cr_assert(submit(large, i == 0 ? sizeof(large) : (size_t)(100 * i), expires[i] ? 50 : 60000, &ids[i]) ==
			  0);
	send_what_goes();
	cr_assert(ironwal_events(c) == (IRONWAL_READABLE | IRONWAL_WRITABLE));
	cr_assert(ironwal_next_deadline_ms(c) <= 50);
	for (int i = 0; i < COUNT; i++) {
		if (!expires[i])
			continue;
		ASSERT_FAILED(next_result(), ids[i], IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_NOT_SENT);
		failed++;
	}
	cr_assert(failed == 5 && ironwal_in_flight(c) == 4 && ironwal_is_usable(c));
	cr_assert(ironwal_next_deadline_ms(c) > 10000);
	set_step(&fake, 1);
	for (int i = 0; i < COUNT; i++) {
		if (!expires[i])
			ASSERT_APPENDED(next_result(), ids[i], answered++);
	}
	stop();
}

/* The one that is given up by a blocking call, between others. */
Test(client_deadlines, a_blocking_call_takes_its_request_back_out_of_the_middle)
{
	uint32_t ids[2];
	ironwal_append_result append;
	memset(expected_lengths, 0, sizeof(expected_lengths));
	expected_lengths[0] = sizeof(large);
	expected_lengths[1] = 10;
	begin_ready(script_reads_late, 60000, NULL);
	cr_assert(submit(large, sizeof(large), 60000, &ids[0]) == 0);
	ironwal_set_timeout_ms(c, 30);
	cr_assert(ironwal_append(c, "s", 1, large, 77, NULL, &append, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(submit(large, 10, 60000, &ids[1]) == 0);
	ironwal_set_timeout_ms(c, 0);
	cr_assert(ironwal_append(c, "s", 1, large, 88, NULL, &append, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_NOT_SENT, 1);
	set_step(&fake, 1);
	for (uint64_t i = 0; i < 2; i++)
		ASSERT_APPENDED(next_result(), ids[i], i);
	stop();
}

/* Each of them by itself, every byte behind it moved, would take minutes. */
Test(client_deadlines, very_many_are_taken_back_at_once, .timeout = 60)
{
	static uint32_t ids[32767];
	ironwal_options options = IRONWAL_OPTIONS_INIT;
	uint32_t first;
	memset(expected_lengths, 0, sizeof(expected_lengths));
	expected_lengths[0] = sizeof(large);
	options.max_in_flight_count = 32768;
	options.max_in_flight_bytes = UINT64_MAX;
	begin_ready(script_reads_late, 60000, &options);
	cr_assert(submit(large, sizeof(large), 60000, &first) == 0);
	send_what_goes();
	for (int i = 0; i < 32767; i++)
		cr_assert(submit(large, 1000, 2 * SOON_MS, &ids[i]) == 0, "%s", ironwal_error_message(err));
	sleep_ms(2 * SOON_MS);
	uint64_t before_ns = clock_now_ns();
	for (int i = 0; i < 32767; i++)
		ASSERT_FAILED(next_result(), ids[i], IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_NOT_SENT);
	cr_assert(clock_now_ns() - before_ns < 20 * NS_PER_SECOND);
	set_step(&fake, 1);
	ASSERT_APPENDED(next_result(), first, 0);
	stop();
}

static void script_never_reads(struct fake *f)
{
	hello(f);
	wait_step(f, 1);
	MUST(!next_request(f) && f->left_bytes > 0);
}

Test(client_deadlines, a_half_sent_one_ends_the_connection)
{
	uint32_t ids[3], id;
	ironwal_result *result;
	begin_ready(script_never_reads, 60000, NULL);
	cr_assert(submit(large, sizeof(large), SOON_MS, &ids[0]) == 0);
	cr_assert(submit("b", 1, 60000, &ids[1]) == 0);
	cr_assert(submit("c", 1, SOON_MS, &ids[2]) == 0);
	while (turn() == 0)
		;
	ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_NOT_A_WRITE, 0);
	cr_assert(ironwal_get_state(c) == IRONWAL_STATE_LOST && ironwal_fd(c) == -1 && ironwal_events(c) == 0);
	cr_assert(ironwal_next_deadline_ms(c) == 0 && ironwal_in_flight(c) == 3, "there are results");
	set_step(&fake, 1);
	for (int i = 0; i < 3; i++) {
		cr_assert(ironwal_next_result(c, &result) == 1);
		id = ironwal_result_request_id(result);
		ASSERT_FAILED(result, id, IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_NOT_SENT);
		cr_assert(ironwal_error_is_retriable(ironwal_result_error(result)));
		cr_assert(!ironwal_error_connection_usable(ironwal_result_error(result)));
	}
	cr_assert(ironwal_next_result(c, &result) == 0 && ironwal_wait_result(c, &result, err) == 0);
	cr_assert(ironwal_next_deadline_ms(c) == -1, "it was told, and nothing comes any more");
	cr_assert(submit("d", 1, 50, &id) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_NOT_SENT, 0);
	cr_assert(ironwal_process(c, 0, err) == -1 && ironwal_flush(c, err) == -1);
	stop();
}

/* ---- what the loop waits for ---- */

static void script_echoes(struct fake *f)
{
	hello(f);
	for (uint64_t i = 0; next_request(f); i++)
		answer_append(f, f->request.msgid, i);
}

Test(client_deadlines, an_idle_connection_wants_nothing_but_to_be_read)
{
	uint32_t id;
	begin_ready(script_echoes, 60000, NULL);
	cr_assert(ironwal_next_deadline_ms(c) == -1, "hello's deadline is over");
	cr_assert(ironwal_events(c) == IRONWAL_READABLE);
	for (uint64_t i = 0; i < 100; i++) {
		cr_assert(submit("e", 1, i % 2 ? INT64_MAX : -1, &id) == 0);
		cr_assert(ironwal_next_deadline_ms(c) == -1, "no deadline is none, and the largest one is none too");
		cr_assert(ironwal_events(c) == (IRONWAL_READABLE | IRONWAL_WRITABLE));
		send_what_goes();
		cr_assert(ironwal_events(c) == IRONWAL_READABLE);
		ASSERT_APPENDED(next_result(), id, i);
	}
	cr_assert(turns < 1000, "%u turns for 100 answers", turns);
	cr_assert(submit("e", 1, 5000000000, &id) == 0); /* ms do not fit an int */
	int64_t left_ms = ironwal_next_deadline_ms(c);
	cr_assert(left_ms > 4999000000 && left_ms <= 5000000000);
	ASSERT_APPENDED(next_result(), id, 100);
	stop();
}

Test(client_deadlines, no_time_at_all)
{
	uint32_t id;
	begin_ready(script_echoes, 60000, NULL);
	cr_assert(submit("e", 1, 0, &id) == 0);
	cr_assert(ironwal_next_deadline_ms(c) == 0);
	ASSERT_FAILED(next_result(), id, IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_NOT_SENT);
	ironwal_set_timeout_ms(c, 60000);
	cr_assert(submit("e", 1, 60000, &id) == 0);
	ASSERT_APPENDED(next_result(), id, 0);
	stop();
}

#define ANSWERS 6
#define ANSWER_BYTES ((size_t)100000)

static void script_large_answers(struct fake *f)
{
	hello(f);
	for (int i = 0; i < ANSWERS; i++) {
		expect(f, METHOD_GET);
		answer_begin(f->request.msgid, 1);
		mp_write_key(&answer, KEY_ENTRY);
		mp_write_bin(&answer, large, ANSWER_BYTES);
		answer_done(f);
	}
	until_closed(f);
}

/* Room for two answers: the third one is left to the socket until one was taken. */
Test(client_deadlines, reading_pauses_while_nobody_takes)
{
	ironwal_options options = IRONWAL_OPTIONS_INIT;
	ironwal_result *result;
	uint32_t ids[ANSWERS];
	options.max_in_flight_bytes = 2 * ANSWER_BYTES;
	begin_ready(script_large_answers, 60000, &options);
	for (int i = 0; i < ANSWERS; i++)
		cr_assert(ironwal_submit_get(c, "s", 1, 0, &ids[i], err) == 0);
	for (unsigned i = 0; i < ANSWERS; i++) {
		while (i + 2 <= ANSWERS && (ironwal_events(c) & IRONWAL_READABLE))
			cr_assert(turn() == 0);
		if (i + 2 <= ANSWERS) {
			cr_assert(ironwal_events(c) == 0, "%u", i);
			cr_assert(ironwal_process(c, IRONWAL_READABLE, err) == 0, "naming what is not wanted is legal");
		}
		result = next_result();
		cr_assert(ironwal_result_request_id(result) == ids[i] && ironwal_result_error(result) == NULL);
	}
	cr_assert(ironwal_events(c) == IRONWAL_READABLE && ironwal_in_flight(c) == 0);
	stop();
}

/* ---- a server that answers nothing, for ever ---- */

static void script_swallows(struct fake *f)
{
	hello(f);
	for (int read = 1; next_request(f); read++) {
		if (read % 50 == 0)
			set_step(f, read);
	}
}

/* There is a bound on what is remembered of requests that were given up. */
Test(client_deadlines, a_connection_that_answers_nothing_ends, .timeout = 120)
{
	int asked = 0;
	begin_ready(script_swallows, 60000, NULL);
	ironwal_set_timeout_ms(c, 0);
	do {
		cr_assert(asked++ < 100000);
		cr_assert(ironwal_ping(c, err) == -1);
		cr_assert(ironwal_error_get_code(err) == IRONWAL_ERR_TIMEOUT, "%s", ironwal_error_message(err));
		if (asked % 50 == 0)
			wait_step(&fake, asked); /* so that the socket has room for the next one */
	} while (ironwal_error_connection_usable(err));
	cr_assert(asked == 65537 && ironwal_get_state(c) == IRONWAL_STATE_LOST, "%d", asked);
	stop();
}

static void script_early(struct fake *f)
{
	uint8_t head[16];
	struct error e;
	hello(f);
	MUST(recv(f->fd, head, sizeof(head), MSG_WAITALL) == sizeof(head)); /* up to the msgid, and a little more */
	uint32_t msgid = (uint32_t)head[7] << 24 | (uint32_t)head[8] << 16 | (uint32_t)head[9] << 8 | head[10];
	if (f->shard_count == 1) {
		error_set(&e, ERR_BUSY, "not that much");
		answer_error(f, msgid, &e);
	} else {
		answer_append(f, msgid, 5);
	}
	wait_step(f, 1);
	while (recv(f->fd, large, sizeof(large), 0) > 0)
		;
}

static void script_early_refusal(struct fake *f)
{
	f->shard_count = 1;
	script_early(f);
}

/* What has not been sent as a whole can be refused; it cannot have been done. */
Test(client_deadlines, an_answer_before_the_request_was_sent)
{
	uint32_t id;
	begin_ready(script_early_refusal, 60000, NULL);
	cr_assert(submit(large, sizeof(large), 60000, &id) == 0);
	ASSERT_FAILED(next_result(), id, IRONWAL_ERR_BUSY, IRONWAL_FATE_REFUSED);
	cr_assert(ironwal_is_usable(c));
	set_step(&fake, 1);
	stop();
	begin_ready(script_early, 60000, NULL);
	cr_assert(submit(large, sizeof(large), 60000, &id) == 0);
	ASSERT_FAILED(next_result(), id, IRONWAL_ERR_PROTOCOL, IRONWAL_FATE_NOT_SENT);
	set_step(&fake, 1);
	stop();
}

static void script_about_all(struct fake *f)
{
	struct error e;
	hello(f);
	wait_step(f, 1);
	error_set_io(&e, EIO, "accept", "/a/socket");
	error_set_outcome(&e, OUTCOME_UNKNOWN);
	answer_error(f, 0, &e);
	wait_step(f, 2);
}

/* An error that is nobody's answer ends the connection; what was not sent by then was not, whatever the error. */
Test(client_deadlines, an_error_about_the_connection_is_not_one_about_a_request)
{
	ironwal_result *result;
	uint32_t ids[3];
	begin_ready(script_about_all, 60000, NULL);
	cr_assert(submit("sent", 4, 60000, &ids[0]) == 0);
	cr_assert(submit(large, sizeof(large), 60000, &ids[1]) == 0);
	cr_assert(ironwal_submit_prune_before_checkpoint(c, "cp", 2, &ids[2], err) == 0);
	send_what_goes();
	set_step(&fake, 1);
	while (turn() == 0)
		;
	set_step(&fake, 2);
	ASSERT_ERROR(IRONWAL_ERR_IO, IRONWAL_FATE_NOT_A_WRITE, 0);
	for (int i = 0; i < 3; i++) {
		cr_assert(ironwal_next_result(c, &result) == 1);
		ASSERT_FAILED(result, ids[i], IRONWAL_ERR_IO, i == 0 ? IRONWAL_FATE_UNKNOWN : IRONWAL_FATE_NOT_SENT);
	}
	stop();
}

static void script_tells(struct fake *f)
{
	hello(f);
	expect(f, METHOD_APPEND);
	set_step(f, 1);
	answer_append(f, f->request.msgid, 0);
	until_closed(f);
}

Test(client_deadlines, what_is_much_is_sent_at_once, .timeout = 60)
{
	uint32_t id;
	begin_ready(script_tells, 60000, NULL);
	cr_assert(submit(large, 70000, 60000, &id) == 0);
	wait_step(&fake, 1); /* nothing else was called */
	ASSERT_APPENDED(next_result(), id, 0);
	stop();
}
