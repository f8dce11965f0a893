/*
 * io_posix: the real world behind io.h.
 *
 * All paths are resolved from one descriptor of the data directory, held from io_posix_new to io_posix_free: a root
 * that is renamed under the daemon stays its root, and syncfs through that descriptor sees every write-back error
 * since the start. Symbolic links in the directory are not followed by list_dir: what lies on another file system
 * would escape sync_all.
 */
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "activity.h"
#include "dir_list.h"
#include "guarded_copy.h"
#include "io_watched.h"

#define WRITE_VECTORS 64  /* of one pwritev call */
#define RESIDENT_PAGES 64 /* asked for in one mincore call */

struct posix {
	struct io base;
	struct io_ops ops;
	int dir_fd;
};

struct io_file {
	int fd;
};

struct io_map {
	unsigned char *bytes; /* NULL for an empty mapping */
	size_t len;
};

static int root_fd(struct io *io)
{
	return ((struct posix *)io)->dir_fd;
}

/* "" is the directory itself; openat and its family call that ".". NULL if the path breaks the rules of io.h. */
static const char *checked_path(const char *path)
{
	if (path[0] == '/' || strnlen(path, IO_PATH_MAX + 1) > IO_PATH_MAX)
		return NULL;
	return path[0] ? path : ".";
}

/* Without O_NOATIME the first read after a write would note its time: a change of the inode that has to be written. It
 * is for the owner of the file only. */
