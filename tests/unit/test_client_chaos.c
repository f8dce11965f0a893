/*
 * libironwal against a server that is faulty by a seed, and a model of what that server did: no call outlasts its
 * deadline, each request has one result, and what is said of a write's fate is true; in the end, what was unknown is
 * settled, and every entry that had an expected_id is there once or known to be refused.
 *
 * IRONWALD_CLIENT_SEEDS and IRONWALD_CLIENT_FIRST say how many seeds, and from which one on.
 */
#include <stdatomic.h>

#include "fake_server_chaos.h"

#define SEEDS 64
#define WORKERS 8
#define ROUNDS 3
#define OPS_MAX 1500
#define ENTRIES_MAX 3
#define LARGE_BYTES 60000
/* For a loaded machine: how much later than its deadline a call may return. */
#define SLACK_NS (15 * NS_PER_SECOND)

/* Streams 0 and 1 are written with an expected_id, 2 is not. */
static const char *const names[] = {"a", "b", "plain"};
#define PLAIN 2

struct op {
	unsigned stream, count;
	size_t len; /* of each entry; its number is the first 8 bytes */
	uint64_t number, expected;
	unsigned results;
	bool is_known_written, is_known_refused;
	bool has_id;
	uint64_t id;
	bool unknown; /* to be settled; of PLAIN: for ever */
};

/* What happened, over all seeds: a run in which something of it never did would prove little. */
static struct {
	atomic_uint well, not_sent, refused, written, unknown, found, lost;
} happened;

struct life {
	struct chaos chaos;
	uint64_t seed, random;
	struct op ops[OPS_MAX];
	unsigned op_count;
	unsigned checked; /* ops below belong to connections that are over */
	uint64_t numbers;
	uint64_t next[PLAIN]; /* what the client takes for the streams' ends */
	int attempts;	      /* connections */
	ironwal *c;
	ironwal_error *err;
	ironwal_iterator *it; /* of stream 0, over all connections */
	uint64_t it_next;
	int64_t timeout_ms;
};

#define HOLDS(cond)                                                                                                    \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "%s:%d: seed %llu: %s (%s)\n", __FILE__, __LINE__,                             \
				(unsigned long long)life->seed, #cond, ironwal_error_message(life->err));              \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* The call ends by its deadline. */
#define IN_TIME(call)                                                                                                  \
	do {                                                                                                           \
		uint64_t before_ns_ = clock_now_ns();                                                                  \
		call;                                                                                                  \
		HOLDS(clock_now_ns() - before_ns_ < (uint64_t)life->timeout_ms * NS_PER_MS + SLACK_NS);                \
	} while (0)

static unsigned roll(struct life *life, unsigned bound)
{
	return random_below(&life->random, bound);
}

/* ---- entries ---- */

static void make_entry(uint8_t *bytes, size_t len, uint64_t number)
{
	memset(bytes, (int)(number % 251), len);
	memcpy(bytes, &number, sizeof(number));
}

static bool is_entry(const uint8_t *bytes, size_t len)
{
	uint64_t number;
	if (len < sizeof(number))
		return false;
	memcpy(&number, bytes, sizeof(number));
	for (size_t i = sizeof(number); i < len; i++) {
		if (bytes[i] != number % 251)
			return false;
	}
	return true;
}

/* The entries of an op; the memory is the thread's. */
static const ironwal_bytes *entries_of(const struct op *op)
{
	static __thread uint8_t bytes[ENTRIES_MAX][LARGE_BYTES];
	static __thread ironwal_bytes entries[ENTRIES_MAX];
	for (unsigned i = 0; i < op->count; i++) {
		make_entry(bytes[i], op->len, op->number + i);
		entries[i] = (ironwal_bytes){bytes[i], op->len};
	}
	return entries;
}

