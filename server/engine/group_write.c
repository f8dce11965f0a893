/*
 * group_write: how a group gets to the disk: directly into its file, by a write and a sync or by one write that is both
 * (recent.h); or into its two or more, unsynced, and then into the journal, which makes it durable.
 *
 * A write that finds no space or no descriptor fails its stream alone; every other error here stops the stream's shard,
 * or the writer with all of them where it is the journal's, because what is on disk is not known then. That is why the
 * journal comes last: what stands in it is promised.
 * Small frames that go into the journal are held in memory (held.h) instead of being written in place at once.
 * Runs on the writer's thread, between prepare and publish (group.c).
 */
#include <errno.h>
#include <stdlib.h>

#include "log.h"
#include "writer.h"

static int plan_iov(struct writer *writer, struct plan *plan, struct iovec iov[3])
{
	int n = 0;
	if (plan->fresh)
		iov[n++] = (struct iovec){plan->segment_header, plan->segment_header_bytes};
	iov[n++] = (struct iovec){writer->builder.headers.data + plan->built.header_at, plan->built.header_bytes};
	iov[n++] = (struct iovec){writer->builder.payloads.data + plan->built.payload_at, plan->built.payload_bytes};
	return n;
}

/* Up to where the page ends there are zeros already; written with the rest, they need not be read first. */
static int pad_page(const struct tail *tail, uint64_t end, struct iovec *iov)
{
	static const uint8_t zeros[IO_PAGE_BYTES];
	uint64_t to = align_up(end, IO_PAGE_BYTES);
	if (!tail->whole_pages || to == end || to > tail->prepared)
		return 0;
	*iov = (struct iovec){(void *)zeros, (size_t)(to - end)};
	return 1;
}

/* It was reserved, and is not to be had all the same: what was written of it is taken back before any sync. */
static int take_back(struct writer *writer, struct plan *plan, struct io_file *file, int no_room)
{
	int r = tail_take_back(&plan->stream->tail, writer->engine->io, file, plan->offset);
	if (r == 0)
		return no_room;
	return io_no_room(r) ? -EIO : r;
}

/* With what is held before it. *ret_tried: false if there was not even a descriptor for it. */
static int write_in_place(struct writer *writer, struct plan *plan, bool *ret_tried)
{
	struct io *io = writer->engine->io;
	struct tail *tail = &plan->stream->tail;
	struct iovec iov[5];
	struct io_file *file;
	int r = tail_pin(writer, tail->segment, &file);
	*ret_tried = r == 0;
	if (r != 0)
		return r;
	uint64_t offset = plan->offset;
	struct held *held = held_rest(writer, plan->stream, iov, &offset);
	int iov_count = held ? 1 : 0;
	iov_count += plan_iov(writer, plan, iov + iov_count);
	iov_count += pad_page(tail, plan->frame_offset + plan->built.total_bytes, &iov[iov_count]);
	recent_drop(writer, tail->segment);
	r = io->ops->pwritev(file, iov, iov_count, offset);
	if (r == 0 && held)
		held_done(writer, plan->stream);
	held_unref(held);
	if (io_no_room(r))
		r = take_back(writer, plan, file, r);
	open_cache_unpin(writer->engine->open_cache, tail->segment);
	return r;
}

/* The writer's own view goes past what is (or will be, before publishing) in the file. */
static void advance(struct writer *writer, struct plan *plan)
{
	struct tail *tail = &plan->stream->tail;
	tail->written = plan->frame_offset + plan->built.total_bytes;
	tail->check = plan->built.check;
	tail->entries += plan->entries;
	if (!plan->fresh) /* what makes a file goes by the journal in any case */
		tail->by_journal +=
			plan->journaled ? (int64_t)plan->built.total_bytes : -(int64_t)plan->built.total_bytes;
	plan->stream->next_id += plan->entries;
	tail_mark_dirty(writer, plan->stream);
}

