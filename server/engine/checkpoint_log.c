#include "checkpoint_log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "io_util.h"
#include "log.h"
#include "names.h"
#include "writer.h"

/* Zeros are written ahead in such pieces, so that a sync need not commit the file's growth each time. */
#define PREPARE_BYTES (64u << 10)
#define KEEP_BUFFER (1u << 20)
/* A list looks at so many records before others have their turn. */
#define LIST_PIECE 512u

/* ---- errors ----------------------------------------------------------------------------------------------------- */

static void fail_io(struct checkpoint_op *op, int r, const char *what, enum error_outcome outcome)
{
	struct error err;
	error_set_io(&err, -r, what, CHECKPOINT_PATH);
	error_set_outcome(&err, outcome);
	checkpoint_set_error(op, &err);
}

static void fail_damage(struct checkpoint_op *op, uint64_t offset, const char *reason)
{
	struct error err;
	error_set(&err, ERR_CHECKPOINT_CORRUPTED,
		"%s is damaged at byte %llu (%s): create the checkpoint again, or use another one", CHECKPOINT_PATH,
		(unsigned long long)offset, reason);
	error_set_u64(&err, EFI_OFFSET, offset);
	error_set_text(&err, EFI_REASON, reason, strlen(reason));
	checkpoint_set_error(op, &err);
}

void checkpoint_log_fail(struct checkpoint_log *log, int os_errno, const char *what)
{
	if (log->failed_errno != 0)
		return; /* the first reason stays */
	pthread_mutex_lock(&log->lock);
	snprintf(
		log->stats.failed_reason, sizeof(log->stats.failed_reason), "%s: %s", what, error_errno_name(os_errno));
	__atomic_store_n(&log->stats.failed, true, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&log->lock);
	log->failed_errno = os_errno > 0 ? os_errno : EIO;
	log_error("engine",
		"checkpoint log: %s failed (%s): it takes no checkpoints until a restart, loading goes on; look at the "
		"disk, then restart",
		what, error_errno_name(os_errno));
}

/* ---- counters --------------------------------------------------------------------------------------------------- */

static void set(uint64_t *counter, uint64_t value)
{
	__atomic_store_n(counter, value, __ATOMIC_RELAXED);
}

void checkpoint_log_publish(struct checkpoint_log *log)
{
	set(&log->stats.count, log->index.live);
	set(&log->stats.records, log->index.count);
	set(&log->stats.bytes, log->end);
}

