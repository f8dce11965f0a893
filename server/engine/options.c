#include "options.h"

void engine_options_default(struct engine_options *options)
{
	*options = (struct engine_options){
		.max_segment_size = UINT64_C(64) << 20,
		.max_entries_per_segment = 0,
		.max_open_segments = 128,
		.write_buffer_size = UINT64_C(1) << 20,
		.read_buffer_size = UINT64_C(128) << 10,
		.block_cache_size = 0,
		.sync_mode = SYNC_STRICT,
		.compression = COMPRESSION_NONE,
		.read_strategy = READ_STANDARD_IO,
		.on_corruption = ON_CORRUPTION_ERROR,
		.min_compression_size = UINT64_C(1) << 10,
		.shard_count = 4,
		.max_writers = 16,
		.async_sync_interval_ns = UINT64_C(1000000000),
		.max_streams = UINT64_C(1000000),
		.max_entry_bytes = (UINT64_C(16) << 20) - 1024,
	};
}
