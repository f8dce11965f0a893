#include "traffic.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"

#define POOL_BYTES (UINT64_C(1) << 20)
#define ANSWER_OVERHEAD_BYTES 4096
#define IN_BYTES_MIN (UINT64_C(64) << 10)
#define EVENTS_MAX 256
#define ERRORS_SHOWN 5
/* Without any answer for so long, the server is taken for dead. */
#define SILENCE_NS (30 * NS_PER_SECOND)
#define GREETING_NS (10 * NS_PER_SECOND)

/* A place for one request in flight. */
struct slot {
	uint64_t sent_ns;
	uint64_t order; /* the how manieth of its connection */
	uint64_t wanted_id;
	uint32_t stream;
	bool busy;
};

/* What the latest request of this connection to one stream was given: later ones must get more. */
struct given {
	uint64_t order, first, end;
};

struct conn {
	int fd;
	bool wants_write;
	uint8_t *in, *out;
	size_t in_len, out_from, out_to;
	uint64_t sent, turn; /* requests of all phases; turn picks the stream and where an iter begins */
	size_t oldest;	     /* slot whose answer is next, where answers come in order */
	struct slot *slots;
	struct given *given;
};

/* The ids of a stream that can be read. */
struct extent {
	uint64_t first, end;
};

struct traffic {
	const struct load_options *options;
	const struct target *target;
	int epoll_fd;
	struct conn *conns;
	size_t in_cap, out_cap;
	uint8_t *pool; /* random bytes, POOL_BYTES and an entry more */
	uint64_t random;
	struct template *templates; /* of the phase's operation, a stream each */
	struct extent *extents;
	struct histogram latency_ns;
	/* of the phase that runs */
	struct phase phase;
	struct phase_result result;
	uint64_t requests, inflight, begin_ns, end_ns, last_answer_ns, errors_shown;
	bool over;
};

uint64_t target_entries(const struct target *target, const struct load_options *options, enum load_op op)
{
	switch (op) {
	case LOAD_PREFILL:
		return target->prefill_batch;
	case LOAD_GET:
		return 1;
	default:
		return options->batch_count;
	}
}

/* xorshift64*: quick, and nothing that compresses. */
static uint64_t random_next(struct traffic *traffic)
{
	uint64_t x = traffic->random;
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	traffic->random = x;
	return x * UINT64_C(0x2545f4914f6cdd1d);
}

/* ---- requests -----------------------------------------------------------------------------------------------------
 */

static uint64_t choose_id(struct traffic *traffic, struct conn *conn, uint32_t stream)
{
	const struct extent *extent = &traffic->extents[stream];
	uint64_t count = extent->end - extent->first, batch = traffic->options->batch_count;
	if (traffic->phase.op == LOAD_PREFILL) /* Redis: the id to give */
		return traffic->requests / traffic->options->streams;
	if (traffic->phase.op == LOAD_ITER)
		return extent->first + conn->turn / traffic->options->streams % (count / batch) * batch;
	return extent->first + random_next(traffic) % count;
}

static void fill_request(
	struct traffic *traffic, const struct template *template, uint8_t *frame, uint64_t id, uint32_t number)
{
	memcpy(frame, template->frame.data, template->frame.len);
	if (template->number_at != SIZE_MAX)
		traffic->target->put_number(frame + template->number_at, number);
	for (size_t i = 0; i < template->id_count; i++)
		traffic->target->put_id(frame + template->id_at[i], id);
	uint8_t *at = frame + template->entry_at;
	for (size_t i = 0; i < template->entry_count; i++, at += template->entry_stride)
		memcpy(at, traffic->pool + random_next(traffic) % POOL_BYTES, traffic->options->payload_bytes);
}

