/*
 * index: from an entry's id to a place in its segment from which the frame can be reached in few steps.
 *
 * Owns its array of points, one for about every INDEX_STRIDE bytes of frames. Not locked: its segment's list lock
 * guards it. Invariant: every point was the beginning of a frame of this segment; losing points costs time, never
 * entries.
 *
 * File <first id>.idx, written beside a segment, derived, never synced. Header: magic "IWALIDX1", salt (8), CRC-32C of
 * those 16 bytes (4), zero (4). Then points of 32 bytes: id (8), offset (8), prev_check (4), zero (8), CRC-32C of the
 * 28 bytes before it, seeded with the salt (4). A point is written only when its segment was synced at least up to its
 * offset, so a point that is whole proves that too; recovery starts from the last one.
 */
#ifndef IRONWALD_INDEX_H
#define IRONWALD_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io.h"

#define INDEX_STRIDE (64u << 10)

struct index_point {
	uint64_t id, offset;
	uint32_t prev_check; /* of the frame that begins there */
};

struct index {
	struct index_point *points;
	uint32_t count, cap;
};

/* A frame begins at offset: remembered if it is a stride past the last point. Out of memory: silently not. */
void index_note(struct index *index, struct index_point point);

/* The last point whose id is <= id. False: begin at the segment's first frame. */
bool index_find(const struct index *index, uint64_t id, struct index_point *ret_point);

void index_clear(struct index *index);

/* Appends points [from, to) to the file at path, making it (with its header) if from is 0. 0 or a negative errno. */
int index_file_append(
	struct io *io, const char *path, uint64_t salt, const struct index *index, uint32_t from, uint32_t to);

enum index_row { INDEX_HEADER_BROKEN, INDEX_POINT, INDEX_ROW_BLANK, INDEX_ROW_BROKEN };

/* For whoever checks it: each row of the file as it stands there; of a header that is not this segment's only that.
 * point is that of an INDEX_POINT. Non-zero stops. */
typedef int (*index_row_cb)(enum index_row row, uint64_t offset, const struct index_point *point, void *arg);

/* 0, what cb returned, or a negative errno (-ENOENT). */
int index_file_rows(struct io *io, const char *path, uint64_t salt, index_row_cb cb, void *arg);

/* Reads what is whole, in rising order, below limit_offset. A missing or foreign file gives no points. Returns 0, or
 * -ENOMEM. */
int index_file_load(struct io *io, const char *path, uint64_t salt, uint64_t limit_offset, struct index *ret_index);

#endif
