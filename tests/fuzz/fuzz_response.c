/*
 * fuzz_response: what a server sends, into libironwal: connecting, submitted requests of every method, blocking calls.
 *
 * Input: 8 bytes that say how (see struct plan), then what the server sends, in frames if it is to be understood.
 * The transport is ours: it swallows what is written, and gives the input in pieces.
 * Checks: no memory beyond a multiple of what arrived; every request has one result; all memory comes back; the same
 * bytes in other pieces give the same results.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "client_connection.h"
#include "frame.h"
#include "frames.h"
#include "fuzz.h"
#include "mp_write.h"
#include "response_calls.h"

#define HEADER_BYTES 8

/* Memory that does not follow the input: the read buffer, the slots, a refusal for each request. */
#define MEMORY_BASE ((size_t)512 * 1024)
#define MEMORY_FACTOR 64
/* What is received takes twice what arrived at most. */
#define MEMORY_FACTOR_LARGE 3
#define LARGE_BYTES 100000
#define LARGE_ANNOUNCED 1000000

struct plan {
	bool blocking;	      /* the calls that wait, else those that are submitted */
	bool twice;	      /* in other pieces too */
	bool small_in_flight; /* answers that nobody takes stop the reading soon */
	bool large;	      /* behind the input comes the beginning of a large answer */
	bool slow_to_take;    /* results are taken at the end only */
	uint8_t piece_seed, write_seed;
	uint32_t which; /* of the requests, a bit each; 0: all */
};

/* ---- memory ------------------------------------------------------------------------------------------------------ */

struct meter {
	size_t now, peak, blocks;
};

struct metered {
	size_t size;
	size_t unused; /* for alignment */
};

static void *metered_new(size_t size, void *arg)
{
	struct meter *meter = arg;
	struct metered *head = fuzz_alloc(sizeof(*head) + size);
	head->size = size;
	meter->now += size;
	meter->blocks++;
	if (meter->now > meter->peak)
		meter->peak = meter->now;
	return head + 1;
}

static void metered_free(void *memory, void *arg)
{
	struct meter *meter = arg;
	struct metered *head = (struct metered *)memory - 1;
	meter->now -= head->size;
	meter->blocks--;
	free(head);
}

static void *metered_again(void *memory, size_t size, void *arg)
{
	const struct metered *head = (struct metered *)memory - 1;
	void *again = metered_new(size, arg);
	memcpy(again, memory, head->size < size ? head->size : size);
	metered_free(memory, arg);
	return again;
}

/* ---- the transport ----------------------------------------------------------------------------------------------- */

struct pipe {
	struct transport base;
	const uint8_t *at, *end;
	const uint8_t *gate;	 /* not further than that, for now */
	bool frame_by_frame;	 /* the gate goes on by itself */
	uint64_t pieces, writes; /* seeds; 0: all at once */
	bool paused, freed;
};

static struct pipe *pipe_of(const struct transport *transport)
{
	return (struct pipe *)(uintptr_t)transport;
}

static size_t piece(uint64_t *seed, size_t len)
{
	if (*seed == 0)
		return len;
	size_t some = 1 + fuzz_next(seed) % (fuzz_next(seed) % 2 == 0 ? 7 : 300);
	return some < len ? some : len;
}

/* The end of the frame that begins here; if there is none, of all. */
static const uint8_t *behind_frame(const uint8_t *at, const uint8_t *end)
{
	struct span payload;
	size_t total;
	enum frame_status status = frame_next(at, (size_t)(end - at), UINT32_MAX, &payload, &total);
	return status == FRAME_READY ? at + total : end;
}

static ssize_t pipe_read(struct transport *transport, void *bytes, size_t len)
{
	struct pipe *pipe = pipe_of(transport);
	if (pipe->at == pipe->gate && pipe->frame_by_frame)
		pipe->gate = behind_frame(pipe->at, pipe->end);
	size_t left = (size_t)(pipe->gate - pipe->at);
	pipe->paused = !pipe->paused && pipe->pieces != 0;
	if (pipe->paused || (left == 0 && pipe->gate != pipe->end)) {
		errno = EAGAIN;
		return -1;
	}
	size_t some = piece(&pipe->pieces, left < len ? left : len);
	memcpy(bytes, pipe->at, some);
	pipe->at += some;
	return (ssize_t)some;
}

static ssize_t pipe_write(struct transport *transport, const void *bytes, size_t len)
{
	(void)bytes;
	return (ssize_t)piece(&pipe_of(transport)->writes, len);
}

