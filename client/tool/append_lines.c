/*
 * append --lines. Lines gather in a batch; full batches are submitted while up to IN_FLIGHT of them wait for their
 * answers. When the input pauses, what has gathered is sent and its answers are taken, so that `tail -f | ironwal
 * append` holds nothing back.
 *
 * A batch that fails stops the reading, not those that are in flight behind it: without --expected-id they may well
 * have been written. The ledger has what became of each line, and is told at the end. With --expected-id each batch
 * expects the end of the one before it: what comes behind a failure is refused, and the lines that are written are
 * always the first ones.
 */
#include <stdlib.h>
#include <string.h>

#include "append.h"
#include "buf.h"
#include "feed.h"
#include "ledger.h"
#include "progress.h"

#define IN_FLIGHT 8
#define BATCH_ENTRIES 8192
#define BATCH_BYTES ((size_t)512 << 10)
/* An entry takes up to this many bytes around it; a batch, this many besides. */
#define ENTRY_EXTRA_BYTES 5
#define BATCH_EXTRA_BYTES 512

struct flight {
	uint32_t request_id; /* 0: unused */
	uint64_t from, to;   /* lines */
	uint64_t bytes;	     /* of input */
};

struct run {
	struct tool *tool;
	const struct append_job *job;
	struct feed feed;
	struct progress progress;
	struct ledger ledger;
	/* the batch that gathers */
	struct buf batch;
	size_t ends[BATCH_ENTRIES];
	ironwal_bytes entries[BATCH_ENTRIES];
	size_t count, batch_max;
	uint64_t line;		/* the next one */
	uint64_t written_bytes; /* of input, acknowledged */
	uint64_t written;	/* lines */
	struct flight flights[IN_FLIGHT];
	/* what ended it */
	bool failed;	      /* by the server or the connection: tool->error is the first one */
	bool gave_up;	      /* on what was in flight: its answers may still come, and are not looked at */
	ironwal_error *later; /* errors behind the first one */
};

static struct flight *free_flight(struct run *run)
{
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		if (run->flights[i].request_id == 0)
			return &run->flights[i];
	}
	return NULL;
}

/* Takes one result. False: there is none to wait for. */
static bool take_result(struct run *run)
{
	ironwal_error *error = run->failed ? run->later : run->tool->error;
	ironwal_append_result append;
	ironwal_result *result;
	if (run->gave_up)
		return false;
	int rc = ironwal_wait_result(run->tool->connection, &result, error);
	if (rc == 0)
		return false;
	if (rc < 0) {
		/* No answer in time: what is in flight stays unknown, and nobody waits for it any longer. */
		run->failed = run->gave_up = true;
		for (unsigned i = 0; i < IN_FLIGHT; i++) {
			if (run->flights[i].request_id != 0)
				ledger_add(&run->ledger, run->flights[i].from, run->flights[i].to, IRONWAL_FATE_UNKNOWN,
					0);
			run->flights[i].request_id = 0;
		}
		return false;
	}
	struct flight *flight = ironwal_result_tag(result);
	if (ironwal_result_append(result, &append)) {
		ledger_add(&run->ledger, flight->from, flight->to, IRONWAL_FATE_WRITTEN, append.first);
		run->ledger.durable = run->ledger.durable && append.durable;
		run->written += flight->to - flight->from;
		run->written_bytes += flight->bytes;
		progress_update(&run->progress, run->written_bytes, run->written);
	} else {
		ironwal_error_copy(error, ironwal_result_error(result));
		run->failed = true;
		ledger_add(&run->ledger, flight->from, flight->to, ironwal_error_fate(error), 0);
	}
	flight->request_id = 0;
	return true;
}

static void take_all(struct run *run)
{
	while (take_result(run))
		;
}

/* Sends what has gathered. */
static void submit(struct run *run)
{
	if (run->count == 0 || run->failed)
		return;
	size_t at = 0;
	for (size_t i = 0; i < run->count; i++) {
		run->entries[i].data = run->batch.data + at;
		run->entries[i].len = run->ends[i] - at;
		at = run->ends[i];
	}
	ironwal_append_options options = run->job->options;
	options.expected_id += run->line - run->count;
	struct flight *flight;
	for (;;) {
		while ((flight = free_flight(run)) == NULL && !run->failed)
			(void)take_result(run);
		if (run->failed)
			return;
		if (ironwal_submit_append_batch(run->tool->connection, run->job->stream, strlen(run->job->stream),
			    run->entries, run->count, &options, &flight->request_id, run->tool->error) == 0)
			break;
		/* Too many bytes are in flight already (long lines): make room. */
		if (ironwal_error_get_code(run->tool->error) != IRONWAL_ERR_AGAIN || !take_result(run)) {
			run->failed = true;
			return;
		}
	}
	ironwal_set_request_tag(run->tool->connection, flight->request_id, flight);
	flight->to = run->line;
	flight->from = run->line - run->count;
	flight->bytes = run->batch.len + run->count;
	run->batch.len = 0;
	run->count = 0;
}

