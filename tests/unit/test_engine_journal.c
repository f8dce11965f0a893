/* The journal's own promises, below the engine; and what a start does about a record that cannot be. */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "crc32c.h"
#include "engine_fixture.h"
#include "format.h"
#include "journal.h"

TestSuite(engine_journal, .timeout = 60);

static uint8_t data[6000];

static const atomic_bool keep; /* false: end it */

static void write_record(struct journal *journal, size_t len)
{
	struct iovec iov = {data, len};
	journal_begin(journal);
	cr_assert(journal_add(journal, "stream", 0, 0, &iov, 1) == 0);
	cr_assert(journal_room(journal, journal_record_bytes(journal)) == JOURNAL_ROOM);
	cr_assert(journal_write(journal) == 0);
}

static int count_cb(const struct journal_op *op, void *arg)
{
	cr_assert(strcmp(op->dir, "stream") == 0 && op->len <= sizeof(data));
	++*(unsigned *)arg;
	return 0;
}

static struct journal_scan replay(struct io *io, unsigned half, unsigned *ret_ops)
{
	char path[JOURNAL_PATH_MAX];
	struct journal_scan scan;
	journal_path(0, half, path);
	*ret_ops = 0;
	cr_assert(journal_replay(io, path, count_cb, ret_ops, &scan) == 0);
	return scan;
}

/* Records of the next generation are written over those of an old one when the power goes: whatever mixture of both
 * the disk holds, it is no rot, and no record counts that was not synced whole. */
Test(engine_journal, a_generation_cut_off_at_its_beginning_is_no_rot)
{
	unsigned some = 0, none = 0;
	for (uint64_t seed = 0; seed < 400; seed++) {
		struct io *io = sim_new(seed);
		struct journal *journal;
		unsigned ops;
		cr_assert(journal_open(io, 0, 1, &journal) == 0 && io->ops->sync_dir(io, "") == 0);
		for (unsigned i = 0; i < 12; i++) {
			write_record(journal, 200 + 100 * (i % 3));
			cr_assert(journal_sync(journal) == 0);
		}
		uint64_t done = journal_switch(journal);
		cr_assert(journal_checkpoint(journal, done, &keep) == 0 && journal_checkpointed(journal) == done);
		write_record(journal, 100);
		cr_assert(journal_sync(journal) == 0);
		cr_assert(journal_switch(journal) == done + 1);
		for (unsigned i = 0; i < 1 + seed % 4; i++)
			write_record(journal, 300 + 500 * (seed % 7)); /* not synced */
		journal_close(journal);
		sim_power_on(io, SIM_POWER_RANDOM);
		struct journal_scan scan = replay(io, 0, &ops);
		cr_assert(!scan.rot, "seed %lu: records that were never synced look like rot", (unsigned long)seed);
		cr_assert(ops <= 1 + seed % 4 && (ops == 0 || scan.generation == done + 2));
		some += ops > 0;
		none += ops == 0;
		scan = replay(io, 1, &ops);
		cr_assert(!scan.rot && ops == 1 && scan.generation == done + 1);
		sim_free(io);
	}
	cr_assert(some > 20 && none > 20, "%u and %u", some, none);
}

/* Opening empties the journal in one sector: cut off there, the old records are all there or none is. */
Test(engine_journal, opening_empties_at_once_or_not_at_all)
{
	unsigned all = 0, none = 0;
	for (uint64_t seed = 0; seed < 100; seed++) {
		struct io *io = sim_new(seed);
		struct journal *journal;
		unsigned ops;
		cr_assert(journal_open(io, 0, 1, &journal) == 0 && io->ops->sync_dir(io, "") == 0);
		for (unsigned i = 0; i < 12; i++) {
			write_record(journal, 200);
			cr_assert(journal_sync(journal) == 0);
		}
		journal_close(journal);
		sim_cut_power_after(io, seed % 6);
		if (journal_open(io, 0, 1, &journal) == 0)
			journal_close(journal);
		sim_power_on(io, SIM_POWER_RANDOM);
		struct journal_scan scan = replay(io, 0, &ops);
		cr_assert(!scan.rot && (ops == 0 || ops == 12), "seed %lu: %u records", (unsigned long)seed, ops);
		all += ops == 12;
		none += ops == 0;
		sim_free(io);
	}
	cr_assert(all > 5 && none > 5);
}

