/*
 * fuzz_index: the file of index points beside a segment (index.h), read from whatever bytes.
 *
 * Input: a script that makes a file: a header and points, right ones and wrong ones, with checksums made right or left
 * wrong, then damage. A second reader, written here, says what is to come out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "fuzz.h"
#include "index.h"
#include "one_file.h"

#define HEADER_BYTES 24u
#define POINT_BYTES 32u
#define FILE_MAX 12288u /* more than one read of it */

struct made {
	uint8_t bytes[FILE_MAX];
	size_t len;
};

static uint32_t seed_of(uint64_t salt)
{
	return (uint32_t)(salt ^ salt >> 32);
}

static void put_header(struct made *made, uint64_t salt)
{
	memcpy(made->bytes, "IWALIDX1", 8);
	fuzz_put64(made->bytes + 8, salt);
	fuzz_put32(made->bytes + 16, crc32c(0, made->bytes, 16));
	fuzz_put32(made->bytes + 20, 0);
	made->len = HEADER_BYTES;
}

static void put_point(struct made *made, uint64_t salt, const struct index_point *point)
{
	if (made->len + POINT_BYTES > FILE_MAX)
		return;
	uint8_t *at = made->bytes + made->len;
	memset(at, 0, POINT_BYTES);
	fuzz_put64(at, point->id);
	fuzz_put64(at + 8, point->offset);
	fuzz_put32(at + 16, point->prev_check);
	fuzz_put32(at + 28, crc32c(seed_of(salt), at, 28));
	made->len += POINT_BYTES;
}

/* Over a point that is there, its checksum made right again or not. */
static void change_point(struct made *made, uint64_t salt, struct fuzz_in *in, bool right)
{
	size_t count = made->len > HEADER_BYTES ? (made->len - HEADER_BYTES) / POINT_BYTES : 0, len;
	if (count == 0)
		return;
	uint8_t *at = made->bytes + HEADER_BYTES + POINT_BYTES * (fuzz_u8(in) % count);
	size_t where = fuzz_u8(in) % POINT_BYTES;
	const uint8_t *bytes = fuzz_take(in, 1 + fuzz_u8(in) % 8, &len);
	memcpy(at + where, bytes, where + len > POINT_BYTES ? POINT_BYTES - where : len);
	if (right)
		fuzz_put32(at + 28, crc32c(seed_of(salt), at, 28));
}

static void make(struct made *made, uint64_t salt, struct fuzz_in *in)
{
	struct index_point next = {fuzz_number(in), 64, 1};
	size_t len;
	put_header(made, salt);
	while (fuzz_more(in)) {
		switch (fuzz_u8(in) % 8) {
		case 0: /* as the engine makes them */
		case 1:
			next.id += 1 + fuzz_u8(in);
			next.offset += INDEX_STRIDE + 8u * fuzz_u8(in);
			next.prev_check += 77;
			put_point(made, salt, &next);
			break;
		case 2: /* any */
			next = (struct index_point){fuzz_number(in), fuzz_number(in), (uint32_t)fuzz_number(in)};
			put_point(made, salt, &next);
			break;
		case 3:
			change_point(made, salt, in, true);
			break;
		case 4:
			change_point(made, salt, in, false);
			break;
		case 5: /* cut short, or longer by zeros */
			len = fuzz_uint(in, 2) % FILE_MAX;
			if (len > made->len)
				memset(made->bytes + made->len, 0, len - made->len);
			made->len = len;
			break;
		case 6: /* any bytes anywhere, the header too */
			if (made->len > 0) {
				size_t at = fuzz_uint(in, 2) % made->len;
				const uint8_t *bytes = fuzz_take(in, fuzz_u8(in) % 32, &len);
				memcpy(made->bytes + at, bytes, at + len > made->len ? made->len - at : len);
			}
			break;
		default: /* many more */
			for (unsigned count = fuzz_u8(in) % 32; count > 0; count--) {
				next.id += 3;
				next.offset += INDEX_STRIDE;
				put_point(made, salt, &next);
			}
			break;
		}
	}
}

static bool header_is_right(const struct made *made, uint64_t salt)
{
	return made->len >= HEADER_BYTES && memcmp(made->bytes, "IWALIDX1", 8) == 0 &&
	       fuzz_get64(made->bytes + 8) == salt && fuzz_get32(made->bytes + 16) == crc32c(0, made->bytes, 16);
}

