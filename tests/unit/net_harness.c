#include "net_harness.h"

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
#include "log.h"

/* ---- the server under test -------------------------------------------------------------------------------------- */

struct server_options options;
static struct server *server;
struct engine *engine;
static pthread_t thread;
char dir[64], path[96];
static bool joined;

void set_up(void)
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

void start_server(void)
{
	struct error err = {0};
	struct engine_hooks hooks = {0};
	cr_assert(server_new(&options, &server, &err) == 0, "%s", err.message);
	server_hooks(server, &hooks);
	engine = fake_engine_new(&hooks);
	cr_assert(server_start(server, engine, &err) == 0, "%s", err.message);
	cr_assert(pthread_create(&thread, NULL, run_server, NULL) == 0);
}

void join_server(void)
{
	void *failed;
	pthread_join(thread, &failed);
	cr_assert(failed == NULL);
	joined = true;
}

void tear_down(void)
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

/* ---- a client --------------------------------------------------------------------------------------------------- */

struct client client_raw(void)
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

void client_close(struct client *client)
{
	close(client->fd);
	buf_free(&client->in);
}

void send_all(struct client *client, const void *bytes, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t sent = send(client->fd, (const char *)bytes + at, len - at, MSG_NOSIGNAL);
		cr_assert(sent > 0, "%s", strerror(errno));
		at += (size_t)sent;
	}
}

bool receive(struct client *client, struct response *ret)
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

void receive_ok(struct client *client, uint32_t msgid, struct response *ret)
{
	cr_assert(receive(client, ret), "the connection ended");
	if (ret->error.data != NULL) {
		struct error err;
		error_decode(ret->error, &err);
		cr_assert_fail("%s: %s", error_code_name(err.code), err.message);
	}
	cr_assert(ret->msgid == msgid, "answer to %u, wanted %u", ret->msgid, msgid);
}

void receive_error(struct client *client, uint32_t msgid, enum error_code code, struct error *ret_err)
{
	struct response response;
	cr_assert(receive(client, &response), "the connection ended");
	cr_assert(response.error.data != NULL && response.msgid == msgid);
	error_decode(response.error, ret_err);
	cr_assert(ret_err->code == code, "%s: %s", error_code_name(ret_err->code), ret_err->message);
}

void receive_end(struct client *client)
{
	struct response response;
	cr_assert(!receive(client, &response), "an answer that nobody asked for");
}

uint64_t u64_of(const struct response *response, enum key key)
{
	struct error err;
	uint64_t value;
	cr_assert(field_u64(&response->fields, key, &value, &err) == 0, "%s", err.message);
	return value;
}

void put(struct buf *buf, uint32_t msgid, enum method method, const char *stream, enum key key, uint64_t value,
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

void put_append(struct buf *buf, uint32_t msgid, const char *stream, const void *entry, size_t len)
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

void flush(struct client *client, struct buf *buf)
{
	send_all(client, buf->data, buf->len);
	buf_free(buf);
}

void ask(struct client *client, uint32_t msgid, enum method method, const char *stream, enum key key, uint64_t value,
	enum key key2, uint64_t value2)
{
	struct buf buf = {0};
	put(&buf, msgid, method, stream, key, value, key2, value2);
	flush(client, &buf);
}

void ask_plain(struct client *client, uint32_t msgid, enum method method)
{
	ask(client, msgid, method, NULL, KEY_TOTAL, 0, KEY_TOTAL, 0);
}

void append(struct client *client, uint32_t msgid, const char *stream, const void *entry, size_t len)
{
	struct buf buf = {0};
	put_append(&buf, msgid, stream, entry, len);
	flush(client, &buf);
}

struct client client_new(void)
{
	struct client client = client_raw();
	struct response response;
	ask(&client, 1, METHOD_HELLO, NULL, KEY_PROTOCOL, 1, KEY_TOTAL, 0);
	receive_ok(&client, 1, &response);
	return client;
}

uint64_t connection_stat(struct client *client, const char *name)
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

void wait_until(bool (*cond)(void *arg), void *arg)
{
	uint64_t deadline_ns = clock_now_ns() + TIMEOUT_MS * NS_PER_MS;
	while (!cond(arg)) {
		cr_assert(clock_now_ns() < deadline_ns, "it does not happen");
		poll(NULL, 0, 1);
	}
}

char *pattern(size_t len, unsigned seed)
{
	char *bytes = malloc(len + 1);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (char)(i * 31 + seed + (i >> 8));
	return bytes;
}
