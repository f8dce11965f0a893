/*
 * feed: hands the lines of an input to whoever sends them, until the input ends, something fails, or somebody
 * interrupts.
 *
 * Owns what was read and not handed on, and SIGINT from feed_start to feed_end: the first one ends the reading, so that
 * what became of the lines can be told; the second one ends the program. One thread, one feed at a time.
 * Invariant: lines are handed on once each, in order, and while the input pauses nothing that was handed on waits.
 */
#ifndef IRONWAL_FEED_H
#define IRONWAL_FEED_H

#include <signal.h>

#include "append.h"
#include "lines.h"

struct feed {
	struct lines lines;
	const char *input; /* its name for people */
	uint64_t line;	   /* the number of the next one, from 0: how many were taken */
	/* Why it ended before the input did, though the receiver asked for more; empty: it did not. */
	char reason[256];
	struct sigaction before;
};

struct feed_receiver {
	/* Takes a line, which is good during the call. False: no more of them (then this one was not taken). */
	bool (*line)(void *arg, const uint8_t *line, size_t len);
	/* The input pauses: what was taken is to be sent. False: no more lines. NULL: there is nothing to do. */
	bool (*pause)(void *arg);
	void *arg;
};

void feed_start(struct feed *feed, const struct append_job *job, size_t max_bytes);
void feed_run(struct feed *feed, const struct feed_receiver *receiver);
/* Ends the feed from inside of a receiver: printf format. */
void feed_stop(struct feed *feed, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool feed_interrupted(void);
/* The signal is as it was before; reason can still be read. */
void feed_end(struct feed *feed);

#endif
