/*
 * The calls of io.h. Each looks up what it needs, asks sim_judge what befalls it, and then does it, in that order: a
 * call that fails by a fault has no effect, one that is caught by the power cut has its effect, unsynced.
 */
#include "sim_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Keeps the page tables of a careless test from eating the machine. */
#define FILE_BYTES_MAX (UINT64_C(1) << 36)
#define SPACE_UNBOUNDED (UINT64_C(1) << 40)

static bool range_is_legal(uint64_t offset, uint64_t len)
{
	return offset <= FILE_BYTES_MAX && len <= FILE_BYTES_MAX - offset;
}

/* ---- handles ---------------------------------------------------------------------------------------------------- */

static struct io_file *file_new(struct sim *sim, struct inode *inode, int flags)
{
	struct io_file *file = sim_alloc(sizeof(*file));

	file->sim = sim;
	file->inode = inode_ref(inode);
	inode->handles++;
	file->flags = flags;
	file->next = sim->files;
	if (sim->files)
		sim->files->prev = file;
	sim->files = file;
	if (++sim->open_count > sim->open_high)
		sim->open_high = sim->open_count;
	return file;
}

/* The descriptor goes; the handle stays until its owner closes it. */
static void file_let_go(struct io_file *file)
{
	struct inode *inode = file->inode;

	if (file->dead)
		return;
	file->dead = true;
	file->sim->open_count--;
	inode->handles--;
	if (file->holds_lock)
		inode->locked = false;
	inode_release_blocks(inode);
}

static void sim_close(struct io_file *file)
{
	if (!file)
		return;
	struct sim *sim = file->sim;
	struct inode *inode = file->inode;

	if (!file->dead && inode->handles == 1 && inode->has_name && inode_has_unsynced(inode) && !sim->dead)
		sim->closed_unsynced++;
	file_let_go(file);
	if (file->prev)
		file->prev->next = file->next;
	else
		sim->files = file->next;
	if (file->next)
		file->next->prev = file->prev;
	inode_unref(inode);
	free(file);
}

static void map_let_go(struct io_map *map)
{
	if (map->dead)
		return;
	map->dead = true;
	map->inode->handles--;
	inode_release_blocks(map->inode);
}

