/*
 * stream: what is known of one stream, in three parts that belong to three owners.
 *
 * The loop's part is touched by the loop thread alone, the writer's by its writer alone, the list under the writer's
 * list lock by both and by readers. Streams live as long as the engine (only one whose first append failed goes, by the
 * loop, when no op names it). Invariant: segments[] is in rising order of ids without overlap, the active one last.
 */
#ifndef IRONWALD_STREAM_H
#define IRONWALD_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "names.h"
#include "segment.h"

struct op;
struct writer;
struct fill;

/* The end of the active segment, as its writer sees it. */
struct tail {
	struct segment *segment;     /* NULL: the next append makes one */
	uint64_t written;	     /* offset after the last frame that was written */
	uint64_t prepared;	     /* offset up to which the file's blocks exist */
	uint64_t synced;	     /* offset up to which it is durable: in place or by the journal */
	uint64_t entries;	     /* in this segment */
	int64_t by_journal;	     /* bytes that went by the journal, less those that did not */
	uint32_t check;		     /* of the last frame */
	uint32_t index_saved;	     /* points that are in the index file */
	bool name_durable;	     /* the file's name is, by a directory sync */
	uint64_t named_gen;	     /* journal generation that holds its creation; 0: none */
	bool dirty;		     /* bytes in place were not synced, and the journal does not hold them */
	bool pinned;		     /* its descriptor is held because it is dirty */
	bool unchecked;		     /* opened from the clean-stop record: look before the first write */
	bool whole_pages;	     /* it was a spare: writes end where a page does */
	struct io_file *uncached;    /* lent descriptor, for writes past the page cache; NULL: none */
	bool fast;		     /* it fills its segments fast: the next one is to be a spare */
	uint64_t began_ns, began_at; /* when `written` was there; 0: not looked at yet */
	struct fill *fill;	     /* zeros being written ahead; NULL: none */
};

struct stream {
	/* fixed at birth */
	struct writer *writer;
	uint64_t hash;
	uint16_t name_len;
	uint16_t shard; /* that it belongs to, by its number or its hash */
	char *name;	/* NUL-terminated */
	char *dir;

	/* the loop's */
	struct stream *table_next;
	uint64_t loop_first, loop_end;
	uint32_t loop_ops; /* ops in flight that name it */
	bool visible;	   /* its first append is done */
	bool is_shard;	   /* a shard's log: it is there before that, too (fixed at start) */
	void *user;

	/* the list lock */
	struct segment **segments;
	uint32_t segment_count, segment_cap;

	atomic_uint_least64_t durable_end;

	/* the writer's */
	uint64_t next_id; /* one past the last that was written */
	struct tail tail;
	bool dir_made;			     /* its directory exists */
	bool dir_durable;		     /* and its name is durable */
	struct op *group_first, *group_last; /* its appends in the group being formed, linked by ->next */
	uint64_t group_entries, group_bytes;
	uint32_t group_plan;
	struct stream *dirty_prev, *dirty_next; /* list of the writer's streams with tail.dirty */
	/* the list lock */
	struct segment *doomed_first, **doomed_last; /* off the list, not unlinked yet, oldest first */
	bool doom_queued;
	bool doom_over; /* the deleter's: a directory sync failed, nothing more is deleted */
};

/* Linked to the writer; not in any table yet. NULL: out of memory. */
struct stream *stream_new(const char *name, size_t name_len, uint64_t hash, uint16_t shard, struct writer *writer);
/* Frees it with its segments' references. */
void stream_free(struct stream *stream, struct open_cache *cache);

/* Under the list lock: room for one more, so that the push cannot fail. -1: out of memory. */
int stream_reserve_segment(struct stream *stream);
/* Under the list lock: adds an active or sealed segment at the end, room was reserved. Takes the reference over. */
void stream_push_segment(struct stream *stream, struct segment *segment);

/* Under the list lock: the segment that holds id, or the first one that begins after it (for holes), with a reference;
 * NULL: none. */
struct segment *stream_segment_at(struct stream *stream, uint64_t id);

/* The table of streams: by name, and in the order of names. The loop thread's. */
struct stream_table {
	struct stream **buckets;
	size_t bucket_count, count; /* count: also those that are not visible yet */
	struct stream **sorted;	    /* visible ones, in byte order of their names */
	size_t sorted_count, sorted_cap;
	struct stream **fresh; /* visible ones that are not in `sorted` yet */
	size_t fresh_count, fresh_cap;
};

uint64_t stream_hash(const char *name, size_t len);
int stream_table_init(struct stream_table *table);
void stream_table_free(struct stream_table *table); /* not the streams */
struct stream *stream_table_find(const struct stream_table *table, const char *name, size_t len, uint64_t hash);
int stream_table_reserve(struct stream_table *table, size_t count);	     /* for so many in all; -1: out of memory */
int stream_table_add(struct stream_table *table, struct stream *stream);     /* -1: out of memory */
void stream_table_remove(struct stream_table *table, struct stream *stream); /* one that is not visible */
void stream_table_show(struct stream_table *table, struct stream *stream);   /* makes it visible; it was added */
/* The sorted array, complete. */
void stream_table_sort(struct stream_table *table);
/* Index of the first sorted name >= name (or > name). */
size_t stream_table_lower(const struct stream_table *table, const char *name, size_t len, bool after);

#endif
