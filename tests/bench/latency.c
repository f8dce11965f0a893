#include "latency.h"

#include <stdlib.h>
#include <string.h>

#include "histogram.h"

struct latency {
	struct histogram ns;
};

struct latency *latency_new(void)
{
	return calloc(1, sizeof(struct latency));
}

void latency_free(struct latency *latency)
{
	free(latency);
}

void latency_clear(struct latency *latency)
{
	memset(latency, 0, sizeof(*latency));
}

void latency_add(struct latency *latency, uint64_t ns)
{
	histogram_add(&latency->ns, ns);
}

uint64_t latency_count(const struct latency *latency)
{
	return latency->ns.count;
}

double latency_us_at(const struct latency *latency, double share)
{
	return (double)histogram_at(&latency->ns, share) / 1e3;
}
