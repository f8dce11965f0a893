/*
 * append: what `ironwal append` and `ironwal shard append` were asked to do.
 *
 * append.c: one entry; append_lines.c, append_batch.c, append_keyed.c: those of an input.
 * Owns the descriptor from append_open to append_close. One thread.
 * Invariant: fd is open for reading, unless the entry is an argument.
 */
#ifndef IRONWAL_APPEND_H
#define IRONWAL_APPEND_H

#include "progress.h"
#include "tool.h"

struct append_job {
	const char *stream; /* NULL: by key */
	struct buf key;	    /* by key, if it is one for all */
	const char *file;   /* NULL: standard input */
	int fd;
	const char *input;	  /* its name for people */
	bool lines, batch, null;  /* lines: in batches as they come; batch: all in one; null: not newlines but NULs */
	bool hex, with_positions; /* by key only */
	ironwal_append_options options;
};

/* What is wrong about an entry on the command line, or NULL, together with the options: TOOL_GO_ON, or the exit status.
 * what: "an ENTRY". */
int append_check(const struct tool *tool, const struct append_job *job, const char *entry, const char *what);
/* Opens file, or standard input. TOOL_GO_ON, or the exit status. */
int append_open(const struct tool *tool, struct append_job *job);
void append_close(struct append_job *job);
/* All of it as one entry. hint is what to do if it is too large. TOOL_GO_ON, or the exit status. */
int append_read(const struct tool *tool, const struct append_job *job, const char *hint, struct buf *ret_entry);
/* Of the bytes of the input, if it is a file. */
void append_progress(struct progress *progress, const struct append_job *job);

/* Every line an entry. Prints the ids; after a failure says what became of each line. An exit status. */
int append_lines(struct tool *tool, const struct append_job *job);
/* Every line an entry of one batch, to a stream or to the shard of the key. An exit status. */
int append_batch(struct tool *tool, const struct append_job *job);
/* Every line a key, a tab, and a value. An exit status. */
int append_keyed_lines(struct tool *tool, const struct append_job *job);

#endif
