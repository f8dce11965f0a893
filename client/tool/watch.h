/*
 * watch: the living picture of a server, until somebody ends it.
 *
 * Owns the tool's connection, which it makes again when it is lost, the signals and the terminal while it runs. One
 * thread, which waits for nothing but the next thing that happens: a server that hangs keeps no key waiting.
 * Invariant: one picture in each interval, whatever the server does; rates are between two answers of one process; and
 * however it ends, the terminal is as it was.
 */
#ifndef IRONWAL_WATCH_H
#define IRONWAL_WATCH_H

#include "tool.h"

struct watch_options {
	uint64_t interval_ns;
	uint64_t count; /* of pictures; 0: no end */
};

/* After tool_connect. The exit status. */
int watch_run(struct tool *tool, const struct watch_options *options);

#endif
