/*
 * spin: for a moment the loop looks again and again whether its requests are answered, instead of going to sleep.
 *
 * To be woken on another core costs a good part of a sync, for the writer that wakes and for the loop. So, where
 * several requests are at the writers, the loop stays awake for up to SPIN_NS after the last thing that happened, and
 * writers need not wake it. One request alone gains nothing by it; nor is it done where a writer might want the core; a
 * disk that is slower than that makes it give up for a while. Owns that decision. Loop thread only, but for spin_awake.
 * Invariant: if spin_awake said that the loop is awake, it looks for completions before it sleeps.
 */
#ifndef IRONWALD_SPIN_H
#define IRONWALD_SPIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SPIN_NS UINT64_C(150000)
/* Fewer requests are not worth it. */
#define SPIN_OPS_MIN 2
/* After so many waits in a row that were longer, so many are slept through from their beginning. */
#define SPIN_VAIN_MAX 8
#define SPIN_REST 64

struct spin {
	unsigned cores;
	bool spinning; /* since the last thing that happened */
	unsigned vain, rest;
	uint64_t happened_ns; /* the wait that was decided on last */
	atomic_bool awake;
};

void spin_init(struct spin *spin);

/* Before the loop would sleep: whether it is to look again at once. ops: requests at so many writers; happened_ns: when
 * bytes or completions came last. */
bool spin_go_on(struct spin *spin, uint64_t ops, uint32_t writers, uint64_t happened_ns, uint64_t now_ns);

/* Each side says its own first, and then looks at the other's: a fence in between, on both, so that one of them sees
 * it.
 */

/* [any] Whether the loop will find, by itself, what the caller has made ready for it. */
static inline bool spin_awake(const struct spin *spin)
{
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load_explicit(&spin->awake, memory_order_relaxed);
}

/* The loop sleeps next, or does not. After `false` it has to look once more for what came before that was known. */
static inline void spin_set_awake(struct spin *spin, bool awake)
{
	atomic_store_explicit(&spin->awake, awake, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
}

#endif
