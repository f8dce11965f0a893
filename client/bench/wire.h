/*
 * wire: the bytes of one connection: a transport with a buffer for each direction.
 *
 * Owns the transport and the buffers, all from wire_open on. One thread at a time.
 * Invariant: in[0..in_len) was received and not taken yet, out[out_from..out_to) was written and not sent yet. Nothing
 * but wire_open and wire_ask waits.
 */
#ifndef IRONWAL_BENCH_WIRE_H
#define IRONWAL_BENCH_WIRE_H

#include <string.h>

#include "target.h"

struct transport;

struct wire {
	struct transport *transport;
	const struct target *target;
	uint64_t timeout_ns;
	uint8_t *in, *out;
	size_t in_cap, in_len, out_cap, out_from, out_to;
};

/* Connects and greets. ret_facts may be NULL. -1 with the fault; then there is nothing to close. */
int wire_open(struct wire *wire, const struct bench_plan *plan, const struct target *target, size_t in_cap,
	size_t out_cap, struct server_facts *ret_facts, struct fault *fault);
void wire_close(struct wire *wire);
int wire_fd(const struct wire *wire);

/* Room for len bytes behind what is to be sent; there has to be that much besides it. */
static inline uint8_t *wire_room(struct wire *wire, size_t len)
{
	if (wire->out_cap - wire->out_to < len) {
		memmove(wire->out, wire->out + wire->out_from, wire->out_to - wire->out_from);
		wire->out_to -= wire->out_from;
		wire->out_from = 0;
	}
	return wire->out + wire->out_to;
}

/* Sends what goes. *ret_waits: the rest waits for the connection to be writable. */
int wire_flush(struct wire *wire, bool *ret_waits, struct fault *fault);
/* Takes what has come, as far as there is room: 1: and there may be more; 0: that was all. -1: the fault. */
int wire_receive(struct wire *wire, struct fault *fault);
/* The first `count` bytes received have been taken. */
void wire_taken(struct wire *wire, size_t count);

/* Sends one request and waits for the next answer, which is good until the next call. -1: the fault; a failed answer is
 * none. */
int wire_ask(struct wire *wire, const void *request, size_t len, struct answer *ret_answer, struct fault *fault);

#endif
