#include "fill.h"

#include <stdlib.h>
#include <sys/uio.h>

#include "engine_private.h"
#include "writer.h"

/* One write: the filler yields to the log's own syncs between two. */
#define PIECE_BYTES (256u << 10)

struct fill {
	struct chore chore;
	struct writer *writer;
	struct segment *segment;
	uint64_t from, to;
	atomic_int state;
	atomic_int refs; /* the writer's and the chore's */
};

static const uint8_t zeros[PIECE_BYTES];

static void unref(struct fill *fill)
{
	if (atomic_fetch_sub(&fill->refs, 1) == 1) {
		segment_unref(fill->segment, fill->writer->engine->open_cache);
		free(fill);
	}
}

/* A descriptor of its own: an error of a sync is told to each open file once, and the writer must not miss the one that
 * it would have been told. */
static int write_zeros(struct fill *fill, struct io *io)
{
	char path[SEGMENT_PATH_MAX];
	segment_path(fill->segment, path);
	struct io_file *file;
	int r = io->ops->open(io, path, IO_WRITE, &file);
	if (r != 0)
		return r;
	r = io->ops->allocate(file, fill->from, fill->to - fill->from);
	for (uint64_t at = fill->from; r == 0 && at < fill->to; at += PIECE_BYTES) {
		uint64_t len = fill->to - at < PIECE_BYTES ? fill->to - at : PIECE_BYTES;
		struct iovec iov = {(void *)zeros, (size_t)len};
		r = io->ops->pwritev(file, &iov, 1, at);
		/* Piece by piece: the log's own sync of this file waits for one of them at most. */
		if (r == 0 && (r = io->ops->sync(file)) != 0)
			writer_fail_segment(fill->segment, -r, "sync of space written ahead");
	}
	io->ops->close(file);
	return r;
}

static enum chore_result run(struct chore *chore)
{
	struct fill *fill = (struct fill *)chore;
	int queued = FILL_QUEUED;
	struct engine *engine = fill->writer->engine;
	if (!atomic_load(&engine->abandoned) && atomic_compare_exchange_strong(&fill->state, &queued, FILL_RUNNING)) {
		int r = write_zeros(fill, engine->io);
		if (r == 0)
			count_add(&engine->bytes_filled, fill->to - fill->from);
		atomic_store(&fill->state, r == 0 ? FILL_DONE : FILL_GAVE_UP);
	}
	unref(fill);
	return CHORE_DONE;
}

struct fill *fill_start(struct writer *writer, struct segment *segment, uint64_t from, uint64_t to)
{
	struct fill *fill = calloc(1, sizeof(*fill));
	if (!fill)
		return NULL;
	fill->chore.run = run;
	fill->writer = writer;
	fill->segment = segment;
	segment_ref(segment);
	fill->from = from;
	fill->to = to;
	atomic_init(&fill->state, FILL_QUEUED);
	atomic_init(&fill->refs, 2);
	chores_add(writer->engine->filler, &fill->chore);
	return fill;
}

enum fill_state fill_state(const struct fill *fill)
{
	return (enum fill_state)atomic_load(&fill->state);
}

uint64_t fill_from(const struct fill *fill)
{
	return fill->from;
}

uint64_t fill_to(const struct fill *fill)
{
	return fill->to;
}

enum fill_state fill_end(struct fill *fill)
{
	if (!fill)
		return FILL_GAVE_UP;
	int queued = FILL_QUEUED;
	if (!atomic_compare_exchange_strong(&fill->state, &queued, FILL_GAVE_UP) && fill_state(fill) == FILL_RUNNING)
		chores_drain(fill->writer->engine->filler);
	enum fill_state state = fill_state(fill);
	unref(fill);
	return state;
}
