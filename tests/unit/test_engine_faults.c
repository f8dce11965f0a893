/* Single failures of the disk, and exactly what each may cost. Failures by the thousand: tests/crash/crash_fault.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"

TestSuite(engine_faults, .timeout = 60);

static struct fixture f;

static void set_up(void)
{
	fixture_init(&f);
	fixture_open(&f);
	for (uint64_t i = 0; i < 3; i++)
		fixture_add(&f, "a", i);
}

static void tear_down(void)
{
	fixture_free(&f);
}

#define FAULT_TEST(name) Test(engine_faults, name, .init = set_up, .fini = tear_down)

static void good(const char *name, uint64_t from, uint64_t to)
{
	struct error err;
	for (uint64_t id = from; id < to; id++)
		cr_assert(fixture_get(&f, name, id, id, 0, 100, &err) == ERR_NONE, "entry %lu", (unsigned long)id);
}

static struct answer add(const char *name, uint64_t tag, size_t len)
{
	return fixture_append(&f, name, tag, 1, len, 0, 0);
}

/* ---- no room ---------------------------------------------------------------------------------------------------- */

FAULT_TEST(a_full_disk_costs_only_the_append_that_needs_room)
{
	fixture_add(&f, "b", 0);
	sim_set_capacity(f.io, sim_used_bytes(f.io));
	struct answer answer = add("a", 9, 50000);
	cr_assert(answer.code == ERR_IO && answer.error.os_errno == ENOSPC && answer.error.outcome == OUTCOME_NONE);
	cr_assert(!fixture_writer(&f, 0).failed && fixture_writer(&f, 0).no_space_errors > 0);
	cr_assert(fixture_add(&f, "a", 3) == 3, "a small one still fits in what is reserved");
	cr_assert(fixture_add(&f, "b", 1) == 1);
	answer = add("new", 9, 100);
	cr_assert(answer.code == ERR_IO && answer.error.outcome == OUTCOME_NONE);
	cr_assert(engine_find(f.engine, "new", 3) == NULL);
	sim_set_capacity(f.io, 0);
	cr_assert(add("a", 4, 50000).first == 4, "there is room again");
	fixture_add(&f, "new", 0);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	good("a", 0, 4);
	cr_assert(fixture_info(&f, "a").end == 5 && fixture_info(&f, "b").end == 2 && fixture_info(&f, "new").end == 1);
}

FAULT_TEST(in_a_group_only_the_stream_without_room_fails)
{
	struct entries entries[3];
	struct op ops[3];
	struct error err;
	const char *names[] = {"a", "a", "b"};
	fixture_add(&f, "b", 0);
	sim_set_capacity(f.io, sim_used_bytes(f.io));
	for (unsigned i = 0; i < 3; i++) {
		entries_init(&entries[i], 3, 1, i == 0 ? 40000 : 100);
		ops[i] = (struct op){.kind = OP_APPEND, .source = &entries[i].base};
		cr_assert(engine_submit(f.engine, &ops[i], names[i], 1, &err) == 0);
	}
	fixture_run(&f);
	for (struct op *op = engine_take(f.engine); op; op = op->next)
		;
	/* As if they had come one by one: the large one fails, the small one behind it gets its id. */
	cr_assert(ops[0].error && ops[0].error->outcome == OUTCOME_NONE && ops[0].error->os_errno == ENOSPC);
	cr_assert(!ops[1].error && ops[1].first == 3 && !ops[2].error && ops[2].first == 1);
	free(ops[0].error);
	for (unsigned i = 0; i < 3; i++)
		entries_free(&entries[i]);
	sim_set_capacity(f.io, 0);
	fixture_restart(&f);
	good("a", 0, 4);
}

FAULT_TEST(a_write_cut_short_for_want_of_room_is_taken_back)
{
	struct answer answer;
	for (unsigned round = 0; round < 2; round++) {
		sim_fail_at(f.io, 1, ENOSPC, SIM_BIT(SIM_PWRITE) | SIM_TORN);
		answer = add("a", 9, 3000);
		cr_assert(sim_faults_fired(f.io) == round + 1);
		cr_assert(
			answer.code == ERR_IO && answer.error.outcome == OUTCOME_NONE && !fixture_writer(&f, 0).failed);
		cr_assert(fixture_add(&f, "a", 3 + round) == 3 + round);
	}
	fixture_power_cut(&f, SIM_KEEP_ALL);
	fixture_open(&f);
	cr_assert(fixture_stats(&f).recovery.torn_tails_cut == 0, "a piece was left behind");
	good("a", 0, 5);
	sim_fail_at(f.io, 1, ENOSPC, SIM_BIT(SIM_PWRITE) | SIM_TORN);
	sim_fail_at(f.io, 1, EIO, SIM_BIT(SIM_TRUNCATE));
	answer = add("a", 9, 3000);
	cr_assert(answer.code == ERR_IO && fixture_writer(&f, 0).failed, "it cannot be taken back: the shard stops");
	fixture_restart(&f);
	good("a", 0, 5);
}

