#include "held.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "writer.h"

#define CAP_MIN 512u

struct held *held_of(const struct segment *segment)
{
	if (segment->held)
		atomic_fetch_add_explicit(&segment->held->refs, 1, memory_order_relaxed);
	return segment->held;
}

void held_unref(struct held *held)
{
	if (held && atomic_fetch_sub_explicit(&held->refs, 1, memory_order_acq_rel) == 1)
		free(held);
}

/* ---- under the list lock ----------------------------------------------------------------------------------------- */

static void count(struct writer *writer, int64_t bytes)
{
	STAT_ADD(writer, held_bytes, bytes);
}

static void list_push(struct writer *writer, struct held *held)
{
	held->next = NULL;
	held->prev = writer->held_last;
	if (writer->held_last)
		writer->held_last->next = held;
	else
		writer->held_first = held;
	writer->held_last = held;
}

static void list_remove(struct writer *writer, struct held *held)
{
	if (held->prev)
		held->prev->next = held->next;
	else
		writer->held_first = held->next;
	if (held->next)
		held->next->prev = held->prev;
	else
		writer->held_last = held->prev;
}

static void drop(struct writer *writer, struct held *held)
{
	list_remove(writer, held);
	count(writer, -(int64_t)held->len);
	held->segment->held = NULL;
	held_unref(held);
}

/* Takes the place of what the segment holds. The capacity is that, doubled until there is room. */
static struct held *allocate(struct segment *segment, uint64_t from, uint64_t generation, uint32_t cap, uint32_t bytes)
{
	while (cap < bytes)
		cap *= 2;
	struct held *held = malloc(sizeof(*held) + cap);
	if (!held)
		return NULL;
	*held = (struct held){.segment = segment, .generation = generation, .from = from, .cap = cap};
	atomic_init(&held->refs, 1);
	segment->held = held;
	return held;
}

static struct held *begin(struct writer *writer, struct segment *segment, uint64_t offset, uint32_t bytes)
{
	struct held *held = allocate(segment, offset, journal_generation(writer->journal), CAP_MIN, bytes);
	if (held)
		list_push(writer, held);
	return held;
}

/* Readers may be in the old one: a new one takes its place, without what the file has by now. */
static struct held *grow(struct writer *writer, struct held *old, uint32_t bytes)
{
	uint32_t kept = old->len - old->in_place;
	struct held *held = allocate(old->segment, old->from + old->in_place, old->generation, old->cap, kept + bytes);
	if (!held)
		return NULL;
	held->prev = old->prev;
	held->next = old->next;
	held->len = kept;
	memcpy(held->bytes, old->bytes + old->in_place, kept);
	count(writer, -(int64_t)old->in_place);
	*(held->prev ? &held->prev->next : &writer->held_first) = held;
	*(held->next ? &held->next->prev : &writer->held_last) = held;
	held_unref(old);
	return held;
}

static struct held *room_for(struct writer *writer, struct segment *segment, uint64_t offset, uint64_t bytes)
{
	struct held *held = segment->held;
	if (bytes > HELD_FRAME_MAX)
		return NULL;
	if (!held)
		return begin(writer, segment, offset, (uint32_t)bytes);
	if (held->cap - held->len >= bytes)
		return held;
	return held->len - held->in_place + bytes <= HELD_MAX ? grow(writer, held, (uint32_t)bytes) : NULL;
}

/* ---- the writer's ------------------------------------------------------------------------------------------------ */

bool held_add(struct writer *writer, struct stream *stream, uint64_t offset, const struct iovec *iov, int iov_count)
{
	uint64_t bytes = 0;
	for (int i = 0; i < iov_count; i++)
		bytes += iov[i].iov_len;
	pthread_mutex_lock(&writer->list_lock);
	struct held *held = room_for(writer, stream->tail.segment, offset, bytes);
	for (int i = 0; held && i < iov_count; i++) {
		memcpy(held->bytes + held->len, iov[i].iov_base, iov[i].iov_len);
		held->len += (uint32_t)iov[i].iov_len;
	}
	if (held)
		count(writer, (int64_t)bytes);
	pthread_mutex_unlock(&writer->list_lock);
	return held != NULL;
}

