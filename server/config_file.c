#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "config_file.h"
#include "config_table.h"
#include "config_text.h"
#include "config_value.h"

/* libinih's buffer is 200 bytes in its usual build: two go to "\n" and NUL. */
#define LINE_MAX_BYTES 198
#define FILE_MAX_LINES 10000

struct reader {
	FILE *file;
	const char *path;
	struct config *config;
	unsigned line;
	unsigned first_line_of[CONFIG_KEYS_MAX]; /* 0: the key did not come yet */
	bool failed;
	struct error *err;
};

static void fail_line(struct reader *reader, const char *text)
{
	char path[CONFIG_SHOWN_MAX];

	reader->failed = true;
	config_show_path(reader->path, path);
	error_set(reader->err, ERR_CONFIG, "%s:%u: %s", path, reader->line, text);
}

static void fail_file(struct reader *reader, const char *text)
{
	char path[CONFIG_SHOWN_MAX];

	reader->failed = true;
	config_show_path(reader->path, path);
	error_set(reader->err, ERR_CONFIG, "%s: %s", path, text);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* A '#' or ';' behind a blank: to libinih one is a comment and the other is not, and a person may mean either. */
static bool has_trailing_comment(const char *value)
{
	for (const char *at = value; *at != '\0'; at++) {
		if ((*at == '#' || *at == ';') && (at == value || is_blank(at[-1])))
			return true;
	}
	return false;
}

/* NULL if libinih may see the line. Nothing before it (blanks, a BOM) is left in it. */
static const char *objection(const char *line)
{
	const char *equals = strchr(line, '='), *colon = strchr(line, ':');

	if (strncmp(line, "\xef\xbb\xbf", 3) == 0) /* libinih would pass over it, too */
		return "expected key = value";
	if (line[0] == '[')
		return "sections are not known here: expected key = value";
	if (line[0] == ';')
		return "expected key = value (a comment begins with #)";
	if (equals == NULL || equals == line)
		return "expected key = value";
	if (colon != NULL && colon < equals)
		return "expected key = value, with nothing but = between them";
	if (has_trailing_comment(equals + 1))
		return "a comment stands on a line of its own, and a value holds no # or ; behind a blank";
	return NULL;
}

/* One line without its end, and without blanks around it. False at the end of the file, or on failure. */
static bool read_line(struct reader *reader, char *line)
{
	size_t len = 0;
	bool blank_so_far = true;
	int c;

	reader->line++;
	for (c = getc(reader->file); c != EOF && c != '\n'; c = getc(reader->file)) {
		if (c == '\r') {
			int after = getc(reader->file);
			if (after == '\n' || after == EOF) {
				c = after;
				break;
			}
			(void)ungetc(after, reader->file);
		}
		if ((c < ' ' && c != '\t') || c == 0x7f) {
			fail_line(reader, "a control character: this is no text file");
			return false;
		}
		if (blank_so_far && is_blank((char)c))
			continue;
		blank_so_far = false;
		/* A long comment is nobody's trouble; a long line would be two to libinih. */
		if (len < LINE_MAX_BYTES)
			line[len] = (char)c;
		if (len++ >= LINE_MAX_BYTES && line[0] != '#') {
			fail_line(reader, "the line is longer than 198 bytes (a longer value can be given on the "
					  "command line)");
			return false;
		}
	}
	if (c == EOF && ferror(reader->file) != 0) {
		fail_file(reader, strerror(errno));
		return false;
	}
	if (len > LINE_MAX_BYTES)
		len = LINE_MAX_BYTES;
	while (len > 0 && is_blank(line[len - 1]))
		len--;
	line[len] = '\0';
	if (reader->line == 1 && strncmp(line, "\xef\xbb\xbf", 3) == 0) {
		size_t bom = 3 + strspn(line + 3, " \t");
		memmove(line, line + bom, len + 1 - bom);
	}
	if (c == EOF && len == 0)
		return false;
	if (reader->line > FILE_MAX_LINES) {
		fail_file(reader, "longer than 10000 lines: this is no configuration");
		return false;
	}
	return true;
}

/* libinih's fgets: the next line that says something. */
static char *next_line(char *buf, int size, void *arg)
{
	struct reader *reader = arg;
	char line[LINE_MAX_BYTES + 1];

	while (!reader->failed && read_line(reader, line)) {
		if (line[0] == '\0' || line[0] == '#')
			continue;
		const char *why = objection(line);
		if (why == NULL && (size_t)size < strlen(line) + 2)
			why = "the line is longer than libinih can take";
		if (why != NULL) {
			fail_line(reader, why);
			return NULL;
		}
		snprintf(buf, (size_t)size, "%s\n", line);
		return buf;
	}
	return NULL;
}

static int on_value(void *arg, const char *section, const char *name, const char *text)
{
	struct reader *reader = arg;
	const struct config_key *key = config_key_find(name, strlen(name));
	char message[CONFIG_MESSAGE_MAX], why[CONFIG_WHY_MAX];
	unsigned *first_line;

	(void)section;
	if (reader->failed)
		return 0;
	if (key == NULL) {
		config_say_unknown(name, false, message);
		fail_line(reader, message);
		return 0;
	}
	first_line = &reader->first_line_of[key - config_keys];
	if (*first_line != 0 && key->type != CONFIG_ADDRESSES) {
		snprintf(message, sizeof(message), "%s: given already in line %u", key->name, *first_line);
		fail_line(reader, message);
		return 0;
	}
	if (config_value_set(reader->config, key, text, *first_line != 0, why) != 0) {
		config_say_bad_value(key->name, text, why, message);
		fail_line(reader, message);
		return 0;
	}
	if (*first_line == 0)
		*first_line = reader->line;
	return 1;
}

int config_file_read(const char *path, struct config *config, struct error *err)
{
	struct reader reader = {.path = path, .config = config, .err = err};
	int result;

	reader.file = fopen(path, "re");
	if (reader.file == NULL) {
		fail_file(&reader, strerror(errno));
		return -1;
	}
	result = ini_parse_stream(next_line, &reader, on_value, &reader);
	if (result != 0 && !reader.failed)
		fail_file(&reader, result < 0 ? "out of memory" : "libinih cannot read it");
	fclose(reader.file);
	return reader.failed ? -1 : 0;
}
