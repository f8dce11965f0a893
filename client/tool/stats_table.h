/*
 * stats_table: what the server counts, for people: a section for each part of it, in tables where things repeat.
 *
 * Owns a copy of the whole value while it prints. One thread.
 * Invariant: knows no names: whatever is counted some day is shown.
 */
#ifndef IRONWAL_STATS_TABLE_H
#define IRONWAL_STATS_TABLE_H

#include <stdbool.h>

#include "ironwal.h"

/* To standard output. False: out of memory. */
bool stats_table_print(const ironwal_value *value);

#endif
