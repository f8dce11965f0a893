/* Promises that were found broken once, each where it broke: recovery, the journal, and shortages. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"
#include "journal.h"
#include "names.h"

TestSuite(engine_review, .timeout = 280);

static struct fixture f;

static void set_up(void)
{
	fixture_init(&f);
}

static void tear_down(void)
{
	fixture_free(&f);
}

#define REVIEW_TEST(name) Test(engine_review, name, .init = set_up, .fini = tear_down)

#define HEADER_A 56u /* of a segment of stream "a" */
#define SEGMENT_A "a/00000000000000000000.wal"

/* ---- helpers ---------------------------------------------------------------------------------------------------- */

/* A new disk. */
static void again(uint64_t seed)
{
	if (f.engine)
		fixture_die(&f);
	sim_free(f.io);
	f.io = sim_new(seed);
}

/* The writers work, what is done in the background waits. */
static void run_writers(void)
{
	struct engine_stats stats = fixture_stats(&f);
	bool worked = true;
	engine_kick(f.engine);
	while (worked) {
		worked = false;
		for (unsigned i = 0; i < stats.writer_count; i++)
			worked |= engine_step(f.engine, i);
	}
}

/* Only what is done in the background for the writers: checkpoints, deletions. */
static void run_keeper(void)
{
	while (engine_step(f.engine, fixture_stats(&f).writer_count + 1))
		;
}

struct outcome {
	unsigned refused, unknown;
	int os_errno; /* of the first that was refused */
};

/* One entry of `len` bytes to each of names[0..count), handed in together; only writers run. acked, if not NULL, counts
 * per stream what was acknowledged. */
static struct outcome add_to_all(char (*names)[24], unsigned count, uint64_t tag, size_t len, uint64_t *acked)
{
	struct op *ops = calloc(count, sizeof(*ops));
	struct entries *entries = calloc(count, sizeof(*entries));
	struct outcome outcome = {0};
	unsigned answered = 0;
	struct error err;
	cr_assert(ops && entries);
	for (unsigned i = 0; i < count; i++) {
		entries_init(&entries[i], tag, 1, len);
		ops[i] = (struct op){.kind = OP_APPEND, .source = &entries[i].base};
		cr_assert(engine_submit(f.engine, &ops[i], names[i], strlen(names[i]), &err) == 0, "%s", err.message);
	}
	run_writers();
	for (struct op *op = engine_take(f.engine); op; op = op->next)
		answered++;
	cr_assert(answered == count && engine_idle(f.engine));
	for (unsigned i = 0; i < count; i++) {
		if (!ops[i].error) {
			cr_assert(ops[i].end == ops[i].first + 1);
			if (acked) {
				cr_assert(ops[i].first == acked[i]);
				acked[i]++;
			}
		} else {
			cr_assert(ops[i].error->code == ERR_IO, "%s", ops[i].error->message);
			if (outcome.refused++ == 0)
				outcome.os_errno = ops[i].error->os_errno;
			outcome.unknown += ops[i].error->outcome == OUTCOME_UNKNOWN;
			free(ops[i].error);
		}
		entries_free(&entries[i]);
	}
	free(entries);
	free(ops);
	return outcome;
}

static void numbered_names(char (*names)[24], unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		snprintf(names[i], sizeof(names[i]), "s%u", i);
}

static void good(const char *name, uint64_t id, uint64_t tag, uint64_t index, size_t len)
{
	struct error err;
	cr_assert(fixture_get(&f, name, id, tag, index, len, &err) == ERR_NONE, "entry %lu of %.20s: %s",
		(unsigned long)id, name, err.code ? err.message : "other bytes");
}

static void add_good(const char *name, uint64_t tag, uint64_t count, size_t len, uint64_t first)
{
	struct answer answer = fixture_append(&f, name, tag, count, len, count == 1 ? 0 : APPEND_BATCH, 0);
	cr_assert(answer.code == ERR_NONE && answer.first == first && answer.end == first + count, "%s",
		answer.error.message);
}

static bool exists(const char *name)
{
	return engine_find(f.engine, name, strlen(name)) != NULL;
}

static void refused_to_start(enum error_code code)
{
	struct error err;
	enum error_code got = fixture_try_open(&f, &err);
	cr_assert(got == code, "%s: %s", error_code_name(got), got ? err.message : "it started");
	if (code == ERR_CORRUPTION)
		cr_assert(error_has(&err, EFI_SEGMENT) && error_has(&err, EFI_OFFSET) && error_has(&err, EFI_STREAM));
}

/* What a file of the journal holds. */
static struct journal_scan journal(uint32_t writer, unsigned half)
{
	char path[JOURNAL_PATH_MAX];
	struct journal_scan scan;
	journal_path(writer, half, path);
	cr_assert(journal_replay(f.io, path, NULL, NULL, &scan) == 0);
	return scan;
}

/* ---- the journal ------------------------------------------------------------------------------------------------ */

#define PER_WRITER 4u

