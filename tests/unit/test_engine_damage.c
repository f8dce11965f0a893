/* Damage by hand: what a start does about it, and what readers are told. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"

TestSuite(engine_damage, .timeout = 280);

static struct fixture f;

static void set_up(void)
{
	fixture_init(&f);
}

static void tear_down(void)
{
	fixture_free(&f);
}

#define DAMAGE_TEST(name) Test(engine_damage, name, .init = set_up, .fini = tear_down)

#define ENTRY 100u
#define HEADER 56u	    /* of a segment of stream "a" */
#define FRAME (120u + 104u) /* an entry of 100 bytes: header 116, block 104, padded to 8 */
#define SEGMENT_0 "a/00000000000000000000.wal"

static uint64_t frame_at(uint64_t index)
{
	return HEADER + index * FRAME;
}

/* `count` entries in "a", a frame each, in files that no journal would mend; the engine is not open. */
static void make(uint64_t count)
{
	fixture_open(&f);
	for (uint64_t i = 0; i < count; i++)
		cr_assert(fixture_add(&f, "a", i) == i);
	if (f.options.max_entries_per_segment == 0)
		cr_assert(fixture_info(&f, "a").bytes == count * FRAME, "frames have another size: %lu",
			(unsigned long)fixture_info(&f, "a").bytes);
	fixture_restart(&f);
	fixture_die(&f);
}

static uint64_t seed = 1;

/* Everything starts anew. */
static void again(enum corruption_policy policy)
{
	if (f.engine)
		fixture_die(&f);
	sim_free(f.io);
	f.io = sim_new(seed);
	f.options.on_corruption = policy;
}

/* Entries [from, to) are what they were. */
static void good(uint64_t from, uint64_t to)
{
	struct error err;
	for (uint64_t id = from; id < to; id++)
		cr_assert(fixture_get(&f, "a", id, id, 0, ENTRY, &err) == ERR_NONE, "entry %lu: %s", (unsigned long)id,
			err.code ? err.message : "other bytes");
}

/* Entries [from, to) are a hole that speaks. */
static void hole(uint64_t from, uint64_t to)
{
	struct error err;
	for (uint64_t id = from; id < to; id++) {
		cr_assert(
			fixture_get(&f, "a", id, id, 0, ENTRY, &err) == ERR_CORRUPTION, "entry %lu", (unsigned long)id);
		cr_assert(error_has(&err, EFI_ID) && err.id == id && error_has(&err, EFI_STREAM) &&
			  error_has(&err, EFI_SEGMENT) && error_has(&err, EFI_OFFSET));
		uint64_t end = stream_view(fixture_stream(&f, "a")).end;
		cr_assert(error_has(&err, EFI_FIRST_ID) ? err.first_id == to : to == end,
			"entry %lu: reading goes on at %lu", (unsigned long)id, (unsigned long)err.first_id);
	}
}

/* ---- the end of the newest segment ------------------------------------------------------------------------------ */

DAMAGE_TEST(a_last_frame_cut_short_at_any_byte_is_a_torn_tail)
{
	for (uint64_t size = frame_at(4); size < frame_at(5); size += 1 + size % 3) {
		again(size % 2 ? ON_CORRUPTION_ERROR : ON_CORRUPTION_TRUNCATE);
		make(5);
		cr_assert(sim_truncate_file(f.io, SEGMENT_0, size) == 0);
		fixture_open(&f);
		cr_assert(fixture_info(&f, "a").end == 4 && fixture_info(&f, "a").durable_end == 4);
		cr_assert(fixture_stats(&f).recovery.torn_tails_cut == (size > frame_at(4)), "size %lu",
			(unsigned long)size);
		good(0, 4);
		fixture_power_cut(&f, SIM_LOSE_ALL);
		cr_assert(sim_file_size(f.io, SEGMENT_0) == (int64_t)frame_at(4), "the cut was not durable");
		fixture_open(&f);
		cr_assert(fixture_stats(&f).recovery.torn_tails_cut == 0, "it was cut twice");
		cr_assert(fixture_add(&f, "a", 4) == 4);
		fixture_power_cut(&f, SIM_LOSE_ALL);
		fixture_open(&f);
		good(0, 5);
	}
}

