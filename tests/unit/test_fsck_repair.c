/* Repair on the simulated disk: what is put back, what is left alone, and that it may be cut off anywhere. */
#include <errno.h>

#include "engine_fixture.h"
#include "repair.h"
#include "test_fsck_common.h"

TestSuite(fsck_repair, .timeout = 280);

static struct fixture f;
static struct seen seen;
static struct error err;
static uint64_t seed = 1;

static void set_up(void)
{
	fixture_init(&f);
}

static void tear_down(void)
{
	fixture_free(&f);
}

#define REPAIR_TEST(name) Test(fsck_repair, name, .init = set_up, .fini = tear_down)

#define ENTRY 100u
#define HEADER 56u
#define FRAME (120u + 104u)
#define SEGMENT_0 "a/00000000000000000000.wal"

static uint64_t frame_at(uint64_t index)
{
	return HEADER + index * FRAME;
}

static void make(uint64_t count)
{
	fixture_open(&f);
	for (uint64_t i = 0; i < count; i++)
		cr_assert(fixture_add(&f, "a", i) == i);
	fixture_restart(&f);
	fixture_die(&f);
}

static void again(void)
{
	if (f.engine)
		fixture_die(&f);
	sim_free(f.io);
	f.io = sim_new(seed);
	f.options.on_corruption = ON_CORRUPTION_ERROR;
}

static enum fsck_status repair(bool write)
{
	struct report report;
	report_init(&report, NULL, false);
	seen = (struct seen){0};
	report.found_cb = seen_cb;
	report.found_arg = &seen;
	enum fsck_status status = repair_run(f.io, write, &report, NULL, &err);
	report_free(&report);
	return status;
}

static void good(uint64_t from, uint64_t to)
{
	for (uint64_t id = from; id < to; id++)
		cr_assert(fixture_get(&f, "a", id, id, 0, ENTRY, &err) == ERR_NONE, "entry %lu: %s", (unsigned long)id,
			err.code ? err.message : "other bytes");
}

static void hole(uint64_t from, uint64_t to)
{
	for (uint64_t id = from; id < to; id++)
		cr_assert(fixture_get(&f, "a", id, id, 0, ENTRY, &err) == ERR_CORRUPTION && err.first_id == to,
			"entry %lu", (unsigned long)id);
}

/* What there is of stream "a", as text. */
static char *all_of_a(void)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	describe(f.io, "a", out);
	fclose(out);
	return text;
}

/* A start under on_corruption = error has all but what was lost; it goes on; a clean stop and a power cut keep it. */
static void serves(void (*check)(void), uint64_t next_id)
{
	for (unsigned round = 0; round < 4; round++) {
		fixture_open(&f);
		check();
		cr_assert(fixture_add(&f, "a", next_id + round) == next_id + round, "the next id");
		good(next_id, next_id + round + 1);
		if (round % 2)
			fixture_close(&f);
		else
			fixture_power_cut(&f, SIM_LOSE_ALL);
	}
}

static void two_is_lost(void)
{
	good(0, 2);
	hole(2, 3);
	good(3, 5);
}

REPAIR_TEST(a_dry_run_changes_nothing_and_says_what_would_be_done)
{
	make(5);
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(2) + 30, 1) == 0);
	char *before = all_of(f.io);
	uint64_t operations = sim_op_count(f.io);
	cr_assert(repair(false) == STATUS_CLEAN, "what would be behind it");
	int rot = seen_find(&seen, "rot", 0), back = seen_find(&seen, "put_back", 0);
	cr_assert(rot >= 0 && seen.items[rot].first == 2 && seen.items[rot].end == 5);
	cr_assert(back >= 0 && seen.items[back].first == 3 && seen.items[back].end == 5);
	char *after = all_of(f.io);
	cr_assert(strcmp(before, after) == 0 && sim_op_count(f.io) == operations);
	free(before);
	free(after);
}

REPAIR_TEST(whole_frames_behind_a_break_can_be_read_again)
{
	make(5);
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(2) + 30, 1) == 0);
	cr_assert(repair(true) == STATUS_CLEAN);
	cr_assert(fixture_files(&f, "a", ".cut") == 2 && fixture_files(&f, "a", ".wal") == 1);
	char *before = all_of_a();
	cr_assert(repair(true) == STATUS_CLEAN);
	cr_assert(seen_find(&seen, "put_back", 0) < 0, "it was done already");
	char *after = all_of_a();
	cr_assert(strcmp(before, after) == 0, "a second time changes something:\n%s\n%s", before, after);
	free(before);
	free(after);
	serves(two_is_lost, 5);
	enum fsck_status status = verify_disk(f.io, &seen, &err);
	cr_assert(status == STATUS_CLEAN);
	/* It leaves as the rest does. */
	fixture_open(&f);
	cr_assert(fixture_truncate(&f, "a", 5).segments_deleted == 2 && fixture_files(&f, "a", ".cut") == 0);
}

