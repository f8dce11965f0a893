/*
 * checkpoint_log: the file that checkpoints are kept in (checkpoint_format.h).
 *
 * Owns the file and its index. Used by start-up, then by the checkpointer's thread alone; what is marked [any] may be
 * called by any. Invariant: every record below `end` is durable, and in the index.
 */
#ifndef IRONWALD_CHECKPOINT_LOG_H
#define IRONWALD_CHECKPOINT_LOG_H

#include <pthread.h>

#include "checkpoint.h"
#include "checkpoint_index.h"
#include "io.h"

#define CHECKPOINT_PATH NAMES_OWN_PREFIX "checkpoints"
#define CHECKPOINT_NEW CHECKPOINT_PATH ".new"

/* Creations in one write, in bytes of records, at most (one alone may be larger). */
#define CHECKPOINT_GROUP_BYTES (1u << 20)

struct compaction;

struct checkpoint_log {
	struct io *io;
	uint32_t shard_count;
	/* makes the names in the data directory durable, which others have in it, too; NULL: nobody has */
	int (*sync_root)(void *arg);
	void *sync_root_arg;
	struct io_file *file; /* NULL: it is made with the first checkpoint */
	uint64_t salt;
	uint64_t end;	   /* behind the last record */
	uint64_t prepared; /* the file's blocks exist up to there, and are zeros from `end` on */
	uint64_t last_timestamp;
	struct checkpoint_hash last_hash; /* of the record before `end` */
	bool end_is_marked;		  /* the last record proves all before it */
	struct checkpoint_index index;
	struct buf buf;		       /* a record that is read, or a group that is written */
	struct compaction *compaction; /* NULL: none is under way */

	/* written by its thread, read by others: relaxed; the text under the lock */
	pthread_mutex_t lock;
	int failed_errno; /* 0: it did not */
	struct checkpoint_stats stats;
};

/* Reads headers, not contents, but for the last group's: cuts a torn end, makes durable what it accepts. Damage never
 * keeps it from opening. ERR_IO. */
int checkpoint_log_open(struct io *io, uint32_t shard_count, const struct engine_hooks *hooks,
	struct checkpoint_log **ret_log, struct error *err);
/* Writes nothing. NULL is legal. */
void checkpoint_log_close(struct checkpoint_log *log);
/* At a clean stop: a last record, from which the next start knows that all before it was durable. Without room for it
 * there is none. 0, or -1 with err. */
int checkpoint_log_mark_end(struct checkpoint_log *log, struct error *err);
/* So much of it was replaced that it should be compacted. */
bool checkpoint_log_is_stale(const struct checkpoint_log *log);

/* The offsets of the newest checkpoint that can be read: what they count was durable. False: there is none. */
bool checkpoint_log_newest(struct checkpoint_log *log, uint64_t *ret_offsets);

/* Each sets op.error or what the op gives. */
void checkpoint_log_create(struct checkpoint_log *log, struct checkpoint_op *first); /* a chain by op.next: one group */
void checkpoint_log_load(struct checkpoint_log *log, struct checkpoint_op *op);
void checkpoint_log_latest(struct checkpoint_log *log, struct checkpoint_op *op);
/* These two do a piece of it. False: call it again, others may have their turn in between. */
bool checkpoint_log_list(struct checkpoint_log *log, struct checkpoint_op *op);
bool checkpoint_log_compact(struct checkpoint_log *log, struct checkpoint_op *op);

/* ---- inner: checkpoint_recover.c, checkpoint_compact.c ---- */

/* Reads the record into log->buf. 0: its header is this one; 1: it is not, *ret_reason says why; negative errno. */
int checkpoint_log_read(struct checkpoint_log *log, const struct checkpoint_entry *entry,
	struct checkpoint_record *ret_record, const char **ret_reason);
/* The same, and the content is whole. */
int checkpoint_log_read_whole(struct checkpoint_log *log, const struct checkpoint_entry *entry,
	struct checkpoint_record *ret_record, const char **ret_reason);
void checkpoint_log_fail(struct checkpoint_log *log, int os_errno, const char *what);
/* Makes the file's name durable, or stops the log. */
int checkpoint_log_sync_name(struct checkpoint_log *log);
void checkpoint_log_sync_done(struct checkpoint_log *log, uint64_t begin_ns);
/* Counts that others read follow the index and the end. */
void checkpoint_log_publish(struct checkpoint_log *log);
void checkpoint_set_error(struct checkpoint_op *op, const struct error *err); /* in place of one that it has */
void compaction_free(struct checkpoint_log *log);
int checkpoint_log_recover(struct checkpoint_log *log, const struct engine_hooks *hooks, struct error *err);

#endif
