#include "health.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"

/* More than this between two looks was a standstill of the whole process, not of one of its threads. */
#define LOOK_NS_MAX NS_PER_SECOND

struct thread {
	char name[ACTIVITY_NAME_MAX];
	bool seen, answers;
	uint64_t steps;
	const char *waits_for;
	uint64_t still_ns; /* it has work, does not wait, and has not got on */
	uint64_t wait_ns;  /* it has been in the same wait */
	bool hangs, slow;
};

struct health {
	struct thread threads[ACTIVITY_MAX];
	size_t count;
	uint64_t looked_ns;
	uint64_t disk_waits, disk_wait_ns;
};

struct health *health_new(void)
{
	return calloc(1, sizeof(struct health));
}

void health_free(struct health *health)
{
	free(health);
}

static struct thread *thread_of(struct health *health, const struct activity_sample *sample)
{
	for (size_t i = 0; i < health->count; i++) {
		if (strcmp(health->threads[i].name, sample->name) == 0)
			return &health->threads[i];
	}
	if (health->count == ACTIVITY_MAX)
		return NULL;
	struct thread *thread = &health->threads[health->count++];
	memcpy(thread->name, sample->name, sizeof(thread->name));
	thread->steps = sample->steps;
	return thread;
}

static void judge_hang(struct thread *thread, const struct health_limits *limits)
{
	if (thread->still_ns >= limits->hang_ns && !thread->hangs) {
		thread->hangs = true;
		log_error("net",
			"%s hangs: it has work, and for %" PRIu64
			" ms it has neither got on nor waited for the system; restart "
			"the daemon",
			thread->name, thread->still_ns / NS_PER_MS);
	} else if (thread->still_ns == 0 && thread->hangs) {
		thread->hangs = false;
		log_warn("net", "%s gets on again", thread->name);
	}
}

static void judge_wait(struct health *health, struct thread *thread, const struct health_limits *limits)
{
	if (thread->wait_ns >= limits->slow_ns && !thread->slow) {
		thread->slow = true;
		health->disk_waits++;
		health->disk_wait_ns += thread->wait_ns;
		log_warn("net", "%s waits for the disk for %" PRIu64 " ms now (%s)%s", thread->name,
			thread->wait_ns / NS_PER_MS, thread->waits_for,
			thread->answers ? ": not ready until it is over" : "");
	}
}

static void end_wait(struct thread *thread)
{
	if (thread->slow)
		log_warn("net", "%s has waited for the disk for about %" PRIu64 " ms (%s): it is over", thread->name,
			thread->wait_ns / NS_PER_MS, thread->waits_for);
	thread->slow = false;
	thread->wait_ns = 0;
}

static void look_at(struct health *health, const struct activity_sample *sample, const struct health_limits *limits,
	uint64_t past_ns)
{
	struct thread *thread = thread_of(health, sample);
	if (thread == NULL)
		return;
	bool same = thread->steps == sample->steps;
	thread->seen = true;
	thread->answers = sample->answers;
	thread->still_ns = same && sample->has_work && sample->waits_for == NULL ? thread->still_ns + past_ns : 0;
	judge_hang(thread, limits);
	/* Each call is a step when it is over. */
	if (same && sample->waits_for != NULL && thread->waits_for == sample->waits_for) {
		thread->wait_ns += past_ns;
		if (thread->slow)
			health->disk_wait_ns += past_ns;
		judge_wait(health, thread, limits);
	} else {
		end_wait(thread);
	}
	thread->steps = sample->steps;
	thread->waits_for = sample->waits_for;
}

/* A thread that is gone is forgotten. */
static void forget_unseen(struct health *health)
{
	size_t kept = 0;
	for (size_t i = 0; i < health->count; i++) {
		if (!health->threads[i].seen)
			continue;
		health->threads[kept] = health->threads[i];
		health->threads[kept++].seen = false;
	}
	health->count = kept;
}

void health_look(struct health *health, const struct activity_sample *samples, size_t count,
	const struct health_limits *limits, uint64_t now_ns)
{
	uint64_t past_ns = health->looked_ns == 0 ? 0 : now_ns - health->looked_ns;
	health->looked_ns = now_ns;
	if (past_ns > LOOK_NS_MAX)
		past_ns = 0;
	for (size_t i = 0; i < count; i++)
		look_at(health, &samples[i], limits, past_ns);
	forget_unseen(health);
}

static void say(struct health_report *report, const struct thread *thread)
{
	if (report->reason[0] != '\0')
		return;
	if (thread->hangs)
		snprintf(report->reason, sizeof(report->reason), "%s hangs", thread->name);
	else
		snprintf(report->reason, sizeof(report->reason), "%s waits for the disk (%s)", thread->name,
			thread->waits_for);
}

void health_report(const struct health *health, struct health_report *ret_report)
{
	struct health_report report = {
		.alive = true, .ready = true, .disk_waits = health->disk_waits, .disk_wait_ns = health->disk_wait_ns};
	for (size_t i = 0; i < health->count; i++) {
		const struct thread *thread = &health->threads[i];
		report.disk_waits_now += thread->slow;
		if (thread->hangs)
			report.alive = false;
		if (thread->hangs || (thread->slow && thread->answers)) {
			report.ready = false;
			say(&report, thread);
		}
	}
	*ret_report = report;
}
