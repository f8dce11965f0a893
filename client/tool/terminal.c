#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "terminal.h"

#define TAKE "\033[?1049h\033[?25l\033[H\033[2J"
#define GIVE_BACK "\033[m\033[?25h\033[?1049l"
/* How long a terminal that takes nothing is waited for in the end. */
#define LAST_WAIT_MS 1000

static bool is_taken, has_modes;
static struct termios modes; /* of standard input, as they were */

bool terminal_is_able(int fd)
{
	const char *term = getenv("TERM");
	return isatty(fd) == 1 && (term == NULL || strcmp(term, "dumb") != 0);
}

static size_t size_or(size_t size, const char *variable, size_t otherwise)
{
	const char *text = getenv(variable);
	if (size == 0 && text != NULL)
		size = strtoul(text, NULL, 10);
	return size > 0 && size < 10000 ? size : otherwise;
}

void terminal_size(int fd, size_t *ret_columns, size_t *ret_rows)
{
	struct winsize size = {0};
	if (ioctl(fd, TIOCGWINSZ, &size) != 0)
		size = (struct winsize){0};
	*ret_columns = size_or(size.ws_col, "COLUMNS", 80);
	*ret_rows = size_or(size.ws_row, "LINES", 24);
}

bool terminal_has_colour(void)
{
	const char *no = getenv("NO_COLOR");
	return no == NULL || *no == '\0';
}

static bool takes_something(int wait_ms)
{
	struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
	return poll(&p, 1, wait_ms) == 1;
}

/* False: it has gone. A signal ends it early: what is on the screen is half of a picture, and drawn again. */
static bool write_some(const void *bytes, size_t len)
{
	const char *at = bytes;
	while (len > 0) {
		const ssize_t n = write(STDOUT_FILENO, at, len);
		if (n < 0)
			return errno == EINTR || errno == EAGAIN;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

/* All of it, unless the terminal takes nothing at all. */
static void write_last(const void *bytes, size_t len)
{
	const char *at = bytes;
	while (len > 0 && takes_something(LAST_WAIT_MS)) {
		const ssize_t n = write(STDOUT_FILENO, at, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		at += n;
		len -= (size_t)n;
	}
}

static void set_modes(void)
{
	struct termios own = modes;
	own.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	own.c_cc[VMIN] = 1;
	own.c_cc[VTIME] = 0;
	if (has_modes)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &own);
}

/* A ^S was about the picture; what comes behind that does not expect it. (TCOON alone only undoes what TCOOFF did.) */
static void let_go_on(void)
{
	(void)tcflow(STDOUT_FILENO, TCOOFF);
	(void)tcflow(STDOUT_FILENO, TCOON);
}

void terminal_take(void)
{
	if (is_taken)
		return;
	has_modes = tcgetattr(STDIN_FILENO, &modes) == 0;
	is_taken = true; /* before anything changes: a signal may come */
	set_modes();
	(void)write_some(TAKE, sizeof(TAKE) - 1);
}

void terminal_take_again(void)
{
	if (!is_taken)
		return;
	set_modes();
	(void)write_some(TAKE, sizeof(TAKE) - 1);
}

void terminal_give_back(const struct buf *last)
{
	if (!is_taken)
		return;
	let_go_on();
	write_last(GIVE_BACK, sizeof(GIVE_BACK) - 1);
	if (last != NULL && last->len > 0) {
		write_last(last->data, last->len);
		write_last("\n", 1);
	}
	if (has_modes)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &modes);
	is_taken = false;
}

void terminal_give_back_in_handler(void)
{
	if (!is_taken)
		return;
	if (has_modes)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &modes);
	let_go_on();
	(void)write_some(GIVE_BACK, sizeof(GIVE_BACK) - 1);
}

bool terminal_draw(const struct buf *rows)
{
	/* Each row as it is to be, and nothing behind it: what does not change does not flicker. */
	static const char end_of_row[] = "\033[K\r\n", end[] = "\033[K\033[J";
	struct buf out = {0};
	const char *at = (const char *)rows->data, *last = at + rows->len;
	bool good = buf_append(&out, "\033[H", 3) == 0;
	while (good && at < last) {
		const char *newline = memchr(at, '\n', (size_t)(last - at));
		const size_t len = (size_t)((newline != NULL ? newline : last) - at);
		good = buf_append(&out, at, len) == 0;
		if (good && newline != NULL)
			good = buf_append(&out, end_of_row, sizeof(end_of_row) - 1) == 0;
		at += len + (newline != NULL);
	}
	good = good && buf_append(&out, end, sizeof(end) - 1) == 0;
	if (good && takes_something(0))
		good = write_some(out.data, out.len);
	buf_free(&out);
	return good;
}

int terminal_key(void)
{
	unsigned char key;
	const ssize_t n = read(STDIN_FILENO, &key, 1);
	if (n == 1)
		return key;
	return n < 0 && (errno == EINTR || errno == EAGAIN) ? 0 : -1;
}