FAULT_TEST(a_start_needs_no_room)
{
	fixture_add_to_many(&f, "s%u", 50, 7);
	fixture_add(&f, "a", 3);
	for (unsigned round = 0; round < 3; round++) {
		uint8_t noise[700];
		fixture_bytes(round, 1, noise, sizeof(noise));
		if (round == 2)
			fixture_close(&f);
		else
			fixture_power_cut(&f, round ? SIM_POWER_RANDOM : SIM_KEEP_ALL);
		const char *path = fixture_file(&f, "a", ".wal", 0);
		/* A torn tail is to be cut too. */
		cr_assert(sim_patch_file(f.io, path, 56 + 4 * 224, noise, sizeof(noise)) == 0);
		sim_set_capacity(f.io, sim_used_bytes(f.io));
		fixture_open(&f);
		good("a", 0, 4);
		cr_assert(fixture_info(&f, "s49").end == 1);
		sim_set_capacity(f.io, 0);
	}
}

FAULT_TEST(setting_rot_aside_without_room_refuses_and_says_so)
{
	struct error err;
	fixture_restart(&f);
	fixture_die(&f);
	cr_assert(sim_flip_bit(f.io, fixture_file(&f, "a", ".wal", 0), 56 + 224 + 30, 1) == 0);
	f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
	sim_set_capacity(f.io, sim_used_bytes(f.io));
	cr_assert(fixture_try_open(&f, &err) == ERR_IO && err.os_errno == ENOSPC && strstr(err.message, "free space"));
	sim_set_capacity(f.io, 0);
	fixture_open(&f);
	good("a", 0, 1);
	cr_assert(fixture_add(&f, "a", 3) == 3);
}

/* ---- no descriptor, no directory -------------------------------------------------------------------------------- */

FAULT_TEST(no_descriptor_costs_only_that_append)
{
	sim_set_max_open(f.io, sim_open_count(f.io));
	cr_assert(fixture_add(&f, "new", 0) == 0, "it closes another segment for it");
	cr_assert(fixture_add(&f, "a", 3) == 3);
	sim_set_max_open(f.io, 1); /* lock and journals are more */
	struct answer answer = add("newer", 0, 100);
	cr_assert(answer.code == ERR_IO && answer.error.os_errno == EMFILE && answer.error.outcome == OUTCOME_NONE);
	cr_assert(engine_find(f.engine, "newer", 5) == NULL);
	sim_set_max_open(f.io, 0);
	cr_assert(fixture_add(&f, "newer", 0) == 0 && fixture_add(&f, "a", 4) == 4);
	sim_fail_at(f.io, 1, EACCES, SIM_BIT(SIM_MKDIR));
	answer = add("other", 0, 100);
	cr_assert(answer.code == ERR_IO && answer.error.os_errno == EACCES && answer.error.outcome == OUTCOME_NONE);
	cr_assert(fixture_add(&f, "other", 0) == 0 && !fixture_writer(&f, 0).failed);
}

/* ---- failed writes and syncs ------------------------------------------------------------------------------------ */

/* Two streams of two shards, one of which fails; three appends wait behind the one that meets it. */
static void stop_a_shard(int os_errno, uint32_t kinds, bool others_go_on)
{
	struct entries entries;
	struct op ops[4];
	struct error err;
	fixture_die(&f);
	sim_free(f.io);
	f.io = sim_new(1);
	f.options.shard_count = 2;
	f.options.write_buffer_size = 1; /* every append is a group */
	fixture_open(&f);
	cr_assert(fixture_add(&f, "shard_00", 0) == 0 && fixture_add(&f, "shard_01", 0) == 0);
	entries_init(&entries, 1, 1, 100);
	for (unsigned i = 0; i < 4; i++) {
		ops[i] = (struct op){.kind = OP_APPEND, .source = &entries.base};
		cr_assert(engine_submit(f.engine, &ops[i], "shard_01", 8, &err) == 0);
	}
	sim_fail_at(f.io, 1, os_errno, kinds);
	fixture_run(&f);
	cr_assert(sim_faults_fired(f.io) == 1);
	for (struct op *op = engine_take(f.engine); op; op = op->next)
		;
	for (unsigned i = 0; i < 4; i++) {
		cr_assert(ops[i].error && ops[i].error->code == ERR_IO);
		cr_assert(ops[i].error->outcome == (i == 0 ? OUTCOME_UNKNOWN : OUTCOME_NONE), "op %u", i);
		free(ops[i].error);
	}
	entries_free(&entries);
	cr_assert(fixture_writer(&f, 1).failed && fixture_writer(&f, 1).failed_reason[0] != '\0');
	cr_assert(fixture_info(&f, "shard_01").end == 1 && fixture_info(&f, "shard_01").durable_end == 1);
	good("shard_01", 0, 1);
	cr_assert(fixture_writer(&f, 0).failed == !others_go_on);
	cr_assert(add("shard_00", 1, 100).code == (others_go_on ? ERR_NONE : ERR_IO));
	cr_assert(fixture_sync(&f, "shard_01").code == ERR_IO && fixture_sync(&f, NULL).code == ERR_IO);
	cr_assert(fixture_truncate(&f, "shard_01", 5).code == ERR_IO);
	uint64_t syncs = sim_count(f.io, SIM_SYNC), changes = sim_op_count(f.io);
	cr_assert(add("shard_01", 1, 100).error.outcome == OUTCOME_NONE);
	cr_assert(sim_count(f.io, SIM_SYNC) == syncs && sim_op_count(f.io) == changes,
		"a stopped shard touches the disk");
	cr_assert(engine_close(f.engine, &err) == -1, "a stop that could not make everything durable is no clean one");
	f.engine = NULL;
	cr_assert(sim_file_size(f.io, "ironwald.clean") == -ENOENT);
	/* Rule 10: the page cache shows entry 1, the disk may not have it; a start makes up its mind for good. */
	sim_process_died(f.io);
	fixture_open(&f);
	uint64_t end = fixture_info(&f, "shard_01").end;
	cr_assert(end == 1 || end == 2);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	cr_assert(fixture_info(&f, "shard_01").end == end, "a start accepted what the disk does not have");
	good("shard_01", 0, end);
	cr_assert(add("shard_01", end, 100).first == end);
	f.options.write_buffer_size = 64 << 10;
}

