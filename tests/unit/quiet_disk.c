#include "quiet_disk.h"

#include "alloc_fault.h"
#include "sim.h"

static const struct io_ops *sim_ops;
static struct io_ops ops;

#define QUIETLY(type, call)                                                                                            \
	do {                                                                                                           \
		alloc_fault_exempt(true);                                                                              \
		type quiet_result = sim_ops->call;                                                                     \
		alloc_fault_exempt(false);                                                                             \
		return quiet_result;                                                                                   \
	} while (0)

static int quiet_open(struct io *io, const char *path, int flags, struct io_file **ret_file)
{
	QUIETLY(int, open(io, path, flags, ret_file));
}

static int quiet_pwritev(struct io_file *file, const struct iovec *iov, int iov_count, uint64_t offset)
{
	QUIETLY(int, pwritev(file, iov, iov_count, offset));
}

static int quiet_sync(struct io_file *file)
{
	QUIETLY(int, sync(file));
}

static int quiet_truncate(struct io_file *file, uint64_t size_bytes)
{
	QUIETLY(int, truncate(file, size_bytes));
}

static int quiet_allocate(struct io_file *file, uint64_t offset, uint64_t len)
{
	QUIETLY(int, allocate(file, offset, len));
}

static int quiet_map(struct io_file *file, uint64_t len, struct io_map **ret_map)
{
	QUIETLY(int, map(file, len, ret_map));
}

static int quiet_mkdir(struct io *io, const char *path)
{
	QUIETLY(int, mkdir(io, path));
}

static int quiet_rmdir(struct io *io, const char *path)
{
	QUIETLY(int, rmdir(io, path));
}

static int quiet_unlink(struct io *io, const char *path)
{
	QUIETLY(int, unlink(io, path));
}

static int quiet_rename(struct io *io, const char *from, const char *to)
{
	QUIETLY(int, rename(io, from, to));
}

static int quiet_sync_dir(struct io *io, const char *path)
{
	QUIETLY(int, sync_dir(io, path));
}

static int quiet_sync_all(struct io *io)
{
	QUIETLY(int, sync_all(io));
}

static int quiet_lock(struct io *io, const char *path, struct io_file **ret_lock)
{
	QUIETLY(int, lock(io, path, ret_lock));
}

struct listing {
	io_list_cb cb;
	void *arg;
};

/* The callback is the engine's: it counts. */
static int loud_cb(const char *name, bool is_dir, void *arg)
{
	struct listing *listing = arg;
	alloc_fault_exempt(false);
	int r = listing->cb(name, is_dir, listing->arg);
	alloc_fault_exempt(true);
	return r;
}

static int quiet_list_dir(struct io *io, const char *path, io_list_cb cb, void *arg)
{
	struct listing listing = {cb, arg};
	QUIETLY(int, list_dir(io, path, loud_cb, &listing));
}

struct io *quiet_disk_new(uint64_t seed)
{
	struct io *io = sim_new(seed);
	sim_ops = io->ops;
	ops = *sim_ops;
	ops.open = quiet_open;
	ops.pwritev = quiet_pwritev;
	ops.sync = quiet_sync;
	ops.truncate = quiet_truncate;
	ops.allocate = quiet_allocate;
	ops.map = quiet_map;
	ops.mkdir = quiet_mkdir;
	ops.rmdir = quiet_rmdir;
	ops.unlink = quiet_unlink;
	ops.rename = quiet_rename;
	ops.sync_dir = quiet_sync_dir;
	ops.sync_all = quiet_sync_all;
	ops.lock = quiet_lock;
	ops.list_dir = quiet_list_dir;
	io->ops = &ops;
	return io;
}
