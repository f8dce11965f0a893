/* ironwal checkpoint create, load, latest, list, compact, count; ironwal prune. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tool.h"

#define HEX_OPTION "  --hex              ids are given, and printed, in hex\n"

/* What the command line says. */
struct job {
	struct tool *tool;
	bool hex;
	struct buf id;
	uint64_t limit, keep;
};

/* Options, an ID, and the connection: TOOL_GO_ON, or the exit status. The id is to be freed. */
static int begin_with_id(struct job *job, int argc, char **argv)
{
	const struct option_row rows[] = {OPT_FLAG("hex", &job->hex), OPT_END};
	int status = tool_arguments(job->tool, argc, argv, rows, 1, 1);
	if (status == TOOL_GO_ON &&
		(status = tool_parse_bytes(job->tool, argv[optind], job->hex, &job->id)) == TOOL_GO_ON)
		status = tool_connect(job->tool);
	return status;
}

/* The same without an id; job->hex among the rows or not. */
static int begin(struct job *job, int argc, char **argv, const struct option_row *rows)
{
	int status = tool_arguments(job->tool, argc, argv, rows, 0, 0);
	return status == TOOL_GO_ON ? tool_connect(job->tool) : status;
}

static int failed(const struct job *job, const char *what, bool has_id)
{
	const char *hint = NULL;
	switch (ironwal_error_get_code(job->tool->error)) {
	case IRONWAL_ERR_CHECKPOINT_NOT_FOUND:
		hint = "ironwal checkpoint list names those that are there";
		break;
	case IRONWAL_ERR_NO_CHECKPOINTS:
		hint = "ironwal checkpoint create ID takes one";
		break;
	default:
		break;
	}
	if (has_id)
		return tool_failed_about(job->tool, what, "checkpoint", job->id.data, job->id.len, hint);
	return tool_failed(job->tool, what, NULL, hint);
}

static void out_id(const struct job *job, const void *id, size_t len)
{
	if (!job->hex)
		out_name(id, len);
	for (size_t i = 0; job->hex && i < len; i++)
		out_format("%02x", ((const uint8_t *)id)[i]);
}

/* As 2026-11-22T09:30:00.123456789Z. */
static void out_time(uint64_t timestamp_ns)
{
	time_t seconds = (time_t)(timestamp_ns / 1000000000u);
	struct tm tm;
	char text[64] = "?";
	if (gmtime_r(&seconds, &tm) != NULL)
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	out_format("%s.%09uZ", text, (unsigned)(timestamp_ns % 1000000000u));
}

/* ---- create, load, latest ---- */

static void checkpoint_json(const ironwal_checkpoint *checkpoint)
{
	struct json *json = json_new();
	size_t len, count;
	const void *id = ironwal_checkpoint_id(checkpoint, &len);
	const uint64_t *offsets = ironwal_checkpoint_offsets(checkpoint, &count);
	json_map(json);
	json_key_bytes(json, "id", id, len);
	json_put_u64(json, "timestamp", ironwal_checkpoint_timestamp_ns(checkpoint));
	json_put_u64(json, "shard_count", count);
	json_key(json, "offsets");
	json_array(json);
	for (size_t i = 0; i < count; i++)
		json_u64(json, offsets[i]);
	json_array_end(json);
	json_map_end(json);
	json_line(json);
	json_free(json);
}

static int print_checkpoint(const struct job *job, ironwal_checkpoint *checkpoint)
{
	if (job->tool->json) {
		checkpoint_json(checkpoint);
	} else {
		size_t len, count;
		const void *id = ironwal_checkpoint_id(checkpoint, &len);
		const uint64_t *offsets = ironwal_checkpoint_offsets(checkpoint, &count);
		out_format("id    ");
		out_id(job, id, len);
		out_format("\ntime  ");
		out_time(ironwal_checkpoint_timestamp_ns(checkpoint));
		out_format("\n\n%10s %20s\n", "SHARD", "OFFSET");
		for (size_t i = 0; i < count; i++)
			out_format("%10zu %20llu\n", i, (unsigned long long)offsets[i]);
	}
	ironwal_checkpoint_free(checkpoint);
	return EXIT_OK;
}