/* The system tells of a lost write-back once. Two writers have each a generation to end; the sync for the first fails,
 * and then one for the second would say that all is well: but neither has its entries anywhere else. */
REVIEW_TEST(after_a_failed_sync_of_everything_no_generation_ends)
{
	char names[2 * PER_WRITER][24] = {{0}};
	uint64_t acked[2 * PER_WRITER] = {0};
	unsigned rounds = 0;
	f.options.shard_count = 2;
	fixture_open(&f);
	for (unsigned i = 0; i < 2; i++) /* shards are streams whose writer is known */
		snprintf(names[i], sizeof(names[i]), "shard_0%u", i);
	for (unsigned i = 2; i < 2 * PER_WRITER; i++)
		snprintf(names[i], sizeof(names[i]), "s%u", i);
	while (rounds < 400 &&
		!(journal(0, 0).records && journal(0, 1).records && journal(1, 0).records && journal(1, 1).records)) {
		struct outcome outcome = add_to_all(names, 2 * PER_WRITER, rounds++, 9000, acked);
		cr_assert(outcome.refused == 0);
	}
	cr_assert(rounds < 400, "the journals never got to their second generations");
	sim_fail_at(f.io, 1, EIO, SIM_BIT(SIM_SYNC_ALL));
	run_keeper();
	cr_assert(sim_faults_fired(f.io) == 1);
	for (unsigned writer = 0; writer < 2; writer++) {
		cr_assert(fixture_writer(&f, writer).failed, "writer %u trusts what it wrote", writer);
		for (unsigned half = 0; half < 2; half++)
			cr_assert(journal(writer, half).records > 0, "a generation with the only copy was ended");
	}
	struct outcome outcome = add_to_all(names, 2 * PER_WRITER, rounds, 100, NULL);
	cr_assert(outcome.refused == 2 * PER_WRITER && outcome.unknown == 0);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	for (unsigned i = 0; i < 2 * PER_WRITER; i++) {
		cr_assert(fixture_info(&f, names[i]).end == acked[i], "%s: %lu of %lu", names[i],
			(unsigned long)fixture_info(&f, names[i]).end, (unsigned long)acked[i]);
		for (uint64_t id = 0; id < acked[i]; id++)
			good(names[i], id, id, 0, 9000);
	}
}

/* Five records, in the journal alone; then the first is damaged. `at`: which byte of it. */
static void damage_first_record(unsigned at, unsigned half)
{
	char path[JOURNAL_PATH_MAX];
	fixture_power_cut(&f, SIM_LOSE_ALL);
	journal_path(0, half, path);
	cr_assert(sim_flip_bit(f.io, path, at, 1) == 0);
}

REVIEW_TEST(a_damaged_first_record_of_the_journal_is_refused)
{
	char names[4][24];
	numbered_names(names, 4);
	for (unsigned at = 0; at < 200; at += 9) {
		again(at + 1);
		f.options.on_corruption = ON_CORRUPTION_ERROR;
		fixture_open(&f);
		for (unsigned round = 0; round < 5; round++)
			cr_assert(add_to_all(names, 4, round, 5, NULL).refused == 0);
		cr_assert(fixture_writer(&f, 0).journal_groups == 5);
		/* Without its header nothing but the other file tells of a generation, and that has never been used. */
		damage_first_record(64 + at, 0);
		refused_to_start(ERR_CORRUPTION);
		refused_to_start(ERR_CORRUPTION);
		f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
		fixture_open(&f);
		cr_assert(fixture_stats(&f).recovery.rot_found > 0);
		fixture_add(&f, "s0", 1);
	}
}

REVIEW_TEST(a_first_record_without_its_header_is_refused_if_the_other_file_tells)
{
	char names[4][24];
	numbered_names(names, 4);
	for (unsigned round = 0; round < 2 * 8; round++) {
		unsigned half = round % 2, at = 4 + round / 2 * 7, groups = 0;
		again(round + 1);
		f.options.on_corruption = ON_CORRUPTION_ERROR;
		fixture_open(&f);
		do
			cr_assert(add_to_all(names, 4, groups, 9000, NULL).refused == 0);
		while (++groups < 100 && (journal(0, 0).records < 3 || journal(0, 1).records < 3));
		cr_assert(groups < 100);
		damage_first_record(at, half);
		refused_to_start(ERR_CORRUPTION);
		f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
		fixture_open(&f);
	}
}

/* ---- setting aside ---------------------------------------------------------------------------------------------- */

/* A stream whose first entry is in the journal and whose third reached the disk by itself: the second is a torn tail
 * with a whole frame behind it. */
