/*
 * io_watched: the real world of io_posix, where a call that may wait for the disk is seen to do so (activity.h).
 *
 * Owns nothing; any thread may call it. For io_posix.c, which hands it out, and nobody else.
 * Invariant: each function does what that of io_posix does, and nothing besides.
 */
#ifndef IRONWALD_IO_WATCHED_H
#define IRONWALD_IO_WATCHED_H

#include "io.h"

/* io_posix.c */
extern const struct io_ops io_posix_ops;

/* io_watched.c: io_posix_ops, with those that may wait replaced. */
void io_watched_init(struct io_ops *ops);

#endif
