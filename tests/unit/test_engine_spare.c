/* Spares: files of zeros that become the next segments of streams that fill them fast. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine_fixture.h"

TestSuite(engine_spare, .timeout = 120);

#define SPARE "ironwald.spare-00000"
#define LEN 10000u

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

#define SPARE_TEST(name) Test(engine_spare, name, .init = set_up, .fini = tear_down)

static void append(const char *name, uint64_t from, uint64_t to)
{
	fixture_append_each(&f, name, from, to, LEN);
}

static void check(const char *name, uint64_t count)
{
	fixture_check_each(&f, name, count, LEN);
}

static bool is_there(void)
{
	return sim_file_size(f.io, SPARE) >= 0;
}

static uint64_t renames(void)
{
	return sim_count(f.io, SIM_RENAME);
}

SPARE_TEST(a_fast_stream_goes_on_in_spares)
{
	append("a", 0, 5);
	cr_assert(is_there(), "none is made");
	uint64_t size = (uint64_t)sim_file_size(f.io, SPARE), before = renames();
	cr_assert(size >= f.options.max_segment_size);
	append("a", 5, 12); /* into the second segment */
	cr_assert(renames() == before + 1, "it was not taken");
	cr_assert((uint64_t)sim_file_size(f.io, fixture_file(&f, "a", ".wal", 1)) == size, "nor is it the segment");
	uint64_t reserved = sim_count(f.io, SIM_ALLOCATE);
	append("a", 12, 14);
	cr_assert(sim_count(f.io, SIM_ALLOCATE) == reserved, "room is made in it all the same");
	append("a", 14, 50);
	cr_assert(renames() >= before + 4);
	check("a", 50);
	fixture_restart(&f);
	check("a", 50);
}

/* Nobody waits for a sync of such a file, so zeros in it would only be one more writing. */
SPARE_TEST(a_stream_whose_groups_go_by_the_journal_gets_none)
{
	static const char *const names[] = {"a", "b"};
	struct entries entries[2];
	struct op ops[2];
	struct error err;
	f.options.write_buffer_size = 64 << 10; /* both in one group */
	fixture_restart(&f);
	uint64_t before = renames();
	for (uint64_t n = 0; n < 60; n++) {
		for (unsigned i = 0; i < 2; i++) {
			entries_init(&entries[i], n, 1, LEN);
			ops[i] = (struct op){.kind = OP_APPEND, .source = &entries[i].base};
			cr_assert(engine_submit(f.engine, &ops[i], names[i], 1, &err) == 0);
		}
		fixture_run(&f);
		while (engine_take(f.engine))
			;
		for (unsigned i = 0; i < 2; i++) {
			cr_assert(!ops[i].error && ops[i].durable);
			entries_free(&entries[i]);
		}
	}
	cr_assert(fixture_writer(&f, 0).journal_groups >= 50 && fixture_writer(&f, 0).rotations >= 4);
	cr_assert(!is_there() && renames() == before, "a spare");
	cr_assert(fixture_stats(&f).bytes_filled_ahead == 0, "%lu bytes ahead",
		(unsigned long)fixture_stats(&f).bytes_filled_ahead);
	check("a", 60);
	check("b", 60);
	append("a", 60, 80); /* it goes alone again */
	cr_assert(renames() >= before + 1 && fixture_stats(&f).bytes_filled_ahead > 0);
	check("a", 80);
}

/* Into a segment of 4 MiB, at 10 MB a second, until a spare is begun. Returns how many entries it took. */
static uint64_t append_slowly(void)
{
	uint64_t entries = 0;
	fixture_close(&f);
	f.options.max_segment_size = 4u << 20;
	fixture_open(&f);
	for (; !is_there(); entries++) {
		cr_assert(entries * LEN < f.options.max_segment_size / 2, "none is begun");
		append("a", entries, entries + 1);
		sim_advance(f.io, 1000000);
	}
	return entries;
}

SPARE_TEST(a_spare_is_made_within_half_the_time_that_is_left)
{
	uint64_t entries = append_slowly(), written = sim_count(f.io, SIM_PWRITE);
	fixture_run(&f);
	cr_assert(sim_count(f.io, SIM_PWRITE) == written, "it is made all at once");
	sim_advance(f.io, 40000000);
	fixture_run(&f);
	uint64_t pieces = sim_count(f.io, SIM_PWRITE) - written;
	cr_assert(pieces > 0, "it does not go on");
	sim_advance(f.io, 200000000);
	fixture_run(&f);
	cr_assert(sim_count(f.io, SIM_PWRITE) > written + pieces, "all of it in the first part of the time");
	uint64_t renamed = renames();
	append("a", entries, f.options.max_segment_size / LEN + 2);
	cr_assert(renames() == renamed + 1, "it is ready, and not taken");
}

