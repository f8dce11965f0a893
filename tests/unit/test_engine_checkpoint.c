/* Shards, cuts, and what they promise, in the engine whole. The log of checkpoints itself: test_checkpoint_log.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint.h"
#include "engine_fixture.h"
#include "names.h"

TestSuite(engine_checkpoint, .timeout = 200);

static struct fixture f;

static void set_up(void)
{
	fixture_init(&f);
	f.options.shard_count = 4;
	f.options.async_sync_interval_ns = 0;
}

static void tear_down(void)
{
	fixture_free(&f);
}

#define CHECKPOINT_TEST(name) Test(engine_checkpoint, name, .init = set_up, .fini = tear_down)

/* ---- helpers ---------------------------------------------------------------------------------------------------- */

static const char *shard(uint32_t number)
{
	static char name[NAMES_SHARD_MAX];
	shard_name(number, name);
	return name;
}

struct outcome {
	enum error_code code;
	struct error error;
	uint64_t offsets[70];
	uint64_t timestamp, segments_deleted;
	uint32_t shards_pruned;
};

static void prepare(struct checkpoint_op *op, enum op_kind kind, const char *id)
{
	*op = (struct checkpoint_op){.op.kind = kind, .id = id, .id_len = strlen(id), .limit = UINT64_MAX};
	op->max_bytes = UINT64_MAX;
}

static struct outcome outcome_of(struct checkpoint_op *op)
{
	struct outcome outcome = {.timestamp = op->timestamp,
		.segments_deleted = op->segments_deleted,
		.shards_pruned = op->shards_pruned};
	if (op->op.error) {
		outcome.code = op->op.error->code;
		outcome.error = *op->op.error;
		free(op->op.error);
	}
	for (uint32_t i = 0; op->offsets && i < op->shard_count && i < 70; i++)
		outcome.offsets[i] = op->offsets[i];
	checkpoint_op_clear(op);
	return outcome;
}

static struct op *run_until_taken(void)
{
	struct op *op = NULL;
	while (!op) {
		fixture_run(&f);
		op = engine_take(f.engine);
	}
	return op;
}

static struct outcome carry_out(enum op_kind kind, const char *id)
{
	struct checkpoint_op op;
	struct error err;
	prepare(&op, kind, id);
	cr_assert(engine_submit_checkpoint(f.engine, &op, &err) == 0, "%s", err.message);
	cr_assert(run_until_taken() == &op.op && engine_idle(f.engine));
	return outcome_of(&op);
}

static struct outcome create(const char *id)
{
	struct outcome outcome = carry_out(OP_CREATE_CHECKPOINT, id);
	cr_assert(outcome.code == ERR_NONE, "%s", outcome.error.message);
	return outcome;
}

static void add(uint32_t to, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		fixture_add(&f, shard(to), to * 1000 + i);
}

static uint64_t end_of(uint32_t number)
{
	return stream_view(engine_shard(f.engine, number)).end;
}

/* ---- shards ----------------------------------------------------------------------------------------------------- */

static void count_cb(struct stream *stream, void *arg)
{
	(void)stream;
	++*(unsigned *)arg;
}

static unsigned listed(void)
{
	unsigned count = 0;
	(void)engine_list(f.engine, "", 0, NULL, 0, SIZE_MAX, count_cb, &count);
	return count;
}

CHECKPOINT_TEST(the_logs_of_shards_are_always_there)
{
	f.options.max_streams = 1;
	fixture_open(&f);
	for (unsigned round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 4; i++)
			cr_assert(engine_shard(f.engine, i) == fixture_stream(&f, shard(i)));
		cr_assert(engine_shard(f.engine, 4) == NULL && engine_find(f.engine, "shard_04", 8) == NULL);
		cr_assert(end_of(3) == 0 && listed() == round && fixture_stats(&f).streams == round);
		cr_assert(fixture_truncate(&f, shard(3), 7).code == ERR_NONE);
		cr_assert(fixture_sync(&f, shard(3)).code == ERR_NONE);
		cr_assert(fixture_info(&f, shard(3)).segments == 0);
		/* They do not count. */
		if (round == 0)
			fixture_add(&f, "one", 1);
		cr_assert(fixture_append(&f, "two", 1, 1, 10, 0, 0).code == ERR_BUSY);
		if (round == 1)
			add(1, 2);
		if (round == 0)
			fixture_restart(&f);
		else
			fixture_close(&f), fixture_open(&f);
	}
	cr_assert(end_of(1) == 2 && engine_shard(f.engine, 1) == fixture_stream(&f, "shard_01"));
}

