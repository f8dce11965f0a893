/*
 * sim: a simulated disk behind io.h: in memory, repeatable by a seed, able to fail any call and to lose power anywhere.
 *
 * Owns every file, handle and mapping made through it. Used from one thread only: nothing here is locked.
 * Invariant: all that happens is a function of the seed and of the sequence of calls.
 *
 * What it keeps apart, and what a power cut may do (mode SIM_POWER_RANDOM):
 *   - Bytes written and bytes synced, by sectors of 512 bytes. Each sector that was written since the last sync of its
 *     file is found old, new, or as it was at some moment between; never mixed.
 *   - Sizes. A growth that was not synced may be lost whole or in part (what lay behind the end vanishes), or survive
 *     while the bytes do not (zeros). A truncation that was not synced happened or did not.
 *   - Names. What open (IO_CREATE), mkdir, rename, unlink and rmdir did is durable after sync_dir of that directory, or
 *     sync_all. Syncing a file does not make its name durable. Until then each change is kept or lost by itself, or
 *     all from some moment on are lost. A rename shows the old name or the new one; a name is never lost with both.
 *     What lies in a directory whose own name is lost is lost with it.
 * A sync that fails (sim_fail_at) behaves as Linux does: the pages read well but are clean, so no later sync writes
 * them; they are lost at the next power cut unless they are written again. The next sync_all reports the error once.
 * Nor does a later sync make any change of a name durable in a directory whose sync has failed, until the process ends.
 */
#ifndef IRONWALD_SIM_H
#define IRONWALD_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io.h"

enum sim_kind {
	SIM_OPEN,
	SIM_PREAD,
	SIM_PWRITE,
	SIM_SYNC,
	SIM_TRUNCATE,
	SIM_ALLOCATE,
	SIM_SIZE,
	SIM_MAP,
	SIM_MAP_READ,
	SIM_MKDIR,
	SIM_RMDIR,
	SIM_UNLINK,
	SIM_RENAME,
	SIM_EXISTS,
	SIM_SYNC_DIR,
	SIM_LIST,
	SIM_SYNC_ALL,
	SIM_SPACE,
	SIM_LOCK,
	SIM_RANDOM,
	SIM_KIND_COUNT,
};

#define SIM_BIT(kind) (UINT32_C(1) << (kind))
#define SIM_ANY ((UINT32_C(1) << SIM_KIND_COUNT) - 1)
/* Flags beside the bits of the kinds, for sim_fail_at. */
#define SIM_TORN (UINT32_C(1) << 30)  /* a failing pwritev writes a part first (a seeded length, less than all) */
#define SIM_EVERY (UINT32_C(1) << 31) /* not once: the nth call and all that follow, until sim_fail_clear */

enum sim_power_mode {
	SIM_POWER_RANDOM, /* a seeded choice, as above */
	SIM_LOSE_ALL,	  /* nothing that was not synced is there */
	SIM_KEEP_ALL,	  /* all is there, but what a failed sync dropped */
	SIM_CHOSEN,	  /* as sim_set_choices says */
};

/* Never NULL (out of memory ends the program). An empty directory. */
struct io *sim_new(uint64_t seed);
/* Frees all, handles that are still open included. */
void sim_free(struct io *io);

/* ---- death ------------------------------------------------------------------------------------------------------ */

/* After `operations` more changing calls the power goes: the next one is caught in flight (its effect is unsynced; a
 * sync has none), it and all that follow answer -EIO until sim_power_on. Changing calls: open that creates, pwritev,
 * sync, truncate, allocate, mkdir, rmdir, unlink, rename, sync_dir, sync_all; also if they fail. */
void sim_cut_power_after(struct io *io, uint64_t operations);
void sim_cut_power_never(struct io *io);
bool sim_is_dead(const struct io *io);

/* Cuts the power if that was not done, decides what survived, and starts again: nothing is open, no cut is armed. */
void sim_power_on(struct io *io, enum sim_power_mode mode);

