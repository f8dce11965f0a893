#include "writer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <ironwal.h>

/* Between a failure and the next attempt, and from the last good connection to giving up. */
#define RETRY_MS 20
#define GIVE_UP_MS 30000
#define TIMEOUT_MS 10000
#define ENTRY_MAX 512

/* What is known of an entry that was sent and is not counted as written yet. */
enum fate { FLYING, WRITTEN, NOT_THERE, UNKNOWN };

struct slot {
	uint64_t id;
	enum fate fate;
};

/* Settling is one step at a time. */
enum step { STEP_APPEND, STEP_GET };

struct writer {
	const char *address;
	const char *stream;
	uint64_t count;
	uint32_t depth;
	enum writer_state state;
	ironwal *wal;	      /* NULL: to be made at retry_at_ms */
	ironwal_error *error; /* for calls; of the last failed attempt to connect */
	int was_ready;	      /* this connection was */
	int64_t now_ms;
	int64_t retry_at_ms;
	int64_t give_up_at_ms;

	uint64_t written;     /* entries [0, written) are there */
	uint64_t settled_end; /* of [written, settled_end) some are unknown: one after the other */
	uint64_t sent;	      /* [settled_end, sent) are in flight */
	struct slot *slots;   /* depth of them; that of entry id is number id % depth */
	uint32_t in_flight;
	int has_failed; /* something in flight did: nothing new before all results are in */
	enum step step;

	unsigned connections; /* that became ready */
	uint64_t settled;
};

struct writer *writer_new(const char *address, const char *stream, uint64_t count, uint32_t depth)
{
	struct writer *writer = (struct writer *)calloc(1, sizeof(*writer));
	if (!writer)
		return NULL;
	writer->address = address;
	writer->stream = stream;
	writer->count = count;
	writer->depth = depth;
	writer->give_up_at_ms = -1;
	writer->state = count > 0 ? WRITER_WORKS : WRITER_DONE;
	writer->error = ironwal_error_new();
	writer->slots = (struct slot *)calloc(depth, sizeof(*writer->slots));
	if (!writer->error || !writer->slots) {
		writer_free(writer);
		return NULL;
	}
	return writer;
}

void writer_free(struct writer *writer)
{
	if (!writer)
		return;
	ironwal_close(writer->wal);
	ironwal_error_free(writer->error);
	free(writer->slots);
	free(writer);
}

enum writer_state writer_get_state(const struct writer *writer)
{
	return writer->state;
}

void writer_report(const struct writer *writer, FILE *file)
{
	fprintf(file, "stream %s: %" PRIu64 " entries, %u reconnects, %" PRIu64 " settled\n", writer->stream,
		writer->written, writer->connections > 0 ? writer->connections - 1 : 0, writer->settled);
}

static void fail(struct writer *writer, const char *what, const ironwal_error *error)
{
	fprintf(stderr, "stream %s: %s%s%s\n", writer->stream, what, error ? ": " : "",
		error ? ironwal_error_message(error) : "");
	writer->state = WRITER_FAILED;
}

static struct slot *slot_of(struct writer *writer, uint64_t id)
{
	return &writer->slots[id % writer->depth];
}

static size_t entry_of(const struct writer *writer, uint64_t id, char *ret_entry)
{
	int len = snprintf(ret_entry, ENTRY_MAX, "%s %" PRIu64, writer->stream, id);
	return len < ENTRY_MAX ? (size_t)len : ENTRY_MAX - 1;
}

/* ---- sending ---- */

/* 0: it is in flight. */
static int send_append(struct writer *writer, uint64_t id)
{
	ironwal_append_options options = IRONWAL_APPEND_OPTIONS_INIT;
	char entry[ENTRY_MAX];
	size_t len = entry_of(writer, id, entry);
	uint32_t request;
	options.has_expected_id = 1;
	options.expected_id = id;
	if (ironwal_submit_append(writer->wal, writer->stream, strlen(writer->stream), entry, len, &options, &request,
		    writer->error) != 0)
		return -1;
	ironwal_set_request_tag(writer->wal, request, slot_of(writer, id));
	writer->in_flight++;
	return 0;
}

