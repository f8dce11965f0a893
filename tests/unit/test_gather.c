/* When requests are kept for those that are about to come, and when they go at once. */
#include <criterion/criterion.h>

#include "gather.h"

#define ANSWER_NS UINT64_C(100000)

static struct gather gather;
static uint64_t now_ns, since_ns; /* since_ns: 0: none wait */

static void begin(void)
{
	gather = (struct gather){0};
	now_ns = 1000000000;
	since_ns = 0;
}

TestSuite(gather, .init = begin);

/* A turn in which so many have come, none at the writers, after a while. */
static bool kept(uint64_t waiting, uint64_t passed_ns)
{
	now_ns += passed_ns;
	if (since_ns == 0)
		since_ns = now_ns;
	bool keep = gather_keep(&gather, waiting, waiting, since_ns, now_ns);
	if (!keep)
		since_ns = 0;
	return keep;
}

/* The same while others are at the writers. */
static bool goes_on(uint64_t waiting, uint64_t held)
{
	since_ns = 0;
	return gather_keep(&gather, waiting, held, now_ns, now_ns);
}

static void answer(void)
{
	now_ns += ANSWER_NS;
	gather_answered(&gather, now_ns);
}

/* So many go together, and are answered. */
static void together(uint64_t count)
{
	while (kept(count, 1000))
		;
	answer();
}

/* Until the rest is over. */
static void rest(void)
{
	for (unsigned i = 0; i < GATHER_REST; i++) {
		cr_assert(!kept(1, 1000), "%u", i);
		cr_assert(!goes_on(16, 32)); /* they are still that many */
	}
}

Test(gather, one_alone_never_waits)
{
	for (unsigned i = 0; i < 1000; i++) {
		cr_assert(!kept(1, 1000), "%u", i);
		answer();
	}
}

Test(gather, they_go_when_as_many_have_come_as_before)
{
	together(16);
	for (unsigned round = 0; round < 100; round++) {
		for (uint64_t waiting = 1; waiting < 15; waiting++)
			cr_assert(kept(waiting, 1000), "%u: %lu", round, (unsigned long)waiting);
		cr_assert(!kept(16, 1000));
		answer();
	}
}

Test(gather, or_when_it_lasts_as_long_as_an_answer)
{
	together(16);
	cr_assert(kept(4, 0) && kept(6, ANSWER_NS - 2000) && !kept(8, 3000));
	for (unsigned i = 0; i < 100; i++) { /* a slow disk */
		now_ns += 100 * ANSWER_NS;
		together(16);
		now_ns += 100 * ANSWER_NS;
		answer();
	}
	for (unsigned i = 0; i < 100; i++) {
		while (kept(16, 1000))
			;
		now_ns += 10000 * ANSWER_NS;
		gather_answered(&gather, now_ns);
	}
	cr_assert(kept(4, 0) && kept(8, GATHER_NS - 1) && !kept(8, 1), "a slow disk makes nobody wait for long");
}

/* Nothing is kept that has waited for as long already: the loop was long in taking in what has come. */
Test(gather, what_took_long_to_come_goes)
{
	together(64);
	cr_assert(!gather_keep(&gather, 50, 50, now_ns - ANSWER_NS, now_ns));
	answer();
	cr_assert(gather_keep(&gather, 50, 50, now_ns - ANSWER_NS / 2, now_ns));
}

Test(gather, nobody_waits_for_those_that_wait_for_a_writer)
{
	together(16);
	cr_assert(!goes_on(3, 4), "while one is at work they go and queue up there");
	cr_assert(kept(3, 0) && !goes_on(3, 4), "nor if it begins meanwhile");
}

Test(gather, those_that_stay_away_are_forgotten)
{
	together(64);
	together(2);
	cr_assert(kept(2, 1000), "not at once");
	for (unsigned i = 0; i < 200; i++)
		together(2);
	for (unsigned i = 0; i < 200; i++) {
		cr_assert(!kept(2, 1000), "%u: two still wait for 62 that are gone", i);
		answer();
	}
}

Test(gather, all_that_there_are_is_enough)
{
	together(16);
	for (unsigned i = 0; i < 3 * GATHER_VAIN_MAX; i++) {
		cr_assert(kept(10, 1000), "%u", i);
		cr_assert(!kept(16, 1000)); /* not twice as many */
		answer();
	}
}

Test(gather, where_nobody_joins_it_gives_up_for_a_while)
{
	together(16);
	for (unsigned i = 0; i < GATHER_VAIN_MAX; i++) {
		cr_assert(kept(4, 0), "%u", i);
		cr_assert(!kept(5, GATHER_NS)); /* not twice as many */
		cr_assert(!goes_on(11, 16));
		answer();
	}
	rest();
	cr_assert(kept(4, 0));
	/* What was in vain is only counted in a row. */
	for (unsigned i = 0; i < 10 * GATHER_VAIN_MAX; i++) {
		cr_assert(!kept(i % 2 == 0 ? 8 : 4, GATHER_NS));
		cr_assert(!goes_on(11, 16));
		answer();
		cr_assert(kept(4, 0), "%u", i);
	}
}
