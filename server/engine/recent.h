/*
 * recent: the last bytes of a segment that is written past the page cache.
 *
 * A stream that fills its segments fast, in spares, and wants each group durable is written in whole pages from here:
 * one call writes and syncs, and nothing is copied into pages of the cache, most of which nobody would read before they
 * have to go. Who reads near the end finds the bytes here; who is further back, in the file.
 * Owns the bytes, and the descriptor in tail->uncached. The writer's thread changes them; readers hold a reference.
 * Invariant: what is published of the segment from `from` on is here, as it is in the file, and never changes.
 */
#ifndef IRONWALD_RECENT_H
#define IRONWALD_RECENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct plan;
struct segment;
struct stream;
struct writer;

#define RECENT_BYTES (UINT32_C(2) << 20) /* of a stream; a larger write takes the usual way */

struct recent {
	atomic_uint refs;
	uint32_t len;
	uint64_t from;	/* where a page of the file begins */
	uint8_t *bytes; /* where a page of memory does; RECENT_BYTES of them */
};

/* [writer] Whether what stands in the plan may be written so: its stream's tail is one that was a spare, all of it is
 * durable, and nobody else writes in the file; and it is not too much. */
bool recent_wants(const struct writer *writer, const struct plan *plan);
/* [writer] Writes it at `offset`, where the segment ends, and makes it durable. 0; 1: nothing was done, it has to go
 * the usual way; or a negative errno: any part of it may be in the file. */
int recent_write(struct writer *writer, struct stream *stream, uint64_t offset, const struct iovec *iov, int iov_count);
/* [writer] The file is written otherwise from here on. */
void recent_drop(struct writer *writer, struct segment *segment);
/* [writer] And its descriptor goes, too. */
void recent_end(struct writer *writer, struct stream *stream);

/* [any, under the list lock] A reference to what there is of the segment; NULL: nothing. */
struct recent *recent_of(const struct segment *segment);
void recent_unref(struct recent *recent); /* NULL is legal */

#endif