static int send_get(struct writer *writer, uint64_t id)
{
	uint32_t request;
	if (ironwal_submit_get(writer->wal, writer->stream, strlen(writer->stream), id, &request, writer->error) != 0)
		return -1;
	ironwal_set_request_tag(writer->wal, request, slot_of(writer, id));
	writer->in_flight++;
	return 0;
}

/* After a failure, when every result is in: what is known to be missing will be sent anew, what is unknown settled. */
static void regroup(struct writer *writer)
{
	uint64_t id;
	writer->settled_end = writer->written;
	for (id = writer->written; id < writer->sent; id++)
		if (slot_of(writer, id)->fate != NOT_THERE)
			writer->settled_end = id + 1;
	writer->sent = writer->settled_end;
	writer->step = STEP_APPEND;
	writer->has_failed = 0;
}

static void send_more(struct writer *writer)
{
	int rc = 0;
	if (writer->has_failed) {
		if (writer->in_flight > 0)
			return;
		regroup(writer);
	}
	if (writer->now_ms < writer->retry_at_ms)
		return;
	if (writer->written < writer->settled_end) {
		if (writer->in_flight > 0)
			return;
		rc = writer->step == STEP_GET ? send_get(writer, writer->written)
					      : send_append(writer, writer->written);
	} else {
		while (writer->sent < writer->count && writer->sent - writer->written < writer->depth) {
			struct slot *slot = slot_of(writer, writer->sent);
			rc = send_append(writer, writer->sent);
			if (rc != 0)
				break;
			slot->id = writer->sent++;
			slot->fate = FLYING;
		}
	}
	if (rc == 0 || ironwal_error_get_code(writer->error) == IRONWAL_ERR_AGAIN)
		return;
	writer->retry_at_ms = writer->now_ms + RETRY_MS;
	if (!ironwal_error_is_retriable(writer->error) && ironwal_error_connection_usable(writer->error))
		fail(writer, "cannot append", writer->error);
}

/* ---- results ---- */

static void is_written(struct writer *writer, struct slot *slot)
{
	writer->settled += slot->fate == UNKNOWN;
	slot->fate = WRITTEN;
	writer->step = STEP_APPEND;
	while (writer->written < writer->sent && slot_of(writer, writer->written)->fate == WRITTEN)
		writer->written++;
	/* From here on nothing is left to be settled. */
	if (writer->settled_end < writer->written)
		writer->settled_end = writer->written;
}

static void append_failed(struct writer *writer, struct slot *slot, const ironwal_error *error)
{
	ironwal_fate fate = ironwal_error_fate(error);
	int conflict = ironwal_error_get_code(error) == IRONWAL_ERR_CONFLICT;
	uint64_t actual;
	if (conflict && ironwal_error_get_uint(error, "actual", &actual) && actual > slot->id) {
		/* There is an entry of this id: which one? If it is its turn, that is asked next. */
		if (slot->fate == UNKNOWN) {
			writer->step = STEP_GET;
			return;
		}
		slot->fate = UNKNOWN;
	} else if (conflict && slot->fate != FLYING) {
		/* All before it are written. */
		fail(writer, "entries that were written are gone", error);
	} else if (fate == IRONWAL_FATE_REFUSED && !conflict && !ironwal_error_is_retriable(error)) {
		fail(writer, "refused", error);
	} else if (slot->fate == FLYING) {
		/* What is unknown stays so, whatever becomes of a further attempt. */
		slot->fate = fate == IRONWAL_FATE_REFUSED || fate == IRONWAL_FATE_NOT_SENT ? NOT_THERE : UNKNOWN;
	}
	writer->has_failed = 1;
	writer->retry_at_ms = writer->now_ms + RETRY_MS;
}

