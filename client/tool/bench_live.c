/* The line that shows how a bench goes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "clock.h"
#include "terminal.h"

struct bench_live {
	const char *phase;
	bool shown;
	uint64_t before_ns; /* of the tick before */
	uint64_t errors;    /* of the phases before */
	uint64_t next_ns;   /* of a readback, which is not ticked by time */
	struct figures now, before, between;
};

struct bench_live *bench_live_new(void)
{
	if (!terminal_is_able(STDERR_FILENO))
		return NULL;
	return calloc(1, sizeof(struct bench_live)); /* without memory, there is no line */
}

void bench_live_free(struct bench_live *live)
{
	free(live);
}

void bench_live_phase(struct bench_live *live, const char *phase)
{
	live->phase = phase;
	live->errors += live->now.errors;
	live->before_ns = live->next_ns = 0;
	memset(&live->now, 0, sizeof(live->now));
	memset(&live->before, 0, sizeof(live->before));
}

/* Never more than one row: what is longer is cut. */
static void show(struct bench_live *live, const char *text)
{
	size_t columns, rows;
	terminal_size(STDERR_FILENO, &columns, &rows);
	fprintf(stderr, "\r%.*s\033[K", (int)columns - 1, text);
	fflush(stderr);
	live->shown = true;
}

void bench_live_tick(const struct figures figures[BENCH_OPS], uint64_t elapsed_ns, void *arg)
{
	struct bench_live *live = arg;
	struct figures *now = &live->now, *before = &live->before;
	char text[256];
	double seconds = (double)(elapsed_ns - live->before_ns) / 1e9;
	memset(now, 0, sizeof(*now));
	for (int op = 0; op < BENCH_OPS; op++)
		figures_merge(now, &figures[op]);
	histogram_since(&now->latency_ns, &before->latency_ns, &live->between.latency_ns);
	(void)snprintf(text, sizeof(text),
		"%s%.1f s: %.0f requests/s, %.0f entries/s, %.1f MiB/s, p50 %.0f us, p99 %.0f us, %" PRIu64 " errors",
		live->phase, (double)elapsed_ns / 1e9, (double)(now->answers - before->answers) / seconds,
		(double)(now->entries - before->entries) / seconds,
		(double)(now->bytes - before->bytes) / seconds / 1048576,
		(double)histogram_at(&live->between.latency_ns, 0.5) / 1e3,
		(double)histogram_at(&live->between.latency_ns, 0.99) / 1e3, live->errors + now->errors);
	show(live, text);
	*before = *now;
	live->before_ns = elapsed_ns;
}

void bench_live_readback(const struct readback_result *so_far, void *arg)
{
	struct bench_live *live = arg;
	uint64_t now_ns = clock_now_ns();
	char text[256];
	if (now_ns < live->next_ns)
		return;
	live->next_ns = now_ns + BENCH_TICK_NS;
	(void)snprintf(text, sizeof(text), "%s%" PRIu64 " entries found, %" PRIu64 " mismatches", live->phase,
		so_far->found, so_far->complaints.count);
	show(live, text);
}

void bench_live_clear(struct bench_live *live)
{
	if (live->shown)
		fputs("\r\033[K", stderr);
	live->shown = false;
}
