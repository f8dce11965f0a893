/* ironwal stats: whatever the server counts, in tables or as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stats_table.h"
#include "tool.h"
#include "watch.h"

/* ---- JSON ---- */

static int to_json(const ironwal_value_item *item, void *arg)
{
	struct json *json = arg;
	char number[32];
	if (item->is_key && item->kind != IRONWAL_VALUE_TEXT && item->kind != IRONWAL_VALUE_BYTES) {
		/* JSON's keys are strings. */
		if (item->kind == IRONWAL_VALUE_UINT)
			(void)snprintf(number, sizeof(number), "%llu", (unsigned long long)item->u);
		else
			(void)snprintf(number, sizeof(number), "%lld", (long long)item->i);
		json_key(json, number);
		return 0;
	}
	switch (item->kind) {
	case IRONWAL_VALUE_NIL:
		json_null(json);
		break;
	case IRONWAL_VALUE_BOOL:
		json_bool(json, item->u != 0);
		break;
	case IRONWAL_VALUE_UINT:
		json_u64(json, item->u);
		break;
	case IRONWAL_VALUE_INT:
		json_i64(json, item->i);
		break;
	case IRONWAL_VALUE_FLOAT:
		json_double(json, item->f);
		break;
	case IRONWAL_VALUE_TEXT:
	case IRONWAL_VALUE_BYTES:
		json_bytes(json, item->data, item->len);
		break;
	case IRONWAL_VALUE_MAP_BEGIN:
		json_map(json);
		break;
	case IRONWAL_VALUE_MAP_END:
		json_map_end(json);
		break;
	case IRONWAL_VALUE_ARRAY_BEGIN:
		json_array(json);
		break;
	case IRONWAL_VALUE_ARRAY_END:
		json_array_end(json);
		break;
	}
	return 0;
}

/* ---- the command ---- */

#define SECONDS_MIN 0.1
#define SECONDS_MAX 86400.0

static int parse_watch(const struct tool *tool, const char *text, bool has_count, struct watch_options *options)
{
	char *rest;
	const double seconds = strtod(text, &rest);
	/* strtod takes blanks, signs, "0x10" and "inf", too. */
	if (strspn(text, "0123456789.") != strlen(text) || rest == text || *rest != '\0' || seconds < SECONDS_MIN ||
		seconds > SECONDS_MAX)
		return tool_usage(tool, "--watch: '%s' is not a number of seconds from %g to %.0f", text, SECONDS_MIN,
			SECONDS_MAX);
	if (has_count && options->count == 0)
		return tool_usage(tool, "--count: at least one picture is shown");
	options->interval_ns = (uint64_t)(seconds * 1e9);
	return TOOL_GO_ON;
}

/* What stands behind --watch without a '=' is an argument of the command. */
static int parse(struct tool *tool, int argc, char **argv, bool *ret_watches, struct watch_options *options)
{
	bool has_count = false;
	const char *seconds = NULL;
	const struct option_row rows[] = {OPT_MAYBE_TEXT("watch", ret_watches, &seconds),
		OPT_NUMBER("count", &has_count, &options->count, "a number of pictures"), OPT_END};
	int status = tool_arguments(tool, argc, argv, rows, 0, 1);
	if (status != TOOL_GO_ON)
		return status;
	if (!*ret_watches || seconds != NULL)
		status = tool_check_count(tool, argc - optind, 0, 0);
	if (status == TOOL_GO_ON && has_count && !*ret_watches)
		status = tool_usage(tool, "--count goes with --watch");
	if (status != TOOL_GO_ON || !*ret_watches)
		return status;
	if (optind < argc)
		seconds = argv[optind];
	return parse_watch(tool, seconds != NULL ? seconds : "1", has_count, options);
}

static int run(struct tool *tool, int argc, char **argv)
{
	ironwal_value *value;
	bool watches = false;
	struct watch_options watch = {0, 0};
	int status = parse(tool, argc, argv, &watches, &watch);
	if (status != TOOL_GO_ON || (status = tool_connect(tool)) != TOOL_GO_ON)
		return status;
	if (watches)
		return watch_run(tool, &watch);
	if (ironwal_stats(tool->connection, &value, tool->error) != 0)
		return tool_failed(tool, "ask for stats", NULL, NULL);
	if (tool->json) {
		struct json *json = json_new();
		(void)ironwal_value_walk(value, to_json, json);
		json_line(json);
		json_free(json);
	} else if (!stats_table_print(value)) {
		status = tool_failed_here(tool, "out of memory, or too deep a value; --json shows it");
	}
	ironwal_value_free(value);
	return status == TOOL_GO_ON ? EXIT_OK : status;
}

const struct command command_stats = {
	.name = "stats",
	.summary = "show the server's counters",
	.help = "usage: ironwal stats [--watch [SECONDS]] [--count N] [OPTIONS]\n\n"
		"Shows what the server counts: appends, bytes, syncs, latencies, connections, segments, disk use, and\n"
		"the state of each writer. Names and units are explained in the server's documentation.\n\n"
		"With --watch it shows, on a terminal, a picture that is drawn again and again: whether the server is\n"
		"well, what it refuses, what is slow, its rates since the picture before, what waits, and each "
		"writer,\n"
		"the busiest first. q or ^C ends it. A server that goes away is waited for. Elsewhere than on a\n"
		"terminal each picture is a line, with --json an object.\n\n"
		"Options:\n"
		"  --watch [SECONDS]  how often it is drawn, 0.1 to 86400; default 1\n"
		"  --count N          ends after so many pictures\n" TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal stats\n"
		"  ironwal stats --watch 0.5 --count 3\n",
	.run = run,
};
