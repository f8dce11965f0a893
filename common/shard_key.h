/*
 * shard_key: which shard a key belongs to: the one rule that server and clients must agree on.
 *
 * Owns nothing; any thread may call it.
 */
#ifndef IRONWALD_SHARD_KEY_H
#define IRONWALD_SHARD_KEY_H

#include <stddef.h>
#include <stdint.h>

/* XXH3_64bits(key) mod shard_count, which is not 0. */
uint32_t shard_of_key(const void *key, size_t len, uint32_t shard_count);

#endif