static void send_request(struct traffic *traffic, struct conn *conn, size_t index, uint64_t now_ns)
{
	struct slot *slot = &conn->slots[index];
	uint32_t stream = (uint32_t)(conn->turn % traffic->options->streams);
	const struct template *template = &traffic->templates[stream];
	if (traffic->out_cap - conn->out_to < template->frame.len) {
		/* What is in flight fits, so what is not sent yet does. */
		memmove(conn->out, conn->out + conn->out_from, conn->out_to - conn->out_from);
		conn->out_to -= conn->out_from;
		conn->out_from = 0;
	}
	*slot = (struct slot){.sent_ns = now_ns, .order = ++conn->sent, .stream = stream, .busy = true};
	slot->wanted_id = template->id_count > 0 ? choose_id(traffic, conn, stream) : 0;
	fill_request(traffic, template, conn->out + conn->out_to, slot->wanted_id, (uint32_t)index);
	conn->out_to += template->frame.len;
	conn->turn++;
	traffic->requests++;
	traffic->inflight++;
}

static int set_events(struct traffic *traffic, struct conn *conn, int operation)
{
	struct epoll_event event = {
		.events = EPOLLIN | (conn->wants_write ? (uint32_t)EPOLLOUT : 0),
		.data.ptr = conn,
	};
	return epoll_ctl(traffic->epoll_fd, operation, conn->fd, &event);
}

static int lost(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	return -1;
}

static int flush(struct traffic *traffic, struct conn *conn)
{
	bool wants_write = false;
	while (conn->out_from < conn->out_to) {
		ssize_t count = send(conn->fd, conn->out + conn->out_from, conn->out_to - conn->out_from, MSG_NOSIGNAL);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && errno == EAGAIN) {
			wants_write = true;
			break;
		}
		if (count < 0)
			return lost("send");
		conn->out_from += (size_t)count;
	}
	if (conn->out_from == conn->out_to)
		conn->out_from = conn->out_to = 0;
	if (wants_write == conn->wants_write)
		return 0;
	conn->wants_write = wants_write;
	return set_events(traffic, conn, EPOLL_CTL_MOD) == 0 ? 0 : lost("epoll_ctl");
}

/* ---- answers ------------------------------------------------------------------------------------------------------
 */

static void complain(struct traffic *traffic, const char *what)
{
	traffic->result.errors++;
	if (traffic->errors_shown++ < ERRORS_SHOWN)
		fprintf(stderr, "load: %s\n", what);
}

static void check_given(
	struct traffic *traffic, struct conn *conn, const struct slot *slot, const struct answer *answer)
{
	struct given *given = &conn->given[slot->stream];
	uint64_t entries = target_entries(traffic->target, traffic->options, traffic->phase.op);
	char text[160];
	bool later = slot->order > given->order;
	bool right = given->order == 0 || (later ? answer->first >= given->end : answer->end <= given->first);
	if (!right || answer->end - answer->first != entries) {
		snprintf(text, sizeof(text),
			"ids %" PRIu64 " to %" PRIu64 " were given %s %" PRIu64 " to %" PRIu64 ", for %" PRIu64
			" entries",
			answer->first, answer->end, later ? "after" : "before", given->first, given->end, entries);
		complain(traffic, text);
	}
	if (later)
		*given = (struct given){slot->order, answer->first, answer->end};
	struct extent *extent = &traffic->extents[slot->stream];
	if (traffic->phase.op != LOAD_PREFILL)
		return;
	/* What can be read afterwards. Redis has the ids that were sent. */
	uint64_t first = traffic->target->numbered_answers ? answer->first : slot->wanted_id;
	if (extent->end == 0 || first < extent->first)
		extent->first = first;
	if (first + entries > extent->end)
		extent->end = first + entries;
}

static uint64_t check_read(struct traffic *traffic, const struct slot *slot, const struct answer *answer)
{
	uint64_t entries = answer->end - answer->first, most = traffic->options->batch_count;
	bool right = entries > 0 && entries <= most;
	if (traffic->phase.op == LOAD_ITER && traffic->target->numbered_answers)
		right = right && answer->first == slot->wanted_id;
	if (!right) {
		char text[160];
		snprintf(text, sizeof(text),
			"asked for %" PRIu64 " entries from %" PRIu64 ", got %" PRIu64 " from %" PRIu64, most,
			slot->wanted_id, entries, answer->first);
		complain(traffic, text);
	}
	return entries;
}

