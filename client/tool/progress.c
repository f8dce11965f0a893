#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "progress.h"
#include "terminal.h"

#define FIRST_NS NS_PER_SECOND
#define EVERY_NS (200 * NS_PER_MS)
#define BAR_CELLS_MAX 24
#define BAR_CELLS_MIN 8
#define ERASE "\r\033[K"

void progress_start(struct progress *progress, const char *noun, uint64_t total_bytes, uint64_t total_count)
{
	*progress = (struct progress){.enabled = terminal_is_able(STDERR_FILENO),
		.noun = noun,
		.total_bytes = total_bytes,
		.total_count = total_count,
		.start_ns = clock_now_ns()};
	progress->next_ns = progress->start_ns + FIRST_NS;
}

static void time_left(char *text, size_t size, uint64_t seconds)
{
	unsigned long long hours = seconds / 3600, minutes = seconds / 60 % 60, rest = seconds % 60;
	if (hours > 0)
		(void)snprintf(text, size, ", %llu:%02llu:%02llu left", hours, minutes, rest);
	else
		(void)snprintf(text, size, ", %llu:%02llu left", minutes, rest);
}

/* What there is no room for is left out: the bar, then the rate in bytes, then the count. */
static void show(
	const char *percent, const char *count, const char *rate, const char *bytes, const char *left, double part)
{
	size_t columns, rows;
	terminal_size(STDERR_FILENO, &columns, &rows);
	columns--; /* the last one stays free: some terminals go on to the next row */
	char text[256], bar[BAR_CELLS_MAX + 1];
	size_t len = (size_t)snprintf(text, sizeof(text), "%s%s%s%s%s", percent, count, rate, bytes, left);
	if (len > columns)
		len = (size_t)snprintf(text, sizeof(text), "%s%s%s%s", percent, count, rate, left);
	if (len > columns)
		len = (size_t)snprintf(text, sizeof(text), "%s%s%s", percent, rate + strspn(rate, ", "), left);
	fputc('\r', stderr);
	if (part >= 0 && columns >= len + BAR_CELLS_MIN + 3) {
		size_t cells = columns - len - 3 < BAR_CELLS_MAX ? columns - len - 3 : BAR_CELLS_MAX;
		memset(bar, '.', cells);
		memset(bar, '#', (size_t)(part * (double)cells));
		bar[cells] = '\0';
		fprintf(stderr, "[%s] ", bar);
	}
	fprintf(stderr, "%.*s\033[K", (int)columns, text);
	fflush(stderr);
}

void progress_update(struct progress *progress, uint64_t bytes, uint64_t count)
{
	char percent[8] = "", counted[64], rate[32], byte_rate[32] = "", left[32] = "";
	if (!progress->enabled)
		return;
	uint64_t now = clock_now_ns();
	if (now < progress->next_ns)
		return;
	progress->next_ns = now + EVERY_NS;
	progress->shown = true;
	double seconds = (double)(now - progress->start_ns) / 1e9, part = -1;
	uint64_t done = progress->total_bytes > 0 ? bytes : count;
	uint64_t total = progress->total_bytes > 0 ? progress->total_bytes : progress->total_count;
	if (total > 0) {
		part = done < total ? (double)done / (double)total : 1.0;
		(void)snprintf(percent, sizeof(percent), "%3d%% ", (int)(part * 100));
	}
	(void)snprintf(counted, sizeof(counted), "%llu %s", (unsigned long long)count, progress->noun);
	(void)snprintf(rate, sizeof(rate), ", %.0f/s", (double)count / seconds);
	if (bytes > 0)
		(void)snprintf(byte_rate, sizeof(byte_rate), ", %.1f MiB/s", (double)bytes / seconds / 1048576);
	if (total > done && done > 0)
		time_left(left, sizeof(left), (uint64_t)(seconds * (double)(total - done) / (double)done + 0.5));
	show(percent, counted, rate, byte_rate, left, part);
}

void progress_end(struct progress *progress)
{
	if (progress->shown)
		fputs(ERASE, stderr);
	progress->shown = false;
}

void progress_end_in_handler(const struct progress *progress)
{
	static const char erase[] = ERASE;
	if (progress->shown && write(STDERR_FILENO, erase, sizeof(erase) - 1) < 0)
		return; /* the terminal is gone */
}
