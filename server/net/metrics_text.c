#include "metrics_text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "clock.h"

/* A line is shorter: names, labels and help are the program's own. */
#define LINE_MAX_BYTES 512

/* "0.000016383", exactly, and without zeros at the end. */
#define SECONDS_TEXT_MAX 40

__attribute__((format(printf, 2, 3))) static void put(struct metrics_text *text, const char *format, ...)
{
	va_list args;
	if (text->failed)
		return;
	if (buf_reserve(&text->buf, LINE_MAX_BYTES) != 0) {
		text->failed = true;
		return;
	}
	va_start(args, format);
	int len = vsnprintf((char *)text->buf.data + text->buf.len, LINE_MAX_BYTES, format, args);
	va_end(args);
	if (len < 0 || len >= LINE_MAX_BYTES)
		text->failed = true; /* half a line is none */
	else
		text->buf.len += (size_t)len;
}

static void seconds_text(uint64_t ns, char text[SECONDS_TEXT_MAX])
{
	int len = snprintf(text, SECONDS_TEXT_MAX, "%" PRIu64 ".%09" PRIu64, ns / NS_PER_SECOND, ns % NS_PER_SECOND);
	while (text[len - 1] == '0')
		text[--len] = '\0';
	if (text[len - 1] == '.')
		text[len - 1] = '\0';
}

void metrics_family(struct metrics_text *text, const char *name, enum metric_type type, const char *help)
{
	static const char *const types[] = {
		[METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram"};
	text->name = name;
	put(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, types[type]);
}

static void put_sample(struct metrics_text *text, const char *suffix, const char *labels, const char *value)
{
	if (labels == NULL)
		put(text, "%s%s %s\n", text->name, suffix, value);
	else
		put(text, "%s%s{%s} %s\n", text->name, suffix, labels, value);
}

void metrics_value(struct metrics_text *text, const char *labels, uint64_t value)
{
	char shown[SECONDS_TEXT_MAX];
	snprintf(shown, sizeof(shown), "%" PRIu64, value);
	put_sample(text, "", labels, shown);
}

void metrics_seconds(struct metrics_text *text, const char *labels, uint64_t ns)
{
	char shown[SECONDS_TEXT_MAX];
	seconds_text(ns, shown);
	put_sample(text, "", labels, shown);
}

static void show(bool nanoseconds, uint64_t value, char text[SECONDS_TEXT_MAX])
{
	if (nanoseconds)
		seconds_text(value, text);
	else
		snprintf(text, SECONDS_TEXT_MAX, "%" PRIu64, value);
}

void metrics_histogram(struct metrics_text *text, const char *labels, const struct histogram *histogram,
	const struct metrics_scale *scale)
{
	const char *comma = labels == NULL ? "" : ",";
	char shown[SECONDS_TEXT_MAX];
	uint64_t count = 0;
	if (labels == NULL)
		labels = "";
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		count += histogram->buckets[i];
		if (i < scale->first || i > scale->last)
			continue;
		/* The greatest value of the bucket: `le` includes it. */
		show(scale->nanoseconds, (UINT64_C(2) << i) - 1, shown);
		put(text, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", text->name, labels, comma, shown, count);
	}
	put(text, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", text->name, labels, comma, count);
	show(scale->nanoseconds, histogram->sum, shown);
	put_sample(text, "_sum", labels[0] == '\0' ? NULL : labels, shown);
	snprintf(shown, sizeof(shown), "%" PRIu64, count);
	put_sample(text, "_count", labels[0] == '\0' ? NULL : labels, shown);
}

void metrics_text_free(struct metrics_text *text)
{
	buf_free(&text->buf);
	*text = (struct metrics_text){0};
}
