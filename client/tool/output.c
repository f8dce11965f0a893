/* Standard output, and errors on stderr. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"
#include "utf8.h"

static int out_errno; /* of the first write that failed */

static bool out_check(bool good)
{
	if (!good && out_errno == 0)
		out_errno = errno != 0 ? errno : EIO;
	return out_errno == 0;
}

bool out_write(const void *bytes, size_t len)
{
	errno = 0;
	return out_check(len == 0 || fwrite(bytes, 1, len, stdout) == len);
}

bool out_format(const char *format, ...)
{
	va_list args;
	errno = 0;
	va_start(args, format);
	int n = vprintf(format, args);
	va_end(args);
	return out_check(n >= 0);
}

bool out_flush(void)
{
	errno = 0;
	return out_check(fflush(stdout) == 0);
}

/* Bytes of a character that a terminal would act upon: C0, DEL, C1 (U+0080 to U+009F as C2 80 to C2 9F); 0 if none. */
static size_t control_len(const unsigned char *at, size_t left)
{
	if (at[0] < 0x20 || at[0] == 0x7f)
		return 1;
	return at[0] == 0xc2 && left > 1 && at[1] < 0xa0 ? 2 : 0;
}

/* plain: ASCII characters that come as they are, or else as \xNN, whatever they are. */
static void write_shown(FILE *file, const void *bytes, size_t len, const char *plain, const char *not_plain)
{
	const unsigned char *at = bytes;
	bool is_text = utf8_valid(bytes, len);
	for (size_t i = 0; i < len;) {
		size_t n = at[i] >= 0x80 && !is_text ? 1 : control_len(at + i, len - i);
		if (at[i] != '\0' && strchr(plain, at[i]) != NULL)
			n = 0;
		else if (at[i] != '\0' && strchr(not_plain, at[i]) != NULL)
			n = 1;
		if (n == 0)
			fputc(at[i++], file);
		for (; n > 0; n--)
			fprintf(file, "\\x%02x", at[i++]);
	}
}

/* So that a name can be told from any other one. */
static void write_name(FILE *file, const char *name, size_t len)
{
	write_shown(file, name, len, "", "\\");
}

bool out_name(const char *name, size_t len)
{
	errno = 0;
	write_name(stdout, name, len);
	return out_check(ferror(stdout) == 0);
}

char *tool_shown(const char *name, size_t len)
{
	char *text = NULL;
	size_t size;
	FILE *memory = open_memstream(&text, &size);
	if (memory == NULL)
		return NULL;
	write_name(memory, name, len);
	if (fclose(memory) == 0)
		return text;
	free(text);
	return NULL;
}

bool out_is_terminal(void)
{
	static int answer = -1;
	if (answer < 0)
		answer = isatty(STDOUT_FILENO) == 1;
	return answer != 0;
}

bool out_entry(const void *entry, size_t len, bool is_raw)
{
	if (is_raw || !out_is_terminal())
		return out_write(entry, len);
	errno = 0;
	write_shown(stdout, len > 0 ? entry : "", len, "\n\t", "");
	return out_check(ferror(stdout) == 0);
}

void out_count(uint64_t count, const char *one, const char *many)
{
	out_format("%llu %s", (unsigned long long)count, count == 1 ? one : many);
}

bool out_reader_gone(void)
{
	struct pollfd p = {.fd = STDOUT_FILENO};
	if (poll(&p, 1, 0) <= 0 || (p.revents & (POLLERR | POLLHUP | POLLNVAL)) == 0)
		return false;
	if (out_errno == 0)
		out_errno = EPIPE;
	return true;
}

int out_end(const struct tool *tool, int status)
{
	if (out_flush())
		return status;
	if (out_errno == EPIPE)
		return status; /* as head does: it has seen enough */
	int failed = tool_failed_here(
		tool, "cannot write to standard output: %s; what is printed is incomplete", strerror(out_errno));
	return status == EXIT_OK ? failed : status;
}

/* ---- errors ---- */

int tool_exit_status(const ironwal_error *error)
{
	switch (ironwal_error_get_code(error)) {
	case IRONWAL_OK:
		return EXIT_OK;
	case IRONWAL_ERR_INVALID_ARGUMENT:
		return EXIT_USAGE;
	case IRONWAL_ERR_CONNECT:
	case IRONWAL_ERR_CONNECTION_LOST:
	case IRONWAL_ERR_TIMEOUT:
	case IRONWAL_ERR_PROTOCOL:
		return EXIT_CONNECTION;
	default:
		return EXIT_FAILED;
	}
}

/* What it was done to: a stream, a key, a checkpoint. */
struct subject {
	const char *kind;
	const char *bytes; /* NULL: there is none */
	size_t len;
};

static struct subject stream_subject(const char *stream)
{
	return (struct subject){"stream", stream, stream != NULL ? strlen(stream) : 0};
}

