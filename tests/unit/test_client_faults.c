/*
 * libironwal against a server that does not: answers that are late, cut short, garbled, oversized, twice, or never
 * come. What the client says of each write's fate is checked against what the script knows.
 */
#include "fake_server.h"

/* ---- deadlines ---- */

static void script_late(struct fake *f)
{
	uint32_t late;
	hello(f);
	expect(f, METHOD_APPEND);
	late = f->request.msgid;
	expect(f, METHOD_APPEND); /* asked after the first was given up */
	MUST(f->request.msgid != late);
	answer_append(f, late, 1);
	answer_append(f, f->request.msgid, 2);
	until_closed(f);
}

Test(client_faults, late_answers_are_dropped)
{
	ironwal_append_options options = IRONWAL_APPEND_OPTIONS_INIT;
	ironwal_append_result result;
	start(script_late);
	ironwal_set_timeout_ms(c, 50);
	uint64_t before = clock_now_ns();
	options.has_expected_id = 1;
	cr_assert(ironwal_append(c, "s", 1, "e", 1, &options, &result, err) == -1);
	cr_assert(clock_now_ns() - before >= 50 * NS_PER_MS, "not before the deadline");
	ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_UNKNOWN, 1);
	cr_assert(ironwal_error_is_retriable(err), "with an expected_id it is safe to repeat");
	ironwal_set_timeout_ms(c, 60000);
	cr_assert(append("e", &result) == 0 && result.first == 2, "%s", ironwal_error_message(err));
	stop();
}

static void script_reads_nothing(struct fake *f)
{
	hello(f);
	wait_step(f, 1); /* until the client has given up */
	MUST(!next_request(f));
	MUST(f->left_bytes > 0 && f->left_bytes < 12u << 20); /* part of it came, never all */
}

Test(client_faults, half_sent_request_is_never_executed)
{
	static char large[12 << 20];
	ironwal_append_result result;
	start(script_reads_nothing);
	ironwal_set_timeout_ms(c, 50);
	cr_assert(ironwal_append(c, "s", 1, large, sizeof(large), NULL, &result, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_NOT_SENT, 0);
	cr_assert(ironwal_error_is_retriable(err));
	cr_assert(append("e", &result) == -1);
	cr_assert(ironwal_error_fate(err) == IRONWAL_FATE_NOT_SENT);
	set_step(&fake, 1);
	stop();
}

static void script_takes_batch_only(struct fake *f)
{
	hello(f);
	wait_step(f, 1);
	expect(f, METHOD_APPEND);
	answer_append(f, f->request.msgid, 1);
	expect(f, METHOD_PING); /* the one that was taken back never comes */
	answer_empty(f, f->request.msgid);
	until_closed(f);
}

Test(client_faults, unsent_request_is_taken_back)
{
	static char large[12 << 20];
	ironwal_append_result result;
	uint32_t id;
	start(script_takes_batch_only);
	cr_assert(ironwal_submit_append(c, "s", 1, large, sizeof(large), NULL, &id, err) == 0);
	ironwal_set_timeout_ms(c, 50);
	cr_assert(append("behind it", &result) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_NOT_SENT, 1);
	uint32_t none = 99;
	cr_assert(next_append(&none, &result) == -1 && none == 0, "still in flight");
	ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_NOT_A_WRITE, 1);
	ironwal_set_timeout_ms(c, 60000);
	set_step(&fake, 1);
	cr_assert(next_append(&none, &result) == 1 && none == id && result.first == 1);
	cr_assert(ironwal_ping(c, err) == 0);
	stop();
}

static void script_chatters(struct fake *f)
{
	hello(f);
	expect(f, METHOD_PING);
	while (send(f->fd, "", 0, MSG_NOSIGNAL) >= 0 && f->step == 0) {
		pthread_mutex_lock(&f->lock);
		bool done = f->step > 0;
		pthread_mutex_unlock(&f->lock);
		if (done)
			break;
		send_notification(f, 100);
	}
	close(f->fd);
	f->fd = -1;
}

