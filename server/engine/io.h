/*
 * io: the engine's only way to the world: files, mappings, syncs, clocks, randomness.
 *
 * Owns the descriptors behind io_file handles. Any thread may call any function; one io_file may be used by
 * several threads at once (reads, writes at given offsets, syncs), but is closed by one, when no other uses it.
 * Invariant: nothing in the engine calls the operating system about files, time or chance except through here,
 * so that a simulated world (tests/sim) can fail any call and cut the power at any point.
 *
 * Every function that can fail returns 0 (or a count) or a negative errno (-ENOSPC). EINTR never comes out.
 * Paths are relative to the data directory ("" is the directory itself) with '/' between components, NUL-terminated,
 * at most IO_PATH_MAX bytes. No path of a caller begins with '/' or holds "..".
 */
#ifndef IRONWALD_IO_H
#define IRONWALD_IO_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define IO_PATH_MAX 600

struct io;
struct io_file;
struct io_map;

enum io_open_flags {
	IO_READ = 1 << 0,
	IO_WRITE = 1 << 1,
	IO_CREATE = 1 << 2,    /* mode 0600; durable only after sync_dir of its directory */
	IO_EXCLUSIVE = 1 << 3, /* with IO_CREATE: -EEXIST if it is there */
	IO_UNCACHED = 1 << 4, /* past the page cache, where the file system can: what is written has to begin and end at
				 multiples of IO_PAGE_BYTES, in the file and in memory */
	IO_DURABLE = 1 << 5,  /* what a write wrote is durable, as by sync, when the call returns */
};

/* The file system is full, or a quota is: nothing else has failed. */
static inline bool io_no_room(int r)
{
	return r == -ENOSPC || r == -EDQUOT;
}

/* There was no descriptor for it: nothing was tried, so nothing has failed. */
static inline bool io_no_descriptor(int r)
{
	return r == -EMFILE || r == -ENFILE;
}

/* It may be tried again: the disk is not at fault. */
static inline bool io_may_pass(int r)
{
	return io_no_room(r) || io_no_descriptor(r) || r == -ENOMEM;
}

/* Of the page cache; one bad sector makes so much of a file unreadable. */
#define IO_PAGE_BYTES 4096u

enum io_read_flags {
	IO_NOWAIT = 1 << 0, /* -EAGAIN rather than wait for the disk (-EAGAIN too where the system cannot tell) */
};

/* One name in a directory. is_dir says which kind. Return non-zero to stop; list_dir returns it. */
typedef int (*io_list_cb)(const char *name, bool is_dir, void *arg);

struct io_space {
	uint64_t total_bytes, free_bytes; /* free to this user */
};

struct io_ops {
	int (*open)(struct io *io, const char *path, int flags, struct io_file **ret_file);
	/* Closes and frees. A NULL file is legal. */
	void (*close)(struct io_file *file);
	/* Reads up to len bytes; less only at the end of the file (0 there), or, with IO_NOWAIT, where the cache ends.
	 */
	ssize_t (*pread)(struct io_file *file, void *buf, size_t len, uint64_t offset, int io_read_flags);
	/* Writes all of it, or returns a negative errno, and then any part of it may be in the file. */
	int (*pwritev)(struct io_file *file, const struct iovec *iov, int iov_count, uint64_t offset);
	/* fdatasync: the file's bytes and its size. After an error nothing is known about the file (never retried). */
	int (*sync)(struct io_file *file);
	int (*truncate)(struct io_file *file, uint64_t size_bytes);
	/* Reserves blocks for the range and grows the size to cover it; the new bytes read as zeros. -ENOSPC, -EDQUOT.
	 * -EOPNOTSUPP where the file system cannot. */
	int (*allocate)(struct io_file *file, uint64_t offset, uint64_t len);
	int (*size)(struct io_file *file, uint64_t *ret_bytes);

	/* A read-only shared mapping of [0, len). Pages past the file's end, and bad sectors, show up in map_read. */
	int (*map)(struct io_file *file, uint64_t len, struct io_map **ret_map);
	void (*unmap)(struct io_map *map); /* NULL is legal */
	/* Copies out of a mapping; -EIO if a page cannot be had (never a signal). With IO_NOWAIT: -EAGAIN if not
	 * resident. */
	int (*map_read)(struct io_map *map, void *buf, size_t len, uint64_t offset, int io_read_flags);

	int (*mkdir)(struct io *io, const char *path); /* mode 0700; -EEXIST */
	int (*rmdir)(struct io *io, const char *path);
	int (*unlink)(struct io *io, const char *path);
	int (*rename)(struct io *io, const char *from, const char *to); /* replaces `to` */
	int (*exists)(struct io *io, const char *path);			/* 1, 0 or a negative errno */
	int (*sync_dir)(struct io *io, const char *path); /* makes creations, renames and deletions in it durable */
	int (*list_dir)(struct io *io, const char *path, io_list_cb cb, void *arg); /* no "." and ".." */
	/* syncfs on the data directory's file system, through a descriptor held since open: everything written before,
	 * names included, is durable, and a write-back error since open is reported once. */
	int (*sync_all)(struct io *io);
	int (*space)(struct io *io, struct io_space *ret_space);
	/* Takes the exclusive lock that is named by path, until unlock or the end of the process. -EWOULDBLOCK: another
	 * has it. */
	int (*lock)(struct io *io, const char *path, struct io_file **ret_lock);
	void (*unlock)(struct io_file *lock);

	uint64_t (*monotonic_ns)(struct io *io);
	uint64_t (*wall_ns)(struct io *io); /* Unix time */
	int (*random)(struct io *io, void *buf, size_t len);
};

/* The first member of every implementation. */
struct io {
	const struct io_ops *ops;
};

/* The real world. Makes root_path (mode 0700, and syncs its parent) if it is not there; its parent must be.
 * The result is freed with io_posix_free, after everything opened through it is closed. */
int io_posix_new(const char *root_path, struct io **ret_io);
void io_posix_free(struct io *io);

#endif
