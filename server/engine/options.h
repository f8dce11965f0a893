/*
 * options: what the engine is told at open. One immutable snapshot, copied by engine_open.
 *
 * Names and defaults are those of the API reference. Units are in the names or beside the fields.
 */
#ifndef IRONWALD_OPTIONS_H
#define IRONWALD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sync_mode { SYNC_STRICT, SYNC_BATCH_ONLY, SYNC_ASYNC };
enum compression { COMPRESSION_NONE, COMPRESSION_LZ4 };
enum read_strategy { READ_STANDARD_IO, READ_MMAP };
enum corruption_policy { ON_CORRUPTION_ERROR, ON_CORRUPTION_TRUNCATE };

struct engine_options {
	uint64_t max_segment_size;	  /* bytes, soft: a segment that has reached it gets no further frame */
	uint64_t max_entries_per_segment; /* 0: no limit; soft, as above */
	uint32_t max_open_segments;	  /* descriptors held for segments; small values are raised to what is needed */
	uint64_t write_buffer_size;	  /* bytes of entries in one group, unless a single batch is larger */
	uint64_t read_buffer_size;	  /* bytes of one read of a segment */
	uint64_t block_cache_size;	  /* bytes of unpacked blocks; 0: no cache */
	enum sync_mode sync_mode;
	enum compression compression;
	enum read_strategy read_strategy;
	enum corruption_policy on_corruption;
	uint64_t min_compression_size;	 /* raw bytes of a block below which it is stored as it is */
	uint32_t shard_count;		 /* 1 to 65535, fixed when the directory is made */
	uint32_t max_writers;		 /* writer threads, 1 to 16; a start may have another number than the last */
	uint64_t async_sync_interval_ns; /* 0: never by time */
	uint64_t max_streams;
	uint64_t max_entry_bytes; /* the largest entry that an append may hold */
};

/* The reference's defaults where it has one; see conf/ironwald.conf. */
void engine_options_default(struct engine_options *options);

#endif
