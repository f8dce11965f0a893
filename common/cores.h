/* cores: how many this process may run on. Any thread. */
#ifndef IRONWALD_CORES_H
#define IRONWALD_CORES_H

#include <sched.h>

/* At least 1: also where the kernel has more cores than its answer has room for. */
static inline unsigned cores_usable(void)
{
	cpu_set_t cores;
	return sched_getaffinity(0, sizeof(cores), &cores) == 0 ? (unsigned)CPU_COUNT(&cores) : 1;
}

#endif