static void make_torn_with_journal(uint64_t seed)
{
	uint8_t file[4096];
	again(seed);
	f.options.sync_mode = SYNC_ASYNC;
	f.options.async_sync_interval_ns = 0;
	fixture_open(&f);
	struct answer answer = fixture_append(&f, "a", 0, 1, 6, APPEND_SYNC, 0);
	cr_assert(answer.code == ERR_NONE && answer.durable && fixture_writer(&f, 0).journal_groups == 1);
	add_good("a", 1, 1, 1500, 1);
	uint64_t third = HEADER_A + fixture_info(&f, "a").bytes;
	add_good("a", 2, 1, 1500, 2);
	cr_assert(fixture_info(&f, "a").durable_end == 1);
	cr_assert(sim_read_file(f.io, SEGMENT_A, 0, file, sizeof(file)) == 0);
	cr_assert(memcmp(file + third, "IWFR", 4) == 0, "frames have another size");
	fixture_power_cut(&f, SIM_LOSE_ALL);
	memset(file, 0, third / 512 * 512);
	cr_assert(f.io->ops->mkdir(f.io, "a") == 0 && f.io->ops->sync_dir(f.io, "") == 0);
	cr_assert(sim_write_file(f.io, SEGMENT_A, file, sizeof(file)) == 0);
}

/* What the journal puts into a file has to be durable before the file gets a name that the journal does not know. */
REVIEW_TEST(a_file_is_synced_before_it_is_set_aside)
{
	static const struct {
		enum sim_power_mode mode;
		unsigned seeds;
	} cuts[] = {{SIM_LOSE_ALL, 1}, {SIM_KEEP_ALL, 1}, {SIM_POWER_RANDOM, 12}};
	struct error err;
	for (unsigned c = 0; c < 3; c++) {
		for (unsigned seed = 1; seed <= cuts[c].seeds; seed++) {
			bool cut = true;
			for (uint64_t operations = 0; cut; operations++) {
				cr_assert(operations < 200);
				make_torn_with_journal(seed);
				sim_cut_power_after(f.io, operations);
				if (fixture_try_open(&f, &err) == ERR_NONE) {
					cr_assert(fixture_stats(&f).recovery.files_set_aside == 1);
					engine_abandon(f.engine);
					f.engine = NULL;
				}
				cut = sim_is_dead(f.io);
				sim_power_on(f.io, cuts[c].mode);
				cr_assert(fixture_try_open(&f, &err) == ERR_NONE, "cut after %lu: %s",
					(unsigned long)operations, err.message);
				cr_assert(exists("a"), "cut after %lu: the stream is gone", (unsigned long)operations);
				cr_assert(fixture_get(&f, "a", 0, 0, 0, 6, &err) == ERR_NONE,
					"mode %d, seed %u, cut after %lu: a durable entry is lost: %s",
					(int)cuts[c].mode, seed, (unsigned long)operations, err.message);
				fixture_add(&f, "a", 9);
				fixture_power_cut(&f, cuts[c].mode);
				fixture_open(&f);
				good("a", 0, 0, 0, 6);
			}
		}
	}
}

/* A start that had set a file aside and was cut off left the clean-stop record behind, which names the file as it was.
 */
REVIEW_TEST(a_clean_stop_record_left_by_a_start_that_was_cut_off_is_no_hindrance)
{
	static const enum sim_power_mode modes[] = {SIM_KEEP_ALL, SIM_LOSE_ALL, SIM_POWER_RANDOM};
	struct error err;
	f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
	unsigned with_record = 0;
	for (unsigned round = 0; round < 3 + 8; round++) {
		enum sim_power_mode mode = modes[round < 3 ? round : 2];
		bool cut = true;
		for (uint64_t operations = 0; cut; operations++) {
			cr_assert(operations < 200);
			again(round + 1);
			fixture_open(&f);
			for (uint64_t i = 0; i < 5; i++) {
				cr_assert(fixture_add(&f, "a", i) == i);
				cr_assert(fixture_add(&f, "b", 10 + i) == i);
			}
			fixture_close(&f);
			cr_assert(sim_flip_bit(f.io, SEGMENT_A, 700, 1) == 0);
			sim_cut_power_after(f.io, operations);
			if (fixture_try_open(&f, &err) == ERR_NONE) {
				engine_abandon(f.engine);
				f.engine = NULL;
			}
			cut = sim_is_dead(f.io);
			sim_power_on(f.io, mode);
			with_record += sim_file_size(f.io, "ironwald.clean") > 0 && fixture_files(&f, "a", ".cut") > 0;
			cr_assert(fixture_try_open(&f, &err) == ERR_NONE, "cut after %lu: %s",
				(unsigned long)operations, err.message);
			cr_assert(fixture_files(&f, "a", ".cut") == 1);
			good("a", 0, 0, 0, 100);
			good("a", 1, 1, 0, 100);
			cr_assert(fixture_get(&f, "a", 4, 4, 0, 100, &err) == ERR_CORRUPTION);
			cr_assert(fixture_add(&f, "a", 5) == 5, "an id was given twice");
			for (uint64_t i = 0; i < 5; i++)
				good("b", i, 10 + i, 0, 100);
			cr_assert(fixture_add(&f, "b", 15) == 5);
		}
	}
	cr_assert(with_record > 0, "no cut left the record and a set-aside file");
}

