/* The server by its contract, over a Unix socket: hello, requests, waiting, and how connections end. */
#include <criterion/criterion.h>
#include <stdio.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "fake_engine.h"
#include "net_harness.h"

TestSuite(net_server, .init = set_up, .fini = tear_down, .timeout = 60);

/* ---- hello and the ends of connections -------------------------------------------------------------------------- */

Test(net_server, hello_then_pipelined_requests)
{
	start_server();
	struct client client = client_raw();
	struct response response;
	struct buf buf = {0};
	put(&buf, 5, METHOD_HELLO, NULL, KEY_PROTOCOL, 1, KEY_TOTAL, 0);
	for (uint32_t i = 0; i < 1000; i++)
		put(&buf, 100 + i, METHOD_PING, NULL, KEY_TOTAL, 0, KEY_TOTAL, 0);
	flush(&client, &buf);
	receive_ok(&client, 5, &response);
	cr_assert(u64_of(&response, KEY_PROTOCOL) == 1 && u64_of(&response, KEY_SHARD_COUNT) == 4);
	cr_assert(u64_of(&response, KEY_MAX_MESSAGE_BYTES) == LIMIT);
	for (uint32_t i = 0; i < 1000; i++)
		receive_ok(&client, 100 + i, &response);
	client_close(&client);
}

Test(net_server, any_other_first_request_ends_it)
{
	start_server();
	struct error err;
	struct client client = client_raw();
	struct buf buf = {0};
	put_append(&buf, 3, "s", "x", 1);
	put(&buf, 4, METHOD_HELLO, NULL, KEY_PROTOCOL, 1, KEY_TOTAL, 0);
	flush(&client, &buf);
	receive_error(&client, 3, ERR_BAD_REQUEST, &err);
	cr_assert(strstr(err.message, "protocol") != NULL);
	receive_end(&client);
	client_close(&client);

	client = client_raw();
	ask(&client, 9, METHOD_HELLO, NULL, KEY_PROTOCOL, 2, KEY_TOTAL, 0);
	receive_error(&client, 9, ERR_BAD_REQUEST, &err);
	cr_assert(strstr(err.message, "protocol") != NULL && strchr(err.message, '1') != NULL);
	receive_end(&client);
	client_close(&client);

	client = client_new();
	ask(&client, 2, METHOD_GET, "s", KEY_ID, 0, KEY_TOTAL, 0);
	receive_error(&client, 2, ERR_STREAM_NOT_FOUND, &err);
	client_close(&client);
}

Test(net_server, malformed_bytes_are_answered_after_what_came_before)
{
	start_server();
	struct client client = client_new();
	struct response response;
	struct error err;
	struct buf buf = {0};
	fake_engine_hold(engine, true);
	put_append(&buf, 10, "s", "x", 1);
	buf_append(&buf, "\x00\x00\x00\x01\xc1", 5);
	put(&buf, 12, METHOD_PING, NULL, KEY_TOTAL, 0, KEY_TOTAL, 0);
	flush(&client, &buf);
	struct pollfd poll_fd = {.fd = client.fd, .events = POLLIN};
	cr_assert(poll(&poll_fd, 1, 100) == 0, "the append is owed first");
	fake_engine_hold(engine, false);
	receive_ok(&client, 10, &response);
	receive_error(&client, 0, ERR_BAD_REQUEST, &err);
	receive_end(&client);
	client_close(&client);
}

Test(net_server, a_frame_over_the_limit_is_drained)
{
	start_server();
	struct client client = client_new();
	struct error err;
	static const char zeros[1 << 16];
	send_all(&client, "\x01\x00\x00\x00", 4); /* 16 MiB */
	for (int i = 0; i < 256; i++)
		send_all(&client, zeros, sizeof(zeros)); /* would fail if the server closed on it */
	receive_error(&client, 0, ERR_BAD_REQUEST, &err);
	receive_end(&client);
	client_close(&client);
}

