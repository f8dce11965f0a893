/* A segment, frame by frame, and its entries if they are asked for. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "dump.h"
#include "index.h"
#include "names.h"

#define CHUNK_BYTES (1u << 20)
#define PATH_MAX_BYTES (NAMES_DIR_MAX + NAMES_FILE_MAX + 16)

struct segment_dump {
	struct dump *dump;
	char path[PATH_MAX_BYTES];
	uint64_t size, salt;
	uint64_t block_id;
};

static void print_header(struct segment_dump *segment, const struct segment_header *header)
{
	struct dump *dump = segment->dump;
	char time[40];
	dump_time(header->created_ns, time);
	if (!dump->json) {
		fprintf(dump->out, "segment ");
		print_escaped(dump->out, segment->path, strlen(segment->path));
		fprintf(dump->out, ": stream ");
		print_escaped(dump->out, header->name, header->name_len);
		fprintf(dump->out,
			", first id %" PRIu64 ", salt %016" PRIx64 ", created %s, prev_check %08x, check %08x, %" PRIu64
			" bytes\n",
			header->first_id, header->salt, time, header->prev_check, header->check, segment->size);
		return;
	}
	json_begin(dump->json);
	json_text(dump->json, "kind", "segment");
	json_text(dump->json, "file", segment->path);
	json_bytes(dump->json, "stream", header->name, header->name_len);
	json_number(dump->json, "first_id", header->first_id);
	json_number(dump->json, "salt", header->salt);
	json_number(dump->json, "created_ns", header->created_ns);
	json_number(dump->json, "prev_check", header->prev_check);
	json_number(dump->json, "check", header->check);
	json_number(dump->json, "header_bytes", header->header_bytes);
	json_number(dump->json, "bytes", segment->size);
	json_end(dump->json);
}

static void print_frame_json(struct dump *dump, const struct frame *frame, const uint8_t *header)
{
	struct json *json = dump->json;
	json_begin(json);
	json_text(json, "kind", "frame");
	json_number(json, "offset", frame->offset);
	json_number(json, "first_id", frame->first_id);
	json_number(json, "end_id", frame->first_id + frame->entry_count);
	json_number(json, "time_ns", frame->time_ns);
	json_number(json, "header_bytes", frame->header_bytes);
	json_number(json, "stored_bytes", frame->stored_bytes);
	json_number(json, "total_bytes", frame->total_bytes);
	json_number(json, "synced_end", frame->synced_end);
	json_number(json, "prev_check", frame->prev_check);
	json_number(json, "check", frame->check);
	json_array(json, "blocks");
	for (uint32_t i = 0; i < frame->block_count; i++) {
		struct block block = frame_block(header, frame, i);
		json_inner(json, NULL);
		json_number(json, "entries", block.entry_count);
		json_number(json, "raw_bytes", block.raw_bytes);
		json_number(json, "stored_bytes", block.stored_bytes);
		json_number(json, "crc", block.crc);
		json_inner_end(json);
	}
	json_array_end(json);
	json_end(json);
}

static void print_frame(struct dump *dump, const struct frame *frame, const uint8_t *header)
{
	uint64_t raw = 0;
	char time[40];
	if (dump->json) {
		print_frame_json(dump, frame, header);
		return;
	}
	dump_time(frame->time_ns, time);
	for (uint32_t i = 0; i < frame->block_count; i++)
		raw += frame_block(header, frame, i).raw_bytes;
	fprintf(dump->out,
		"  frame at %" PRIu64 ": ids %" PRIu64 " to %" PRIu64 ", %s, %u blocks, %" PRIu64
		" bytes stored of %" PRIu64 " raw, header %u, synced to %" PRIu64 ", prev_check %08x, check %08x\n",
		frame->offset, frame->first_id, frame->first_id + frame->entry_count - 1, time, frame->block_count,
		frame->stored_bytes, raw, frame->header_bytes, frame->synced_end, frame->prev_check, frame->check);
}

static void print_entry(struct dump *dump, uint64_t id, const uint8_t *bytes, size_t len)
{
	if (!dump->json) {
		fprintf(dump->out, "    %" PRIu64 ": ", id);
		print_escaped(dump->out, bytes, len);
		fputc('\n', dump->out);
		return;
	}
	json_begin(dump->json);
	json_text(dump->json, "kind", "entry");
	json_number(dump->json, "id", id);
	json_bytes(dump->json, "entry", bytes, len);
	json_end(dump->json);
}

static int block_cb(const struct block *block, uint64_t offset, const uint8_t *stored, bool whole, void *arg)
{
	struct segment_dump *segment = arg;
	struct dump *dump = segment->dump;
	uint64_t first = segment->block_id;
	segment->block_id += block->entry_count;
	dump->raw.len = 0;
	if (whole && buf_reserve(&dump->raw, block->raw_bytes) != 0)
		return -ENOMEM;
	if (!whole || !block_unpack(block, stored, dump->raw.data) || !block_check_ends(block, dump->raw.data)) {
		dump_damage(dump, segment->path, offset, "a block is damaged: its entries cannot be read");
		return 0;
	}
	for (uint32_t i = 0; dump->options->entries && i < block->entry_count && dump->left > 0; i++) {
		const uint8_t *bytes;
		size_t len;
		if (first + i < dump->options->from)
			continue;
		block_entry(block, dump->raw.data, i, &bytes, &len);
		print_entry(dump, first + i, bytes, len);
		dump->left--;
	}
	return 0;
}

static int print_blocks(struct segment_dump *segment, const struct frame *frame)
{
	segment->block_id = frame->first_id;
	return scan_blocks(&segment->dump->window, frame, block_cb, segment);
}

/* Nothing that could be a frame follows. */
static int print_rest(struct segment_dump *segment, uint64_t at)
{
	uint64_t last;
	int r = scan_zeros(&segment->dump->window, at, &last);
	if (r == 0 && last > at)
		dump_damage(segment->dump, segment->path, at, "what stands here is no frame, and none follows it");
	return r;
}

