/* Damage by hand, and what verify says of it: the kinds that test_engine_damage makes, and each bit of a directory. */
#include "checkpoint.h"
#include "crc32c.h"
#include "engine_fixture.h"
#include "format.h"
#include "index.h"
#include "test_fsck_common.h"

TestSuite(fsck_verify, .timeout = 280);

static struct fixture f;
static struct seen seen;
static struct error err;

static void set_up(void)
{
	fixture_init(&f);
}

static void tear_down(void)
{
	fixture_free(&f);
}

#define VERIFY_TEST(name) Test(fsck_verify, name, .init = set_up, .fini = tear_down)

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
	fixture_restart(&f);
	fixture_die(&f);
}

static void stop_clean(void)
{
	fixture_open(&f);
	fixture_close(&f);
}

static void again(void)
{
	if (f.engine)
		fixture_die(&f);
	sim_free(f.io);
	f.io = sim_new(1);
}

static void expect_status(enum fsck_status wanted, const char *what)
{
	enum fsck_status status = verify_disk(f.io, &seen, &err);
	if (status != wanted)
		seen_print(&seen);
	cr_assert(status == wanted, "%s: status %d, not %d%s%s", what, (int)status, (int)wanted,
		status == STATUS_FAILED ? ": " : "", status == STATUS_FAILED ? err.message : "");
}

/* One finding of that kind, of these ids. */
static void expect(const char *kind, const char *file, uint64_t offset, uint64_t first, uint64_t end)
{
	int at = seen_find(&seen, kind, 0);
	if (at < 0 || seen.count != 1 + seen.notes)
		seen_print(&seen);
	cr_assert(at >= 0 && seen.count == 1 + seen.notes, "%s and no more was to be found", kind);
	cr_assert(strcmp(seen.items[at].file, file) == 0, "%s: in %s", kind, seen.items[at].file);
	cr_assert(offset == UINT64_MAX || (seen.items[at].has_offset && seen.items[at].offset == offset), "%s: at %lu",
		kind, (unsigned long)seen.items[at].offset);
	if (first == end)
		cr_assert(!seen.items[at].has_ids, "%s: of ids", kind);
	else
		cr_assert(seen.items[at].has_ids && seen.items[at].first == first && seen.items[at].end == end,
			"%s: ids %lu to %lu", kind, (unsigned long)seen.items[at].first,
			(unsigned long)seen.items[at].end);
}

/* ---- the end of the newest segment ------------------------------------------------------------------------------ */

VERIFY_TEST(a_torn_tail_is_status_1)
{
	for (uint64_t size = frame_at(4); size < frame_at(5); size += 7) {
		again();
		make(5);
		cr_assert(sim_truncate_file(f.io, SEGMENT_0, size) == 0);
		/* What was cut off at its padding is whole. */
		enum fsck_status wanted = size == frame_at(4) ? STATUS_CLEAN : STATUS_TORN;
		expect_status(wanted, "a frame cut short");
		if (wanted == STATUS_TORN)
			expect("torn_tail", SEGMENT_0, frame_at(4), 0, 0);
	}
}

VERIFY_TEST(zeros_behind_the_end_are_room_and_noise_is_a_torn_tail)
{
	uint8_t bytes[5000] = {0};
	make(5);
	cr_assert(sim_patch_file(f.io, SEGMENT_0, frame_at(5), bytes, sizeof(bytes)) == 0);
	expect_status(STATUS_CLEAN, "zeros behind the end");
	fixture_bytes(1, 7, bytes, 3000);
	cr_assert(sim_patch_file(f.io, SEGMENT_0, frame_at(5), bytes, 3000) == 0);
	expect_status(STATUS_TORN, "noise behind the end");
	expect("torn_tail", SEGMENT_0, frame_at(5), 0, 0);
}

