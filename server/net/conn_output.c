#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "conn_impl.h"

#define IOV_COUNT 64

/* An empty chunk, with room in it if there was one to spare. NULL: no memory. */
static struct out_chunk *take_chunk(struct conn_group *group)
{
	struct out_chunk *chunk = group->spare_chunks;
	if (chunk == NULL)
		return calloc(1, sizeof(*chunk));
	group->spare_chunks = chunk->next;
	group->spare_chunk_count--;
	chunk->next = NULL;
	return chunk;
}

static void give_chunk(struct conn_group *group, struct out_chunk *chunk)
{
	if (chunk->buf.cap < OUT_CHUNK_ROOM || chunk->buf.cap > SPARE_CHUNK_BYTES ||
		group->spare_chunk_count == SPARE_CHUNKS_MAX) {
		buf_free(&chunk->buf);
		free(chunk);
		return;
	}
	chunk->buf.len = 0;
	chunk->sent = chunk->charged = 0;
	chunk->next = group->spare_chunks;
	group->spare_chunks = chunk;
	group->spare_chunk_count++;
}

void conn_free_spare_chunks(struct conn_group *group)
{
	while (group->spare_chunks != NULL) {
		struct out_chunk *chunk = take_chunk(group);
		buf_free(&chunk->buf);
		free(chunk);
	}
}

static void append_chunk(struct conn *conn, struct out_chunk *chunk)
{
	if (conn->out_tail != NULL)
		conn->out_tail->next = chunk;
	else
		conn->out_head = chunk;
	conn->out_tail = chunk;
}

static void free_chunk(struct conn *conn, struct out_chunk *chunk)
{
	conn_release(conn, chunk->charged);
	conn->group->bytes_out += chunk->sent;
	give_chunk(conn->group, chunk);
}

/* A chunk at the end, for answers that are written into it. */
static struct out_chunk *add_chunk(struct conn *conn)
{
	struct out_chunk *chunk = take_chunk(conn->group);
	if (chunk == NULL)
		return NULL;
	if (chunk->buf.cap == 0 && buf_set_capacity(&chunk->buf, OUT_CHUNK_ROOM) != 0) {
		free(chunk);
		return NULL;
	}
	append_chunk(conn, chunk);
	return chunk;
}

struct buf *conn_output_begin(struct conn *conn)
{
	if (conn->state == CONN_CLOSED)
		return NULL;
	struct out_chunk *chunk = conn->out_tail;
	if (chunk == NULL || chunk->buf.len >= OUT_CHUNK_BYTES)
		chunk = add_chunk(conn);
	if (chunk == NULL) {
		conn_abort(conn, "no memory for its answers");
		return NULL;
	}
	return &chunk->buf;
}

void conn_output_end(struct conn *conn)
{
	struct out_chunk *chunk = conn->out_tail;
	size_t added = chunk->buf.len - chunk->charged;
	chunk->charged = chunk->buf.len;
	conn_charge(conn, added);
	conn_mark(conn);
}

void conn_send(struct conn *conn, struct buf *answer)
{
	if (conn->state != CONN_CLOSED && answer->len < OUT_CHUNK_BYTES / 4) {
		struct buf *out = conn_output_begin(conn);
		if (out != NULL && buf_append(out, answer->data, answer->len) != 0)
			conn_abort(conn, "no memory for its answers");
		else if (out != NULL)
			conn_output_end(conn);
	} else if (conn->state != CONN_CLOSED) {
		struct out_chunk *chunk = calloc(1, sizeof(*chunk));
		if (chunk != NULL) {
			chunk->buf = *answer;
			*answer = (struct buf){0};
			append_chunk(conn, chunk);
			conn_output_end(conn);
		} else {
			conn_abort(conn, "no memory for its answers");
		}
	}
	buf_free(answer);
}

bool conn_output_empty(const struct conn *conn)
{
	return conn->out_head == NULL && conn->writing == NULL;
}

static int fill_iov(const struct out_chunk *chunk, struct iovec *iov)
{
	int count = 0;
	for (; chunk != NULL && count < IOV_COUNT; chunk = chunk->next)
		iov[count++] = (struct iovec){chunk->buf.data + chunk->sent, chunk->buf.len - chunk->sent};
	return count;
}

/* count bytes of the queue's front are gone. */
static void take_sent(struct conn *conn, size_t count)
{
	while (conn->out_head != NULL) {
		struct out_chunk *chunk = conn->out_head;
		size_t left = chunk->buf.len - chunk->sent;
		if (left > count) {
			chunk->sent += count;
			return;
		}
		count -= left;
		chunk->sent = chunk->buf.len;
		conn->out_head = chunk->next;
		if (conn->out_head == NULL)
			conn->out_tail = NULL;
		free_chunk(conn, chunk);
	}
}

/* The queue's front, as much as one write takes, goes to the transport, which has it until written_cb. */
static int write_rest(struct conn *conn)
{
	struct iovec iov[IOV_COUNT];
	int count = fill_iov(conn->out_head, iov);
	int result = conn->transport->ops->write(conn->transport, iov, count);
	if (result != 0)
		return result;
	struct out_chunk *last = conn->out_head;
	for (int i = 1; i < count; i++)
		last = last->next;
	conn->writing = conn->out_head;
	conn->out_head = last->next;
	if (conn->out_head == NULL)
		conn->out_tail = NULL;
	last->next = NULL;
	conn->unsent_bytes = conn->transport->ops->unsent_bytes(conn->transport);
	conn->progress_ns = clock_now_ns();
	return 0;
}

void conn_flush(struct conn *conn)
{
	while (conn->state != CONN_CLOSED && conn->writing == NULL && conn->out_head != NULL) {
		struct iovec iov[IOV_COUNT];
		int count = fill_iov(conn->out_head, iov);
		size_t offered = 0;
		for (int i = 0; i < count; i++)
			offered += iov[i].iov_len;
		ssize_t sent = conn->transport->ops->try_write(conn->transport, iov, count);
		if (sent < 0) {
			/* The peer is gone: nothing to tell anyone. */
			conn_abort(conn, NULL);
			return;
		}
		take_sent(conn, (size_t)sent);
		if ((size_t)sent == offered)
			continue;
		if (write_rest(conn) != 0) {
			conn_abort(conn, NULL);
			return;
		}
	}
}

static void free_writing(struct conn *conn, bool sent)
{
	while (conn->writing != NULL) {
		struct out_chunk *chunk = conn->writing;
		conn->writing = chunk->next;
		if (sent)
			chunk->sent = chunk->buf.len;
		free_chunk(conn, chunk);
	}
}

void conn_written_cb(int status, void *arg)
{
	struct conn *conn = arg;
	free_writing(conn, status == 0);
	if (status != 0)
		conn_abort(conn, NULL);
	else
		conn_mark(conn);
}

void conn_drop_output(struct conn *conn)
{
	free_writing(conn, false);
	while (conn->out_head != NULL) {
		struct out_chunk *chunk = conn->out_head;
		conn->out_head = chunk->next;
		free_chunk(conn, chunk);
	}
	conn->out_tail = NULL;
	buf_free(&conn->last_answer);
}