/* Recovery has set it aside long ago, and entries were added since. */
REPAIR_TEST(it_may_come_late)
{
	make(5);
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(2) + 30, 1) == 0);
	f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
	fixture_open(&f);
	fixture_add(&f, "a", 5);
	fixture_close(&f);
	f.options.on_corruption = ON_CORRUPTION_ERROR;
	cr_assert(repair(true) == STATUS_CLEAN);
	serves(two_is_lost, 6);
}

/* A start that was cut off may have left the file where it is, with a next segment behind it: it is read around the
 * damage, and stays damaged. */
static void is_lost(uint64_t id)
{
	enum error_code code = fixture_get(&f, "a", id, id, 0, ENTRY, &err);
	cr_assert((code == ERR_CORRUPTION || code == ERR_CRC_MISMATCH) && err.first_id == id + 1, "entry %lu: %d, %lu",
		(unsigned long)id, (int)code, (unsigned long)err.first_id);
}

static void two_and_five_are_lost(void)
{
	good(0, 2);
	is_lost(2);
	good(3, 5);
	is_lost(5);
	good(6, 8);
}

REPAIR_TEST(several_breaks_are_several_files)
{
	make(8);
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(2) + 30, 1) == 0);
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(5) + 150, 1) == 0);
	cr_assert(repair(true) == STATUS_CLEAN);
	cr_assert(fixture_files(&f, "a", ".cut") == 3);
	serves(two_and_five_are_lost, 8);
}

static void all_five(void)
{
	good(0, 5);
}

REPAIR_TEST(a_broken_header_costs_no_entry)
{
	make(5);
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, 25, 1) == 0);
	cr_assert(repair(true) == STATUS_CLEAN);
	serves(all_five, 5);
}

/* Torn, never acknowledged as durable: their ids were given again. */
REPAIR_TEST(what_was_given_again_is_not_put_back)
{
	uint8_t zeros[FRAME] = {0};
	f.options.sync_mode = SYNC_ASYNC;
	f.options.async_sync_interval_ns = 0;
	fixture_open(&f);
	for (uint64_t i = 0; i < 5; i++)
		fixture_add(&f, "a", i);
	fixture_die(&f);
	cr_assert(sim_patch_file(f.io, SEGMENT_0, frame_at(2), zeros, FRAME) == 0);
	cr_assert(repair(true) == STATUS_CLEAN);
	cr_assert(seen_find(&seen, "put_back", 0) < 0 && fixture_files(&f, "a", ".cut") == 1);
	fixture_open(&f);
	cr_assert(fixture_add(&f, "a", 2) == 2);
	good(0, 3);
	fixture_close(&f);
	cr_assert(repair(true) == STATUS_CLEAN && fixture_files(&f, "a", ".cut") == 1);
}

/* Frames of a torn tail stand whole in a file that was set aside; their ids were given to others; and now damage to
 * those makes them free again. They are not what was acknowledged. */
REPAIR_TEST(older_entries_of_the_same_ids_are_not_put_back)
{
	uint8_t zeros[FRAME] = {0};
	f.options.sync_mode = SYNC_ASYNC;
	f.options.async_sync_interval_ns = 0;
	fixture_open(&f);
	for (uint64_t i = 0; i < 9; i++)
		fixture_add(&f, "a", 100 + i);
	fixture_die(&f);
	cr_assert(sim_patch_file(f.io, SEGMENT_0, frame_at(2), zeros, FRAME) == 0);
	f.options.sync_mode = SYNC_STRICT;
	fixture_open(&f);
	for (uint64_t i = 2; i < 7; i++)
		cr_assert(fixture_add(&f, "a", i) == i);
	fixture_restart(&f);
	fixture_close(&f);
	cr_assert(sim_flip_bit(f.io, "a/00000000000000000002.wal", frame_at(2) + 30, 1) == 0);
	for (unsigned round = 0; round < 2; round++) {
		cr_assert(repair(true) == STATUS_CLEAN);
		int back = seen_find(&seen, "put_back", 0);
		if (round == 0)
			cr_assert(back >= 0 && seen.items[back].first == 5 && seen.items[back].end == 7);
		cr_assert(seen_find(&seen, "put_back", 1) < 0);
		fixture_open(&f);
		cr_assert(fixture_get(&f, "a", 0, 100, 0, ENTRY, &err) == ERR_NONE);
		cr_assert(fixture_get(&f, "a", 1, 101, 0, ENTRY, &err) == ERR_NONE);
		good(2, 4);
		hole(4, 5);
		good(5, 7);
		fixture_close(&f);
	}
}

REPAIR_TEST(damage_that_nothing_mends_stays_and_is_told)
{
	f.options.max_entries_per_segment = 10;
	make(25);
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(3) + 130, 0) == 0);
	cr_assert(repair(true) == STATUS_DAMAGE);
	fixture_open(&f);
	good(0, 3);
	cr_assert(fixture_get(&f, "a", 3, 3, 0, ENTRY, &err) == ERR_CRC_MISMATCH);
	good(4, 25);
}