static void take_answer(struct traffic *traffic, struct conn *conn, const struct answer *answer, uint64_t now_ns)
{
	size_t index = traffic->target->numbered_answers ? answer->number : conn->oldest;
	if (index >= traffic->options->pipeline || !conn->slots[index].busy) {
		complain(traffic, "an answer to what was not asked");
		return;
	}
	struct slot *slot = &conn->slots[index];
	uint64_t entries = 0;
	slot->busy = false;
	conn->oldest = (conn->oldest + 1) % traffic->options->pipeline;
	traffic->inflight--;
	if (answer->failed) {
		complain(traffic, answer->error);
	} else if (traffic->phase.op == LOAD_APPEND || traffic->phase.op == LOAD_PREFILL) {
		check_given(traffic, conn, slot, answer);
		entries = answer->end - answer->first;
	} else {
		entries = check_read(traffic, slot, answer);
	}
	if (now_ns <= traffic->end_ns) {
		traffic->result.answers++;
		traffic->result.entries += entries;
		traffic->result.bytes += entries * traffic->options->payload_bytes;
		histogram_add(&traffic->latency_ns, now_ns - slot->sent_ns);
		traffic->last_answer_ns = now_ns;
	} else {
		traffic->over = true;
	}
	if (traffic->requests >= traffic->phase.request_count)
		traffic->over = true;
	if (!traffic->over)
		send_request(traffic, conn, index, now_ns);
}

static int take_bytes(struct traffic *traffic, struct conn *conn, uint64_t now_ns)
{
	size_t at = 0;
	while (at < conn->in_len) {
		struct answer answer;
		enum parse_status status = traffic->target->parse(
			conn->in + at, conn->in_len - at, traffic->phase.op, false, traffic->options, &answer);
		if (status == PARSE_MALFORMED) {
			fprintf(stderr, "load: a malformed answer: %s\n", answer.error);
			return -1;
		}
		if (status == PARSE_MORE)
			break;
		at += answer.used_bytes;
		take_answer(traffic, conn, &answer, now_ns);
	}
	conn->in_len -= at;
	memmove(conn->in, conn->in + at, conn->in_len);
	if (conn->in_len == traffic->in_cap) {
		fprintf(stderr, "load: an answer of over %zu bytes\n", traffic->in_cap);
		return -1;
	}
	return 0;
}

static int receive(struct traffic *traffic, struct conn *conn)
{
	size_t room = traffic->in_cap - conn->in_len;
	ssize_t count = recv(conn->fd, conn->in + conn->in_len, room, 0);
	if (count < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (count < 0)
		return lost("recv");
	if (count == 0) {
		fprintf(stderr, "load: the server closed a connection\n");
		return -1;
	}
	conn->in_len += (size_t)count;
	return take_bytes(traffic, conn, clock_now_ns());
}

/* ---- phases -------------------------------------------------------------------------------------------------------
 */

static void free_templates(struct traffic *traffic)
{
	if (traffic->templates != NULL)
		for (uint64_t i = 0; i < traffic->options->streams; i++)
			buf_free(&traffic->templates[i].frame);
	free(traffic->templates);
	traffic->templates = NULL;
}

static int make_templates(struct traffic *traffic, enum load_op op)
{
	free_templates(traffic);
	traffic->templates = calloc(traffic->options->streams, sizeof(*traffic->templates));
	for (uint64_t i = 0; traffic->templates != NULL && i < traffic->options->streams; i++)
		if (traffic->target->make(traffic->options, op, i, &traffic->templates[i]) != 0)
			return lost("no memory for the requests");
	return traffic->templates != NULL ? 0 : lost("no memory for the requests");
}

/* Wakes for every event, and for the end of the phase. */
static int turn(struct traffic *traffic)
{
	struct epoll_event events[EVENTS_MAX];
	int count = epoll_wait(traffic->epoll_fd, events, EVENTS_MAX, 100);
	if (count < 0 && errno != EINTR)
		return lost("epoll_wait");
	traffic->result.wakeups++;
	for (int i = 0; i < count; i++) {
		struct conn *conn = events[i].data.ptr;
		if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0 && receive(traffic, conn) != 0)
			return -1;
		if (flush(traffic, conn) != 0)
			return -1;
	}
	if (count > 0)
		return 0;
	uint64_t now_ns = clock_now_ns();
	if (now_ns > traffic->end_ns)
		traffic->over = true;
	if (now_ns > traffic->last_answer_ns + SILENCE_NS && now_ns > traffic->end_ns + SILENCE_NS) {
		fprintf(stderr, "load: %" PRIu64 " requests had no answer for 30 s\n", traffic->inflight);
		return -1;
	}
	return 0;
}

