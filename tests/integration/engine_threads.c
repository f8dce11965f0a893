/*
 * The engine under all its threads at once: the loop submits appends, truncates and syncs to many streams, some of them
 * the logs of shards, and makes, loads, lists, compacts and prunes by checkpoints; readers read what is published,
 * writers, filler, keeper and checkpointer do theirs. A plain program, so that it can run under TSan (meson
 * -Db_sanitize=thread): Criterion cannot. Argument: the directory to work in, made and emptied by the caller.
 *
 * Checked: every entry says its stream and id; what the loop has seen as readable is read; first ids only go forward;
 * a checkpoint's offsets are the ends that the loop saw when it asked, and never go back.
 */
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint.h"
#include "engine.h"

#define STREAMS 40
#define FEW 2	 /* that are written to so fast that they get spares, and go past the page cache */
#define SHARDS 6 /* of the streams */
#define CHECKPOINT_IDS 50
#define READERS 3
#define IN_FLIGHT 200
#define OPS_DEFAULT 20000
#define ENTRY_BYTES 200

struct request {
	struct op op;
	struct entry_source source;
	uint64_t at;
	uint8_t bytes[ENTRY_BYTES];
	unsigned stream;
	struct request *free_next;
};

struct checkpoint_request {
	struct checkpoint_op checkpoint;
	uint64_t cut[SHARDS];
	char id[16];
};

static atomic_uint_least64_t seen_first[STREAMS], seen_end[STREAMS];
static _Atomic(struct stream *) streams[STREAMS];
static atomic_bool stop;
static atomic_uint_least64_t entries_read, truncated_reads;
static pthread_mutex_t wake_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static bool woken;
static unsigned streams_used; /* the first ones */

static void fail(const char *what, const struct error *err)
{
	fprintf(stderr, "FAILED: %s: %s\n", what, err ? err->message : "");
	exit(1);
}

static void notify(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&wake_lock);
	woken = true;
	pthread_cond_signal(&wake);
	pthread_mutex_unlock(&wake_lock);
}

static void wait_for_completions(void)
{
	pthread_mutex_lock(&wake_lock);
	while (!woken)
		pthread_cond_wait(&wake, &wake_lock);
	woken = false;
	pthread_mutex_unlock(&wake_lock);
}

static void source_rewind(struct entry_source *source)
{
	(void)source;
}

/* Entries of one request are alike: the stream's number, and a filling that follows from it. */
static void source_next(struct entry_source *source, const uint8_t **ret_bytes, size_t *ret_len)
{
	struct request *request = (struct request *)((char *)source - offsetof(struct request, source));
	*ret_bytes = request->bytes;
	*ret_len = ENTRY_BYTES;
}

static int check_entry(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	unsigned stream = *(unsigned *)arg;
	(void)id;
	if (len != ENTRY_BYTES || bytes[0] != stream)
		fail("an entry is not what was appended", NULL);
	for (size_t i = 1; i < len; i++)
		if (bytes[i] != (uint8_t)(stream * 7 + i))
			fail("an entry's bytes are wrong", NULL);
	atomic_fetch_add_explicit(&entries_read, 1, memory_order_relaxed);
	return 0;
}

static void *reader(void *arg)
{
	struct engine *engine = arg;
	unsigned seed = 1;
	while (!atomic_load(&stop)) {
		seed = seed * 1103515245u + 12345u;
		unsigned stream = (seed >> 8) % streams_used;
		struct stream *handle = atomic_load(&streams[stream]);
		if (!handle)
			continue;
		struct stream_view view = {atomic_load(&seen_first[stream]), atomic_load(&seen_end[stream])};
		if (view.first >= view.end)
			continue;
		uint64_t start = view.first + (seed >> 3) % (view.end - view.first), next;
		if ((seed & 2) != 0 && start + 100 < view.end) /* or near its end */
			start = view.end - 100;
		struct error err;
		bool nowait = (seed & 4) != 0;
		enum read_result result =
			engine_read(engine, handle, view, start, start + 50, nowait, check_entry, &stream, &next, &err);
		if (result == READ_ERROR && err.code == ERR_TRUNCATED)
			atomic_fetch_add(&truncated_reads, 1);
		else if (result == READ_ERROR)
			fail("read", &err);
		else if (result == READ_DONE && next != (start + 50 < view.end ? start + 50 : view.end))
			fail("a read ended early", NULL);
	}
	return NULL;
}

static uint64_t last_offsets[SHARDS], last_timestamp, checkpoints_made, checkpoints_asked;

