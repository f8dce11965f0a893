#include "segment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "activity.h"
#include "held.h"
#include "recent.h"
#include "stream.h"

static atomic_uint_least64_t next_serial = 1;

struct segment *segment_new(struct stream *stream, uint64_t first_id)
{
	struct segment *segment = calloc(1, sizeof(*segment));
	if (!segment)
		return NULL;
	segment->stream = stream;
	segment->first_id = first_id;
	segment->end_id = first_id;
	segment->serial = atomic_fetch_add_explicit(&next_serial, 1, memory_order_relaxed);
	atomic_init(&segment->refs, 1);
	return segment;
}

void segment_ref(struct segment *segment)
{
	atomic_fetch_add_explicit(&segment->refs, 1, memory_order_relaxed);
}

void segment_unref(struct segment *segment, struct open_cache *cache)
{
	if (!segment || atomic_fetch_sub_explicit(&segment->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (cache)
		open_cache_drop(cache, segment);
	index_clear(&segment->index);
	held_unref(segment->held);
	recent_unref(segment->recent);
	free(segment);
}

static void join(const struct segment *segment, const char *file, char out[SEGMENT_PATH_MAX])
{
	snprintf(out, SEGMENT_PATH_MAX, "%s/%s", segment->stream->dir, file);
}

void segment_path(const struct segment *segment, char out[SEGMENT_PATH_MAX])
{
	char file[NAMES_FILE_MAX];
	if (segment->cut)
		cut_file_name(segment->first_id, segment->end_id, segment->salt, file);
	else
		segment_file_name(segment->first_id, file);
	join(segment, file, out);
}

void segment_index_path(const struct segment *segment, char out[SEGMENT_PATH_MAX])
{
	char file[NAMES_FILE_MAX];
	index_file_name(segment->first_id, file);
	join(segment, file, out);
}

/* One of so many descriptors may be lent. */
#define LENT_SHARE 8u

/* ---- the cache of open files ------------------------------------------------------------------------------------ */

struct open_cache {
	struct io *io;
	pthread_mutex_t lock;
	pthread_cond_t opened;
	struct segment *newest, *oldest;	 /* open and not pinned */
	uint32_t capacity, open_count, open_max; /* open_count: those that are lent, too */
	uint32_t lent;
};

struct open_cache *open_cache_new(struct io *io, uint32_t capacity)
{
	struct open_cache *cache = calloc(1, sizeof(*cache));
	if (!cache)
		return NULL;
	cache->io = io;
	cache->capacity = capacity;
	pthread_mutex_init(&cache->lock, NULL);
	pthread_cond_init(&cache->opened, NULL);
	return cache;
}

void open_cache_free(struct open_cache *cache)
{
	if (!cache)
		return;
	pthread_mutex_destroy(&cache->lock);
	pthread_cond_destroy(&cache->opened);
	free(cache);
}

static void lru_remove(struct open_cache *cache, struct segment *segment)
{
	*(segment->lru_prev ? &segment->lru_prev->lru_next : &cache->newest) = segment->lru_next;
	*(segment->lru_next ? &segment->lru_next->lru_prev : &cache->oldest) = segment->lru_prev;
	segment->lru_prev = segment->lru_next = NULL;
}

static void lru_add(struct open_cache *cache, struct segment *segment)
{
	segment->lru_prev = NULL;
	segment->lru_next = cache->newest;
	*(cache->newest ? &cache->newest->lru_prev : &cache->oldest) = segment;
	cache->newest = segment;
}

/* What is taken from a segment under the lock is closed behind it: a close may take its time. */
struct closing {
	struct io_file *file;
	struct io_map *map;
};

static struct closing take_file(struct open_cache *cache, struct segment *segment)
{
	struct closing closing = {segment->file, segment->map};
	segment->map = NULL;
	segment->map_len = 0;
	segment->file = NULL;
	cache->open_count--;
	return closing;
}

static void close_taken(struct open_cache *cache, struct closing closing)
{
	cache->io->ops->unmap(closing.map);
	cache->io->ops->close(closing.file);
}

/* The least recently used one goes if the cache is full; usually one, more only after many were pinned at once. */
static bool take_oldest(struct open_cache *cache, struct closing *ret_closing)
{
	struct segment *oldest = cache->oldest;
	if (cache->open_count <= cache->capacity || !oldest)
		return false;
	lru_remove(cache, oldest);
	*ret_closing = take_file(cache, oldest);
	return true;
}

/* Under the lock, which is given up in between. */
static void make_room(struct open_cache *cache)
{
	struct closing closing;
	while (take_oldest(cache, &closing)) {
		pthread_mutex_unlock(&cache->lock);
		close_taken(cache, closing);
		pthread_mutex_lock(&cache->lock);
	}
}

bool open_cache_evict(struct open_cache *cache)
{
	pthread_mutex_lock(&cache->lock);
	struct segment *oldest = cache->oldest;
	struct closing closing = {0};
	if (oldest) {
		lru_remove(cache, oldest);
		closing = take_file(cache, oldest);
	}
	pthread_mutex_unlock(&cache->lock);
	close_taken(cache, closing);
	return oldest != NULL;
}

static int open_file(struct open_cache *cache, struct segment *segment, int flags)
{
	char path[SEGMENT_PATH_MAX];
	segment_path(segment, path);
	segment->opening = true;
	cache->open_count++;
	make_room(cache);
	pthread_mutex_unlock(&cache->lock);
	int how = segment->cut ? IO_READ : IO_READ | IO_WRITE;
	if (flags & OPEN_CREATE)
		how |= IO_CREATE;
	struct io_file *file = NULL;
	int r = cache->io->ops->open(cache->io, path, how, &file);
	/* The process has fewer descriptors than the cache may hold: it makes do with those it has. */
	while (io_no_descriptor(r) && open_cache_evict(cache))
		r = cache->io->ops->open(cache->io, path, how, &file);
	pthread_mutex_lock(&cache->lock);
	segment->opening = false;
	if (r != 0)
		cache->open_count--;
	else
		segment->file = file;
	if (cache->open_count > cache->open_max)
		cache->open_max = cache->open_count;
	pthread_cond_broadcast(&cache->opened);
	return r;
}

/* A mapping that is too short is replaced only when nobody else reads through it. */
static void map_file(struct open_cache *cache, struct segment *segment, uint64_t map_len)
{
	if (segment->map_len >= map_len || (segment->map && segment->pins > 0))
		return;
	cache->io->ops->unmap(segment->map);
	segment->map = NULL;
	segment->map_len = 0;
	uint64_t size;
	struct io_map *map;
	if (cache->io->ops->size(segment->file, &size) == 0 && size > 0 &&
		cache->io->ops->map(segment->file, size, &map) == 0) {
		segment->map = map;
		segment->map_len = size;
	}
}

int open_cache_pin(struct open_cache *cache, struct segment *segment, int flags, uint64_t map_len,
	struct io_file **ret_file, struct io_map **ret_map, uint64_t *ret_map_len)
{
	if (!(flags & OPEN_NOWAIT))
		pthread_mutex_lock(&cache->lock);
	else if (pthread_mutex_trylock(&cache->lock) != 0)
		return -EAGAIN;
	int r = 0;
	if (segment->opening && !(flags & OPEN_NOWAIT)) {
		activity_wait_begin("a file that another thread opens");
		while (segment->opening)
			pthread_cond_wait(&cache->opened, &cache->lock);
		activity_wait_end();
	}
	if (!segment->file)
		r = flags & OPEN_NOWAIT ? -EAGAIN : open_file(cache, segment, flags);
	else if (segment->pins == 0)
		lru_remove(cache, segment);
	if (r == 0) {
		if (flags & OPEN_MAP)
			map_file(cache, segment, map_len);
		segment->pins++;
		*ret_file = segment->file;
		if (ret_map) {
			*ret_map = segment->map;
			*ret_map_len = segment->map_len;
		}
	}
	pthread_mutex_unlock(&cache->lock);
	return r;
}

void open_cache_unpin(struct open_cache *cache, struct segment *segment)
{
	pthread_mutex_lock(&cache->lock);
	if (--segment->pins == 0) {
		lru_add(cache, segment);
		make_room(cache);
	}
	pthread_mutex_unlock(&cache->lock);
}

void open_cache_drop(struct open_cache *cache, struct segment *segment)
{
	struct closing closing = {0};
	pthread_mutex_lock(&cache->lock);
	if (segment->file) {
		if (segment->pins == 0)
			lru_remove(cache, segment);
		closing = take_file(cache, segment);
	}
	pthread_mutex_unlock(&cache->lock);
	close_taken(cache, closing);
}

bool open_cache_lend(struct open_cache *cache)
{
	pthread_mutex_lock(&cache->lock);
	bool lent = cache->lent < cache->capacity / LENT_SHARE;
	if (lent) {
		cache->lent++;
		cache->open_count++;
		make_room(cache);
	}
	pthread_mutex_unlock(&cache->lock);
	return lent;
}

void open_cache_take_back(struct open_cache *cache)
{
	pthread_mutex_lock(&cache->lock);
	cache->lent--;
	cache->open_count--;
	pthread_mutex_unlock(&cache->lock);
}

void open_cache_stats(struct open_cache *cache, uint64_t *ret_open, uint64_t *ret_max)
{
	pthread_mutex_lock(&cache->lock);
	*ret_open = cache->open_count;
	*ret_max = cache->open_max;
	pthread_mutex_unlock(&cache->lock);
}