Test(net_server, mistyped_params_and_unknown_methods_leave_it_alive)
{
	start_server();
	struct client client = client_new();
	struct response response;
	struct error err;
	ask(&client, 2, METHOD_APPEND, "s", KEY_ENTRY, 5, KEY_TOTAL, 0);
	receive_error(&client, 2, ERR_BAD_REQUEST, &err);
	cr_assert(strstr(err.message, "entry") != NULL);
	static const uint8_t frame[] = {0, 0, 0, 11, 0x94, 0, 3, 0xa6, 'n', 'o', 's', 'u', 'c', 'h', 0x80};
	send_all(&client, frame, sizeof(frame));
	receive_error(&client, 3, ERR_UNKNOWN_METHOD, &err);
	cr_assert(strcmp(err.method.bytes, "nosuch") == 0);
	ask_plain(&client, 4, METHOD_PING);
	receive_ok(&client, 4, &response);
	client_close(&client);
}

Test(net_server, half_close_gets_its_answers)
{
	start_server();
	struct client client = client_new();
	struct response response;
	struct buf buf = {0};
	append(&client, 2, "s", "x", 1);
	receive_ok(&client, 2, &response);
	fake_engine_hold(engine, true);
	put_append(&buf, 3, "s", "y", 1);
	flush(&client, &buf);
	ask(&client, 4, METHOD_ITER, "s", KEY_START_ID, 9, KEY_WAIT_MS, 60000);
	shutdown(client.fd, SHUT_WR);
	receive_ok(&client, 4, &response); /* the waiting iter, at once and empty */
	cr_assert(u64_of(&response, KEY_NEXT) == 9);
	fake_engine_hold(engine, false);
	receive_ok(&client, 3, &response);
	receive_end(&client);
	client_close(&client);
}

Test(net_server, over_max_connections_is_busy)
{
	options.max_connections = 2;
	start_server();
	struct client first = client_new(), second = client_new();
	struct error err;
	for (int i = 0; i < 20; i++) {
		struct client third = client_raw();
		receive_error(&third, 0, ERR_BUSY, &err);
		receive_end(&third);
		client_close(&third);
	}
	client_close(&second);
	/* Whoever leaves makes room, as soon as the server has seen it. */
	uint64_t deadline_ns = clock_now_ns() + TIMEOUT_MS * NS_PER_MS;
	for (bool in = false; !in;) {
		struct client third = client_raw();
		struct response response;
		struct buf buf = {0};
		put(&buf, 1, METHOD_HELLO, NULL, KEY_PROTOCOL, 1, KEY_TOTAL, 0);
		(void)!send(third.fd, buf.data, buf.len, MSG_NOSIGNAL);
		buf_free(&buf);
		cr_assert(receive(&third, &response));
		in = response.error.data == NULL;
		client_close(&third);
		cr_assert(clock_now_ns() < deadline_ns);
	}
	cr_assert(connection_stat(&first, "refused") >= 20);
	client_close(&first);
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

Test(net_server, entries_of_all_sizes_come_back)
{
	start_server();
	static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 65000, 65536, 70000, 140000, LIMIT - 1024};
	const uint32_t count = sizeof(sizes) / sizeof(sizes[0]);
	struct client client = client_new();
	struct response response;
	struct error err;
	struct buf buf = {0};
	for (uint32_t round = 0; round < 5; round++) {
		for (uint32_t i = 0; i < count; i++) {
			char *bytes = pattern(sizes[i], round + i);
			put_append(&buf, 1000 + round * count + i, "s", bytes, sizes[i]);
			free(bytes);
		}
	}
	flush(&client, &buf);
	for (uint32_t i = 0; i < 5 * count; i++) {
		receive_ok(&client, 1000 + i, &response);
		cr_assert(u64_of(&response, KEY_ID) == i, "applied in the order sent");
	}
	for (int cold = 0; cold < 2; cold++) {
		fake_engine_cold(cold == 1);
		for (uint32_t i = 0; i < 5 * count; i++) {
			struct span entry;
			char *bytes = pattern(sizes[i % count], i / count + i % count);
			ask(&client, i, METHOD_GET, "s", KEY_ID, i, KEY_TOTAL, 0);
			receive_ok(&client, i, &response);
			cr_assert(field_bytes(&response.fields, KEY_ENTRY, &entry, &err) == 0);
			cr_assert(entry.len == sizes[i % count] && memcmp(entry.data, bytes, entry.len) == 0);
			free(bytes);
		}
	}
	char *over = pattern(LIMIT - 1023, 0);
	append(&client, 7, "s", over, LIMIT - 1023);
	free(over);
	receive_error(&client, 7, ERR_TOO_LARGE, &err);
	cr_assert(err.limit == LIMIT - 1024 && err.size == LIMIT - 1023);
	client_close(&client);
}

