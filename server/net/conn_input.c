#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "clock.h"
#include "conn_impl.h"
#include "frame.h"

/* The received bytes of a large frame count for all together (for one connection max_message_bytes bounds them). */
static void count_received(struct conn *conn)
{
	size_t bytes = conn->in.cap > SMALL_FRAME_BYTES ? conn->in.cap : 0;
	conn->group->receive_bytes -= conn->receive_bytes;
	conn->group->receive_bytes += bytes;
	conn->receive_bytes = bytes;
	if (bytes == 0 && conn->group->granted == conn)
		conn->group->granted = NULL;
}

void conn_drop_input(struct conn *conn)
{
	buf_free(&conn->in);
	conn->held_back = false;
	conn->frame_bytes = 0;
	count_received(conn);
}

static uint64_t message_limit(const struct conn *conn)
{
	const struct conn_limits *limits = &conn->group->limits;
	return conn->welcome ? limits->max_message_bytes : limits->first_message_bytes;
}

static void fail_over_limit(struct conn *conn, size_t announced)
{
	struct error err;
	if (!conn->welcome) {
		error_set(&err, ERR_BAD_REQUEST,
			"a frame of %zu bytes, before hello was answered, is over %" PRIu64
			": the first request of a connection must be hello with protocol (or this is not the protocol)",
			announced, message_limit(conn));
		conn_fail(conn, 0, &err);
		return;
	}
	error_set(&err, ERR_BAD_REQUEST,
		"a frame of %zu bytes is over max_message_bytes (%" PRIu64 "): send less at once", announced,
		conn->group->limits.max_message_bytes);
	conn_fail(conn, 0, &err);
}

/* Hands out whole frames from the front of the bytes, as many as may be now. Returns how many bytes that were.
 * owner: the buffer that the bytes are all of, or NULL. */
static size_t parse(struct conn *conn, const uint8_t *data, size_t len, struct buf *owner)
{
	struct conn_group *group = conn->group;
	uint64_t until_ns = group->now_ns + TURN_NS;
	size_t at = 0;
	unsigned frames = 0;
	conn->held_back = false;
	conn->frame_bytes = 0;
	while (conn->state == CONN_OPEN && at < len) {
		struct span payload;
		size_t frame_bytes = 0;
		enum frame_status status = frame_next(data + at, len - at, message_limit(conn), &payload, &frame_bytes);
		if (status == FRAME_MORE) {
			conn->frame_bytes = frame_bytes;
			break;
		}
		if (status == FRAME_OVER) {
			fail_over_limit(conn, frame_bytes - FRAME_LENGTH_BYTES);
			break;
		}
		if (!conn_has_room(conn, 0)) {
			conn->held_back = true;
			break;
		}
		if (frames > 0 && frames % FRAMES_PER_LOOK == 0)
			conn_group_read_clock(group);
		if (frames++ > 0 && group->now_ns >= until_ns) {
			conn->held_back = true;
			conn_mark(conn);
			break;
		}
		bool alone = owner != NULL && at == 0 && frame_bytes == len;
		at += frame_bytes;
		group->events->message_cb(conn, payload, alone ? owner : NULL, group->arg);
	}
	return at;
}

void conn_parse_held(struct conn *conn)
{
	conn_group_read_clock(conn->group);
	size_t used = parse(conn, conn->in.data, conn->in.len, &conn->in);
	if (conn->state != CONN_OPEN || used >= conn->in.len)
		buf_free(&conn->in);
	else
		buf_consume(&conn->in, used);
	count_received(conn);
}

/* A large frame is read into the connection's own buffer. */
static bool reads_directly(const struct conn *conn)
{
	return conn->frame_bytes > SMALL_FRAME_BYTES || conn->in.len > SMALL_FRAME_BYTES;
}

static size_t room_end(const struct conn *conn)
{
	return conn->in.cap < conn->frame_bytes ? conn->in.cap : conn->frame_bytes;
}