void checkpoint_log_sync_done(struct checkpoint_log *log, uint64_t begin_ns)
{
	stat_record(&log->stats.sync_ns, log->io->ops->monotonic_ns(log->io) - begin_ns);
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

int checkpoint_log_open(struct io *io, uint32_t shard_count, const struct engine_hooks *hooks,
	struct checkpoint_log **ret_log, struct error *err)
{
	struct checkpoint_log *log = calloc(1, sizeof(*log));
	if (!log)
		return error_set_io(err, ENOMEM, "open", CHECKPOINT_PATH);
	log->io = io;
	log->shard_count = shard_count;
	pthread_mutex_init(&log->lock, NULL);
	if (checkpoint_log_recover(log, hooks, err) != 0) {
		checkpoint_log_close(log);
		return -1;
	}
	checkpoint_log_publish(log);
	*ret_log = log;
	return 0;
}

void checkpoint_log_close(struct checkpoint_log *log)
{
	if (!log)
		return;
	compaction_free(log);
	log->io->ops->close(log->file);
	checkpoint_index_clear(&log->index);
	buf_free(&log->buf);
	pthread_mutex_destroy(&log->lock);
	free(log);
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

/* len bytes of the record in log->buf, or less where the file ends. */
static ssize_t read_bytes(struct checkpoint_log *log, uint64_t offset, size_t len)
{
	log->buf.len = 0;
	if (buf_reserve(&log->buf, len) != 0)
		return -ENOMEM;
	return log->io->ops->pread(log->file, log->buf.data, len, offset, 0);
}

static void met_damage(struct checkpoint_log *log, const struct checkpoint_entry *entry)
{
	__atomic_fetch_add(&log->stats.damage_found, 1, __ATOMIC_RELAXED);
	checkpoint_index_mark_unreadable(&log->index, entry);
}

static int read_part(struct checkpoint_log *log, const struct checkpoint_entry *entry, size_t len,
	struct checkpoint_record *ret_record, const char **ret_reason)
{
	ssize_t got = read_bytes(log, entry->offset, len);
	if (got < 0)
		return (int)got;
	*ret_reason = NULL;
	if ((size_t)got < len)
		*ret_reason = "the file ends inside it";
	else if (!checkpoint_record_decode(log->buf.data, log->salt, entry->offset, ret_record))
		*ret_reason = "its header is damaged, and with it its id";
	else if (ret_record->kind == CHECKPOINT_VOID || checkpoint_bytes_of(ret_record) != entry->bytes)
		*ret_reason = "its length has changed";
	else if (ret_record->kind == CHECKPOINT_LOST)
		*ret_reason = "its content was lost before the log was compacted";
	if (*ret_reason)
		met_damage(log, entry);
	return *ret_reason != NULL;
}

int checkpoint_log_read(struct checkpoint_log *log, const struct checkpoint_entry *entry,
	struct checkpoint_record *ret_record, const char **ret_reason)
{
	/* The id stands behind the header; what else there is may be much more. */
	size_t len = CHECKPOINT_HEADER_BYTES + CHECKPOINT_ID_MAX;
	return read_part(log, entry, len < entry->bytes ? len : (size_t)entry->bytes, ret_record, ret_reason);
}

int checkpoint_log_read_whole(struct checkpoint_log *log, const struct checkpoint_entry *entry,
	struct checkpoint_record *ret_record, const char **ret_reason)
{
	/* What is known to be damaged may be of any length. */
	size_t len = entry->bytes < CHECKPOINT_RECORD_MAX ? (size_t)entry->bytes : CHECKPOINT_RECORD_MAX;
	int r = read_part(log, entry, len, ret_record, ret_reason);
	if (r != 0)
		return r;
	if (checkpoint_content_is_whole(ret_record, log->buf.data))
		return 0;
	*ret_reason = "its checksum is wrong";
	met_damage(log, entry);
	return 1;
}

static void give(
	struct checkpoint_log *log, struct checkpoint_op *op, const struct checkpoint_entry *entry, const void *id)
{
	struct checkpoint_record record;
	const char *reason;
	int r = checkpoint_log_read_whole(log, entry, &record, &reason);
	if (r == 1)
		fail_damage(op, entry->offset, reason);
	else if (r != 0)
		fail_io(op, r, "read", OUTCOME_NONE);
	if (r != 0)
		return;
	const uint8_t *bytes = log->buf.data;
	if (id && (record.id_bytes != op->id_len || memcmp(checkpoint_record_id(bytes), id, op->id_len) != 0)) {
		fail_damage(op, entry->offset, "its id is not the one that its hash is of");
		return;
	}
	if (record.shard_count != log->shard_count) {
		struct error err;
		error_set(&err, ERR_SHARD_COUNT_MISMATCH,
			"the checkpoint is of %u shards, the log has %u: %s was made elsewhere", record.shard_count,
			log->shard_count, CHECKPOINT_PATH);
		error_set_u64(&err, EFI_EXPECTED, log->shard_count);
		error_set_u64(&err, EFI_FOUND, record.shard_count);
		checkpoint_set_error(op, &err);
		return;
	}
	op->offsets = malloc(sizeof(*op->offsets) * record.shard_count);
	if (!op->offsets || (!id && buf_append(&op->ids, checkpoint_record_id(bytes), record.id_bytes) != 0)) {
		fail_io(op, -ENOMEM, "load from", OUTCOME_NONE);
		return;
	}
	for (uint32_t i = 0; i < record.shard_count; i++)
		op->offsets[i] = checkpoint_record_next_id(&record, bytes, i);
	op->shard_count = record.shard_count;
	op->timestamp = record.timestamp;
	set(&log->stats.loaded, log->stats.loaded + 1);
}

void checkpoint_log_load(struct checkpoint_log *log, struct checkpoint_op *op)
{
	const struct checkpoint_entry *entry =
		checkpoint_index_find(&log->index, checkpoint_hash_of(op->id, op->id_len));
	if (entry) {
		give(log, op, entry, op->id);
		return;
	}
	if ((entry = checkpoint_index_unreadable(&log->index)) != NULL) {
		fail_damage(op, entry->offset, "a record whose id cannot be read; it may be this checkpoint");
		return;
	}
	struct error err;
	error_set(
		&err, ERR_CHECKPOINT_NOT_FOUND, "there is no checkpoint of that id; list_checkpoints tells which are");
	error_set_text(&err, EFI_CHECKPOINT, op->id, op->id_len);
	checkpoint_set_error(op, &err);
}

void checkpoint_log_latest(struct checkpoint_log *log, struct checkpoint_op *op)
{
	/* The last one always is the newest: what replaces another one stands behind it. */
	if (log->index.count > 0) {
		give(log, op, &log->index.entries[log->index.count - 1], NULL);
		return;
	}
	struct error err;
	error_set(&err, ERR_NO_CHECKPOINTS, "there are no checkpoints");
	checkpoint_set_error(op, &err);
}

bool checkpoint_log_newest(struct checkpoint_log *log, uint64_t *ret_offsets)
{
	for (uint32_t i = log->index.count; i > 0; i--) {
		struct checkpoint_record record;
		const char *reason;
		if (checkpoint_log_read_whole(log, &log->index.entries[i - 1], &record, &reason) != 0 ||
			record.shard_count != log->shard_count)
			continue;
		for (uint32_t shard = 0; shard < record.shard_count; shard++)
			ret_offsets[shard] = checkpoint_record_next_id(&record, log->buf.data, shard);
		return true;
	}
	return false;
}

/* ---- listing ---------------------------------------------------------------------------------------------------- */

/* The first entry of that timestamp or a later one. Offsets would not do: a compaction may come in between. */
static uint32_t entry_from(const struct checkpoint_index *index, uint64_t timestamp)
{
	uint32_t low = 0, high = index->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (index->entries[middle].timestamp < timestamp)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The timestamp alone does not do: something damaged has that of what stands before it. */
struct listed {
	uint64_t timestamp;
	struct checkpoint_hash hash;
};

/* NULL: a compaction took it. */
static const struct checkpoint_entry *find_listed(const struct checkpoint_index *index, const struct listed *listed)
{
	uint32_t at = entry_from(index, listed->timestamp);
	for (; at < index->count && index->entries[at].timestamp == listed->timestamp; at++)
		if (index->entries[at].hash.low == listed->hash.low &&
			index->entries[at].hash.high == listed->hash.high)
			return &index->entries[at];
	return NULL;
}

/* What is listed: it is a list of this moment, whatever is created and replaced meanwhile. */
static int list_begin(const struct checkpoint_index *index, struct checkpoint_op *op)
{
	uint32_t from = index->count;
	for (uint64_t left = op->limit; from > 0 && left > 0; from--)
		left -= index->entries[from - 1].live;
	for (uint32_t i = from; i < index->count; i++) {
		const struct checkpoint_entry *entry = &index->entries[i];
		op->nameless += !checkpoint_hash_is_known(entry->hash);
		struct listed listed = {entry->timestamp, entry->hash};
		if (entry->live && buf_append(&op->list, &listed, sizeof(listed)) != 0)
			return -1;
	}
	return 0;
}

static bool list_one(struct checkpoint_log *log, struct checkpoint_op *op, const struct checkpoint_entry *entry)
{
	struct checkpoint_record record;
	const char *reason;
	int r = checkpoint_log_read(log, entry, &record, &reason);
	if (r < 0 && r != -EIO) {
		fail_io(op, r, "read", OUTCOME_NONE);
		return false;
	}
	struct checkpoint_hash hash = {0};
	if (r == 0)
		hash = checkpoint_hash_of(checkpoint_record_id(log->buf.data), record.id_bytes);
	if (r != 0 || hash.low != entry->hash.low || hash.high != entry->hash.high) {
		op->nameless++;
		return true;
	}
	uint8_t head[12];
	put_u32(head, record.id_bytes);
	put_u64(head + 4, record.timestamp);
	if (buf_append(&op->ids, head, sizeof(head)) != 0 ||
		buf_append(&op->ids, checkpoint_record_id(log->buf.data), record.id_bytes) != 0) {
		fail_io(op, -ENOMEM, "list", OUTCOME_NONE);
		return false;
	}
	op->listed_count++;
	uint64_t size = op->ids.len + (CHECKPOINT_LISTED_BYTES - sizeof(head)) * op->listed_count;
	if (size <= op->max_bytes)
		return true;
	struct error err;
	error_set(&err, ERR_TOO_LARGE, "the list of checkpoints does not fit in one answer: ask for less with limit");
	error_set_u64(&err, EFI_LIMIT, op->max_bytes);
	error_set_u64(&err, EFI_SIZE, size);
	checkpoint_set_error(op, &err);
	return false;
}

bool checkpoint_log_list(struct checkpoint_log *log, struct checkpoint_op *op)
{
	if (!op->begun && list_begin(&log->index, op) != 0) {
		fail_io(op, -ENOMEM, "list", OUTCOME_NONE);
		return true;
	}
	op->begun = true;
	for (unsigned left = LIST_PIECE; op->list_at < op->list.len; left--) {
		struct listed listed;
		if (left == 0)
			return false;
		memcpy(&listed, op->list.data + op->list_at, sizeof(listed));
		op->list_at += sizeof(listed);
		const struct checkpoint_entry *entry = find_listed(&log->index, &listed);
		if (entry && !list_one(log, op, entry))
			return true;
	}
	return true;
}

/* ---- creating --------------------------------------------------------------------------------------------------- */

int checkpoint_log_sync_name(struct checkpoint_log *log)
{
	int r = log->sync_root ? log->sync_root(log->sync_root_arg) : log->io->ops->sync_dir(log->io, "");
	if (r != 0) /* not even if it says that there is no room may it be tried again */
		checkpoint_log_fail(log, -r, "sync of the directory");
	return r;
}

static int make_file(struct checkpoint_log *log)
{
	struct io *io = log->io;
	struct checkpoint_file header = {.floor = log->last_timestamp, .created_ns = io->ops->wall_ns(io)};
	uint8_t bytes[CHECKPOINT_SECTOR];
	int r = io->ops->random(io, &header.salt, sizeof(header.salt));
	if (r != 0)
		return r;
	header.salt |= header.salt == 0;
	checkpoint_file_encode(&header, bytes);
	r = io_put_file(io, CHECKPOINT_PATH, CHECKPOINT_NEW, bytes, sizeof(bytes));
	if (r == 0)
		r = checkpoint_log_sync_name(log);
	if (r == 0)
		r = io->ops->open(io, CHECKPOINT_PATH, IO_READ | IO_WRITE, &log->file);
	if (r != 0)
		return r;
	log->salt = header.salt;
	log->end = log->prepared = CHECKPOINT_SECTOR;
	return 0;
}

/* Space for the bytes up to `to`. Fails without consequence, or, if a write failed otherwise, stops the log. */
static int prepare(struct checkpoint_log *log, uint64_t to)
{
	struct io *io = log->io;
	if (to <= log->prepared)
		return 0;
	uint64_t ahead = align_up(to, PREPARE_BYTES);
	int r = io->ops->allocate(log->file, log->prepared, ahead - log->prepared);
	if (io_no_room(r)) {
		ahead = to;
		r = io->ops->allocate(log->file, log->prepared, ahead - log->prepared);
	}
	if (r != 0 && r != -EOPNOTSUPP)
		return r;
	r = io_write_zeros(io, log->file, log->prepared, ahead);
	if (r == 0)
		log->prepared = ahead;
	return r;
}

/* The records of the chain, one behind the other, in log->buf. */
static int encode_group(struct checkpoint_log *log, struct checkpoint_op *first)
{
	size_t total = 0, at = 0;
	uint64_t timestamp = log->last_timestamp;
	struct checkpoint_hash before = log->last_hash;
	for (struct checkpoint_op *op = first; op; op = (struct checkpoint_op *)op->op.next)
		total += checkpoint_record_bytes(log->shard_count, (uint32_t)op->id_len);
	log->buf.len = 0;
	if (buf_reserve(&log->buf, total) != 0)
		return -ENOMEM;
	for (struct checkpoint_op *op = first; op; op = (struct checkpoint_op *)op->op.next) {
		uint64_t now = log->io->ops->wall_ns(log->io);
		if (now > timestamp && now <= CHECKPOINT_TIME_MAX / 2)
			timestamp = now;
		else if (timestamp < CHECKPOINT_TIME_MAX)
			timestamp++;
		struct checkpoint_record record = {
			.kind = CHECKPOINT_WHOLE,
			.salt = log->salt,
			.offset = log->end + at,
			.synced_end = log->end,
			.timestamp = timestamp,
			.hash = checkpoint_hash_of(op->id, op->id_len),
			.hash_before = before,
			.shard_count = log->shard_count,
			.id_bytes = (uint32_t)op->id_len,
		};
		before = record.hash;
		checkpoint_record_encode(&record, op->id, op->offsets, log->buf.data + at);
		op->timestamp = timestamp;
		at += checkpoint_record_bytes(log->shard_count, (uint32_t)op->id_len);
	}
	log->buf.len = total;
	return 0;
}

static int write_group(struct checkpoint_log *log)
{
	struct io *io = log->io;
	struct iovec iov = {log->buf.data, log->buf.len};
	int r = io->ops->pwritev(log->file, &iov, 1, log->end);
	if (io_no_room(r)) {
		/* It was reserved, and is not to be had all the same: what was written of it is taken back. */
		int back = io->ops->truncate(log->file, log->end);
		if (back == 0) {
			log->prepared = log->end;
			return r;
		}
		r = back;
	}
	if (r != 0) {
		checkpoint_log_fail(log, -r, "write");
		return r;
	}
	uint64_t begin = io->ops->monotonic_ns(io);
	r = io->ops->sync(log->file);
	checkpoint_log_sync_done(log, begin);
	if (r != 0)
		checkpoint_log_fail(log, -r, "sync");
	return r;
}

/* Everything up to the first byte that is written. */
static int before_group(struct checkpoint_log *log, struct checkpoint_op *first, uint32_t count)
{
	int r = 0;
	if (checkpoint_index_reserve(&log->index, count) != 0)
		return -ENOMEM;
	if (!log->file)
		r = make_file(log);
	if (r == 0)
		r = encode_group(log, first);
	if (r == 0)
		r = prepare(log, log->end + log->buf.len);
	if (r != 0 && !io_may_pass(r))
		checkpoint_log_fail(log, -r, "prepare");
	return r;
}

static void added(struct checkpoint_log *log, struct checkpoint_op *first)
{
	uint64_t created = 0;
	for (struct checkpoint_op *op = first; op; op = (struct checkpoint_op *)op->op.next) {
		size_t bytes = checkpoint_record_bytes(log->shard_count, (uint32_t)op->id_len);
		checkpoint_index_add(&log->index, &(struct checkpoint_entry){
							  .offset = log->end,
							  .bytes = bytes,
							  .timestamp = op->timestamp,
							  .hash = checkpoint_hash_of(op->id, op->id_len),
							  .shard_count = log->shard_count,
						  });
		log->end += bytes;
		log->last_timestamp = op->timestamp;
		log->last_hash = checkpoint_hash_of(op->id, op->id_len);
		op->shard_count = log->shard_count;
		created++;
	}
	log->end_is_marked = false;
	set(&log->stats.created, log->stats.created + created);
	set(&log->stats.groups, log->stats.groups + 1);
	checkpoint_log_publish(log);
}

static void fail_chain(struct checkpoint_op *first, int r, const char *what, enum error_outcome outcome)
{
	for (struct checkpoint_op *op = first; op; op = (struct checkpoint_op *)op->op.next)
		fail_io(op, r, what, outcome);
}

static void create_one_by_one(struct checkpoint_log *log, struct checkpoint_op *first)
{
	for (struct checkpoint_op *op = first; op; op = (struct checkpoint_op *)op->op.next) {
		struct op *next = op->op.next;
		op->op.next = NULL;
		checkpoint_log_create(log, op);
		op->op.next = next;
	}
}

void checkpoint_log_create(struct checkpoint_log *log, struct checkpoint_op *first)
{
	uint32_t count = 0;
	for (struct op *op = &first->op; op; op = op->next)
		count++;
	if (log->failed_errno != 0) {
		fail_chain(
			first, -log->failed_errno, "the checkpoint log takes no more since an error of", OUTCOME_NONE);
		return;
	}
	if (log->index.count > CHECKPOINTS_MAX - count) {
		struct error err;
		error_set(
			&err, ERR_BUSY, "the checkpoint log holds %u records, the most: compact it", log->index.count);
		for (struct checkpoint_op *op = first; op; op = (struct checkpoint_op *)op->op.next)
			checkpoint_set_error(op, &err);
		return;
	}
	int r = before_group(log, first, count);
	bool begun = r == 0;
	if (begun)
		r = write_group(log);
	if (r == 0)
		added(log, first);
	else if (log->failed_errno != 0)
		/* Written in part, perhaps, and on disk, perhaps: the next start tells. */
		fail_chain(first, r, "write", begun ? OUTCOME_UNKNOWN : OUTCOME_NONE);
	else if (count > 1) /* the outcome of a group is that of its requests one by one */
		create_one_by_one(log, first);
	else
		fail_io(first, r, "prepare", OUTCOME_NONE);
	if (log->buf.cap > KEEP_BUFFER)
		buf_free(&log->buf);
}

/* ---- the rest --------------------------------------------------------------------------------------------------- */

int checkpoint_log_mark_end(struct checkpoint_log *log, struct error *err)
{
	if (!log->file || log->failed_errno != 0 || log->end_is_marked || log->index.count == 0)
		return 0;
	struct checkpoint_record record = {
		.kind = CHECKPOINT_VOID,
		.salt = log->salt,
		.offset = log->end,
		.synced_end = log->end,
		.timestamp = log->last_timestamp,
		.hash_before = log->last_hash,
		.void_bytes = CHECKPOINT_SECTOR,
	};
	log->buf.len = 0;
	int r = buf_reserve(&log->buf, CHECKPOINT_SECTOR) == 0 ? prepare(log, log->end + CHECKPOINT_SECTOR) : -ENOMEM;
	if (r == 0) {
		checkpoint_record_encode(&record, NULL, NULL, log->buf.data);
		log->buf.len = CHECKPOINT_SECTOR;
		r = write_group(log);
	}
	if (r != 0 && !io_may_pass(r))
		return error_set_io(err, -r, "mark the end of", CHECKPOINT_PATH);
	if (r == 0)
		log->end += CHECKPOINT_SECTOR;
	return 0;
}
