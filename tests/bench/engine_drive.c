#include "engine_drive.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "arguments.h"
#include "clock.h"

/* Entries are pieces of one run of random bytes, so that making them costs nothing. */
#define POOL_BYTES (UINT64_C(4) << 20)
#define FILL_BATCH UINT64_C(1000)
#define NAME_BYTES 32

struct request {
	struct op op;
	struct entry_source source;
	struct drive *drive;
	uint64_t pool_at, next_at; /* of its first entry, and of the next in this pass */
	uint64_t sent_ns;
};

struct drive {
	const struct engine_plan *plan;
	struct io *io;
	struct engine *engine;
	int wake_fd;
	uint8_t *pool;
	uint64_t pool_bytes;
	struct request *requests;
	uint64_t requests_count;
	struct stream **streams; /* NULL until their first append is done */
	uint64_t random, appended, inflight;
	struct latency *latency;
	bool failed;
};

static int fail(struct drive *drive, const char *what, const char *why)
{
	if (!drive->failed)
		refuse("%s: %s", what, why);
	drive->failed = true;
	return -1;
}

static uint64_t random_of(struct drive *drive, uint64_t below)
{
	uint64_t z = drive->random += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % below;
}

static uint64_t cpu_ns(clockid_t clock)
{
	struct timespec used;
	clock_gettime(clock, &used);
	return (uint64_t)used.tv_sec * NS_PER_SECOND + (uint64_t)used.tv_nsec;
}

/* ---- appends ---- */

static void source_rewind(struct entry_source *source)
{
	struct request *request = (struct request *)((char *)source - offsetof(struct request, source));
	request->next_at = request->pool_at;
}

static void source_next(struct entry_source *source, const uint8_t **ret_bytes, size_t *ret_len)
{
	struct request *request = (struct request *)((char *)source - offsetof(struct request, source));
	uint64_t len = request->drive->plan->payload_bytes;
	if (request->next_at + len > request->drive->pool_bytes)
		request->next_at = 0;
	*ret_bytes = request->drive->pool + request->next_at;
	*ret_len = len;
	request->next_at += len;
}

