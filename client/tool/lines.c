#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "lines.h"

#define BLOCK_BYTES ((size_t)65536)

static enum lines_result give(struct lines *lines, size_t len, size_t skip, const uint8_t **ret_line, size_t *ret_len)
{
	if (len > lines->max_bytes)
		return LINES_TOO_LONG;
	*ret_line = lines->buf.data + lines->at;
	*ret_len = len;
	lines->at += len + skip;
	lines->scanned = 0;
	return LINES_ONE;
}

enum lines_result lines_next(struct lines *lines, const uint8_t **ret_line, size_t *ret_len)
{
	struct buf *buf = &lines->buf;
	for (;;) {
		size_t have = buf->len - lines->at;
		if (have > lines->scanned) {
			const uint8_t *from = buf->data + lines->at;
			const uint8_t *at = memchr(from + lines->scanned, lines->ends_with, have - lines->scanned);
			if (at != NULL)
				return give(lines, (size_t)(at - from), 1, ret_line, ret_len);
			lines->scanned = have;
		}
		if (have > lines->max_bytes)
			return LINES_TOO_LONG;
		if (lines->end)
			return have > 0 ? give(lines, have, 0, ret_line, ret_len) : LINES_END;
		struct pollfd p = {.fd = lines->fd, .events = POLLIN};
		if (poll(&p, 1, 0) == 0)
			return LINES_NOT_YET;
		if (lines->at > 0)
			buf_consume(buf, lines->at);
		lines->at = 0;
		if (buf_reserve(buf, BLOCK_BYTES) != 0) {
			errno = ENOMEM;
			return LINES_ERROR;
		}
		ssize_t n = read(lines->fd, buf->data + buf->len, BLOCK_BYTES);
		if (n < 0)
			return errno == EINTR || errno == EAGAIN ? LINES_NOT_YET : LINES_ERROR;
		if (n == 0)
			lines->end = true;
		buf->len += (size_t)n;
	}
}

int lines_wait(const struct lines *lines)
{
	struct pollfd p = {.fd = lines->fd, .events = POLLIN};
	return poll(&p, 1, -1) < 0 ? -1 : 0;
}

void lines_free(struct lines *lines)
{
	buf_free(&lines->buf);
}