DAMAGE_TEST(zeros_behind_the_end_are_room_and_noise_is_cut)
{
	uint8_t bytes[5000] = {0};
	for (unsigned round = 0; round < 6; round++) {
		again(round % 2 ? ON_CORRUPTION_ERROR : ON_CORRUPTION_TRUNCATE);
		make(5);
		size_t len = round < 2 ? sizeof(bytes) : round < 4 ? 1 : 3000;
		if (round >= 2)
			fixture_bytes(round, 7, bytes, len);
		cr_assert(sim_patch_file(f.io, SEGMENT_0, frame_at(5), bytes, len) == 0);
		fixture_open(&f);
		cr_assert(fixture_stats(&f).recovery.torn_tails_cut == (round >= 2));
		cr_assert(fixture_info(&f, "a").end == 5);
		good(0, 5);
		cr_assert(fixture_add(&f, "a", 5) == 5);
		fixture_restart(&f);
		good(0, 6);
	}
}

/* A frame behind a break that was never known to be synced: a power cut may leave that. Nothing of it is destroyed. */
DAMAGE_TEST(whole_frames_behind_a_break_are_set_aside)
{
	for (unsigned round = 0; round < 2; round++) {
		again(round ? ON_CORRUPTION_ERROR : ON_CORRUPTION_TRUNCATE);
		f.options.sync_mode = SYNC_ASYNC;
		f.options.async_sync_interval_ns = 0;
		fixture_open(&f);
		for (uint64_t i = 0; i < 5; i++)
			fixture_add(&f, "a", i);
		fixture_die(&f);
		uint8_t zeros[FRAME] = {0}, before[FRAME], after[FRAME];
		cr_assert(sim_read_file(f.io, SEGMENT_0, frame_at(4), before, FRAME) == 0);
		cr_assert(sim_patch_file(f.io, SEGMENT_0, frame_at(2), zeros, FRAME) == 0);
		fixture_open(&f);
		struct recovery_stats stats = fixture_stats(&f).recovery;
		cr_assert(stats.files_set_aside == 1 && stats.rot_found == 0 && stats.torn_tails_cut == 0);
		cr_assert(fixture_info(&f, "a").end == 2);
		good(0, 2);
		cr_assert(fixture_files(&f, "a", ".cut") == 1 && fixture_files(&f, "a", ".wal") == 1);
		const char *cut = fixture_file(&f, "a", ".cut", 0);
		cr_assert(strncmp(cut, "a/00000000000000000000.00000000000000000002.", 44) == 0, "%s", cut);
		cr_assert(
			sim_read_file(f.io, cut, frame_at(4), after, FRAME) == 0 && memcmp(before, after, FRAME) == 0);
		cr_assert(fixture_add(&f, "a", 2) == 2);
		fixture_power_cut(&f, SIM_LOSE_ALL);
		fixture_open(&f);
		cr_assert(fixture_stats(&f).recovery.files_set_aside == 0);
		good(0, 2);
		fixture_close(&f);
		fixture_open(&f);
		good(0, 2);
		cr_assert(fixture_truncate(&f, "a", 2).segments_deleted == 1 && fixture_files(&f, "a", ".cut") == 0);
	}
}

/* What was before it is gone, and of its own frames none is good: a stream that began at 0 again would give ids twice.
 */
