/*
 * Lives at random, without power cuts and without failing calls: whatever mix of requests, restarts and options, what
 * is read is what was appended. The model and the lives are those of the crash tests (tests/crash/world.h).
 */
#include <criterion/criterion.h>

#include <fcntl.h>
#include <stdio.h>

#include "log.h"
#include "world.h"

TestSuite(engine_model, .timeout = 280);

static struct totals totals;

static void live(uint64_t seed, const struct profile *profile, unsigned steps)
{
	struct world world;
	struct error err;
	struct io *io = sim_new(seed);
	sim_set_cold_reads(io, seed % 3 == 0 ? 300 : 0);
	world_init(&world, io, seed, profile);
	cr_assert(world_open(&world, &err), "%s", err.message);
	for (unsigned step = 0; step < steps; step++)
		cr_assert(world_step(&world));
	world_settle(&world);
	world_compare(&world);
	cr_assert(world_close(&world, &err), "%s", err.message);
	cr_assert(world_open(&world, &err), "%s", err.message);
	world_abandon(&world);
	totals_add(&totals, &world.totals);
	world_free(&world);
	sim_free(io);
}

Test(engine_model, what_is_read_is_what_was_appended)
{
	log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct dice dice = {seed};
		struct profile profile;
		profile_roll(&profile, &dice);
		profile.death_per_mille = 15;
		profile.reopen_per_mille = 15;
		profile.read_per_mille = 150;
		live(seed, &profile, 150);
	}
	cr_assert(totals.entries > 100000 && totals.entries_read > 100000 && totals.conflicts > 100 &&
			  totals.truncates > 100 && totals.deaths > 600 && totals.reopens > 600 &&
			  totals.rotations > 1000,
		"the lives were too quiet");
	cr_assert(totals.lost_entries == 0);
}

/* Entries and batches over many blocks, up to the limit of an entry. */
Test(engine_model, large_entries_and_batches)
{
	log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct dice dice = {seed};
		struct profile profile;
		profile_roll(&profile, &dice);
		profile.stream_count = 2;
		profile.group_max = 3;
		profile.batch_max = 40;
		profile.batch_per_mille = 600;
		profile.big_per_mille = 300;
		profile.big_max = seed % 4 == 0 ? 1000000 : 60000;
		profile.options.max_entry_bytes = profile.big_max;
		profile.options.max_segment_size = seed % 2 ? 5000 : 64 << 20;
		profile.options.read_strategy = seed % 3 ? READ_STANDARD_IO : READ_MMAP;
		profile.death_per_mille = 60;
		profile.reopen_per_mille = 40;
		profile.read_per_mille = 300;
		live(seed, &profile, seed % 4 == 0 ? 15 : 40);
	}
	cr_assert(totals.entries > 5000 && totals.deaths > 40);
}
