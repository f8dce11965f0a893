/*
 * checkpoint_compact: the checkpoint log without what nobody needs any more, as a new file that takes the old one's
 * place in one step (rename), when all of it is durable.
 *
 * It is done piece by piece, so that creations go on: they are written to the old file, stand in its index, and are
 * copied with the rest. Whatever fails before the rename costs nothing. From there on nothing may fail: a log of which
 * it is not known which file has its name takes nothing more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_log.h"
#include "log.h"
#include "names.h"

/* More replaced records than this, and than live ones, are not left lying about. */
#define STALE_RECORDS 8192u
/* A piece of a compaction; and twice what creations have added meanwhile: they cannot run ahead for ever. */
#define PIECE_BYTES (2u << 20)

struct compaction {
	struct io_file *file;
	uint64_t salt, end;
	uint64_t seen_end; /* of the log, at the last piece */
	struct checkpoint_hash last_hash;
	uint32_t next; /* of the log's index: to be copied */
	struct checkpoint_index index;
	struct buf out;
};

void compaction_free(struct checkpoint_log *log)
{
	struct compaction *compaction = log->compaction;
	if (!compaction)
		return;
	log->io->ops->close(compaction->file);
	checkpoint_index_clear(&compaction->index);
	buf_free(&compaction->out);
	free(compaction);
	log->compaction = NULL;
}

static bool fail(struct checkpoint_log *log, struct checkpoint_op *op, int r, const char *what)
{
	struct error err;
	error_set_io(&err, -r, what, CHECKPOINT_NEW);
	checkpoint_set_error(op, &err);
	compaction_free(log);
	(void)log->io->ops->unlink(log->io, CHECKPOINT_NEW);
	return true;
}

/* The oldest entry to be kept: of the newest `keep`, and of what stands between them. */
static uint32_t keep_from(const struct checkpoint_index *index, uint64_t keep)
{
	if (keep >= index->live && keep > 0)
		return 0; /* also what nobody can name: it may be one of them */
	uint32_t at = index->count;
	for (; keep > 0; at--)
		keep -= index->entries[at - 1].live;
	return at;
}

/* 1: there is nothing to be done. */
static int begin(struct checkpoint_log *log, struct checkpoint_op *op)
{
	struct io *io = log->io;
	const struct checkpoint_index *index = &log->index;
	op->begun = true;
	op->count_before = op->count_after = index->live;
	uint32_t from = keep_from(index, op->keep);
	if (from == 0 && index->live + index->unknown == index->count)
		return 1;
	struct compaction *compaction = calloc(1, sizeof(*compaction));
	if (!compaction)
		return -ENOMEM;
	log->compaction = compaction;
	compaction->next = from;
	compaction->end = CHECKPOINT_SECTOR;
	compaction->seen_end = log->end;
	int r = io->ops->random(io, &compaction->salt, sizeof(compaction->salt));
	compaction->salt |= compaction->salt == 0;
	if (r == 0)
		r = io->ops->open(io, CHECKPOINT_NEW, IO_READ | IO_WRITE | IO_CREATE, &compaction->file);
	return r == 0 ? io->ops->truncate(compaction->file, 0) : r;
}

/* The record goes behind compaction->out. One that is damaged leaves one that says so; one that the disk does not give
 * ends the compaction: the next try may get it. */
static int copy_one(struct checkpoint_log *log, const struct checkpoint_entry *from)
{
	struct compaction *compaction = log->compaction;
	struct checkpoint_entry entry = *from;
	struct checkpoint_record record;
	const char *reason = "its id cannot be read";
	entry.offset = compaction->end + compaction->out.len;
	int r = checkpoint_hash_is_known(from->hash) ? checkpoint_log_read_whole(log, from, &record, &reason) : 1;
	if (r < 0)
		return r;
	if (r != 0) {
		record = (struct checkpoint_record){
			.kind = CHECKPOINT_LOST, .timestamp = from->timestamp, .hash = from->hash};
		entry.bytes = checkpoint_record_bytes(0, 0);
		entry.shard_count = 0;
		entry.unreadable = true;
		log_warn("engine", "%s: the record at byte %llu is damaged (%s); a note of it is kept", CHECKPOINT_PATH,
			(unsigned long long)from->offset, reason);
	}
	if (buf_reserve(&compaction->out, (size_t)entry.bytes) != 0 ||
		checkpoint_index_reserve(&compaction->index, 1) != 0)
		return -ENOMEM;
	uint8_t *to = compaction->out.data + compaction->out.len;
	if (r == 0)
		memcpy(to, log->buf.data, (size_t)entry.bytes);
	else
		checkpoint_record_encode(&record, NULL, NULL, to);
	record.hash_before = compaction->last_hash;
	compaction->last_hash = from->hash;
	checkpoint_record_move(&record, compaction->salt, entry.offset, to);
	compaction->out.len += (size_t)entry.bytes;
	checkpoint_index_add(&compaction->index, &entry);
	return 0;
}

