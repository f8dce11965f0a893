/*
 * fuzz_checkpoint: the checkpoint log, whole or damaged, opened, listed, loaded from, written to and compacted.
 *
 * Input: how, how many a compaction keeps, then a script: records, a zero, then what is done to them. 0xff as the first
 * byte of the input: the rest of it is the file.
 * Checks: damage never keeps it from opening; what is loaded stands, with right checksums, in the file; a second start
 * and one after a power cut show the same; timestamps rise; a new one is the newest; a compaction keeps the newest.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_log.h"
#include "crc32c.h"
#include "format.h"
#include "fuzz.h"
#include "names.h"
#include "sim.h"

#define SHARDS 2
#define FILE_MAX ((size_t)64 * 1024)
#define RECORDS_MAX 100
#define NEW_ID "a new one"

struct made {
	uint8_t bytes[FILE_MAX + 2048];
	size_t len;
	size_t records[RECORDS_MAX];
	unsigned count;
	uint64_t salt, timestamp;
	struct checkpoint_hash last;
	bool forged; /* right checksums over what is not so */
};

/* ---- making ------------------------------------------------------------------------------------------------------ */

static void begin(struct made *made)
{
	struct checkpoint_file file = {.salt = 0x1234567, .floor = 1000, .created_ns = 900};
	made->len = CHECKPOINT_SECTOR;
	made->count = 0;
	made->salt = file.salt;
	made->timestamp = file.floor;
	made->last = (struct checkpoint_hash){0};
	made->forged = false;
	checkpoint_file_encode(&file, made->bytes);
}

static size_t some_id(struct fuzz_in *in, uint8_t id[1200])
{
	uint8_t which = fuzz_u8(in);
	size_t len = which < 200 ? 1 : which < 240 ? 500 : 1100;
	memset(id, 'a' + which % 6, len);
	return len;
}

static void add_record(struct made *made, struct fuzz_in *in, uint8_t how)
{
	uint8_t id[1200];
	uint64_t next_ids[4];
	struct checkpoint_record record = {.salt = made->salt, .offset = made->len, .hash_before = made->last};
	if (made->count == RECORDS_MAX || made->len + 4096 > FILE_MAX)
		return;
	/* Behind the file's end nothing is known to be durable. */
	record.synced_end = how & 8 ? made->len : how & 16 && made->count > 0 ? made->records[made->count - 1] : 0;
	made->timestamp += 1 + (how >> 5);
	record.timestamp = made->timestamp;
	record.kind = how % 8 == 4 ? CHECKPOINT_LOST : how % 8 == 5 ? CHECKPOINT_VOID : CHECKPOINT_WHOLE;
	if (record.kind == CHECKPOINT_VOID) {
		record.hash_before = (struct checkpoint_hash){0};
		record.void_bytes = CHECKPOINT_SECTOR * (1u + fuzz_u8(in) % 4);
	} else {
		size_t len = some_id(in, id);
		record.hash = made->last = checkpoint_hash_of(id, len);
		if (record.kind == CHECKPOINT_WHOLE) {
			record.id_bytes = (uint32_t)len;
			record.shard_count = how % 8 == 6 ? 3 : SHARDS;
		}
	}
	for (unsigned i = 0; i < 4; i++)
		next_ids[i] = fuzz_u8(in);
	size_t bytes = record.kind == CHECKPOINT_VOID ? CHECKPOINT_SECTOR
						      : checkpoint_record_bytes(record.shard_count, record.id_bytes);
	checkpoint_record_encode(&record, id, next_ids, made->bytes + made->len);
	made->records[made->count++] = made->len;
	made->len += bytes;
	/* What a void record has taken the place of, but for its first sector. */
	size_t rest = record.kind == CHECKPOINT_VOID ? (size_t)record.void_bytes - bytes : 0;
	memset(made->bytes + made->len, 'v', rest);
	made->len += rest;
}

static bool build(struct made *made, struct fuzz_in *in)
{
	uint8_t how = fuzz_u8(in);
	if (how % 8 == 0)
		return false;
	add_record(made, in, how);
	return fuzz_more(in);
}

/* ---- damaging ---------------------------------------------------------------------------------------------------- */

