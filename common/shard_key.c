#include "shard_key.h"

#include <xxhash.h>

uint32_t shard_of_key(const void *key, size_t len, uint32_t shard_count)
{
	return (uint32_t)(XXH3_64bits(key, len) % shard_count);
}
