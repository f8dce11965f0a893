/*
 * frames: changing bytes that are frames of messages so that most of them stay frames of messages.
 *
 * Owns nothing. One thread.
 * Invariant: what it makes is any bytes all the same: now and then lengths lie, values are cut short, and so on.
 */
#ifndef IRONWALD_FUZZ_FRAMES_H
#define IRONWALD_FUZZ_FRAMES_H

#include <stddef.h>
#include <stdint.h>

#include "buf.h"

/* Adds one well-formed frame to out, the kind of which the state picks. count: how many there are before it. */
typedef void (*frames_make)(struct buf *out, uint64_t *state, size_t count, const uint8_t *header);

/* For LLVMFuzzerCustomMutator: `header` bytes in front of the frames are changed as any bytes are. Returns the size. */
size_t frames_mutate(uint8_t *data, size_t size, size_t max_size, unsigned seed, size_t header, frames_make make);

/* What a map is made of, as text: "stream=s entry=b expected_id?=u" (a ? means: now and then). Types: u number, o
 * bool, s name of a stream, t text, b bytes; and arrays of them by U, S and B; P pairs of bytes; C pairs of bytes and a
 * number; R pairs of numbers; N nil or bytes; M a map of anything; 1 and 4 those numbers, m of bytes. Written to out as
 * the map's encoding. */
void frames_write_map(struct buf *out, uint64_t *state, const char *what);

/* How the encoded value at the front of len bytes is long, by a reader that was written for the fuzzers alone; 0: it is
 * malformed, cut short, or deeper than max_depth. */
size_t frames_value_bytes(const uint8_t *bytes, size_t len, unsigned max_depth);

#endif
