/*
 * handlers_read: get, get_batch, iter, iter_shard.
 *
 * A read is tried at once on the loop thread, as long as nothing has to wait and little is asked; what is more goes
 * to libuv's pool, with room for its answer counted as in flight. There it has slices of time, so that much work of
 * some does not keep the others' from being done. An iter that finds nothing may wait first; as many may be woken at
 * once, those are run bit by bit, and only as far as there is room for their answers.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <uv.h>

#include "clock.h"
#include "frame.h"
#include "handlers.h"
#include "read_job.h"
#include "waiters.h"

#define ITER_DEFAULT_BYTES (UINT64_C(1024) * 1024)
/* What an iter gives at most while all connections together are at their bound. */
#define ITER_SCARCE_BYTES (UINT64_C(64) * 1024)

/* How long a read has a thread of the pool before others have their turn. */
#define SLICE_NS (5 * NS_PER_MS)

/* How long reads that were woken have the loop thread. */
#define LINES_NS NS_PER_MS

struct read_call {
	struct call call;
	struct read_job job;
	struct waiter waiter;
	uv_work_t work;
	struct read_call *next; /* of its line */
	bool done;
};

static void finish(struct read_call *read)
{
	if (read->job.error != NULL)
		call_fail(&read->call, read->job.error);
	else
		call_send(&read->call, &read->job.answer);
	read_job_free(&read->job);
	free(read);
}

static void pool_work(uv_work_t *work)
{
	struct read_call *read = work->data;
	read->done = read_job_run(&read->job, false);
}

static void pool_done(uv_work_t *work, int status)
{
	(void)status; /* never cancelled */
	struct read_call *read = work->data;
	struct net *net = read->call.net;
	if (!read->done && !conn_dead(read->call.conn)) {
		uv_queue_work(&net->loop, &read->work, pool_work, pool_done); /* behind those who are there by now */
		return;
	}
	net->pool_reads--;
	finish(read);
}

/* [any] */
static bool is_dead(void *arg)
{
	return conn_dead(arg);
}

static void run(struct read_call *read)
{
	struct net *net = read->call.net;
	struct read_job *job = &read->job;
	if (conn_dead(read->call.conn) || read_job_run(job, true)) {
		net->stats.reads_on_loop++;
		finish(read);
		return;
	}
	/* Also for an iter with a low max_bytes: its first entry may be over it. */
	call_charge(&read->call, sizeof(*read) + job->ids_bytes.cap + (size_t)net->options->max_message_bytes);
	read->work.data = read;
	net->stats.reads_in_pool++;
	net->pool_reads++;
	uv_queue_work(&net->loop, &read->work, pool_work, pool_done); /* fails only without a callback */
}

/* NULL: no memory; the call was answered. */
static struct read_call *start_on(struct call *call, enum read_kind kind, struct stream *stream)
{
	struct net *net = call->net;
	struct read_call *read = malloc(sizeof(*read));
	if (read == NULL) {
		struct error err;
		error_set(&err, ERR_BUSY, "no memory for the request: send it again later");
		call_fail(call, &err);
		return NULL;
	}
	*read = (struct read_call){.call = *call};
	read->job = (struct read_job){
		.kind = kind,
		.engine = net->engine,
		.stream = stream,
		.view = stream_view(stream),
		.msgid = call->msgid,
		.max_message_bytes = net->options->max_message_bytes,
		.slice_ns = SLICE_NS,
		.cancelled = is_dead,
		.cancelled_arg = call->conn,
	};
	return read;
}

/* NULL: no such stream, or no memory; the call was answered. */
static struct read_call *start(struct call *call, enum read_kind kind, struct span name)
{
	struct stream *stream = engine_find(call->net->engine, (const char *)name.data, name.len);
	if (stream != NULL)
		return start_on(call, kind, stream);
	call_fail_stream_not_found(call, name);
	return NULL;
}

