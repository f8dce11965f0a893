/*
 * fake_server: a server that is a thread of the test and does what a script says, and a connection to it. For the tests
 * of libironwal; everything is static, as each of them is one file.
 *
 * Owns the thread, the sockets and a directory for the Unix socket. The script runs in the thread, with the functions
 * that take a struct fake; the rest belongs to the test's own thread.
 * Invariant: the two meet only through the socket and through step.
 */
#ifndef IRONWALD_FAKE_SERVER_H
#define IRONWALD_FAKE_SERVER_H

#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client_error.h"
#include "clock.h"
#include "frame.h"
#include "ironwal.h"
#include "message.h"

/* ---- the fake server ---- */

struct fake {
	int listener, fd;
	char dir[64], address[128];
	pthread_t thread;
	void (*script)(struct fake *fake);
	bool one_byte_at_a_time;
	uint64_t shard_count; /* that hello tells */
	const char *sync_mode;
	struct buf in;
	struct request request; /* the last one read; spans into frame */
	uint8_t *frame;
	size_t left_bytes; /* that came after the last whole frame, at the end of the stream */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int step; /* what the test and the script tell each other */
};

/* Criterion's assertions belong to the test's own thread. */
#define MUST(cond)                                                                                                     \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "%s:%d: fake server: %s\n", __FILE__, __LINE__, #cond);                        \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static inline void set_step(struct fake *fake, int step)
{
	pthread_mutex_lock(&fake->lock);
	fake->step = step;
	pthread_cond_broadcast(&fake->changed);
	pthread_mutex_unlock(&fake->lock);
}

static inline void wait_step(struct fake *fake, int step)
{
	pthread_mutex_lock(&fake->lock);
	while (fake->step < step)
		pthread_cond_wait(&fake->changed, &fake->lock);
	pthread_mutex_unlock(&fake->lock);
}

static inline void send_bytes(struct fake *fake, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	while (len > 0) {
		ssize_t n = send(fake->fd, at, fake->one_byte_at_a_time ? 1 : len, MSG_NOSIGNAL);
		if (n < 0)
			return; /* the client has gone */
		at += n;
		len -= (size_t)n;
	}
}

/* False: the client has closed; left_bytes says what came of an unfinished frame. */
static inline bool next_request(struct fake *fake)
{
	for (;;) {
		struct span payload;
		struct error err;
		size_t total;
		if (fake->in.len > 0 &&
			frame_next(fake->in.data, fake->in.len, 1u << 30, &payload, &total) == FRAME_READY) {
			free(fake->frame);
			fake->frame = malloc(payload.len);
			MUST(fake->frame != NULL);
			memcpy(fake->frame, payload.data, payload.len);
			payload.data = fake->frame;
			buf_consume(&fake->in, total);
			MUST(request_decode(payload, &fake->request, &err) == 0);
			return true;
		}
		MUST(buf_reserve(&fake->in, 65536) == 0);
		ssize_t n = recv(fake->fd, fake->in.data + fake->in.len, 65536, 0);
		if (n <= 0) {
			fake->left_bytes = fake->in.len;
			return false;
		}
		fake->in.len += (size_t)n;
	}
}

static inline void expect(struct fake *fake, enum method method)
{
	MUST(next_request(fake));
	MUST(fake->request.method == method);
}

static inline uint64_t param_u64(struct fake *fake, enum key key)
{
	uint64_t value;
	MUST(field_u64(&fake->request.params, key, &value, NULL) == 0);
	return value;
}

static inline bool param_is(struct fake *fake, enum key key, const char *text, size_t len)
{
	struct span bytes;
	return field_bytes(&fake->request.params, key, &bytes, NULL) == 0 && bytes.len == len &&
	       memcmp(bytes.data, text, len) == 0;
}

/* An answer is: begin, the fields, done. */
static __thread struct buf answer_buf;
static __thread struct mp_writer answer;

static inline void answer_begin(uint32_t msgid, size_t fields)
{
	mp_writer_init(&answer, &answer_buf);
	response_begin(&answer, msgid, fields);
}

static inline void answer_u64(enum key key, uint64_t value)
{
	mp_write_key(&answer, key);
	mp_write_u64(&answer, value);
}