static void fix(struct made *made, size_t at, bool content)
{
	uint8_t *record = made->bytes + at;
	uint32_t shards = fuzz_get32(record + 56), id_bytes = fuzz_get32(record + 60);
	size_t end = (size_t)align_up(CHECKPOINT_HEADER_BYTES + (uint64_t)id_bytes, 8) + (size_t)8 * shards;
	if (content && end <= made->len - at)
		fuzz_put32(record + 80, crc32c(0, record + CHECKPOINT_HEADER_BYTES, end - CHECKPOINT_HEADER_BYTES));
	fuzz_put32(record + 84, crc32c(0, record, 84));
	made->forged = true;
}

static void overwrite(struct made *made, size_t at, struct fuzz_in *in, size_t wanted)
{
	size_t len;
	const uint8_t *bytes = fuzz_take(in, wanted, &len);
	if (at < made->len)
		memcpy(made->bytes + at, bytes, len < made->len - at ? len : made->len - at);
}

static void change_record(struct made *made, struct fuzz_in *in, uint8_t how)
{
	static const uint8_t fields[] = {0, 4, 8, 16, 24, 32, 40, 48, 56, 60, 64, 72, 80, 84};
	if (made->count == 0)
		return;
	size_t record = made->records[fuzz_u8(in) % made->count], at = record;
	uint8_t where = fuzz_u8(in);
	at += where < 128 ? fields[where % sizeof(fields)] : 88u + (where - 128) * 4u;
	if (record + CHECKPOINT_SECTOR > made->len)
		return;
	if (how & 32) {
		uint64_t number = fuzz_number(in);
		if (at + 8 <= made->len)
			fuzz_put64(made->bytes + at, number);
	} else {
		overwrite(made, at, in, 1 + how % 8);
	}
	if (how & 16)
		fix(made, record, how & 8);
}

static void copy_sectors(struct made *made, struct fuzz_in *in)
{
	size_t from = (size_t)fuzz_u8(in) * CHECKPOINT_SECTOR, to = (size_t)fuzz_u8(in) * CHECKPOINT_SECTOR;
	size_t len = (1u + fuzz_u8(in) % 4) * (size_t)CHECKPOINT_SECTOR;
	if (from >= made->len || to >= made->len)
		return;
	len = len < made->len - from ? len : made->len - from;
	len = len < made->len - to ? len : made->len - to;
	memmove(made->bytes + to, made->bytes + from, len);
}

static void damage(struct made *made, struct fuzz_in *in)
{
	uint8_t how = fuzz_u8(in);
	size_t at = fuzz_uint(in, 2), more;
	switch (how % 8) {
	case 0:
	case 1:
		change_record(made, in, how / 8 * 9u & 0xff);
		break;
	case 2:
		if (made->len > 0)
			made->bytes[at % made->len] ^= (uint8_t)(1u << how / 8 % 8);
		break;
	case 3:
		made->len = at % (made->len + 1);
		break;
	case 4: /* sectors that were not written */
		at = at % 128 * CHECKPOINT_SECTOR;
		more = (1u + how / 8 % 3) * (size_t)CHECKPOINT_SECTOR;
		if (at < made->len)
			memset(made->bytes + at, 0, more < made->len - at ? more : made->len - at);
		break;
	case 5:
		copy_sectors(made, in);
		break;
	case 6: /* written ahead, or rubbish */
		more = 1 + at % 1500;
		if (made->len + more <= FILE_MAX) {
			memset(made->bytes + made->len, 0, more);
			made->len += more;
			if (how & 128)
				overwrite(made, made->len - more, in, more < 32 ? more : 32);
		}
		break;
	default: /* the file's header */
		overwrite(made, at % CHECKPOINT_SECTOR, in, 1 + how / 8 % 8);
		if ((how & 128) && made->len >= CHECKPOINT_SECTOR) {
			fuzz_put32(made->bytes + 508, crc32c(0, made->bytes, 508));
			made->forged = true;
		}
		break;
	}
}

/* ---- what stands there ------------------------------------------------------------------------------------------- */

