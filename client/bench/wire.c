#include "wire.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "client_dial.h"
#include "client_token.h"
#include "client_transport.h"
#include "clock.h"
#include "frame.h"

static uint64_t deadline_of(const struct wire *wire)
{
	uint64_t now_ns = clock_now_ns();
	return wire->timeout_ns < DEADLINE_NEVER - now_ns ? now_ns + wire->timeout_ns : DEADLINE_NEVER;
}

static int connect_to(struct wire *wire, const struct bench_plan *plan, struct fault *fault)
{
	ironwal_error *error = ironwal_error_new();
	if (error == NULL)
		return fault_set(fault, FAULT_HERE, "out of memory");
	wire->transport =
		dial_and_wait(NULL, plan->address, plan->options, plan->token != NULL, deadline_of(wire), error);
	if (wire->transport == NULL)
		fault_set(fault,
			ironwal_error_get_code(error) == IRONWAL_ERR_INVALID_ARGUMENT ? FAULT_USAGE : FAULT_CONNECT,
			"%s", ironwal_error_message(error));
	ironwal_error_free(error);
	return wire->transport != NULL ? 0 : -1;
}

int wire_fd(const struct wire *wire)
{
	return wire->transport->ops->fd(wire->transport);
}

int wire_flush(struct wire *wire, bool *ret_waits, struct fault *fault)
{
	while (wire->out_from < wire->out_to || transport_held(wire->transport) > 0) {
		ssize_t count = wire->transport->ops->write(
			wire->transport, wire->out + wire->out_from, wire->out_to - wire->out_from);
		if (count < 0 && errno == EAGAIN) {
			*ret_waits = true;
			return 0;
		}
		if (count < 0)
			return fault_set(fault, FAULT_LOST, "a connection was lost: %s", strerror(errno));
		wire->out_from += (size_t)count;
	}
	wire->out_from = wire->out_to = 0;
	*ret_waits = false;
	return 0;
}

int wire_receive(struct wire *wire, struct fault *fault)
{
	size_t room = wire->in_cap - wire->in_len;
	ssize_t count = wire->transport->ops->read(wire->transport, wire->in + wire->in_len, room);
	if (count < 0 && errno == EAGAIN)
		return 0;
	if (count < 0)
		return fault_set(fault, FAULT_LOST, "a connection was lost: %s", strerror(errno));
	if (count == 0)
		return fault_set(fault, FAULT_LOST, "a connection was lost: the server closed it");
	wire->in_len += (size_t)count;
	return (size_t)count == room || transport_has_input(wire->transport);
}

void wire_taken(struct wire *wire, size_t count)
{
	wire->in_len -= count;
	if (count > 0)
		memmove(wire->in, wire->in + count, wire->in_len);
}

static int await(struct wire *wire, short events, uint64_t deadline_ns, struct fault *fault)
{
	int ready = deadline_poll(wire_fd(wire), events, deadline_ns);
	if (ready == 0)
		return fault_set(fault, FAULT_LOST, "there was no answer in time");
	return ready > 0 ? 0 : fault_set(fault, FAULT_HERE, "poll: %s", strerror(errno));
}

int wire_ask(struct wire *wire, const void *request, size_t len, struct answer *ret_answer, struct fault *fault)
{
	uint64_t deadline_ns = deadline_of(wire);
	bool waits;
	/* The one before has been read. */
	wire->in_len = 0;
	memcpy(wire_room(wire, len), request, len);
	wire->out_to += len;
	for (;;) {
		if (wire_flush(wire, &waits, fault) != 0)
			return -1;
		if (!waits)
			break;
		if (await(wire, POLLOUT, deadline_ns, fault) != 0)
			return -1;
	}
	/* Reads before it waits: a transport may hold bytes that its descriptor does not tell of any more. */
	for (;;) {
		int more = wire_receive(wire, fault);
		if (more < 0)
			return -1;
		switch (wire->target->parse(wire->in, wire->in_len, wire->in_cap - FRAME_LENGTH_BYTES, ret_answer)) {
		case PARSE_MORE:
			break;
		case PARSE_ANSWER:
			return 0;
		case PARSE_MALFORMED:
			return fault_set(fault, FAULT_LOST, "a malformed answer: %s", ret_answer->error);
		}
		if (more == 0 && await(wire, POLLIN, deadline_ns, fault) != 0)
			return -1;
	}
}

static int greet(struct wire *wire, const struct bench_plan *plan, struct server_facts *ret_facts, struct fault *fault)
{
	struct buf hello = {0};
	struct answer answer;
	struct server_facts facts;
	if (wire->target->greet == NULL)
		return 0;
	if (wire->target->greet(plan, &hello) != 0 || hello.len > wire->out_cap) {
		buf_free(&hello);
		return fault_set(fault, FAULT_HERE, "out of memory");
	}
	int result = wire_ask(wire, hello.data, hello.len, &answer, fault);
	buf_free(&hello);
	if (result != 0)
		return -1;
	if (answer.failed || wire->target->read_greeting(&answer, &facts) != 0)
		return fault_set(
			fault, FAULT_CONNECT, "the server refused the connection: %s (%s)", answer.error, answer.code);
	wire->in_len = 0;
	if (ret_facts != NULL)
		*ret_facts = facts;
	return 0;
}

int wire_open(struct wire *wire, const struct bench_plan *plan, const struct target *target, size_t in_cap,
	size_t out_cap, struct server_facts *ret_facts, struct fault *fault)
{
	if (out_cap < BENCH_REQUEST_OVERHEAD_BYTES + TOKEN_BYTES_MAX)
		out_cap = BENCH_REQUEST_OVERHEAD_BYTES + TOKEN_BYTES_MAX;
	*wire = (struct wire){
		.target = target,
		.timeout_ns = plan->timeout_ns,
		.in = malloc(in_cap),
		.out = malloc(out_cap),
		.in_cap = in_cap,
		.out_cap = out_cap,
	};
	int result = -1;
	if (wire->in == NULL || wire->out == NULL)
		fault_set(fault, FAULT_HERE, "out of memory");
	else if (connect_to(wire, plan, fault) == 0)
		result = greet(wire, plan, ret_facts, fault);
	if (result != 0)
		wire_close(wire);
	return result;
}

void wire_close(struct wire *wire)
{
	if (wire->transport != NULL)
		wire->transport->ops->free(wire->transport);
	free(wire->in);
	free(wire->out);
	*wire = (struct wire){0};
}