static struct op *new_op(struct life *life)
{
	HOLDS(life->op_count < OPS_MAX);
	struct op *op = &life->ops[life->op_count++];
	op->stream = roll(life, 3);
	op->count = roll(life, 4) == 0 ? 1 + roll(life, ENTRIES_MAX) : 1;
	op->len = roll(life, 10) == 0 ? LARGE_BYTES - roll(life, 1000) : 8 + roll(life, 200);
	op->number = life->numbers;
	life->numbers += op->count;
	if (op->stream != PLAIN) {
		op->expected = life->next[op->stream];
		life->next[op->stream] += op->count;
	}
	return op;
}

static ironwal_append_options options_of(const struct op *op)
{
	ironwal_append_options options = IRONWAL_APPEND_OPTIONS_INIT;
	options.has_expected_id = op->stream != PLAIN;
	options.expected_id = op->expected;
	return options;
}

/* ---- what the client says of an op ---- */

static void ended_well(struct life *life, struct op *op, const ironwal_append_result *result)
{
	HOLDS(op->results++ == 0);
	HOLDS(result->end - result->first == op->count);
	HOLDS(op->stream == PLAIN || result->first == op->expected);
	op->is_known_written = op->has_id = true;
	op->id = result->first;
	happened.well++;
}

static void ended_badly(struct life *life, struct op *op, const ironwal_error *error)
{
	HOLDS(op->results++ == 0);
	HOLDS(ironwal_error_get_code(error) != IRONWAL_OK);
	switch (ironwal_error_fate(error)) {
	case IRONWAL_FATE_NOT_SENT:
		op->is_known_refused = true;
		happened.not_sent++;
		break;
	case IRONWAL_FATE_REFUSED:
		op->is_known_refused = true;
		happened.refused++;
		break;
	case IRONWAL_FATE_WRITTEN:
		op->is_known_written = true;
		happened.written++;
		break;
	case IRONWAL_FATE_UNKNOWN:
		op->unknown = true;
		happened.unknown++;
		HOLDS(!ironwal_error_is_retriable(error) || op->stream != PLAIN);
		break;
	default:
		HOLDS(ironwal_error_fate(error) == IRONWAL_FATE_UNKNOWN); /* appends have no other */
	}
}

/* ---- what the server knows of it, when the connection is over ---- */

static void check_with_model(struct life *life)
{
	const struct model *model = &life->chaos.model;
	unsigned *seen = calloc(life->numbers + 1, sizeof(*seen));
	HOLDS(seen != NULL);
	for (size_t i = 0; i < model->stream_count; i++) {
		for (uint64_t id = 0; id < model->streams[i].end; id++) {
			uint64_t number;
			HOLDS(is_entry(model->streams[i].entries[id].bytes, model->streams[i].entries[id].len));
			memcpy(&number, model->streams[i].entries[id].bytes, sizeof(number));
			HOLDS(number < life->numbers);
			seen[number]++;
		}
	}
	for (unsigned i = 0; i < life->op_count; i++) {
		struct op *op = &life->ops[i];
		const struct model_stream *s = NULL;
		HOLDS(op->results == 1);
		HOLDS(op->is_known_written + op->is_known_refused + op->unknown == 1);
		for (size_t j = 0; j < model->stream_count; j++) {
			if (strncmp(model->streams[j].name, names[op->stream], model->streams[j].name_len) == 0)
				s = &model->streams[j];
		}
		const ironwal_bytes *entries = entries_of(op);
		for (unsigned j = 0; j < op->count; j++) {
			unsigned times = seen[op->number + j];
			HOLDS(times <= 1 && times == seen[op->number]);
			HOLDS(!op->is_known_written || times == 1);
			HOLDS(!op->is_known_refused || times == 0);
			HOLDS(!op->has_id || model_is(s, op->id + j, entries[j].data, op->len));
		}
	}
	free(seen);
}

/* ---- connections ---- */

