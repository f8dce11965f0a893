/*
 * Iterators of libironwal: they ask ahead, keep their place whatever happens to requests and connections, and leave the
 * connection to others.
 */
#include <poll.h>

#include "fake_server_model.h"

static struct model model;
static ironwal_iterator *it;

static void open_iterator(uint64_t max_entries, uint64_t wait_ms)
{
	ironwal_read_options options = IRONWAL_READ_OPTIONS_INIT;
	options.max_entries = max_entries;
	options.wait_ms = wait_ms;
	cr_assert(ironwal_iterator_open(c, "s", 1, &options, &it, err) == 0, "%s", ironwal_error_message(err));
}

#define ASSERT_NEXT(expected)                                                                                          \
	do {                                                                                                           \
		uint64_t id_;                                                                                          \
		const void *data_;                                                                                     \
		size_t len_;                                                                                           \
		char text_[32];                                                                                        \
		cr_assert(ironwal_iterator_next(it, &id_, &data_, &len_, err) == 1, "%s", ironwal_error_message(err)); \
		snprintf(text_, sizeof(text_), "entry %u", (unsigned)(expected));                                      \
		cr_assert(id_ == (uint64_t)(expected), "%llu", (unsigned long long)id_);                               \
		cr_assert(len_ == strlen(text_) && memcmp(data_, text_, len_) == 0);                                   \
	} while (0)

static int next_rc(void)
{
	uint64_t id;
	const void *data;
	size_t len;
	return ironwal_iterator_next(it, &id, &data, &len, err);
}

static void fill(unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char text[32];
		snprintf(text, sizeof(text), "entry %u", i);
		(void)model_append(&model, model_make(&model, "s", 1), text, strlen(text));
	}
}

static void script_model(struct fake *f)
{
	do {
		hello(f);
		model_serve(f, &model);
	} while (accept_next(f));
}

static void end(void)
{
	ironwal_iterator_free(it);
	ironwal_close(c);
	ironwal_error_free(err);
	fake_stop_listening(&fake);
	fake_join(&fake);
	model_free(&model);
}

/* ---- ahead ---- */

static void script_asked_ahead(struct fake *f)
{
	hello(f);
	expect(f, METHOD_ITER);
	answer_iter(f, 0, 3, 6);
	expect(f, METHOD_ITER); /* while the client has two more */
	MUST(param_u64(f, KEY_START_ID) == 3);
	answer_iter(f, 3, 3, 6);
	set_step(f, 1);
	expect(f, METHOD_ITER); /* when the end has been reached, and not before it is asked again */
	MUST(f->step == 2 && param_u64(f, KEY_START_ID) == 6);
	answer_iter(f, 6, 0, 6);
	until_closed(f);
}

Test(client_iterator, asks_before_its_entries_are_used_up, .timeout = 60)
{
	start(script_asked_ahead);
	open_iterator(0, 0);
	cr_assert(!ironwal_iterator_buffered(it));
	ASSERT_NEXT(0);
	cr_assert(ironwal_iterator_buffered(it));
	wait_step(&fake, 1);
	for (int i = 1; i < 6; i++)
		ASSERT_NEXT(i);
	set_step(&fake, 2);
	cr_assert(next_rc() == 0);
	ironwal_iterator_free(it);
	stop();
}

Test(client_iterator, other_calls_in_between)
{
	ironwal_append_result append_result;
	ironwal_result *result;
	uint32_t id;
	void *entry;
	size_t len;
	fill(300);
	start(script_model);
	open_iterator(3, 0);
	for (unsigned i = 0; i < 300; i++) {
		ASSERT_NEXT(i);
		switch (i % 4) {
		case 0:
			cr_assert(ironwal_ping(c, err) == 0);
			break;
		case 1:
			cr_assert(ironwal_get(c, "s", 1, i, &entry, &len, err) == 0 && len >= 7);
			ironwal_entry_free(entry);
			break;
		case 2:
			cr_assert(ironwal_submit_append(c, "t", 1, "x", 1, NULL, &id, err) == 0);
			break;
		default:
			cr_assert(ironwal_wait_result(c, &result, err) == 1);
			cr_assert(ironwal_result_append(result, &append_result) == 1);
		}
	}
	cr_assert(next_rc() == 0 && ironwal_in_flight(c) == 0);
	end();
}

