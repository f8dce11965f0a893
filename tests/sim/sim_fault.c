/*
 * What befalls a call: it is counted, the power may go at it, a fault may be waiting for it. And the knobs.
 */
#include "sim_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void *sim_alloc(size_t size)
{
	void *memory = calloc(1, size);

	if (!memory) {
		fputs("sim: out of memory\n", stderr);
		abort();
	}
	return memory;
}

uint64_t rng_next(struct rng *rng)
{
	/* splitmix64: any state is good, also 0. */
	uint64_t z = rng->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t rng_below(struct rng *rng, uint64_t limit)
{
	return rng_next(rng) % limit;
}

static bool syncs(enum sim_kind kind)
{
	return kind == SIM_SYNC || kind == SIM_SYNC_DIR || kind == SIM_SYNC_ALL;
}

struct verdict sim_judge(struct sim *sim, enum sim_kind kind, bool changes)
{
	struct verdict verdict = {.apply = true};

	if (sim->dead)
		return (struct verdict){.rc = -EIO};
	sim->counts[kind]++;
	if (changes) {
		sim->op_count++;
		if (sim->cut_armed && sim->cut_left-- == 0) {
			sim->dead = true;
			return (struct verdict){.rc = -EIO, .apply = !syncs(kind)};
		}
	}
	for (size_t i = 0; i < FAULTS_MAX; i++) {
		struct fault *fault = &sim->faults[i];

		if (fault->left == 0 || !(fault->kinds & SIM_BIT(kind)))
			continue;
		if (fault->left > 1) {
			fault->left--;
			continue;
		}
		if (!(fault->kinds & SIM_EVERY))
			fault->left = 0;
		if (verdict.fault)
			continue; /* one fault a call; the other had its turn too */
		const bool torn = kind == SIM_PWRITE && (fault->kinds & SIM_TORN);
		verdict = (struct verdict){.rc = -fault->os_errno, .apply = torn, .torn = torn, .fault = true};
		sim->faults_fired++;
	}
	return verdict;
}

void sim_fail_at(struct io *io, uint64_t nth, int os_errno, uint32_t kinds)
{
	struct sim *sim = sim_of(io);

	for (size_t i = 0; i < FAULTS_MAX; i++) {
		if (sim->faults[i].left > 0)
			continue;
		sim->faults[i] = (struct fault){.left = nth, .os_errno = os_errno, .kinds = kinds};
		return;
	}
	fputs("sim: too many faults armed at once\n", stderr);
	abort();
}

void sim_fail_clear(struct io *io)
{
	for (size_t i = 0; i < FAULTS_MAX; i++)
		sim_of(io)->faults[i].left = 0;
}

uint64_t sim_faults_fired(const struct io *io)
{
	return sim_of(io)->faults_fired;
}

void sim_cut_power_after(struct io *io, uint64_t operations)
{
	sim_of(io)->cut_armed = true;
	sim_of(io)->cut_left = operations;
}

void sim_cut_power_never(struct io *io)
{
	sim_of(io)->cut_armed = false;
}

bool sim_is_dead(const struct io *io)
{
	return sim_of(io)->dead;
}

void sim_set_capacity(struct io *io, uint64_t bytes)
{
	sim_of(io)->capacity_blocks = bytes == 0 ? 0 : bytes < PAGE_BYTES ? 1 : bytes / PAGE_BYTES;
}

uint64_t sim_used_bytes(const struct io *io)
{
	return sim_of(io)->used_blocks * PAGE_BYTES;
}

void sim_set_max_open(struct io *io, uint64_t descriptors)
{
	sim_of(io)->max_open = descriptors;
}

void sim_set_cold_reads(struct io *io, unsigned per_mille)
{
	sim_of(io)->cold_per_mille = per_mille;
}

void sim_set_no_allocate(struct io *io, bool unsupported)
{
	sim_of(io)->no_allocate = unsupported;
}

uint64_t sim_count(const struct io *io, enum sim_kind kind)
{
	return sim_of(io)->counts[kind];
}

uint64_t sim_op_count(const struct io *io)
{
	return sim_of(io)->op_count;
}

uint64_t sim_open_count(const struct io *io)
{
	return sim_of(io)->open_count;
}

uint64_t sim_open_high(const struct io *io)
{
	return sim_of(io)->open_high;
}

uint64_t sim_closed_unsynced(const struct io *io)
{
	return sim_of(io)->closed_unsynced;
}

void sim_advance(struct io *io, uint64_t ns)
{
	sim_of(io)->monotonic += ns;
}

void sim_set_wall(struct io *io, uint64_t unix_ns)
{
	sim_of(io)->wall_offset = unix_ns - sim_of(io)->monotonic;
}
