/*
 * content: entries that say themselves who wrote them, and whether they are whole.
 *
 * Owns nothing; any thread may call it.
 * Invariant: what content_check calls good was sealed, for this name, with every byte as it is.
 *
 * The first bytes of an entry, all little-endian; what follows is any bytes:
 *
 *   offset  bytes
 *        0      4  magic "IWB1"
 *        4      4  length of the whole entry
 *        8      8  seed: of the run that wrote it
 *       16      8  serial: of the entry in the run: its writer's number in the upper 16 bits, a count below
 *       24      4  the number of the stream, or of the key, that it was appended to
 *       28      4  CRC-32C of the 28 bytes before it and of all behind it
 */
#ifndef IRONWAL_BENCH_CONTENT_H
#define IRONWAL_BENCH_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mp_read.h"

#define CONTENT_HEADER_BYTES 32
#define CONTENT_COUNT_BITS 48

struct content {
	uint64_t seed, serial;
	uint32_t name;
};

enum content_verdict {
	CONTENT_GOOD,
	CONTENT_FOREIGN,   /* not written by any run with --verify */
	CONTENT_DAMAGED,   /* it was, but its bytes are others now */
	CONTENT_OTHER_RUN, /* whole, of another seed */
};

/* Makes len bytes, at least CONTENT_HEADER_BYTES, describe themselves. */
void content_seal(uint8_t *entry, size_t len, const struct content *content);

/* *ret_content is set with CONTENT_GOOD and CONTENT_OTHER_RUN. */
enum content_verdict content_check(struct span entry, uint64_t seed, struct content *ret_content);

/* "is whole", "was not written by a run with --verify", ... */
const char *content_verdict_text(enum content_verdict verdict);

#endif
