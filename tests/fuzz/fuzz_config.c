/*
 * fuzz_config: the configuration: a file's text and a command line.
 *
 * Input: how much of it is the file (2 bytes, over the length: all), then the file's text, then arguments with NUL or
 * a line's end between them.
 * Checks: a refusal is one printable line; what is accepted is within the table's bounds, survives being written out
 * and read again, and a file says the same as its lines given as options.
 */
#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"
#include "config_file.h"
#include "config_table.h"
#include "config_value.h"
#include "fuzz.h"

#define ARGUMENTS_MAX 64
#define TEXT_MAX 8192

static int file_fd;
static char file_path[64], file_option[80];

struct arguments {
	char text[TEXT_MAX];
	size_t used;
	char *list[ARGUMENTS_MAX + 4];
	int count;
};

static void add_argument(struct arguments *arguments, const char *text, size_t len)
{
	if (arguments->count >= ARGUMENTS_MAX || arguments->used + len + 1 > TEXT_MAX)
		return;
	char *at = arguments->text + arguments->used;
	memcpy(at, text, len);
	at[len] = '\0';
	arguments->used += len + 1;
	arguments->list[arguments->count++] = at;
	arguments->list[arguments->count] = NULL;
}

static void set_file(const uint8_t *bytes, size_t len)
{
	FUZZ_CHECK(ftruncate(file_fd, 0) == 0 && pwrite(file_fd, bytes, len, 0) == (ssize_t)len, "no file in memory");
}

static void check_refusal(const struct error *err)
{
	FUZZ_CHECK(err->code == ERR_CONFIG && err->message[0] != '\0', "refused without a reason");
	for (const char *at = err->message; *at != '\0'; at++)
		FUZZ_CHECK(!iscntrl((unsigned char)*at), "a control character in: %s", err->message);
}

static uint64_t number_of(const struct config *config, const struct config_key *key)
{
	uint32_t narrow;
	uint64_t wide;
	const char *field = (const char *)config + key->offset;
	memcpy(&narrow, field, sizeof(narrow));
	if (key->width == sizeof(narrow))
		return narrow;
	memcpy(&wide, field, sizeof(wide));
	return wide;
}

static bool is_text(const struct config_key *key)
{
	return key->type == CONFIG_PATH || key->type == CONFIG_NAME;
}

static void check_values(const struct config *config)
{
	for (size_t i = 0; i < config_key_count; i++) {
		const struct config_key *key = &config_keys[i];
		if (key->type == CONFIG_ADDRESSES)
			continue;
		if (is_text(key)) {
			const char *text = (const char *)config + key->offset, *end = memchr(text, 0, key->width);
			FUZZ_CHECK(end != NULL, "%s is no text", key->name);
			size_t len = (size_t)(end - text);
			bool may_be_empty = key->takes_none || key->default_text == NULL; /* a file need not say it */
			FUZZ_CHECK((len >= key->min && len <= key->max) || (may_be_empty && len == 0),
				"%s is of %zu bytes", key->name, len);
			continue;
		}
		uint64_t value = number_of(config, key), names = 0;
		while (key->type == CONFIG_ENUM && key->names[names] != NULL)
			names++;
		if (key->type == CONFIG_ENUM)
			FUZZ_CHECK(value < names, "%s is %" PRIu64, key->name, value);
		else
			FUZZ_CHECK((value >= key->min && value <= key->max) || (key->takes_none && value == 0),
				"%s is %" PRIu64, key->name, value);
	}
}

static void check_accepted(const struct config *config)
{
	check_values(config);
	FUZZ_CHECK(config->root_path[0] != '\0', "there is no root_path");
	FUZZ_CHECK(config->listen_tcp.count <= CONFIG_MAX_LISTEN, "%u addresses", config->listen_tcp.count);
	FUZZ_CHECK(config->listen_metrics.count <= CONFIG_MAX_LISTEN, "%u addresses", config->listen_metrics.count);
	for (uint32_t i = 0; i < config->listen_metrics.count; i++)
		FUZZ_CHECK(config->insecure_allow_open_addresses != 0 ||
				   address_is_local((const struct sockaddr *)&config->listen_metrics.list[i]),
			"metrics are open");
	struct error err = {0};
	bool somewhere = config->listen_tcp.count > 0 || config->listen_unix[0] != '\0';
	FUZZ_CHECK((config_check_listening(config, 0, &err) == 0) == somewhere, "nowhere to listen");
	FUZZ_CHECK(config->max_message_bytes >= CONFIG_MIN_MESSAGE_BYTES, "a message is too small");
	FUZZ_CHECK(config->engine.max_entry_bytes == config->max_message_bytes - CONFIG_ENTRY_MARGIN_BYTES,
		"the entry limit is not that of the messages");
}

/* Every value, written and read again. */
static void check_formats(const struct config *config)
{
	struct config again;
	for (size_t i = 0; i < config_key_count; i++) {
		const struct config_key *key = &config_keys[i];
		char text[CONFIG_MAX_LISTEN * 64 + PATH_MAX], why[CONFIG_WHY_MAX];
		config_value_text(config, key, text, sizeof(text));
		config_default(&again);
		FUZZ_CHECK(config_value_set(&again, key, text, false, why) == 0, "%s = %s: %s", key->name, text, why);
		FUZZ_CHECK(config_value_same(&again, config, key), "%s = %s is another value", key->name, text);
	}
}