/* ---- rot -------------------------------------------------------------------------------------------------------- */

/* A name of 200 bytes, all of which have to be escaped: its directory's name is hashed. */
static const char *long_name(char last)
{
	static char name[202];
	for (size_t i = 0; i < 100; i++)
		memcpy(name + 2 * i, "\xc3\xa9", 2);
	name[200] = last;
	return name;
}

/* A batch in one frame, whose segment's header is damaged while nothing else could mend it. */
static void damage_header(const char *name, unsigned at, enum corruption_policy policy)
{
	char dir[256], path[300];
	again(at + 1);
	f.options.on_corruption = policy;
	fixture_open(&f);
	add_good(name, 1, 100, 5, 0);
	fixture_restart(&f); /* the journal is empty */
	fixture_die(&f);
	cr_assert(dirname_from_name(name, strlen(name), dir) >= 0);
	snprintf(path, sizeof(path), "%s/00000000000000000000.wal", dir);
	cr_assert(sim_flip_bit(f.io, path, at, 3) == 0);
}

REVIEW_TEST(a_rotten_segment_header_is_refused)
{
	for (unsigned at = 0; at < HEADER_A; at += 5) {
		if (at / 4 == 2)
			continue; /* the version: another promise */
		damage_header("a", at, ON_CORRUPTION_ERROR);
		refused_to_start(ERR_CORRUPTION);
		refused_to_start(ERR_CORRUPTION);
		damage_header(long_name('x'), at, ON_CORRUPTION_ERROR);
		refused_to_start(ERR_CORRUPTION);
		refused_to_start(ERR_CORRUPTION);
	}
}

REVIEW_TEST(a_rotten_segment_header_is_set_aside_and_its_ids_are_not_given_again)
{
	struct error err;
	for (unsigned at = 0; at < HEADER_A; at += 5) {
		if (at / 4 == 2)
			continue;
		damage_header("a", at, ON_CORRUPTION_TRUNCATE);
		fixture_open(&f);
		cr_assert(fixture_stats(&f).recovery.files_set_aside == 1 && fixture_files(&f, "a", ".cut") == 1);
		cr_assert(fixture_add(&f, "a", 2) == 100);
		cr_assert(fixture_get(&f, "a", 99, 1, 99, 5, &err) != ERR_NONE);
		fixture_restart(&f);
		good("a", 100, 2, 0, 100);
		cr_assert(fixture_add(&f, "a", 3) == 101);
	}
}

/* The name of the stream is lost with the header: its directory is set aside whole, and nothing of it destroyed. */
REVIEW_TEST(a_hashed_directory_without_a_name_is_set_aside_whole)
{
	const char *name = long_name('x');
	char aside[300] = "ironwald.aside-", dir[256];
	uint8_t before[4096], after[4096];
	damage_header(name, 20, ON_CORRUPTION_TRUNCATE);
	cr_assert(dirname_from_name(name, strlen(name), dir) == 1);
	cr_assert(sim_read_file(f.io, fixture_file(&f, dir, ".wal", 0), 0, before, sizeof(before)) == 0);
	fixture_open(&f);
	cr_assert(fixture_stats(&f).recovery.files_set_aside == 1 && !exists(name));
	strcat(aside, dir);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	cr_assert(sim_read_file(f.io, fixture_file(&f, aside, ".wal", 0), 0, after, sizeof(after)) == 0);
	cr_assert(memcmp(before, after, sizeof(before)) == 0);
	fixture_open(&f);
	cr_assert(fixture_stats(&f).recovery.files_set_aside == 0 && !exists(name));
	/* Its ids are not given again, until a person has seen to it. */
	struct answer refused = fixture_append(&f, name, 2, 1, 20, 0, 0);
	cr_assert(refused.code == ERR_IO && refused.error.os_errno == EEXIST && refused.error.outcome == OUTCOME_NONE);
	cr_assert(f.io->ops->rename(f.io, aside, "ironwald.seen-to") == 0);
	fixture_add(&f, name, 3);
	good(name, 0, 3, 0, 100);
	/* And again: there is one of that name already. */
	struct io_file *file;
	char inside[400];
	snprintf(inside, sizeof(inside), "%s/%020d.wal", aside, 7);
	cr_assert(
		f.io->ops->mkdir(f.io, aside) == 0 && f.io->ops->open(f.io, inside, IO_WRITE | IO_CREATE, &file) == 0);
	f.io->ops->close(file);
	fixture_restart(&f);
	fixture_die(&f);
	cr_assert(sim_flip_bit(f.io, fixture_file(&f, dir, ".wal", 0), 20, 3) == 0);
	fixture_open(&f);
	cr_assert(fixture_stats(&f).recovery.files_set_aside == 1 && !exists(name));
	cr_assert(fixture_files(&f, aside, ".wal") == 1);
	strcat(aside, ".1");
	cr_assert(fixture_files(&f, aside, ".wal") == 1);
}

