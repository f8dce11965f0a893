/*
 * The logs of the shards: streams that always are. What a checkpoint says of them was durable, so a log that ends
 * before it has lost something.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpointer.h"
#include "log.h"
#include "writer.h"

struct stream *engine_shard(struct engine *engine, uint32_t shard)
{
	return shard < engine->options.shard_count ? engine->shards[shard] : NULL;
}

int shards_load_floors(struct engine *engine, struct error *err)
{
	engine->shard_floors = calloc(engine->options.shard_count, sizeof(*engine->shard_floors));
	if (!engine->shard_floors)
		return error_set_io(err, ENOMEM, "load shards", "");
	(void)checkpoint_log_newest(checkpointer_log(engine->checkpointer), engine->shard_floors);
	return 0;
}

uint64_t shards_floor(const struct engine *engine, const char *name, size_t len)
{
	uint32_t shard;
	return shard_number(name, len, &shard) && shard < engine->options.shard_count ? engine->shard_floors[shard] : 0;
}

/* Nothing of a stream is left: a hole of next_id entries that speaks, and a segment behind it.
 *
 * An empty file, set aside, from id 0 to id 0: what follows it up to the next segment is a hole. Durable, with the
 * directory, before that segment is made. */
static int make_hole(struct io *io, const char *dir, struct segment *hole)
{
	char path[SEGMENT_PATH_MAX];
	struct io_file *file;
	segment_path(hole, path);
	int r = io->ops->mkdir(io, dir);
	if (r == 0 || r == -EEXIST)
		r = io->ops->open(io, path, IO_READ | IO_WRITE | IO_CREATE, &file);
	if (r != 0)
		return r;
	r = io->ops->sync(file);
	io->ops->close(file);
	if (r == 0)
		r = io->ops->sync_dir(io, dir);
	return r == 0 ? io->ops->sync_dir(io, "") : r;
}

static int push_hole(struct engine *engine, struct stream *stream)
{
	struct segment *hole = segment_new(stream, 0);
	int r = hole && stream_reserve_segment(stream) == 0 ? 0 : -ENOMEM;
	if (r == 0) {
		hole->cut = hole->sealed = true;
		r = make_hole(engine->io, stream->dir, hole);
	}
	if (r == 0)
		stream_push_segment(stream, hole);
	else
		segment_unref(hole, NULL);
	return r;
}

/* What is there stays, sealed; entries from its end up to next_id are a hole that speaks. */
static int go_on_behind(struct engine *engine, struct stream *stream, uint64_t next_id, struct error *err)
{
	struct segment *successor = NULL;
	bool nothing = stream->segment_count == 0;
	int r = nothing ? push_hole(engine, stream) : 0;
	if (r == 0)
		r = recovery_successor(engine, stream, next_id, 0, &successor);
	if (r != 0)
		return error_set_io(err, -r, "note what is lost in", stream->dir);
	stream->segments[stream->segment_count - 1]->sealed = true;
	stream_push_segment(stream, successor);
	stream->dir_made = stream->dir_durable = true;
	log_error("engine",
		"stream %s ends at %llu, and a checkpoint says that it held %llu entries: the others are lost; the "
		"next id is %llu",
		stream->name, (unsigned long long)stream->next_id, (unsigned long long)next_id,
		(unsigned long long)next_id);
	stream->next_id = next_id;
	if (nothing) {
		recovery_show(engine, stream);
		return 0;
	}
	stream->loop_end = next_id;
	atomic_store(&stream->durable_end, next_id);
	count_add(&engine->segment_count, 1);
	return 0;
}

/* A checkpoint speaks of entries that are not there, and the end of what is there does not show that it was cut. */
static int lost(struct engine *engine, struct stream *stream, uint64_t floor, struct error *err)
{
	engine->recovery.rot_found++;
	recovery_tell(engine, &(struct recovery_finding){.kind = FINDING_SHORT_SHARD,
				      .stream = stream->name,
				      .stream_len = stream->name_len,
				      .id = stream->next_id,
				      .next_id = floor});
	if (engine->options.on_corruption == ON_CORRUPTION_TRUNCATE)
		return go_on_behind(engine, stream, floor, err);
	error_set(err, ERR_CORRUPTION,
		"the log of %s ends at entry %llu, and a checkpoint says that it held %llu: restore directory %s, or "
		"start with on_corruption = truncate to go on without them",
		stream->name, (unsigned long long)stream->next_id, (unsigned long long)floor, stream->dir);
	error_set_text(err, EFI_STREAM, stream->name, stream->name_len);
	error_set_text(err, EFI_SEGMENT, "", 0);
	error_set_u64(err, EFI_OFFSET, 0);
	error_set_u64(err, EFI_ID, stream->next_id);
	return -1;
}

static struct stream *find_or_make(struct engine *engine, uint32_t shard)
{
	char name[NAMES_SHARD_MAX];
	size_t len = shard_name(shard, name);
	uint64_t hash = stream_hash(name, len);
	struct stream *stream = stream_table_find(&engine->table, name, len, hash);
	if (stream)
		return stream;
	stream = engine_new_stream(engine, name, len, hash);
	if (stream && stream_table_add(&engine->table, stream) == 0)
		return stream;
	stream_free(stream, NULL);
	return NULL;
}

int shards_make(struct engine *engine, struct error *err)
{
	uint32_t count = engine->options.shard_count;
	engine->shards = calloc(count, sizeof(struct stream *));
	for (uint32_t i = 0; engine->shards && i < count; i++) {
		struct stream *stream = engine->shards[i] = find_or_make(engine, i);
		if (!stream)
			break;
		stream->is_shard = true;
		if (stream->next_id < engine->shard_floors[i] &&
			lost(engine, stream, engine->shard_floors[i], err) != 0)
			return -1;
	}
	free(engine->shard_floors);
	engine->shard_floors = NULL;
	if (!engine->shards || !engine->shards[count - 1])
		return error_set_io(err, ENOMEM, "load shards", "");
	return 0;
}
