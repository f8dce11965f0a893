/*
 * checkpointer: the thread of the checkpoint log, and its queue.
 *
 * Owns the queue and, while open, the log. The loop submits; the thread (or a test's step of its chores) works.
 * Invariant: ops begin in the order in which they were submitted; creations that wait together are one group; what
 * takes long (lists, compactions) goes on piece by piece between the others. A log of which much was replaced is
 * compacted unasked.
 */
#ifndef IRONWALD_CHECKPOINTER_H
#define IRONWALD_CHECKPOINTER_H

#include "checkpoint_log.h"
#include "engine_private.h"

struct checkpointer;

/* Takes the log over, also on failure. 0 or a negative errno. */
int checkpointer_start(
	struct engine *engine, bool threads, struct checkpoint_log *log, struct checkpointer **ret_checkpointer);
/* What was submitted must have come back (or be dropped). Closes the log. NULL is legal. */
void checkpointer_stop(struct checkpointer *checkpointer);

void checkpointer_submit(struct checkpointer *checkpointer, struct checkpoint_op *op);
/* Tests: one round. */
bool checkpointer_step(struct checkpointer *checkpointer);
/* Tests: what is queued is forgotten. Without threads only. */
void checkpointer_drop(struct checkpointer *checkpointer);
/* At a clean stop, when nothing is in hand. */
int checkpointer_mark_end(struct checkpointer *checkpointer, struct error *err);
struct checkpoint_log *checkpointer_log(struct checkpointer *checkpointer);

/* ---- checkpoint_cut.c: the loop's part ---- */

/* The parts of an op have come back: of a creation, what makes its cut durable; it is not done with that. */
void checkpoint_cut_durable(struct engine *engine, struct op *op);
/* The offsets are loaded. True: segments are being deleted; it comes back when its parts have. */
bool checkpoint_prune_begin(struct engine *engine, struct op *op);
/* A shard is done. True: the part goes on with the next one of its writer. */
bool checkpoint_prune_next(struct engine *engine, struct op *part);
/* Makes a part of an op durable for the writer. False: call it again, behind what waits. [writers] */
bool checkpoint_sync_cut(struct writer *writer, struct op *part);

#endif
