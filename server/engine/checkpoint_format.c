#include "checkpoint_format.h"

#include <string.h>
#include <xxhash.h>

#include "crc32c.h"
#include "format.h"

static const char file_magic[8] = {'I', 'W', 'A', 'L', 'C', 'K', 'P', '1'};
static const char record_magic[4] = {'I', 'W', 'C', 'P'};

void checkpoint_file_encode(const struct checkpoint_file *file, uint8_t out[CHECKPOINT_SECTOR])
{
	memset(out, 0, CHECKPOINT_SECTOR);
	memcpy(out, file_magic, sizeof(file_magic));
	put_u64(out + 8, file->salt);
	put_u64(out + 16, file->floor);
	put_u64(out + 24, file->created_ns);
	put_u32(out + CHECKPOINT_SECTOR - 4, crc32c(0, out, CHECKPOINT_SECTOR - 4));
}

bool checkpoint_file_decode(const uint8_t bytes[CHECKPOINT_SECTOR], struct checkpoint_file *ret_file)
{
	if (memcmp(bytes, file_magic, sizeof(file_magic)) != 0 ||
		get_u32(bytes + CHECKPOINT_SECTOR - 4) != crc32c(0, bytes, CHECKPOINT_SECTOR - 4) ||
		get_u64(bytes + 16) > CHECKPOINT_TIME_MAX)
		return false;
	*ret_file = (struct checkpoint_file){get_u64(bytes + 8), get_u64(bytes + 16), get_u64(bytes + 24)};
	return true;
}

struct checkpoint_hash checkpoint_hash_of(const void *id, size_t len)
{
	XXH128_hash_t hash = XXH3_128bits(id, len);
	return (struct checkpoint_hash){hash.low64, hash.high64};
}

static size_t next_ids_at(uint32_t id_bytes)
{
	return (size_t)align_up(CHECKPOINT_HEADER_BYTES + (uint64_t)id_bytes, 8);
}

static size_t content_end(uint32_t shard_count, uint32_t id_bytes)
{
	return next_ids_at(id_bytes) + (size_t)8 * shard_count;
}

size_t checkpoint_record_bytes(uint32_t shard_count, uint32_t id_bytes)
{
	return (size_t)align_up(content_end(shard_count, id_bytes), CHECKPOINT_SECTOR);
}

uint64_t checkpoint_bytes_of(const struct checkpoint_record *record)
{
	return record->kind == CHECKPOINT_VOID ? record->void_bytes
					       : checkpoint_record_bytes(record->shard_count, record->id_bytes);
}

static uint32_t content_crc(const struct checkpoint_record *record, const uint8_t *bytes)
{
	return crc32c(0, bytes + CHECKPOINT_HEADER_BYTES,
		content_end(record->shard_count, record->id_bytes) - CHECKPOINT_HEADER_BYTES);
}

static void put_header(const struct checkpoint_record *record, uint8_t *out)
{
	memcpy(out, record_magic, sizeof(record_magic));
	put_u32(out + 4, record->kind);
	put_u64(out + 8, record->salt);
	put_u64(out + 16, record->offset);
	put_u64(out + 24, record->synced_end);
	put_u64(out + 32, record->timestamp);
	put_u64(out + 40, record->kind == CHECKPOINT_VOID ? record->void_bytes : record->hash.low);
	put_u64(out + 48, record->kind == CHECKPOINT_VOID ? 0 : record->hash.high);
	put_u32(out + 56, record->shard_count);
	put_u32(out + 60, record->id_bytes);
	put_u64(out + 64, record->hash_before.low);
	put_u64(out + 72, record->hash_before.high);
	put_u32(out + 80, record->content_crc);
	put_u32(out + 84, crc32c(0, out, 84));
}

void checkpoint_record_encode(struct checkpoint_record *record, const void *id, const uint64_t *next_ids, uint8_t *out)
{
	memset(out, 0, checkpoint_record_bytes(record->shard_count, record->id_bytes));
	if (record->kind == CHECKPOINT_WHOLE) {
		memcpy(out + CHECKPOINT_HEADER_BYTES, id, record->id_bytes);
		uint8_t *at = out + next_ids_at(record->id_bytes);
		for (uint32_t i = 0; i < record->shard_count; i++)
			put_u64(at + (size_t)8 * i, next_ids[i] + 1);
	}
	record->content_crc = content_crc(record, out);
	put_header(record, out);
}

void checkpoint_record_move(struct checkpoint_record *record, uint64_t salt, uint64_t offset, uint8_t *bytes)
{
	record->salt = salt;
	record->offset = offset;
	/* All before it is durable when the new file takes the old one's place. */
	record->synced_end = offset;
	put_header(record, bytes);
}

bool checkpoint_record_decode(const uint8_t bytes[CHECKPOINT_HEADER_BYTES], uint64_t salt, uint64_t offset,
	struct checkpoint_record *ret_record)
{
	if (memcmp(bytes, record_magic, sizeof(record_magic)) != 0 || get_u32(bytes + 84) != crc32c(0, bytes, 84))
		return false;
	uint32_t kind = get_u32(bytes + 4);
	struct checkpoint_record record = {
		.kind = (enum checkpoint_kind)kind,
		.salt = get_u64(bytes + 8),
		.offset = get_u64(bytes + 16),
		.synced_end = get_u64(bytes + 24),
		.timestamp = get_u64(bytes + 32),
		.hash = {get_u64(bytes + 40), get_u64(bytes + 48)},
		.shard_count = get_u32(bytes + 56),
		.id_bytes = get_u32(bytes + 60),
		.hash_before = {get_u64(bytes + 64), get_u64(bytes + 72)},
		.content_crc = get_u32(bytes + 80),
	};
	bool whole = kind == CHECKPOINT_WHOLE && record.id_bytes >= 1 && record.id_bytes <= CHECKPOINT_ID_MAX &&
		     record.shard_count <= 65535;
	bool lost = kind == CHECKPOINT_LOST && record.id_bytes == 0 && record.shard_count == 0;
	bool nothing = kind == CHECKPOINT_VOID && record.id_bytes == 0 && record.shard_count == 0 &&
		       record.hash.low >= CHECKPOINT_SECTOR && record.hash.low % CHECKPOINT_SECTOR == 0 &&
		       record.hash.low < UINT64_MAX / 2;
	if (nothing) {
		record.void_bytes = record.hash.low;
		record.hash = (struct checkpoint_hash){0};
	}
	if ((!whole && !lost && !nothing) || record.offset != offset || (salt != 0 && record.salt != salt) ||
		record.synced_end > offset || record.timestamp > CHECKPOINT_TIME_MAX)
		return false;
	*ret_record = record;
	return true;
}

bool checkpoint_content_is_whole(const struct checkpoint_record *record, const uint8_t *bytes)
{
	return content_crc(record, bytes) == record->content_crc;
}

const uint8_t *checkpoint_record_id(const uint8_t *bytes)
{
	return bytes + CHECKPOINT_HEADER_BYTES;
}

uint64_t checkpoint_record_next_id(const struct checkpoint_record *record, const uint8_t *bytes, uint32_t shard)
{
	return get_u64(bytes + next_ids_at(record->id_bytes) + (size_t)8 * shard) - 1;
}
