/* ironwal: the command line of ironwald. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static const struct command *const commands[] = {&command_append, &command_get, &command_cat, &command_streams,
	&command_info, &command_truncate, &command_segment_start, &command_sync, &command_ping, &command_stats,
	&command_shard, &command_checkpoint, &command_prune};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static int print_help(void)
{
	out_format("usage: ironwal [OPTIONS] COMMAND [ARGUMENTS]\n\n"
		   "Appends to and reads from the streams and shards of an ironwald.\n\n"
		   "Commands (`ironwal COMMAND --help` tells more, with an example):\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		out_format("  %-14s %s\n", commands[i]->name, commands[i]->summary);
	out_format("\n"
		   "Options, before or after the command:\n"
		   "  --connect ADDR   unix:PATH or tcp:HOST:PORT; else $IRONWAL_CONNECT, else " IRONWAL_DEFAULT_ADDRESS
		   "\n"
		   "  --timeout SEC    how long an answer may take; default 30; 0: no limit\n"
		   "  --json           output (and errors) as JSON, one object a line\n"
		   "  --help, --version\n\n"
		   "Exit status: 0 done; 1 the server refused, there is no such stream or entry, or a local file\n"
		   "failed; 2 wrong usage; 3 no connection, connection lost, or no answer in time.\n\n"
		   "Example:\n"
		   "  ironwal append greetings hello && ironwal cat greetings\n");
	return EXIT_OK;
}

int tool_usage(const struct tool *tool, const char *format, ...)
{
	va_list args;
	const char *name = tool->command != NULL ? tool->command->name : NULL;
	fprintf(stderr, "ironwal%s%s: ", name != NULL ? " " : "", name != NULL ? name : "");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "; see ironwal%s%s --help\n", name != NULL ? " " : "", name != NULL ? name : "");
	return EXIT_USAGE;
}

bool tool_parse_u64(const char *text, uint64_t *ret_value)
{
	char *end;
	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0')
		return false;
	*ret_value = value;
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int tool_parse_bytes(const struct tool *tool, const char *text, bool is_hex, struct buf *buf)
{
	size_t len = strlen(text);
	if (is_hex && len % 2 != 0)
		return tool_usage(tool, "--hex: '%s' has an odd number of digits", text);
	for (size_t i = 0; is_hex && i < len; i += 2) {
		int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
		if (high < 0 || low < 0)
			return tool_usage(tool, "--hex: '%s' is not a number in hex", text);
		const uint8_t byte = (uint8_t)(high * 16 + low);
		if (buf_append(buf, &byte, 1) != 0)
			return tool_failed_here(tool, "out of memory");
	}
	if (!is_hex && buf_append(buf, text, len) != 0)
		return tool_failed_here(tool, "out of memory");
	return TOOL_GO_ON;
}

static int parse_timeout(struct tool *tool, const char *text)
{
	char *end;
	double seconds = strtod(text, &end);
	if (end == text || *end != '\0' || !isfinite(seconds) || seconds < 0 || seconds > 1e9)
		return tool_usage(tool, "--timeout: '%s' is not a number of seconds", text);
	tool->timeout_ms = seconds > 0 ? (int64_t)ceil(seconds * 1000) : -1;
	return TOOL_GO_ON;
}

int tool_option(struct tool *tool, int option)
{
	switch (option) {
	case OPTION_CONNECT:
		tool->address = optarg;
		return TOOL_GO_ON;
	case OPTION_TIMEOUT:
		return parse_timeout(tool, optarg);
	case OPTION_JSON:
		tool->json = true;
		return TOOL_GO_ON;
	case OPTION_HELP:
		if (tool->command == NULL)
			return print_help();
		out_format("%s", tool->command->help);
		return EXIT_OK;
	default: /* getopt has said what it was */
		return EXIT_USAGE;
	}
}

int tool_check_count(const struct tool *tool, int count, int least, int most)
{
	if (count < least)
		return tool_usage(tool, "an argument is missing");
	if (count > most)
		return tool_usage(tool, "too many arguments");
	return TOOL_GO_ON;
}

int tool_connect(struct tool *tool)
{
	ironwal_options options = IRONWAL_OPTIONS_INIT;
	options.timeout_ms = tool->timeout_ms;
	options.max_in_flight_bytes = 8u << 20; /* what append --lines holds in memory */
	options.client_name = "ironwal/" IRONWAL_VERSION_STRING;
	if (ironwal_connect(tool->address, &options, &tool->connection, tool->error) == 0)
		return TOOL_GO_ON;
	/* Without a connection, whatever the reason: the status that says so. */
	int status = tool_failed(tool, "connect", NULL, "--connect or IRONWAL_CONNECT names another address");
	return status == EXIT_USAGE ? EXIT_USAGE : EXIT_CONNECTION;
}

/* The argument that comes next is the command. */
static int run_named(struct tool *tool, int argc, char **argv, const struct command *const *choice, size_t choice_count)
{
	if (optind == argc)
		return tool_usage(tool, "a command is missing");
	for (size_t i = 0; i < choice_count; i++) {
		const char *space = strrchr(choice[i]->name, ' ');
		if (strcmp(argv[optind], space != NULL ? space + 1 : choice[i]->name) != 0)
			continue;
		char **rest = argv + optind;
		int count = argc - optind;
		rest[0] = argv[0]; /* getopt's messages begin with it */
		optind = 0;	   /* a new round, with permutation */
		tool->command = choice[i];
		return tool->command->run(tool, count, rest);
	}
	return tool_usage(tool, "there is no command '%s'", argv[optind]);
}

int tool_run_one_of(struct tool *tool, int argc, char **argv, const struct command *const *choice, size_t count)
{
	static const struct option options[] = {TOOL_OPTIONS, {NULL, 0, NULL, 0}};
	int option, status;
	while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if ((status = tool_option(tool, option)) != TOOL_GO_ON)
			return status;
	}
	return run_named(tool, argc, argv, choice, count);
}

static int run(struct tool *tool, int argc, char **argv)
{
	static const struct option options[] = {
		TOOL_OPTIONS, {"version", no_argument, NULL, OPTION_OWN}, {NULL, 0, NULL, 0}};
	int option;
	while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (option == OPTION_OWN) {
			out_format("ironwal %s\n", ironwal_version());
			return EXIT_OK;
		}
		int status = tool_option(tool, option);
		if (status != TOOL_GO_ON)
			return status;
	}
	return run_named(tool, argc, argv, commands, COMMAND_COUNT);
}

int main(int argc, char **argv)
{
	static char name[] = "ironwal";
	struct tool tool = {.timeout_ms = 30000, .error = ironwal_error_new()};
	signal(SIGPIPE, SIG_IGN);
	if (argc > 0)
		argv[0] = name; /* getopt's messages begin with it, as all others do */
	if (tool.error == NULL)
		return tool_failed_here(&tool, "out of memory");
	int status = out_end(&tool, run(&tool, argc, argv));
	ironwal_close(tool.connection);
	ironwal_error_free(tool.error);
	return status;
}
