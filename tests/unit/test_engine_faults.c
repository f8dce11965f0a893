/* Single failures of the disk, and exactly what each may cost. Failures by the thousand: tests/crash/crash_fault.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"
#include "stream.h"

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
static void stop_one_of_two(uint32_t writers, int os_errno, uint32_t kinds)
{
	uint32_t its_writer = writers - 1;
	struct entries entries;
	struct op ops[4];
	struct error err;
	fixture_die(&f);
	sim_free(f.io);
	f.io = sim_new(1);
	f.options.shard_count = 2;
	f.options.max_writers = writers;
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
	struct writer_stats stats = fixture_writer(&f, its_writer);
	cr_assert(stats.failed && stats.failed_shards == 1 && strstr(stats.failed_reason, "shard_01"), "%s",
		stats.failed_reason);
	cr_assert(fixture_info(&f, "shard_01").end == 1 && fixture_info(&f, "shard_01").durable_end == 1);
	good("shard_01", 0, 1);
	cr_assert(writers == 1 || !fixture_writer(&f, 0).failed);
	cr_assert(add("shard_00", 1, 100).code == ERR_NONE && fixture_truncate(&f, "shard_00", 1).code == ERR_NONE);
	cr_assert(fixture_sync(&f, "shard_00").code == ERR_NONE);
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
	good("shard_00", 0, 2);
	f.options.write_buffer_size = 64 << 10;
}

FAULT_TEST(a_failed_sync_stops_the_shard_and_no_other)
{
	stop_one_of_two(1, EIO, SIM_BIT(SIM_SYNC));
	stop_one_of_two(2, EIO, SIM_BIT(SIM_SYNC));
}

FAULT_TEST(a_failed_write_stops_the_shard_and_no_other)
{
	for (uint32_t writers = 1; writers <= 2; writers++) {
		stop_one_of_two(writers, EIO, SIM_BIT(SIM_PWRITE));
		stop_one_of_two(writers, EIO, SIM_BIT(SIM_PWRITE) | SIM_TORN);
	}
}

static void open_shards_of_one_writer(uint32_t shards)
{
	fixture_die(&f);
	sim_free(f.io);
	f.io = sim_new(1);
	f.options.shard_count = shards;
	f.options.max_writers = 1;
	fixture_open(&f);
}

/* In one group: what the failed shard was to write is unknown, what the other one wrote is there. */
FAULT_TEST(of_a_group_of_two_shards_one_fails)
{
	static const size_t sizes[] = {100, 1100 << 10}; /* too much for the journal */
	f.options.write_buffer_size = 4 << 20;
	for (uint64_t failing = 1; failing <= 2; failing++) {
		struct entries entries[2];
		struct op ops[2];
		struct error err;
		open_shards_of_one_writer(2);
		cr_assert(fixture_add(&f, "shard_00", 0) == 0 && fixture_add(&f, "shard_01", 0) == 0);
		for (unsigned i = 0; i < 2; i++) {
			entries_init(&entries[i], 1, 1, sizes[i]);
			ops[i] = (struct op){.kind = OP_APPEND, .source = &entries[i].base};
			cr_assert(engine_submit(f.engine, &ops[i], i == 0 ? "shard_00" : "shard_01", 8, &err) == 0);
		}
		uint64_t groups = fixture_writer(&f, 0).groups;
		sim_fail_at(f.io, failing, EIO, SIM_BIT(SIM_SYNC));
		fixture_run(&f);
		cr_assert(sim_faults_fired(f.io) == 1 && fixture_writer(&f, 0).groups == groups + 1);
		while (engine_take(f.engine))
			;
		for (unsigned i = 0; i < 2; i++) {
			bool failed = i + 1 == failing;
			const char *name = i == 0 ? "shard_00" : "shard_01";
			cr_assert((ops[i].error != NULL) == failed, "op %u", i);
			cr_assert(!failed || ops[i].error->outcome == OUTCOME_UNKNOWN);
			cr_assert(ops[i].error || (ops[i].durable && ops[i].first == 1));
			cr_assert(fixture_info(&f, name).end == (failed ? 1u : 2u));
			cr_assert(add(name, 2, 100).code == (failed ? ERR_IO : ERR_NONE));
			good(name, 0, 1);
			cr_assert(failed || fixture_get(&f, name, 1, 1, 0, sizes[i], &err) == ERR_NONE);
			free(ops[i].error);
			entries_free(&entries[i]);
		}
		fixture_power_cut(&f, SIM_LOSE_ALL);
		fixture_open(&f);
		const char *name = failing == 1 ? "shard_01" : "shard_00";
		cr_assert(fixture_get(&f, name, 1, 1, 0, sizes[failing == 1], &err) == ERR_NONE);
		cr_assert(fixture_get(&f, name, 2, 2, 0, 100, &err) == ERR_NONE);
	}
}