DAMAGE_TEST(a_header_that_alone_tells_the_next_id_stays)
{
	static const char segment[] = "a/00000000000000000002.wal";
	uint8_t zeros[FRAME] = {0};
	again(ON_CORRUPTION_ERROR);
	f.options.sync_mode = SYNC_ASYNC;
	f.options.async_sync_interval_ns = 0;
	fixture_open(&f);
	for (uint64_t i = 0; i < 5; i++)
		fixture_add(&f, "a", i);
	fixture_die(&f);
	cr_assert(sim_patch_file(f.io, SEGMENT_0, frame_at(2), zeros, FRAME) == 0);
	fixture_open(&f);
	cr_assert(fixture_truncate(&f, "a", 2).segments_deleted == 1 && fixture_files(&f, "a", ".cut") == 0);
	for (unsigned round = 0; round < 3; round++) {
		for (uint64_t i = 2; i < 5; i++)
			cr_assert(fixture_add(&f, "a", i) == i);
		fixture_die(&f);
		cr_assert(sim_patch_file(f.io, segment, frame_at(0), zeros, FRAME) == 0);
		if (round == 2) /* cut off before the copy was whole */
			sim_cut_power_after(f.io, 1);
		struct error err;
		if (fixture_try_open(&f, &err) != ERR_NONE) {
			sim_power_on(f.io, SIM_POWER_RANDOM);
			fixture_open(&f);
		}
		cr_assert(fixture_info(&f, "a").first == 2 && fixture_info(&f, "a").end == 2);
		cr_assert(fixture_stats(&f).recovery.rot_found == 0 && fixture_files(&f, "a", ".torn") == 1);
		cr_assert(fixture_files(&f, "a", "") >= 2 + round, "a copy of each");
		fixture_power_cut(&f, SIM_LOSE_ALL);
		fixture_open(&f);
		cr_assert(fixture_info(&f, "a").first == 2 && fixture_info(&f, "a").end == 2);
	}
}

/* ---- rot: what was synced is broken ----------------------------------------------------------------------------- */

DAMAGE_TEST(rot_is_refused_and_named)
{
	struct error err;
	uint8_t before[5 * FRAME + HEADER], after[5 * FRAME + HEADER];
	for (uint64_t at = frame_at(2); at < frame_at(3) - 4; at += 11) { /* the last 4 bytes are padding */
		again(ON_CORRUPTION_ERROR);
		make(5);
		cr_assert(sim_flip_bit(f.io, SEGMENT_0, at, at % 8) == 0);
		cr_assert(sim_read_file(f.io, SEGMENT_0, 0, before, sizeof(before)) == 0);
		for (unsigned twice = 0; twice < 2; twice++) {
			cr_assert(fixture_try_open(&f, &err) == ERR_CORRUPTION, "byte %lu", (unsigned long)at);
			cr_assert(strcmp(err.segment.bytes, "00000000000000000000.wal") == 0 && err.id == 2 &&
				  err.offset == frame_at(2) && strcmp(err.stream.bytes, "a") == 0);
			cr_assert(strstr(err.message, "on_corruption = truncate"));
		}
		cr_assert(sim_read_file(f.io, SEGMENT_0, 0, after, sizeof(after)) == 0 &&
				  memcmp(before, after, sizeof(before)) == 0,
			"a refused start wrote to the segment");
		cr_assert(sim_flip_bit(f.io, SEGMENT_0, at, at % 8) == 0);
		fixture_open(&f);
		good(0, 5);
	}
}

