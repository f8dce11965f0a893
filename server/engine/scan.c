#include "scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"

void window_aim(struct window *window, struct io *io, struct io_file *file, uint64_t limit, size_t chunk)
{
	window->io = io;
	window->file = file;
	window->map = NULL;
	window->map_len = 0;
	window->memory = NULL;
	window->memory_from = 0;
	window->limit = limit;
	window->chunk = chunk < 512 ? 512 : chunk;
	window->nowait = false;
	window->bridge = window->unreadable = false;
	window->len = 0;
	window->base = 0;
}

void window_free(struct window *window)
{
	free(window->data);
	*window = (struct window){0};
}

static ssize_t fill_from_file(struct window *window, uint64_t offset, uint8_t *to, size_t len)
{
	int flags = window->nowait ? IO_NOWAIT : 0;
	if (window->map && offset + len <= window->map_len) {
		int r = window->io->ops->map_read(window->map, to, len, offset, flags);
		return r == 0 ? (ssize_t)len : r;
	}
	return window->io->ops->pread(window->file, to, len, offset, flags);
}

static ssize_t fill(struct window *window, uint64_t offset, uint8_t *to, size_t len)
{
	if (!window->memory || offset + len <= window->memory_from)
		return fill_from_file(window, offset, to, len);
	size_t before = offset < window->memory_from ? (size_t)(window->memory_from - offset) : 0;
	ssize_t got = before > 0 ? fill_from_file(window, offset, to, before) : 0;
	if (got < (ssize_t)before)
		return got;
	memcpy(to + before, window->memory + (offset + before - window->memory_from), len - before);
	return (ssize_t)len;
}

static ssize_t fill_bridged(struct window *window, uint64_t offset, uint8_t *to, size_t len)
{
	for (size_t done = 0; done < len;) {
		size_t piece = (size_t)(IO_PAGE_BYTES - (offset + done) % IO_PAGE_BYTES);
		if (piece > len - done)
			piece = len - done;
		ssize_t got = fill(window, offset + done, to + done, piece);
		if (got == -EIO) {
			memset(to + done, 0xff, piece); /* neither zeros nor a magic number */
			window->unreadable = true;
			got = (ssize_t)piece;
		}
		if (got < 0)
			return got;
		done += (size_t)got;
		if ((size_t)got < piece)
			return (ssize_t)done;
	}
	return (ssize_t)len;
}

int window_need(struct window *window, uint64_t offset, size_t len, const uint8_t **ret_bytes)
{
	if (offset > window->limit || len > window->limit - offset)
		return 1;
	if (len == 0) { /* of a file that is empty there may be no buffer */
		static const uint8_t nothing;
		*ret_bytes = &nothing;
		return 0;
	}
	if (window->len == 0 || offset < window->base || offset + len > window->base + window->len) {
		size_t want = len > window->chunk ? len : window->chunk;
		if (want > window->limit - offset)
			want = (size_t)(window->limit - offset);
		if (want > window->cap) {
			uint8_t *data = realloc(window->data, want);
			if (!data)
				return -ENOMEM;
			window->data = data;
			window->cap = want;
		}
		window->len = 0;
		window->base = offset;
		ssize_t got = fill(window, offset, window->data, want);
		if (got == -EIO && window->bridge)
			got = fill_bridged(window, offset, window->data, want);
		if (got < 0)
			return (int)got;
		window->len = (size_t)got;
		window->bytes_read += (uint64_t)got;
		if ((size_t)got < len)
			return window->nowait ? -EAGAIN : 1;
	}
	*ret_bytes = window->data + (offset - window->base);
	return 0;
}

