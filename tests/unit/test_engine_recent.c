/* Streams that fill their segments fast are written past the page cache, and read near their ends from memory. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine_fixture.h"
#include "recent.h"

TestSuite(engine_recent, .timeout = 120);

#define LEN 10000u
#define SEGMENT_ENTRIES 11u /* 10 fill a segment, and one more is in it */

static struct fixture f;

static void set_up(void)
{
	fixture_init(&f);
	f.options.max_segment_size = 100000;
	f.options.write_buffer_size = 4000;
	fixture_open(&f);
}

static void tear_down(void)
{
	fixture_free(&f);
}

#define RECENT_TEST(name) Test(engine_recent, name, .init = set_up, .fini = tear_down)

static void reopen(uint64_t max_segment_size, enum sync_mode mode)
{
	fixture_close(&f);
	f.options.max_segment_size = max_segment_size;
	f.options.sync_mode = mode;
	fixture_open(&f);
}

static void append(const char *name, uint64_t from, uint64_t to)
{
	fixture_append_each(&f, name, from, to, LEN);
}

static void check(const char *name, uint64_t count)
{
	fixture_check_each(&f, name, count, LEN);
}

static uint64_t syncs(void)
{
	return sim_count(f.io, SIM_SYNC);
}

/* Entries 0 to 13 of "a": the last of them in a spare. */
static void into_a_spare(void)
{
	append("a", 0, SEGMENT_ENTRIES + 2);
	cr_assert(fixture_info(&f, "a").segments == 2);
}

static int ignore_cb(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	(void)id, (void)bytes, (void)len, (void)arg;
	return 0;
}

/* Where the files are open, and no page of them is in the cache. */
static bool is_in_memory(const char *name, uint64_t id)
{
	struct error err;
	uint64_t next;
	cr_assert(fixture_get(&f, name, id, id, 0, LEN, &err) == ERR_NONE);
	const struct stream *stream = fixture_stream(&f, name);
	sim_set_cold_reads(f.io, 1000);
	enum read_result result = engine_read(f.engine, fixture_stream(&f, name), stream_view(stream), id, id + 1, true,
		ignore_cb, NULL, &next, &err);
	sim_set_cold_reads(f.io, 0);
	cr_assert(result == READ_DONE || result == READ_WOULD_BLOCK);
	return result == READ_DONE;
}

RECENT_TEST(a_group_is_one_write_that_is_durable)
{
	into_a_spare();
	uint64_t synced = syncs(), written = sim_count(f.io, SIM_PWRITE), counted = fixture_writer(&f, 0).file_syncs;
	append("a", 13, 16);
	cr_assert(syncs() == synced, "it is synced by itself");
	cr_assert(sim_count(f.io, SIM_PWRITE) == written + 3);
	cr_assert(fixture_writer(&f, 0).file_syncs == counted + 3);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	check("a", 16);
	cr_assert(fixture_stats(&f).recovery.torn_tails_cut == 0, "there are zeros behind it");
	append("a", 16, 40);
	fixture_power_cut(&f, SIM_KEEP_ALL);
	fixture_open(&f);
	check("a", 40);
	cr_assert(fixture_stats(&f).recovery.torn_tails_cut == 0);
}

RECENT_TEST(the_end_is_read_from_memory)
{
	into_a_spare();
	append("a", 13, 16);
	cr_assert(is_in_memory("a", 15) && is_in_memory("a", 14));
	cr_assert(!is_in_memory("a", 3), "an older segment");
	append("a", 16, 30); /* the next segments */
	cr_assert(is_in_memory("a", 29));
	check("a", 30);
}

RECENT_TEST(a_segment_that_is_longer_than_what_is_remembered)
{
	reopen(5u << 20, SYNC_STRICT);
	append("a", 0, 1200); /* two and a bit */
	cr_assert(fixture_info(&f, "a").segments == 3);
	cr_assert(is_in_memory("a", 1199));
	check("a", 1200);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	check("a", 1200);
}

