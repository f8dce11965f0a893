#include <criterion/criterion.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "block_cache.h"

#define BLOCK 1000
#define OVERHEAD_MAX 256

/* Contents that can be checked from the key alone. */
static uint8_t *make_bytes(uint64_t serial, uint64_t offset, size_t len)
{
	uint8_t *bytes = malloc(len ? len : 1);

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(serial * 31 + offset * 7 + i);
	return bytes;
}

static bool is_right(const struct cached_block *block, uint64_t serial, uint64_t offset, size_t expected_len)
{
	size_t len;
	const uint8_t *bytes = cached_block_bytes(block, &len);

	if (len != expected_len)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != (uint8_t)(serial * 31 + offset * 7 + i))
			return false;
	}
	return true;
}

static void put(struct block_cache *cache, uint64_t serial, uint64_t offset, size_t len)
{
	struct cached_block *block = block_cache_put(cache, serial, offset, make_bytes(serial, offset, len), len);

	cr_assert(block && is_right(block, serial, offset, len));
	cached_block_release(block);
}

static bool holds(struct block_cache *cache, uint64_t serial, uint64_t offset, size_t len)
{
	struct cached_block *block = block_cache_get(cache, serial, offset);

	if (!block)
		return false;
	cr_assert(is_right(block, serial, offset, len), "wrong block");
	cached_block_release(block);
	return true;
}

Test(block_cache, what_was_put_is_got_and_counted)
{
	struct block_cache *cache = block_cache_new(1 << 20);
	struct block_cache_stats stats;

	cr_assert(!holds(cache, 1, 0, BLOCK));
	put(cache, 1, 0, BLOCK);
	put(cache, 0, 1, BLOCK);
	put(cache, 1, 4096, 0);
	cr_assert(holds(cache, 1, 0, BLOCK));
	cr_assert(holds(cache, 0, 1, BLOCK));
	cr_assert(holds(cache, 1, 4096, 0));
	cr_assert(!holds(cache, 2, 0, BLOCK));
	block_cache_stats(cache, &stats);
	cr_assert(stats.hits == 3 && stats.misses == 2 && stats.blocks == 3);
	cr_assert(stats.bytes >= 2 * BLOCK && stats.bytes < 2 * BLOCK + 3 * OVERHEAD_MAX);
	block_cache_free(cache);
}

Test(block_cache, the_least_recently_used_leaves_first)
{
	/* What one block costs with its bookkeeping; then room for exactly five. */
	struct block_cache *cache = block_cache_new(1 << 20);
	struct block_cache_stats stats;
	const uint64_t fit = 5;

	put(cache, 9, 0, BLOCK);
	block_cache_stats(cache, &stats);
	const uint64_t cost = stats.bytes;
	block_cache_free(cache);

	cache = block_cache_new(fit * cost);
	for (uint64_t i = 0; i < fit; i++)
		put(cache, 9, i, BLOCK);
	cr_assert(holds(cache, 9, 0, BLOCK));
	put(cache, 9, fit, BLOCK);
	cr_assert(holds(cache, 9, 0, BLOCK), "used, and yet evicted");
	cr_assert(!holds(cache, 9, 1, BLOCK), "the oldest is still there");
	cr_assert(holds(cache, 9, 2, BLOCK));
	cr_assert(holds(cache, 9, fit, BLOCK));
	block_cache_stats(cache, &stats);
	cr_assert(stats.blocks == fit && stats.bytes == fit * cost);
	/* One large block drives out several small ones. */
	const size_t large = (size_t)cost + BLOCK;
	put(cache, 10, 0, large);
	cr_assert(holds(cache, 10, 0, large));
	block_cache_stats(cache, &stats);
	cr_assert(stats.bytes == fit * cost && stats.blocks == fit - 1);
	block_cache_free(cache);
}

