/* ironwal get, ironwal cat (and what ironwal shard cat has in common with it). */
#include <stdio.h>
#include <string.h>

#include "tool.h"

/* ---- get ---- */

static int run_get(struct tool *tool, int argc, char **argv)
{
	static const struct option options[] = {TOOL_OPTIONS, {NULL, 0, NULL, 0}};
	int option, status;
	uint64_t id;
	void *entry;
	size_t len;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if ((status = tool_option(tool, option)) != TOOL_GO_ON)
			return status;
	}
	if ((status = tool_check_count(tool, argc - optind, 2, 2)) != TOOL_GO_ON)
		return status;
	const char *stream = argv[optind];
	if (!tool_parse_u64(argv[optind + 1], &id))
		return tool_usage(tool, "'%s' is not an id", argv[optind + 1]);
	if ((status = tool_connect(tool)) != TOOL_GO_ON)
		return status;
	if (ironwal_get(tool->connection, stream, strlen(stream), id, &entry, &len, tool->error) != 0)
		return tool_failed(tool, "get from", stream, NULL);
	if (entry == NULL)
		return tool_failed_here(tool,
			"'%s' has no entry %llu (not yet, or it was truncated away); see ironwal info", stream,
			(unsigned long long)id);
	if (tool->json) {
		struct json *json = json_new();
		json_map(json);
		json_key(json, "id");
		json_u64(json, id);
		json_key_bytes(json, "entry", entry, len);
		json_map_end(json);
		json_line(json);
		json_free(json);
	} else {
		out_write(entry, len);
	}
	ironwal_entry_free(entry);
	return EXIT_OK;
}

const struct command command_get = {
	.name = "get",
	.summary = "print one entry, byte for byte",
	.help = "usage: ironwal get [OPTIONS] STREAM ID\n\n"
		"Writes the entry's bytes to standard output, with nothing added. Exit status 1 if there is none.\n\n"
		"Options:\n"
		"  --connect ADDR, --timeout SEC, --json, --help\n"
		"                     with --json: \"entry\" is a string, or \"entry_base64\" if it is not UTF-8\n\n"
		"Example:\n"
		"  ironwal get greetings 0 > first\n",
	.run = run_get,
};

/* ---- cat ---- */

/* Of one request: a log of any size passes through this much memory. */
#define READ_BYTES (1u << 20)
/* While following: how long it takes to notice that the reader of standard output has gone. */
#define WAIT_MS 1000

struct cat {
	struct tool *tool;
	const char *stream; /* of a shard, the name of its log */
	bool of_shard;
	uint32_t shard;
	char shard_name[IRONWAL_SHARD_NAME_MAX];
	struct json *json;
	bool follow, raw, ids;
	bool has_end;
	uint64_t left, end; /* entries still to print; without --follow, where the stream ended at first */
	ironwal_read_options read;
};

static bool print_entry(struct cat *cat, uint64_t id, const void *entry, size_t len)
{
	if (cat->json != NULL) {
		json_map(cat->json);
		json_key(cat->json, "id");
		json_u64(cat->json, id);
		json_key_bytes(cat->json, "entry", entry, len);
		json_map_end(cat->json);
		return json_line(cat->json);
	}
	if (cat->ids && !out_format("%llu\t", (unsigned long long)id))
		return false;
	return out_write(entry, len) && (cat->raw || out_write("\n", 1));
}

/* False: standard output is of no use any more. */
static bool print_entries(struct cat *cat, const ironwal_entries *entries)
{
	size_t count = ironwal_entries_count(entries);
	for (size_t i = 0; i < count && cat->left > 0; i++) {
		uint64_t id;
		const void *entry;
		size_t len;
		if (!ironwal_entries_get(entries, i, &id, &entry, &len))
			continue; /* does not happen: what is read has no gaps */
		if (cat->has_end && id >= cat->end)
			break;
		if (!print_entry(cat, id, entry, len))
			return false;
		cat->left--;
	}
	return true;
}

static int cat_failed(struct cat *cat)
{
	char hint[96];
	uint64_t first_id;
	const char *what_to_do = NULL;
	if (ironwal_error_get_uint(cat->tool->error, "first_id", &first_id)) {
		(void)snprintf(hint, sizeof(hint), "--from %llu goes on behind it", (unsigned long long)first_id);
		what_to_do = hint;
	} else if (cat->read.has_start_id && tool_exit_status(cat->tool->error) == EXIT_CONNECTION) {
		(void)snprintf(
			hint, sizeof(hint), "--from %llu goes on from here", (unsigned long long)cat->read.start_id);
		what_to_do = hint;
	}
	return tool_failed(cat->tool, "read", cat->stream, what_to_do);
}

static int cat_read(struct cat *cat, ironwal_entries **ret_entries)
{
	struct tool *tool = cat->tool;
	if (cat->of_shard)
		return ironwal_read_shard(tool->connection, cat->shard, &cat->read, ret_entries, tool->error);
	return ironwal_read(tool->connection, cat->stream, strlen(cat->stream), &cat->read, ret_entries, tool->error);
}

