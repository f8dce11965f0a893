#include "traffic.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "content.h"
#include "exchange.h"

#define EVENTS_MAX 256
/* How often the end of a phase and a silent server are looked for when nothing happens. */
#define WAIT_MS 100

static uint64_t thread_cpu_ns(void)
{
	struct timespec used;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return (uint64_t)used.tv_sec * NS_PER_SECOND + (uint64_t)used.tv_nsec;
}

/* ---- phases ---- */

static int set_events(struct traffic *traffic, struct conn *conn, int operation)
{
	struct epoll_event event = {
		.events = EPOLLIN | (conn->waits ? (uint32_t)EPOLLOUT : 0),
		.data.ptr = conn,
	};
	return epoll_ctl(traffic->epoll_fd, operation, wire_fd(&conn->wire), &event);
}

static int flush(struct traffic *traffic, struct conn *conn, struct fault *fault)
{
	bool waits;
	if (wire_flush(&conn->wire, &waits, fault) != 0)
		return -1;
	if (waits == conn->waits)
		return 0;
	conn->waits = waits;
	if (set_events(traffic, conn, EPOLL_CTL_MOD) != 0)
		return fault_set(fault, FAULT_HERE, "epoll_ctl: %s", strerror(errno));
	return 0;
}

static int receive(struct traffic *traffic, struct conn *conn, struct fault *fault)
{
	int more;
	do {
		more = wire_receive(&conn->wire, fault);
		if (more < 0 || exchange_take(traffic, conn, fault) != 0)
			return -1;
	} while (more > 0);
	return 0;
}

static int look_at_clock(struct traffic *traffic, struct fault *fault)
{
	uint64_t now_ns = clock_now_ns(), timeout_ns = traffic->plan->timeout_ns;
	if (now_ns > traffic->phase.end_ns)
		traffic->over = traffic->over_by_time = true;
	if (timeout_ns == UINT64_MAX || now_ns - traffic->last_answer_ns <= timeout_ns)
		return 0;
	return fault_set(fault, FAULT_LOST, "%" PRIu64 " requests had no answer for %.3g s", traffic->inflight,
		(double)timeout_ns / 1e9);
}

/* Wakes for every event, and for the end of the phase. */
static int turn(struct traffic *traffic, struct fault *fault)
{
	struct epoll_event events[EVENTS_MAX];
	int count = epoll_wait(traffic->epoll_fd, events, EVENTS_MAX, WAIT_MS);
	if (count < 0 && errno != EINTR)
		return fault_set(fault, FAULT_HERE, "epoll_wait: %s", strerror(errno));
	traffic->result->wakeups++;
	int stop = atomic_load_explicit(traffic->stop, memory_order_relaxed);
	if (stop == STOP_NOW)
		return -1;
	if (stop == STOP_SENDING)
		traffic->over = true;
	for (int i = 0; i < count; i++) {
		struct conn *conn = events[i].data.ptr;
		if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0 && receive(traffic, conn, fault) != 0)
			return -1;
		if (flush(traffic, conn, fault) != 0)
			return -1;
	}
	return count > 0 ? 0 : look_at_clock(traffic, fault);
}

static int start_requests(struct traffic *traffic, struct fault *fault)
{
	const struct traffic *t = traffic;
	size_t conns_count = t->phase.prefill && t->conns_count > 1 ? 1 : t->conns_count;
	for (size_t c = 0; c < conns_count; c++) {
		struct conn *conn = &traffic->conns[c];
		conn->oldest = 0;
		/* A prefill begins at the first name: its count is one of whole rounds. */
		if (t->phase.prefill)
			conn->turn = 0;
		for (size_t i = 0; i < t->depth && exchange_may_send(t); i++)
			exchange_send(traffic, conn, i, clock_now_ns());
		if (flush(traffic, conn, fault) != 0)
			return -1;
	}
	return 0;
}

/* For phases that only read. */
static void find_readable(struct traffic *traffic)
{
	traffic->readable_count = 0;
	if (plan_appends(traffic->plan))
		return;
	for (uint64_t log = 0; log < traffic->requests->logs_count; log++)
		if (traffic->extents[log].end > 0)
			traffic->readable[traffic->readable_count++] = (uint32_t)log;
}

static int run(struct traffic *traffic, struct fault *fault)
{
	if (start_requests(traffic, fault) != 0)
		return -1;
	while (traffic->inflight > 0)
		if (turn(traffic, fault) != 0)
			return -1;
	return 0;
}

