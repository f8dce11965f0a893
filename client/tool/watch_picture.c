#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "watch_picture.h"
#include "watch_table.h"
#include "watch_text.h"

#define LABEL_COLUMNS 9 /* where there is room for labels */
#define LABEL_FROM 40	/* columns of a terminal that has it */
#define ITEM_COLUMNS 22 /* of a figure with its name */
#define TIME_OF_DAY 11	/* behind the date */
#define SMALL_ROWS 10	/* up to here, each part has one row */
#define REASON_ROWS_MAX 3
#define REFUSED_ROWS_MAX 2
/* Below so much of the disk it is coloured. */
#define FREE_PART_LOW 0.05

struct part {
	struct canvas *canvas;
	const char *label;
	size_t rows_left;
	bool begun;
};

static size_t margin(const struct canvas *canvas)
{
	return canvas->columns >= LABEL_FROM ? LABEL_COLUMNS : 0;
}

static struct part part_of(struct canvas *canvas, const char *label, size_t rows_max)
{
	return (struct part){canvas, label, canvas->rows <= SMALL_ROWS ? 1 : rows_max, false};
}

/* A name, and its figure at the right end of the room for both. */
static void item(struct part *part, enum style style, const char *name, const char *value)
{
	struct canvas *canvas = part->canvas;
	const size_t left = margin(canvas), room = canvas->columns - left;
	const size_t width = room < ITEM_COLUMNS ? room : ITEM_COLUMNS, value_len = strlen(value);
	if (part->rows_left == 0)
		return;
	if (part->begun && canvas->used + 2 + width > canvas->columns) {
		canvas_end_row(canvas);
		if (--part->rows_left == 0)
			return;
	}
	if (canvas->used == 0 && left > 0)
		canvas_put(canvas, STYLE_DIM, "%-*s", (int)left, part->begun ? "" : part->label);
	else if (canvas->used > left)
		canvas_put(canvas, STYLE_PLAIN, "  ");
	part->begun = true;
	const size_t name_room = width > value_len + 1 ? width - value_len - 1 : 0;
	canvas_put(canvas, STYLE_DIM, "%-*.*s", (int)name_room, (int)name_room, name);
	canvas_put(canvas, style, "%s%.*s", name_room > 0 ? " " : "", (int)width, value);
}

static void part_end(struct part *part)
{
	if (part->begun && part->rows_left > 0)
		canvas_end_row(part->canvas);
}

/* Left out if it is not known. */
static void known(struct part *part, const char *name, double value, struct watch_text text)
{
	if (!isnan(value))
		item(part, STYLE_PLAIN, name, text.text);
}

/* With the most that it can be, if there is room for that. */
static void of_most(struct part *part, const char *name, struct watch_count now, struct watch_count most,
	struct watch_text (*text)(double value))
{
	char both[40];
	if (!now.known)
		return;
	int len = snprintf(both, sizeof(both), "%s/%s", text((double)now.n).text, text((double)most.n).text);
	if (!most.known || (size_t)len + strlen(name) >= ITEM_COLUMNS)
		(void)snprintf(both, sizeof(both), "%s", text((double)now.n).text);
	item(part, most.known && now.n > 0 && now.n >= most.n / 10 * 9 ? STYLE_WARN : STYLE_PLAIN, name, both);
}

/* ---- the parts, by their worth ---- */

static void put_state(struct canvas *canvas, const struct watch_scene *scene)
{
	static const struct {
		const char *word;
		enum style style;
	} states[] = {{"OK", STYLE_GOOD}, {"SLOW DISK", STYLE_WARN}, {"NO SPACE", STYLE_BAD}, {"NOT READY", STYLE_BAD},
		{"NO ANSWER", STYLE_BAD}, {"NO CONNECTION", STYLE_BAD}};
	const char *why = scene->why;
	size_t rows = canvas->rows <= SMALL_ROWS ? 1 : REASON_ROWS_MAX;
	const size_t clock_len = strlen(scene->time + TIME_OF_DAY);
	canvas_put(canvas, states[scene->state].style, "%s", states[scene->state].word);
	if (scene->state >= WATCH_NO_ANSWER)
		canvas_put(canvas, states[scene->state].style, " for %s", watch_text_seconds(scene->for_seconds).text);
	if (*why != '\0')
		canvas_put(canvas, STYLE_PLAIN, ": ");
	/* The clock stands at the right end of the first row, if there is room for both. */
	size_t room = canvas->columns - canvas->used;
	const bool clock = room >= clock_len + 2 && (strlen(why) <= room - clock_len - 2 || room > clock_len + 30);
	if (clock)
		room -= clock_len + 2;
	for (bool first = true; first || (*why != '\0' && rows > 0); first = false) {
		const size_t len = strlen(why) < room ? strlen(why) : room;
		canvas_put(canvas, STYLE_PLAIN, "%.*s", (int)len, why);
		if (first && clock)
			canvas_put(canvas, STYLE_DIM, "%*s", (int)(canvas->columns - canvas->used),
				scene->time + TIME_OF_DAY);
		canvas_end_row(canvas);
		why += len;
		rows--;
		room = canvas->columns;
	}
}

