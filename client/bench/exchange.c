#include "exchange.h"

#include <inttypes.h>

#include "clock.h"
#include "content.h"
#include "frame.h"

static bool is_append(enum bench_op op)
{
	return op == BENCH_APPEND || op == BENCH_PREFILL;
}

/* ---- requests ---- */

static enum bench_op choose_op(struct traffic *traffic)
{
	if (traffic->phase.prefill)
		return BENCH_PREFILL;
	const uint32_t *weights = traffic->plan->weights;
	uint64_t left = traffic->weights_sum;
	for (int op = 0; op < BENCH_MIXED_OPS; op++)
		if (weights[op] == left)
			return (enum bench_op)op; /* the only one */
	left = random_next(&traffic->random) % left;
	for (int op = 0; op < BENCH_MIXED_OPS; op++) {
		if (left < weights[op])
			return (enum bench_op)op;
		left -= weights[op];
	}
	return BENCH_APPEND;
}

static uint64_t choose_id(struct traffic *traffic, struct conn *conn, enum bench_op op, uint64_t log)
{
	const struct extent *extent = &traffic->extents[log];
	uint64_t count = extent->end - extent->first, batch = traffic->plan->iter_count;
	if (op == BENCH_GET)
		return extent->first + random_next(&traffic->random) % count;
	if (op == BENCH_PREFILL) /* Redis: the id to give */
		return traffic->sent / traffic->plan->names_count;
	if (count < batch)
		return extent->first;
	return extent->first + conn->turn / traffic->requests->logs_count % (count / batch) * batch;
}

/* splitmix64: each number on its own, so that they are made side by side; nothing that compresses. */
static void fill_random(uint64_t *state, uint8_t *at, size_t len)
{
	uint64_t x = *state;
	for (; len > 0; x += UINT64_C(0x9e3779b97f4a7c15)) {
		uint64_t z = x;
		z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
		z ^= z >> 31;
		size_t part = len < sizeof(z) ? len : sizeof(z);
		if (part == sizeof(z))
			memcpy(at, &z, sizeof(z));
		else
			memcpy(at, &z, part);
		at += part;
		len -= part;
	}
	*state = x;
}

static void fill_entries(struct traffic *traffic, struct conn *conn, const struct slot *slot, uint8_t *entry)
{
	const struct bench_plan *plan = traffic->plan;
	const struct tail *tail = &traffic->requests->tails[slot->op];
	for (size_t i = 0; i < tail->entry_count; i++, entry += tail->entry_stride) {
		if (plan->random)
			fill_random(&traffic->filling, entry, plan->payload_bytes);
		if (plan->verify) {
			const struct content content = {plan->seed, conn->serial++, slot->at};
			content_seal(entry, plan->payload_bytes, &content);
		}
	}
}

/* What a request of op goes to next. Reads, where there is nothing to read yet, become appends. */
static uint32_t choose_place(struct traffic *traffic, const struct conn *conn, enum bench_op *op)
{
	uint64_t names_count = traffic->plan->names_count;
	if (is_append(*op))
		return (uint32_t)(conn->turn % names_count);
	if (traffic->readable_count > 0)
		return traffic->readable[conn->turn % traffic->readable_count];
	uint32_t log = (uint32_t)(conn->turn % traffic->requests->logs_count);
	if (traffic->extents[log].end > 0)
		return log;
	*op = BENCH_APPEND;
	return (uint32_t)(conn->turn % names_count);
}

void exchange_send(struct traffic *traffic, struct conn *conn, size_t index, uint64_t now_ns)
{
	const struct requests *requests = traffic->requests;
	struct slot *slot = &conn->slots[index];
	enum bench_op op = choose_op(traffic);
	uint32_t at = choose_place(traffic, conn, &op);
	size_t bytes = requests_bytes(requests, op, at);
	*slot = (struct slot){
		.sent_ns = now_ns, .order = ++conn->sent, .serial = conn->serial, .at = at, .op = op, .busy = true};
	if (requests->heads[op][at].id_count > 0)
		slot->wanted_id = choose_id(traffic, conn, op, at);
	/* What is in flight fits, so what is not sent yet does. */
	uint8_t *frame = wire_room(&conn->wire, bytes);
	uint8_t *entry = requests_fill(requests, op, at, (uint32_t)index, slot->wanted_id, frame);
	if (is_append(op) && (traffic->plan->random || traffic->plan->verify))
		fill_entries(traffic, conn, slot, entry);
	conn->wire.out_to += bytes;
	conn->turn++;
	traffic->sent++;
	traffic->inflight++;
}

