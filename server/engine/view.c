/*
 * view: what can be seen of an engine that is open: its streams, as the loop knows them, and what was counted.
 *
 * Changes nothing, but for the order of the table's names.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "engine_private.h"
#include "writer.h"

/* ---- streams --------------------------------------------------------------------------------------------------- */

struct stream *engine_find(struct engine *engine, const char *name, size_t name_len)
{
	if (name_len == 0 || name_len > STREAM_NAME_MAX)
		return NULL;
	struct stream *stream = stream_table_find(&engine->table, name, name_len, stream_hash(name, name_len));
	return stream && (stream->visible || stream->is_shard) ? stream : NULL;
}

struct stream_view stream_view(const struct stream *stream)
{
	return (struct stream_view){stream->loop_first, stream->loop_end};
}

const char *stream_name(const struct stream *stream, size_t *ret_len)
{
	*ret_len = stream->name_len;
	return stream->name;
}

void stream_set_user(struct stream *stream, void *user)
{
	stream->user = user;
}

void *stream_user(const struct stream *stream)
{
	return stream->user;
}

void engine_stream_info(struct engine *engine, struct stream *stream, struct stream_info *ret_info)
{
	(void)engine;
	struct stream_info info = {.first = stream->loop_first, .end = stream->loop_end};
	uint64_t header_bytes = align_up(SEGMENT_HEADER_FIXED + stream->name_len + 4u, FRAME_ALIGN);
	pthread_mutex_lock(&stream->writer->list_lock);
	info.segments = stream->segment_count;
	for (uint32_t i = 0; i < stream->segment_count; i++) {
		uint64_t bytes = stream->segments[i]->data_end;
		info.bytes += bytes > header_bytes ? bytes - header_bytes : 0;
	}
	if (stream->segment_count > 0)
		info.active_start = stream->segments[stream->segment_count - 1]->first_id;
	pthread_mutex_unlock(&stream->writer->list_lock);
	info.durable_end = atomic_load_explicit(&stream->durable_end, memory_order_acquire);
	if (info.durable_end > info.end)
		info.durable_end = info.end;
	*ret_info = info;
}

bool engine_list(struct engine *engine, const char *prefix, size_t prefix_len, const char *after, size_t after_len,
	size_t limit, void (*cb)(struct stream *stream, void *arg), void *arg)
{
	struct stream_table *table = &engine->table;
	stream_table_sort(table);
	size_t at = stream_table_lower(table, prefix, prefix_len, false);
	if (after) {
		size_t behind = stream_table_lower(table, after, after_len, true);
		at = behind > at ? behind : at;
	}
	for (; at < table->sorted_count; at++) {
		struct stream *stream = table->sorted[at];
		if (stream->name_len < prefix_len || (prefix_len > 0 && memcmp(stream->name, prefix, prefix_len) != 0))
			return false;
		if (limit-- == 0)
			return true;
		cb(stream, arg);
	}
	return false;
}

/* ---- statistics ------------------------------------------------------------------------------------------------ */

void engine_stats(struct engine *engine, struct engine_stats *ret_stats)
{
	struct engine_stats stats = {
		.writer_count = engine->writer_count,
		.streams = atomic_load(&engine->stream_count),
		.segments = atomic_load(&engine->segment_count),
		.segment_bytes = atomic_load(&engine->segment_bytes),
		.entries_read = atomic_load(&engine->entries_read),
		.bytes_read = atomic_load(&engine->bytes_read),
		.damage_found = atomic_load(&engine->damage_found),
		.segments_unlinked = atomic_load(&engine->segments_unlinked),
		.bytes_filled_ahead = atomic_load(&engine->bytes_filled),
		.recovery = engine->recovery,
	};
	open_cache_stats(engine->open_cache, &stats.open_segments, &stats.open_segments_max);
	struct block_cache_stats cache;
	block_cache_stats(engine->block_cache, &cache);
	stats.block_cache_hits = cache.hits;
	stats.block_cache_misses = cache.misses;
	stats.block_cache_bytes = cache.bytes;
	(void)engine->io->ops->space(engine->io, &stats.space);
	*ret_stats = stats;
}

void engine_writer_stats(struct engine *engine, uint32_t index, struct writer_stats *ret_stats)
{
	struct writer *writer = engine->writers[index];
	const char *failed = engine_writer_failed(engine, index);
	snprintf(ret_stats->failed_reason, sizeof(ret_stats->failed_reason), "%s", failed ? failed : "");
	/* Word by word: the writer adds to them without a lock, and a word is never torn. */
	const uint64_t *from = &writer->stats.queue_depth;
	uint64_t *to = &ret_stats->queue_depth;
	size_t words = (sizeof(struct writer_stats) - offsetof(struct writer_stats, queue_depth)) / sizeof(uint64_t);
	for (size_t i = 0; i < words; i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	ret_stats->failed = failed != NULL;
	ret_stats->queue_depth = atomic_load_explicit(&writer->queued, memory_order_relaxed);
}

uint32_t engine_shard_count(const struct engine *engine)
{
	return engine->options.shard_count;
}