DAMAGE_TEST(rot_is_set_aside_and_its_ids_are_not_given_again)
{
	for (uint64_t at = frame_at(2); at < frame_at(3) - 4; at += 11) {
		again(ON_CORRUPTION_TRUNCATE);
		make(5);
		cr_assert(sim_flip_bit(f.io, SEGMENT_0, at, at % 8) == 0);
		fixture_open(&f);
		struct recovery_stats stats = fixture_stats(&f).recovery;
		cr_assert(stats.rot_found == 1 && stats.files_set_aside == 1);
		cr_assert(fixture_info(&f, "a").end == 5 && fixture_files(&f, "a", ".cut") == 1);
		good(0, 2);
		hole(2, 5);
		cr_assert(fixture_add(&f, "a", 5) == 5);
		for (unsigned round = 0; round < 3; round++) {
			/* It was dealt with: no later start refuses, whatever the policy. */
			f.options.on_corruption = round % 2 ? ON_CORRUPTION_TRUNCATE : ON_CORRUPTION_ERROR;
			if (round == 2)
				fixture_close(&f);
			else
				fixture_power_cut(&f, SIM_LOSE_ALL);
			fixture_open(&f);
			cr_assert(fixture_stats(&f).recovery.files_set_aside == 0);
			good(0, 2);
			hole(2, 5);
			good(5, 6);
			cr_assert(fixture_info(&f, "a").end == 6);
		}
		struct error err;
		cr_assert(fixture_count(&f, "a", 0, 6, &err) == 2 && err.code == ERR_CORRUPTION && err.id == 2 &&
				  err.first_id == 5,
			"an iteration does not tell of the hole");
		cr_assert(fixture_count(&f, "a", err.first_id, 6, &err) == 1);
	}
}

DAMAGE_TEST(a_broken_segment_header_is_rot_when_frames_prove_it)
{
	struct error err;
	for (uint64_t at = 0; at < HEADER; at += 5) {
		again(ON_CORRUPTION_ERROR);
		make(5);
		cr_assert(sim_flip_bit(f.io, SEGMENT_0, at, at % 8) == 0);
		cr_assert(fixture_try_open(&f, &err) == ERR_CORRUPTION && err.id == 0, "byte %lu", (unsigned long)at);
		f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
		fixture_open(&f);
		cr_assert(fixture_info(&f, "a").end == 5, "byte %lu: the next id is %lu", (unsigned long)at,
			(unsigned long)fixture_info(&f, "a").end);
		cr_assert(fixture_add(&f, "a", 5) == 5);
		good(5, 6);
		fixture_restart(&f);
		good(5, 6);
	}
}

DAMAGE_TEST(a_clean_stop_proves_the_last_frame_too)
{
	struct error err;
	make(5);
	fixture_open(&f);
	fixture_close(&f);
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(4) + 150, 1) == 0);
	cr_assert(fixture_try_open(&f, &err) == ERR_CORRUPTION && err.id == 4 && err.offset == frame_at(4));
	cr_assert(fixture_try_open(&f, &err) == ERR_CORRUPTION && err.id == 4);
	f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
	fixture_open(&f);
	cr_assert(fixture_add(&f, "a", 5) == 5, "the id of what was durable was given again");
	good(0, 4);
	hole(4, 5);
}

/* The power goes at the cut-th change of a start that sets rot aside. False: it did not come to that. */
static bool cut_off(uint64_t cut, bool clean)
{
	struct error err;
	again(ON_CORRUPTION_TRUNCATE);
	make(5);
	if (clean) {
		fixture_open(&f);
		fixture_close(&f);
	}
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(2) + 20, 1) == 0);
	sim_cut_power_after(f.io, cut);
	bool opened = fixture_try_open(&f, &err) == ERR_NONE;
	if (opened)
		engine_abandon(f.engine);
	f.engine = NULL;
	sim_power_on(f.io, seed % 4 == 0 ? SIM_LOSE_ALL : SIM_POWER_RANDOM);
	fixture_open(&f);
	good(0, 2);
	cr_assert(fixture_get(&f, "a", 2, 2, 0, ENTRY, &err) == ERR_CORRUPTION && err.first_id > 2);
	for (uint64_t id = 3; id < 5; id++) { /* whole frames behind it: to be had until it is renamed */
		enum error_code code = fixture_get(&f, "a", id, id, 0, ENTRY, &err);
		cr_assert(code == ERR_NONE || code == ERR_CORRUPTION);
	}
	uint64_t id = fixture_add(&f, "a", 5);
	cr_assert(id == 5, "seed %lu, cut at %lu: id %lu was given again", (unsigned long)seed, (unsigned long)cut,
		(unsigned long)id);
	return !opened;
}

