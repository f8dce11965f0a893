/*
 * crc32c: the CRC-32C (Castagnoli) of bytes.
 *
 * Owns nothing; any thread may call it.
 * Invariant: crc32c(0, "123456789", 9) is 0xE3069283, and crc32c(crc32c(0, a), b) is crc32c(0, a followed by b).
 */
#ifndef IRONWALD_CRC32C_H
#define IRONWALD_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* seed: 0, or the result for the bytes before these. Initial and final inversion are done inside. */
uint32_t crc32c(uint32_t seed, const void *bytes, size_t len);

#endif
