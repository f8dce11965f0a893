/*
 * checkpoint_recover: what a start makes of the checkpoint log.
 *
 *   1  headers are read, from one record to the next; where there is none, the next one is looked for
 *   2  what stands before a point that some header says was durable is left as it is, damaged or not: it answers when
 *      it is loaded. Behind that point stands the last group: its first torn record is cut, with what is behind it
 *      (none of that group was acknowledged, else it would be whole)
 *   3  what is accepted without being known to be durable is written again, and synced (rule 10)
 * Doing it twice changes nothing. It needs no free space, and damage never keeps it from starting.
 *
 * Not to be told from a torn end: damage that makes a sector of the last group zeros, and a file cut short there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_log.h"
#include "log.h"
#include "names.h"
#include "scan.h"

#define FAR_BYTES (16u << 10) /* records longer than this are passed without reading them */
#define NEAR_CHUNK (256u << 10)

struct recover {
	struct checkpoint_log *log;
	struct window window;
	uint64_t size;
	struct checkpoint_entry *found; /* in rising order, gaps too (without a hash, and not live) */
	uint32_t count, cap;
	uint64_t known; /* durable up to there, as headers tell */
	uint64_t floor;
	struct error *err;
};

static const uint8_t zeros[CHECKPOINT_SECTOR];

static int io_failed(struct recover *recover, int r, const char *what)
{
	return error_set_io(recover->err, -r, what, CHECKPOINT_PATH);
}

/* NULL: the file ends before (0), or it cannot be read (negative errno). */
static const uint8_t *sector_at(struct recover *recover, uint64_t at, int *ret_error)
{
	const uint8_t *bytes;
	int r = window_need(&recover->window, at, CHECKPOINT_SECTOR, &bytes);
	*ret_error = r < 0 ? r : 0;
	return r == 0 ? bytes : NULL;
}

static bool is_zeros(const uint8_t *sector)
{
	return memcmp(sector, zeros, sizeof(zeros)) == 0;
}

static int push(struct recover *recover, const struct checkpoint_entry *entry)
{
	if (recover->count == recover->cap) {
		uint32_t cap = recover->cap ? recover->cap * 2 : 256;
		struct checkpoint_entry *found = realloc(recover->found, sizeof(*found) * cap);
		if (!found)
			return io_failed(recover, -ENOMEM, "read");
		recover->found = found;
		recover->cap = cap;
	}
	recover->found[recover->count++] = *entry;
	return 0;
}

/* The salt is in every record, too: in the first one, if the file's header is damaged. */
static int read_file_header(struct recover *recover)
{
	struct checkpoint_log *log = recover->log;
	struct checkpoint_file file;
	int error;
	const uint8_t *sector = sector_at(recover, 0, &error);
	if (!sector && error != 0)
		return io_failed(recover, error, "read");
	if (sector && checkpoint_file_decode(sector, &file)) {
		log->salt = file.salt;
		recover->floor = file.floor;
		return 0;
	}
	log->stats.damage_found++;
	log_error("engine", "%s: its header is damaged; the records tell what is needed of it", CHECKPOINT_PATH);
	for (uint64_t at = CHECKPOINT_SECTOR; at < recover->size; at += CHECKPOINT_SECTOR) {
		struct checkpoint_record record;
		sector = sector_at(recover, at, &error);
		if (!sector && error != 0)
			return io_failed(recover, error, "read");
		if (sector && checkpoint_record_decode(sector, 0, at, &record)) {
			log->salt = record.salt;
			return 0;
		}
	}
	int r = log->io->ops->random(log->io, &log->salt, sizeof(log->salt));
	log->salt |= log->salt == 0;
	return r == 0 ? 0 : io_failed(recover, r, "read");
}

/* No record begins at `from`. *ret_next: where one does, or UINT64_MAX; *ret_last: behind the last byte before that
 * which is not zero. */