SPARE_TEST(a_stream_that_gets_faster_does_not_wait_for_its_spare)
{
	uint64_t entries = append_slowly(), renamed = renames();
	append("a", entries, f.options.max_segment_size / LEN + 2);
	cr_assert(renames() == renamed + 1, "it is not made in time");
}

SPARE_TEST(no_spare_is_left_behind)
{
	append("a", 0, 5);
	cr_assert(is_there());
	fixture_close(&f);
	cr_assert(!is_there(), "behind a clean stop");
	fixture_open(&f);
	append("a", 5, 40);
	cr_assert(is_there());
	fixture_power_cut(&f, SIM_KEEP_ALL);
	cr_assert(is_there());
	fixture_open(&f);
	cr_assert(!is_there(), "behind a crash");
	check("a", 40);
}

static void check_room_is_given_back(void (*stop_and_open)(struct fixture *fixture))
{
	append("a", 0, 12);
	const char *path = fixture_file(&f, "a", ".wal", 1);
	cr_assert(sim_file_size(f.io, path) > (int64_t)f.options.max_segment_size);
	stop_and_open(&f);
	cr_assert(sim_file_size(f.io, path) < 3 * (int64_t)LEN);
	check("a", 12);
	append("a", 12, 30);
	check("a", 30);
}

static void close_and_open(struct fixture *fixture)
{
	const char *path = fixture_file(fixture, "a", ".wal", 1);
	fixture_close(fixture);
	cr_assert(sim_file_size(fixture->io, path) < 3 * (int64_t)LEN, "before the start");
	fixture_open(fixture);
}

SPARE_TEST(a_clean_stop_gives_back_the_room)
{
	check_room_is_given_back(close_and_open);
}

SPARE_TEST(a_start_behind_a_crash_gives_it_back_too)
{
	check_room_is_given_back(fixture_restart);
}

SPARE_TEST(a_short_segment_gets_a_short_one)
{
	fixture_die(&f);
	f.options.max_segment_size = 64 << 20;
	f.options.max_entries_per_segment = 10;
	fixture_open(&f);
	append("a", 0, 8);
	cr_assert(
		is_there() && sim_file_size(f.io, SPARE) <= 12 * (int64_t)LEN, "%ld", (long)sim_file_size(f.io, SPARE));
}

/* More than a writer may have at a time: the oldest is cut to what it holds. */
SPARE_TEST(few_streams_hold_much_room)
{
	char name[8];
	for (unsigned i = 0; i < 7; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		append(name, 0, 12);
	}
	unsigned roomy = 0;
	for (unsigned i = 0; i < 7; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		roomy += sim_file_size(f.io, fixture_file(&f, name, ".wal", 1)) > (int64_t)f.options.max_segment_size;
	}
	cr_assert(roomy >= 2 && roomy <= 4, "%u", roomy);
	for (unsigned i = 0; i < 7; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		append(name, 12, 15);
		check(name, 15);
	}
}

SPARE_TEST(a_slow_stream_gets_none)
{
	for (uint64_t i = 0; i < 20; i++) {
		append("a", i, i + 1);
		sim_advance(f.io, UINT64_C(1000000000));
	}
	cr_assert(!is_there());
}

SPARE_TEST(a_full_disk_gets_its_room_back)
{
	append("a", 0, 5);
	cr_assert(is_there());
	sim_set_capacity(f.io, sim_used_bytes(f.io) + 3 * LEN);
	append("b", 0, 6); /* more than is free without it */
	cr_assert(!is_there());
	check("b", 6);
}

SPARE_TEST(a_full_disk_gets_the_room_back_of_one_that_is_being_made)
{
	append_slowly();
	sim_set_capacity(f.io, sim_used_bytes(f.io) + 3 * LEN);
	cr_assert(fixture_append(&f, "b", 0, 1, 6 * LEN, 0, 0).code == ERR_NONE);
	cr_assert(!is_there());
}

/* What stands there under the next segment's name is nothing that a spare may replace. */
SPARE_TEST(a_spare_replaces_nothing)
{
	append("a", 0, 5);
	cr_assert(is_there());
	static const char text[] = "something";
	cr_assert(sim_write_file(f.io, "a/00000000000000000010.wal", text, sizeof(text)) == 0);
	append("a", 5, 10);
	struct answer answer = fixture_append(&f, "a", 10, 1, LEN, 0, 0);
	char read[sizeof(text)];
	cr_assert(answer.code == ERR_IO, "%d", (int)answer.code);
	cr_assert(sim_read_file(f.io, "a/00000000000000000010.wal", 0, read, sizeof(read)) == 0 &&
		  memcmp(read, text, sizeof(text)) == 0);
}
