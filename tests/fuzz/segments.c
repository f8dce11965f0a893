#include "segments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "disk.h"
#include "frame_builder.h"
#include "names.h"

/* In the names of files ids stay below those at which numbers end: no stream comes to so many, and there is no room for
 * "one more" behind the last. */
#define IDS_MASK (UINT64_MAX >> 2)

static struct made_segment *last_of(struct segments *segments)
{
	return &segments->list[segments->count - 1];
}

static void begin_segment(struct segments *segments, uint64_t first_id, uint32_t prev_check)
{
	if (segments->count == SEGMENTS_MAX)
		return;
	struct made_segment *made = &segments->list[segments->count++];
	segments->salts = segments->salts * UINT64_C(0x9e3779b97f4a7c15) + 12345;
	*made = (struct made_segment){.first_id = first_id, .next_id = first_id, .salt = segments->salts};
	made->bytes = fuzz_alloc(SEGMENT_BYTES_MAX);
	struct segment_header header = {.first_id = first_id,
		.salt = made->salt,
		.created_ns = 1,
		.prev_check = prev_check,
		.name_len = (uint16_t)segments->name_len};
	memcpy(header.name, segments->name, segments->name_len);
	made->header_bytes = made->len = segment_header_encode(&header, made->bytes);
	made->check = header.check;
}

void segments_init(struct segments *segments, bool long_name, uint64_t first_id)
{
	*segments = (struct segments){.salts = 7};
	segments->name_len = long_name ? 250 : 1;
	memset(segments->name, 's', segments->name_len);
	(void)dirname_from_name(segments->name, segments->name_len, segments->dir);
	begin_segment(segments, first_id & IDS_MASK, 0);
}

void segments_free(struct segments *segments)
{
	for (unsigned i = 0; i < segments->count; i++) {
		free(segments->list[i].bytes);
		index_clear(&segments->list[i].index);
	}
}

/* ---- building ---------------------------------------------------------------------------------------------------- */

static struct frame_builder *builder_of(bool compress)
{
	static struct frame_builder builders[2];
	static bool made[2];
	if (!made[compress])
		FUZZ_CHECK(
			frame_builder_init(&builders[compress], compress ? COMPRESSION_LZ4 : COMPRESSION_NONE, 16) == 0,
			"no memory for the fuzzer itself");
	made[compress] = true;
	frame_builder_reset(&builders[compress]);
	return &builders[compress];
}

struct wanted {
	unsigned entries;
	size_t entry_bytes;
	uint8_t fill;
	bool compress;
	uint64_t synced_end;
};

static void add_frame(struct made_segment *made, const struct wanted *wanted)
{
	static uint8_t entry[4096];
	struct frame_builder *builder = builder_of(wanted->compress);
	struct built_frame built;
	size_t most = 200 + wanted->entries * (wanted->entry_bytes + 4) * 2;
	if (made->frame_count == SEGMENT_FRAMES_MAX || made->len + most > SEGMENT_BYTES_MAX)
		return;
	size_t pad = (size_t)align_up(made->len, FRAME_ALIGN) - made->len;
	memset(made->bytes + made->len, 0, pad);
	made->len += pad;
	frame_builder_begin(builder, 0);
	for (unsigned i = 0; i < wanted->entries; i++) {
		memset(entry, wanted->fill, wanted->entry_bytes);
		entry[0] = (uint8_t)(made->next_id + i);
		FUZZ_CHECK(
			frame_builder_add(builder, entry, wanted->entry_bytes) == 0, "no memory for the fuzzer itself");
	}
	struct frame frame = {.offset = made->len,
		.first_id = made->next_id,
		.time_ns = 2,
		.synced_end = wanted->synced_end,
		.prev_check = made->check};
	FUZZ_CHECK(frame_builder_finish(builder, &frame, made->salt, &built) == 0, "no memory for the fuzzer itself");
	unsigned number = made->frame_count++;
	made->frames[number].at = made->len;
	made->frames[number].len = (size_t)built.total_bytes;
	made->frames[number].first_id = made->next_id;
	made->frames[number].prev_check = made->check;
	memcpy(made->bytes + made->len, builder->headers.data + built.header_at, built.header_bytes);
	memcpy(made->bytes + made->len + built.header_bytes, builder->payloads.data + built.payload_at,
		(size_t)built.total_bytes - built.header_bytes);
	made->len += (size_t)built.total_bytes;
	made->next_id += wanted->entries;
	made->check = built.check;
}

static uint64_t some_synced_end(const struct made_segment *made, struct fuzz_in *in)
{
	uint8_t how = fuzz_u8(in);
	switch (how % 4) {
	case 0:
		return 0;
	case 1:
		return made->len;
	case 2:
		return made->frame_count > 0 ? made->frames[how / 4 % made->frame_count].at : made->header_bytes;
	default:
		return fuzz_uint(in, 2) % (made->len + 1);
	}
}

