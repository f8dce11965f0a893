/*
 * fuzz_segment: the files of a stream, whole or damaged, and the engine that starts on them (disk.h says what is
 * checked).
 *
 * Input: how, then a script: what is written, a zero, then what is done to it (segments.h).
 */
#include <string.h>

#include "crc32c.h"
#include "disk.h"
#include "fuzz.h"
#include "segments.h"

/* ---- what is rot, by the description of the format --------------------------------------------------------------- */

/* A frame of this segment whose header is whole; *ret_bytes is its length. */
static bool frame_at(const struct made_segment *made, size_t at, size_t *ret_bytes)
{
	const uint8_t *frame = made->bytes + at;
	if (at + FRAME_HEADER_MIN > made->len || memcmp(frame, "IWFR", 4) != 0 || fuzz_get64(frame + 8) != at ||
		fuzz_get64(frame + 40) != made->salt)
		return false;
	uint32_t header = fuzz_get32(frame + 4);
	if (header < FRAME_HEADER_MIN || header > made->len - at ||
		crc32c(0, frame, header - 4) != fuzz_get32(frame + header - 4))
		return false;
	*ret_bytes = (size_t)align_up(header + fuzz_get64(frame + 48), FRAME_ALIGN);
	return true;
}

static bool blocks_are_whole(const struct made_segment *made, size_t at)
{
	const uint8_t *frame = made->bytes + at;
	uint32_t header = fuzz_get32(frame + 4), blocks = fuzz_get32(frame + 60);
	for (size_t i = 0, from = at + header; i < blocks; i++) {
		const uint8_t *row = frame + FRAME_FIXED_BYTES + FRAME_BLOCK_BYTES * i;
		uint32_t stored = fuzz_get32(row + 4);
		if (stored > made->len - from || crc32c(0, made->bytes + from, stored) != fuzz_get32(row + 12))
			return false;
		from += stored;
	}
	return true;
}

/* In the newest segment something is broken that a later frame says was durable. */
static bool is_rot(const struct segments *segments)
{
	const struct made_segment *made = NULL;
	for (unsigned i = 0; i < segments->count; i++)
		if (!segments->list[i].is_missing)
			made = &segments->list[i];
	if (made == NULL || made->len < made->header_bytes ||
		crc32c(0, made->bytes, made->header_bytes - 4) != fuzz_get32(made->bytes + made->header_bytes - 4))
		return false;
	uint32_t check = fuzz_get32(made->bytes + made->header_bytes - 4);
	size_t at = made->header_bytes, bytes;
	while (frame_at(made, at, &bytes) && fuzz_get32(made->bytes + at + 64) == check && blocks_are_whole(made, at)) {
		check = fuzz_get32(made->bytes + at + fuzz_get32(made->bytes + at + 4) - 4);
		at += bytes;
	}
	for (size_t behind = at; behind < made->len; behind += FRAME_ALIGN)
		if (frame_at(made, behind, &bytes) && fuzz_get64(made->bytes + behind + 32) > at)
			return true;
	return false;
}

static void fill(struct io *io, void *arg)
{
	segments_write(arg, io);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = {data, data + size};
	struct segments segments;
	uint8_t how = fuzz_u8(&in);
	/* A stream begins at 0, or its beginning was truncated away. */
	segments_init(&segments, how & 1, how & 2 ? 0 : fuzz_number(&in));
	while (segments_build(&segments, &in))
		;
	while (fuzz_more(&in))
		segments_damage(&segments, &in);
	bool has_index = false;
	for (unsigned i = 0; i < segments.count; i++)
		has_index |= segments.list[i].index.count > 0;
	unsigned flags = segments.forged ? DISK_FORGED : DISK_KEEPS_REFUSED;
	flags |= how & 4 ? DISK_MMAP : 0;
	flags |= how & 8 ? DISK_BOTH : 0;
	flags |= has_index ? 0 : DISK_TAIL_IS_WHOLE;
	flags |= !segments.forged && !has_index && is_rot(&segments) ? DISK_ROT : 0;
	disk_trial(fill, &segments, flags);
	segments_free(&segments);
	return 0;
}