static void take_checkpoint(struct op *op)
{
	struct checkpoint_request *request = (struct checkpoint_request *)op;
	const struct checkpoint_op *checkpoint = &request->checkpoint;
	bool missing =
		op->error && (op->error->code == ERR_CHECKPOINT_NOT_FOUND || op->error->code == ERR_NO_CHECKPOINTS);
	if (op->error && (!missing || op->kind == OP_CREATE_CHECKPOINT))
		fail("a checkpoint", op->error);
	if (op->kind == OP_CREATE_CHECKPOINT) {
		if (checkpoint->timestamp <= last_timestamp)
			fail("a timestamp went back", NULL);
		last_timestamp = checkpoint->timestamp;
		for (unsigned i = 0; i < SHARDS; i++) {
			if (checkpoint->offsets[i] != request->cut[i] || checkpoint->offsets[i] < last_offsets[i])
				fail("an offset is not that of the cut", NULL);
			last_offsets[i] = checkpoint->offsets[i];
		}
		checkpoints_made++;
	}
	free(op->error);
	checkpoint_op_clear(&request->checkpoint);
	free(request);
}

static void ask_checkpoint(struct engine *engine, unsigned dice)
{
	static const enum op_kind kinds[] = {OP_CREATE_CHECKPOINT, OP_CREATE_CHECKPOINT, OP_CREATE_CHECKPOINT,
		OP_LOAD_CHECKPOINT, OP_LOAD_LATEST_CHECKPOINT, OP_LIST_CHECKPOINTS, OP_PRUNE, OP_COMPACT_CHECKPOINTS};
	struct checkpoint_request *request = calloc(1, sizeof(*request));
	struct error err;
	struct checkpoint_op *checkpoint = &request->checkpoint;
	checkpoint->op.kind = kinds[dice & 7];
	checkpoint->id = request->id;
	checkpoint->id_len = (size_t)snprintf(request->id, sizeof(request->id), "%u", (dice >> 3) % CHECKPOINT_IDS);
	checkpoint->limit = checkpoint->max_bytes = UINT64_MAX;
	checkpoint->keep = (dice >> 10) % CHECKPOINT_IDS;
	for (unsigned i = 0; i < SHARDS; i++)
		request->cut[i] = stream_view(engine_shard(engine, i)).end;
	if (engine_submit_checkpoint(engine, checkpoint, &err) != 0)
		fail("submit a checkpoint", &err);
	checkpoints_asked++;
}

static void take_back(struct engine *engine, struct request **free_list, uint64_t *done)
{
	for (struct op *op = engine_take(engine), *next; op; op = next) {
		next = op->next;
		if (op->kind >= OP_CREATE_CHECKPOINT) {
			take_checkpoint(op);
			checkpoints_asked--;
			continue;
		}
		struct request *request = (struct request *)op;
		if (op->error)
			fail("an op", op->error);
		if (op->stream) {
			struct stream_view view = stream_view(op->stream);
			unsigned stream = request->stream;
			if (view.first < atomic_load(&seen_first[stream]))
				fail("the first id went back", NULL);
			atomic_store(&seen_first[stream], view.first);
			atomic_store(&seen_end[stream], view.end);
			atomic_store(&streams[stream], op->stream);
		}
		request->free_next = *free_list;
		*free_list = request;
		(*done)++;
	}
}

static void submit(struct engine *engine, struct request *request, unsigned dice)
{
	char name[32];
	struct error err;
	request->stream = dice % streams_used;
	int len = snprintf(name, sizeof(name), request->stream < SHARDS ? "shard_%02u" : "stream-%u", request->stream);
	request->op = (struct op){.kind = OP_APPEND, .source = &request->source};
	request->source = (struct entry_source){1, ENTRY_BYTES, source_rewind, source_next};
	request->bytes[0] = (uint8_t)request->stream;
	for (size_t i = 1; i < ENTRY_BYTES; i++)
		request->bytes[i] = (uint8_t)(request->stream * 7 + i);
	unsigned kind = dice >> 8 & 63;
	if (kind == 0 && atomic_load(&streams[request->stream])) {
		request->op.kind = OP_TRUNCATE;
		request->op.safe_id = atomic_load(&seen_end[request->stream]) * 3 / 4;
	} else if (kind == 1 && atomic_load(&streams[request->stream])) {
		request->op.kind = OP_SYNC;
	} else if (kind < 8 || streams_used == FEW) {
		request->op.batch = true;
		request->source.count = 1 + (dice >> 14) % 20;
		request->source.total_bytes = ENTRY_BYTES * request->source.count;
	}
	request->op.sync = (dice >> 20 & 15) == 0;
	if (engine_submit(engine, &request->op, name, (size_t)len, &err) != 0)
		fail("submit", &err);
}

