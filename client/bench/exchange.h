/*
 * exchange: one request out, one answer in: the part of traffic that runs for each of them.
 *
 * Owns nothing: all of it belongs to the struct traffic, which only traffic.c makes. One thread. Nothing here waits or
 * allocates.
 * Invariant: a slot is busy from exchange_send on until its answer was taken.
 */
#ifndef IRONWAL_BENCH_EXCHANGE_H
#define IRONWAL_BENCH_EXCHANGE_H

#include "traffic.h"
#include "wire.h"

/* A place for one request in flight. */
struct slot {
	uint64_t sent_ns;
	uint64_t order; /* the how manieth of its connection */
	uint64_t wanted_id;
	uint64_t serial; /* of its first entry, with plan.verify */
	uint32_t at;	 /* name or log, as op has it */
	enum bench_op op;
	bool busy;
};

/* What the latest request of this connection to one name was given: later ones must get more. */
struct given {
	uint64_t order, first, end;
};

struct conn {
	struct wire wire;
	bool waits;	     /* to send */
	uint64_t sent, turn; /* requests of all phases; turn picks the name, and where an iter begins */
	uint64_t serial;     /* of the next entry */
	size_t oldest;	     /* slot whose answer is next, where answers come in order */
	struct slot *slots;
	struct given *given; /* NULL: not checked */
};

struct traffic {
	const struct bench_plan *plan;
	const struct requests *requests;
	const struct target *target;
	struct acked *acked; /* NULL: nothing is recorded */
	atomic_int *stop;
	int epoll_fd;
	struct conn *conns;
	size_t conns_count;
	struct extent *extents;
	uint32_t *readable; /* logs that can be read, in a phase that only reads */
	size_t readable_count;
	uint64_t random, filling; /* states of two generators: what is chosen, what fills entries */
	uint64_t weights_sum;
	/* of the phase that runs */
	struct phase phase;
	struct phase_result *result;
	uint64_t sent, inflight, last_answer_ns;
	size_t depth; /* requests in flight on each connection */
	bool over, over_by_time;
};

void exchange_send(struct traffic *traffic, struct conn *conn, size_t index, uint64_t now_ns);
/* Takes the answers that are there, and sends a request for each until the phase is over. -1: the fault. */
int exchange_take(struct traffic *traffic, struct conn *conn, struct fault *fault);

/* Whether another request may be sent. */
bool exchange_may_send(const struct traffic *traffic);

/* xorshift64*: quick. */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state;
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * UINT64_C(0x2545f4914f6cdd1d);
}

#endif
