#include "log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "utf8.h"

#define TEXT_MAX 2048
/* Each byte of the text may become \u00NN. */
#define LINE_MAX_BYTES (TEXT_MAX * 6 + 256)
#define HEAD_MAX_BYTES 160

static _Atomic int current_level = LOG_LEVEL_INFO;
static _Atomic int current_format = LOG_FORMAT_TEXT;
static _Atomic int current_fd = STDERR_FILENO;
static _Atomic bool to_journal;

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

void log_set_format(enum log_format format)
{
	atomic_store_explicit(&current_format, (int)format, memory_order_relaxed);
}

void log_set_fd(int fd)
{
	atomic_store(&current_fd, fd);
}

bool log_find_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uintmax_t device, inode;
	struct stat status;
	int end = 0;
	bool found = stream != NULL && sscanf(stream, "%" SCNuMAX ":%" SCNuMAX "%n", &device, &inode, &end) == 2 &&
		     stream[end] == '\0' && fstat(atomic_load(&current_fd), &status) == 0 && status.st_dev == device &&
		     status.st_ino == inode;
	atomic_store(&to_journal, found);
	return found;
}

const char *log_priority(enum log_level level)
{
	/* As syslog(3) numbers them. */
	static const char *const priorities[] = {"<3>", "<4>", "<6>", "<7>"};
	return atomic_load_explicit(&to_journal, memory_order_relaxed) ? priorities[level] : "";
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

/* A control character, as \n or, with its number, as text or JSON spell it. */
static char *put_control(char *at, uint8_t byte, bool json)
{
	static const char hex[] = "0123456789abcdef";
	*at++ = '\\';
	if (byte == '\n' || byte == '\t' || byte == '\r') {
		*at++ = byte == '\n' ? 'n' : byte == '\t' ? 't' : 'r';
		return at;
	}
	if (json) {
		memcpy(at, "u00", 3);
		at += 3;
	} else {
		*at++ = 'x';
	}
	*at++ = hex[byte >> 4];
	*at++ = hex[byte & 15];
	return at;
}

static size_t put_escaped(char *out, const char *text, size_t len, bool json)
{
	/* Text that is not UTF-8 could upset a terminal or a collector just as a control character can; in JSON it
	 * could not even stand. */
	bool utf8 = utf8_valid(text, len);
	char *at = out;
	for (size_t i = 0; i < len; i++) {
		uint8_t byte = (uint8_t)text[i];
		/* U+0080 to U+009F, the second set of controls, are c2 80 to c2 9f: in JSON by their number. */
		bool c1 = utf8 && byte == 0xc2 && i + 1 < len && (uint8_t)text[i + 1] < 0xa0;
		bool c1_tail = byte >= 0x80 && byte < 0xa0 && i > 0 && (uint8_t)text[i - 1] == 0xc2;
		if (json && c1) {
			at = put_control(at, (uint8_t)text[++i], true);
		} else if (byte < 0x20 || byte == 0x7f) {
			at = put_control(at, byte, json);
		} else if (byte >= 0x80 && (!utf8 || c1 || c1_tail)) {
			if (json)
				*at++ = '\\'; /* the backslash of \xNN */
			at = put_control(at, byte, false);
		} else {
			if (json && (byte == '"' || byte == '\\'))
				*at++ = '\\';
			*at++ = (char)byte;
		}
	}
	return (size_t)(at - out);
}

static size_t put_head(char *line, enum log_level level, const char *module, bool json)
{
	const char *priority = log_priority(level);
	char time[32];
	struct timespec now;
	struct tm utc;

	if (!json && priority[0] != '\0')
		return (size_t)snprintf(line, HEAD_MAX_BYTES, "%s%.40s: ", priority, module);
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	size_t len = strftime(time, sizeof(time), "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(time + len, sizeof(time) - len, ".%03dZ", (int)(now.tv_nsec / 1000000));
	return (size_t)snprintf(line, HEAD_MAX_BYTES,
		json ? "%s{\"time\":\"%s\",\"level\":\"%s\",\"module\":\"%.40s\",\"message\":\"" : "%s%s %-5s %.40s: ",
		priority, time, level_names[level], module);
}

void log_write(enum log_level level, const char *module, const char *format, ...)
{
	int saved_errno = errno;
	bool json = atomic_load_explicit(&current_format, memory_order_relaxed) == LOG_FORMAT_JSON;
	char text[TEXT_MAX], line[LINE_MAX_BYTES];

	va_list args;
	va_start(args, format);
	int wanted = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	size_t text_len = wanted < 0 ? 0 : (size_t)wanted;
	if (text_len >= sizeof(text))
		text_len = utf8_cut(text, sizeof(text) - 1, sizeof(text) - 4);

	size_t len = put_head(line, level, module, json);
	len += put_escaped(line + len, text, text_len, json);
	if (json) {
		line[len++] = '"';
		line[len++] = '}';
	}
	line[len++] = '\n';
	/* One write, whatever comes of it: there is nobody to tell that the log is gone. */
	ssize_t written = write(atomic_load(&current_fd), line, len);
	(void)written;
	errno = saved_errno;
}
