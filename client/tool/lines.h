/*
 * lines: the lines of a file descriptor, or what NUL bytes end there, whatever bytes are in them.
 *
 * Owns its buffer, not the descriptor. One thread.
 * Invariant: memory is at most twice the longest line that is allowed, and a block.
 */
#ifndef IRONWAL_LINES_H
#define IRONWAL_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"

struct lines {
	int fd;
	char ends_with;	  /* '\n', or '\0' */
	size_t max_bytes; /* of a line, without its newline */
	struct buf buf;
	size_t at, scanned; /* of the line that comes next; how far it holds no newline */
	bool end;	    /* of the file */
};

enum lines_result {
	LINES_ONE,	/* *ret_line, good until the next call, without its newline */
	LINES_END,	/* no more; a last line without a newline came before as any other */
	LINES_NOT_YET,	/* nothing can be read without waiting */
	LINES_TOO_LONG, /* the line is longer than max_bytes */
	LINES_ERROR,	/* errno */
};

/* Never waits for input (a regular file always has some). */
enum lines_result lines_next(struct lines *lines, const uint8_t **ret_line, size_t *ret_len);
/* Until there is input. -1: errno, EINTR after a signal. */
int lines_wait(const struct lines *lines);
void lines_free(struct lines *lines);

#endif