/* Keeps the descriptor until the bytes are durable. */
static int pin_dirty(struct writer *writer, struct plan *plan)
{
	struct tail *tail = &plan->stream->tail;
	struct io_file *file;
	if (tail->pinned)
		return 0;
	int r = tail_pin(writer, tail->segment, &file);
	if (r == 0) {
		tail->pinned = true;
		writer->pinned++;
	}
	return r;
}

static bool is_to_be_written(const struct plan *plan)
{
	return plan->has_frame && !failure_of(plan->stream);
}

/* The stream's share alone fails: nothing of it is written. What was pinned for it goes. */
static void give_up(struct writer *writer, struct plan *plan, int r, const char *what)
{
	struct tail *tail = &plan->stream->tail;
	if (tail->pinned && !tail->dirty) {
		tail->pinned = false;
		writer->pinned--;
		open_cache_unpin(writer->engine->open_cache, tail->segment);
	}
	plan_fail(writer, plan, r, what);
}

/* Descriptors, and names where they are promised: all that may fail without harm comes before the write. *ret_what:
 * what failed. */
static int prepare_direct(struct writer *writer, struct plan *plan, const char **ret_what)
{
	/* Every file keeps its descriptor until it is synced, so there is a bound on how many. */
	int r = 0;
	*ret_what = "sync of";
	if (!plan->stream->tail.pinned && writer->pinned >= writer->pinned_max)
		r = writer_sync_all(writer);
	if (r != 0)
		return r;
	*ret_what = "open";
	r = pin_dirty(writer, plan);
	if (r != 0 || !plan->sync)
		return r;
	*ret_what = "sync of the directory of";
	return tail_sync_names(writer, plan->stream);
}

/* By one call that writes and syncs. 0; 1: the usual way has to be taken; or a negative errno. */
static int write_durably(struct writer *writer, struct plan *plan)
{
	struct stream *stream = plan->stream;
	struct iovec iov[3];
	if (!recent_wants(writer, plan))
		return 1;
	int r = tail_sync_names(writer, stream);
	if (r != 0)
		return io_no_descriptor(r) ? 1 : r;
	r = recent_write(writer, stream, plan->offset, iov, plan_iov(writer, plan, iov));
	if (io_no_room(r)) {
		r = take_back(writer, plan, stream->tail.uncached, r);
		/* Some of it may be durable: that it is gone has to be, before anyone is told so. */
		if (io_no_room(r) && writer->engine->io->ops->sync(stream->tail.uncached) != 0)
			r = -EIO;
	}
	if (r != 0)
		return r;
	advance(writer, plan);
	tail_mark_synced(writer, stream);
	return 0;
}

/* The stream's share, not synced yet unless it went the one way that does both. */
static void write_share(struct writer *writer, struct plan *plan)
{
	const char *what = "write of";
	bool tried;
	int r = write_durably(writer, plan);
	if (r == 1) {
		r = prepare_direct(writer, plan, &what);
		if (r != 0 && !plan->in_place && !failure_of(plan->stream)) {
			give_up(writer, plan, r, what);
			return;
		}
		if (r == 0) {
			what = "write of";
			r = write_in_place(writer, plan, &tried);
			if (r == 0) {
				plan->stream->tail.dirty = true;
				advance(writer, plan);
			}
		}
	}
	if (io_no_room(r) && !failure_of(plan->stream))
		give_up(writer, plan, r, "write");
	else if (r != 0)
		writer_fail_segment(plan->stream->tail.segment, -r, what);
}

static void write_direct(struct writer *writer)
{
	for (size_t i = 0; i < writer->plan_count; i++) {
		struct plan *plan = &writer->plans[i];
		if (plan->held)
			held_take_back(writer, plan->stream, plan->offset);
		plan->held = plan->journaled = false;
		if (is_to_be_written(plan))
			write_share(writer, plan);
	}
	for (size_t i = 0; i < writer->plan_count; i++) {
		struct plan *plan = &writer->plans[i];
		if (plan->error || !plan->sync || failure_of(plan->stream))
			continue;
		int r = tail_sync(writer, plan->stream);
		if (io_no_descriptor(r) && !plan->has_frame) /* nothing was written, either */
			plan_fail(writer, plan, r, "sync");
		else if (r != 0)
			writer_fail_segment(plan->stream->tail.segment, -r, "sync of");
	}
}