VERIFY_TEST(whole_frames_behind_a_break_that_was_never_synced_are_a_torn_tail)
{
	uint8_t zeros[FRAME] = {0};
	f.options.sync_mode = SYNC_ASYNC;
	f.options.async_sync_interval_ns = 0;
	fixture_open(&f);
	for (uint64_t i = 0; i < 5; i++)
		fixture_add(&f, "a", i);
	fixture_die(&f);
	cr_assert(sim_patch_file(f.io, SEGMENT_0, frame_at(2), zeros, FRAME) == 0);
	expect_status(STATUS_TORN, "frames behind a break");
	expect("torn_tail", SEGMENT_0, frame_at(2), 0, 0);
	fixture_open(&f);
	cr_assert(fixture_info(&f, "a").end == 2);
	fixture_die(&f);
	expect_status(STATUS_CLEAN, "after the start");
	cr_assert(seen_find(&seen, "set_aside", 0) >= 0);
}

/* ---- rot -------------------------------------------------------------------------------------------------------- */

VERIFY_TEST(rot_at_the_end_is_status_2_with_its_ids)
{
	for (uint64_t at = frame_at(2); at < frame_at(3) - 4; at += 11) {
		again();
		make(5);
		cr_assert(sim_flip_bit(f.io, SEGMENT_0, at, at % 8) == 0);
		expect_status(STATUS_DAMAGE, "a flipped bit");
		expect("rot", SEGMENT_0, frame_at(2), 2, 5);
	}
	/* Once a start has gone on behind it, it is no news. */
	f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
	fixture_open(&f);
	fixture_add(&f, "a", 5);
	fixture_die(&f);
	expect_status(STATUS_CLEAN, "dealt with");
	int hole = seen_find(&seen, "lost_before", 0);
	cr_assert(hole >= 0 && seen.items[hole].first == 2 && seen.items[hole].end == 5);
	cr_assert(seen_find(&seen, "set_aside", 0) >= 0);
	/* What is kept of it is looked at all the same. */
	cr_assert(sim_flip_bit(f.io, fixture_file(&f, "a", ".cut", 0), frame_at(1) + 130, 1) == 0);
	expect_status(STATUS_DAMAGE, "a flipped bit in a file that was set aside");
	int block = seen_find(&seen, "block", 0);
	cr_assert(block >= 0 && seen.items[block].first == 1 && seen.items[block].end == 2);
}

VERIFY_TEST(after_a_clean_stop_the_last_frame_is_rot)
{
	make(5);
	stop_clean();
	expect_status(STATUS_CLEAN, "as it was");
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(4) + 150, 1) == 0);
	expect_status(STATUS_DAMAGE, "the last frame");
	expect("rot", SEGMENT_0, frame_at(4), 4, 5);
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(4) + 150, 1) == 0);
	cr_assert(sim_remove_file(f.io, SEGMENT_0) == 0);
	expect_status(STATUS_DAMAGE, "the segment is gone");
	expect("missing_segment", SEGMENT_0, UINT64_MAX, 0, 5);
}

VERIFY_TEST(the_header_of_the_newest_segment)
{
	for (uint64_t at = 0; at < HEADER; at += 5) {
		again();
		make(5);
		cr_assert(sim_flip_bit(f.io, SEGMENT_0, at, at % 8) == 0);
		expect_status(STATUS_DAMAGE, "a flipped bit");
		expect("rot", SEGMENT_0, 0, 0, 5);
	}
}

/* ---- sealed segments -------------------------------------------------------------------------------------------- */

