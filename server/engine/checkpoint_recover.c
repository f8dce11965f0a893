/*
 * checkpoint_recover: what a start makes of the checkpoint log.
 *
 *   1  headers are read, from one record to the next; where there is none, the next one is looked for
 *   2  what stands before a point that some header says was durable is left as it is, damaged or not: it answers when
 *      it is loaded. Behind that point stands the last group: what of it is torn was never acknowledged. It is cut; or,
 *      if something stands behind it, or its header alone proves damage before it, a void record takes its place.
 *   3  what is accepted without being known to be durable is written again, and synced (rule 10)
 * Doing it twice changes nothing. It needs no free space, and damage never keeps it from starting.
 *
 * After a crash, not to be told from a torn end: damage that makes a sector of the last group zeros, and a file cut
 * short there. After a clean stop all is known to have been durable.
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

struct found {
	struct checkpoint_entry entry; /* without a hash: a gap, or void */
	struct checkpoint_hash hash_before;
	uint64_t synced_end; /* as its header says */
	bool is_void, is_mark;
};

struct recover {
	struct checkpoint_log *log;
	const struct engine_hooks *hooks;
	struct window window;
	uint64_t size;
	struct found *found; /* in rising order */
	uint32_t count, cap;
	uint64_t known; /* durable up to there, as headers tell */
	uint64_t floor, timestamp;
	struct error *err;
};

static const uint8_t zeros[CHECKPOINT_SECTOR];

static uint64_t known_end(const struct recover *recover)
{
	return recover->known > CHECKPOINT_SECTOR ? recover->known : CHECKPOINT_SECTOR;
}

static int io_failed(struct recover *recover, int r, const char *what)
{
	return error_set_io(recover->err, -r, what, CHECKPOINT_PATH);
}

