/*
 * load: how many requests a second a server takes, and how long its answers take.
 *
 * One thread, a closed loop: each connection keeps --pipeline requests in flight. What is in the line or object that is
 * printed: see report(). Exit status: 0; 1 an answer was wrong or the server went away; 2 usage.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client_token.h"
#include "clock.h"
#include "options.h"
#include "probe.h"
#include "target_redis.h"
#include "traffic.h"

/* Of one run; too much for a stack. */
static struct phase_result result;
static uint64_t errors_count, warmup_sent;

static double us_at(const struct histogram *latency_ns, double share)
{
	return (double)histogram_at(latency_ns, share) / 1e3;
}

/* sent: all requests, with those of the warmup and what was answered after the end.
 * shard_count, sync_mode: as the server's greeting has them; Redis has none.
 * generator_cpu: the share of one core that this program took itself; near 1, it and not the server is the bound. */
static void report(const struct load_options *options, const struct server_facts *facts, uint64_t elapsed_ns)
{
	const struct bench_plan *plan = &options->plan;
	const struct figures *figures = &result.figures[options->mode];
	const struct histogram *latency_ns = &figures->latency_ns;
	const char *target = options->redis ? "redis" : "ironwald", *mode = bench_op_name(options->mode);
	double seconds = (double)elapsed_ns / 1e9;
	double rate = (double)figures->answers / seconds, entry_rate = (double)figures->entries / seconds;
	double mib_rate = (double)figures->bytes / seconds / (1 << 20);
	double max_us = (double)latency_ns->max / 1e3;
	double generator_cpu = (double)result.cpu_ns / (double)result.wall_ns;
	if (options->common.json)
		printf("{\"target\": \"%s\", \"mode\": \"%s\", \"connections\": %" PRIu64 ", \"pipeline\": %" PRIu64
		       ", \"payload_bytes\": %" PRIu64 ", \"batch_count\": %" PRIu64 ", \"streams\": %" PRIu64
		       ", \"by_key\": %s, \"shard_count\": %" PRIu32 ", \"sync_mode\": \"%s\""
		       ", \"sync\": %s, \"seconds\": %.6f, \"sent\": %" PRIu64 ", \"requests\": %" PRIu64
		       ", \"entries\": %" PRIu64
		       ", \"requests_per_second\": %.1f, \"entries_per_second\": %.1f, \"mib_per_second\": %.2f"
		       ", \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f"
		       ", \"wakeups\": %" PRIu64 ", \"generator_cpu\": %.3f, \"errors\": %" PRIu64 "}\n",
			target, mode, plan->connections_count, plan->pipeline, plan->payload_bytes, plan->batch_count,
			plan->names_count, plan->by_key ? "true" : "false", facts->shard_count, facts->sync_mode,
			plan->sync ? "true" : "false", seconds, result.sent + warmup_sent, figures->answers,
			figures->entries, rate, entry_rate, mib_rate, us_at(latency_ns, 0.5), us_at(latency_ns, 0.99),
			us_at(latency_ns, 0.999), max_us, result.wakeups, generator_cpu, errors_count);
	else
		printf("%s %s: %" PRIu64 " connections x %" PRIu64 ", %" PRIu64 " B x %" PRIu64 ", %" PRIu64
		       " streams: %.0f requests/s, %.0f entries/s, %.1f MiB/s; p50 %.0f us, p99 %.0f us, p99.9 %.0f us"
		       ", max %.0f us; %.0f %% generator, %" PRIu64 " errors\n",
			target, mode, plan->connections_count, plan->pipeline, plan->payload_bytes, plan->batch_count,
			plan->names_count, rate, entry_rate, mib_rate, us_at(latency_ns, 0.5), us_at(latency_ns, 0.99),
			us_at(latency_ns, 0.999), max_us, generator_cpu * 100, errors_count);
}