static void error_json(
	const struct tool *tool, const char *what, const struct subject *subject, const char *hint, bool with_fate)
{
	struct json *json = json_new_stderr();
	const ironwal_error *error = tool->error;
	const char *field;
	int kind;
	json_map(json);
	json_key(json, "error");
	json_map(json);
	json_put_str(json, "code", ironwal_error_code_name(error));
	json_put_str(json, "message", ironwal_error_message(error));
	for (unsigned i = 0; (field = ironwal_error_field(error, i, &kind)) != NULL; i++) {
		uint64_t value;
		const char *text;
		size_t len;
		if (kind == 1 && ironwal_error_get_uint(error, field, &value)) {
			json_key(json, field);
			json_u64(json, value);
		} else if (kind == 2 && ironwal_error_get_text(error, field, &text, &len)) {
			json_key_bytes(json, field, text, len);
		}
	}
	json_map_end(json);
	json_put_str(json, "doing", what);
	if (subject->bytes != NULL)
		json_key_bytes(json, subject->kind, subject->bytes, subject->len);
	json_put_bool(json, "retriable", ironwal_error_is_retriable(error));
	if (with_fate && ironwal_error_fate(error) != IRONWAL_FATE_NOT_A_WRITE) {
		json_put_str(json, "fate", ironwal_fate_name(ironwal_error_fate(error)));
	}
	if (hint != NULL) {
		json_put_str(json, "hint", hint);
	}
	json_map_end(json);
	json_line(json);
	json_free(json);
}

static int report(
	const struct tool *tool, const char *what, const struct subject *subject, const char *hint, bool with_fate)
{
	const ironwal_error *error = tool->error;
	out_flush(); /* what was printed before comes first */
	if (tool->json) {
		error_json(tool, what, subject, hint, with_fate);
		return tool_exit_status(error);
	}
	fprintf(stderr, "ironwal: %s", what);
	if (subject->bytes != NULL) {
		fputs(" '", stderr);
		write_name(stderr, subject->bytes, subject->len);
		fputc('\'', stderr);
	}
	fprintf(stderr, ": %s (%s", ironwal_error_message(error), ironwal_error_code_name(error));
	switch (with_fate ? ironwal_error_fate(error) : IRONWAL_FATE_NOT_A_WRITE) {
	case IRONWAL_FATE_NOT_A_WRITE:
		break;
	case IRONWAL_FATE_NOT_SENT:
	case IRONWAL_FATE_REFUSED:
		fputs("; nothing was written", stderr);
		break;
	case IRONWAL_FATE_WRITTEN:
		fputs("; it was written all the same", stderr);
		break;
	case IRONWAL_FATE_PARTLY:
		fputs("; part of it was written: look before you repeat it", stderr);
		break;
	case IRONWAL_FATE_UNKNOWN:
		fputs(ironwal_error_is_retriable(error) ? "; it may have been written: it is safe to repeat it"
							: "; it may have been written: look before you repeat it",
			stderr);
		break;
	}
	fputc(')', stderr);
	if (hint != NULL)
		fprintf(stderr, "; %s", hint);
	fputc('\n', stderr);
	return tool_exit_status(error);
}

int tool_failed(const struct tool *tool, const char *what, const char *stream, const char *hint)
{
	const struct subject subject = stream_subject(stream);
	return report(tool, what, &subject, hint, true);
}

int tool_failed_about(
	const struct tool *tool, const char *what, const char *kind, const void *bytes, size_t len, const char *hint)
{
	const struct subject subject = {kind, len > 0 ? bytes : "", len};
	return report(tool, what, &subject, hint, true);
}

int tool_failed_partly(const struct tool *tool, const char *what, const char *stream, const char *done)
{
	const struct subject subject = stream_subject(stream);
	return report(tool, what, &subject, done, false);
}

/* Of this side: a line for people, with `prefix` before it, or an object with this code. */
static void report_here(const struct tool *tool, const char *code, const char *prefix, const char *message)
{
	out_flush();
	if (tool->json) {
		struct json *json = json_new_stderr();
		json_map(json);
		json_key(json, "error");
		json_map(json);
		json_put_str(json, "code", code);
		json_put_str(json, "message", message);
		json_map_end(json);
		json_map_end(json);
		json_line(json);
		json_free(json);
		return;
	}
	fputs(prefix, stderr);
	/* The backslash as it is: a part of the message may have been made printable already. */
	write_shown(stderr, message, strlen(message), "", "");
	fputc('\n', stderr);
}

int tool_failed_here(const struct tool *tool, const char *format, ...)
{
	/* As long as it is: the fates of many ranges of lines are what somebody goes on from. */
	char *text = NULL;
	va_list args;
	va_start(args, format);
	int n = vasprintf(&text, format, args);
	va_end(args);
	report_here(tool, "Local", "ironwal: ", n >= 0 ? text : "out of memory for what went wrong");
	if (n >= 0)
		free(text);
	return EXIT_FAILED;
}

int tool_usage(const struct tool *tool, const char *format, ...)
{
	const char *space = tool->command != NULL ? " " : "", *name = tool->command != NULL ? tool->command->name : "";
	char *said = NULL, *text = NULL, prefix[64];
	va_list args;
	va_start(args, format);
	int n = vasprintf(&said, format, args);
	va_end(args);
	if (n < 0)
		said = NULL;
	if (asprintf(&text, "%s; see ironwal%s%s --help", said != NULL ? said : "out of memory", space, name) < 0)
		text = NULL;
	(void)snprintf(prefix, sizeof(prefix), "ironwal%s%s: ", space, name);
	report_here(tool, "Usage", prefix, text != NULL ? text : "out of memory");
	free(text);
	free(said);
	return EXIT_USAGE;
}
