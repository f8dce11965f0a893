/* ironwal streams, info, truncate, segment-start, sync, ping. */
#include <string.h>

#include "clock.h"
#include "progress.h"
#include "tool.h"

static void info_json(struct json *json, const char *name, size_t name_len, const ironwal_stream_info *info)
{
	json_map(json);
	json_key_bytes(json, "stream", name, name_len);
	json_put_u64(json, "first", info->first);
	json_put_u64(json, "end", info->end);
	json_put_u64(json, "durable_end", info->durable_end);
	json_put_u64(json, "segments", info->segments);
	json_put_u64(json, "bytes", info->bytes);
	json_map_end(json);
	json_line(json);
}

/* ---- streams ---- */

#define PAGE_STREAMS 1000

struct listing {
	struct tool *tool;
	struct json *json;
	bool names_only, null;
	uint64_t count;
	struct progress progress; /* where the rows do not go to the terminal themselves */
};

static int list_one(struct listing *listing, const char *name, size_t len, bool *ret_go_on)
{
	struct tool *tool = listing->tool;
	ironwal_stream_info info;
	progress_update(&listing->progress, 0, listing->count++);
	if (listing->null) {
		*ret_go_on = out_write(name, len) && out_write("", 1);
		return EXIT_OK;
	}
	if (listing->names_only) {
		if (listing->json != NULL) {
			json_map(listing->json);
			json_key_bytes(listing->json, "stream", name, len);
			json_map_end(listing->json);
			*ret_go_on = json_line(listing->json);
		} else {
			*ret_go_on = out_name(name, len) && out_write("\n", 1);
		}
		return EXIT_OK;
	}
	if (ironwal_get_stream_info(tool->connection, name, len, &info, tool->error) != 0) {
		progress_end(&listing->progress);
		return tool_failed(tool, "look at the listed streams", NULL, NULL);
	}
	if (listing->json != NULL)
		info_json(listing->json, name, len, &info);
	else
		out_format("%12llu %12llu %12llu %9llu %14llu  ", (unsigned long long)info.first,
			(unsigned long long)info.end, (unsigned long long)(info.end - info.first),
			(unsigned long long)info.segments, (unsigned long long)info.bytes);
	*ret_go_on = listing->json != NULL ? out_write("", 0) : out_name(name, len) && out_write("\n", 1);
	return EXIT_OK;
}

static int list_all(struct listing *listing, const char *prefix)
{
	struct tool *tool = listing->tool;
	char after[256];
	size_t after_len = 0;
	int more = 1, status = EXIT_OK;
	bool go_on = true;
	if (!out_is_terminal())
		progress_start(&listing->progress, "streams", 0, 0);
	if (listing->json == NULL && !listing->names_only)
		out_format("%12s %12s %12s %9s %14s  %s\n", "FIRST", "END", "ENTRIES", "SEGMENTS", "BYTES", "STREAM");
	while (more && go_on && status == EXIT_OK) {
		ironwal_names *names;
		if (ironwal_list_streams(tool->connection, prefix, strlen(prefix), after, after_len, PAGE_STREAMS,
			    &names, tool->error) != 0) {
			progress_end(&listing->progress);
			return tool_failed(tool, "list streams", NULL, NULL);
		}
		size_t count = ironwal_names_count(names);
		for (size_t i = 0; i < count && go_on && status == EXIT_OK; i++) {
			size_t len;
			const char *name = ironwal_names_get(names, i, &len);
			status = list_one(listing, name, len, &go_on);
			after_len = len < sizeof(after) ? len : sizeof(after);
			memcpy(after, name, after_len);
		}
		more = ironwal_names_more(names);
		ironwal_names_free(names);
	}
	progress_end(&listing->progress);
	return status;
}

static int run_streams(struct tool *tool, int argc, char **argv)
{
	struct listing listing = {.tool = tool};
	const struct option_row rows[] = {
		OPT_FLAG("names", &listing.names_only), OPT_FLAG("null", &listing.null), OPT_END};
	int status = tool_arguments(tool, argc, argv, rows, 0, 1);
	if (status != TOOL_GO_ON)
		return status;
	if (listing.null && (!listing.names_only || tool->json))
		return tool_usage(tool, "--null goes with --names, and not with --json");
	if ((status = tool_connect(tool)) != TOOL_GO_ON)
		return status;
	if (tool->json)
		listing.json = json_new();
	status = list_all(&listing, optind < argc ? argv[optind] : "");
	if (listing.json != NULL)
		json_free(listing.json);
	return status;
}

