#include "progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "clock.h"

#define FIRST_NS NS_PER_SECOND
#define EVERY_NS (200 * NS_PER_MS)
#define BAR_CELLS_MAX 24
#define BAR_CELLS_MIN 8
#define MIB 1048576.0

void progress_start(struct progress *progress, uint64_t total_bytes)
{
	const char *term = getenv("TERM");
	*progress = (struct progress){
		.enabled = isatty(STDERR_FILENO) == 1 && (!term || strcmp(term, "dumb") != 0),
		.total_bytes = total_bytes,
		.start_ns = clock_now_ns(),
	};
	progress->next_ns = progress->start_ns + FIRST_NS;
}

/* Asked for each time: windows change. */
static size_t columns_of_terminal(void)
{
	struct winsize size;
	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static void show(const char *text, double part)
{
	size_t columns = columns_of_terminal() - 1, len = strlen(text); /* the last one stays free */
	char bar[BAR_CELLS_MAX + 1];
	fputc('\r', stderr);
	if (columns >= len + BAR_CELLS_MIN + 3) {
		size_t cells = columns - len - 3 < BAR_CELLS_MAX ? columns - len - 3 : BAR_CELLS_MAX;
		memset(bar, '.', cells);
		memset(bar, '#', (size_t)(part * (double)cells));
		bar[cells] = '\0';
		fprintf(stderr, "[%s] ", bar);
	}
	fprintf(stderr, "%.*s\033[K", (int)columns, text);
	fflush(stderr);
}

void progress_update(struct progress *progress, uint64_t bytes)
{
	if (!progress->enabled)
		return;
	uint64_t now = clock_now_ns();
	if (now < progress->next_ns)
		return;
	progress->next_ns = now + EVERY_NS;
	progress->shown = true;
	double seconds = (double)(now - progress->start_ns) / 1e9, total = (double)progress->total_bytes;
	double part = bytes < progress->total_bytes ? (double)bytes / total : 1.0;
	unsigned long long left = bytes > 0 ? (unsigned long long)(seconds * (1 - part) / part + 0.5) : 0;
	char text[128];
	snprintf(text, sizeof(text), "%3d%% %.0f of %.0f MiB, %.1f MiB/s, %llu:%02llu:%02llu left", (int)(part * 100),
		(double)bytes / MIB, total / MIB, (double)bytes / MIB / seconds, left / 3600, left / 60 % 60,
		left % 60);
	show(text, part);
}

void progress_end(struct progress *progress)
{
	if (progress->shown)
		fputs("\r\033[K", stderr);
	progress->shown = false;
}