int traffic_run(
	struct traffic *traffic, const struct phase *phase, struct phase_result *ret_result, struct fault *fault)
{
	uint64_t cpu_ns = thread_cpu_ns(), wall_ns = clock_now_ns();
	traffic->phase = *phase;
	traffic->result = ret_result;
	traffic->sent = traffic->inflight = 0;
	traffic->over = traffic->over_by_time = false;
	traffic->last_answer_ns = phase->begin_ns;
	traffic->depth = phase->prefill ? plan_slots_count(traffic->plan) : traffic->plan->pipeline;
	find_readable(traffic);
	if (!phase->prefill && !plan_appends(traffic->plan) && traffic->readable_count == 0)
		return fault_set(fault, FAULT_HERE, "there is nothing to read");
	int result = run(traffic, fault);
	bool by_time = traffic->over_by_time && traffic->sent < phase->request_count;
	ret_result->ended_ns = by_time ? phase->end_ns : traffic->last_answer_ns;
	ret_result->sent = traffic->sent;
	ret_result->cpu_ns = thread_cpu_ns() - cpu_ns;
	ret_result->wall_ns = clock_now_ns() - wall_ns;
	return result;
}

struct extent *traffic_extents(struct traffic *traffic)
{
	return traffic->extents;
}

/* ---- connections ---- */

static int open_conn(struct traffic *traffic, struct conn *conn, uint32_t number, struct fault *fault)
{
	const struct bench_plan *plan = traffic->plan;
	uint64_t slots_count = plan_slots_count(plan);
	conn->slots = calloc(slots_count, sizeof(*conn->slots));
	if (plan->checks)
		conn->given = calloc(plan->names_count, sizeof(*conn->given));
	if (conn->slots == NULL || (plan->checks && conn->given == NULL))
		return fault_set(fault, FAULT_HERE, "out of memory for the connections");
	/* Connections begin at different names. */
	conn->turn = number * UINT64_C(7919);
	conn->serial = (uint64_t)number << CONTENT_COUNT_BITS;
	if (wire_open(&conn->wire, plan, traffic->target, plan_in_bytes(plan),
		    traffic->requests->frame_bytes_max * slots_count, NULL, fault) != 0)
		return -1;
	if (set_events(traffic, conn, EPOLL_CTL_ADD) != 0)
		return fault_set(fault, FAULT_HERE, "epoll_ctl: %s", strerror(errno));
	return 0;
}

static int allocate(struct traffic *traffic, struct fault *fault)
{
	traffic->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (traffic->epoll_fd < 0)
		return fault_set(fault, FAULT_HERE, "epoll_create: %s", strerror(errno));
	traffic->extents = calloc(traffic->requests->logs_count, sizeof(*traffic->extents));
	traffic->readable = calloc(traffic->requests->logs_count, sizeof(*traffic->readable));
	traffic->conns = calloc(traffic->conns_count, sizeof(*traffic->conns));
	if (traffic->extents == NULL || traffic->readable == NULL || traffic->conns == NULL)
		return fault_set(fault, FAULT_HERE, "out of memory for the connections");
	return 0;
}

struct traffic *traffic_new(const struct traffic_setup *setup, struct fault *fault)
{
	const struct bench_plan *plan = setup->plan;
	struct traffic *traffic = calloc(1, sizeof(*traffic));
	if (traffic == NULL) {
		fault_set(fault, FAULT_HERE, "out of memory");
		return NULL;
	}
	traffic->plan = plan;
	traffic->requests = setup->requests;
	traffic->target = setup->requests->target;
	traffic->acked = setup->acked;
	traffic->stop = setup->stop;
	traffic->filling = plan->seed ^ (uint64_t)setup->thread << 56;
	traffic->random = traffic->filling | 1;
	traffic->conns_count = (plan->connections_count - setup->thread - 1) / setup->threads_count + 1;
	for (int op = 0; op < BENCH_MIXED_OPS; op++)
		traffic->weights_sum += plan->weights[op];
	int result = allocate(traffic, fault);
	for (size_t i = 0; result == 0 && i < traffic->conns_count; i++)
		result = open_conn(
			traffic, &traffic->conns[i], setup->thread + (uint32_t)i * setup->threads_count, fault);
	if (result == 0)
		return traffic;
	traffic_free(traffic);
	return NULL;
}

void traffic_free(struct traffic *traffic)
{
	if (traffic == NULL)
		return;
	for (size_t i = 0; traffic->conns != NULL && i < traffic->conns_count; i++) {
		struct conn *conn = &traffic->conns[i];
		wire_close(&conn->wire);
		free(conn->slots);
		free(conn->given);
	}
	if (traffic->epoll_fd >= 0)
		close(traffic->epoll_fd);
	free(traffic->conns);
	free(traffic->extents);
	free(traffic->readable);
	free(traffic);
}