const struct command command_streams = {
	.name = "streams",
	.summary = "list the streams",
	.help = "usage: ironwal streams [OPTIONS] [PREFIX]\n\n"
		"Lists the streams (whose names begin with PREFIX), sorted by the bytes of their names: oldest id "
		"kept,\n"
		"end (one past the newest), number of entries, segments, bytes on disk. In names, control characters\n"
		"and backslashes come as \\xNN.\n\n"
		"Options:\n"
		"  --names            only the names\n"
		"  --null             with --names: as they are, each followed by a NUL byte\n" TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal streams greet\n",
	.run = run_streams,
};

/* ---- info ---- */

static int run_info(struct tool *tool, int argc, char **argv)
{
	ironwal_stream_info info;
	int status = tool_arguments(tool, argc, argv, NULL, 1, 1);
	if (status != TOOL_GO_ON || (status = tool_connect(tool)) != TOOL_GO_ON)
		return status;
	const char *stream = argv[optind];
	if (ironwal_get_stream_info(tool->connection, stream, strlen(stream), &info, tool->error) != 0)
		return tool_failed(tool, "look at", stream, NULL);
	if (tool->json) {
		struct json *json = json_new();
		info_json(json, stream, strlen(stream), &info);
		json_free(json);
		return EXIT_OK;
	}
	out_format("stream       ");
	out_name(stream, strlen(stream));
	out_format("\nfirst        %llu\nend          %llu\nentries      %llu\ndurable end  %llu\nsegments     %llu\n"
		   "bytes        %llu\n",
		(unsigned long long)info.first, (unsigned long long)info.end,
		(unsigned long long)(info.end - info.first), (unsigned long long)info.durable_end,
		(unsigned long long)info.segments, (unsigned long long)info.bytes);
	return EXIT_OK;
}

const struct command command_info = {
	.name = "info",
	.summary = "show what there is to know of a stream",
	.help = "usage: ironwal info [OPTIONS] STREAM\n\n"
		"Shows the oldest id kept, the end (one past the newest entry), the end of what is known to be on "
		"disk,\n"
		"the number of segments, and the bytes of all frames.\n\n"
		"Options:\n" TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal info greetings\n",
	.run = run_info,
};

/* ---- truncate ---- */

static int run_truncate(struct tool *tool, int argc, char **argv)
{
	uint64_t safe_id, deleted;
	int status = tool_arguments(tool, argc, argv, NULL, 2, 2);
	if (status != TOOL_GO_ON)
		return status;
	const char *stream = argv[optind];
	if (!tool_parse_u64(argv[optind + 1], &safe_id))
		return tool_usage(tool, "'%s' is not an id", argv[optind + 1]);
	if ((status = tool_connect(tool)) != TOOL_GO_ON)
		return status;
	if (ironwal_truncate(tool->connection, stream, strlen(stream), safe_id, &deleted, tool->error) != 0)
		return tool_failed(tool, "truncate", stream, NULL);
	if (tool->json) {
		struct json *json = json_new();
		json_map(json);
		json_put_u64(json, "segments_deleted", deleted);
		json_map_end(json);
		json_line(json);
		json_free(json);
	} else {
		out_count(deleted, "segment deleted\n", "segments deleted\n");
	}
	return EXIT_OK;
}

const struct command command_truncate = {
	.name = "truncate",
	.summary = "delete the segments that hold only old entries",
	.help = "usage: ironwal truncate [OPTIONS] STREAM ID\n\n"
		"Deletes the segments of which every entry is older than ID, for good, and says how many. The segment\n"
		"that is being written stays, whatever ID is.\n\n"
		"Options:\n" TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal truncate users 5\n",
	.run = run_truncate,
};

/* ---- segment-start ---- */

