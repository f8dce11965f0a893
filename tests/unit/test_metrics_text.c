/* metrics_text: lines of Prometheus' text format, and histograms as it wants them. */
#include <criterion/criterion.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics_text.h"
#include "net_stats.h"

TestSuite(metrics_text, .timeout = 30);

static struct metrics_text text;

static const char *shown(void)
{
	cr_assert(!text.failed);
	cr_assert(buf_append(&text.buf, "", 1) == 0);
	text.buf.len--;
	return (const char *)text.buf.data;
}

static void expect(const char *expected)
{
	cr_assert_str_eq(shown(), expected);
	metrics_text_free(&text);
}

Test(metrics_text, a_family_has_its_lines_before_its_samples)
{
	metrics_family(&text, "a_total", METRIC_COUNTER, "What a is.");
	metrics_value(&text, NULL, UINT64_MAX);
	metrics_family(&text, "b_bytes", METRIC_GAUGE, "What b is.");
	metrics_value(&text, "code=\"Io\"", 0);
	metrics_value(&text, "code=\"Busy\",x=\"y\"", 7);
	expect("# HELP a_total What a is.\n"
	       "# TYPE a_total counter\n"
	       "a_total 18446744073709551615\n"
	       "# HELP b_bytes What b is.\n"
	       "# TYPE b_bytes gauge\n"
	       "b_bytes{code=\"Io\"} 0\n"
	       "b_bytes{code=\"Busy\",x=\"y\"} 7\n");
}

Test(metrics_text, seconds_are_exact)
{
	static const struct {
		uint64_t ns;
		const char *text;
	} rows[] = {
		{0, "0"},
		{1, "0.000000001"},
		{10, "0.00000001"},
		{999999999, "0.999999999"},
		{1000000000, "1"},
		{1500000000, "1.5"},
		{100000000000, "100"},
		{UINT64_MAX, "18446744073.709551615"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char line[100];
		metrics_family(&text, "t_seconds", METRIC_GAUGE, "T.");
		metrics_seconds(&text, NULL, rows[i].ns);
		snprintf(line, sizeof(line), "# HELP t_seconds T.\n# TYPE t_seconds gauge\nt_seconds %s\n",
			rows[i].text);
		expect(line);
	}
}

/* le includes its bound: 2^i - 1 is in bucket i - 1, 2^i in the next. */
Test(metrics_text, a_bucket_holds_what_its_bound_says)
{
	static const struct metrics_scale scale = {.first = 1, .last = 3};
	static const uint64_t values[] = {0, 1, 2, 3, 4, 7, 8, 15, 16, 1000};
	struct histogram histogram = {0};
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		histogram_add(&histogram, values[i]);
	metrics_family(&text, "h", METRIC_HISTOGRAM, "H.");
	metrics_histogram(&text, NULL, &histogram, &scale);
	expect("# HELP h H.\n"
	       "# TYPE h histogram\n"
	       "h_bucket{le=\"3\"} 4\n"
	       "h_bucket{le=\"7\"} 6\n"
	       "h_bucket{le=\"15\"} 8\n"
	       "h_bucket{le=\"+Inf\"} 10\n"
	       "h_sum 1056\n"
	       "h_count 10\n");
}

Test(metrics_text, a_histogram_of_times_is_in_seconds)
{
	static const struct metrics_scale scale = {.nanoseconds = true, .first = 20, .last = 20};
	struct histogram histogram = {0};
	histogram_add(&histogram, 2097151);
	histogram_add(&histogram, 2097152);
	metrics_family(&text, "h_seconds", METRIC_HISTOGRAM, "H.");
	metrics_histogram(&text, "method=\"get\"", &histogram, &scale);
	expect("# HELP h_seconds H.\n"
	       "# TYPE h_seconds histogram\n"
	       "h_seconds_bucket{method=\"get\",le=\"0.002097151\"} 1\n"
	       "h_seconds_bucket{method=\"get\",le=\"+Inf\"} 2\n"
	       "h_seconds_sum{method=\"get\"} 0.004194303\n"
	       "h_seconds_count{method=\"get\"} 2\n");
}

/* Its writer adds to the buckets and to the count one after the other, and nobody waits for it. */
Test(metrics_text, count_and_buckets_agree_in_the_middle_of_an_addition)
{
	static const struct metrics_scale scale = {.first = 39, .last = 39};
	struct histogram histogram = {.count = 5};
	histogram.buckets[3] = 2;
	histogram.buckets[39] = 4;
	metrics_family(&text, "h", METRIC_HISTOGRAM, "H.");
	metrics_histogram(&text, NULL, &histogram, &scale);
	cr_assert(strstr(shown(), "h_bucket{le=\"1099511627775\"} 6\n") != NULL, "%s", shown());
	cr_assert(strstr(shown(), "h_bucket{le=\"+Inf\"} 6\n") != NULL, "%s", shown());
	cr_assert(strstr(shown(), "h_count 6\n") != NULL, "%s", shown());
	metrics_text_free(&text);
}

static int allocations_left;

static void *give(size_t size, void *arg)
{
	(void)arg;
	return allocations_left-- > 0 ? malloc(size) : NULL;
}

static void *give_more(void *memory, size_t size, void *arg)
{
	(void)arg;
	return allocations_left-- > 0 ? realloc(memory, size) : NULL;
}

static void take(void *memory, void *arg)
{
	(void)arg;
	free(memory);
}

static void put_much(void)
{
	static const struct metrics_scale scale = {.last = 39};
	struct histogram histogram = {0};
	metrics_family(&text, "h", METRIC_HISTOGRAM, "H.");
	for (int i = 0; i < 20; i++)
		metrics_histogram(&text, "a=\"b\"", &histogram, &scale);
	metrics_value(&text, NULL, 1);
	metrics_seconds(&text, NULL, 1);
}

Test(metrics_text, without_memory_it_has_failed_and_stays_so)
{
	const struct mem mem = {.allocate = give, .reallocate = give_more, .release = take};
	int failures = 0;
	for (int n = 0; n < 100; n++) {
		allocations_left = n;
		text = (struct metrics_text){.buf.mem = &mem};
		put_much();
		bool failed = text.failed;
		size_t len = text.buf.len;
		allocations_left = 100;
		metrics_value(&text, NULL, 1);
		cr_assert(text.failed == failed && (text.buf.len == len) == failed, "nothing is added behind a hole");
		cr_assert(text.buf.len == 0 || text.buf.data[text.buf.len - 1] == '\n', "whole lines");
		metrics_text_free(&text);
		failures += failed;
		if (!failed)
			break;
	}
	cr_assert(failures > 3 && failures < 99, "%d", failures);
}
