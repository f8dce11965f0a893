#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "watch_figures.h"

/* Of these each counter is the sum. */
static const char *const counter_paths[WATCH_COUNTERS][3] = {
	[WATCH_APPENDS] = {"appends"},
	[WATCH_ENTRIES] = {"entries"},
	[WATCH_BYTES] = {"entry_bytes"},
	[WATCH_SYNCS] = {"file_syncs", "dir_syncs", "journal_syncs"},
	[WATCH_GROUPS] = {"groups"},
	[WATCH_REQUESTS] = {"queue_us.count"},
	[WATCH_NO_SPACE] = {"no_space_errors"},
};

static const char *const counter_names[WATCH_COUNTERS] = {
	[WATCH_APPENDS] = "appends",
	[WATCH_ENTRIES] = "entries",
	[WATCH_BYTES] = "entry_bytes",
	[WATCH_SYNCS] = "syncs",
	[WATCH_GROUPS] = "groups",
	[WATCH_REQUESTS] = "group_requests",
	[WATCH_NO_SPACE] = "no_space_errors",
};

static const char *const gauge_paths[WATCH_GAUGES] = {
	[WATCH_UPTIME] = "server.uptime_seconds",
	[WATCH_CONNECTIONS] = "connections.current",
	[WATCH_CONNECTIONS_MAX] = "connections.max",
	[WATCH_INFLIGHT] = "connections.inflight_bytes",
	[WATCH_INFLIGHT_MAX] = "connections.max_inflight_bytes_total",
	[WATCH_WAITING_ITERS] = "connections.waiting_iters",
	[WATCH_POOL_READS] = "connections.pool_reads_now",
	[WATCH_DISK_TOTAL] = "engine.disk_total_bytes",
	[WATCH_DISK_FREE] = "engine.disk_free_bytes",
	[WATCH_STREAMS] = "engine.streams",
	[WATCH_SEGMENTS] = "engine.segments",
	[WATCH_SEGMENT_BYTES] = "engine.segment_bytes",
	[WATCH_DAMAGE] = "engine.damage_found",
	[WATCH_DISK_WAITS_NOW] = "health.disk_waits_now",
};

/* Besides the errors by code. */
static const struct {
	const char *path, *name;
} refusal_paths[] = {
	{"connections.refused", "connections"},
	{"connections.protocol_errors", "protocol"},
	{"connections.timeouts", "timeouts"},
	{"access.wrong_tokens", "wrong-tokens"},
	{"access.held_off", "held-off"},
	{"access.tls_failures", "tls"},
};
#define REFUSAL_PATHS (sizeof(refusal_paths) / sizeof(refusal_paths[0]))

/* How far a mean of the interval may be off: so much of itself, or so many microseconds. */
#define MEAN_OFF_MAX 0.2
#define MEAN_OFF_US_MAX 2.0

/* The writers' counts, with what they were before. */
struct pair {
	struct watch_count now, before;
};

static struct watch_count count_of(const struct stats_node *node)
{
	const bool known = node != NULL && node->is_number;
	return (struct watch_count){known, known ? node->number : 0};
}

static struct watch_count count_at(const struct stats_node *node, const char *path)
{
	return count_of(stats_tree_find(node, path));
}

static void add(struct watch_count *sum, struct watch_count part)
{
	sum->known = sum->known || part.known;
	sum->n += part.n;
}

static struct watch_count counter_at(const struct stats_node *writer, enum watch_counter counter)
{
	struct watch_count sum = {false, 0};
	for (size_t i = 0; i < 3 && counter_paths[counter][i] != NULL; i++)
		add(&sum, count_at(writer, counter_paths[counter][i]));
	return sum;
}

static struct pair pair_at(const struct stats_node *now, const struct stats_node *before, const char *path)
{
	return (struct pair){count_at(now, path), count_at(before, path)};
}

