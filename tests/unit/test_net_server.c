/* The server whole, over loopback and Unix sockets, on an engine in memory. A client here is a blocking socket. */
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

#include "buf.h"
#include "clock.h"
#include "fake_engine.h"
#include "log.h"
#include "message.h"
#include "server.h"

#define TIMEOUT_MS 20000
#define LIMIT (UINT64_C(256) * 1024)

/* ---- the server under test ----------------------------------------------------------------------------------------
 */

static struct server_options options;
static struct server *server;
static struct engine *engine;
static pthread_t thread;
static char dir[64], path[96];
static bool joined;

static void set_up(void)
{
	snprintf(dir, sizeof(dir), "/tmp/ironwald-net-XXXXXX");
	cr_assert(mkdtemp(dir) != NULL);
	snprintf(path, sizeof(path), "%s/socket", dir);
	server_options_default(&options);
	options.unix_path = path;
	options.max_message_bytes = LIMIT;
	log_set_level(LOG_LEVEL_ERROR);
}

static void *run_server(void *arg)
{
	(void)arg;
	struct error err;
	return server_run(server, &err) == 0 ? NULL : &server;
}

static void start_server(void)
{
	struct error err = {0};
	struct engine_hooks hooks = {0};
	cr_assert(server_new(&options, &server, &err) == 0, "%s", err.message);
	server_hooks(server, &hooks);
	engine = fake_engine_new(&hooks);
	cr_assert(server_start(server, engine, &err) == 0, "%s", err.message);
	cr_assert(pthread_create(&thread, NULL, run_server, NULL) == 0);
}

static void join_server(void)
{
	void *failed;
	pthread_join(thread, &failed);
	cr_assert(failed == NULL);
	joined = true;
}

static void tear_down(void)
{
	if (server != NULL) {
		if (!joined) {
			kill(getpid(), SIGTERM);
			join_server();
		}
		server_free(server);
		fake_engine_free(engine);
		cr_assert(access(path, F_OK) != 0, "the socket's file is gone");
	}
	rmdir(dir);
}

/* ---- a client ------------------------------------------------------------------------------------------------------
 */

struct client {
	int fd;
	struct buf in;
	size_t used; /* of in: the answer that was returned last */
};