Test(engine_journal, what_was_synced_and_is_damaged_is_rot)
{
	for (unsigned damaged = 0; damaged < 12; damaged++) {
		struct io *io = sim_new(1);
		struct journal *journal;
		char path[JOURNAL_PATH_MAX];
		unsigned ops;
		cr_assert(journal_open(io, 0, 1, &journal) == 0 && io->ops->sync_dir(io, "") == 0);
		for (unsigned i = 0; i < 12; i++) {
			write_record(journal, 200); /* one sector each */
			cr_assert(journal_sync(journal) == 0);
		}
		journal_close(journal);
		journal_path(0, 0, path);
		cr_assert(sim_flip_bit(io, path, 512 * damaged + 100, 3) == 0);
		struct journal_scan scan = replay(io, 0, &ops);
		cr_assert(ops == damaged);
		/* The last record but one is known by the last to have been synced; of the last one nothing tells. */
		cr_assert(scan.rot == (damaged < 11), "record %u", damaged);
		sim_free(io);
	}
}

static size_t op_bytes = 600;

static void collect(struct journal *journal, unsigned ops, size_t len)
{
	struct iovec iov = {data, len};
	journal_begin(journal);
	for (unsigned i = 0; i < ops; i++)
		cr_assert(journal_add(journal, "stream", 0, 0, &iov, 1) == 0);
}

/* How much is written before a switch, in all switches one after another; each is checkpointed at once. */
static uint64_t bytes_of_next_half(struct io *io, struct journal *journal, uint64_t pause_ns)
{
	uint64_t bytes = 0;
	for (;;) {
		collect(journal, 20, op_bytes);
		uint64_t record = journal_record_bytes(journal);
		enum journal_room room = journal_room(journal, record);
		cr_assert(room != JOURNAL_FULL);
		if (room == JOURNAL_SWITCH) {
			sim_advance(io, pause_ns);
			uint64_t done = journal_switch(journal);
			cr_assert(journal_checkpoint(journal, done, &keep) == 0);
			return bytes;
		}
		cr_assert(journal_write(journal) == 0);
		bytes += record;
	}
}

Test(engine_journal, a_busy_one_grows_and_a_quiet_one_does_not)
{
	struct io *io = sim_new(1);
	struct journal *journal;
	cr_assert(journal_open(io, 0, 1, &journal) == 0);
	for (unsigned i = 0; i < 10; i++)
		cr_assert(bytes_of_next_half(io, journal, UINT64_C(2000000000)) <= JOURNAL_SOFT_BYTES);
	uint64_t bytes = 0;
	for (unsigned i = 0; i < 10; i++)
		bytes = bytes_of_next_half(io, journal, 0);
	cr_assert(bytes > JOURNAL_BUSY_BYTES / 2 && bytes <= JOURNAL_BUSY_BYTES + JOURNAL_SOFT_BYTES, "%lu",
		(unsigned long)bytes);
	journal_close(journal);
	sim_free(io);
}

Test(engine_journal, a_busy_one_grows_to_what_would_last_two_seconds)
{
	struct io *io = sim_new(1);
	struct journal *journal;
	cr_assert(journal_open(io, 0, 1, &journal) == 0);
	(void)bytes_of_next_half(io, journal, UINT64_C(200000000));
	uint64_t bytes = bytes_of_next_half(io, journal, UINT64_C(2000000000));
	cr_assert(bytes > 9 * JOURNAL_SOFT_BYTES && bytes <= 11 * JOURNAL_SOFT_BYTES, "%lu", (unsigned long)bytes);
	journal_close(journal);
	sim_free(io);
}

Test(engine_journal, a_burst_does_not_make_it_busy_for_ever)
{
	struct io *io = sim_new(1);
	struct journal *journal;
	cr_assert(journal_open(io, 0, 1, &journal) == 0);
	for (unsigned i = 0; i < 3; i++)
		(void)bytes_of_next_half(io, journal, 0);
	uint64_t bytes = 0;
	collect(journal, 1, sizeof(data));
	while (journal_room(journal, journal_record_bytes(journal)) == JOURNAL_ROOM) {
		cr_assert(journal_write(journal) == 0);
		bytes += journal_record_bytes(journal);
		sim_advance(io, UINT64_C(40000000));
		collect(journal, 1, sizeof(data));
	}
	cr_assert(bytes <= 2 * JOURNAL_SOFT_BYTES, "%lu", (unsigned long)bytes);
	uint64_t done = journal_switch(journal);
	cr_assert(journal_checkpoint(journal, done, &keep) == 0);
	bytes = bytes_of_next_half(io, journal, 0);
	cr_assert(bytes <= JOURNAL_SOFT_BYTES, "%lu", (unsigned long)bytes);
	journal_close(journal);
	sim_free(io);
}

