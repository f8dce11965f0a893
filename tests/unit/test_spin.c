/* When the loop stays awake for the writers, and when it does not. */
#include <criterion/criterion.h>

#include "spin.h"

static struct spin spin;
static uint64_t now_ns;

static void begin(void)
{
	spin_init(&spin);
	spin.cores = 2; /* whatever this machine has */
	now_ns = 1000000;
}

/* One wait in which something happens after so long: whether the loop was awake then. */
static bool wait_for(uint64_t ns)
{
	uint64_t happened_ns = now_ns, end_ns = now_ns + ns;
	bool awake = true;
	for (; awake && now_ns < end_ns; now_ns += 10000)
		awake = spin_go_on(&spin, 16, 1, happened_ns, now_ns);
	now_ns = end_ns;
	return awake;
}

TestSuite(spin, .init = begin);

Test(spin, it_is_awake_for_a_short_wait_and_sleeps_in_a_long_one)
{
	for (unsigned i = 0; i < 1000; i++)
		cr_assert(wait_for(SPIN_NS - 10000));
	cr_assert(!wait_for(2 * SPIN_NS));
	cr_assert(wait_for(SPIN_NS - 10000));
}

Test(spin, one_request_is_not_worth_it_nor_is_a_core_that_a_writer_wants)
{
	cr_assert(!spin_go_on(&spin, 0, 0, now_ns, now_ns));
	cr_assert(!spin_go_on(&spin, SPIN_OPS_MIN - 1, 1, now_ns, now_ns));
	cr_assert(spin_go_on(&spin, SPIN_OPS_MIN, 1, now_ns, now_ns));
	cr_assert(!spin_go_on(&spin, SPIN_OPS_MIN, 2, now_ns, now_ns));
	spin.cores = 4;
	now_ns++;
	cr_assert(spin_go_on(&spin, SPIN_OPS_MIN, 3, now_ns, now_ns));
	cr_assert(!spin_go_on(&spin, SPIN_OPS_MIN, 4, now_ns, now_ns));
	spin.cores = 1;
	cr_assert(!spin_go_on(&spin, SPIN_OPS_MIN, 1, now_ns, now_ns));
}

Test(spin, behind_a_slow_disk_it_gives_up_for_a_while)
{
	for (unsigned i = 0; i < SPIN_VAIN_MAX; i++)
		cr_assert(!wait_for(5 * SPIN_NS));
	for (unsigned i = 0; i < SPIN_REST; i++) {
		uint64_t happened_ns = now_ns;
		cr_assert(!spin_go_on(&spin, 16, 1, happened_ns, now_ns), "%u", i);
		cr_assert(!spin_go_on(&spin, 16, 1, happened_ns, now_ns + 10), "%u", i);
		now_ns += 1000;
	}
	cr_assert(wait_for(SPIN_NS / 2));
	/* What was in vain is only counted in a row. */
	for (unsigned i = 0; i < 10 * SPIN_VAIN_MAX; i++) {
		cr_assert(!wait_for(5 * SPIN_NS), "%u", i);
		cr_assert(wait_for(SPIN_NS / 2), "%u", i);
	}
}

Test(spin, whoever_asks_is_told)
{
	cr_assert(!spin_awake(&spin));
	spin_set_awake(&spin, true);
	cr_assert(spin_awake(&spin));
	spin_set_awake(&spin, false);
	cr_assert(!spin_awake(&spin));
}
