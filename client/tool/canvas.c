#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "canvas.h"

/* Longer than the widest of terminals is worth filling. */
#define PUT_MAX 1024

static void append(struct canvas *canvas, const char *text, size_t len)
{
	if (buf_append(canvas->buf, text, len) != 0)
		canvas->failed = true;
}

void canvas_put(struct canvas *canvas, enum style style, const char *format, ...)
{
	static const char *const codes[] = {"", "\033[2m", "\033[1;32m", "\033[1;33m", "\033[1;31m", "\033[4m"};
	char text[PUT_MAX], clean[PUT_MAX];
	size_t len = 0;
	va_list args;
	va_start(args, format);
	int n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n <= 0 || canvas->row >= canvas->rows || canvas->used >= canvas->columns)
		return;
	for (const char *at = text; *at != '\0' && canvas->used + len < canvas->columns; at++) {
		if (((unsigned char)*at & 0xc0) == 0x80) /* the rest of a character */
			continue;
		clean[len++] = *at >= ' ' && *at <= '~' ? *at : '?';
	}
	const bool colours = canvas->colour && style != STYLE_PLAIN;
	if (canvas->used == 0 && canvas->row > 0)
		append(canvas, "\n", 1);
	if (colours)
		append(canvas, codes[style], strlen(codes[style]));
	append(canvas, clean, len);
	if (colours)
		append(canvas, "\033[m", 3);
	canvas->used += len;
}

void canvas_end_row(struct canvas *canvas)
{
	if (canvas->used == 0 && canvas->row > 0 && canvas->row < canvas->rows)
		append(canvas, "\n", 1); /* an empty one */
	if (canvas->row < canvas->rows)
		canvas->row++;
	canvas->used = 0;
}

size_t canvas_rows_left(const struct canvas *canvas)
{
	return canvas->rows - canvas->row;
}
