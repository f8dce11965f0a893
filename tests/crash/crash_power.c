/*
 * Power cuts at random moments of random lives, and at every moment of a few short ones.
 *
 *   crash_power [--cuts N] [--first SEED] [--every SEED]
 *
 * Without arguments, a few thousand cuts (IRONWALD_CRASH_CUTS says another number). A life that fails is repeated by
 * --first SEED --cuts 1. IRONWALD_CRASH_LOG=1 shows what the engine logs.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "world.h"

struct count {
	uint64_t cuts, in_recovery, lives;
	struct totals totals;
};

static enum sim_power_mode roll_mode(struct dice *dice)
{
	uint64_t chance = dice_below(dice, 10);
	return chance == 0 ? SIM_LOSE_ALL : chance == 1 ? SIM_KEEP_ALL : SIM_POWER_RANDOM;
}

/* Starts; every now and then the power goes again meanwhile. */
static void start(struct world *world, struct dice *dice, struct count *count)
{
	struct error err;
	for (unsigned again = 0; again < 3 && dice_chance(dice, 400); again++) {
		sim_cut_power_after(world->io, dice_below(dice, 20));
		if (world_open(world, &err)) {
			world_abandon(world);
			if (!sim_is_dead(world->io) && dice_chance(dice, 300)) {
				sim_cut_power_never(world->io);
				sim_process_died(world->io);
				continue;
			}
		}
		count->in_recovery += sim_is_dead(world->io);
		count->cuts++;
		world_power_cut(world, roll_mode(dice));
	}
	sim_cut_power_never(world->io);
	if (!world_open(world, &err))
		world_fail(world, "it does not start: %s", err.message);
}

static void live(uint64_t seed, struct count *count)
{
	struct dice dice = {seed};
	struct profile profile;
	struct world world;
	profile_roll(&profile, &dice);
	struct io *io = sim_new(seed);
	sim_set_no_allocate(io, dice_chance(&dice, 100));
	world_init(&world, io, seed, &profile);
	unsigned cycles = 2 + (unsigned)dice_below(&dice, 7);
	for (unsigned cycle = 0; cycle < cycles; cycle++) {
		snprintf(world.where, sizeof(world.where), "start of cycle %u", cycle);
		start(&world, &dice, count);
		uint64_t cut_after = dice_below(&dice, 8u << dice_below(&dice, 7));
		snprintf(world.where, sizeof(world.where), "cycle %u, cut after %llu", cycle,
			(unsigned long long)cut_after);
		sim_cut_power_after(io, cut_after);
		for (unsigned step = 0; step < 120 && world_step(&world); step++)
			;
		world_abandon(&world);
		count->cuts++;
		world_power_cut(&world, roll_mode(&dice));
	}
	snprintf(world.where, sizeof(world.where), "the last start");
	start(&world, &dice, count);
	struct error err;
	if (!world_close(&world, &err))
		world_fail(&world, "it does not stop: %s", err.message);
	totals_add(&count->totals, &world.totals);
	world_free(&world);
	sim_free(io);
	count->lives++;
}

/* The same short life again and again, cut at each of its changing calls in turn. */
static void cut_everywhere(uint64_t seed, struct count *count)
{
	for (uint64_t at = 0;; at++) {
		struct dice dice = {seed};
		struct profile profile;
		struct world world;
		struct error err;
		profile_roll(&profile, &dice);
		if (profile.stream_count > 5)
			profile.stream_count = 5;
		struct io *io = sim_new(seed);
		world_init(&world, io, seed, &profile);
		snprintf(world.where, sizeof(world.where), "cut at every call, now %llu", (unsigned long long)at);
		sim_cut_power_after(io, at);
		if (world_open(&world, &err))
			for (unsigned step = 0; step < 25 && world_step(&world); step++)
				;
		bool done = !sim_is_dead(io);
		world_abandon(&world);
		for (unsigned i = 0; i < 3; i++) {
			world_power_cut(&world, roll_mode(&dice));
			count->cuts++;
			if (i < 2) { /* and again a little into the start */
				sim_cut_power_after(io, at % 13 + i);
				if (world_open(&world, &err))
					world_abandon(&world);
				count->in_recovery += sim_is_dead(io);
			}
		}
		if (!world_open(&world, &err))
			world_fail(&world, "it does not start: %s", err.message);
		world_append(&world, 0, 2, true);
		world_settle(&world);
		world_abandon(&world);
		totals_add(&count->totals, &world.totals);
		world_free(&world);
		sim_free(io);
		if (done)
			break;
	}
	count->lives++;
}

/* A campaign in which something never happened would prove nothing about it. */
static int complain(const struct count *count, uint64_t cuts)
{
	const struct totals *totals = &count->totals;
	if (cuts < 2000)
		return 0;
	if (totals->lost_entries == 0 || totals->found_entries == 0 || totals->truncates == 0 ||
		totals->rotations == 0 || totals->journal_groups == 0 || totals->journal_records == 0 ||
		totals->torn_tails_cut == 0 || totals->files_set_aside == 0 || totals->rewritten == 0 ||
		totals->clean_opens == 0 || totals->conflicts == 0 || count->in_recovery == 0) {
		fprintf(stderr, "something of the above never happened\n");
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *env = getenv("IRONWALD_CRASH_CUTS");
	uint64_t cuts = env ? strtoull(env, NULL, 10) : 6000, first = 1, every = 0;
	bool only_every = false;
	for (int i = 1; i + 1 < argc; i += 2) {
		uint64_t value = strtoull(argv[i + 1], NULL, 10);
		if (strcmp(argv[i], "--cuts") == 0)
			cuts = value;
		else if (strcmp(argv[i], "--first") == 0)
			first = value;
		else if (strcmp(argv[i], "--every") == 0)
			every = value, only_every = true;
	}
	if (!getenv("IRONWALD_CRASH_LOG"))
		log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	struct count count = {0};
	if (only_every)
		cut_everywhere(every, &count);
	uint64_t seed = first;
	for (; !only_every && count.cuts < cuts; seed++) {
		if (seed % 50 == 7)
			cut_everywhere(seed, &count);
		else
			live(seed, &count);
	}
	printf("%llu power cuts, %llu of them during a start, in %llu lives (seeds %llu to %llu)\n",
		(unsigned long long)count.cuts, (unsigned long long)count.in_recovery, (unsigned long long)count.lives,
		(unsigned long long)first, (unsigned long long)(seed - 1));
	totals_print(&count.totals);
	return only_every ? 0 : complain(&count, cuts);
}
