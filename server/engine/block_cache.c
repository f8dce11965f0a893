#include "block_cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#define BUCKETS_MIN 64
/* What a block costs beside its bytes and its struct: two headers of malloc, and its share of a table that is between
 * half and a quarter full after growing. */
#define BLOCK_EXTRA_BYTES 48

struct cached_block {
	atomic_uint references; /* the cache's own is one of them */
	uint64_t serial, offset;
	uint8_t *bytes;
	size_t len;
	struct cached_block *older, *newer; /* in order of use, while it is in the cache */
	struct cached_block *chain;	    /* in its bucket; after it has left: in the list to be released */
};

/* One lock for all: it is held for a hash look-up and a few pointers, never for a copy or a free. */
struct block_cache {
	pthread_mutex_t lock;
	uint64_t capacity;
	struct cached_block **buckets;
	size_t bucket_count; /* a power of two */
	struct cached_block *oldest, *newest;
	struct block_cache_stats stats;
};

struct block_cache *block_cache_new(uint64_t capacity_bytes)
{
	struct block_cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return NULL;
	cache->capacity = capacity_bytes;
	if (capacity_bytes > 0) {
		cache->bucket_count = BUCKETS_MIN;
		cache->buckets = calloc(cache->bucket_count, sizeof(*cache->buckets));
		if (!cache->buckets) {
			free(cache);
			return NULL;
		}
	}
	if (pthread_mutex_init(&cache->lock, NULL) != 0) {
		free(cache->buckets);
		free(cache);
		return NULL;
	}
	return cache;
}

static uint64_t cost(size_t len)
{
	return (uint64_t)len + sizeof(struct cached_block) + BLOCK_EXTRA_BYTES;
}

