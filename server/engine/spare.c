#include "spare.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "engine_private.h"
#include "log.h"
#include "writer.h"

#define PREFIX "ironwald.spare-"
#define PATH_MAX_BYTES 32
/* One write and sync: the log's own syncs wait for one of them at most. */
#define PIECE_BYTES (UINT64_C(256) << 10)
/* The same where more than one part in so many of the spare is late: fewer syncs are faster. */
#define LATE_SHARE 8u
#define LATE_PIECE_BYTES (UINT64_C(2) << 20)
/* It is not made unless the disk has so many times its size. */
#define ROOM_FACTOR 8
/* When none could be made, or it was in the way, the next one is not tried at once. */
#define PAUSE_NS UINT64_C(5000000000)

enum state { MAKING, READY, GAVE_UP, DROPPED };

struct spare {
	struct chore chore;
	struct writer *writer;
	uint64_t bytes, made_bytes;
	uint64_t from_ns;
	atomic_uint_least64_t by_ns; /* it is made evenly from one to the other */
	struct io_file *file;	     /* while it is made */
	bool cached;		     /* the file system writes only through its cache */
	atomic_int state;
	atomic_int refs; /* the writer's and the chore's */
};

static void path_of(const struct writer *writer, char path[PATH_MAX_BYTES])
{
	snprintf(path, PATH_MAX_BYTES, PREFIX "%05u", writer->index);
}

bool spare_is_path(const char *name)
{
	return strncmp(name, PREFIX, strlen(PREFIX)) == 0;
}

static void unref(struct spare *spare)
{
	if (atomic_fetch_sub(&spare->refs, 1) == 1)
		free(spare);
}

static uint64_t now_ns(const struct writer *writer)
{
	return writer->engine->io->ops->monotonic_ns(writer->engine->io);
}

/* ---- the maker's ------------------------------------------------------------------------------------------------ */

static int begin(struct spare *spare, struct io *io, const char *path)
{
	struct io_space space;
	int flags = IO_WRITE | IO_CREATE | (spare->cached ? 0 : IO_UNCACHED);
	int r = io->ops->space(io, &space);
	if (r == 0 && space.free_bytes / ROOM_FACTOR < spare->bytes)
		r = -ENOSPC;
	if (r == 0)
		r = io->ops->open(io, path, flags, &spare->file);
	if (r == 0)
		r = io->ops->truncate(spare->file, 0);
	if (r == 0)
		r = io->ops->allocate(spare->file, 0, spare->bytes);
	return r == -EOPNOTSUPP ? 0 : r;
}

/* How much of it should be there by now. */
static uint64_t due_bytes(const struct spare *spare)
{
	uint64_t now = now_ns(spare->writer), by_ns = atomic_load(&spare->by_ns);
	if (now >= by_ns)
		return spare->bytes;
	uint64_t passed = now > spare->from_ns ? now - spare->from_ns : 0;
	return (uint64_t)((double)spare->bytes * (double)passed / (double)(by_ns - spare->from_ns));
}

/* What is left of it is not due yet. */
#define NOT_DUE 2

/* 1: there is more to do; NOT_DUE: but later. */
static int make_piece(struct spare *spare, const char *path)
{
	static const _Alignas(IO_PAGE_BYTES) uint8_t zeros[LATE_PIECE_BYTES];
	struct io *io = spare->writer->engine->io;
	uint64_t due = due_bytes(spare), left = spare->bytes - spare->made_bytes;
	if (due <= spare->made_bytes)
		return NOT_DUE;
	uint64_t piece = due - spare->made_bytes < spare->bytes / LATE_SHARE ? PIECE_BYTES : LATE_PIECE_BYTES;
	int r = spare->file ? 0 : begin(spare, io, path);
	struct iovec iov = {(void *)zeros, (size_t)(left < piece ? left : piece)};
	if (r == 0)
		r = io->ops->pwritev(spare->file, &iov, 1, spare->made_bytes);
	if (r == -EINVAL && !spare->cached) { /* it wants another alignment */
		io->ops->close(spare->file);
		spare->file = NULL;
		spare->made_bytes = 0;
		spare->cached = true;
		return 1;
	}
	if (r == 0)
		r = io->ops->sync(spare->file);
	spare->made_bytes += iov.iov_len;
	return r == 0 && spare->made_bytes < spare->bytes ? 1 : r;
}