/* Where a sealed segment still tells the name, only the damaged one goes. */
REVIEW_TEST(a_hashed_directory_is_known_by_any_good_header)
{
	const char *name = long_name('x');
	char dir[256];
	for (unsigned round = 0; round < 2; round++) {
		again(1);
		f.options.on_corruption = round == 0 ? ON_CORRUPTION_ERROR : ON_CORRUPTION_TRUNCATE;
		f.options.max_entries_per_segment = 10;
		fixture_open(&f);
		for (uint64_t i = 0; i < 2; i++)
			add_good(name, i, 10, 5, 10 * i);
		fixture_restart(&f);
		fixture_die(&f);
		cr_assert(dirname_from_name(name, strlen(name), dir) == 1);
		cr_assert(sim_flip_bit(f.io, fixture_file(&f, dir, ".wal", 1), 20, 3) == 0);
		if (round == 0) {
			refused_to_start(ERR_CORRUPTION);
			continue;
		}
		fixture_open(&f);
		for (uint64_t id = 0; id < 10; id++)
			good(name, id, 0, id, 5);
		cr_assert(fixture_add(&f, name, 7) == 20);
	}
}

/* A frame's header says how far the segment was durable when it was written: that holds whatever became of its payload.
 */
REVIEW_TEST(a_frame_with_a_torn_payload_still_proves_what_was_durable_before_it)
{
	static const uint8_t zeros[512];
	struct error err;
	for (unsigned round = 0; round < 2; round++) {
		again(1);
		f.options.on_corruption = round == 0 ? ON_CORRUPTION_ERROR : ON_CORRUPTION_TRUNCATE;
		fixture_open(&f);
		add_good("a", 0, 1, 5, 0);
		fixture_close(&f);
		fixture_open(&f); /* what follows goes into the segment directly */
		add_good("a", 1, 10, 11, 1);
		uint64_t third = HEADER_A + fixture_info(&f, "a").bytes;
		add_good("a", 2, 1, 4000, 11);
		cr_assert(fixture_writer(&f, 0).journal_groups == 0);
		fixture_die(&f);
		cr_assert(sim_flip_bit(f.io, SEGMENT_A, third - 20, 1) == 0);
		cr_assert(sim_patch_file(f.io, SEGMENT_A, (third / 512 + 3) * 512, zeros, sizeof(zeros)) == 0);
		if (round == 0) {
			refused_to_start(ERR_CORRUPTION);
			refused_to_start(ERR_CORRUPTION);
			continue;
		}
		fixture_open(&f);
		cr_assert(fixture_stats(&f).recovery.rot_found == 1 && fixture_files(&f, "a", ".cut") == 1);
		good("a", 0, 0, 0, 5);
		cr_assert(fixture_get(&f, "a", 1, 1, 0, 11, &err) == ERR_CORRUPTION, "a hole that does not speak");
		cr_assert(fixture_add(&f, "a", 3) >= 11, "an id that had been acknowledged was given again");
	}
}

/* ---- a sector that cannot be read ------------------------------------------------------------------------------- */

static struct {
	const struct io_ops *real;
	struct io_ops ops;
	struct io_file *files[8]; /* of the path */
	char path[64];
	uint64_t offset;
	unsigned met;
} bad;

static int bad_open(struct io *io, const char *path, int flags, struct io_file **ret_file)
{
	int r = bad.real->open(io, path, flags, ret_file);
	for (size_t i = 0; r == 0 && strcmp(path, bad.path) == 0; i++) {
		cr_assert(i < sizeof(bad.files) / sizeof(bad.files[0]));
		if (bad.files[i])
			continue;
		bad.files[i] = *ret_file;
		break;
	}
	return r;
}

static void bad_close(struct io_file *file)
{
	for (size_t i = 0; file && i < sizeof(bad.files) / sizeof(bad.files[0]); i++)
		if (bad.files[i] == file)
			bad.files[i] = NULL;
	bad.real->close(file);
}

static ssize_t bad_pread(struct io_file *file, void *buf, size_t len, uint64_t offset, int flags)
{
	for (size_t i = 0; i < sizeof(bad.files) / sizeof(bad.files[0]); i++) {
		if (bad.files[i] != file || offset >= bad.offset + 512 || offset + len <= bad.offset)
			continue;
		bad.met++;
		return -EIO;
	}
	return bad.real->pread(file, buf, len, offset, flags);
}

/* The sector at offset of that file answers EIO from here on, by whatever handle. */
static void bad_sector(const char *path, uint64_t offset)
{
	memset(&bad, 0, sizeof(bad));
	bad.real = f.io->ops;
	bad.ops = *f.io->ops;
	bad.ops.open = bad_open;
	bad.ops.close = bad_close;
	bad.ops.pread = bad_pread;
	bad.offset = offset;
	snprintf(bad.path, sizeof(bad.path), "%s", path);
	f.io->ops = &bad.ops;
}

