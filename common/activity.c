#include "activity.h"

#include <pthread.h>
#include <stdio.h>

struct activity {
	char name[ACTIVITY_NAME_MAX];
	const atomic_uint_least64_t *work;
	bool answers, joined;
	atomic_uint_least64_t steps;
	_Atomic(const char *) waits_for;
	struct activity *next, **link;
};

static _Thread_local struct activity mine;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct activity *all; /* under the lock, and so is each of them until it leaves */

void activity_join(const char *name, const atomic_uint_least64_t *work, bool answers)
{
	snprintf(mine.name, sizeof(mine.name), "%s", name);
	mine.work = work;
	mine.answers = answers;
	atomic_store(&mine.steps, 0);
	atomic_store(&mine.waits_for, NULL);
	mine.joined = true;
	pthread_mutex_lock(&lock);
	mine.next = all;
	mine.link = &all;
	if (all != NULL)
		all->link = &mine.next;
	all = &mine;
	pthread_mutex_unlock(&lock);
}

void activity_leave(void)
{
	if (!mine.joined)
		return;
	pthread_mutex_lock(&lock);
	*mine.link = mine.next;
	if (mine.next != NULL)
		mine.next->link = mine.link;
	pthread_mutex_unlock(&lock);
	mine.joined = false;
}

void activity_step(void)
{
	if (mine.joined)
		atomic_store_explicit(
			&mine.steps, atomic_load_explicit(&mine.steps, memory_order_relaxed) + 1, memory_order_relaxed);
}

void activity_wait_begin(const char *what)
{
	if (mine.joined)
		atomic_store_explicit(&mine.waits_for, what, memory_order_relaxed);
}

void activity_wait_end(void)
{
	if (!mine.joined)
		return;
	atomic_store_explicit(&mine.waits_for, NULL, memory_order_relaxed);
	activity_step();
}

size_t activity_look(struct activity_sample samples[ACTIVITY_MAX])
{
	size_t count = 0;

	pthread_mutex_lock(&lock);
	for (struct activity *at = all; at != NULL && count < ACTIVITY_MAX; at = at->next, count++) {
		struct activity_sample *sample = &samples[count];
		snprintf(sample->name, sizeof(sample->name), "%s", at->name);
		sample->has_work = at->work != NULL && atomic_load_explicit(at->work, memory_order_relaxed) > 0;
		sample->answers = at->answers;
		sample->steps = atomic_load_explicit(&at->steps, memory_order_relaxed);
		sample->waits_for = atomic_load_explicit(&at->waits_for, memory_order_relaxed);
	}
	pthread_mutex_unlock(&lock);
	return count;
}
