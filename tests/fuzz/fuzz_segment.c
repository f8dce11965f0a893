/*
 * fuzz_segment: the files of a stream, whole or damaged, and the engine that starts on them (disk.h says what is
 * checked).
 *
 * Input: how, then a script: what is written, a zero, then what is done to it (segments.h).
 */
#include "disk.h"
#include "fuzz.h"
#include "segments.h"

static void fill(struct io *io, void *arg)
{
	segments_write(arg, io);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_quiet();
	return 0;
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
	disk_trial(fill, &segments,
		(how & 4 ? DISK_MMAP : 0) | (how & 8 ? DISK_BOTH : 0) |
			(segments.forged ? DISK_FORGED : DISK_KEEPS_REFUSED));
	segments_free(&segments);
	return 0;
}
