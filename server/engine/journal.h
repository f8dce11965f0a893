/*
 * journal: one writer's redo log, which makes a group that touches several files durable by one write and one sync.
 *
 * Owns two files, ironwald.journal-<writer>-0 and -1, used in turn, each use a new generation. The writer's thread
 * calls it; journal_checkpoint may be called by another thread (never two at once). Readers never look at it.
 * Invariant: a generation's records are overwritten only after everything in them is durable in the segments.
 *
 * A record, little-endian, at a multiple of 512, padded with zeros:
 *   0  4  magic "IWJR"              32  8  content_bytes behind the 64 of the header
 *   4  4  op_count                  40  8  synced_seq: records up to it were synced when this one was written
 *   8  8  epoch: random per start   48  4  CRC-32C of the content
 *  16  8  generation                52  8  zero
 *  24  8  seq, 1 for the first of   60  4  CRC-32C of the 60 bytes before it
 *         its generation
 * Content, per op: dir_bytes (2), zero (6), segment's first id (8), offset (8), data_bytes (8), dir, data, each padded
 * to 8. An op at offset 0 begins with the segment's header: it makes the file (and its directory) if it is not there.
 * A record counts if and only if it is whole, of the epoch and generation of the file's first, and next in seq.
 */
#ifndef IRONWALD_JOURNAL_H
#define IRONWALD_JOURNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "io.h"

#define JOURNAL_SOFT_BYTES (1u << 20)		    /* prepared at first; a switch is tried behind so much, at least */
#define JOURNAL_BUSY_BYTES (64u << 20)		    /* behind so much where it goes round fast: what writers share */
#define JOURNAL_BUSY_MIN (16u << 20)		    /* or behind so much, where many do */
#define JOURNAL_HARD_BYTES (2 * JOURNAL_BUSY_BYTES) /* no file grows past it; a share's no past twice that share */
#define JOURNAL_ALIGN 512u
#define JOURNAL_PATH_MAX 48

struct journal;

void journal_path(uint32_t writer, unsigned half, char out[JOURNAL_PATH_MAX]);
bool journal_is_path(const char *name);
uint32_t journal_writer_of(const char *path);

/* Makes, empties (durably, as all they held has been applied) and prepares both files, for one of so many writers.
 * 0 or a negative errno. */
int journal_open(struct io *io, uint32_t writer, uint32_t writers, struct journal **ret_journal);
void journal_close(struct journal *journal);

/* Collects one record. */
void journal_begin(struct journal *journal);
int journal_add(struct journal *journal, const char *dir, uint64_t segment_first_id, uint64_t offset,
	const struct iovec *iov, int iov_count);
/* Bytes of the record as collected, with padding. */
uint64_t journal_record_bytes(const struct journal *journal);

enum journal_room {
	JOURNAL_ROOM,
	JOURNAL_SWITCH, /* room, after journal_switch */
	JOURNAL_FULL,	/* journal_checkpoint has to be done first */
};
enum journal_room journal_room(const struct journal *journal, uint64_t record_bytes);

/* Goes over to the other file. What this one holds must be synced (journal_sync) and written in place before. Returns
 * the generation that is now to be checkpointed. */
uint64_t journal_switch(struct journal *journal);

/* Writes the record behind the last. */
int journal_write(struct journal *journal);
/* Everything written is durable. */
int journal_sync(struct journal *journal);
bool journal_unsynced(const struct journal *journal);

/* Of the records written now. */
uint64_t journal_generation(const struct journal *journal);
/* Everything in generations up to it is durable in place. [any thread] */
uint64_t journal_checkpointed(const struct journal *journal);

/* Makes what generations up to `generation` hold durable in place (one sync of the file system), and ends that one,
 * unless *keep has become true by then. */
int journal_checkpoint(struct journal *journal, uint64_t generation, const atomic_bool *keep);

/* Recovery: the records of one file, in order. cb is called for every op; non-zero stops, and is returned. */
struct journal_op {
	const char *dir; /* NUL-terminated */
	uint64_t segment_first_id, offset;
	const uint8_t *data;
	size_t len;
};
typedef int (*journal_op_cb)(const struct journal_op *op, void *arg);

struct journal_scan {
	uint64_t epoch, generation, records, ops;
	uint64_t end;  /* offset behind the last good record */
	bool headless; /* there are no records, and what stands in place of the first one's header is none */
	bool torn;     /* the header of a next record stands at `end`, and its content is not whole */
	bool rot;      /* a record that had been synced is broken, at `end` */
};
/* 0 or a negative errno or what cb returned. With cb NULL it only looks. */
int journal_replay(struct io *io, const char *path, journal_op_cb cb, void *arg, struct journal_scan *ret_scan);

/* For a headless file: whether the record that is missing had been synced, as told by those behind it. `other` is what
 * the other file of the same writer holds. 0 or a negative errno. If that is empty too, it cannot be told. */
int journal_headless_rot(struct io *io, const char *path, const struct journal_scan *other, bool *ret_rot);

#endif