/* ---- the cut ---------------------------------------------------------------------------------------------------- */

CHECKPOINT_TEST(a_cut_is_made_durable_by_one_sync_for_each_shard_that_needs_it)
{
	for (unsigned mode = 0; mode < 3; mode++) {
		f.options.sync_mode = (enum sync_mode)mode;
		fixture_open(&f);
		for (uint32_t i = 0; i < 4; i++)
			add(i, 1 + i);
		create("first");
		for (uint32_t i = 0; i < 3; i++)
			add(i, 10);
		uint64_t syncs = sim_count(f.io, SIM_SYNC);
		struct outcome outcome = create("second");
		uint64_t more = sim_count(f.io, SIM_SYNC) - syncs;
		cr_assert(more == (mode == SYNC_STRICT ? 1 : 3 + 1), "%u: %llu syncs", mode, (unsigned long long)more);
		for (uint32_t i = 0; i < 4; i++)
			cr_assert(outcome.offsets[i] == end_of(i) &&
				  fixture_info(&f, shard(i)).durable_end >= outcome.offsets[i]);
		fixture_power_cut(&f, SIM_LOSE_ALL);
		fixture_open(&f);
		struct outcome found = carry_out(OP_LOAD_LATEST_CHECKPOINT, "");
		cr_assert(found.code == ERR_NONE && found.timestamp == outcome.timestamp);
		for (uint32_t i = 0; i < 4; i++)
			cr_assert(end_of(i) == outcome.offsets[i] && found.offsets[i] == outcome.offsets[i]);
		fixture_die(&f);
		sim_free(f.io);
		f.io = sim_new(mode);
	}
	fixture_open(&f);
}

/* A writer of several shards syncs one, and then sees who waits. */
CHECKPOINT_TEST(no_append_waits_for_more_than_one_sync_of_a_cut)
{
	f.options.shard_count = 64; /* of 16 writers: shards 0, 16, 32, 48 are writer 0's */
	f.options.sync_mode = SYNC_ASYNC;
	fixture_open(&f);
	for (uint32_t i = 0; i < 4; i++)
		add(16 * i, 2);
	cr_assert(fixture_sync(&f, NULL).code == ERR_NONE);
	for (uint32_t i = 0; i < 4; i++)
		add(16 * i, 2);
	struct checkpoint_op op;
	struct error err;
	struct entries entries;
	prepare(&op, OP_CREATE_CHECKPOINT, "cut");
	cr_assert(engine_submit_checkpoint(f.engine, &op, &err) == 0);
	entries_init(&entries, 5, 1, 10);
	struct op append = {.kind = OP_APPEND, .source = &entries.base};
	cr_assert(engine_submit_shard(f.engine, &append, 0, &err) == 0);
	engine_kick(f.engine);
	uint64_t syncs = sim_count(f.io, SIM_SYNC);
	cr_assert(engine_step(f.engine, 0) && sim_count(f.io, SIM_SYNC) == syncs + 1);
	cr_assert(engine_step(f.engine, 0) && sim_count(f.io, SIM_SYNC) == syncs + 1);
	cr_assert(engine_take(f.engine) == &append && append.error == NULL && append.first == 4);
	cr_assert(run_until_taken() == &op.op);
	struct outcome outcome = outcome_of(&op);
	cr_assert(outcome.code == ERR_NONE && outcome.offsets[0] == 4 && outcome.offsets[48] == 4, "the cut is older");
	entries_free(&entries);
}

