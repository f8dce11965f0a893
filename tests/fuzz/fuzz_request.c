/*
 * fuzz_request: what a client sends, into the server's side: decoding, and the connections and handlers of net/ whole,
 * on the engine in memory of the unit tests and a transport of ours, without a loop or a socket.
 *
 * Input: 4 bytes that say how (see TestOneInput), then what the client sends, in frames if it is to be understood.
 * Checks: every request that was read gets one answer, which is a frame of the protocol; the same bytes in other
 * pieces get the same answers; nothing is left in flight behind the end; and, of each frame, those of request_fields.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "conn_impl.h"
#include "dispatch.h"
#include "fake_engine.h"
#include "frame.h"
#include "frames.h"
#include "fuzz.h"
#include "handlers.h"
#include "message.h"
#include "request_fields.h"

#define HEADER_BYTES 4
#define MESSAGE_BYTES_MAX ((uint64_t)128 * 1024)
#define WAIT_MS_MAX 60000
/* More turns than any input can need: more is a loop that never comes to an end. */
#define TURNS_MAX 100000

int __real_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_uv_queue_work(uv_loop_t *loop, uv_work_t *work, uv_work_cb work_cb, uv_after_work_cb after_cb);

/* ---- the world: a clock that stands still, a pool of threads that is none ---------------------------------------- */

static bool clock_stands;
static uint64_t clock_ns;

int __wrap_clock_gettime(clockid_t id, struct timespec *ret)
{
	if (!clock_stands)
		return __real_clock_gettime(id, ret);
	*ret = (struct timespec){(time_t)(clock_ns / NS_PER_SECOND), (long)(clock_ns % NS_PER_SECOND)};
	return 0;
}

static struct {
	uv_work_t *work;
	uv_work_cb work_cb;
	uv_after_work_cb after_cb;
} queue[4096];
static size_t queued;

int __wrap_uv_queue_work(uv_loop_t *loop, uv_work_t *work, uv_work_cb work_cb, uv_after_work_cb after_cb)
{
	(void)loop;
	FUZZ_CHECK(queued < sizeof(queue) / sizeof(queue[0]), "more reads at once than anyone asked for");
	queue[queued].work = work;
	queue[queued].work_cb = work_cb;
	queue[queued++].after_cb = after_cb;
	return 0;
}

static bool run_queue(void)
{
	size_t count = queued;
	for (size_t i = 0; i < count; i++)
		queue[i].work_cb(queue[i].work);
	for (size_t i = 0; i < count; i++)
		queue[i].after_cb(queue[i].work, 0);
	queued -= count;
	memmove(queue, queue + count, queued * sizeof(queue[0]));
	return count > 0;
}

/* ---- the transport ----------------------------------------------------------------------------------------------- */

struct wire {
	struct transport base;
	struct buf out;	 /* what the server sent */
	uint64_t pieces; /* a seed: how much a write takes; 0: all */
	bool reading, writing, shut, shutting, closed, done;
	struct iovec iov[64];
	int iov_count;
};

static struct wire *wire_of(struct transport *transport)
{
	return (struct wire *)(void *)transport;
}

static int wire_read_start(struct transport *transport)
{
	wire_of(transport)->reading = true;
	return 0;
}

static void wire_read_stop(struct transport *transport)
{
	wire_of(transport)->reading = false;
}

static void swallow(struct wire *wire, const void *bytes, size_t len)
{
	FUZZ_CHECK(!wire->shut, "it sends behind its end");
	FUZZ_CHECK(buf_append(&wire->out, bytes, len) == 0, "no memory for the fuzzer itself");
}

static ssize_t wire_try_write(struct transport *transport, const struct iovec *iov, int count)
{
	struct wire *wire = wire_of(transport);
	ssize_t total = 0;
	FUZZ_CHECK(!wire->writing && !wire->closed, "it writes while it writes");
	for (int i = 0; i < count; i++) {
		size_t len = iov[i].iov_len;
		if (wire->pieces != 0 && len > 0)
			len = fuzz_next(&wire->pieces) % (len + 1);
		swallow(wire, iov[i].iov_base, len);
		total += (ssize_t)len;
		if (len < iov[i].iov_len)
			break;
	}
	return total;
}

