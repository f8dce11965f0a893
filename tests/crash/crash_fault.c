/*
 * Failing calls: each of a few short lives again and again, with the first call of a kind failing, the second, and so
 * on to the last; and longer lives with failures, deaths and power cuts at random.
 *
 *   crash_fault [--lives N] [--first SEED] [--nth SEED]
 *
 * IRONWALD_CRASH_LIVES says another number of lives than 200.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "stream.h"
#include "world.h"

/* What may come of it. */
enum harm {
	HARM_ONE,   /* costs requests or a start, no shard stops */
	HARM_SHARD, /* shards may stop */
};

struct fault {
	const char *name;
	int os_errno;
	uint32_t kinds;
	enum harm harm;
};

#define SHARDS_MAX 256u
enum answers { NOT_ASKED, TAKES, REFUSES };

#define WRITES SIM_BIT(SIM_PWRITE)
#define SYNCS (SIM_BIT(SIM_SYNC) | SIM_BIT(SIM_SYNC_DIR) | SIM_BIT(SIM_SYNC_ALL))

static const struct fault faults[] = {
	{"write EIO", EIO, WRITES, HARM_SHARD},
	{"torn write EIO", EIO, WRITES | SIM_TORN, HARM_SHARD},
	{"write ENOSPC", ENOSPC, WRITES, HARM_ONE},
	{"torn write ENOSPC", ENOSPC, WRITES | SIM_TORN, HARM_SHARD},
	{"sync of a file", EIO, SIM_BIT(SIM_SYNC), HARM_SHARD},
	{"sync of a directory", EIO, SIM_BIT(SIM_SYNC_DIR), HARM_SHARD},
	{"sync without room", ENOSPC, SIM_BIT(SIM_SYNC) | SIM_BIT(SIM_SYNC_DIR) | SIM_BIT(SIM_SYNC_ALL), HARM_SHARD},
	{"sync of everything", EIO, SIM_BIT(SIM_SYNC_ALL), HARM_SHARD},
	{"reserve ENOSPC", ENOSPC, SIM_BIT(SIM_ALLOCATE), HARM_ONE},
	{"reserve EDQUOT", EDQUOT, SIM_BIT(SIM_ALLOCATE), HARM_ONE},
	{"open EMFILE", EMFILE, SIM_BIT(SIM_OPEN), HARM_ONE},
	{"open ENOSPC", ENOSPC, SIM_BIT(SIM_OPEN), HARM_SHARD},
	{"mkdir", EACCES, SIM_BIT(SIM_MKDIR), HARM_ONE},
	{"mkdir ENOSPC", ENOSPC, SIM_BIT(SIM_MKDIR), HARM_ONE},
	{"read", EIO, SIM_BIT(SIM_PREAD) | SIM_BIT(SIM_MAP_READ), HARM_ONE},
	{"map", ENOMEM, SIM_BIT(SIM_MAP), HARM_ONE},
	{"truncate", EIO, SIM_BIT(SIM_TRUNCATE), HARM_SHARD},
	{"unlink", EIO, SIM_BIT(SIM_UNLINK) | SIM_BIT(SIM_RMDIR), HARM_ONE},
	{"rename", EIO, SIM_BIT(SIM_RENAME), HARM_ONE},
	{"size, list, exists", EIO, SIM_BIT(SIM_SIZE) | SIM_BIT(SIM_LIST) | SIM_BIT(SIM_EXISTS), HARM_ONE},
	{"random, space, lock", EIO, SIM_BIT(SIM_RANDOM) | SIM_BIT(SIM_SPACE) | SIM_BIT(SIM_LOCK), HARM_ONE},
	{"anything", EIO, SIM_ANY, HARM_SHARD},
};
#define FAULT_COUNT (sizeof(faults) / sizeof(faults[0]))

struct count {
	uint64_t lives, cases, fired, cuts, stopped, beside;
	struct totals totals;
};

static uint64_t stopped_shards(struct world *world)
{
	struct engine_stats stats;
	uint64_t stopped = 0;
	engine_stats(world->engine, &stats);
	for (uint32_t i = 0; i < stats.writer_count; i++) {
		struct writer_stats writer;
		engine_writer_stats(world->engine, i, &writer);
		if (writer.failed != (writer.failed_shards > 0) || writer.failed != (writer.failed_reason[0] != '\0'))
			world_fail(world, "writer %u does not know whether a shard of its has stopped", i);
		stopped += writer.failed_shards;
	}
	return stopped;
}

