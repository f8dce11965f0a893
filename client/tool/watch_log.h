/*
 * watch_log: one picture of a server as a line, for logs and scripts.
 *
 * Owns nothing; writes to standard output. One thread.
 * Invariant: every line has the same columns, and what is not known is "-", or null in JSON; no unit is ever scaled.
 */
#ifndef IRONWAL_WATCH_LOG_H
#define IRONWAL_WATCH_LOG_H

#include "watch_figures.h"

void watch_log_header(void);
void watch_log_line(const struct watch_scene *scene);
void watch_log_json(const struct watch_scene *scene);

#endif
