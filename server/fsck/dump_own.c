/* The directory's own files: manifest, clean-stop record, journals, checkpoint log. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "buf.h"
#include "checkpoint_log.h"
#include "dump.h"
#include "engine_private.h"
#include "journal.h"

#define CHUNK_BYTES (1u << 20)

int dump_manifest(struct dump *dump)
{
	char text[512];
	struct io_file *file;
	int r = dump->io->ops->open(dump->io, MANIFEST_PATH, IO_READ, &file);
	if (r == -ENOENT)
		dump_damage(dump, MANIFEST_PATH, 0, "it is missing");
	if (r != 0)
		return r == -ENOENT ? 0 : r;
	ssize_t got = dump->io->ops->pread(file, text, sizeof(text), 0, 0);
	dump->io->ops->close(file);
	if (got < 0)
		return (int)got;
	while (got > 0 && text[got - 1] == '\n')
		got--;
	if (dump->json) {
		json_begin(dump->json);
		json_text(dump->json, "kind", "manifest");
		json_bytes(dump->json, "text", text, (size_t)got);
		json_end(dump->json);
		return 0;
	}
	fputs("manifest", dump->out);
	for (ssize_t at = 0, len; at < got; at += len + 1) {
		const char *end = memchr(text + at, '\n', (size_t)(got - at));
		len = end ? end - (text + at) : got - at;
		fputs(at == 0 ? ": " : ", ", dump->out);
		print_escaped(dump->out, text + at, (size_t)len);
	}
	fputc('\n', dump->out);
	return 0;
}

/* ---- the clean stop --------------------------------------------------------------------------------------------- */

static void print_recorded(struct dump *dump, const struct stream *stream)
{
	const struct segment *last = stream->segments[stream->segment_count - 1];
	if (!dump->json) {
		fputs("  stream ", dump->out);
		print_escaped(dump->out, stream->name, stream->name_len);
		fprintf(dump->out,
			": next id %" PRIu64 ", %u segments, ids from %" PRIu64 ", the last begins at %" PRIu64
			" and ends at byte %" PRIu64 "\n",
			stream->next_id, stream->segment_count, stream->segments[0]->first_id, last->first_id,
			last->data_end);
		return;
	}
	json_begin(dump->json);
	json_text(dump->json, "kind", "clean_stop_stream");
	json_bytes(dump->json, "stream", stream->name, stream->name_len);
	json_number(dump->json, "next_id", stream->next_id);
	json_array(dump->json, "segments");
	for (uint32_t i = 0; i < stream->segment_count; i++) {
		const struct segment *segment = stream->segments[i];
		json_inner(dump->json, NULL);
		json_number(dump->json, "first_id", segment->first_id);
		json_number(dump->json, "end_id", segment->end_id);
		json_number(dump->json, "data_end", segment->data_end);
		json_number(dump->json, "salt", segment->salt);
		json_flag(dump->json, "set_aside", segment->cut);
		json_inner_end(dump->json);
	}
	json_array_end(dump->json);
	json_end(dump->json);
}

static void print_record(struct dump *dump, struct stream_table *table)
{
	if (dump->json) {
		json_begin(dump->json);
		json_text(dump->json, "kind", "clean_stop");
		json_number(dump->json, "streams", table->count);
		json_end(dump->json);
	} else {
		fprintf(dump->out, "clean stop: %zu streams\n", table->count);
	}
	for (size_t i = 0; i < table->bucket_count; i++)
		for (const struct stream *stream = table->buckets[i]; stream; stream = stream->table_next)
			print_recorded(dump, stream);
}

int dump_clean_stop(struct dump *dump)
{
	/* As much of an engine as its loader needs. */
	struct writer *none[1] = {NULL};
	struct engine engine = {.io = dump->io, .options.shard_count = 1, .writer_count = 1, .writers = none};
	struct error err;
	if (dump->io->ops->exists(dump->io, CLEAN_PATH) != 1)
		return 0;
	if (stream_table_init(&engine.table) != 0)
		return -ENOMEM;
	struct stream **streams = NULL;
	size_t count;
	int loaded = clean_stop_load(&engine, &streams, &count, &err);
	free(streams);
	if (loaded == 1)
		print_record(dump, &engine.table);
	else
		dump_damage(dump, CLEAN_PATH, 0, "the record of the clean stop is damaged");
	for (size_t i = 0; i < engine.table.bucket_count; i++)
		for (struct stream *stream = engine.table.buckets[i], *next; stream; stream = next) {
			next = stream->table_next;
			stream_free(stream, NULL);
		}
	stream_table_free(&engine.table);
	return 0;
}

/* ---- journals --------------------------------------------------------------------------------------------------- */

static int op_cb(const struct journal_op *op, void *arg)
{
	struct dump *dump = arg;
	if (!dump->json) {
		fputs("  write to ", dump->out);
		print_escaped(dump->out, op->dir, strlen(op->dir));
		fprintf(dump->out, ", segment %" PRIu64 ", at %" PRIu64 ": %zu bytes\n", op->segment_first_id,
			op->offset, op->len);
		return 0;
	}
	json_begin(dump->json);
	json_text(dump->json, "kind", "journal_write");
	json_text(dump->json, "directory", op->dir);
	json_number(dump->json, "segment", op->segment_first_id);
	json_number(dump->json, "offset", op->offset);
	json_number(dump->json, "bytes", op->len);
	json_end(dump->json);
	return 0;
}