/* The journal has what the shard acknowledged, its file may have lost it: others go on, but never at its cost. */
FAULT_TEST(the_journal_of_a_failed_shard_is_kept)
{
	struct error err;
	open_shards_of_one_writer(3);
	cr_assert(fixture_add_to_many(&f, "s%u", 60, 0) == 0); /* in the journal; in the files not yet, or not synced */
	uint64_t groups = fixture_writer(&f, 0).journal_groups;
	cr_assert(groups > 0);
	sim_fail_at(f.io, 1, EIO, SIM_BIT(SIM_SYNC));
	cr_assert(add("s7", 1, 100).error.outcome == OUTCOME_UNKNOWN && sim_faults_fired(f.io) == 1);
	sim_fail_clear(f.io);
	uint64_t refused = 0, rounds = 0, bytes = 0;
	for (; bytes < 6u << 20; rounds++, bytes += 60u * 9000)
		for (unsigned i = 0; i < 60; i++) {
			char name[16];
			snprintf(name, sizeof(name), "s%u", i);
			refused += add(name, 1 + rounds, 9000).code == ERR_IO;
		}
	cr_assert(refused >= 10 * rounds && refused <= 30 * rounds, "%u of 60 streams refuse",
		(unsigned)(refused / rounds));
	cr_assert(fixture_writer(&f, 0).failed_shards == 1 && fixture_writer(&f, 0).journal_groups == groups);
	cr_assert(fixture_add_to_many(&f, "s%u", 60, 1 + rounds) == refused / rounds, "a group of many");
	cr_assert(fixture_writer(&f, 0).journal_groups == groups, "a group went by a journal that is to be kept");
	sim_advance(f.io, 5000000000);
	fixture_run(&f);
	cr_assert(sim_count(f.io, SIM_SYNC_ALL) == 0, "a checkpoint of the journal");
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	for (unsigned i = 0; i < 60; i++) {
		char name[16];
		snprintf(name, sizeof(name), "s%u", i);
		uint64_t end = fixture_info(&f, name).end;
		cr_assert(end == 1 || end == 2 + rounds || i == 7, "%s ends at %u", name, (unsigned)end);
		good(name, 0, 1);
		for (uint64_t id = 1; id < end - 1 && i != 7; id++)
			cr_assert(
				fixture_get(&f, name, id, id, 0, 9000, &err) == ERR_NONE, "%s, %u", name, (unsigned)id);
	}
}

