/* The overlay: what is done to it shows as on a real disk, and nothing of it reaches the disk below. */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "overlay.h"
#include "sim.h"
#include "test_fsck_common.h"

TestSuite(fsck_overlay, .timeout = 120);

static void same(struct io *left, struct io *right, uint64_t seed, unsigned at)
{
	char *a = all_of(left), *b = all_of(right);
	cr_assert(strcmp(a, b) == 0, "seed %lu, after %u: overlay\n%s\nmodel\n%s", (unsigned long)seed, at, a, b);
	free(a);
	free(b);
}

/* ---- a random life ---------------------------------------------------------------------------------------------- */

static uint64_t chance_state;

static uint64_t chance(uint64_t below)
{
	chance_state = chance_state * 6364136223846793005u + 1442695040888963407u;
	return (chance_state >> 33) % below;
}

static void random_path(char path[40])
{
	static const char *const dirs[] = {"", "", "a/", "b/", "c/"};
	static const char *const files[] = {"x", "y", "z", "a", "b", "c"};
	const char *dir = dirs[chance(5)];
	snprintf(path, 40, "%s%s", dir, files[dir[0] ? chance(3) : chance(6)]);
}

/* Two disks that have lived alike, and what is open in both. */
struct pair {
	struct io *left, *right;
	struct io_file *files[4][2];
};

static void write_both(struct pair *pair, struct io_file *left, struct io_file *right)
{
	static uint8_t bytes[20000];
	size_t len = chance(4) ? chance(200) : chance(sizeof(bytes));
	uint64_t offset = chance(3) ? chance(300) : chance(30000);
	uint8_t fill = (uint8_t)(chance(3) ? chance(256) : 0);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(fill ? fill + i % 7 : 0);
	(void)pair;
	cr_assert(write_at(pair->left, left, bytes, len, offset) == write_at(pair->right, right, bytes, len, offset));
}

static void on_open_files(struct pair *pair, struct io_file *left, struct io_file *right)
{
	static uint8_t a[40000], b[40000];
	uint64_t size = chance(2) ? chance(300) : chance(30000), left_size, right_size;
	switch (chance(5)) {
	case 0:
		cr_assert(pair->left->ops->truncate(left, size) == pair->right->ops->truncate(right, size));
		break;
	case 1:
		cr_assert(pair->left->ops->allocate(left, size, 500) == pair->right->ops->allocate(right, size, 500));
		break;
	case 2: {
		size_t len = chance(sizeof(a));
		ssize_t got = pair->left->ops->pread(left, a, len, size, 0);
		cr_assert(got == pair->right->ops->pread(right, b, len, size, 0));
		cr_assert(got >= 0 && memcmp(a, b, (size_t)got) == 0, "a read of %zu at %lu", len, (unsigned long)size);
		break;
	}
	default:
		write_both(pair, left, right);
	}
	cr_assert(pair->left->ops->size(left, &left_size) == 0 && pair->right->ops->size(right, &right_size) == 0);
	cr_assert(left_size == right_size);
}

static void open_both(struct pair *pair, const char *path)
{
	int flags = IO_READ | IO_WRITE | (chance(2) ? IO_CREATE : 0) | (chance(5) ? 0 : IO_EXCLUSIVE);
	unsigned slot = (unsigned)chance(4);
	struct io_file **files = pair->files[slot];
	pair->left->ops->close(files[0]);
	pair->right->ops->close(files[1]);
	files[0] = files[1] = NULL;
	int l = pair->left->ops->open(pair->left, path, flags, &files[0]);
	int r = pair->right->ops->open(pair->right, path, flags, &files[1]);
	cr_assert(l == r || (l < 0 && r < 0), "open %s: %d, %d", path, l, r);
	if (l < 0)
		files[0] = files[1] = NULL;
	else
		on_open_files(pair, files[0], files[1]);
}

static void close_all(struct pair *pair)
{
	for (unsigned i = 0; i < 4; i++) {
		pair->left->ops->close(pair->files[i][0]);
		pair->right->ops->close(pair->files[i][1]);
		pair->files[i][0] = pair->files[i][1] = NULL;
	}
}

static void one_step(struct pair *pair)
{
	struct io *left = pair->left, *right = pair->right;
	char path[40], other[40];
	int l = 0, r = 0;
	random_path(path);
	random_path(other);
	unsigned slot = (unsigned)chance(4), what = (unsigned)chance(12);
	switch (what) {
	case 0:
		l = left->ops->mkdir(left, path);
		r = right->ops->mkdir(right, path);
		break;
	case 1:
		l = left->ops->unlink(left, path);
		r = right->ops->unlink(right, path);
		break;
	case 2:
		l = left->ops->rename(left, path, other);
		r = right->ops->rename(right, path, other);
		break;
	case 3:
		l = left->ops->rmdir(left, path);
		r = right->ops->rmdir(right, path);
		break;
	case 4:
		l = left->ops->exists(left, path);
		r = right->ops->exists(right, path);
		cr_assert(l == r);
		break;
	case 5:
	case 6:
	case 7:
		open_both(pair, path);
		break;
	default:
		if (pair->files[slot][0])
			on_open_files(pair, pair->files[slot][0], pair->files[slot][1]);
	}
	cr_assert((l < 0) == (r < 0), "kind %u, %s, %s: %d and %d", what, path, other, l, r);
}

