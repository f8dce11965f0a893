/* The simulated disk: what a power cut leaves. */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "sim_files.h"

TestSuite(sim_power, .timeout = 60);

#define SEEDS 200

/* ---- names and power -------------------------------------------------------------------------------------------- */

Test(sim_power, a_name_is_durable_only_with_its_directory)
{
	unsigned kept = 0, lost = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct io *io = sim_new(seed);
		struct io_file *file = open_file(io, "f", IO_WRITE | IO_CREATE);

		cr_assert(write_at(io, file, "abc", 3, 0) == 0 && io->ops->sync(file) == 0);
		io->ops->close(file);
		sim_power_on(io, SIM_POWER_RANDOM);
		if (sim_file_size(io, "f") >= 0) {
			cr_assert(holds(io, "f", "abc"), "what was synced is not there");
			kept++;
		} else {
			lost++;
		}
		make_file(io, "f", "abc", true);
		sim_power_on(io, SIM_POWER_RANDOM);
		cr_assert(holds(io, "f", "abc"));
		sim_free(io);
	}
	cr_assert(kept > SEEDS / 10 && lost > SEEDS / 10, "kept %u, lost %u", kept, lost);
}

Test(sim_power, lose_all_and_keep_all)
{
	struct io *io = sim_new(5);
	struct io_file *file;

	make_file(io, "old", "old", true);
	make_file(io, "gone", "gone", true);
	for (int round = 0; round < 2; round++) {
		make_file(io, "new", "new", false);
		cr_assert(io->ops->mkdir(io, "dir") == 0);
		make_file(io, "dir/in", "in", false);
		file = open_file(io, "old", IO_WRITE);
		cr_assert(write_at(io, file, "NEWER", 5, 0) == 0);
		io->ops->close(file);
		cr_assert(io->ops->unlink(io, "gone") == 0);
		if (round == 0) {
			sim_power_on(io, SIM_LOSE_ALL);
			cr_assert(sim_file_size(io, "new") == -ENOENT && io->ops->exists(io, "dir") == 0);
			cr_assert(holds(io, "old", "old") && holds(io, "gone", "gone"));
		} else {
			sim_power_on(io, SIM_KEEP_ALL);
			cr_assert(holds(io, "new", "new") && holds(io, "dir/in", "in"));
			cr_assert(holds(io, "old", "NEWER") && sim_file_size(io, "gone") == -ENOENT);
		}
	}
	sim_free(io);
}

Test(sim_power, a_directory_takes_its_files_with_it)
{
	unsigned kept = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct io *io = sim_new(seed);

		cr_assert(io->ops->mkdir(io, "d") == 0);
		struct io_file *file = open_file(io, "d/f", IO_WRITE | IO_CREATE);
		cr_assert(write_at(io, file, "abc", 3, 0) == 0);
		cr_assert(io->ops->sync(file) == 0 && io->ops->sync_dir(io, "d") == 0);
		io->ops->close(file);
		sim_power_on(io, SIM_POWER_RANDOM);
		if (io->ops->exists(io, "d") == 1) {
			cr_assert(holds(io, "d/f", "abc"));
			kept++;
		} else {
			cr_assert(sim_file_size(io, "d/f") == -ENOENT);
		}
		sim_free(io);
	}
	cr_assert(kept > SEEDS / 10 && kept < SEEDS * 9 / 10);
}

Test(sim_power, a_rename_is_old_or_new_and_never_neither)
{
	unsigned before = 0, after = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct io *io = sim_new(seed);

		make_file(io, "current", "one", true);
		make_file(io, "temporary", "two", true);
		cr_assert(io->ops->rename(io, "temporary", "current") == 0);
		sim_power_on(io, SIM_POWER_RANDOM);
		if (holds(io, "current", "one")) {
			cr_assert(holds(io, "temporary", "two"));
			before++;
		} else {
			cr_assert(holds(io, "current", "two") && sim_file_size(io, "temporary") == -ENOENT);
			after++;
		}
		cr_assert(io->ops->rename(io, "current", "last") == 0 && io->ops->sync_dir(io, "") == 0);
		sim_power_on(io, SIM_POWER_RANDOM);
		cr_assert(sim_file_size(io, "last") == 3 && sim_file_size(io, "current") == -ENOENT);
		sim_free(io);
	}
	cr_assert(before > SEEDS / 10 && after > SEEDS / 10);
}