static int run_phase(struct traffic *traffic, struct phase *phase, uint64_t duration_ns)
{
	struct fault fault = {0};
	result = (struct phase_result){0};
	phase->begin_ns = clock_now_ns();
	phase->end_ns = duration_ns < UINT64_MAX - phase->begin_ns ? phase->begin_ns + duration_ns : UINT64_MAX;
	int outcome = traffic_run(traffic, phase, &result, &fault);
	for (size_t i = 0; i < result.complaints.shown_count; i++)
		fprintf(stderr, "load: %s\n", result.complaints.shown[i]);
	if (outcome != 0)
		fprintf(stderr, "load: %s\n", fault.text);
	errors_count += result.complaints.count;
	return outcome;
}

static int prefill(struct traffic *traffic, const struct load_options *options, const struct target *target)
{
	const struct bench_plan *plan = &options->plan;
	uint64_t batch = plan_prefill_batch(plan, target->prefill_batch);
	struct phase phase = {
		.prefill = true,
		.request_count = (plan->prefill_count + batch - 1) / batch * plan->names_count,
	};
	return run_phase(traffic, &phase, UINT64_MAX) == 0 && errors_count == 0 ? 0 : -1;
}

/* What an earlier run put there with --prefill has the ids from 0 on, in both targets. */
static void take_for_filled(struct traffic *traffic, const struct requests *requests, uint64_t count)
{
	for (uint64_t log = 0; log < requests->logs_count; log++)
		traffic_extents(traffic)[log] = (struct extent){.first = 0, .end = count};
}

static int run(struct traffic *traffic, const struct load_options *options, const struct target *target,
	const struct server_facts *facts)
{
	struct phase phase = {.request_count = UINT64_MAX};
	if (options->plan.prefill_count > 0 && prefill(traffic, options, target) != 0)
		return -1;
	if (options->common.warmup_ns > 0) {
		if (run_phase(traffic, &phase, options->common.warmup_ns) != 0)
			return -1;
		warmup_sent = result.sent;
	}
	phase.request_count = options->request_count;
	if (run_phase(traffic, &phase, options->common.duration_ns) != 0)
		return -1;
	report(options, facts, result.ended_ns - phase.begin_ns);
	return 0;
}

int main(int argc, char **argv)
{
	static struct load_options options;
	int parsed = options_parse(&options, argc, argv);
	if (parsed != 0)
		return parsed > 0 ? 0 : 2;
	char *token = NULL;
	ironwal_error *error = ironwal_error_new();
	if (error == NULL || (!options.redis && token_load(NULL, &options.way, &token, error) != 0)) {
		fprintf(stderr, "load: %s\n", error != NULL ? ironwal_error_message(error) : "out of memory");
		ironwal_error_free(error);
		return 2;
	}
	ironwal_error_free(error);
	options.plan.token = token;
	const struct target *target = options.redis ? &target_redis : &target_ironwald;
	atomic_int stop = STOP_NOT;
	struct fault fault = {0};
	struct server_facts facts = {0};
	struct requests *requests = NULL;
	struct traffic *traffic = NULL;
	if (probe_server(&options.plan, target, &facts, &fault) == 0) {
		requests = requests_new(&options.plan, target, facts.shard_count);
		if (requests == NULL)
			fault_set(&fault, FAULT_HERE, "out of memory for the requests");
	}
	const struct traffic_setup setup = {
		.plan = &options.plan, .requests = requests, .threads_count = 1, .stop = &stop};
	if (requests != NULL)
		traffic = traffic_new(&setup, &fault);
	if (traffic != NULL && options.prefilled_count > 0)
		take_for_filled(traffic, requests, options.prefilled_count);
	if (traffic == NULL)
		fprintf(stderr, "load: %s\n", fault.text);
	int outcome = traffic != NULL ? run(traffic, &options, target, &facts) : -1;
	traffic_free(traffic);
	requests_free(requests);
	token_free(token);
	return outcome == 0 && errors_count == 0 ? 0 : 1;
}
