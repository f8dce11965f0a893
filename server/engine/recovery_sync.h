/*
 * recovery_sync: makes durable what recovery wrote, and begins with it while recovery still goes on.
 *
 * Owns a thread once many files were written to (none where the engine has none: then it syncs where it is told of
 * them). The thread that opens the engine calls it. Invariant: recovery_sync_end answers 0 only if a sync of everything
 * began behind the last write that it was told of and ended well, and none before it failed: the system tells of a
 * failure once, to whoever syncs then, and that may be early.
 */
#ifndef IRONWALD_RECOVERY_SYNC_H
#define IRONWALD_RECOVERY_SYNC_H

#include "engine_private.h"

struct recovery_sync {
	struct chore chore; /* the sync that is begun early */
	struct engine *engine;
	struct chores *chores; /* NULL: no thread yet */
	atomic_bool busy;
	atomic_int failed;   /* a negative errno */
	uint64_t since_last; /* files that were written to since a sync was begun */
	bool needed;
};

void recovery_sync_begin(struct recovery_sync *sync, struct engine *engine);
/* So many files were written to. */
void recovery_sync_note(struct recovery_sync *sync, uint64_t files);
/* Ends the thread. give_up: recovery failed, and nothing will be served. 0, or -1 with err. */
int recovery_sync_end(struct recovery_sync *sync, bool give_up, struct error *err);

#endif
