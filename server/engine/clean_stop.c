/*
 * The clean-stop record: what all streams were when everything had been synced, in one file, so that the next start
 * need not look at each of them. Written last at a clean stop, removed durably before anything else is written at the
 * next start.
 *
 *   0  8  magic "IWALCLN1"
 *   8  8  stream_count
 *  16  .  the streams, in the order of their names (which no reader relies on)
 *  -4  4  CRC-32C of everything before it
 *
 * A stream                                          Each of its segments
 *   0  2  name_bytes                                  0  8  first_id
 *   2  2  zero                                        8  8  end_id
 *   4  4  segment_count                              16  8  data_end
 *   8  8  next_id                                    24  8  salt
 *  16  8  written   \                                32  1  cut
 *  24  8  entries    | of the active segment;
 *  32  4  check      | zero: there is none
 *  36  4  header_check /
 *  40  n  name, then the segments
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "io_util.h"
#include "log.h"
#include "writer.h"

#define CLEAN_NEW CLEAN_PATH ".new"
#define STREAM_BYTES 40u
#define SEGMENT_BYTES 33u
#define CLEAN_MAX (UINT64_C(8) << 30)

static int put_stream(struct buf *buf, struct stream *stream)
{
	if (buf_reserve(buf, STREAM_BYTES + stream->name_len + (size_t)SEGMENT_BYTES * stream->segment_count) != 0)
		return -1;
	uint8_t *out = buf->data + buf->len;
	memset(out, 0, STREAM_BYTES);
	put_u16(out, stream->name_len);
	put_u32(out + 4, stream->segment_count);
	put_u64(out + 8, stream->next_id);
	if (stream->tail.segment) {
		put_u64(out + 16, stream->tail.written);
		put_u64(out + 24, stream->tail.entries);
		put_u32(out + 32, stream->tail.check);
		put_u32(out + 36, stream->tail.segment->header_check);
	}
	out += STREAM_BYTES;
	memcpy(out, stream->name, stream->name_len);
	out += stream->name_len;
	for (uint32_t i = 0; i < stream->segment_count; i++, out += SEGMENT_BYTES) {
		const struct segment *segment = stream->segments[i];
		put_u64(out, segment->first_id);
		put_u64(out + 8, segment->end_id);
		put_u64(out + 16, segment->data_end);
		put_u64(out + 24, segment->salt);
		out[32] = segment->cut;
	}
	buf->len = (size_t)(out - buf->data);
	return 0;
}

static int encode(struct engine *engine, struct buf *buf)
{
	uint8_t head[16] = "IWALCLN1", tail[4];
	uint64_t count = 0;
	if (buf_append(buf, head, sizeof(head)) != 0)
		return -1;
	/* In the order of names, so that the next start need not sort them. */
	stream_table_sort(&engine->table);
	for (; count < engine->table.sorted_count; count++)
		if (put_stream(buf, engine->table.sorted[count]) != 0)
			return -1;
	put_u64(buf->data + 8, count);
	put_u32(tail, crc32c(0, buf->data, buf->len));
	return buf_append(buf, tail, sizeof(tail));
}

int clean_stop_write(struct engine *engine, struct error *err)
{
	struct io *io = engine->io;
	struct buf buf = {0};
	int r = encode(engine, &buf) == 0 ? io_replace_file(io, CLEAN_PATH, CLEAN_NEW, buf.data, buf.len) : -ENOMEM;
	buf_free(&buf);
	if (io_no_room(r)) {
		/* Everything is durable all the same; the next start looks at every stream. */
		(void)io->ops->unlink(io, CLEAN_NEW);
		log_warn("engine", "no space for %s: the next start takes longer", CLEAN_PATH);
		r = 0;
	}
	return r == 0 ? 0 : error_set_io(err, -r, "write", CLEAN_PATH);
}

