/*
 * writer: one thread that owns the streams of some shards: their next ids, active segments, rotation, truncation and
 * syncs.
 *
 * Owns its queue, its journal, its frame builder and the writer's part of every stream of its own. writer_submit,
 * writer_kick are the loop's; writer_step is the writer thread's (or a test's); the list lock is for readers too.
 * Invariant, per stream: synced <= published <= written, in bytes and in ids; an op is completed only when what it
 * promises is so.
 */
#ifndef IRONWALD_WRITER_H
#define IRONWALD_WRITER_H

#include <errno.h>

#include "engine_private.h"
#include "frame_builder.h"
#include "held.h"
#include "journal.h"
#include "recent.h"

/* So many active segments of a writer may hold as much as a spare's room ahead. */
#define ROOMY_MAX 4u

/* One stream's share of a group. */
struct plan {
	struct stream *stream;
	struct op *first;      /* its appends, by ->stream_next */
	struct segment *fresh; /* a segment made for this group, not published yet */
	uint8_t segment_header[SEGMENT_HEADER_MAX];
	size_t segment_header_bytes;
	struct built_frame built;
	uint64_t offset; /* where the write begins: the frame, or 0 with a segment header */
	uint64_t first_id, entries;
	uint32_t prev_check;
	uint64_t frame_offset;
	bool sync; /* has to be durable before it is published */
	bool has_frame;
	bool in_place;		    /* and it stands in the file, unsynced: it cannot be refused any more */
	const struct failure *lost; /* its shard stopped while it was written: nobody knows what of it is there */
	bool held;		    /* or in memory, until the journal is checkpointed */
	bool journaled;		    /* and the journal has it */
	struct error *error;	    /* this stream's appends failed with it, nothing written */
};

struct writer {
	struct engine *engine;
	uint32_t index;
	pthread_t thread;
	bool started;

	/* the loop's, until the kick */
	struct op *pending_first, *pending_last;

	pthread_mutex_t queue_lock;
	pthread_cond_t queue_changed;
	struct op *queue_first, *queue_last;
	bool stop;

	pthread_mutex_t list_lock;
	struct held *held_first, *held_last; /* under the list lock */

	/* the writer's own */
	struct op *ready_first, *ready_last;
	uint32_t solo; /* so many ops at the front go one by one: their stream had no room as a group */
	struct frame_builder builder;
	struct journal *journal;
	struct plan *plans;
	size_t plan_count, plan_cap;
	struct op *group_first, *group_last;
	uint64_t group_ops;
	struct stream *dirty;		 /* streams with bytes that are not durable */
	uint32_t pinned, pinned_max;	 /* descriptors held because their bytes are not durable */
	uint64_t spare_after_ns;	 /* no spare is made before */
	struct spare *spare;		 /* NULL: none */
	struct stream *roomy[ROOMY_MAX]; /* whose active segment was a spare, the next to be trimmed at roomy_next */
	uint32_t roomy_next;
	struct recent *recent_kept; /* memory for the next one; NULL: none */
	bool no_uncached;	    /* the file system wants it otherwise */
	uint64_t held_due_ns;  /* when what is held is written because nothing comes any more; 0: nothing is held */
	uint64_t next_sync_ns; /* when the interval is over; 0: nothing to sync */
	bool sync_is_late;     /* the last one by the interval found no descriptor */

	/* read by others: what is counted, relaxed; what failed with the order that shows its reason, too */
	struct writer_stats stats;
	atomic_uint_least64_t queued;
	atomic_bool checkpoint_again;		     /* the keeper could not, and nothing has failed for good */
	struct failure failure;			     /* of all its shards */
	const struct failure *_Atomic first_failure; /* that, or one of its shards'; NULL: all take writes */
};

/* Without threads, nothing runs until writer_step. */
int writer_new(struct engine *engine, uint32_t index, struct writer **ret_writer, struct error *err);
int writer_start(struct writer *writer, struct error *err);
/* Finishes the queue and ends the thread. */
void writer_stop(struct writer *writer);
/* Makes everything of its streams durable in place. 0 or -1 with err. After writer_stop. */
int writer_settle(struct writer *writer, struct error *err);
void writer_free(struct writer *writer); /* closes, writes nothing; NULL is legal */

void writer_submit(struct writer *writer, struct op *op);
void writer_kick(struct writer *writer);
bool writer_step(struct writer *writer);

/* Rule 4. The stream's shard refuses writes from here on, or with stream NULL all of the writer's shards. No journal
 * takes further groups or is ended until a restart: this writer's may hold the only good copy of what the shard has
 * acknowledged, and a sync of the file system, by which others' would be ended, answers with the same error once more.
 * Any thread; the first reason stays. */
