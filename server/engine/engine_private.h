/*
 * engine_private: what the parts of the engine share. Not for outside.
 *
 * Owned by engine.c. Each field says whose it is; what is fixed at open may be read by all.
 */
#ifndef IRONWALD_ENGINE_PRIVATE_H
#define IRONWALD_ENGINE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "block_cache.h"
#include "chores.h"
#include "engine.h"
#include "stream.h"

#define MANIFEST_PATH NAMES_OWN_PREFIX "manifest"
#define LOCK_PATH NAMES_OWN_PREFIX "lock"
#define CLEAN_PATH NAMES_OWN_PREFIX "clean"

#define WRITERS_MAX 16u

/* Why a shard, or a writer with all of its shards, takes no writes until a restart. Set once, by writer_fail; what it
 * says is there before `is` can be seen. */
struct failure {
	atomic_bool is;
	int os_errno;
	char reason[FAILED_REASON_MAX];
};

struct checkpoint_op;
struct checkpointer;
struct reader;
struct writer;

struct engine {
	/* fixed at open */
	struct io *io;
	struct engine_options options;
	struct engine_hooks hooks;
	struct writer **writers;
	uint32_t writer_count;
	struct open_cache *open_cache;
	struct block_cache *block_cache;
	struct block_maps *block_maps;
	atomic_uint_least64_t no_room_ns; /* when the disk was last found full; 0: it was not */
	struct chores *filler, *keeper, *maker;
	struct io_file *lock;
	struct recovery_stats recovery;
	struct checkpointer *checkpointer;
	struct stream **shards;		/* their logs, by number */
	uint64_t *shard_floors;		/* start-up's: the newest checkpoint's offsets, or zeros */
	struct failure *shard_failures; /* one each: see writer_fail */
	atomic_bool any_failed;		/* a shard has; never cleared */
	atomic_bool all_failed;		/* writer_fail_all was called */
	pthread_mutex_t root_lock;	/* writer_sync_root's */

	/* the loop's */
	struct stream_table table;
	uint64_t max_streams;		/* at first that of the options */
	uint64_t ops_held, ops_waiting; /* in all; that were not kicked yet */
	uint64_t waiting_since_ns;
	struct checkpoint_op *cuts, **cuts_last; /* creations whose cut is not durable yet, in order */
	bool closing;
	atomic_bool leftovers; /* a segment that left could not be deleted: a clean-stop record would not tell of it */
	atomic_bool abandoned; /* tests: the process is as good as dead, chores only clean up */

	/* completions, from writers to the loop */
	pthread_mutex_t done_lock;
	struct op *done_first, **done_last;
	atomic_bool has_done; /* done_first is not NULL, for a look without the lock */

	/* idle readers */
	pthread_mutex_t readers_lock;
	struct reader *readers;
	unsigned reader_count;

	/* any thread, relaxed */
	atomic_uint_least64_t stream_count, segment_count, segment_bytes;
	atomic_uint_least64_t entries_read, bytes_read, damage_found, segments_unlinked, bytes_filled;
};

static inline void count_add(atomic_uint_least64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline void count_sub(atomic_uint_least64_t *counter, uint64_t n)
{
	atomic_fetch_sub_explicit(counter, n, memory_order_relaxed);
}

/* Recovery's, for whoever asked to be told. */
static inline void recovery_tell(const struct engine *engine, const struct recovery_finding *finding)
{
	if (engine->hooks.found_cb)
		engine->hooks.found_cb(finding, engine->hooks.found_arg);
}

/* Hands finished ops (a chain by ->next, in order) to the loop. [writers] */
void engine_complete(struct engine *engine, struct op *first, struct op *last);

/* A stream of that name with its shard and its writer, not in the table yet. NULL: out of memory. */
struct stream *engine_new_stream(struct engine *engine, const char *name, size_t len, uint64_t hash);

/* reader.c */
void readers_free(struct engine *engine);

/* recovery.c: fills the table; everything that it accepts is durable when it returns 0. */
int recovery_run(struct engine *engine, struct error *err);
/* recovery_journal.c: applies the journals of that names (one behind the other, each with its NUL), oldest generation
 * first. */
int recovery_replay(struct engine *engine, const char *paths, size_t path_count, struct error *err);
/* Whether the directory holds a segment newer than first_id, or that one set aside: 1, 0 or a negative errno. */
int recovery_has_newer(struct engine *engine, const char *dir, uint64_t first_id);
/* The stream that a directory with a hashed name belongs to, by its segments' headers: 0; 1: no header tells; negative
 * errno. Any thread. */
int recovery_dir_owner(struct engine *engine, const char *dir, char name[NAMES_STREAM_MAX + 1], size_t *ret_len);

/* shards.c: shards_load_floors before recovery, shards_make behind it: the logs of all shards are in the table then. */
int shards_load_floors(struct engine *engine, struct error *err);
int shards_make(struct engine *engine, struct error *err);
/* How many entries of the stream are known from a checkpoint to have been durable; 0 if it is no shard's. */
uint64_t shards_floor(const struct engine *engine, const char *name, size_t len);

/* recovery_tail.c: judges the end of the stream's newest segment (rules 5, 8 and 10 of the durability contract), loads
 * its tail, cuts and sets aside as needed. proven_end: the file was known to be durable up to there (0: not known);
 * proven_next_id: and held the ids below it. no_index: the directory was listed, and has no file of index points for
 * the segment. *ret_rewritten: bytes were written again and have to be synced before serving. */
struct tail_facts {
	uint64_t proven_end, proven_next_id;
	bool no_index;
};
int recovery_tail(struct engine *engine, struct stream *stream, const struct tail_facts *facts, bool *ret_rewritten,
	struct error *err);
/* recovery_aside.c: a new, empty, durable segment whose name tells the next id, whatever becomes of what is before
 * it. */
int recovery_successor(struct engine *engine, struct stream *stream, uint64_t next_id, uint32_t prev_check,
	struct segment **ret_segment);

/* manifest.c: a directory without a manifest that holds something else is refused, before anything is written there. */
int manifest_refuse_foreign(struct engine *engine, struct error *err);
/* Makes or checks the manifest. */
int manifest_check(struct engine *engine, bool *ret_fresh, struct error *err);

/* clean_stop.c: one file for all streams, written at a clean stop; trusted once. */
int clean_stop_write(struct engine *engine, struct error *err);
/* 1: it was whole and the table is filled from it, *ret_streams are all of them (to be freed by free) in its order; 0:
 * there is none to trust; -1 with err. */
int clean_stop_load(struct engine *engine, struct stream ***ret_streams, size_t *ret_count, struct error *err);
/* Removes it, durably. */
int clean_stop_remove(struct engine *engine, struct error *err);

/* recovery.c: a stream that is loaded is shown. */
void recovery_show(struct engine *engine, struct stream *stream);

/* recovery.c, for clean_stop.c too: a stream that is known from disk, visible, in the table. NULL with err. */
struct stream *recovered_stream(struct engine *engine, const char *name, size_t len, struct error *err);

#endif