CHECKPOINT_TEST(what_is_not_readable_yet_is_not_in_the_cut)
{
	fixture_open(&f);
	add(0, 3);
	struct checkpoint_op op;
	struct error err;
	struct entries entries;
	entries_init(&entries, 5, 1, 10);
	struct op append = {.kind = OP_APPEND, .source = &entries.base};
	cr_assert(engine_submit_shard(f.engine, &append, 0, &err) == 0);
	fixture_run(&f); /* on disk, and answered by the writer; the loop has not taken it */
	prepare(&op, OP_CREATE_CHECKPOINT, "cut");
	cr_assert(engine_submit_checkpoint(f.engine, &op, &err) == 0);
	cr_assert(engine_take(f.engine) == &append);
	cr_assert(run_until_taken() == &op.op);
	cr_assert(outcome_of(&op).offsets[0] == 3);
	cr_assert(create("next").offsets[0] == 4);
	entries_free(&entries);
}

CHECKPOINT_TEST(a_shard_that_stopped_keeps_what_is_not_durable_out_of_checkpoints)
{
	f.options.sync_mode = SYNC_ASYNC;
	fixture_open(&f);
	add(0, 2);
	add(1, 2);
	create("good");
	add(0, 2);
	sim_fail_at(f.io, 1, EIO, SIM_BIT(SIM_SYNC));
	cr_assert(fixture_sync(&f, shard(0)).code == ERR_IO);
	for (unsigned i = 0; i < 2; i++) {
		struct outcome outcome = carry_out(OP_CREATE_CHECKPOINT, "bad");
		cr_assert(outcome.code == ERR_IO && outcome.error.outcome == OUTCOME_NONE);
	}
	cr_assert(engine_checkpoint_count(f.engine) == 1);
	cr_assert(carry_out(OP_LOAD_CHECKPOINT, "bad").code == ERR_CHECKPOINT_NOT_FOUND);
	cr_assert(carry_out(OP_LOAD_CHECKPOINT, "good").code == ERR_NONE);
	fixture_restart(&f);
	create("again");
}

CHECKPOINT_TEST(ids_are_of_1_to_65535_bytes)
{
	struct checkpoint_op op;
	struct error err;
	static char id[70000];
	memset(id, 'x', sizeof(id));
	fixture_open(&f);
	static const size_t lens[] = {0, 65536, sizeof(id)};
	static const enum op_kind kinds[] = {OP_CREATE_CHECKPOINT, OP_LOAD_CHECKPOINT, OP_PRUNE};
	for (size_t i = 0; i < 9; i++) {
		prepare(&op, kinds[i % 3], "");
		op.id = id;
		op.id_len = lens[i / 3];
		cr_assert(engine_submit_checkpoint(f.engine, &op, &err) == -1 && err.code == ERR_INVALID_CHECKPOINT_ID);
	}
	prepare(&op, OP_CREATE_CHECKPOINT, "");
	op.id = id;
	op.id_len = 65535;
	cr_assert(engine_submit_checkpoint(f.engine, &op, &err) == 0 && run_until_taken() == &op.op);
	cr_assert(outcome_of(&op).code == ERR_NONE);
	fixture_restart(&f);
	prepare(&op, OP_LOAD_CHECKPOINT, "");
	op.id = id;
	op.id_len = 65535;
	cr_assert(engine_submit_checkpoint(f.engine, &op, &err) == 0 && run_until_taken() == &op.op);
	cr_assert(outcome_of(&op).code == ERR_NONE);
}

CHECKPOINT_TEST(an_id_that_is_created_again_and_again_takes_no_room)
{
	struct checkpoint_stats stats = {0};
	fixture_open(&f);
	for (unsigned i = 0; i < 20000 && stats.compactions == 0; i++) {
		create("the same");
		engine_checkpoint_stats(f.engine, &stats);
	}
	cr_assert(stats.compactions == 1 && stats.count == 1);
	create("the same");
	engine_checkpoint_stats(f.engine, &stats);
	cr_assert(stats.records < 100 && stats.bytes < 100000);
	fixture_close(&f);
	fixture_open(&f);
	cr_assert(carry_out(OP_LOAD_CHECKPOINT, "the same").code == ERR_NONE);
}

