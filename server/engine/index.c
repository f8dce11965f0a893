#include "index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "format.h"

#define HEADER_BYTES 24u
#define POINT_BYTES 32u
/* More points than any segment has that this program writes: 2^24 points are 1 TiB at the stride. */
#define POINTS_MAX (1u << 24)

static const char index_magic[8] = "IWALIDX1";

static bool push(struct index *index, struct index_point point)
{
	if (index->count == index->cap) {
		uint32_t cap = index->cap ? index->cap * 2 : 8;
		struct index_point *points = realloc(index->points, sizeof(*points) * cap);
		if (!points)
			return false;
		index->points = points;
		index->cap = cap;
	}
	index->points[index->count++] = point;
	return true;
}

void index_note(struct index *index, struct index_point point)
{
	uint64_t last = index->count ? index->points[index->count - 1].offset : 0;
	/* The last may be one of a file whose checksums are right, and be anywhere. */
	bool far = point.offset >= last && point.offset - last >= INDEX_STRIDE;
	if (far && index->count < POINTS_MAX)
		(void)push(index, point);
}

bool index_find(const struct index *index, uint64_t id, struct index_point *ret_point)
{
	uint32_t low = 0, high = index->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (index->points[middle].id <= id)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return false;
	*ret_point = index->points[low - 1];
	return true;
}

void index_clear(struct index *index)
{
	free(index->points);
	*index = (struct index){0};
}

static void encode_point(uint8_t out[POINT_BYTES], const struct index_point *point, uint64_t salt)
{
	memset(out, 0, POINT_BYTES);
	put_u64(out, point->id);
	put_u64(out + 8, point->offset);
	put_u32(out + 16, point->prev_check);
	put_u32(out + 28, crc32c((uint32_t)(salt ^ salt >> 32), out, 28));
}

int index_file_append(
	struct io *io, const char *path, uint64_t salt, const struct index *index, uint32_t from, uint32_t to)
{
	if (from >= to)
		return 0;
	size_t len = (size_t)POINT_BYTES * (to - from);
	uint8_t *bytes = malloc(HEADER_BYTES + len);
	if (!bytes)
		return -ENOMEM;
	memset(bytes, 0, HEADER_BYTES);
	memcpy(bytes, index_magic, 8);
	put_u64(bytes + 8, salt);
	put_u32(bytes + 16, crc32c(0, bytes, 16));
	for (uint32_t i = from; i < to; i++)
		encode_point(bytes + HEADER_BYTES + (size_t)POINT_BYTES * (i - from), &index->points[i], salt);

	struct io_file *file;
	int r = io->ops->open(io, path, IO_WRITE | IO_CREATE, &file);
	if (r == 0) {
		/* The header goes out with every piece: it is the same, and the file may have been deleted in between.
		 */
		struct iovec header = {bytes, HEADER_BYTES}, points = {bytes + HEADER_BYTES, len};
		r = io->ops->pwritev(file, &header, 1, 0);
		if (r == 0)
			r = io->ops->pwritev(file, &points, 1, HEADER_BYTES + (uint64_t)POINT_BYTES * from);
		io->ops->close(file);
	}
	free(bytes);
	return r;
}

static bool is_blank(const uint8_t *bytes, size_t len)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

static enum index_row decode_row(const uint8_t row[POINT_BYTES], uint64_t salt, struct index_point *ret_point)
{
	*ret_point = (struct index_point){get_u64(row), get_u64(row + 8), get_u32(row + 16)};
	if (crc32c((uint32_t)(salt ^ salt >> 32), row, 28) == get_u32(row + 28))
		return INDEX_POINT;
	return is_blank(row, POINT_BYTES) ? INDEX_ROW_BLANK : INDEX_ROW_BROKEN;
}

static int read_rows(struct io *io, struct io_file *file, uint64_t salt, index_row_cb cb, void *arg)
{
	uint8_t chunk[POINT_BYTES * 128], *header = chunk;
	ssize_t got = io->ops->pread(file, header, HEADER_BYTES, 0, 0);
	if (got < 0)
		return (int)got;
	if (got < (ssize_t)HEADER_BYTES || memcmp(header, index_magic, 8) != 0 || get_u64(header + 8) != salt ||
		get_u32(header + 16) != crc32c(0, header, 16) || get_u32(header + 20) != 0) {
		bool blank = got == 0 || is_blank(header, (size_t)got);
		return cb(blank ? INDEX_ROW_BLANK : INDEX_HEADER_BROKEN, 0, NULL, arg);
	}
	for (uint64_t at = HEADER_BYTES;; at += (uint64_t)got) {
		got = io->ops->pread(file, chunk, sizeof(chunk), at, 0);
		if (got <= 0)
			return (int)got;
		size_t whole = (size_t)got / POINT_BYTES;
		int r = 0;
		for (size_t i = 0; r == 0 && i < whole; i++) {
			struct index_point point;
			enum index_row row = decode_row(chunk + i * POINT_BYTES, salt, &point);
			r = cb(row, at + i * POINT_BYTES, row == INDEX_POINT ? &point : NULL, arg);
		}
		if (r == 0 && whole * POINT_BYTES < (size_t)got)
			r = cb(INDEX_ROW_BROKEN, at + whole * POINT_BYTES, NULL, arg);
		if (r != 0 || got < (ssize_t)sizeof(chunk))
			return r;
	}
}

int index_file_rows(struct io *io, const char *path, uint64_t salt, index_row_cb cb, void *arg)
{
	struct io_file *file;
	int r = io->ops->open(io, path, IO_READ, &file);
	if (r != 0)
		return r;
	r = read_rows(io, file, salt, cb, arg);
	io->ops->close(file);
	return r;
}

static int load(struct io *io, struct io_file *file, uint64_t salt, uint64_t limit_offset, struct index *index)
{
	uint8_t header[HEADER_BYTES];
	if (io->ops->pread(file, header, HEADER_BYTES, 0, 0) != HEADER_BYTES || memcmp(header, index_magic, 8) != 0 ||
		get_u64(header + 8) != salt || get_u32(header + 16) != crc32c(0, header, 16))
		return 0;
	uint64_t at = HEADER_BYTES;
	uint8_t chunk[POINT_BYTES * 128];
	for (;;) {
		ssize_t got = io->ops->pread(file, chunk, sizeof(chunk), at, 0);
		if (got < (ssize_t)POINT_BYTES)
			return 0;
		size_t whole = (size_t)got / POINT_BYTES;
		for (size_t i = 0; i < whole; i++) {
			const uint8_t *row = chunk + i * POINT_BYTES;
			struct index_point point;
			const struct index_point *last = index->count ? &index->points[index->count - 1] : NULL;
			/* A damaged or missing piece costs those points alone. */
			if (decode_row(row, salt, &point) != INDEX_POINT || point.offset >= limit_offset ||
				point.offset % FRAME_ALIGN != 0 ||
				(last && (point.id <= last->id || point.offset <= last->offset)))
				continue;
			if (index->count == POINTS_MAX || !push(index, point))
				return -ENOMEM;
		}
		at += whole * POINT_BYTES;
	}
}

int index_file_load(struct io *io, const char *path, uint64_t salt, uint64_t limit_offset, struct index *ret_index)
{
	*ret_index = (struct index){0};
	struct io_file *file;
	if (io->ops->open(io, path, IO_READ, &file) != 0)
		return 0;
	int r = load(io, file, salt, limit_offset, ret_index);
	io->ops->close(file);
	if (r != 0)
		index_clear(ret_index);
	return r;
}