static int create_or_load(struct tool *tool, int argc, char **argv, bool creates)
{
	struct job job = {.tool = tool};
	ironwal_checkpoint *checkpoint;
	int status = begin_with_id(&job, argc, argv);
	if (status == TOOL_GO_ON) {
		int rc = creates ? ironwal_create_checkpoint(
					   tool->connection, job.id.data, job.id.len, &checkpoint, tool->error)
				 : ironwal_load_checkpoint(
					   tool->connection, job.id.data, job.id.len, &checkpoint, tool->error);
		if (rc == 0)
			status = print_checkpoint(&job, checkpoint);
		else
			status = failed(&job, creates ? "create the checkpoint" : "load the checkpoint", true);
	}
	buf_free(&job.id);
	return status;
}

static int run_create(struct tool *tool, int argc, char **argv)
{
	return create_or_load(tool, argc, argv, true);
}

static int run_load(struct tool *tool, int argc, char **argv)
{
	return create_or_load(tool, argc, argv, false);
}

static int run_latest(struct tool *tool, int argc, char **argv)
{
	struct job job = {.tool = tool};
	const struct option_row rows[] = {OPT_FLAG("hex", &job.hex), OPT_END};
	ironwal_checkpoint *checkpoint;
	int status = begin(&job, argc, argv, rows);
	if (status != TOOL_GO_ON)
		return status;
	if (ironwal_load_latest_checkpoint(tool->connection, &checkpoint, tool->error) != 0)
		return failed(&job, "load the latest checkpoint", false);
	return print_checkpoint(&job, checkpoint);
}

static const struct command command_create = {
	.name = "checkpoint create",
	.summary = "take a checkpoint of all shards",
	.help = "usage: ironwal checkpoint create [OPTIONS] ID\n\n"
		"Takes a checkpoint of all shards, and prints it as load does: when it was taken, and for each shard\n"
		"the first id that it does not cover. It is on disk then, and so is all that it covers. One of the\n"
		"same ID is replaced; repeating this is safe.\n\n"
		"Options:\n" HEX_OPTION TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal checkpoint create nightly\n",
	.run = run_create,
};

static const struct command command_load = {
	.name = "checkpoint load",
	.summary = "print a checkpoint",
	.help = "usage: ironwal checkpoint load [OPTIONS] ID\n\n"
		"Prints when the checkpoint was taken, and for each shard the first id that it does not cover. In the\n"
		"id, control characters and backslashes come as \\xNN.\n\n"
		"Options:\n" HEX_OPTION TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal --json checkpoint load nightly\n",
	.run = run_load,
};

static const struct command command_latest = {
	.name = "checkpoint latest",
	.summary = "print the newest checkpoint",
	.help = "usage: ironwal checkpoint latest [OPTIONS]\n\n"
		"Prints the newest checkpoint, as load does. If it is damaged that is an error; no older one is\n"
		"printed in its place.\n\n"
		"Options:\n" HEX_OPTION TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal checkpoint latest\n",
	.run = run_latest,
};

/* ---- list, count ---- */

static void print_listed(const struct job *job, struct json *json, const void *id, size_t len, uint64_t timestamp_ns)
{
	if (json == NULL) {
		out_time(timestamp_ns);
		out_format("  ");
		out_id(job, id, len);
		out_format("\n");
		return;
	}
	json_map(json);
	json_key_bytes(json, "id", id, len);
	json_put_u64(json, "timestamp", timestamp_ns);
	json_map_end(json);
	json_line(json);
}