/* What came in between. What was not counted before had not happened: a kind of request, or an error. */
static double between(struct watch_figures *figures, struct pair pair)
{
	if (isnan(figures->seconds) || !pair.now.known)
		return NAN;
	if (pair.now.n < pair.before.n) {
		figures->went_back = true;
		return NAN;
	}
	return (double)(pair.now.n - pair.before.n);
}

static double rate(struct watch_figures *figures, struct pair pair)
{
	return watch_ratio(between(figures, pair), figures->seconds);
}

double watch_ratio(double above, double below)
{
	return below > 0 ? above / below : NAN;
}

/* Means come as whole numbers, cut: m is anything from m to m + 1, so that the sum of what came in between is known
 * only within the count of all there ever was. */
static double mean_between(double count, double mean, double count_before, double mean_before)
{
	const double calls = count - count_before;
	if (!(calls > 0))
		return NAN;
	double least = (count * mean - count_before * (mean_before + 1)) / calls;
	const double most = (count * (mean + 1) - count_before * mean_before) / calls;
	if (least < 0)
		least = 0;
	const double middle = (least + most) / 2;
	return most >= least && most - least <= fmax(MEAN_OFF_MAX * middle, MEAN_OFF_US_MAX) ? middle : NAN;
}

static struct watch_latency latency_at(
	struct watch_figures *figures, const struct stats_node *now, const struct stats_node *before)
{
	struct watch_latency latency = {count_at(now, "p50"), count_at(now, "p99"), count_at(now, "max"), NAN};
	const struct pair count = pair_at(now, before, "count"), mean = pair_at(now, before, "mean");
	if (!isnan(between(figures, count)) && mean.now.known)
		latency.mean_now = mean_between(
			(double)count.now.n, (double)mean.now.n, (double)count.before.n, (double)mean.before.n);
	if (count.now.n == 0) /* its zeros are no latencies */
		latency.p50.known = latency.p99.known = latency.max.known = false;
	return latency;
}

static void worse(struct watch_count *worst, struct watch_count one)
{
	if (one.known && (!worst->known || one.n > worst->n))
		*worst = one;
}

static void worse_latency(struct watch_latency *worst, const struct watch_latency *one)
{
	worse(&worst->p50, one->p50);
	worse(&worst->p99, one->p99);
	worse(&worst->max, one->max);
	worst->mean_now = fmax(worst->mean_now, one->mean_now); /* of NAN and a number: the number */
}

static double or_zero(double value)
{
	return isnan(value) ? 0 : value;
}

static int compare(double a, double b)
{
	return or_zero(a) < or_zero(b) ? 1 : or_zero(a) > or_zero(b) ? -1 : 0;
}

static int by_need(const void *a, const void *b)
{
	const struct watch_writer *one = a, *other = b;
	int order = (int)other->failed - (int)one->failed;
	if (order == 0)
		order = compare(one->rates[WATCH_ENTRIES], other->rates[WATCH_ENTRIES]);
	if (order == 0)
		order = compare((double)one->queue.n, (double)other->queue.n);
	return order != 0 ? order : one->number < other->number ? -1 : 1;
}

static int by_rate(const void *a, const void *b)
{
	const struct watch_method *one = a, *other = b;
	int order = compare(one->rate, other->rate);
	if (order == 0)
		order = compare((double)one->count, (double)other->count);
	return order != 0 ? order : strcmp(one->name, other->name);
}

static int by_refused(const void *a, const void *b)
{
	const struct watch_refusal *one = a, *other = b;
	int order = compare(one->rate, other->rate);
	if (order == 0)
		order = compare((double)one->total, (double)other->total);
	return order != 0 ? order : strcmp(one->name, other->name);
}

