/* health: who hangs, who waits for a slow disk, and who only does nothing. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "activity.h"
#include "clock.h"
#include "health.h"
#include "log.h"

#define STEP_NS (100 * NS_PER_MS)

static const struct health_limits limits = {.slow_ns = NS_PER_SECOND, .hang_ns = 2 * NS_PER_SECOND};
static struct health *health;
static uint64_t now_ns;
static struct activity_sample writer, keeper;

static void set_up(void)
{
	health = health_new();
	now_ns = 1000 * NS_PER_SECOND;
	writer = (struct activity_sample){.name = "writer-0", .answers = true};
	keeper = (struct activity_sample){.name = "keeper"};
	log_set_level(LOG_LEVEL_ERROR);
}

static void tear_down(void)
{
	health_free(health);
}

TestSuite(health, .init = set_up, .fini = tear_down, .timeout = 30);

/* Looks every 100 ms for so long. */
static struct health_report after(uint64_t past_ns)
{
	struct health_report report;
	for (uint64_t until_ns = now_ns + past_ns; now_ns < until_ns;) {
		const struct activity_sample samples[] = {writer, keeper};
		now_ns += STEP_NS;
		health_look(health, samples, 2, &limits, now_ns);
	}
	health_report(health, &report);
	return report;
}

Test(health, who_has_nothing_to_do_is_well)
{
	struct health_report report = after(3600 * NS_PER_SECOND);
	cr_assert(report.alive && report.ready && report.reason[0] == '\0' && report.disk_waits == 0);
}

Test(health, work_and_no_step_hangs)
{
	after(STEP_NS);
	writer.has_work = true;
	cr_assert(after(19 * STEP_NS).alive, "not yet");
	struct health_report report = after(2 * STEP_NS);
	cr_assert(!report.alive && !report.ready && strcmp(report.reason, "writer-0 hangs") == 0, "%s", report.reason);
	cr_assert(report.disk_waits == 0, "that is no wait");
	writer.steps++;
	report = after(STEP_NS);
	cr_assert(report.alive && report.ready && report.reason[0] == '\0', "it gets on again");
	/* One that others wait for, and no client: its hanging is just as bad. */
	keeper.has_work = true;
	for (int i = 0; i < 100; i++) {
		writer.steps++;
		report = after(STEP_NS);
	}
	cr_assert(!report.alive && strcmp(report.reason, "keeper hangs") == 0, "%s", report.reason);
}

Test(health, a_slow_disk_is_not_ready_and_never_a_hang)
{
	writer.has_work = true;
	writer.waits_for = "a sync";
	cr_assert(after(10 * STEP_NS).ready, "not yet");
	struct health_report report = after(3 * STEP_NS);
	cr_assert(report.alive && !report.ready && report.disk_waits == 1 && report.disk_waits_now == 1);
	cr_assert(strcmp(report.reason, "writer-0 waits for the disk (a sync)") == 0, "%s", report.reason);
	report = after(3600 * NS_PER_SECOND);
	cr_assert(report.alive && !report.ready && report.disk_waits == 1, "one wait");
	cr_assert(report.disk_wait_ns > 3590 * NS_PER_SECOND && report.disk_wait_ns < 3610 * NS_PER_SECOND);
	writer.steps++;
	report = after(STEP_NS);
	cr_assert(report.alive && report.ready && report.disk_waits == 1 && report.disk_waits_now == 0, "it is over");
	after(13 * STEP_NS);
	cr_assert(after(STEP_NS).disk_waits == 2, "another one");
}

Test(health, what_no_client_waits_for_is_told_and_ready)
{
	keeper.waits_for = "a sync of the file system";
	struct health_report report = after(20 * STEP_NS);
	cr_assert(report.ready && report.disk_waits == 1 && report.disk_waits_now == 1);
}

Test(health, many_short_waits_are_no_long_one)
{
	writer.has_work = true;
	writer.waits_for = "a sync";
	for (int i = 0; i < 200; i++) {
		writer.steps++;
		cr_assert(after(STEP_NS).ready, "look %d", i);
	}
	cr_assert(after(STEP_NS).disk_waits == 0);
}

Test(health, a_standstill_accuses_nobody)
{
	writer.has_work = true;
	keeper.waits_for = "a sync";
	for (int i = 0; i < 50; i++) {
		now_ns += 3600 * NS_PER_SECOND;
		struct health_report report = after(STEP_NS);
		cr_assert(report.alive && report.ready && report.disk_waits == 0);
	}
}

Test(health, a_thread_that_is_gone_is_forgotten)
{
	struct health_report report;
	writer.has_work = true;
	cr_assert(!after(30 * STEP_NS).alive);
	health_look(health, &keeper, 1, &limits, now_ns + STEP_NS);
	health_report(health, &report);
	cr_assert(report.alive && report.ready);
	/* More than there is room for are not looked at, and do no harm. */
	struct activity_sample many[ACTIVITY_MAX];
	for (unsigned i = 0; i < ACTIVITY_MAX; i++) {
		many[i] = writer;
		snprintf(many[i].name, sizeof(many[i].name), "w%u", i);
	}
	health_look(health, many, ACTIVITY_MAX, &limits, now_ns + 2 * STEP_NS);
	health_look(health, many, ACTIVITY_MAX, &limits, now_ns + 3 * STEP_NS);
	health_report(health, &report);
	cr_assert(report.alive);
}
