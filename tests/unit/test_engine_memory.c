/*
 * Every allocation of the engine fails once: in a small life on a simulated disk, the first, the second, ... until
 * there is none left. A plain program: each life is a process of its own.
 *
 * What must hold: no crash, no hang, no leak; the request that met it answers an error, and nothing of it is there; no
 * shard stops for it, and the next request of the kind is done; what was acknowledged is there at the end. That the
 * disk's own calls answer ENOMEM is tests/crash/crash_fault.c's.
 *
 * IRONWALD_MEMORY_EVERY=1 tries every allocation of every variant; otherwise it is every one of the first variant,
 * every second one of the others, and a quarter of these where a sanitizer makes each life dear.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include "alloc_fault.h"
#include "checkpoint.h"
#include "engine.h"
#include "log.h"
#include "quiet_disk.h"
#include "sim.h"

enum { LIFE_GOOD = 0, LIFE_BAD = 1, LIFE_NOTHING_FAILED = 2 };

#define STREAMS 14
#define ENTRIES_MAX 256
#define STEPS_MAX 100000
#define LIFE_SECONDS 60

struct variant {
	const char *name;
	enum sync_mode sync_mode;
	enum compression compression;
	enum read_strategy read_strategy;
	uint64_t block_cache_size;
	uint64_t max_segment_size;
	uint32_t shard_count;
};

static const struct variant variants[] = {
	{"strict", SYNC_STRICT, COMPRESSION_NONE, READ_STANDARD_IO, 64u << 10, 2048, 2},
	{"batch_only, lz4, mmap", SYNC_BATCH_ONLY, COMPRESSION_LZ4, READ_MMAP, 0, 64u << 10, 1},
	{"async, one entry a segment", SYNC_ASYNC, COMPRESSION_NONE, READ_STANDARD_IO, 0, 1, 1},
};

/* What was acknowledged of a stream; entry i of it was made from tags[i] and is lens[i] long. */
struct known {
	char name[16];
	uint64_t count;
	uint64_t tags[ENTRIES_MAX];
	size_t lens[ENTRIES_MAX];
};

static struct life {
	const struct variant *variant;
	uint64_t nth, run;
	struct io *io;
	struct engine *engine;
	struct engine_options options;
	struct known streams[STREAMS];
	uint64_t tag;
	uint64_t offsets[2]; /* of the newest checkpoint */
	char checkpoint[8];
	unsigned refused;
} life;

static void bad(const char *what, const char *more)
{
	fprintf(stderr, "%s: allocation %" PRIu64 " (and %" PRIu64 " behind it) failed: %s%s%s\n", life.variant->name,
		life.nth, life.run - 1, what, more[0] ? ": " : "", more);
	_exit(LIFE_BAD);
}

