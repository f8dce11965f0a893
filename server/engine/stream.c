#include "stream.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* So many new names are looked through or sorted in before they are merged. */
#define FRESH_MAX 1024

struct stream *stream_new(const char *name, size_t name_len, uint64_t hash, uint16_t shard, struct writer *writer)
{
	char dir[NAMES_DIR_MAX];
	if (dirname_from_name(name, name_len, dir) < 0)
		return NULL;
	size_t dir_len = strlen(dir);
	struct stream *stream = calloc(1, sizeof(*stream) + name_len + 1 + dir_len + 1);
	if (!stream)
		return NULL;
	stream->writer = writer;
	stream->shard = shard;
	stream->doomed_last = &stream->doomed_first;
	stream->hash = hash;
	stream->name = (char *)(stream + 1);
	stream->name_len = (uint16_t)name_len;
	memcpy(stream->name, name, name_len);
	stream->dir = stream->name + name_len + 1;
	memcpy(stream->dir, dir, dir_len);
	return stream;
}

void stream_free(struct stream *stream, struct open_cache *cache)
{
	if (!stream)
		return;
	for (uint32_t i = 0; i < stream->segment_count; i++)
		segment_unref(stream->segments[i], cache);
	while (stream->doomed_first) {
		struct segment *segment = stream->doomed_first;
		stream->doomed_first = segment->doomed_next;
		segment_unref(segment, cache);
	}
	free(stream->segments);
	free(stream);
}

int stream_reserve_segment(struct stream *stream)
{
	if (stream->segment_count < stream->segment_cap)
		return 0;
	uint32_t cap = stream->segment_cap ? stream->segment_cap * 2 : 1;
	struct segment **segments = realloc(stream->segments, sizeof(*segments) * cap);
	if (!segments)
		return -1;
	stream->segments = segments;
	stream->segment_cap = cap;
	return 0;
}

void stream_push_segment(struct stream *stream, struct segment *segment)
{
	stream->segments[stream->segment_count++] = segment;
}

struct segment *stream_segment_at(struct stream *stream, uint64_t id)
{
	uint32_t low = 0, high = stream->segment_count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (stream->segments[middle]->end_id <= id)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == stream->segment_count)
		return NULL;
	segment_ref(stream->segments[low]);
	return stream->segments[low];
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

uint64_t stream_hash(const char *name, size_t len)
{
	return XXH3_64bits(name, len);
}

int stream_table_init(struct stream_table *table)
{
	*table = (struct stream_table){.bucket_count = 64};
	table->buckets = calloc(table->bucket_count, sizeof(*table->buckets));
	return table->buckets ? 0 : -1;
}

void stream_table_free(struct stream_table *table)
{
	free(table->buckets);
	free(table->sorted);
	free(table->fresh);
	*table = (struct stream_table){0};
}

struct stream *stream_table_find(const struct stream_table *table, const char *name, size_t len, uint64_t hash)
{
	struct stream *stream = table->buckets[hash & (table->bucket_count - 1)];
	while (stream && (stream->hash != hash || stream->name_len != len || memcmp(stream->name, name, len) != 0))
		stream = stream->table_next;
	return stream;
}

static int grow(struct stream_table *table)
{
	size_t bucket_count = table->bucket_count * 2;
	struct stream **buckets = calloc(bucket_count, sizeof(*buckets));
	if (!buckets)
		return -1;
	for (size_t i = 0; i < table->bucket_count; i++)
		for (struct stream *stream = table->buckets[i], *next; stream; stream = next) {
			next = stream->table_next;
			struct stream **bucket = &buckets[stream->hash & (bucket_count - 1)];
			stream->table_next = *bucket;
			*bucket = stream;
		}
	free(table->buckets);
	table->buckets = buckets;
	table->bucket_count = bucket_count;
	return 0;
}

static int room(struct stream ***array, size_t *cap, size_t need)
{
	if (need <= *cap)
		return 0;
	size_t grown = *cap ? *cap * 2 : 64;
	if (grown < need)
		grown = need;
	struct stream **bigger = realloc(*array, sizeof(**array) * grown);
	if (!bigger)
		return -1;
	*array = bigger;
	*cap = grown;
	return 0;
}

int stream_table_reserve(struct stream_table *table, size_t count)
{
	while (table->bucket_count < count)
		if (grow(table) != 0)
			return -1;
	return room(&table->sorted, &table->sorted_cap, count);
}

int stream_table_add(struct stream_table *table, struct stream *stream)
{
	/* Room in the order of names, too, so that showing it cannot fail. */
	if ((table->count >= table->bucket_count && grow(table) != 0) ||
		room(&table->sorted, &table->sorted_cap, table->count + 1) != 0 ||
		room(&table->fresh, &table->fresh_cap, 1) != 0)
		return -1;
	struct stream **bucket = &table->buckets[stream->hash & (table->bucket_count - 1)];
	stream->table_next = *bucket;
	*bucket = stream;
	table->count++;
	return 0;
}

void stream_table_remove(struct stream_table *table, struct stream *stream)
{
	struct stream **at = &table->buckets[stream->hash & (table->bucket_count - 1)];
	while (*at != stream)
		at = &(*at)->table_next;
	*at = stream->table_next;
	table->count--;
}

static int compare_name(const struct stream *stream, const char *name, size_t len)
{
	size_t common = stream->name_len < len ? stream->name_len : len;
	int r = memcmp(stream->name, name, common);
	return r ? r : (stream->name_len > len) - (stream->name_len < len);
}

static int compare_streams(const void *left, const void *right)
{
	const struct stream *other = *(struct stream *const *)right;
	return compare_name(*(struct stream *const *)left, other->name, other->name_len);
}

void stream_table_show(struct stream_table *table, struct stream *stream)
{
	/* `sorted` has room for all that are in the table. */
	size_t count = table->sorted_count;
	if (table->fresh_count == 0 && (count == 0 || compare_streams(&table->sorted[count - 1], &stream) < 0)) {
		stream->visible = true;
		table->sorted[table->sorted_count++] = stream;
		return;
	}
	if (room(&table->fresh, &table->fresh_cap, table->fresh_count + 1) != 0)
		stream_table_sort(table);
	stream->visible = true;
	table->fresh[table->fresh_count++] = stream;
	if (table->fresh_count >= FRESH_MAX && table->fresh_count * 4 > table->sorted_count)
		stream_table_sort(table);
}

void stream_table_sort(struct stream_table *table)
{
	if (table->fresh_count == 0)
		return;
	qsort(table->fresh, table->fresh_count, sizeof(*table->fresh), compare_streams);
	size_t old = table->sorted_count, fresh = table->fresh_count, at = old + fresh;
	table->sorted_count = at;
	while (fresh > 0) {
		if (old > 0 && compare_streams(&table->sorted[old - 1], &table->fresh[fresh - 1]) > 0)
			table->sorted[--at] = table->sorted[--old];
		else
			table->sorted[--at] = table->fresh[--fresh];
	}
	table->fresh_count = 0;
}

size_t stream_table_lower(const struct stream_table *table, const char *name, size_t len, bool after)
{
	size_t low = 0, high = table->sorted_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int r = compare_name(table->sorted[middle], name, len);
		if (r < 0 || (r == 0 && after))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}
