/*
 * watch_table: the tables below a picture: writers, and kinds of requests.
 *
 * Owns nothing. One thread.
 * Invariant: no row that there is no room for; what is left out is summed up in a last row, so that each column still
 * says all. Columns that nobody counts, or that there is no room for, are left out as a whole.
 */
#ifndef IRONWAL_WATCH_TABLE_H
#define IRONWAL_WATCH_TABLE_H

#include "canvas.h"
#include "watch_figures.h"

/* In the rows that are left. */
void watch_tables(struct canvas *canvas, const struct watch_figures *figures);

#endif