Test(client_faults, a_server_that_never_stops_talking_does_not_move_the_deadline)
{
	start(script_chatters);
	ironwal_set_timeout_ms(c, 100);
	cr_assert(ironwal_ping(c, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_NOT_A_WRITE, 1);
	ironwal_close(c); /* it may be blocked in a send */
	c = NULL;
	set_step(&fake, 1);
	stop();
}

/* ---- the end of a connection ---- */

static void script_cut_answer(struct fake *f)
{
	hello(f);
	expect(f, METHOD_APPEND);
	send_bytes(f, "\0\0\0\x20\x94\x01", 6);
}

Test(client_faults, answer_cut_short)
{
	start(script_cut_answer);
	cr_assert(append("e", NULL) == -1);
	ASSERT_ERROR(IRONWAL_ERR_CONNECTION_LOST, IRONWAL_FATE_UNKNOWN, 0);
	cr_assert(!ironwal_error_is_retriable(err));
	stop();
}

static void script_reset(struct fake *f)
{
	hello(f);
	expect(f, METHOD_APPEND);
	const struct linger now = {.l_onoff = 1, .l_linger = 0};
	MUST(setsockopt(f->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) == 0);
}

Test(client_faults, reset)
{
	err = ironwal_error_new();
	fake_start_tcp(&fake, script_reset);
	cr_assert(ironwal_connect(fake.address, NULL, &c, err) == 0, "%s", ironwal_error_message(err));
	cr_assert(append("e", NULL) == -1);
	ASSERT_ERROR(IRONWAL_ERR_CONNECTION_LOST, IRONWAL_FATE_UNKNOWN, 0);
	cr_assert(ironwal_error_errno(err) == ECONNRESET);
	stop();
}

static void script_last_words(struct fake *f)
{
	hello(f);
	expect(f, METHOD_APPEND);
	answer_append(f, f->request.msgid, 5);
	expect(f, METHOD_APPEND);
	close(f->fd);
	f->fd = -1;
	set_step(f, 1);
}

Test(client_faults, each_request_has_its_own_fate)
{
	uint32_t ids[3], id;
	ironwal_append_result result;
	start(script_last_words);
	for (int i = 0; i < 2; i++)
		cr_assert(ironwal_submit_append(c, "s", 1, "e", 1, NULL, &ids[i], err) == 0);
	cr_assert(ironwal_flush(c, err) == 0);
	wait_step(&fake, 1);
	cr_assert(ironwal_submit_append(c, "s", 1, "e", 1, NULL, &ids[2], err) == 0);
	cr_assert(next_append(&id, &result) == 1 && id == ids[0] && result.first == 5, "answered before the end");
	cr_assert(next_append(&id, &result) == -1 && id == ids[1]);
	ASSERT_ERROR(IRONWAL_ERR_CONNECTION_LOST, IRONWAL_FATE_UNKNOWN, 0);
	cr_assert(next_append(&id, &result) == -1 && id == ids[2]);
	ASSERT_ERROR(IRONWAL_ERR_CONNECTION_LOST, IRONWAL_FATE_NOT_SENT, 0);
	cr_assert(ironwal_error_is_retriable(err));
	cr_assert(next_append(&id, &result) == 0);
	cr_assert(ironwal_submit_append(c, "s", 1, "e", 1, NULL, &id, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_CONNECTION_LOST, IRONWAL_FATE_NOT_SENT, 0);
	cr_assert(ironwal_ping(c, err) == -1);
	stop();
}

/* ---- nonsense ---- */

static void (*send_nonsense)(struct fake *f);

static void script_nonsense(struct fake *f)
{
	hello(f);
	expect(f, METHOD_APPEND);
	send_nonsense(f);
	until_closed(f);
}

static void garbage(struct fake *f)
{
	send_bytes(f, "\0\0\0\4\xc1\xc1\xc1\xc1", 8);
}

static void oversized(struct fake *f)
{
	send_bytes(f, "\xff\xff\xff\xff\x94", 5);
}

static void announces_more_than_it_has(struct fake *f)
{
	/* A map of 2^32-1 pairs in a frame of 9 bytes. */
	send_bytes(f, "\0\0\0\x09\x94\x01\x01\xc0\xdf\xff\xff\xff\xff", 13);
}

static void stranger(struct fake *f)
{
	answer_append(f, f->request.msgid + 1, 5);
}

static void not_a_response(struct fake *f)
{
	send_bytes(f, "\0\0\0\x05\x94\x07\x01\xc0\xc0", 9);
}

static void wrong_count(struct fake *f)
{
	answer_batch(f, f->request.msgid, 5, 7); /* an id is missing, as the request was append */
}

static void empty_message(struct fake *f)
{
	send_bytes(f, "\0\0\0\0", 4);
}

static void check_nonsense(void (*nonsense)(struct fake *), ironwal_fate fate)
{
	send_nonsense = nonsense;
	start(script_nonsense);
	cr_assert(append("e", NULL) == -1);
	ASSERT_ERROR(IRONWAL_ERR_PROTOCOL, fate, 0);
	cr_assert(!ironwal_error_is_retriable(err));
	stop();
}

Test(client_faults, nonsense_ends_the_connection)
{
	/* Nothing of this may allocate what is announced. */
	check_nonsense(garbage, IRONWAL_FATE_UNKNOWN);
	check_nonsense(oversized, IRONWAL_FATE_UNKNOWN);
	check_nonsense(announces_more_than_it_has, IRONWAL_FATE_UNKNOWN);
	check_nonsense(stranger, IRONWAL_FATE_UNKNOWN);
	check_nonsense(not_a_response, IRONWAL_FATE_UNKNOWN);
	check_nonsense(empty_message, IRONWAL_FATE_UNKNOWN);
	check_nonsense(wrong_count, IRONWAL_FATE_WRITTEN);
}

static void script_bad_ids(struct fake *f)
{
	hello(f);
	expect(f, METHOD_APPEND_BATCH);
	answer_batch(f, f->request.msgid, 5, 9); /* two entries were sent */
	until_closed(f);
}

Test(client_faults, ids_that_do_not_fit_are_not_believed)
{
	const ironwal_bytes entries[] = {{"a", 1}, {"b", 1}};
	ironwal_append_result result;
	start(script_bad_ids);
	cr_assert(ironwal_append_batch(c, "s", 1, entries, 2, NULL, &result, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_PROTOCOL, IRONWAL_FATE_UNKNOWN, 0);
	stop();
}

static void script_twice(struct fake *f)
{
	hello(f);
	expect(f, METHOD_APPEND);
	answer_append(f, f->request.msgid, 1);
	answer_append(f, f->request.msgid, 1);
	until_closed(f);
}

Test(client_faults, an_answer_that_comes_twice)
{
	ironwal_append_result result;
	start(script_twice);
	cr_assert(append("e", &result) == 0 && result.first == 1);
	cr_assert(append("e", &result) == -1);
	cr_assert(ironwal_error_get_code(err) == IRONWAL_ERR_PROTOCOL);
	stop();
}

/* An announced 16 MiB, of which a little more than the first buffer comes, must not be allocated. */
static void script_announces(struct fake *f)
{
	static const char part[70000];
	hello(f);
	expect(f, METHOD_PING);
	send_bytes(f, "\0\xff\xff\xff\x94", 5);
	send_bytes(f, part, sizeof(part));
	until_closed(f);
}

/* Private memory may grow by this much: 32 x 16 MiB do not fit. A sanitizer needs terabytes of addresses for itself;
 * there the test is of the rest only. */
static void limit_more_data(rlim_t bytes)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	struct rlimit limit;
	unsigned long long data_kib = 0;
	char line[128];
	FILE *status = fopen("/proc/self/status", "r");
	cr_assert(status != NULL);
	while (fgets(line, sizeof(line), status) != NULL)
		(void)sscanf(line, "VmData: %llu", &data_kib);
	fclose(status);
	cr_assert(data_kib > 0);
	cr_assert(getrlimit(RLIMIT_DATA, &limit) == 0);
	limit.rlim_cur = data_kib * 1024 + bytes;
	cr_assert(setrlimit(RLIMIT_DATA, &limit) == 0);
#else
	(void)bytes;
#endif
}

Test(client_faults, memory_follows_bytes_received)
{
	ironwal *many[32];
	struct fake fakes[32];
	err = ironwal_error_new();
	ironwal_options options = IRONWAL_OPTIONS_INIT;
	options.timeout_ms = 2000;
	for (int i = 0; i < 32; i++) {
		fake_start(&fakes[i], script_announces);
		cr_assert(ironwal_connect(fakes[i].address, &options, &many[i], err) == 0);
		ironwal_set_timeout_ms(many[i], 100);
	}
	limit_more_data(64u << 20);
	for (int i = 0; i < 32; i++) {
		cr_assert(ironwal_ping(many[i], err) == -1);
		cr_assert(ironwal_error_get_code(err) == IRONWAL_ERR_TIMEOUT, "%s", ironwal_error_message(err));
	}
	for (int i = 0; i < 32; i++) {
		ironwal_close(many[i]);
		fake_join(&fakes[i]);
	}
	ironwal_error_free(err);
}

/* ---- hello ---- */

static void check_no_hello(void (*script)(struct fake *), ironwal_error_code code)
{
	ironwal_options options = IRONWAL_OPTIONS_INIT;
	options.timeout_ms = code == IRONWAL_ERR_TIMEOUT ? 50 : 60000;
	err = ironwal_error_new();
	c = NULL;
	fake_start(&fake, script);
	cr_assert(ironwal_connect(fake.address, &options, &c, err) == -1);
	cr_assert(c == NULL);
	cr_assert(ironwal_error_get_code(err) == code, "%s: %s", ironwal_error_code_name(err),
		ironwal_error_message(err));
	cr_assert(ironwal_error_fate(err) == IRONWAL_FATE_NOT_A_WRITE);
	cr_assert(ironwal_error_connection_usable(err) == 0);
	stop();
}

static void script_busy(struct fake *f)
{
	struct error e;
	error_set(&e, ERR_BUSY, "too many connections");
	answer_error(f, 0, &e);
}

static void script_bad_request(struct fake *f)
{
	struct error e;
	expect(f, METHOD_HELLO);
	error_set(&e, ERR_BAD_REQUEST, "protocol 1 is not served");
	answer_error(f, f->request.msgid, &e);
}

static void script_other_version(struct fake *f)
{
	hello_with(f, 2, 1u << 20);
	until_closed(f);
}

static void script_tiny_messages(struct fake *f)
{
	hello_with(f, 1, 100);
	until_closed(f);
}

static void script_http(struct fake *f)
{
	send_bytes(f, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
	until_closed(f);
}

static void script_empty_hello(struct fake *f)
{
	expect(f, METHOD_HELLO);
	answer_empty(f, f->request.msgid);
	until_closed(f);
}

static void script_hangs_up(struct fake *f)
{
	expect(f, METHOD_HELLO);
}

Test(client_faults, no_hello)
{
	check_no_hello(script_busy, IRONWAL_ERR_BUSY);
	check_no_hello(script_bad_request, IRONWAL_ERR_BAD_REQUEST);
	check_no_hello(script_other_version, IRONWAL_ERR_PROTOCOL);
	check_no_hello(script_tiny_messages, IRONWAL_ERR_PROTOCOL);
	check_no_hello(script_http, IRONWAL_ERR_PROTOCOL);
	check_no_hello(script_empty_hello, IRONWAL_ERR_PROTOCOL);
	check_no_hello(script_hangs_up, IRONWAL_ERR_CONNECTION_LOST);
	check_no_hello(until_closed, IRONWAL_ERR_TIMEOUT);
}

Test(client_faults, addresses)
{
	static const char *const bad[] = {"nowhere", "unix:", "tcp:", "tcp:localhost", "tcp::7411",
		"tcp:127.0.0.1:", "tcp:127.0.0.1:http?", "tcp:127.0.0.1:0", "tcp:127.0.0.1:65536"};
	err = ironwal_error_new();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert(ironwal_connect(bad[i], NULL, &c, err) == -1);
		cr_assert(ironwal_error_get_code(err) == IRONWAL_ERR_INVALID_ARGUMENT, "%s: %s", bad[i],
			ironwal_error_message(err));
	}
	cr_assert(ironwal_connect("unix:/no/such/socket", NULL, &c, err) == -1);
	cr_assert(ironwal_error_get_code(err) == IRONWAL_ERR_CONNECT && ironwal_error_errno(err) == ENOENT);
	cr_assert(ironwal_error_is_retriable(err));
	cr_assert(ironwal_connect("unix:/no/such/socket", NULL, &c, NULL) == -1, "without an error object");

	fake_start_tcp(&fake, script_silent);
	setenv("IRONWAL_CONNECT", fake.address, 1);
	cr_assert(ironwal_connect(NULL, NULL, &c, err) == 0, "%s", ironwal_error_message(err));
	cr_assert(strcmp(ironwal_address(c), fake.address) == 0);
	stop();
}