/* ---- following ---- */

static uint64_t called_ns;

static void script_follow(struct fake *f)
{
	hello(f);
	expect(f, METHOD_ITER);
	MUST(param_u64(f, KEY_WAIT_MS) == 2000);
	answer_iter(f, 0, 1, 1);
	expect(f, METHOD_ITER);
	MUST(param_u64(f, KEY_START_ID) == 1 && param_u64(f, KEY_WAIT_MS) == 2000);
	answer_iter(f, 1, 0, 1); /* an entry comes right after that */
	set_step(f, 1);
	expect(f, METHOD_ITER);
	MUST(param_u64(f, KEY_START_ID) == 1 && param_u64(f, KEY_WAIT_MS) > 0);
	answer_iter(f, 1, 1, 2);
	expect(f, METHOD_ITER);
	wait_step(f, 2);
	(void)poll(NULL, 0, 400);
	uint64_t answered_ns = clock_now_ns(), wait_ms;
	answer_iter(f, 2, 0, 2);
	expect(f, METHOD_ITER); /* for what is left of the time that the caller wants to wait */
	MUST(field_u64_or(&f->request.params, KEY_WAIT_MS, 0, &wait_ms, NULL) == 0);
	MUST(wait_ms <= 2000 - (answered_ns - called_ns) / NS_PER_MS + 200);
	answer_iter(f, 2, 0, 2);
	until_closed(f);
}

Test(client_iterator, an_empty_answer_of_a_while_ago_is_asked_for_again, .timeout = 60)
{
	start(script_follow);
	open_iterator(0, 2000);
	ASSERT_NEXT(0);
	wait_step(&fake, 1);
	ASSERT_NEXT(1);
	set_step(&fake, 2);
	called_ns = clock_now_ns();
	cr_assert(next_rc() == 0);
	ironwal_iterator_free(it);
	stop();
}

/* ---- errors ---- */

static void script_errors(struct fake *f)
{
	struct error e;
	hello(f);
	expect(f, METHOD_ITER);
	answer_iter(f, 0, 2, 4);
	expect(f, METHOD_ITER);
	error_set(&e, ERR_BUSY, "later");
	answer_error(f, f->request.msgid, &e);
	expect(f, METHOD_ITER);
	MUST(param_u64(f, KEY_START_ID) == 2);
	answer_error(f, f->request.msgid, &e);
	expect(f, METHOD_ITER);
	MUST(param_u64(f, KEY_START_ID) == 2);
	wait_step(f, 1); /* too late */
	uint32_t late = f->request.msgid;
	expect(f, METHOD_ITER);
	answer_iter(f, 2, 2, 4);
	answer_begin(late, 0);
	answer_done(f);
	expect(f, METHOD_PING);
	answer_empty(f, f->request.msgid);
	until_closed(f);
}

Test(client_iterator, an_error_leaves_it_where_it_was, .timeout = 60)
{
	uint64_t id;
	start(script_errors);
	open_iterator(0, 0);
	ASSERT_NEXT(0);
	ASSERT_NEXT(1);
	for (int i = 0; i < 2; i++) {
		cr_assert(next_rc() == -1);
		ASSERT_ERROR(IRONWAL_ERR_BUSY, IRONWAL_FATE_NOT_A_WRITE, 1);
		cr_assert(ironwal_error_is_retriable(err));
		cr_assert(ironwal_iterator_next_id(it, &id) == 1 && id == 2);
	}
	ironwal_set_timeout_ms(c, 30);
	cr_assert(next_rc() == -1);
	ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_NOT_A_WRITE, 1);
	set_step(&fake, 1);
	ironwal_set_timeout_ms(c, 60000);
	ASSERT_NEXT(2);
	ASSERT_NEXT(3);
	cr_assert(ironwal_ping(c, err) == 0, "its late answer, whatever it says, is dropped");
	ironwal_iterator_free(it);
	stop();
}