bool exchange_may_send(const struct traffic *traffic)
{
	return !traffic->over && traffic->sent < traffic->phase.request_count;
}

/* ---- answers ---- */

static void check_given(
	struct traffic *traffic, struct conn *conn, const struct slot *slot, uint64_t entries, struct answer *answer)
{
	struct given *given = &conn->given[slot->at];
	bool later = slot->order > given->order;
	bool right = given->order == 0 || (later ? answer->first >= given->end : answer->end <= given->first);
	if (!right || answer->end - answer->first != entries)
		answer_fail(answer, COMPLAINT_WRONG_ANSWER,
			"ids %" PRIu64 " to %" PRIu64 " were given %s %" PRIu64 " to %" PRIu64 ", for %" PRIu64
			" entries",
			answer->first, answer->end, later ? "after" : "before", given->first, given->end, entries);
	else if (traffic->plan->by_key && answer->shard != traffic->requests->log_of[slot->at])
		answer_fail(answer, COMPLAINT_WRONG_ANSWER,
			"key %" PRIu32 " of shard %" PRIu32 " went to shard %" PRIu32, slot->at,
			traffic->requests->log_of[slot->at], answer->shard);
	if (later)
		*given = (struct given){slot->order, answer->first, answer->end};
}

static void take_append(struct traffic *traffic, struct conn *conn, const struct slot *slot, struct answer *answer)
{
	uint64_t entries = traffic->requests->entry_count[slot->op];
	uint32_t log = traffic->requests->log_of[slot->at];
	if (conn->given != NULL)
		check_given(traffic, conn, slot, entries, answer);
	if (answer->failed)
		return;
	/* What can be read afterwards. Redis has the ids that were sent. */
	uint64_t first = traffic->target->numbered_answers ? answer->first : slot->wanted_id;
	struct extent *extent = &traffic->extents[log];
	if (extent->end == 0 || first < extent->first)
		extent->first = first;
	if (first + entries > extent->end)
		extent->end = first + entries;
	if (traffic->acked == NULL)
		return;
	const struct acked_record record = {first, slot->serial, log, (uint32_t)entries};
	acked_add(traffic->acked, &record);
	/* Whatever is in flight has to find room as well. */
	if (traffic->acked->count + traffic->inflight >= traffic->acked->max) {
		traffic->over = traffic->result->record_full = true;
	}
}

static bool check_entry(
	struct traffic *traffic, const struct slot *slot, uint64_t id, struct span entry, struct answer *answer)
{
	struct content content = {0};
	enum content_verdict verdict = content_check(entry, traffic->plan->seed, &content);
	const char *what = content_verdict_text(verdict);
	bool good = verdict == CONTENT_GOOD || (verdict == CONTENT_OTHER_RUN && traffic->plan->any_run);
	if (verdict == CONTENT_GOOD &&
		(content.name >= traffic->plan->names_count || traffic->requests->log_of[content.name] != slot->at)) {
		good = false;
		what = "was written to another stream";
	}
	if (good) {
		traffic->result->checked++;
		return true;
	}
	char log[NAME_TEXT_BYTES];
	requests_log_text(traffic->plan, slot->at, log);
	answer_fail(answer, COMPLAINT_WRONG_CONTENT, "entry %" PRIu64 " of %.200s %s", id, log, what);
	return false;
}

static void check_contents(struct traffic *traffic, const struct slot *slot, struct answer *answer)
{
	if (slot->op == BENCH_GET) {
		(void)check_entry(traffic, slot, slot->wanted_id, answer->entry, answer);
		return;
	}
	struct byte_iter iter = byte_iter_of(&answer->entries);
	struct span entry;
	for (uint64_t id = answer->first; byte_iter_next(&iter, &entry); id++)
		if (!check_entry(traffic, slot, id, entry, answer))
			return;
}

