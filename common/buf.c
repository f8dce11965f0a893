#include "buf.h"

int buf_set_capacity(struct buf *buf, size_t cap)
{
	if (cap < buf->len)
		cap = buf->len;
	if (cap == buf->cap)
		return 0;
	if (cap == 0) {
		buf_free(buf);
		return 0;
	}
	uint8_t *data = mem_realloc(buf->mem, buf->data, cap);
	if (data == NULL)
		return -1;
	buf->data = data;
	buf->cap = cap;
	return 0;
}

int buf_grow(struct buf *buf, size_t extra)
{
	if (extra > SIZE_MAX / 2 - buf->len)
		return -1;
	size_t cap = buf->cap + buf->cap / 2;
	if (cap < 64)
		cap = 64;
	if (cap < buf->len + extra)
		cap = buf->len + extra;
	return buf_set_capacity(buf, cap);
}

void buf_consume(struct buf *buf, size_t count)
{
	if (count == 0)
		return;
	buf->len -= count;
	if (buf->len > 0)
		memmove(buf->data, buf->data + count, buf->len);
}

void buf_free(struct buf *buf)
{
	mem_free(buf->mem, buf->data);
	*buf = (struct buf){.mem = buf->mem};
}
