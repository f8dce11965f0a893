#include "single.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "arguments.h"
#include "clock.h"

#define BYTES_MAX (UINT64_C(16) << 20)

enum option_code { OPTION_DIR = OPTION_OWN, OPTION_BYTES };

static int take(struct single_options *options, int code, const char *name, const char *text, const char *usage)
{
	switch (code) {
	case OPTION_DIR:
		options->dir = text;
		return 0;
	case OPTION_BYTES:
		return parse_number(name, text, 1, BYTES_MAX, &options->bytes);
	default:
		return take_common(&options->common, code, name, text, usage);
	}
}

int single_parse(struct single_options *options, const char *usage, int argc, char **argv)
{
	static const struct option table[] = {
		{"dir", required_argument, NULL, OPTION_DIR},
		{"bytes", required_argument, NULL, OPTION_BYTES},
		COMMON_OPTIONS,
		{0},
	};
	*options = (struct single_options){.bytes = 100, .common = COMMON_DEFAULTS};
	int code, index = 0;
	while ((code = getopt_long(argc, argv, "", table, &index)) != -1) {
		int result = take(options, code, table[index].name, optarg, usage);
		if (result != 0)
			return result;
	}
	if (optind < argc)
		return refuse("%s: what is this? --help tells what there is", argv[optind]);
	if (options->dir == NULL)
		return refuse("--dir is needed: where its file is to be made");
	return 0;
}

int single_run(const struct single_options *options, int (*once)(void *arg), void *arg, struct single_result *ret)
{
	uint64_t warm_ns = clock_now_ns() + options->common.warmup_ns, now_ns;
	memset(ret, 0, sizeof(*ret));
	while (clock_now_ns() < warm_ns)
		if (once(arg) != 0)
			return -1;
	uint64_t begin_ns = clock_now_ns(), last_ns = begin_ns;
	do {
		if (once(arg) != 0)
			return -1;
		now_ns = clock_now_ns();
		histogram_add(&ret->latency_ns, now_ns - last_ns);
		last_ns = now_ns;
	} while (now_ns - begin_ns < options->common.duration_ns);
	ret->elapsed_ns = now_ns - begin_ns;
	return 0;
}

void single_report(const struct single_options *options, const char *what, const struct single_result *result)
{
	const struct histogram *latency_ns = &result->latency_ns;
	double seconds = (double)result->elapsed_ns / 1e9, rate = (double)latency_ns->count / seconds;
	double p50_us = (double)histogram_at(latency_ns, 0.5) / 1e3,
	       p99_us = (double)histogram_at(latency_ns, 0.99) / 1e3;
	double p999_us = (double)histogram_at(latency_ns, 0.999) / 1e3, max_us = (double)latency_ns->max / 1e3;
	if (options->common.json)
		printf("{\"target\": \"%s\", \"payload_bytes\": %" PRIu64 ", \"seconds\": %.6f, \"sent\": %" PRIu64
		       ", \"requests\": %" PRIu64
		       ", \"requests_per_second\": %.1f, \"entries_per_second\": %.1f, \"mib_per_second\": %.2f"
		       ", \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f}\n",
			what, options->bytes, seconds, latency_ns->count, latency_ns->count, rate, rate,
			rate * (double)options->bytes / (1 << 20), p50_us, p99_us, p999_us, max_us);
	else
		printf("%s: %" PRIu64 " B: %.0f/s; p50 %.0f us, p99 %.0f us, p99.9 %.0f us, max %.0f us\n", what,
			options->bytes, rate, p50_us, p99_us, p999_us, max_us);
}