static bool add_line(void *arg, const uint8_t *line, size_t len)
{
	struct run *run = arg;
	size_t encoded = run->batch.len + run->count * ENTRY_EXTRA_BYTES;
	if (run->count == BATCH_ENTRIES || (run->count > 0 && encoded + len + ENTRY_EXTRA_BYTES > run->batch_max))
		submit(run);
	if (run->failed)
		return false;
	if (buf_append(&run->batch, line, len) != 0) {
		feed_stop(&run->feed, "out of memory");
		return false;
	}
	run->ends[run->count++] = run->batch.len;
	run->line++;
	return true;
}

static bool send_all(void *arg)
{
	struct run *run = arg;
	submit(run);
	take_all(run);
	return !run->failed;
}

/* ---- what is said at the end ---- */

static void report_done(struct run *run)
{
	if (run->tool->json) {
		ledger_json(&run->ledger, true);
		return;
	}
	out_count(ledger_written(&run->ledger), "entry", "entries");
	for (size_t i = 0; i < run->ledger.count; i++) {
		const struct ledger_range *r = &run->ledger.ranges[i];
		out_format("%s %llu to %llu", i == 0 ? ", ids" : " and", (unsigned long long)r->first,
			(unsigned long long)(r->first + (r->to - r->from) - 1));
	}
	out_write("\n", 1);
}

static int report_failed(struct run *run)
{
	char *lines = ledger_describe(&run->ledger);
	int status;
	if (run->tool->json)
		ledger_json(&run->ledger, false);
	const char *known = lines != NULL ? lines : "out of memory for what was written";
	if (run->failed) {
		status = tool_failed_partly(run->tool, "append to", run->job->stream, known);
	} else {
		const char *reason = run->feed.reason[0] != '\0' ? run->feed.reason : "interrupted";
		status = tool_failed_here(run->tool, "%s; %s", reason, known);
	}
	free(lines);
	return status;
}

/* An empty input checks the expected id as any other. */
static void append_nothing(struct run *run)
{
	ironwal_append_result result;
	if (ironwal_append_batch(run->tool->connection, run->job->stream, strlen(run->job->stream), NULL, 0,
		    &run->job->options, &result, run->tool->error) != 0)
		run->failed = true;
}

int append_lines(struct tool *tool, const struct append_job *job)
{
	struct run *run = calloc(1, sizeof(*run));
	ironwal_error *later = ironwal_error_new();
	if (run == NULL || later == NULL) {
		free(run);
		ironwal_error_free(later);
		return tool_failed_here(tool, "out of memory");
	}
	uint64_t max_message = ironwal_max_message_bytes(tool->connection);
	run->tool = tool;
	run->job = job;
	run->later = later;
	run->ledger.durable = true;
	run->batch_max = max_message - BATCH_EXTRA_BYTES < BATCH_BYTES ? max_message - BATCH_EXTRA_BYTES : BATCH_BYTES;

	const struct feed_receiver receiver = {add_line, send_all, run};
	append_progress(&run->progress, job);
	feed_start(&run->feed, job, ironwal_max_entry_bytes(tool->connection));
	feed_run(&run->feed, &receiver);
	if (!feed_interrupted())
		submit(run);
	take_all(run);
	bool complete = !run->failed && run->feed.reason[0] == '\0' && !feed_interrupted();
	if (run->line == 0 && complete && job->options.has_expected_id) {
		append_nothing(run);
		complete = !run->failed;
	}
	progress_end(&run->progress);
	feed_end(&run->feed);

	int status = EXIT_OK;
	if (complete)
		report_done(run);
	else
		status = report_failed(run);
	ledger_free(&run->ledger);
	buf_free(&run->batch);
	ironwal_error_free(later);
	free(run);
	return status;
}