static void connect_to(struct life *life, bool honest)
{
	ironwal_options options = IRONWAL_OPTIONS_INIT;
	options.timeout_ms = 30000;
	options.max_in_flight_count = 1 + roll(life, 60);
	options.max_in_flight_bytes = roll(life, 3) == 0 ? 1000 : 64u << 20;
	chaos_be(&life->chaos, honest);
	life->attempts++;
	HOLDS(ironwal_connect(life->chaos.fake.address, &options, &life->c, life->err) == 0);
	life->timeout_ms = honest ? 30000 : 20 + roll(life, 100);
	ironwal_set_timeout_ms(life->c, life->timeout_ms);
	if (life->it != NULL)
		ironwal_iterator_rebind(life->it, life->c);
	else
		HOLDS(ironwal_iterator_open(life->c, names[0], 1, NULL, &life->it, life->err) == 0);
}

static void disconnect(struct life *life)
{
	ironwal_close(life->c);
	life->c = NULL;
	chaos_wait(&life->chaos, life->attempts);
	check_with_model(life);
}

/* ---- submitted ---- */

static void take(struct life *life, ironwal_result *result)
{
	struct op *op = ironwal_result_tag(result);
	const ironwal_error *error = ironwal_result_error(result);
	ironwal_append_result append;
	ironwal_entries *entries = ironwal_result_take_entries(result);
	for (size_t i = 0; entries != NULL && i < ironwal_entries_count(entries); i++) {
		const void *data;
		size_t len;
		HOLDS(ironwal_entries_get(entries, i, NULL, &data, &len) == 1 && is_entry(data, len));
	}
	ironwal_entries_free(entries);
	if (op == NULL)
		return; /* a read */
	if (error != NULL) {
		ended_badly(life, op, error);
	} else {
		HOLDS(ironwal_result_append(result, &append) == 1);
		ended_well(life, op, &append);
	}
}

/* One result at least, by an event loop or by waiting. */
static void take_some(struct life *life)
{
	ironwal_result *result;
	uint64_t before_ns = clock_now_ns();
	if (life->seed / 2 % 2 == 0) {
		int rc = 0;
		IN_TIME(rc = ironwal_wait_result(life->c, &result, life->err));
		if (rc > 0)
			take(life, result);
		return;
	}
	while (ironwal_next_result(life->c, &result) == 0) {
		unsigned wanted = ironwal_events(life->c), events = 0;
		int64_t wait_ms = ironwal_next_deadline_ms(life->c);
		struct pollfd p = {.fd = ironwal_fd(life->c)};
		if (ironwal_in_flight(life->c) == 0)
			return;
		p.events =
			(short)((wanted & IRONWAL_READABLE ? POLLIN : 0) | (wanted & IRONWAL_WRITABLE ? POLLOUT : 0));
		HOLDS(wait_ms >= 0);
		HOLDS(poll(&p, 1, (int)wait_ms) >= 0);
		events = (p.revents & ~POLLOUT ? IRONWAL_READABLE : 0) | (p.revents & POLLOUT ? IRONWAL_WRITABLE : 0);
		(void)ironwal_process(life->c, events, life->err);
		HOLDS(clock_now_ns() - before_ns < (uint64_t)life->timeout_ms * NS_PER_MS + SLACK_NS);
	}
	take(life, result);
}

static void submit_op(struct life *life)
{
	struct op *op = new_op(life);
	const ironwal_bytes *entries = entries_of(op);
	const ironwal_append_options options = options_of(op);
	uint32_t id;
	int rc;
	for (;;) {
		if (op->count == 1)
			rc = ironwal_submit_append(life->c, names[op->stream], strlen(names[op->stream]),
				entries[0].data, op->len, &options, &id, life->err);
		else
			rc = ironwal_submit_append_batch(life->c, names[op->stream], strlen(names[op->stream]), entries,
				op->count, &options, &id, life->err);
		if (rc == 0 || ironwal_error_get_code(life->err) != IRONWAL_ERR_AGAIN)
			break;
		HOLDS(ironwal_in_flight(life->c) > 0);
		take_some(life);
	}
	if (rc == 0) {
		ironwal_set_request_tag(life->c, id, op);
		return;
	}
	HOLDS(!ironwal_error_connection_usable(life->err));
	HOLDS(ironwal_error_fate(life->err) == IRONWAL_FATE_NOT_SENT);
	ended_badly(life, op, life->err);
}

