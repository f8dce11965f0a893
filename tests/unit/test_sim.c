/* The simulated disk: it behaves as a disk, and fails when told to. */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "sim_files.h"

TestSuite(sim, .timeout = 60);

/* ---- without any harm ------------------------------------------------------------------------------------------- */

Test(sim, files_behave_as_files)
{
	struct io *io = sim_new(1);
	struct io_file *file, *other;
	struct iovec iov[2] = {{"hello ", 6}, {"world", 5}};
	char back[10000];
	uint64_t size;

	cr_assert(io->ops->open(io, "f", IO_READ, &file) == -ENOENT);
	file = open_file(io, "f", IO_READ | IO_WRITE | IO_CREATE | IO_EXCLUSIVE);
	cr_assert(io->ops->open(io, "f", IO_WRITE | IO_CREATE | IO_EXCLUSIVE, &other) == -EEXIST);
	cr_assert(io->ops->open(io, "f/g", IO_READ, &other) == -ENOTDIR);
	cr_assert(io->ops->pwritev(file, iov, 2, 4090) == 0);
	cr_assert(io->ops->size(file, &size) == 0 && size == 4101);
	cr_assert(io->ops->pread(file, back, sizeof(back), 4088, 0) == 13);
	cr_assert(memcmp(back, "\0\0hello world", 13) == 0);
	cr_assert(io->ops->pread(file, back, 1, 4101, 0) == 0);
	cr_assert(io->ops->truncate(file, 4092) == 0 && io->ops->truncate(file, 4100) == 0);
	cr_assert(io->ops->pread(file, back, sizeof(back), 4088, 0) == 12);
	cr_assert(memcmp(back, "\0\0he\0\0\0\0\0\0\0\0", 12) == 0);
	cr_assert(io->ops->allocate(file, 0, 9000) == 0);
	cr_assert(io->ops->size(file, &size) == 0 && size == 9000);
	cr_assert(io->ops->pread(file, back, sizeof(back), 4090, 0) == 4910 && memcmp(back, "he\0", 3) == 0);
	cr_assert(sim_open_count(io) == 1);
	other = open_file(io, "f", IO_READ);
	cr_assert(write_at(io, other, "x", 1, 0) == -EBADF);
	cr_assert(io->ops->pread(other, back, 2, 4090, 0) == 2 && memcmp(back, "he", 2) == 0);
	/* Unlinked, it lives until the last handle goes. */
	cr_assert(io->ops->unlink(io, "f") == 0 && io->ops->exists(io, "f") == 0);
	io->ops->close(file);
	cr_assert(io->ops->pread(other, back, 2, 4090, 0) == 2 && memcmp(back, "he", 2) == 0);
	cr_assert(sim_used_bytes(io) > 0);
	io->ops->close(other);
	cr_assert(sim_used_bytes(io) == 0);
	cr_assert(sim_open_count(io) == 0 && sim_open_high(io) == 2);
	sim_free(io);
}

static int collect(const char *name, bool is_dir, void *arg)
{
	unsigned *bits = arg;

	cr_assert(strlen(name) == 1 && name[0] >= 'a' && name[0] <= 'h');
	cr_assert(is_dir == (name[0] == 'd'));
	*bits |= 1u << (name[0] - 'a');
	return 0;
}

