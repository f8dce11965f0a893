/*
 * sim_files: the few file operations that all tests of the simulated disk need.
 */
#ifndef IRONWALD_TEST_SIM_FILES_H
#define IRONWALD_TEST_SIM_FILES_H

#include <criterion/criterion.h>

#include <stdbool.h>
#include <string.h>

#include "sim.h"

static inline struct io_file *open_file(struct io *io, const char *path, int flags)
{
	struct io_file *file = NULL;

	cr_assert(io->ops->open(io, path, flags, &file) == 0, "open %s", path);
	return file;
}

static inline int write_at(struct io *io, struct io_file *file, const void *bytes, size_t len, uint64_t offset)
{
	const struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};

	return io->ops->pwritev(file, &iov, 1, offset);
}

/* A file with these bytes, durable or not, and its name likewise. */
static inline void make_file(struct io *io, const char *path, const char *text, bool synced)
{
	struct io_file *file = open_file(io, path, IO_READ | IO_WRITE | IO_CREATE);

	cr_assert(write_at(io, file, text, strlen(text), 0) == 0);
	if (synced) {
		cr_assert(io->ops->sync(file) == 0);
		cr_assert(io->ops->sync_dir(io, "") == 0);
	}
	io->ops->close(file);
}

static inline bool holds(struct io *io, const char *path, const char *text)
{
	char back[64];
	const size_t len = strlen(text);

	cr_assert(len <= sizeof(back));
	return sim_file_size(io, path) == (int64_t)len && sim_read_file(io, path, 0, back, len) == 0 &&
	       memcmp(back, text, len) == 0;
}

#endif
