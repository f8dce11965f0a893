#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "progress.h"

#define FIRST_NS NS_PER_SECOND
#define EVERY_NS (200 * NS_PER_MS)
#define BAR_CELLS 24

void progress_start(struct progress *progress, uint64_t total_bytes)
{
	*progress = (struct progress){
		.enabled = isatty(STDERR_FILENO) == 1, .total_bytes = total_bytes, .start_ns = clock_now_ns()};
	progress->next_ns = progress->start_ns + FIRST_NS;
}

static void show_time_left(uint64_t seconds)
{
	if (seconds >= 3600)
		fprintf(stderr, ", %llu:%02llu:%02llu left", (unsigned long long)(seconds / 3600),
			(unsigned long long)(seconds / 60 % 60), (unsigned long long)(seconds % 60));
	else
		fprintf(stderr, ", %llu:%02llu left", (unsigned long long)(seconds / 60),
			(unsigned long long)(seconds % 60));
}

void progress_update(struct progress *progress, uint64_t bytes, uint64_t entries)
{
	if (!progress->enabled)
		return;
	uint64_t now = clock_now_ns();
	if (now < progress->next_ns)
		return;
	progress->next_ns = now + EVERY_NS;
	progress->shown = true;
	double seconds = (double)(now - progress->start_ns) / 1e9;
	fputc('\r', stderr);
	uint64_t total = progress->total_bytes;
	if (total > 0) {
		double part = bytes < total ? (double)bytes / (double)total : 1.0;
		char bar[BAR_CELLS + 1];
		int full = (int)(part * BAR_CELLS);
		memset(bar, '.', BAR_CELLS);
		memset(bar, '#', (size_t)full);
		bar[BAR_CELLS] = '\0';
		fprintf(stderr, "[%s] %3d%% ", bar, (int)(part * 100));
	}
	fprintf(stderr, "%llu entries, %.0f/s, %.1f MiB/s", (unsigned long long)entries, (double)entries / seconds,
		(double)bytes / seconds / 1048576);
	if (total > bytes && bytes > 0)
		show_time_left((uint64_t)(seconds * (double)(total - bytes) / (double)bytes + 0.5));
	fputs("\033[K", stderr);
	fflush(stderr);
}

void progress_end(struct progress *progress)
{
	if (progress->shown)
		fputs("\r\033[K", stderr);
	progress->shown = false;
}
