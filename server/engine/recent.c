#include "recent.h"

#include <stdlib.h>
#include <string.h>

#include "writer.h"

struct recent *recent_of(const struct segment *segment)
{
	if (segment->recent)
		atomic_fetch_add_explicit(&segment->recent->refs, 1, memory_order_relaxed);
	return segment->recent;
}

void recent_unref(struct recent *recent)
{
	if (recent && atomic_fetch_sub_explicit(&recent->refs, 1, memory_order_acq_rel) == 1)
		free(recent);
}

/* Nobody else has it, nor will have: the segment's list lock is held, or it is on no segment. */
static bool is_mine(struct recent *recent)
{
	return atomic_load_explicit(&recent->refs, memory_order_acquire) == 1;
}

static struct recent *allocate(struct writer *writer)
{
	struct recent *recent = writer->recent_kept;
	writer->recent_kept = NULL;
	if (recent)
		return recent;
	recent = aligned_alloc(IO_PAGE_BYTES, IO_PAGE_BYTES + RECENT_BYTES);
	if (!recent)
		return NULL;
	*recent = (struct recent){.bytes = (uint8_t *)recent + IO_PAGE_BYTES};
	atomic_init(&recent->refs, 1);
	return recent;
}

void recent_drop(struct writer *writer, struct segment *segment)
{
	struct recent *recent = segment->recent; /* only this thread changes it */
	if (!recent)
		return;
	pthread_mutex_lock(&writer->list_lock);
	segment->recent = NULL;
	pthread_mutex_unlock(&writer->list_lock);
	if (!writer->recent_kept && is_mine(recent))
		writer->recent_kept = recent;
	else
		recent_unref(recent);
}

void recent_end(struct writer *writer, struct stream *stream)
{
	struct tail *tail = &stream->tail;
	if (tail->segment)
		recent_drop(writer, tail->segment);
	if (!tail->uncached)
		return;
	writer->engine->io->ops->close(tail->uncached);
	tail->uncached = NULL;
	open_cache_take_back(writer->engine->open_cache);
}

/* ---- what is written there -------------------------------------------------------------------------------------- */

bool recent_wants(const struct writer *writer, const struct plan *plan)
{
	const struct tail *tail = &plan->stream->tail;
	uint64_t end = plan->frame_offset + plan->built.total_bytes;
	return plan->sync && tail->whole_pages && !tail->fill && !writer->no_uncached &&
	       (plan->fresh || tail->synced == tail->written) &&
	       end - plan->offset + plan->offset % IO_PAGE_BYTES <= RECENT_BYTES && tail_is_roomy(writer, plan->stream);
}

static bool open_uncached(struct writer *writer, struct tail *tail)
{
	struct engine *engine = writer->engine;
	char path[SEGMENT_PATH_MAX];
	if (tail->uncached)
		return true;
	if (!open_cache_lend(engine->open_cache))
		return false;
	segment_path(tail->segment, path);
	if (engine->io->ops->open(engine->io, path, IO_WRITE | IO_UNCACHED | IO_DURABLE, &tail->uncached) == 0)
		return true;
	tail->uncached = NULL;
	open_cache_take_back(engine->open_cache);
	return false;
}

/* What stands before `offset` in its page. */
static bool read_head(struct writer *writer, struct segment *segment, uint64_t offset, uint8_t *head)
{
	struct recent *recent = segment->recent;
	size_t len = offset % IO_PAGE_BYTES;
	struct io_file *file;
	if (len == 0)
		return true;
	if (recent && recent->from + recent->len == offset) {
		memcpy(head, recent->bytes + recent->len - len, len);
		return true;
	}
	if (tail_pin(writer, segment, &file) != 0)
		return false;
	ssize_t got = writer->engine->io->ops->pread(file, head, len, offset - len, 0);
	open_cache_unpin(writer->engine->open_cache, segment);
	return got == (ssize_t)len;
}

/* One with room for so many bytes at `offset`. NULL: it has to go the usual way. */
static struct recent *room_for(struct writer *writer, struct segment *segment, uint64_t offset, uint64_t bytes)
{
	struct recent *recent = segment->recent;
	uint8_t head[IO_PAGE_BYTES];
	size_t head_len = offset % IO_PAGE_BYTES;
	if (recent && recent->from + recent->len == offset && recent->len + bytes <= RECENT_BYTES)
		return recent;
	if (!read_head(writer, segment, offset, head))
		return NULL;
	pthread_mutex_lock(&writer->list_lock);
	if (!recent || !is_mine(recent)) { /* else no reader is in it, nor comes meanwhile */
		recent_unref(recent);
		recent = segment->recent = allocate(writer);
	}
	if (recent) {
		recent->from = offset - head_len;
		recent->len = (uint32_t)head_len;
		memcpy(recent->bytes, head, head_len);
	}
	pthread_mutex_unlock(&writer->list_lock);
	return recent;
}

int recent_write(struct writer *writer, struct stream *stream, uint64_t offset, const struct iovec *iov, int iov_count)
{
	struct io *io = writer->engine->io;
	struct tail *tail = &stream->tail;
	uint64_t bytes = 0;
	for (int i = 0; i < iov_count; i++)
		bytes += iov[i].iov_len;
	if (!open_uncached(writer, tail))
		return 1;
	struct recent *recent = room_for(writer, tail->segment, offset, bytes);
	if (!recent)
		return 1;
	uint32_t end = recent->len, page = end - end % IO_PAGE_BYTES;
	for (int i = 0; i < iov_count; i++) {
		memcpy(recent->bytes + end, iov[i].iov_base, iov[i].iov_len);
		end += (uint32_t)iov[i].iov_len;
	}
	uint32_t page_end = (uint32_t)align_up(end, IO_PAGE_BYTES);
	memset(recent->bytes + end, 0, page_end - end);
	struct iovec pages = {recent->bytes + page, page_end - page};
	uint64_t begin = io->ops->monotonic_ns(io);
	int r = io->ops->pwritev(tail->uncached, &pages, 1, recent->from + page);
	stat_record(&writer->stats.sync_ns, io->ops->monotonic_ns(io) - begin);
	STAT_ADD(writer, file_syncs, 1);
	if (r == 0)
		recent->len = end;
	if (r == -EINVAL) { /* it wants another alignment: nothing was written */
		writer->no_uncached = true;
		return 1;
	}
	return r;
}