Test(sim, directories_behave_as_directories)
{
	struct io *io = sim_new(2);
	unsigned bits = 0;

	cr_assert(io->ops->mkdir(io, "d") == 0 && io->ops->mkdir(io, "d") == -EEXIST);
	cr_assert(io->ops->mkdir(io, "x/y") == -ENOENT);
	make_file(io, "a", "aa", false);
	make_file(io, "d/b", "bb", false);
	cr_assert(io->ops->rmdir(io, "d") == -ENOTEMPTY && io->ops->rmdir(io, "a") == -ENOTDIR);
	cr_assert(io->ops->unlink(io, "d") == -EISDIR && io->ops->unlink(io, "e") == -ENOENT);
	cr_assert(io->ops->rename(io, "d/b", "d/c") == 0 && holds(io, "d/c", "bb"));
	cr_assert(io->ops->rename(io, "d/c", "a") == 0 && holds(io, "a", "bb"));
	cr_assert(io->ops->rename(io, "d", "d/e") == -EINVAL && io->ops->rename(io, "a", "d") == -EISDIR);
	make_file(io, "e", "", false);
	cr_assert(io->ops->list_dir(io, "", collect, &bits) == 0);
	cr_assert(bits == (1 | 8 | 16));
	cr_assert(io->ops->list_dir(io, "a", collect, &bits) == -ENOTDIR);
	cr_assert(io->ops->rmdir(io, "d") == 0 && io->ops->exists(io, "d") == 0);
	cr_assert(io->ops->exists(io, "") == 1 && io->ops->exists(io, "a/b") == 0);
	cr_assert(io->ops->sync_dir(io, "nodir") == -ENOENT && io->ops->sync_dir(io, "a") == -ENOTDIR);
	sim_free(io);
}

Test(sim, mappings_show_the_live_file)
{
	struct io *io = sim_new(3);
	struct io_file *file = open_file(io, "m", IO_READ | IO_WRITE | IO_CREATE);
	struct io_map *map;
	char back[16];

	cr_assert(io->ops->map(file, 16384, &map) == 0);
	cr_assert(io->ops->map_read(map, back, 1, 0, 0) == -EIO);
	cr_assert(write_at(io, file, "abc", 3, 0) == 0);
	cr_assert(io->ops->map_read(map, back, 5, 0, IO_NOWAIT) == 0 && memcmp(back, "abc\0\0", 5) == 0);
	cr_assert(io->ops->map_read(map, back, 5, 4094, 0) == -EIO);
	cr_assert(io->ops->map_read(map, back, 1, 16384, 0) == -EIO);
	io->ops->close(file);
	cr_assert(io->ops->map_read(map, back, 3, 0, 0) == 0);
	io->ops->unmap(map);
	sim_free(io);
}

Test(sim, the_lock_excludes_until_its_holder_is_gone)
{
	struct io *io = sim_new(4);
	struct io_file *lock, *other;

	cr_assert(io->ops->lock(io, "lock", &lock) == 0);
	cr_assert(io->ops->lock(io, "lock", &other) == -EWOULDBLOCK);
	io->ops->unlock(lock);
	cr_assert(io->ops->lock(io, "lock", &lock) == 0);
	sim_process_died(io);
	cr_assert(io->ops->lock(io, "lock", &other) == 0);
	io->ops->unlock(lock); /* the dead one's handle: must not take the lock from the living */
	cr_assert(io->ops->lock(io, "lock", &lock) == -EWOULDBLOCK);
	io->ops->unlock(other);
	cr_assert(sim_open_count(io) == 0);
	sim_free(io);
}

/* Random calls on one file, and the same on plain memory. */
Test(sim, agrees_with_a_plain_model)
{
	enum { MAX = 40000 };
	static unsigned char model[MAX], bytes[MAX], back[MAX];

	for (uint64_t seed = 0; seed < 20; seed++) {
		struct io *io = sim_new(seed);
		struct io_file *file = open_file(io, "f", IO_READ | IO_WRITE | IO_CREATE);
		size_t size = 0;

		srand((unsigned)seed);
		memset(model, 0, sizeof(model));
		for (int step = 0; step < 300; step++) {
			const size_t at = (size_t)rand() % MAX,
				     len = (size_t)rand() % (rand() % 2 ? 700 : 9000) % (MAX - at);
			const int what = rand() % 10;

			if (what < 6) {
				for (size_t i = 0; i < len; i++)
					bytes[i] = (unsigned char)rand();
				cr_assert(write_at(io, file, bytes, len, at) == 0);
				memcpy(model + at, bytes, len);
				size = len > 0 && at + len > size ? at + len : size;
			} else if (what == 6) {
				cr_assert(io->ops->truncate(file, at) == 0);
				if (at < size)
					memset(model + at, 0, size - at);
				size = at;
			} else if (what == 7) {
				cr_assert(io->ops->allocate(file, at, len) == 0);
				size = len > 0 && at + len > size ? at + len : size;
			} else if (what == 8) {
				sim_fail_at(io, 1, EIO, SIM_BIT(SIM_SYNC));
				cr_assert(io->ops->sync(file) == -EIO);
			} else {
				cr_assert(io->ops->sync(file) == 0);
			}
			cr_assert(sim_file_size(io, "f") == (int64_t)size);
			cr_assert(io->ops->pread(file, back, sizeof(back), 0, 0) == (ssize_t)size);
			cr_assert(memcmp(back, model, size) == 0, "seed %d step %d", (int)seed, step);
		}
		/* A process that dies loses nothing. */
		sim_process_died(io);
		cr_assert(io->ops->pread(file, back, 1, 0, 0) == -EBADF);
		io->ops->close(file);
		cr_assert(sim_read_file(io, "f", 0, back, size) == 0 && memcmp(back, model, size) == 0);
		cr_assert(io->ops->truncate(file = open_file(io, "f", IO_WRITE), 0) == 0);
		cr_assert(sim_used_bytes(io) == 0, "blocks are lost: %d", (int)sim_used_bytes(io));
		io->ops->close(file);
		sim_free(io);
	}
}