Test(sim_power, a_file_moved_out_of_a_removed_directory_is_somewhere)
{
	unsigned inside = 0, outside = 0, synced = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct io *io = sim_new(seed);
		const char *to = seed % 8 < 4 ? "g" : "e/g";

		cr_assert(
			io->ops->mkdir(io, "d") == 0 && io->ops->mkdir(io, "e") == 0 && io->ops->sync_dir(io, "") == 0);
		cr_assert(sim_write_file(io, "d/f", "abc", 3) == 0);
		cr_assert(io->ops->rename(io, "d/f", to) == 0 && io->ops->rmdir(io, "d") == 0);
		if (seed % 4 == 0)
			cr_assert(io->ops->sync_dir(io, "") == 0);
		sim_power_on(io, SIM_POWER_RANDOM);
		cr_assert(holds(io, "d/f", "abc") != holds(io, to, "abc"), "seed %d", (int)seed);
		if (seed % 4 == 0) {
			cr_assert(io->ops->exists(io, "d") == 0);
			synced++;
		} else {
			*(holds(io, to, "abc") ? &outside : &inside) += 1;
		}
		sim_free(io);
	}
	cr_assert(inside > SEEDS / 10 && outside > SEEDS / 10 && synced > 0);
}

/* Random creations, renames and removals in two directories. Files that were durable and never removed (nor replaced)
 * must be there afterwards, under exactly one of the names that they had. */
Test(sim_power, no_name_is_lost_in_any_mess)
{
	enum { FILES = 6 };

	for (uint64_t seed = 0; seed < 1500; seed++) {
		struct io *io = sim_new(seed);
		char path[FILES][16], id[2] = "0";

		srand((unsigned)seed);
		cr_assert(io->ops->mkdir(io, "d") == 0 && io->ops->sync_dir(io, "") == 0);
		for (int i = 0; i < FILES; i++) {
			snprintf(path[i], sizeof(path[i]), "%sf%d", i % 2 ? "d/" : "", i);
			id[0] = (char)('0' + i);
			cr_assert(sim_write_file(io, path[i], id, 1) == 0);
		}
		cr_assert(io->ops->mkdir(io, "e") == 0);
		for (int step = 0; step < 25; step++) {
			static const char *const dirs[] = {"", "d/", "e/"};
			const int i = rand() % FILES;
			char to[16];

			snprintf(to, sizeof(to), "%sn%d", dirs[rand() % 3], rand() % 5);
			switch (rand() % 6) {
			case 0: /* a passing file: made, perhaps removed */
				if (io->ops->exists(io, to) == 0)
					make_file(io, to, "x", false);
				else if (holds(io, to, "x") || holds(io, to, ""))
					cr_assert(io->ops->unlink(io, to) == 0);
				break;
			case 1:
				cr_assert(io->ops->sync_dir(io, rand() % 2 ? "" : rand() % 2 ? "d" : "e") == 0);
				break;
			default:
				if (io->ops->exists(io, to) == 1 && !holds(io, to, "x"))
					break; /* never over one of ours */
				cr_assert(io->ops->rename(io, path[i], to) == 0);
				snprintf(path[i], sizeof(path[i]), "%s", to);
			}
		}
		sim_power_on(io, SIM_POWER_RANDOM);
		unsigned seen[FILES] = {0};
		for (int dir = 0; dir < 3; dir++) {
			for (int n = 0; n < FILES + 5; n++) {
				char at[16], byte;

				snprintf(at, sizeof(at), "%s%c%d",
					dir == 0   ? ""
					: dir == 1 ? "d/"
						   : "e/",
					n < FILES ? 'f' : 'n', n < FILES ? n : n - FILES);
				if (sim_read_file(io, at, 0, &byte, 1) == 0 && byte >= '0' && byte < '0' + FILES)
					seen[byte - '0']++;
			}
		}
		for (int i = 0; i < FILES; i++)
			cr_assert(seen[i] == 1, "seed %d: file %d has %u names", (int)seed, i, seen[i]);
		sim_free(io);
	}
}

/* ---- bytes and power -------------------------------------------------------------------------------------------- */