/* ---- what a checkpoint proves ----------------------------------------------------------------------------------- */

static void remove_directory(const char *dir)
{
	while (fixture_files(&f, dir, "") > 0)
		cr_assert(sim_remove_file(f.io, fixture_file(&f, dir, "", 0)) == 0);
	cr_assert(f.io->ops->rmdir(f.io, dir) == 0 && f.io->ops->sync_dir(f.io, "") == 0);
}

/* What they hold of something that is taken away would bring it back. */
static void forget_journals(void)
{
	for (unsigned i = 0; i < 8; i++) {
		char path[64];
		snprintf(path, sizeof(path), "ironwald.journal-%05u-%u", i / 2, i % 2);
		(void)sim_truncate_file(f.io, path, 0);
	}
}

CHECKPOINT_TEST(a_shard_that_is_gone_is_noticed_and_its_ids_are_not_given_again)
{
	for (unsigned clean = 0; clean < 2; clean++) {
		struct error err;
		fixture_open(&f);
		add(1, 5);
		add(2, 3);
		create("cut");
		if (clean)
			fixture_close(&f);
		else
			fixture_die(&f);
		if (clean)
			cr_assert(sim_remove_file(f.io, "ironwald.clean") == 0);
		remove_directory("shard_01");
		forget_journals();
		cr_assert(fixture_try_open(&f, &err) == ERR_CORRUPTION && strcmp(err.stream.bytes, "shard_01") == 0,
			"%s", err.message);
		f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
		for (unsigned round = 0; round < 3; round++) {
			fixture_open(&f);
			cr_assert(end_of(1) == 5 + round);
			for (uint64_t id = 0; id < 5; id++) {
				enum error_code code = fixture_get(&f, shard(1), id, 0, 0, 100, &err);
				cr_assert(
					code == ERR_CORRUPTION && (round == 0 || err.first_id == 5), "%s", err.message);
			}
			cr_assert(fixture_add(&f, shard(1), 9) == 5 + round);
			cr_assert(create("later").offsets[1] == 6 + round);
			fixture_power_cut(&f, SIM_LOSE_ALL);
		}
		sim_free(f.io);
		f.io = sim_new(clean);
		f.options.on_corruption = ON_CORRUPTION_ERROR;
	}
	fixture_open(&f);
}

CHECKPOINT_TEST(a_shards_newest_segment_that_is_gone_is_noticed)
{
	struct error err;
	f.options.max_entries_per_segment = 2;
	fixture_open(&f);
	add(1, 6);
	create("cut");
	fixture_close(&f);
	cr_assert(sim_remove_file(f.io, "ironwald.clean") == 0);
	cr_assert(sim_remove_file(f.io, fixture_file(&f, "shard_01", ".wal", 2)) == 0);
	forget_journals();
	cr_assert(fixture_try_open(&f, &err) == ERR_CORRUPTION && strcmp(err.stream.bytes, "shard_01") == 0);
	f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
	fixture_open(&f);
	cr_assert(end_of(1) == 6 && fixture_add(&f, shard(1), 7) == 6);
	cr_assert(fixture_get(&f, shard(1), 3, 1003, 0, 100, &err) == ERR_NONE);
	enum error_code code = fixture_get(&f, shard(1), 4, 1004, 0, 100, &err);
	cr_assert(code == ERR_CORRUPTION && err.first_id == 6, "%d: %s", code, err.message);
}