static inline void answer_bool(enum key key, bool value)
{
	mp_write_key(&answer, key);
	mp_write_bool(&answer, value);
}

static inline void answer_done(struct fake *fake)
{
	MUST(frame_end(&answer) == 0);
	send_bytes(fake, answer_buf.data, answer_buf.len);
	answer_buf.len = 0;
}

static inline void answer_append(struct fake *fake, uint32_t msgid, uint64_t id)
{
	answer_begin(msgid, 2);
	answer_u64(KEY_ID, id);
	answer_bool(KEY_DURABLE, true);
	answer_done(fake);
}

static inline void answer_batch(struct fake *fake, uint32_t msgid, uint64_t first, uint64_t end)
{
	answer_begin(msgid, 3);
	answer_u64(KEY_FIRST, first);
	answer_u64(KEY_END, end);
	answer_bool(KEY_DURABLE, false);
	answer_done(fake);
}

static inline void answer_iter(struct fake *fake, uint64_t first, unsigned count, uint64_t end)
{
	answer_begin(fake->request.msgid, 4);
	answer_u64(KEY_FIRST, first);
	mp_write_key(&answer, KEY_ENTRIES);
	mp_write_array(&answer, count);
	for (unsigned i = 0; i < count; i++) {
		char text[32];
		snprintf(text, sizeof(text), "entry %u", (unsigned)first + i);
		mp_write_bin(&answer, text, strlen(text));
	}
	answer_u64(KEY_NEXT, first + count);
	answer_u64(KEY_END, end);
	answer_done(fake);
}

static inline void answer_empty(struct fake *fake, uint32_t msgid)
{
	answer_begin(msgid, 0);
	answer_done(fake);
}

static inline void answer_error(struct fake *fake, uint32_t msgid, const struct error *err)
{
	mp_writer_init(&answer, &answer_buf);
	MUST(response_error(&answer, msgid, err) == 0);
	send_bytes(fake, answer_buf.data, answer_buf.len);
	answer_buf.len = 0;
}

static inline void send_notification(struct fake *fake, size_t padding)
{
	char *pad = calloc(1, padding + 1);
	MUST(pad != NULL);
	mp_writer_init(&answer, &answer_buf);
	frame_begin(&answer);
	mp_write_array(&answer, 3);
	mp_write_u64(&answer, 2);
	mp_write_str(&answer, "news");
	mp_write_map(&answer, 1);
	mp_write_str(&answer, "pad");
	mp_write_bin(&answer, pad, padding);
	answer_done(fake);
	free(pad);
}

static inline void answer_hello(struct fake *fake, uint64_t protocol, uint64_t max_message_bytes)
{
	answer_begin(fake->request.msgid, 6);
	answer_u64(KEY_PROTOCOL, protocol);
	mp_write_key(&answer, KEY_SERVER);
	mp_write_str(&answer, "fake/1.2.3");
	answer_u64(KEY_SHARD_COUNT, fake->shard_count);
	answer_u64(KEY_MAX_MESSAGE_BYTES, max_message_bytes);
	mp_write_key(&answer, KEY_SYNC_MODE);
	mp_write_str(&answer, fake->sync_mode);
	mp_write_key(&answer, KEY_COMPRESSION);
	mp_write_str(&answer, "none");
	answer_done(fake);
}

static inline void hello_with(struct fake *fake, uint64_t protocol, uint64_t max_message_bytes)
{
	expect(fake, METHOD_HELLO);
	MUST(param_u64(fake, KEY_PROTOCOL) == 1);
	answer_hello(fake, protocol, max_message_bytes);
}

static inline void hello(struct fake *fake)
{
	hello_with(fake, 1, 16u << 20);
}

/* Small messages, and no request may come. */
static inline void script_silent(struct fake *f)
{
	hello_with(f, 1, 8192);
	MUST(!next_request(f) && f->left_bytes == 0);
}

static inline void until_closed(struct fake *fake)
{
	while (next_request(fake))
		;
}

static void *fake_main(void *arg)
{
	struct fake *fake = arg;
	/* accept takes its descriptor before it waits, and a test may have left none for a while. */
	MUST(poll(&(struct pollfd){.fd = fake->listener, .events = POLLIN}, 1, -1) == 1);
	fake->fd = accept(fake->listener, NULL, NULL);
	MUST(fake->fd >= 0);
	fake->script(fake);
	if (fake->fd >= 0)
		close(fake->fd);
	buf_free(&answer_buf);
	return NULL;
}