/* Sector by sector: what a file may hold after a power cut, kept in the plainest way. */
Test(sim_power, every_sector_is_one_of_its_versions)
{
	enum { SECTORS = 40, VERSIONS = 64 };
	static unsigned char now[SECTORS][512], version[SECTORS][VERSIONS][512], back[SECTORS * 512];
	unsigned olds = 0, news = 0, betweens = 0, short_sizes = 0, zero_tails = 0;

	for (uint64_t seed = 0; seed < 600; seed++) {
		struct io *io = sim_new(seed);
		struct io_file *file = open_file(io, "f", IO_READ | IO_WRITE | IO_CREATE);
		unsigned versions[SECTORS];
		size_t size = 0, synced = 0;

		cr_assert(io->ops->sync_dir(io, "") == 0);
		srand((unsigned)seed);
		memset(now, 0, sizeof(now));
		memset(version, 0, sizeof(version));
		for (int i = 0; i < SECTORS; i++)
			versions[i] = 1;
		const int steps = rand() % 20 + 1;
		for (int step = 0; step < steps; step++) {
			unsigned char bytes[3000];
			const size_t at = (size_t)rand() % (SECTORS * 512 - sizeof(bytes)),
				     len = (size_t)rand() % sizeof(bytes) + 1;

			if (rand() % 5 == 0) {
				cr_assert(io->ops->sync(file) == 0);
				for (int i = 0; i < SECTORS; i++) {
					memcpy(version[i][0], now[i], 512);
					versions[i] = 1;
				}
				synced = size;
				continue;
			}
			for (size_t i = 0; i < len; i++)
				bytes[i] = (unsigned char)(rand() | 1); /* never zero */
			cr_assert(write_at(io, file, bytes, len, at) == 0);
			memcpy((unsigned char *)now + at, bytes, len);
			for (size_t s = at / 512; s <= (at + len - 1) / 512; s++)
				memcpy(version[s][versions[s]++], now[s], 512);
			size = at + len > size ? at + len : size;
		}
		sim_power_on(io, SIM_POWER_RANDOM);
		const int64_t left = sim_file_size(io, "f");
		cr_assert(left >= (int64_t)synced && left <= (int64_t)size, "seed %d: size %d of %d to %d", (int)seed,
			(int)left, (int)synced, (int)size);
		short_sizes += left < (int64_t)size;
		memset(back, 0, sizeof(back));
		cr_assert(sim_read_file(io, "f", 0, back, (size_t)left) == 0);
		for (size_t s = 0; s * 512 < (size_t)left; s++) {
			const size_t n = (size_t)left - s * 512 < 512 ? (size_t)left - s * 512 : 512;
			unsigned v = versions[s];

			while (v > 0 && memcmp(back + s * 512, version[s][v - 1], n) != 0)
				v--;
			cr_assert(v > 0, "seed %d: sector %d is none of its versions", (int)seed, (int)s);
			if (versions[s] > 1) {
				news += v == versions[s];
				olds += v == 1;
				betweens += v > 1 && v < versions[s];
				zero_tails += v == 1 && s * 512 >= synced;
			}
		}
		io->ops->close(file);
		/* What was found is what the disk has: nothing more changes. */
		static unsigned char again[SECTORS * 512];
		sim_power_on(io, SIM_POWER_RANDOM);
		cr_assert(sim_file_size(io, "f") == left && sim_read_file(io, "f", 0, again, (size_t)left) == 0);
		cr_assert(memcmp(again, back, (size_t)left) == 0);
		sim_free(io);
	}
	cr_assert(olds > 100 && news > 100 && betweens > 20 && short_sizes > 50 && zero_tails > 50,
		"old %u new %u between %u short %u zeros %u", olds, news, betweens, short_sizes, zero_tails);
}