VERIFY_TEST(damage_in_old_segments_is_told_with_the_ids_that_a_reader_misses)
{
	f.options.max_entries_per_segment = 10;
	make(45);
	expect_status(STATUS_CLEAN, "as it was");
	cr_assert(seen.count == 0);
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(3) + 130, 0) == 0);
	expect_status(STATUS_DAMAGE, "a block");
	expect("block", SEGMENT_0, frame_at(3) + 116, 3, 4);
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(3) + 130, 0) == 0);

	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(7) + 20, 0) == 0);
	expect_status(STATUS_DAMAGE, "a frame's header");
	expect("frame", SEGMENT_0, frame_at(7), 7, 8);
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(7) + 20, 0) == 0);

	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(9) + 20, 0) == 0);
	expect_status(STATUS_DAMAGE, "the last frame's header");
	expect("frame", SEGMENT_0, frame_at(9), 9, 10);
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(9) + 20, 0) == 0);

	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(5) - 1, 0) == 0);
	expect_status(STATUS_DAMAGE, "padding");
	expect("padding", SEGMENT_0, frame_at(5) - 4, 0, 0);
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, frame_at(5) - 1, 0) == 0);

	cr_assert(sim_flip_bit(f.io, SEGMENT_0, 20, 0) == 0);
	expect_status(STATUS_DAMAGE, "the header");
	expect("header", SEGMENT_0, 0, 0, 10);
	cr_assert(sim_flip_bit(f.io, SEGMENT_0, 20, 0) == 0);

	uint8_t zeros[FRAME] = {0}, frame[FRAME];
	cr_assert(sim_read_file(f.io, SEGMENT_0, frame_at(4), frame, FRAME) == 0);
	cr_assert(sim_patch_file(f.io, SEGMENT_0, frame_at(4), zeros, FRAME) == 0);
	expect_status(STATUS_DAMAGE, "a frame of zeros");
	expect("frame", SEGMENT_0, frame_at(4), 4, 5);
	cr_assert(sim_patch_file(f.io, SEGMENT_0, frame_at(4), frame, FRAME) == 0);

	cr_assert(sim_patch_file(f.io, SEGMENT_0, frame_at(10), "x", 1) == 0);
	expect_status(STATUS_DAMAGE, "something behind a sealed end");
	expect("behind_end", SEGMENT_0, frame_at(10), 0, 0);
	cr_assert(sim_patch_file(f.io, SEGMENT_0, frame_at(10), "\0", 1) == 0);
	expect_status(STATUS_CLEAN, "a zero there");
}

VERIFY_TEST(missing_frames_and_files)
{
	f.options.max_entries_per_segment = 10;
	make(45);
	cr_assert(sim_truncate_file(f.io, SEGMENT_0, frame_at(9)) == 0);
	expect_status(STATUS_DAMAGE, "the last frame of a sealed segment");
	expect("missing_frames", SEGMENT_0, frame_at(9), 9, 10);
	cr_assert(sim_remove_file(f.io, "a/00000000000000000020.wal") == 0);
	expect_status(STATUS_DAMAGE, "a segment in the middle");
	int at = seen_find(&seen, "missing_frames", 1);
	cr_assert(seen.count == 2 && at >= 0 && seen.items[at].first == 20 && seen.items[at].end == 30);
}

VERIFY_TEST(a_segment_of_elsewhere_does_not_fit)
{
	f.options.max_entries_per_segment = 10;
	make(25);
	int64_t size = sim_file_size(f.io, "a/00000000000000000010.wal");
	uint8_t *old = malloc((size_t)size);
	cr_assert(old && sim_read_file(f.io, "a/00000000000000000010.wal", 0, old, (size_t)size) == 0);
	again();
	sim_free(f.io);
	f.io = sim_new(2);
	make(25);
	cr_assert(sim_write_file(f.io, "a/00000000000000000010.wal", old, (size_t)size) == 0);
	free(old);
	expect_status(STATUS_DAMAGE, "a segment of another directory");
	cr_assert(seen_find(&seen, "chain", 0) >= 0);
	cr_assert(seen_find(&seen, "frame", 0) < 0);
}

/* ---- block by block: entries beyond one block, compressed ------------------------------------------------------- */

