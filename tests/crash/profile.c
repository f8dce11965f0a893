/* Lives at random. */
#include <stdio.h>

#include "world.h"

uint64_t dice_next(struct dice *dice)
{
	uint64_t z = dice->state += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t dice_below(struct dice *dice, uint64_t limit)
{
	return dice_next(dice) % limit;
}

bool dice_chance(struct dice *dice, unsigned per_mille)
{
	return dice_below(dice, 1000) < per_mille;
}

#define PICK(dice, ...)                                                                                                \
	((const uint64_t[]){__VA_ARGS__}[dice_below(dice, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))])

static void roll_options(struct engine_options *options, struct dice *dice)
{
	engine_options_default(options);
	options->sync_mode = (enum sync_mode)dice_below(dice, 3);
	options->max_segment_size = PICK(dice, 1, 300, 700, 3000, 20000, 200000, 64 << 20);
	options->max_entries_per_segment = PICK(dice, 0, 0, 0, 1, 3, 17);
	options->max_open_segments = (uint32_t)PICK(dice, 1, 16, 128, 200);
	options->write_buffer_size = PICK(dice, 1, 300, 4000, 64 << 10, 64 << 10, 1 << 20);
	options->read_buffer_size = PICK(dice, 1, 8192, 128 << 10);
	options->block_cache_size = PICK(dice, 0, 0, 40000, 1 << 20);
	options->compression = (enum compression)dice_below(dice, 2);
	options->min_compression_size = PICK(dice, 1, 200, 1024);
	options->read_strategy = (enum read_strategy)dice_below(dice, 2);
	options->on_corruption = (enum corruption_policy)dice_below(dice, 2);
	options->shard_count = (uint32_t)PICK(dice, 1, 1, 2, 3);
	options->async_sync_interval_ns = PICK(dice, 0, 1000000, 1000000000);
	options->max_writers = (uint32_t)PICK(dice, 1, 1, 2, 16);
	options->max_entry_bytes = 1 << 20;
}

void profile_roll(struct profile *profile, struct dice *dice)
{
	*profile = (struct profile){
		.stream_count = (unsigned)PICK(dice, 1, 2, 3, 5, 12, 40),
		.group_max = (unsigned)PICK(dice, 1, 2, 6, 20, 60),
		.batch_max = (unsigned)PICK(dice, 2, 5, 30),
		.entry_max = (uint32_t)PICK(dice, 20, 100, 100, 600),
		.big_per_mille = (unsigned)PICK(dice, 0, 0, 10, 40),
		.big_max = (uint32_t)PICK(dice, 2000, 9000, 70000),
		.batch_per_mille = (unsigned)PICK(dice, 100, 400, 800),
		.expected_per_mille = (unsigned)PICK(dice, 0, 100),
		.sync_flag_per_mille = (unsigned)PICK(dice, 0, 50, 200),
		.sync_per_mille = (unsigned)PICK(dice, 0, 20, 80),
		.truncate_per_mille = (unsigned)PICK(dice, 0, 30, 120),
		.tick_per_mille = (unsigned)PICK(dice, 0, 20),
		.read_per_mille = 60,
		.reopen_per_mille = (unsigned)PICK(dice, 0, 5, 15),
		.death_per_mille = (unsigned)PICK(dice, 0, 5, 15),
		.hot_per_mille = (unsigned)PICK(dice, 0, 300),
	};
	roll_options(&profile->options, dice);
	if (dice_chance(dice, 500)) {
		profile->sharded = true;
		profile->options.shard_count = (uint32_t)PICK(dice, 1, 2, 3, 20, 150);
		profile->checkpoint_per_mille = (unsigned)PICK(dice, 60, 200);
		profile->compact_per_mille = (unsigned)PICK(dice, 0, 60, 200);
		profile->prune_per_mille = (unsigned)PICK(dice, 0, 60, 200);
		profile->load_per_mille = 200;
		profile->id_per_mille = (unsigned)PICK(dice, 0, 100, 400);
		profile->id_max = (unsigned)PICK(dice, 10, 30, 600, 3000);
	}
	if (dice_chance(dice, 120)) {
		/* Enough bytes in groups of many streams that the journal goes round. */
		profile->stream_count = 8;
		profile->group_max = 24;
		profile->big_per_mille = 900;
		profile->big_max = 40000;
		profile->batch_per_mille = 0;
		profile->options.write_buffer_size = 480 << 10;
		profile->options.compression = COMPRESSION_NONE;
	} else if (dice_chance(dice, 120)) {
		/* A few streams that fill their segments fast: the next ones are spares. */
		profile->stream_count = (unsigned)PICK(dice, 1, 2, 6);
		profile->big_per_mille = 500;
		profile->big_max = 9000;
		profile->options.max_segment_size = PICK(dice, 20000, 40000);
		profile->options.max_entries_per_segment = 0;
		profile->options.write_buffer_size = 4000;
		profile->options.compression = COMPRESSION_NONE;
	}
}

const char *profile_text(const struct profile *profile)
{
	static char text[400];
	const struct engine_options *options = &profile->options;
	snprintf(text, sizeof(text),
		"%s, %u streams, groups of %u, segments of %llu bytes and %llu entries, write buffer %llu, %s, %s, "
		"cache %llu, %u shards%s, interval %llu ns",
		options->sync_mode == SYNC_STRICT	? "strict"
		: options->sync_mode == SYNC_BATCH_ONLY ? "batch_only"
							: "async",
		profile->stream_count, profile->group_max, (unsigned long long)options->max_segment_size,
		(unsigned long long)options->max_entries_per_segment, (unsigned long long)options->write_buffer_size,
		options->compression == COMPRESSION_LZ4 ? "lz4" : "not packed",
		options->read_strategy == READ_MMAP ? "mmap" : "standard_io",
		(unsigned long long)options->block_cache_size, options->shard_count,
		profile->sharded ? " with checkpoints" : "", (unsigned long long)options->async_sync_interval_ns);
	return text;
}