static void must(bool condition, const char *what)
{
	if (!condition)
		bad(what, "");
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

static uint8_t byte_of(uint64_t tag, size_t at)
{
	return (uint8_t)(tag * 131 + at / 7);
}

struct entries {
	struct entry_source base;
	uint64_t tag, next;
	size_t len;
	uint8_t bytes[70000];
};

static void rewind_entries(struct entry_source *base)
{
	((struct entries *)base)->next = 0;
}

static void next_entry(struct entry_source *base, const uint8_t **ret_bytes, size_t *ret_len)
{
	struct entries *entries = (struct entries *)base;
	for (size_t i = 0; i < entries->len; i++)
		entries->bytes[i] = byte_of(entries->tag + entries->next, i);
	entries->next++;
	*ret_bytes = entries->bytes;
	*ret_len = entries->len;
}

/* An error that memory is the reason of; anything else is a failure of the test. */
static void refused(const struct error *err)
{
	must(alloc_fault_fired() > 0, "a request is refused, and nothing has failed");
	if ((err->code != ERR_IO || err->os_errno != ENOMEM) && err->code != ERR_BUSY)
		bad("the wrong error", err->message);
	must(err->outcome == OUTCOME_NONE, "an outcome that is unknown, for want of memory");
	life.refused++;
}

static void run(void)
{
	bool worked = true;
	unsigned steps = 0;
	alloc_fault_begin();
	engine_kick(life.engine);
	while (worked) {
		worked = false;
		for (unsigned i = 0; i < engine_step_count(life.engine); i++)
			worked |= engine_step(life.engine, i);
		must(++steps < STEPS_MAX, "it does not come to an end");
	}
	alloc_fault_end();
}

/* Everything that was handed in comes back. */
static struct op *take_all(unsigned count)
{
	struct op *first = NULL, **last = &first;
	for (unsigned rounds = 0; count > 0; rounds++) {
		must(rounds < 100, "a request is not answered");
		run();
		alloc_fault_begin();
		struct op *op = engine_take(life.engine);
		alloc_fault_end();
		*last = op;
		for (; *last; last = &(*last)->next)
			count--;
	}
	must(engine_idle(life.engine), "the engine holds something that nobody handed in");
	return first;
}

static bool hand_in(struct op *op, const char *name)
{
	struct error err;
	alloc_fault_begin();
	int r = engine_submit(life.engine, op, name, name ? strlen(name) : 0, &err);
	alloc_fault_end();
	if (r != 0)
		refused(&err);
	return r == 0;
}

static bool done(struct op *op)
{
	if (!op->error)
		return true;
	refused(op->error);
	error_free(op->error);
	return false;
}

static void acknowledged(struct known *known, const struct op *op, const struct entries *entries)
{
	must(op->first == known->count, "an id that was not the next one");
	must(op->end == op->first + entries->base.count, "another number of ids than of entries");
	for (uint64_t i = 0; i < entries->base.count; i++) {
		known->tags[known->count] = entries->tag + i;
		known->lens[known->count++] = entries->len;
	}
	must(op->durable || life.options.sync_mode != SYNC_STRICT, "strict, and not durable");
}

static void fill(struct entries *entries, struct op *op, uint64_t count, size_t len)
{
	*entries =
		(struct entries){.base = {count, count * len, rewind_entries, next_entry}, .tag = life.tag, .len = len};
	life.tag += count;
	*op = (struct op){.kind = OP_APPEND, .source = &entries->base, .batch = count > 1};
}

static void append(unsigned stream, uint64_t count, size_t len)
{
	static struct entries entries;
	struct op op;
	fill(&entries, &op, count, len);
	if (!hand_in(&op, life.streams[stream].name))
		return;
	must(take_all(1) == &op, "another op comes back");
	if (done(&op))
		acknowledged(&life.streams[stream], &op, &entries);
}

/* One entry to each, as one group: the journal's case. Some twice, so that groups are tried one by one, too. */
static void append_to_all(size_t len)
{
	static struct entries entries[STREAMS + 2];
	struct op ops[STREAMS + 2];
	bool held[STREAMS + 2];
	unsigned count = 0;
	for (unsigned i = 0; i < STREAMS + 2; i++) {
		fill(&entries[i], &ops[i], 1, len);
		held[i] = hand_in(&ops[i], life.streams[i % STREAMS].name);
		count += held[i];
	}
	(void)take_all(count);
	for (unsigned i = 0; i < STREAMS + 2; i++)
		if (held[i] && done(&ops[i]))
			acknowledged(&life.streams[i % STREAMS], &ops[i], &entries[i]);
}

static void conflict(unsigned stream)
{
	static struct entries entries;
	struct op op;
	fill(&entries, &op, 1, 10);
	op.has_expected = true;
	op.expected_id = 1000;
	if (!hand_in(&op, life.streams[stream].name))
		return;
	(void)take_all(1);
	must(op.error != NULL, "a conflict is none");
	if (op.error->code != ERR_CONFLICT)
		refused(op.error);
	error_free(op.error);
}

static void simple(enum op_kind kind, const char *name, uint64_t safe_id)
{
	struct op op = {.kind = kind, .safe_id = safe_id};
	struct error err;
	if (name && !engine_find(life.engine, name, strlen(name)))
		return;
	alloc_fault_begin();
	int r = engine_submit(life.engine, &op, name, name ? strlen(name) : 0, &err);
	alloc_fault_end();
	if (r != 0) {
		refused(&err);
		return;
	}
	(void)take_all(1);
	(void)done(&op);
}

/* ---- checkpoints ------------------------------------------------------------------------------------------------- */

static struct checkpoint_op checkpoint(enum op_kind kind, const char *id)
{
	struct checkpoint_op op = {
		.op.kind = kind, .id = id, .id_len = strlen(id), .limit = 10, .max_bytes = 100000, .keep = 1};
	struct error err;
	alloc_fault_begin();
	int r = engine_submit_checkpoint(life.engine, &op, &err);
	alloc_fault_end();
	if (r != 0) {
		refused(&err);
		op.op.error = error_copy(&err);
		return op;
	}
	(void)take_all(1);
	if (op.op.error && op.op.error->code != ERR_CHECKPOINT_NOT_FOUND && op.op.error->code != ERR_NO_CHECKPOINTS)
		refused(op.op.error);
	return op;
}

static void clear(struct checkpoint_op *op)
{
	error_free(op->op.error);
	checkpoint_op_clear(op);
}

static void create(const char *id)
{
	struct checkpoint_op op = checkpoint(OP_CREATE_CHECKPOINT, id);
	if (!op.op.error) {
		memcpy(life.offsets, op.offsets, sizeof(op.offsets[0]) * op.shard_count);
		snprintf(life.checkpoint, sizeof(life.checkpoint), "%s", id);
	}
	clear(&op);
}

static void look(enum op_kind kind, const char *id)
{
	struct checkpoint_op op = checkpoint(kind, id);
	clear(&op);
}

/* Pruned up to that checkpoint: not more than it covers. */
static void prune(const char *id)
{
	struct checkpoint_op op = checkpoint(OP_PRUNE, id);
	clear(&op);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

struct reading {
	const struct known *known;
	uint64_t next;
};

static int entry_cb(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	struct reading *reading = arg;
	must(id == reading->next && id < reading->known->count, "an id that was not asked for");
	must(len == reading->known->lens[id], "an entry of another length");
	for (size_t i = 0; i < len; i++)
		must(bytes[i] == byte_of(reading->known->tags[id], i), "an entry of other bytes");
	reading->next++;
	return 0;
}

static void read_all(unsigned number, bool all_must_be_there)
{
	const struct known *known = &life.streams[number];
	struct stream *stream = engine_find(life.engine, known->name, strlen(known->name));
	if (!stream) {
		must(known->count == 0, "a stream is gone");
		return;
	}
	struct stream_view view = stream_view(stream);
	must(view.end == known->count, "another end than what was acknowledged");
	for (unsigned nowait = 0; nowait < 2; nowait++) {
		struct reading reading = {known, view.first};
		struct error err;
		uint64_t next;
		alloc_fault_begin();
		enum read_result result = engine_read(
			life.engine, stream, view, view.first, view.end, nowait, entry_cb, &reading, &next, &err);
		alloc_fault_end();
		must(next == reading.next, "it says that it gave another number of entries");
		if (result == READ_ERROR && all_must_be_there)
			bad("what was acknowledged cannot be read", err.message);
		if (result == READ_ERROR)
			refused(&err);
		else if (result == READ_DONE)
			must(next == view.end, "fewer entries than there are");
	}
}

/* ---- lives ------------------------------------------------------------------------------------------------------- */

static void open_engine(void)
{
	const struct engine_hooks hooks = {.no_threads = true};
	struct error err;
	for (uint64_t tries = 0; tries <= life.run; tries++) {
		alloc_fault_begin();
		int r = engine_open(life.io, &life.options, &hooks, &life.engine, &err);
		alloc_fault_end();
		if (r == 0)
			return;
		refused(&err);
		must(sim_open_count(life.io) == 0, "a start that was refused leaves descriptors open");
	}
	bad("it does not start any more", err.message);
}

static void close_engine(void)
{
	struct error err;
	alloc_fault_begin();
	int r = engine_close(life.engine, &err);
	alloc_fault_end();
	if (r != 0)
		refused(&err);
	life.engine = NULL;
}

static void no_shard_stopped(void)
{
	struct engine_stats stats;
	struct checkpoint_stats checkpoints;
	engine_stats(life.engine, &stats);
	for (uint32_t i = 0; i < stats.writer_count; i++) {
		struct writer_stats writer;
		engine_writer_stats(life.engine, i, &writer);
		if (writer.failed)
			bad("a shard has stopped", writer.failed_reason);
	}
	engine_checkpoint_stats(life.engine, &checkpoints);
	if (checkpoints.failed)
		bad("the checkpoint log has stopped", checkpoints.failed_reason);
}

static void work(unsigned part)
{
	for (unsigned i = 0; i < 3; i++)
		append(i, 1, 100);
	append(0, 5, 300);
	append(1, 3, 15000);
	append_to_all(60);
	create(part == 0 ? "one" : part == 1 ? "two" : "three");
	conflict(2);
	append(0, 1, 40000);
	append_to_all(150);
	for (unsigned i = 0; i < 3; i++)
		read_all(i, false);
	look(OP_LIST_CHECKPOINTS, "");
	look(OP_LOAD_CHECKPOINT, "one");
	look(OP_LOAD_LATEST_CHECKPOINT, "");
	simple(OP_TRUNCATE, life.streams[2].name, life.streams[2].count);
	prune("one");
	if (part == 2)
		look(OP_COMPACT_CHECKPOINTS, "");
	simple(OP_SYNC, life.streams[3].name, 0);
	simple(OP_SYNC, NULL, 0);
	append_to_all(40);
	no_shard_stopped();
}

static void verify(void)
{
	alloc_fault_arm(0, 0);
	open_engine();
	for (unsigned i = 0; i < STREAMS; i++)
		read_all(i, true);
	if (life.checkpoint[0] != '\0') {
		struct checkpoint_op op = checkpoint(OP_LOAD_CHECKPOINT, life.checkpoint);
		must(!op.op.error, "an acknowledged checkpoint is gone");
		must(memcmp(op.offsets, life.offsets, sizeof(op.offsets[0]) * op.shard_count) == 0,
			"its offsets are others");
		clear(&op);
	}
	uint64_t before = life.streams[5].count;
	append_to_all(30);
	must(life.streams[5].count == before + 1, "it takes no append");
	close_engine();
}

static int live(const struct variant *variant, uint64_t nth, uint64_t run_len)
{
	life = (struct life){.variant = variant, .nth = nth, .run = run_len};
	for (unsigned i = 0; i < STREAMS; i++)
		snprintf(life.streams[i].name, sizeof(life.streams[i].name), i < 2 ? "shard_%02u" : "s%u", i);
	engine_options_default(&life.options);
	life.options.shard_count = variant->shard_count;
	life.options.sync_mode = variant->sync_mode;
	life.options.compression = variant->compression;
	life.options.min_compression_size = 64;
	life.options.read_strategy = variant->read_strategy;
	life.options.block_cache_size = variant->block_cache_size;
	life.options.max_segment_size = variant->max_segment_size;
	int64_t live_before = alloc_fault_live();
	life.io = quiet_disk_new(nth);
	alloc_fault_arm(nth, run_len);
	open_engine();
	work(0);
	close_engine();
	open_engine();
	work(1);
	alloc_fault_begin();
	engine_abandon(life.engine);
	alloc_fault_end();
	sim_process_died(life.io);
	open_engine();
	work(2);
	close_engine();
	bool fired = alloc_fault_fired() > 0;
	verify();
	must(sim_open_count(life.io) == 0, "descriptors are left open");
	sim_free(life.io);
	if (alloc_fault_live() != live_before)
		bad("memory is left", "");
	return fired ? LIFE_GOOD : LIFE_NOTHING_FAILED;
}

/* A crash or a hang is that life's. */
static int live_apart(const struct variant *variant, uint64_t nth, uint64_t run_len)
{
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		alarm(LIFE_SECONDS);
		_exit(live(variant, nth, run_len));
	}
	int status;
	if (child < 0 || waitpid(child, &status, 0) != child)
		return LIFE_BAD;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	fprintf(stderr, "%s: allocation %" PRIu64 " (and %" PRIu64 " behind it) failed: killed by %s\n", variant->name,
		nth, run_len - 1, strsignal(WTERMSIG(status)));
	return LIFE_BAD;
}

/* Runs overlap, and the first of each is one of the others: some of them are enough. */
static uint64_t step_of(size_t variant, uint64_t run_len)
{
#if defined(__SANITIZE_ADDRESS__)
	const uint64_t dear = 4;
#else
	const uint64_t dear = 1;
#endif
	const char *every = getenv("IRONWALD_MEMORY_EVERY");
	uint64_t step = every ? strtoull(every, NULL, 10) : (variant == 0 ? 1 : 2) * dear;
	return (step == 0 ? 1 : step) * (run_len == 1 ? 1 : 9);
}

/* test_engine_memory [VARIANT NTH RUN]: one life, in this process, for a debugger. */
int main(int argc, char **argv)
{
	unsigned bad_lives = 0;
	if (argc == 4)
		return live(&variants[strtoul(argv[1], NULL, 10) % 3], strtoull(argv[2], NULL, 10),
			strtoull(argv[3], NULL, 10));
	int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
	log_set_fd(quiet);
	for (unsigned i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
		for (uint64_t run_len = 1; run_len <= 5; run_len += 4) {
			uint64_t nth = 1, step = step_of(i, run_len), lives = 0;
			int result;
			while ((result = live_apart(&variants[i], nth, run_len)) != LIFE_NOTHING_FAILED &&
				bad_lives < 20) {
				bad_lives += result != LIFE_GOOD;
				lives++;
				nth += step;
			}
			printf("%s: %" PRIu64 " lives, %" PRIu64 " in a row, to allocation %" PRIu64 "\n",
				variants[i].name, lives, run_len, nth - 1);
		}
	}
	close(quiet);
	return bad_lives == 0 ? 0 : 1;
}