DAMAGE_TEST(setting_aside_can_be_cut_off_anywhere)
{
	for (seed = 0; seed < 30; seed++)
		for (uint64_t cut = 0; cut_off(cut, seed % 2); cut++)
			;
}

/* ---- sealed segments -------------------------------------------------------------------------------------------- */

DAMAGE_TEST(damage_in_an_old_segment_answers_when_it_is_read)
{
	struct error err;
	f.options.max_entries_per_segment = 10;
	for (unsigned mapped = 0; mapped < 2; mapped++) {
		again(ON_CORRUPTION_ERROR);
		f.options.read_strategy = mapped ? READ_MMAP : READ_STANDARD_IO;
		make(25);
		cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(3) + 130, 0) == 0);
		cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(7) + 20, 0) == 0);
		fixture_open(&f);
		good(0, 3);
		cr_assert(fixture_get(&f, "a", 3, 3, 0, ENTRY, &err) == ERR_CRC_MISMATCH && err.id == 3 &&
			  err.first_id == 4 && err.expected != err.actual && err.offset == frame_at(3) + 116);
		good(4, 7);
		hole(7, 8);
		good(8, 25);
		cr_assert(
			fixture_count(&f, "a", 0, 25, &err) == 3 && err.code == ERR_CRC_MISMATCH && err.first_id == 4);
		cr_assert(fixture_count(&f, "a", 4, 25, &err) == 3 && err.code == ERR_CORRUPTION && err.first_id == 8);
		cr_assert(fixture_count(&f, "a", 8, 25, &err) == 17);
		cr_assert(fixture_stats(&f).damage_found == 4);
	}
}

DAMAGE_TEST(missing_frames_and_files_speak)
{
	struct error err;
	f.options.max_entries_per_segment = 10;
	make(45);
	cr_assert(sim_truncate_file(f.io, SEGMENT_0, frame_at(9)) == 0);
	cr_assert(sim_remove_file(f.io, "a/00000000000000000020.wal") == 0);
	fixture_open(&f);
	good(0, 9);
	hole(9, 10);
	good(10, 20);
	hole(20, 30);
	good(30, 45);
	cr_assert(fixture_count(&f, "a", 0, 45, &err) == 9 && err.first_id == 10);
	fixture_close(&f);
	cr_assert(sim_remove_file(f.io, "a/00000000000000000040.wal") == 0);
	cr_assert(fixture_try_open(&f, &err) == ERR_CORRUPTION, "the record knows of a segment that is gone");
}

DAMAGE_TEST(an_empty_segment_that_is_missing_is_made_anew)
{
	struct error err;
	make(5);
	cr_assert(sim_patch_file(f.io, SEGMENT_0, frame_at(3) + 60, "rot", 3) == 0);
	f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
	fixture_open(&f); /* what is good is set aside, and an empty segment begins behind it */
	uint64_t end = fixture_info(&f, "a").end;
	fixture_close(&f);
	cr_assert(fixture_files(&f, "a", ".wal") == 1 && end == 5);
	cr_assert(sim_remove_file(f.io, fixture_file(&f, "a", ".wal", 0)) == 0);
	f.options.on_corruption = ON_CORRUPTION_ERROR;
	cr_assert(fixture_try_open(&f, &err) == ERR_CORRUPTION);
	f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
	fixture_open(&f);
	cr_assert(fixture_info(&f, "a").end == end);
	good(0, 3);
	cr_assert(fixture_add(&f, "a", end) == end);
	fixture_restart(&f);
	good(0, 3);
	cr_assert(fixture_info(&f, "a").end == end + 1);
}

/* ---- every bit -------------------------------------------------------------------------------------------------- */

struct saved {
	char path[80];
	uint8_t *bytes;
	size_t len;
};

static struct saved saved[16];
static unsigned saved_count;