static void run(const char *root, enum sync_mode mode, enum read_strategy strategy, unsigned used, uint64_t ops)
{
	streams_used = used;
	struct io *io;
	struct engine *engine;
	struct error err;
	struct engine_options options;
	engine_options_default(&options);
	options.sync_mode = mode;
	options.read_strategy = strategy;
	options.max_segment_size = used == FEW ? 2000000 : 60000;
	if (used == FEW)
		options.write_buffer_size = 50000;
	options.block_cache_size = strategy == READ_MMAP ? 1 << 20 : 0;
	options.async_sync_interval_ns = 5000000;
	options.shard_count = SHARDS;
	struct engine_hooks hooks = {.notify_cb = notify};
	if (io_posix_new(root, &io) != 0)
		fail("open the directory", NULL);
	if (engine_open(io, &options, &hooks, &engine, &err) != 0)
		fail("open", &err);
	for (unsigned i = 0; i < STREAMS; i++) {
		atomic_store(&streams[i], NULL);
		atomic_store(&seen_first[i], 0);
		atomic_store(&seen_end[i], 0);
	}
	atomic_store(&stop, false);
	pthread_t threads[READERS];
	for (int i = 0; i < READERS; i++)
		pthread_create(&threads[i], NULL, reader, engine);
	struct request *requests = calloc(IN_FLIGHT, sizeof(*requests)), *free_list = NULL;
	for (int i = 0; i < IN_FLIGHT; i++) {
		requests[i].free_next = free_list;
		free_list = &requests[i];
	}
	uint64_t done = 0, submitted = 0;
	unsigned dice = 7;
	while (done < ops || checkpoints_asked > 0) {
		while (free_list && submitted < ops) {
			struct request *request = free_list;
			free_list = request->free_next;
			dice = dice * 1664525u + 1013904223u;
			submit(engine, request, dice >> 2);
			submitted++;
			if (dice >> 27 == 0)
				ask_checkpoint(engine, dice >> 5);
		}
		engine_kick(engine);
		wait_for_completions();
		take_back(engine, &free_list, &done);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	struct engine_stats stats;
	engine_stats(engine, &stats);
	if (engine_close(engine, &err) != 0)
		fail("close", &err);
	io_posix_free(io);
	free(requests);
	if (used == FEW && stats.bytes_filled_ahead == 0)
		printf("no spare was made: the machine was too slow for it\n");
	printf("mode %d strategy %d, %u streams: %llu ops, %llu checkpoints, %llu entries read, %llu reads met a "
	       "truncation, %llu segments unlinked\n",
		(int)mode, (int)strategy, used, (unsigned long long)done, (unsigned long long)checkpoints_made,
		(unsigned long long)atomic_load(&entries_read), (unsigned long long)atomic_load(&truncated_reads),
		(unsigned long long)stats.segments_unlinked);
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *where)
{
	(void)stat;
	(void)kind;
	(void)where;
	return remove(path);
}

int main(int argc, char **argv)
{
	char root[256];
	const char *base = argc > 1 ? argv[1] : "/tmp";
	uint64_t ops = argc > 2 ? strtoull(argv[2], NULL, 10) : OPS_DEFAULT;
	snprintf(root, sizeof(root), "%s/ironwald-threads-XXXXXX", base);
	if (!mkdtemp(root))
		fail("make a directory", NULL);
	char data[300];
	snprintf(data, sizeof(data), "%s/data", root);
	for (int strategy = READ_STANDARD_IO; strategy <= READ_MMAP; strategy++)
		for (int mode = SYNC_STRICT; mode <= SYNC_ASYNC; mode++)
			run(data, (enum sync_mode)mode, (enum read_strategy)strategy, STREAMS, ops);
	snprintf(data, sizeof(data), "%s/few", root);
	memset(last_offsets, 0, sizeof(last_offsets));
	for (int strategy = READ_STANDARD_IO; strategy <= READ_MMAP; strategy++)
		for (int mode = SYNC_STRICT; mode <= SYNC_ASYNC; mode++)
			run(data, (enum sync_mode)mode, (enum read_strategy)strategy, FEW, ops);
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 ? 0 : 1;
}