/* For SIM_CHOSEN: each thing that a power cut may keep or lose is decided by the next bit, from the lowest on (1: kept;
 * behind the 64th: lost): each change of a name, each sector of which the bytes differ (one that has an older state
 * since the last sync takes a second bit if it is lost), each size; a size that grew takes a second bit if it is lost,
 * for half of it. How many bits the last sim_power_on used is told by sim_choices. */
void sim_set_choices(struct io *io, uint64_t bits);
unsigned sim_choices(const struct io *io);

/* The process dies, the machine stays up: all that was written is there, nothing is open, no lock is held. Handles and
 * mappings of before answer -EBADF, and may still be closed. An armed power cut and faults stay. */
void sim_process_died(struct io *io);

/* ---- faults ----------------------------------------------------------------------------------------------------- */

/* The nth call (1: the next) of the kinds (SIM_BITs) fails once with os_errno (positive, as ENOSPC) and no effect, but
 * for SIM_TORN, and for failing syncs as described above. Several may be armed (up to 16). */
void sim_fail_at(struct io *io, uint64_t nth, int os_errno, uint32_t kinds);
void sim_fail_clear(struct io *io);
/* How many calls were failed so far by sim_fail_at. */
uint64_t sim_faults_fired(const struct io *io);

/* Files and directories take blocks of 4 KiB out of it; a pwritev that runs out writes what fits and answers -ENOSPC;
 * allocate takes all or nothing. 0: no bound (the default). */
void sim_set_capacity(struct io *io, uint64_t bytes);
uint64_t sim_used_bytes(const struct io *io);
/* open and lock answer -EMFILE beyond it. 0: no bound (the default). */
void sim_set_max_open(struct io *io, uint64_t descriptors);
/* How many of 1000 IO_NOWAIT reads find the cache cold (-EAGAIN, or a short count). Default 0. */
void sim_set_cold_reads(struct io *io, unsigned per_mille);
/* allocate answers -EOPNOTSUPP. */
void sim_set_no_allocate(struct io *io, bool unsupported);

/* ---- counters --------------------------------------------------------------------------------------------------- */

uint64_t sim_count(const struct io *io, enum sim_kind kind); /* calls */
uint64_t sim_op_count(const struct io *io);		     /* changing calls: the unit of sim_cut_power_after */
uint64_t sim_open_count(const struct io *io);		     /* descriptors, locks included */
uint64_t sim_open_high(const struct io *io);		     /* the most there were at once */
/* Files that were closed, by their last handle, with bytes that no sync had covered. */
uint64_t sim_closed_unsynced(const struct io *io);

/* ---- time ------------------------------------------------------------------------------------------------------- */

/* The monotonic clock moves a little (seeded) whenever it is asked, and starts anew at sim_power_on; the wall clock
 * goes with it. */
void sim_advance(struct io *io, uint64_t ns);
/* Steps the wall clock, back too. */
void sim_set_wall(struct io *io, uint64_t unix_ns);

/* ---- the hand inside the disk ----------------------------------------------------------------------------------- */
/* All of these pass by faults, counters and power. What they write is durable at once, and so is all else in that file;
 * with a new name, or one taken away, all names in its directory. They return 0 or a negative errno. */

/* The size, or a negative errno. */
int64_t sim_file_size(struct io *io, const char *path);
/* Reads exactly len bytes, else -ERANGE. */
int sim_read_file(struct io *io, const char *path, uint64_t offset, void *buf, size_t len);
/* The file is these bytes and no others; it is made if need be (its directory must be there). */
int sim_write_file(struct io *io, const char *path, const void *bytes, size_t len);
/* Overwrites in place; grows the file if need be. */
int sim_patch_file(struct io *io, const char *path, uint64_t offset, const void *bytes, size_t len);
int sim_truncate_file(struct io *io, const char *path, uint64_t size_bytes);
int sim_remove_file(struct io *io, const char *path);
/* bit 0 to 7 of the byte at offset. */
int sim_flip_bit(struct io *io, const char *path, uint64_t offset, unsigned bit);
int sim_list(struct io *io, const char *path, io_list_cb cb, void *arg);

#endif