void handle_GET(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	struct span name;
	uint64_t id;
	struct error err;
	if (field_stream(&request->params, &name, &err) != 0 || field_u64(&request->params, KEY_ID, &id, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	struct read_call *read = start(call, READ_GET, name);
	if (read == NULL)
		return;
	read->job.id = id;
	call_charge(&read->call, sizeof(*read));
	run(read);
}

void handle_GET_BATCH(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	struct span name;
	struct u64_array ids;
	struct error err;
	if (field_stream(&request->params, &name, &err) != 0 ||
		field_u64_array(&request->params, KEY_IDS, &ids, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	struct read_call *read = start(call, READ_GET_BATCH, name);
	if (read == NULL)
		return;
	call_charge(&read->call, sizeof(*read) + ids.elements.len);
	if (buf_append(&read->job.ids_bytes, ids.elements.data, ids.elements.len) != 0) {
		error_set(&err, ERR_BUSY, "no memory for %" PRIu32 " ids: ask for less at once", ids.count);
		call_fail(&read->call, &err);
		read_job_free(&read->job);
		free(read);
		return;
	}
	read->job.ids =
		(struct u64_array){.elements = {read->job.ids_bytes.data, ids.elements.len}, .count = ids.count};
	run(read);
}

/* ---- reads that were woken -------------------------------------------------------------------------------------- */

static void add_line(struct net *net, struct read_line *line)
{
	line->listed = true;
	line->next = NULL;
	if (net->lines_tail != NULL)
		net->lines_tail->next = line;
	else
		net->lines_head = line;
	net->lines_tail = line;
	net->line_count++;
}

static struct read_line *take_line(struct net *net)
{
	struct read_line *line = net->lines_head;
	net->lines_head = line->next;
	if (net->lines_head == NULL)
		net->lines_tail = NULL;
	net->line_count--;
	line->listed = false;
	return line;
}

/* The entry is there, or the wait is over. */
static void woken(struct waiter *waiter)
{
	struct read_call *read = (struct read_call *)((char *)waiter - offsetof(struct read_call, waiter));
	struct session *session = conn_user(read->call.conn);
	struct read_line *line = &session->reads;
	read->call.started_ns = conn_group_read_clock(read->call.net->conns);
	call_charge(&read->call, sizeof(*read));
	line->conn = read->call.conn;
	line->bytes += sizeof(*read);
	read->next = NULL;
	if (line->head != NULL)
		line->tail->next = read;
	else
		line->head = read;
	line->tail = read;
	if (!line->listed)
		add_line(read->call.net, line);
}

static struct read_call *take_read(struct read_line *line)
{
	struct read_call *read = line->head;
	line->head = read->next;
	line->bytes -= sizeof(*read);
	return read;
}

static bool may_begin(const struct read_line *line)
{
	return conn_dead(line->conn) || conn_has_room(line->conn, line->bytes);
}

/* An iter gives less while memory is scarce. */
static void set_iter_limit(struct read_call *read)
{
	if (conn_group_is_full(read->call.net->conns) && read->job.max_bytes > ITER_SCARCE_BYTES)
		read->job.max_bytes = ITER_SCARCE_BYTES;
}

void reads_go_on(struct net *net)
{
	if (net->line_count == 0)
		return;
	uint64_t until_ns = clock_now_ns() + LINES_NS;
	for (size_t stuck = 0; stuck < net->line_count && clock_now_ns() < until_ns;) {
		struct read_line *line = take_line(net);
		stuck++;
		if (may_begin(line)) {
			struct read_call *read = take_read(line);
			read->job.view = stream_view(read->job.stream);
			set_iter_limit(read);
			run(read);
			stuck = 0;
		}
		if (line->head != NULL && !line->listed) /* running one may have woken others */
			add_line(net, line);
	}
}

bool reads_may_go_on(const struct net *net)
{
	for (const struct read_line *line = net->lines_head; line != NULL; line = line->next) {
		if (may_begin(line))
			return true;
	}
	return false;
}

void reads_drop(struct net *net, struct session *session)
{
	struct read_line *line = &session->reads;
	for (size_t left = line->listed ? net->line_count : 0; left > 0; left--) {
		struct read_line *each = take_line(net);
		if (each != line)
			add_line(net, each);
	}
	while (line->head != NULL)
		finish(take_read(line));
}

/* ---- iter ------------------------------------------------------------------------------------------------------- */

struct iter_params {
	bool has_start;
	uint64_t start_id, max_entries, max_bytes, wait_ms;
};

static int iter_params_of(const struct fields *params, struct iter_params *ret, struct error *err)
{
	ret->has_start = fields_has(params, KEY_START_ID);
	if (field_u64_or(params, KEY_START_ID, 0, &ret->start_id, err) != 0 ||
		field_u64_or(params, KEY_MAX_ENTRIES, UINT64_MAX, &ret->max_entries, err) != 0 ||
		field_u64_or(params, KEY_MAX_BYTES, ITER_DEFAULT_BYTES, &ret->max_bytes, err) != 0)
		return -1;
	return field_u64_or(params, KEY_WAIT_MS, 0, &ret->wait_ms, err);
}

static void run_iter(struct read_call *read, const struct iter_params *params)
{
	struct net *net = read->call.net;
	struct read_job *job = &read->job;
	job->has_start = params->has_start;
	job->start = params->has_start ? params->start_id : job->view.first;
	job->max_entries = params->max_entries;
	job->max_bytes = params->max_bytes;
	set_iter_limit(read);
	if (params->wait_ms > 0 && job->start >= job->view.end) {
		struct session *session = conn_user(read->call.conn);
		uint64_t wait_ms =
			params->wait_ms < net->options->max_wait_ms ? params->wait_ms : net->options->max_wait_ms;
		read->waiter = (struct waiter){
			.wake_cb = woken, .id = job->start, .deadline_ns = clock_now_ns() + wait_ms * NS_PER_MS};
		if (waiters_add(net->waiters, &read->waiter, job->stream, &session->waiting))
			return;
	}
	call_charge(&read->call, sizeof(*read));
	run(read);
}

void handle_ITER(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	struct span name;
	struct iter_params params;
	struct error err;
	if (field_stream(&request->params, &name, &err) != 0 || iter_params_of(&request->params, &params, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	struct read_call *read = start(call, READ_ITER, name);
	if (read != NULL)
		run_iter(read, &params);
}

void handle_ITER_SHARD(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	uint64_t shard;
	struct iter_params params;
	struct error err;
	if (field_u64(&request->params, KEY_SHARD, &shard, &err) != 0 ||
		iter_params_of(&request->params, &params, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	uint32_t count = engine_shard_count(call->net->engine);
	if (shard >= count) {
		error_set(&err, ERR_CONFIG,
			"there is no shard %" PRIu64 ": the log has %" PRIu32 ", from 0 to %" PRIu32, shard, count,
			count - 1);
		call_fail(call, &err);
		return;
	}
	struct read_call *read = start_on(call, READ_ITER, engine_shard(call->net->engine, (uint32_t)shard));
	if (read != NULL)
		run_iter(read, &params);
}