static int start_requests(struct traffic *traffic)
{
	size_t conn_count = traffic->phase.one_connection ? 1 : traffic->options->connections;
	for (size_t c = 0; c < conn_count; c++) {
		struct conn *conn = &traffic->conns[c];
		/* Connections begin at different streams; a prefill at the first, its count is one of whole rounds. */
		conn->turn = traffic->phase.one_connection ? 0 : c * 7919;
		conn->oldest = 0;
		for (size_t i = 0; i < traffic->options->pipeline && traffic->requests < traffic->phase.request_count;
			i++)
			send_request(traffic, conn, i, clock_now_ns());
		if (flush(traffic, conn) != 0)
			return -1;
	}
	return 0;
}

int traffic_run(struct traffic *traffic, const struct phase *phase, struct phase_result *ret_result)
{
	if (make_templates(traffic, phase->op) != 0)
		return -1;
	traffic->phase = *phase;
	traffic->result = (struct phase_result){.latency_ns = &traffic->latency_ns};
	memset(&traffic->latency_ns, 0, sizeof(traffic->latency_ns));
	traffic->requests = traffic->inflight = 0;
	traffic->over = false;
	traffic->begin_ns = traffic->last_answer_ns = clock_now_ns();
	traffic->end_ns = UINT64_MAX - SILENCE_NS;
	if (phase->duration_ns < traffic->end_ns - traffic->begin_ns)
		traffic->end_ns = traffic->begin_ns + phase->duration_ns;
	if (start_requests(traffic) != 0)
		return -1;
	while (traffic->inflight > 0)
		if (turn(traffic) != 0)
			return -1;
	/* Ended by the count: until the last answer. By the time: all of it. */
	bool by_count = traffic->requests >= phase->request_count;
	traffic->result.elapsed_ns = (by_count ? traffic->last_answer_ns : traffic->end_ns) - traffic->begin_ns;
	traffic->result.sent = traffic->requests;
	*ret_result = traffic->result;
	return 0;
}

/* ---- connections --------------------------------------------------------------------------------------------------
 */

