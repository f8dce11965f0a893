#include "frame_builder.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"

/* Memory that a large batch left behind is not kept for ever. */
#define KEEP_BYTES (4u << 20)
/* A page, and so many of them that a frame's header, which a get reads whole, stays within another one. */
#define BLOCK_RAW_LEAST (4u << 10)
#define BLOCKS_WANTED 192
#define BLOCK_ENTRIES_MAX (BLOCK_RAW_MAX / 4)

int frame_builder_init(struct frame_builder *builder, enum compression compression, uint64_t min_compression_size)
{
	*builder = (struct frame_builder){
		.compress = compression == COMPRESSION_LZ4,
		.min_compression_size = min_compression_size,
	};
	builder->ends = malloc(sizeof(uint32_t) * BLOCK_ENTRIES_MAX);
	return builder->ends ? 0 : -1;
}

void frame_builder_free(struct frame_builder *builder)
{
	buf_free(&builder->headers);
	buf_free(&builder->payloads);
	buf_free(&builder->table);
	buf_free(&builder->raw);
	free(builder->ends);
	builder->ends = NULL;
}

static void clear(struct buf *buf)
{
	buf->len = 0;
	if (buf->cap > KEEP_BYTES)
		buf_free(buf);
}

void frame_builder_reset(struct frame_builder *builder)
{
	clear(&builder->headers);
	clear(&builder->payloads);
	clear(&builder->table);
	clear(&builder->raw);
}

static size_t block_bytes_for(const struct frame_builder *builder, uint64_t bytes)
{
	if (builder->compress || bytes / BLOCKS_WANTED > BLOCK_RAW_MAX)
		return BLOCK_RAW_MAX;
	size_t each = (size_t)(bytes / BLOCKS_WANTED);
	return each > BLOCK_RAW_LEAST ? each : BLOCK_RAW_LEAST;
}

static void forget_frame(struct frame_builder *builder)
{
	builder->table.len = 0;
	builder->raw.len = 0;
	builder->payload_start = builder->payloads.len;
	builder->entry_count = 0;
	builder->block_entries = 0;
}

void frame_builder_begin(struct frame_builder *builder, uint64_t bytes)
{
	forget_frame(builder);
	builder->block_bytes = block_bytes_for(builder, bytes);
}

void frame_builder_cancel(struct frame_builder *builder)
{
	builder->payloads.len = builder->payload_start;
	forget_frame(builder);
}

/* Tries LZ4 on the raw bytes that stand at the end of payloads; keeps the result only if it is smaller. */
static int compress_tail(struct frame_builder *builder, size_t at, uint32_t raw_bytes, uint32_t *ret_stored)
{
	*ret_stored = raw_bytes;
	if (!builder->compress || raw_bytes < builder->min_compression_size || raw_bytes > LZ4_MAX_INPUT_SIZE ||
		raw_bytes < 2)
		return 0;
	if (buf_reserve(&builder->payloads, raw_bytes) != 0)
		return -1;
	char *raw = (char *)builder->payloads.data + at;
	/* One byte less than raw is all the room it gets: a result that saves nothing is no result. */
	int packed = LZ4_compress_default(raw, raw + raw_bytes, (int)raw_bytes, (int)raw_bytes - 1);
	if (packed > 0) {
		memmove(raw, raw + raw_bytes, (size_t)packed);
		builder->payloads.len = at + (size_t)packed;
		*ret_stored = (uint32_t)packed;
	}
	return 0;
}

static int block_flush(struct frame_builder *builder)
{
	if (builder->block_entries == 0)
		return 0;
	size_t at = builder->payloads.len, ends_bytes = (size_t)4 * builder->block_entries;
	uint32_t raw_bytes = (uint32_t)(ends_bytes + builder->raw.len);
	if (buf_reserve(&builder->payloads, raw_bytes) != 0 || buf_reserve(&builder->table, FRAME_BLOCK_BYTES) != 0)
		return -1;
	for (uint32_t i = 0; i < builder->block_entries; i++)
		put_u32(builder->payloads.data + at + (size_t)4 * i, builder->ends[i]);
	if (builder->raw.len > 0)
		memcpy(builder->payloads.data + at + ends_bytes, builder->raw.data, builder->raw.len);
	builder->payloads.len += raw_bytes;
	uint32_t stored;
	if (compress_tail(builder, at, raw_bytes, &stored) != 0)
		return -1;
	uint8_t *row = builder->table.data + builder->table.len;
	put_u32(row, raw_bytes);
	put_u32(row + 4, stored);
	put_u32(row + 8, builder->block_entries);
	put_u32(row + 12, crc32c(0, builder->payloads.data + at, stored));
	builder->table.len += FRAME_BLOCK_BYTES;
	builder->block_entries = 0;
	builder->raw.len = 0;
	if (builder->raw.cap > KEEP_BYTES)
		buf_free(&builder->raw);
	return 0;
}

int frame_builder_add(struct frame_builder *builder, const uint8_t *bytes, size_t len)
{
	if (len > UINT32_MAX - 8)
		return -1;
	if (builder->block_entries > 0 &&
		((size_t)4 * (builder->block_entries + 1) + builder->raw.len + len > builder->block_bytes ||
			builder->block_entries == BLOCK_ENTRIES_MAX) &&
		block_flush(builder) != 0)
		return -1;
	if (buf_append(&builder->raw, bytes, len) != 0)
		return -1;
	builder->ends[builder->block_entries++] = (uint32_t)builder->raw.len;
	builder->entry_count++;
	return 0;
}

int frame_builder_finish(
	struct frame_builder *builder, const struct frame *frame, uint64_t salt, struct built_frame *ret_built)
{
	if (block_flush(builder) != 0)
		return -1;
	size_t stored = builder->payloads.len - builder->payload_start;
	size_t header_bytes = FRAME_FIXED_BYTES + builder->table.len + 4;
	uint64_t total = align_up(header_bytes + stored, FRAME_ALIGN);
	size_t pad = (size_t)(total - header_bytes - stored);
	if (header_bytes > FRAME_HEADER_MAX || buf_reserve(&builder->headers, header_bytes) != 0 ||
		buf_reserve(&builder->payloads, FRAME_ALIGN) != 0)
		return -1;
	memset(builder->payloads.data + builder->payloads.len, 0, pad);
	builder->payloads.len += pad;

	uint8_t *out = builder->headers.data + builder->headers.len;
	memset(out, 0, FRAME_FIXED_BYTES);
	memcpy(out, "IWFR", 4);
	put_u32(out + 4, (uint32_t)header_bytes);
	put_u64(out + 8, frame->offset);
	put_u64(out + 16, frame->first_id);
	put_u64(out + 24, frame->time_ns);
	put_u64(out + 32, frame->synced_end);
	put_u64(out + 40, salt);
	put_u64(out + 48, stored);
	put_u32(out + 56, builder->entry_count);
	put_u32(out + 60, (uint32_t)(builder->table.len / FRAME_BLOCK_BYTES));
	put_u32(out + 64, frame->prev_check);
	memcpy(out + FRAME_FIXED_BYTES, builder->table.data, builder->table.len);
	uint32_t check = crc32c(0, out, header_bytes - 4);
	put_u32(out + header_bytes - 4, check);

	*ret_built = (struct built_frame){
		.header_at = builder->headers.len,
		.header_bytes = header_bytes,
		.payload_at = builder->payload_start,
		.payload_bytes = stored + pad,
		.total_bytes = total,
		.check = check,
	};
	builder->headers.len += header_bytes;
	return 0;
}