/* What the keeper does for a journal. */
struct keeping {
	struct chore chore;
	struct writer *writer;
	uint64_t generation;
	bool checkpoint; /* makes the generation durable in place; else only what is held is written */
};

static void keep(struct writer *writer, uint64_t generation, bool checkpoint)
{
	int r = held_write_all(writer, generation);
	if (io_may_pass(r)) {
		/* Nothing is lost: the journal has it. */
		if (checkpoint)
			atomic_store(&writer->checkpoint_again, true);
		return;
	}
	if (r != 0 || !checkpoint)
		return;
	r = journal_checkpoint(writer->journal, generation, &writer->engine->any_failed);
	/* The system tells of a lost write-back once, and it may have been anybody's: no shard can trust what it wrote.
	 */
	if (r != 0)
		writer_fail_all(writer->engine, -r, "sync of the file system for", "the journal");
}

static enum chore_result run_keeping(struct chore *chore)
{
	struct keeping *keeping = (struct keeping *)chore;
	struct writer *writer = keeping->writer;
	/* After a failed sync this journal may hold the only good copy, though a second try would say that all is well.
	 */
	if (!atomic_load(&writer->engine->abandoned) && !atomic_load(&writer->engine->any_failed))
		keep(writer, keeping->generation, keeping->checkpoint);
	free(keeping);
	return CHORE_DONE;
}

static struct keeping *new_keeping(struct writer *writer, uint64_t generation, bool checkpoint)
{
	struct keeping *keeping = malloc(sizeof(*keeping));
	if (keeping)
		*keeping = (struct keeping){{run_keeping, NULL}, writer, generation, checkpoint};
	return keeping;
}

void group_write_idle(struct writer *writer)
{
	writer->held_due_ns = 0;
	struct keeping *keeping = new_keeping(writer, journal_generation(writer->journal), false);
	if (keeping)
		chores_add(writer->engine->keeper, &keeping->chore);
}

/* The last checkpoint found no descriptor, or no room. */
static void checkpoint_again(struct writer *writer)
{
	if (!atomic_load(&writer->checkpoint_again))
		return;
	struct keeping *keeping = new_keeping(writer, journal_generation(writer->journal) - 1, true);
	if (!keeping)
		return;
	atomic_store(&writer->checkpoint_again, false);
	chores_add(writer->engine->keeper, &keeping->chore);
}

/* Makes room in the journal for the record that was collected. */
static int journal_make_room(struct writer *writer)
{
	struct journal *journal = writer->journal;
	checkpoint_again(writer);
	enum journal_room room = journal_room(journal, journal_record_bytes(journal));
	if (room == JOURNAL_FULL) {
		chores_run_once(writer->engine->keeper); /* not drain: a reader may hold up what it deletes */
		room = journal_room(journal, journal_record_bytes(journal));
	}
	if (room == JOURNAL_ROOM)
		return 0;
	if (room == JOURNAL_FULL)
		return -ENOSPC;
	int r = journal_unsynced(journal) ? writer_journal_sync(writer) : 0;
	if (r != 0)
		return r;
	struct keeping *keeping = new_keeping(writer, journal_generation(journal), true);
	if (!keeping)
		return -ENOMEM;
	(void)journal_switch(journal);
	chores_add(writer->engine->keeper, &keeping->chore);
	return 0;
}

