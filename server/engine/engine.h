/*
 * engine: the write-ahead log on disk, whole, without sockets.
 *
 * Owns the data directory, its writer threads and every stream. One thread, "the loop thread", calls what is marked
 * [loop]; what is marked [any] may be called by any thread between engine_open and engine_close.
 * Invariant, per stream, in ids: durable <= readable end <= written.
 *
 * The path of one append:
 *   loop    engine_submit: stream found or made, the op joins the batch for its writer; engine_kick hands the batch
 * over writer  takes what waits as one group, packs a frame per stream, reserves space, writes (segment or journal),
 * syncs as the mode asks, publishes the new ends, pushes the ops to the completion queue, wakes the loop (notify) loop
 * engine_take: the readable ends of the loop's own copy go forward, then the ops come back to be answered Reads never
 * enter that path: they take their bound from the loop's copy and read what is published.
 */
#ifndef IRONWALD_ENGINE_H
#define IRONWALD_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "finding.h"
#include "io.h"
#include "options.h"

struct engine;
struct stream;

#define STREAM_NAME_MAX 255

/* Called when completions are waiting, by a writer thread (or inside engine_step), at least once after each push onto
 * an empty queue. Must not block; it is for uv_async_send. */
typedef void (*engine_notify_cb)(void *arg);

struct engine_hooks {
	engine_notify_cb notify_cb;
	void *notify_arg;
	bool no_threads; /* tests: nothing runs but in engine_step */
	/* Asked now and then during engine_open; true: give up (SIGTERM), engine_open fails with ERR_SHUTTING_DOWN.
	 * NULL is legal. */
	bool (*cancelled)(void *arg);
	void *cancelled_arg;
	/* Told now and then, during engine_open, how many of the streams that there are have been looked at. NULL is
	 * legal.
	 */
	void (*progress_cb)(uint64_t done, uint64_t total, void *arg);
	void *progress_arg;
	/* Told, during engine_open, of whatever is not as a clean stop leaves it. NULL is legal. */
	recovery_found_cb found_cb;
	void *found_arg;
};

/* ---- open and close ------------------------------------------------------------------------------------------- */

/* Locks the directory, makes it if it is empty, recovers it, starts the writers. io must outlive the engine.
 * Errors: ERR_CONFIG (not ours, another version, in use), ERR_SHARD_COUNT_MISMATCH, ERR_CORRUPTION, ERR_CRC_MISMATCH
 * (damage under on_corruption = error), ERR_IO, ERR_SHUTTING_DOWN. Nothing is left open after an error. */
int engine_open(struct io *io, const struct engine_options *options, const struct engine_hooks *hooks,
	struct engine **ret_engine, struct error *err);

/* [loop] Finishes what is queued, syncs everything, records a clean stop, frees all. Completions that were not taken
 * must be taken before (see engine_idle). Returns -1 with err if something could not be made durable; the engine is
 * gone all the same. NULL is legal. */
int engine_close(struct engine *engine, struct error *err);

/* Tests: as if the process died here. Frees memory, closes descriptors, writes and syncs nothing. Only with no_threads.
 */
void engine_abandon(struct engine *engine);

/* ---- writing ---------------------------------------------------------------------------------------------------- */

/* Where the entries of an append come from: decoded in place, by the writer thread, out of bytes that the caller keeps
 * unchanged until the op is completed. next is called exactly `count` times, in order, per pass; rewind starts a new
 * pass. */
struct entry_source {
	uint64_t count;
	uint64_t total_bytes; /* sum of the lengths of all entries */
	void (*rewind)(struct entry_source *source);
	void (*next)(struct entry_source *source, const uint8_t **ret_bytes, size_t *ret_len);
};

enum op_kind {
	OP_APPEND,
	OP_TRUNCATE,
	OP_SYNC,
	OP_SYNC_CUT, /* the engine's own */
	/* those of checkpoint.h */
	OP_CREATE_CHECKPOINT,
	OP_LOAD_CHECKPOINT,
	OP_LOAD_LATEST_CHECKPOINT,
	OP_LIST_CHECKPOINTS,
	OP_PRUNE,
	OP_COMPACT_CHECKPOINTS,
};

