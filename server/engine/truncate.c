/*
 * truncate: segments that leave. The writer takes them off the published list, at once for readers that come later; the
 * keeper unlinks them, oldest first, each durably before the next, when no reader holds them any more.
 */
#include <errno.h>
#include <stdlib.h>

#include "log.h"
#include "writer.h"

struct doom {
	struct chore chore;
	struct writer *writer;
	struct stream *stream;
};

static struct segment *doomed_front(struct doom *doom)
{
	struct stream *stream = doom->stream;
	pthread_mutex_lock(&doom->writer->list_lock);
	struct segment *segment = stream->doomed_first;
	if (!segment)
		stream->doom_queued = false;
	pthread_mutex_unlock(&doom->writer->list_lock);
	return segment;
}

static void doomed_pop(struct doom *doom, struct segment *segment)
{
	struct stream *stream = doom->stream;
	pthread_mutex_lock(&doom->writer->list_lock);
	stream->doomed_first = segment->doomed_next;
	if (!stream->doomed_first)
		stream->doomed_last = &stream->doomed_first;
	pthread_mutex_unlock(&doom->writer->list_lock);
	segment_unref(segment, doom->writer->engine->open_cache);
}

static bool remove_files(struct engine *engine, struct segment *segment)
{
	struct stream *stream = segment->stream;
	struct io *io = engine->io;
	char path[SEGMENT_PATH_MAX];
	/* First what names it: an index without its segment would be there for ever. */
	segment_index_path(segment, path);
	(void)io->ops->unlink(io, path);
	segment_path(segment, path);
	open_cache_drop(engine->open_cache, segment);
	int r = io->ops->unlink(io, path);
	if (r == 0 || r == -ENOENT) {
		count_add(&engine->segments_unlinked, r == 0);
		/* Names may be lost in any order: the next one goes only when this one is gone for good. */
		r = io->ops->sync_dir(io, stream->dir);
		if (r != 0 && !io_no_descriptor(r)) {
			stream->doom_over = true;
			/* Of a name that the writer has made it will not be told again. */
			writer_fail(stream->writer, stream, -r, "sync of directory", stream->dir);
		}
	}
	if (r != 0) {
		atomic_store(&engine->leftovers, true);
		log_warn("engine",
			"segment %s: not deleted (%s); it and what follows it come back with the next start, delete "
			"them with another truncate",
			path, error_errno_name(-r));
		return false;
	}
	return true;
}

static enum chore_result run(struct chore *chore)
{
	struct doom *doom = (struct doom *)chore;
	struct stream *stream = doom->stream;
	struct segment *segment;
	while ((segment = doomed_front(doom))) {
		if (atomic_load(&segment->refs) > 1)
			return CHORE_LATER;
		if (!atomic_load(&doom->writer->engine->abandoned) &&
			(stream->doom_over || !remove_files(doom->writer->engine, segment))) {
			/* Without it the newer ones must not go either, or there would be a hole: they wait for the
			 * next truncate, or, once a sync has failed, for the next start. */
			pthread_mutex_lock(&doom->writer->list_lock);
			stream->doom_queued = false;
			pthread_mutex_unlock(&doom->writer->list_lock);
			break;
		}
		doomed_pop(doom, segment);
	}
	free(doom);
	return CHORE_DONE;
}

/* How many segments, with the holes behind them, lie wholly below safe_id. The newest one never goes: it carries the
 * next id. */
static uint32_t count_below(struct writer *writer, const struct stream *stream, uint64_t safe_id)
{
	uint32_t count = 0;
	pthread_mutex_lock(&writer->list_lock);
	while (count + 1 < stream->segment_count && stream->segments[count + 1]->first_id <= safe_id)
		count++;
	pthread_mutex_unlock(&writer->list_lock);
	return count;
}

static void unlist(struct writer *writer, struct stream *stream, uint32_t count, struct op *op)
{
	struct engine *engine = writer->engine;
	uint64_t bytes = 0;
	pthread_mutex_lock(&writer->list_lock);
	for (uint32_t i = 0; i < count; i++) {
		struct segment *segment = stream->segments[i];
		segment->doomed_next = NULL;
		*stream->doomed_last = segment;
		stream->doomed_last = &segment->doomed_next;
		bytes += segment->data_end;
	}
	stream->segment_count -= count;
	for (uint32_t i = 0; i < stream->segment_count; i++)
		stream->segments[i] = stream->segments[i + count];
	op->first = stream->segments[0]->first_id;
	pthread_mutex_unlock(&writer->list_lock);
	op->segments_deleted = count;
	count_sub(&engine->segment_count, count);
	count_sub(&engine->segment_bytes, bytes);
}

static void queue_doom(struct writer *writer, struct stream *stream, struct doom *doom)
{
	pthread_mutex_lock(&writer->list_lock);
	bool queued = stream->doom_queued;
	stream->doom_queued = true;
	pthread_mutex_unlock(&writer->list_lock);
	if (queued) {
		free(doom);
		return;
	}
	doom->chore.run = run;
	doom->writer = writer;
	doom->stream = stream;
	chores_add(writer->engine->keeper, &doom->chore);
}

void writer_truncate(struct writer *writer, struct op *op)
{
	struct stream *stream = op->stream;
	op->segments_deleted = 0;
	op->first = UINT64_MAX;
	uint32_t count = count_below(writer, stream, op->safe_id);
	if (count == 0)
		return;
	/* What stays must tell the next id after a crash: the newest segment, its name and what it holds, is made
	 * durable first. */
	int r = stream->tail.segment ? tail_sync(writer, stream) : 0;
	if (r == 0 && stream->tail.segment)
		r = tail_sync_names(writer, stream);
	if (r != 0) {
		op->error = op_io_error(-r, "sync before truncate of", stream->dir, OUTCOME_NONE);
		return;
	}
	struct doom *doom = calloc(1, sizeof(*doom));
	if (!doom) {
		op->error = op_io_error(ENOMEM, "truncate", stream->dir, OUTCOME_NONE);
		return;
	}
	unlist(writer, stream, count, op);
	queue_doom(writer, stream, doom);
	STAT_ADD(writer, truncates, 1);
}