static int cat_run(struct cat *cat)
{
	while (cat->left > 0) {
		ironwal_entries *entries;
		cat->read.max_entries = cat->left;
		if (cat_read(cat, &entries) != 0)
			return cat_failed(cat);
		size_t count = ironwal_entries_count(entries);
		if (!cat->follow && !cat->has_end) {
			/* What comes in while we print is not waited for, else a busy stream would have no end. */
			cat->has_end = true;
			cat->end = ironwal_entries_end_id(entries);
		}
		bool good = print_entries(cat, entries);
		cat->read.has_start_id = 1;
		cat->read.start_id = ironwal_entries_next_id(entries);
		ironwal_entries_free(entries);
		if (!good)
			break;
		if (cat->follow) {
			if (!out_flush() || out_reader_gone())
				break;
			/* Only the end of the stream is worth waiting at. */
			cat->read.wait_ms = WAIT_MS;
		} else if (count == 0 || cat->read.start_id >= cat->end) {
			break;
		}
	}
	return EXIT_OK;
}

/* TOOL_GO_ON, or the exit status. */
static int cat_choose(struct cat *cat, const char *name)
{
	uint64_t number;
	cat->stream = name;
	if (!cat->of_shard)
		return TOOL_GO_ON;
	if (!tool_parse_u64(name, &number) || number > UINT32_MAX)
		return tool_usage(cat->tool, "'%s' is not a shard's number", name);
	cat->shard = (uint32_t)number;
	ironwal_shard_name(cat->shard, cat->shard_name);
	cat->stream = cat->shard_name;
	return TOOL_GO_ON;
}

int tool_cat(struct tool *tool, int argc, char **argv, bool of_shard)
{
	enum { OPTION_FROM = OPTION_OWN, OPTION_FOLLOW, OPTION_MAX, OPTION_RAW, OPTION_IDS };
	static const struct option options[] = {TOOL_OPTIONS, {"from", required_argument, NULL, OPTION_FROM},
		{"follow", no_argument, NULL, OPTION_FOLLOW}, {"max", required_argument, NULL, OPTION_MAX},
		{"raw", no_argument, NULL, OPTION_RAW}, {"ids", no_argument, NULL, OPTION_IDS}, {NULL, 0, NULL, 0}};
	struct cat cat = {.tool = tool, .of_shard = of_shard, .left = UINT64_MAX, .read = IRONWAL_READ_OPTIONS_INIT};
	int option, status;
	cat.read.max_bytes = READ_BYTES;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case OPTION_FROM:
			cat.read.has_start_id = 1;
			if (!tool_parse_u64(optarg, &cat.read.start_id))
				return tool_usage(tool, "--from: '%s' is not an id", optarg);
			break;
		case OPTION_MAX:
			if (!tool_parse_u64(optarg, &cat.left))
				return tool_usage(tool, "--max: '%s' is not a number of entries", optarg);
			break;
		case OPTION_FOLLOW:
			cat.follow = true;
			break;
		case OPTION_RAW:
			cat.raw = true;
			break;
		case OPTION_IDS:
			cat.ids = true;
			break;
		default:
			if ((status = tool_option(tool, option)) != TOOL_GO_ON)
				return status;
		}
	}
	if ((status = tool_check_count(tool, argc - optind, 1, 1)) != TOOL_GO_ON)
		return status;
	if (tool->json && (cat.raw || cat.ids))
		return tool_usage(tool, "--json and --%s exclude each other", cat.raw ? "raw" : "ids");
	if ((status = cat_choose(&cat, argv[optind])) != TOOL_GO_ON || (status = tool_connect(tool)) != TOOL_GO_ON)
		return status;
	if (tool->json)
		cat.json = json_new();
	status = cat_run(&cat);
	if (cat.json != NULL)
		json_free(cat.json);
	return status;
}

static int run_cat(struct tool *tool, int argc, char **argv)
{
	return tool_cat(tool, argc, argv, false);
}

const struct command command_cat = {
	.name = "cat",
	.summary = "print the entries of a stream",
	.help = "usage: ironwal cat [OPTIONS] STREAM\n\n"
		"Prints the entries that are there, each followed by a newline, in order.\n\n"
		"Options:\n"
		"  --from ID          begin there; else at the oldest entry kept\n"
		"  --max N            at most N entries\n"
		"  --follow           at the end, wait for more\n"
		"  --raw              without the newlines\n"
		"  --ids              each with its id and a tab before it\n"
		"  --connect ADDR, --timeout SEC, --json, --help\n"
		"                     with --json: a line for each, with \"id\", and \"entry\" or \"entry_base64\"\n\n"
		"Example:\n"
		"  ironwal cat --from 100 --max 10 --ids services\n",
	.run = run_cat,
};