static void put_batch(struct buf *buf, uint32_t msgid, uint32_t count, size_t len)
{
	struct mp_writer writer;
	char *bytes = pattern(len, 1);
	mp_writer_init(&writer, buf);
	request_begin(&writer, msgid, METHOD_APPEND_BATCH, 2);
	mp_write_key(&writer, KEY_STREAM);
	mp_write_str(&writer, "s");
	mp_write_key(&writer, KEY_ENTRIES);
	mp_write_array(&writer, count);
	for (uint32_t i = 0; i < count; i++)
		mp_write_bin(&writer, bytes, len);
	free(bytes);
	cr_assert(frame_end(&writer) == 0);
}

Test(net_server, batches_and_iteration)
{
	start_server();
	struct client client = client_new();
	struct response response;
	struct error err;
	struct buf buf = {0};
	put_batch(&buf, 2, 3, 10);
	put_batch(&buf, 3, 20000, 10);
	put_batch(&buf, 4, 0, 0);
	flush(&client, &buf);
	receive_ok(&client, 2, &response);
	cr_assert(u64_of(&response, KEY_FIRST) == 0 && u64_of(&response, KEY_END) == 3);
	receive_ok(&client, 3, &response);
	cr_assert(u64_of(&response, KEY_FIRST) == 3 && u64_of(&response, KEY_END) == 20003);
	receive_ok(&client, 4, &response);
	cr_assert(u64_of(&response, KEY_FIRST) == u64_of(&response, KEY_END));
	uint64_t next = 0;
	while (next < 20003) {
		struct byte_array entries;
		ask(&client, 5, METHOD_ITER, "s", KEY_START_ID, next, KEY_MAX_BYTES, 100000);
		receive_ok(&client, 5, &response);
		cr_assert(field_byte_array(&response.fields, KEY_ENTRIES, false, &entries, &err) == 0);
		cr_assert(u64_of(&response, KEY_FIRST) == next && entries.count > 0 && entries.total_bytes <= 100000);
		next += entries.count;
		cr_assert(u64_of(&response, KEY_NEXT) == next && u64_of(&response, KEY_END) == 20003);
	}
	ask(&client, 6, METHOD_TRUNCATE, "s", KEY_SAFE_ID, 50, KEY_TOTAL, 0);
	receive_ok(&client, 6, &response);
	ask(&client, 7, METHOD_ITER, "s", KEY_START_ID, 49, KEY_TOTAL, 0);
	receive_error(&client, 7, ERR_TRUNCATED, &err);
	cr_assert(err.first_id == 50);
	ask(&client, 8, METHOD_ITER, "s", KEY_MAX_ENTRIES, 1, KEY_TOTAL, 0);
	receive_ok(&client, 8, &response);
	cr_assert(u64_of(&response, KEY_FIRST) == 50);
	client_close(&client);
}