/* Of a file that poll finds ready at any time. */
static int always_ready;

static int pipe_fd(const struct transport *transport)
{
	(void)transport;
	return always_ready;
}

static void pipe_free(struct transport *transport)
{
	pipe_of(transport)->freed = true;
}

static const struct transport_ops pipe_ops = {.read = pipe_read, .write = pipe_write, .fd = pipe_fd, .free = pipe_free};

/* ---- a connection ------------------------------------------------------------------------------------------------ */

/* As connect_step does it behind a dial: what is connected is our pipe. */
static ironwal *start(struct pipe *pipe, const struct plan *plan, struct meter *meter)
{
	const ironwal_allocator allocator = {
		.allocate = metered_new, .reallocate = metered_again, .release = metered_free, .arg = meter};
	ironwal_options options = IRONWAL_OPTIONS_INIT;
	struct ironwal_error error = {0};
	ironwal *connection = NULL;
	struct mp_writer *writer;
	options.allocator = &allocator;
	options.timeout_ms = -1;
	if (plan->small_in_flight)
		options.max_in_flight_bytes = 300;
	int r = ironwal_connect_start("unix:/nowhere", &options, &connection, &error);
	FUZZ_CHECK(r == 0, "connect: %s", ironwal_error_message(&error));
	dial_end(&connection->dial);
	connection->dialing = false;
	core_attach(connection->core, &pipe->base);
	const struct core_request request = {.method = METHOD_HELLO, .is_submitted = true};
	r = core_begin(connection->core, &request, 1, &writer, &error);
	FUZZ_CHECK(r == 0, "hello: %s", ironwal_error_message(&error));
	mp_write_key(writer, KEY_PROTOCOL);
	mp_write_u64(writer, PROTOCOL_VERSION);
	r = core_commit(connection->core, DEADLINE_NEVER, &connection->hello_id, &error);
	FUZZ_CHECK(r == 0, "hello: %s", ironwal_error_message(&error));
	return connection;
}

static void take_results(ironwal *connection, struct calls *calls)
{
	ironwal_result *result;
	while (ironwal_next_result(connection, &result) == 1)
		calls_take(calls, connection, result);
}

/* Without waiting, as an event loop does it. */
static void drive(ironwal *connection, const struct plan *plan, struct calls *calls, struct pipe *pipe)
{
	struct ironwal_error error = {0};
	/* What comes behind the hello in the same piece comes before any request. Where pieces must not matter, it
	 * waits. */
	pipe->gate = plan->twice ? behind_frame(pipe->at, pipe->end) : pipe->end;
	bool submitted = false;
	/* Each turn reads something, or is followed by one that does; or takes results, which lets it read again. */
	for (;;) {
		int r = ironwal_process(connection, IRONWAL_READABLE | IRONWAL_WRITABLE, &error);
		ironwal_state state = ironwal_get_state(connection);
		FUZZ_CHECK((r == 0) == (state != IRONWAL_STATE_LOST), "it is %d and says %d", (int)state, r);
		if (state == IRONWAL_STATE_READY && !submitted) {
			submitted = true;
			calls_submit(calls, connection, plan->which);
		}
		if (pipe->at == pipe->gate)
			pipe->gate = pipe->end;
		if (!plan->slow_to_take || (ironwal_events(connection) & IRONWAL_READABLE) == 0)
			take_results(connection, calls);
		if (state == IRONWAL_STATE_LOST)
			break;
	}
	FUZZ_CHECK(ironwal_error_message(&error)[0] != '\0', "lost without a reason");
	take_results(connection, calls);
	FUZZ_CHECK(ironwal_in_flight(connection) == 0, "%u requests have no result", ironwal_in_flight(connection));
}

static void block(ironwal *connection, const struct plan *plan, struct calls *calls, struct pipe *pipe)
{
	struct ironwal_error error = {0};
	/* An answer is read by the call that waits for it, and by no other. */
	pipe->frame_by_frame = true;
	while (ironwal_get_state(connection) == IRONWAL_STATE_CONNECTING)
		(void)ironwal_process(connection, IRONWAL_READABLE, &error);
	if (ironwal_get_state(connection) == IRONWAL_STATE_READY)
		calls_block(calls, connection, plan->which);
}