static struct client client_raw(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval timeout = {.tv_sec = TIMEOUT_MS / 1000};
	struct client client = {.fd = socket(AF_UNIX, SOCK_STREAM, 0)};
	strcpy(address.sun_path, path);
	cr_assert(connect(client.fd, (struct sockaddr *)&address, sizeof(address)) == 0, "%s", strerror(errno));
	setsockopt(client.fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(client.fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	return client;
}

static void client_close(struct client *client)
{
	close(client->fd);
	buf_free(&client->in);
}

static void send_all(struct client *client, const void *bytes, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t sent = send(client->fd, (const char *)bytes + at, len - at, MSG_NOSIGNAL);
		cr_assert(sent > 0, "%s", strerror(errno));
		at += (size_t)sent;
	}
}

/* False at the end of what the server sends. The response is good until the next call. */
static bool receive(struct client *client, struct response *ret)
{
	struct error err;
	bool notification;
	buf_consume(&client->in, client->used);
	client->used = 0;
	for (;;) {
		struct span payload;
		size_t total;
		enum frame_status { MORE, READY } status = MORE;
		if (client->in.len >= 4) {
			uint32_t len;
			memcpy(&len, client->in.data, 4);
			total = ntohl(len) + 4;
			status = client->in.len >= total ? READY : MORE;
			payload = (struct span){client->in.data + 4, total - 4};
		}
		if (status == READY) {
			client->used = total;
			cr_assert(response_decode(payload, ret, &notification, &err) == 0, "%s", err.message);
			return true;
		}
		cr_assert(buf_reserve(&client->in, 65536) == 0);
		ssize_t got = recv(client->fd, client->in.data + client->in.len, 65536, 0);
		cr_assert(got >= 0, "no answer: %s", strerror(errno));
		if (got == 0)
			return false;
		client->in.len += (size_t)got;
	}
}

static void receive_ok(struct client *client, uint32_t msgid, struct response *ret)
{
	cr_assert(receive(client, ret), "the connection ended");
	if (ret->error.data != NULL) {
		struct error err;
		error_decode(ret->error, &err);
		cr_assert_fail("%s: %s", error_code_name(err.code), err.message);
	}
	cr_assert(ret->msgid == msgid, "answer to %u, wanted %u", ret->msgid, msgid);
}

static void receive_error(struct client *client, uint32_t msgid, enum error_code code, struct error *ret_err)
{
	struct response response;
	cr_assert(receive(client, &response), "the connection ended");
	cr_assert(response.error.data != NULL && response.msgid == msgid);
	error_decode(response.error, ret_err);
	cr_assert(ret_err->code == code, "%s: %s", error_code_name(ret_err->code), ret_err->message);
}

static void receive_end(struct client *client)
{
	struct response response;
	cr_assert(!receive(client, &response), "an answer that nobody asked for");
}

static uint64_t u64_of(const struct response *response, enum key key)
{
	struct error err;
	uint64_t value;
	cr_assert(field_u64(&response->fields, key, &value, &err) == 0, "%s", err.message);
	return value;
}

/* A request with a stream and up to two numbers; key KEY_TOTAL: none. */
static void put(struct buf *buf, uint32_t msgid, enum method method, const char *stream, enum key key, uint64_t value,
	enum key key2, uint64_t value2)
{
	struct mp_writer writer;
	mp_writer_init(&writer, buf);
	request_begin(
		&writer, msgid, method, (stream != NULL) + (size_t)(key != KEY_TOTAL) + (size_t)(key2 != KEY_TOTAL));
	if (stream != NULL) {
		mp_write_key(&writer, KEY_STREAM);
		mp_write_str(&writer, stream);
	}
	if (key != KEY_TOTAL) {
		mp_write_key(&writer, key);
		mp_write_u64(&writer, value);
	}
	if (key2 != KEY_TOTAL) {
		mp_write_key(&writer, key2);
		mp_write_u64(&writer, value2);
	}
	cr_assert(frame_end(&writer) == 0);
}

static void put_append(struct buf *buf, uint32_t msgid, const char *stream, const void *entry, size_t len)
{
	struct mp_writer writer;
	mp_writer_init(&writer, buf);
	request_begin(&writer, msgid, METHOD_APPEND, 2);
	mp_write_key(&writer, KEY_STREAM);
	mp_write_str(&writer, stream);
	mp_write_key(&writer, KEY_ENTRY);
	mp_write_bin(&writer, entry, len);
	cr_assert(frame_end(&writer) == 0);
}

static void flush(struct client *client, struct buf *buf)
{
	send_all(client, buf->data, buf->len);
	buf_free(buf);
}

static void ask(struct client *client, uint32_t msgid, enum method method, const char *stream, enum key key,
	uint64_t value, enum key key2, uint64_t value2)
{
	struct buf buf = {0};
	put(&buf, msgid, method, stream, key, value, key2, value2);
	flush(client, &buf);
}

static void ask_plain(struct client *client, uint32_t msgid, enum method method)
{
	ask(client, msgid, method, NULL, KEY_TOTAL, 0, KEY_TOTAL, 0);
}

static void append(struct client *client, uint32_t msgid, const char *stream, const void *entry, size_t len)
{
	struct buf buf = {0};
	put_append(&buf, msgid, stream, entry, len);
	flush(client, &buf);
}

static struct client client_new(void)
{
	struct client client = client_raw();
	struct response response;
	ask(&client, 1, METHOD_HELLO, NULL, KEY_PROTOCOL, 1, KEY_TOTAL, 0);
	receive_ok(&client, 1, &response);
	return client;
}

/* A number of the answer to stats: connections.NAME. */
static uint64_t connection_stat(struct client *client, const char *name)
{
	struct response response;
	struct span map, value;
	uint64_t u64;
	ask_plain(client, 99, METHOD_STATS);
	receive_ok(client, 99, &response);
	cr_assert(mp_map_find(response.result, "connections", &map) == 0);
	cr_assert(mp_map_find(map, name, &value) == 0 && mp_get_u64(value, &u64) == 0);
	return u64;
}

static void wait_until(bool (*cond)(void *arg), void *arg)
{
	uint64_t deadline_ns = clock_now_ns() + TIMEOUT_MS * NS_PER_MS;
	while (!cond(arg)) {
		cr_assert(clock_now_ns() < deadline_ns, "it does not happen");
		poll(NULL, 0, 1);
	}
}

TestSuite(net_server, .init = set_up, .fini = tear_down, .timeout = 60);

/* ---- hello and the ends of connections -----------------------------------------------------------------------------
 */

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

/* ---- requests ------------------------------------------------------------------------------------------------------
 */

static char *pattern(size_t len, unsigned seed)
{
	char *bytes = malloc(len + 1);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (char)(i * 31 + seed + (i >> 8));
	return bytes;
}

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

/* ---- waiting -------------------------------------------------------------------------------------------------------
 */

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

/* ---- bounds --------------------------------------------------------------------------------------------------------
 */

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

Test(net_server, requests_in_flight_are_bounded_by_not_reading)
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

Test(net_server, who_does_not_read_stalls_nobody_and_is_closed)
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

Test(net_server, who_reads_late_gets_everything)
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

static uint64_t resident_bytes(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	cr_assert(file != NULL && fscanf(file, "%*u %lu", &pages) == 1);
	fclose(file);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

Test(net_server, half_sent_frames_take_what_was_sent)
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

Test(net_server, half_sent_frames_are_bounded_and_do_not_stop_others)
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

Test(net_server, idle_connections_are_closed)
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

/* ---- listening and stopping ----------------------------------------------------------------------------------------
 */

Test(net_server, graceful_stop)
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

Test(net_server, stop_does_not_wait_for_clients_for_ever)
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

Test(net_server, tcp_and_addresses_in_use)
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

Test(net_server, unix_socket_stale_live_and_foreign)
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

Test(net_server, a_connection_may_die_with_requests_in_hand)
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