static enum chore_result run(struct chore *chore)
{
	struct spare *spare = (struct spare *)chore;
	struct engine *engine = spare->writer->engine;
	char path[PATH_MAX_BYTES];
	path_of(spare->writer, path);
	int r = 1, making = MAKING;
	while (r == 1 && atomic_load(&spare->state) == MAKING && !atomic_load(&engine->abandoned))
		r = make_piece(spare, path);
	if (r == NOT_DUE)
		return CHORE_LATER;
	if (spare->file)
		engine->io->ops->close(spare->file);
	spare->file = NULL;
	bool kept = atomic_compare_exchange_strong(&spare->state, &making, r == 0 ? READY : GAVE_UP) && r == 0;
	if (kept)
		count_add(&engine->bytes_filled, spare->bytes);
	else if (r < 0)
		log_debug("engine", "writer %u: no spare segment (%s)", spare->writer->index, error_errno_name(-r));
	if (!kept && !atomic_load(&engine->abandoned))
		(void)engine->io->ops->unlink(engine->io, path);
	unref(spare);
	return CHORE_DONE;
}

/* ---- the writer's ----------------------------------------------------------------------------------------------- */

static void forget(struct writer *writer)
{
	unref(writer->spare);
	writer->spare = NULL;
	writer->spare_after_ns = now_ns(writer) + PAUSE_NS;
}

void spare_want(struct writer *writer, uint64_t bytes, uint64_t by_ns)
{
	if (writer->spare && atomic_load(&writer->spare->state) == GAVE_UP)
		forget(writer);
	if (writer->spare) {
		if (by_ns < atomic_load(&writer->spare->by_ns)) /* the stream is faster than it was */
			atomic_store(&writer->spare->by_ns, by_ns);
		return;
	}
	uint64_t now = now_ns(writer);
	if (now < writer->spare_after_ns)
		return;
	struct spare *spare = calloc(1, sizeof(*spare));
	if (!spare)
		return;
	spare->chore.run = run;
	spare->writer = writer;
	spare->bytes = bytes;
	spare->from_ns = now;
	atomic_init(&spare->by_ns, by_ns);
	atomic_init(&spare->state, MAKING);
	atomic_init(&spare->refs, 2);
	writer->spare = spare;
	chores_add(writer->engine->maker, &spare->chore);
}

int spare_take(struct writer *writer, const char *path, uint64_t *ret_bytes)
{
	if (!writer->spare || atomic_load(&writer->spare->state) != READY)
		return -ENOENT;
	struct io *io = writer->engine->io;
	char from[PATH_MAX_BYTES];
	path_of(writer, from);
	int r = io->ops->rename(io, from, path);
	if (r != 0) { /* whatever is the matter with it: another one is made, some time */
		(void)io->ops->unlink(io, from);
		forget(writer);
		return r;
	}
	*ret_bytes = writer->spare->bytes;
	unref(writer->spare);
	writer->spare = NULL;
	return 0;
}

bool spare_drop(struct writer *writer)
{
	if (!writer->spare)
		return false;
	struct engine *engine = writer->engine;
	char path[PATH_MAX_BYTES];
	int making = MAKING;
	path_of(writer, path);
	/* What is being made is unlinked by its maker, before the next one of that name is begun. */
	bool dropped = atomic_compare_exchange_strong(&writer->spare->state, &making, DROPPED);
	if (!dropped && making == READY && !atomic_load(&engine->abandoned))
		(void)engine->io->ops->unlink(engine->io, path);
	forget(writer);
	return dropped;
}