REPAIR_TEST(an_index_is_made_anew)
{
	f.options.max_entries_per_segment = 30;
	fixture_open(&f);
	for (uint64_t i = 0; i < 70; i++)
		cr_assert(fixture_append(&f, "a", i, 1, 20000, 0, 0).code == ERR_NONE);
	fixture_restart(&f);
	fixture_close(&f);
	char *before = all_of_a();
	for (unsigned round = 0; round < 4; round++) {
		const char *path = "a/00000000000000000030.idx";
		if (round == 0)
			cr_assert(sim_remove_file(f.io, path) == 0);
		else if (round == 1)
			cr_assert(sim_truncate_file(f.io, path, 100) == 0);
		else
			cr_assert(sim_flip_bit(f.io, path, round == 2 ? 10 : 60, 3) == 0);
		cr_assert(repair(true) == STATUS_CLEAN, "round %u", round);
		cr_assert(seen_find(&seen, "index_rebuilt", 0) >= 0);
		char *after = all_of_a();
		cr_assert(strcmp(before, after) == 0, "round %u: %s\n%s", round, before, after);
		free(after);
	}
	free(before);
}

/* ---- cut off anywhere ------------------------------------------------------------------------------------------- */

static void damaged(void)
{
	again();
	make(8);
	if (seed % 2) {
		fixture_open(&f);
		fixture_close(&f);
	}
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(2) + 30, 1) == 0);
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(5) + 150, 1) == 0);
}

/* The power goes at the cut-th change of a repair. False: it did not come to that. */
static bool cut_off(uint64_t cut)
{
	damaged();
	sim_cut_power_after(f.io, cut);
	enum fsck_status status = repair(true);
	bool dead = sim_is_dead(f.io);
	cr_assert(dead ? status == STATUS_FAILED : status == STATUS_CLEAN, "seed %lu, cut %lu: status %d",
		(unsigned long)seed, (unsigned long)cut, (int)status);
	sim_power_on(f.io, seed % 4 == 0 ? SIM_LOSE_ALL : SIM_POWER_RANDOM);
	if (seed % 3 == 0) { /* the daemon comes first */
		f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
		fixture_open(&f);
		good(0, 2);
		for (uint64_t id = 2; id < 8; id++) {
			enum error_code code = fixture_get(&f, "a", id, id, 0, ENTRY, &err);
			cr_assert(code == ERR_NONE || code == ERR_CORRUPTION || code == ERR_CRC_MISMATCH);
		}
		cr_assert(
			fixture_info(&f, "a").end == 8, "the next id is %lu", (unsigned long)fixture_info(&f, "a").end);
		fixture_die(&f);
		f.options.on_corruption = ON_CORRUPTION_ERROR;
	}
	status = repair(true);
	bool in_place = fixture_files(&f, "a", "00.wal") == 1;
	cr_assert(status == (in_place ? STATUS_DAMAGE : STATUS_CLEAN), "seed %lu, cut %lu: again: status %d",
		(unsigned long)seed, (unsigned long)cut, (int)status);
	sim_power_on(f.io, SIM_LOSE_ALL);
	serves(two_and_five_are_lost, 8);
	return dead;
}

REPAIR_TEST(it_may_be_cut_off_anywhere)
{
	unsigned cuts = 0;
	for (seed = 0; seed < 12; seed++)
		for (uint64_t cut = 0; cut_off(cut); cut++)
			cuts++;
	cr_assert(cuts > 300, "%u cuts", cuts);
}

REPAIR_TEST(any_call_may_fail_and_it_can_be_done_again)
{
	static const int errors[] = {EIO, ENOSPC, EMFILE};
	for (unsigned kind = 0; kind < 3; kind++)
		for (uint64_t nth = 1;; nth++) {
			seed = nth;
			damaged();
			sim_fail_at(f.io, nth, errors[kind], SIM_ANY);
			(void)repair(true);
			bool fired = sim_faults_fired(f.io) > 0;
			sim_fail_clear(f.io);
			cr_assert(sim_open_count(f.io) == 0, "call %lu: files were left open", (unsigned long)nth);
			if (!fired)
				break;
			/* A sync that failed is reported once more, by the next one of everything. */
			enum fsck_status status = repair(true);
			status = status == STATUS_FAILED ? repair(true) : status;
			bool in_place = fixture_files(&f, "a", "00.wal") == 1;
			cr_assert(status == (in_place ? STATUS_DAMAGE : STATUS_CLEAN), "call %lu: status %d",
				(unsigned long)nth, (int)status);
			fixture_open(&f);
			two_and_five_are_lost();
			cr_assert(fixture_add(&f, "a", 8) == 8);
		}
}
