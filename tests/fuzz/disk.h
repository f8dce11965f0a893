/*
 * disk: a data directory with what a fuzzer has put into it, started and read in every way that must come to the same.
 *
 * Owns the simulated disk and the engine on it. One thread.
 * Invariant: every entry that is read stands, with right checksums, in some file of its stream's directory, by a reader
 * of frames that was written for this alone.
 */
#ifndef IRONWALD_FUZZ_DISK_H
#define IRONWALD_FUZZ_DISK_H

#include "engine.h"
#include "sim.h"

/* Puts the files there, always the same ones for the same arg. */
typedef void (*disk_fill)(struct io *io, void *arg);

enum disk_flags {
	DISK_MMAP = 1,		 /* read by mappings in the first start, and not in the others */
	DISK_KEEPS_REFUSED = 2,	 /* a start that is refused leaves every file as it was */
	DISK_BOTH = 4,		 /* a start without damage is the same under both policies */
	DISK_TAIL_IS_WHOLE = 16, /* the newest segment has no index, by which a start may pass over what is before it */
	DISK_ROT = 32,		 /* what was durable is broken: it has to be refused under on_corruption = error */
	DISK_FORGED = 8, /* right checksums over what is not so, which no fault makes: whatever is shown, nothing else
			    breaks, and it may be refused under both policies */
};

/* Starts on it under on_corruption = error; if that is refused, under truncate. What comes up must be there again after
 * a death, after a power cut and after a clean stop; and each stream must take an entry at its end. */
void disk_trial(disk_fill fill, void *arg, unsigned flags);

/* A disk that was started once and has nothing in it. */
struct io *disk_new(void);
/* Writes a file, and makes its directory. */
void disk_put(struct io *io, const char *path, const void *bytes, size_t len);

/* Of all names and bytes, but for the lock and indexes. */
uint64_t disk_hash(struct io *io);

/* Everything in hand is done. */
void disk_run(struct engine *engine);

#endif