static int run_list(struct tool *tool, int argc, char **argv)
{
	struct job job = {.tool = tool};
	bool has_limit = false;
	const struct option_row rows[] = {
		OPT_FLAG("hex", &job.hex), OPT_NUMBER("limit", &has_limit, &job.limit, "a number from 1"), OPT_END};
	ironwal_checkpoints *list;
	int status = tool_arguments(tool, argc, argv, rows, 0, 0);
	if (status != TOOL_GO_ON)
		return status;
	if (has_limit && job.limit == 0) /* which the library takes for all */
		return tool_usage(tool, "--limit: '0' is not a number from 1");
	if ((status = tool_connect(tool)) != TOOL_GO_ON)
		return status;
	if (ironwal_list_checkpoints(tool->connection, job.limit, &list, tool->error) != 0) {
		bool too_large = ironwal_error_get_code(tool->error) == IRONWAL_ERR_TOO_LARGE;
		return tool_failed(tool, "list checkpoints", NULL, too_large ? "--limit N lists fewer" : NULL);
	}
	struct json *json = tool->json ? json_new() : NULL;
	if (json == NULL)
		out_format("%-30s  ID\n", "TIME");
	const void *id;
	size_t len;
	uint64_t timestamp_ns;
	for (size_t i = 0; ironwal_checkpoints_get(list, i, &id, &len, &timestamp_ns); i++)
		print_listed(&job, json, id, len, timestamp_ns);
	uint64_t damaged = ironwal_checkpoints_damaged(list);
	if (json != NULL)
		json_free(json);
	ironwal_checkpoints_free(list);
	if (damaged == 0)
		return EXIT_OK;
	out_flush();
	return tool_failed_here(tool,
		"%llu more %s damaged, so that the ids cannot be told; create what is missing again",
		(unsigned long long)damaged, damaged == 1 ? "checkpoint is" : "checkpoints are");
}

static const struct command command_list = {
	.name = "checkpoint list",
	.summary = "list the checkpoints",
	.help = "usage: ironwal checkpoint list [OPTIONS]\n\n"
		"Lists when the checkpoints were taken (UTC) and their ids, oldest first. Exit status 1 if there are\n"
		"some that are so badly damaged that their ids cannot be told.\n\n"
		"Options:\n"
		"  --limit N          only the newest N\n" HEX_OPTION TOOL_OPTIONS_HELP
		"                     with --json: a line for each, with \"id\" (or \"id_base64\") and \"timestamp\", "
		"in\n"
		"                     nanoseconds\n\n"
		"Example:\n"
		"  ironwal checkpoint list --limit 10\n",
	.run = run_list,
};

static int run_count(struct tool *tool, int argc, char **argv)
{
	struct job job = {.tool = tool};
	uint64_t count;
	int status = begin(&job, argc, argv, NULL);
	if (status != TOOL_GO_ON)
		return status;
	if (ironwal_checkpoint_count(tool->connection, &count, tool->error) != 0)
		return failed(&job, "count the checkpoints", false);
	out_format(tool->json ? "{\"count\":%llu}\n" : "%llu\n", (unsigned long long)count);
	return EXIT_OK;
}

static const struct command command_count = {
	.name = "checkpoint count",
	.summary = "print how many checkpoints there are",
	.help = "usage: ironwal checkpoint count [OPTIONS]\n\n"
		"Prints how many checkpoints there are.\n\n"
		"Options:\n" TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal checkpoint count\n",
	.run = run_count,
};

/* ---- compact, prune ---- */

static int run_compact(struct tool *tool, int argc, char **argv)
{
	struct job job = {.tool = tool};
	bool has_keep = false;
	const struct option_row rows[] = {OPT_NUMBER("keep", &has_keep, &job.keep, "a number of checkpoints"), OPT_END};
	ironwal_compaction_stats stats;
	int status = tool_arguments(tool, argc, argv, rows, 0, 0);
	if (status != TOOL_GO_ON)
		return status;
	if (!has_keep)
		return tool_usage(tool, "--keep N is missing: how many of the newest stay");
	if ((status = tool_connect(tool)) != TOOL_GO_ON)
		return status;
	if (ironwal_compact_checkpoints(tool->connection, job.keep, &stats, tool->error) != 0)
		return failed(&job, "compact the checkpoints", false);
	if (tool->json) {
		struct json *json = json_new();
		json_map(json);
		json_put_u64(json, "checkpoints_before", stats.checkpoints_before);
		json_put_u64(json, "checkpoints_after", stats.checkpoints_after);
		json_put_u64(json, "bytes_reclaimed", stats.bytes_reclaimed);
		json_map_end(json);
		json_line(json);
		json_free(json);
	} else {
		out_count(stats.checkpoints_before, "checkpoint", "checkpoints");
		out_format(" before, %llu after, %llu bytes reclaimed\n", (unsigned long long)stats.checkpoints_after,
			(unsigned long long)stats.bytes_reclaimed);
	}
	return EXIT_OK;
}

