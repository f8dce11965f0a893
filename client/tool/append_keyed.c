/*
 * ironwal shard append --lines: a key, a tab and a value in each line. Lines gather in a batch, which is sent when it
 * is full and when the input pauses. A batch is all or nothing for each shard, not for all of them: the ledger has what
 * became of each line, and is told when it does not end well.
 */
#include <stdlib.h>
#include <string.h>

#include "append.h"
#include "batch.h"
#include "feed.h"
#include "ledger.h"

#define BATCH_LINES 8192
#define BATCH_BYTES ((size_t)512 << 10)
/* A line takes up to this many bytes around its key and its value; a batch, this many besides. */
#define LINE_EXTRA_BYTES 11
#define BATCH_EXTRA_BYTES 512

struct run {
	struct tool *tool;
	const struct append_job *job;
	struct feed feed;
	struct progress progress;
	struct ledger ledger;
	struct batch batch; /* a key, a value, a key, a value ... */
	struct buf key;
	size_t batch_max;
	uint64_t sent, sent_bytes; /* lines; of input */
	bool failed;		   /* tool->error says why */
	struct json *json;	   /* for the positions */
	ironwal_key_value entries[BATCH_LINES];
	ironwal_shard_position positions[BATCH_LINES];
};

static void print_position(struct run *run, uint64_t line, const ironwal_shard_position *position)
{
	if (run->json == NULL) {
		out_format("%u %llu\n", position->shard, (unsigned long long)position->id);
		return;
	}
	json_map(run->json);
	json_key(run->json, "line");
	json_u64(run->json, line + 1);
	json_key(run->json, "shard");
	json_u64(run->json, position->shard);
	json_key(run->json, "id");
	json_u64(run->json, position->id);
	json_map_end(run->json);
	json_line(run->json);
}

/* What became of the lines of the batch: other_fate of those that are not written. */
static void take_result(struct run *run, size_t count, ironwal_fate other_fate)
{
	for (size_t i = 0; i < count; i++) {
		const uint64_t line = run->sent + i;
		const ironwal_shard_position *position = &run->positions[i];
		ledger_add(&run->ledger, line, line + 1, position->written ? IRONWAL_FATE_WRITTEN : other_fate, line);
		if (position->written && run->job->with_positions)
			print_position(run, line, position);
	}
}

/* What has gathered. */
static bool send_batch(void *arg)
{
	struct run *run = arg;
	ironwal *connection = run->tool->connection;
	const size_t count = run->batch.count / 2;
	if (count == 0 || run->failed)
		return !run->failed;
	const ironwal_bytes *strings = batch_entries(&run->batch);
	for (size_t i = 0; i < count; i++)
		run->entries[i] = (ironwal_key_value){strings[2 * i], strings[2 * i + 1]};
	ironwal_shard_append_options options = IRONWAL_SHARD_APPEND_OPTIONS_INIT;
	options.sync = run->job->options.sync;
	memset(run->positions, 0, count * sizeof(run->positions[0]));
	ironwal_fate other_fate = IRONWAL_FATE_REFUSED;
	if (ironwal_shard_append_batch(connection, run->entries, count, &options, run->positions, run->tool->error) !=
		0) {
		run->failed = true;
		/* In part: those without a position are refused. */
		if (ironwal_error_fate(run->tool->error) != IRONWAL_FATE_PARTLY)
			other_fate = ironwal_error_fate(run->tool->error);
	}
	take_result(run, count, other_fate);
	run->sent += count;
	run->sent_bytes += run->batch.bytes.len + 2 * count;
	progress_update(&run->progress, run->sent_bytes, run->sent);
	batch_clear(&run->batch);
	if (run->job->with_positions)
		out_flush();
	return !run->failed;
}

static bool add_line(void *arg, const uint8_t *line, size_t len)
{
	struct run *run = arg;
	const unsigned long long number = run->feed.line + 1;
	const uint8_t *tab = len > 0 ? memchr(line, '\t', len) : NULL;
	if (tab == NULL) {
		feed_stop(&run->feed, "line %llu has no tab between a key and a value", number);
		return false;
	}
	const size_t key_len = (size_t)(tab - line), value_len = len - key_len - 1;
	const size_t count = run->batch.count / 2;
	if (count == BATCH_LINES ||
		(count > 0 && run->batch.bytes.len + (count + 1) * LINE_EXTRA_BYTES + len > run->batch_max)) {
		if (!send_batch(run))
			return false;
	}
	run->key.len = 0;
	if (run->job->hex && tool_parse_hex((const char *)line, key_len, &run->key) != 0) {
		feed_stop(&run->feed, "line %llu: the key is not a number of two hex digits for each byte", number);
		return false;
	}
	const void *key = run->job->hex ? run->key.data : line;
	if (batch_add(&run->batch, key, run->job->hex ? run->key.len : key_len) != 0 ||
		batch_add(&run->batch, tab + 1, value_len) != 0) {
		feed_stop(&run->feed, "out of memory");
		return false;
	}
	return true;
}

static int report(struct run *run, bool complete)
{
	struct tool *tool = run->tool;
	if (tool->json && !(run->job->with_positions && complete))
		ledger_json(&run->ledger, complete);
	if (complete) {
		if (!tool->json && !run->job->with_positions) {
			out_count(ledger_written(&run->ledger), "entry", "entries");
			out_write("\n", 1);
		}
		return EXIT_OK;
	}
	char *text = ledger_describe(&run->ledger);
	const char *known = text != NULL ? text : "out of memory for what was written";
	int status;
	if (run->failed)
		status = tool_failed_partly(tool, "append to the shards of keys", NULL, known);
	else
		status = tool_failed_here(
			tool, "%s; %s", run->feed.reason[0] != '\0' ? run->feed.reason : "interrupted", known);
	free(text);
	return status;
}

int append_keyed_lines(struct tool *tool, const struct append_job *job)
{
	struct run *run = calloc(1, sizeof(*run));
	if (run == NULL)
		return tool_failed_here(tool, "out of memory");
	uint64_t max_message = ironwal_max_message_bytes(tool->connection);
	run->tool = tool;
	run->job = job;
	run->ledger.without_ids = true;
	run->batch_max = max_message - BATCH_EXTRA_BYTES < BATCH_BYTES ? max_message - BATCH_EXTRA_BYTES : BATCH_BYTES;
	run->json = tool->json ? json_new() : NULL;

	const struct feed_receiver receiver = {add_line, send_batch, run};
	append_progress(&run->progress, job);
	feed_start(&run->feed, job, max_message);
	feed_run(&run->feed, &receiver);
	if (!feed_interrupted())
		(void)send_batch(run);
	progress_end(&run->progress);
	feed_end(&run->feed);
	int status = report(run, !run->failed && run->feed.reason[0] == '\0' && !feed_interrupted());

	if (run->json != NULL)
		json_free(run->json);
	ledger_free(&run->ledger);
	batch_free(&run->batch);
	buf_free(&run->key);
	free(run);
	return status;
}