static int find_next(struct recover *recover, uint64_t from, uint64_t *ret_next, uint64_t *ret_last)
{
	*ret_next = UINT64_MAX;
	*ret_last = from;
	for (uint64_t at = from; at < recover->size; at += CHECKPOINT_SECTOR) {
		struct checkpoint_record record;
		int error;
		const uint8_t *sector = sector_at(recover, at, &error);
		if (!sector && error != 0)
			return io_failed(recover, error, "read");
		if (sector && at > from && checkpoint_record_decode(sector, recover->log->salt, at, &record)) {
			*ret_next = at;
			return 0;
		}
		if (!sector || !is_zeros(sector))
			*ret_last = at + CHECKPOINT_SECTOR;
	}
	return 0;
}

static int find_records(struct recover *recover)
{
	uint64_t timestamp = recover->floor;
	for (uint64_t at = CHECKPOINT_SECTOR; at < recover->size;) {
		struct checkpoint_record record;
		struct checkpoint_entry entry = {.offset = at};
		int error;
		const uint8_t *sector = sector_at(recover, at, &error);
		if (!sector && error != 0)
			return io_failed(recover, error, "read");
		if (sector && checkpoint_record_decode(sector, recover->log->salt, at, &record)) {
			entry.bytes = checkpoint_record_bytes(record.shard_count, record.id_bytes);
			entry.hash = record.hash;
			entry.shard_count = record.shard_count;
			timestamp = record.timestamp > timestamp ? record.timestamp : timestamp;
			if (record.synced_end > recover->known)
				recover->known = record.synced_end;
			recover->window.chunk = entry.bytes > FAR_BYTES ? CHECKPOINT_SECTOR : NEAR_CHUNK;
		} else {
			uint64_t next, last;
			if (find_next(recover, at, &next, &last) != 0)
				return -1;
			if (next == UINT64_MAX && last == at)
				return 0; /* zeros up to the end */
			entry.bytes = (next != UINT64_MAX ? next : last) - at;
		}
		entry.timestamp = timestamp;
		if (push(recover, &entry) != 0)
			return -1;
		at += entry.bytes;
	}
	return 0;
}

enum verdict { KEEP, DAMAGED, TORN, UNREADABLE };

/* No header: it was not written, or not to its end, if nothing follows where its content would be. */
static enum verdict judge_gap(struct recover *recover, const struct checkpoint_entry *gap, int *ret_error)
{
	for (uint64_t at = 0; at < gap->bytes; at += CHECKPOINT_SECTOR) {
		const uint8_t *sector = sector_at(recover, gap->offset + at, ret_error);
		if (!sector)
			return UNREADABLE;
		if (at == 0 && is_zeros(sector))
			return TORN;
		size_t from = at == 0 ? CHECKPOINT_HEADER_BYTES : 0;
		if (memcmp(sector + from, zeros, CHECKPOINT_SECTOR - from) != 0)
			return DAMAGED;
	}
	return TORN;
}

/* Its checksum is wrong. Disks write sectors whole; a process that dies, or a write that fails, may leave any part of
 * a record, and then not its end. */
static enum verdict judge_content(const struct checkpoint_record *record, const uint8_t *bytes, size_t len)
{
	for (size_t at = CHECKPOINT_SECTOR; at < len; at += CHECKPOINT_SECTOR)
		if (is_zeros(bytes + at))
			return TORN;
	bool has_end = record->shard_count == 0 ||
		       checkpoint_record_next_id(record, bytes, record->shard_count - 1) != UINT64_MAX;
	return has_end ? DAMAGED : TORN;
}

/* Of something behind what is known to be durable. */
static enum verdict judge(struct recover *recover, const struct checkpoint_entry *entry, int *ret_error)
{
	struct checkpoint_log *log = recover->log;
	if (entry->offset + entry->bytes > recover->size)
		return TORN;
	const uint8_t *first = sector_at(recover, entry->offset, ret_error);
	if (!first)
		return UNREADABLE;
	struct checkpoint_record record;
	if (!checkpoint_record_decode(first, log->salt, entry->offset, &record))
		return judge_gap(recover, entry, ret_error);
	const uint8_t *bytes;
	int r = window_need(&recover->window, entry->offset, (size_t)entry->bytes, &bytes);
	if (r != 0) {
		*ret_error = r < 0 ? r : -EIO;
		return UNREADABLE;
	}
	if (checkpoint_content_is_whole(&record, bytes))
		return KEEP;
	return recover->window.unreadable ? DAMAGED : judge_content(&record, bytes, (size_t)entry->bytes);
}

