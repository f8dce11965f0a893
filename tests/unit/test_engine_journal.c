/* The journal's own promises, below the engine. */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "journal.h"
#include "sim.h"

TestSuite(engine_journal, .timeout = 60);

static uint8_t data[6000];

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
		cr_assert(journal_open(io, 0, &journal) == 0 && io->ops->sync_dir(io, "") == 0);
		for (unsigned i = 0; i < 12; i++) {
			write_record(journal, 200 + 100 * (i % 3));
			cr_assert(journal_sync(journal) == 0);
		}
		uint64_t done = journal_switch(journal);
		cr_assert(journal_checkpoint(journal, done) == 0 && journal_checkpointed(journal) == done);
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
		cr_assert(journal_open(io, 0, &journal) == 0 && io->ops->sync_dir(io, "") == 0);
		for (unsigned i = 0; i < 12; i++) {
			write_record(journal, 200);
			cr_assert(journal_sync(journal) == 0);
		}
		journal_close(journal);
		sim_cut_power_after(io, seed % 6);
		if (journal_open(io, 0, &journal) == 0)
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
		cr_assert(journal_open(io, 0, &journal) == 0 && io->ops->sync_dir(io, "") == 0);
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

/* How much is written before a switch, in all switches one after another; each is checkpointed at once. */
static uint64_t bytes_of_next_half(struct io *io, struct journal *journal, uint64_t pause_ns)
{
	uint64_t bytes = 0;
	struct iovec iov = {data, sizeof(data)};
	for (;;) {
		journal_begin(journal);
		for (unsigned i = 0; i < 20; i++)
			cr_assert(journal_add(journal, "stream", 0, 0, &iov, 1) == 0);
		uint64_t record = journal_record_bytes(journal);
		enum journal_room room = journal_room(journal, record);
		cr_assert(room != JOURNAL_FULL);
		if (room == JOURNAL_SWITCH) {
			sim_advance(io, pause_ns);
			uint64_t done = journal_switch(journal);
			cr_assert(journal_checkpoint(journal, done) == 0);
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
	cr_assert(journal_open(io, 0, &journal) == 0);
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