/* Whether the stream refuses two appends; all streams of a shard are alike. */
static bool refuses(struct world *world, unsigned i, enum answers *of_shard)
{
	uint64_t before = world->totals.refused;
	world_append(world, i, 3, true);
	world_append(world, i, 1, false);
	world_settle(world);
	uint64_t refused = world->totals.refused - before;
	struct stream *stream = world_found(world, &world->streams[i]);
	if (refused == 1)
		world_fail(world, "stream %s: of two appends one was refused", world->streams[i].name);
	if (stream) {
		enum answers answers = refused > 0 ? REFUSES : TAKES;
		if (of_shard[stream->shard] == (answers == TAKES ? REFUSES : TAKES))
			world_fail(world, "stream %s is not like another of shard %u", stream->name, stream->shard);
		of_shard[stream->shard] = answers;
	}
	return refused > 0;
}

/* A shard that stopped refuses, with outcome none; any other works as if nothing had been, though they share a writer.
 */
static void look_after(struct world *world, const struct fault *fault, struct count *count)
{
	world_settle(world);
	uint64_t stopped = stopped_shards(world);
	unsigned refusing = 0, shards = 0;
	enum answers of_shard[SHARDS_MAX] = {NOT_ASKED};
	count->stopped += stopped > 0;
	if (stopped > 0 && fault->harm == HARM_ONE)
		world_fail(world, "a shard stopped, and should not have");
	struct totals before = world->totals;
	for (unsigned i = 0; i < world->stream_count; i++)
		refusing += refuses(world, i, of_shard);
	for (unsigned i = 0; i < SHARDS_MAX; i++)
		shards += of_shard[i] == REFUSES;
	count->beside += refusing > 0 && refusing < world->stream_count && world->profile.options.max_writers == 1;
	if (world->totals.unknown != before.unknown)
		world_fail(world, "a request after the failure has an unknown outcome");
	if ((stopped == 0) != (refusing == 0) || shards > stopped)
		world_fail(world, "%llu shards have stopped, and %u streams of %u refuse", (unsigned long long)stopped,
			refusing, shards);
}

static void reopen(struct world *world)
{
	struct error err;
	if (!world_open(world, &err))
		world_fail(world, "it does not start: %s", err.message);
}

/* Every entry of what the disk is left with after each kind of end. */
static void restart(struct world *world, unsigned how, struct count *count)
{
	struct error err;
	if (how % 4 == 0 && world->engine) {
		(void)world_close(world, &err);
	} else {
		world_abandon(world);
		sim_process_died(world->io);
	}
	if (how % 4 == 1)
		world_power_cut(world, how % 8 == 1 ? SIM_LOSE_ALL : SIM_POWER_RANDOM);
	reopen(world);
	/* What a start accepted is on the disk, whatever a failed sync had left in the page cache (rule 10). */
	world_abandon(world);
	world_power_cut(world, how % 3 == 0 ? SIM_LOSE_ALL : SIM_POWER_RANDOM);
	count->cuts++;
	reopen(world);
	for (unsigned i = 0; i < world->stream_count; i++)
		world_append(world, i, 2, true);
	world_settle(world);
	if (!world_close(world, &err))
		world_fail(world, "it does not stop: %s", err.message);
	reopen(world);
	world_abandon(world);
}

static bool one_case(uint64_t seed, const struct fault *fault, uint64_t nth, struct count *count)
{
	struct dice dice = {seed};
	struct profile profile;
	struct world world;
	struct error err;
	profile_roll(&profile, &dice);
	profile.faults = true;
	profile.death_per_mille = 0;
	profile.reopen_per_mille = 30;
	if (seed % 100 == 51) { /* shards that share a writer */
		profile.options.max_writers = 1;
		profile.options.shard_count = 3;
		if (profile.stream_count < 5)
			profile.stream_count = 5;
	}
	if (profile.stream_count > 12)
		profile.stream_count = 12;
	if (profile.big_per_mille > 40)
		profile.big_per_mille = 40;
	struct io *io = sim_new(seed);
	world_init(&world, io, seed, &profile);
	snprintf(world.where, sizeof(world.where), "%s, the %lluth call", fault->name, (unsigned long long)nth);
	sim_fail_at(io, nth, fault->os_errno, fault->kinds);
	world.armed = true;
	bool open = world_open(&world, &err);
	for (unsigned step = 0; open && step < 25; step++)
		open = world_step(&world);
	bool fired = sim_faults_fired(io) > 0;
	sim_fail_clear(io);
	world.armed = false;
	if (open && fired)
		look_after(&world, fault, count);
	if (!open)
		sim_process_died(io);
	restart(&world, (unsigned)nth, count);
	count->cases++;
	count->fired += fired;
	totals_add(&count->totals, &world.totals);
	world_free(&world);
	sim_free(io);
	return fired;
}