FAULT_TEST(a_failed_sync_stops_the_shard_and_no_other)
{
	stop_a_shard(EIO, SIM_BIT(SIM_SYNC), true);
}

FAULT_TEST(a_failed_write_stops_the_shard_and_no_other)
{
	stop_a_shard(EIO, SIM_BIT(SIM_PWRITE), true);
	stop_a_shard(EIO, SIM_BIT(SIM_PWRITE) | SIM_TORN, true);
}

FAULT_TEST(a_failed_sync_of_the_journal_stops_the_shard)
{
	struct error err;
	sim_fail_at(f.io, 1, EIO, SIM_BIT(SIM_SYNC));
	cr_assert(fixture_add_to_many(&f, "s%u", 30, 1) == 30);
	cr_assert(fixture_writer(&f, 0).failed && sim_faults_fired(f.io) == 1);
	cr_assert(engine_find(f.engine, "s3", 2) == NULL);
	cr_assert(engine_close(f.engine, &err) == -1);
	f.engine = NULL;
	sim_process_died(f.io);
	fixture_open(&f);
	uint64_t streams = fixture_stats(&f).streams;
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	cr_assert(fixture_stats(&f).streams == streams);
	good("a", 0, 3);
}

FAULT_TEST(a_failed_sync_at_start_refuses_to_start)
{
	struct error err;
	f.options.sync_mode = SYNC_ASYNC;
	fixture_restart(&f);
	fixture_add(&f, "a", 3); /* in the page cache alone */
	fixture_die(&f);
	sim_fail_at(f.io, 1, EIO, SIM_BIT(SIM_SYNC_ALL));
	cr_assert(fixture_try_open(&f, &err) == ERR_IO && sim_faults_fired(f.io) == 1);
	sim_process_died(f.io);
	fixture_open(&f); /* the failed sync has dropped what it should have written: it is written again */
	cr_assert(fixture_info(&f, "a").end == 4);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	good("a", 0, 4);
}

FAULT_TEST(a_failed_read_is_an_error_of_that_read)
{
	struct error err;
	for (unsigned mapped = 0; mapped < 2; mapped++) {
		f.options.read_strategy = mapped ? READ_MMAP : READ_STANDARD_IO;
		fixture_restart(&f);
		sim_fail_at(f.io, 1, EIO, SIM_BIT(SIM_PREAD) | SIM_BIT(SIM_MAP_READ));
		cr_assert(fixture_get(&f, "a", 1, 1, 0, 100, &err) == ERR_IO && err.os_errno == EIO);
		good("a", 0, 3);
		cr_assert(!fixture_writer(&f, 0).failed && fixture_add(&f, "a", 3 + mapped) == 3 + mapped);
	}
}

/* The system tells of a failed write-back once, to whoever syncs next: it may have been anybody's bytes. */
FAULT_TEST(a_failed_checkpoint_stops_every_shard)
{
	fixture_die(&f);
	sim_free(f.io);
	f.io = sim_new(1);
	f.options.shard_count = 2;
	fixture_open(&f);
	sim_fail_at(f.io, 1, EIO, SIM_BIT(SIM_SYNC_ALL));
	uint64_t refused = 0;
	for (uint64_t round = 0; round < 60 && refused == 0; round++)
		refused = fixture_add_to_many(&f, "s%u", 200, round);
	cr_assert(sim_faults_fired(f.io) == 1, "the journals were to be full once");
	cr_assert(fixture_writer(&f, 0).failed && fixture_writer(&f, 1).failed);
	uint64_t end = fixture_info(&f, "s7").durable_end;
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	cr_assert(fixture_info(&f, "s7").end >= end);
}