static bool make_writers(struct watch_figures *figures, const struct stats_node *now, const struct stats_node *before)
{
	const struct stats_node *list = stats_tree_find(now, "writers"),
				*list_before = stats_tree_find(before, "writers");
	struct pair sums[WATCH_COUNTERS] = {0};
	const size_t count = list != NULL && list->text == NULL ? list->count : 0;
	if ((figures->writers = calloc(count + 1, sizeof(*figures->writers))) == NULL)
		return false;
	for (size_t i = 0; i < count; i++) {
		const struct stats_node *node = list->children[i];
		const struct stats_node *node_before = stats_tree_child(list_before, node->name);
		struct watch_writer *writer = &figures->writers[i];
		const struct watch_count number = count_at(node, "writer");
		writer->number = number.known ? number.n : i;
		writer->failed = count_at(node, "failed").n != 0;
		writer->streams = count_at(node, "streams");
		writer->queue = count_at(node, "queue_depth");
		add(&figures->queue, writer->queue);
		for (enum watch_counter c = 0; c < WATCH_COUNTERS; c++) {
			const struct pair pair = {counter_at(node, c), counter_at(node_before, c)};
			writer->rates[c] = rate(figures, pair);
			add(&sums[c].now, pair.now);
			add(&sums[c].before, pair.before);
		}
		writer->sync =
			latency_at(figures, stats_tree_find(node, "sync_us"), stats_tree_find(node_before, "sync_us"));
		writer->queued = latency_at(
			figures, stats_tree_find(node, "queue_us"), stats_tree_find(node_before, "queue_us"));
		worse_latency(&figures->sync, &writer->sync);
		worse_latency(&figures->queued, &writer->queued);
	}
	for (enum watch_counter c = 0; c < WATCH_COUNTERS; c++) {
		figures->totals[c] = sums[c].now;
		figures->rates[c] = rate(figures, sums[c]);
	}
	figures->writer_count = count;
	return true;
}

static bool make_methods(struct watch_figures *figures, const struct stats_node *now, const struct stats_node *before)
{
	const struct stats_node *map = stats_tree_find(now, "requests"),
				*map_before = stats_tree_find(before, "requests");
	const size_t count = map != NULL && map->text == NULL ? map->count : 0;
	if ((figures->methods = calloc(count + 1, sizeof(*figures->methods))) == NULL)
		return false;
	for (size_t i = 0; i < count; i++) {
		const struct stats_node *node = map->children[i],
					*node_before = stats_tree_child(map_before, node->name);
		struct watch_method *method = &figures->methods[i];
		method->name = node->name;
		method->count = count_at(node, "count").n;
		method->rate = rate(figures, pair_at(node, node_before, "count"));
		method->error_rate = rate(figures, pair_at(node, node_before, "errors"));
		method->latency = latency_at(
			figures, stats_tree_find(node, "latency_us"), stats_tree_find(node_before, "latency_us"));
	}
	figures->method_count = count;
	return true;
}

static void add_refusal(struct watch_figures *figures, const char *name, struct pair pair)
{
	/* Asked of all: one that went back to 0 says that another process counts. */
	const double in_between = rate(figures, pair);
	if (pair.now.n > 0)
		figures->refusals[figures->refusal_count++] = (struct watch_refusal){name, pair.now.n, in_between};
}

static bool make_refusals(struct watch_figures *figures, const struct stats_node *now, const struct stats_node *before)
{
	const struct stats_node *map = stats_tree_find(now, "errors"), *map_before = stats_tree_find(before, "errors");
	const size_t count = map != NULL && map->text == NULL ? map->count : 0;
	if ((figures->refusals = calloc(count + REFUSAL_PATHS + 1, sizeof(*figures->refusals))) == NULL)
		return false;
	for (size_t i = 0; i < count; i++) {
		const struct stats_node *node = map->children[i];
		const struct stats_node *node_before = stats_tree_child(map_before, node->name);
		add_refusal(figures, node->name, (struct pair){count_of(node), count_of(node_before)});
	}
	for (size_t i = 0; i < REFUSAL_PATHS; i++)
		add_refusal(figures, refusal_paths[i].name, pair_at(now, before, refusal_paths[i].path));
	return true;
}

static const char *text_at(const struct stats_node *node, const char *path)
{
	const struct stats_node *found = stats_tree_find(node, path);
	/* An empty text is "-" in a tree. */
	return found != NULL && found->text != NULL && strcmp(found->text, "-") != 0 ? found->text : "";
}