static void save(const char *path, size_t most)
{
	struct saved *one = &saved[saved_count++];
	int64_t size = sim_file_size(f.io, path);
	cr_assert(size >= 0 && saved_count <= 16, "%s", path);
	snprintf(one->path, sizeof(one->path), "%s", path);
	one->len = (size_t)size < most ? (size_t)size : most;
	one->bytes = malloc(one->len + 1);
	cr_assert(sim_read_file(f.io, path, 0, one->bytes, one->len) == 0);
}

static void restore(void)
{
	for (const char *const *ending = (const char *const[]){".wal", ".cut", ".idx", NULL}; *ending; ending++)
		while (fixture_files(&f, "a", *ending) > 0)
			cr_assert(sim_remove_file(f.io, fixture_file(&f, "a", *ending, 0)) == 0);
	(void)sim_remove_file(f.io, "ironwald.clean");
	for (unsigned i = 0; i < saved_count; i++)
		cr_assert((strstr(saved[i].path, "journal")
					  ? sim_patch_file(f.io, saved[i].path, 0, saved[i].bytes, saved[i].len)
					  : sim_write_file(f.io, saved[i].path, saved[i].bytes, saved[i].len)) == 0);
}

static void forget(void)
{
	while (saved_count > 0)
		free(saved[--saved_count].bytes);
}

/* Every answer is right or an error; ids of what was durable are not given again: `least` is the lowest next id that
 * is legal. */
static void check_any(const char *path, size_t at, unsigned bit, uint64_t count, uint64_t least)
{
	struct error err;
	enum error_code code = fixture_try_open(&f, &err);
	if (code != ERR_NONE) {
		cr_assert(code == ERR_CORRUPTION || code == ERR_CRC_MISMATCH || code == ERR_CONFIG ||
				  code == ERR_SHARD_COUNT_MISMATCH,
			"%s, byte %zu, bit %u: %s", path, at, bit, err.message);
		return;
	}
	struct stream *stream = engine_find(f.engine, "a", 1);
	cr_assert(stream != NULL || least == 0, "%s, byte %zu, bit %u: the stream is gone", path, at, bit);
	uint64_t end = stream ? stream_view(stream).end : 0;
	for (uint64_t id = 0; id < end; id++) {
		code = fixture_get(&f, "a", id, id, 0, ENTRY, &err);
		cr_assert(code == ERR_NONE || code == ERR_CORRUPTION || code == ERR_CRC_MISMATCH,
			"%s, byte %zu, bit %u: entry %lu: %s", path, at, bit, (unsigned long)id,
			code == ERR_OTHER ? "wrong bytes" : err.message);
		cr_assert(id < count || code != ERR_NONE);
	}
	cr_assert(end >= least, "%s, byte %zu, bit %u: the next id is %lu", path, at, bit, (unsigned long)end);
	fixture_die(&f);
}

static void flip_every_bit(uint64_t count, uint64_t least)
{
	for (unsigned policy = 0; policy < 2; policy++) {
		f.options.on_corruption = policy ? ON_CORRUPTION_TRUNCATE : ON_CORRUPTION_ERROR;
		for (unsigned i = 0; i < saved_count; i++)
			for (size_t at = 0; at < saved[i].len; at++)
				for (unsigned bit = 0; bit < 8; bit++) {
					restore();
					cr_assert(sim_flip_bit(f.io, saved[i].path, at, bit) == 0);
					check_any(saved[i].path, at, bit, count, least);
				}
	}
	restore();
	forget();
}

DAMAGE_TEST(every_bit_after_a_crash)
{
	f.options.max_entries_per_segment = 3;
	make(5);
	save("ironwald.manifest", SIZE_MAX);
	save(SEGMENT_0, SIZE_MAX);
	save("a/00000000000000000003.wal", frame_at(2));
	flip_every_bit(5, 4); /* the last frame: nothing tells that it had been synced */
}

