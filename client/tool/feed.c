#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "feed.h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
	interrupted = number;
}

bool feed_interrupted(void)
{
	return interrupted != 0;
}

void feed_start(struct feed *feed, const struct append_job *job, size_t max_bytes)
{
	const struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
	*feed = (struct feed){.input = job->input};
	feed->lines.fd = job->fd;
	feed->lines.ends_with = job->null ? '\0' : '\n';
	feed->lines.max_bytes = max_bytes;
	sigaction(SIGINT, &action, &feed->before);
	if (feed->before.sa_handler == SIG_IGN) /* as by nohup, or in a script's background */
		sigaction(SIGINT, &feed->before, NULL);
}

void feed_stop(struct feed *feed, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	(void)vsnprintf(feed->reason, sizeof(feed->reason), format, args);
	va_end(args);
}

void feed_run(struct feed *feed, const struct feed_receiver *receiver)
{
	while (feed->reason[0] == '\0' && !interrupted) {
		const uint8_t *line;
		size_t len;
		switch (lines_next(&feed->lines, &line, &len)) {
		case LINES_ONE:
			if (!receiver->line(receiver->arg, line, len))
				return;
			feed->line++;
			continue;
		case LINES_NOT_YET:
			break;
		case LINES_END:
			return;
		case LINES_TOO_LONG:
			feed_stop(feed, "line %llu is longer than an entry can be (%zu bytes)",
				(unsigned long long)feed->line + 1, feed->lines.max_bytes);
			return;
		case LINES_ERROR:
			feed_stop(feed, "cannot read %s: %s", feed->input, strerror(errno));
			return;
		}
		if ((receiver->pause != NULL && !receiver->pause(receiver->arg)) || interrupted)
			return;
		if (lines_wait(&feed->lines) != 0 && errno != EINTR) {
			feed_stop(feed, "cannot wait for %s: %s", feed->input, strerror(errno));
			return;
		}
	}
}

void feed_end(struct feed *feed)
{
	if (interrupted && isatty(STDERR_FILENO) == 1)
		fputc('\n', stderr); /* behind the ^C that the terminal shows */
	sigaction(SIGINT, &feed->before, NULL);
	lines_free(&feed->lines);
}