/* From a writer thread. An eventfd, as libuv has for it. */
static void notify(void *arg)
{
	struct drive *drive = arg;
	uint64_t one = 1;
	while (write(drive->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void submit(struct drive *drive, struct request *request, uint64_t stream, uint64_t count, uint64_t now_ns)
{
	char name[NAME_BYTES];
	struct error err;
	int len = snprintf(name, sizeof(name), "bench-%06" PRIu64, stream), result;
	request->pool_at = request->next_at = random_of(drive, drive->pool_bytes - drive->plan->payload_bytes + 1);
	request->sent_ns = now_ns;
	request->source = (struct entry_source){count, count * drive->plan->payload_bytes, source_rewind, source_next};
	request->op = (struct op){.kind = OP_APPEND, .source = &request->source, .batch = count > 1};
	if (drive->plan->by_shard)
		result = engine_submit_shard(drive->engine, &request->op, (uint32_t)stream, &err);
	else
		result = engine_submit(drive->engine, &request->op, name, (size_t)len, &err);
	if (result != 0)
		fail(drive, "an append was refused", err.message);
	else
		drive->inflight++;
}

/* Waits for completions and takes them: a list, never empty. Something has to be in flight. */
static struct op *wait_and_take(struct drive *drive)
{
	struct op *done;
	engine_kick(drive->engine);
	while ((done = engine_take(drive->engine)) == NULL) {
		uint64_t count;
		(void)!read(drive->wake_fd, &count, sizeof(count)); /* interrupted: it is looked again, no more */
	}
	return done;
}

static void take_one(struct drive *drive, struct request *request)
{
	struct op *op = &request->op;
	drive->inflight--;
	if (op->error != NULL)
		fail(drive, "an append failed", op->error->message);
	else
		drive->appended += request->source.count;
	error_free(op->error);
	op->error = NULL;
}

/* At least `count` entries into each stream, in turn, in batches of up to FILL_BATCH, with all requests in flight.
 * After a failure nothing more is sent, and what is in flight is taken all the same. */
static int fill(struct drive *drive, uint64_t count)
{
	const struct engine_plan *plan = drive->plan;
	uint64_t batch = count < FILL_BATCH ? count : FILL_BATCH;
	uint64_t left = (count + batch - 1) / batch * plan->streams_count, next = 0;
	for (uint64_t i = 0; i < drive->requests_count && left > 0 && !drive->failed; i++, left--)
		submit(drive, &drive->requests[i], next++ % plan->streams_count, batch, 0);
	while (drive->inflight > 0) {
		for (struct op *op = wait_and_take(drive), *after; op != NULL; op = after) {
			struct request *request = (struct request *)op;
			after = op->next;
			take_one(drive, request);
			if (left == 0 || drive->failed)
				continue;
			submit(drive, request, next++ % plan->streams_count, batch, 0);
			left--;
		}
	}
	return drive->failed ? -1 : 0;
}

static int find_streams(struct drive *drive)
{
	char name[NAME_BYTES];
	for (uint64_t i = 0; i < drive->plan->streams_count; i++) {
		int len = snprintf(name, sizeof(name), "bench-%06" PRIu64, i);
		drive->streams[i] = drive->plan->by_shard ? engine_shard(drive->engine, (uint32_t)i)
							  : engine_find(drive->engine, name, (size_t)len);
		if (drive->streams[i] == NULL)
			return fail(drive, name, "it is not there after an append to it");
	}
	return 0;
}

static int run_appends(struct drive *drive, uint64_t end_ns, struct drive_result *result)
{
	const struct engine_plan *plan = drive->plan;
	uint64_t now_ns = clock_now_ns();
	for (uint64_t i = 0; i < drive->requests_count && !drive->failed; i++)
		submit(drive, &drive->requests[i], random_of(drive, plan->streams_count), plan->batch_count, now_ns);
	while (drive->inflight > 0) {
		struct op *op = wait_and_take(drive), *after;
		now_ns = clock_now_ns();
		for (; op != NULL; op = after) {
			struct request *request = (struct request *)op;
			after = op->next;
			take_one(drive, request);
			if (drive->failed || now_ns > end_ns)
				continue;
			latency_add(drive->latency, now_ns - request->sent_ns);
			result->requests++;
			result->entries += plan->batch_count;
			submit(drive, request, random_of(drive, plan->streams_count), plan->batch_count, now_ns);
		}
	}
	result->bytes = result->entries * plan->payload_bytes;
	return drive->failed ? -1 : 0;
}

/* ---- reads ---- */

static int count_entry(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	struct drive_result *result = arg;
	(void)id;
	(void)bytes;
	result->entries++;
	result->bytes += len;
	return 0;
}

static int read_once(struct drive *drive, uint64_t *next, struct drive_result *result)
{
	const struct engine_plan *plan = drive->plan;
	struct stream *stream = drive->streams[random_of(drive, plan->streams_count)];
	struct stream_view view = stream_view(stream);
	uint64_t count = view.end - view.first, start, reached;
	if (plan->op == ENGINE_GET)
		start = view.first + random_of(drive, count);
	else
		start = view.first + *next % (count / plan->batch_count) * plan->batch_count;
	(*next)++;
	uint64_t end = start + plan->batch_count;
	struct error err;
	/* As the server does: without waiting first. */
	enum read_result outcome =
		engine_read(drive->engine, stream, view, start, end, true, count_entry, result, &reached, &err);
	if (outcome == READ_WOULD_BLOCK)
		outcome = engine_read(
			drive->engine, stream, view, reached, end, false, count_entry, result, &reached, &err);
	if (outcome == READ_ERROR)
		return fail(drive, "a read failed", err.message);
	return reached == end ? 0 : fail(drive, "a read", "it ended before what was asked for");
}

static int run_reads(struct drive *drive, uint64_t end_ns, struct drive_result *result)
{
	uint64_t last_ns = clock_now_ns(), next = 0;
	while (last_ns <= end_ns) {
		if (read_once(drive, &next, result) != 0)
			return -1;
		uint64_t now_ns = clock_now_ns();
		latency_add(drive->latency, now_ns - last_ns);
		last_ns = now_ns;
		result->requests++;
	}
	return 0;
}

/* ---- what the writers did ---- */

struct sums {
	struct drive_work work;
	struct histogram group_ops;
};

static void sum_up(struct drive *drive, struct sums *ret)
{
	struct engine_stats stats;
	struct writer_stats writer;
	engine_stats(drive->engine, &stats);
	*ret = (struct sums){0};
	for (uint32_t i = 0; i < stats.writer_count; i++) {
		engine_writer_stats(drive->engine, i, &writer);
		ret->work.groups += writer.groups;
		ret->work.journal_groups += writer.journal_groups;
		ret->work.file_syncs += writer.file_syncs;
		ret->work.dir_syncs += writer.dir_syncs;
		ret->work.journal_syncs += writer.journal_syncs;
		ret->work.group_syncs += writer.sync_ns.count;
		ret->work.group_sync_ns += writer.sync_ns.sum;
		ret->work.group_ops += writer.group_ops.sum;
		for (int b = 0; b < HISTOGRAM_BUCKETS; b++)
			ret->group_ops.buckets[b] += writer.group_ops.buckets[b];
		ret->group_ops.count += writer.group_ops.count;
	}
}

static uint64_t bucket_at(const struct histogram *after, const struct histogram *before, double share)
{
	uint64_t wanted = (uint64_t)(share * (double)(after->count - before->count)), seen = 0;
	for (int b = 0; b < HISTOGRAM_BUCKETS; b++) {
		seen += after->buckets[b] - before->buckets[b];
		if (seen > wanted)
			return (UINT64_C(2) << b) - 1;
	}
	return 0;
}

static void work_between(const struct sums *before, const struct sums *after, struct drive_work *ret)
{
	const struct drive_work *a = &before->work, *b = &after->work;
	*ret = (struct drive_work){
		.groups = b->groups - a->groups,
		.journal_groups = b->journal_groups - a->journal_groups,
		.group_ops = b->group_ops - a->group_ops,
		.group_ops_p50 = bucket_at(&after->group_ops, &before->group_ops, 0.5),
		.group_ops_p99 = bucket_at(&after->group_ops, &before->group_ops, 0.99),
		.file_syncs = b->file_syncs - a->file_syncs,
		.dir_syncs = b->dir_syncs - a->dir_syncs,
		.journal_syncs = b->journal_syncs - a->journal_syncs,
		.group_syncs = b->group_syncs - a->group_syncs,
		.group_sync_ns = b->group_sync_ns - a->group_sync_ns,
	};
}

int drive_run(struct drive *drive, uint64_t duration_ns, struct drive_result *ret_result)
{
	static struct sums before, after;
	*ret_result = (struct drive_result){.latency = drive->latency};
	latency_clear(drive->latency);
	sum_up(drive, &before);
	uint64_t process_ns = cpu_ns(CLOCK_PROCESS_CPUTIME_ID), loop_ns = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
	uint64_t begin_ns = clock_now_ns(), end_ns = begin_ns + duration_ns;
	int result = drive->plan->op == ENGINE_APPEND ? run_appends(drive, end_ns, ret_result)
						      : run_reads(drive, end_ns, ret_result);
	ret_result->elapsed_ns = drive->plan->op == ENGINE_APPEND ? duration_ns : clock_now_ns() - begin_ns;
	ret_result->process_cpu_ns = cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - process_ns;
	ret_result->loop_cpu_ns = cpu_ns(CLOCK_THREAD_CPUTIME_ID) - loop_ns;
	sum_up(drive, &after);
	work_between(&before, &after, &ret_result->work);
	return result;
}

uint64_t drive_entries_appended(const struct drive *drive)
{
	return drive->appended;
}

/* ---- open and close ---- */

static int allocate(struct drive *drive)
{
	const struct engine_plan *plan = drive->plan;
	drive->random = clock_now_ns();
	drive->pool_bytes = POOL_BYTES > plan->payload_bytes ? POOL_BYTES : plan->payload_bytes;
	drive->requests_count = plan->op == ENGINE_APPEND ? plan->clients_count * plan->depth : 16;
	drive->pool = malloc(drive->pool_bytes);
	drive->requests = calloc(drive->requests_count, sizeof(*drive->requests));
	drive->streams = calloc(plan->streams_count, sizeof(struct stream *));
	drive->latency = latency_new();
	drive->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (drive->pool == NULL || drive->requests == NULL || drive->streams == NULL || drive->latency == NULL)
		return fail(drive, "no memory", strerror(ENOMEM));
	if (drive->wake_fd < 0)
		return fail(drive, "eventfd", strerror(errno));
	for (uint64_t i = 0; i < drive->pool_bytes; i++)
		drive->pool[i] = (uint8_t)random_of(drive, 256);
	for (uint64_t i = 0; i < drive->requests_count; i++)
		drive->requests[i].drive = drive;
	return 0;
}

static int open_engine(struct drive *drive)
{
	const struct engine_plan *plan = drive->plan;
	struct engine_options options;
	struct engine_hooks hooks = {.notify_cb = notify, .notify_arg = drive};
	struct error err;
	int result = io_posix_new(plan->root_path, &drive->io);
	if (result != 0) {
		drive->io = NULL;
		return fail(drive, plan->root_path, strerror(-result));
	}
	engine_options_default(&options);
	options.sync_mode = plan->sync_mode;
	if (plan->by_shard)
		options.shard_count = (uint32_t)plan->streams_count;
	if (engine_open(drive->io, &options, &hooks, &drive->engine, &err) != 0)
		return fail(drive, plan->root_path, err.message);
	return 0;
}

struct drive *drive_open(const struct engine_plan *plan)
{
	struct drive *drive = calloc(1, sizeof(*drive));
	if (drive == NULL) {
		refuse("no memory");
		return NULL;
	}
	drive->plan = plan;
	drive->wake_fd = -1;
	if (allocate(drive) == 0 && open_engine(drive) == 0 &&
		fill(drive, plan->op == ENGINE_APPEND ? 1 : plan->prefill_count) == 0 && find_streams(drive) == 0)
		return drive;
	(void)drive_close(drive);
	return NULL;
}

int drive_close(struct drive *drive)
{
	struct error err;
	int result = 0;
	if (drive == NULL)
		return 0;
	if (drive->engine != NULL && engine_close(drive->engine, &err) != 0)
		result = fail(drive, "the engine did not close well", err.message);
	if (drive->io != NULL)
		io_posix_free(drive->io);
	if (drive->wake_fd >= 0)
		close(drive->wake_fd);
	latency_free(drive->latency);
	free(drive->streams);
	free(drive->requests);
	free(drive->pool);
	free(drive);
	return result;
}