/* It does not take the room that a full disk has left again and again. */
Test(engine_journal, without_room_it_makes_do_with_what_it_has)
{
	struct io *io = sim_new(1);
	struct journal *journal;
	cr_assert(journal_open(io, 0, 1, &journal) == 0);
	sim_set_capacity(io, sim_used_bytes(io) + 5 * JOURNAL_SOFT_BYTES);
	unsigned refused = 0;
	for (unsigned i = 0; i < 40; i++) {
		for (;;) {
			collect(journal, 20, sizeof(data));
			enum journal_room room = journal_room(journal, journal_record_bytes(journal));
			cr_assert(room != JOURNAL_FULL);
			if (room == JOURNAL_SWITCH)
				break;
			int r = journal_write(journal);
			cr_assert(r == 0 || r == -ENOSPC);
			refused += r != 0;
		}
		cr_assert(journal_checkpoint(journal, journal_switch(journal), &keep) == 0);
	}
	cr_assert(refused <= 2, "%u", refused);
	journal_close(journal);
	sim_free(io);
}

/* Checkpoints did not keep up, and then there was no room: that is no reason to go on so. */
Test(engine_journal, without_room_it_wants_no_more_than_its_share)
{
	struct io *io = sim_new(1);
	struct journal *journal;
	cr_assert(journal_open(io, 0, 16, &journal) == 0);
	uint64_t bytes = 0, done = 0;
	for (int r = 0; r == 0;) {
		collect(journal, 20, sizeof(data));
		enum journal_room room = journal_room(journal, journal_record_bytes(journal));
		if (room == JOURNAL_FULL)
			cr_assert(journal_checkpoint(journal, done, &keep) == 0);
		else if (room == JOURNAL_SWITCH)
			done = journal_switch(journal);
		else
			r = journal_write(journal);
		bytes += room == JOURNAL_ROOM ? journal_record_bytes(journal) : 0;
		if (bytes > 4 * JOURNAL_BUSY_MIN - 4 * JOURNAL_SOFT_BYTES)
			sim_set_capacity(io, sim_used_bytes(io));
	}
	cr_assert(journal_checkpoint(journal, done, &keep) == 0);
	for (unsigned i = 0; i < 4; i++)
		bytes = bytes_of_next_half(io, journal, 0);
	cr_assert(bytes <= JOURNAL_BUSY_MIN + JOURNAL_SOFT_BYTES, "%lu", (unsigned long)bytes);
	journal_close(journal);
	sim_free(io);
}

/* With checkpoints that do not keep up. */
Test(engine_journal, one_of_many_is_full_sooner)
{
	struct io *io = sim_new(1);
	struct journal *journal;
	cr_assert(journal_open(io, 0, 16, &journal) == 0);
	uint64_t bytes = 0;
	for (enum journal_room room = JOURNAL_ROOM; room != JOURNAL_FULL;) {
		collect(journal, 20, sizeof(data));
		room = journal_room(journal, journal_record_bytes(journal));
		if (room == JOURNAL_SWITCH)
			(void)journal_switch(journal);
		else if (room == JOURNAL_ROOM)
			cr_assert(journal_write(journal) == 0);
		bytes += room == JOURNAL_ROOM ? journal_record_bytes(journal) : 0;
	}
	cr_assert(bytes <= 2 * JOURNAL_BUSY_MIN + 2 * JOURNAL_SOFT_BYTES, "%lu", (unsigned long)bytes);
	journal_close(journal);
	sim_free(io);
}

Test(engine_journal, one_of_large_ops_grows_less)
{
	struct io *io = sim_new(1);
	struct journal *journal;
	cr_assert(journal_open(io, 0, 1, &journal) == 0);
	op_bytes = sizeof(data);
	uint64_t bytes = 0;
	for (unsigned i = 0; i < 10; i++)
		bytes = bytes_of_next_half(io, journal, 0);
	cr_assert(bytes > JOURNAL_BUSY_BYTES / 4 && bytes <= JOURNAL_BUSY_BYTES / 2 + JOURNAL_SOFT_BYTES, "%lu",
		(unsigned long)bytes);
	op_bytes = 600;
	for (unsigned i = 0; i < 3; i++)
		bytes = bytes_of_next_half(io, journal, 0);
	cr_assert(bytes > JOURNAL_BUSY_BYTES / 2, "%lu", (unsigned long)bytes);
	journal_close(journal);
	sim_free(io);
}

Test(engine_journal, one_of_many_grows_less)
{
	struct io *io = sim_new(1);
	struct journal *journal;
	cr_assert(journal_open(io, 0, 16, &journal) == 0);
	uint64_t bytes = 0;
	for (unsigned i = 0; i < 10; i++)
		bytes = bytes_of_next_half(io, journal, 0);
	cr_assert(bytes > JOURNAL_BUSY_MIN / 2 && bytes <= JOURNAL_BUSY_MIN + JOURNAL_SOFT_BYTES, "%lu",
		(unsigned long)bytes);
	journal_close(journal);
	sim_free(io);
}

