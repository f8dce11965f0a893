/*
 * Every small life: all sequences of up to three operations, each cut by the power at each of its changing calls, and
 * after it; and each cut with every subset of what was not synced kept or lost, where that are up to 8 things, else
 * with as many subsets picked at random. After each, the start is held against the model, and so is a second one, after
 * another cut that loses all that the first did not make durable.
 *
 *   crash_small [--depth N] [--configuration N]
 *   crash_small --life CONFIGURATION WORKLOAD
 *
 * Without arguments, all lives of one operation in one configuration of each sync mode, and every 911th of the
 * others; IRONWALD_CRASH_SMALL=1 runs all of up to three in every configuration (an hour). A failure prints the numbers
 * for --life. IRONWALD_CRASH_LOG=1 shows what the engine logs.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "world.h"

#define SEED 7
#define DEPTH_MAX 3
#define CHOICES_ALL 8
#define SUBSETS_PICKED (1u << CHOICES_ALL)

enum operation {
	ONE,	  /* an append to the first stream */
	OTHER,	  /* one to the second */
	BOTH,	  /* one to each of three, in one group: through the journal */
	BATCH,	  /* of three entries */
	LARGE,	  /* a batch over many sectors */
	TRUNCATE, /* all that can go */
	SYNC,
	CHECKPOINT,
	COMPACT,
	PRUNE,
	RESTART,
	DEATH,
	OPERATIONS,
};

static const char *const names[OPERATIONS] = {"one", "other", "both", "batch", "large", "truncate", "sync",
	"checkpoint", "compact", "prune", "restart", "death"};

struct configuration {
	enum sync_mode mode;
	uint64_t segment_bytes;
	bool together; /* all is handed in before anything is done */
};

static const struct configuration configurations[] = {
	{SYNC_STRICT, 64 << 20, false},
	{SYNC_BATCH_ONLY, 64 << 20, false},
	{SYNC_ASYNC, 64 << 20, false},
	{SYNC_STRICT, 300, false},
	{SYNC_BATCH_ONLY, 300, false},
	{SYNC_ASYNC, 300, false},
	{SYNC_STRICT, 64 << 20, true},
	{SYNC_ASYNC, 300, true},
};
#define CONFIGURATIONS (sizeof(configurations) / sizeof(configurations[0]))

struct life {
	const struct configuration *configuration;
	unsigned config_number, workload;
	enum operation operations[DEPTH_MAX];
	unsigned depth;
};

struct count {
	uint64_t lives, cuts, subsets, picked;
	struct totals totals;
};

/* Numbers count all of depth 0, then 1, then 2 and so on. */
static unsigned lives_of(unsigned depth)
{
	unsigned count = 1, all = 1;
	for (unsigned i = 0; i < depth; i++)
		all += count *= OPERATIONS;
	return all;
}

static struct life life_of(unsigned config_number, unsigned workload)
{
	struct life life = {&configurations[config_number], config_number, workload, {0}, 0};
	while (workload >= lives_of(life.depth))
		life.depth++;
	unsigned number = life.depth > 0 ? workload - lives_of(life.depth - 1) : 0;
	for (unsigned i = life.depth; i-- > 0; number /= OPERATIONS)
		life.operations[i] = (enum operation)(number % OPERATIONS);
	return life;
}

static void describe(struct world *world, const struct life *life, uint64_t cut_at, uint64_t bits)
{
	char text[64] = "";
	for (unsigned i = 0; i < life->depth; i++) {
		strcat(text, i > 0 ? " " : "");
		strcat(text, names[life->operations[i]]);
	}
	snprintf(world->where, sizeof(world->where), "--life %u %u, \"%s\", cut at %llu, choices %llx",
		life->config_number, life->workload, text, (unsigned long long)cut_at, (unsigned long long)bits);
}

static void profile_of(struct profile *profile, const struct configuration *configuration)
{
	*profile = (struct profile){
		.stream_count = 3,
		.entry_max = 40,
		.sharded = true,
		.id_max = 10,
	};
	engine_options_default(&profile->options);
	profile->options.sync_mode = configuration->mode;
	profile->options.max_segment_size = configuration->segment_bytes;
	profile->options.shard_count = 2; /* the third stream is an ordinary one */
	profile->options.async_sync_interval_ns = 0;
	profile->options.max_entry_bytes = 1 << 20;
	profile->options.on_corruption = ON_CORRUPTION_ERROR;
}

/* False: the disk is dead, or the start after a restart was cut off. */
static bool operate(struct world *world, enum operation operation)
{
	struct error err;
	switch (operation) {
	case ONE:
		world_append(world, 0, 1, false);
		break;
	case OTHER:
		world_append(world, 2, 1, false);
		break;
	case BOTH:
		for (unsigned i = 0; i < 3; i++)
			world_append(world, i, 1, false);
		break;
	case BATCH:
		world_append(world, 0, 3, true);
		break;
	case LARGE:
		world_append(world, 0, 60, true);
		break;
	case TRUNCATE:
		if (world_found(world, &world->streams[0]))
			world_truncate(world, 0, UINT64_MAX);
		break;
	case SYNC:
		world_hand_in_sync_all(world);
		break;
	case CHECKPOINT:
		world_create_checkpoint(world, world->last_checkpoint + 1);
		break;
	case COMPACT:
		world_compact_checkpoints(world, 1);
		break;
	case PRUNE:
		world_prune(world, world->last_checkpoint > 0 ? world->last_checkpoint : 1);
		break;
	case RESTART:
		world_settle(world);
		if (sim_is_dead(world->io) || !world_close(world, &err) || sim_is_dead(world->io))
			return false;
		return world_open(world, &err);
	case DEATH:
		if (sim_is_dead(world->io))
			return false;
		world_abandon(world);
		sim_process_died(world->io);
		return world_open(world, &err);
	case OPERATIONS:
		break;
	}
	return !sim_is_dead(world->io);
}

