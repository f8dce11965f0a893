/*
 * checkpoint_format: the bytes of the checkpoint log, described here and nowhere else.
 *
 * Owns nothing: pure functions on the caller's memory, any thread may call them.
 * Invariant: what decodes was encoded by this module, for this file (salt) and this place (offset).
 *
 * ironwald.checkpoints is a header, then records, each at a multiple of 512, padded with zeros; behind the last one
 * zeros that were written ahead, or the end of the file. All numbers are little-endian.
 *
 *   Header, one sector                          Record
 *     0  8  magic "IWALCKP1"                      0  4  magic "IWCP"
 *     8  8  salt: random for each file            4  4  kind: 1 a checkpoint, 2 one that was lost, 3 nothing
 *    16  8  floor: the newest timestamp given     8  8  salt of the file
 *           before the file was made             16  8  offset at which it stands
 *    24  8  created_ns                           24  8  synced_end: the file was durable up to there when this was
 *    32     zeros                                       written
 *   508  4  CRC-32C of the 508 before it         32  8  timestamp, Unix time in nanoseconds, rising
 *                                                40 16  XXH3_128 of the id, low half first; zero: not known;
 *                                                       kind 3: bytes of the record (8), zero (8)
 *                                                56  4  shard_count
 *                                                60  4  id_bytes, 1 to 65535 (kinds 2, 3: 0)
 *                                                64 16  the hash of the record before (kinds 1, 2); zero: none
 *                                                80  4  CRC-32C of the content
 *                                                84  4  CRC-32C of the 84 before it
 *                                                88     content: id, zeros to a multiple of 8, and for each shard its
 *                                                       next id plus 1 (8)
 *
 * A record counts if and only if its header decodes; what it says may be used if and only if its content's checksum is
 * right too. The hash alone tells which id a record with a damaged content was for.
 * Where a record is written, the file was zeros, and a sector of the disk is old or new, never mixed: so a record of
 * which some sector is zeros, or which ends in zeros, may be torn, and any other broken one is damaged. That is why
 * next ids are stored with 1 added: neither a sector of them nor the last one is ever zeros. (An id of many zeros can
 * make such a sector; damage to that record, while it is the last, may be taken for a torn end.) The hash of the record
 * before says which id a record was for of which nothing is left. Kind 2 stands, after a compaction, for a record whose
 * content could not be read any more. Kind 3 takes the place of a torn record with whole ones behind it, and ends the
 * log at a clean stop: so its synced_end proves all before it.
 */
#ifndef IRONWALD_CHECKPOINT_FORMAT_H
#define IRONWALD_CHECKPOINT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHECKPOINT_SECTOR 512u
#define CHECKPOINT_HEADER_BYTES 88u
#define CHECKPOINT_ID_MAX 65535u
/* Of the largest: 65535 bytes of id, 65535 shards. */
#define CHECKPOINT_RECORD_MAX                                                                                          \
	((CHECKPOINT_HEADER_BYTES + CHECKPOINT_ID_MAX + 7u + 8u * 65535u + CHECKPOINT_SECTOR - 1u) /                   \
		CHECKPOINT_SECTOR * CHECKPOINT_SECTOR)

struct checkpoint_file {
	uint64_t salt, floor, created_ns;
};

void checkpoint_file_encode(const struct checkpoint_file *file, uint8_t out[CHECKPOINT_SECTOR]);
bool checkpoint_file_decode(const uint8_t bytes[CHECKPOINT_SECTOR], struct checkpoint_file *ret_file);

/* No later time is written, or believed. No clock comes so far: where a file says so all the same, what is created gets
 * that time again, and can be read. */
#define CHECKPOINT_TIME_MAX INT64_MAX

enum checkpoint_kind { CHECKPOINT_WHOLE = 1, CHECKPOINT_LOST = 2, CHECKPOINT_VOID = 3 };

struct checkpoint_hash {
	uint64_t low, high; /* both 0: not known */
};

struct checkpoint_hash checkpoint_hash_of(const void *id, size_t len);

struct checkpoint_record {
	enum checkpoint_kind kind;
	uint64_t salt, offset, synced_end, timestamp;
	struct checkpoint_hash hash, hash_before;
	uint32_t shard_count, id_bytes;
	uint64_t void_bytes; /* of a void one; a multiple of the sector */
	uint32_t content_crc;
};

uint64_t checkpoint_bytes_of(const struct checkpoint_record *record);
/* Of a checkpoint, with the padding; 0 and 0: of a lost one. */
size_t checkpoint_record_bytes(uint32_t shard_count, uint32_t id_bytes);

/* All of it into out, checkpoint_record_bytes long (CHECKPOINT_VOID: one sector). Fills in content_crc. id and next_ids
 * (shard_count of them) are used for CHECKPOINT_WHOLE only. */
void checkpoint_record_encode(struct checkpoint_record *record, const void *id, const uint64_t *next_ids, uint8_t *out);

/* The same content at another place: the header is made anew in bytes. */
void checkpoint_record_move(struct checkpoint_record *record, uint64_t salt, uint64_t offset, uint8_t *bytes);

/* The header of a record that stands at offset. salt 0: whatever salt it has. */
bool checkpoint_record_decode(const uint8_t bytes[CHECKPOINT_HEADER_BYTES], uint64_t salt, uint64_t offset,
	struct checkpoint_record *ret_record);

/* bytes: the whole record, as long as its header says. */
bool checkpoint_content_is_whole(const struct checkpoint_record *record, const uint8_t *bytes);
const uint8_t *checkpoint_record_id(const uint8_t *bytes);
/* Of a whole content. */
uint64_t checkpoint_record_next_id(const struct checkpoint_record *record, const uint8_t *bytes, uint32_t shard);

#endif
