/*
 * waiters: who waits for an entry of a stream to become readable, until when.
 *
 * Owns its lists (one per stream that is waited for, hung on stream_set_user), not the waiters. Loop thread only.
 * Invariant: a waiter is in all of the stream's list, its owner's list and the deadline heap, or in none of them; it
 * is out of them when wake_cb is called.
 */
#ifndef IRONWALD_WAITERS_H
#define IRONWALD_WAITERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine.h"

/* More than this, of one connection and of all: a request is answered as if its wait were over. */
#define WAITERS_PER_OWNER_MAX 1024
#define WAITERS_MAX 65536

/* How many one call of waiters_run looks at, and waiters_expire wakes: the loop has others to serve. */
#define WAITERS_PER_RUN 512

struct waiters;
struct waiter;

typedef void (*waiter_wake_cb)(struct waiter *waiter);

/* Whoever may take back all its waiters at once: a connection. {0} is legal and empty. */
struct waiter_owner {
	struct waiter *head;
	size_t count;
};

struct waiter {
	waiter_wake_cb wake_cb;
	uint64_t id; /* woken when the stream's end is above */
	uint64_t deadline_ns;
	/* its own */
	struct stream *stream;
	struct waiter_owner *owner;
	struct waiter *stream_next, **stream_link, *owner_next, **owner_link; /* link: what points here */
	size_t heap_at;
};

/* NULL: out of memory. */
struct waiters *waiters_new(void);
/* Nobody waits any more. NULL is legal. */
void waiters_free(struct waiters *waiters);

/* wake_cb, id and deadline_ns are filled in by the caller. False: it was not taken (too many, or no memory). */
bool waiters_add(struct waiters *waiters, struct waiter *waiter, struct stream *stream, struct waiter_owner *owner);

/* The stream's end may have moved. Cheap if nobody waits there. */
void waiters_touch(struct waiters *waiters, struct stream *stream);
/* Wakes those of the touched streams whose entry is there. True: there are more to look at, call it again soon. */
bool waiters_run(struct waiters *waiters);

/* If more than WAITERS_PER_RUN are due, waiters_next_deadline_ns is not after now_ns still. */
void waiters_expire(struct waiters *waiters, uint64_t now_ns);
/* UINT64_MAX if nobody waits. */
uint64_t waiters_next_deadline_ns(const struct waiters *waiters);

/* Wakes them whatever is there. */
void waiters_wake_owner(struct waiters *waiters, struct waiter_owner *owner);
void waiters_wake_all(struct waiters *waiters);

size_t waiters_count(const struct waiters *waiters);

#endif