Test(fsck_overlay, lives_as_a_disk_does_and_changes_nothing_below)
{
	for (uint64_t seed = 1; seed <= 150; seed++) {
		chance_state = seed;
		struct io *below = sim_new(seed), *model = sim_new(seed);
		struct pair pair = {below, model, {{0}}};
		for (unsigned i = 0; i < 60; i++)
			one_step(&pair);
		close_all(&pair);
		char *before = all_of(below);
		struct io *overlay = overlay_new(below);
		pair.left = overlay;
		same(overlay, model, seed, 0);
		uint64_t operations = sim_op_count(below);
		for (unsigned i = 1; i <= 200; i++) {
			one_step(&pair);
			if (i % 20 == 0)
				same(overlay, model, seed, i);
		}
		close_all(&pair);
		same(overlay, model, seed, 1000);
		cr_assert(sim_op_count(below) == operations, "it did something to the disk below");
		overlay_free(overlay);
		char *after = all_of(below);
		cr_assert(strcmp(before, after) == 0);
		cr_assert(sim_open_count(below) == 0, "it left %lu files open", (unsigned long)sim_open_count(below));
		free(before);
		free(after);
		sim_free(below);
		sim_free(model);
	}
}

/* ---- what it keeps ---------------------------------------------------------------------------------------------- */

Test(fsck_overlay, keeps_nothing_of_what_is_as_it_was)
{
	struct io *below = sim_new(1);
	uint8_t bytes[50000];
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + i / 300);
	cr_assert(below->ops->mkdir(below, "a") == 0);
	cr_assert(sim_write_file(below, "a/x", bytes, sizeof(bytes)) == 0);
	struct io *overlay = overlay_new(below);
	struct overlay_use use;

	struct io_file *file = open_file(overlay, "a/x", IO_READ | IO_WRITE);
	cr_assert(write_at(overlay, file, bytes + 1000, 30000, 1000) == 0);
	overlay_use(overlay, &use);
	cr_assert(use.pages == 0 && use.nodes == 2);
	/* Another byte and back again. */
	cr_assert(write_at(overlay, file, "!", 1, 20000) == 0);
	overlay_use(overlay, &use);
	cr_assert(use.pages == 1 && use.data_pages == 1);
	cr_assert(write_at(overlay, file, bytes + 20000, 1, 20000) == 0);
	overlay->ops->close(file);
	overlay_use(overlay, &use);
	cr_assert(use.pages == 0 && use.data_pages == 0 && use.nodes == 0, "%lu nodes", (unsigned long)use.nodes);

	/* Zeros over it are kept without their data; zeros behind the end are nothing at all. */
	file = open_file(overlay, "a/x", IO_READ | IO_WRITE);
	uint8_t zeros[20000] = {0};
	cr_assert(write_at(overlay, file, zeros, 8192, 4096) == 0);
	overlay_use(overlay, &use);
	cr_assert(use.pages == 2 && use.data_pages == 0);
	cr_assert(write_at(overlay, file, zeros, sizeof(zeros), 60000) == 0);
	overlay_use(overlay, &use);
	cr_assert(use.pages == 2 && use.data_pages == 0);
	overlay->ops->close(file);

	/* A file that came and went. */
	file = open_file(overlay, "a/y", IO_READ | IO_WRITE | IO_CREATE);
	cr_assert(write_at(overlay, file, bytes, sizeof(bytes), 0) == 0);
	overlay->ops->close(file);
	cr_assert(overlay->ops->unlink(overlay, "a/y") == 0);
	overlay_use(overlay, &use);
	cr_assert(use.nodes == 2 && use.data_pages == 0);
	overlay_free(overlay);
	sim_free(below);
}

Test(fsck_overlay, the_lock_is_the_real_one)
{
	struct io *below = sim_new(1), *overlay = overlay_new(below);
	struct io_file *lock, *other;
	/* Where there is none, none is made. */
	cr_assert(overlay->ops->lock(overlay, "lock", &lock) == 0);
	overlay->ops->unlock(lock);
	cr_assert(sim_file_size(below, "lock") < 0);
	cr_assert(sim_write_file(below, "lock", "", 0) == 0);
	cr_assert(overlay->ops->lock(overlay, "lock", &lock) == 0);
	cr_assert(below->ops->lock(below, "lock", &other) == -EWOULDBLOCK);
	overlay->ops->unlock(lock);
	cr_assert(below->ops->lock(below, "lock", &other) == 0);
	cr_assert(overlay->ops->lock(overlay, "lock", &lock) == -EWOULDBLOCK);
	below->ops->unlock(other);
	struct io_map *map;
	make_file(below, "x", "hello", true);
	struct io_file *file = open_file(overlay, "x", IO_READ);
	cr_assert(overlay->ops->map(file, 5, &map) == -EOPNOTSUPP);
	overlay->ops->close(file);
	overlay_free(overlay);
	sim_free(below);
}
