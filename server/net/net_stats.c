#include "net_stats.h"

void histogram_add(struct histogram *histogram, uint64_t value)
{
	unsigned bucket = value == 0 ? 0 : 63 - (unsigned)__builtin_clzll(value);
	if (bucket >= HISTOGRAM_BUCKETS)
		bucket = HISTOGRAM_BUCKETS - 1;
	histogram->buckets[bucket]++;
	histogram->count++;
	histogram->sum += value;
	if (value > histogram->max)
		histogram->max = value;
}

uint64_t histogram_percentile(const struct histogram *histogram, unsigned percent)
{
	uint64_t below = 0;
	/* The rank, rounded up, without overflow for any count. */
	uint64_t rank = histogram->count / 100 * percent + (histogram->count % 100 * percent + 99) / 100;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS && rank > 0; i++) {
		below += histogram->buckets[i];
		if (below >= rank) {
			uint64_t bound = (UINT64_C(2) << i) - 1;
			return bound < histogram->max ? bound : histogram->max;
		}
	}
	return histogram->count == 0 ? 0 : histogram->max;
}
