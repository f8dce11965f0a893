/*
 * append: what `ironwal append` and `ironwal shard append` were asked to do.
 *
 * Owns the descriptor from append_open to append_close. One thread.
 * Invariant: fd is open for reading, unless the entry is an argument.
 */
#ifndef IRONWAL_APPEND_H
#define IRONWAL_APPEND_H

#include "tool.h"

struct append_job {
	const char *stream; /* not for a shard */
	int fd;
	const char *input; /* its name for people */
	ironwal_append_options options;
};

/* Where an entry comes from: file, or standard input if it is NULL. Else than -1 (TOOL_GO_ON): the exit status. */
int append_open(const struct tool *tool, const char *file, struct append_job *job);
void append_close(struct append_job *job);
/* All of it as one entry. hint is what to do if it is too large. TOOL_GO_ON, or the exit status. */
int append_read(const struct tool *tool, const struct append_job *job, const char *hint, struct buf *ret_entry);

/* Every line an entry. Prints the ids; after a failure says what became of each line. An exit status. */
int append_lines(struct tool *tool, const struct append_job *job);

#endif
