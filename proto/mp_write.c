#include "mp_write.h"

#include <msgpack/pack.h>
#include <string.h>

#include "utf8.h"

/* The packer's callback: everything that msgpack-c encodes comes through here. */
static int write_cb(void *arg, const char *bytes, size_t len)
{
	struct mp_writer *writer = arg;
	if (writer->failed)
		return -1;
	if (buf_append(writer->buf, bytes, len) != 0) {
		writer->failed = true;
		return -1;
	}
	return 0;
}

static msgpack_packer packer_of(struct mp_writer *writer)
{
	msgpack_packer packer;
	msgpack_packer_init(&packer, writer, write_cb);
	return packer;
}

/* A length or count has at most 32 bits on the wire. */
static bool fits(struct mp_writer *writer, size_t length)
{
	if (length > UINT32_MAX)
		writer->failed = true;
	return !writer->failed;
}

void mp_writer_init(struct mp_writer *writer, struct buf *buf)
{
	*writer = (struct mp_writer){.buf = buf, .frame_at = buf->len};
}

void mp_write_nil(struct mp_writer *writer)
{
	msgpack_packer packer = packer_of(writer);
	msgpack_pack_nil(&packer);
}

void mp_write_bool(struct mp_writer *writer, bool value)
{
	msgpack_packer packer = packer_of(writer);
	if (value)
		msgpack_pack_true(&packer);
	else
		msgpack_pack_false(&packer);
}

void mp_write_u64(struct mp_writer *writer, uint64_t value)
{
	msgpack_packer packer = packer_of(writer);
	msgpack_pack_uint64(&packer, value);
}

void mp_write_i64(struct mp_writer *writer, int64_t value)
{
	msgpack_packer packer = packer_of(writer);
	msgpack_pack_int64(&packer, value);
}

void mp_write_double(struct mp_writer *writer, double value)
{
	msgpack_packer packer = packer_of(writer);
	msgpack_pack_double(&packer, value);
}

void mp_write_str(struct mp_writer *writer, const char *text)
{
	mp_write_str_len(writer, text, strlen(text));
}

void mp_write_str_len(struct mp_writer *writer, const void *bytes, size_t len)
{
	if (!fits(writer, len))
		return;
	msgpack_packer packer = packer_of(writer);
	msgpack_pack_str(&packer, len);
	msgpack_pack_str_body(&packer, bytes, len);
}

void mp_write_bin(struct mp_writer *writer, const void *bytes, size_t len)
{
	if (!fits(writer, len))
		return;
	msgpack_packer packer = packer_of(writer);
	msgpack_pack_bin(&packer, len);
	msgpack_pack_bin_body(&packer, bytes, len);
}

void mp_write_text(struct mp_writer *writer, const void *bytes, size_t len)
{
	if (utf8_valid(bytes, len))
		mp_write_str_len(writer, bytes, len);
	else
		mp_write_bin(writer, bytes, len);
}

void mp_write_array(struct mp_writer *writer, size_t count)
{
	if (!fits(writer, count))
		return;
	msgpack_packer packer = packer_of(writer);
	msgpack_pack_array(&packer, count);
}

void mp_write_map(struct mp_writer *writer, size_t count)
{
	if (!fits(writer, count))
		return;
	msgpack_packer packer = packer_of(writer);
	msgpack_pack_map(&packer, count);
}

void mp_write_raw(struct mp_writer *writer, const void *bytes, size_t len)
{
	write_cb(writer, bytes, len);
}

size_t mp_bin_bytes(size_t len)
{
	return len + (len <= UINT8_MAX ? 2 : len <= UINT16_MAX ? 3 : 5);
}

size_t mp_u64_bytes(uint64_t value)
{
	return value < 128 ? 1 : value <= UINT8_MAX ? 2 : value <= UINT16_MAX ? 3 : value <= UINT32_MAX ? 5 : 9;
}

static void put_be(uint8_t *at, unsigned width, uint64_t value)
{
	for (unsigned i = 0; i < width; i++)
		at[i] = (uint8_t)(value >> (8 * (width - 1 - i)));
}

static size_t hole(struct mp_writer *writer, uint8_t first, unsigned width)
{
	uint8_t bytes[9] = {first};
	size_t at = writer->buf->len;
	write_cb(writer, (const char *)bytes, 1 + width);
	return at;
}

/* After a failure there may be no hole at that place. */
static void fill(struct mp_writer *writer, size_t at, unsigned width, uint64_t value)
{
	if (!writer->failed)
		put_be(writer->buf->data + at + 1, width, value);
}

size_t mp_hole_array(struct mp_writer *writer)
{
	return hole(writer, 0xdd, 4);
}

void mp_fill_array(struct mp_writer *writer, size_t at, uint32_t count)
{
	fill(writer, at, 4, count);
}

size_t mp_hole_u64(struct mp_writer *writer)
{
	return hole(writer, 0xcf, 8);
}

void mp_fill_u64(struct mp_writer *writer, size_t at, uint64_t value)
{
	fill(writer, at, 8, value);
}

#define LENGTH_BYTES 4

void frame_begin(struct mp_writer *writer)
{
	writer->frame_at = writer->buf->len;
	writer->failed = false;
	write_cb(writer, "\0\0\0\0", LENGTH_BYTES);
}

size_t frame_bytes(const struct mp_writer *writer)
{
	return writer->failed ? 0 : writer->buf->len - writer->frame_at - LENGTH_BYTES;
}

void frame_drop(struct mp_writer *writer)
{
	writer->buf->len = writer->frame_at;
	writer->failed = false;
}

int frame_end(struct mp_writer *writer)
{
	size_t bytes = frame_bytes(writer);
	if (writer->failed || bytes > UINT32_MAX) {
		frame_drop(writer);
		return -1;
	}
	put_be(writer->buf->data + writer->frame_at, LENGTH_BYTES, bytes);
	return 0;
}