VERIFY_TEST(a_block_that_does_not_unpack_is_damage_though_its_checksum_is_right)
{
	f.options.compression = COMPRESSION_LZ4;
	f.options.min_compression_size = 1;
	f.options.max_entries_per_segment = 1;
	fixture_open(&f);
	struct entries entries;
	entries_init(&entries, 1, 1, 4000);
	entries_free(&entries);
	static uint8_t text[4000];
	memset(text, 'x', sizeof(text));
	cr_assert(fixture_append(&f, "a", 1, 40, 2000, APPEND_BATCH, 0).code == ERR_NONE);
	for (unsigned i = 0; i < 3; i++)
		fixture_add(&f, "a", i);
	fixture_restart(&f);
	fixture_die(&f);
	expect_status(STATUS_CLEAN, "as it was");
	/* The first end of the first block, with the checksums of block and header made anew. */
	int64_t size = sim_file_size(f.io, SEGMENT_0);
	uint8_t *bytes = malloc((size_t)size);
	cr_assert(bytes && sim_read_file(f.io, SEGMENT_0, 0, bytes, (size_t)size) == 0);
	uint8_t *header = bytes + HEADER, *row = header + FRAME_FIXED_BYTES;
	struct frame frame;
	cr_assert(frame_decode_fixed(header, get_u64(bytes + 24), HEADER, &frame));
	uint8_t *block = header + frame.header_bytes;
	put_u32(block, 0x7fffffff);
	put_u32(row + 12, crc32c(0, block, get_u32(row + 4)));
	put_u32(header + frame.header_bytes - 4, crc32c(0, header, frame.header_bytes - 4));
	cr_assert(sim_write_file(f.io, SEGMENT_0, bytes, (size_t)size) == 0);
	free(bytes);
	expect_status(STATUS_DAMAGE, "an end that is outside");
	int at = seen_find(&seen, "block", 0);
	cr_assert(at >= 0 && seen.items[at].first == 0 && seen.items[at].end < 40);
}

VERIFY_TEST(neighbouring_bad_blocks_are_one_finding)
{
	f.options.max_entries_per_segment = 1;
	fixture_open(&f);
	cr_assert(fixture_append(&f, "a", 1, 100, 3000, APPEND_BATCH, 0).code == ERR_NONE);
	fixture_add(&f, "a", 1);
	fixture_restart(&f);
	fixture_die(&f);
	for (uint64_t at = 100000; at < 140000; at += 2500)
		cr_assert(sim_flip_bit(f.io, SEGMENT_0, at, 3) == 0);
	expect_status(STATUS_DAMAGE, "blocks");
	cr_assert(seen.count == 1 && seen.items[0].first > 20 && seen.items[0].end < 60 &&
		  seen.items[0].end - seen.items[0].first >= 13);
}

/* With so many streams a start after a clean stop does not look at their ends: verify does. */
VERIFY_TEST(more_streams_than_a_start_looks_at)
{
	fixture_open(&f);
	cr_assert(fixture_add_to_many(&f, "s%u", 4200, 1) == 0);
	cr_assert(fixture_add_to_many(&f, "s%u", 4200, 2) == 0);
	fixture_restart(&f);
	fixture_close(&f);
	expect_status(STATUS_CLEAN, "as it was");
	cr_assert(sim_flip_bit(f.io, "s4000/00000000000000000000.wal", 64 + FRAME + 130, 1) == 0);
	expect_status(STATUS_DAMAGE, "a block of the last frame");
	expect("block", "s4000/00000000000000000000.wal", 64 + FRAME + 116, 1, 2);
	cr_assert(sim_truncate_file(f.io, "s4000/00000000000000000000.wal", 64 + FRAME) == 0);
	expect_status(STATUS_DAMAGE, "the last frame is gone");
	expect("missing_frames", "s4000/00000000000000000000.wal", 64 + FRAME, 1, 2);
	cr_assert(sim_remove_file(f.io, "s4000/00000000000000000000.wal") == 0);
	expect_status(STATUS_DAMAGE, "the segment is gone");
	expect("missing_segment", "s4000/00000000000000000000.wal", UINT64_MAX, 0, 2);
}

/* ---- the index -------------------------------------------------------------------------------------------------- */

