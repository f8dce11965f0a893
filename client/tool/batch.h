/*
 * batch: byte strings that gather in one buffer, to be sent in one request.
 *
 * Owns the bytes and the list of them. One thread.
 * Invariant: what batch_entries returns is good until the batch is touched again.
 */
#ifndef IRONWAL_BATCH_H
#define IRONWAL_BATCH_H

#include "buf.h"
#include "ironwal.h"

struct batch {
	struct buf bytes;
	ironwal_bytes *entries; /* data: set by batch_entries, as bytes moves while it grows */
	size_t count, cap;
};

/* Copies it. -1: out of memory. */
int batch_add(struct batch *batch, const void *bytes, size_t len);
const ironwal_bytes *batch_entries(struct batch *batch);
void batch_clear(struct batch *batch);
void batch_free(struct batch *batch);

#endif