/* ---- faults ----------------------------------------------------------------------------------------------------- */

Test(sim, the_nth_call_of_a_kind_fails_once)
{
	struct io *io = sim_new(6);
	struct io_file *file = open_file(io, "f", IO_READ | IO_WRITE | IO_CREATE);
	char back[4];

	sim_fail_at(io, 2, ENOSPC, SIM_BIT(SIM_PWRITE));
	cr_assert(io->ops->sync(file) == 0);
	cr_assert(write_at(io, file, "aaaa", 4, 0) == 0);
	cr_assert(write_at(io, file, "bbbb", 4, 0) == -ENOSPC);
	cr_assert(io->ops->pread(file, back, 4, 0, 0) == 4 && memcmp(back, "aaaa", 4) == 0);
	cr_assert(write_at(io, file, "cccc", 4, 0) == 0);
	cr_assert(sim_faults_fired(io) == 1);
	sim_fail_at(io, 1, EMFILE, SIM_BIT(SIM_OPEN) | SIM_BIT(SIM_MKDIR) | SIM_EVERY);
	struct io_file *other;
	cr_assert(io->ops->open(io, "f", IO_READ, &other) == -EMFILE);
	cr_assert(io->ops->mkdir(io, "d") == -EMFILE && io->ops->exists(io, "d") == 0);
	cr_assert(io->ops->open(io, "g", IO_WRITE | IO_CREATE, &other) == -EMFILE && io->ops->exists(io, "g") == 0);
	sim_fail_clear(io);
	cr_assert(io->ops->mkdir(io, "d") == 0);
	sim_fail_at(io, 3, EIO, SIM_ANY);
	cr_assert(io->ops->exists(io, "d") == 1);
	cr_assert(io->ops->pread(file, back, 4, 0, 0) == 4);
	cr_assert(io->ops->rename(io, "d", "e") == -EIO);
	cr_assert(io->ops->exists(io, "d") == 1 && io->ops->exists(io, "e") == 0);
	io->ops->close(file);
	sim_free(io);
}

Test(sim, a_torn_write_leaves_a_part)
{
	unsigned parts = 0;

	for (uint64_t seed = 0; seed < 50; seed++) {
		struct io *io = sim_new(seed);
		struct io_file *file = open_file(io, "f", IO_READ | IO_WRITE | IO_CREATE);
		static char bytes[3000], back[3000];

		memset(bytes, 't', sizeof(bytes));
		sim_fail_at(io, 1, EIO, SIM_BIT(SIM_PWRITE) | SIM_TORN);
		cr_assert(write_at(io, file, bytes, sizeof(bytes), 0) == -EIO);
		const int64_t size = sim_file_size(io, "f");
		cr_assert(size >= 0 && size < 3000);
		cr_assert(sim_read_file(io, "f", 0, back, (size_t)size) == 0 && memcmp(back, bytes, (size_t)size) == 0);
		parts += size > 0;
		io->ops->close(file);
		sim_free(io);
	}
	cr_assert(parts > 40);
}