/* A write request. The caller's memory; the engine holds it from engine_submit until engine_take gives it back. */
struct op {
	/* in */
	enum op_kind kind;
	struct entry_source *source; /* OP_APPEND */
	bool batch;		     /* OP_APPEND: append_batch (matters in batch_only) */
	bool sync;		     /* OP_APPEND: make it durable whatever the mode */
	bool has_expected;
	uint64_t expected_id;
	uint64_t safe_id; /* OP_TRUNCATE */
	/* out */
	struct error *error;	   /* NULL: it was done. Else the caller frees it with error_free(). */
	uint64_t first, end;	   /* OP_APPEND: ids [first, end) */
	bool durable;		   /* OP_APPEND: on disk when answered */
	uint64_t segments_deleted; /* OP_TRUNCATE */
	struct stream *stream;	   /* NULL for OP_SYNC of everything */
	/* the caller's, for whoever takes it back */
	void (*done_cb)(struct op *op);
	/* the engine's own */
	struct op *next;
	struct op *stream_next; /* the next append to the same stream in its group */
	bool conflict;		/* expected_id did not hold: first is the actual next id */
	struct op *parent;	/* of a part of one that concerns many writers or shards */
	uint32_t parts_left;
	const uint64_t *cut; /* OP_SYNC_CUT: what has to be durable, by shard, and the next shard to look at */
	uint32_t cut_at;
	uint64_t submitted_ns;
};

/* [loop] Hands op in for the stream of that name. OP_APPEND makes the stream if need be (it shows up when its first
 * append is done). OP_TRUNCATE and OP_SYNC of a stream that is not there: ERR_STREAM_NOT_FOUND. name NULL, for OP_SYNC:
 * everything. Returns 0: op will come back through engine_take (not before engine_kick, or, without threads,
 * engine_step). Returns -1 with err: refused at once, op is not held (ERR_INVALID_FILENAME, ERR_TOO_LARGE for an entry,
 * ERR_BUSY for max_streams, ERR_STREAM_NOT_FOUND, ERR_SHUTTING_DOWN). */
int engine_submit(struct engine *engine, struct op *op, const char *name, size_t name_len, struct error *err);

/* [loop] The same for the log of a shard, which is always there; shard < engine_shard_count. */
int engine_submit_shard(struct engine *engine, struct op *op, uint32_t shard, struct error *err);

/* [loop] Lets the writers see what was submitted since the last kick. Cheap when there is nothing. */
void engine_kick(struct engine *engine);

/* [loop] All ops that are complete, in the order of completion (linked by ->next), NULL if none. The readable ends that
 * stream_view shows include them. */
struct op *engine_take(struct engine *engine);

/* [any] Whether engine_take would give any. */
bool engine_has_done(struct engine *engine);

/* [loop] True if no op is held by the engine. */
bool engine_idle(struct engine *engine);
/* [loop] How many are. *ret_writers: at how many writers, as far as can be told; NULL: never mind. */
uint64_t engine_held_ops(struct engine *engine, uint32_t *ret_writers);
/* [loop] Of these, how many were submitted since the last kick. *ret_since_ns: when the first of them was. */
uint64_t engine_waiting_ops(const struct engine *engine, uint64_t *ret_since_ns);

/* [loop] Holds for streams that are made from here on; those that are there stay. */
void engine_set_max_streams(struct engine *engine, uint64_t max_streams);

/* ---- the loop's own view -------------------------------------------------------------------------------------- */

struct stream_view {
	uint64_t first; /* oldest id that is kept */
	uint64_t end;	/* one past the newest readable id */
};

/* [loop] NULL if there is no stream of that name (a stream exists from its first successful append on; a shard's log
 * always does). Streams never go away while the engine is open: the pointer stays good until engine_close. */
struct stream *engine_find(struct engine *engine, const char *name, size_t name_len);

/* [any] The log of a shard, empty if nothing was written to it; NULL: there is no such shard. */
struct stream *engine_shard(struct engine *engine, uint32_t shard);

/* [loop] */
struct stream_view stream_view(const struct stream *stream);
const char *stream_name(const struct stream *stream, size_t *ret_len); /* [any] NUL-terminated too */

/* [loop] A pointer of the caller's per stream (those who wait for its end to move). NULL at first. */
void stream_set_user(struct stream *stream, void *user);
void *stream_user(const struct stream *stream);

struct stream_info {
	uint64_t first, end, durable_end;
	uint64_t segments;
	uint64_t bytes;	       /* of frames, without what is held ahead */
	uint64_t active_start; /* first id of the active segment */
};

/* [loop] */
void engine_stream_info(struct engine *engine, struct stream *stream, struct stream_info *ret_info);

/* [loop] Names with the prefix (a shard's log only once it was written to), after `after` (exclusive; NULL: from the
 * start), in byte order; at most limit are given to cb. Returns true if there are more. */