/* So that the last sync, for which creations wait, has little to do, each piece is synced by itself. */
static int copy_piece(struct checkpoint_log *log)
{
	struct compaction *compaction = log->compaction;
	struct io *io = log->io;
	uint64_t limit = PIECE_BYTES + 2 * (log->end - compaction->seen_end);
	compaction->seen_end = log->end;
	compaction->out.len = 0;
	while (compaction->next < log->index.count && compaction->out.len < limit) {
		const struct checkpoint_entry *entry = &log->index.entries[compaction->next];
		bool wanted = entry->live || !checkpoint_hash_is_known(entry->hash);
		int r = wanted ? copy_one(log, entry) : 0;
		if (r != 0)
			return r;
		compaction->next++;
	}
	struct iovec iov = {compaction->out.data, compaction->out.len};
	int r = compaction->out.len > 0 ? io->ops->pwritev(compaction->file, &iov, 1, compaction->end) : 0;
	if (r == 0)
		r = io->ops->sync(compaction->file);
	if (r == 0)
		compaction->end += compaction->out.len;
	return r;
}

static int write_header(struct checkpoint_log *log)
{
	struct compaction *compaction = log->compaction;
	struct io *io = log->io;
	struct checkpoint_file header = {compaction->salt, log->last_timestamp, io->ops->wall_ns(io)};
	uint8_t bytes[CHECKPOINT_SECTOR];
	checkpoint_file_encode(&header, bytes);
	struct iovec iov = {bytes, sizeof(bytes)};
	int r = io->ops->pwritev(compaction->file, &iov, 1, 0);
	return r == 0 ? io->ops->sync(compaction->file) : r;
}

static void take_over(struct checkpoint_log *log, struct checkpoint_op *op)
{
	struct compaction *compaction = log->compaction;
	op->count_after = compaction->index.live;
	op->bytes_reclaimed = log->end > compaction->end ? log->end - compaction->end : 0;
	struct io_file *old = log->file;
	struct checkpoint_index index = log->index;
	log->file = compaction->file;
	log->index = compaction->index;
	log->salt = compaction->salt;
	log->last_hash = compaction->last_hash;
	log->end_is_marked = false;
	log->end = log->prepared = compaction->end;
	compaction->file = old;
	compaction->index = index;
	compaction_free(log);
	__atomic_store_n(&log->stats.compactions, log->stats.compactions + 1, __ATOMIC_RELAXED);
	checkpoint_log_publish(log);
}

/* Which file has the name now, or would have it after a power cut, is not known: nothing may be added to either. */
static bool stop(struct checkpoint_log *log, struct checkpoint_op *op, int r, const char *what)
{
	checkpoint_log_fail(log, -r, what);
	struct error err;
	error_set_io(&err, -r, what, CHECKPOINT_PATH);
	error_set_outcome(&err, OUTCOME_UNKNOWN);
	checkpoint_set_error(op, &err);
	compaction_free(log);
	return true;
}

static bool finish(struct checkpoint_log *log, struct checkpoint_op *op)
{
	struct io *io = log->io;
	int r = write_header(log);
	if (r != 0)
		return fail(log, op, r, "compact the checkpoint log into");
	r = io->ops->rename(io, CHECKPOINT_NEW, CHECKPOINT_PATH);
	if (r != 0)
		return io_may_pass(r) ? fail(log, op, r, "compact the checkpoint log into")
				      : stop(log, op, r, "renaming the compacted");
	take_over(log, op);
	r = checkpoint_log_sync_name(log);
	return r == 0 || stop(log, op, r, "sync of the directory with the compacted");
}

bool checkpoint_log_compact(struct checkpoint_log *log, struct checkpoint_op *op)
{
	if (log->compaction && !op->begun)
		return false; /* another one's */
	if (log->failed_errno != 0)
		return fail(log, op, -log->failed_errno, "the checkpoint log takes no more since an error of");
	int r = op->begun ? 0 : begin(log, op);
	if (r == 1)
		return true;
	if (r == 0)
		r = copy_piece(log);
	if (r != 0)
		return fail(log, op, r, "compact the checkpoint log into");
	return log->compaction->next == log->index.count && finish(log, op);
}

bool checkpoint_log_is_stale(const struct checkpoint_log *log)
{
	uint32_t replaced = log->index.count - log->index.live - log->index.unknown;
	return replaced > STALE_RECORDS && replaced > log->index.live && log->failed_errno == 0;
}
