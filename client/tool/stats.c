/* ironwal stats: whatever the server counts, in tables or as JSON. */
#include <stdio.h>

#include "stats_table.h"
#include "tool.h"

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

static int run(struct tool *tool, int argc, char **argv)
{
	ironwal_value *value;
	int status = tool_arguments(tool, argc, argv, NULL, 0, 0);
	if (status != TOOL_GO_ON || (status = tool_connect(tool)) != TOOL_GO_ON)
		return status;
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
	.help = "usage: ironwal stats [OPTIONS]\n\n"
		"Shows what the server counts: appends, bytes, syncs, latencies, connections, segments, disk use, and\n"
		"the state of each shard. Names and units are explained in the server's documentation.\n\n"
		"Options:\n" TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal stats\n",
	.run = run,
};