/* By the description of the format: a whole record of that id, with these offsets and that time. */
static bool stands_there(struct io *io, const struct checkpoint_op *op, const void *id, size_t id_len)
{
	int64_t size = sim_file_size(io, CHECKPOINT_PATH);
	uint8_t *bytes = size > 0 ? fuzz_alloc((size_t)size) : NULL;
	bool found = false;
	if (size <= 0)
		return false;
	FUZZ_CHECK(sim_read_file(io, CHECKPOINT_PATH, 0, bytes, (size_t)size) == 0, "the log cannot be read");
	for (size_t at = 512, len = (size_t)size; at + 512 <= len && !found; at += 512) {
		const uint8_t *record = bytes + at;
		size_t next_ids = (88 + id_len + 7) / 8 * 8;
		if (memcmp(record, "IWCP", 4) != 0 || fuzz_get32(record + 4) != 1 || fuzz_get64(record + 16) != at ||
			fuzz_get32(record + 84) != crc32c(0, record, 84) || fuzz_get32(record + 60) != id_len ||
			fuzz_get32(record + 56) != op->shard_count || at + next_ids + 8u * op->shard_count > len ||
			fuzz_get32(record + 80) != crc32c(0, record + 88, next_ids + 8u * op->shard_count - 88) ||
			memcmp(record + 88, id, id_len) != 0 || fuzz_get64(record + 32) != op->timestamp)
			continue;
		found = true;
		for (uint32_t i = 0; i < op->shard_count; i++)
			found &= fuzz_get64(record + next_ids + 8u * i) == op->offsets[i] + 1;
	}
	free(bytes);
	return found;
}

/* ---- using it ---------------------------------------------------------------------------------------------------- */

struct shown {
	uint64_t hash, count, nameless, last_timestamp;
};

static uint64_t end_op(struct checkpoint_op *op)
{
	uint64_t code = op->op.error != NULL ? (uint64_t)op->op.error->code : 0;
	free(op->op.error);
	checkpoint_op_clear(op);
	return code;
}

static uint64_t load(
	struct io *io, struct checkpoint_log *log, const uint8_t *id, size_t id_len, uint64_t timestamp, bool forged)
{
	struct checkpoint_op op = {.op.kind = OP_LOAD_CHECKPOINT, .id = id, .id_len = id_len};
	uint64_t hash = 0;
	checkpoint_log_load(log, &op);
	if (op.op.error == NULL) {
		FUZZ_CHECK(op.shard_count == SHARDS, "of %u shards", op.shard_count);
		/* A time that went back is shown as the one before it: only forged ones do. */
		FUZZ_CHECK(forged || op.timestamp == timestamp, "it was listed with another time");
		FUZZ_CHECK(forged || stands_there(io, &op, id, id_len), "what was loaded stands nowhere");
		hash = fuzz_hash(op.timestamp, op.offsets, op.shard_count * sizeof(*op.offsets));
	}
	return hash + end_op(&op);
}

static void show(struct io *io, struct checkpoint_log *log, bool forged, struct shown *shown)
{
	struct checkpoint_op list = {.op.kind = OP_LIST_CHECKPOINTS, .limit = UINT64_MAX, .max_bytes = UINT64_MAX};
	struct checkpoint_op latest = {.op.kind = OP_LOAD_LATEST_CHECKPOINT};
	size_t at = 0, id_len, last_len = 0;
	const uint8_t *id, *last_id = NULL;
	uint64_t timestamp;
	*shown = (struct shown){0};
	while (!checkpoint_log_list(log, &list))
		;
	FUZZ_CHECK(list.op.error == NULL, "list: %s", list.op.error->message);
	while (checkpoint_listed(&list, &at, &id, &id_len, &timestamp)) {
		FUZZ_CHECK(timestamp > shown->last_timestamp || forged,
			"a time that does not rise: %" PRIu64 " behind %" PRIu64, timestamp, shown->last_timestamp);
		shown->last_timestamp = timestamp;
		shown->hash = fuzz_hash(shown->hash ^ timestamp, id, id_len);
		shown->hash += load(io, log, id, id_len, timestamp, forged);
		shown->count++;
		last_id = id;
		last_len = id_len;
	}
	FUZZ_CHECK(shown->count == list.listed_count, "another number is listed");
	shown->nameless = list.nameless;
	checkpoint_log_latest(log, &latest);
	if (latest.op.error == NULL)
		FUZZ_CHECK(forged || (last_id != NULL && latest.ids.len == last_len &&
					     memcmp(latest.ids.data, last_id, last_len) == 0),
			"the latest is not the last of the list");
	else
		FUZZ_CHECK(shown->count + shown->nameless > 0 || latest.op.error->code == ERR_NO_CHECKPOINTS,
			"there is none, and the latest is %s", latest.op.error->message);
	shown->hash = shown->hash * 31 + end_op(&latest);
	(void)end_op(&list);
}