Test(sim, after_a_failed_sync_pages_read_well_and_are_lost)
{
	for (uint64_t seed = 0; seed < 50; seed++) {
		for (int again = 0; again < 2; again++) {
			struct io *io = sim_new(seed);
			struct io_file *file;
			char back[3];

			make_file(io, "f", "old", true);
			file = open_file(io, "f", IO_READ | IO_WRITE);
			cr_assert(write_at(io, file, "new", 3, 0) == 0);
			sim_fail_at(io, 1, EIO, SIM_BIT(SIM_SYNC));
			cr_assert(io->ops->sync(file) == -EIO);
			cr_assert(io->ops->pread(file, back, 3, 0, 0) == 3 && memcmp(back, "new", 3) == 0);
			cr_assert(io->ops->sync(file) == 0, "the lie of the second sync");
			sim_process_died(io);
			io->ops->close(file);
			cr_assert(holds(io, "f", "new"), "a restarted process reads what the disk does not have");
			if (again) { /* written once more, and synced: that holds */
				file = open_file(io, "f", IO_WRITE);
				cr_assert(write_at(io, file, "new", 3, 0) == 0 && io->ops->sync(file) == 0);
				io->ops->close(file);
			}
			sim_power_on(io, seed % 2 ? SIM_POWER_RANDOM : SIM_KEEP_ALL);
			cr_assert(holds(io, "f", again ? "new" : "old"));
			sim_free(io);
		}
	}
}

Test(sim, a_failed_sync_is_heard_once_by_sync_all)
{
	struct io *io = sim_new(7);
	struct io_file *file;

	make_file(io, "f", "old", true);
	file = open_file(io, "f", IO_WRITE);
	cr_assert(write_at(io, file, "new", 3, 0) == 0);
	sim_fail_at(io, 1, EIO, SIM_BIT(SIM_SYNC));
	cr_assert(io->ops->sync(file) == -EIO);
	cr_assert(io->ops->sync_all(io) == -EIO);
	cr_assert(io->ops->sync_all(io) == 0);
	cr_assert(write_at(io, file, "xyz", 3, 0) == 0);
	sim_fail_at(io, 1, EIO, SIM_BIT(SIM_SYNC_ALL));
	cr_assert(io->ops->sync_all(io) == -EIO);
	cr_assert(io->ops->sync_all(io) == 0);
	io->ops->close(file);
	sim_power_on(io, SIM_KEEP_ALL);
	cr_assert(holds(io, "f", "old"));
	sim_free(io);
}

/* "d" is there, "f" and "d/g" are not durable, and a sync of "" has failed. */
static struct io *with_a_failed_sync(int os_errno, enum sim_kind kind)
{
	struct io *io = sim_new(8);

	cr_assert(io->ops->mkdir(io, "d") == 0 && io->ops->sync_dir(io, "") == 0);
	make_file(io, "f", "abc", false);
	sim_fail_at(io, 1, os_errno, SIM_BIT(kind));
	cr_assert((kind == SIM_SYNC_DIR ? io->ops->sync_dir(io, "") : io->ops->sync_all(io)) == -os_errno);
	make_file(io, "d/g", "abc", false);
	return io;
}

Test(sim, a_failed_directory_sync_makes_nothing_durable)
{
	struct io *io = with_a_failed_sync(EIO, SIM_SYNC_DIR);

	cr_assert(io->ops->sync_dir(io, "") == 0 && io->ops->sync_all(io) == 0, "and no later one");
	sim_power_on(io, SIM_LOSE_ALL);
	cr_assert(sim_file_size(io, "f") == -ENOENT);
	cr_assert(sim_file_size(io, "d/g") == 3, "what is in another directory");
	make_file(io, "f", "abcd", false);
	cr_assert(io->ops->sync_dir(io, "") == 0, "the next process has nothing to do with it");
	sim_power_on(io, SIM_LOSE_ALL);
	cr_assert(sim_file_size(io, "f") >= 0);
	sim_free(io);
}

