/* What a shard that has stopped does to the others, and what it must not. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint.h"
#include "engine_fixture.h"
#include "stream.h"

TestSuite(engine_stopped, .timeout = 60);

static struct fixture f;

static void set_up(void)
{
	fixture_init(&f);
	f.options.shard_count = 2;
}

static void tear_down(void)
{
	fixture_free(&f);
}

#define STOPPED_TEST(name) Test(engine_stopped, name, .init = set_up, .fini = tear_down)

static struct answer add(const char *name, uint64_t tag, size_t len)
{
	return fixture_append(&f, name, tag, 1, len, 0, 0);
}

static void stop_shard_0(void)
{
	sim_fail_at(f.io, 1, EIO, SIM_BIT(SIM_SYNC));
	cr_assert(add("shard_00", 1, 100).code == ERR_IO && sim_faults_fired(f.io) == 1);
	sim_fail_clear(f.io);
}

/* A sync of everything, by which a journal is ended, would answer with the same error once more, for all. */
STOPPED_TEST(other_writers_go_on_for_ever)
{
	fixture_open(&f);
	cr_assert(fixture_stats(&f).writer_count == 2);
	cr_assert(fixture_add_to_many(&f, "s%u", 40, 0) == 0 && fixture_add(&f, "shard_00", 0) == 0);
	uint64_t groups = fixture_writer(&f, 1).journal_groups;
	stop_shard_0();
	uint64_t refused = fixture_add_to_many(&f, "s%u", 40, 1);
	cr_assert(refused > 0 && refused < 40);
	for (uint64_t round = 2; round < 400; round++)
		cr_assert(fixture_add_to_many(&f, "s%u", 40, round) == refused, "%lu", (unsigned long)round);
	cr_assert(fixture_writer(&f, 0).failed_shards == 1 && !fixture_writer(&f, 1).failed);
	cr_assert(fixture_writer(&f, 1).journal_groups == groups && sim_count(f.io, SIM_SYNC_ALL) == 0);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	unsigned whole = 0;
	for (unsigned i = 0; i < 40; i++) {
		char name[16];
		struct error err;
		snprintf(name, sizeof(name), "s%u", i);
		uint64_t end = fixture_info(&f, name).end;
		whole += end == 400;
		for (uint64_t id = 0; id < end; id++)
			cr_assert(fixture_get(&f, name, id, id, 0, 100, &err) == ERR_NONE);
		cr_assert(end == 400 || end == 1, "%s ends at %lu", name, (unsigned long)end);
	}
	cr_assert(whole == 40 - refused);
}

STOPPED_TEST(a_failed_sync_of_the_journal_is_not_called_again)
{
	fixture_open(&f);
	sim_fail_at(f.io, 1, EIO, SIM_BIT(SIM_SYNC));
	cr_assert(add("shard_00", 0, 100).code == ERR_IO); /* it makes the file: by the journal */
	cr_assert(sim_faults_fired(f.io) == 1 && fixture_writer(&f, 0).failed_shards == 1);
	uint64_t syncs = sim_count(f.io, SIM_SYNC);
	for (unsigned i = 0; i < 3; i++) {
		struct answer answer = fixture_sync(&f, NULL);
		cr_assert(answer.code == ERR_IO && answer.error.outcome == OUTCOME_NONE);
	}
	cr_assert(sim_count(f.io, SIM_SYNC) == syncs, "rule 4");
}

/* The system tells of it once: the writer, who counts on the same directory, would hear nothing. */
STOPPED_TEST(a_failed_sync_of_a_directory_after_a_deletion)
{
	f.options.max_segment_size = 1000;
	fixture_open(&f);
	for (uint64_t i = 0; i < 30; i++)
		cr_assert(fixture_add(&f, "shard_00", i) == i);
	for (uint64_t i = 0; i < 3; i++)
		cr_assert(fixture_add(&f, "shard_01", i) == i);
	uint64_t fired = sim_faults_fired(f.io);
	sim_fail_at(f.io, 2, EIO, SIM_BIT(SIM_SYNC_DIR)); /* the first deletion is done */
	(void)fixture_truncate(&f, "shard_00", 25);
	fixture_run(&f);
	cr_assert(sim_faults_fired(f.io) == fired + 1);
	cr_assert(add("shard_00", 30, 100).code == ERR_IO && add("shard_01", 3, 100).code == ERR_NONE);
	cr_assert(fixture_writer(&f, 0).failed_shards == 1 && !fixture_writer(&f, 1).failed);
}

static enum error_code checkpoint(enum op_kind kind, const char *id)
{
	struct checkpoint_op op = {.op.kind = kind, .id = id, .id_len = strlen(id), .keep = 1};
	struct error err;
	if (engine_submit_checkpoint(f.engine, &op, &err) != 0)
		return err.code;
	fixture_run(&f);
	while (engine_take(f.engine))
		;
	enum error_code code = op.op.error ? op.op.error->code : ERR_NONE;
	error_free(op.op.error);
	checkpoint_op_clear(&op);
	return code;
}

