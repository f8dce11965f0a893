#include "journal.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "format.h"
#include "io_util.h"

#define RECORD_HEADER 64u
#define OP_HEADER 32u
#define PREFIX "ironwald.journal-"
/* What is written in so long is to fit into a half, */
#define BUSY_NS UINT64_C(2000000000)
/* and what was meant to last that long is ended behind this: a burst is over. */
#define QUIET_NS (4 * BUSY_NS)
/* More than this for an op, as a mean, is large. */
#define LARGE_OP_BYTES 4096u

static const char record_magic[4] = "IWJR";

struct half {
	struct io_file *file;
	uint64_t generation; /* 0: never used since the start */
	uint64_t end;	     /* of its records */
	uint64_t ops;	     /* in them */
	uint64_t prepared;   /* blocks up to here have been written: a sync need not commit new ones */
};

struct journal {
	struct io *io;
	struct half halves[2];
	unsigned current; /* generation n is in half (n - 1) % 2 */
	uint64_t epoch, last_generation, seq, synced_seq;
	uint64_t switched_ns, wanted; /* so much is to be in a half before the next switch */
	uint64_t most, hard;	      /* that it may be; that a file may be */
	struct buf record;
	uint32_t op_count;
	atomic_uint_least64_t checkpointed;
};

void journal_path(uint32_t writer, unsigned half, char out[JOURNAL_PATH_MAX])
{
	snprintf(out, JOURNAL_PATH_MAX, PREFIX "%05u-%u", writer, half);
}

uint32_t journal_writer_of(const char *path)
{
	return (uint32_t)strtoul(path + strlen(PREFIX), NULL, 10);
}

bool journal_is_path(const char *name)
{
	return strncmp(name, PREFIX, strlen(PREFIX)) == 0;
}

/* One sector of zeros over its first record, and only one: it is there or not. More of them could wipe out a record in
 * the middle and leave those around it, and look like rot. */
static int end_generation(struct io *io, struct io_file *file)
{
	static const uint8_t zeros[JOURNAL_ALIGN];
	struct iovec iov = {(void *)zeros, sizeof(zeros)};
	return io->ops->pwritev(file, &iov, 1, 0);
}

static int prepare(struct io *io, struct io_file *file)
{
	uint64_t size;
	int r = io->ops->size(file, &size);
	if (r == 0 && size > JOURNAL_SOFT_BYTES)
		r = io->ops->truncate(file, JOURNAL_SOFT_BYTES);
	if (r != 0)
		return r;
	r = end_generation(io, file);
	uint64_t from = size < JOURNAL_ALIGN ? JOURNAL_ALIGN : size;
	if (r == 0 && from < JOURNAL_SOFT_BYTES) /* a file that is short gets all its blocks */
		r = io_write_zeros(io, file, from, JOURNAL_SOFT_BYTES);
	return r != 0 ? r : io->ops->sync(file);
}

int journal_open(struct io *io, uint32_t writer, uint32_t writers, struct journal **ret_journal)
{
	struct journal *journal = calloc(1, sizeof(*journal));
	if (!journal)
		return -ENOMEM;
	journal->io = io;
	journal->last_generation = 1;
	journal->halves[0].generation = 1;
	journal->switched_ns = io->ops->monotonic_ns(io);
	journal->wanted = JOURNAL_SOFT_BYTES;
	uint32_t share = JOURNAL_BUSY_BYTES / writers / JOURNAL_SOFT_BYTES * JOURNAL_SOFT_BYTES;
	journal->most = share < JOURNAL_BUSY_MIN ? JOURNAL_BUSY_MIN : share;
	journal->hard = 2 * journal->most;
	atomic_init(&journal->checkpointed, 0);
	int r = io->ops->random(io, &journal->epoch, sizeof(journal->epoch));
	for (unsigned i = 0; i < 2 && r == 0; i++) {
		char path[JOURNAL_PATH_MAX];
		journal_path(writer, i, path);
		r = io->ops->open(io, path, IO_READ | IO_WRITE | IO_CREATE, &journal->halves[i].file);
		if (r == 0)
			r = prepare(io, journal->halves[i].file);
		journal->halves[i].prepared = JOURNAL_SOFT_BYTES;
	}
	if (r != 0) {
		journal_close(journal);
		return r;
	}
	*ret_journal = journal;
	return 0;
}