static inline void fake_init(struct fake *fake, void (*script)(struct fake *))
{
	memset(fake, 0, sizeof(*fake));
	fake->script = script;
	fake->shard_count = 4;
	fake->sync_mode = "strict";
	pthread_mutex_init(&fake->lock, NULL);
	pthread_cond_init(&fake->changed, NULL);
}

static inline void fake_start(struct fake *fake, void (*script)(struct fake *))
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	fake_init(fake, script);
	strcpy(fake->dir, "/tmp/ironwal-client-XXXXXX");
	cr_assert(mkdtemp(fake->dir) != NULL);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/s", fake->dir);
	snprintf(fake->address, sizeof(fake->address), "unix:%s", sun.sun_path);
	fake->listener = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert(bind(fake->listener, (struct sockaddr *)&sun, sizeof(sun)) == 0);
	cr_assert(listen(fake->listener, 8) == 0);
	cr_assert(pthread_create(&fake->thread, NULL, fake_main, fake) == 0);
}

static inline void fake_start_tcp(struct fake *fake, void (*script)(struct fake *))
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sin);
	fake_init(fake, script);
	fake->listener = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert(bind(fake->listener, (struct sockaddr *)&sin, sizeof(sin)) == 0);
	cr_assert(listen(fake->listener, 8) == 0);
	cr_assert(getsockname(fake->listener, (struct sockaddr *)&sin, &len) == 0);
	snprintf(fake->address, sizeof(fake->address), "tcp:127.0.0.1:%u", ntohs(sin.sin_port));
	cr_assert(pthread_create(&fake->thread, NULL, fake_main, fake) == 0);
}

static inline void fake_join(struct fake *fake)
{
	cr_assert(pthread_join(fake->thread, NULL) == 0);
	close(fake->listener);
	if (fake->dir[0] != '\0') {
		unlink(fake->address + strlen("unix:"));
		rmdir(fake->dir);
	}
	free(fake->frame);
	buf_free(&fake->in);
}

/* ---- the client's side of a test ---- */

static struct fake fake;
static ironwal *c;
static ironwal_error *err;

/* Long enough for a loaded machine: only tests of deadlines reach it, and these set their own. */
static inline void start(void (*script)(struct fake *))
{
	ironwal_options options = IRONWAL_OPTIONS_INIT;
	err = ironwal_error_new();
	cr_assert(err != NULL);
	options.timeout_ms = 60000;
	fake_start(&fake, script);
	cr_assert(ironwal_connect(fake.address, &options, &c, err) == 0, "%s", ironwal_error_message(err));
}

static inline void stop(void)
{
	ironwal_close(c);
	ironwal_error_free(err);
	fake_join(&fake);
}

static inline int append(const char *entry, ironwal_append_result *result)
{
	return ironwal_append(c, "s", 1, entry, strlen(entry), NULL, result, err);
}

/* The next result, of an append: 1; -1 and the error, of that request or (with *ret_id 0) of waiting; 0: none. */
static inline int next_append(uint32_t *ret_id, ironwal_append_result *ret_append)
{
	ironwal_result *result;
	int rc = ironwal_wait_result(c, &result, err);
	if (rc <= 0) {
		*ret_id = rc < 0 ? 0 : *ret_id;
		return rc;
	}
	*ret_id = ironwal_result_request_id(result);
	if (ironwal_result_append(result, ret_append))
		return 1;
	*err = *ironwal_result_error(result);
	return -1;
}

#define ASSERT_ERROR(error_code, error_fate, usable)                                                                   \
	do {                                                                                                           \
		cr_assert(ironwal_error_get_code(err) == (error_code), "%s: %s", ironwal_error_code_name(err),         \
			ironwal_error_message(err));                                                                   \
		cr_assert(ironwal_error_fate(err) == (error_fate), "fate: %s",                                         \
			ironwal_fate_name(ironwal_error_fate(err)));                                                   \
		cr_assert(ironwal_error_connection_usable(err) == (usable), "usable");                                 \
		cr_assert(ironwal_is_usable(c) == (usable), "connection usable");                                      \
	} while (0)

#endif
