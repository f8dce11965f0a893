#include "patience.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "activity.h"
#include "clock.h"
#include "supervisor.h"
#include "thread.h"

/* How often it is looked at; where there is a watchdog, several times in its interval. */
#define LOOK_NS (5 * NS_PER_SECOND)

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	bool runs, ends;
	const char *what;
	atomic_uint_least64_t done, total;
} patience = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* True if anything got on since the last time, or waits for the system now. *steps: of all threads. */
static bool gets_on(uint64_t *steps)
{
	struct activity_sample samples[ACTIVITY_MAX];
	size_t count = activity_look(samples);
	uint64_t before = *steps;
	bool waits = false;

	*steps = 0;
	for (size_t i = 0; i < count; i++) {
		*steps += samples[i].steps;
		waits |= samples[i].waits_for != NULL;
	}
	/* A thread that ended takes its steps with it: that, too, is progress. */
	return waits || *steps != before;
}

static void ask(void)
{
	uint64_t done = atomic_load(&patience.done), total = atomic_load(&patience.total);
	char status[100];

	if (total > 0)
		snprintf(status, sizeof(status), "%s: %" PRIu64 " of %" PRIu64 " streams", patience.what, done, total);
	else
		snprintf(status, sizeof(status), "%s", patience.what);
	supervisor_extend(PATIENCE_NS, status);
	supervisor_alive();
}

static void *look_again_and_again(void *arg)
{
	uint64_t steps = UINT64_MAX, watchdog_ns = supervisor_watchdog_ns(), every_ns = LOOK_NS;

	(void)arg;
	if (watchdog_ns != 0 && watchdog_ns / 4 < every_ns)
		every_ns = watchdog_ns / 4;
	pthread_mutex_lock(&patience.lock);
	while (!patience.ends) {
		uint64_t until_ns = clock_now_ns() + every_ns;
		struct timespec until = {
			.tv_sec = (time_t)(until_ns / NS_PER_SECOND), .tv_nsec = (long)(until_ns % NS_PER_SECOND)};
		if (gets_on(&steps))
			ask();
		pthread_cond_timedwait(&patience.changed, &patience.lock, &until);
	}
	pthread_mutex_unlock(&patience.lock);
	return NULL;
}

void patience_begin(const char *what)
{
	pthread_condattr_t attr;

	if (!supervisor_listens())
		return;
	patience.what = what;
	patience.ends = false;
	patience_progress(0, 0);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&patience.changed, &attr);
	pthread_condattr_destroy(&attr);
	patience.runs = thread_start(&patience.thread, "patience", look_again_and_again, NULL) == 0;
	if (!patience.runs)
		pthread_cond_destroy(&patience.changed);
}

void patience_progress(uint64_t done, uint64_t total)
{
	atomic_store(&patience.done, done);
	atomic_store(&patience.total, total);
}

void patience_end(void)
{
	if (!patience.runs)
		return;
	pthread_mutex_lock(&patience.lock);
	patience.ends = true;
	pthread_cond_signal(&patience.changed);
	pthread_mutex_unlock(&patience.lock);
	pthread_join(patience.thread, NULL);
	pthread_cond_destroy(&patience.changed);
	patience.runs = false;
}