/* A reader keeps what it looks at, whatever is written meanwhile. */
static int append_cb(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	uint64_t *seen = arg;
	uint8_t expected[LEN];
	fixture_bytes(id, 0, expected, LEN);
	cr_assert(len == LEN && memcmp(bytes, expected, LEN) == 0, "entry %lu", (unsigned long)id);
	if ((*seen)++ == 0)
		append("a", 800, 1100);
	return 0;
}

RECENT_TEST(a_reader_is_not_disturbed)
{
	reopen(5u << 20, SYNC_STRICT);
	append("a", 0, 800);
	uint64_t next, seen = 0;
	struct error err;
	struct stream *stream = fixture_stream(&f, "a");
	cr_assert(engine_read(f.engine, stream, stream_view(stream), 600, 800, false, append_cb, &seen, &next, &err) ==
		  READ_DONE);
	cr_assert(seen == 200 && next == 800);
	check("a", 1100);
}

RECENT_TEST(a_write_that_is_too_long_takes_the_usual_way)
{
	reopen(8u << 20, SYNC_STRICT);
	append("a", 0, 850);
	cr_assert(fixture_info(&f, "a").segments == 2);
	struct error err;
	cr_assert(is_in_memory("a", 849));
	cr_assert(fixture_append(&f, "a", 5000, 1, RECENT_BYTES, 0, 0).code == ERR_NONE);
	cr_assert(!is_in_memory("a", 849));
	append("a", 851, 900);
	cr_assert(is_in_memory("a", 899), "it does not come back");
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	cr_assert(fixture_get(&f, "a", 850, 5000, 0, RECENT_BYTES, &err) == ERR_NONE);
	for (uint64_t i = 840; i < 900; i++)
		cr_assert(i == 850 || fixture_get(&f, "a", i, i, 0, LEN, &err) == ERR_NONE, "%lu", (unsigned long)i);
}

/* What is not to be durable at once is written as before; what is, has everything before it durable. */
RECENT_TEST(now_and_then_durable)
{
	reopen(100000, SYNC_ASYNC);
	append("a", 0, 14);
	uint64_t synced = syncs();
	for (uint64_t i = 14; i < 60; i++) {
		struct answer answer = fixture_append(&f, "a", i, 1, LEN, i % 3 == 0 ? APPEND_SYNC : 0, 0);
		cr_assert(answer.code == ERR_NONE && answer.durable == (i % 3 == 0));
	}
	cr_assert(syncs() > synced);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	cr_assert(fixture_info(&f, "a").end >= 58, "%lu", (unsigned long)fixture_info(&f, "a").end);
	check("a", fixture_info(&f, "a").end);
}

RECENT_TEST(between_groups_that_touch_many)
{
	reopen(400000, SYNC_STRICT);
	append("s0", 0, 42);
	cr_assert(fixture_info(&f, "s0").segments == 2);
	struct error err;
	cr_assert(fixture_add_to_many(&f, "s%u", 20, 7) == 0);
	append("s0", 43, 50);
	cr_assert(is_in_memory("s0", 49));
	cr_assert(fixture_add_to_many(&f, "s%u", 20, 8) == 0);
	cr_assert(fixture_get(&f, "s0", 50, 8, 0, 100, &err) == ERR_NONE);
	append("s0", 51, 55);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	cr_assert(fixture_get(&f, "s0", 42, 7, 0, 100, &err) == ERR_NONE);
	cr_assert(fixture_get(&f, "s0", 50, 8, 0, 100, &err) == ERR_NONE);
	for (uint64_t i = 43; i < 55; i++)
		cr_assert(i == 50 || fixture_get(&f, "s0", i, i, 0, LEN, &err) == ERR_NONE, "%lu", (unsigned long)i);
}

