#include "recovery_sync.h"

/* A sync costs a commit of the file system and a flush of the disk, whatever there is to write. */
#define FILES_OF_A_SYNC 4096u

static enum chore_result sync_early(struct chore *chore)
{
	struct recovery_sync *sync = (struct recovery_sync *)chore;
	int r = sync->engine->io->ops->sync_all(sync->engine->io);
	if (r != 0)
		atomic_store(&sync->failed, r);
	atomic_store(&sync->busy, false);
	return CHORE_DONE;
}

void recovery_sync_begin(struct recovery_sync *sync, struct engine *engine)
{
	*sync = (struct recovery_sync){.chore.run = sync_early, .engine = engine};
}

void recovery_sync_note(struct recovery_sync *sync, uint64_t files)
{
	sync->needed |= files > 0;
	sync->since_last += files;
	if (sync->since_last < FILES_OF_A_SYNC || atomic_load(&sync->busy) || atomic_load(&sync->failed) != 0)
		return;
	bool threads = !sync->engine->hooks.no_threads;
	if (threads && !sync->chores && chores_start(true, "recovery", false, &sync->chores) != 0)
		return; /* no thread, no early sync: it is only slower */
	sync->since_last = 0;
	atomic_store(&sync->busy, true);
	if (threads)
		chores_add(sync->chores, &sync->chore);
	else
		(void)sync_early(&sync->chore);
}

int recovery_sync_end(struct recovery_sync *sync, bool give_up, struct error *err)
{
	struct io *io = sync->engine->io;
	if (sync->chores && !give_up)
		chores_drain(sync->chores);
	chores_stop(sync->chores);
	if (give_up)
		return 0;
	int r = atomic_load(&sync->failed);
	if (r == 0 && sync->needed)
		r = io->ops->sync_all(io);
	return r == 0 ? 0 : error_set_io(err, -r, "make durable what recovery accepted in", "the data directory");
}