bool segments_build(struct segments *segments, struct fuzz_in *in)
{
	struct made_segment *made = last_of(segments);
	struct wanted wanted = {.entries = 1};
	uint8_t how = fuzz_u8(in), more;
	switch (how % 8) {
	case 0: /* that was all */
		return false;
	case 1:
	case 2:
	case 3:
		wanted.entries = 1 + (how >> 3) % 4;
		wanted.entry_bytes = fuzz_u8(in);
		break;
	case 4: /* several blocks */
		wanted.entries = 1 + fuzz_u8(in) % 40;
		wanted.entry_bytes = 8 * (size_t)fuzz_u8(in);
		break;
	case 5: /* the next segment */
		begin_segment(segments, made->next_id, made->check);
		return fuzz_more(in);
	case 6: /* the same, and ids are missing, or there twice; or it does not follow */
		more = fuzz_u8(in) % 9;
		segments->forged |= more < 4;
		begin_segment(segments, made->next_id + more - 4, how & 8 ? made->check : 99);
		return fuzz_more(in);
	default: /* written ahead: the next frame takes its place */
		if (made->len + 4096 <= SEGMENT_BYTES_MAX && made->ahead == 0) {
			made->ahead = (size_t)align_up(made->len, 512) - made->len + (how >> 3) % 8 * 512u;
			memset(made->bytes + made->len, 0, made->ahead);
			made->len += made->ahead;
		}
		return fuzz_more(in);
	}
	made->len -= made->ahead;
	made->ahead = 0;
	wanted.fill = fuzz_u8(in);
	wanted.compress = how & 128;
	wanted.synced_end = some_synced_end(made, in);
	add_frame(made, &wanted);
	return fuzz_more(in);
}

/* ---- damaging ---------------------------------------------------------------------------------------------------- */

static void fix_header(uint8_t *bytes, size_t len)
{
	uint32_t header = fuzz_get32(bytes + 4);
	if (header >= 8 && header <= len)
		fuzz_put32(bytes + header - 4, crc32c(0, bytes, header - 4));
}

/* The checksums of a frame, of what stands there now. */
static void fix_frame(struct made_segment *made, unsigned number)
{
	uint8_t *frame = made->bytes + made->frames[number].at;
	size_t len = made->len > made->frames[number].at ? made->len - made->frames[number].at : 0;
	if (len < FRAME_HEADER_MIN)
		return;
	uint32_t header = fuzz_get32(frame + 4), blocks = fuzz_get32(frame + 60), ext = fuzz_get32(frame + 88);
	size_t at = header;
	for (uint32_t i = 0; i < blocks && i < 64 && header <= len; i++) {
		size_t row = FRAME_FIXED_BYTES + (size_t)ext + (size_t)16 * i;
		if (row + 16 > header)
			break;
		uint32_t stored = fuzz_get32(frame + row + 4);
		if (stored > len - at)
			break;
		fuzz_put32(frame + row + 12, crc32c(0, frame + at, stored));
		at += stored;
	}
	fix_header(frame, len);
}

static void overwrite(struct made_segment *made, size_t at, struct fuzz_in *in, size_t wanted)
{
	size_t len;
	const uint8_t *bytes = fuzz_take(in, wanted, &len);
	if (at < made->len)
		memcpy(made->bytes + at, bytes, len < made->len - at ? len : made->len - at);
}

/* A field of a frame's header, or bytes of its payload. */
static void change_frame(struct made_segment *made, struct fuzz_in *in, uint8_t how)
{
	static const uint8_t fields[] = {0, 4, 8, 16, 24, 32, 40, 48, 56, 60, 64, 68, 88, 92, 96, 100, 104, 108};
	if (made->frame_count == 0)
		return;
	unsigned number = fuzz_u8(in) % made->frame_count;
	size_t at = made->frames[number].at;
	uint8_t where = fuzz_u8(in);
	if (where < 128) {
		at += fields[where % sizeof(fields)];
		if (where >= 96) { /* a number that is near */
			if (at + 4 <= made->len)
				fuzz_put32(made->bytes + at, fuzz_get32(made->bytes + at) + fuzz_u8(in) % 9 - 4);
		} else if (where >= 64) {
			uint64_t number64 = fuzz_number(in);
			if (at + 8 <= made->len)
				fuzz_put64(made->bytes + at, number64);
		} else {
			overwrite(made, at, in, 1 + how % 8);
		}
	} else {
		overwrite(made, at + (where - 128) * 4u, in, 1 + how % 8);
	}
	if (how & 16)
		fix_frame(made, number);
}

static void change_header(struct made_segment *made, struct fuzz_in *in, uint8_t how)
{
	size_t at = fuzz_u8(in) % made->header_bytes;
	overwrite(made, at, in, 1 + how % 8);
	uint32_t header = made->len >= 16 ? fuzz_get32(made->bytes + 12) : 0;
	if ((how & 16) && header >= 16 && header <= made->len)
		fuzz_put32(made->bytes + header - 4, crc32c(0, made->bytes, header - 4));
}

