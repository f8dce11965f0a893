/*
 * frame_builder: packs entries into the blocks of one frame at a time.
 *
 * Owns its scratch memory and two buffers, `headers` and `payloads`, that collect the frames of one group. One thread
 * at a time (a writer). Invariant: the bytes of a finished frame are headers[h, h+header_bytes) then payloads[p,
 * p+rest), padding included.
 */
#ifndef IRONWALD_FRAME_BUILDER_H
#define IRONWALD_FRAME_BUILDER_H

#include "buf.h"
#include "format.h"
#include "options.h"

struct frame_builder {
	struct buf headers, payloads; /* of all frames since frame_builder_reset */
	/* the frame being built */
	struct buf table; /* its blocks so far, as in the header */
	size_t payload_start, block_bytes;
	uint32_t entry_count;
	/* the block being built */
	struct buf raw;
	uint32_t *ends;
	uint32_t block_entries;
	bool compress;
	uint64_t min_compression_size;
};

int frame_builder_init(struct frame_builder *builder, enum compression compression, uint64_t min_compression_size);
void frame_builder_free(struct frame_builder *builder);

/* Forgets all frames; keeps the memory, up to a limit. */
void frame_builder_reset(struct frame_builder *builder);

/* bytes: of all its entries, about. What is not packed goes into blocks as small as keeps the frame's table short: a
 * get reads and checks a block. */
void frame_builder_begin(struct frame_builder *builder, uint64_t bytes);
/* -1: out of memory; the frame must then be given up by frame_builder_cancel. */
int frame_builder_add(struct frame_builder *builder, const uint8_t *bytes, size_t len);
void frame_builder_cancel(struct frame_builder *builder);

/* Where a finished frame lies in the two buffers. */
struct built_frame {
	size_t header_at, header_bytes, payload_at, payload_bytes;
	uint64_t total_bytes;
	uint32_t check;
};

/* Ends the frame: fields of `frame` that the caller knows are offset, first_id, time_ns, synced_end, prev_check. -1:
 * out of memory. */
int frame_builder_finish(
	struct frame_builder *builder, const struct frame *frame, uint64_t salt, struct built_frame *ret_built);

#endif
