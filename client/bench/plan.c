#include "plan.h"

#include <string.h>

#include "content.h"

#define IN_BYTES_MIN (UINT64_C(64) << 10)
#define PREFILL_BYTES (UINT64_C(1) << 20)
#define PREFILL_BATCH_MAX 100
/* Around an entry: 5 bytes in MessagePack, about 40 in an XRANGE of Redis. */
#define APPEND_EXTRA_BYTES 5
#define READ_EXTRA_BYTES 64
/* What each connection, each connection and name, and each thread and name take in tables, and a bit more. */
#define SLOT_BYTES 64
#define ORDER_BYTES 32
#define NAME_BYTES (BENCH_MIXED_OPS * (BENCH_REQUEST_OVERHEAD_BYTES + 64) + 16)

const char *bench_op_name(enum bench_op op)
{
	static const char *const names[] = {
		[BENCH_APPEND] = "append", [BENCH_GET] = "get", [BENCH_ITER] = "iter", [BENCH_PREFILL] = "prefill"};
	return names[op];
}

bool plan_reads(const struct bench_plan *plan)
{
	return plan->weights[BENCH_GET] > 0 || plan->weights[BENCH_ITER] > 0;
}

bool plan_appends(const struct bench_plan *plan)
{
	return plan->weights[BENCH_APPEND] > 0;
}

uint64_t plan_slots_count(const struct bench_plan *plan)
{
	bool deeper = plan->prefill_count > 0 && plan->pipeline < BENCH_PREFILL_PIPELINE;
	return deeper ? BENCH_PREFILL_PIPELINE : plan->pipeline;
}

uint64_t plan_prefill_batch(const struct bench_plan *plan, uint64_t batch_max)
{
	uint64_t fit = PREFILL_BYTES / (plan->payload_bytes + APPEND_EXTRA_BYTES);
	if (fit > batch_max)
		fit = batch_max;
	if (fit > plan->prefill_count)
		fit = plan->prefill_count;
	return fit > 0 ? fit : 1;
}

/* Stays at the top instead of going round: then it is over every bound. */
static uint64_t times(uint64_t a, uint64_t b)
{
	uint64_t product;
	return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
	uint64_t sum;
	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

uint64_t plan_in_bytes(const struct bench_plan *plan)
{
	uint64_t entries = plan->weights[BENCH_ITER] > 0 ? plan->iter_count : 1;
	uint64_t bytes = plus(BENCH_ANSWER_OVERHEAD_BYTES, times(entries, plus(plan->payload_bytes, READ_EXTRA_BYTES)));
	return bytes > IN_BYTES_MIN ? bytes : IN_BYTES_MIN;
}

static uint64_t append_bytes(const struct bench_plan *plan)
{
	uint64_t entries = plan_appends(plan) ? plan->batch_count : 0;
	uint64_t prefill = plan->prefill_count > 0 ? plan_prefill_batch(plan, PREFILL_BATCH_MAX) : 0;
	return times(entries > prefill ? entries : prefill, plus(plan->payload_bytes, APPEND_EXTRA_BYTES));
}

static uint64_t memory_bytes(const struct bench_plan *plan)
{
	uint64_t slot = plus(plus(append_bytes(plan), BENCH_REQUEST_OVERHEAD_BYTES), SLOT_BYTES);
	uint64_t conn = plus(times(plan_slots_count(plan), slot), plan_in_bytes(plan));
	if (plan->checks)
		conn = plus(conn, times(plan->names_count, ORDER_BYTES));
	return plus(times(plan->connections_count, conn), times(plan->names_count, NAME_BYTES));
}

static const char *check_names(const struct bench_plan *plan)
{
	size_t prefix_bytes = strlen(plan->prefix);
	if (prefix_bytes == 0 || prefix_bytes > BENCH_PREFIX_BYTES_MAX)
		return "--prefix is 1 to 200 bytes";
	if (plan->names_count == 0 || plan->names_count > BENCH_NAMES_MAX)
		return "--streams (--keys) is over its bound";
	return NULL;
}

const char *plan_check(const struct bench_plan *plan)
{
	const char *wrong = check_names(plan);
	if (wrong != NULL)
		return wrong;
	if (plan->threads_count > plan->connections_count)
		return "there are more --threads than --connections";
	if (plan->connections_count > BENCH_CONNECTIONS_MAX || plan->pipeline > BENCH_PIPELINE_MAX ||
		plan->payload_bytes > BENCH_PAYLOAD_MAX || plan->batch_count > BENCH_BATCH_MAX ||
		plan->iter_count > BENCH_BATCH_MAX || plan->threads_count > BENCH_THREADS_MAX)
		return "a number is over its bound";
	if (plan->sync && !plan_appends(plan))
		return "--sync is for appends";
	if (plan->verify && plan->payload_bytes < CONTENT_HEADER_BYTES)
		return "--verify needs entries that can describe themselves: a --payload of at least 32 bytes";
	if (append_bytes(plan) > BENCH_MESSAGE_BYTES_MAX)
		return "--batch times --payload is over 64 MiB";
	if (plan_in_bytes(plan) > BENCH_MESSAGE_BYTES_MAX + BENCH_ANSWER_OVERHEAD_BYTES + READ_EXTRA_BYTES)
		return "the entries of one iter times --payload are over 64 MiB";
	if (memory_bytes(plan) > BENCH_MEMORY_MAX)
		return "this would take over 1 GiB of memory: fewer --connections, --pipeline, --batch, --streams or a "
		       "smaller --payload";
	return NULL;
}