Test(net_server, conflict_sync_and_infos)
{
	start_server();
	struct client client = client_new();
	struct response response;
	struct error err;
	struct buf buf = {0};
	struct mp_writer writer;
	mp_writer_init(&writer, &buf);
	request_begin(&writer, 2, METHOD_APPEND, 3);
	mp_write_key(&writer, KEY_STREAM);
	mp_write_str(&writer, "s");
	mp_write_key(&writer, KEY_ENTRY);
	mp_write_bin(&writer, "x", 1);
	mp_write_key(&writer, KEY_EXPECTED_ID);
	mp_write_u64(&writer, 4);
	cr_assert(frame_end(&writer) == 0);
	flush(&client, &buf);
	receive_error(&client, 2, ERR_CONFLICT, &err);
	cr_assert(err.expected == 4 && err.actual == 0);
	ask_plain(&client, 3, METHOD_SYNC);
	receive_ok(&client, 3, &response);
	ask(&client, 4, METHOD_SYNC, "s2", KEY_TOTAL, 0, KEY_TOTAL, 0);
	receive_error(&client, 4, ERR_STREAM_NOT_FOUND, &err);
	cr_assert(strcmp(err.stream.bytes, "s2") == 0);
	ask(&client, 5, METHOD_CURRENT_SEGMENT_START_ID, "s2", KEY_TOTAL, 0, KEY_TOTAL, 0);
	receive_ok(&client, 5, &response);
	cr_assert(!fields_has(&response.fields, KEY_ID), "nil");
	append(&client, 6, "t", "x", 1);
	receive_ok(&client, 6, &response);
	ask(&client, 7, METHOD_STREAM_INFO, "t", KEY_TOTAL, 0, KEY_TOTAL, 0);
	receive_ok(&client, 7, &response);
	cr_assert(u64_of(&response, KEY_END) == 1 && u64_of(&response, KEY_SEGMENTS) == 1);
	ask(&client, 8, METHOD_LIST_STREAMS, NULL, KEY_LIMIT, 1, KEY_TOTAL, 0);
	receive_ok(&client, 8, &response);
	bool more;
	cr_assert(field_bool(&response.fields, KEY_MORE, &more, &err) == 0);
	client_close(&client);
}

static void health_of(struct client *client, bool *ret_ready, char reason[100])
{
	struct response response;
	struct span map, value, text;
	ask_plain(client, 98, METHOD_STATS);
	receive_ok(client, 98, &response);
	cr_assert(mp_map_find(response.result, "health", &map) == 0);
	cr_assert(mp_map_find(map, "ready", &value) == 0 && mp_get_bool(value, ret_ready) == 0);
	cr_assert(mp_map_find(map, "reason", &value) == 0 && mp_get_str(value, &text) == 0);
	snprintf(reason, 100, "%.*s", (int)text.len, (const char *)text.data);
}

Test(net_server, a_writer_that_failed_is_not_ready)
{
	start_server();
	struct client client = client_new();
	char reason[100];
	bool ready;
	health_of(&client, &ready, reason);
	cr_assert(ready && reason[0] == '\0', "%s", reason);
	fake_engine_fail(engine, "sync of s: EIO");
	health_of(&client, &ready, reason);
	cr_assert(!ready && strcmp(reason, "3 of the 4 shards of writer-0 take no writes after: sync of s: EIO") == 0,
		"%s", reason);
	client_close(&client);
}

/* ---- waiting ---------------------------------------------------------------------------------------------------- */

Test(net_server, waiting_iters)
{
	start_server();
	struct client writer = client_new(), reader = client_new();
	struct response response;
	struct error err;
	append(&writer, 2, "s", "a", 1);
	receive_ok(&writer, 2, &response);
	uint64_t before_ns = clock_now_ns();
	ask(&reader, 3, METHOD_ITER, "s", KEY_START_ID, 1, KEY_WAIT_MS, 50);
	receive_ok(&reader, 3, &response);
	cr_assert(clock_now_ns() - before_ns >= 50 * NS_PER_MS, "it waited");
	cr_assert(u64_of(&response, KEY_NEXT) == 1 && u64_of(&response, KEY_END) == 1);
	ask(&reader, 4, METHOD_ITER, "s", KEY_START_ID, 1, KEY_WAIT_MS, 60000);
	/* Others on the same connection are not held up by it. */
	ask_plain(&reader, 5, METHOD_PING);
	receive_ok(&reader, 5, &response);
	cr_assert(connection_stat(&reader, "waiting_iters") == 1);
	append(&writer, 6, "s", "b", 1);
	receive_ok(&reader, 4, &response);
	struct byte_array entries;
	cr_assert(field_byte_array(&response.fields, KEY_ENTRIES, false, &entries, &err) == 0);
	cr_assert(entries.count == 1 && u64_of(&response, KEY_NEXT) == 2);
	/* A connection that goes takes its waiting iters with it. */
	ask(&reader, 7, METHOD_ITER, "s", KEY_START_ID, 2, KEY_WAIT_MS, 60000);
	ask_plain(&reader, 8, METHOD_PING);
	receive_ok(&reader, 8, &response);
	client_close(&reader);
	receive_ok(&writer, 6, &response);
	uint64_t deadline_ns = clock_now_ns() + TIMEOUT_MS * NS_PER_MS;
	while (connection_stat(&writer, "waiting_iters") != 0)
		cr_assert(clock_now_ns() < deadline_ns);
	client_close(&writer);
}

