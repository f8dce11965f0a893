/*
 * metrics_text: numbers in the text format of Prometheus, version 0.0.4.
 *
 *   # HELP ironwald_appends_total Appends that were written.
 *   # TYPE ironwald_appends_total counter
 *   ironwald_appends_total{writer="0"} 12
 *
 * Owns the text; {0} is a legal empty one. One thread at a time may use one text.
 * Invariant: unless `failed` (out of memory), it is whole lines, and the samples of a family stand together behind its
 * HELP and TYPE.
 */
#ifndef IRONWALD_METRICS_TEXT_H
#define IRONWALD_METRICS_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"
#include "engine.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metrics_text {
	struct buf buf;
	const char *name; /* of the family that is being written */
	bool failed;
};

/* What a value of a histogram is counted in, and which of its buckets are told: those below `first` count in it, those
 * above `last` only in +Inf. last < HISTOGRAM_BUCKETS. */
struct metrics_scale {
	bool nanoseconds; /* told as seconds; else as they are */
	unsigned first, last;
};

/* Begins a family. name is kept until the next one begins; both are as they are to be shown: help without line breaks
 * and backslashes. */
void metrics_family(struct metrics_text *text, const char *name, enum metric_type type, const char *help);

/* A sample of a counter or a gauge. labels: `code="Busy"`, with what is special in them escaped; NULL: none. */
void metrics_value(struct metrics_text *text, const char *labels, uint64_t value);
/* The same, in seconds. */
void metrics_seconds(struct metrics_text *text, const char *labels, uint64_t ns);

/* All samples of a histogram. Its count is that of its buckets, so that the two agree whatever was added meanwhile. */
void metrics_histogram(struct metrics_text *text, const char *labels, const struct histogram *histogram,
	const struct metrics_scale *scale);

void metrics_text_free(struct metrics_text *text);

#endif
