/* ironwal shard append, cat, count. */
#include <string.h>

#include "append.h"

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
		json_put_u64(json, "shard", position.shard);
		json_put_u64(json, "id", position.id);
		json_map_end(json);
		json_line(json);
		json_free(json);
	} else {
		out_format("%u %llu\n", position.shard, (unsigned long long)position.id);
	}
	return EXIT_OK;
}

static int append_input(struct tool *tool, const struct append_job *job, const ironwal_shard_append_options *options)
{
	struct buf value;
	int status = append_read(tool, job, "", &value);
	if (status != TOOL_GO_ON)
		return status;
	status = append_one(tool, &job->key, value.data, value.len, options);
	buf_free(&value);
	return status;
}

static int append_with(struct tool *tool, struct append_job *job, const char *value)
{
	ironwal_shard_append_options options = IRONWAL_SHARD_APPEND_OPTIONS_INIT;
	options.sync = job->options.sync;
	int status = append_open(tool, job);
	if (status != TOOL_GO_ON)
		return status;
	if ((status = tool_connect(tool)) == TOOL_GO_ON) {
		if (value != NULL)
			status = append_one(tool, &job->key, value, strlen(value), &options);
		else if (job->lines)
			status = append_keyed_lines(tool, job);
		else if (job->batch)
			status = append_batch(tool, job);
		else
			status = append_input(tool, job, &options);
	}
	append_close(job);
	return status;
}

static int run_append(struct tool *tool, int argc, char **argv)
{
	struct append_job job = {.options = IRONWAL_APPEND_OPTIONS_INIT};
	bool sync = false;
	const struct option_row rows[] = {OPT_TEXT("file", &job.file), OPT_FLAG("lines", &job.lines),
		OPT_FLAG("batch", &job.batch), OPT_FLAG("null", &job.null), OPT_FLAG("ids", &job.with_positions),
		OPT_FLAG("sync", &sync), OPT_FLAG("hex", &job.hex), OPT_END};
	int status = tool_arguments(tool, argc, argv, rows, 0, 2);
	if (status != TOOL_GO_ON)
		return status;
	job.options.sync = sync;
	int count = argc - optind;
	const char *value = count > 1 ? argv[optind + 1] : NULL;
	if (job.with_positions && !job.lines)
		return tool_usage(tool, "--ids goes with --lines");
	if ((status = tool_check_count(tool, count, !job.lines, 2)) != TOOL_GO_ON ||
		(status = append_check(tool, &job, value, "a VALUE")) != TOOL_GO_ON)
		return status;
	if (job.lines && count > 0)
		return tool_usage(tool, "a KEY and --lines exclude each other: each line has its own");
	if (job.lines || (status = tool_parse_bytes(tool, argv[optind], job.hex, &job.key)) == TOOL_GO_ON)
		status = append_with(tool, &job, value);
	buf_free(&job.key);
	return status;
}

static const struct command command_shard_append = {
	.name = "shard append",
	.summary = "append an entry, or many, to the shards of keys",
	.help = "usage: ironwal shard append [OPTIONS] KEY [VALUE]\n"
		"       ironwal shard append --batch [OPTIONS] KEY\n"
		"       ironwal shard append --lines [OPTIONS]\n\n"
		"Appends VALUE, or all of standard input, as one entry to the shard of KEY, and prints the shard's\n"
		"number and the entry's id there. The key is not kept: put it into the value if readers need it.\n\n"
		"Options:\n"
		"  --file FILE        read FILE instead of standard input\n"
		"  --batch            every line is an entry for KEY, all in one batch: all are written, or none\n"
		"  --lines            every line is a key, a tab, and an entry; prints how many; if it fails on the\n"
		"                     way, says which lines were written\n"
		"  --ids              with --lines: prints the shard and the id of each\n"
		"  --null             with --lines or --batch: entries end with NUL bytes, not with newlines\n"
		"  --sync             on disk before it is acknowledged, whatever the server's mode\n"
		"  --hex              keys are given in hex\n" TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal shard append user-17 'user-17 logged in'\n"
		"  printf 'user-17\\tout\\nuser-18\\tin\\n' | ironwal shard append --lines\n",
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
		"  --raw              the bytes of the entries and nothing else\n"
		"  --null             NUL bytes in place of the newlines\n"
		"  --ids              each with its id and a tab before it\n" TOOL_OPTIONS_HELP
		"                     with --json: a line for each, with \"id\", and \"entry\" or \"entry_base64\"\n\n"
		"Example:\n"
		"  ironwal shard cat --ids 3\n",
	.run = run_cat,
};

/* ---- count ---- */

static int run_count(struct tool *tool, int argc, char **argv)
{
	int status = tool_arguments(tool, argc, argv, NULL, 0, 0);
	if (status != TOOL_GO_ON || (status = tool_connect(tool)) != TOOL_GO_ON)
		return status;
	out_format(tool->json ? "{\"count\":%u}\n" : "%u\n", ironwal_shard_count(tool->connection));
	return EXIT_OK;
}

static const struct command command_shard_count = {
	.name = "shard count",
	.summary = "print how many shards there are",
	.help = "usage: ironwal shard count [OPTIONS]\n\n"
		"Prints how many shards the server has; they are numbered from 0.\n\n"
		"Options:\n" TOOL_OPTIONS_HELP "\n"
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
		"  append KEY [VALUE]   append an entry, or many, to the shards of keys\n"
		"  cat SHARD            print the entries of a shard\n"
		"  count                print how many shards there are\n\n"
		"Options:\n" TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal shard append user-17 hello && ironwal shard cat 3\n",
	.run = run,
};