static void tell(const struct recover *recover, enum finding_kind kind, uint64_t offset, uint64_t bytes)
{
	const struct recovery_finding finding = {
		.kind = kind, .file = CHECKPOINT_PATH, .offset = offset, .bytes = bytes};
	if (recover->hooks->found_cb)
		recover->hooks->found_cb(&finding, recover->hooks->found_arg);
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

static int push(struct recover *recover, const struct found *found)
{
	if (recover->count == recover->cap) {
		uint32_t cap = recover->cap ? recover->cap * 2 : 256;
		struct found *list = realloc(recover->found, sizeof(*list) * cap);
		if (!list)
			return io_failed(recover, -ENOMEM, "read");
		recover->found = list;
		recover->cap = cap;
	}
	recover->found[recover->count++] = *found;
	return 0;
}

/* Now and then: a long log is read for a while. */
static bool is_cancelled(struct recover *recover, uint64_t at)
{
	const struct engine_hooks *hooks = recover->hooks;
	if (at / CHECKPOINT_SECTOR % 512 != 0 || !hooks->cancelled || !hooks->cancelled(hooks->cancelled_arg))
		return false;
	error_set(recover->err, ERR_SHUTTING_DOWN,
		"stopped during recovery; nothing is lost, the next start begins it again");
	return true;
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
	tell(recover, FINDING_CHECKPOINT_HEADER, 0, CHECKPOINT_SECTOR);
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
		if (is_cancelled(recover, at))
			return -1;
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

static int take_record(struct recover *recover, const struct checkpoint_record *record, uint64_t *ret_bytes)
{
	struct checkpoint_entry entry = {
		.offset = record->offset,
		.bytes = checkpoint_bytes_of(record),
		.timestamp = record->timestamp > recover->timestamp ? record->timestamp : recover->timestamp,
		.hash = record->hash,
		.shard_count = record->shard_count,
	};
	if (record->synced_end > recover->known)
		recover->known = record->synced_end;
	recover->timestamp = entry.timestamp;
	recover->window.chunk = entry.bytes > FAR_BYTES ? CHECKPOINT_SECTOR : NEAR_CHUNK;
	*ret_bytes = entry.bytes;
	/* What was read on the way to the next header is checked; what is passed over is checked when it is loaded. */
	const uint8_t *bytes;
	int r = record->kind == CHECKPOINT_WHOLE && entry.bytes <= FAR_BYTES
			? window_need(&recover->window, entry.offset, (size_t)entry.bytes, &bytes)
			: 1;
	if (r < 0)
		return io_failed(recover, r, "read");
	entry.unreadable = record->kind == CHECKPOINT_LOST || (r == 0 && !checkpoint_content_is_whole(record, bytes));
	bool is_void = record->kind == CHECKPOINT_VOID;
	return push(recover, &(struct found){.entry = entry,
				     .hash_before = record->hash_before,
				     .synced_end = record->synced_end,
				     .is_void = is_void,
				     .is_mark = is_void && record->synced_end == record->offset});
}

static int find_records(struct recover *recover)
{
	recover->timestamp = recover->floor;
	for (uint64_t at = CHECKPOINT_SECTOR, bytes; at < recover->size; at += bytes) {
		struct checkpoint_record record;
		uint64_t next, last;
		int error;
		if (is_cancelled(recover, at))
			return -1;
		const uint8_t *sector = sector_at(recover, at, &error);
		if (!sector && error != 0)
			return io_failed(recover, error, "read");
		if (sector && checkpoint_record_decode(sector, recover->log->salt, at, &record)) {
			if (take_record(recover, &record, &bytes) != 0)
				return -1;
			continue;
		}
		if (find_next(recover, at, &next, &last) != 0)
			return -1;
		if (next == UINT64_MAX && last == at)
			return 0; /* zeros up to the end */
		bytes = (next != UINT64_MAX ? next : last) - at;
		struct checkpoint_entry gap = {
			.offset = at, .bytes = bytes, .timestamp = recover->timestamp, .unreadable = true};
		if (push(recover, &(struct found){.entry = gap}) != 0)
			return -1;
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
	if (record.kind == CHECKPOINT_VOID)
		return KEEP;
	const uint8_t *bytes;
	recover->window.len = 0; /* read anew, to see whether this part can be read */
	recover->window.unreadable = false;
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
	if (at >= recover->size)
		return 0;
	tell(recover, FINDING_CHECKPOINT_TORN, at, recover->size - at);
	int r = io->ops->truncate(recover->log->file, at);
	if (r != 0)
		return io_failed(recover, r, "cut the torn end of");
	log_warn("engine", "%s: torn end cut at byte %llu (%llu bytes, never acknowledged)", CHECKPOINT_PATH,
		(unsigned long long)at, (unsigned long long)(recover->size - at));
	recover->size = at;
	return 0;
}

/* Of a void record only the header counts. */
static int write_again(struct recover *recover, const struct found *found)
{
	const uint8_t *bytes;
	size_t len = found->is_void ? CHECKPOINT_SECTOR : (size_t)found->entry.bytes;
	int r = window_need(&recover->window, found->entry.offset, len, &bytes);
	struct iovec iov = {(void *)bytes, len};
	if (r == 0)
		r = recover->log->io->ops->pwritev(recover->log->file, &iov, 1, found->entry.offset);
	return r == 0 ? 0 : io_failed(recover, r < 0 ? r : -EIO, "write again");
}

/* In the place of something torn, which is not to go. Its bytes stay, but for one sector, and so does what its header
 * told of what is before it. */
static int make_void(struct recover *recover, struct found *found)
{
	struct checkpoint_entry *entry = &found->entry;
	struct checkpoint_record record = {
		.kind = CHECKPOINT_VOID,
		.salt = recover->log->salt,
		.offset = entry->offset,
		.synced_end = known_end(recover),
		.timestamp = entry->timestamp,
		.hash_before = found->hash_before,
		.void_bytes = entry->bytes,
	};
	uint8_t out[CHECKPOINT_SECTOR];
	tell(recover, FINDING_CHECKPOINT_VOID, entry->offset, entry->bytes);
	checkpoint_record_encode(&record, NULL, NULL, out);
	struct iovec iov = {out, sizeof(out)};
	int r = recover->log->io->ops->pwritev(recover->log->file, &iov, 1, entry->offset);
	if (r != 0)
		return io_failed(recover, r, "void a torn record of");
	log_warn("engine", "%s: a torn record at byte %llu (%llu bytes, never acknowledged) is void, as others need it",
		CHECKPOINT_PATH, (unsigned long long)entry->offset, (unsigned long long)entry->bytes);
	entry->hash = (struct checkpoint_hash){0};
	found->is_void = true;
	found->is_mark = record.synced_end == record.offset;
	recover->window.len = 0;
	return 0;
}

/* Something damaged stands before found[at], and only what is to be cut from there on tells that it had been durable:
 * without that the next start would take it for a torn end. */
static bool proof_would_go(struct recover *recover, uint32_t at)
{
	uint64_t proven = CHECKPOINT_SECTOR;
	for (uint32_t i = 0; i < at; i++)
		if (recover->found[i].synced_end > proven)
			proven = recover->found[i].synced_end;
	for (uint32_t i = at; i > 0 && recover->found[i - 1].entry.offset >= proven; i--) {
		const struct checkpoint_entry *entry = &recover->found[i - 1].entry;
		int error = 0;
		if (entry->offset < recover->known && judge(recover, entry, &error) != KEEP)
			return true;
	}
	return false;
}

static int settle_one(struct recover *recover, uint32_t at, enum verdict verdict, uint32_t last_kept)
{
	struct found *found = &recover->found[at];
	if (verdict == KEEP)
		return write_again(recover, found);
	if (verdict == DAMAGED)
		return 0;
	if (at < last_kept)
		return make_void(recover, found);
	recover->count = at; /* it ends the loop */
	if (proof_would_go(recover, at)) {
		recover->count++;
		found->entry.bytes = CHECKPOINT_SECTOR;
		if (make_void(recover, found) != 0)
			return -1;
		return cut(recover, found->entry.offset + CHECKPOINT_SECTOR);
	}
	return cut(recover, found->entry.offset);
}

static int settle_end(struct recover *recover)
{
	uint32_t from = recover->count, last_kept = 0;
	while (from > 0 && recover->found[from - 1].entry.offset >= known_end(recover))
		from--;
	uint32_t count = recover->count - from;
	enum verdict *verdicts = malloc(sizeof(*verdicts) * (count + 1));
	if (!verdicts)
		return io_failed(recover, -ENOMEM, "read");
	int error = 0, result = 0;
	for (uint32_t i = 0; i < count && error == 0; i++) {
		verdicts[i] = judge(recover, &recover->found[from + i].entry, &error);
		if (verdicts[i] != TORN)
			last_kept = from + i;
	}
	if (error != 0)
		result = io_failed(recover, error, "read");
	for (uint32_t i = 0; result == 0 && from + i < recover->count; i++)
		result = settle_one(recover, from + i, verdicts[i], last_kept);
	free(verdicts);
	if (result != 0 || count == 0)
		return result;
	int r = recover->log->io->ops->sync(recover->log->file);
	return r == 0 ? 0 : io_failed(recover, r, "sync");
}

static void add_damaged(struct recover *recover, const struct checkpoint_entry *gap)
{
	checkpoint_index_add(&recover->log->index, gap);
	recover->log->stats.damage_found++;
	tell(recover, FINDING_CHECKPOINT_DAMAGED, gap->offset, gap->bytes);
	log_error("engine", "%s: damaged at byte %llu: %s", CHECKPOINT_PATH, (unsigned long long)gap->offset,
		checkpoint_hash_is_known(gap->hash) ? "a checkpoint is lost"
						    : "a checkpoint whose id cannot be read is lost");
}

static bool same_hash(struct checkpoint_hash left, struct checkpoint_hash right)
{
	return left.low == right.low && left.high == right.high;
}

/* What stands behind a gap says which id the last record in it was for; there may have been more in it. */
static void add_gaps(struct recover *recover, uint32_t at)
{
	struct checkpoint_entry gap = recover->found[at].entry;
	struct checkpoint_hash hash = {0};
	uint64_t least = checkpoint_record_bytes(recover->log->shard_count, 1);
	if (at + 1 < recover->count)
		hash = recover->found[at + 1].hash_before;
	if (at > 0 && same_hash(hash, recover->found[at - 1].entry.hash))
		hash = (struct checkpoint_hash){0}; /* it was no record */
	if (checkpoint_hash_is_known(hash) && gap.bytes >= 2 * least) {
		struct checkpoint_entry nameless = gap;
		nameless.bytes -= least;
		gap.offset += nameless.bytes;
		gap.bytes = least;
		add_damaged(recover, &nameless);
	}
	gap.hash = hash;
	add_damaged(recover, &gap);
}

static int take_over(struct recover *recover)
{
	struct checkpoint_log *log = recover->log;
	uint32_t count = recover->count;
	log->last_timestamp = recover->floor;
	log->end = CHECKPOINT_SECTOR;
	if (count > CHECKPOINTS_MAX || checkpoint_index_reserve(&log->index, 2 * count) != 0)
		return io_failed(recover, -ENOMEM, "read");
	for (uint32_t i = 0; i < count; i++) {
		const struct checkpoint_entry *entry = &recover->found[i].entry;
		log->end = entry->offset + entry->bytes;
		log->last_timestamp = entry->timestamp;
		log->end_is_marked = recover->found[i].is_mark;
		if (recover->found[i].is_void)
			continue;
		if (checkpoint_hash_is_known(entry->hash) && !entry->unreadable)
			checkpoint_index_add(&log->index, entry);
		else if (checkpoint_hash_is_known(entry->hash))
			add_damaged(recover, entry);
		else
			add_gaps(recover, i);
		log->last_hash = entry->hash;
	}
	log->prepared = recover->size > log->end ? recover->size : log->end;
	return 0;
}

int checkpoint_log_recover(struct checkpoint_log *log, const struct engine_hooks *hooks, struct error *err)
{
	struct io *io = log->io;
	struct recover recover = {.log = log, .hooks = hooks, .err = err};
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