static void no_bad_sector(void)
{
	f.io->ops = bad.real;
}

#define BAD_ENTRIES 60u
#define FRAME 224u /* one entry of 100 bytes */

static void make_bad(uint64_t offset, bool clean, enum corruption_policy policy)
{
	again(offset + 1);
	f.options.on_corruption = policy;
	fixture_open(&f);
	for (uint64_t i = 0; i < BAD_ENTRIES; i++)
		cr_assert(fixture_add(&f, "a", i) == i);
	cr_assert(sim_file_size(f.io, SEGMENT_A) > (int64_t)offset + 512);
	if (clean) {
		fixture_close(&f);
	} else {
		fixture_restart(&f);
		fixture_die(&f);
	}
	bad_sector(SEGMENT_A, offset);
}

REVIEW_TEST(a_sector_that_cannot_be_read_refuses_the_start)
{
	for (unsigned round = 0; round < 6; round++) {
		make_bad(512 * (1 + 5 * (round / 2)), round % 2, ON_CORRUPTION_ERROR);
		struct error err;
		enum error_code code = fixture_try_open(&f, &err);
		cr_assert(
			code == ERR_IO && err.os_errno == EIO && bad.met > 0, "%s", code ? err.message : "it started");
		cr_assert(error_has(&err, EFI_PATH) && strstr(err.path.bytes, SEGMENT_A));
		no_bad_sector();
		fixture_open(&f); /* nothing was changed */
		for (uint64_t i = 0; i < BAD_ENTRIES; i++)
			good("a", i, i, 0, 100);
		cr_assert(fixture_add(&f, "a", 1) == BAD_ENTRIES);
	}
}

REVIEW_TEST(a_sector_that_cannot_be_read_is_set_aside_and_no_id_given_again)
{
	for (unsigned round = 0; round < 6; round++) {
		uint64_t offset = 512 * (1 + 5 * (round / 2));
		struct error err;
		make_bad(offset, round % 2, ON_CORRUPTION_TRUNCATE);
		cr_assert(fixture_try_open(&f, &err) == ERR_NONE, "%s", err.message);
		cr_assert(bad.met > 0 && fixture_stats(&f).recovery.files_set_aside == 1);
		cr_assert(fixture_files(&f, "a", ".cut") == 1);
		uint64_t id = fixture_add(&f, "a", 99);
		cr_assert(id >= BAD_ENTRIES, "sector at %lu, clean %u: id %lu was given again", (unsigned long)offset,
			round % 2, (unsigned long)id);
		good("a", id, 99, 0, 100);
		for (uint64_t old = 0; old < BAD_ENTRIES; old++) {
			enum error_code code = fixture_get(&f, "a", old, old, 0, 100, &err);
			cr_assert(code == ERR_NONE || code == ERR_CORRUPTION || code == ERR_IO ||
					  code == ERR_CRC_MISMATCH,
				"entry %lu is another", (unsigned long)old);
		}
		fixture_die(&f);
		no_bad_sector();
		fixture_open(&f);
		cr_assert(fixture_add(&f, "a", 100) == id + 1);
		/* All but the page around the sector, and what stands behind it, is served from the file that was set
		 * aside. */
		for (uint64_t old = 0; HEADER_A + FRAME * (old + 1) <= offset / 4096 * 4096; old++)
			good("a", old, old, 0, 100);
	}
}

/* ---- shortages -------------------------------------------------------------------------------------------------- */

static void descriptors(unsigned count, uint32_t cache, uint64_t limit_above)
{
	char(*names)[24] = calloc(count, sizeof(*names));
	uint64_t *acked = calloc(count, sizeof(*acked));
	cr_assert(names && acked);
	numbered_names(names, count);
	again(3);
	f.options.max_open_segments = cache;
	fixture_open(&f);
	cr_assert(add_to_all(names, count, 0, 1, acked).refused == 0);
	fixture_close(&f);
	fixture_open(&f);
	uint64_t own = sim_open_count(f.io);
	sim_set_max_open(f.io, own + limit_above);
	for (unsigned round = 1; round < 4; round++) {
		struct outcome outcome = add_to_all(names, count, round, 1, acked);
		cr_assert(outcome.unknown == 0 && !fixture_writer(&f, 0).failed, "it stopped the shard: %s",
			fixture_writer(&f, 0).failed_reason);
		cr_assert(outcome.refused == 0 || outcome.os_errno == EMFILE);
		if (limit_above > 4)
			cr_assert(outcome.refused == 0, "%u refused, though others could be closed", outcome.refused);
	}
	sim_set_max_open(f.io, 0);
	cr_assert(add_to_all(names, count, 9, 1, acked).refused == 0);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	for (unsigned i = 0; i < count; i++)
		cr_assert(fixture_info(&f, names[i]).end == acked[i], "%s", names[i]);
	free(acked);
	free(names);
}