void conn_alloc_cb(uint8_t **ret_base, size_t *ret_len, void *arg)
{
	struct conn *conn = arg;
	struct conn_group *group = conn->group;
	conn->direct = false;
	conn->prefix_bytes = 0;
	if (conn->state == CONN_OPEN && reads_directly(conn)) {
		/* make_room was there before; up to the frame's end, which so becomes the request's without a copy. */
		conn->direct = true;
		*ret_base = conn->in.data + conn->in.len;
		*ret_len = room_end(conn) - conn->in.len;
		return;
	}
	if (conn->state == CONN_OPEN && conn->in.len > 0) {
		memcpy(group->read_buffer, conn->in.data, conn->in.len);
		conn->prefix_bytes = conn->in.len;
	}
	*ret_base = group->read_buffer + conn->prefix_bytes;
	*ret_len = READ_BUFFER_BYTES - conn->prefix_bytes;
}

static void received(struct conn *conn, size_t count)
{
	struct conn_group *group = conn->group;
	if (conn->direct) {
		conn->in.len += count;
		if (conn->in.len >= conn->frame_bytes)
			conn_parse_held(conn);
		return;
	}
	size_t len = conn->prefix_bytes + count;
	size_t used = parse(conn, group->read_buffer, len, NULL);
	conn->in.len = 0;
	if (conn->state != CONN_OPEN || used == len)
		buf_free(&conn->in);
	else if (buf_append(&conn->in, group->read_buffer + used, len - used) != 0)
		conn_abort(conn, "no memory for its request");
	count_received(conn);
}

void conn_read_cb(ssize_t count, void *arg)
{
	struct conn *conn = arg;
	if (conn->state == CONN_CLOSED)
		return;
	if (count < 0) {
		conn_abort(conn, count == -ENOBUFS ? "no memory for its request" : NULL);
		return;
	}
	conn->received_ns = conn_group_read_clock(conn->group);
	conn->active_ns = conn->received_ns;
	conn->stalled_ns = 0;
	if (count == 0) {
		conn->eof = true;
	} else if (conn->state == CONN_OPEN) {
		conn->group->bytes_in += (uint64_t)count;
		conn->received_bytes += (uint64_t)count;
		received(conn, (size_t)count);
	} else {
		conn->drained_bytes += (uint64_t)count;
	}
	conn_mark(conn);
	conn_update_reading(conn);
}

static void set_starved(struct conn *conn, bool starved)
{
	if (starved == conn->starved)
		return;
	conn->starved = starved;
	if (starved) {
		conn->starved_ns = clock_now_ns();
		conn->group->starved_count++;
	} else {
		conn->group->starved_count--;
	}
}

/* Room for what is read next. False: all connections together are at their bound, and this one has to wait. */
static bool make_room(struct conn *conn)
{
	struct conn_group *group = conn->group;
	if (!reads_directly(conn) || conn->in.len < room_end(conn))
		return true;
	size_t cap = frame_capacity(conn->in.len, conn->frame_bytes);
	uint64_t total_bytes = group->inflight_bytes + group->receive_bytes - conn->receive_bytes + cap;
	if (cap > SMALL_FRAME_BYTES && total_bytes > group->limits.max_inflight_bytes_total && group->granted != conn)
		return false;
	if (buf_set_capacity(&conn->in, cap) != 0) {
		conn_abort(conn, "no memory for its request");
		return true;
	}
	count_received(conn);
	return true;
}

static bool wants_to_read(struct conn *conn)
{
	bool starved = false, wanted = !conn->eof;
	if (conn->state == CONN_OPEN && wanted) {
		wanted = !conn->held_back && conn_has_room(conn, 0);
		starved = wanted && !make_room(conn);
	} else if (wanted) {
		wanted = conn->drained_bytes < conn->group->limits.drain_bytes;
	}
	set_starved(conn, starved);
	return wanted && !starved && conn->state != CONN_CLOSED;
}

void conn_update_reading(struct conn *conn)
{
	if (conn->state == CONN_CLOSED)
		return;
	bool wanted = wants_to_read(conn);
	if (wanted == conn->reading || conn->state == CONN_CLOSED)
		return;
	conn->reading = wanted;
	if (!wanted) {
		conn->transport->ops->read_stop(conn->transport);
	} else if (conn->transport->ops->read_start(conn->transport) != 0) {
		conn_abort(conn, NULL);
	}
}