/* What is left of it is only what was set aside: nothing there has an end that could be judged. */
CHECKPOINT_TEST(a_shard_of_which_only_what_was_set_aside_is_left_is_noticed)
{
	struct error err;
	f.options.max_entries_per_segment = 2;
	fixture_open(&f);
	add(1, 6);
	create("cut");
	fixture_close(&f);
	cr_assert(sim_remove_file(f.io, "ironwald.clean") == 0);
	forget_journals();
	cr_assert(sim_remove_file(f.io, fixture_file(&f, "shard_01", ".wal", 2)) == 0);
	f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
	fixture_open(&f); /* sets [2, 4) aside */
	fixture_die(&f);
	cr_assert(fixture_files(&f, "shard_01", ".cut") == 1);
	cr_assert(sim_remove_file(f.io, fixture_file(&f, "shard_01", ".wal", 1)) == 0);
	forget_journals();
	f.options.on_corruption = ON_CORRUPTION_ERROR;
	cr_assert(fixture_try_open(&f, &err) == ERR_CORRUPTION && strcmp(err.stream.bytes, "shard_01") == 0);
	f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
	for (unsigned round = 0; round < 2; round++) {
		fixture_open(&f);
		cr_assert(end_of(1) == 6);
		cr_assert(fixture_get(&f, shard(1), 5, 0, 0, 100, &err) == ERR_CORRUPTION);
		cr_assert(fixture_get(&f, shard(1), 3, 1003, 0, 100, &err) == ERR_NONE);
		fixture_power_cut(&f, SIM_LOSE_ALL);
	}
	fixture_open(&f);
	cr_assert(fixture_add(&f, shard(1), 8) == 6);
}

/* After a clean stop, which knows the stream. */
CHECKPOINT_TEST(a_directory_that_is_gone_after_a_clean_stop_can_be_done_without)
{
	struct error err;
	fixture_open(&f);
	add(1, 5);
	fixture_add(&f, "other", 1);
	fixture_close(&f);
	remove_directory("shard_01");
	remove_directory("other");
	cr_assert(fixture_try_open(&f, &err) == ERR_CORRUPTION);
	f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
	for (unsigned round = 0; round < 2; round++) {
		fixture_open(&f);
		cr_assert(end_of(1) == 5 + round && fixture_info(&f, "other").end == 1 + round);
		enum error_code code = fixture_get(&f, shard(1), 2, 0, 0, 100, &err);
		cr_assert(code == ERR_SEGMENT_NOT_FOUND || code == ERR_TRUNCATED || code == ERR_CORRUPTION, "%d", code);
		cr_assert(fixture_add(&f, shard(1), 9) == 5 + round && fixture_add(&f, "other", 2) == 1 + round);
		fixture_close(&f);
	}
	fixture_open(&f);
}

/* ---- pruning ---------------------------------------------------------------------------------------------------- */

CHECKPOINT_TEST(pruning_deletes_whole_segments_below_the_cut)
{
	struct error err;
	f.options.max_entries_per_segment = 3;
	fixture_open(&f);
	add(0, 10);
	add(1, 3);
	add(2, 1);
	create("cut");
	add(0, 10);
	add(1, 1);
	cr_assert(carry_out(OP_PRUNE, "none").code == ERR_CHECKPOINT_NOT_FOUND);
	struct outcome outcome = carry_out(OP_PRUNE, "cut");
	/* Of shard 0 [0, 3), [3, 6) and [6, 9), of shard 1 [0, 3); [9, 12) holds entries that the cut does not. */
	cr_assert(outcome.code == ERR_NONE && outcome.shards_pruned == 2 && outcome.segments_deleted == 4);
	fixture_run(&f);
	cr_assert(fixture_files(&f, "shard_00", ".wal") == 4 && fixture_files(&f, "shard_00", ".idx") <= 4);
	for (unsigned round = 0; round < 2; round++) {
		cr_assert(fixture_info(&f, shard(0)).first == 9 && fixture_info(&f, shard(1)).first == 3);
		cr_assert(fixture_info(&f, shard(2)).first == 0 && end_of(0) == 20);
		cr_assert(fixture_count(&f, shard(0), 9, 20, &err) == 11);
		outcome = carry_out(OP_PRUNE, "cut");
		cr_assert(outcome.code == ERR_NONE && outcome.shards_pruned == 0 && outcome.segments_deleted == 0);
		fixture_restart(&f);
	}
}