static size_t hash_of(uint64_t serial, uint64_t offset)
{
	/* Keys are small dense numbers: multiply and fold until every bit of both reaches the low ones. */
	uint64_t h = (serial + UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xbf58476d1ce4e5b9);

	h = (h ^ (h >> 31) ^ offset) * UINT64_C(0x94d049bb133111eb);
	h = (h ^ (h >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
	return (size_t)(h ^ (h >> 32));
}

static struct cached_block **bucket_of(struct block_cache *cache, uint64_t serial, uint64_t offset)
{
	return &cache->buckets[hash_of(serial, offset) & (cache->bucket_count - 1)];
}

static struct cached_block *find(struct block_cache *cache, uint64_t serial, uint64_t offset)
{
	struct cached_block *block = *bucket_of(cache, serial, offset);

	while (block && (block->serial != serial || block->offset != offset))
		block = block->chain;
	return block;
}

static void order_remove(struct block_cache *cache, struct cached_block *block)
{
	*(block->older ? &block->older->newer : &cache->oldest) = block->newer;
	*(block->newer ? &block->newer->older : &cache->newest) = block->older;
	block->older = block->newer = NULL;
}

static void order_push_newest(struct block_cache *cache, struct cached_block *block)
{
	block->older = cache->newest;
	block->newer = NULL;
	*(cache->newest ? &cache->newest->newer : &cache->oldest) = block;
	cache->newest = block;
}

/* Takes a reference and makes it the newest. */
static struct cached_block *use(struct block_cache *cache, struct cached_block *block)
{
	if (cache->newest != block) {
		order_remove(cache, block);
		order_push_newest(cache, block);
	}
	atomic_fetch_add_explicit(&block->references, 1, memory_order_relaxed);
	return block;
}

/* Out of table and order; the cache's reference passes to the caller. */
static void leave(struct block_cache *cache, struct cached_block *block)
{
	struct cached_block **link = bucket_of(cache, block->serial, block->offset);

	while (*link != block)
		link = &(*link)->chain;
	*link = block->chain;
	block->chain = NULL;
	order_remove(cache, block);
	cache->stats.bytes -= cost(block->len);
	cache->stats.blocks--;
}

/* Without memory for a larger table the chains get longer, that is all. */
static void grow_table(struct block_cache *cache)
{
	const size_t count = cache->bucket_count * 2;
	struct cached_block **former = cache->buckets;
	const size_t former_count = cache->bucket_count;
	struct cached_block **buckets = calloc(count, sizeof(*buckets));

	if (!buckets)
		return;
	cache->buckets = buckets;
	cache->bucket_count = count;
	for (size_t i = 0; i < former_count; i++) {
		for (struct cached_block *block = former[i], *next; block; block = next) {
			struct cached_block **bucket = bucket_of(cache, block->serial, block->offset);

			next = block->chain;
			block->chain = *bucket;
			*bucket = block;
		}
	}
	free(former);
}

static void insert(struct block_cache *cache, struct cached_block *block)
{
	if (cache->stats.blocks >= cache->bucket_count)
		grow_table(cache);
	struct cached_block **bucket = bucket_of(cache, block->serial, block->offset);

	block->chain = *bucket;
	*bucket = block;
	order_push_newest(cache, block);
	atomic_fetch_add_explicit(&block->references, 1, memory_order_relaxed);
	cache->stats.bytes += cost(block->len);
	cache->stats.blocks++;
}

struct cached_block *block_cache_get(struct block_cache *cache, uint64_t segment_serial, uint64_t block_offset)
{
	if (cache->capacity == 0)
		return NULL;
	pthread_mutex_lock(&cache->lock);
	struct cached_block *block = find(cache, segment_serial, block_offset);
	if (block) {
		use(cache, block);
		cache->stats.hits++;
	} else {
		cache->stats.misses++;
	}
	pthread_mutex_unlock(&cache->lock);
	return block;
}

static void release_list(struct cached_block *block)
{
	while (block) {
		struct cached_block *next = block->chain;

		block->chain = NULL;
		cached_block_release(block);
		block = next;
	}
}

struct cached_block *block_cache_put(
	struct block_cache *cache, uint64_t segment_serial, uint64_t block_offset, uint8_t *bytes, size_t len)
{
	struct cached_block *block = malloc(sizeof(*block)), *leaving = NULL;

	if (!block)
		return NULL;
	*block = (struct cached_block){.serial = segment_serial, .offset = block_offset, .bytes = bytes, .len = len};
	atomic_init(&block->references, 1);
	if (len > cache->capacity || cost(len) > cache->capacity)
		return block;

	pthread_mutex_lock(&cache->lock);
	struct cached_block *there = find(cache, segment_serial, block_offset);
	if (there) {
		leaving = block;
		block = use(cache, there);
	} else {
		while (cache->stats.bytes + cost(len) > cache->capacity) {
			struct cached_block *victim = cache->oldest;

			leave(cache, victim);
			victim->chain = leaving;
			leaving = victim;
		}
		insert(cache, block);
	}
	pthread_mutex_unlock(&cache->lock);
	release_list(leaving);
	return block;
}

const uint8_t *cached_block_bytes(const struct cached_block *block, size_t *ret_len)
{
	*ret_len = block->len;
	return block->bytes;
}

void cached_block_release(struct cached_block *block)
{
	/* acquire-release: whoever frees it must see that all others have finished reading. */
	if (!block || atomic_fetch_sub_explicit(&block->references, 1, memory_order_acq_rel) != 1)
		return;
	free(block->bytes);
	free(block);
}

void block_cache_stats(struct block_cache *cache, struct block_cache_stats *ret_stats)
{
	pthread_mutex_lock(&cache->lock);
	*ret_stats = cache->stats;
	pthread_mutex_unlock(&cache->lock);
}

void block_cache_free(struct block_cache *cache)
{
	if (!cache)
		return;
	while (cache->oldest) {
		struct cached_block *block = cache->oldest;

		leave(cache, block);
		cached_block_release(block);
	}
	pthread_mutex_destroy(&cache->lock);
	free(cache->buckets);
	free(cache);
}