DAMAGE_TEST(every_bit_after_a_clean_stop)
{
	f.options.max_entries_per_segment = 3;
	make(5);
	fixture_open(&f);
	fixture_close(&f);
	save(SEGMENT_0, frame_at(1));
	save("a/00000000000000000003.wal", frame_at(2));
	save("ironwald.clean", SIZE_MAX);
	flip_every_bit(5, 5);
}

/* The journal is all that holds the entries. */
DAMAGE_TEST(every_bit_of_a_journal)
{
	f.options.max_entries_per_segment = 1; /* every entry makes a segment, by the journal */
	fixture_open(&f);
	fixture_add_to_many(&f, "s%u", 5, 9);
	fixture_add(&f, "a", 0);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	cr_assert(sim_file_size(f.io, SEGMENT_0) < 0, "the test means to have it in the journal alone");
	save("ironwald.journal-00000-0", 4096);
	flip_every_bit(1, 0);
	f.options.on_corruption = ON_CORRUPTION_ERROR;
	fixture_open(&f);
	good(0, 1);
}

/* ---- a log inside the log --------------------------------------------------------------------------------------- */

struct blob {
	struct entry_source base;
	uint8_t *bytes;
	size_t len;
};

static void rewind_blob(struct entry_source *source)
{
	(void)source;
}

static void next_blob(struct entry_source *source, const uint8_t **ret_bytes, size_t *ret_len)
{
	*ret_bytes = ((struct blob *)source)->bytes;
	*ret_len = ((struct blob *)source)->len;
}

/* The segment's own bytes, salt and all, as an entry; the frame before it is broken, so that a search for whole frames
 * goes through it. */
DAMAGE_TEST(a_segment_stored_as_an_entry_is_never_taken_for_frames)
{
	for (unsigned shift = 0; shift < 8; shift++) {
		struct error err;
		again(ON_CORRUPTION_TRUNCATE);
		make(20);
		fixture_open(&f);
		struct blob blob = {.base = {1, 0, rewind_blob, next_blob}, .len = frame_at(20) + shift};
		blob.bytes = calloc(1, blob.len);
		cr_assert(sim_read_file(f.io, SEGMENT_0, 0, blob.bytes + shift, blob.len - shift) == 0);
		blob.base.total_bytes = blob.len;
		struct op op = {.kind = OP_APPEND, .source = &blob.base};
		cr_assert(engine_submit(f.engine, &op, "a", 1, &err) == 0);
		fixture_run(&f);
		cr_assert(engine_take(f.engine) == &op && !op.error && op.first == 20);
		if (shift % 2)
			fixture_add(&f, "a", 21);
		uint64_t end = fixture_info(&f, "a").end;
		fixture_restart(&f);
		fixture_die(&f);
		cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(19) + 50, 2) == 0);
		fixture_open(&f);
		cr_assert(fixture_info(&f, "a").end == end, "the next id is %lu, not %lu",
			(unsigned long)fixture_info(&f, "a").end, (unsigned long)end);
		good(0, 19);
		hole(19, end);
		/* And torn: the big frame's header is broken, it is the last. */
		again(ON_CORRUPTION_ERROR);
		make(20);
		fixture_open(&f);
		cr_assert(engine_submit(f.engine, &op, "a", 1, &err) == 0);
		fixture_run(&f);
		cr_assert(engine_take(f.engine) == &op && !op.error);
		fixture_restart(&f);
		fixture_die(&f);
		cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(20) + 50, 2) == 0);
		fixture_open(&f);
		cr_assert(fixture_info(&f, "a").end == 20 && fixture_stats(&f).recovery.torn_tails_cut == 1);
		good(0, 20);
		free(blob.bytes);
	}
}

/* ---- a hashed name ---------------------------------------------------------------------------------------------- */

static int first_hashed(const char *name, bool is_dir, void *arg)
{
	if (!is_dir || strncmp(name, "%%", 2) != 0)
		return 0;
	snprintf(arg, 256, "%s", name);
	return 1;
}

