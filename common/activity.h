/*
 * activity: does a thread get on, does it wait for the system, or neither?
 *
 * Owns the list of the threads that take part. A thread tells about itself only (activity_join to activity_leave; what
 * it calls outside of that does nothing); activity_look may be called by any thread.
 * Invariant: steps only rise, and a wait is only seen while the thread is inside of what may wait.
 */
#ifndef IRONWALD_ACTIVITY_H
#define IRONWALD_ACTIVITY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* More threads than this are not seen by one look. */
#define ACTIVITY_MAX 64
#define ACTIVITY_NAME_MAX 16

/* work: how much the thread has to do, kept by whoever gives it work, for as long as it takes part; NULL: nobody waits
 * for it. answers: clients wait for what it does. name is cut to 15 bytes. */
void activity_join(const char *name, const atomic_uint_least64_t *work, bool answers);
void activity_leave(void);

/* It got on. */
void activity_step(void);
/* Around what may wait for a disk, or for a thread that does; not nested. what: static text, as "a sync". */
void activity_wait_begin(const char *what);
void activity_wait_end(void); /* a step, too */

struct activity_sample {
	char name[ACTIVITY_NAME_MAX];
	bool has_work, answers;
	uint64_t steps;
	const char *waits_for; /* NULL: it does not wait */
};

/* Returns how many there are. */
size_t activity_look(struct activity_sample samples[ACTIVITY_MAX]);

#endif