static int connect_unix(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(address.sun_path, path, strlen(path));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int connect_tcp(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
	int fd = -1, one = 1;
	if (getaddrinfo(host, port, &hints, &found) != 0) {
		errno = EADDRNOTAVAIL;
		return -1;
	}
	for (struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next) {
		fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
		if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) != 0) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(found);
	if (fd >= 0)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

/* Still blocking, with a bound. */
static int greet(struct traffic *traffic, struct conn *conn)
{
	struct timeval timeout = {.tv_sec = GREETING_NS / NS_PER_SECOND};
	struct buf hello = {0};
	struct answer answer;
	enum parse_status status = PARSE_MORE;
	if (traffic->target->greet == NULL)
		return 0;
	setsockopt(conn->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	if (traffic->target->greet(&hello) != 0)
		return lost("no memory for the greeting");
	ssize_t count = send(conn->fd, hello.data, hello.len, MSG_NOSIGNAL);
	bool sent = count >= 0 && (size_t)count == hello.len;
	buf_free(&hello);
	while (sent && status == PARSE_MORE && conn->in_len < traffic->in_cap) {
		count = recv(conn->fd, conn->in + conn->in_len, traffic->in_cap - conn->in_len, 0);
		if (count <= 0)
			return lost("no answer to the greeting");
		conn->in_len += (size_t)count;
		status = traffic->target->parse(conn->in, conn->in_len, LOAD_APPEND, true, traffic->options, &answer);
	}
	if (status != PARSE_ANSWER || answer.failed) {
		fprintf(stderr, "load: the greeting was not taken: %s\n",
			sent && status != PARSE_MORE ? answer.error : "?");
		return -1;
	}
	conn->in_len = 0;
	return 0;
}

static int open_conn(struct traffic *traffic, struct conn *conn)
{
	const struct load_options *options = traffic->options;
	conn->in = malloc(traffic->in_cap);
	conn->out = malloc(traffic->out_cap);
	conn->slots = calloc(options->pipeline, sizeof(*conn->slots));
	conn->given = calloc(options->streams, sizeof(*conn->given));
	if (conn->in == NULL || conn->out == NULL || conn->slots == NULL || conn->given == NULL)
		return lost("no memory for the connections");
	conn->fd = options->unix_path != NULL ? connect_unix(options->unix_path)
					      : connect_tcp(options->host, options->port);
	if (conn->fd < 0)
		return lost(options->unix_path != NULL ? options->unix_path : options->host);
	if (greet(traffic, conn) != 0)
		return -1;
	/* recv and send with MSG_DONTWAIT would do, but for the flag at every call. */
	int nonblocking = fcntl(conn->fd, F_GETFL);
	if (nonblocking < 0 || fcntl(conn->fd, F_SETFL, nonblocking | O_NONBLOCK) != 0)
		return lost("fcntl");
	return set_events(traffic, conn, EPOLL_CTL_ADD) == 0 ? 0 : lost("epoll_ctl");
}

/* The longest request there will be, for the buffers. */
static int size_buffers(struct traffic *traffic)
{
	const struct load_options *options = traffic->options;
	uint64_t prefill_bytes = traffic->target->prefill_batch * (options->payload_bytes + 5);
	uint64_t batch_bytes = options->batch_count * (options->payload_bytes + 5);
	uint64_t request_bytes = 512;
	if (options->mode == MODE_APPEND)
		request_bytes += batch_bytes;
	else
		request_bytes += prefill_bytes;
	traffic->out_cap = request_bytes * options->pipeline;
	/* An XRANGE has about 40 bytes around each payload. */
	traffic->in_cap = ANSWER_OVERHEAD_BYTES + options->batch_count * (options->payload_bytes + 64);
	if (traffic->in_cap < IN_BYTES_MIN)
		traffic->in_cap = IN_BYTES_MIN;
	traffic->pool = malloc(POOL_BYTES + options->payload_bytes + sizeof(uint64_t));
	if (traffic->pool == NULL)
		return lost("no memory for the payloads");
	for (uint64_t at = 0; at < POOL_BYTES + options->payload_bytes; at += sizeof(uint64_t)) {
		uint64_t value = random_next(traffic);
		memcpy(traffic->pool + at, &value, sizeof(value));
	}
	return 0;
}

struct traffic *traffic_new(const struct load_options *options)
{
	struct traffic *traffic = calloc(1, sizeof(*traffic));
	if (traffic == NULL) {
		lost("no memory");
		return NULL;
	}
	traffic->options = options;
	traffic->target = options->redis ? &target_redis : &target_ironwald;
	traffic->random = clock_now_ns() | 1;
	traffic->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	traffic->extents = calloc(options->streams, sizeof(*traffic->extents));
	traffic->conns = calloc(options->connections, sizeof(*traffic->conns));
	for (uint64_t i = 0; traffic->conns != NULL && i < options->connections; i++)
		traffic->conns[i].fd = -1;
	if (traffic->epoll_fd < 0 || traffic->extents == NULL || traffic->conns == NULL) {
		lost("no memory");
		traffic_free(traffic);
		return NULL;
	}
	int result = size_buffers(traffic);
	for (uint64_t i = 0; result == 0 && i < options->connections; i++)
		result = open_conn(traffic, &traffic->conns[i]);
	if (result != 0) {
		traffic_free(traffic);
		return NULL;
	}
	return traffic;
}

void traffic_free(struct traffic *traffic)
{
	if (traffic == NULL)
		return;
	free_templates(traffic);
	for (uint64_t i = 0; traffic->conns != NULL && i < traffic->options->connections; i++) {
		struct conn *conn = &traffic->conns[i];
		if (conn->fd >= 0)
			close(conn->fd);
		free(conn->in);
		free(conn->out);
		free(conn->slots);
		free(conn->given);
	}
	if (traffic->epoll_fd >= 0)
		close(traffic->epoll_fd);
	free(traffic->conns);
	free(traffic->extents);
	free(traffic->pool);
	free(traffic);
}
