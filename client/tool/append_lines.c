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
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "append.h"
#include "buf.h"
#include "ledger.h"
#include "lines.h"
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
	struct lines lines;
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
	bool failed;  /* by the server or the connection: tool->error is the first one */
	bool gave_up; /* on what was in flight: its answers may still come, and are not looked at */
	char reason[256];
	ironwal_error *later; /* errors behind the first one */
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
	interrupted = number;
}

static struct flight *find_flight(struct run *run, uint32_t request_id)
{
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		if (run->flights[i].request_id == request_id)
			return &run->flights[i];
	}
	return NULL;
}

/* Takes one result. False: there is none to wait for. */
static bool take_result(struct run *run)
{
	ironwal_error *error = run->failed ? run->later : run->tool->error;
	ironwal_append_result result;
	uint32_t id;
	if (run->gave_up)
		return false;
	int rc = ironwal_wait_next(run->tool->connection, &id, &result, error);
	if (rc == 0)
		return false;
	struct flight *flight = id != 0 ? find_flight(run, id) : NULL;
	if (rc > 0 && flight != NULL) {
		ledger_add(&run->ledger, flight->from, flight->to, IRONWAL_FATE_WRITTEN, result.first);
		run->ledger.durable = run->ledger.durable && result.durable;
		run->written += flight->to - flight->from;
		run->written_bytes += flight->bytes;
		flight->request_id = 0;
		progress_update(&run->progress, run->written_bytes, run->written);
		return true;
	}
	if (rc > 0)
		return true; /* to a request that is not in the ledger: nothing to tell */
	run->failed = true;
	if (flight != NULL) {
		ledger_add(&run->ledger, flight->from, flight->to, ironwal_error_fate(error), 0);
		flight->request_id = 0;
		return true;
	}
	if (id != 0)
		return true;
	run->gave_up = true;
	/* No answer in time: what is in flight stays unknown, and nobody waits for it any longer. */
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		if (run->flights[i].request_id != 0)
			ledger_add(&run->ledger, run->flights[i].from, run->flights[i].to, IRONWAL_FATE_UNKNOWN, 0);
		run->flights[i].request_id = 0;
	}
	return false;
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
		while ((flight = find_flight(run, 0)) == NULL && !run->failed)
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
	flight->to = run->line;
	flight->from = run->line - run->count;
	flight->bytes = run->batch.len + run->count;
	run->batch.len = 0;
	run->count = 0;
}

static bool add_line(struct run *run, const uint8_t *line, size_t len)
{
	size_t encoded = run->batch.len + run->count * ENTRY_EXTRA_BYTES;
	if (run->count == BATCH_ENTRIES || (run->count > 0 && encoded + len + ENTRY_EXTRA_BYTES > run->batch_max))
		submit(run);
	if (run->failed)
		return false;
	if (buf_append(&run->batch, line, len) != 0) {
		(void)snprintf(run->reason, sizeof(run->reason), "out of memory");
		return false;
	}
	run->ends[run->count++] = run->batch.len;
	run->line++;
	return true;
}

/* Until the input ends, or something fails. */
static void pump(struct run *run)
{
	while (!run->failed && run->reason[0] == '\0' && !interrupted) {
		const uint8_t *line;
		size_t len;
		switch (lines_next(&run->lines, &line, &len)) {
		case LINES_ONE:
			if (!add_line(run, line, len))
				return;
			continue;
		case LINES_NOT_YET:
			break;
		case LINES_END:
			return;
		case LINES_TOO_LONG:
			(void)snprintf(run->reason, sizeof(run->reason),
				"line %llu is longer than an entry can be (%zu bytes)",
				(unsigned long long)run->line + 1, run->lines.max_bytes);
			return;
		case LINES_ERROR:
			(void)snprintf(run->reason, sizeof(run->reason), "cannot read %s: %s", run->job->input,
				strerror(errno));
			return;
		}
		submit(run);
		take_all(run);
		if (run->failed || interrupted)
			return;
		if (lines_wait(&run->lines) != 0 && errno != EINTR) {
			(void)snprintf(run->reason, sizeof(run->reason), "cannot wait for %s: %s", run->job->input,
				strerror(errno));
			return;
		}
	}
}

/* ---- what is said at the end ---- */