/* Taken at the next turn: what it holds must stay as it is until then. */
static int wire_write(struct transport *transport, const struct iovec *iov, int count)
{
	struct wire *wire = wire_of(transport);
	FUZZ_CHECK(!wire->writing && !wire->closed && count <= 64, "it writes while it writes");
	memcpy(wire->iov, iov, (size_t)count * sizeof(*iov));
	wire->iov_count = count;
	wire->writing = true;
	return 0;
}

static size_t wire_unsent(struct transport *transport)
{
	size_t len = 0;
	for (int i = 0; i < wire_of(transport)->iov_count; i++)
		len += wire_of(transport)->iov[i].iov_len;
	return len;
}

static int wire_shutdown(struct transport *transport)
{
	wire_of(transport)->shutting = true;
	return 0;
}

static void wire_close(struct transport *transport)
{
	FUZZ_CHECK(!wire_of(transport)->closed, "it is closed twice");
	wire_of(transport)->closed = true;
}

static const struct transport_ops wire_ops = {
	wire_read_start, wire_read_stop, wire_try_write, wire_write, wire_unsent, wire_shutdown, wire_close};

/* ---- the server's loop, as server.c has it ----------------------------------------------------------------------- */

struct world {
	struct net net;
	struct wire wire;
	struct session session;
	struct conn *conn; /* NULL: gone */
	bool woken, failed_by_message;
	uint32_t *asked; /* msgids of what was read and is owed an answer */
	size_t asked_count, asked_cap;
};

static void expect(struct world *world, uint32_t msgid)
{
	if (world->asked_count == world->asked_cap) {
		world->asked_cap = world->asked_cap * 2 + 64;
		world->asked = realloc(world->asked, world->asked_cap * sizeof(*world->asked));
		FUZZ_CHECK(world->asked != NULL, "no memory for the fuzzer itself");
	}
	world->asked[world->asked_count++] = msgid;
}

static void on_message(struct conn *conn, struct span payload, struct buf *owner, void *arg)
{
	struct world *world = arg;
	struct request request;
	struct error err;
	if (request_decode(payload, &request, &err) != 0)
		expect(world, request.msgid);
	else if (!request.notification)
		expect(world, request.msgid);
	dispatch_message(&world->net, conn, payload, owner);
	world->failed_by_message |= conn->state != CONN_OPEN;
}

static void on_input_end(struct conn *conn, void *arg)
{
	struct world *world = arg;
	(void)conn;
	waiters_wake_owner(world->net.waiters, &world->session.waiting);
}

static void on_closed(struct conn *conn, void *arg)
{
	struct world *world = arg;
	reads_drop(&world->net, conn_user(conn));
	world->conn = NULL;
}

static const struct conn_events events = {on_message, on_input_end, on_closed};

static void notify(void *arg)
{
	((struct world *)arg)->woken = true;
}

static bool take_completions(struct world *world)
{
	if (!world->woken)
		return false;
	world->woken = false;
	for (struct op *op = engine_take(world->net.engine), *next; op != NULL; op = next) {
		next = op->next;
		if (op->stream != NULL)
			waiters_touch(world->net.waiters, op->stream);
		op->done_cb(op);
	}
	return true;
}

static bool move_wire(struct world *world)
{
	struct wire *wire = &world->wire;
	const struct transport_events *to = wire->base.events;
	if (wire->writing) {
		wire->writing = false;
		for (int i = 0; i < wire->iov_count && !wire->closed; i++)
			swallow(wire, wire->iov[i].iov_base, wire->iov[i].iov_len);
		wire->iov_count = 0;
		to->written_cb(wire->closed ? -ECANCELED : 0, wire->base.arg);
		return true;
	}
	if (wire->shutting && !wire->closed) {
		wire->shutting = false;
		wire->shut = true;
		to->shutdown_cb(0, wire->base.arg);
		return true;
	}
	if (wire->closed && !wire->done) {
		wire->done = true;
		to->closed_cb(wire->base.arg);
		return true;
	}
	return false;
}