static int run_segment_start(struct tool *tool, int argc, char **argv)
{
	uint64_t id = 0;
	int status = tool_arguments(tool, argc, argv, NULL, 1, 1);
	if (status != TOOL_GO_ON || (status = tool_connect(tool)) != TOOL_GO_ON)
		return status;
	const char *stream = argv[optind];
	int there = ironwal_current_segment_start_id(tool->connection, stream, strlen(stream), &id, tool->error);
	if (there < 0)
		return tool_failed(tool, "look at", stream, NULL);
	if (tool->json) {
		struct json *json = json_new();
		json_map(json);
		json_key(json, "id");
		if (there)
			json_u64(json, id);
		else
			json_null(json);
		json_map_end(json);
		json_line(json);
		json_free(json);
	} else if (there) {
		out_format("%llu\n", (unsigned long long)id);
	} else {
		return tool_failed_here(tool, "there is no stream '%s'; ironwal streams lists those that are", stream);
	}
	return there ? EXIT_OK : EXIT_FAILED;
}

const struct command command_segment_start = {
	.name = "segment-start",
	.summary = "print the first id of the segment that is being written",
	.help = "usage: ironwal segment-start [OPTIONS] STREAM\n\n"
		"Prints the first id of the active segment: everything before it can be truncated away. Exit status 1\n"
		"if there is no such stream.\n\n"
		"Options:\n" TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal truncate users \"$(ironwal segment-start users)\"\n",
	.run = run_segment_start,
};

/* ---- sync ---- */

static int run_sync(struct tool *tool, int argc, char **argv)
{
	int status = tool_arguments(tool, argc, argv, NULL, 0, 1);
	if (status != TOOL_GO_ON || (status = tool_connect(tool)) != TOOL_GO_ON)
		return status;
	const char *stream = optind < argc ? argv[optind] : NULL;
	if (ironwal_sync(tool->connection, stream, stream != NULL ? strlen(stream) : 0, tool->error) != 0)
		return tool_failed(tool, stream != NULL ? "sync" : "sync all streams", stream, NULL);
	if (tool->json)
		out_format("{}\n");
	return EXIT_OK;
}

const struct command command_sync = {
	.name = "sync",
	.summary = "wait until what was acknowledged is on disk",
	.help = "usage: ironwal sync [OPTIONS] [STREAM]\n\n"
		"Ends when everything acknowledged before, in STREAM or in all streams, is on disk. Prints nothing.\n\n"
		"Options:\n" TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal sync && echo safe\n",
	.run = run_sync,
};

/* ---- ping ---- */

static int run_ping(struct tool *tool, int argc, char **argv)
{
	int status = tool_arguments(tool, argc, argv, NULL, 0, 0);
	if (status != TOOL_GO_ON || (status = tool_connect(tool)) != TOOL_GO_ON)
		return status;
	uint64_t before_ns = clock_now_ns();
	if (ironwal_ping(tool->connection, tool->error) != 0)
		return tool_failed(tool, "ping", NULL, NULL);
	double ms = (double)(clock_now_ns() - before_ns) / 1e6;
	ironwal *c = tool->connection;
	if (tool->json) {
		struct json *json = json_new();
		json_map(json);
		json_put_str(json, "server", ironwal_server(c));
		json_put_str(json, "address", ironwal_address(c));
		json_put_u64(json, "protocol", ironwal_protocol(c));
		json_put_u64(json, "shard_count", ironwal_shard_count(c));
		json_put_u64(json, "max_message_bytes", ironwal_max_message_bytes(c));
		json_put_str(json, "sync_mode", ironwal_sync_mode(c));
		json_put_str(json, "compression", ironwal_compression(c));
		json_put_double(json, "ms", ms);
		json_map_end(json);
		json_line(json);
		json_free(json);
		return EXIT_OK;
	}
	out_name(ironwal_server(c), strlen(ironwal_server(c)));
	out_format(" at %s answered in %.3f ms (sync_mode ", ironwal_address(c), ms);
	out_name(ironwal_sync_mode(c), strlen(ironwal_sync_mode(c)));
	out_format(", compression ");
	out_name(ironwal_compression(c), strlen(ironwal_compression(c)));
	out_format(")\n");
	return EXIT_OK;
}

const struct command command_ping = {
	.name = "ping",
	.summary = "see whether the server answers, and how fast",
	.help = "usage: ironwal ping [OPTIONS]\n\n"
		"Prints which server answered, how fast, and in which modes it runs.\n\n"
		"Options:\n" TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal --timeout 1 ping && echo it answers\n",
	.run = run_ping,
};
