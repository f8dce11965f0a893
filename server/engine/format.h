/*
 * format: the bytes of a segment file. Pure functions over memory; any thread may call them.
 * Invariant: what a function here accepts was written by this program for exactly this segment and this place in it.
 *
 *   +----------------+---------+---------+-- ... --+---------+-----------------------------+
 *   | segment header | frame 0 | frame 1 |         | frame n | zeros, written ahead        |
 *   +----------------+---------+---------+-- ... --+---------+-----------------------------+
 *
 * Little-endian. Every frame begins at a multiple of 8, padded with zeros before the next.
 *
 * Segment header                                    Frame
 *   0  8  magic "IWALSEG1"                            0  4  magic "IWFR"
 *   8  4  version, 1                                  4  4  header_bytes: up to and with its checksum
 *  12  4  header_bytes, a multiple of 8               8  8  offset: its own, from the start of the file
 *  16  8  first_id                                   16  8  first_id
 *  24  8  salt: random, of this file alone           24  8  time_ns: Unix time when it was written
 *  32  8  created_ns: Unix time                      32  8  synced_end: the segment was known to be durable up to here
 *  40  4  prev_check: of the last frame of the       40  8  salt: the segment's
 *         segment before, 0 if there is none         48  8  stored_bytes: sum over the blocks
 *  44  2  name_bytes                                 56  4  entry_count, at least 1
 *  46  2  zero                                       60  4  block_count, 1 to entry_count
 *  48  n  name of the stream                         64  4  prev_check: checksum of the frame before, or of the
 *      .  zeros                                             segment header for the first
 *  -4  4  CRC-32C of the header before it            68  4  flags, zero
 *                                                    72  8  producer_id     \ room for deduplication; zero
 *                                                    80  8  producer_seq    /
 *                                                    88  4  ext_bytes: of an extension that readers skip, zero
 *                                                    92  4  zero
 *                                                    96  e  extension
 *                                                     .  16 * block_count: the blocks
 *                                                    -4  4  CRC-32C of the header before it: the frame's "check"
 *                                                           blocks as stored, one behind the other
 *                                                           zeros up to a multiple of 8
 * Block in the header: raw_bytes, stored_bytes, entry_count, CRC-32C of the stored bytes (4 bytes each).
 * stored_bytes < raw_bytes (by no more than 255 to 1): an LZ4 block; equal: as it is. Raw: entry_count ends (u32, each
 * from the start of the data), then the entries' bytes. At most 32 KiB raw, or one entry.
 *
 * A frame is valid if and only if: magic, salt and offset are its own, prev_check is the check of what stands before
 * it, first_id is the id after the frame before, and all checksums are right. offset and salt together keep out copies:
 * bytes of a segment that a client stored as an entry stand at another offset than they say, or in a file of another
 * salt.
 */
#ifndef IRONWALD_FORMAT_H
#define IRONWALD_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FORMAT_VERSION 1u
#define FRAME_ALIGN 8u
#define FRAME_FIXED_BYTES 96u
#define FRAME_BLOCK_BYTES 16u
#define FRAME_HEADER_MIN (FRAME_FIXED_BYTES + FRAME_BLOCK_BYTES + 4u)
#define FRAME_HEADER_MAX (64u << 20)
#define BLOCK_RAW_MAX (32u << 10)
#define SEGMENT_HEADER_FIXED 48u
#define SEGMENT_HEADER_MAX 312u /* with a name of 255 bytes */

static inline uint64_t align_up(uint64_t value, uint64_t align)
{
	return (value + align - 1) / align * align;
}

uint32_t get_u32(const void *from);
uint64_t get_u64(const void *from);
void put_u16(void *to, uint16_t value);
void put_u32(void *to, uint32_t value);
void put_u64(void *to, uint64_t value);

struct segment_header {
	uint32_t header_bytes;
	uint64_t first_id, salt, created_ns;
	uint32_t prev_check;
	uint32_t check; /* its checksum: prev_check of the first frame */
	uint16_t name_len;
	char name[256];
};

/* Writes the header for name, first_id, salt, created_ns, prev_check; sets header_bytes and check. Returns its length.
 */
size_t segment_header_encode(struct segment_header *header, uint8_t out[SEGMENT_HEADER_MAX]);

enum header_result { HEADER_OK, HEADER_BAD, HEADER_VERSION };

/* len: how many bytes of the file's start are there. HEADER_VERSION: whole, but of a version that is not served. */
enum header_result segment_header_decode(const uint8_t *bytes, size_t len, struct segment_header *ret_header);

struct frame {
	uint64_t offset, first_id, time_ns, synced_end, stored_bytes;
	uint32_t header_bytes, entry_count, block_count, prev_check, check;
	uint32_t table_offset; /* of the blocks, from the frame's start */
	uint64_t total_bytes;  /* with padding */
};

struct block {
	uint32_t raw_bytes, stored_bytes, entry_count, crc;
};

/* The fixed part at `offset` of a segment with that salt: magic, salt, offset, and lengths that are possible. check is
 * not set yet. */
bool frame_decode_fixed(
	const uint8_t bytes[FRAME_FIXED_BYTES], uint64_t salt, uint64_t offset, struct frame *ret_frame);

/* The whole header (frame->header_bytes of it): checksum, and blocks that add up. Sets check. */
bool frame_check_header(const uint8_t *header, struct frame *frame);

/* The same frame, whose header this is, at another place: the header, but not its blocks, is made anew. Sets offset,
 * prev_check, synced_end and check of *frame. */
void frame_move(uint8_t *header, struct frame *frame, uint64_t salt, uint64_t offset, uint32_t prev_check);

struct block frame_block(const uint8_t *header, const struct frame *frame, uint32_t index);

/* Stored bytes, already checked, into raw ones (block->raw_bytes of room). False if they do not unpack to what the
 * header says. */
bool block_unpack(const struct block *block, const uint8_t *stored, uint8_t *raw);

/* The ends of a raw block rise and stay inside. */
bool block_check_ends(const struct block *block, const uint8_t *raw);

/* Entry index < entry_count of a raw block that passed block_check_ends. */
void block_entry(
	const struct block *block, const uint8_t *raw, uint32_t index, const uint8_t **ret_bytes, size_t *ret_len);

#endif