/* ---- blocking ---- */

static void append_op(struct life *life)
{
	struct op *op = new_op(life);
	const ironwal_append_options options = options_of(op);
	ironwal_append_result result;
	int rc = 0;
	IN_TIME(rc = ironwal_append_batch(life->c, names[op->stream], strlen(names[op->stream]), entries_of(op),
			op->count, &options, &result, life->err));
	if (rc == 0)
		ended_well(life, op, &result);
	else
		ended_badly(life, op, life->err);
}

static void iterate(struct life *life, unsigned steps)
{
	while (steps-- > 0) {
		uint64_t id;
		const void *data;
		size_t len;
		int rc = 0;
		IN_TIME(rc = ironwal_iterator_next(life->it, &id, &data, &len, life->err));
		if (rc <= 0)
			return;
		HOLDS(id == life->it_next++ && is_entry(data, len));
	}
}

static void read_something(struct life *life)
{
	uint32_t id;
	ironwal_stream_info info;
	switch (roll(life, 4)) {
	case 0:
		IN_TIME((void)ironwal_ping(life->c, life->err));
		break;
	case 1:
		IN_TIME((void)ironwal_get_stream_info(life->c, names[1], 1, &info, life->err));
		break;
	case 2:
		iterate(life, 5);
		break;
	default:
		(void)ironwal_submit_read(life->c, names[roll(life, 2)], 1, NULL, &id, life->err);
	}
}

static void chaotic_connection(struct life *life)
{
	unsigned ops = 5 + roll(life, 60);
	connect_to(life, false);
	while (ops-- > 0 && ironwal_is_usable(life->c)) {
		unsigned what = roll(life, 20);
		if (what < 14)
			submit_op(life);
		else if (what < 16)
			append_op(life);
		else if (what < 18)
			read_something(life);
		else if (what < 19)
			take_some(life);
		else
			IN_TIME((void)ironwal_flush(life->c, life->err));
	}
	if (roll(life, 8) > 0) {
		while (ironwal_in_flight(life->c) > 0)
			take_some(life);
	} else {
		/* Closed with requests in flight: of these nothing is known. */
		for (unsigned i = 0; i < life->op_count; i++) {
			if (life->ops[i].results == 0) {
				life->ops[i].results = 1;
				life->ops[i].unknown = true;
			}
		}
	}
	disconnect(life);
}

/* ---- settling ---- */

/* The unknown one of a stream with the lowest expected_id; NULL: there is none. */
static struct op *first_unknown(struct life *life, unsigned stream)
{
	struct op *first = NULL;
	for (unsigned i = 0; i < life->op_count; i++) {
		struct op *op = &life->ops[i];
		if (op->stream == stream && op->unknown && (first == NULL || op->expected < first->expected))
			first = op;
	}
	return first;
}

/* False: it is as unknown as before. */
static bool settle_op(struct life *life, struct op *op)
{
	const ironwal_append_options options = options_of(op);
	ironwal_append_result result;
	ironwal_fate fate = IRONWAL_FATE_NOT_A_WRITE;
	int rc = 0;
	IN_TIME(rc = ironwal_settle_append(
			life->c, names[op->stream], 1, entries_of(op), op->count, &options, &fate, &result, life->err));
	if (rc != 0) {
		HOLDS(ironwal_error_fate(life->err) == IRONWAL_FATE_UNKNOWN);
		return false;
	}
	op->unknown = false;
	if (fate == IRONWAL_FATE_WRITTEN) {
		HOLDS(result.first == op->expected && result.end == op->expected + op->count);
		op->is_known_written = op->has_id = true;
		op->id = result.first;
		happened.found++;
	} else {
		HOLDS(fate == IRONWAL_FATE_REFUSED);
		op->is_known_refused = true;
		happened.lost++;
	}
	return true;
}