Test(sim, a_failed_sync_of_all_makes_no_name_durable)
{
	struct io *io = with_a_failed_sync(EIO, SIM_SYNC_ALL);

	cr_assert(io->ops->sync_dir(io, "") == 0 && io->ops->sync_dir(io, "d") == 0);
	sim_power_on(io, SIM_LOSE_ALL);
	cr_assert(sim_file_size(io, "f") == -ENOENT);
	cr_assert(sim_file_size(io, "d/g") >= 0, "what was not there then");
	sim_free(io);
}

Test(sim, a_directory_sync_without_a_descriptor_was_none)
{
	struct io *io = with_a_failed_sync(EMFILE, SIM_SYNC_DIR);

	cr_assert(io->ops->sync_dir(io, "") == 0);
	sim_power_on(io, SIM_LOSE_ALL);
	cr_assert(sim_file_size(io, "f") >= 0);
	sim_free(io);
}

Test(sim, a_full_disk_says_so_and_has_room_again)
{
	struct io *io = sim_new(9);
	struct io_file *file = open_file(io, "f", IO_READ | IO_WRITE | IO_CREATE);
	struct io_space space;
	static char bytes[5 * 4096];

	sim_set_capacity(io, 4 * 4096);
	cr_assert(io->ops->allocate(file, 0, 5 * 4096) == -ENOSPC && sim_file_size(io, "f") == 0);
	cr_assert(io->ops->allocate(file, 0, 3 * 4096) == 0);
	cr_assert(io->ops->space(io, &space) == 0 && space.total_bytes == 16384 && space.free_bytes == 4096);
	cr_assert(write_at(io, file, bytes, 3 * 4096, 0) == 0, "reserved space is there");
	cr_assert(write_at(io, file, bytes, sizeof(bytes), 0) == -ENOSPC);
	cr_assert(sim_file_size(io, "f") == 4 * 4096, "what fits is written");
	cr_assert(io->ops->mkdir(io, "d") == -ENOSPC);
	cr_assert(write_at(io, file, bytes, 4096, 0) == 0, "overwriting takes no room");
	cr_assert(io->ops->truncate(file, 4096) == 0);
	cr_assert(io->ops->mkdir(io, "d") == 0 && sim_used_bytes(io) == 8192);
	cr_assert(io->ops->sync(file) == 0 && io->ops->sync_dir(io, "") == 0);
	io->ops->close(file);
	sim_power_on(io, SIM_POWER_RANDOM);
	cr_assert(sim_used_bytes(io) == 8192, "%d", (int)sim_used_bytes(io));
	cr_assert(io->ops->unlink(io, "f") == 0 && io->ops->rmdir(io, "d") == 0);
	cr_assert(sim_used_bytes(io) == 0);
	sim_free(io);
}

Test(sim, limits_and_counters)
{
	struct io *io = sim_new(10);
	struct io_file *a = open_file(io, "a", IO_READ | IO_WRITE | IO_CREATE), *b, *c;

	sim_set_max_open(io, 2);
	b = open_file(io, "a", IO_READ);
	cr_assert(io->ops->open(io, "a", IO_READ, &c) == -EMFILE);
	cr_assert(io->ops->lock(io, "lock", &c) == -EMFILE && io->ops->exists(io, "lock") == 0);
	io->ops->close(b);
	cr_assert(sim_count(io, SIM_OPEN) == 3 && sim_count(io, SIM_LOCK) == 1);
	cr_assert(sim_op_count(io) == 1, "only one open has made a file");
	cr_assert(write_at(io, a, "x", 1, 0) == 0 && io->ops->sync(a) == 0);
	cr_assert(sim_op_count(io) == 3 && sim_count(io, SIM_SYNC) == 1 && sim_count(io, SIM_PWRITE) == 1);
	io->ops->close(a);
	cr_assert(sim_closed_unsynced(io) == 0);
	a = open_file(io, "a", IO_WRITE);
	cr_assert(write_at(io, a, "y", 1, 0) == 0);
	io->ops->close(a);
	cr_assert(sim_closed_unsynced(io) == 1);
	sim_set_no_allocate(io, true);
	a = open_file(io, "a", IO_READ | IO_WRITE);
	cr_assert(io->ops->allocate(a, 0, 10) == -EOPNOTSUPP);
	io->ops->close(a);
	sim_free(io);
}