void journal_close(struct journal *journal)
{
	if (!journal)
		return;
	for (unsigned i = 0; i < 2; i++)
		journal->io->ops->close(journal->halves[i].file);
	buf_free(&journal->record);
	free(journal);
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

void journal_begin(struct journal *journal)
{
	journal->record.len = 0;
	if (journal->record.cap > JOURNAL_HARD_BYTES / 8)
		buf_free(&journal->record);
	journal->op_count = 0;
}

static int pad(struct buf *buf, size_t align)
{
	size_t len = (size_t)align_up(buf->len, align) - buf->len;
	static const uint8_t zeros[JOURNAL_ALIGN];
	return buf_append(buf, zeros, len);
}

int journal_add(struct journal *journal, const char *dir, uint64_t segment_first_id, uint64_t offset,
	const struct iovec *iov, int iov_count)
{
	struct buf *record = &journal->record;
	static const uint8_t blank[RECORD_HEADER];
	if (record->len == 0 && buf_append(record, blank, RECORD_HEADER) != 0)
		return -1;
	size_t dir_len = strlen(dir), data_len = 0;
	for (int i = 0; i < iov_count; i++)
		data_len += iov[i].iov_len;
	uint8_t header[OP_HEADER] = {0};
	put_u16(header, (uint16_t)dir_len);
	put_u64(header + 8, segment_first_id);
	put_u64(header + 16, offset);
	put_u64(header + 24, data_len);
	if (buf_append(record, header, OP_HEADER) != 0 || buf_append(record, dir, dir_len) != 0 || pad(record, 8) != 0)
		return -1;
	for (int i = 0; i < iov_count; i++)
		if (buf_append(record, iov[i].iov_base, iov[i].iov_len) != 0)
			return -1;
	journal->op_count++;
	/* With room for the last padding, so that writing it needs no memory. */
	return pad(record, 8) == 0 ? buf_reserve(record, JOURNAL_ALIGN) : -1;
}

uint64_t journal_record_bytes(const struct journal *journal)
{
	return align_up(journal->record.len, JOURNAL_ALIGN);
}

static bool is_due(const struct journal *journal, uint64_t end)
{
	if (end <= JOURNAL_SOFT_BYTES)
		return false;
	return end > journal->wanted || journal->io->ops->monotonic_ns(journal->io) - journal->switched_ns > QUIET_NS;
}

enum journal_room journal_room(const struct journal *journal, uint64_t record_bytes)
{
	const struct half *half = &journal->halves[journal->current];
	uint64_t end = half->end + record_bytes;
	if (is_due(journal, end) && journal->halves[journal->current ^ 1].generation <= journal_checkpointed(journal) &&
		record_bytes <= journal->hard)
		return JOURNAL_SWITCH;
	return end <= half->prepared || end <= journal->hard ? JOURNAL_ROOM : JOURNAL_FULL;
}

static void want(struct journal *journal, double bytes)
{
	if (bytes > (double)journal->most)
		bytes = (double)journal->most;
	journal->wanted = bytes < JOURNAL_SOFT_BYTES ? JOURNAL_SOFT_BYTES : (uint64_t)bytes;
}

/* A checkpoint costs a write for each file that was touched since the last one, so a busy journal makes fewer of them.
 * Where ops are large, that is little beside their bytes, and room for half as much will do. */
static void want_by_rate(struct journal *journal)
{
	const struct half *half = &journal->halves[journal->current];
	uint64_t now = journal->io->ops->monotonic_ns(journal->io);
	uint64_t took_ns = now - journal->switched_ns;
	journal->switched_ns = now;
	want(journal, (double)half->end * BUSY_NS / (double)(took_ns + 1));
	if (half->end > half->ops * LARGE_OP_BYTES && journal->wanted > journal->most / 2)
		journal->wanted = journal->most / 2;
}

/* The disk has no room for it: until a restart it makes do with what it has. */
static void want_no_more(struct journal *journal)
{
	for (unsigned i = 0; i < 2; i++)
		if (journal->most > journal->halves[i].prepared)
			journal->most = journal->halves[i].prepared;
	want(journal, (double)journal->wanted);
}

uint64_t journal_switch(struct journal *journal)
{
	want_by_rate(journal);
	uint64_t done = journal->halves[journal->current].generation;
	journal->current ^= 1;
	journal->halves[journal->current].generation = ++journal->last_generation;
	journal->halves[journal->current].end = 0;
	journal->halves[journal->current].ops = 0;
	journal->seq = journal->synced_seq = 0;
	return done;
}

int journal_write(struct journal *journal)
{
	struct half *half = &journal->halves[journal->current];
	struct buf *record = &journal->record;
	uint64_t content_bytes = record->len - RECORD_HEADER;
	if (pad(record, JOURNAL_ALIGN) != 0)
		return -ENOMEM;
	uint8_t *header = record->data;
	memcpy(header, record_magic, 4);
	put_u32(header + 4, journal->op_count);
	put_u64(header + 8, journal->epoch);
	put_u64(header + 16, half->generation);
	put_u64(header + 24, journal->seq + 1);
	put_u64(header + 32, content_bytes);
	put_u64(header + 40, journal->synced_seq);
	put_u32(header + 48, crc32c(0, header + RECORD_HEADER, content_bytes));
	put_u32(header + 60, crc32c(0, header, 60));
	struct iovec iov = {record->data, record->len};
	int r = journal->io->ops->pwritev(half->file, &iov, 1, half->end);
	if (io_no_room(r)) {
		/* The caller goes on without the journal: the piece that is there must not be found by a recovery. */
		static const uint8_t zeros[JOURNAL_ALIGN];
		struct iovec over = {(void *)zeros, sizeof(zeros)};
		int back = half->end < half->prepared ? journal->io->ops->pwritev(half->file, &over, 1, half->end)
						      : journal->io->ops->truncate(half->file, half->end);
		want_no_more(journal);
		return back == 0 ? r : -EIO;
	}
	if (r != 0)
		return r;
	half->end += record->len;
	half->ops += journal->op_count;
	journal->seq++;
	if (half->end > half->prepared) {
		/* It has to grow, because checkpoints do not keep up: by a piece, so that only this sync pays for it.
		 * No room: no matter, the record is written. */
		uint64_t to = align_up(half->end, JOURNAL_SOFT_BYTES);
		bool room = io_write_zeros(journal->io, half->file, half->end, to) == 0;
		half->prepared = room ? to : half->end;
		if (!room)
			want_no_more(journal);
	}
	return 0;
}

int journal_sync(struct journal *journal)
{
	int r = journal->io->ops->sync(journal->halves[journal->current].file);
	if (r == 0)
		journal->synced_seq = journal->seq;
	return r;
}

bool journal_unsynced(const struct journal *journal)
{
	return journal->synced_seq < journal->seq;
}

uint64_t journal_generation(const struct journal *journal)
{
	return journal->halves[journal->current].generation;
}

uint64_t journal_checkpointed(const struct journal *journal)
{
	return atomic_load_explicit(&journal->checkpointed, memory_order_acquire);
}

int journal_checkpoint(struct journal *journal, uint64_t generation, const atomic_bool *keep)
{
	int r = journal->io->ops->sync_all(journal->io);
	if (r != 0 || generation <= journal_checkpointed(journal) || atomic_load(keep))
		return r;
	/* Ended by one sector before it is written over: otherwise the first records of the next generation could
	 * stand among those of the old one after a power cut, as if these had been damaged. */
	struct io_file *file = journal->halves[(generation - 1) % 2].file;
	r = end_generation(journal->io, file);
	if (r == 0)
		r = journal->io->ops->sync(file);
	if (r == 0)
		atomic_store_explicit(&journal->checkpointed, generation, memory_order_release);
	return r;
}

/* ---- recovery --------------------------------------------------------------------------------------------------- */

struct record {
	uint64_t epoch, generation, seq, synced_seq, content_bytes;
	uint32_t op_count, content_crc;
};

static bool decode_header(const uint8_t header[RECORD_HEADER], struct record *record)
{
	if (memcmp(header, record_magic, 4) != 0 || crc32c(0, header, 60) != get_u32(header + 60))
		return false;
	*record = (struct record){
		.op_count = get_u32(header + 4),
		.epoch = get_u64(header + 8),
		.generation = get_u64(header + 16),
		.seq = get_u64(header + 24),
		.content_bytes = get_u64(header + 32),
		.synced_seq = get_u64(header + 40),
		.content_crc = get_u32(header + 48),
	};
	return record->content_bytes <= 2 * (uint64_t)JOURNAL_HARD_BYTES;
}

static int read_record(struct io *io, struct io_file *file, uint64_t at, struct record *record, struct buf *content)
{
	uint8_t header[RECORD_HEADER];
	ssize_t got = io->ops->pread(file, header, RECORD_HEADER, at, 0);
	if (got < 0)
		return (int)got;
	if (got < (ssize_t)RECORD_HEADER || !decode_header(header, record))
		return 1;
	content->len = 0;
	if (buf_reserve(content, record->content_bytes + 1) != 0)
		return -ENOMEM;
	got = io->ops->pread(file, content->data, record->content_bytes, at + RECORD_HEADER, 0);
	if (got < 0)
		return (int)got;
	content->len = (size_t)got;
	return (uint64_t)got != record->content_bytes || crc32c(0, content->data, content->len) != record->content_crc;
}

static int replay_ops(struct buf *content, uint32_t op_count, journal_op_cb cb, void *arg)
{
	size_t at = 0;
	for (uint32_t i = 0; i < op_count; i++) {
		if (content->len - at < OP_HEADER)
			return -EBADMSG;
		const uint8_t *header = content->data + at;
		size_t dir_len = (size_t)header[0] | (size_t)header[1] << 8;
		uint64_t data_len = get_u64(header + 24);
		at += OP_HEADER;
		if (dir_len == 0 || dir_len > 255 || align_up(dir_len, 8) > content->len - at)
			return -EBADMSG;
		char dir[256];
		memcpy(dir, content->data + at, dir_len);
		dir[dir_len] = '\0';
		at += (size_t)align_up(dir_len, 8);
		if (data_len > content->len - at)
			return -EBADMSG;
		struct journal_op op = {
			dir, get_u64(header + 8), get_u64(header + 16), content->data + at, (size_t)data_len};
		int r = cb(&op, arg);
		if (r != 0)
			return r;
		at += (size_t)align_up(data_len, 8);
		if (at > content->len)
			at = content->len;
	}
	return 0;
}

/* Behind a broken record: does a later one of the same file say that the broken one had been synced? */
static bool was_synced(struct io *io, struct io_file *file, uint64_t from, const struct journal_scan *scan)
{
	uint8_t header[RECORD_HEADER];
	struct record record = {0};
	for (uint64_t at = from + JOURNAL_ALIGN;
		io->ops->pread(file, header, RECORD_HEADER, at, 0) == (ssize_t)RECORD_HEADER; at += JOURNAL_ALIGN)
		if (decode_header(header, &record) && record.epoch == scan->epoch &&
			record.generation == scan->generation && record.synced_seq > scan->records)
			return true;
	return false;
}

/* The first record of a generation is broken. If its header is not, that says what to look for behind it. */
static bool first_is_rot(struct io *io, struct io_file *file, struct journal_scan *scan)
{
	uint8_t header[RECORD_HEADER];
	static const uint8_t zeros[RECORD_HEADER];
	struct record record = {0};
	if (io->ops->pread(file, header, RECORD_HEADER, 0, 0) < (ssize_t)RECORD_HEADER ||
		memcmp(header, zeros, RECORD_HEADER) == 0) /* ended */
		return false;
	if (!decode_header(header, &record)) {
		scan->headless = true;
		return false;
	}
	scan->epoch = record.epoch;
	scan->generation = record.generation;
	return was_synced(io, file, 0, scan);
}

int journal_headless_rot(struct io *io, const char *path, const struct journal_scan *other, bool *ret_rot)
{
	struct io_file *file;
	int r = io->ops->open(io, path, IO_READ, &file);
	if (r != 0)
		return r;
	/* Generations take turns: this file's is the one before or behind the other's. Older ones were ended. */
	*ret_rot = false;
	for (int step = -1; step <= 1; step += 2) {
		struct journal_scan scan = {.epoch = other->epoch, .generation = other->generation + (uint64_t)step};
		*ret_rot |= was_synced(io, file, 0, &scan);
	}
	io->ops->close(file);
	return 0;
}

int journal_replay(struct io *io, const char *path, journal_op_cb cb, void *arg, struct journal_scan *ret_scan)
{
	*ret_scan = (struct journal_scan){0};
	struct io_file *file;
	int r = io->ops->open(io, path, IO_READ, &file);
	if (r != 0)
		return r;
	struct buf content = {0};
	struct record record = {0};
	for (;;) {
		record = (struct record){0};
		r = read_record(io, file, ret_scan->end, &record, &content);
		if (r != 0)
			break;
		if (ret_scan->records == 0) {
			ret_scan->epoch = record.epoch;
			ret_scan->generation = record.generation;
		}
		if (record.epoch != ret_scan->epoch || record.generation != ret_scan->generation ||
			record.seq != ret_scan->records + 1)
			break;
		if (cb && (r = replay_ops(&content, record.op_count, cb, arg)) != 0)
			break;
		ret_scan->records++;
		ret_scan->ops += record.op_count;
		ret_scan->end += align_up(RECORD_HEADER + record.content_bytes, JOURNAL_ALIGN);
	}
	if (r == 1) {
		ret_scan->torn = record.seq == ret_scan->records + 1 &&
				 (ret_scan->records == 0 || (record.epoch == ret_scan->epoch &&
								    record.generation == ret_scan->generation));
		ret_scan->rot = ret_scan->records > 0 ? was_synced(io, file, ret_scan->end, ret_scan)
						      : first_is_rot(io, file, ret_scan);
		r = 0;
	}
	buf_free(&content);
	io->ops->close(file);
	return r;
}
