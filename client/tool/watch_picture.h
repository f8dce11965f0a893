/*
 * watch_picture: one picture of a server, for a terminal of some size.
 *
 * Owns nothing. One thread.
 * Invariant: never more rows than there are, nor more characters in a row than the terminal has columns but one; only
 * ASCII, in which the one thing that a terminal acts upon is the colour, and without colour nothing is. What is worth
 * more stands above what is worth less, so that a small terminal cuts off the latter.
 */
#ifndef IRONWAL_WATCH_PICTURE_H
#define IRONWAL_WATCH_PICTURE_H

#include "buf.h"
#include "watch_figures.h"

/* Rows, with a newline between two of them, behind what is in buf. -1: out of memory. */
int watch_picture(const struct watch_scene *scene, size_t columns, size_t rows, bool colour, struct buf *buf);

#endif
