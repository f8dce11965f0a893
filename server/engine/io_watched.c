#include "io_watched.h"

#include "activity.h"

/* A read that does not wait is not seen to wait. */
static ssize_t watched_pread(struct io_file *file, void *buf, size_t len, uint64_t offset, int io_read_flags)
{
	if (io_read_flags & IO_NOWAIT)
		return io_posix_ops.pread(file, buf, len, offset, io_read_flags);
	activity_wait_begin("a read");
	ssize_t result = io_posix_ops.pread(file, buf, len, offset, io_read_flags);
	activity_wait_end();
	return result;
}

static int watched_open(struct io *io, const char *path, int flags, struct io_file **ret_file)
{
	activity_wait_begin("a file to open");
	int result = io_posix_ops.open(io, path, flags, ret_file);
	activity_wait_end();
	return result;
}

static void watched_close(struct io_file *file)
{
	activity_wait_begin("a file to close");
	io_posix_ops.close(file);
	activity_wait_end();
}

static int watched_pwritev(struct io_file *file, const struct iovec *iov, int iov_count, uint64_t offset)
{
	activity_wait_begin("a write");
	int result = io_posix_ops.pwritev(file, iov, iov_count, offset);
	activity_wait_end();
	return result;
}

static int watched_sync(struct io_file *file)
{
	activity_wait_begin("a sync");
	int result = io_posix_ops.sync(file);
	activity_wait_end();
	return result;
}

static int watched_truncate(struct io_file *file, uint64_t size_bytes)
{
	activity_wait_begin("a truncation");
	int result = io_posix_ops.truncate(file, size_bytes);
	activity_wait_end();
	return result;
}

static int watched_allocate(struct io_file *file, uint64_t offset, uint64_t len)
{
	activity_wait_begin("space for a file");
	int result = io_posix_ops.allocate(file, offset, len);
	activity_wait_end();
	return result;
}

static int watched_mkdir(struct io *io, const char *path)
{
	activity_wait_begin("a directory to be made");
	int result = io_posix_ops.mkdir(io, path);
	activity_wait_end();
	return result;
}

static int watched_rmdir(struct io *io, const char *path)
{
	activity_wait_begin("a directory to be removed");
	int result = io_posix_ops.rmdir(io, path);
	activity_wait_end();
	return result;
}

static int watched_unlink(struct io *io, const char *path)
{
	activity_wait_begin("a file to be deleted");
	int result = io_posix_ops.unlink(io, path);
	activity_wait_end();
	return result;
}

static int watched_rename(struct io *io, const char *from, const char *to)
{
	activity_wait_begin("a file to be renamed");
	int result = io_posix_ops.rename(io, from, to);
	activity_wait_end();
	return result;
}

static int watched_exists(struct io *io, const char *path)
{
	activity_wait_begin("a file to be looked for");
	int result = io_posix_ops.exists(io, path);
	activity_wait_end();
	return result;
}

static int watched_sync_dir(struct io *io, const char *path)
{
	activity_wait_begin("a sync of a directory");
	int result = io_posix_ops.sync_dir(io, path);
	activity_wait_end();
	return result;
}

static int watched_list_dir(struct io *io, const char *path, io_list_cb cb, void *arg)
{
	activity_wait_begin("the names in a directory");
	int result = io_posix_ops.list_dir(io, path, cb, arg);
	activity_wait_end();
	return result;
}

static int watched_sync_all(struct io *io)
{
	activity_wait_begin("a sync of the file system");
	int result = io_posix_ops.sync_all(io);
	activity_wait_end();
	return result;
}

void io_watched_init(struct io_ops *ops)
{
	*ops = io_posix_ops;
	ops->pread = watched_pread;
	ops->open = watched_open;
	ops->close = watched_close;
	ops->pwritev = watched_pwritev;
	ops->sync = watched_sync;
	ops->truncate = watched_truncate;
	ops->allocate = watched_allocate;
	ops->mkdir = watched_mkdir;
	ops->rmdir = watched_rmdir;
	ops->unlink = watched_unlink;
	ops->rename = watched_rename;
	ops->exists = watched_exists;
	ops->sync_dir = watched_sync_dir;
	ops->list_dir = watched_list_dir;
	ops->sync_all = watched_sync_all;
}
