/*
 * Every allocation of the network side fails once, in the server whole on an engine in memory: in any of its threads,
 * the first while a client asks for one thing after the other, the second, ... until there is none left. (libuv's own
 * are not among them: it ends the process for some.)
 *
 * What must hold: no crash, no hang, no leak; a request is answered, with an error perhaps, or its connection is
 * closed; what is acknowledged is there; the next client is served.
 */
#include "net_harness.h"

#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "alloc_fault.h"
#include "conn_impl.h"
#include "log.h"

TestSuite(net_memory, .timeout = 120);

#define LARGE_BYTES 90000u

/* The engine in memory is not under test: it has what it wants. */
void __real_engine_kick(struct engine *kicked);
void __wrap_engine_kick(struct engine *kicked);

void __wrap_engine_kick(struct engine *kicked)
{
	alloc_fault_exempt(true);
	__real_engine_kick(kicked);
	alloc_fault_exempt(false);
}

/* Nor is what is kept for the next request: nothing is, so that each time there is something to fail. */
void *__real_blocks_alloc(struct blocks *blocks, size_t size);
void *__wrap_blocks_alloc(struct blocks *blocks, size_t size);
struct buf *__real_conn_output_begin(struct conn *conn);
struct buf *__wrap_conn_output_begin(struct conn *conn);

void *__wrap_blocks_alloc(struct blocks *blocks, size_t size)
{
	blocks_free(blocks);
	return __real_blocks_alloc(blocks, size);
}

struct buf *__wrap_conn_output_begin(struct conn *conn)
{
	conn_free_spare_chunks(conn->group);
	return __real_conn_output_begin(conn);
}

enum { ASK_HELLO = 1, ASK_SMALL, ASK_LARGE, ASK_BATCH, ASK_SHARDS, ASK_SHARD, ASK_WAIT, ASK_OTHERS };

static void put_batch(struct buf *buf, uint32_t msgid, enum method method)
{
	struct mp_writer writer;
	bool pairs = method == METHOD_SHARD_APPEND_BATCH;
	mp_writer_init(&writer, buf);
	request_begin(&writer, msgid, method, pairs ? 1 : 2);
	if (!pairs) {
		mp_write_key(&writer, KEY_STREAM);
		mp_write_str(&writer, "batch");
	}
	mp_write_key(&writer, KEY_ENTRIES);
	mp_write_array(&writer, 8);
	for (uint8_t i = 0; i < 8; i++) {
		if (pairs) {
			mp_write_array(&writer, 2);
			mp_write_bin(&writer, &i, 1);
		}
		mp_write_bin(&writer, "entry", 5);
	}
	cr_assert(frame_end(&writer) == 0);
}

static void put_shard(struct buf *buf, uint32_t msgid)
{
	struct mp_writer writer;
	mp_writer_init(&writer, buf);
	request_begin(&writer, msgid, METHOD_SHARD_APPEND, 2);
	mp_write_key(&writer, KEY_KEY);
	mp_write_bin(&writer, "key", 3);
	mp_write_key(&writer, KEY_VALUE);
	mp_write_bin(&writer, "value", 5);
	cr_assert(frame_end(&writer) == 0);
}

/* Returns how many requests are in it. */
static uint32_t put_all(struct buf *buf, const char *large)
{
	uint32_t msgid = ASK_OTHERS;
	put(buf, ASK_HELLO, METHOD_HELLO, NULL, KEY_PROTOCOL, 1, KEY_TOTAL, 0);
	put_append(buf, ASK_SMALL, "small", "entry", 5);
	put_append(buf, ASK_LARGE, "large", large, LARGE_BYTES);
	put_batch(buf, ASK_BATCH, METHOD_APPEND_BATCH);
	put_batch(buf, ASK_SHARDS, METHOD_SHARD_APPEND_BATCH);
	put_shard(buf, ASK_SHARD);
	put(buf, ASK_WAIT, METHOD_ITER, "there", KEY_START_ID, 1000000, KEY_WAIT_MS, 3);
	put(buf, msgid++, METHOD_GET, "there", KEY_ID, 0, KEY_TOTAL, 0);
	put(buf, msgid++, METHOD_ITER, "there", KEY_START_ID, 0, KEY_TOTAL, 0);
	put(buf, msgid++, METHOD_GET, "nowhere", KEY_ID, 0, KEY_TOTAL, 0);
	put(buf, msgid++, METHOD_STREAM_INFO, "there", KEY_TOTAL, 0, KEY_TOTAL, 0);
	put(buf, msgid++, METHOD_TRUNCATE, "there", KEY_SAFE_ID, 0, KEY_TOTAL, 0);
	put(buf, msgid++, METHOD_SYNC, NULL, KEY_TOTAL, 0, KEY_TOTAL, 0);
	put(buf, msgid++, METHOD_LIST_STREAMS, NULL, KEY_TOTAL, 0, KEY_TOTAL, 0);
	put(buf, msgid++, METHOD_LOAD_LATEST_CHECKPOINT, NULL, KEY_TOTAL, 0, KEY_TOTAL, 0);
	put(buf, msgid++, METHOD_STATS, NULL, KEY_TOTAL, 0, KEY_TOTAL, 0);
	put(buf, msgid++, METHOD_PING, NULL, KEY_TOTAL, 0, KEY_TOTAL, 0);
	return msgid - ASK_HELLO;
}