/* Lives it until the power goes at changing call cut_at, or to its end. True: to its end. */
static bool live(struct world *world, const struct life *life, uint64_t cut_at)
{
	struct error err;
	sim_cut_power_after(world->io, cut_at);
	bool alive = world_open(world, &err) && !sim_is_dead(world->io);
	for (unsigned i = 0; alive && i < life->depth; i++) {
		alive = operate(world, life->operations[i]);
		if (alive && !life->configuration->together)
			world_settle(world);
		alive = alive && !sim_is_dead(world->io);
	}
	if (alive && world->engine)
		world_settle(world);
	return !sim_is_dead(world->io);
}

/* A world of the life's kind, on an empty disk of its own. */
static void begin(struct world *world, const struct life *life)
{
	struct profile profile;
	profile_of(&profile, life->configuration);
	world_init(world, sim_new(SEED), SEED, &profile);
}

static void end(struct world *world)
{
	struct io *io = world->io;
	world_free(world);
	sim_free(io);
}

/* One life, one cut, one subset. Returns how many things there were to choose. */
static unsigned cut_once(
	const struct life *life, uint64_t cut_at, uint64_t bits, bool *ret_to_its_end, struct count *count)
{
	struct world world;
	struct error err;
	begin(&world, life);
	describe(&world, life, cut_at, bits);
	*ret_to_its_end = live(&world, life, cut_at);
	world_abandon(&world);
	sim_set_choices(world.io, bits);
	world_power_cut(&world, SIM_CHOSEN);
	unsigned choices = sim_choices(world.io);
	for (unsigned again = 0; again < 2; again++) {
		if (!world_open(&world, &err))
			world_fail(&world, "it does not start: %s", err.message);
		world_abandon(&world);
		world_power_cut(&world, SIM_LOSE_ALL);
	}
	totals_add(&count->totals, &world.totals);
	count->subsets++;
	end(&world);
	return choices;
}

static void cut_everywhere(const struct life *life, struct count *count)
{
	struct dice dice = {life->workload};
	/* What a start in an empty directory does is cut once, for the life of no operations. */
	uint64_t from = 0;
	bool to_its_end = false;
	if (life->depth > 0) {
		struct world world;
		struct error err;
		begin(&world, life);
		if (!world_open(&world, &err))
			world_fail(&world, "it does not start: %s", err.message);
		from = sim_op_count(world.io);
		world_abandon(&world);
		end(&world);
	}
	for (uint64_t at = from; !to_its_end; at++) {
		unsigned choices = cut_once(life, at, 0, &to_its_end, count);
		bool all = choices <= CHOICES_ALL;
		uint64_t subsets = all ? UINT64_C(1) << choices : SUBSETS_PICKED;
		bool ignored;
		for (uint64_t i = 1; i < subsets; i++)
			(void)cut_once(life, at, all ? i : dice_next(&dice), &ignored, count);
		count->picked += !all;
		count->cuts++;
	}
	count->lives++;
}

int main(int argc, char **argv)
{
	bool everything = getenv("IRONWALD_CRASH_SMALL") != NULL;
	unsigned depth = DEPTH_MAX;
	struct count count = {0};
	if (!getenv("IRONWALD_CRASH_LOG"))
		log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	if (argc == 4 && strcmp(argv[1], "--life") == 0) {
		unsigned config_number = (unsigned)atoi(argv[2]);
		if (config_number >= CONFIGURATIONS)
			return 2;
		struct life life = life_of(config_number, (unsigned)atoi(argv[3]));
		cut_everywhere(&life, &count);
		return 0;
	}
	unsigned from = 0, to = CONFIGURATIONS;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--depth") == 0)
			depth = (unsigned)atoi(argv[i + 1]);
		else if (strcmp(argv[i], "--configuration") == 0)
			to = (from = (unsigned)atoi(argv[i + 1])) + 1;
	}
	for (unsigned config_number = from; config_number < to && config_number < CONFIGURATIONS; config_number++) {
		for (unsigned workload = 0; workload < lives_of(depth); workload++) {
			bool usual = config_number < 3 && workload < lives_of(1);
			if (!everything && !usual && (workload + 7 * config_number) % 911 != 0)
				continue;
			struct life life = life_of(config_number, workload);
			cut_everywhere(&life, &count);
		}
	}
	printf("%llu lives, cut at %llu calls, %llu subsets of what was not synced (for %llu calls picked at random)\n",
		(unsigned long long)count.lives, (unsigned long long)count.cuts, (unsigned long long)count.subsets,
		(unsigned long long)count.picked);
	totals_print(&count.totals);
	return 0;
}