static bool all_zero(const uint8_t *bytes, size_t len)
{
	return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

/* may_be_cut: the limit may be before the frame's end, as long as its header is there. */
static enum scan_result read_header(struct window *window, uint64_t salt, uint64_t offset, bool may_be_cut,
	struct frame *ret_frame, const uint8_t **ret_header, int *ret_error)
{
	const uint8_t *bytes;
	if (offset >= window->limit)
		return SCAN_END;
	size_t fixed = FRAME_FIXED_BYTES;
	if (fixed > window->limit - offset)
		fixed = (size_t)(window->limit - offset);
	int r = window_need(window, offset, fixed, &bytes);
	if (r == 1) { /* the file is shorter than its limit: what there is may still be zeros */
		uint64_t last;
		r = scan_zeros(window, offset, &last);
		if (r == 0)
			return last <= offset ? SCAN_END : SCAN_BROKEN;
	}
	if (r < 0) {
		*ret_error = r;
		return SCAN_ERROR;
	}
	if (all_zero(bytes, fixed))
		return SCAN_END;
	struct frame frame;
	if (fixed < FRAME_FIXED_BYTES || !frame_decode_fixed(bytes, salt, offset, &frame) ||
		(!may_be_cut && frame.total_bytes > window->limit - offset))
		return SCAN_BROKEN;
	r = window_need(window, offset, frame.header_bytes, &bytes);
	if (r < 0) {
		*ret_error = r;
		return SCAN_ERROR;
	}
	if (r == 1 || !frame_check_header(bytes, &frame))
		return SCAN_BROKEN;
	*ret_frame = frame;
	if (ret_header)
		*ret_header = bytes;
	return SCAN_FRAME;
}

enum scan_result scan_frame(struct window *window, uint64_t salt, uint64_t offset, struct frame *ret_frame,
	const uint8_t **ret_header, int *ret_error)
{
	return read_header(window, salt, offset, false, ret_frame, ret_header, ret_error);
}

int scan_blocks(struct window *window, const struct frame *frame, scan_block_cb cb, void *arg)
{
	/* The blocks of a large frame push its header out of the window, so the rows are copied first. */
	size_t table_bytes = (size_t)FRAME_BLOCK_BYTES * frame->block_count;
	uint8_t small[FRAME_BLOCK_BYTES * 64], *rows = table_bytes <= sizeof(small) ? small : malloc(table_bytes);
	const uint8_t *bytes;
	int r = rows ? window_need(window, frame->offset + frame->table_offset, table_bytes, &bytes) : -ENOMEM;
	if (r == 0)
		memcpy(rows, bytes, table_bytes);
	uint64_t at = frame->offset + frame->header_bytes;
	for (uint32_t i = 0; r == 0 && i < frame->block_count; i++) {
		struct frame table = {.table_offset = 0};
		struct block block = frame_block(rows, &table, i);
		int got = window_need(window, at, block.stored_bytes, &bytes);
		bool whole = got == 0 && crc32c(0, bytes, block.stored_bytes) == block.crc;
		r = got < 0 ? got : cb(&block, at, got == 0 ? bytes : NULL, whole, arg);
		at += block.stored_bytes;
	}
	if (rows != small)
		free(rows);
	return r;
}

static int broken_cb(const struct block *block, uint64_t offset, const uint8_t *stored, bool whole, void *arg)
{
	(void)block;
	(void)stored;
	*(uint64_t *)arg = offset;
	return !whole;
}

enum scan_result scan_payload(
	struct window *window, const struct frame *frame, uint64_t *ret_block_offset, int *ret_error)
{
	*ret_block_offset = frame->offset + frame->header_bytes;
	int r = scan_blocks(window, frame, broken_cb, ret_block_offset);
	if (r < 0) {
		*ret_error = r;
		return SCAN_ERROR;
	}
	return r == 0 ? SCAN_FRAME : SCAN_BROKEN;
}

enum what { HEADER_OF_ANY, HEADER_OF_WHOLE, WHOLE };

static enum scan_result scan_next(
	struct window *window, uint64_t salt, uint64_t from, enum what what, struct frame *ret_frame, int *ret_error)
{
	for (uint64_t at = align_up(from, FRAME_ALIGN); at + FRAME_HEADER_MIN <= window->limit; at += FRAME_ALIGN) {
		const uint8_t *bytes;
		int r = window_need(window, at, 4, &bytes);
		if (r == 1)
			return SCAN_END;
		if (r < 0) {
			*ret_error = r;
			return SCAN_ERROR;
		}
		if (memcmp(bytes, "IWFR", 4) != 0)
			continue;
		struct frame frame;
		uint64_t where;
		enum scan_result result = read_header(window, salt, at, what == HEADER_OF_ANY, &frame, NULL, ret_error);
		if (result == SCAN_FRAME && what == WHOLE)
			result = scan_payload(window, &frame, &where, ret_error);
		if (result == SCAN_ERROR)
			return result;
		if (result == SCAN_FRAME) {
			*ret_frame = frame;
			return result;
		}
	}
	return SCAN_END;
}

enum scan_result scan_next_whole(
	struct window *window, uint64_t salt, uint64_t from, bool payload_too, struct frame *ret_frame, int *ret_error)
{
	return scan_next(window, salt, from, payload_too ? WHOLE : HEADER_OF_WHOLE, ret_frame, ret_error);
}

enum scan_result scan_next_header(
	struct window *window, uint64_t salt, uint64_t from, struct frame *ret_frame, int *ret_error)
{
	return scan_next(window, salt, from, HEADER_OF_ANY, ret_frame, ret_error);
}

int scan_zeros(struct window *window, uint64_t from, uint64_t *ret_last)
{
	*ret_last = from;
	for (uint64_t at = from; at < window->limit;) {
		const uint8_t *bytes;
		size_t len = window->chunk;
		if (len > window->limit - at)
			len = (size_t)(window->limit - at);
		int r = window_need(window, at, len, &bytes);
		if (r < 0)
			return r;
		if (r == 1) { /* the file ended: the window holds what was there */
			bytes = window->data;
			len = window->base == at ? window->len : 0;
		}
		if (!all_zero(bytes, len))
			for (size_t i = len; i > 0; i--)
				if (bytes[i - 1] != 0) {
					*ret_last = at + i;
					break;
				}
		if (r == 1)
			break;
		at += len;
	}
	return 0;
}
