/* Descriptors that run out in the middle: what could not even be tried has not failed, and costs that request alone. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "chores.h"
#include "engine_fixture.h"

TestSuite(engine_descriptors, .timeout = 60);

static struct fixture f;

static void set_up(void)
{
	fixture_init(&f);
}

static void tear_down(void)
{
	fixture_free(&f);
}

#define DESCRIPTORS_TEST(name) Test(engine_descriptors, name, .init = set_up, .fini = tear_down)

/* The nth open or directory sync finds no descriptor, for every n that a piece of work has, and others go after it. */
static void fail_each(void (*prepare)(void), void (*work)(void), enum sync_mode mode)
{
	for (uint64_t nth = 1;; nth++) {
		f.options.sync_mode = mode;
		f.options.max_open_segments = 1; /* as many as a writer needs: the others are closed again and again */
		fixture_open(&f);
		prepare();
		uint64_t before = sim_faults_fired(f.io);
		/* Eviction makes room for one: it is the same call that fails again then. */
		for (unsigned i = 0; i < 16; i++)
			sim_fail_at(f.io, nth + i, EMFILE, SIM_BIT(SIM_OPEN) | SIM_BIT(SIM_SYNC_DIR));
		work();
		bool fired = sim_faults_fired(f.io) > before;
		sim_fail_clear(f.io);
		cr_assert(!fixture_writer(&f, 0).failed, "a shard stops: %s", fixture_writer(&f, 0).failed_reason);
		for (unsigned i = 0; i < 30; i++) {
			char name[8];
			snprintf(name, sizeof(name), "s%u", i);
			cr_assert(fixture_append(&f, name, 9, 1, 100, APPEND_SYNC, 0).code == ERR_NONE);
			uint64_t end = fixture_info(&f, name).end;
			struct error err;
			cr_assert(fixture_info(&f, name).durable_end == end);
			uint64_t first = fixture_info(&f, name).first;
			cr_assert(fixture_count(&f, name, first, end, &err) == end - first, "%s", err.message);
		}
		fixture_die(&f);
		sim_free(f.io);
		f.io = sim_new(nth);
		if (!fired)
			break;
	}
	fixture_open(&f);
}

static void make_streams(void)
{
	cr_assert(fixture_add_to_many(&f, "s%u", 30, 1) == 0);
}

static void make_streams_twice(void)
{
	for (uint64_t round = 0; round < 2; round++)
		(void)fixture_add_to_many(&f, "s%u", 30, round);
}

static void nothing(void)
{
}

static void add_to_many(void)
{
	for (uint64_t round = 0; round < 3; round++)
		(void)fixture_add_to_many(&f, "s%u", 30, 2 + round);
}

/* Those that are refused are refused so, and the entry is not there: what is there is what was acknowledged. */
static void add_one_by_one(void)
{
	for (uint64_t round = 0; round < 12; round++) {
		struct answer answer = fixture_append(&f, "s3", round, 1, 100,
			round % 3 == 0	 ? APPEND_SYNC
			: round % 3 == 1 ? APPEND_BATCH
					 : 0,
			0);
		if (answer.code == ERR_NONE)
			continue;
		cr_assert(answer.code == ERR_IO && answer.error.os_errno == EMFILE, "%s", answer.error.message);
		cr_assert(answer.error.outcome == OUTCOME_NONE);
	}
}

static void truncate_and_sync(void)
{
	static const char *const names[] = {"s3", NULL};
	struct answer answer = fixture_truncate(&f, "s3", 1);
	cr_assert(answer.code == ERR_NONE || answer.error.os_errno == EMFILE);
	for (unsigned i = 0; i < 2; i++) {
		answer = fixture_sync(&f, names[i]);
		cr_assert(answer.code == ERR_NONE || answer.error.os_errno == EMFILE);
		cr_assert(answer.code == ERR_NONE || answer.error.outcome == OUTCOME_NONE);
	}
	sim_advance(f.io, UINT64_C(2000000000)); /* the interval is over */
	fixture_run(&f);
	sim_advance(f.io, UINT64_C(2000000000));
	fixture_run(&f);
}

DESCRIPTORS_TEST(in_a_group_by_the_journal)
{
	fail_each(make_streams, add_to_many, SYNC_STRICT);
}

DESCRIPTORS_TEST(in_a_group_that_makes_streams)
{
	fail_each(nothing, make_streams_twice, SYNC_BATCH_ONLY);
}

DESCRIPTORS_TEST(in_single_appends)
{
	fail_each(make_streams, add_one_by_one, SYNC_ASYNC);
}

DESCRIPTORS_TEST(when_full_segments_are_closed)
{
	f.options.max_segment_size = 1;
	fail_each(make_streams, add_one_by_one, SYNC_STRICT);
}

DESCRIPTORS_TEST(in_truncations_and_syncs)
{
	f.options.max_segment_size = 1;
	fail_each(add_to_many, truncate_and_sync, SYNC_ASYNC);
}

/* ---- the keeper waits by the clock that does not jump ----------------------------------------------------------- */

int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);

static atomic_bool year_ahead;

int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
	int r = __real_clock_gettime(clock, time);
	if (clock == CLOCK_REALTIME && atomic_load(&year_ahead))
		time->tv_sec += 365 * 24 * 3600;
	return r;
}

struct late_chore {
	struct chore chore;
	unsigned tries;
};

static enum chore_result late_run(struct chore *chore)
{
	return ++((struct late_chore *)chore)->tries < 5 ? CHORE_LATER : CHORE_DONE;
}

Test(chores, what_is_put_off_comes_soon_whatever_the_wall_clock_does, .timeout = 20)
{
	struct chores *chores;
	struct late_chore late = {.chore.run = late_run};
	atomic_store(&year_ahead, true);
	cr_assert(chores_start(true, "test", false, &chores) == 0);
	chores_add(chores, &late.chore);
	chores_drain(chores);
	cr_assert(late.tries == 5);
	chores_stop(chores);
}