static int load_stream(
	struct engine *engine, const uint8_t **at, const uint8_t *end, struct stream **ret_stream, struct error *err)
{
	const uint8_t *in = *at;
	if ((size_t)(end - in) < STREAM_BYTES)
		return 1;
	uint16_t name_len = (uint16_t)(in[0] | in[1] << 8);
	uint32_t segment_count = get_u32(in + 4);
	uint64_t written = get_u64(in + 16);
	if (name_len == 0 || name_len > STREAM_NAME_MAX || segment_count == 0 ||
		(size_t)(end - in) < STREAM_BYTES + name_len + (size_t)SEGMENT_BYTES * segment_count)
		return 1;
	struct stream *stream = recovered_stream(engine, (const char *)in + STREAM_BYTES, name_len, err);
	if (!stream)
		return -1;
	stream->next_id = get_u64(in + 8);
	const uint8_t *row = in + STREAM_BYTES + name_len;
	for (uint32_t i = 0; i < segment_count; i++, row += SEGMENT_BYTES) {
		struct segment *segment = segment_new(stream, get_u64(row));
		if (!segment || stream_reserve_segment(stream) != 0) {
			segment_unref(segment, NULL);
			return error_set_io(err, ENOMEM, "load", CLEAN_PATH);
		}
		segment->end_id = get_u64(row + 8);
		segment->data_end = get_u64(row + 16);
		segment->cut = row[32] != 0;
		segment->salt = get_u64(row + 24);
		segment->sealed = i + 1 < segment_count || written == 0;
		stream_push_segment(stream, segment);
	}
	if (written > 0)
		stream->tail = (struct tail){
			.segment = stream->segments[segment_count - 1],
			.written = written,
			.synced = written,
			.prepared = written,
			.entries = get_u64(in + 24),
			.check = get_u32(in + 32),
			.name_durable = true,
			.unchecked = true,
		};
	*at = row;
	*ret_stream = stream;
	return 0;
}

static int wrong(struct error *err)
{
	return error_set(err, ERR_SERIALIZATION, "%s has a right checksum and wrong contents; delete it, it is derived",
		CLEAN_PATH);
}

static int decode(struct engine *engine, const uint8_t *bytes, size_t len, struct stream ***ret_streams,
	size_t *ret_count, struct error *err)
{
	if (len < 20 || memcmp(bytes, "IWALCLN1", 8) != 0 || get_u32(bytes + len - 4) != crc32c(0, bytes, len - 4))
		return 0;
	uint64_t count = get_u64(bytes + 8);
	const uint8_t *at = bytes + 16, *end = bytes + len - 4;
	if (count > len / (STREAM_BYTES + SEGMENT_BYTES))
		return wrong(err);
	struct stream **streams = malloc(sizeof(*streams) * (count + 1));
	int r = streams && stream_table_reserve(&engine->table, count) == 0
			? 0
			: error_set_io(err, ENOMEM, "load", CLEAN_PATH);
	for (uint64_t i = 0; i < count && r == 0; i++)
		r = load_stream(engine, &at, end, &streams[i], err);
	if (r != 0) {
		free(streams);
		return r < 0 ? -1 : wrong(err);
	}
	*ret_streams = streams;
	*ret_count = count;
	return 1;
}

static void tell_damaged(struct engine *engine)
{
	recovery_tell(engine, &(struct recovery_finding){.kind = FINDING_CLEAN_STOP, .file = CLEAN_PATH});
}

int clean_stop_load(struct engine *engine, struct stream ***ret_streams, size_t *ret_count, struct error *err)
{
	struct io *io = engine->io;
	struct io_file *file;
	int r = io->ops->open(io, CLEAN_PATH, IO_READ, &file);
	if (r == -ENOENT)
		return 0;
	uint64_t size = 0;
	if (r == 0) {
		r = io->ops->size(file, &size);
		uint8_t *bytes = r == 0 && size <= CLEAN_MAX ? malloc(size ? size : 1) : NULL;
		ssize_t got = bytes ? io->ops->pread(file, bytes, size, 0, 0) : 0;
		io->ops->close(file);
		if (bytes && got == (ssize_t)size) {
			int loaded = decode(engine, bytes, size, ret_streams, ret_count, err);
			free(bytes);
			if (loaded == 0)
				tell_damaged(engine);
			if (loaded == 0)
				log_warn("engine", "%s is damaged; it is derived: every stream is looked at instead",
					CLEAN_PATH);
			return loaded;
		}
		free(bytes);
		r = got < 0 ? (int)got : r;
	}
	tell_damaged(engine);
	log_warn("engine", "%s cannot be read (%s); it is derived: every stream is looked at instead", CLEAN_PATH,
		error_errno_name(-r));
	return 0;
}

int clean_stop_remove(struct engine *engine, struct error *err)
{
	struct io *io = engine->io;
	int r = io->ops->unlink(io, CLEAN_PATH);
	if (r == 0)
		r = io->ops->sync_dir(io, "");
	return r == 0 || r == -ENOENT ? 0 : error_set_io(err, -r, "remove", CLEAN_PATH);
}
