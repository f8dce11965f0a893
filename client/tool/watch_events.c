#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "terminal.h"
#include "watch_events.h"

/* Behind the first three are those that only matter to who draws. */
static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP, SIGCONT};
#define NUMBERS_ALWAYS 3
#define NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

static struct sigaction before[NUMBERS];
static size_t taken;
static int ends[2] = {-1, -1};
static volatile sig_atomic_t arrived[NUMBERS], ending;

static bool ends_it(int number)
{
	return number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT;
}

static void on_signal(int number)
{
	const int saved_errno = errno;
	if (ends_it(number) && ending) {
		terminal_give_back_in_handler();
		(void)signal(number, SIG_DFL);
		(void)raise(number); /* comes when this handler is left */
	}
	if (ends_it(number))
		ending = 1;
	for (size_t i = 0; i < NUMBERS; i++) {
		if (numbers[i] == number)
			arrived[i] = 1;
	}
	if (write(ends[1], "", 1) < 0)
		errno = EAGAIN; /* full: it can be read anyway */
	errno = saved_errno;
}

static void take(size_t i)
{
	/* Not SA_RESTART: a write to a terminal that takes nothing ends, too. */
	const struct sigaction action = {.sa_handler = on_signal};
	sigaction(numbers[i], &action, &before[i]);
	if (before[i].sa_handler == SIG_IGN) /* as by nohup, or in a script's background */
		sigaction(numbers[i], &before[i], NULL);
}

int watch_events_start(bool draws)
{
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
		return -1;
	for (taken = 0; taken < (draws ? NUMBERS : NUMBERS_ALWAYS); taken++)
		take(taken);
	return 0;
}

void watch_events_end(void)
{
	while (taken > 0) {
		taken--;
		sigaction(numbers[taken], &before[taken], NULL);
	}
	close(ends[0]);
	close(ends[1]);
}

int watch_events_fd(void)
{
	return ends[0];
}

enum watch_event watch_events_next(void)
{
	char bytes[64];
	while (read(ends[0], bytes, sizeof(bytes)) > 0)
		;
	for (size_t i = 0; i < NUMBERS; i++) {
		if (!arrived[i])
			continue;
		arrived[i] = 0;
		if (ends_it(numbers[i]))
			return EVENT_END;
		return numbers[i] == SIGWINCH ? EVENT_SIZE : numbers[i] == SIGTSTP ? EVENT_STOP : EVENT_GO_ON;
	}
	return EVENT_NONE;
}

void watch_events_stop(void)
{
	struct sigaction own;
	const struct sigaction stops = {.sa_handler = SIG_DFL};
	sigaction(SIGTSTP, &stops, &own);
	(void)raise(SIGTSTP); /* returns when it goes on: that is no event besides */
	for (size_t i = 0; i < NUMBERS; i++) {
		if (numbers[i] == SIGCONT)
			arrived[i] = 0;
	}
	sigaction(SIGTSTP, &own, NULL);
}