void sim_kill_handles(struct sim *sim)
{
	for (struct io_file *file = sim->files; file; file = file->next)
		file_let_go(file);
	for (struct io_map *map = sim->maps; map; map = map->next)
		map_let_go(map);
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

static int open_as(struct sim *sim, enum sim_kind kind, const char *path, int flags, struct io_file **ret_file)
{
	struct inode *dir = NULL, *inode = NULL;
	const char *name = NULL;
	struct entry *entry = NULL;
	int rc = tree_parent(sim, path, &dir, &name);

	if (rc == 0) {
		entry = tree_entry(dir, name, false);
		inode = entry ? entry->now : NULL;
		if (inode && (flags & IO_CREATE) && (flags & IO_EXCLUSIVE))
			rc = -EEXIST;
		else if (inode && inode->is_dir)
			rc = -EISDIR;
		else if (!inode && !(flags & IO_CREATE))
			rc = -ENOENT;
		else if (sim->max_open && sim->open_count >= sim->max_open)
			rc = -EMFILE;
	}
	const bool creates = rc == 0 && !inode;
	const struct verdict verdict = sim_judge(sim, kind, creates);
	if (creates && verdict.apply) {
		inode = inode_new(sim, false);
		tree_add(sim, dir, name, inode);
		inode_unref(inode); /* its name holds it */
	}
	if (verdict.rc < 0)
		return verdict.rc;
	if (rc < 0)
		return rc;
	*ret_file = file_new(sim, inode, flags);
	return 0;
}

static int sim_open(struct io *io, const char *path, int flags, struct io_file **ret_file)
{
	return open_as(sim_of(io), SIM_OPEN, path, flags, ret_file);
}

static ssize_t sim_pread(struct io_file *file, void *buf, size_t len, uint64_t offset, int flags)
{
	struct sim *sim = file->sim;
	const struct verdict verdict = sim_judge(sim, SIM_PREAD, false);

	if (verdict.rc < 0)
		return verdict.rc;
	if (file->dead || !(file->flags & IO_READ))
		return -EBADF;
	if (len > INT32_MAX || offset > INT64_MAX)
		return -EINVAL;
	if ((flags & IO_NOWAIT) && rng_below(&sim->chance, 1000) < sim->cold_per_mille) {
		if (len <= PAGE_BYTES || rng_below(&sim->chance, 2) == 0)
			return -EAGAIN;
		len = (size_t)rng_below(&sim->chance, len / PAGE_BYTES) * PAGE_BYTES + PAGE_BYTES -
		      (size_t)(offset % PAGE_BYTES);
	}
	return (ssize_t)inode_read(file->inode, buf, len, offset);
}

static int sim_pwritev(struct io_file *file, const struct iovec *iov, int iov_count, uint64_t offset)
{
	struct sim *sim = file->sim;
	const struct verdict verdict = sim_judge(sim, SIM_PWRITE, true);
	uint64_t total = 0;

	if (verdict.rc < 0 && !verdict.apply)
		return verdict.rc;
	if (file->dead || !(file->flags & IO_WRITE))
		return -EBADF;
	for (int i = 0; i < iov_count; i++) {
		if (!range_is_legal(offset, total) || !range_is_legal(offset + total, iov[i].iov_len))
			return -EFBIG;
		total += iov[i].iov_len;
	}
	const uint64_t begin = offset;
	uint64_t left = verdict.torn && total > 0 ? rng_below(&sim->chance, total) : total;
	for (int i = 0; i < iov_count && left > 0; i++) {
		const size_t len = iov[i].iov_len < left ? iov[i].iov_len : (size_t)left;
		const size_t done = inode_write(file->inode, iov[i].iov_base, len, offset);

		if (done < len)
			return verdict.rc < 0 ? verdict.rc : -ENOSPC;
		offset += len;
		left -= len;
	}
	/* Of a write that fails, what was written may be durable all the same. */
	if ((file->flags & IO_DURABLE) && offset > begin && (verdict.rc == 0 || rng_below(&sim->chance, 2) == 0))
		inode_sync_range(file->inode, begin, offset - begin);
	return verdict.rc;
}

static int sim_sync(struct io_file *file)
{
	struct sim *sim = file->sim;
	const struct verdict verdict = sim_judge(sim, SIM_SYNC, true);

	if (file->dead)
		return verdict.rc < 0 ? verdict.rc : -EBADF;
	if (verdict.fault) {
		inode_sync_failed(file->inode);
		sim->write_back_error = true;
	}
	if (verdict.rc < 0)
		return verdict.rc;
	inode_sync(file->inode);
	return 0;
}

static int sim_truncate(struct io_file *file, uint64_t size_bytes)
{
	const struct verdict verdict = sim_judge(file->sim, SIM_TRUNCATE, true);

	if (verdict.rc < 0 && !verdict.apply)
		return verdict.rc;
	if (file->dead || !(file->flags & IO_WRITE))
		return -EBADF;
	if (!range_is_legal(size_bytes, 0))
		return -EFBIG;
	inode_truncate(file->inode, size_bytes);
	return verdict.rc;
}

static int sim_allocate(struct io_file *file, uint64_t offset, uint64_t len)
{
	const struct verdict verdict = sim_judge(file->sim, SIM_ALLOCATE, true);

	if (verdict.rc < 0 && !verdict.apply)
		return verdict.rc;
	if (file->dead || !(file->flags & IO_WRITE))
		return -EBADF;
	if (!range_is_legal(offset, len))
		return -EFBIG;
	if (file->sim->no_allocate)
		return -EOPNOTSUPP;
	const int rc = inode_allocate(file->inode, offset, len);
	return verdict.rc < 0 ? verdict.rc : rc;
}

static int sim_size(struct io_file *file, uint64_t *ret_bytes)
{
	const struct verdict verdict = sim_judge(file->sim, SIM_SIZE, false);

	if (verdict.rc < 0)
		return verdict.rc;
	if (file->dead)
		return -EBADF;
	*ret_bytes = file->inode->size;
	return 0;
}

/* ---- mappings --------------------------------------------------------------------------------------------------- */

static int sim_map(struct io_file *file, uint64_t len, struct io_map **ret_map)
{
	struct sim *sim = file->sim;
	const struct verdict verdict = sim_judge(sim, SIM_MAP, false);

	if (verdict.rc < 0)
		return verdict.rc;
	if (file->dead || !(file->flags & IO_READ))
		return -EBADF;
	struct io_map *map = sim_alloc(sizeof(*map));
	map->sim = sim;
	map->inode = inode_ref(file->inode);
	map->inode->handles++; /* its blocks stay as long as it is mapped */
	map->len = len;
	map->next = sim->maps;
	if (sim->maps)
		sim->maps->prev = map;
	sim->maps = map;
	*ret_map = map;
	return 0;
}

static void sim_unmap(struct io_map *map)
{
	if (!map)
		return;
	struct sim *sim = map->sim;

	if (map->prev)
		map->prev->next = map->next;
	else
		sim->maps = map->next;
	if (map->next)
		map->next->prev = map->prev;
	map_let_go(map);
	inode_unref(map->inode);
	free(map);
}

static int sim_map_read(struct io_map *map, void *buf, size_t len, uint64_t offset, int flags)
{
	struct sim *sim = map->sim;
	const struct verdict verdict = sim_judge(sim, SIM_MAP_READ, false);

	if (verdict.rc < 0)
		return verdict.rc;
	if (map->dead)
		return -EBADF;
	if (offset > map->len || len > map->len - offset)
		return -EIO;
	if (len == 0)
		return 0;
	if ((flags & IO_NOWAIT) && rng_below(&sim->chance, 1000) < sim->cold_per_mille)
		return -EAGAIN;
	const uint64_t pages_end = (map->inode->size + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
	if (offset + len > pages_end)
		return -EIO;
	const size_t got = inode_read(map->inode, buf, len, offset);
	memset((char *)buf + got, 0, len - got);
	return 0;
}

/* ---- directories ------------------------------------------------------------------------------------------------ */

static int sim_mkdir(struct io *io, const char *path)
{
	struct sim *sim = sim_of(io);
	struct inode *dir;
	const char *name;
	int rc = tree_parent(sim, path, &dir, &name);
	const struct verdict verdict = sim_judge(sim, SIM_MKDIR, true);

	if (verdict.rc < 0 && !verdict.apply)
		return verdict.rc;
	if (rc == 0) {
		const struct entry *entry = tree_entry(dir, name, false);

		if (entry && entry->now)
			rc = -EEXIST;
		else if (sim->capacity_blocks && sim->used_blocks >= sim->capacity_blocks)
			rc = -ENOSPC;
	}
	if (rc == 0) {
		struct inode *made = inode_new(sim, true);

		made->blocks = 1;
		sim->used_blocks++;
		tree_add(sim, dir, name, made);
		inode_unref(made);
	}
	return verdict.rc < 0 ? verdict.rc : rc;
}

static int find_entry(struct sim *sim, const char *path, struct entry **ret_entry)
{
	struct inode *dir;
	const char *name;
	const int rc = tree_parent(sim, path, &dir, &name);

	if (rc < 0)
		return rc;
	struct entry *entry = tree_entry(dir, name, false);
	if (!entry || !entry->now)
		return -ENOENT;
	*ret_entry = entry;
	return 0;
}

static int remove_entry(struct sim *sim, enum sim_kind kind, const char *path)
{
	const bool wants_dir = kind == SIM_RMDIR;
	struct entry *entry = NULL;
	int rc = find_entry(sim, path, &entry);
	const struct verdict verdict = sim_judge(sim, kind, true);

	if (verdict.rc < 0 && !verdict.apply)
		return verdict.rc;
	if (rc == 0 && entry->now->is_dir != wants_dir)
		rc = wants_dir ? -ENOTDIR : -EISDIR;
	if (rc == 0 && wants_dir && entry->now->names_now > 0)
		rc = -ENOTEMPTY;
	if (rc == 0)
		tree_remove(sim, entry);
	return verdict.rc < 0 ? verdict.rc : rc;
}

static int sim_rmdir(struct io *io, const char *path)
{
	return remove_entry(sim_of(io), SIM_RMDIR, path);
}

static int sim_unlink(struct io *io, const char *path)
{
	return remove_entry(sim_of(io), SIM_UNLINK, path);
}

static int may_replace(const struct inode *moved, const struct inode *replaced)
{
	if (!replaced || replaced == moved)
		return 0;
	if (moved->is_dir != replaced->is_dir)
		return replaced->is_dir ? -EISDIR : -ENOTDIR;
	return replaced->names_now > 0 ? -ENOTEMPTY : 0;
}

static int sim_rename(struct io *io, const char *from, const char *to)
{
	struct sim *sim = sim_of(io);
	const size_t from_len = strlen(from);
	struct entry *source = NULL;
	struct inode *dir = NULL;
	const char *name = NULL;
	int rc = find_entry(sim, from, &source);

	if (rc == 0)
		rc = tree_parent(sim, to, &dir, &name);
	if (rc == 0 && strncmp(from, to, from_len) == 0 && to[from_len] == '/')
		rc = -EINVAL;
	const struct verdict verdict = sim_judge(sim, SIM_RENAME, true);
	if (verdict.rc < 0 && !verdict.apply)
		return verdict.rc;
	if (rc == 0) {
		const struct entry *there = tree_entry(dir, name, false);

		rc = may_replace(source->now, there ? there->now : NULL);
	}
	if (rc == 0)
		tree_rename(sim, source, tree_entry(dir, name, true));
	return verdict.rc < 0 ? verdict.rc : rc;
}

static int sim_exists(struct io *io, const char *path)
{
	struct inode *inode;
	const struct verdict verdict = sim_judge(sim_of(io), SIM_EXISTS, false);

	if (verdict.rc < 0)
		return verdict.rc;
	const int rc = tree_find(sim_of(io), path, &inode);
	return rc == 0 ? 1 : rc == -ENOENT || rc == -ENOTDIR ? 0 : rc;
}

static int find_dir(struct sim *sim, const char *path, struct inode **ret_dir)
{
	const int rc = tree_find(sim, path, ret_dir);

	if (rc < 0)
		return rc;
	return (*ret_dir)->is_dir ? 0 : -ENOTDIR;
}

static int sim_sync_dir(struct io *io, const char *path)
{
	struct sim *sim = sim_of(io);
	struct inode *dir = NULL;
	const int rc = find_dir(sim, path, &dir);
	const struct verdict verdict = sim_judge(sim, SIM_SYNC_DIR, true);

	if (verdict.fault && rc == 0 && !io_no_descriptor(verdict.rc))
		tree_sync_dir_failed(dir);
	if (verdict.rc < 0)
		return verdict.rc;
	if (rc < 0)
		return rc;
	tree_sync_dir(sim, dir);
	return 0;
}

static int sim_list_dir(struct io *io, const char *path, io_list_cb cb, void *arg)
{
	struct inode *dir;
	const struct verdict verdict = sim_judge(sim_of(io), SIM_LIST, false);

	if (verdict.rc < 0)
		return verdict.rc;
	const int rc = find_dir(sim_of(io), path, &dir);
	return rc < 0 ? rc : tree_list(dir, cb, arg);
}

static int sim_sync_all(struct io *io)
{
	struct sim *sim = sim_of(io);
	const struct verdict verdict = sim_judge(sim, SIM_SYNC_ALL, true);

	if (verdict.fault) {
		for (struct inode *inode = sim->dirty; inode; inode = inode->dirty_next)
			inode_sync_failed(inode);
		tree_sync_all_failed(sim);
	}
	if (verdict.rc < 0)
		return verdict.rc;
	while (sim->dirty)
		inode_sync(sim->dirty);
	tree_sync_all(sim);
	if (sim->write_back_error) {
		sim->write_back_error = false;
		return -EIO;
	}
	return 0;
}

static int sim_space(struct io *io, struct io_space *ret_space)
{
	struct sim *sim = sim_of(io);
	const struct verdict verdict = sim_judge(sim, SIM_SPACE, false);

	if (verdict.rc < 0)
		return verdict.rc;
	const uint64_t used = sim->used_blocks * PAGE_BYTES;
	const uint64_t total = sim->capacity_blocks ? sim->capacity_blocks * PAGE_BYTES : SPACE_UNBOUNDED;
	ret_space->total_bytes = total;
	ret_space->free_bytes = used < total ? total - used : 0;
	return 0;
}

/* ---- lock, clocks, randomness ----------------------------------------------------------------------------------- */

static int sim_lock(struct io *io, const char *path, struct io_file **ret_lock)
{
	struct io_file *lock;
	const int rc = open_as(sim_of(io), SIM_LOCK, path, IO_READ | IO_WRITE | IO_CREATE, &lock);

	if (rc < 0)
		return rc;
	if (lock->inode->locked) {
		sim_close(lock);
		return -EWOULDBLOCK;
	}
	lock->inode->locked = lock->holds_lock = true;
	*ret_lock = lock;
	return 0;
}

static void sim_unlock(struct io_file *lock)
{
	sim_close(lock);
}

static uint64_t sim_monotonic_ns(struct io *io)
{
	struct sim *sim = sim_of(io);

	return sim->monotonic += 50 + rng_below(&sim->chance, 1000);
}

static uint64_t sim_wall_ns(struct io *io)
{
	return sim_monotonic_ns(io) + sim_of(io)->wall_offset;
}

static int sim_random(struct io *io, void *buf, size_t len)
{
	struct sim *sim = sim_of(io);
	const struct verdict verdict = sim_judge(sim, SIM_RANDOM, false);
	uint8_t *to = buf;

	if (verdict.rc < 0)
		return verdict.rc;
	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)rng_next(&sim->entropy);
	return 0;
}

const struct io_ops sim_ops = {
	.open = sim_open,
	.close = sim_close,
	.pread = sim_pread,
	.pwritev = sim_pwritev,
	.sync = sim_sync,
	.truncate = sim_truncate,
	.allocate = sim_allocate,
	.size = sim_size,
	.map = sim_map,
	.unmap = sim_unmap,
	.map_read = sim_map_read,
	.mkdir = sim_mkdir,
	.rmdir = sim_rmdir,
	.unlink = sim_unlink,
	.rename = sim_rename,
	.exists = sim_exists,
	.sync_dir = sim_sync_dir,
	.list_dir = sim_list_dir,
	.sync_all = sim_sync_all,
	.space = sim_space,
	.lock = sim_lock,
	.unlock = sim_unlock,
	.monotonic_ns = sim_monotonic_ns,
	.wall_ns = sim_wall_ns,
	.random = sim_random,
};