Test(sim, cold_reads_are_refused_or_short)
{
	struct io *io = sim_new(11);
	struct io_file *file = open_file(io, "f", IO_READ | IO_WRITE | IO_CREATE);
	static char bytes[20000];
	unsigned refused = 0, cut = 0, whole = 0;

	memset(bytes, 'c', sizeof(bytes));
	cr_assert(write_at(io, file, bytes, sizeof(bytes), 0) == 0);
	sim_set_cold_reads(io, 500);
	for (int i = 0; i < 300; i++) {
		const ssize_t got = io->ops->pread(file, bytes, 15000, 1000, IO_NOWAIT);

		refused += got == -EAGAIN;
		cut += got > 0 && got < 15000 && (got + 1000) % 4096 == 0;
		whole += got == 15000;
		cr_assert(io->ops->pread(file, bytes, 15000, 1000, 0) == 15000);
	}
	cr_assert(refused > 30 && cut > 30 && whole > 100 && refused + cut + whole == 300);
	io->ops->close(file);
	sim_free(io);
}

Test(sim, clocks_go_forward_and_the_wall_may_step_back)
{
	struct io *io = sim_new(12);
	const uint64_t first = io->ops->monotonic_ns(io);

	cr_assert(io->ops->monotonic_ns(io) > first);
	sim_advance(io, 1000000);
	cr_assert(io->ops->monotonic_ns(io) > first + 1000000);
	const uint64_t wall = io->ops->wall_ns(io), later = io->ops->monotonic_ns(io);
	sim_set_wall(io, wall - 5000000000);
	cr_assert(io->ops->wall_ns(io) < wall - 4000000000);
	cr_assert(io->ops->monotonic_ns(io) > later, "the monotonic clock follows no step");
	sim_advance(io, 100000000000);
	sim_power_on(io, SIM_POWER_RANDOM);
	cr_assert(io->ops->monotonic_ns(io) < first + 100000000000, "it starts anew with the machine");
	cr_assert(io->ops->wall_ns(io) > wall + 90000000000);
	sim_free(io);
}

Test(sim, damage_by_hand)
{
	struct io *io = sim_new(13);
	unsigned bits = 0;
	char back[4];

	cr_assert(sim_write_file(io, "a", "abcd", 4) == 0);
	cr_assert(sim_flip_bit(io, "a", 1, 0) == 0 && holds(io, "a", "accd"));
	cr_assert(sim_flip_bit(io, "a", 4, 0) == -ERANGE);
	cr_assert(sim_patch_file(io, "a", 2, "XY", 2) == 0 && holds(io, "a", "acXY"));
	cr_assert(sim_truncate_file(io, "a", 3) == 0);
	cr_assert(sim_write_file(io, "b", "bb", 2) == 0 && sim_write_file(io, "b", "c", 1) == 0);
	cr_assert(sim_write_file(io, "no/b", "bb", 2) == -ENOENT);
	cr_assert(sim_write_file(io, "c", "cc", 2) == 0 && sim_remove_file(io, "c") == 0);
	cr_assert(sim_op_count(io) == 0);
	sim_power_on(io, SIM_LOSE_ALL);
	cr_assert(holds(io, "a", "acX") && holds(io, "b", "c"));
	cr_assert(sim_read_file(io, "a", 0, back, 4) == -ERANGE);
	cr_assert(sim_list(io, "", collect, &bits) == 0 && bits == 3);
	sim_free(io);
}

Test(sim, what_is_left_open_is_freed)
{
	struct io *io = sim_new(14);
	struct io_map *map;
	struct io_file *file = open_file(io, "f", IO_READ | IO_WRITE | IO_CREATE);

	cr_assert(write_at(io, file, "x", 1, 0) == 0);
	cr_assert(io->ops->map(file, 1, &map) == 0);
	cr_assert(io->ops->unlink(io, "f") == 0);
	sim_power_on(io, SIM_POWER_RANDOM);
	cr_assert(sim_open_count(io) == 0);
	cr_assert(sim_used_bytes(io) <= 4096);
	sim_free(io); /* the leak checker says whether it is so */
	sim_free(NULL);
}