/* The entry of an id that was taken: this writer's own? */
static void compare(struct writer *writer, struct slot *slot, const ironwal_result *result)
{
	char entry[ENTRY_MAX];
	size_t entry_len = entry_of(writer, slot->id, entry), len;
	const void *data;
	if (ironwal_result_error(result)) {
		writer->has_failed = 1;
		writer->retry_at_ms = writer->now_ms + RETRY_MS;
	} else if (ironwal_result_entry(result, &data, &len) && len == entry_len && memcmp(data, entry, len) == 0) {
		is_written(writer, slot);
	} else {
		fail(writer, "somebody else writes to it", NULL);
	}
}

static void take_results(struct writer *writer)
{
	ironwal_result *result;
	while (ironwal_next_result(writer->wal, &result)) {
		struct slot *slot = (struct slot *)ironwal_result_tag(result);
		const ironwal_error *error = ironwal_result_error(result);
		writer->in_flight--;
		if (slot->fate == UNKNOWN && writer->step == STEP_GET)
			compare(writer, slot, result);
		else if (error)
			append_failed(writer, slot, error);
		else
			is_written(writer, slot);
	}
}

/* ---- the connection ---- */

static void connection_lost(struct writer *writer)
{
	ironwal_close(writer->wal);
	writer->wal = NULL;
	writer->was_ready = 0;
	writer->has_failed = 1;
	writer->retry_at_ms = writer->now_ms + RETRY_MS;
	if (writer->now_ms >= writer->give_up_at_ms)
		fail(writer, "cannot connect", writer->error);
}

static void connect_again(struct writer *writer)
{
	ironwal_options options = IRONWAL_OPTIONS_INIT;
	options.timeout_ms = TIMEOUT_MS;
	options.max_in_flight_count = writer->depth;
	if (ironwal_connect_start(writer->address, &options, &writer->wal, writer->error) != 0) {
		writer->wal = NULL;
		connection_lost(writer);
	}
}

void writer_turn(struct writer *writer, unsigned events, int64_t now_ms)
{
	writer->now_ms = now_ms;
	if (writer->give_up_at_ms < 0)
		writer->give_up_at_ms = now_ms + GIVE_UP_MS;
	if (writer->state != WRITER_WORKS)
		return;
	if (!writer->wal) {
		if (now_ms >= writer->retry_at_ms)
			connect_again(writer);
		return;
	}
	/* That it failed shows in the state, and what became of the requests in their results. */
	(void)ironwal_process(writer->wal, events, writer->error);
	take_results(writer);
	if (ironwal_get_state(writer->wal) == IRONWAL_STATE_READY) {
		writer->connections += !writer->was_ready;
		writer->was_ready = 1;
		writer->give_up_at_ms = now_ms + GIVE_UP_MS;
		if (writer->state == WRITER_WORKS)
			send_more(writer);
		take_results(writer);
	}
	if (writer->state == WRITER_WORKS && writer->written == writer->count)
		writer->state = WRITER_DONE;
	if (writer->state != WRITER_WORKS) {
		ironwal_close(writer->wal);
		writer->wal = NULL;
	} else if (ironwal_get_state(writer->wal) == IRONWAL_STATE_LOST) {
		connection_lost(writer);
	}
}

int writer_fd(const struct writer *writer)
{
	return writer->wal ? ironwal_fd(writer->wal) : -1;
}

unsigned writer_events(const struct writer *writer)
{
	return writer->wal ? ironwal_events(writer->wal) : 0;
}

int64_t writer_deadline_ms(const struct writer *writer, int64_t now_ms)
{
	int64_t retry_ms = writer->retry_at_ms > now_ms ? writer->retry_at_ms - now_ms : 0;
	int64_t deadline_ms;
	if (writer->state != WRITER_WORKS)
		return -1;
	if (!writer->wal)
		return retry_ms;
	deadline_ms = ironwal_next_deadline_ms(writer->wal);
	/* Ready, and nothing in flight: it waits for its next attempt. */
	if (writer->was_ready && writer->in_flight == 0 && (deadline_ms < 0 || retry_ms < deadline_ms))
		deadline_ms = retry_ms;
	return deadline_ms;
}
