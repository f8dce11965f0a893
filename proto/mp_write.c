#include "mp_write.h"

#include <msgpack/pack.h>
#include <string.h>

#include "utf8.h"

/* The packer's callback: what msgpack-c encodes comes through here. It does the forms that are rare; those of which
 * every small request and answer is made are written in one go, as they are most of the time that either takes. */
static int write_cb(void *arg, const char *bytes, size_t len)
{
	struct mp_writer *writer = arg;
	uint8_t *at = mp_writer_room(writer, len);
	if (at == NULL)
		return -1;
	if (len > 0)
		memcpy(at, bytes, len);
	mp_writer_advance(writer, at + len);
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

static inline void write_byte(struct mp_writer *writer, uint8_t byte)
{
	uint8_t *at = mp_writer_room(writer, 1);
	if (at == NULL)
		return;
	*at = byte;
	mp_writer_advance(writer, at + 1);
}

void mp_write_nil(struct mp_writer *writer)
{
	write_byte(writer, 0xc0);
}

void mp_write_bool(struct mp_writer *writer, bool value)
{
	write_byte(writer, value ? 0xc3 : 0xc2);
}

static inline void put_be(uint8_t *at, unsigned width, uint64_t value)
{
	for (unsigned i = 0; i < width; i++)
		at[i] = (uint8_t)(value >> (8 * (width - 1 - i)));
}

uint8_t *mp_put_u64(uint8_t *at, uint64_t value)
{
	if (value < 0x80) {
		at[0] = (uint8_t)value;
		return at + 1;
	}
	if (value <= UINT8_MAX) {
		at[0] = 0xcc;
		at[1] = (uint8_t)value;
		return at + 2;
	}
	if (value <= UINT16_MAX) {
		at[0] = 0xcd;
		put_be(at + 1, 2, value);
		return at + 3;
	}
	if (value <= UINT32_MAX) {
		at[0] = 0xce;
		put_be(at + 1, 4, value);
		return at + 5;
	}
	at[0] = 0xcf;
	put_be(at + 1, 8, value);
	return at + MP_U64_MOST;
}

void mp_write_u64(struct mp_writer *writer, uint64_t value)
{
	uint8_t *at = mp_writer_room(writer, MP_U64_MOST);
	if (at != NULL)
		mp_writer_advance(writer, mp_put_u64(at, value));
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

/* A header of `header` bytes, then the bytes. */
static inline void write_bytes(struct mp_writer *writer, uint8_t first, size_t header, const void *bytes, size_t len)
{
	uint8_t *at = mp_writer_room(writer, header + len);
	if (at == NULL)
		return;
	at[0] = first;
	if (header > 1)
		at[1] = (uint8_t)len;
	if (len > 0)
		memcpy(at + header, bytes, len);
	mp_writer_advance(writer, at + header + len);
}

#define FIXSTR_MAX 31

void mp_write_str_len(struct mp_writer *writer, const void *bytes, size_t len)
{
	if (len <= FIXSTR_MAX) {
		write_bytes(writer, (uint8_t)(0xa0 | len), 1, bytes, len);
		return;
	}
	if (!fits(writer, len))
		return;
	msgpack_packer packer = packer_of(writer);
	msgpack_pack_str(&packer, len);
	msgpack_pack_str_body(&packer, bytes, len);
}

void mp_write_bin(struct mp_writer *writer, const void *bytes, size_t len)
{
	if (len <= UINT8_MAX) {
		write_bytes(writer, 0xc4, 2, bytes, len);
		return;
	}
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

#define FIXCONTAINER_MAX 15

void mp_write_array(struct mp_writer *writer, size_t count)
{
	if (count <= FIXCONTAINER_MAX) {
		write_byte(writer, (uint8_t)(0x90 | count));
		return;
	}
	if (!fits(writer, count))
		return;
	msgpack_packer packer = packer_of(writer);
	msgpack_pack_array(&packer, count);
}

void mp_write_map(struct mp_writer *writer, size_t count)
{
	if (count <= FIXCONTAINER_MAX) {
		write_byte(writer, (uint8_t)(0x80 | count));
		return;
	}
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

/* Room for the rest of the message's head, and `more` bytes. NULL: the writer has failed. */
static uint8_t *begin_message(struct mp_writer *writer, uint8_t type, uint32_t msgid, size_t more)
{
	writer->frame_at = writer->buf->len;
	writer->failed = false;
	uint8_t *at = mp_writer_room(writer, LENGTH_BYTES + 2 + MP_U64_MOST + more);
	if (at == NULL)
		return NULL;
	memset(at, 0, LENGTH_BYTES);
	at[LENGTH_BYTES] = 0x94;
	at[LENGTH_BYTES + 1] = type;
	return mp_put_u64(at + LENGTH_BYTES + 2, msgid);
}

void frame_begin_message(struct mp_writer *writer, uint8_t type, uint32_t msgid)
{
	uint8_t *at = begin_message(writer, type, msgid, 0);
	if (at != NULL)
		mp_writer_advance(writer, at);
}

void frame_begin_result(struct mp_writer *writer, uint8_t type, uint32_t msgid, uint8_t count)
{
	uint8_t *at = begin_message(writer, type, msgid, 2);
	if (at == NULL)
		return;
	at[0] = 0xc0;
	at[1] = 0x80 | count;
	mp_writer_advance(writer, at + 2);
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