/* What came of it, as a number. */
static uint64_t run(const uint8_t *bytes, size_t len, const struct plan *plan, uint64_t piece_seed)
{
	struct meter meter = {0};
	struct calls calls = {.bytes = bytes, .len = len};
	struct pipe pipe = {
		.base.ops = &pipe_ops, .at = bytes, .gate = bytes, .end = bytes + len, .pieces = piece_seed};
	pipe.writes = plan->write_seed;
	ironwal *connection = start(&pipe, plan, &meter);
	if (plan->blocking)
		block(connection, plan, &calls, &pipe);
	else
		drive(connection, plan, &calls, &pipe);
	calls_check(&calls);
	size_t factor = plan->large ? MEMORY_FACTOR_LARGE : MEMORY_FACTOR;
	FUZZ_CHECK(meter.peak <= MEMORY_BASE + factor * len, "%zu bytes of memory for %zu that came", meter.peak, len);
	uint64_t hash = fuzz_hash(calls.hash, ironwal_server(connection), strlen(ironwal_server(connection)));
	ironwal_close(connection);
	FUZZ_CHECK(pipe.freed, "the transport is left");
	FUZZ_CHECK(meter.blocks == 0 && meter.now == 0, "%zu blocks are left", meter.blocks);
	return hash;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_quiet();
	always_ready = open("/dev/zero", O_RDWR | O_CLOEXEC);
	FUZZ_CHECK(always_ready >= 0, "no /dev/zero");
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = {data, data + size};
	uint8_t flags = fuzz_u8(&in);
	struct plan plan = {.blocking = flags & 1,
		.twice = flags & 2,
		.small_in_flight = flags & 4,
		.slow_to_take = flags & 8,
		.large = (flags & 0xf0) == 0xf0};
	plan.piece_seed = fuzz_u8(&in);
	plan.write_seed = fuzz_u8(&in);
	(void)fuzz_u8(&in);
	plan.which = (uint32_t)fuzz_uint(&in, 4);
	/* What pieces may decide: what had been sent when an answer came; and, as an answer is looked at when it is
	 * taken, and may end the connection then, how much had been read by that time. */
	if (plan.twice) {
		plan.write_seed = 0;
		plan.slow_to_take = true;
		plan.small_in_flight = false;
	}
	size_t len;
	const uint8_t *bytes = fuzz_take(&in, size, &len);
	uint8_t *copy = fuzz_copy(bytes, len);
	if (plan.large) {
		copy = realloc(copy, len + 4 + LARGE_BYTES);
		FUZZ_CHECK(copy != NULL, "no memory for the fuzzer itself");
		fuzz_put32(copy + len, htobe32(LARGE_ANNOUNCED));
		memset(copy + len + 4, 0xc0, LARGE_BYTES);
		len += 4 + LARGE_BYTES;
	}
	uint64_t hash = run(copy, len, &plan, plan.piece_seed);
	if (plan.twice)
		FUZZ_CHECK(run(copy, len, &plan, plan.piece_seed + 1u) == hash, "in other pieces other results");
	free(copy);
	return 0;
}

/* ---- making what a server could say ------------------------------------------------------------------------------ */

static void make_answer(struct buf *out, uint64_t *state, size_t count, const uint8_t *header)
{
	struct mp_writer writer;
	bool blocking = header[0] & 1;
	size_t which = fuzz_next(state) % calls_count();
	uint32_t msgid = count == 0 ? 0x10000 : blocking ? (uint32_t)(count + 1) << 16 : calls_msgid(which);
	if (blocking)
		which = (count - 1) % calls_count();
	mp_writer_init(&writer, out);
	frame_begin(&writer);
	mp_write_array(&writer, 4);
	mp_write_u64(&writer, 1);
	mp_write_u64(&writer, msgid);
	if (count > 0 && fuzz_next(state) % 6 == 0) {
		struct error err;
		error_set(&err, (enum error_code)(ERR_NONE + 1 + fuzz_next(state) % (ERR_OTHER - 1)), "no");
		err.fields = fuzz_next(state) & ((1u << EFI_COUNT) - 1) & ~EF(OS_ERRNO);
		error_encode(&writer, &err, 0);
		mp_write_nil(&writer);
	} else {
		mp_write_nil(&writer);
		frames_write_map(out, state,
			count == 0 ? "protocol=1 server=t shard_count=4 max_message_bytes=m sync_mode=t "
				     "compression=t"
				   : calls_result(which));
	}
	(void)frame_end(&writer);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	return frames_mutate(data, size, max_size, seed, HEADER_BYTES, make_answer);
}
