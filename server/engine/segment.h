/*
 * segment: one file of a stream, and the cache that holds the descriptors of those in use.
 *
 * A segment is owned by its references: the stream's list holds one, every reader and the deleter one each while they
 * use it. Who guards what is said at the fields. The cache is for any thread. Invariant: at most `capacity` segment
 * files are open, unless that many are pinned at one moment.
 */
#ifndef IRONWALD_SEGMENT_H
#define IRONWALD_SEGMENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "index.h"
#include "io.h"
#include "names.h"

struct held;
struct recent;
struct stream;
struct open_cache;

#define SEGMENT_PATH_MAX (NAMES_DIR_MAX + NAMES_FILE_MAX)

struct segment {
	/* fixed at birth */
	struct stream *stream;
	uint64_t first_id;
	uint64_t serial; /* never used twice while the process lives: the key of cached blocks */
	bool cut;	 /* set aside: read up to cut_end_id, named by it and the salt */
	uint64_t salt;	 /* 0 until loaded, unless cut or active; list lock */

	/* the writer's list lock */
	uint64_t end_id;   /* one past the last readable entry */
	uint64_t data_end; /* bytes of the file that are published frames; 0: not loaded yet */
	uint32_t header_bytes, header_check;
	bool sealed;
	bool indexed; /* the index covers it all */
	struct index index;
	struct held *held;     /* its end, as long as it is in the journal alone; NULL: it is in the file */
	struct recent *recent; /* its last bytes, which are in the file, too; NULL: not in memory */

	atomic_uint refs;
	struct segment *doomed_next; /* the deleter's */

	/* the cache's lock */
	struct io_file *file;
	struct io_map *map;
	uint64_t map_len;
	uint32_t pins;
	bool opening;
	struct segment *lru_prev, *lru_next;
};

struct segment *segment_new(struct stream *stream, uint64_t first_id);
void segment_ref(struct segment *segment);
/* The last one closes the file and frees it (cache may be NULL if it was never opened). */
void segment_unref(struct segment *segment, struct open_cache *cache);

/* Relative to the data directory. */
void segment_path(const struct segment *segment, char out[SEGMENT_PATH_MAX]);
void segment_index_path(const struct segment *segment, char out[SEGMENT_PATH_MAX]);

struct open_cache *open_cache_new(struct io *io, uint32_t capacity);
/* All segments must have been closed. */
void open_cache_free(struct open_cache *cache);

enum open_flags { OPEN_NOWAIT = 1, OPEN_CREATE = 2, OPEN_MAP = 4 };

/* Pins the segment's file open. With OPEN_MAP also a mapping of at least map_len bytes, if the system gives one.
 * Returns 0 or a negative errno (-EAGAIN with OPEN_NOWAIT if it is not open). */
int open_cache_pin(struct open_cache *cache, struct segment *segment, int flags, uint64_t map_len,
	struct io_file **ret_file, struct io_map **ret_map, uint64_t *ret_map_len);
void open_cache_unpin(struct open_cache *cache, struct segment *segment);

/* Closes the file if it is open; nobody may have it pinned. */
void open_cache_drop(struct open_cache *cache, struct segment *segment);

/* Closes the file that was not used for longest. False: all that are open are pinned. */
bool open_cache_evict(struct open_cache *cache);

/* Gives up one of its descriptors, for a file that is none of its own. False: it has none to spare. */
bool open_cache_lend(struct open_cache *cache);
void open_cache_take_back(struct open_cache *cache); /* that file is closed */

void open_cache_stats(struct open_cache *cache, uint64_t *ret_open, uint64_t *ret_max);

#endif