static void fail_each(uint64_t seed, struct count *count)
{
	for (size_t i = 0; i < FAULT_COUNT; i++)
		for (uint64_t nth = 1; one_case(seed, &faults[i], nth, count); nth++)
			;
	count->lives++;
}

static void live(uint64_t seed, struct count *count)
{
	struct dice dice = {seed};
	struct profile profile;
	struct world world;
	struct error err;
	profile_roll(&profile, &dice);
	profile.faults = true;
	struct io *io = sim_new(seed);
	world_init(&world, io, seed, &profile);
	for (unsigned cycle = 0; cycle < 6 && !world.ruined; cycle++) {
		snprintf(world.where, sizeof(world.where), "cycle %u of a life with faults", cycle);
		for (uint64_t n = dice_below(&dice, 3); n > 0; n--) {
			const struct fault *fault = &faults[dice_below(&dice, FAULT_COUNT)];
			sim_fail_at(
				io, 1 + dice_below(&dice, 16u << dice_below(&dice, 6)), fault->os_errno, fault->kinds);
		}
		if (dice_chance(&dice, 200))
			sim_set_capacity(io, sim_used_bytes(io) + dice_below(&dice, 400000));
		if (dice_chance(&dice, 500))
			sim_cut_power_after(io, dice_below(&dice, 400));
		world.armed = true;
		bool open = world_open(&world, &err);
		for (unsigned step = 0; open && step < 60; step++)
			open = world_step(&world);
		sim_set_capacity(io, 0);
		sim_fail_clear(io);
		world.armed = false;
		world_abandon(&world);
		if (world.ruined)
			break;
		if (dice_chance(&dice, 500) && !sim_is_dead(io)) {
			sim_process_died(io);
			sim_cut_power_never(io);
			if (dice_chance(&dice, 600)) { /* rule 10 */
				reopen(&world);
				world_abandon(&world);
				world_power_cut(&world, SIM_POWER_RANDOM);
				count->cuts++;
			}
		} else {
			world_power_cut(&world, SIM_POWER_RANDOM);
			count->cuts++;
		}
		reopen(&world);
		if (!world_close(&world, &err))
			world_fail(&world, "it does not stop: %s", err.message);
	}
	count->fired += sim_faults_fired(io);
	totals_add(&count->totals, &world.totals);
	world_free(&world);
	sim_free(io);
	count->lives++;
}

int main(int argc, char **argv)
{
	const char *env = getenv("IRONWALD_CRASH_LIVES");
	uint64_t lives = env ? strtoull(env, NULL, 10) : 200, first = 1, nth = 0;
	for (int i = 1; i + 1 < argc; i += 2) {
		uint64_t value = strtoull(argv[i + 1], NULL, 10);
		if (strcmp(argv[i], "--lives") == 0)
			lives = value;
		else if (strcmp(argv[i], "--first") == 0)
			first = value;
		else if (strcmp(argv[i], "--nth") == 0)
			nth = value;
	}
	if (!getenv("IRONWALD_CRASH_LOG"))
		log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	struct count count = {0};
	if (nth > 0)
		fail_each(nth, &count);
	for (uint64_t seed = first; nth == 0 && count.lives < lives; seed++) {
		if (seed % 50 == 1)
			fail_each(seed, &count);
		else
			live(seed, &count);
	}
	printf("%llu lives, %llu short ones with one failure each; %llu failures fired, %llu stopped a shard, %llu of "
	       "them beside "
	       "others that went on on the same writer; %llu "
	       "power "
	       "cuts\n",
		(unsigned long long)count.lives, (unsigned long long)count.cases, (unsigned long long)count.fired,
		(unsigned long long)count.stopped, (unsigned long long)count.beside, (unsigned long long)count.cuts);
	totals_print(&count.totals);
	if (lives >= 200 && (count.stopped == 0 || count.beside == 0 || count.totals.unknown == 0 ||
				    count.totals.refused == 0 || count.totals.rewritten == 0)) {
		fprintf(stderr, "something of the above never happened\n");
		return 1;
	}
	return 0;
}
