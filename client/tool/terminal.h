/*
 * terminal: what a terminal is, and, at standard output, a picture that stands on it.
 *
 * Owns the terminal from terminal_take to terminal_give_back: its second screen, its cursor, and, where standard input
 * is a terminal, that keys come at once and unseen. One thread; what may run in a signal handler says so.
 * Invariant: after terminal_give_back everything is as it was before terminal_take, however often either was called.
 */
#ifndef IRONWAL_TERMINAL_H
#define IRONWAL_TERMINAL_H

#include <stdbool.h>

#include "buf.h"

/* It is a terminal, and one that can do more than print: TERM is not "dumb". */
bool terminal_is_able(int fd);
/* Asked for each time: windows change. What it does not say is $COLUMNS or 80, and $LINES or 24. */
void terminal_size(int fd, size_t *ret_columns, size_t *ret_rows);
/* NO_COLOR is not set, or empty. */
bool terminal_has_colour(void);

void terminal_take(void);
/* After it was stopped: somebody else may have had it meanwhile. */
void terminal_take_again(void);
/* last: rows that stay there, or NULL. */
void terminal_give_back(const struct buf *last);
/* The same without them, from a signal handler. */
void terminal_give_back_in_handler(void);
/* Rows, with a newline between two of them, in the place of what stands there. Nothing happens while the terminal takes
 * nothing (^S). False: it has gone. */
bool terminal_draw(const struct buf *rows);
/* A key that was pressed, 0 if it was none; -1: there will be none any more. To be called when standard input can be
 * read. */
int terminal_key(void);

#endif
