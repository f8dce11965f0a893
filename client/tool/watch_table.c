#include <math.h>
#include <stdio.h>
#include <string.h>

#include "watch_table.h"
#include "watch_text.h"

#define COLUMNS_MAX 10
#define NAME_COLUMNS_MAX 20
/* An empty row, a heading, and a row. */
#define TABLE_ROWS_MIN 3

/* What a row says in a column. What does not add up (a latency) is, of several rows, the greatest. */
struct column {
	const char *heading;
	int width;
	bool adds_up;
	struct watch_text (*text)(double value);
};

struct table {
	const struct column *columns;
	size_t column_count, row_count;
	int name_width;
	const char *heading;
	/* The name of a row, and whether it is one to look at first. */
	bool (*name)(const struct watch_figures *figures, size_t row, char *text, size_t size);
	double (*value)(const struct watch_figures *figures, size_t row, size_t column);
};

/* ---- writers ---- */

static const struct column writer_columns[] = {
	{"STREAMS", 8, true, watch_text_number},
	{"QUEUE", 6, true, watch_text_number},
	{"APPENDS/S", 9, true, watch_text_number},
	{"ENTRIES/S", 9, true, watch_text_number},
	{"BYTES/S", 9, true, watch_text_bytes},
	{"SYNCS/S", 7, true, watch_text_number},
	{"SYNC NOW", 8, false, watch_text_us},
	{"SYNC P99", 8, false, watch_text_us},
	{"SYNC MAX", 8, false, watch_text_us},
};

static bool writer_name(const struct watch_figures *figures, size_t row, char *text, size_t size)
{
	const struct watch_writer *writer = &figures->writers[row];
	(void)snprintf(text, size, "%llu%s", (unsigned long long)writer->number, writer->failed ? " failed" : " ok");
	return writer->failed;
}

static double writer_value(const struct watch_figures *figures, size_t row, size_t column)
{
	const struct watch_writer *writer = &figures->writers[row];
	const double values[] = {watch_value(writer->streams), watch_value(writer->queue), writer->rates[WATCH_APPENDS],
		writer->rates[WATCH_ENTRIES], writer->rates[WATCH_BYTES], writer->rates[WATCH_SYNCS],
		writer->sync.mean_now, watch_value(writer->sync.p99), watch_value(writer->sync.max)};
	return values[column];
}

/* ---- kinds of requests ---- */

static const struct column method_columns[] = {
	{"REQUESTS/S", 10, true, watch_text_number},
	{"ERRORS/S", 8, true, watch_text_number},
	{"NOW", 7, false, watch_text_us},
	{"P50", 7, false, watch_text_us},
	{"P99", 7, false, watch_text_us},
	{"MAX", 7, false, watch_text_us},
	{"EVER", 7, true, watch_text_number},
};

static bool method_name(const struct watch_figures *figures, size_t row, char *text, size_t size)
{
	(void)snprintf(text, size, "%s", figures->methods[row].name);
	return figures->methods[row].error_rate > 0;
}

static double method_value(const struct watch_figures *figures, size_t row, size_t column)
{
	const struct watch_method *method = &figures->methods[row];
	const double values[] = {method->rate, method->error_rate, method->latency.mean_now,
		watch_value(method->latency.p50), watch_value(method->latency.p99), watch_value(method->latency.max),
		(double)method->count};
	return values[column];
}

/* ---- any of them ---- */

/* Of all rows from `first` on. */
static double together(const struct table *table, const struct watch_figures *figures, size_t first, size_t column)
{
	double sum = NAN;
	for (size_t row = first; row < table->row_count; row++) {
		const double value = table->value(figures, row, column);
		if (isnan(value))
			continue;
		if (isnan(sum))
			sum = 0;
		sum = table->columns[column].adds_up ? sum + value : fmax(sum, value);
	}
	return sum;
}

/* rows: with the empty one and the heading. */
static void put_table(
	struct canvas *canvas, const struct table *table, const struct watch_figures *figures, size_t rows)
{
	bool shown[COLUMNS_MAX] = {false};
	size_t width = (size_t)table->name_width;
	char name[64];
	for (size_t c = 0; c < table->column_count; c++) {
		shown[c] = !isnan(together(table, figures, 0, c)) &&
			   width + 1 + (size_t)table->columns[c].width <= canvas->columns;
		if (shown[c])
			width += 1 + (size_t)table->columns[c].width;
	}
	canvas_end_row(canvas);
	canvas_put(canvas, STYLE_HEADING, "%-*s", table->name_width, table->heading);
	for (size_t c = 0; c < table->column_count; c++) {
		if (shown[c])
			canvas_put(canvas, STYLE_HEADING, " %*s", table->columns[c].width, table->columns[c].heading);
	}
	canvas_end_row(canvas);
	const bool all = table->row_count <= rows - 2;
	const size_t own = all ? table->row_count : rows - 3;
	for (size_t row = 0; row < own + !all; row++) {
		bool look = false;
		if (row < own)
			look = table->name(figures, row, name, sizeof(name));
		else
			(void)snprintf(
				name, sizeof(name), "%zu %s", table->row_count - own, own > 0 ? "others" : "in all");
		canvas_put(
			canvas, look ? STYLE_BAD : STYLE_PLAIN, "%-*.*s", table->name_width, table->name_width, name);
		for (size_t c = 0; c < table->column_count; c++) {
			const double value =
				row < own ? table->value(figures, row, c) : together(table, figures, own, c);
			if (shown[c])
				canvas_put(canvas, STYLE_PLAIN, " %*s", table->columns[c].width,
					table->columns[c].text(value).text);
		}
		canvas_end_row(canvas);
	}
}

static size_t rows_wanted(const struct table *table)
{
	return table->row_count > 0 ? table->row_count + 2 : 0;
}

void watch_tables(struct canvas *canvas, const struct watch_figures *figures)
{
	const struct table writers = {writer_columns, sizeof(writer_columns) / sizeof(writer_columns[0]),
		figures->writer_count, 11, "WRITER", writer_name, writer_value};
	struct table methods = {method_columns, sizeof(method_columns) / sizeof(method_columns[0]),
		figures->method_count, 8, "REQUEST", method_name, method_value};
	for (size_t i = 0; i < figures->method_count; i++) {
		const size_t len = strlen(figures->methods[i].name);
		if ((int)(len < NAME_COLUMNS_MAX ? len : NAME_COLUMNS_MAX) > methods.name_width)
			methods.name_width = (int)(len < NAME_COLUMNS_MAX ? len : NAME_COLUMNS_MAX);
	}
	/* Each has what it needs, if there is room for both; else half of it, or what the other one leaves. */
	const size_t left = canvas_rows_left(canvas);
	size_t for_writers = rows_wanted(&writers), for_methods = rows_wanted(&methods);
	if (for_writers + for_methods > left) {
		const size_t rest = left > for_methods ? left - for_methods : 0;
		const size_t share = rest > left - left / 2 ? rest : left - left / 2;
		for_writers = for_writers < share ? for_writers : share;
		for_methods = left - for_writers;
		if (for_methods < TABLE_ROWS_MIN)
			for_writers = rows_wanted(&writers) < left ? rows_wanted(&writers) : left;
	}
	if (for_writers >= TABLE_ROWS_MIN)
		put_table(canvas, &writers, figures, for_writers);
	if (for_methods >= TABLE_ROWS_MIN)
		put_table(canvas, &methods, figures, for_methods);
}
