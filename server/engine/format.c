#include "format.h"

#include <endian.h>
#include <lz4.h>
#include <string.h>

#include "crc32c.h"

static const char segment_magic[8] = "IWALSEG1";
static const char frame_magic[4] = "IWFR";

uint32_t get_u32(const void *from)
{
	uint32_t value;
	memcpy(&value, from, 4);
	return le32toh(value);
}

uint64_t get_u64(const void *from)
{
	uint64_t value;
	memcpy(&value, from, 8);
	return le64toh(value);
}

void put_u16(void *to, uint16_t value)
{
	value = htole16(value);
	memcpy(to, &value, 2);
}

void put_u32(void *to, uint32_t value)
{
	value = htole32(value);
	memcpy(to, &value, 4);
}

void put_u64(void *to, uint64_t value)
{
	value = htole64(value);
	memcpy(to, &value, 8);
}

size_t segment_header_encode(struct segment_header *header, uint8_t out[SEGMENT_HEADER_MAX])
{
	size_t len = align_up(SEGMENT_HEADER_FIXED + header->name_len + 4u, FRAME_ALIGN);
	memset(out, 0, len);
	memcpy(out, segment_magic, 8);
	put_u32(out + 8, FORMAT_VERSION);
	put_u32(out + 12, (uint32_t)len);
	put_u64(out + 16, header->first_id);
	put_u64(out + 24, header->salt);
	put_u64(out + 32, header->created_ns);
	put_u32(out + 40, header->prev_check);
	put_u16(out + 44, header->name_len);
	memcpy(out + SEGMENT_HEADER_FIXED, header->name, header->name_len);
	header->header_bytes = (uint32_t)len;
	header->check = crc32c(0, out, len - 4);
	put_u32(out + len - 4, header->check);
	return len;
}

enum header_result segment_header_decode(const uint8_t *bytes, size_t len, struct segment_header *ret_header)
{
	if (len < SEGMENT_HEADER_FIXED + 4 || memcmp(bytes, segment_magic, 8) != 0)
		return HEADER_BAD;
	uint32_t header_bytes = get_u32(bytes + 12);
	if (header_bytes < SEGMENT_HEADER_FIXED + 4 || header_bytes > len || header_bytes > SEGMENT_HEADER_MAX)
		return HEADER_BAD;
	uint32_t check = get_u32(bytes + header_bytes - 4);
	if (crc32c(0, bytes, header_bytes - 4) != check)
		return HEADER_BAD;
	if (get_u32(bytes + 8) != FORMAT_VERSION)
		return HEADER_VERSION;
	uint16_t name_len = (uint16_t)(bytes[44] | bytes[45] << 8);
	if (name_len == 0 || name_len > 255 ||
		align_up(SEGMENT_HEADER_FIXED + name_len + 4u, FRAME_ALIGN) != header_bytes)
		return HEADER_BAD;
	*ret_header = (struct segment_header){
		.header_bytes = header_bytes,
		.first_id = get_u64(bytes + 16),
		.salt = get_u64(bytes + 24),
		.created_ns = get_u64(bytes + 32),
		.prev_check = get_u32(bytes + 40),
		.check = check,
		.name_len = name_len,
	};
	memcpy(ret_header->name, bytes + SEGMENT_HEADER_FIXED, name_len);
	return HEADER_OK;
}