int dump_journal(struct dump *dump, const char *path)
{
	struct journal_scan scan;
	int r = journal_replay(dump->io, path, NULL, NULL, &scan);
	if (r != 0)
		return r;
	if (dump->json) {
		json_begin(dump->json);
		json_text(dump->json, "kind", "journal");
		json_text(dump->json, "file", path);
		json_number(dump->json, "generation", scan.generation);
		json_number(dump->json, "epoch", scan.epoch);
		json_number(dump->json, "records", scan.records);
		json_number(dump->json, "writes", scan.ops);
		json_number(dump->json, "end", scan.end);
		json_end(dump->json);
	} else {
		fprintf(dump->out,
			"journal %s: generation %" PRIu64 " of epoch %016" PRIx64 ", %" PRIu64 " records with %" PRIu64
			" writes, up to byte %" PRIu64 "\n",
			path, scan.generation, scan.epoch, scan.records, scan.ops, scan.end);
	}
	r = journal_replay(dump->io, path, op_cb, dump, &scan);
	if (r == 0 && (scan.rot || scan.torn || scan.headless))
		dump_damage(dump, path, scan.end,
			scan.rot ? "a record that had been synced is broken" : "a record is torn");
	return r;
}

/* ---- checkpoints ------------------------------------------------------------------------------------------------ */

static const char *kind_name(enum checkpoint_kind kind)
{
	return kind == CHECKPOINT_WHOLE	 ? "checkpoint"
	       : kind == CHECKPOINT_LOST ? "lost_checkpoint"
					 : "void_checkpoint";
}

static void print_checkpoint(struct dump *dump, const struct checkpoint_record *record, const uint8_t *bytes)
{
	char time[40];
	if (dump->json) {
		struct json *json = dump->json;
		json_begin(json);
		json_text(json, "kind", kind_name(record->kind));
		json_number(json, "offset", record->offset);
		json_number(json, "bytes", checkpoint_bytes_of(record));
		json_number(json, "timestamp", record->timestamp);
		json_number(json, "synced_end", record->synced_end);
		if (bytes) {
			json_bytes(json, "id", checkpoint_record_id(bytes), record->id_bytes);
			json_array(json, "next_ids");
			for (uint32_t i = 0; i < record->shard_count; i++)
				json_array_number(json, checkpoint_record_next_id(record, bytes, i));
			json_array_end(json);
		}
		json_end(json);
		return;
	}
	dump_time(record->timestamp, time);
	fprintf(dump->out, "  %s at %" PRIu64 ": %" PRIu64 " bytes, %s, synced to %" PRIu64, kind_name(record->kind),
		record->offset, checkpoint_bytes_of(record), time, record->synced_end);
	if (bytes) {
		fputs(", id ", dump->out);
		print_escaped(dump->out, checkpoint_record_id(bytes), record->id_bytes);
		fputs(", next ids", dump->out);
		for (uint32_t i = 0; i < record->shard_count; i++)
			fprintf(dump->out, " %" PRIu64, checkpoint_record_next_id(record, bytes, i));
	}
	fputc('\n', dump->out);
}

static int print_checkpoint_at(struct dump *dump, const struct checkpoint_record *record)
{
	const uint8_t *bytes;
	if (record->kind != CHECKPOINT_WHOLE) {
		print_checkpoint(dump, record, NULL);
		return 0;
	}
	int r = window_need(&dump->window, record->offset, (size_t)checkpoint_bytes_of(record), &bytes);
	if (r < 0)
		return r;
	bool whole = r == 0 && checkpoint_content_is_whole(record, bytes);
	print_checkpoint(dump, record, whole ? bytes : NULL);
	if (!whole)
		dump_damage(dump, CHECKPOINT_PATH, record->offset, "the content of the record is not whole");
	return 0;
}

static int print_records(struct dump *dump, uint64_t salt, uint64_t size)
{
	bool gap = false;
	for (uint64_t at = CHECKPOINT_SECTOR, bytes; at < size; at += bytes) {
		struct checkpoint_record record;
		static const uint8_t zeros[CHECKPOINT_SECTOR];
		const uint8_t *sector;
		int r = window_need(&dump->window, at, CHECKPOINT_SECTOR, &sector);
		if (r < 0)
			return r;
		bytes = CHECKPOINT_SECTOR;
		if (r == 0 && checkpoint_record_decode(sector, salt, at, &record)) {
			r = print_checkpoint_at(dump, &record);
			if (r < 0)
				return r;
			bytes = checkpoint_bytes_of(&record);
			gap = false;
		} else if (!gap && (r == 1 || memcmp(sector, zeros, sizeof(zeros)) != 0)) {
			dump_damage(dump, CHECKPOINT_PATH, at, "what stands here is no record");
			gap = true;
		}
	}
	return 0;
}

int dump_checkpoints(struct dump *dump)
{
	struct checkpoint_file header = {0};
	const uint8_t *sector;
	struct io_file *file;
	uint64_t size = 0;
	int r = dump->io->ops->open(dump->io, CHECKPOINT_PATH, IO_READ, &file);
	if (r != 0)
		return r == -ENOENT ? 0 : r;
	r = dump->io->ops->size(file, &size);
	if (r == 0) {
		window_aim(&dump->window, dump->io, file, size, CHUNK_BYTES);
		dump->window.bridge = true;
		r = window_need(&dump->window, 0, CHECKPOINT_SECTOR, &sector);
	}
	if (r >= 0) {
		/* Without it the salt of any record does. */
		if (r == 1 || !checkpoint_file_decode(sector, &header))
			dump_damage(dump, CHECKPOINT_PATH, 0, "the header of the checkpoint log is not whole");
		if (!dump->json)
			fprintf(dump->out, "checkpoints: %s, %" PRIu64 " bytes, salt %016" PRIx64 "\n", CHECKPOINT_PATH,
				size, header.salt);
		r = print_records(dump, header.salt, size);
	}
	dump->io->ops->close(file);
	return r;
}