static void turn(struct world *world, bool to_the_end)
{
	struct net *net = &world->net;
	bool more = true;
	for (unsigned turns = 0; more; turns++) {
		FUZZ_CHECK(turns < TURNS_MAX, "it never comes to rest");
		engine_kick(net->engine);
		more = waiters_run(net->waiters);
		reads_go_on(net);
		more |= conn_group_service(net->conns);
		more |= reads_may_go_on(net);
		engine_kick(net->engine);
		more |= take_completions(world);
		more |= run_queue();
		more |= move_wire(world);
		more &= to_the_end;
	}
}

/* Always the same, as if it were new: it is large. */
static struct conn_group *the_group(const struct conn_limits *limits, struct world *world)
{
	static struct conn_group *group;
	if (group == NULL)
		group = conn_group_new(limits, &events, world);
	FUZZ_CHECK(group != NULL && group->all == NULL && group->work_head == NULL && group->granted == NULL &&
			   group->starved_count == 0,
		"something is left in the group");
	group->limits = *limits;
	group->bytes_in = group->bytes_out = group->protocol_errors = group->timeouts = 0;
	return group;
}

static void open_world(struct world *world, uint8_t flags, uint64_t write_seed)
{
	struct engine_hooks hooks = {.notify_cb = notify, .notify_arg = world};
	struct conn_limits limits = {
		.max_message_bytes = MESSAGE_BYTES_MAX,
		.first_message_bytes = MESSAGE_BYTES_MAX,
		.max_inflight_bytes = flags & 8 ? 600 : UINT64_MAX / 4,
		.max_inflight_bytes_total = flags & 16 ? 700 : UINT64_MAX / 4,
		.write_timeout_ns = 30 * NS_PER_SECOND,
		.drain_timeout_ns = 5 * NS_PER_SECOND,
		.drain_bytes = 1000000,
	};
	memset(world, 0, sizeof(*world));
	static const struct server_options options = {.max_message_bytes = MESSAGE_BYTES_MAX,
		.max_wait_ms = WAIT_MS_MAX,
		.sync_mode = "strict",
		.compression = "none"};
	world->net.options = &options;
	world->net.conns = the_group(&limits, world);
	world->net.waiters = waiters_new();
	world->net.health = health_new();
	world->net.engine = fake_engine_new(&hooks);
	world->net.started_ns = clock_ns;
	FUZZ_CHECK(world->net.conns != NULL && world->net.waiters != NULL && world->net.health != NULL,
		"no memory for the fuzzer itself");
	fake_engine_cold(flags & 32);
	world->wire.base.ops = &wire_ops;
	world->wire.pieces = write_seed;
	world->conn = conn_new(world->net.conns, &world->wire.base, &world->session);
	FUZZ_CHECK(world->conn != NULL && world->wire.reading, "a connection that does not read");
}

static void close_world(struct world *world)
{
	struct conn_group_stats stats;
	if (world->conn != NULL)
		conn_group_abort(world->net.conns);
	turn(world, true);
	conn_group_stats(world->net.conns, &stats);
	FUZZ_CHECK(world->conn == NULL && stats.connections == 0, "the connection is left");
	FUZZ_CHECK(stats.inflight_bytes == 0 && stats.receive_bytes == 0, "%llu bytes are left in flight",
		(unsigned long long)(stats.inflight_bytes + stats.receive_bytes));
	FUZZ_CHECK(waiters_count(world->net.waiters) == 0 && engine_idle(world->net.engine), "somebody waits for ever");
	waiters_free(world->net.waiters);
	health_free(world->net.health);
	fake_engine_free(world->net.engine);
	buf_free(&world->wire.out);
	free(world->asked);
}

/* ---- one connection ---------------------------------------------------------------------------------------------- */

/* What the connection reads of these bytes; with a seed in pieces, and, if asked, with turns of the loop between. */
static void feed(struct world *world, const uint8_t *bytes, size_t len, uint64_t seed, bool turns)
{
	for (size_t at = 0; at < len && world->conn != NULL;) {
		struct wire *wire = &world->wire;
		if (!wire->reading || wire->closed) {
			/* Held back, until what is in flight went out. */
			turn(world, true);
			if (!wire->reading || wire->closed)
				return;
		}
		uint8_t *to;
		size_t room, some = len - at;
		if (seed != 0)
			some = 1 + fuzz_next(&seed) % (fuzz_next(&seed) % 2 == 0 ? 5 : 400);
		wire->base.events->alloc_cb(&to, &room, wire->base.arg);
		FUZZ_CHECK(room > 0, "no room to read to");
		some = some < len - at ? some : len - at;
		some = some < room ? some : room;
		memcpy(to, bytes + at, some);
		at += some;
		wire->base.events->read_cb((ssize_t)some, wire->base.arg);
		if (turns)
			turn(world, fuzz_next(&seed) % 2 == 0);
	}
}