static uint64_t end_of(struct life *life, unsigned stream)
{
	ironwal_stream_info info;
	if (ironwal_get_stream_info(life->c, names[stream], 1, &info, life->err) == 0)
		return info.end;
	HOLDS(ironwal_error_get_code(life->err) == IRONWAL_ERR_STREAM_NOT_FOUND);
	return 0;
}

/* Over a connection that works: an id that the stream has not reached yet is reached, then all is known. */
static void settle_for_good(struct life *life)
{
	struct op *op;
	connect_to(life, true);
	for (unsigned stream = 0; stream < PLAIN; stream++) {
		while ((op = first_unknown(life, stream)) != NULL) {
			if (settle_op(life, op))
				continue;
			HOLDS(ironwal_error_get_code(life->err) == IRONWAL_ERR_CONFLICT);
			life->next[stream] = end_of(life, stream);
			HOLDS(life->next[stream] <= op->expected);
			struct op *filler = new_op(life);
			if (filler->stream != PLAIN)
				life->next[filler->stream] -= filler->count;
			filler->stream = stream;
			filler->expected = life->next[stream];
			ironwal_append_result result;
			const ironwal_append_options options = options_of(filler);
			HOLDS(ironwal_append_batch(life->c, names[stream], 1, entries_of(filler), filler->count,
				      &options, &result, life->err) == 0);
			ended_well(life, filler, &result);
		}
		life->next[stream] = end_of(life, stream);
	}
	disconnect(life);
}

static void settle_in_chaos(struct life *life)
{
	struct op *op;
	connect_to(life, false);
	for (unsigned stream = 0; stream < PLAIN && ironwal_is_usable(life->c); stream++) {
		while ((op = first_unknown(life, stream)) != NULL && settle_op(life, op))
			;
	}
	disconnect(life);
}

/* ---- a life ---- */

static void live(uint64_t seed)
{
	struct life *life = calloc(1, sizeof(*life));
	MUST(life != NULL);
	life->seed = life->random = seed;
	chaos_start(&life->chaos, seed);
	life->chaos.seed = seed;
	life->err = ironwal_error_new();
	for (int round = 0; round < ROUNDS; round++) {
		chaotic_connection(life);
		settle_in_chaos(life);
		settle_for_good(life);
	}
	/* All of the first stream went through the iterator, once. */
	connect_to(life, true);
	uint64_t end = end_of(life, 0);
	iterate(life, (unsigned)(end - life->it_next) + 1);
	HOLDS(life->it_next == end);
	disconnect(life);
	ironwal_iterator_free(life->it);
	ironwal_error_free(life->err);
	chaos_stop(&life->chaos);
	free(life);
}

static atomic_ullong next_seed;
static unsigned long long end_seed;

static void *work(void *arg)
{
	(void)arg;
	for (;;) {
		unsigned long long seed = atomic_fetch_add(&next_seed, 1);
		if (seed >= end_seed)
			return NULL;
		live(seed);
	}
}

static unsigned long long from_environment(const char *name, unsigned long long otherwise)
{
	const char *text = getenv(name);
	return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

Test(client_chaos, fates_are_true, .timeout = 3600)
{
	pthread_t workers[WORKERS];
	unsigned long long first = from_environment("IRONWALD_CLIENT_FIRST", 1);
	atomic_store(&next_seed, first);
	end_seed = first + from_environment("IRONWALD_CLIENT_SEEDS", SEEDS);
	for (int i = 0; i < WORKERS; i++)
		cr_assert(pthread_create(&workers[i], NULL, work, NULL) == 0);
	for (int i = 0; i < WORKERS; i++)
		cr_assert(pthread_join(workers[i], NULL) == 0);
	if (end_seed - first >= SEEDS)
		cr_assert(happened.well && happened.not_sent && happened.refused && happened.written &&
				  happened.unknown && happened.found && happened.lost,
			"%u %u %u %u %u %u %u", happened.well, happened.not_sent, happened.refused, happened.written,
			happened.unknown, happened.found, happened.lost);
}