static void judge(struct watch_figures *figures, const struct stats_node *now)
{
	const struct watch_count ready = count_at(now, "health.ready"), alive = count_at(now, "health.alive");
	const bool checkpoints_failed = count_at(now, "checkpoints.failed").n != 0;
	figures->why = text_at(now, "health.reason");
	figures->state = WATCH_OK;
	if (figures->rates[WATCH_NO_SPACE] > 0) {
		figures->state = WATCH_NO_SPACE_LEFT;
		figures->why = "appends are refused: there is no space left on the disk";
	} else if (figures->gauges[WATCH_DISK_WAITS_NOW].n > 0 || figures->disk_waits > 0) {
		figures->state = WATCH_SLOW_DISK;
	}
	if ((ready.known && ready.n == 0) || (alive.known && alive.n == 0)) {
		figures->state = WATCH_NOT_READY;
		figures->why = text_at(now, "health.reason");
	} else if (checkpoints_failed) {
		figures->state = WATCH_NOT_READY;
		figures->why = text_at(now, "checkpoints.failed_reason");
	}
	for (size_t i = 0; i < figures->writer_count && figures->state != WATCH_NOT_READY; i++) {
		if (figures->writers[i].failed)
			figures->state = WATCH_NOT_READY;
	}
}

static bool make(
	struct watch_figures *figures, const struct stats_node *now, const struct stats_node *before, double seconds)
{
	*figures = (struct watch_figures){.why = "",
		.seconds = before != NULL && seconds > 0 ? seconds : NAN,
		.version = text_at(now, "server.version"),
		.sync_mode = text_at(now, "server.sync_mode"),
		.sync.mean_now = NAN,
		.queued.mean_now = NAN};
	for (enum watch_gauge g = 0; g < WATCH_GAUGES; g++)
		figures->gauges[g] = count_at(now, gauge_paths[g]);
	figures->disk_waits = between(figures, pair_at(now, before, "health.disk_waits"));
	figures->disk_wait_us = between(figures, pair_at(now, before, "health.disk_waits_us"));
	if (figures->gauges[WATCH_UPTIME].n < count_at(before, gauge_paths[WATCH_UPTIME]).n)
		figures->went_back = true;
	if (make_writers(figures, now, before) && make_methods(figures, now, before) &&
		make_refusals(figures, now, before))
		return true;
	watch_figures_free(figures);
	return false;
}

bool watch_figures_make(
	struct watch_figures *ret, const struct stats_node *now, const struct stats_node *before, double seconds)
{
	if (!make(ret, now, before, seconds))
		return false;
	if (ret->went_back) {
		/* All over: also what is above what it was before is not that much more. */
		watch_figures_free(ret);
		if (!make(ret, now, NULL, NAN))
			return false;
		ret->went_back = true;
	}
	qsort(ret->writers, ret->writer_count, sizeof(*ret->writers), by_need);
	qsort(ret->methods, ret->method_count, sizeof(*ret->methods), by_rate);
	qsort(ret->refusals, ret->refusal_count, sizeof(*ret->refusals), by_refused);
	judge(ret, now);
	return true;
}

void watch_figures_free(struct watch_figures *figures)
{
	free(figures->refusals);
	free(figures->writers);
	free(figures->methods);
	figures->refusals = NULL;
	figures->writers = NULL;
	figures->methods = NULL;
	figures->refusal_count = figures->writer_count = figures->method_count = 0;
}

double watch_refused_rate(const struct watch_figures *figures)
{
	double sum = isnan(figures->seconds) ? NAN : 0;
	for (size_t i = 0; i < figures->refusal_count; i++)
		sum += figures->refusals[i].rate;
	return sum;
}

const char *watch_state_name(enum watch_state state)
{
	static const char *const names[] = {"ok", "slow-disk", "no-space", "not-ready", "no-answer", "no-connection"};
	return names[state];
}

const char *watch_counter_name(enum watch_counter counter)
{
	return counter_names[counter];
}