static void strip(const char **at, const char **end)
{
	while (*at < *end && (**at == ' ' || **at == '\t'))
		++*at;
	while (*end > *at && ((*end)[-1] == ' ' || (*end)[-1] == '\t' || (*end)[-1] == '\r'))
		--*end;
}

/* The lines of a file that was accepted, as options. */
static void lines_to_options(struct arguments *arguments, const char *text, size_t len)
{
	const char *begin = text, *all = text + len;
	strip(&begin, &all);
	if (all - begin >= 3 && memcmp(begin, "\xef\xbb\xbf", 3) == 0) {
		len -= (size_t)(begin + 3 - text);
		text = begin + 3;
	}
	for (const char *at = text, *stop = text + len, *next; at < stop; at = next) {
		const char *end = memchr(at, '\n', (size_t)(stop - at));
		end = end != NULL ? end : stop;
		next = end + 1;
		strip(&at, &end);
		const char *equals = memchr(at, '=', (size_t)(end - at));
		if (at == end || *at == '#' || equals == NULL)
			continue;
		char option[512];
		const char *name_end = equals, *value = equals + 1;
		strip(&at, &name_end);
		strip(&value, &end);
		int written = snprintf(
			option, sizeof(option), "--%.*s=%.*s", (int)(name_end - at), at, (int)(end - value), value);
		FUZZ_CHECK(written > 0 && (size_t)written < sizeof(option), "an accepted line is too long");
		for (char *dash = option; *dash != '='; dash++)
			if (*dash == '_')
				*dash = '-';
		add_argument(arguments, option, (size_t)written);
	}
}

static void check_same(const struct config *file, const struct config *line)
{
	for (size_t i = 0; i < config_key_count; i++) {
		const struct config_key *key = &config_keys[i];
		const char *left = (const char *)file + key->offset, *right = (const char *)line + key->offset;
		bool same = is_text(key) ? strcmp(left, right) == 0 : memcmp(left, right, key->width) == 0;
		FUZZ_CHECK(same, "%s: the file and the command line say the same, and it is not", key->name);
	}
}

static int load(struct arguments *arguments, struct config *config, enum config_action *action)
{
	struct error err = {0};
	int r = config_load(arguments->count, arguments->list, config, action, &err);
	if (r != 0)
		check_refusal(&err);
	else if (*action == CONFIG_RUN || *action == CONFIG_CHECK)
		check_accepted(config);
	return r;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_quiet();
	file_fd = memfd_create("config", MFD_CLOEXEC);
	FUZZ_CHECK(file_fd >= 0, "no file in memory");
	snprintf(file_path, sizeof(file_path), "/proc/self/fd/%d", file_fd);
	snprintf(file_option, sizeof(file_option), "--config=%s", file_path);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct config config, other;
	struct arguments arguments = {.count = 0};
	struct fuzz_in in = {data, data + size};
	enum config_action action = CONFIG_RUN;
	size_t file_len, line_len;
	size_t wanted = (size_t)fuzz_uint(&in, 2);
	const uint8_t *file = fuzz_take(&in, wanted, &file_len);

	add_argument(&arguments, "ironwald", 8);
	if (wanted > 0) {
		set_file(file, file_len);
		add_argument(&arguments, file_option, strlen(file_option));
	}
	const char *line = (const char *)fuzz_take(&in, size, &line_len);
	for (const char *at = line, *stop = line + line_len, *end; at < stop; at = end + 1) {
		for (end = at; end < stop && *end != '\0' && *end != '\n'; end++)
			;
		add_argument(&arguments, at, (size_t)(end - at));
	}
	if (load(&arguments, &config, &action) == 0 && (action == CONFIG_RUN || action == CONFIG_CHECK))
		check_formats(&config);

	/* The file alone, and again as options. */
	struct error err = {0};
	if (wanted == 0)
		return 0;
	config_default(&config);
	if (config_file_read(file_path, &config, &err) != 0) {
		check_refusal(&err);
		return 0;
	}
	check_values(&config);
	arguments = (struct arguments){.count = 0};
	add_argument(&arguments, "ironwald", 8);
	lines_to_options(&arguments, (const char *)file, file_len);
	if (arguments.count >= ARGUMENTS_MAX)
		return 0;
	/* What is checked between keys is not the file's: both go through all of it. */
	struct arguments by_file = {.count = 0};
	add_argument(&by_file, "ironwald", 8);
	add_argument(&by_file, file_option, strlen(file_option));
	enum config_action of_file = CONFIG_RUN, of_line = CONFIG_RUN;
	int by_file_result = load(&by_file, &config, &of_file), by_line_result = load(&arguments, &other, &of_line);
	FUZZ_CHECK(by_file_result == by_line_result, "the file is %s, its lines as options are %s",
		by_file_result == 0 ? "good" : "bad", by_line_result == 0 ? "good" : "bad");
	if (by_file_result == 0)
		check_same(&config, &other);
	return 0;
}