static void make_indexed(void)
{
	f.options.max_entries_per_segment = 30;
	fixture_open(&f);
	for (uint64_t i = 0; i < 70; i++)
		cr_assert(fixture_append(&f, "a", i, 1, 20000, 0, 0).code == ERR_NONE);
	fixture_restart(&f);
	fixture_close(&f);
}

#define INDEX_0 "a/00000000000000000000.idx"

VERIFY_TEST(an_index_point_that_lies_is_damage_and_what_is_lost_of_one_is_not)
{
	make_indexed();
	expect_status(STATUS_CLEAN, "as it was");
	cr_assert(seen.count == 0);
	int64_t size = sim_file_size(f.io, INDEX_0);
	cr_assert(size > 24 + 3 * 32);
	cr_assert(sim_truncate_file(f.io, INDEX_0, (uint64_t)size - 32) == 0);
	expect_status(STATUS_CLEAN, "a point less");
	cr_assert(seen.count == 1 && strcmp(seen.items[0].kind, "index_incomplete") == 0);
	cr_assert(sim_truncate_file(f.io, INDEX_0, (uint64_t)size - 40) == 0);
	expect_status(STATUS_TORN, "a point cut short");
	uint8_t header[24], row[32];
	cr_assert(sim_read_file(f.io, INDEX_0, 0, header, sizeof(header)) == 0);
	cr_assert(sim_read_file(f.io, INDEX_0, 24, row, sizeof(row)) == 0);
	uint64_t salt = get_u64(header + 8);
	for (unsigned field = 0; field < 3; field++) {
		uint8_t lie[32];
		memcpy(lie, row, 32);
		if (field == 0)
			put_u64(lie, get_u64(row) + 1);
		else if (field == 1)
			put_u64(lie + 8, get_u64(row + 8) + 8);
		else
			put_u32(lie + 16, get_u32(row + 16) ^ 1);
		put_u32(lie + 28, crc32c((uint32_t)(salt ^ salt >> 32), lie, 28));
		cr_assert(sim_patch_file(f.io, INDEX_0, 24, lie, 32) == 0);
		expect_status(STATUS_DAMAGE, "a point that lies");
		cr_assert(seen_find(&seen, "index_lies", 0) >= 0);
	}
	cr_assert(sim_remove_file(f.io, INDEX_0) == 0);
	expect_status(STATUS_CLEAN, "no index");
}

/* ---- checkpoints ------------------------------------------------------------------------------------------------ */

static void create_checkpoint(const char *id)
{
	struct checkpoint_op op = {.op.kind = OP_CREATE_CHECKPOINT, .id = id, .id_len = strlen(id)};
	cr_assert(engine_submit_checkpoint(f.engine, &op, &err) == 0);
	/* The cut, its syncs and the log come one after another. */
	struct op *done = NULL;
	for (unsigned i = 0; i < 10 && !done; i++) {
		fixture_run(&f);
		done = engine_take(f.engine);
	}
	cr_assert(done == &op.op && !op.op.error);
	checkpoint_op_clear(&op);
}

static void make_checkpoints(void)
{
	f.options.shard_count = 2;
	fixture_open(&f);
	for (uint64_t i = 0; i < 6; i++) {
		char id[8];
		fixture_add(&f, "shard_00", i);
		fixture_add(&f, "shard_01", i);
		snprintf(id, sizeof(id), "c%u", (unsigned)i);
		create_checkpoint(id);
	}
}

