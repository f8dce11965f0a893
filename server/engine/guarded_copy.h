/*
 * guarded_copy: memcpy out of a mapped file that answers -EIO where memcpy would die.
 *
 * Owns the process's disposition of SIGBUS, from the first call on. Any thread may call it.
 * Invariant: a SIGBUS is taken only if the faulting thread is inside a copy of the faulting address; every other one
 * goes to whatever was installed before.
 */
#ifndef IRONWALD_GUARDED_COPY_H
#define IRONWALD_GUARDED_COPY_H

#include <stddef.h>

/* A page of `from` that cannot be had (behind the end of a file that was cut, a bad sector): -EIO, and any part of buf
 * may be written. Unblocks SIGBUS in the calling thread: a fault whose signal is blocked kills the process unasked. */
int guarded_copy(void *buf, const unsigned char *from, size_t len);

#endif
