/* ironwal append --batch, ironwal shard append --batch: all of an input as one atomic batch. */
#include <string.h>

#include "append.h"
#include "batch.h"
#include "feed.h"

struct run {
	struct batch batch;
	struct feed feed;
	uint64_t max_bytes;
};

static bool add_line(void *arg, const uint8_t *line, size_t len)
{
	struct run *run = arg;
	if (batch_add(&run->batch, line, len) != 0) {
		feed_stop(&run->feed, "out of memory");
		return false;
	}
	/* Of what cannot be sent no more is read than it takes for the library to say so. */
	return run->batch.bytes.len <= run->max_bytes && run->batch.count <= IRONWAL_MAX_BATCH_COUNT;
}

static const char *hint(const struct tool *tool, const char *too_large)
{
	return ironwal_error_get_code(tool->error) == IRONWAL_ERR_TOO_LARGE ? too_large : NULL;
}

static void print_range(const struct tool *tool, const ironwal_shard_range *range, bool by_key, bool durable)
{
	if (tool->json) {
		struct json *json = json_new();
		json_map(json);
		if (by_key) {
			json_put_u64(json, "shard", range->shard);
		}
		json_put_u64(json, "first", range->first);
		json_put_u64(json, "end", range->end);
		if (!by_key) {
			json_put_bool(json, "durable", durable);
		}
		json_map_end(json);
		json_line(json);
		json_free(json);
		return;
	}
	out_count(range->end - range->first, "entry", "entries");
	if (by_key)
		out_format(", shard %u", range->shard);
	if (range->end > range->first)
		out_format(", ids %llu to %llu", (unsigned long long)range->first, (unsigned long long)range->end - 1);
	out_write("\n", 1);
}

static int send_to_stream(struct tool *tool, const struct append_job *job, struct batch *batch)
{
	ironwal_append_result result;
	if (ironwal_append_batch(tool->connection, job->stream, strlen(job->stream), batch_entries(batch), batch->count,
		    &job->options, &result, tool->error) != 0)
		return tool_failed(tool, "append to", job->stream,
			hint(tool, "--lines appends any number of lines, in as many batches as it takes"));
	const ironwal_shard_range range = {.first = result.first, .end = result.end};
	print_range(tool, &range, false, result.durable);
	return EXIT_OK;
}

static int send_by_key(struct tool *tool, const struct append_job *job, struct batch *batch)
{
	ironwal_shard_append_options options = IRONWAL_SHARD_APPEND_OPTIONS_INIT;
	ironwal_shard_range range;
	options.sync = job->options.sync;
	if (ironwal_shard_append_batch_for_key(tool->connection, job->key.data, job->key.len, batch_entries(batch),
		    batch->count, &options, &range, tool->error) != 0)
		return tool_failed_about(tool, "append to the shard of", "key", job->key.data, job->key.len,
			hint(tool, "append it in several smaller batches"));
	print_range(tool, &range, true, false);
	return EXIT_OK;
}

int append_batch(struct tool *tool, const struct append_job *job)
{
	struct run run = {.max_bytes = ironwal_max_message_bytes(tool->connection)};
	const struct feed_receiver receiver = {add_line, NULL, &run};
	feed_start(&run.feed, job, ironwal_max_entry_bytes(tool->connection));
	feed_run(&run.feed, &receiver);
	const char *reason = run.feed.reason[0] != '\0' ? run.feed.reason : "interrupted";
	const bool complete = run.feed.reason[0] == '\0' && !feed_interrupted();
	feed_end(&run.feed);
	int status;
	if (!complete)
		status = tool_failed_here(tool, "%s; nothing was written", reason);
	else if (job->stream != NULL)
		status = send_to_stream(tool, job, &run.batch);
	else
		status = send_by_key(tool, job, &run.batch);
	batch_free(&run.batch);
	return status;
}
