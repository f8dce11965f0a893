/*
 * fill: zeros written ahead of a segment's end, so that a later sync finds blocks that are there already.
 *
 * A fill is owned by the writer that started it; its work is done by the filler. fill_start, fill_state, fill_end: the
 * writer. Invariant: while a fill is not FILL_IDLE-ended, the writer writes nothing at or behind its `from`.
 */
#ifndef IRONWALD_FILL_H
#define IRONWALD_FILL_H

#include <stdint.h>

struct engine;
struct fill;
struct segment;
struct writer;

enum fill_state {
	FILL_QUEUED,
	FILL_RUNNING,
	FILL_DONE,    /* blocks [from, to) exist */
	FILL_GAVE_UP, /* no room, or cancelled: what exists is not known; the file's size may have grown */
};

/* NULL: out of memory (nothing is filled then). */
struct fill *fill_start(struct writer *writer, struct segment *segment, uint64_t from, uint64_t to);
enum fill_state fill_state(const struct fill *fill);
uint64_t fill_from(const struct fill *fill);
uint64_t fill_to(const struct fill *fill);
/* Cancels it if it has not begun, waits for it otherwise, and frees it. Returns the final state. NULL is legal
 * (FILL_GAVE_UP). */
enum fill_state fill_end(struct fill *fill);

#endif