static int by_msgid(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
	return (a > b) - (a < b);
}

/* Each answer is a frame with a response; their msgids are those that were asked. */
static void check_answers(struct world *world, bool was_over)
{
	const uint8_t *at = world->wire.out.data;
	size_t left = world->wire.out.len, count = 0;
	uint32_t *answered = fuzz_alloc((world->asked_count + 1) * sizeof(*answered));
	while (left > 0) {
		struct span payload;
		struct response response;
		struct error err;
		size_t total;
		bool notification = true;
		enum frame_status status = frame_next(at, left, MESSAGE_BYTES_MAX, &payload, &total);
		FUZZ_CHECK(status == FRAME_READY, "an answer that is cut short, or over the limit");
		int r = response_decode(payload, &response, &notification, &err);
		FUZZ_CHECK(r == 0 && !notification, "an answer that is none: %s", err.message);
		FUZZ_CHECK(frames_value_bytes(payload.data, payload.len, 64) == payload.len, "an answer is malformed");
		if (response.error.data != NULL) {
			error_decode(response.error, &err);
			FUZZ_CHECK(err.code != ERR_OTHER && err.code != ERR_SERIALIZATION && err.code != ERR_NONE,
				"a refusal that nobody knows: %s", err.message);
			FUZZ_CHECK((err.fields & error_required_fields(err.code)) == error_required_fields(err.code),
				"%s without its fields", error_code_name(err.code));
		}
		FUZZ_CHECK(count < world->asked_count + 1, "more answers than requests");
		answered[count++] = response.msgid;
		at += total;
		left -= total;
	}
	if (was_over) /* a frame over the limit is answered too, and as the last one */
		FUZZ_CHECK(count > 0 && answered[--count] == 0, "a frame over the limit has no answer");
	FUZZ_CHECK(count == world->asked_count, "%zu requests, %zu answers", world->asked_count, count);
	qsort(answered, count, sizeof(*answered), by_msgid);
	if (count > 0)
		qsort(world->asked, count, sizeof(*world->asked), by_msgid);
	for (size_t i = 0; i < count; i++)
		FUZZ_CHECK(answered[i] == world->asked[i], "the answer to %u is missing, that to %u is too many",
			world->asked[i], answered[i]);
	free(answered);
}

struct outcome {
	struct buf sent;
	bool has_stats; /* what is counted depends on the pieces */
};

static void run(const uint8_t *bytes, size_t len, uint8_t flags, uint64_t seed, bool turns, struct outcome *ret)
{
	static struct world world;
	open_world(&world, flags, flags & 4 ? seed + 1 : 0);
	feed(&world, bytes, len, seed, turns);
	turn(&world, true);
	if (world.conn != NULL && !world.wire.closed)
		world.wire.base.events->read_cb(0, world.wire.base.arg);
	turn(&world, true);
	FUZZ_CHECK(world.conn == NULL, "it does not end behind the end of the input");
	struct conn_group_stats stats;
	conn_group_stats(world.net.conns, &stats);
	/* A frame over the limit never was a message. */
	check_answers(&world, stats.protocol_errors > 0 && !world.failed_by_message);
	ret->has_stats = world.net.stats.methods[METHOD_STATS].latency_ns.count > 0;
	ret->sent = world.wire.out;
	world.wire.out = (struct buf){0};
	close_world(&world);
}