void held_take_back(struct writer *writer, struct stream *stream, uint64_t offset)
{
	pthread_mutex_lock(&writer->list_lock);
	struct held *held = stream->tail.segment->held;
	uint32_t len = (uint32_t)(offset - held->from);
	count(writer, (int64_t)len - (int64_t)held->len);
	held->len = len;
	if (held->len == held->in_place)
		drop(writer, held);
	pthread_mutex_unlock(&writer->list_lock);
}

struct held *held_rest(struct writer *writer, struct stream *stream, struct iovec *ret_iov, uint64_t *ret_from)
{
	pthread_mutex_lock(&writer->list_lock);
	struct held *held = held_of(stream->tail.segment);
	if (held) {
		*ret_iov = (struct iovec){held->bytes + held->in_place, held->len - held->in_place};
		*ret_from = held->from + held->in_place;
	}
	pthread_mutex_unlock(&writer->list_lock);
	return held;
}

void held_done(struct writer *writer, struct stream *stream)
{
	pthread_mutex_lock(&writer->list_lock);
	if (stream->tail.segment->held) /* else the keeper was there meanwhile */
		drop(writer, stream->tail.segment->held);
	pthread_mutex_unlock(&writer->list_lock);
}

static int write_bytes(struct writer *writer, struct segment *segment, struct iovec *iov, uint64_t offset)
{
	struct io_file *file;
	int r = tail_pin(writer, segment, &file);
	if (r != 0)
		return r;
	r = writer->engine->io->ops->pwritev(file, iov, 1, offset);
	open_cache_unpin(writer->engine->open_cache, segment);
	return r;
}

int held_write(struct writer *writer, struct stream *stream)
{
	struct iovec iov;
	uint64_t from;
	struct held *held = held_rest(writer, stream, &iov, &from);
	if (!held)
		return 0;
	int r = write_bytes(writer, stream->tail.segment, &iov, from);
	if (r == 0)
		held_done(writer, stream);
	held_unref(held);
	return r;
}

/* ---- the keeper's ------------------------------------------------------------------------------------------------ */

/* Under the list lock: the file is good up to `end`. What was not published belongs to the next generation. */
static void note_in_place(struct writer *writer, struct segment *segment, uint64_t end, uint64_t generation)
{
	struct held *held = segment->held;
	if (!held || held->generation > generation)
		return; /* the writer has written it meanwhile */
	if (end > held->from)
		held->in_place = (uint32_t)(end - held->from);
	if (held->in_place == held->len) {
		drop(writer, held);
		return;
	}
	held->generation = generation + 1;
	list_remove(writer, held);
	list_push(writer, held);
}

int held_write_all(struct writer *writer, uint64_t generation)
{
	int r = 0;
	while (r == 0) {
		pthread_mutex_lock(&writer->list_lock);
		struct held *held = writer->held_first;
		if (!held || held->generation > generation) {
			pthread_mutex_unlock(&writer->list_lock);
			break;
		}
		struct segment *segment = held->segment;
		uint64_t from = held->from + held->in_place, end = segment->data_end;
		struct iovec iov = {held->bytes + held->in_place, end > from ? (size_t)(end - from) : 0};
		segment_ref(segment);
		(void)held_of(segment);
		pthread_mutex_unlock(&writer->list_lock);
		if (iov.iov_len > 0)
			r = write_bytes(writer, segment, &iov, from);
		if (r != 0 && !io_may_pass(r))
			writer_fail_segment(segment, -r, "write of");
		if (r == 0) {
			pthread_mutex_lock(&writer->list_lock);
			note_in_place(writer, segment, from + iov.iov_len, generation);
			pthread_mutex_unlock(&writer->list_lock);
		}
		held_unref(held);
		segment_unref(segment, writer->engine->open_cache);
	}
	return r;
}