static void put_refused(struct canvas *canvas, const struct watch_figures *figures)
{
	struct part part = part_of(canvas, "refused", REFUSED_ROWS_MAX);
	const double all = watch_refused_rate(figures);
	char text[40];
	item(&part, all > 0 ? STYLE_BAD : STYLE_PLAIN, "refused/s", watch_text_number(all).text);
	if (figures->gauges[WATCH_DAMAGE].n > 0)
		item(&part, STYLE_BAD, "damage found", watch_text_number((double)figures->gauges[WATCH_DAMAGE].n).text);
	for (size_t i = 0; i < figures->refusal_count; i++) {
		const struct watch_refusal *refusal = &figures->refusals[i];
		if (refusal->rate > 0)
			(void)snprintf(text, sizeof(text), "%s/s", watch_text_number(refusal->rate).text);
		else
			(void)snprintf(text, sizeof(text), "%s ever", watch_text_number((double)refusal->total).text);
		item(&part, refusal->rate > 0 ? STYLE_BAD : STYLE_PLAIN, refusal->name, text);
	}
	part_end(&part);
}

static void put_slow(struct canvas *canvas, const struct watch_scene *scene)
{
	const struct watch_figures *figures = scene->figures;
	const double p99 = watch_value(figures->sync.p99), max = watch_value(figures->sync.max);
	const double queued_p99 = watch_value(figures->queued.p99);
	struct part part = part_of(canvas, "slow", SIZE_MAX);
	if (figures->gauges[WATCH_DISK_WAITS_NOW].n > 0)
		item(&part, STYLE_BAD, "wait for disk",
			watch_text_number((double)figures->gauges[WATCH_DISK_WAITS_NOW].n).text);
	if (figures->disk_waits > 0)
		item(&part, STYLE_WARN, "waited for disk", watch_text_us(figures->disk_wait_us).text);
	known(&part, "sync now", figures->sync.mean_now, watch_text_us(figures->sync.mean_now));
	known(&part, "sync p99", p99, watch_text_us(p99));
	known(&part, "sync max", max, watch_text_us(max));
	known(&part, "queue now", figures->queued.mean_now, watch_text_us(figures->queued.mean_now));
	known(&part, "queue p99", queued_p99, watch_text_us(queued_p99));
	known(&part, "this answer", scene->answer_us, watch_text_us(scene->answer_us));
	part_end(&part);
}

static void put_rates(struct canvas *canvas, const struct watch_figures *figures)
{
	static const struct {
		enum watch_counter counter;
		const char *name;
	} shown[] = {{WATCH_APPENDS, "appends/s"}, {WATCH_ENTRIES, "entries/s"}, {WATCH_BYTES, "bytes/s"},
		{WATCH_SYNCS, "syncs/s"}};
	const double *rates = figures->rates;
	const double per_sync = watch_ratio(rates[WATCH_ENTRIES], rates[WATCH_SYNCS]);
	const double per_group = watch_ratio(rates[WATCH_REQUESTS], rates[WATCH_GROUPS]);
	struct part part = part_of(canvas, "rates", SIZE_MAX);
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
		const double rate = rates[shown[i].counter];
		if (figures->totals[shown[i].counter].known)
			item(&part, STYLE_PLAIN, shown[i].name,
				(shown[i].counter == WATCH_BYTES ? watch_text_bytes(rate) : watch_text_number(rate))
					.text);
	}
	if (figures->totals[WATCH_SYNCS].known)
		item(&part, STYLE_PLAIN, "entries/sync", watch_text_number(per_sync).text);
	if (figures->totals[WATCH_GROUPS].known)
		item(&part, STYLE_PLAIN, "requests/group", watch_text_number(per_group).text);
	part_end(&part);
}