static int open_retried(int dir_fd, const char *path, int flags)
{
	int fd, quiet = O_NOATIME;

	do {
		fd = openat(dir_fd, path, flags | quiet | O_CLOEXEC | O_NOCTTY, 0600);
		if (fd < 0 && errno == EPERM && quiet) {
			quiet = 0;
			errno = EINTR;
		}
	} while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

static bool range_is_legal(uint64_t offset, uint64_t len)
{
	return offset <= INT64_MAX && len <= INT64_MAX - offset;
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

static int posix_open(struct io *io, const char *path, int flags, struct io_file **ret_file)
{
	int os_flags = (flags & IO_WRITE) ? (flags & IO_READ) ? O_RDWR : O_WRONLY : O_RDONLY;

	path = checked_path(path);
	if (!path)
		return -ENAMETOOLONG;
	if (flags & IO_CREATE)
		os_flags |= O_CREAT;
	if (flags & IO_EXCLUSIVE)
		os_flags |= O_EXCL;
	if (flags & IO_DURABLE)
		os_flags |= O_DSYNC;
	struct io_file *file = malloc(sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->fd = open_retried(root_fd(io), path, os_flags | ((flags & IO_UNCACHED) ? O_DIRECT : 0));
	if (file->fd == -EINVAL && (flags & IO_UNCACHED))
		file->fd = open_retried(root_fd(io), path, os_flags);
	if (file->fd < 0) {
		const int rc = file->fd;

		free(file);
		return rc;
	}
	*ret_file = file;
	return 0;
}

static void posix_close(struct io_file *file)
{
	if (!file)
		return;
	/* On Linux the descriptor is gone even after EINTR. Errors of write-back are the business of sync. */
	close(file->fd);
	free(file);
}

static ssize_t posix_pread(struct io_file *file, void *buf, size_t len, uint64_t offset, int flags)
{
	size_t got = 0;

	if (len > SSIZE_MAX || !range_is_legal(offset, len))
		return -EINVAL;
	while (got < len) {
		const struct iovec iov = {.iov_base = (char *)buf + got, .iov_len = len - got};
		const off_t at = (off_t)(offset + got);
		const ssize_t n = (flags & IO_NOWAIT) ? preadv2(file->fd, &iov, 1, at, RWF_NOWAIT)
						      : preadv(file->fd, &iov, 1, at);

		if (n > 0) {
			got += (size_t)n;
			continue;
		}
		if (n == 0)
			break;
		if (errno == EINTR)
			continue;
		if (flags & IO_NOWAIT) {
			if (errno == EAGAIN || errno == EOPNOTSUPP || errno == ENOSYS)
				return got ? (ssize_t)got : -EAGAIN;
		}
		return -errno;
	}
	return (ssize_t)got;
}

/* Drops `done` bytes from the front of the vectors. */
static void vectors_advance(struct iovec *iov, int count, int *first, size_t done)
{
	while (*first < count && done >= iov[*first].iov_len) {
		done -= iov[*first].iov_len;
		(*first)++;
	}
	if (*first < count && done > 0) {
		iov[*first].iov_base = (char *)iov[*first].iov_base + done;
		iov[*first].iov_len -= done;
	}
}

static int posix_pwritev(struct io_file *file, const struct iovec *iov, int iov_count, uint64_t offset)
{
	for (int from = 0; from < iov_count; from += WRITE_VECTORS) {
		struct iovec part[WRITE_VECTORS];
		const int count = iov_count - from < WRITE_VECTORS ? iov_count - from : WRITE_VECTORS;
		int first = 0;

		memcpy(part, iov + from, (size_t)count * sizeof(*iov));
		vectors_advance(part, count, &first, 0);
		while (first < count) {
			if (!range_is_legal(offset, part[first].iov_len))
				return -EFBIG;
			const ssize_t n = pwritev(file->fd, part + first, count - first, (off_t)offset);
			if (n < 0) {
				if (errno == EINTR)
					continue;
				return -errno;
			}
			/* Nothing was taken, and no reason given: going on would loop for ever. */
			if (n == 0)
				return -EIO;
			offset += (uint64_t)n;
			vectors_advance(part, count, &first, (size_t)n);
		}
	}
	return 0;
}

static int posix_sync(struct io_file *file)
{
	if (fdatasync(file->fd) == 0)
		return 0;
	/* An interrupted sync may have lost the error of the pages that it did write: it is not repeated. */
	return errno == EINTR ? -EIO : -errno;
}

static int posix_truncate(struct io_file *file, uint64_t size_bytes)
{
	if (!range_is_legal(size_bytes, 0))
		return -EFBIG;
	while (ftruncate(file->fd, (off_t)size_bytes) != 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int posix_allocate(struct io_file *file, uint64_t offset, uint64_t len)
{
	if (!range_is_legal(offset, len))
		return -EFBIG;
	if (len == 0)
		return 0;
	while (fallocate(file->fd, 0, (off_t)offset, (off_t)len) != 0) {
		if (errno == ENOSYS)
			return -EOPNOTSUPP;
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int posix_size(struct io_file *file, uint64_t *ret_bytes)
{
	struct stat st;

	if (fstat(file->fd, &st) != 0)
		return -errno;
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

/* ---- mappings --------------------------------------------------------------------------------------------------- */

static int posix_map(struct io_file *file, uint64_t len, struct io_map **ret_map)
{
	if (len > SIZE_MAX || !range_is_legal(0, len))
		return -EFBIG;
	struct io_map *map = calloc(1, sizeof(*map));
	if (!map)
		return -ENOMEM;
	map->len = (size_t)len;
	if (len > 0) {
		void *bytes = mmap(NULL, map->len, PROT_READ, MAP_SHARED, file->fd, 0);

		if (bytes == MAP_FAILED) {
			const int rc = -errno;

			free(map);
			return rc;
		}
		map->bytes = bytes;
	}
	*ret_map = map;
	return 0;
}

static void posix_unmap(struct io_map *map)
{
	if (!map)
		return;
	if (map->bytes)
		munmap(map->bytes, map->len);
	free(map);
}

/* 1: all pages of the range are in memory. 0: not so, or the system cannot tell. */
static int range_is_resident(const struct io_map *map, size_t offset, size_t len)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t at = offset - offset % page;

	while (at < offset + len) {
		unsigned char resident[RESIDENT_PAGES];
		const size_t left = offset + len - at;
		const size_t pages = left > RESIDENT_PAGES * page ? RESIDENT_PAGES : (left + page - 1) / page;

		if (mincore(map->bytes + at, left < pages * page ? left : pages * page, resident) != 0)
			return 0;
		for (size_t i = 0; i < pages; i++) {
			if (!(resident[i] & 1))
				return 0;
		}
		at += pages * page;
	}
	return 1;
}

static int posix_map_read(struct io_map *map, void *buf, size_t len, uint64_t offset, int flags)
{
	if (offset > map->len || len > map->len - offset)
		return -EIO;
	if (len == 0)
		return 0;
	if ((flags & IO_NOWAIT) && !range_is_resident(map, (size_t)offset, len))
		return -EAGAIN;
	return guarded_copy(buf, map->bytes + offset, len);
}

/* ---- directories ------------------------------------------------------------------------------------------------ */

static int posix_mkdir(struct io *io, const char *path)
{
	path = checked_path(path);
	if (!path)
		return -ENAMETOOLONG;
	return mkdirat(root_fd(io), path, 0700) == 0 ? 0 : -errno;
}

static int posix_rmdir(struct io *io, const char *path)
{
	path = checked_path(path);
	if (!path)
		return -ENAMETOOLONG;
	return unlinkat(root_fd(io), path, AT_REMOVEDIR) == 0 ? 0 : -errno;
}

static int posix_unlink(struct io *io, const char *path)
{
	path = checked_path(path);
	if (!path)
		return -ENAMETOOLONG;
	return unlinkat(root_fd(io), path, 0) == 0 ? 0 : -errno;
}

static int posix_rename(struct io *io, const char *from, const char *to)
{
	from = checked_path(from);
	to = checked_path(to);
	if (!from || !to)
		return -ENAMETOOLONG;
	return renameat(root_fd(io), from, root_fd(io), to) == 0 ? 0 : -errno;
}

static int posix_exists(struct io *io, const char *path)
{
	struct stat st;

	path = checked_path(path);
	if (!path)
		return -ENAMETOOLONG;
	if (fstatat(root_fd(io), path, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return 1;
	return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
}

static int fsync_once(int fd)
{
	if (fsync(fd) == 0)
		return 0;
	return errno == EINTR ? -EIO : -errno;
}

static int posix_sync_dir(struct io *io, const char *path)
{
	path = checked_path(path);
	if (!path)
		return -ENAMETOOLONG;
	/* The root needs no descriptor of its own, and so cannot fail for want of one. */
	if (strcmp(path, ".") == 0)
		return fsync_once(root_fd(io));
	const int fd = open_retried(root_fd(io), path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	const int rc = fsync_once(fd);
	close(fd);
	return rc;
}

static int posix_list_dir(struct io *io, const char *path, io_list_cb cb, void *arg)
{
	path = checked_path(path);
	if (!path)
		return -ENAMETOOLONG;
	const int fd = open_retried(root_fd(io), path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	const int rc = dir_list(fd, cb, arg);
	close(fd);
	return rc;
}

static int posix_sync_all(struct io *io)
{
	if (syncfs(root_fd(io)) == 0)
		return 0;
	return errno == EINTR ? -EIO : -errno;
}

static int posix_space(struct io *io, struct io_space *ret_space)
{
	struct statvfs vfs;

	while (fstatvfs(root_fd(io), &vfs) != 0) {
		if (errno != EINTR)
			return -errno;
	}
	ret_space->total_bytes = (uint64_t)vfs.f_blocks * vfs.f_frsize;
	ret_space->free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	return 0;
}

/* ---- lock, clocks, randomness ----------------------------------------------------------------------------------- */

static int posix_lock(struct io *io, const char *path, struct io_file **ret_lock)
{
	/* An open-file-description lock: unlike a classic one it also excludes a second engine of this process, and is
	 * not lost when somebody else closes a descriptor of the same file. */
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct io_file *lock;
	int rc = posix_open(io, path, IO_READ | IO_WRITE | IO_CREATE, &lock);

	if (rc < 0)
		return rc;
	while (fcntl(lock->fd, F_OFD_SETLK, &whole) != 0) {
		if (errno == EINTR)
			continue;
		rc = errno == EAGAIN || errno == EACCES ? -EWOULDBLOCK : -errno;
		posix_close(lock);
		return rc;
	}
	*ret_lock = lock;
	return 0;
}

static void posix_unlock(struct io_file *lock)
{
	posix_close(lock);
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static uint64_t posix_monotonic_ns(struct io *io)
{
	(void)io;
	return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t posix_wall_ns(struct io *io)
{
	(void)io;
	return clock_ns(CLOCK_REALTIME);
}

static int posix_random(struct io *io, void *buf, size_t len)
{
	size_t got = 0;

	(void)io;
	while (got < len) {
		const ssize_t n = getrandom((char *)buf + got, len - got, 0);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			got += (size_t)n;
	}
	return 0;
}

/* ---- the whole -------------------------------------------------------------------------------------------------- */

const struct io_ops io_posix_ops = {
	.open = posix_open,
	.close = posix_close,
	.pread = posix_pread,
	.pwritev = posix_pwritev,
	.sync = posix_sync,
	.truncate = posix_truncate,
	.allocate = posix_allocate,
	.size = posix_size,
	.map = posix_map,
	.unmap = posix_unmap,
	.map_read = posix_map_read,
	.mkdir = posix_mkdir,
	.rmdir = posix_rmdir,
	.unlink = posix_unlink,
	.rename = posix_rename,
	.exists = posix_exists,
	.sync_dir = posix_sync_dir,
	.list_dir = posix_list_dir,
	.sync_all = posix_sync_all,
	.space = posix_space,
	.lock = posix_lock,
	.unlock = posix_unlock,
	.monotonic_ns = posix_monotonic_ns,
	.wall_ns = posix_wall_ns,
	.random = posix_random,
};

/* Makes root's name durable in its parent. If the root was there before us this is done too, as an earlier process may
 * have died between the two steps, but then a parent that we may not read is not our business. */
static int sync_parent(const char *root_path, bool made)
{
	char *parent = strdup(root_path);

	if (!parent)
		return -ENOMEM;
	size_t len = strlen(parent);
	while (len > 1 && parent[len - 1] == '/')
		len--;
	while (len > 0 && parent[len - 1] != '/')
		len--;
	while (len > 1 && parent[len - 1] == '/')
		len--;
	parent[len] = '\0';

	int rc = 0;
	const int fd = open_retried(AT_FDCWD, len > 0 ? parent : ".", O_RDONLY | O_DIRECTORY);
	if (fd >= 0) {
		rc = fsync_once(fd);
		close(fd);
		/* A parent on a file system that knows no sync (a read-only one, /proc) holds nothing of ours. */
		if (!made && (rc == -EINVAL || rc == -EROFS))
			rc = 0;
	} else if (made || fd != -EACCES) {
		rc = fd;
	}
	free(parent);
	return rc;
}

int io_posix_new(const char *root_path, struct io **ret_io)
{
	const bool made = mkdir(root_path, 0700) == 0;

	if (!made && errno != EEXIST)
		return -errno;
	const int dir_fd = open_retried(AT_FDCWD, root_path, O_RDONLY | O_DIRECTORY);
	if (dir_fd < 0)
		return dir_fd;
	activity_wait_begin("a sync of the directory above");
	int rc = sync_parent(root_path, made);
	activity_wait_end();
	struct posix *posix = rc == 0 ? malloc(sizeof(*posix)) : NULL;
	if (!posix) {
		close(dir_fd);
		return rc != 0 ? rc : -ENOMEM;
	}
	io_watched_init(&posix->ops);
	posix->base.ops = &posix->ops;
	posix->dir_fd = dir_fd;
	*ret_io = &posix->base;
	return 0;
}

void io_posix_free(struct io *io)
{
	if (!io)
		return;
	close(root_fd(io));
	free(io);
}
