/*
 * writer.h: what poll.c and uv.c have in common: the work of one connection, whatever loop drives it.
 *
 * A writer appends the entries "STREAM 0", "STREAM 1" ... to a stream, many in flight at a time, until there are as
 * many as it was told. Whatever becomes of its connection, each entry is there once and at the id of its number: each
 * append carries its expected_id, and what became unknown is settled, in order, before anything new is sent:
 *
 *   append it again with the same expected_id      done: it was not there, and is now
 *     Conflict: get the entry of that id           the same: it was there already; another: somebody else wrote it
 *
 * Owns its connection, and makes a new one when that is lost. Nothing in it waits; the caller's loop does:
 *
 *   watch writer_fd for writer_events, and call writer_turn when one of them comes or writer_deadline_ms has passed;
 *   ask for all three again after each call
 *
 * Used by one thread. Invariant: written <= settled_end <= sent <= count, and sent - written <= depth.
 */
#ifndef WRITER_H
#define WRITER_H

#include <stdint.h>
#include <stdio.h>

enum writer_state {
	WRITER_WORKS,
	WRITER_DONE,  /* all is written */
	WRITER_FAILED /* it cannot go on; it has said why on standard error */
};

struct writer;

/* address and stream must stay as long as the writer does. depth: most appends in flight. NULL: no memory. */
struct writer *writer_new(const char *address, const char *stream, uint64_t count, uint32_t depth);
/* NULL is legal. */
void writer_free(struct writer *writer);

enum writer_state writer_get_state(const struct writer *writer);
/* -1: none now. */
int writer_fd(const struct writer *writer);
/* IRONWAL_READABLE, IRONWAL_WRITABLE, both or 0. */
unsigned writer_events(const struct writer *writer);
/* Milliseconds until writer_turn is to be called even if nothing happens; -1: never. now_ms is any clock that only goes
 * forward, the same as in writer_turn. */
int64_t writer_deadline_ms(const struct writer *writer, int64_t now_ms);
/* Does what can be done now. events: what is the case on the descriptor. */
void writer_turn(struct writer *writer, unsigned events, int64_t now_ms);

/* "stream NAME: COUNT entries, R reconnects, U settled" */
void writer_report(const struct writer *writer, FILE *file);

#endif