/* Cut off at each of its steps: what is at or behind the cut is there, what is there has no holes, no index is left
 * without its segment, and it can be done again. */
CHECKPOINT_TEST(pruning_can_be_cut_off_anywhere)
{
	f.options.max_entries_per_segment = 3;
	bool done = false;
	unsigned between = 0;
	for (uint64_t at = 0; !done; at++) {
		struct error err;
		struct checkpoint_op op;
		sim_free(f.io);
		f.io = sim_new(at);
		fixture_open(&f);
		add(0, 10);
		add(1, 7);
		create("cut");
		add(0, 5);
		sim_cut_power_after(f.io, at);
		prepare(&op, OP_PRUNE, "cut");
		cr_assert(engine_submit_checkpoint(f.engine, &op, &err) == 0);
		(void)run_until_taken();
		(void)outcome_of(&op);
		fixture_run(&f);
		done = !sim_is_dead(f.io);
		fixture_power_cut(&f, SIM_POWER_RANDOM);
		fixture_open(&f);
		cr_assert(end_of(0) == 15 && end_of(1) == 7);
		uint64_t first = fixture_info(&f, shard(0)).first;
		cr_assert(first <= 9 && first % 3 == 0 && fixture_count(&f, shard(0), first, 15, &err) == 15 - first);
		between += first > 0 && first < 9;
		cr_assert(fixture_files(&f, "shard_00", ".idx") <= fixture_files(&f, "shard_00", ".wal"));
		for (unsigned i = 0; i < fixture_files(&f, "shard_00", ".idx"); i++) {
			char path[64];
			snprintf(path, sizeof(path), "%s", fixture_file(&f, "shard_00", ".idx", i));
			memcpy(strrchr(path, '.'), ".wal", 5);
			cr_assert(sim_file_size(f.io, path) > 0, "%s is gone", path);
		}
		cr_assert(carry_out(OP_PRUNE, "cut").code == ERR_NONE);
		cr_assert(fixture_info(&f, shard(0)).first == 9 && fixture_info(&f, shard(1)).first == 6);
		fixture_die(&f);
	}
	cr_assert(between > 0);
	fixture_open(&f);
}

struct reader {
	bool pruned;
	struct checkpoint_op op;
};

static int prune_meanwhile(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	struct reader *reader = arg;
	struct error err;
	(void)bytes;
	(void)len;
	if (id == 1 && !reader->pruned) {
		reader->pruned = true;
		prepare(&reader->op, OP_PRUNE, "cut");
		cr_assert(engine_submit_checkpoint(f.engine, &reader->op, &err) == 0);
		cr_assert(run_until_taken() == &reader->op.op && reader->op.segments_deleted == 3);
		(void)outcome_of(&reader->op);
	}
	return 0;
}

CHECKPOINT_TEST(a_reader_in_a_pruned_segment_finishes_it_and_is_told)
{
	struct error err;
	struct reader reader = {0};
	uint64_t next;
	f.options.max_entries_per_segment = 3;
	fixture_open(&f);
	add(0, 10);
	create("cut");
	struct stream *stream = engine_shard(f.engine, 0);
	enum read_result result =
		engine_read(f.engine, stream, stream_view(stream), 0, 10, false, prune_meanwhile, &reader, &next, &err);
	cr_assert(reader.pruned && next == 3, "the segment that it was in is read to its end: %llu",
		(unsigned long long)next);
	cr_assert(result == READ_ERROR && err.code == ERR_TRUNCATED && err.first_id == 9);
	fixture_run(&f);
	cr_assert(fixture_files(&f, "shard_00", ".wal") == 1);
}

CHECKPOINT_TEST(an_index_without_its_segment_goes_at_the_next_start)
{
	fixture_open(&f);
	add(0, 3);
	fixture_die(&f);
	cr_assert(sim_write_file(f.io, "shard_00/00000000000000000007.idx", "stray", 5) == 0);
	fixture_open(&f);
	cr_assert(fixture_files(&f, "shard_00", "7.idx") == 0 && end_of(0) == 3);
}
