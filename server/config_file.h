/*
 * config_file: the file of `key = value` lines, through libinih.
 *
 * Owns the open file during the call. For the main thread: libinih keeps its settings process-wide.
 * Invariant: libinih only ever sees lines that mean the same to it as to a reader of our man page. It knows sections,
 * `key: value`, continued lines, `;` comments, and a limit to a line's length over which it reads on as if a new line
 * began; such lines are refused before it sees them.
 */
#ifndef IRONWALD_CONFIG_FILE_H
#define IRONWALD_CONFIG_FILE_H

#include "config.h"
#include "error.h"

/* Stores what the file says into config. -1: ERR_CONFIG with "FILE:LINE: ..." or "FILE: ...". */
int config_file_read(const char *path, struct config *config, struct error *err);

#endif
