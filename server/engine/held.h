/*
 * held: the end of an active segment that the journal has, and its file has not yet.
 *
 * A group that touches many streams is durable once the journal is; so each file is written once for all its frames,
 * when the journal's generation is made durable in place, or when as much is held as is worth a write. Until then
 * readers find those bytes here.
 * Owns the bytes. The writer's thread adds; the keeper writes them in place; both change what is here under the
 * writer's list lock. Readers hold a reference and look at what was published when they took it.
 * Invariant: the file is good up to held->from + held->in_place; bytes below the segment's data_end never change; what
 * is published and held is in the journal; a tail that is dirty holds nothing.
 */
#ifndef IRONWALD_HELD_H
#define IRONWALD_HELD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct segment;
struct stream;
struct writer;

#define HELD_MAX (UINT32_C(256) << 10)	    /* of a segment */
#define HELD_IDLE_NS UINT64_C(1000000000)   /* a writer that adds nothing for so long has all of it written */
#define HELD_FRAME_MAX (UINT32_C(64) << 10) /* what is larger is worth a write of its own */

struct held {
	struct held *prev, *next; /* the writer's list, oldest generation first */
	struct segment *segment;  /* on the stream's list for as long as this is on the writer's */
	atomic_uint refs;
	uint64_t generation; /* of the journal: no older one has any of the bytes */
	uint64_t from;	     /* the first byte's offset */
	uint32_t len, cap, in_place;
	uint8_t bytes[];
};

/* [writer] Takes a frame of so many bytes, to stand at `offset`, which is where the segment ends. False: it is not to
 * be held (no memory, too much). */
bool held_add(struct writer *writer, struct stream *stream, uint64_t offset, const struct iovec *iov, int iov_count);
/* [writer] Takes the last frame back, which was not published. */
void held_take_back(struct writer *writer, struct stream *stream, uint64_t offset);
/* [writer] What has to be written before anything that follows it in the file: a reference, with the bytes and their
 * offset; NULL: nothing. */
struct held *held_rest(struct writer *writer, struct stream *stream, struct iovec *ret_iov, uint64_t *ret_from);
/* [writer] All of it stands in the file now. */
void held_done(struct writer *writer, struct stream *stream);
/* [writer] Writes what is held, if anything is. 0 or a negative errno. */
int held_write(struct writer *writer, struct stream *stream);

/* [keeper, or the loop once the writer has stopped] Writes in place all that is published and may be in the journal's
 * generations up to that one. Syncs nothing. 0 or a negative errno: what is left is still held. */
int held_write_all(struct writer *writer, uint64_t generation);

/* [any, under the list lock] A reference to what the segment holds; NULL: nothing. */
struct held *held_of(const struct segment *segment);
void held_unref(struct held *held); /* NULL is legal */

#endif