static int print_frames(struct segment_dump *segment, struct index_point *at)
{
	struct dump *dump = segment->dump;
	while (dump->left > 0) {
		struct frame frame;
		const uint8_t *header;
		int error = 0, r = 0;
		enum scan_result result = scan_frame(&dump->window, segment->salt, at->offset, &frame, &header, &error);
		if (result != SCAN_FRAME && result != SCAN_ERROR) {
			uint64_t broken = at->offset;
			result = scan_next_whole(&dump->window, segment->salt, broken + 1, false, &frame, &error);
			if (result == SCAN_END)
				return print_rest(segment, broken);
			if (result == SCAN_FRAME) {
				dump_damage(dump, segment->path, broken, "no frame; the next one is looked for");
				result =
					scan_frame(&dump->window, segment->salt, frame.offset, &frame, &header, &error);
				at->prev_check = frame.prev_check;
				at->id = frame.first_id;
			}
		}
		if (result != SCAN_FRAME)
			return error;
		if (frame.prev_check != at->prev_check || frame.first_id != at->id)
			dump_damage(dump, segment->path, frame.offset, "this frame does not follow the one before it");
		at->id = frame.first_id + frame.entry_count;
		at->prev_check = frame.check;
		at->offset = frame.offset + frame.total_bytes;
		if (at->id > dump->options->from) {
			print_frame(dump, &frame, header);
			dump->left -= !dump->options->entries;
			r = print_blocks(segment, &frame);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int print_file(struct segment_dump *segment, const char *file)
{
	struct dump *dump = segment->dump;
	struct segment_header header = {0};
	const uint8_t *bytes;
	uint64_t first_id, end_id, salt = 0;
	size_t len = segment->size < SEGMENT_HEADER_MAX ? (size_t)segment->size : SEGMENT_HEADER_MAX;
	int r = window_need(&dump->window, 0, len, &bytes);
	if (r < 0)
		return r;
	bool good = r == 0 && segment_header_decode(bytes, len, &header) == HEADER_OK;
	if (good) {
		print_header(segment, &header);
		segment->salt = header.salt;
	} else {
		dump_damage(dump, segment->path, 0, "the segment's header is not whole");
		/* What was set aside says its salt in its name. */
		if (!cut_file_parse(file, &first_id, &end_id, &salt))
			return 0;
		segment->salt = salt;
	}
	struct index_point at = {header.first_id, good ? header.header_bytes : 0, header.check};
	return print_frames(segment, &at);
}

int dump_segment(struct dump *dump, const char *dir, const char *file)
{
	struct segment_dump segment = {.dump = dump};
	struct io_file *opened;
	snprintf(segment.path, sizeof(segment.path), "%s/%s", dir, file);
	int r = dump->io->ops->open(dump->io, segment.path, IO_READ, &opened);
	if (r != 0)
		return r;
	r = dump->io->ops->size(opened, &segment.size);
	if (r == 0) {
		window_aim(&dump->window, dump->io, opened, segment.size, CHUNK_BYTES);
		dump->window.bridge = true;
		r = print_file(&segment, file);
	}
	dump->io->ops->close(opened);
	return r;
}