Test(sim_power, a_truncation_happened_or_did_not)
{
	unsigned whole = 0, cut = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct io *io = sim_new(seed);
		static char bytes[10000], back[10000];

		memset(bytes, 'o', sizeof(bytes));
		cr_assert(sim_write_file(io, "f", bytes, sizeof(bytes)) == 0);
		struct io_file *file = open_file(io, "f", IO_READ | IO_WRITE);
		cr_assert(io->ops->truncate(file, 1024) == 0);
		sim_power_on(io, SIM_POWER_RANDOM);
		io->ops->close(file);
		const int64_t size = sim_file_size(io, "f");
		cr_assert(size == 1024 || size == 10000, "%d", (int)size);
		cr_assert(sim_read_file(io, "f", 0, back, (size_t)size) == 0 && memcmp(back, bytes, (size_t)size) == 0);
		*(size == 1024 ? &cut : &whole) += 1;
		/* Synced, it stays cut, and what grows again is zeros. */
		file = open_file(io, "f", IO_WRITE);
		cr_assert(io->ops->truncate(file, 1000) == 0 && io->ops->sync(file) == 0);
		cr_assert(io->ops->truncate(file, 5000) == 0);
		io->ops->close(file);
		sim_power_on(io, SIM_POWER_RANDOM);
		const int64_t grown = sim_file_size(io, "f");
		cr_assert(grown >= 1000 && grown <= 5000);
		cr_assert(sim_read_file(io, "f", 0, back, (size_t)grown) == 0);
		for (int64_t i = 0; i < grown; i++)
			cr_assert(back[i] == (i < 1000 ? 'o' : '\0'));
		sim_free(io);
	}
	cr_assert(whole > SEEDS / 10 && cut > SEEDS / 10);
}

Test(sim_power, what_was_cut_off_does_not_come_back_in_pieces)
{
	static char old[10000], new[1000], back[10000];
	unsigned whole = 0, holes = 0, written = 0;

	memset(old, 'o', sizeof(old));
	memset(new, 'n', sizeof(new));
	for (uint64_t seed = 0; seed < 2 * SEEDS; seed++) {
		struct io *io = sim_new(seed);

		cr_assert(sim_write_file(io, "f", old, sizeof(old)) == 0);
		struct io_file *file = open_file(io, "f", IO_WRITE);
		cr_assert(write_at(io, file, new, sizeof(new), 8000) == 0);
		cr_assert(io->ops->truncate(file, 1000) == 0);
		cr_assert(write_at(io, file, new, sizeof(new), 5000) == 0);
		io->ops->close(file);
		sim_power_on(io, SIM_POWER_RANDOM);
		const int64_t size = sim_file_size(io, "f");
		cr_assert(size == 10000 || (size >= 1000 && size <= 6000), "%d", (int)size);
		cr_assert(sim_read_file(io, "f", 0, back, (size_t)size) == 0);
		cr_assert(memcmp(back, old, 1000) == 0);
		for (int64_t i = 1000; i < size; i++) {
			if (size < 10000) /* it was cut: nothing old, new bytes or zeros */
				cr_assert(back[i] == (i >= 5000 && back[i] ? 'n' : '\0'), "old bytes at %d", (int)i);
			else if (i >= 1024 && i < 4608) /* it was not: all that no later write touched */
				cr_assert(back[i] == 'o');
		}
		whole += size == 10000;
		holes += size > 5200 && size <= 6000 && back[5150] == '\0';
		written += size > 5200 && size <= 6000 && back[5150] == 'n';
		sim_free(io);
	}
	cr_assert(whole > 20 && holes > 20 && written > 20, "%u %u %u", whole, holes, written);
}

Test(sim_power, cut_or_overwritten_the_synced_bytes_are_what_can_be_lost_to)
{
	static char old[5000], back[5000];
	struct io *io = sim_new(15);

	memset(old, 'o', sizeof(old));
	cr_assert(sim_write_file(io, "f", old, sizeof(old)) == 0);
	struct io_file *file = open_file(io, "f", IO_WRITE);
	cr_assert(write_at(io, file, "new new new", 11, 4200) == 0);
	cr_assert(io->ops->truncate(file, 100) == 0);
	cr_assert(write_at(io, file, "again", 5, 4500) == 0);
	cr_assert(io->ops->truncate(file, 0) == 0);
	io->ops->close(file);
	sim_power_on(io, SIM_LOSE_ALL);
	cr_assert(sim_file_size(io, "f") == 5000 && sim_read_file(io, "f", 0, back, 5000) == 0);
	cr_assert(memcmp(back, old, 5000) == 0);
	sim_free(io);
}

Test(sim_power, sync_all_makes_everything_durable)
{
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct io *io = sim_new(seed);

		cr_assert(io->ops->mkdir(io, "d") == 0);
		make_file(io, "d/f", "abc", false);
		make_file(io, "g", "def", false);
		cr_assert(io->ops->rename(io, "g", "h") == 0);
		cr_assert(io->ops->sync_all(io) == 0);
		sim_power_on(io, SIM_POWER_RANDOM);
		cr_assert(holds(io, "d/f", "abc") && holds(io, "h", "def") && sim_file_size(io, "g") == -ENOENT);
		sim_free(io);
	}
}