void writer_fail(struct writer *writer, const struct stream *stream, int os_errno, const char *what, const char *path);
/* The same for the shard of a segment whose file it was. */
void writer_fail_segment(const struct segment *segment, int os_errno, const char *what);
/* The same for all writers: what failed may have been anybody's. */
void writer_fail_all(struct engine *engine, int os_errno, const char *what, const char *path);
/* Makes the names in the data directory durable. Only one is told of an error, so it fails all before another can try,
 * and none tries after that. 0; -EMFILE, -ENFILE: nothing was tried; or a negative errno. Any thread. */
int writer_sync_root(struct engine *engine);
/* Why the stream's shard takes no writes; NULL: it does. Any thread. */
const struct failure *failure_of(const struct stream *stream);
/* What a request is told that comes after that. */
struct error *failure_refusal(const struct failure *failure);

#define STAT_ADD(writer, field, n)                                                                                     \
	__atomic_store_n(&(writer)->stats.field, (writer)->stats.field + (uint64_t)(n), __ATOMIC_RELAXED)
void stat_record(struct histogram *histogram, uint64_t value);

/* So many files in a group are written and synced one by one; more go through the journal: one sync of it is faster
 * than two of theirs. */
#define DIRECT_FILES_MAX 1
/* So many streams a group can have whatever memory there is. */
#define PLANS_MIN 16u

/* An Io error for op->error, as by error_copy. */
struct error *op_io_error(int os_errno, const char *what, const char *path, enum error_outcome outcome);

/* group.c: forms one group from the ready ops, carries it out and completes it. False: the first ready op is no append.
 */
bool group_run(struct writer *writer);

/* Fails the stream's share of the group: nothing of it is (or stays) written. */
void plan_fail(struct writer *writer, struct plan *plan, int r, const char *what);

/* group_write.c: writes and syncs what was prepared, for all plans. Afterwards each is done, has an error, or its shard
 * has stopped. */
void group_write(struct writer *writer);
/* Has the keeper write what is held: nothing came for a while. */
void group_write_idle(struct writer *writer);

/* tail.c: the active segment of a stream. All return 0 or a negative errno. Where a write or a sync of what is in the
 * log has failed, the shard has been stopped. */

/* Whether an append would go to a new segment, counting what the group holds already. */
bool tail_is_full(const struct writer *writer, const struct stream *stream);
/* Closes a full segment: durable, name too, sealed, published as such. */
int tail_seal(struct writer *writer, struct stream *stream);
/* Makes the file of the next segment; published only by the group. */
int tail_create(struct writer *writer, struct plan *plan);
void tail_discard(struct writer *writer, struct plan *plan);
/* Blocks for [offset, end) exist afterwards. */
int tail_reserve(struct writer *writer, struct segment *segment, struct tail *tail, uint64_t end);
/* Cuts the file at offset: the rest was written in vain. */
int tail_take_back(struct tail *tail, struct io *io, struct io_file *file, uint64_t offset);
/* Pins the descriptor. */
int tail_pin(struct writer *writer, struct segment *segment, struct io_file **ret_file);
/* Makes everything of the stream durable: in place if it is dirty there, by the journal otherwise. */
int tail_sync(struct writer *writer, struct stream *stream);
/* Its shard has stopped: it waits for no sync any more, and keeps no descriptor for one. */
void tail_let_go(struct writer *writer, struct stream *stream);
/* The names of the stream's active segment and directory. */
int tail_sync_names(struct writer *writer, struct stream *stream);
bool tail_names_durable(const struct writer *writer, const struct stream *stream);
void tail_mark_dirty(struct writer *writer, struct stream *stream);
void tail_mark_synced(struct writer *writer, struct stream *stream);
/* Saves index points that are proven by a sync, now and then or (all) at the end. */
void tail_save_index(struct writer *writer, struct stream *stream, bool all);
/* It is among those that may hold as much room ahead as a spare has. */
bool tail_is_roomy(const struct writer *writer, const struct stream *stream);
/* Asks for zeros ahead if the segment grows fast enough to deserve them. */
void tail_fill_ahead(struct writer *writer, struct stream *stream);

/* Gives back the room that was made ahead for the streams that got a spare, but for those of the group. */
void tail_trim_all(struct writer *writer);
/* The disk is full: the spare goes, and that room. */
void tail_give_back_room(struct writer *writer);

/* Ends what is under way in the background for the tail, and forgets it, with what it has in memory. */
void tail_end(struct writer *writer, struct stream *stream);

/* truncate.c: takes whole segments below op->safe_id off the list. */
void writer_truncate(struct writer *writer, struct op *op);

/* 0 or a negative errno: the writer has stopped. */
int writer_journal_sync(struct writer *writer);
/* 0: what is not durable is of shards that have stopped. A negative errno: there was no descriptor for one, or the
 * writer has stopped. */
int writer_sync_all(struct writer *writer);

#endif
