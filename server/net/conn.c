#include "conn.h"

#include <stdlib.h>

#include "clock.h"
#include "conn_impl.h"
#include "log.h"
#include "message.h"

static void on_shutdown(int status, void *arg)
{
	struct conn *conn = arg;
	conn->shutdown_done = true;
	if (status != 0)
		conn_abort(conn, NULL);
	else
		conn_mark(conn);
}

static void on_closed(void *arg)
{
	struct conn *conn = arg;
	struct conn_group *group = conn->group;
	conn_drop_output(conn);
	conn_drop_input(conn);
	conn->transport = NULL;
	if (conn->prev != NULL)
		conn->prev->next = conn->next;
	else
		group->all = conn->next;
	if (conn->next != NULL)
		conn->next->prev = conn->prev;
	group->connections--;
	group->events->closed_cb(conn, group->arg);
	conn_unref(conn);
}

static const struct transport_events transport_events = {
	.alloc_cb = conn_alloc_cb,
	.read_cb = conn_read_cb,
	.written_cb = conn_written_cb,
	.shutdown_cb = on_shutdown,
	.closed_cb = on_closed,
};

static void close_unused_cb(void *arg)
{
	(void)arg;
}

static const struct transport_events unused_events = {.closed_cb = close_unused_cb};

struct conn *conn_new(struct conn_group *group, struct transport *transport, void *user)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	if (conn == NULL) {
		transport->events = &unused_events;
		transport->ops->close(transport);
		return NULL;
	}
	conn->group = group;
	conn->transport = transport;
	conn->user = user;
	conn->refs = 1; /* the transport's */
	conn->born_ns = conn->active_ns = conn->received_ns = conn->progress_ns = clock_now_ns();
	conn->next = group->all;
	if (group->all != NULL)
		group->all->prev = conn;
	group->all = conn;
	group->connections++;
	transport->events = &transport_events;
	transport->arg = conn;
	conn_update_reading(conn);
	return conn;
}

void conn_ref(struct conn *conn)
{
	conn->refs++;
}

void conn_unref(struct conn *conn)
{
	if (--conn->refs == 0)
		free(conn);
}

void *conn_user(const struct conn *conn)
{
	return conn->user;
}

const char *conn_peer(const struct conn *conn)
{
	return conn->transport != NULL ? conn->transport->peer.text : "closed connection";
}

const struct transport_peer *conn_peer_id(const struct conn *conn)
{
	return conn->transport != NULL ? &conn->transport->peer : NULL;
}

void conn_welcome(struct conn *conn)
{
	conn->welcome = true;
}

bool conn_dead(const struct conn *conn)
{
	return atomic_load_explicit(&conn->dead, memory_order_relaxed);
}

void conn_mark(struct conn *conn)
{
	struct conn_group *group = conn->group;
	if (conn->in_work || conn->state == CONN_CLOSED)
		return;
	conn->in_work = true;
	conn->work_next = NULL;
	if (group->work_tail != NULL)
		group->work_tail->work_next = conn;
	else
		group->work_head = conn;
	group->work_tail = conn;
	conn_ref(conn);
}

void conn_request_begin(struct conn *conn)
{
	conn->requests++;
	conn_ref(conn);
}

void conn_request_end(struct conn *conn)
{
	conn->requests--;
	conn->active_ns = conn->group->now_ns;
	conn_mark(conn);
	conn_unref(conn);
}

bool conn_has_room(const struct conn *conn, size_t waiting_bytes)
{
	if (conn->inflight_bytes == waiting_bytes)
		return true;
	return conn->inflight_bytes < conn->group->limits.max_inflight_bytes && !conn_group_full(conn->group);
}

void conn_charge(struct conn *conn, size_t bytes)
{
	conn->inflight_bytes += bytes;
	conn->group->inflight_bytes += bytes;
}

void conn_release(struct conn *conn, size_t bytes)
{
	conn->inflight_bytes -= bytes;
	conn->group->inflight_bytes -= bytes;
	conn_mark(conn);
}

void conn_end_input(struct conn *conn)
{
	if (conn->state != CONN_OPEN)
		return;
	conn->state = CONN_ENDING;
	conn->group->events->input_end_cb(conn, conn->group->arg);
	conn_mark(conn);
}

void conn_fail(struct conn *conn, uint32_t msgid, const struct error *err)
{
	if (conn->state != CONN_OPEN)
		return;
	struct mp_writer writer;
	mp_writer_init(&writer, &conn->last_answer);
	if (response_error(&writer, msgid, err) != 0) {
		conn_abort(conn, "no memory for its last answer");
		return;
	}
	conn->group->protocol_errors++;
	log_debug("net", "%s: ended: %s", conn_peer(conn), err->message);
	conn_end_input(conn);
}

void conn_abort(struct conn *conn, const char *why)
{
	struct conn_group *group = conn->group;
	if (conn->state == CONN_CLOSED)
		return;
	if (why != NULL)
		log_info("net", "%s: closed: %s", conn_peer(conn), why);
	bool open = conn->state == CONN_OPEN;
	conn->state = CONN_CLOSED;
	atomic_store_explicit(&conn->dead, true, memory_order_relaxed);
	if (conn->starved) {
		conn->starved = false;
		group->starved_count--;
	}
	if (group->granted == conn)
		group->granted = NULL;
	conn->transport->ops->close(conn->transport);
	if (open)
		group->events->input_end_cb(conn, group->arg);
}

/* Ending: the last answer, then the end of the sending side, once nothing else is owed. */
static void go_on_ending(struct conn *conn)
{
	if (conn->state == CONN_ENDING && conn->requests == 0 && conn->last_answer.len > 0) {
		conn_send(conn, &conn->last_answer);
		conn_flush(conn);
	}
	if (conn->state == CONN_ENDING && conn->requests == 0 && conn_output_empty(conn)) {
		struct conn_group *group = conn->group;
		conn->state = CONN_SHUT;
		conn->drain_deadline_ns = clock_now_ns() + group->limits.drain_timeout_ns;
		if (group->stopping)
			conn->drain_deadline_ns = group->deadline_ns;
		if (conn->transport->ops->shutdown(conn->transport) != 0)
			conn_abort(conn, NULL);
	}
	if (conn->state == CONN_SHUT && conn->shutdown_done &&
		(conn->eof || conn->drained_bytes >= conn->group->limits.drain_bytes))
		conn_abort(conn, NULL);
}

static bool owes_nothing(const struct conn *conn)
{
	return conn->requests == 0 && conn_output_empty(conn) && !conn->held_back;
}

void conn_service(struct conn *conn)
{
	struct conn_group *group = conn->group;
	conn_flush(conn);
	if (conn->state == CONN_OPEN && conn->held_back) {
		conn_parse_held(conn);
		conn_flush(conn);
	}
	if (conn->state == CONN_OPEN && conn->eof && !conn->held_back)
		conn_end_input(conn);
	if (conn->state == CONN_OPEN && group->stopping && owes_nothing(conn) && clock_now_ns() >= group->grace_ns)
		conn_end_input(conn);
	if (conn->state == CONN_ENDING)
		conn_drop_input(conn);
	go_on_ending(conn);
	conn_update_reading(conn);
}