REVIEW_TEST(fewer_descriptors_than_the_cache_may_hold_stop_no_shard)
{
	descriptors(300, 1024, 37);
	descriptors(300, 128, 100);
	descriptors(300, 1024, 5);
	descriptors(300, 1024, 1);
	descriptors(300, 1024, 0); /* nothing can be opened, nothing can be closed for it */
	descriptors(2, 1024, 0);   /* not by the journal */
	descriptors(1, 1024, 0);
}

REVIEW_TEST(many_new_streams_at_once_stay_within_the_descriptors_and_use_the_journal)
{
	enum { COUNT = 12000 };
	char(*names)[24] = calloc(COUNT, sizeof(*names));
	uint64_t *acked = calloc(COUNT, sizeof(*acked));
	cr_assert(names && acked);
	numbered_names(names, COUNT);
	fixture_open(&f);
	uint64_t own = sim_open_count(f.io), syncs = sim_count(f.io, SIM_SYNC),
		 dir_syncs = sim_count(f.io, SIM_SYNC_DIR);
	sim_set_max_open(f.io, own + f.options.max_open_segments + 2);
	cr_assert(add_to_all(names, COUNT, 1, 1, acked).refused == 0);
	struct writer_stats stats = fixture_writer(&f, 0);
	cr_assert(sim_open_high(f.io) <= own + f.options.max_open_segments + 1, "%lu descriptors",
		(unsigned long)sim_open_high(f.io));
	cr_assert(stats.groups > 0 && stats.journal_groups == stats.groups, "%lu of %lu groups",
		(unsigned long)stats.journal_groups, (unsigned long)stats.groups);
	cr_assert(stats.groups < 50 && sim_count(f.io, SIM_SYNC) - syncs == stats.groups);
	cr_assert(sim_count(f.io, SIM_SYNC_DIR) == dir_syncs);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	cr_assert(fixture_stats(&f).streams == COUNT);
	for (unsigned i = 0; i < COUNT; i += 7)
		good(names[i], 0, 1, 0, 1);
	free(acked);
	free(names);
}

/* Checkpoints do not keep up, so the journal grows, until the disk is full somewhere in between. */
REVIEW_TEST(no_room_for_the_journal_stops_no_shard)
{
	char names[4][24];
	unsigned refused = 0;
	numbered_names(names, 4);
	for (uint64_t blocks = 4; blocks < 80; blocks += 3) {
		uint64_t acked[4] = {0};
		struct outcome outcome = {0};
		again(4);
		fixture_open(&f);
		for (unsigned round = 0; round < 180; round++)
			cr_assert(add_to_all(names, 4, round, 3000, acked).refused == 0);
		sim_set_capacity(f.io, sim_used_bytes(f.io) + 4096 * blocks);
		for (unsigned round = 0; round < 900 && outcome.refused == 0; round++)
			outcome = add_to_all(names, 4, round, 4, acked);
		cr_assert(!fixture_writer(&f, 0).failed, "%lu blocks: it stopped the shard: %s", (unsigned long)blocks,
			fixture_writer(&f, 0).failed_reason);
		cr_assert(outcome.unknown == 0 && (outcome.refused == 0 || outcome.os_errno == ENOSPC));
		refused += outcome.refused;
		sim_set_capacity(f.io, 0);
		cr_assert(add_to_all(names, 4, 901, 4, acked).refused == 0, "it does not go on when there is room");
		fixture_power_cut(&f, SIM_LOSE_ALL);
		fixture_open(&f);
		for (unsigned i = 0; i < 4; i++) {
			cr_assert(fixture_info(&f, names[i]).end == acked[i], "%lu blocks, %s: %lu of %lu",
				(unsigned long)blocks, names[i], (unsigned long)fixture_info(&f, names[i]).end,
				(unsigned long)acked[i]);
			good(names[i], acked[i] - 1, 901, 0, 4);
			good(names[i], 179, 179, 0, 3000);
		}
	}
	cr_assert(refused > 0, "the disk was never full");
}

/* What was cut short and could not be taken back may come back: nobody can say, and nothing goes behind it. */
REVIEW_TEST(a_write_that_cannot_be_taken_back_stops_the_shard_with_outcome_unknown)
{
	for (unsigned seed = 1; seed < 20; seed++) {
		again(seed);
		fixture_open(&f);
		cr_assert(fixture_add(&f, "a", 0) == 0);
		sim_fail_at(f.io, 1, ENOSPC, SIM_BIT(SIM_PWRITE) | SIM_TORN);
		sim_fail_at(f.io, 1, ENOSPC, SIM_BIT(SIM_TRUNCATE));
		struct answer answer = fixture_append(&f, "a", 1, 1, 700, 0, 0);
		cr_assert(sim_faults_fired(f.io) == 2);
		cr_assert(answer.code == ERR_IO && answer.error.outcome == OUTCOME_UNKNOWN);
		cr_assert(fixture_writer(&f, 0).failed);
		answer = fixture_append(&f, "a", 2, 1, 10, 0, 0);
		cr_assert(answer.code == ERR_IO && answer.error.outcome == OUTCOME_NONE);
		answer = fixture_append(&f, "b", 2, 1, 10, 0, 0);
		cr_assert(answer.code == ERR_IO && answer.error.outcome == OUTCOME_NONE && !exists("b"));
		cr_assert(fixture_info(&f, "a").end == 1);
		good("a", 0, 0, 0, 100);
		fixture_restart(&f);
		uint64_t end = fixture_info(&f, "a").end;
		cr_assert(end == 1 || end == 2);
		if (end == 2)
			good("a", 1, 1, 0, 700);
		cr_assert(fixture_add(&f, "a", 3) == end);
	}
}

