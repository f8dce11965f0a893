#include <stdlib.h>

#include "clock.h"
#include "conn_impl.h"

struct conn_group *conn_group_new(const struct conn_limits *limits, const struct conn_events *events, void *arg)
{
	struct conn_group *group = calloc(1, sizeof(*group));
	if (group == NULL)
		return NULL;
	group->limits = *limits;
	group->events = events;
	group->arg = arg;
	group->tick_ns = conn_group_read_clock(group);
	return group;
}

void conn_group_set_limits(struct conn_group *group, const struct conn_limits *limits)
{
	group->limits = *limits;
	/* Those that were held back may have room now. */
	for (struct conn *conn = group->all; conn != NULL; conn = conn->next)
		conn_mark(conn);
}

void conn_group_free(struct conn_group *group)
{
	if (group == NULL)
		return;
	conn_group_service(group); /* what is left in the work list is closed, and only referenced by it */
	conn_free_spare_chunks(group);
	blocks_free(&group->blocks);
	free(group);
}

uint64_t conn_group_now_ns(const struct conn_group *group)
{
	return group->now_ns;
}

uint64_t conn_group_read_clock(struct conn_group *group)
{
	return group->now_ns = clock_now_ns();
}

struct blocks *conn_group_blocks(struct conn_group *group)
{
	return &group->blocks;
}

bool conn_group_is_full(const struct conn_group *group)
{
	return conn_group_full(group);
}

void conn_group_stats(const struct conn_group *group, struct conn_group_stats *ret_stats)
{
	*ret_stats = (struct conn_group_stats){
		.connections = group->connections,
		.inflight_bytes = group->inflight_bytes,
		.receive_bytes = group->receive_bytes,
		.bytes_in = group->bytes_in,
		.bytes_out = group->bytes_out,
		.protocol_errors = group->protocol_errors,
		.timeouts = group->timeouts,
	};
}

static const char in_the_way[] = "max_inflight_bytes_total is reached, and it did not send the rest of a request";

/* All are at their bound, perhaps because of frames that nobody finishes. So one of those who wait for room may go
 * over it, until its frame is whole. */
static void choose_granted(struct conn_group *group)
{
	if (group->starved_count == 0 || group->granted != NULL)
		return;
	for (struct conn *conn = group->all; conn != NULL; conn = conn->next) {
		if (conn->starved && (group->granted == NULL || conn->starved_ns < group->granted->starved_ns))
			group->granted = conn;
	}
	if (group->granted != NULL) {
		group->granted_until_ns = clock_now_ns() + GRANT_NS;
		group->granted_bytes = group->granted->received_bytes;
		conn_mark(group->granted);
	}
}

/* Who was let through and does not send keeps the others from theirs. Who does not, as the server does not read from
 * it now (its own requests before that one are in hand), only gives the turn away. */
static void check_granted(struct conn_group *group, uint64_t now_ns)
{
	struct conn *conn = group->granted;
	if (conn == NULL || now_ns < group->granted_until_ns)
		return;
	if (!conn->reading) {
		group->granted = NULL;
		return;
	}
	if (group->starved_count == 0 || conn->received_bytes >= group->granted_bytes + GRANT_BYTES_MIN) {
		group->granted_until_ns = now_ns + GRANT_NS;
		group->granted_bytes = conn->received_bytes;
		return;
	}
	group->timeouts++;
	conn_abort(conn, in_the_way);
}

static void feed_starved(struct conn_group *group)
{
	if (group->starved_count == 0)
		return;
	choose_granted(group);
	for (struct conn *conn = group->all; conn != NULL; conn = conn->next) {
		if (conn->starved)
			conn_mark(conn);
	}
}

bool conn_group_service(struct conn_group *group)
{
	feed_starved(group);
	/* Each connection of the list as it is now once; who is marked meanwhile has the next turn. */
	struct conn *conn = group->work_head;
	group->work_head = group->work_tail = NULL;
	while (conn != NULL) {
		struct conn *next = conn->work_next;
		conn->in_work = false;
		conn_service(conn);
		conn_unref(conn);
		conn = next;
	}
	return group->work_head != NULL;
}

static bool write_is_stuck(struct conn *conn, uint64_t now_ns)
{
	uint64_t timeout_ns = conn->group->limits.write_timeout_ns;
	if (conn->writing == NULL || timeout_ns == 0)
		return false;
	size_t unsent_bytes = conn->transport->ops->unsent_bytes(conn->transport);
	if (unsent_bytes != conn->unsent_bytes) {
		conn->unsent_bytes = unsent_bytes;
		conn->progress_ns = now_ns;
	}
	return now_ns > conn->progress_ns + timeout_ns;
}

/* Time in which the rest of a frame could have come, and nothing did. */
static void count_stalled(struct conn *conn, uint64_t now_ns)
{
	uint64_t last_ns = conn->group->tick_ns;
	if (conn->state == CONN_OPEN && conn->reading && conn->in.len > 0 && conn->received_ns < last_ns)
		conn->stalled_ns += now_ns - last_ns;
}

