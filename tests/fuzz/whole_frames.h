/*
 * whole_frames: all entries that stand in frames with right checksums, in the files of a disk.
 *
 * Owns the list. One thread. Invariant: it knows the format from its description (format.h), not from the program.
 */
#ifndef IRONWALD_FUZZ_WHOLE_FRAMES_H
#define IRONWALD_FUZZ_WHOLE_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim.h"

struct whole_frames;

struct whole_frames *whole_frames_find(struct io *io);
void whole_frames_free(struct whole_frames *frames);
/* Whether an entry of that id and these bytes stands in a file of that directory. */
bool whole_frames_have(
	const struct whole_frames *frames, const char *dir, uint64_t id, const uint8_t *bytes, size_t len);

#endif