static void put_load(struct canvas *canvas, const struct watch_figures *figures)
{
	const struct watch_count *gauges = figures->gauges;
	const double total = watch_value(gauges[WATCH_DISK_TOTAL]), free = watch_value(gauges[WATCH_DISK_FREE]);
	struct part part = part_of(canvas, "load", SIZE_MAX);
	if (figures->queue.known)
		item(&part, STYLE_PLAIN, "in queues", watch_text_number((double)figures->queue.n).text);
	of_most(&part, "connections", gauges[WATCH_CONNECTIONS], gauges[WATCH_CONNECTIONS_MAX], watch_text_number);
	of_most(&part, "in flight", gauges[WATCH_INFLIGHT], gauges[WATCH_INFLIGHT_MAX], watch_text_bytes);
	if (!isnan(free))
		item(&part, free < FREE_PART_LOW * total ? STYLE_BAD : STYLE_PLAIN, "disk free",
			watch_text_bytes(free).text);
	if (total >= free)
		known(&part, "disk used", total - free, watch_text_bytes(total - free));
	known(&part, "segments", watch_value(gauges[WATCH_SEGMENT_BYTES]),
		watch_text_bytes(watch_value(gauges[WATCH_SEGMENT_BYTES])));
	known(&part, "streams", watch_value(gauges[WATCH_STREAMS]),
		watch_text_number(watch_value(gauges[WATCH_STREAMS])));
	known(&part, "waiting reads", watch_value(gauges[WATCH_WAITING_ITERS]),
		watch_text_number(watch_value(gauges[WATCH_WAITING_ITERS])));
	known(&part, "disk reads", watch_value(gauges[WATCH_POOL_READS]),
		watch_text_number(watch_value(gauges[WATCH_POOL_READS])));
	part_end(&part);
}

/* Which one it is, in one row: what there is no room for is cut. */
static void put_server(struct canvas *canvas, const struct watch_scene *scene)
{
	const struct watch_figures *figures = scene->figures;
	const size_t left = margin(canvas);
	if (left > 0)
		canvas_put(canvas, STYLE_DIM, "%-*s", (int)left, "server");
	if (figures != NULL && figures->gauges[WATCH_UPTIME].known)
		canvas_put(canvas, STYLE_PLAIN, "up %s, ",
			watch_text_seconds((double)figures->gauges[WATCH_UPTIME].n).text);
	if (scene->restarts > 0)
		canvas_put(canvas, STYLE_WARN, "restarted %s", scene->restart_time + TIME_OF_DAY);
	if (scene->restarts > 1)
		canvas_put(canvas, STYLE_WARN, " (%llu times)", (unsigned long long)scene->restarts);
	if (scene->restarts > 0)
		canvas_put(canvas, STYLE_PLAIN, ", ");
	if (figures != NULL && *figures->version != '\0')
		canvas_put(canvas, STYLE_PLAIN, "%s ", figures->version);
	if (figures != NULL && *figures->sync_mode != '\0')
		canvas_put(canvas, STYLE_PLAIN, "%s ", figures->sync_mode);
	canvas_put(
		canvas, STYLE_PLAIN, "at %s, every %s", scene->address, watch_text_us(scene->every_seconds * 1e6).text);
	canvas_end_row(canvas);
}

int watch_picture(const struct watch_scene *scene, size_t columns, size_t rows, bool colour, struct buf *buf)
{
	/* The last column stays free: some terminals go on to the next row. */
	struct canvas canvas = {.buf = buf, .columns = columns > 1 ? columns - 1 : 1, .rows = rows, .colour = colour};
	put_state(&canvas, scene);
	if (scene->figures != NULL) {
		put_refused(&canvas, scene->figures);
		put_slow(&canvas, scene);
		put_rates(&canvas, scene->figures);
		put_load(&canvas, scene->figures);
	}
	put_server(&canvas, scene);
	if (scene->figures != NULL)
		watch_tables(&canvas, scene->figures);
	return canvas.failed ? -1 : 0;
}