/* ---- cuts at any operation -------------------------------------------------------------------------------------- */

/* A small log: append, sync, acknowledge. Returns how many appends were acknowledged. */
static unsigned run_small_log(struct io *io, bool syncs_names, bool syncs_bytes)
{
	struct io_file *file;
	unsigned acknowledged = 0;

	if (io->ops->open(io, "log", IO_WRITE | IO_CREATE, &file) < 0)
		return 0;
	if (syncs_names && io->ops->sync_dir(io, "") < 0)
		goto out;
	for (unsigned i = 0; i < 10; i++) {
		char record[700];

		memset(record, (int)('A' + i), sizeof(record));
		if (write_at(io, file, record, sizeof(record), i * sizeof(record)) < 0)
			break;
		if (syncs_bytes && io->ops->sync(file) < 0)
			break;
		acknowledged++;
	}
out:
	io->ops->close(file);
	return acknowledged;
}

static unsigned records_left(struct io *io)
{
	unsigned count = 0;
	char record[700];

	while (count < 10 && sim_read_file(io, "log", count * sizeof(record), record, sizeof(record)) == 0) {
		for (size_t i = 0; i < sizeof(record); i++) {
			if (record[i] != (char)('A' + count))
				return count;
		}
		count++;
	}
	return count;
}

static unsigned losses(bool syncs_names, bool syncs_bytes)
{
	unsigned lost = 0;

	for (uint64_t seed = 0; seed < 20; seed++) {
		for (uint64_t cut = 0; cut < 25; cut++) {
			struct io *io = sim_new(seed);

			sim_cut_power_after(io, cut);
			const unsigned acknowledged = run_small_log(io, syncs_names, syncs_bytes);
			const uint64_t whole = 1 + syncs_names + 10 + (syncs_bytes ? 10 : 0);
			cr_assert(sim_is_dead(io) == (cut < whole));
			cr_assert(!sim_is_dead(io) || io->ops->exists(io, "log") == -EIO, "the dead answer");
			sim_power_on(io, SIM_POWER_RANDOM);
			cr_assert(!sim_is_dead(io) && io->ops->exists(io, "log") >= 0);
			lost += records_left(io) < acknowledged;
			sim_free(io);
		}
	}
	return lost;
}

Test(sim_power, a_right_log_loses_nothing_and_a_wrong_one_is_caught)
{
	cr_assert(losses(true, true) == 0);
	cr_assert(losses(false, true) > 20, "a missing directory sync goes unseen");
	cr_assert(losses(true, false) > 20, "a missing file sync goes unseen");
}

/* Everything that can be seen of a run, in one number. */
static uint64_t fingerprint(uint64_t seed)
{
	struct io *io = sim_new(seed);
	uint64_t h = seed;
	char bytes[7000];
	unsigned char back[8];

	for (unsigned round = 0; round < 5; round++) {
		make_file(io, "extra", "extra", round % 2);
		sim_cut_power_after(io, 5 + round * 3);
		h = h * 31 + run_small_log(io, true, true);
		sim_power_on(io, SIM_POWER_RANDOM);
		const int64_t size = sim_file_size(io, "log");
		h = h * 31 + (uint64_t)size;
		if (size > 0 && sim_read_file(io, "log", 0, bytes, (size_t)size) == 0) {
			for (int64_t i = 0; i < size; i++)
				h = h * 31 + (unsigned char)bytes[i];
		}
		cr_assert(io->ops->random(io, back, sizeof(back)) == 0);
		for (size_t i = 0; i < sizeof(back); i++)
			h = h * 31 + back[i];
		h = h * 31 + io->ops->monotonic_ns(io) + io->ops->wall_ns(io) + sim_op_count(io);
	}
	sim_free(io);
	return h;
}

Test(sim_power, the_same_seed_gives_the_same_run)
{
	unsigned same = 0;

	for (uint64_t seed = 0; seed < 50; seed++) {
		cr_assert(fingerprint(seed) == fingerprint(seed));
		same += fingerprint(seed) - seed == fingerprint(seed + 1) - seed - 1;
	}
	cr_assert(same == 0);
}
