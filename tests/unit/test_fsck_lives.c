/* Random lives on the simulated disk, verified after every death, power cut and clean stop: verify finds no damage
 * where none was done, tells of a torn tail just where the start that follows cuts one, and changes nothing. */
#include <fcntl.h>

#include "log.h"
#include "test_fsck_common.h"
#include "world.h"

TestSuite(fsck_lives, .timeout = 280);

struct tally {
	unsigned verified, clean, torn;
	uint64_t torn_starts;
};

static enum fsck_status look(struct world *world, struct tally *tally)
{
	struct seen seen;
	struct error err;
	/* The very first start may have been cut off before there was a directory. */
	if (sim_file_size(world->io, "ironwald.manifest") < 0)
		return STATUS_CLEAN;
	enum fsck_status status = verify_disk(world->io, &seen, &err);
	if (status != STATUS_CLEAN && status != STATUS_TORN) {
		seen_print(&seen);
		world_fail(world, "verify: %d: %s", (int)status, status == STATUS_FAILED ? err.message : "damage");
	}
	tally->verified++;
	tally->clean += status == STATUS_CLEAN;
	tally->torn += status == STATUS_TORN;
	return status;
}

/* A start, and whether it agrees with what verify said. */
static void start(struct world *world, struct tally *tally)
{
	struct error err;
	enum fsck_status status = look(world, tally);
	if (!world_open(world, &err))
		world_fail(world, "it does not start: %s", err.message);
	struct engine_stats stats;
	engine_stats(world->engine, &stats);
	uint64_t cut = stats.recovery.torn_tails_cut + stats.recovery.files_set_aside;
	tally->torn_starts += cut > 0;
	if (status == STATUS_CLEAN && (cut > 0 || stats.recovery.rot_found > 0))
		world_fail(world, "verify said that it is clean, and the start cut %llu", (unsigned long long)cut);
}

static void live(uint64_t seed, struct tally *tally)
{
	struct dice dice = {seed};
	struct profile profile;
	struct world world;
	struct error err;
	profile_roll(&profile, &dice);
	struct io *io = sim_new(seed);
	world_init(&world, io, seed, &profile);
	for (unsigned cycle = 0; cycle < 5; cycle++) {
		snprintf(world.where, sizeof(world.where), "cycle %u", cycle);
		start(&world, tally);
		if (dice_chance(&dice, 700))
			sim_cut_power_after(io, dice_below(&dice, 8u << dice_below(&dice, 7)));
		for (unsigned step = 0; step < 100 && world_step(&world); step++)
			;
		if (!sim_is_dead(io) && world.engine && dice_chance(&dice, 300)) {
			sim_cut_power_never(io);
			if (!world_close(&world, &err))
				world_fail(&world, "it does not stop: %s", err.message);
			look(&world, tally);
			continue;
		}
		bool power = sim_is_dead(io) || dice_chance(&dice, 500);
		world_abandon(&world);
		if (power)
			world_power_cut(&world, dice_chance(&dice, 200) ? SIM_LOSE_ALL : SIM_POWER_RANDOM);
		else
			sim_process_died(io);
		sim_cut_power_never(io);
	}
	start(&world, tally);
	if (!world_close(&world, &err))
		world_fail(&world, "it does not stop: %s", err.message);
	look(&world, tally);
	world_free(&world);
	sim_free(io);
}

Test(fsck_lives, nothing_is_found_where_nothing_is_wrong)
{
	const char *lives = getenv("IRONWALD_FSCK_LIVES"), *begin = getenv("IRONWALD_FSCK_FIRST");
	uint64_t first = begin ? strtoull(begin, NULL, 10) : 1;
	uint64_t last = first + (lives ? strtoull(lives, NULL, 10) : 60) - 1;
	struct tally tally = {0};
	log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	for (uint64_t seed = first; seed <= last; seed++)
		live(seed, &tally);
	fprintf(stderr, "%u verified: %u clean, %u torn; %lu starts cut something\n", tally.verified, tally.clean,
		tally.torn, (unsigned long)tally.torn_starts);
	cr_assert(last - first < 59 || (tally.clean > 100 && tally.torn > 10 && tally.torn_starts > 10),
		"too little happened");
}
