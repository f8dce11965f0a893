/* The server at its bounds: memory, time, slow and silent clients, listening and stopping. */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "fake_engine.h"
#include "net_harness.h"

TestSuite(net_bounds, .init = set_up, .fini = tear_down, .timeout = 60);

/* ---- bounds ----------------------------------------------------------------------------------------------------- */

/* Sends what can be sent within a while; returns how much. */
static size_t send_until_stuck(struct client *client, const uint8_t *bytes, size_t len)
{
	size_t at = 0;
	while (at < len) {
		struct pollfd poll_fd = {.fd = client->fd, .events = POLLOUT};
		if (poll(&poll_fd, 1, 300) == 0)
			break;
		ssize_t sent = send(client->fd, bytes + at, len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
		cr_assert(sent > 0 || errno == EAGAIN);
		at += sent > 0 ? (size_t)sent : 0;
	}
	return at;
}

Test(net_bounds, requests_in_flight_are_bounded_by_not_reading)
{
	options.max_inflight_bytes = 512 * 1024;
	start_server();
	struct client client = client_new(), other = client_new();
	struct response response;
	struct buf buf = {0};
	char *bytes = pattern(10000, 0);
	fake_engine_hold(engine, true);
	for (uint32_t i = 0; i < 1000; i++)
		put_append(&buf, 100 + i, "s", bytes, 10000);
	free(bytes);
	size_t sent = send_until_stuck(&client, buf.data, buf.len);
	cr_assert(sent < buf.len / 2, "%zu of %zu were taken", sent, buf.len);
	cr_assert(fake_engine_ops_held(engine) < 60);
	cr_assert(connection_stat(&other, "inflight_bytes") < 600 * 1024);
	fake_engine_hold(engine, false);
	uint32_t answered = 0;
	while (sent < buf.len || answered < 1000) {
		struct pollfd poll_fd = {.fd = client.fd, .events = (short)(POLLIN | (sent < buf.len ? POLLOUT : 0))};
		cr_assert(poll(&poll_fd, 1, TIMEOUT_MS) > 0);
		if (poll_fd.revents & POLLOUT) {
			ssize_t more = send(client.fd, buf.data + sent, buf.len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
			sent += more > 0 ? (size_t)more : 0;
		}
		if (poll_fd.revents & POLLIN)
			receive_ok(&client, 100 + answered++, &response);
		while (answered < 1000 && client.in.len > client.used)
			receive_ok(&client, 100 + answered++, &response);
	}
	cr_assert(connection_stat(&other, "inflight_bytes") < 4096, "all is given back");
	buf_free(&buf);
	client_close(&client);
	client_close(&other);
}

static void fill_entries(struct client *client, uint32_t count, size_t len)
{
	struct response response;
	char *bytes = pattern(len, 0);
	for (uint32_t i = 0; i < count; i++) {
		append(client, i, "big", bytes, len);
		receive_ok(client, i, &response);
	}
	free(bytes);
}

static void ask_much(struct client *client, uint32_t count)
{
	struct buf buf = {0};
	for (uint32_t i = 0; i < count; i++)
		put(&buf, 100 + i, METHOD_GET, "big", KEY_ID, i % 4, KEY_TOTAL, 0);
	flush(client, &buf);
}

Test(net_bounds, who_does_not_read_stalls_nobody_and_is_closed)
{
	options.max_inflight_bytes = 1024 * 1024;
	options.max_inflight_bytes_total = 2 * 1024 * 1024;
	options.write_timeout_ns = 1000 * NS_PER_MS;
	start_server();
	struct client lazy[4], other = client_new();
	fill_entries(&other, 4, 200000);
	for (int i = 0; i < 4; i++) {
		lazy[i] = client_new();
		ask_much(&lazy[i], 500); /* 100 MB of answers */
	}
	/* Meanwhile the bound for all holds, and others are served. */
	uint64_t most = 0, deadline_ns = clock_now_ns() + TIMEOUT_MS * NS_PER_MS;
	while (connection_stat(&other, "timeouts") < 4) {
		uint64_t now = connection_stat(&other, "inflight_bytes");
		most = now > most ? now : most;
		fill_entries(&other, 1, 1000);
		cr_assert(clock_now_ns() < deadline_ns, "they are not closed");
	}
	cr_assert(most > 1024 * 1024, "it was near its bound");
	cr_assert(most < 4 * 1024 * 1024, "%lu bytes were in flight", (unsigned long)most);
	for (int i = 0; i < 4; i++)
		client_close(&lazy[i]);
	client_close(&other);
}

Test(net_bounds, who_reads_late_gets_everything)
{
	options.max_inflight_bytes = 1024 * 1024;
	start_server();
	struct client client = client_new();
	struct response response;
	struct error err;
	struct span entry;
	char *bytes = pattern(200000, 0);
	bool seen[300] = {0};
	fill_entries(&client, 4, 200000);
	ask_much(&client, 300);
	for (uint32_t i = 0; i < 300; i++) {
		cr_assert(receive(&client, &response) && response.error.data == NULL);
		cr_assert(response.msgid >= 100 && response.msgid < 400 && !seen[response.msgid - 100]);
		seen[response.msgid - 100] = true;
		cr_assert(field_bytes(&response.fields, KEY_ENTRY, &entry, &err) == 0 && entry.len == 200000);
		cr_assert(memcmp(entry.data, bytes, entry.len) == 0);
	}
	free(bytes);
	client_close(&client);
}

/* So many iters of one connection, each with an answer of len bytes, that nobody reads. */
static void check_unread_iters(struct client *lazy, struct client *other, uint32_t count)
{
	uint64_t deadline_ns = clock_now_ns() + TIMEOUT_MS * NS_PER_MS;
	uint64_t most = 0;
	/* They are at their bound, all that could be read was, and it stays so. */
	for (unsigned seen = 0; seen < 100;) {
		uint64_t now = connection_stat(other, "inflight_bytes");
		most = now > most ? now : most;
		if (now >= options.max_inflight_bytes && connection_stat(other, "pool_reads_now") == 0)
			seen++;
		cr_assert(clock_now_ns() < deadline_ns, "%lu bytes are in flight", (unsigned long)now);
	}
	cr_assert(most < options.max_inflight_bytes + 2 * options.max_message_bytes, "%lu bytes were in flight",
		(unsigned long)most);
	/* Who reads late gets everything. */
	struct response response;
	struct byte_array entries;
	struct error err;
	for (uint32_t i = 0; i < count; i++) {
		cr_assert(receive(lazy, &response) && response.error.data == NULL);
		cr_assert(field_byte_array(&response.fields, KEY_ENTRIES, false, &entries, &err) == 0);
		cr_assert(entries.count == 1 && entries.total_bytes == 500000);
	}
}

Test(net_bounds, iters_that_are_woken_are_bounded)
{
	options.max_message_bytes = 1024 * 1024;
	options.max_inflight_bytes = 2 * 1024 * 1024;
	start_server();
	struct client lazy = client_new(), other = client_new();
	struct response response;
	struct buf buf = {0};
	fill_entries(&other, 1, 1);
	for (uint32_t i = 0; i < 200; i++)
		put(&buf, 100 + i, METHOD_ITER, "big", KEY_START_ID, 1, KEY_WAIT_MS, 60000);
	flush(&lazy, &buf);
	ask_plain(&lazy, 400, METHOD_PING);
	receive_ok(&lazy, 400, &response);
	cr_assert(connection_stat(&other, "waiting_iters") == 200);
	fill_entries(&other, 1, 500000);
	check_unread_iters(&lazy, &other, 200);
	client_close(&lazy);
	client_close(&other);
}

Test(net_bounds, iters_that_were_woken_go_with_their_connection)
{
	options.max_message_bytes = 1024 * 1024;
	options.max_inflight_bytes = 1024 * 1024;
	start_server();
	struct client lazy = client_new(), other = client_new();
	struct response response;
	struct buf buf = {0};
	fill_entries(&other, 1, 1);
	for (uint32_t i = 0; i < 200; i++)
		put(&buf, 100 + i, METHOD_ITER, "big", KEY_START_ID, 1, KEY_WAIT_MS, 60000);
	flush(&lazy, &buf);
	ask_plain(&lazy, 400, METHOD_PING);
	receive_ok(&lazy, 400, &response);
	fill_entries(&other, 1, 500000);
	uint64_t deadline_ns = clock_now_ns() + TIMEOUT_MS * NS_PER_MS;
	while (connection_stat(&other, "inflight_bytes") < 1024 * 1024)
		cr_assert(clock_now_ns() < deadline_ns);
	client_close(&lazy);
	while (connection_stat(&other, "current") > 1 || connection_stat(&other, "inflight_bytes") > 4096)
		cr_assert(clock_now_ns() < deadline_ns, "all is given back");
	client_close(&other);
}

Test(net_bounds, an_iter_of_few_bytes_may_get_a_large_entry)
{
	options.max_message_bytes = 1024 * 1024;
	options.max_inflight_bytes = 2 * 1024 * 1024;
	start_server();
	struct client lazy = client_new(), other = client_new();
	struct buf buf = {0};
	fill_entries(&other, 1, 500000);
	for (uint32_t i = 0; i < 200; i++)
		put(&buf, 100 + i, METHOD_ITER, "big", KEY_START_ID, 0, KEY_MAX_BYTES, 1);
	flush(&lazy, &buf);
	check_unread_iters(&lazy, &other, 200);
	client_close(&lazy);
	client_close(&other);
}

static uint64_t resident_bytes(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	cr_assert(file != NULL && fscanf(file, "%*u %lu", &pages) == 1);
	fclose(file);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

Test(net_bounds, half_sent_frames_take_what_was_sent)
{
	options.max_message_bytes = 16 << 20;
	start_server();
	struct client clients[200], other = client_new();
	static const char zeros[1000];
	uint64_t before = resident_bytes();
	for (int i = 0; i < 200; i++) {
		clients[i] = client_new();
		send_all(&clients[i], "\x00\xff\xff\xff", 4);
		send_all(&clients[i], zeros, sizeof(zeros));
	}
	uint64_t seen = 0, deadline_ns = clock_now_ns() + TIMEOUT_MS * NS_PER_MS;
	while (seen < 200 * 1004) {
		seen = connection_stat(&other, "received_bytes");
		cr_assert(clock_now_ns() < deadline_ns);
	}
	cr_assert(resident_bytes() - before < 100 << 20, "%lu bytes", (unsigned long)(resident_bytes() - before));
	for (int i = 0; i < 200; i++)
		client_close(&clients[i]);
	client_close(&other);
}

Test(net_bounds, half_sent_frames_are_bounded_and_do_not_stop_others)
{
	options.max_message_bytes = 4 << 20;
	options.max_inflight_bytes_total = 8 << 20;
	start_server();
	struct client clients[4], other = client_new();
	struct response response;
	size_t len = 3 << 20;
	uint8_t *half = calloc(1, len);
	memcpy(half, "\x00\x3f\xff\xff", 4);
	size_t taken = 0;
	for (int i = 0; i < 4; i++) {
		clients[i] = client_new();
		taken += send_until_stuck(&clients[i], half, len);
	}
	cr_assert(taken < 11 << 20, "all were at most about the bound and what sockets hold: %zu", taken);
	uint64_t held = connection_stat(&other, "receive_buffer_bytes");
	cr_assert(held <= 14 << 20, "the bound, one frame over it, and the first bytes of each: %lu",
		(unsigned long)held);
	/* A large request of someone else comes through all the same: who sends nothing gives way. */
	char *bytes = pattern(2 << 20, 0);
	append(&other, 3, "s", bytes, 2 << 20);
	receive_ok(&other, 3, &response);
	free(bytes);
	free(half);
	for (int i = 0; i < 4; i++)
		client_close(&clients[i]);
	client_close(&other);
}

/* Begins a frame of total bytes, sends len of it. */
static void send_half(struct client *client, uint32_t total, size_t len)
{
	uint8_t *half = calloc(1, len);
	half[1] = (uint8_t)(total >> 16);
	half[2] = (uint8_t)(total >> 8);
	half[3] = (uint8_t)total;
	send_all(client, half, len);
	free(half);
}

/* Two that hold nearly all that all together may. */
static void start_with_held(struct client held[2])
{
	options.max_message_bytes = 4 << 20;
	options.max_inflight_bytes_total = 8 << 20;
	start_server();
	for (int i = 0; i < 2; i++) {
		held[i] = client_new();
		send_half(&held[i], 4000000, 3900000);
	}
}

Test(net_bounds, half_sent_frames_that_are_in_the_way_are_given_up)
{
	struct client held[2], more[2];
	start_with_held(held);
	for (int i = 0; i < 2; i++) {
		more[i] = client_new();
		send_half(&more[i], 4000000, 1 << 19);
	}
	/* Not only the one of those that wait for room who was let through. */
	receive_end(&held[0]);
	receive_end(&held[1]);
	for (int i = 0; i < 2; i++) {
		client_close(&held[i]);
		client_close(&more[i]);
	}
}

Test(net_bounds, who_is_let_through_and_not_read_from_is_not_closed)
{
	struct client held[2], other, large;
	struct response response;
	struct buf frame = {0}, buf = {0};
	start_with_held(held);
	other = client_new();
	struct client let = client_new();
	append(&other, 1, "s", "x", 1);
	receive_ok(&other, 1, &response);
	for (uint32_t i = 0; i < 20; i++)
		put(&buf, 100 + i, METHOD_ITER, "s", KEY_START_ID, 1, KEY_WAIT_MS, 60000);
	flush(&let, &buf);
	char *bytes = pattern(3000000, 0);
	put_append(&frame, 200, "t", bytes, 3000000);
	send_all(&let, frame.data, 1 << 20);
	uint64_t deadline_ns = clock_now_ns() + TIMEOUT_MS * NS_PER_MS;
	while (connection_stat(&other, "receive_buffer_bytes") < 8000000 + (1 << 20))
		cr_assert(clock_now_ns() < deadline_ns, "it is let through");
	/* Now it is owed answers that it does not read: so the server does not read on, and it cannot send. */
	append(&other, 2, "s", bytes, 60000);
	receive_ok(&other, 2, &response);
	large = client_new();
	append(&large, 2, "s", bytes, 2000000);
	receive_ok(&large, 2, &response);
	for (uint32_t i = 0; i < 20; i++)
		cr_assert(receive(&let, &response) && response.error.data == NULL, "its answers");
	send_all(&let, frame.data + (1 << 20), frame.len - (1 << 20));
	receive_ok(&let, 200, &response);
	free(bytes);
	buf_free(&frame);
	client_close(&held[0]);
	client_close(&held[1]);
	client_close(&let);
	client_close(&large);
	client_close(&other);
}

Test(net_bounds, half_sent_frames_are_idle_where_writes_may_take_for_ever)
{
	options.write_timeout_ns = 0;
	options.idle_timeout_ns = 200 * NS_PER_MS;
	start_server();
	struct client small = client_new(), large = client_new();
	send_half(&small, 1000, 100);
	send_half(&large, 200000, 150000);
	receive_end(&small);
	receive_end(&large);
	client_close(&small);
	client_close(&large);
}

Test(net_bounds, idle_connections_are_closed)
{
	options.idle_timeout_ns = 200 * NS_PER_MS;
	start_server();
	struct client idle = client_new(), waiting = client_new();
	struct response response;
	append(&waiting, 2, "s", "x", 1);
	receive_ok(&waiting, 2, &response);
	ask(&waiting, 3, METHOD_ITER, "s", KEY_START_ID, 1, KEY_WAIT_MS, 600);
	receive_end(&idle);
	receive_ok(&waiting, 3, &response); /* an answer was owed: not idle */
	receive_end(&waiting);
	client_close(&idle);
	client_close(&waiting);
}

/* ---- listening and stopping ------------------------------------------------------------------------------------- */

Test(net_bounds, graceful_stop)
{
	start_server();
	struct client busy = client_new(), waiting = client_new(), idle = client_new();
	struct response response;
	struct error err;
	append(&busy, 2, "s", "x", 1);
	receive_ok(&busy, 2, &response);
	ask(&waiting, 3, METHOD_ITER, "s", KEY_START_ID, 1, KEY_WAIT_MS, 60000);
	ask_plain(&waiting, 4, METHOD_PING);
	receive_ok(&waiting, 4, &response);
	fake_engine_hold(engine, true);
	append(&busy, 5, "s", "y", 1);
	ask_plain(&busy, 6, METHOD_PING);
	receive_ok(&busy, 6, &response);
	kill(getpid(), SIGTERM);
	receive_ok(&waiting, 3, &response);
	ask_plain(&busy, 7, METHOD_PING);
	receive_error(&busy, 7, ERR_SHUTTING_DOWN, &err);
	receive_end(&waiting);
	receive_end(&idle);
	fake_engine_hold(engine, false);
	receive_ok(&busy, 5, &response);
	receive_end(&busy);
	client_close(&busy);
	client_close(&waiting);
	client_close(&idle);
	join_server();
}

Test(net_bounds, stop_does_not_wait_for_clients_for_ever)
{
	options.shutdown_timeout_ns = 300 * NS_PER_MS;
	options.max_inflight_bytes = 1024 * 1024;
	start_server();
	struct client silent = client_new(), lazy = client_new();
	fill_entries(&silent, 4, 200000);
	ask_much(&lazy, 500);
	uint64_t before_ns = clock_now_ns();
	kill(getpid(), SIGINT);
	join_server();
	cr_assert(clock_now_ns() - before_ns < 5 * NS_PER_SECOND);
	client_close(&silent);
	client_close(&lazy);
}

Test(net_bounds, tcp_and_addresses_in_use)
{
	struct sockaddr_storage addresses[2] = {0};
	struct sockaddr_in *first = (struct sockaddr_in *)&addresses[0];
	/* A port that is free, and then is not. */
	int holder = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof(*first);
	first->sin_family = AF_INET;
	first->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cr_assert(bind(holder, (struct sockaddr *)first, len) == 0 && listen(holder, 1) == 0);
	cr_assert(getsockname(holder, (struct sockaddr *)first, &len) == 0);
	options.tcp_addresses = addresses;
	options.tcp_count = 1;
	struct engine_hooks hooks = {0};
	struct error err = {0};
	struct server *refused;
	cr_assert(server_new(&options, &refused, &err) == 0);
	server_hooks(refused, &hooks);
	struct engine *unused = fake_engine_new(&hooks);
	cr_assert(server_start(refused, unused, &err) != 0);
	cr_assert(err.code == ERR_CONFIG && strstr(err.message, "127.0.0.1:") != NULL, "%s", err.message);
	server_free(refused);
	fake_engine_free(unused);
	close(holder);

	start_server();
	struct client client = {.fd = socket(AF_INET, SOCK_STREAM, 0)};
	struct timeval timeout = {.tv_sec = TIMEOUT_MS / 1000};
	setsockopt(client.fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	cr_assert(connect(client.fd, (struct sockaddr *)first, sizeof(*first)) == 0);
	struct response response;
	ask(&client, 1, METHOD_HELLO, NULL, KEY_PROTOCOL, 1, KEY_TOTAL, 0);
	receive_ok(&client, 1, &response);
	client_close(&client);
}

Test(net_bounds, unix_socket_stale_live_and_foreign)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct engine_hooks hooks = {0};
	struct error err = {0};
	struct server *second;
	strcpy(address.sun_path, path);
	/* Stale: bound once, served by nobody. */
	int stale = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert(bind(stale, (struct sockaddr *)&address, sizeof(address)) == 0);
	close(stale);
	start_server();
	struct stat status;
	cr_assert(stat(path, &status) == 0 && (status.st_mode & 0777) == 0600);
	struct client client = client_new();
	/* Live: it stays with the first. */
	cr_assert(server_new(&options, &second, &err) == 0);
	server_hooks(second, &hooks);
	cr_assert(server_start(second, engine, &err) != 0 && strstr(err.message, path) != NULL, "%s", err.message);
	server_free(second);
	struct client again = client_new();
	client_close(&again);
	client_close(&client);
	/* A file that is no socket is left alone. */
	char other[128];
	snprintf(other, sizeof(other), "%s/file", dir);
	fclose(fopen(other, "w"));
	options.unix_path = other;
	cr_assert(server_new(&options, &second, &err) == 0);
	cr_assert(server_start(second, engine, &err) != 0);
	server_free(second);
	cr_assert(access(other, F_OK) == 0);
	unlink(other);
}

static bool holds_two(void *arg)
{
	return fake_engine_ops_held(arg) == 2;
}

Test(net_bounds, a_connection_may_die_with_requests_in_hand)
{
	start_server();
	struct client client = client_new(), other = client_new();
	struct response response;
	fill_entries(&other, 4, 200000);
	fake_engine_hold(engine, true);
	append(&client, 2, "s", "x", 1);
	append(&client, 3, "s", "y", 1);
	wait_until(holds_two, engine);
	ask_much(&client, 20); /* reads in the pool */
	struct linger linger = {.l_onoff = 1};
	setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	client_close(&client);
	uint64_t deadline_ns = clock_now_ns() + TIMEOUT_MS * NS_PER_MS;
	while (connection_stat(&other, "current") > 1)
		cr_assert(clock_now_ns() < deadline_ns);
	fake_engine_hold(engine, false);
	ask_plain(&other, 5, METHOD_SYNC);
	receive_ok(&other, 5, &response);
	ask(&other, 6, METHOD_STREAM_INFO, "s", KEY_TOTAL, 0, KEY_TOTAL, 0);
	receive_ok(&other, 6, &response);
	cr_assert(u64_of(&response, KEY_END) == 2, "what was read is done");
	client_close(&other);
}

Test(net_bounds, a_second_signal_ends_it_at_once, .exit_code = 1)
{
	start_server();
	struct client client = client_new();
	fake_engine_hold(engine, true); /* what is in hand would be waited for */
	append(&client, 2, "s", "x", 1);
	ask_plain(&client, 3, METHOD_PING);
	struct response response;
	receive_ok(&client, 3, &response);
	kill(getpid(), SIGTERM);
	/* The stop has begun when a request is told so. */
	for (bool stopping = false; !stopping;) {
		ask_plain(&client, 4, METHOD_PING);
		cr_assert(receive(&client, &response));
		stopping = response.error.data != NULL;
	}
	cr_assert(rmdir(dir) == 0, "the socket's file went when the stop began"); /* nobody comes back to do it */
	kill(getpid(), SIGTERM);
	join_server();
	cr_assert_fail("it went on");
}