RECENT_TEST(a_write_that_fails_stops_the_shard)
{
	into_a_spare();
	append("a", 13, 15);
	sim_fail_at(f.io, 1, EIO, SIM_BIT(SIM_PWRITE));
	struct answer answer = fixture_append(&f, "a", 15, 1, LEN, 0, 0);
	cr_assert(answer.code == ERR_IO && answer.error.outcome == OUTCOME_UNKNOWN);
	cr_assert(fixture_writer(&f, 0).failed);
	answer = fixture_append(&f, "a", 15, 1, LEN, 0, 0);
	cr_assert(answer.code == ERR_IO && answer.error.outcome == OUTCOME_NONE);
	check("a", 15);
	fixture_restart(&f);
	append("a", 15, 20);
	check("a", 20);
}

/* What was written of it is taken back, and durably so before that is told: some of it may have been durable. */
RECENT_TEST(no_room_all_the_same)
{
	char name[8];
	for (unsigned round = 0; round < 12; round++) {
		snprintf(name, sizeof(name), "s%u", round);
		append(name, 0, SEGMENT_ENTRIES + 4);
		sim_fail_at(f.io, 1, ENOSPC, SIM_BIT(SIM_PWRITE) | SIM_TORN);
		struct answer answer = fixture_append(&f, name, 15, 1, LEN, 0, 0);
		cr_assert(answer.code == ERR_IO && answer.error.outcome == OUTCOME_NONE);
		cr_assert(!fixture_writer(&f, 0).failed && fixture_writer(&f, 0).no_space_errors == 1);
		const char *path = fixture_file(&f, name, ".wal", 1);
		cr_assert(sim_file_size(f.io, path) < 6 * (int64_t)LEN, "%ld", (long)sim_file_size(f.io, path));
		fixture_power_cut(&f, SIM_LOSE_ALL);
		fixture_open(&f);
		cr_assert(fixture_stats(&f).recovery.torn_tails_cut == 0, "round %u", round);
		check(name, 15);
		append(name, 15, 40);
		check(name, 40);
	}
}

/* A sync that finds no room has failed like any other. */
RECENT_TEST(a_directory_that_cannot_be_synced)
{
	append("a", 0, SEGMENT_ENTRIES);
	sim_fail_at(f.io, 1, ENOSPC, SIM_BIT(SIM_SYNC_DIR));
	struct answer answer = fixture_append(&f, "a", 11, 1, LEN, 0, 0);
	cr_assert(answer.code == ERR_IO && answer.error.outcome == OUTCOME_UNKNOWN, "%d", (int)answer.error.outcome);
	cr_assert(fixture_writer(&f, 0).failed);
	fixture_restart(&f);
	append("a", fixture_info(&f, "a").end, 20);
	check("a", 20);
}

RECENT_TEST(a_file_system_that_wants_it_otherwise)
{
	into_a_spare();
	sim_fail_at(f.io, 1, EINVAL, SIM_BIT(SIM_PWRITE));
	uint64_t synced = syncs();
	append("a", 13, 16);
	cr_assert(syncs() == synced + 3, "each is synced as usual, and it is not tried again");
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	check("a", 16);
}

/* The descriptors for it are lent: a cache that has few of them has none to spare. */
RECENT_TEST(descriptors_are_bounded_and_given_back)
{
	fixture_close(&f);
	f.options.max_open_segments = 12; /* one may be lent */
	fixture_open(&f);
	char name[8];
	for (unsigned i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		append(name, 0, 12);
	}
	uint64_t synced = syncs();
	for (uint64_t n = 12; n < 16; n++)
		for (unsigned i = 0; i < 4; i++) {
			snprintf(name, sizeof(name), "s%u", i);
			append(name, n, n + 1);
		}
	cr_assert(syncs() == synced + 12, "of four streams one writes past the cache: %lu syncs",
		(unsigned long)(syncs() - synced));
	cr_assert(fixture_stats(&f).open_segments <= 12);
	for (unsigned i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		check(name, 16);
		append(name, 16, 50); /* through more segments than there are descriptors */
		check(name, 50);
		cr_assert(is_in_memory(name, 49) == (i == 0), "the one that has it goes on with it");
	}
	fixture_close(&f);
	cr_assert(sim_open_count(f.io) == 0, "%lu", (unsigned long)sim_open_count(f.io));
	fixture_open(&f);
}