VERIFY_TEST(checkpoints_are_held_against_their_sums_and_their_shards)
{
	make_checkpoints();
	fixture_restart(&f);
	fixture_close(&f);
	expect_status(STATUS_CLEAN, "as it was");
	cr_assert(seen.count == 0);
	const char *log = "ironwald.checkpoints";
	for (uint64_t at = 512; at < 512 * 7; at += 512) {
		for (unsigned part = 0; part < 3; part++) {
			static const uint64_t inside[] = {20, 100, 400};
			cr_assert(sim_flip_bit(f.io, log, at + inside[part], 2) == 0);
			expect_status(STATUS_DAMAGE, "a flipped bit in a record");
			cr_assert(seen.count == 1);
			cr_assert(sim_flip_bit(f.io, log, at + inside[part], 2) == 0);
		}
	}
	cr_assert(sim_flip_bit(f.io, log, 100, 2) == 0);
	expect_status(STATUS_DAMAGE, "the file's header");
	cr_assert(sim_flip_bit(f.io, log, 100, 2) == 0);
	/* A shard that has lost what a checkpoint names. */
	cr_assert(sim_remove_file(f.io, "ironwald.clean") == 0);
	cr_assert(sim_truncate_file(f.io, "shard_01/00000000000000000000.wal", 64 + 3 * FRAME) == 0);
	expect_status(STATUS_DAMAGE, "a shard that is short");
	int at = seen_find(&seen, "rot", 0);
	cr_assert(at >= 0 && seen.items[at].first == 3 && seen.items[at].end == 6);
}

VERIFY_TEST(a_torn_end_of_the_checkpoint_log_is_status_1)
{
	make_checkpoints();
	fixture_die(&f);
	expect_status(STATUS_CLEAN, "as it was");
	uint8_t zeros[300] = {0};
	cr_assert(sim_patch_file(f.io, "ironwald.checkpoints", 512 * 6 + 90, zeros, sizeof(zeros)) == 0);
	expect_status(STATUS_TORN, "a record without its end");
	expect("torn_checkpoint", "ironwald.checkpoints", 512 * 6, 0, 0);
}

/* ---- directories ------------------------------------------------------------------------------------------------ */

static int hashed_cb(const char *name, bool is_dir, void *arg)
{
	if (!is_dir || strncmp(name, "%%", 2) != 0)
		return 0;
	snprintf(arg, 256, "%s", name);
	return 1;
}

VERIFY_TEST(a_directory_that_nobody_can_name)
{
	char name[256], dir[256], path[300];
	memset(name, 'x', 255);
	name[255] = '\0';
	fixture_open(&f);
	for (uint64_t i = 0; i < 4; i++)
		fixture_add(&f, name, i);
	fixture_restart(&f);
	fixture_die(&f);
	cr_assert(sim_list(f.io, "", hashed_cb, dir) == 1);
	snprintf(path, sizeof(path), "%s/00000000000000000000.wal", dir);
	cr_assert(sim_flip_bit(f.io, path, 60, 1) == 0);
	expect_status(STATUS_DAMAGE, "no header");
	expect("nameless_directory", dir, UINT64_MAX, 0, 0);
	f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
	fixture_open(&f);
	fixture_die(&f);
	expect_status(STATUS_CLEAN, "set aside");
	cr_assert(seen_find(&seen, "set_aside", 0) >= 0);
}

VERIFY_TEST(what_is_no_data_directory_and_what_has_lost_its_manifest)
{
	expect_status(STATUS_FAILED, "an empty directory");
	make_file(f.io, "letter.txt", "dear", true);
	expect_status(STATUS_FAILED, "somebody's directory");
	again();
	make(3);
	struct io_file *lock;
	cr_assert(f.io->ops->lock(f.io, "ironwald.lock", &lock) == 0);
	struct report report;
	report_init(&report, NULL, false);
	cr_assert(verify_run(f.io, &report, NULL, &err) == STATUS_FAILED && strstr(err.message, "in use"));
	report_free(&report);
	f.io->ops->unlock(lock);
	make_file(f.io, "letter.txt", "dear", true);
	expect_status(STATUS_CLEAN, "a foreign file");
	cr_assert(seen_find(&seen, "foreign", 0) >= 0);
	cr_assert(sim_remove_file(f.io, "ironwald.manifest") == 0);
	expect_status(STATUS_DAMAGE, "no manifest");
	expect("manifest", "ironwald.manifest", UINT64_MAX, 0, 0);
}

/* ---- every bit -------------------------------------------------------------------------------------------------- */