/* ---- connections ---- */

Test(client_iterator, outlives_its_connection)
{
	uint64_t id;
	ironwal_iterator *unused;
	fill(20);
	start(script_model);
	open_iterator(5, 0);
	cr_assert(ironwal_iterator_open(c, "s", 1, NULL, &unused, err) == 0);
	ASSERT_NEXT(0);
	ASSERT_NEXT(1);
	ironwal_close(c); /* the next five are on their way */
	for (int i = 2; i < 5; i++)
		ASSERT_NEXT(i);
	for (int i = 0; i < 2; i++) {
		cr_assert(next_rc() == -1);
		cr_assert(ironwal_error_get_code(err) == IRONWAL_ERR_CONNECTION_LOST);
		cr_assert(ironwal_error_connection_usable(err) == 0);
		cr_assert(ironwal_iterator_next_id(it, &id) == 1 && id == 5);
	}
	cr_assert(ironwal_connect(fake.address, NULL, &c, err) == 0);
	ironwal_iterator_rebind(it, c);
	for (int i = 5; i < 20; i++)
		ASSERT_NEXT(i);
	ironwal_iterator_free(unused); /* its connection has gone long ago */
	end();
}

/* At each place in the buffer, with the next answer on its way or there already. */
Test(client_iterator, goes_on_over_another_connection_without_a_gap)
{
	enum { COUNT = 60, EACH = 4 };
	ironwal *other;
	fill(COUNT);
	start(script_model);
	open_iterator(EACH, 0);
	for (int i = 0; i < COUNT; i++) {
		ASSERT_NEXT(i);
		if (i % 3 == 0)
			cr_assert(ironwal_ping(c, err) == 0); /* the answer that it asked for ahead is there now */
		if (i % 7 == 2)
			ironwal_iterator_rebind(it, c); /* to the same one */
		if (i % 13 != 0)
			continue;
		ironwal_close(c); /* the fake serves one after the other */
		cr_assert(ironwal_connect(fake.address, NULL, &other, err) == 0, "%s", ironwal_error_message(err));
		c = other;
		ironwal_iterator_rebind(it, c);
	}
	cr_assert(next_rc() == 0);
	end();
}

static void script_reads_half(struct fake *f)
{
	hello(f);
	expect(f, METHOD_ITER);
	answer_iter(f, 0, 2, 9);
	wait_step(f, 1); /* a part of the next one is in the socket */
	expect(f, METHOD_ITER);
	answer_iter(f, 2, 2, 9);
	expect(f, METHOD_PING);
	answer_empty(f, f->request.msgid);
	until_closed(f);
}

/* Freed, or bound to something else, with half of a request sent: the rest goes too, and the answer is dropped. */
Test(client_iterator, leaves_the_connection_whole, .timeout = 60)
{
	static char name[8 << 20]; /* more than a socket takes; it is the server that bounds names */
	memset(name, 'n', sizeof(name));
	start(script_reads_half);
	cr_assert(ironwal_iterator_open(c, name, sizeof(name), NULL, &it, err) == 0);
	ASSERT_NEXT(0);
	cr_assert((ironwal_events(c) & IRONWAL_WRITABLE) != 0, "half of it waits");
	ironwal_iterator_free(it);
	cr_assert(ironwal_is_usable(c) && ironwal_get_state(c) == IRONWAL_STATE_READY);
	set_step(&fake, 1);
	cr_assert(ironwal_ping(c, err) == 0, "%s", ironwal_error_message(err));
	stop();
}