static int has_aside(const char *name, bool is_dir, void *arg)
{
	(void)arg;
	return is_dir && strncmp(name, "ironwald.aside-", 15) == 0;
}

/* A name too long for a directory stands in the segments' headers alone: without any, nobody knows whose it was. */
DAMAGE_TEST(a_directory_that_nobody_can_name_is_refused_or_set_aside)
{
	struct error err;
	char name[256], dir[256], path[300];
	memset(name, 'x', 255);
	name[255] = '\0';
	fixture_open(&f);
	for (uint64_t i = 0; i < 4; i++)
		fixture_add(&f, name, i);
	fixture_add(&f, "a", 0);
	fixture_restart(&f);
	fixture_die(&f);
	cr_assert(sim_list(f.io, "", first_hashed, dir) == 1);
	snprintf(path, sizeof(path), "%s/00000000000000000000.wal", dir);
	cr_assert(sim_flip_bit(f.io, path, 60, 1) == 0);
	cr_assert(fixture_try_open(&f, &err) == ERR_CORRUPTION && strstr(err.message, dir));
	f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
	fixture_open(&f);
	good(0, 1);
	cr_assert(fixture_stats(&f).streams == 1 && fixture_stats(&f).recovery.rot_found == 1);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	cr_assert(sim_list(f.io, "", has_aside, NULL) == 1 && sim_list(f.io, "", first_hashed, dir) == 0,
		"it was not set aside durably");
	f.options.on_corruption = ON_CORRUPTION_ERROR;
	fixture_open(&f);
	struct answer answer = fixture_append(&f, name, 9, 1, 20, 0, 0);
	cr_assert(answer.code == ERR_IO && answer.error.os_errno == EEXIST && answer.error.outcome == OUTCOME_NONE,
		"ids that were set aside are not given again");
	good(0, 1);
}

/* ---- what an index may claim ------------------------------------------------------------------------------------ */

/* The writer alone works: whoever writes zeros ahead syncs the file, which would hide what is to be seen. */
static void add_quietly(uint64_t tag)
{
	struct entries entries;
	struct error err;
	entries_init(&entries, tag, 1, 40000);
	struct op op = {.kind = OP_APPEND, .source = &entries.base};
	cr_assert(engine_submit(f.engine, &op, "a", 1, &err) == 0);
	engine_kick(f.engine);
	while (engine_step(f.engine, 0))
		;
	cr_assert(engine_take(f.engine) == &op && !op.error);
	entries_free(&entries);
}

/* An index point says that the segment was durable up to it. If one were saved too early, a power cut that keeps the
 * index and loses the segment's bytes would look like rot, or what is lost before it would go unseen. */
DAMAGE_TEST(an_index_never_claims_what_was_not_synced)
{
	struct error err;
	unsigned lost = 0, indexed = 0;
	f.options.sync_mode = SYNC_ASYNC;
	f.options.async_sync_interval_ns = 0;
	for (seed = 1; seed <= 40; seed++) {
		again(ON_CORRUPTION_ERROR);
		fixture_open(&f);
		for (uint64_t i = 0; i < 60; i++) {
			add_quietly(i);
			if (i == 5 && seed % 2 == 1)
				cr_assert(fixture_sync(&f, "a").code == ERR_NONE);
		}
		fixture_power_cut(&f, SIM_POWER_RANDOM);
		indexed += fixture_files(&f, "a", ".idx");
		fixture_open(&f);
		struct stream *stream = engine_find(f.engine, "a", 1);
		uint64_t end = stream ? stream_view(stream).end : 0;
		cr_assert(end >= (seed % 2 ? 6 : 0));
		for (uint64_t id = 0; id < end; id++)
			cr_assert(fixture_get(&f, "a", id, id, 0, 40000, &err) == ERR_NONE, "seed %lu: %s",
				(unsigned long)seed, err.message);
		lost += end < 60;
	}
	cr_assert(lost > 10 && indexed > 0, "%u lost something, %u had an index", lost, indexed);
}
