#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "utf8.h"

#define TEXT_MAX 2048
/* Each byte of the text may become \xNN. */
#define LINE_MAX_BYTES (TEXT_MAX * 4 + 128)

static _Atomic int current_level = LOG_LEVEL_INFO;
static _Atomic int current_fd = STDERR_FILENO;

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

void log_set_fd(int fd)
{
	atomic_store(&current_fd, fd);
}

int log_level_from_name(const char *name, size_t len, enum log_level *ret_level)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (strlen(level_names[i]) == len && memcmp(level_names[i], name, len) == 0) {
			*ret_level = (enum log_level)i;
			return 0;
		}
	}
	return -1;
}

const char *log_level_name(enum log_level level)
{
	return level_names[level];
}

static size_t put_escaped(char *out, const char *text, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	/* Text that is not UTF-8 could upset a terminal or a collector just as a control character can. */
	bool utf8 = utf8_valid(text, len);
	char *at = out;
	for (size_t i = 0; i < len; i++) {
		uint8_t byte = (uint8_t)text[i];
		/* U+0080 to U+009F, the second set of controls, are c2 80 to c2 9f. */
		bool c1 = byte == 0xc2 && i + 1 < len && (uint8_t)text[i + 1] < 0xa0;
		bool c1_tail = byte >= 0x80 && byte < 0xa0 && i > 0 && (uint8_t)text[i - 1] == 0xc2;
		if (byte == '\n' || byte == '\t' || byte == '\r') {
			*at++ = '\\';
			*at++ = byte == '\n' ? 'n' : byte == '\t' ? 't' : 'r';
		} else if (byte < 0x20 || byte == 0x7f || c1 || c1_tail || (byte >= 0x80 && !utf8)) {
			*at++ = '\\';
			*at++ = 'x';
			*at++ = hex[byte >> 4];
			*at++ = hex[byte & 15];
		} else {
			*at++ = (char)byte;
		}
	}
	return (size_t)(at - out);
}

void log_write(enum log_level level, const char *module, const char *format, ...)
{
	int saved_errno = errno;
	char text[TEXT_MAX], line[LINE_MAX_BYTES];
	struct timespec now;
	struct tm utc;

	va_list args;
	va_start(args, format);
	int wanted = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	size_t text_len = wanted < 0 ? 0 : (size_t)wanted;
	if (text_len >= sizeof(text))
		text_len = utf8_cut(text, sizeof(text) - 1, sizeof(text) - 4);

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	int head = snprintf(line, 128, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ %-5s %.40s: ", utc.tm_year + 1900,
		utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, (int)(now.tv_nsec / 1000000),
		level_names[level], module);
	size_t len = (size_t)head;
	len += put_escaped(line + len, text, text_len);
	line[len++] = '\n';
	/* One write, whatever comes of it: there is nobody to tell that the log is gone. */
	ssize_t written = write(atomic_load(&current_fd), line, len);
	(void)written;
	errno = saved_errno;
}