bool frame_decode_fixed(const uint8_t bytes[FRAME_FIXED_BYTES], uint64_t salt, uint64_t offset, struct frame *ret_frame)
{
	if (memcmp(bytes, frame_magic, 4) != 0 || get_u64(bytes + 40) != salt || get_u64(bytes + 8) != offset)
		return false;
	struct frame frame = {
		.offset = offset,
		.header_bytes = get_u32(bytes + 4),
		.first_id = get_u64(bytes + 16),
		.time_ns = get_u64(bytes + 24),
		.synced_end = get_u64(bytes + 32),
		.stored_bytes = get_u64(bytes + 48),
		.entry_count = get_u32(bytes + 56),
		.block_count = get_u32(bytes + 60),
		.prev_check = get_u32(bytes + 64),
	};
	uint32_t ext_bytes = get_u32(bytes + 88);
	uint64_t expected =
		FRAME_FIXED_BYTES + (uint64_t)ext_bytes + (uint64_t)FRAME_BLOCK_BYTES * frame.block_count + 4;
	if (frame.block_count == 0 || frame.block_count > frame.entry_count || frame.header_bytes != expected ||
		expected > FRAME_HEADER_MAX || frame.stored_bytes > UINT64_C(1) << 40 || frame.synced_end > offset ||
		frame.first_id > UINT64_MAX - frame.entry_count)
		return false;
	frame.table_offset = FRAME_FIXED_BYTES + ext_bytes;
	frame.total_bytes = align_up(frame.header_bytes + frame.stored_bytes, FRAME_ALIGN);
	*ret_frame = frame;
	return true;
}

bool frame_check_header(const uint8_t *header, struct frame *frame)
{
	uint32_t check = get_u32(header + frame->header_bytes - 4);
	if (crc32c(0, header, frame->header_bytes - 4) != check)
		return false;
	uint64_t stored = 0, entries = 0;
	for (uint32_t i = 0; i < frame->block_count; i++) {
		struct block block = frame_block(header, frame, i);
		/* LZ4 packs 255 bytes into one at best: so memory follows what is there, not what is announced. */
		if (block.entry_count == 0 || block.stored_bytes > block.raw_bytes ||
			block.raw_bytes / 255 > block.stored_bytes || (uint64_t)block.entry_count * 4 > block.raw_bytes)
			return false;
		stored += block.stored_bytes;
		entries += block.entry_count;
	}
	if (stored != frame->stored_bytes || entries != frame->entry_count)
		return false;
	frame->check = check;
	return true;
}

void frame_move(uint8_t *header, struct frame *frame, uint64_t salt, uint64_t offset, uint32_t prev_check)
{
	frame->offset = offset;
	frame->synced_end = 0; /* whoever writes it there makes it durable before it is named */
	frame->prev_check = prev_check;
	put_u64(header + 8, offset);
	put_u64(header + 32, frame->synced_end);
	put_u64(header + 40, salt);
	put_u32(header + 64, prev_check);
	frame->check = crc32c(0, header, frame->header_bytes - 4);
	put_u32(header + frame->header_bytes - 4, frame->check);
}

struct block frame_block(const uint8_t *header, const struct frame *frame, uint32_t index)
{
	const uint8_t *at = header + frame->table_offset + (size_t)FRAME_BLOCK_BYTES * index;
	return (struct block){
		.raw_bytes = get_u32(at),
		.stored_bytes = get_u32(at + 4),
		.entry_count = get_u32(at + 8),
		.crc = get_u32(at + 12),
	};
}

bool block_unpack(const struct block *block, const uint8_t *stored, uint8_t *raw)
{
	if (block->stored_bytes == block->raw_bytes) {
		memcpy(raw, stored, block->raw_bytes);
		return true;
	}
	if (block->raw_bytes > LZ4_MAX_INPUT_SIZE)
		return false;
	int got =
		LZ4_decompress_safe((const char *)stored, (char *)raw, (int)block->stored_bytes, (int)block->raw_bytes);
	return got >= 0 && (uint32_t)got == block->raw_bytes;
}

bool block_check_ends(const struct block *block, const uint8_t *raw)
{
	uint32_t data_bytes = block->raw_bytes - 4 * block->entry_count;
	uint32_t last = 0;
	for (uint32_t i = 0; i < block->entry_count; i++) {
		uint32_t end = get_u32(raw + (size_t)4 * i);
		if (end < last || end > data_bytes)
			return false;
		last = end;
	}
	return last == data_bytes;
}

void block_entry(
	const struct block *block, const uint8_t *raw, uint32_t index, const uint8_t **ret_bytes, size_t *ret_len)
{
	uint32_t begin = index == 0 ? 0 : get_u32(raw + (size_t)4 * (index - 1));
	uint32_t end = get_u32(raw + (size_t)4 * index);
	*ret_bytes = raw + (size_t)4 * block->entry_count + begin;
	*ret_len = end - begin;
}
