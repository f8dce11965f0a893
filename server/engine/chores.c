#include "chores.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "activity.h"
#include "thread.h"

/* Which is looked at by itself: whoever hangs, it is told of that one. */
#define OTHER_THREAD "what another thread does for it"

struct chores {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct chore *first, **last;
	bool threads, stop, running;
	unsigned long rounds;
	pthread_t thread;
	const char *name;
	bool answers;
	atomic_uint_least64_t jobs; /* added and not done */
};

static struct chore *take_all(struct chores *chores)
{
	struct chore *first = chores->first;
	chores->first = NULL;
	chores->last = &chores->first;
	return first;
}

static void append(struct chores *chores, struct chore *chore)
{
	chore->next = NULL;
	*chores->last = chore;
	chores->last = &chore->next;
}

bool chores_step(struct chores *chores)
{
	pthread_mutex_lock(&chores->lock);
	struct chore *chore = take_all(chores);
	chores->running = chore != NULL;
	pthread_mutex_unlock(&chores->lock);
	bool progress = false;
	struct chore *later = NULL, **later_last = &later;
	activity_step();
	while (chore) {
		struct chore *next = chore->next;
		enum chore_result result = chore->run(chore);
		activity_step();
		if (result == CHORE_LATER) {
			chore->next = NULL;
			*later_last = chore;
			later_last = &chore->next;
		} else {
			progress = true;
			atomic_fetch_sub_explicit(&chores->jobs, 1, memory_order_relaxed);
		}
		chore = next;
	}
	pthread_mutex_lock(&chores->lock);
	chores->running = false;
	chores->rounds++;
	if (later) { /* before what came in meanwhile: order is kept */
		*later_last = chores->first;
		if (!chores->first)
			chores->last = later_last;
		chores->first = later;
	}
	pthread_cond_broadcast(&chores->changed);
	pthread_mutex_unlock(&chores->lock);
	return progress;
}

static void *work(void *arg)
{
	struct chores *chores = arg;
	activity_join(chores->name, &chores->jobs, chores->answers);
	pthread_mutex_lock(&chores->lock);
	while (!chores->stop) {
		if (!chores->first) {
			pthread_cond_wait(&chores->changed, &chores->lock);
			continue;
		}
		pthread_mutex_unlock(&chores->lock);
		bool progress = chores_step(chores);
		pthread_mutex_lock(&chores->lock);
		if (!progress && !chores->stop) { /* a reader still holds what should go: look again soon */
			struct timespec until;
			clock_gettime(CLOCK_MONOTONIC, &until); /* what the wall clock does is no concern of it */
			until.tv_nsec += 20 * 1000 * 1000;
			if (until.tv_nsec >= 1000000000) {
				until.tv_nsec -= 1000000000;
				until.tv_sec++;
			}
			pthread_cond_timedwait(&chores->changed, &chores->lock, &until);
		}
	}
	pthread_mutex_unlock(&chores->lock);
	activity_leave();
	return NULL;
}

int chores_start(bool threads, const char *name, bool answers, struct chores **ret_chores)
{
	struct chores *chores = calloc(1, sizeof(*chores));
	if (!chores)
		return -ENOMEM;
	pthread_mutex_init(&chores->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&chores->changed, &attr);
	pthread_condattr_destroy(&attr);
	chores->last = &chores->first;
	chores->threads = threads;
	chores->name = name;
	chores->answers = answers;
	if (threads) {
		int r = thread_start(&chores->thread, name, work, chores);
		if (r != 0) {
			chores->threads = false;
			chores_stop(chores);
			return -r;
		}
	}
	*ret_chores = chores;
	return 0;
}

void chores_add(struct chores *chores, struct chore *chore)
{
	atomic_fetch_add_explicit(&chores->jobs, 1, memory_order_relaxed);
	pthread_mutex_lock(&chores->lock);
	append(chores, chore);
	pthread_cond_broadcast(&chores->changed);
	pthread_mutex_unlock(&chores->lock);
}

void chores_drain(struct chores *chores)
{
	if (!chores->threads) {
		while (chores_step(chores))
			;
		return;
	}
	pthread_mutex_lock(&chores->lock);
	activity_wait_begin(OTHER_THREAD);
	while (chores->first || chores->running)
		pthread_cond_wait(&chores->changed, &chores->lock);
	activity_wait_end();
	pthread_mutex_unlock(&chores->lock);
}

void chores_run_once(struct chores *chores)
{
	if (!chores->threads) {
		(void)chores_step(chores);
		return;
	}
	pthread_mutex_lock(&chores->lock);
	/* A round that is under way may have begun before the last job came in. */
	unsigned long until = chores->rounds + (chores->running ? 2 : 1);
	activity_wait_begin(OTHER_THREAD);
	while ((chores->first || chores->running) && chores->rounds < until)
		pthread_cond_wait(&chores->changed, &chores->lock);
	activity_wait_end();
	pthread_mutex_unlock(&chores->lock);
}

void chores_stop(struct chores *chores)
{
	if (!chores)
		return;
	if (chores->threads) {
		pthread_mutex_lock(&chores->lock);
		chores->stop = true;
		pthread_cond_broadcast(&chores->changed);
		pthread_mutex_unlock(&chores->lock);
		pthread_join(chores->thread, NULL);
	}
	pthread_mutex_destroy(&chores->lock);
	pthread_cond_destroy(&chores->changed);
	free(chores);
}
