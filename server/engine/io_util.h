/*
 * io_util: what several parts of the engine do with files, in terms of io.h.
 *
 * Owns nothing; any thread may call it. Invariant: 0 means that all of it was done; else a negative errno, the first.
 */
#ifndef IRONWALD_IO_UTIL_H
#define IRONWALD_IO_UTIL_H

#include "io.h"

/* Zeros over [from, to). Not synced. */
int io_write_zeros(struct io *io, struct io_file *file, uint64_t from, uint64_t to);

/* The file at path holds exactly these bytes afterwards, or what it held before. Goes by new_path. They are durable
 * once the data directory is. */
int io_put_file(struct io *io, const char *path, const char *new_path, const void *bytes, size_t len);
/* The same, and durably. */
int io_replace_file(struct io *io, const char *path, const char *new_path, const void *bytes, size_t len);

#endif