/* Nor is a sync called again in the hope that it works this time, by the interval as little as for anybody. */
FAULT_TEST(the_interval_syncs_what_has_not_failed)
{
	f.options.sync_mode = SYNC_ASYNC;
	f.options.async_sync_interval_ns = 1000000000;
	for (unsigned failing = 1; failing <= 2; failing++) {
		open_shards_of_one_writer(2);
		cr_assert(fixture_add(&f, "shard_00", 0) == 0 && fixture_add(&f, "shard_01", 0) == 0);
		cr_assert(fixture_sync(&f, NULL).code == ERR_NONE);
		cr_assert(fixture_add(&f, "shard_00", 1) == 1 && fixture_add(&f, "shard_01", 1) == 1);
		uint64_t syncs = sim_count(f.io, SIM_SYNC);
		sim_fail_at(f.io, failing, EIO, SIM_BIT(SIM_SYNC));
		sim_advance(f.io, 2000000000);
		fixture_run(&f);
		cr_assert(sim_faults_fired(f.io) == 1 && sim_count(f.io, SIM_SYNC) == syncs + 2);
		cr_assert(fixture_writer(&f, 0).failed_shards == 1);
		bool first = fixture_info(&f, "shard_00").durable_end == 2;
		cr_assert(fixture_info(&f, "shard_01").durable_end == (first ? 1 : 2));
		const char *good_one = first ? "shard_00" : "shard_01", *bad_one = first ? "shard_01" : "shard_00";
		cr_assert(add(bad_one, 2, 100).code == ERR_IO && add(good_one, 2, 100).code == ERR_NONE);
		sim_advance(f.io, 2000000000);
		fixture_run(&f);
		cr_assert(fixture_info(&f, good_one).durable_end == 3);
		cr_assert(sim_count(f.io, SIM_SYNC) == syncs + 3, "%lu",
			(unsigned long)(sim_count(f.io, SIM_SYNC) - syncs));
		cr_assert(fixture_sync(&f, NULL).code == ERR_IO, "not everything is durable");
		good(bad_one, 0, 2);
	}
}

/* What a failed shard held open is let go: the others have as many descriptors as before. */
FAULT_TEST(a_failed_shard_keeps_no_descriptors)
{
	f.options.sync_mode = SYNC_ASYNC;
	f.options.async_sync_interval_ns = 0;
	f.options.max_open_segments = 1; /* raised to the least, of which half may wait for a sync */
	open_shards_of_one_writer(2);
	cr_assert(fixture_add_to_many(&f, "s%u", 40, 0) == 0);
	cr_assert(fixture_sync(&f, NULL).code == ERR_NONE);
	unsigned stopped = fixture_stream(&f, "s0")->shard;
	char name[16], others[2][16];
	for (unsigned i = 0, found = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		if (fixture_stream(&f, name)->shard == stopped)
			cr_assert(add(name, 1, 100).code == ERR_NONE);
		else if (found < 2)
			memcpy(others[found++], name, sizeof(name));
	}
	sim_fail_at(f.io, 1, EIO, SIM_BIT(SIM_SYNC));
	cr_assert(fixture_sync(&f, "s0").code == ERR_IO);
	cr_assert(fixture_writer(&f, 0).failed_shards == 1);
	uint64_t syncs = sim_count(f.io, SIM_SYNC);
	for (unsigned i = 0; i < 20; i++) /* two streams that go on, in turn */
		cr_assert(add(others[i % 2], 1, 100).code == ERR_NONE);
	cr_assert(sim_count(f.io, SIM_SYNC) <= syncs + 2, "%lu syncs",
		(unsigned long)(sim_count(f.io, SIM_SYNC) - syncs));
}

/* All names are in the data directory: who cannot be sure of one cannot be sure of any. */
FAULT_TEST(a_failed_sync_of_a_directory_stops_whose_names_are_in_it)
{
	for (unsigned nth = 1; nth <= 2; nth++) { /* the stream's, then the data directory */
		open_shards_of_one_writer(2);
		f.options.max_writers = 2;
		fixture_restart(&f);
		cr_assert(fixture_add(&f, "shard_01", 0) == 0); /* by the journal, and its name too */
		sim_fail_at(f.io, nth, EIO, SIM_BIT(SIM_SYNC_DIR));
		cr_assert(add("shard_01", 1, 100).code == ERR_IO && sim_faults_fired(f.io) == 1);
		cr_assert(fixture_writer(&f, 1).failed && fixture_writer(&f, 0).failed == (nth == 2));
		struct answer answer = add("shard_00", 0, 100);
		cr_assert(nth == 1 ? answer.code == ERR_NONE : answer.error.outcome == OUTCOME_NONE);
	}
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