static void copy_range(struct made_segment *made, struct fuzz_in *in)
{
	size_t from = fuzz_uint(in, 2) * 8u, to = fuzz_uint(in, 2) * 8u, len = 8u * fuzz_u8(in);
	if (from >= made->len || to >= made->len)
		return;
	len = len < made->len - from ? len : made->len - from;
	len = len < made->len - to ? len : made->len - to;
	memmove(made->bytes + to, made->bytes + from, len);
}

static void zero_sectors(struct made_segment *made, struct fuzz_in *in)
{
	size_t at = (size_t)fuzz_u8(in) * 512, len = (1 + fuzz_u8(in) % 4) * 512u;
	if (at < made->len)
		memset(made->bytes + at, 0, len < made->len - at ? len : made->len - at);
}

static void add_index(struct segments *segments, struct made_segment *made, struct fuzz_in *in, uint8_t how)
{
	struct index_point point;
	if (made->frame_count == 0)
		return;
	unsigned number = fuzz_u8(in) % made->frame_count;
	point = (struct index_point){
		made->frames[number].first_id, made->frames[number].at, made->frames[number].prev_check};
	if (how & 16)
		point.id += fuzz_u8(in) % 9 - 4;
	if (how & 32)
		point.offset = fuzz_number(in) * 8;
	if (how & 64)
		point.prev_check = (uint32_t)fuzz_number(in);
	segments->forged |= (how & (16 | 32 | 64)) != 0;
	/* index_note would want them far from each other. */
	struct index *index = &made->index;
	struct index_point *points = realloc(index->points, (index->count + 1) * sizeof(*points));
	FUZZ_CHECK(points != NULL, "no memory for the fuzzer itself");
	points[index->count++] = point;
	index->points = points;
	index->cap = index->count;
}

void segments_damage(struct segments *segments, struct fuzz_in *in)
{
	uint8_t how = fuzz_u8(in);
	struct made_segment *made = &segments->list[fuzz_u8(in) % segments->count];
	size_t at;
	switch (how % 12) {
	case 0:
	case 1:
	case 2:
		change_frame(made, in, how / 12 * 13u & 0xff);
		segments->forged |= how / 12 * 13u & 16;
		break;
	case 3:
		change_header(made, in, how / 12 * 13u & 0xff);
		segments->forged |= how / 12 * 13u & 16;
		break;
	case 4: /* a bit, anywhere */
		at = fuzz_uint(in, 2);
		if (made->len > 0)
			made->bytes[at % made->len] ^= (uint8_t)(1u << (how / 12) % 8);
		break;
	case 5: /* cut short */
		at = fuzz_uint(in, 2);
		made->len = at % (made->len + 1);
		break;
	case 6:
		zero_sectors(made, in);
		break;
	case 7:
		copy_range(made, in);
		break;
	case 8: /* rubbish behind the end */
		at = made->len;
		if (made->len + 64 <= SEGMENT_BYTES_MAX) {
			made->len += 1 + how / 12 * 3u;
			memset(made->bytes + at, 0, made->len - at);
			overwrite(made, at, in, made->len - at);
		}
		break;
	case 9:
	case 10:
		add_index(segments, made, in, how / 12 * 13u & 0xff);
		break;
	default: /* gone, or set aside before, or of another name */
		if (how / 12 % 3 == 0)
			made->is_missing = true;
		else if (how / 12 % 3 == 1)
			made->first_id += fuzz_u8(in) % 9 - 4;
		else
			made->is_cut = true;
		segments->forged |= !made->is_missing;
		made->cut_end = made->is_cut ? made->first_id + fuzz_u8(in) % 16 : 0;
		break;
	}
}

void segments_write(const struct segments *segments, struct io *io)
{
	for (unsigned i = 0; i < segments->count; i++) {
		const struct made_segment *made = &segments->list[i];
		char file[NAMES_FILE_MAX], path[IO_PATH_MAX];
		if (made->is_cut)
			cut_file_name(made->first_id & IDS_MASK, made->cut_end & IDS_MASK, made->salt, file);
		else
			segment_file_name(made->first_id & IDS_MASK, file);
		snprintf(path, sizeof(path), "%s/%s", segments->dir, file);
		if (getenv("FUZZ_LOG") != NULL)
			fprintf(stderr, "%s: %zu bytes, %u frames, %u index points%s\n", path, made->len,
				made->frame_count, made->index.count, made->is_missing ? ", missing" : "");
		if (!made->is_missing)
			disk_put(io, path, made->bytes, made->len);
		index_file_name(made->first_id & IDS_MASK, file);
		snprintf(path, sizeof(path), "%s/%s", segments->dir, file);
		if (made->index.count > 0)
			(void)index_file_append(io, path, made->salt, &made->index, 0, made->index.count);
	}
	(void)io->ops->sync_all(io);
}
