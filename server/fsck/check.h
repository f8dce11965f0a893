/*
 * check: what verify and repair look with: an engine that recovered the directory, its files, and where findings go.
 *
 * Owns the window and the scratch memory; borrows io and report; the engine is check_open's and check_close's. One
 * thread. Invariant: nothing here writes to `io` but the engine's own recovery.
 */
#ifndef IRONWALD_FSCK_CHECK_H
#define IRONWALD_FSCK_CHECK_H

#include "buf.h"
#include "engine_private.h"
#include "report.h"
#include "scan.h"

struct counts {
	uint64_t streams, segments, frames, entries, bytes, index_points, checkpoints;
	uint64_t ids_lost_before; /* holes that a start has dealt with */
	uint64_t elapsed_ns;
};

struct index_check;

struct check {
	struct io *io;	  /* what the engine runs on */
	struct io *below; /* the directory as it is; the same as io if the engine changes it */
	struct engine *engine;
	struct report *report;
	struct progress *progress;
	struct counts counts;
	uint64_t bytes_done; /* of segments that are done with */
	struct window window;
	struct buf raw;
	/* Repair's: an index file should be made anew. NULL is legal. 0 or a negative errno. */
	int (*index_cb)(struct check *check, const struct index_check *index, uint64_t salt);
};

/* The engine's own recovery on check->io, under on_corruption = truncate, with the directory's own shard_count; what it
 * finds is reported. STATUS_CLEAN: check->engine is open. STATUS_DAMAGE: damage keeps it from opening (reported).
 * STATUS_FAILED: err says why. */
enum fsck_status check_open(struct check *check, struct error *err);

/* check_found.c: findings of recovery, as hooks.found_cb. arg: the check. */
void check_found(const struct recovery_finding *found, void *arg);

/* Each looks at all that it is named after, and reports. 0, or -1 with err: it could not go on. */
int check_manifest(struct check *check, struct error *err);
int check_streams(struct check *check, struct error *err);
int check_checkpoints(struct check *check, struct error *err);
int check_names(struct check *check, struct error *err);

/* check_index.c: the index file of a segment, beside the walk through its frames. */
struct index_check {
	struct check *check;
	const struct segment *segment;
	char path[SEGMENT_PATH_MAX];
	struct index points; /* whole ones, by offset */
	uint32_t at;	     /* the next one to be compared */
	struct index wanted; /* those that a complete file has */
	bool missing, broken, lies;
};
int index_check_begin(struct index_check *index, struct check *check, const struct segment *segment, uint64_t salt);
/* A frame begins there. */
void index_check_frame(struct index_check *index, struct index_point point);
/* Nothing can be said of points in [from, to). */
void index_check_skip(struct index_check *index, uint64_t from, uint64_t to);
/* The frames end there. True: the file of a sealed segment is not what it should be. */
bool index_check_end(struct index_check *index, struct index_point end);
void index_check_free(struct index_check *index);

/* Was there before recovery made or renamed anything. */
bool check_was_there(const struct check *check, const char *path);

void check_free(struct check *check);

#endif
