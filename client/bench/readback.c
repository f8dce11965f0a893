#include "readback.h"

#include <inttypes.h>

#include "content.h"
#include "wire.h"

#define PART_BYTES (UINT64_C(1) << 20)
#define PART_ENTRIES 16384
#define IN_BYTES_MAX (UINT64_C(128) << 20)

struct readback {
	const struct bench_plan *plan;
	const struct requests *requests;
	struct wire wire;
	struct buf request;
	struct readback_result *result;
	struct fault *fault;
	/* of the log that is read */
	uint32_t log;
	char text[NAME_TEXT_BYTES];
	const struct acked_record *at, *end; /* records from the current id on */
};

static uint64_t record_end(const struct acked_record *record)
{
	return record->first + record->count;
}

static int make_request(struct readback *readback, uint64_t id)
{
	struct mp_writer writer;
	readback->request.len = 0;
	mp_writer_init(&writer, &readback->request);
	request_begin(&writer, 0, METHOD_ITER, 4);
	mp_write_key(&writer, KEY_STREAM);
	mp_write_str(&writer, readback->text);
	mp_write_key(&writer, KEY_START_ID);
	mp_write_u64(&writer, id);
	mp_write_key(&writer, KEY_MAX_ENTRIES);
	mp_write_u64(&writer, PART_ENTRIES);
	mp_write_key(&writer, KEY_MAX_BYTES);
	mp_write_u64(&writer, PART_BYTES);
	return frame_end(&writer) == 0 ? 0 : fault_set(readback->fault, FAULT_HERE, "out of memory");
}

static void check_entry(struct readback *readback, uint64_t id, struct span entry)
{
	struct readback_result *result = readback->result;
	struct content content = {0};
	enum content_verdict verdict = content_check(entry, readback->plan->seed, &content);
	while (readback->at < readback->end && record_end(readback->at) <= id)
		readback->at++;
	if (readback->at == readback->end || id < readback->at->first) {
		result->strays += verdict == CONTENT_GOOD;
		return;
	}
	uint64_t serial = readback->at->serial + (id - readback->at->first);
	if (verdict != CONTENT_GOOD)
		complain(&result->complaints, COMPLAINT_WRONG_CONTENT,
			"read back: entry %" PRIu64 " of %s, which was acknowledged, %s", id, readback->text,
			content_verdict_text(verdict));
	else if (content.serial != serial)
		complain(&result->complaints, COMPLAINT_WRONG_CONTENT,
			"read back: entry %" PRIu64 " of %s is number %" PRIu64 ", but number %" PRIu64
			" was acknowledged there",
			id, readback->text, content.serial, serial);
	else if (content.name >= readback->plan->names_count ||
		 readback->requests->log_of[content.name] != readback->log)
		complain(&result->complaints, COMPLAINT_WRONG_CONTENT,
			"read back: entry %" PRIu64 " of %s was written to another stream", id, readback->text);
	else
		result->found++;
}

/* From *id on as far as an answer goes. 1; 0: this log cannot be read further, and a complaint says so; -1: the fault.
 */
static int read_part(struct readback *readback, uint64_t *id, uint64_t end)
{
	struct complaints *complaints = &readback->result->complaints;
	struct answer answer;
	if (make_request(readback, *id) != 0 ||
		wire_ask(&readback->wire, readback->request.data, readback->request.len, &answer, readback->fault) != 0)
		return -1;
	if (!answer.failed)
		readback->wire.target->read(readback->plan, BENCH_ITER, PART_ENTRIES, &answer);
	if (answer.failed) {
		complain(complaints, answer.code, "read back: %s from entry %" PRIu64 " on, of %" PRIu64 ": %s (%s)",
			readback->text, *id, end, answer.error, answer.code);
		return 0;
	}
	if (answer.first != *id || answer.end == answer.first) {
		complain(complaints, COMPLAINT_WRONG_CONTENT,
			"read back: %s ends at entry %" PRIu64 ", but was acknowledged up to %" PRIu64, readback->text,
			*id, end);
		return 0;
	}
	struct byte_iter iter = byte_iter_of(&answer.entries);
	struct span entry;
	while (*id < end && byte_iter_next(&iter, &entry))
		check_entry(readback, (*id)++, entry);
	return 1;
}

/* No two records may have an id in common. Returns the end of all. */
static uint64_t check_records(struct readback *readback)
{
	uint64_t end = 0;
	for (const struct acked_record *at = readback->at; at < readback->end; at++) {
		readback->result->expected += at->count;
		if (at->first < end)
			complain(&readback->result->complaints, COMPLAINT_WRONG_CONTENT,
				"id %" PRIu64 " of %s was acknowledged twice", at->first, readback->text);
		if (record_end(at) > end)
			end = record_end(at);
	}
	return end;
}

static int read_all(
	struct readback *readback, const struct acked *acked, atomic_int *stop, readback_tick_cb tick, void *arg)
{
	const struct acked_record *at = acked->records, *end = acked->records + acked->count;
	int stop_before = atomic_load(stop);
	while (at < end) {
		const struct acked_record *begin = at;
		while (at < end && at->log == begin->log)
			at++;
		readback->log = begin->log;
		readback->at = begin;
		readback->end = at;
		requests_log_text(readback->plan, begin->log, readback->text);
		uint64_t id = begin->first, log_end = check_records(readback);
		int more = 1;
		while (id < log_end && more == 1 && !readback->result->interrupted) {
			more = read_part(readback, &id, log_end);
			if (tick != NULL)
				tick(readback->result, arg);
			readback->result->interrupted = atomic_load(stop) != stop_before;
		}
		if (more < 0)
			return -1;
	}
	return 0;
}

int readback_run(const struct bench_plan *plan, const struct requests *requests, const struct server_facts *facts,
	const struct acked *acked, uint64_t unknown, atomic_int *stop, readback_tick_cb tick, void *arg,
	struct readback_result *ret_result, struct fault *fault)
{
	struct readback readback = {.plan = plan, .requests = requests, .result = ret_result, .fault = fault};
	uint64_t in_bytes = facts->max_message_bytes < IN_BYTES_MAX ? facts->max_message_bytes : IN_BYTES_MAX;
	memset(ret_result, 0, sizeof(*ret_result));
	if (acked->count == 0)
		return 0;
	if (wire_open(&readback.wire, plan, requests->target, in_bytes + BENCH_ANSWER_OVERHEAD_BYTES,
		    BENCH_REQUEST_OVERHEAD_BYTES, NULL, fault) != 0)
		return -1;
	int result = read_all(&readback, acked, stop, tick, arg);
	wire_close(&readback.wire);
	buf_free(&readback.request);
	if (result == 0 && ret_result->strays > unknown)
		complain(&ret_result->complaints, COMPLAINT_WRONG_CONTENT,
			"read back: %" PRIu64 " entries of this run are at ids at which nothing was acknowledged",
			ret_result->strays);
	return result;
}