/* ---- deletion --------------------------------------------------------------------------------------------------- */

/* A record of the clean stop that did not tell of the file would let a later truncate leave a hole behind it. */
REVIEW_TEST(a_file_that_was_not_deleted_makes_no_hole_after_a_clean_stop)
{
	struct error err;
	f.options.max_entries_per_segment = 10;
	fixture_open(&f);
	for (uint64_t i = 0; i < 4; i++)
		add_good("a", i, 10, 1, 10 * i);
	sim_fail_at(f.io, 1, EIO, SIM_BIT(SIM_UNLINK));
	struct answer answer = fixture_truncate(&f, "a", 10);
	cr_assert(answer.code == ERR_NONE && answer.segments_deleted == 1 && sim_faults_fired(f.io) == 1);
	cr_assert(fixture_get(&f, "a", 0, 0, 0, 1, &err) == ERR_TRUNCATED && err.first_id == 10);
	fixture_close(&f);
	fixture_open(&f);
	for (uint64_t id = stream_view(fixture_stream(&f, "a")).first; id < 40; id++)
		good("a", id, id / 10, id % 10, 1);
	cr_assert(fixture_truncate(&f, "a", 30).code == ERR_NONE);
	fixture_restart(&f);
	cr_assert(stream_view(fixture_stream(&f, "a")).first == 30);
	for (uint64_t id = 0; id < 30; id++)
		cr_assert(fixture_get(&f, "a", id, id / 10, id % 10, 1, &err) == ERR_TRUNCATED && err.first_id == 30,
			"entry %lu: %s", (unsigned long)id, err.message);
	for (uint64_t id = 30; id < 40; id++)
		good("a", id, 3, id % 10, 1);
}

/* ---- two names, one hash ---------------------------------------------------------------------------------------- */

REVIEW_TEST(a_hashed_directory_of_another_stream_is_not_taken_over)
{
	char mine[256], theirs[256], dir[256], other_dir[256], path[300];
	uint8_t before[4096], after[4096];
	memcpy(mine, long_name('m'), 202);
	memcpy(theirs, long_name('t'), 202);
	cr_assert(dirname_from_name(mine, strlen(mine), dir) == 1);
	cr_assert(dirname_from_name(theirs, strlen(theirs), other_dir) == 1 && strcmp(dir, other_dir) != 0);
	f.options.max_entries_per_segment = 10;
	for (unsigned round = 0; round < 4; round++) {
		again(1);
		fixture_open(&f);
		for (uint64_t i = 0; i < 2; i++)
			add_good(theirs, i, 10, 20, 10 * i);
		fixture_restart(&f);
		if (round % 2 == 0)
			fixture_die(&f);
		/* As if both names had the same hash. */
		const char *their_file = fixture_file(&f, other_dir, ".wal", round / 2);
		size_t len = (size_t)sim_file_size(f.io, their_file);
		cr_assert(len <= sizeof(before));
		cr_assert(sim_read_file(f.io, their_file, 0, before, len) == 0);
		cr_assert(f.io->ops->mkdir(f.io, dir) == 0 && f.io->ops->sync_dir(f.io, "") == 0);
		snprintf(path, sizeof(path), "%s%s", dir, their_file + strlen(other_dir));
		cr_assert(sim_write_file(f.io, path, before, len) == 0);
		if (round % 2 == 0) /* a start finds it, or it comes later */
			fixture_open(&f);
		for (unsigned attempt = 0; attempt < 2; attempt++) {
			struct answer answer = fixture_append(&f, mine, 2, 1, 20, 0, 0);
			cr_assert(answer.code == ERR_IO && answer.error.os_errno == EEXIST, "%s", answer.error.message);
			cr_assert(answer.error.outcome == OUTCOME_NONE && !exists(mine));
		}
		cr_assert(!fixture_writer(&f, 0).failed && fixture_add(&f, "b", 1) == 0);
		cr_assert(fixture_add(&f, theirs, 2) == 20);
		fixture_restart(&f);
		cr_assert(!exists(mine) && fixture_info(&f, theirs).end == 21);
		cr_assert(sim_file_size(f.io, path) == (int64_t)len && fixture_files(&f, dir, "") == 1);
		cr_assert(sim_read_file(f.io, path, 0, after, len) == 0 && memcmp(before, after, len) == 0);
	}
}
