/*
 * segments: the files of one stream, made as the engine makes them, then damaged, as a script says.
 *
 * Owns the bytes. One thread.
 * Invariant: any script makes something; none of it makes more than SEGMENTS_MAX files of SEGMENT_BYTES_MAX bytes.
 */
#ifndef IRONWALD_FUZZ_SEGMENTS_H
#define IRONWALD_FUZZ_SEGMENTS_H

#include "format.h"
#include "fuzz.h"
#include "index.h"
#include "sim.h"

#define SEGMENTS_MAX 6
#define SEGMENT_BYTES_MAX ((size_t)96 * 1024)
#define SEGMENT_FRAMES_MAX 64

struct made_segment {
	uint64_t first_id, salt, next_id;
	uint64_t cut_end; /* is_cut: of its name */
	bool is_cut, is_missing;
	uint32_t check; /* of the last frame */
	uint8_t *bytes;
	size_t len, header_bytes, ahead; /* ahead: of len, zeros behind the last frame */
	unsigned frame_count;
	struct {
		size_t at, len;
		uint64_t first_id;
		uint32_t prev_check;
	} frames[SEGMENT_FRAMES_MAX];
	struct index index; /* to be written beside it */
};

struct segments {
	char dir[256];
	char name[256];
	size_t name_len;
	struct made_segment list[SEGMENTS_MAX];
	unsigned count;
	uint64_t salts;
	bool forged; /* something with a right checksum says what is not so: no fault makes that */
};

/* A name of 250 bytes has a directory that is hashed. The first segment begins at first_id. */
void segments_init(struct segments *segments, bool long_name, uint64_t first_id);
void segments_free(struct segments *segments);

/* Frames and further segments as they should be; false: the script has ended, or says so. */
bool segments_build(struct segments *segments, struct fuzz_in *in);
/* One change, with checksums made right again or not. */
void segments_damage(struct segments *segments, struct fuzz_in *in);

void segments_write(const struct segments *segments, struct io *io);

#endif
