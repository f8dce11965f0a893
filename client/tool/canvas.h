/*
 * canvas: rows of text for a terminal of some size.
 *
 * Owns nothing; the rows go to a buffer of the caller's. One thread.
 * Invariant: never more rows, nor more characters in one, than there is room for; each character is one column.
 */
#ifndef IRONWAL_CANVAS_H
#define IRONWAL_CANVAS_H

#include <stdbool.h>

#include "buf.h"

enum style { STYLE_PLAIN, STYLE_DIM, STYLE_GOOD, STYLE_WARN, STYLE_BAD, STYLE_HEADING };

struct canvas {
	struct buf *buf;
	size_t columns, rows;
	bool colour;
	size_t row, used; /* the one that is written to, and what is in it */
	bool failed;	  /* out of memory */
};

/* printf format. What there is no room for is cut; what is no printable ASCII is '?', once for each character. */
void canvas_put(struct canvas *canvas, enum style style, const char *format, ...) __attribute__((format(printf, 3, 4)));
void canvas_end_row(struct canvas *canvas);
/* Rows that can still be begun. */
size_t canvas_rows_left(const struct canvas *canvas);

#endif
