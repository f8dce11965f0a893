#include <sys/resource.h>

#include "fd_budget.h"

/* fs.nr_open may be far above; what is behind this is never used and only slows down programs that walk the limit. */
#define FD_LIMIT_MAX UINT64_C(4194304)

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Takes up to *excess from *count, which stays at least `floor` (or where it was, if it was lower). */
static void give_up(uint32_t *count, uint32_t floor, uint64_t *excess)
{
	uint32_t can = *count > floor ? *count - floor : 0;
	uint32_t take = *excess < can ? (uint32_t)*excess : can;

	*count -= take;
	*excess -= take;
}

uint64_t fd_budget_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 1024;
	if (limit.rlim_cur < limit.rlim_max) {
		struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
		if (raised.rlim_cur > FD_LIMIT_MAX)
			raised.rlim_cur = limit.rlim_cur > FD_LIMIT_MAX ? limit.rlim_cur : FD_LIMIT_MAX;
		if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
			limit = raised;
	}
	return limit.rlim_cur;
}

bool fd_budget_fit(struct fd_budget *budget)
{
	const uint32_t writers = min_u32(budget->shards, FD_WRITERS_MAX);
	const uint32_t floor = FD_SEGMENTS_BASE + FD_SEGMENTS_PER_WRITER * writers;
	const uint64_t fixed = FD_RESERVE + UINT64_C(2) * writers + budget->listeners + budget->others;
	uint64_t excess;

	if (budget->segments < floor)
		budget->segments = floor;
	budget->minimum = fixed + min_u32(budget->connections, FD_MIN_CONNECTIONS) + floor;
	budget->wanted = fixed + budget->connections + budget->segments;
	if (budget->limit < budget->minimum)
		return false;
	if (budget->limit >= budget->wanted)
		return true;
	excess = budget->wanted - budget->limit;
	give_up(&budget->connections, 16, &excess);
	give_up(&budget->segments, floor, &excess);
	give_up(&budget->connections, FD_MIN_CONNECTIONS, &excess);
	return true;
}
