/*
 * dir_list: the names in an open directory, in the order of their inodes.
 *
 * Owns nothing; any thread may call it. Who then opens what is named goes through inodes, and mostly through blocks, in
 * the order in which they were made, which is how they lie on the disk; the order in which ext4 lists is by a hash.
 * Invariant: cb is called only when all names were read, so it may make, rename and delete files there.
 */
#ifndef IRONWALD_DIR_LIST_H
#define IRONWALD_DIR_LIST_H

#include "io.h"

/* As io->ops->list_dir. fd stays the caller's. */
int dir_list(int fd, io_list_cb cb, void *arg);

#endif