static const struct command command_compact = {
	.name = "checkpoint compact",
	.summary = "keep the newest checkpoints, drop the others",
	.help = "usage: ironwal checkpoint compact [OPTIONS] --keep N\n\n"
		"Keeps the newest N checkpoints, drops the others for good, and prints how many there were and are,\n"
		"and by how much their file became shorter. Entries are not touched: see ironwal prune.\n\n"
		"Options:\n"
		"  --keep N           how many stay; 0: none\n" TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal checkpoint compact --keep 5\n",
	.run = run_compact,
};

static int prune(const struct job *job)
{
	struct tool *tool = job->tool;
	ironwal_prune_stats stats;
	if (ironwal_prune_before_checkpoint(tool->connection, job->id.data, job->id.len, &stats, tool->error) != 0)
		return failed(job, "prune before the checkpoint", true);
	if (tool->json)
		out_format("{\"shards_pruned\":%u,\"segments_deleted\":%llu}\n", stats.shards_pruned,
			(unsigned long long)stats.segments_deleted);
	else
		out_format("%llu %s of %u %s deleted\n", (unsigned long long)stats.segments_deleted,
			stats.segments_deleted == 1 ? "segment" : "segments", stats.shards_pruned,
			stats.shards_pruned == 1 ? "shard" : "shards");
	return EXIT_OK;
}

static int run_prune(struct tool *tool, int argc, char **argv)
{
	struct job job = {.tool = tool};
	int status = begin_with_id(&job, argc, argv);
	if (status == TOOL_GO_ON)
		status = prune(&job);
	buf_free(&job.id);
	return status;
}

const struct command command_prune = {
	.name = "prune",
	.summary = "delete, in all shards, the segments before a checkpoint",
	.help = "usage: ironwal prune [OPTIONS] ID\n\n"
		"Deletes, in all shards, the segments of which every entry is covered by the checkpoint ID, for good,\n"
		"and says how many. Segments that are being written stay, and so does the checkpoint.\n\n"
		"Options:\n" HEX_OPTION TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal prune nightly\n",
	.run = run_prune,
};

/* ---- all of them ---- */

static int run(struct tool *tool, int argc, char **argv)
{
	static const struct command *const commands[] = {
		&command_create, &command_load, &command_latest, &command_list, &command_compact, &command_count};
	return tool_run_one_of(tool, argc, argv, commands, sizeof(commands) / sizeof(commands[0]));
}

const struct command command_checkpoint = {
	.name = "checkpoint",
	.summary = "take and read checkpoints (create, load, latest, list, compact, count)",
	.help = "usage: ironwal checkpoint COMMAND [ARGUMENTS]\n\n"
		"A checkpoint is a consistent cut through all shards, kept under an id: any 1 to 65,535 bytes.\n\n"
		"Commands (`ironwal checkpoint COMMAND --help` tells more, with an example):\n"
		"  create ID            take a checkpoint of all shards\n"
		"  load ID              print a checkpoint\n"
		"  latest               print the newest checkpoint\n"
		"  list                 list the checkpoints\n"
		"  compact --keep N     keep the newest checkpoints, drop the others\n"
		"  count                print how many checkpoints there are\n\n"
		"Options:\n" TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal checkpoint create nightly && ironwal prune nightly\n",
	.run = run,
};
