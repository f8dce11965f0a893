/*
 * Birth, death and restart of the simulated world, and the hand inside the disk.
 */
#include "sim_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MONOTONIC_AT_BOOT UINT64_C(1000000000)
#define WALL_AT_BIRTH (UINT64_C(1700000000) * UINT64_C(1000000000))

struct io *sim_new(uint64_t seed)
{
	struct sim *sim = sim_alloc(sizeof(*sim));

	sim->base.ops = &sim_ops;
	sim->chance.state = seed * 2;
	sim->entropy.state = ~seed;
	sim->changes_end = &sim->changes;
	sim->process = 1;
	sim->root = inode_new(sim, true);
	sim->monotonic = MONOTONIC_AT_BOOT;
	sim->wall_offset = WALL_AT_BIRTH;
	return &sim->base;
}

void sim_free(struct io *io)
{
	struct sim *sim = sim_of(io);

	if (!io)
		return;
	sim_kill_handles(sim);
	while (sim->files)
		sim_ops.close(sim->files);
	while (sim->maps)
		sim_ops.unmap(sim->maps);
	tree_forget_changes(sim);
	inode_unref(sim->root);
	free(sim);
}

void sim_process_died(struct io *io)
{
	struct sim *sim = sim_of(io);

	sim_kill_handles(sim);
	/* The failed sync has told of its error; who opens the disk anew hears nothing of it. */
	sim->write_back_error = false;
	sim->process++;
}

void sim_set_choices(struct io *io, uint64_t bits)
{
	sim_of(io)->choice_bits = bits;
}

unsigned sim_choices(const struct io *io)
{
	return sim_of(io)->choices;
}

bool sim_choose(struct sim *sim)
{
	const bool kept = sim->choice_bits & 1;

	sim->choice_bits >>= 1;
	sim->choices++;
	return kept;
}

void sim_power_on(struct io *io, enum sim_power_mode mode)
{
	struct sim *sim = sim_of(io);
	const uint64_t wall = sim->monotonic + sim->wall_offset;

	sim_process_died(io);
	sim->choices = 0;
	tree_survive(sim, mode);
	sim->dead = false;
	sim->cut_armed = false;
	sim->monotonic = MONOTONIC_AT_BOOT;
	sim->wall_offset = wall - MONOTONIC_AT_BOOT;
}

/* ---- the hand inside the disk ----------------------------------------------------------------------------------- */

static int find_file(struct io *io, const char *path, struct inode **ret_inode)
{
	const int rc = tree_find(sim_of(io), path, ret_inode);

	if (rc < 0)
		return rc;
	return (*ret_inode)->is_dir ? -EISDIR : 0;
}

int64_t sim_file_size(struct io *io, const char *path)
{
	struct inode *inode;
	const int rc = find_file(io, path, &inode);

	return rc < 0 ? rc : (int64_t)inode->size;
}

int sim_read_file(struct io *io, const char *path, uint64_t offset, void *buf, size_t len)
{
	struct inode *inode;
	const int rc = find_file(io, path, &inode);

	if (rc < 0)
		return rc;
	if (offset > inode->size || len > inode->size - offset)
		return -ERANGE;
	inode_read(inode, buf, len, offset);
	return 0;
}

int sim_patch_file(struct io *io, const char *path, uint64_t offset, const void *bytes, size_t len)
{
	struct inode *inode;
	const int rc = find_file(io, path, &inode);

	if (rc < 0)
		return rc;
	const size_t done = inode_write(inode, bytes, len, offset);
	inode_sync(inode);
	return done < len ? -ENOSPC : 0;
}

int sim_truncate_file(struct io *io, const char *path, uint64_t size_bytes)
{
	struct inode *inode;
	const int rc = find_file(io, path, &inode);

	if (rc < 0)
		return rc;
	inode_truncate(inode, size_bytes);
	inode_sync(inode);
	return 0;
}

int sim_write_file(struct io *io, const char *path, const void *bytes, size_t len)
{
	struct sim *sim = sim_of(io);
	struct inode *dir, *inode;
	const char *name;
	int rc = tree_parent(sim, path, &dir, &name);

	if (rc < 0)
		return rc;
	rc = find_file(io, path, &inode);
	if (rc == -ENOENT) {
		inode = inode_new(sim, false);
		tree_add(sim, dir, name, inode);
		inode_unref(inode);
		rc = 0;
	}
	if (rc < 0)
		return rc;
	tree_sync_dir(sim, dir);
	inode_truncate(inode, 0);
	return sim_patch_file(io, path, 0, bytes, len);
}

int sim_remove_file(struct io *io, const char *path)
{
	struct sim *sim = sim_of(io);
	struct inode *dir, *inode;
	const char *name;
	int rc = tree_parent(sim, path, &dir, &name);

	if (rc == 0)
		rc = find_file(io, path, &inode);
	if (rc < 0)
		return rc;
	tree_remove(sim, tree_entry(dir, name, false));
	tree_sync_dir(sim, dir);
	return 0;
}

int sim_flip_bit(struct io *io, const char *path, uint64_t offset, unsigned bit)
{
	uint8_t byte;
	const int rc = sim_read_file(io, path, offset, &byte, 1);

	if (rc < 0)
		return rc;
	byte ^= (uint8_t)(1u << (bit & 7));
	return sim_patch_file(io, path, offset, &byte, 1);
}

int sim_list(struct io *io, const char *path, io_list_cb cb, void *arg)
{
	struct inode *dir;
	const int rc = tree_find(sim_of(io), path, &dir);

	if (rc < 0)
		return rc;
	return dir->is_dir ? tree_list(dir, cb, arg) : -ENOTDIR;
}