/* Whether a flip at this place does no harm, and cannot be seen: see the list in tests/README.md. */
typedef bool (*harmless_cb)(uint64_t offset);

static void every_bit(const char *path, uint64_t from, uint64_t to, harmless_cb harmless)
{
	unsigned missed = 0;
	for (uint64_t at = from; at < to; at++)
		for (unsigned bit = 0; bit < 8; bit++) {
			cr_assert(sim_flip_bit(f.io, path, at, bit) == 0);
			enum fsck_status status = verify_disk(f.io, &seen, &err);
			bool found = status != STATUS_CLEAN;
			cr_assert(sim_flip_bit(f.io, path, at, bit) == 0);
			if (found != !(harmless && harmless(at)) && missed++ < 10)
				fprintf(stderr, "%s, byte %lu, bit %u: status %d\n", path, (unsigned long)at, bit,
					(int)status);
		}
	cr_assert(missed == 0, "%s: %u bits", path, missed);
	expect_status(STATUS_CLEAN, "as it was");
}

static uint64_t size_of(const char *path)
{
	int64_t size = sim_file_size(f.io, path);
	cr_assert(size > 0, "%s", path);
	return (uint64_t)size;
}

VERIFY_TEST(every_bit_after_a_clean_stop)
{
	f.options.max_entries_per_segment = 2;
	make(3);
	stop_clean();
	every_bit("ironwald.manifest", 0, size_of("ironwald.manifest"), NULL);
	every_bit("ironwald.clean", 0, size_of("ironwald.clean"), NULL);
	every_bit(SEGMENT_0, 0, size_of(SEGMENT_0), NULL);
	every_bit("a/00000000000000000002.wal", 0, size_of("a/00000000000000000002.wal"), NULL);
}

/* What was written last, and nothing tells that it had been synced, is cut: it is found, but as a torn tail. */
VERIFY_TEST(every_bit_after_a_crash)
{
	f.options.max_entries_per_segment = 2;
	make(3);
	every_bit(SEGMENT_0, 0, size_of(SEGMENT_0), NULL);
	every_bit("a/00000000000000000002.wal", 0, size_of("a/00000000000000000002.wal"), NULL);
}

VERIFY_TEST(every_bit_of_an_index)
{
	make_indexed();
	every_bit(INDEX_0, 0, 24 + 3 * 32, NULL);
}

VERIFY_TEST(every_bit_of_a_checkpoint_log)
{
	make_checkpoints();
	fixture_restart(&f);
	fixture_close(&f);
	/* Six records, the mark of the clean stop, and some of what is held ahead. */
	every_bit("ironwald.checkpoints", 0, 512 * 2, NULL);
	every_bit("ironwald.checkpoints", 512 * 6, 512 * 9, NULL);
}

/* Padding, which nothing reads; and the header of a last record that is not the first: nothing tells that it was there.
 */
static uint64_t journal_first, journal_second;

static bool harmless_in_journal(uint64_t offset)
{
	return (offset >= journal_first && offset < 512) || offset >= journal_second ||
	       (offset >= 512 && offset < 512 + 64);
}

VERIFY_TEST(every_bit_of_a_journal)
{
	f.options.max_entries_per_segment = 1; /* every entry makes a segment, by the journal */
	fixture_open(&f);
	fixture_add(&f, "a", 0);
	fixture_add(&f, "b", 0);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	const char *path = "ironwald.journal-00000-0";
	uint8_t header[64];
	cr_assert(sim_read_file(f.io, path, 0, header, 64) == 0 && memcmp(header, "IWJR", 4) == 0);
	journal_first = 64 + get_u64(header + 32);
	cr_assert(journal_first < 512);
	cr_assert(sim_read_file(f.io, path, 512, header, 64) == 0 && memcmp(header, "IWJR", 4) == 0);
	journal_second = 512 + 64 + get_u64(header + 32);
	expect_status(STATUS_CLEAN, "as it was");
	every_bit(path, 0, 1024, harmless_in_journal);
}
