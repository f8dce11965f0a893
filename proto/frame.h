/*
 * frame: finding frames in bytes as they arrive, and how a receive buffer grows.
 *
 * Owns nothing, keeps no state: it looks at what was received so far. Any thread may call it.
 * Invariant: memory follows bytes received, never bytes announced: a receive buffer is at most twice what has
 * arrived, or FRAME_BUFFER_MIN.
 */
#ifndef IRONWALD_FRAME_H
#define IRONWALD_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "mp_read.h"

#define FRAME_LENGTH_BYTES 4
#define FRAME_BUFFER_MIN 4096

/* An entry may be this much smaller than max_message_bytes: it has to fit an answer of iter, with what is around it. */
#define ENTRY_OVERHEAD_BYTES 1024

enum frame_status {
	FRAME_MORE,  /* go on reading; *ret_total_bytes is how many the frame needs, 0 if not known yet */
	FRAME_READY, /* *ret_payload is the message, the frame takes *ret_total_bytes of the input */
	FRAME_OVER,  /* the announced length, *ret_total_bytes - FRAME_LENGTH_BYTES, is over limit_bytes */
};

/* Looks at the first frame in `have` bytes. Over the limit is known as soon as 4 bytes are there. */
enum frame_status frame_next(
	const uint8_t *data, size_t have, uint64_t limit_bytes, struct span *ret_payload, size_t *ret_total_bytes);

/* The capacity that a receive buffer should have next, when `have` bytes of an unfinished frame that needs total_bytes
 * (0: not known) are in it: at least one byte more than `have`; at most twice `have`, and not more than total_bytes
 * where that is known, but never below FRAME_BUFFER_MIN. */
size_t frame_capacity(size_t have, size_t total_bytes);

#endif