/* A new segment's file has to say whose it is, and behind bytes that no journal has nothing may be missing. */
static bool hold(struct writer *writer, struct plan *plan)
{
	struct iovec iov[3];
	const struct tail *tail = &plan->stream->tail;
	return !plan->fresh && !tail->dirty && !tail->whole_pages &&
	       held_add(writer, plan->stream, plan->offset, iov, plan_iov(writer, plan, iov));
}

/* Into the files first, unsynced, and then into the journal: what has no descriptor or no room for its file fails
 * alone, as nothing of it is promised yet. */
static void write_all_in_place(struct writer *writer)
{
	for (size_t i = 0; i < writer->plan_count; i++) {
		struct plan *plan = &writer->plans[i];
		bool tried;
		/* What such a stream held before is in place only, and not durable: it must be, before what follows it
		 * is. */
		int r = !plan->error && plan->sync && plan->stream->tail.dirty ? tail_sync(writer, plan->stream) : 0;
		if (io_no_descriptor(r))
			plan_fail(writer, plan, r, "sync");
		if (!is_to_be_written(plan))
			continue;
		plan->held = hold(writer, plan);
		if (plan->held)
			continue;
		r = write_in_place(writer, plan, &tried);
		if (r != 0 && tried && !io_no_room(r))
			writer_fail_segment(plan->stream->tail.segment, -r, "write of");
		else if (r != 0)
			plan_fail(writer, plan, r, tried ? "write" : "open");
		plan->in_place = r == 0;
	}
}

/* False: not by the journal this time, nothing was advanced. */
static bool write_journaled(struct writer *writer)
{
	struct journal *journal = writer->journal;
	bool sync = false;
	write_all_in_place(writer);
	journal_begin(journal);
	for (size_t i = 0; i < writer->plan_count; i++) {
		struct plan *plan = &writer->plans[i];
		struct iovec iov[3];
		sync |= plan->sync && !plan->error;
		plan->journaled = is_to_be_written(plan);
		if (plan->journaled && journal_add(journal, plan->stream->dir, plan->stream->tail.segment->first_id,
					       plan->offset, iov, plan_iov(writer, plan, iov)) != 0)
			return false;
	}
	if (journal_record_bytes(journal) == 0)
		return false; /* all have failed alone */
	if (journal_make_room(writer) != 0)
		return false;
	int r = journal_write(journal);
	if (io_no_room(r))
		return false; /* nothing was advanced, and half a record is no record */
	if (r != 0) {
		writer_fail(writer, NULL, -r, "write of", "the journal");
		return true;
	}
	for (size_t i = 0; i < writer->plan_count; i++) {
		struct plan *plan = &writer->plans[i];
		if (!plan->journaled)
			continue;
		if (plan->fresh)
			plan->stream->tail.named_gen = journal_generation(journal);
		advance(writer, plan);
	}
	writer->held_due_ns = writer->engine->io->ops->monotonic_ns(writer->engine->io) + HELD_IDLE_NS;
	if (!sync || writer_journal_sync(writer) == 0)
		STAT_ADD(writer, journal_groups, 1);
	return true;
}

static bool by_journal(struct writer *writer)
{
	uint64_t frames = 0, fresh = 0, unsynced = 0, bytes = 0;
	for (size_t i = 0; i < writer->plan_count; i++) {
		struct plan *plan = &writer->plans[i];
		if (!plan->has_frame)
			continue;
		frames++;
		bytes += plan->built.total_bytes;
		fresh += plan->fresh != NULL;
		unsynced += !plan->sync && !plan->stream->tail.pinned;
	}
	/* Where a shard has stopped, the journal is kept as it is. */
	if (!writer->journal || atomic_load(&writer->engine->any_failed) || bytes > JOURNAL_SOFT_BYTES)
		return false;
	return frames > DIRECT_FILES_MAX || fresh > 0 ||
	       (unsynced > 0 && writer->pinned + unsynced > writer->pinned_max);
}

void group_write(struct writer *writer)
{
	if (!by_journal(writer) || !write_journaled(writer))
		write_direct(writer);
}
