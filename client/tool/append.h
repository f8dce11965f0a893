/*
 * append: what `ironwal append` was asked to do.
 *
 * Owns nothing; the descriptor is closed by who opened it. One thread.
 * Invariant: fd is open for reading, unless the entry is an argument.
 */
#ifndef IRONWAL_APPEND_H
#define IRONWAL_APPEND_H

#include "tool.h"

struct append_job {
	const char *stream;
	int fd;
	const char *input; /* its name for people */
	ironwal_append_options options;
};

/* Every line an entry. Prints the ids; after a failure says what became of each line. An exit status. */
int append_lines(struct tool *tool, const struct append_job *job);

#endif