/* Each frame by itself: decoding and all getters. */
static void check_frames(const uint8_t *bytes, size_t len)
{
	struct span payload;
	size_t total;
	while (frame_next(bytes, len, MESSAGE_BYTES_MAX, &payload, &total) == FRAME_READY) {
		uint8_t *copy = fuzz_copy(payload.data, payload.len);
		request_fields_check((struct span){copy, payload.len});
		free(copy);
		bytes += total;
		len -= total;
	}
	/* And what is no frame, as a payload. */
	uint8_t *copy = fuzz_copy(bytes, len);
	request_fields_check((struct span){copy, len});
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = {data, data + size};
	struct outcome first, second;
	uint8_t flags = fuzz_u8(&in);
	uint64_t seed = fuzz_u8(&in);
	(void)fuzz_uint(&in, 2);
	size_t len;
	const uint8_t *bytes = fuzz_take(&in, size, &len);
	check_frames(bytes, len);
	clock_stands = true;
	clock_ns = 1000 * NS_PER_SECOND;
	bool turns = flags & 1;
	run(bytes, len, flags, seed, turns, &first);
	if (flags & 2) { /* in one piece, or in others */
		bool bounded = flags & (8 | 16);
		run(bytes, len, flags & ~4, seed == 0 ? 77 : 0, false, &second);
		if (!turns && !bounded && !first.has_stats)
			FUZZ_CHECK(first.sent.len == second.sent.len &&
					   (first.sent.len == 0 ||
						   memcmp(first.sent.data, second.sent.data, first.sent.len) == 0),
				"in other pieces other answers");
		buf_free(&second.sent);
	}
	clock_stands = false;
	buf_free(&first.sent);
	return 0;
}

/* ---- making what a client could say ------------------------------------------------------------------------------ */

/* In the order of methods.def. */
static const char *const params[METHOD_UNKNOWN] = {
	[METHOD_HELLO] = "protocol=1 client?=t token?=t",
	[METHOD_PING] = "",
	[METHOD_APPEND] = "stream=s entry=b expected_id?=u sync?=o",
	[METHOD_APPEND_BATCH] = "stream=s entries=B expected_id?=u sync?=o",
	[METHOD_GET] = "stream=s id=u",
	[METHOD_GET_BATCH] = "stream=s ids=U",
	[METHOD_ITER] = "stream=s start_id?=u max_entries?=u max_bytes?=u wait_ms?=u",
	[METHOD_TRUNCATE] = "stream=s safe_id=u",
	[METHOD_CURRENT_SEGMENT_START_ID] = "stream=s",
	[METHOD_STREAM_INFO] = "stream=s",
	[METHOD_LIST_STREAMS] = "prefix?=t after?=t limit?=u",
	[METHOD_SYNC] = "stream?=s",
	[METHOD_STATS] = "",
	[METHOD_SHARD_APPEND] = "key=b value=b sync?=o",
	[METHOD_SHARD_APPEND_BATCH] = "entries=P sync?=o",
	[METHOD_SHARD_APPEND_BATCH_FOR_KEY] = "key=b values=B sync?=o",
	[METHOD_ITER_SHARD] = "shard=u start_id?=u max_entries?=u max_bytes?=u wait_ms?=u",
	[METHOD_CREATE_CHECKPOINT] = "id=b",
	[METHOD_LOAD_CHECKPOINT] = "id=b",
	[METHOD_LOAD_LATEST_CHECKPOINT] = "",
	[METHOD_LIST_CHECKPOINTS] = "limit?=u",
	[METHOD_PRUNE_BEFORE_CHECKPOINT] = "id=b",
	[METHOD_COMPACT_CHECKPOINTS] = "keep_latest_n=u",
	[METHOD_SHARD_COUNT] = "",
	[METHOD_CHECKPOINT_COUNT] = "",
};

static void make_request(struct buf *out, uint64_t *state, size_t count, const uint8_t *header)
{
	struct mp_writer writer;
	enum method method = count == 0 ? METHOD_HELLO : (enum method)(fuzz_next(state) % METHOD_UNKNOWN);
	bool notification = fuzz_next(state) % 32 == 0;
	(void)header;
	mp_writer_init(&writer, out);
	frame_begin(&writer);
	mp_write_array(&writer, notification ? 3 : 4);
	mp_write_u64(&writer, notification ? 2 : 0);
	if (!notification)
		mp_write_u64(&writer, fuzz_next(state) % 8 == 0 ? fuzz_next(state) : count);
	mp_write_str(&writer, fuzz_next(state) % 32 == 0 ? "no_such" : method_name(method));
	frames_write_map(out, state, params[method]);
	(void)frame_end(&writer);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	return frames_mutate(data, size, max_size, seed, HEADER_BYTES, make_request);
}
