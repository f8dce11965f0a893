/*
 * scan: reads frames out of a segment file, one after another, and finds whole ones behind damage. The one scanner:
 * recovery, readers and fsck all use it, so they cannot disagree about what is damaged.
 *
 * Owns its window (a buffer); borrows the file. One thread at a time per window.
 * Invariant: SCAN_FRAME is answered only for a frame whose header is whole and belongs to this segment and place.
 */
#ifndef IRONWALD_SCAN_H
#define IRONWALD_SCAN_H

#include "format.h"
#include "io.h"

struct window {
	struct io *io;
	struct io_file *file;
	struct io_map *map; /* NULL: read the file */
	uint64_t map_len;
	const uint8_t *memory; /* NULL, or what is there from memory_from up to the limit: the file may not have it */
	uint64_t memory_from;
	uint64_t limit; /* nothing at or behind it is looked at */
	size_t chunk;	/* bytes of one read, at least */
	bool nowait;
	bool bridge;	 /* bytes that cannot be read (EIO) are shown as 0xff, and `unreadable` is set */
	bool unreadable; /* since window_aim */
	/* what is in the buffer */
	uint8_t *data;
	size_t cap, len;
	uint64_t base;
	uint64_t bytes_read; /* counted for statistics */
};

enum scan_result {
	SCAN_FRAME,
	SCAN_END,    /* the limit, or zeros where a header would be */
	SCAN_BROKEN, /* something else */
	SCAN_ERROR,  /* error is a negative errno; -EAGAIN with nowait */
};

/* Aims the window at a file; keeps its memory. */
void window_aim(struct window *window, struct io *io, struct io_file *file, uint64_t limit, size_t chunk);
void window_free(struct window *window);

/* len bytes at offset, contiguous, good until the next call. 0; 1: the file or the limit ends before; negative errno.
 */
int window_need(struct window *window, uint64_t offset, size_t len, const uint8_t **ret_bytes);

/* The frame at offset. Its header is *ret_header, good until the next use of the window. */
enum scan_result scan_frame(struct window *window, uint64_t salt, uint64_t offset, struct frame *ret_frame,
	const uint8_t **ret_header, int *ret_error);

/* One block of a frame: its stored bytes, good during the call, NULL where the file or the limit ends before; whole:
 * they fit its checksum. Non-zero stops. */
typedef int (*scan_block_cb)(const struct block *block, uint64_t offset, const uint8_t *stored, bool whole, void *arg);

/* Goes through the blocks of the frame, good and bad ones. 0, what cb returned, or a negative errno. */
int scan_blocks(struct window *window, const struct frame *frame, scan_block_cb cb, void *arg);

/* Checks every block of the frame against its checksum. SCAN_FRAME, SCAN_BROKEN (ret_block_offset says where),
 * SCAN_ERROR. */
enum scan_result scan_payload(
	struct window *window, const struct frame *frame, uint64_t *ret_block_offset, int *ret_error);

/* The next frame at or behind `from` with a whole header (and, if asked, whole payload). SCAN_END: there is none. */
enum scan_result scan_next_whole(
	struct window *window, uint64_t salt, uint64_t from, bool payload_too, struct frame *ret_frame, int *ret_error);

/* The same for a header alone: the file's end, or the limit, may cut the rest of its frame short. */
enum scan_result scan_next_header(
	struct window *window, uint64_t salt, uint64_t from, struct frame *ret_frame, int *ret_error);

/* Whether [from, limit) holds only zeros; *ret_last is one past the last byte that is not zero. 0 or negative errno. */
int scan_zeros(struct window *window, uint64_t from, uint64_t *ret_last);

#endif
