/* What the network side keeps for the requests that come next: blocks, and chunks of output. */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "conn_impl.h"

/* ---- blocks ----------------------------------------------------------------------------------------------------- */

#define MANY (BLOCKS_KEPT_BYTES / BLOCK_STEP_BYTES + 100)

Test(blocks, what_was_released_is_given_again_at_the_same_size)
{
	struct blocks blocks = {0};
	static const size_t sizes[] = {1, 256, 257, 4000, BLOCK_BYTES_MAX, BLOCK_BYTES_MAX + 1, 100000};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t kept = blocks.kept_bytes;
		char *memory = blocks_alloc(&blocks, sizes[i]);
		memset(memory, 'x', sizes[i]);
		blocks_release(&blocks, memory, sizes[i]);
		cr_assert((blocks.kept_bytes > kept) == (i != 1 && sizes[i] <= BLOCK_BYTES_MAX), "%zu", sizes[i]);
		if (sizes[i] > BLOCK_BYTES_MAX)
			continue;
		char *again = blocks_alloc(&blocks, (sizes[i] - 1) / BLOCK_STEP_BYTES * BLOCK_STEP_BYTES + 1);
		cr_assert(again == memory, "%zu", sizes[i]);
		memset(again, 'y', sizes[i]);
		blocks_release(&blocks, again, sizes[i]);
	}
	char *first = blocks_alloc(&blocks, 10), *second = blocks_alloc(&blocks, 10);
	cr_assert(first != second, "one block is given to one");
	blocks_release(&blocks, first, 10);
	blocks_release(&blocks, second, 10);
	blocks_free(&blocks);
	cr_assert(blocks.kept_bytes == 0);
}

Test(blocks, what_is_kept_is_bounded_and_follows_what_is_asked_for)
{
	static void *all[MANY];
	struct blocks blocks = {0};
	for (size_t round = 0; round < 2; round++) {
		size_t size = round == 0 ? BLOCK_STEP_BYTES : 4 * BLOCK_STEP_BYTES;
		for (size_t i = 0; i < MANY; i++)
			all[i] = blocks_alloc(&blocks, size);
		for (size_t i = 0; i < MANY; i++)
			blocks_release(&blocks, all[i], size);
		cr_assert(blocks.kept_bytes == BLOCKS_KEPT_BYTES, "%zu of size %zu", blocks.kept_bytes, size);
	}
	/* Those of the first round have made way for half of what may be kept. */
	size_t of_the_second = 0;
	for (; blocks.lists[3] != NULL; of_the_second++)
		all[of_the_second] = blocks_alloc(&blocks, 4 * BLOCK_STEP_BYTES);
	cr_assert(of_the_second == BLOCKS_KEPT_BYTES / 2 / (4 * BLOCK_STEP_BYTES), "%zu", of_the_second);
	cr_assert(blocks.kept_bytes == BLOCKS_KEPT_BYTES / 2, "nothing had to make way now");
	while (of_the_second > 0)
		blocks_release(&blocks, all[--of_the_second], 4 * BLOCK_STEP_BYTES);
	blocks_free(&blocks);
	cr_assert(blocks.kept_bytes == 0);
}

/* ---- output of connections -------------------------------------------------------------------------------------- */

/* A transport that takes all that it is given. */
struct sink {
	struct transport base;
	size_t taken_bytes, writes;
	uint8_t last;
};

static int sink_ok(struct transport *transport)
{
	(void)transport;
	return 0;
}

static void sink_nothing(struct transport *transport)
{
	(void)transport;
}

static ssize_t sink_write(struct transport *transport, const struct iovec *iov, int count)
{
	struct sink *sink = (struct sink *)transport;
	size_t bytes = 0;
	for (int i = 0; i < count; i++) {
		bytes += iov[i].iov_len;
		sink->last = ((const uint8_t *)iov[i].iov_base)[iov[i].iov_len - 1];
	}
	sink->taken_bytes += bytes;
	sink->writes++;
	return (ssize_t)bytes;
}

static void sink_close(struct transport *transport)
{
	transport->events->closed_cb(transport->arg);
}

static const struct transport_ops sink_ops = {
	.read_start = sink_ok,
	.read_stop = sink_nothing,
	.try_write = sink_write,
	.shutdown = sink_ok,
	.close = sink_close,
};

static void conn_nothing(struct conn *conn, void *arg)
{
	(void)conn;
	(void)arg;
}

static void answer(struct conn *conn, size_t len, uint8_t byte)
{
	char *bytes = malloc(len);
	memset(bytes, byte, len);
	struct buf *out = conn_output_begin(conn);
	cr_assert(out != NULL && buf_append(out, bytes, len) == 0);
	conn_output_end(conn);
	free(bytes);
}

Test(conn_output, answers_of_a_turn_go_in_one_write_and_room_is_kept_within_bounds)
{
	enum { CONNS = SPARE_CHUNKS_MAX + 10 };
	static struct sink sinks[CONNS];
	static struct conn *conns[CONNS];
	struct conn_limits limits = {.max_message_bytes = 65536,
		.max_inflight_bytes = UINT64_MAX / 4,
		.max_inflight_bytes_total = UINT64_MAX / 4};
	struct conn_events events = {.input_end_cb = conn_nothing, .closed_cb = conn_nothing};
	struct conn_group *group = conn_group_new(&limits, &events, NULL);
	struct conn_group_stats stats;
	for (size_t i = 0; i < CONNS; i++) {
		sinks[i].base.ops = &sink_ops;
		conns[i] = conn_new(group, &sinks[i].base, NULL);
	}
	for (size_t round = 1; round <= 3; round++) {
		/* Small ones, some that grow over what a chunk may keep, and one over what goes into a chunk. */
		size_t sizes[] = {100, SPARE_CHUNK_BYTES, OUT_CHUNK_BYTES};
		size_t expected = 0;
		for (size_t k = 0; k < 3; k++) {
			expected += sizes[k] * round;
			for (size_t i = 0; i < CONNS; i++)
				for (size_t n = 0; n < round; n++)
					answer(conns[i], sizes[k], (uint8_t)(i + n));
			if (k == 0)
				cr_assert(conns[0]->out_head->buf.cap == OUT_CHUNK_ROOM, "%zu",
					conns[0]->out_head->buf.cap);
			conn_group_service(group);
			cr_assert(group->spare_chunk_count <= SPARE_CHUNKS_MAX, "%u", group->spare_chunk_count);
			cr_assert(
				k > 0 || group->spare_chunk_count == SPARE_CHUNKS_MAX, "%u", group->spare_chunk_count);
			for (struct out_chunk *chunk = group->spare_chunks; chunk != NULL; chunk = chunk->next)
				cr_assert(chunk->buf.cap <= SPARE_CHUNK_BYTES && chunk->buf.len == 0, "%zu",
					chunk->buf.cap);
		}
		for (size_t i = 0; i < CONNS; i++) {
			cr_assert(sinks[i].taken_bytes == expected && sinks[i].writes == 3, "%zu in %zu writes",
				sinks[i].taken_bytes, sinks[i].writes);
			cr_assert(sinks[i].last == (uint8_t)(i + round - 1));
			sinks[i].taken_bytes = sinks[i].writes = 0;
		}
	}
	conn_group_stats(group, &stats);
	cr_assert(stats.inflight_bytes == 0, "%lu", (unsigned long)stats.inflight_bytes);
	conn_group_abort(group);
	conn_group_free(group);
}
