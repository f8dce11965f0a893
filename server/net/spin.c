#include "spin.h"

#include "cores.h"

void spin_init(struct spin *spin)
{
	spin->cores = cores_usable();
	spin->spinning = false;
	spin->vain = spin->rest = 0;
	spin->happened_ns = 0;
	atomic_init(&spin->awake, false);
}

bool spin_go_on(struct spin *spin, uint64_t ops, uint32_t writers, uint64_t happened_ns, uint64_t now_ns)
{
	if (writers >= spin->cores || ops < SPIN_OPS_MIN) {
		spin->spinning = false;
		return false;
	}
	if (happened_ns != spin->happened_ns) { /* a new wait */
		spin->happened_ns = happened_ns;
		if (spin->spinning)
			spin->vain = 0;
		spin->spinning = spin->rest == 0;
		spin->rest -= spin->rest > 0;
	}
	if (!spin->spinning)
		return false;
	if (now_ns - happened_ns < SPIN_NS)
		return true;
	spin->spinning = false;
	if (++spin->vain == SPIN_VAIN_MAX) {
		spin->vain = 0;
		spin->rest = SPIN_REST;
	}
	return false;
}