/* All that the server says until `count` answers are there, or it ends the connection. */
static uint32_t take_answers(
	struct client *client, uint32_t count, bool acknowledged[ASK_OTHERS], uint64_t ids[ASK_OTHERS])
{
	uint32_t answers = 0;
	size_t at = 0;
	while (answers < count) {
		uint32_t len;
		if (client->in.len - at >= 4 &&
			(memcpy(&len, client->in.data + at, 4), len = ntohl(len), client->in.len - at - 4 >= len)) {
			struct response response;
			struct error err;
			bool notification;
			cr_assert(response_decode((struct span){client->in.data + at + 4, len}, &response,
					  &notification, &err) == 0);
			at += 4 + (size_t)len;
			answers++;
			if (response.error.data == NULL && response.msgid < ASK_OTHERS) {
				acknowledged[response.msgid] = true;
				if (response.msgid == ASK_SMALL || response.msgid == ASK_LARGE)
					ids[response.msgid] = u64_of(&response, KEY_ID);
			}
			continue;
		}
		cr_assert(buf_reserve(&client->in, 65536) == 0);
		ssize_t got = recv(client->fd, client->in.data + client->in.len, 65536, 0);
		if (got <= 0) { /* closed, perhaps with something unread */
			cr_assert(got == 0 || errno == ECONNRESET, "no answer, and no end: %s", strerror(errno));
			break;
		}
		client->in.len += (size_t)got;
	}
	return answers;
}

static void ask_large(struct client *client, uint32_t msgid, uint64_t id)
{
	struct response response;
	struct span entry;
	ask(client, msgid, METHOD_GET, "large", KEY_ID, id, KEY_TOTAL, 0);
	receive_ok(client, msgid, &response);
	struct error err;
	cr_assert(field_bytes(&response.fields, KEY_ENTRY, &entry, &err) == 0 && entry.len == LARGE_BYTES,
		"an acknowledged entry is another one");
}

/* False: nothing was left to fail. */
static bool one(uint64_t nth, uint64_t run_len, const char *large)
{
	struct buf requests = {0};
	bool acknowledged[ASK_OTHERS] = {0};
	uint64_t ids[ASK_OTHERS] = {0};
	uint32_t count = put_all(&requests, large);
	alloc_fault_arm(nth, run_len);
	alloc_fault_every_thread(true);
	struct client client = client_raw();
	/* In two parts, so that a frame is begun in one read and ended in another. The peer may be gone already. */
	for (size_t at = 0, half = requests.len / 2; at < requests.len; at += half, half = requests.len - at) {
		ssize_t sent = send(client.fd, requests.data + at, half, MSG_NOSIGNAL);
		if (sent < (ssize_t)half)
			break;
	}
	uint32_t answers = take_answers(&client, count, acknowledged, ids);
	cr_assert(answers == count || alloc_fault_fired() > 0, "%u of %u answers, and nothing has failed", answers,
		count);
	client_close(&client);
	bool fired = alloc_fault_fired() > 0;
	alloc_fault_every_thread(false);
	alloc_fault_arm(0, 0);
	buf_free(&requests);

	struct client good = client_new();
	if (acknowledged[ASK_LARGE])
		ask_large(&good, 2, ids[ASK_LARGE]);
	struct response response;
	append(&good, 3, "after", "x", 1);
	receive_ok(&good, 3, &response);
	client_close(&good);
	return fired;
}

Test(net_memory, every_allocation_fails_once)
{
	alloc_fault_exempt(true); /* the test's own thread */
	char *large = pattern(LARGE_BYTES, 1);
	int64_t live_before = alloc_fault_live();
	set_up();
	log_set_level(LOG_LEVEL_ERROR);
	start_server();
	struct client client = client_new();
	struct response response;
	append(&client, 2, "there", "entry", 5);
	receive_ok(&client, 2, &response);
	client_close(&client);
	uint64_t nth = 1, quiet = 0;
	/* How the requests come together is not always the same: some times nothing failing is the end. */
	for (uint64_t run_len = 1; run_len <= 4; run_len += 3)
		for (nth = 1, quiet = 0; quiet < 5; nth++)
			quiet = one(nth, run_len, large) ? 0 : quiet + 1;
	cr_log_info("%lu allocations", (unsigned long)(nth - 6));
	cr_assert(nth > 30, "%lu allocations are too few to be true", (unsigned long)nth);
	tear_down();
	cr_assert(alloc_fault_live() == live_before, "%ld blocks of memory are left",
		(long)(alloc_fault_live() - live_before));
	free(large);
}