Test(block_cache, a_held_block_outlives_eviction_and_cache)
{
	struct block_cache *cache = block_cache_new(2 * (BLOCK + OVERHEAD_MAX));
	struct cached_block *held = block_cache_put(cache, 1, 1, make_bytes(1, 1, BLOCK), BLOCK);

	for (uint64_t i = 2; i < 20; i++)
		put(cache, 1, i, BLOCK);
	cr_assert(!holds(cache, 1, 1, BLOCK));
	cr_assert(is_right(held, 1, 1, BLOCK));
	struct cached_block *other = block_cache_get(cache, 1, 19);
	block_cache_free(cache);
	cr_assert(is_right(held, 1, 1, BLOCK));
	cr_assert(is_right(other, 1, 19, BLOCK));
	cached_block_release(held);
	cached_block_release(other);
}

Test(block_cache, the_second_of_two_puts_gets_the_first_block)
{
	struct block_cache *cache = block_cache_new(1 << 20);
	struct cached_block *first = block_cache_put(cache, 5, 6, make_bytes(5, 6, BLOCK), BLOCK);
	struct cached_block *second = block_cache_put(cache, 5, 6, make_bytes(5, 6, BLOCK), BLOCK);
	struct block_cache_stats stats;

	cr_assert(first == second);
	block_cache_stats(cache, &stats);
	cr_assert(stats.blocks == 1 && stats.bytes < BLOCK + OVERHEAD_MAX);
	cached_block_release(first);
	cached_block_release(second);
	block_cache_free(cache);
}

Test(block_cache, disabled_or_too_small_it_keeps_nothing)
{
	static const uint64_t capacities[] = {0, 1, BLOCK};

	for (size_t i = 0; i < 3; i++) {
		struct block_cache *cache = block_cache_new(capacities[i]);
		struct block_cache_stats stats;

		put(cache, 1, 2, BLOCK);
		cr_assert(!holds(cache, 1, 2, BLOCK));
		block_cache_stats(cache, &stats);
		cr_assert(stats.bytes == 0 && stats.blocks == 0 && stats.hits == 0);
		cr_assert(stats.misses == (capacities[i] ? 1 : 0));
		block_cache_free(cache);
	}
	block_cache_free(NULL);
	cached_block_release(NULL);
}

Test(block_cache, many_small_blocks_stay_within_the_capacity)
{
	struct block_cache *cache = block_cache_new(1 << 20);
	struct block_cache_stats stats;
	uint64_t there = 0;

	for (uint64_t i = 0; i < 50000; i++) {
		put(cache, i % 7, i * 64, i % 50);
		block_cache_stats(cache, &stats);
		cr_assert(stats.bytes <= 1 << 20);
	}
	for (uint64_t i = 0; i < 50000; i++)
		there += holds(cache, i % 7, i * 64, i % 50);
	block_cache_stats(cache, &stats);
	cr_assert(there == stats.blocks && there > 4000, "%lu of %lu blocks are found", (unsigned long)there,
		(unsigned long)stats.blocks);
	block_cache_free(cache);
}

struct worker {
	struct block_cache *cache;
	atomic_uint *wrong;
	unsigned seed;
};

static void *work(void *arg)
{
	struct worker *worker = arg;
	unsigned state = worker->seed;

	for (int i = 0; i < 30000; i++) {
		state = state * 1664525u + 1013904223u;
		const uint64_t serial = (state >> 8) % 5, offset = (state >> 12) % 40;
		const size_t len = 100 + offset * 10;
		struct cached_block *block = block_cache_get(worker->cache, serial, offset);

		if (!block)
			block = block_cache_put(worker->cache, serial, offset, make_bytes(serial, offset, len), len);
		if (!block || !is_right(block, serial, offset, len))
			atomic_fetch_add(worker->wrong, 1);
		cached_block_release(block);
	}
	return NULL;
}

Test(block_cache, threads_never_see_a_wrong_or_freed_block, .timeout = 60)
{
	struct block_cache *cache = block_cache_new(20000); /* a part of what the threads ask for */
	struct block_cache_stats stats;
	pthread_t threads[4];
	struct worker workers[4];
	atomic_uint wrong = 0;

	for (unsigned i = 0; i < 4; i++) {
		workers[i] = (struct worker){cache, &wrong, i + 1};
		cr_assert(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	cr_assert(atomic_load(&wrong) == 0);
	block_cache_stats(cache, &stats);
	cr_assert(stats.bytes <= 20000 && stats.hits + stats.misses == 120000 && stats.hits > 0 && stats.misses > 0);
	block_cache_free(cache);
}
