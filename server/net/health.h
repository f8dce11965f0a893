/*
 * health: is every thread that clients wait for alive, and can it answer them in good time?
 *
 * Owns what it remembers of each thread from one look to the next. Loop thread only: that the loop turns is shown by
 * looking at all.
 * Invariant: time counts only where it was seen to pass in small steps, so that a process that stood still (SIGSTOP, a
 * suspended machine) accuses nobody.
 *
 *   hangs   a thread has work, and neither gets on nor waits for the system: only ending the process helps (watchdog)
 *   slow    a thread that clients wait for is inside of one system call for long: it is told, counted, and not ready;
 *           ending the process would lose time and win nothing
 *   failed  shards take no writes until a restart, and reads go on: not ready; a person has to look at the disk
 */
#ifndef IRONWALD_HEALTH_H
#define IRONWALD_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "activity.h"

struct health;

struct health_limits {
	uint64_t slow_ns; /* inside of one call */
	uint64_t hang_ns;
};

struct health_report {
	bool alive;
	bool ready;		 /* it is alive, nothing is slow, nothing has failed, and the server does not stop */
	uint64_t disk_waits;	 /* how often a thread was inside of one call for slow_ns, since the start */
	uint64_t disk_wait_ns;	 /* so long altogether */
	uint64_t disk_waits_now; /* threads that are */
	char reason[224];	 /* why it is not ready; empty if it is */
};

/* NULL: out of memory. */
struct health *health_new(void);
void health_free(struct health *health); /* NULL is legal */

/* Looks at what the threads are about, now and then: at least several times in each of the limits. Logs what begins and
 * what is over. */
void health_look(struct health *health, const struct activity_sample *samples, size_t count,
	const struct health_limits *limits, uint64_t now_ns);

/* As of the last look. What else keeps it from being ready is the caller's to add. */
void health_report(const struct health *health, struct health_report *ret_report);

#endif
