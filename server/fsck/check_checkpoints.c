/*
 * check_checkpoints: every record of the checkpoint log as recovery leaves it, against its checksums, against the
 * records before it, and against the shards that it speaks of.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "checkpointer.h"

#define CHUNK_BYTES (1u << 20)

struct records {
	struct check *check;
	struct checkpoint_log *log;
	uint64_t timestamp;
	uint64_t *offsets;     /* of the record before, by shard */
	uint64_t damaged_from; /* no record is there since; UINT64_MAX: not so */
};

static void found(struct records *records, enum severity severity, const char *kind, uint64_t offset, uint64_t bytes,
	const char *text)
{
	const struct finding finding = {
		.severity = severity,
		.kind = kind,
		.file = CHECKPOINT_PATH,
		.has_offset = true,
		.offset = offset,
		.bytes = bytes,
		.text = text,
	};
	report_add(records->check->report, &finding);
}

static void end_damage(struct records *records, uint64_t at)
{
	if (records->damaged_from != UINT64_MAX)
		found(records, SEVERITY_DAMAGE, "checkpoint", records->damaged_from, at - records->damaged_from,
			"a record is damaged: its checkpoint is lost");
	records->damaged_from = UINT64_MAX;
}

static uint64_t shard_end(const struct records *records, uint32_t shard)
{
	const struct stream *stream = records->check->engine->shards[shard];
	return stream ? stream->next_id : 0;
}

static void check_offsets(struct records *records, const struct checkpoint_record *record, const uint8_t *bytes)
{
	char text[160];
	if (record->shard_count != records->log->shard_count) {
		found(records, SEVERITY_DAMAGE, "checkpoint_shards", record->offset, 0,
			"a checkpoint of another number of shards");
		return;
	}
	for (uint32_t shard = 0; shard < record->shard_count; shard++) {
		uint64_t next_id = checkpoint_record_next_id(record, bytes, shard);
		if (next_id > shard_end(records, shard)) {
			snprintf(text, sizeof(text),
				"a checkpoint names entries below %llu of shard %u, which ends at %llu",
				(unsigned long long)next_id, shard, (unsigned long long)shard_end(records, shard));
			found(records, SEVERITY_DAMAGE, "checkpoint_ahead", record->offset, 0, text);
		}
		if (next_id < records->offsets[shard]) {
			snprintf(text, sizeof(text),
				"a checkpoint is behind an older one in shard %u (%llu, %llu before)", shard,
				(unsigned long long)next_id, (unsigned long long)records->offsets[shard]);
			found(records, SEVERITY_DAMAGE, "checkpoint_order", record->offset, 0, text);
		}
		records->offsets[shard] = next_id;
	}
}

static bool is_zeros(const uint8_t *bytes, size_t len)
{
	return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

static size_t content_bytes(const struct checkpoint_record *record)
{
	if (record->kind == CHECKPOINT_VOID)
		return CHECKPOINT_HEADER_BYTES;
	return (size_t)align_up(CHECKPOINT_HEADER_BYTES + (uint64_t)record->id_bytes, 8) +
	       (size_t)8 * record->shard_count;
}

/* 0 or a negative errno. */
static int check_record(struct records *records, const struct checkpoint_record *record)
{
	/* What a void record takes the place of stays behind its first sector. */
	size_t len = record->kind == CHECKPOINT_VOID ? CHECKPOINT_SECTOR : (size_t)checkpoint_bytes_of(record);
	const uint8_t *bytes;
	int r = window_need(&records->check->window, record->offset, len, &bytes);
	if (r < 0)
		return r;
	if (r == 1 || (record->kind == CHECKPOINT_WHOLE && !checkpoint_content_is_whole(record, bytes))) {
		found(records, SEVERITY_DAMAGE, "checkpoint", record->offset, len,
			"the content of a record is damaged: its checkpoint cannot be loaded");
		return 0;
	}
	size_t content = content_bytes(record);
	if (!is_zeros(bytes + content, len - content))
		found(records, SEVERITY_DAMAGE, "padding", record->offset + content, 0,
			"the padding of a record is not zeros; no checkpoint is hurt");
	if (record->kind == CHECKPOINT_VOID)
		return 0;
	if (record->timestamp < records->timestamp)
		found(records, SEVERITY_DAMAGE, "checkpoint_order", record->offset, 0,
			"a record is older than the one before it");
	records->timestamp = record->timestamp;
	if (record->kind == CHECKPOINT_LOST) {
		found(records, SEVERITY_NOTE, "lost_before", record->offset, 0,
			"a checkpoint was lost before the log was compacted");
		return 0;
	}
	records->check->counts.checkpoints++;
	check_offsets(records, record, bytes);
	return 0;
}

static int check_records(struct records *records)
{
	struct window *window = &records->check->window;
	const uint8_t *sector;
	for (uint64_t at = CHECKPOINT_SECTOR, bytes; at < records->log->end; at += bytes) {
		struct checkpoint_record record;
		int r = window_need(window, at, CHECKPOINT_SECTOR, &sector);
		if (r < 0)
			return r;
		bytes = CHECKPOINT_SECTOR;
		if (r == 1 || !checkpoint_record_decode(sector, records->log->salt, at, &record)) {
			if (records->damaged_from == UINT64_MAX)
				records->damaged_from = at;
			continue;
		}
		end_damage(records, at);
		r = check_record(records, &record);
		if (r < 0)
			return r;
		bytes = checkpoint_bytes_of(&record);
	}
	end_damage(records, records->log->end);
	return 0; /* behind that recovery has seen zeros, or cut */
}

int check_checkpoints(struct check *check, struct error *err)
{
	struct io *io = check->io;
	struct records records = {
		.check = check,
		.log = checkpointer_log(check->engine->checkpointer),
		.damaged_from = UINT64_MAX,
	};
	struct io_file *file;
	uint64_t size = 0;
	int r = io->ops->open(io, CHECKPOINT_PATH, IO_READ, &file);
	if (r == -ENOENT)
		return 0;
	if (r != 0)
		return error_set_io(err, -r, "open", CHECKPOINT_PATH);
	r = io->ops->size(file, &size);
	records.offsets = calloc(records.log->shard_count, sizeof(*records.offsets));
	if (r == 0 && !records.offsets)
		r = -ENOMEM;
	if (r == 0) {
		window_aim(&check->window, io, file, size, CHUNK_BYTES);
		check->window.bridge = true;
		r = check_records(&records);
	}
	free(records.offsets);
	io->ops->close(file);
	return r == 0 ? 0 : error_set_io(err, -r, "read", CHECKPOINT_PATH);
}