/* Without a write_timeout a half frame may lie for as long as a connection may be idle. */
static bool frame_is_stuck(const struct conn *conn)
{
	const struct conn_limits *limits = &conn->group->limits;
	uint64_t timeout_ns = limits->write_timeout_ns != 0 ? limits->write_timeout_ns : limits->idle_timeout_ns;
	return conn->state == CONN_OPEN && conn->reading && conn->in.len > 0 && timeout_ns != 0 &&
	       conn->stalled_ns > timeout_ns;
}

/* Others wait for the room that a half frame takes whose rest does not come. */
static bool frame_is_in_the_way(const struct conn *conn)
{
	return conn->state == CONN_OPEN && conn->reading && conn->receive_bytes > 0 && conn->group->starved_count > 0 &&
	       conn->stalled_ns > GRANT_NS;
}

static bool is_idle(const struct conn *conn, uint64_t now_ns)
{
	uint64_t timeout_ns = conn->group->limits.idle_timeout_ns;
	return conn->state == CONN_OPEN && conn->requests == 0 && conn_output_empty(conn) && !conn->held_back &&
	       conn->in.len == 0 && timeout_ns != 0 && now_ns > conn->active_ns + timeout_ns;
}

/* Who does not say who they are take a place from those who do. */
static bool is_strange(const struct conn *conn, uint64_t now_ns)
{
	uint64_t timeout_ns = conn->group->limits.welcome_timeout_ns;
	return conn->state == CONN_OPEN && !conn->welcome && timeout_ns != 0 && now_ns > conn->born_ns + timeout_ns;
}

/* While the server stops: the peer does not end its side (it may be a client that looks at its idle connection only
 * when it needs it), but nothing comes that could be met by a reset. */
static bool is_quiet(const struct conn *conn, uint64_t now_ns)
{
	uint64_t since_ns = conn->active_ns > conn->group->grace_ns ? conn->active_ns : conn->group->grace_ns;
	return conn->group->stopping && now_ns > since_ns + QUIET_NS;
}

static void tick_conn(struct conn *conn, uint64_t now_ns)
{
	struct conn_group *group = conn->group;
	if (conn->state == CONN_CLOSED)
		return;
	count_stalled(conn, now_ns);
	if (write_is_stuck(conn, now_ns)) {
		group->timeouts++;
		conn_abort(conn, "it did not take its answers within write_timeout");
	} else if (frame_is_stuck(conn)) {
		group->timeouts++;
		conn_abort(conn, "it did not send the rest of a request within write_timeout (or idle_timeout)");
	} else if (frame_is_in_the_way(conn)) {
		group->timeouts++;
		conn_abort(conn, in_the_way);
	} else if (is_strange(conn, now_ns)) {
		group->timeouts++;
		conn_abort(conn, "it did not say hello within hello_timeout");
	} else if (is_idle(conn, now_ns)) {
		group->timeouts++;
		conn_end_input(conn);
	} else if (conn->state == CONN_SHUT && (now_ns >= conn->drain_deadline_ns || is_quiet(conn, now_ns))) {
		conn_abort(conn, NULL);
	} else if (group->stopping && now_ns >= group->deadline_ns) {
		conn_abort(conn, "it did not take its last answers within shutdown_timeout");
	} else if (group->stopping) {
		conn_mark(conn);
	}
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* This process has stood still (SIGSTOP, a suspended machine), and no peer could do anything about it meanwhile: that
 * time counts for nobody. */
static void forget_standstill(struct conn_group *group, uint64_t now_ns)
{
	uint64_t lost_ns = now_ns - group->tick_ns;
	if (lost_ns < STANDSTILL_NS)
		return;
	for (struct conn *conn = group->all; conn != NULL; conn = conn->next) {
		conn->born_ns = min_u64(conn->born_ns + lost_ns, now_ns);
		conn->progress_ns = min_u64(conn->progress_ns + lost_ns, now_ns);
		conn->active_ns = min_u64(conn->active_ns + lost_ns, now_ns);
		conn->received_ns = min_u64(conn->received_ns + lost_ns, now_ns);
	}
	group->granted_until_ns += lost_ns;
	group->tick_ns = now_ns;
}

void conn_group_tick(struct conn_group *group, uint64_t now_ns)
{
	forget_standstill(group, now_ns);
	for (struct conn *conn = group->all, *next; conn != NULL; conn = next) {
		next = conn->next;
		tick_conn(conn, now_ns);
	}
	group->tick_ns = now_ns;
	check_granted(group, now_ns);
}

void conn_group_stop(struct conn_group *group, uint64_t grace_ns, uint64_t deadline_ns)
{
	group->stopping = true;
	group->grace_ns = grace_ns;
	group->deadline_ns = deadline_ns;
	for (struct conn *conn = group->all; conn != NULL; conn = conn->next)
		conn_mark(conn);
}

void conn_group_abort(struct conn_group *group)
{
	for (struct conn *conn = group->all, *next; conn != NULL; conn = next) {
		next = conn->next;
		conn_abort(conn, NULL);
	}
}

void conn_group_each(struct conn_group *group, void (*cb)(struct conn *conn, void *arg), void *arg)
{
	for (struct conn *conn = group->all, *next; conn != NULL; conn = next) {
		next = conn->next;
		if (conn->state != CONN_CLOSED)
			cb(conn, arg);
	}
}
