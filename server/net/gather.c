#include "gather.h"

/* Of a mean of so many. */
#define SHARE 8u
/* in_flight goes down by one part in so many each time that a writer begins. */
#define DECAY 16u

static bool may_wait(const struct gather *gather, uint64_t waiting, uint64_t waited_ns)
{
	uint64_t most_ns = gather->answer_ns < GATHER_NS ? gather->answer_ns : GATHER_NS;
	return waiting < gather->in_flight && waited_ns < most_ns;
}

/* What is kept goes: was it worth it? */
static void judge(struct gather *gather, uint64_t waiting)
{
	if (waiting >= gather->in_flight || waiting >= 2 * gather->first) {
		gather->vain = 0;
	} else if (++gather->vain == GATHER_VAIN_MAX) {
		gather->vain = 0;
		gather->rest = GATHER_REST;
	}
	gather->first = 0;
}

bool gather_keep(struct gather *gather, uint64_t waiting, uint64_t held, uint64_t since_ns, uint64_t now_ns)
{
	bool none_at_work = held == waiting;
	if (none_at_work && gather->rest == 0 && may_wait(gather, waiting, now_ns - since_ns)) {
		if (gather->first == 0)
			gather->first = waiting;
		return true;
	}
	if (gather->first > 0)
		judge(gather, waiting);
	else if (none_at_work)
		gather->rest -= gather->rest > 0;
	if (none_at_work) {
		gather->in_flight -= (gather->in_flight + DECAY - 1) / DECAY;
		gather->gone_ns = now_ns;
	}
	if (gather->in_flight < held)
		gather->in_flight = held;
	return false;
}

void gather_answered(struct gather *gather, uint64_t now_ns)
{
	if (gather->gone_ns == 0)
		return;
	uint64_t took_ns = now_ns - gather->gone_ns;
	gather->gone_ns = 0;
	if (gather->answer_ns == 0)
		gather->answer_ns = took_ns;
	else
		gather->answer_ns = gather->answer_ns - gather->answer_ns / SHARE + took_ns / SHARE;
}