static struct checkpoint_log *open_log(struct io *io)
{
	const struct engine_hooks hooks = {.no_threads = true};
	struct checkpoint_log *log;
	struct error err;
	int r = checkpoint_log_open(io, SHARDS, &hooks, &log, &err);
	FUZZ_CHECK(r == 0, "damage keeps it from opening: %s", err.message);
	return log;
}

static void check_again(struct io *io, const struct shown *before, bool forged, const char *when)
{
	struct checkpoint_log *log = open_log(io);
	struct shown shown;
	show(io, log, forged, &shown);
	checkpoint_log_close(log);
	FUZZ_CHECK(forged || (shown.count == before->count && shown.nameless == before->nameless &&
				     shown.hash == before->hash),
		"%s: %" PRIu64 " checkpoints and %" PRIu64 " nameless ones were %" PRIu64 " and %" PRIu64 ", or others",
		when, shown.count, shown.nameless, before->count, before->nameless);
}

static void create(struct checkpoint_log *log, const struct shown *shown, bool forged)
{
	struct checkpoint_op op = {.op.kind = OP_CREATE_CHECKPOINT, .id = NEW_ID, .id_len = strlen(NEW_ID)};
	op.offsets = fuzz_alloc(SHARDS * sizeof(*op.offsets));
	op.offsets[0] = 5;
	op.offsets[1] = UINT64_MAX - 1;
	op.shard_count = SHARDS;
	checkpoint_log_create(log, &op);
	FUZZ_CHECK(op.op.error == NULL, "create: %s", op.op.error->message);
	FUZZ_CHECK(op.timestamp > shown->last_timestamp || forged, "its time is not the newest");
	(void)end_op(&op);
}

static void use(struct io *io, uint8_t keep, bool forged)
{
	struct shown shown, again;
	struct error err;
	struct checkpoint_log *log = open_log(io);
	show(io, log, forged, &shown);
	create(log, &shown, forged);
	show(io, log, forged, &again);
	FUZZ_CHECK(again.count >= 1 && (forged || again.last_timestamp > shown.last_timestamp),
		"what was created is not listed");
	checkpoint_log_close(log);
	check_again(io, &again, forged, "behind a creation");
	log = open_log(io);
	struct checkpoint_op op = {.op.kind = OP_COMPACT_CHECKPOINTS, .keep = keep % 6};
	while (!checkpoint_log_compact(log, &op))
		;
	FUZZ_CHECK(op.op.error == NULL, "compact: %s", op.op.error->message);
	FUZZ_CHECK(op.count_after <= op.count_before && op.count_after <= keep % 6,
		"%" PRIu64 " of %" PRIu64 " are left", op.count_after, op.count_before);
	(void)end_op(&op);
	show(io, log, forged, &again);
	FUZZ_CHECK(again.count <= keep % 6, "more are left than were to be kept");
	FUZZ_CHECK(checkpoint_log_mark_end(log, &err) == 0, "%s", err.message);
	checkpoint_log_close(log);
	check_again(io, &again, forged, "behind a compaction");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct made made;
	struct fuzz_in in = {data, data + size};
	uint8_t how = fuzz_u8(&in), keep = fuzz_u8(&in);
	begin(&made);
	if (how == 0xff) {
		const uint8_t *bytes = fuzz_take(&in, FILE_MAX, &made.len);
		memcpy(made.bytes, bytes, made.len);
	} else {
		while (build(&made, &in))
			;
		while (fuzz_more(&in))
			damage(&made, &in);
	}
	struct io *io = sim_new(1);
	FUZZ_CHECK(sim_write_file(io, CHECKPOINT_PATH, made.bytes, made.len) == 0, "no file");
	struct shown shown;
	struct checkpoint_log *log = open_log(io);
	show(io, log, made.forged, &shown);
	checkpoint_log_close(log);
	check_again(io, &shown, made.forged, "a second time");
	sim_power_on(io, how & 1 ? SIM_LOSE_ALL : SIM_POWER_RANDOM);
	check_again(io, &shown, made.forged, "after a power cut");
	use(io, keep, made.forged);
	FUZZ_CHECK(sim_open_count(io) == 0, "files are left open");
	sim_free(io);
	return 0;
}