static int cut(struct recover *recover, uint64_t at)
{
	struct io *io = recover->log->io;
	int r = io->ops->truncate(recover->log->file, at);
	if (r != 0)
		return io_failed(recover, r, "cut the torn end of");
	log_warn("engine", "%s: torn end cut at byte %llu (%llu bytes, never acknowledged)", CHECKPOINT_PATH,
		(unsigned long long)at, (unsigned long long)(recover->size - at));
	recover->size = at;
	return 0;
}

static int write_again(struct recover *recover, const struct checkpoint_entry *entry)
{
	const uint8_t *bytes;
	int r = window_need(&recover->window, entry->offset, (size_t)entry->bytes, &bytes);
	struct iovec iov = {(void *)bytes, (size_t)entry->bytes};
	if (r == 0)
		r = recover->log->io->ops->pwritev(recover->log->file, &iov, 1, entry->offset);
	return r == 0 ? 0 : io_failed(recover, r < 0 ? r : -EIO, "write again");
}

static int settle_end(struct recover *recover)
{
	uint64_t known = recover->known > CHECKPOINT_SECTOR ? recover->known : CHECKPOINT_SECTOR;
	uint32_t at = recover->count;
	while (at > 0 && recover->found[at - 1].offset >= known)
		at--;
	bool changed = false;
	for (; at < recover->count; at++) {
		const struct checkpoint_entry *entry = &recover->found[at];
		int error = 0;
		enum verdict verdict = judge(recover, entry, &error);
		if (verdict == UNREADABLE)
			return io_failed(recover, error, "read");
		if (verdict == TORN) {
			if (cut(recover, entry->offset) != 0)
				return -1;
			recover->count = at;
		} else if (verdict == KEEP && write_again(recover, entry) != 0) {
			return -1;
		}
		changed = true;
	}
	if (!changed)
		return 0;
	int r = recover->log->io->ops->sync(recover->log->file);
	return r == 0 ? 0 : io_failed(recover, r, "sync");
}

static int take_over(struct recover *recover)
{
	struct checkpoint_log *log = recover->log;
	uint32_t count = recover->count;
	log->last_timestamp = count > 0 ? recover->found[count - 1].timestamp : recover->floor;
	log->end = CHECKPOINT_SECTOR;
	if (count > 0)
		log->end = recover->found[count - 1].offset + recover->found[count - 1].bytes;
	log->prepared = recover->size > log->end ? recover->size : log->end;
	if (checkpoint_index_reserve(&log->index, count) != 0)
		return io_failed(recover, -ENOMEM, "read");
	for (uint32_t i = 0; i < count; i++) {
		const struct checkpoint_entry *entry = &recover->found[i];
		checkpoint_index_add(&log->index, entry);
		if (checkpoint_hash_is_known(entry->hash))
			continue;
		log->stats.damage_found++;
		log_error("engine", "%s: damaged at byte %llu: a checkpoint whose id cannot be read is lost",
			CHECKPOINT_PATH, (unsigned long long)entry->offset);
	}
	return 0;
}

int checkpoint_log_recover(struct checkpoint_log *log, struct error *err)
{
	struct io *io = log->io;
	struct recover recover = {.log = log, .err = err};
	int r = io->ops->unlink(io, CHECKPOINT_NEW); /* a compaction that did not come to its end */
	if (r != 0 && r != -ENOENT)
		return io_failed(&recover, r, "remove what is left of a compaction of");
	r = io->ops->open(io, CHECKPOINT_PATH, IO_READ | IO_WRITE, &log->file);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = io->ops->size(log->file, &recover.size);
	if (r != 0)
		return io_failed(&recover, r, "open");
	window_aim(&recover.window, io, log->file, recover.size, NEAR_CHUNK);
	recover.window.bridge = true;
	int result = read_file_header(&recover);
	if (result == 0)
		result = find_records(&recover);
	recover.window.chunk = NEAR_CHUNK;
	if (result == 0)
		result = settle_end(&recover);
	if (result == 0)
		result = take_over(&recover);
	window_free(&recover.window);
	free(recover.found);
	return result;
}
