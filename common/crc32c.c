#include "crc32c.h"

#include <isa-l/crc.h>

/* libisal takes the length as an int. */
#define PIECE_BYTES ((size_t)1 << 30)

uint32_t crc32c(uint32_t seed, const void *bytes, size_t len)
{
	/* crc32_iscsi only reads, whatever its prototype says, and leaves both inversions to its caller. */
	unsigned char *at = (unsigned char *)bytes;
	uint32_t crc = ~seed;
	while (len > 0) {
		size_t piece = len < PIECE_BYTES ? len : PIECE_BYTES;
		crc = crc32_iscsi(at, (int)piece, crc);
		at += piece;
		len -= piece;
	}
	return ~crc;
}