/* Names of all streams are in the data directory, and so is that of the checkpoint log: who fails tells the other. */
STOPPED_TEST(the_data_directory_is_everybodys)
{
	for (unsigned first = 0; first < 2; first++) {
		fixture_open(&f);
		(void)fixture_add(&f, "shard_00", 0);
		(void)fixture_add(&f, "shard_01", 0);
		for (unsigned i = 0; i < 3; i++)
			cr_assert(checkpoint(OP_CREATE_CHECKPOINT, i == 0 ? "a" : i == 1 ? "b" : "c") == ERR_NONE);
		if (first == 0) {
			sim_fail_at(f.io, 1, EIO, SIM_BIT(SIM_SYNC_DIR));
			cr_assert(checkpoint(OP_COMPACT_CHECKPOINTS, "") == ERR_IO);
		} else {
			sim_fail_at(f.io, 2, EIO, SIM_BIT(SIM_SYNC_DIR)); /* behind that of the stream's own */
			cr_assert(add("fresh", 0, 100).code == ERR_NONE && add("fresh", 1, 100).code == ERR_IO);
			uint64_t syncs = sim_count(f.io, SIM_SYNC_DIR);
			cr_assert(checkpoint(OP_COMPACT_CHECKPOINTS, "") == ERR_IO);
			cr_assert(sim_count(f.io, SIM_SYNC_DIR) == syncs);
		}
		sim_fail_clear(f.io);
		cr_assert(fixture_writer(&f, 0).failed && fixture_writer(&f, 1).failed, "%u", first);
		cr_assert(add("shard_00", 1, 100).error.outcome == OUTCOME_NONE);
		fixture_power_cut(&f, SIM_LOSE_ALL);
	}
}

/* The file of checkpoints is made with the first. That its directory's sync finds no room is no reason to try again. */
static void make_the_first_checkpoint(int os_errno)
{
	fixture_open(&f);
	cr_assert(fixture_add(&f, "shard_00", 0) == 0 && fixture_add(&f, "shard_01", 0) == 0);
	sim_fail_at(f.io, 1, os_errno, SIM_BIT(SIM_SYNC_DIR));
	cr_assert(checkpoint(OP_CREATE_CHECKPOINT, "a") == ERR_IO && sim_faults_fired(f.io) == 1);
	uint64_t syncs = sim_count(f.io, SIM_SYNC_DIR);
	cr_assert(checkpoint(OP_CREATE_CHECKPOINT, "b") == ERR_IO);
	cr_assert(add("shard_00", 1, 100).error.outcome == OUTCOME_NONE);
	cr_assert(fixture_writer(&f, 0).failed && fixture_writer(&f, 1).failed);
	cr_assert(sim_count(f.io, SIM_SYNC_DIR) == syncs);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	cr_assert(fixture_info(&f, "shard_00").end == 1 && fixture_info(&f, "shard_01").end == 1);
	cr_assert(checkpoint(OP_CREATE_CHECKPOINT, "c") == ERR_NONE);
}

STOPPED_TEST(the_data_directory_fails_with_the_first_checkpoint)
{
	make_the_first_checkpoint(EIO);
}

STOPPED_TEST(the_data_directory_finds_no_room_with_the_first_checkpoint)
{
	make_the_first_checkpoint(ENOSPC);
}

/* It is a writer who was told. */
STOPPED_TEST(no_first_checkpoint_in_a_data_directory_that_has_failed)
{
	fixture_open(&f);
	sim_fail_at(f.io, 2, EIO, SIM_BIT(SIM_SYNC_DIR)); /* behind that of the stream's own */
	cr_assert(add("fresh", 0, 100).code == ERR_NONE && add("fresh", 1, 100).code == ERR_IO);
	uint64_t syncs = sim_count(f.io, SIM_SYNC_DIR);
	cr_assert(checkpoint(OP_CREATE_CHECKPOINT, "a") == ERR_IO && sim_count(f.io, SIM_SYNC_DIR) == syncs);
}

/* Names that a stopped shard refuses take no place among those that there may be. */
STOPPED_TEST(refused_names_are_forgotten)
{
	f.options.max_writers = 1;
	f.options.max_streams = 100;
	fixture_open(&f);
	cr_assert(fixture_add(&f, "shard_00", 0) == 0);
	stop_shard_0();
	unsigned refused = 0, taken = 0;
	for (unsigned i = 0; i < 150 && taken < 50; i++) {
		char name[16];
		snprintf(name, sizeof(name), "n%u", i);
		enum error_code code = add(name, 0, 100).code;
		cr_assert(code == ERR_NONE || code == ERR_IO, "%u: %s", i, error_code_name(code));
		refused += code == ERR_IO;
		taken += code == ERR_NONE;
	}
	for (unsigned i = 0; i < 400; i++) {
		char name[16];
		snprintf(name, sizeof(name), "n%u", i);
		if (add(name, 1, 100).code == ERR_BUSY) {
			cr_assert(fixture_stats(&f).streams >= 100, "%u streams, and it is full",
				(unsigned)fixture_stats(&f).streams);
			break;
		}
	}
	cr_assert(refused > 10 && taken == 50);
}

/* A batch that is not written, as its expected_id does not hold, and no descriptor for the sync that goes with it. */
STOPPED_TEST(a_conflict_without_a_descriptor_stops_nothing)
{
	f.options.sync_mode = SYNC_BATCH_ONLY;
	f.options.shard_count = 1;
	fixture_open(&f);
	cr_assert(fixture_add(&f, "a", 0) == 0 && fixture_add(&f, "a", 1) == 1);
	struct entries entries;
	struct error err;
	entries_init(&entries, 2, 1, 100);
	struct op op = {
		.kind = OP_APPEND, .source = &entries.base, .batch = true, .has_expected = true, .expected_id = 77};
	cr_assert(engine_submit(f.engine, &op, "a", 1, &err) == 0);
	for (unsigned i = 1; i <= 8; i++)
		sim_fail_at(f.io, i, EMFILE, SIM_BIT(SIM_SYNC_DIR));
	fixture_run(&f);
	while (engine_take(f.engine))
		;
	cr_assert(op.error && !fixture_writer(&f, 0).failed, "%s", fixture_writer(&f, 0).failed_reason);
	free(op.error);
	entries_free(&entries);
	sim_fail_clear(f.io);
	cr_assert(fixture_add(&f, "a", 2) == 2);
}