static void take_read(struct traffic *traffic, const struct slot *slot, struct answer *answer)
{
	const struct bench_plan *plan = traffic->plan;
	uint64_t entries = answer->end - answer->first, most = traffic->requests->entry_count[slot->op];
	bool right = entries > 0 && entries <= most;
	if (slot->op == BENCH_ITER && traffic->target->numbered_answers)
		right = right && answer->first == slot->wanted_id;
	if (!right)
		answer_fail(answer, COMPLAINT_WRONG_ANSWER,
			"asked for %" PRIu64 " entries from %" PRIu64 ", got %" PRIu64 " from %" PRIu64, most,
			slot->wanted_id, entries, answer->first);
	else if (plan->checks && !plan->any_run && answer->bytes != entries * plan->payload_bytes)
		answer_fail(answer, COMPLAINT_WRONG_ANSWER,
			"%" PRIu64 " entries from %" PRIu64 " came with %" PRIu64 " bytes", entries, slot->wanted_id,
			answer->bytes);
	if (plan->verify && !answer->failed)
		check_contents(traffic, slot, answer);
}

static void count_answer(struct traffic *traffic, const struct slot *slot, const struct answer *answer, uint64_t now_ns)
{
	struct figures *figures = &traffic->result->figures[slot->op];
	if (answer->failed) {
		counter_add(&figures->errors, 1);
		complain(&traffic->result->complaints, answer->code, "%s: %s (%s)", bench_op_name(slot->op),
			answer->error, answer->code);
		if (answer->unknown && is_append(slot->op))
			traffic->result->unknown += traffic->requests->entry_count[slot->op];
	} else if (now_ns <= traffic->phase.end_ns) {
		counter_add(&figures->answers, 1);
		counter_add(&figures->entries, answer->end - answer->first);
		counter_add(&figures->bytes, answer->bytes);
		histogram_add(&figures->latency_ns, now_ns - slot->sent_ns);
	}
}

static void take_answer(struct traffic *traffic, struct conn *conn, struct answer *answer, uint64_t now_ns)
{
	size_t index = traffic->target->numbered_answers ? answer->number : conn->oldest;
	if (index >= traffic->depth || !conn->slots[index].busy) {
		complain(&traffic->result->complaints, COMPLAINT_WRONG_ANSWER, "an answer to what was not asked");
		return;
	}
	struct slot *slot = &conn->slots[index];
	slot->busy = false;
	conn->oldest = (conn->oldest + 1) % traffic->depth;
	traffic->inflight--;
	if (!answer->failed)
		traffic->target->read(traffic->plan, slot->op, traffic->requests->entry_count[slot->op], answer);
	if (!answer->failed && is_append(slot->op))
		take_append(traffic, conn, slot, answer);
	else if (!answer->failed)
		take_read(traffic, slot, answer);
	count_answer(traffic, slot, answer, now_ns);
	if (now_ns <= traffic->phase.end_ns)
		traffic->last_answer_ns = now_ns;
	else
		traffic->over = traffic->over_by_time = true;
	if (exchange_may_send(traffic))
		exchange_send(traffic, conn, index, now_ns);
}

int exchange_take(struct traffic *traffic, struct conn *conn, struct fault *fault)
{
	struct wire *wire = &conn->wire;
	uint64_t now_ns = clock_now_ns();
	size_t at = 0;
	while (at < wire->in_len) {
		struct answer answer;
		enum parse_status status = traffic->target->parse(
			wire->in + at, wire->in_len - at, wire->in_cap - FRAME_LENGTH_BYTES, &answer);
		if (status == PARSE_MALFORMED)
			return fault_set(fault, FAULT_LOST, "a malformed answer: %s", answer.error);
		if (status == PARSE_MORE)
			break;
		at += answer.used_bytes;
		take_answer(traffic, conn, &answer, now_ns);
	}
	wire_taken(wire, at);
	if (wire->in_len == wire->in_cap)
		return fault_set(fault, FAULT_LOST, "an answer of over %zu bytes", wire->in_cap);
	return 0;
}