bool engine_list(struct engine *engine, const char *prefix, size_t prefix_len, const char *after, size_t after_len,
	size_t limit, void (*cb)(struct stream *stream, void *arg), void *arg);

/* ---- reading ---------------------------------------------------------------------------------------------------- */

/* An entry, checked against its checksum. bytes are good during the call only. Non-zero stops the read (it is not
 * counted as read). */
typedef int (*read_entry_cb)(uint64_t id, const uint8_t *bytes, size_t len, void *arg);

enum read_result {
	READ_DONE = 0,	      /* reached the limit, the view's end, or the callback's stop */
	READ_WOULD_BLOCK = 1, /* only with nowait: go on at *next in a thread that may wait */
	READ_ERROR = -1,      /* err is filled; entries before *next were delivered */
};

/* [any] Delivers entries [start, min(end, view.end)) to cb. view is a copy taken on the loop thread.
 * *ret_next is one past the last entry delivered, in every case. With nowait nothing waits for a disk or a descriptor.
 * start below what is still kept: ERR_TRUNCATED with first_id. Damage: ERR_CRC_MISMATCH or ERR_CORRUPTION at *ret_next,
 * with first_id where reading can go on. ERR_IO. */
enum read_result engine_read(struct engine *engine, struct stream *stream, struct stream_view view, uint64_t start,
	uint64_t end, bool nowait, read_entry_cb cb, void *arg, uint64_t *ret_next, struct error *err);

/* ---- tests: one thread, any order ------------------------------------------------------------------------------ */

/* Only with no_threads. Step `which` of engine_step_count (writers, the filler, the deleter, the checkpointer, the
 * maker): does one round of its work without waiting; true if there was any. */
unsigned engine_step_count(struct engine *engine);
bool engine_step(struct engine *engine, unsigned which);

/* ---- what it did ------------------------------------------------------------------------------------------------- */

#define HISTOGRAM_BUCKETS 40 /* bucket i counts values in [2^i, 2^(i+1)) */
struct histogram {
	uint64_t count, sum, max;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

#define FAILED_REASON_MAX 160

struct writer_stats {
	bool failed;			       /* some of its shards, or all, refuse writes until a restart */
	char failed_reason[FAILED_REASON_MAX]; /* what failed first, empty if nothing did */
	uint64_t queue_depth;		       /* ops waiting */
	uint64_t shards, failed_shards;	       /* that it has; of these, those that refuse writes */
	uint64_t appends, batches, entries,
		bytes; /* accepted requests, of which batches; entries; raw bytes of entries */
	uint64_t conflicts, truncates, syncs_asked;
	uint64_t groups, journal_groups;
	uint64_t file_syncs, dir_syncs, journal_syncs;
	uint64_t held_bytes; /* in memory now, on disk in the journal alone */
	uint64_t rotations, no_space_errors;
	/* ops per group; time of each sync; from the kick to completion */
	struct histogram group_ops, sync_ns, queue_ns;
};

struct recovery_stats {
	bool clean_start;
	uint64_t duration_ns;
	uint64_t streams, segments;
	uint64_t journal_records, journal_ops;
	uint64_t tails_read, tail_bytes_read;
	uint64_t torn_tails_cut, torn_bytes_cut;
	uint64_t rot_found, files_set_aside;
	uint64_t entries_rewritten; /* frames written again and synced before serving (rule 10) */
};

struct engine_stats {
	uint32_t writer_count;
	uint64_t streams, segments, segment_bytes, open_segments, open_segments_max;
	uint64_t block_cache_hits, block_cache_misses, block_cache_bytes;
	uint64_t entries_read, bytes_read, damage_found, segments_unlinked, bytes_filled_ahead;
	struct io_space space;
	struct recovery_stats recovery;
};

/* [any] */
void engine_stats(struct engine *engine, struct engine_stats *ret_stats);
/* [any] writer < writer_count. Shard n belongs to writer n % writer_count. */
void engine_writer_stats(struct engine *engine, uint32_t writer, struct writer_stats *ret_stats);

/* [any] Cheap. Why some of the writer's shards, or all, take no writes until a restart; NULL: they do. */
const char *engine_writer_failed(struct engine *engine, uint32_t writer);
/* [any] */
uint32_t engine_writer_count(const struct engine *engine);

/* [any] The writer of a stream's name, and of a shard. */
uint32_t engine_shard_count(const struct engine *engine);

#endif
