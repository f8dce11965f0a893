/*
 * overlay: an io that reads through to another one and keeps every change in memory.
 *
 * Owns what was changed: names, sizes, and pages of 4 KiB that differ from what is below; nothing is kept of what is as
 * it is below, so that its memory is bounded by what was changed. Borrows the io below, which outlives it. One thread.
 * Invariant: nothing is ever written below, but for the lock, which is the real one.
 *
 * Syncs do nothing. map answers -EOPNOTSUPP, so that reads go by pread.
 */
#ifndef IRONWALD_OVERLAY_H
#define IRONWALD_OVERLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "io.h"

/* NULL: out of memory. */
struct io *overlay_new(struct io *below);
/* All that was opened through it must be closed. NULL is legal. */
void overlay_free(struct io *overlay);

/* The io that it reads through to. */
struct io *overlay_below(struct io *overlay);

struct overlay_use {
	uint64_t nodes; /* names that are kept */
	uint64_t pages; /* of them those with data: data_pages */
	uint64_t data_pages;
};
void overlay_use(const struct io *overlay, struct overlay_use *ret_use);

#endif