/* ---- a record that is whole, and says what no writer says ------------------------------------------------------- */

#define SEGMENT_A "a/00000000000000000000.wal"
#define HEADER_A 56u /* of a segment of stream "a" */

/* A journal whose only record writes the first frame of "a" to that place, as if its segment's salt were another by
 * so much. */
static void write_frame_to(struct fixture *f, uint64_t offset, uint64_t salt_change)
{
	struct journal *journal;
	uint8_t bytes[1024];
	struct frame frame;
	cr_assert(sim_read_file(f->io, SEGMENT_A, HEADER_A, bytes, sizeof(bytes)) == 0);
	cr_assert(frame_decode_fixed(bytes, get_u64(bytes + 40), HEADER_A, &frame), "headers have another size");
	put_u64(bytes + 40, get_u64(bytes + 40) ^ salt_change);
	put_u32(bytes + frame.header_bytes - 4, crc32c(0, bytes, frame.header_bytes - 4));
	struct iovec iov = {bytes, (size_t)frame.total_bytes};
	cr_assert(frame.total_bytes <= sizeof(bytes) && journal_open(f->io, 0, 1, &journal) == 0);
	journal_begin(journal);
	cr_assert(journal_add(journal, "a", 0, offset, &iov, 1) == 0);
	cr_assert(journal_write(journal) == 0 && journal_sync(journal) == 0);
	journal_close(journal);
}

/* Its checksums are right, so no fault has made it; and yet nobody wants a file of a gigabyte, and all that looks
 * through it slow, for a record of a sector. */
Test(engine_journal, a_frame_is_written_where_it_says_that_it_stands_and_nowhere_else)
{
	static const uint64_t offsets[] = {8, HEADER_A - 8, HEADER_A + 8, 4096, 1 << 30, UINT64_MAX - 7};
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		struct fixture f;
		struct error err;
		fixture_init(&f);
		fixture_open(&f);
		fixture_add(&f, "a", 7);
		fixture_add(&f, "a", 8);
		fixture_die(&f);
		write_frame_to(&f, offsets[i], 0);
		int64_t size = sim_file_size(f.io, SEGMENT_A);
		for (unsigned twice = 0; twice < 2; twice++) {
			cr_assert(fixture_try_open(&f, &err) == ERR_CORRUPTION, "byte %lu: it started",
				(unsigned long)offsets[i]);
			cr_assert(error_has(&err, EFI_SEGMENT) && error_has(&err, EFI_OFFSET) && err.offset == 0);
			cr_assert(sim_file_size(f.io, SEGMENT_A) == size, "it was written all the same");
		}
		f.options.on_corruption = ON_CORRUPTION_TRUNCATE;
		fixture_open(&f);
		cr_assert(fixture_stats(&f).recovery.rot_found == 1 && sim_file_size(f.io, SEGMENT_A) <= size);
		cr_assert(fixture_get(&f, "a", 0, 7, 0, 100, &err) == ERR_NONE);
		cr_assert(fixture_get(&f, "a", 1, 8, 0, 100, &err) == ERR_NONE);
		cr_assert(fixture_add(&f, "a", 9) == 2);
		f.options.on_corruption = ON_CORRUPTION_ERROR;
		fixture_restart(&f);
		fixture_free(&f);
	}
}

Test(engine_journal, a_frame_in_its_place_is_taken)
{
	static const uint8_t zeros[64];
	struct fixture f;
	struct error err;
	fixture_init(&f);
	fixture_open(&f);
	fixture_add(&f, "a", 7);
	fixture_die(&f);
	write_frame_to(&f, HEADER_A, 0);
	cr_assert(sim_patch_file(f.io, SEGMENT_A, HEADER_A, zeros, sizeof(zeros)) == 0);
	fixture_open(&f);
	cr_assert(fixture_stats(&f).recovery.journal_ops == 1);
	cr_assert(fixture_get(&f, "a", 0, 7, 0, 100, &err) == ERR_NONE);
	fixture_free(&f);
}

/* It was meant for a segment that stood there before. */
Test(engine_journal, a_frame_of_another_segment_is_not_taken)
{
	struct fixture f;
	struct error err;
	fixture_init(&f);
	fixture_open(&f);
	fixture_add(&f, "a", 7);
	fixture_add(&f, "a", 8);
	fixture_die(&f);
	write_frame_to(&f, HEADER_A, 1);
	fixture_open(&f);
	cr_assert(fixture_stats(&f).recovery.journal_ops == 1);
	for (uint64_t id = 0; id < 2; id++)
		cr_assert(fixture_get(&f, "a", id, 7 + id, 0, 100, &err) == ERR_NONE);
	fixture_free(&f);
}
