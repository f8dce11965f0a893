#include "requests.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "shard_key.h"

void requests_name_text(const struct bench_plan *plan, uint64_t name, char ret_text[NAME_TEXT_BYTES])
{
	(void)snprintf(ret_text, NAME_TEXT_BYTES, "%.*s%06" PRIu64, BENCH_PREFIX_BYTES_MAX, plan->prefix, name);
}

void requests_log_text(const struct bench_plan *plan, uint64_t log, char ret_text[NAME_TEXT_BYTES])
{
	if (plan->by_key)
		(void)snprintf(ret_text, NAME_TEXT_BYTES, "shard_%02" PRIu64, log);
	else
		requests_name_text(plan, log, ret_text);
}

static bool is_append(enum bench_op op)
{
	return op == BENCH_APPEND || op == BENCH_PREFILL;
}

static size_t entries_of(const struct bench_plan *plan, const struct target *target, enum bench_op op)
{
	switch (op) {
	case BENCH_APPEND:
		return plan->batch_count;
	case BENCH_ITER:
		return plan->iter_count;
	case BENCH_PREFILL:
		return plan_prefill_batch(plan, target->prefill_batch);
	case BENCH_GET:
		break;
	}
	return 1;
}

static int make(struct requests *requests, enum bench_op op)
{
	const struct bench_plan *plan = requests->plan;
	size_t count = is_append(op) ? plan->names_count : requests->logs_count;
	size_t entry_count = entries_of(plan, requests->target, op);
	char text[NAME_TEXT_BYTES];
	requests->entry_count[op] = entry_count;
	if (is_append(op) && requests->target->make_tail(plan, entry_count, &requests->tails[op]) != 0)
		return -1;
	requests->heads[op] = calloc(count, sizeof(*requests->heads[op]));
	if (requests->heads[op] == NULL)
		return -1;
	for (size_t i = 0; i < count; i++) {
		if (is_append(op))
			requests_name_text(plan, i, text);
		else
			requests_log_text(plan, i, text);
		requests->heads_count[op] = i + 1;
		if (requests->target->make_head(
			    plan, op, text, entry_count, requests->tails[op].bytes.len, &requests->heads[op][i]) != 0)
			return -1;
		size_t bytes = requests_bytes(requests, op, i);
		if (bytes > requests->frame_bytes_max)
			requests->frame_bytes_max = bytes;
	}
	return 0;
}

static int find_logs(struct requests *requests, uint32_t shard_count)
{
	const struct bench_plan *plan = requests->plan;
	char text[NAME_TEXT_BYTES];
	requests->logs_count = plan->by_key ? shard_count : plan->names_count;
	requests->log_of = calloc(plan->names_count, sizeof(*requests->log_of));
	if (requests->log_of == NULL || requests->logs_count == 0)
		return -1;
	for (uint64_t i = 0; i < plan->names_count; i++) {
		requests->log_of[i] = (uint32_t)i;
		if (!plan->by_key)
			continue;
		requests_name_text(plan, i, text);
		requests->log_of[i] = shard_of_key(text, strlen(text), shard_count);
	}
	return 0;
}

struct requests *requests_new(const struct bench_plan *plan, const struct target *target, uint32_t shard_count)
{
	struct requests *requests = calloc(1, sizeof(*requests));
	if (requests == NULL)
		return NULL;
	requests->plan = plan;
	requests->target = target;
	int result = find_logs(requests, shard_count);
	for (int op = 0; result == 0 && op < BENCH_MIXED_OPS; op++)
		if (plan->weights[op] > 0)
			result = make(requests, (enum bench_op)op);
	if (result == 0 && plan->prefill_count > 0)
		result = make(requests, BENCH_PREFILL);
	if (result == 0)
		return requests;
	requests_free(requests);
	return NULL;
}

void requests_free(struct requests *requests)
{
	if (requests == NULL)
		return;
	for (int op = 0; op < BENCH_OPS; op++) {
		for (size_t i = 0; i < requests->heads_count[op]; i++)
			buf_free(&requests->heads[op][i].bytes);
		free(requests->heads[op]);
		buf_free(&requests->tails[op].bytes);
	}
	free(requests->log_of);
	free(requests);
}
