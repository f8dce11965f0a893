#include <math.h>
#include <stdio.h>

#include "tool.h"
#include "watch_log.h"
#include "watch_text.h"

/* ---- lines ---- */

#define TIME_COLUMNS 20
#define STATE_COLUMNS 13

static double of_counter(const struct watch_figures *figures, int counter)
{
	return figures->rates[counter];
}

static double per_sync(const struct watch_figures *figures, int unused)
{
	(void)unused;
	return watch_ratio(figures->rates[WATCH_ENTRIES], figures->rates[WATCH_SYNCS]);
}

static double per_group(const struct watch_figures *figures, int unused)
{
	(void)unused;
	return watch_ratio(figures->rates[WATCH_REQUESTS], figures->rates[WATCH_GROUPS]);
}

static double refused(const struct watch_figures *figures, int unused)
{
	(void)unused;
	return watch_refused_rate(figures);
}

static double queue(const struct watch_figures *figures, int unused)
{
	(void)unused;
	return watch_value(figures->queue);
}

static double gauge(const struct watch_figures *figures, int number)
{
	return watch_value(figures->gauges[number]);
}

static double sync_p99(const struct watch_figures *figures, int unused)
{
	(void)unused;
	return watch_value(figures->sync.p99);
}

static const struct {
	const char *heading;
	int width, digits;
	double (*value)(const struct watch_figures *figures, int argument);
	int argument;
} columns[] = {
	{"REFUSED/S", 9, 1, refused, 0},
	{"APPENDS/S", 10, 1, of_counter, WATCH_APPENDS},
	{"ENTRIES/S", 11, 1, of_counter, WATCH_ENTRIES},
	{"BYTES/S", 12, 0, of_counter, WATCH_BYTES},
	{"SYNCS/S", 9, 1, of_counter, WATCH_SYNCS},
	{"ENTRIES/SYNC", 12, 1, per_sync, 0},
	{"REQUESTS/GROUP", 14, 1, per_group, 0},
	{"SYNC_P99_US", 11, 0, sync_p99, 0},
	{"QUEUE", 6, 0, queue, 0},
	{"CONNECTIONS", 11, 0, gauge, WATCH_CONNECTIONS},
	{"INFLIGHT_BYTES", 14, 0, gauge, WATCH_INFLIGHT},
	{"DISK_FREE_BYTES", 15, 0, gauge, WATCH_DISK_FREE},
	{"UPTIME_S", 9, 0, gauge, WATCH_UPTIME},
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

void watch_log_header(void)
{
	out_format("%-*s %-*s", TIME_COLUMNS, "TIME", STATE_COLUMNS, "STATE");
	for (size_t i = 0; i < COLUMNS; i++)
		out_format(" %*s", columns[i].width, columns[i].heading);
	out_write("\n", 1);
}

void watch_log_line(const struct watch_scene *scene)
{
	out_format("%-*s %-*s", TIME_COLUMNS, scene->time, STATE_COLUMNS, watch_state_name(scene->state));
	for (size_t i = 0; i < COLUMNS; i++) {
		const double value =
			scene->figures != NULL ? columns[i].value(scene->figures, columns[i].argument) : NAN;
		if (isnan(value))
			out_format(" %*s", columns[i].width, "-");
		else
			out_format(" %*.*f", columns[i].width, columns[i].digits, value);
	}
	out_write("\n", 1);
}

/* ---- JSON ---- */

static const char *const gauge_names[WATCH_GAUGES] = {
	[WATCH_UPTIME] = "uptime_seconds",
	[WATCH_CONNECTIONS] = "connections",
	[WATCH_CONNECTIONS_MAX] = "connections_max",
	[WATCH_INFLIGHT] = "inflight_bytes",
	[WATCH_INFLIGHT_MAX] = "inflight_bytes_max",
	[WATCH_WAITING_ITERS] = "waiting_iters",
	[WATCH_POOL_READS] = "pool_reads",
	[WATCH_DISK_TOTAL] = "disk_total_bytes",
	[WATCH_DISK_FREE] = "disk_free_bytes",
	[WATCH_STREAMS] = "streams",
	[WATCH_SEGMENTS] = "segments",
	[WATCH_SEGMENT_BYTES] = "segment_bytes",
	[WATCH_DAMAGE] = "damage_found",
	[WATCH_DISK_WAITS_NOW] = "disk_waits_now",
};

static void put_count(struct json *json, const char *key, struct watch_count count)
{
	json_key(json, key);
	if (count.known)
		json_u64(json, count.n);
	else
		json_null(json);
}

static void put_rate(struct json *json, enum watch_counter counter, double value)
{
	char key[48];
	(void)snprintf(key, sizeof(key), "%s_per_second", watch_counter_name(counter));
	json_put_double(json, key, value);
}

static void put_latency(struct json *json, const char *key, const struct watch_latency *latency)
{
	json_key(json, key);
	json_map(json);
	json_put_double(json, "mean_now", latency->mean_now);
	put_count(json, "p50", latency->p50);
	put_count(json, "p99", latency->p99);
	put_count(json, "max", latency->max);
	json_map_end(json);
}

static void put_refusals(struct json *json, const struct watch_figures *figures)
{
	json_key(json, "refusals");
	json_map(json);
	for (size_t i = 0; i < figures->refusal_count; i++) {
		const struct watch_refusal *refusal = &figures->refusals[i];
		json_key(json, refusal->name);
		json_map(json);
		json_put_u64(json, "count", refusal->total);
		json_put_double(json, "per_second", refusal->rate);
		json_map_end(json);
	}
	json_map_end(json);
}

static void put_writers(struct json *json, const struct watch_figures *figures)
{
	json_key(json, "writers");
	json_array(json);
	for (size_t i = 0; i < figures->writer_count; i++) {
		const struct watch_writer *writer = &figures->writers[i];
		json_map(json);
		json_put_u64(json, "writer", writer->number);
		json_put_bool(json, "failed", writer->failed);
		if (writer->streams.known)
			put_count(json, "streams", writer->streams);
		put_count(json, "queue_depth", writer->queue);
		for (enum watch_counter c = 0; c < WATCH_COUNTERS; c++)
			put_rate(json, c, writer->rates[c]);
		put_latency(json, "sync_us", &writer->sync);
		put_latency(json, "queue_us", &writer->queued);
		json_map_end(json);
	}
	json_array_end(json);
}

static void put_methods(struct json *json, const struct watch_figures *figures)
{
	json_key(json, "requests");
	json_map(json);
	for (size_t i = 0; i < figures->method_count; i++) {
		const struct watch_method *method = &figures->methods[i];
		json_key(json, method->name);
		json_map(json);
		json_put_u64(json, "count", method->count);
		json_put_double(json, "per_second", method->rate);
		json_put_double(json, "errors_per_second", method->error_rate);
		put_latency(json, "latency_us", &method->latency);
		json_map_end(json);
	}
	json_map_end(json);
}

static void put_figures(struct json *json, const struct watch_figures *figures)
{
	json_put_str(json, "version", figures->version);
	json_put_str(json, "sync_mode", figures->sync_mode);
	json_put_double(json, "refused_per_second", watch_refused_rate(figures));
	for (enum watch_counter c = 0; c < WATCH_COUNTERS; c++) {
		put_count(json, watch_counter_name(c), figures->totals[c]);
		put_rate(json, c, figures->rates[c]);
	}
	json_put_double(json, "entries_per_sync", per_sync(figures, 0));
	json_put_double(json, "requests_per_group", per_group(figures, 0));
	put_latency(json, "sync_us", &figures->sync);
	put_latency(json, "queue_us", &figures->queued);
	put_count(json, "queue_depth", figures->queue);
	for (enum watch_gauge g = 0; g < WATCH_GAUGES; g++)
		put_count(json, gauge_names[g], figures->gauges[g]);
	json_put_double(json, "disk_waits", figures->disk_waits);
	json_put_double(json, "disk_waits_us", figures->disk_wait_us);
	put_refusals(json, figures);
	put_writers(json, figures);
	put_methods(json, figures);
}

void watch_log_json(const struct watch_scene *scene)
{
	struct json *json = json_new();
	const bool has_answer = scene->figures != NULL;
	json_map(json);
	json_put_str(json, "time", scene->time);
	json_put_str(json, "state", watch_state_name(scene->state));
	json_put_str(json, "reason", scene->why);
	json_put_double(json, "silent_seconds", has_answer ? 0 : scene->for_seconds);
	json_put_u64(json, "restarts", scene->restarts);
	/* What lies between this answer and the one before: null, and so are all rates, if there is none. */
	json_put_double(json, "seconds", has_answer ? scene->figures->seconds : NAN);
	json_put_double(json, "answer_us", has_answer ? floor(scene->answer_us) : NAN);
	if (has_answer)
		put_figures(json, scene->figures);
	json_map_end(json);
	json_line(json);
	json_free(json);
}
