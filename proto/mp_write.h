/*
 * mp_write: MessagePack, and frames of it, written to the end of a buffer.
 *
 * Owns nothing: the buffer is the caller's. One thread at a time may use a writer.
 * Invariant: failure is sticky: after one write that failed (no memory, a length over 32 bits) the rest do nothing,
 * and frame_end says so and leaves the buffer as it was before frame_begin. So only frame_end needs a check.
 */
#ifndef IRONWALD_MP_WRITE_H
#define IRONWALD_MP_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "mp_read.h"

struct mp_writer {
	struct buf *buf;
	size_t frame_at; /* where the frame's length is in buf */
	bool failed;
};

/* For those who write several values in one go: room for `most` bytes, to be written there; advance says where they
 * end. NULL: the writer has failed. */
static inline uint8_t *mp_writer_room(struct mp_writer *writer, size_t most)
{
	if (writer->failed)
		return NULL;
	if (buf_reserve(writer->buf, most) != 0) {
		writer->failed = true;
		return NULL;
	}
	return writer->buf->data + writer->buf->len;
}

static inline void mp_writer_advance(struct mp_writer *writer, const uint8_t *end)
{
	writer->buf->len = (size_t)(end - writer->buf->data);
}

#define MP_U64_MOST 9

/* The shortest form of a u64, MP_U64_MOST bytes at most. Returns its end. */
uint8_t *mp_put_u64(uint8_t *at, uint64_t value);

/* Writes go behind what buf holds. */
void mp_writer_init(struct mp_writer *writer, struct buf *buf);

void mp_write_nil(struct mp_writer *writer);
void mp_write_bool(struct mp_writer *writer, bool value);
void mp_write_u64(struct mp_writer *writer, uint64_t value);
void mp_write_i64(struct mp_writer *writer, int64_t value);
void mp_write_double(struct mp_writer *writer, double value);
void mp_write_str(struct mp_writer *writer, const char *text); /* NUL-terminated */
void mp_write_str_len(struct mp_writer *writer, const void *bytes, size_t len);
void mp_write_bin(struct mp_writer *writer, const void *bytes, size_t len);
/* str if the bytes are UTF-8, else bin. */
void mp_write_text(struct mp_writer *writer, const void *bytes, size_t len);
void mp_write_array(struct mp_writer *writer, size_t count);
void mp_write_map(struct mp_writer *writer, size_t count);
/* What is encoded already. */
void mp_write_raw(struct mp_writer *writer, const void *bytes, size_t len);

/* How many bytes mp_write_bin takes for an entry of len bytes, and mp_write_u64 for a value. */
size_t mp_bin_bytes(size_t len);
size_t mp_u64_bytes(uint64_t value);

/* Headers and numbers that are known only later: always the widest form (array 5 bytes, u64 9 bytes). `hole` gives the
 * place to be filled; filling is legal until the buffer is sent. */
size_t mp_hole_array(struct mp_writer *writer);
void mp_fill_array(struct mp_writer *writer, size_t hole, uint32_t count);
size_t mp_hole_u64(struct mp_writer *writer);
void mp_fill_u64(struct mp_writer *writer, size_t hole, uint64_t value);

/* A frame: length, then what is written between begin and end. A writer has one frame open at a time, and may write
 * any number one after the other. */
void frame_begin(struct mp_writer *writer);
/* The same up to the msgid of a message of four: [type, msgid, ...; type under 128. */
void frame_begin_message(struct mp_writer *writer, uint8_t type, uint32_t msgid);
/* The same with nil and a map's header behind it; count under 16. */
void frame_begin_result(struct mp_writer *writer, uint8_t type, uint32_t msgid, uint8_t count);
/* Bytes of the open frame so far, without the length itself: what max_message_bytes counts. */
size_t frame_bytes(const struct mp_writer *writer);
/* Takes the open frame back out of the buffer, and clears a failure. */
void frame_drop(struct mp_writer *writer);
/* 0, or -1 (no memory, or over 2^32-1 bytes): the frame was dropped. */
int frame_end(struct mp_writer *writer);

#endif