static void report_json(struct run *run, struct json *json, bool complete)
{
	json_map(json);
	json_key(json, "entries");
	json_u64(json, run->written);
	json_key(json, "complete");
	json_bool(json, complete);
	json_key(json, "durable");
	json_bool(json, run->written > 0 && run->ledger.durable);
	json_key(json, "ranges");
	json_array(json);
	for (size_t i = 0; i < run->ledger.count; i++) {
		const struct ledger_range *r = &run->ledger.ranges[i];
		json_map(json);
		json_key(json, "fate");
		json_str(json, ironwal_fate_name(r->fate));
		json_key(json, "lines");
		json_array(json);
		json_u64(json, r->from + 1);
		json_u64(json, r->to);
		json_array_end(json);
		if (r->fate == IRONWAL_FATE_WRITTEN) {
			json_key(json, "first");
			json_u64(json, r->first);
			json_key(json, "end");
			json_u64(json, r->first + (r->to - r->from));
		}
		json_map_end(json);
	}
	json_array_end(json);
	json_map_end(json);
	json_line(json);
}

static void report_done(struct run *run)
{
	if (run->tool->json) {
		struct json *json = json_new();
		report_json(run, json, true);
		json_free(json);
		return;
	}
	out_format("%llu %s", (unsigned long long)run->written, run->written == 1 ? "entry" : "entries");
	for (size_t i = 0; i < run->ledger.count; i++) {
		const struct ledger_range *r = &run->ledger.ranges[i];
		out_format("%s %llu to %llu", i == 0 ? ", ids" : " and", (unsigned long long)r->first,
			(unsigned long long)(r->first + (r->to - r->from) - 1));
	}
	out_write("\n", 1);
}

/* "; lines 1 to 5000 are written as ids 0 to 4999, lines 5001 to 6000 were refused, nothing was sent from line 6001" */
static char *describe_lines(const struct run *run)
{
	char *text = NULL;
	size_t size;
	FILE *memory = open_memstream(&text, &size);
	if (memory == NULL)
		return NULL;
	for (size_t i = 0; i < run->ledger.count; i++) {
		const struct ledger_range *r = &run->ledger.ranges[i];
		unsigned long long count = r->to - r->from;
		fprintf(memory, "%slines %llu to %llu ", i > 0 ? ", " : "", (unsigned long long)r->from + 1,
			(unsigned long long)r->to);
		switch (r->fate) {
		case IRONWAL_FATE_WRITTEN:
			fprintf(memory, "are written as ids %llu to %llu", (unsigned long long)r->first,
				(unsigned long long)r->first + count - 1);
			break;
		case IRONWAL_FATE_PARTLY: /* not of a batch to one stream */
		case IRONWAL_FATE_UNKNOWN:
			fputs("may be written or not", memory);
			break;
		default:
			fputs("are not written", memory);
		}
	}
	uint64_t end = run->ledger.count > 0 ? run->ledger.ranges[run->ledger.count - 1].to : 0;
	fprintf(memory, "%snothing is written from line %llu on", run->ledger.count > 0 ? ", " : "",
		(unsigned long long)end + 1);
	return fclose(memory) == 0 ? text : NULL;
}

static int report_failed(struct run *run)
{
	char *lines = describe_lines(run);
	int status;
	if (run->tool->json) {
		struct json *json = json_new();
		report_json(run, json, false);
		json_free(json);
	}
	const char *known = lines != NULL ? lines : "out of memory for what was written";
	if (run->failed) {
		status = tool_failed_partly(run->tool, "append to", run->job->stream, known);
	} else {
		const char *reason = run->reason[0] != '\0' ? run->reason : "interrupted";
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
	run->lines.fd = job->fd;
	run->lines.max_bytes = ironwal_max_entry_bytes(tool->connection);
	run->batch_max = max_message - BATCH_EXTRA_BYTES < BATCH_BYTES ? max_message - BATCH_EXTRA_BYTES : BATCH_BYTES;

	/* The first interrupt ends the reading, and says what is written; the second ends the program. */
	struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND}, before;
	sigaction(SIGINT, &action, &before);

	struct stat st;
	bool known = fstat(job->fd, &st) == 0 && S_ISREG(st.st_mode);
	progress_start(&run->progress, known ? (uint64_t)st.st_size : 0);
	pump(run);
	if (!interrupted)
		submit(run);
	take_all(run);
	if (run->line == 0 && !run->failed && run->reason[0] == '\0' && job->options.has_expected_id && !interrupted)
		append_nothing(run);
	progress_end(&run->progress);
	sigaction(SIGINT, &before, NULL);

	bool complete = !run->failed && run->reason[0] == '\0' && !interrupted;
	int status = EXIT_OK;
	if (complete)
		report_done(run);
	else
		status = report_failed(run);
	ledger_free(&run->ledger);
	lines_free(&run->lines);
	buf_free(&run->batch);
	ironwal_error_free(later);
	free(run);
	return status;
}
