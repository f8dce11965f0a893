/*
 * load: how many requests a second a server takes, and how long its answers take.
 *
 * One thread, a closed loop: each connection keeps --pipeline requests in flight. What is in the line or object that is
 * printed: see report(). Exit status: 0; 1 an answer was wrong or the server went away; 2 usage.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "clock.h"
#include "options.h"
#include "traffic.h"

static uint64_t cpu_ns(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	uint64_t us = (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_SECOND + us * 1000;
}

static double us_at(const struct phase_result *result, double share)
{
	return (double)histogram_at(result->latency_ns, share) / 1e3;
}

/* sent: all requests, with those of the warmup and what was answered after the end.
 * generator_cpu: the share of one core that this program took itself; near 1, it and not the server is the bound. */
static void report(const struct load_options *options, const struct phase_result *result, double generator_cpu)
{
	double seconds = (double)result->elapsed_ns / 1e9;
	double rate = (double)result->answers / seconds, entry_rate = (double)result->entries / seconds;
	double mib_rate = (double)result->bytes / seconds / (1 << 20);
	const char *target = options->redis ? "redis" : "ironwald";
	double max_us = (double)result->latency_ns->max / 1e3;
	if (options->json)
		printf("{\"target\": \"%s\", \"mode\": \"%s\", \"connections\": %" PRIu64 ", \"pipeline\": %" PRIu64
		       ", \"payload_bytes\": %" PRIu64 ", \"batch_count\": %" PRIu64 ", \"streams\": %" PRIu64
		       ", \"sync\": %s, \"seconds\": %.6f, \"sent\": %" PRIu64 ", \"requests\": %" PRIu64
		       ", \"entries\": %" PRIu64
		       ", \"requests_per_second\": %.1f, \"entries_per_second\": %.1f, \"mib_per_second\": %.2f"
		       ", \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f"
		       ", \"wakeups\": %" PRIu64 ", \"generator_cpu\": %.3f, \"errors\": %" PRIu64 "}\n",
			target, load_mode_name(options->mode), options->connections, options->pipeline,
			options->payload_bytes, options->batch_count, options->streams,
			options->sync ? "true" : "false", seconds, result->sent, result->answers, result->entries, rate,
			entry_rate, mib_rate, us_at(result, 0.5), us_at(result, 0.99), us_at(result, 0.999), max_us,
			result->wakeups, generator_cpu, result->errors);
	else
		printf("%s %s: %" PRIu64 " connections x %" PRIu64 ", %" PRIu64 " B x %" PRIu64 ", %" PRIu64
		       " streams: %.0f requests/s, %.0f entries/s, %.1f MiB/s; p50 %.0f us, p99 %.0f us, p99.9 %.0f us"
		       ", max %.0f us; %.0f %% generator, %" PRIu64 " errors\n",
			target, load_mode_name(options->mode), options->connections, options->pipeline,
			options->payload_bytes, options->batch_count, options->streams, rate, entry_rate, mib_rate,
			us_at(result, 0.5), us_at(result, 0.99), us_at(result, 0.999), max_us, generator_cpu * 100,
			result->errors);
}

static int prefill(struct traffic *traffic, const struct load_options *options, uint64_t *errors)
{
	uint64_t batch = options->redis ? target_redis.prefill_batch : target_ironwald.prefill_batch;
	struct phase phase = {
		.op = LOAD_PREFILL,
		.duration_ns = UINT64_MAX,
		.request_count = (options->prefill_count + batch - 1) / batch * options->streams,
		/* So that each stream gets its ids in order. */
		.one_connection = true,
	};
	struct phase_result result;
	if (traffic_run(traffic, &phase, &result) != 0)
		return -1;
	*errors += result.errors;
	return result.errors == 0 ? 0 : -1;
}

static int run(struct traffic *traffic, const struct load_options *options, uint64_t *errors)
{
	static const enum load_op ops[] = {[MODE_APPEND] = LOAD_APPEND, [MODE_GET] = LOAD_GET, [MODE_ITER] = LOAD_ITER};
	struct phase phase = {.op = ops[options->mode], .duration_ns = options->warmup_ns, .request_count = UINT64_MAX};
	struct phase_result result;
	if (options->mode != MODE_APPEND && prefill(traffic, options, errors) != 0)
		return -1;
	if (options->warmup_ns > 0) {
		if (traffic_run(traffic, &phase, &result) != 0)
			return -1;
		*errors += result.errors;
	}
	phase.duration_ns = options->duration_ns;
	phase.request_count = options->request_count;
	uint64_t warmup_sent = options->warmup_ns > 0 ? result.sent : 0;
	uint64_t cpu = cpu_ns(), begin_ns = clock_now_ns();
	if (traffic_run(traffic, &phase, &result) != 0)
		return -1;
	double generator_cpu = (double)(cpu_ns() - cpu) / (double)(clock_now_ns() - begin_ns);
	result.sent += warmup_sent;
	result.errors += *errors;
	*errors = result.errors;
	report(options, &result, generator_cpu);
	return 0;
}

int main(int argc, char **argv)
{
	struct load_options options;
	uint64_t errors = 0;
	int parsed = options_parse(&options, argc, argv);
	if (parsed != 0)
		return parsed > 0 ? 0 : 2;
	struct traffic *traffic = traffic_new(&options);
	if (traffic == NULL)
		return 1;
	int result = run(traffic, &options, &errors);
	traffic_free(traffic);
	return result == 0 && errors == 0 ? 0 : 1;
}
