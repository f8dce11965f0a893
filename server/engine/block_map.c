#include "block_map.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A point has its place by its hash alone: another one there makes way. */
#define PLACES 16384u

struct map {
	uint64_t segment_serial, point_offset;
	struct index_point end; /* of what is known */
	uint32_t count, cap;
	struct block_place blocks[];
};

struct block_maps {
	pthread_mutex_t lock;
	size_t capacity_bytes, bytes;
	uint32_t hand; /* where the next one makes way, if there are too many */
	struct map *places[PLACES];
};

static size_t size_of(uint32_t cap)
{
	return sizeof(struct map) + cap * sizeof(struct block_place);
}

static struct map **place_of(struct block_maps *maps, uint64_t segment_serial, uint64_t offset)
{
	uint64_t hash = (segment_serial * UINT64_C(0x9e3779b97f4a7c15)) ^ (offset * UINT64_C(0xc2b2ae3d27d4eb4f));
	return &maps->places[(hash ^ hash >> 29) * UINT64_C(0x9e3779b97f4a7c15) >> 50];
}

struct block_maps *block_maps_new(size_t capacity_bytes)
{
	struct block_maps *maps = calloc(1, sizeof(*maps));
	if (!maps)
		return NULL;
	pthread_mutex_init(&maps->lock, NULL);
	maps->capacity_bytes = capacity_bytes;
	return maps;
}

static void drop(struct block_maps *maps, struct map **place)
{
	if (*place)
		maps->bytes -= size_of((*place)->cap);
	free(*place);
	*place = NULL;
}

void block_maps_free(struct block_maps *maps)
{
	if (!maps)
		return;
	for (uint32_t i = 0; i < PLACES; i++)
		free(maps->places[i]);
	pthread_mutex_destroy(&maps->lock);
	free(maps);
}

static bool is_of(const struct map *map, uint64_t segment_serial, uint64_t offset)
{
	return map && map->segment_serial == segment_serial && map->point_offset == offset;
}

/* The last one that does not begin behind id; there is one. */
static const struct block_place *find(const struct map *map, uint64_t id)
{
	uint32_t low = 0, high = map->count;
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (map->blocks[middle].first_id <= id)
			low = middle;
		else
			high = middle;
	}
	return &map->blocks[low];
}

bool block_maps_find(struct block_maps *maps, uint64_t segment_serial, uint64_t id, struct index_point *at,
	struct block_place *ret_place)
{
	bool found = false;
	pthread_mutex_lock(&maps->lock);
	const struct map *map = *place_of(maps, segment_serial, at->offset);
	if (is_of(map, segment_serial, at->offset) && map->count > 0) {
		found = id >= map->blocks[0].first_id && id < map->end.id;
		if (found)
			*ret_place = *find(map, id);
		else
			*at = map->end;
	}
	pthread_mutex_unlock(&maps->lock);
	return found;
}

/* Room for `count` more, by what has long been there making way. NULL: there is none. */
static struct map *make_room(struct block_maps *maps, struct map **place, uint32_t count)
{
	struct map *map = *place;
	uint32_t known = map ? map->count : 0;
	if (map && map->cap - known >= count)
		return map;
	uint32_t cap = known + count < 2 * known ? 2 * known : known + count;
	size_t size = size_of(cap), old = map ? size_of(map->cap) : 0;
	for (uint32_t looked = 0; maps->bytes - old + size > maps->capacity_bytes && looked < PLACES; looked++) {
		struct map **other = &maps->places[maps->hand++ % PLACES];
		if (other != place)
			drop(maps, other);
	}
	if (maps->bytes - old + size > maps->capacity_bytes || !(map = realloc(map, size)))
		return NULL;
	map->count = known;
	map->cap = cap;
	maps->bytes += size - old;
	return *place = map;
}

void block_maps_add(struct block_maps *maps, uint64_t segment_serial, const struct index_point *point,
	const struct index_point *from, const struct index_point *to, const struct block_place *places, size_t count)
{
	pthread_mutex_lock(&maps->lock);
	struct map **place = place_of(maps, segment_serial, point->offset), *map = *place;
	bool mine = is_of(map, segment_serial, point->offset);
	/* Somebody else may have walked the same way meanwhile. */
	bool fits = mine ? map->end.offset == from->offset : from->offset == point->offset;
	fits = fits && count > 0;
	if (fits && !mine)
		drop(maps, place);
	if (fits && count + (mine ? map->count : 0) <= BLOCK_MAP_MAX &&
		(map = make_room(maps, place, (uint32_t)count))) {
		memcpy(map->blocks + map->count, places, count * sizeof(*places));
		map->count += (uint32_t)count;
		map->segment_serial = segment_serial;
		map->point_offset = point->offset;
		map->end = *to;
	}
	pthread_mutex_unlock(&maps->lock);
}