/* ---- what it says about itself ---------------------------------------------------------------------------------- */

static bool holds_one(void *arg)
{
	return fake_engine_ops_held(arg) == 1;
}

static bool is_past(void *arg)
{
	return clock_now_ns() >= *(uint64_t *)arg;
}

/* The longest that a request of the method took, by stats. */
static uint64_t longest_us(struct client *client, const char *method)
{
	struct response response;
	struct span map, value;
	uint64_t us = 0;
	ask_plain(client, 98, METHOD_STATS);
	receive_ok(client, 98, &response);
	cr_assert(mp_map_find(response.result, "requests", &map) == 0 && mp_map_find(map, method, &map) == 0);
	cr_assert(mp_map_find(map, "latency_us", &map) == 0 && mp_map_find(map, "max", &value) == 0);
	cr_assert(mp_get_u64(value, &us) == 0);
	return us;
}

/* The loop reads the clock now and then only; what it tells is what the client saw, all the same. */
Test(net_server, a_latency_is_from_the_request_to_its_answer)
{
	start_server();
	struct client client = client_new();
	struct response response;
	uint64_t wait_ns = 60 * NS_PER_MS, until_ns = clock_now_ns() + wait_ns;
	wait_until(is_past, &until_ns);
	fake_engine_hold(engine, true);
	uint64_t sent_ns = clock_now_ns();
	append(&client, 2, "s", "x", 1);
	wait_until(holds_one, engine);
	until_ns = clock_now_ns() + wait_ns;
	wait_until(is_past, &until_ns);
	fake_engine_hold(engine, false);
	receive_ok(&client, 2, &response);
	uint64_t took_us = (clock_now_ns() - sent_ns) / 1000, told_us = longest_us(&client, "append");
	cr_assert(told_us >= wait_ns / 1000, "%lu us, and it was held for %lu", (unsigned long)told_us,
		(unsigned long)(wait_ns / 1000));
	cr_assert(told_us <= took_us, "%lu us, and the client waited for %lu", (unsigned long)told_us,
		(unsigned long)took_us);
	until_ns = clock_now_ns() + wait_ns;
	wait_until(is_past, &until_ns);
	sent_ns = clock_now_ns();
	ask_plain(&client, 3, METHOD_PING);
	receive_ok(&client, 3, &response);
	took_us = (clock_now_ns() - sent_ns) / 1000;
	told_us = longest_us(&client, "ping");
	cr_assert(told_us <= took_us, "%lu us, and the client waited for %lu", (unsigned long)told_us,
		(unsigned long)took_us);
	/* A read that went to another thread takes a microsecond at the least. */
	char *large = pattern(100000, 1);
	append(&client, 4, "s", large, 100000);
	receive_ok(&client, 4, &response);
	free(large);
	fake_engine_cold(true);
	ask(&client, 5, METHOD_GET, "s", KEY_ID, 1, KEY_TOTAL, 0);
	receive_ok(&client, 5, &response);
	fake_engine_cold(false);
	cr_assert(longest_us(&client, "get") > 0, "it took no time");
	client_close(&client);
}