/* What the file holds by its description: points that are whole, aligned, below the limit and above those before. */
static void check_loaded(const struct made *made, uint64_t salt, uint64_t limit, const struct index *index)
{
	uint32_t count = 0;
	uint64_t id = 0, offset = 0;
	for (size_t at = HEADER_BYTES; header_is_right(made, salt) && at + POINT_BYTES <= made->len;
		at += POINT_BYTES) {
		const uint8_t *row = made->bytes + at;
		uint64_t row_id = fuzz_get64(row), row_offset = fuzz_get64(row + 8);
		if (crc32c(seed_of(salt), row, 28) != fuzz_get32(row + 28) || row_offset >= limit ||
			row_offset % 8 != 0 || (count > 0 && (row_id <= id || row_offset <= offset)))
			continue;
		FUZZ_CHECK(count < index->count, "point %u of the file was not loaded", count);
		const struct index_point *point = &index->points[count++];
		FUZZ_CHECK(
			point->id == row_id && point->offset == row_offset && point->prev_check == fuzz_get32(row + 16),
			"point %u was loaded as another one", count - 1);
		id = row_id;
		offset = row_offset;
	}
	FUZZ_CHECK(count == index->count, "%u points were loaded, the file has %u", index->count, count);
}

static void check_find(const struct index *index, uint64_t id)
{
	struct index_point point = {0};
	const struct index_point *wanted = NULL;
	for (uint32_t i = 0; i < index->count; i++)
		if (index->points[i].id <= id)
			wanted = &index->points[i];
	bool found = index_find(index, id, &point);
	FUZZ_CHECK(found == (wanted != NULL) && (!found || point.offset == wanted->offset), "another point was found");
}

/* What was loaded, written, is loaded again as the same. */
static void check_round_trip(const struct index *index, uint64_t salt, uint32_t middle)
{
	struct one_file file = {.may_write = true};
	struct index again;
	middle = index->count > 0 ? middle % (index->count + 1) : 0;
	one_file_init(&file);
	int r = index_file_append(&file.io, ONE_FILE_PATH, salt, index, 0, middle);
	FUZZ_CHECK(r == 0, "append: %d", r);
	r = index_file_append(&file.io, ONE_FILE_PATH, salt, index, middle, index->count);
	FUZZ_CHECK(r == 0, "append: %d", r);
	r = index_file_load(&file.io, ONE_FILE_PATH, salt, UINT64_MAX, &again);
	FUZZ_CHECK(r == 0 && again.count == index->count, "of %u points %u came back", index->count, again.count);
	for (uint32_t i = 0; i < again.count; i++)
		FUZZ_CHECK(again.points[i].id == index->points[i].id &&
				   again.points[i].offset == index->points[i].offset &&
				   again.points[i].prev_check == index->points[i].prev_check,
			"point %u came back as another one", i);
	index_clear(&again);
	one_file_free(&file);
}

static void check_note(struct index *index, uint64_t id, uint64_t offset)
{
	uint32_t count = index->count;
	uint64_t last = count > 0 ? index->points[count - 1].offset : 0;
	index_note(index, (struct index_point){id, offset, 5});
	bool far = offset >= last && offset - last >= INDEX_STRIDE;
	FUZZ_CHECK(index->count == count + far, "a point at %llu, %u points before, %u behind it",
		(unsigned long long)offset, count, index->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct made made;
	struct fuzz_in in = {data, data + size};
	uint8_t how = fuzz_u8(&in);
	uint64_t salt = fuzz_uint(&in, 2) * UINT64_C(0x9e3779b97f4a7c15);
	uint64_t limit = how & 1 ? UINT64_MAX : fuzz_number(&in);
	uint64_t asked = fuzz_number(&in);
	if (how & 2) { /* not made: as it came */
		made.len = (size_t)(in.end - in.at) < FILE_MAX ? (size_t)(in.end - in.at) : FILE_MAX;
		memcpy(made.bytes, in.at, made.len);
	} else {
		make(&made, salt, &in);
	}
	struct one_file file = {.bytes = fuzz_copy(made.bytes, made.len), .len = made.len};
	struct index index;
	one_file_init(&file);
	int r = index_file_load(&file.io, ONE_FILE_PATH, salt, limit, &index);
	FUZZ_CHECK(r == 0, "load: %d", r);
	check_loaded(&made, salt, limit, &index);
	check_find(&index, asked);
	for (uint32_t i = 0; i < index.count && i < 4; i++) {
		check_find(&index, index.points[i].id);
		check_find(&index, index.points[i].id - 1);
	}
	if (how & 4)
		check_round_trip(&index, salt, (uint32_t)asked);
	check_note(&index, asked, limit);
	index_clear(&index);
	one_file_free(&file);
	return 0;
}
