/* ironwal shard append, cat, count. */
#include <string.h>

#include "append.h"

#define COMMON_OPTIONS "  --connect ADDR, --timeout SEC, --json, --help\n"

/* ---- append ---- */

static int append_one(struct tool *tool, const struct buf *key, const void *value, size_t len,
	const ironwal_shard_append_options *options)
{
	ironwal_shard_position position;
	if (ironwal_shard_append(tool->connection, key->data, key->len, value, len, options, &position, tool->error) !=
		0)
		return tool_failed_about(tool, "append to the shard of", "key", key->data, key->len, NULL);
	if (tool->json) {
		struct json *json = json_new();
		json_map(json);
		json_key(json, "shard");
		json_u64(json, position.shard);
		json_key(json, "id");
		json_u64(json, position.id);
		json_map_end(json);
		json_line(json);
		json_free(json);
	} else {
		out_format("%u %llu\n", position.shard, (unsigned long long)position.id);
	}
	return EXIT_OK;
}

static int append_input(struct tool *tool, const struct buf *key, const struct append_job *job,
	const ironwal_shard_append_options *options)
{
	struct buf value;
	int status = append_read(tool, job, "", &value);
	if (status != TOOL_GO_ON)
		return status;
	status = append_one(tool, key, value.data, value.len, options);
	buf_free(&value);
	return status;
}

static int append_with(struct tool *tool, const struct buf *key, const char *value, const char *file,
	const ironwal_shard_append_options *options)
{
	struct append_job job = {0};
	int status = append_open(tool, file, &job);
	if (status != TOOL_GO_ON)
		return status;
	if ((status = tool_connect(tool)) == TOOL_GO_ON)
		status = value != NULL ? append_one(tool, key, value, strlen(value), options)
				       : append_input(tool, key, &job, options);
	append_close(&job);
	return status;
}

static int run_append(struct tool *tool, int argc, char **argv)
{
	enum { OPTION_FILE = OPTION_OWN, OPTION_SYNC, OPTION_HEX };
	static const struct option long_options[] = {TOOL_OPTIONS, {"file", required_argument, NULL, OPTION_FILE},
		{"sync", no_argument, NULL, OPTION_SYNC}, {"hex", no_argument, NULL, OPTION_HEX}, {NULL, 0, NULL, 0}};
	ironwal_shard_append_options options = IRONWAL_SHARD_APPEND_OPTIONS_INIT;
	const char *file = NULL;
	bool hex = false;
	struct buf key = {0};
	int option, status;
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case OPTION_FILE:
			file = optarg;
			break;
		case OPTION_SYNC:
			options.sync = 1;
			break;
		case OPTION_HEX:
			hex = true;
			break;
		default:
			if ((status = tool_option(tool, option)) != TOOL_GO_ON)
				return status;
		}
	}
	if ((status = tool_check_count(tool, argc - optind, 1, 2)) != TOOL_GO_ON)
		return status;
	const char *value = optind + 1 < argc ? argv[optind + 1] : NULL;
	if (value != NULL && file != NULL)
		return tool_usage(tool, "a VALUE and --file exclude each other");
	if ((status = tool_parse_bytes(tool, argv[optind], hex, &key)) == TOOL_GO_ON)
		status = append_with(tool, &key, value, file, &options);
	buf_free(&key);
	return status;
}

static const struct command command_shard_append = {
	.name = "shard append",
	.summary = "append an entry to the shard of a key",
	.help = "usage: ironwal shard append [OPTIONS] KEY [VALUE]\n\n"
		"Appends VALUE, or all of standard input, as one entry to the shard of KEY, and prints the shard's\n"
		"number and the entry's id there. The key is not kept: put it into the value if readers need it.\n\n"
		"Options:\n"
		"  --file FILE        read FILE instead of standard input\n"
		"  --sync             on disk before it is acknowledged, whatever the server's mode\n"
		"  --hex              KEY is given in hex\n" COMMON_OPTIONS "\n"
		"Example:\n"
		"  ironwal shard append user-17 'user-17 logged in'\n",
	.run = run_append,
};

/* ---- cat ---- */

static int run_cat(struct tool *tool, int argc, char **argv)
{
	return tool_cat(tool, argc, argv, true);
}

static const struct command command_shard_cat = {
	.name = "shard cat",
	.summary = "print the entries of a shard",
	.help = "usage: ironwal shard cat [OPTIONS] SHARD\n\n"
		"Prints the entries of shard number SHARD, each followed by a newline, in order.\n\n"
		"Options:\n"
		"  --from ID          begin there, as at the offset of a checkpoint; else at the oldest entry kept\n"
		"  --max N            at most N entries\n"
		"  --follow           at the end, wait for more\n"
		"  --raw              without the newlines\n"
		"  --ids              each with its id and a tab before it\n" COMMON_OPTIONS
		"                     with --json: a line for each, with \"id\", and \"entry\" or \"entry_base64\"\n\n"
		"Example:\n"
		"  ironwal shard cat --from 100 --ids 7\n",
	.run = run_cat,
};

/* ---- count ---- */

static int run_count(struct tool *tool, int argc, char **argv)
{
	static const struct option options[] = {TOOL_OPTIONS, {NULL, 0, NULL, 0}};
	int option, status;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if ((status = tool_option(tool, option)) != TOOL_GO_ON)
			return status;
	}
	if ((status = tool_check_count(tool, argc - optind, 0, 0)) != TOOL_GO_ON ||
		(status = tool_connect(tool)) != TOOL_GO_ON)
		return status;
	out_format(tool->json ? "{\"count\":%u}\n" : "%u\n", ironwal_shard_count(tool->connection));
	return EXIT_OK;
}

static const struct command command_shard_count = {
	.name = "shard count",
	.summary = "print how many shards there are",
	.help = "usage: ironwal shard count [OPTIONS]\n\n"
		"Prints how many shards the server has; they are numbered from 0.\n\n"
		"Options:\n" COMMON_OPTIONS "\n"
		"Example:\n"
		"  ironwal shard count\n",
	.run = run_count,
};

/* ---- all of them ---- */

static int run(struct tool *tool, int argc, char **argv)
{
	static const struct command *const commands[] = {
		&command_shard_append, &command_shard_cat, &command_shard_count};
	return tool_run_one_of(tool, argc, argv, commands, sizeof(commands) / sizeof(commands[0]));
}

const struct command command_shard = {
	.name = "shard",
	.summary = "append by key, and read the shards (append, cat, count)",
	.help = "usage: ironwal shard COMMAND [ARGUMENTS]\n\n"
		"A server has a fixed number of shards: logs that are chosen by a key. What the other commands call\n"
		"the stream 'shard_07' is the log of shard 7.\n\n"
		"Commands (`ironwal shard COMMAND --help` tells more, with an example):\n"
		"  append KEY [VALUE]   append an entry to the shard of a key\n"
		"  cat SHARD            print the entries of a shard\n"
		"  count                print how many shards there are\n\n"
		"Options:\n" COMMON_OPTIONS "\n"
		"Example:\n"
		"  ironwal shard append user-17 hello && ironwal shard cat 7\n",
	.run = run,
};
