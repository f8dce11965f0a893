/*
 * buf: a growable run of bytes.
 *
 * Owns its memory; {0} is a legal empty buffer. One thread at a time may use one buffer.
 * Invariant: len <= cap, and data is NULL only if cap is 0. A failed call leaves the buffer as it was.
 */
#ifndef IRONWALD_BUF_H
#define IRONWALD_BUF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "mem.h"

struct buf {
	uint8_t *data;
	size_t len, cap;
	const struct mem *mem; /* where data comes from; NULL: malloc */
};

/* What buf_reserve does when there is no room yet. */
int buf_grow(struct buf *buf, size_t extra);

/* Makes room for `extra` bytes behind len, growing by half at least. -1: out of memory. */
static inline int buf_reserve(struct buf *buf, size_t extra)
{
	return extra <= buf->cap - buf->len ? 0 : buf_grow(buf, extra);
}

/* Makes cap exactly `cap` (not below len): for those who have a growth policy of their own. -1: out of memory. */
int buf_set_capacity(struct buf *buf, size_t cap);

/* -1: out of memory. bytes may be NULL if len is 0. */
static inline int buf_append(struct buf *buf, const void *bytes, size_t len)
{
	if (len == 0)
		return 0;
	if (buf_reserve(buf, len) != 0)
		return -1;
	memcpy(buf->data + buf->len, bytes, len);
	buf->len += len;
	return 0;
}

/* Drops the first count bytes (count <= len), moving the rest to the front. */
void buf_consume(struct buf *buf, size_t count);

/* Frees the memory; the buffer is empty afterwards. */
void buf_free(struct buf *buf);

#endif
