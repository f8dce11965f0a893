/*
 * chores: work off the writers' threads that nobody waits for: writing zeros ahead, unlinking segments that left the
 * published lists, making journal generations durable in place.
 *
 * Owns its queue of jobs and, with threads, one thread. Any thread may add; chores_step is for tests without threads,
 * and for the thread itself. Invariant: jobs of one kind on one object run in the order they were added, one at a time.
 */
#ifndef IRONWALD_CHORES_H
#define IRONWALD_CHORES_H

#include <stdbool.h>

struct chores;
struct chore;

enum chore_result { CHORE_DONE, CHORE_LATER /* try again after the others */ };

/* The first member of a job. run is called without locks. The job is the runner's to free, when it answers CHORE_DONE.
 */
struct chore {
	enum chore_result (*run)(struct chore *chore);
	struct chore *next;
};

/* name: of the thread, up to 15 bytes, static. answers: clients wait for what is done there. 0 or a negative errno. */
int chores_start(bool threads, const char *name, bool answers, struct chores **ret_chores);
void chores_add(struct chores *chores, struct chore *chore);
/* One round over the jobs that are there now; true if one was done. */
bool chores_step(struct chores *chores);
/* Waits until nothing is left (runs them here, without threads). */
void chores_drain(struct chores *chores);
/* Waits until every job that is there now was run once, also if it answered CHORE_LATER. */
void chores_run_once(struct chores *chores);
/* Stops the thread; what is left is not run and not freed, unless drained before. NULL is legal. */
void chores_stop(struct chores *chores);

#endif
