/*
 * client_transport: how the bytes of a connection travel: over a socket, or with TLS in between (client_tls).
 *
 * Owns the descriptor. Used by the thread that uses the connection.
 * Invariant: never blocks; never raises a signal.
 */
#ifndef IRONWAL_CLIENT_TRANSPORT_H
#define IRONWAL_CLIENT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client_error.h"
#include "mem.h"

struct transport;

struct transport_ops {
	/* As recv and send: bytes moved, 0 (read) at the end of the stream, -1 with errno, EAGAIN when it would block.
	 */
	ssize_t (*read)(struct transport *transport, void *bytes, size_t len);
	ssize_t (*write)(struct transport *transport, const void *bytes, size_t len);
	/* To wait on with poll. */
	int (*fd)(const struct transport *transport);
	void (*free)(struct transport *transport);

	/* What follows is NULL where there is nothing between the bytes and the socket. */

	/* Bytes of what was written that the kernel has not taken yet: the next write, also of nothing, sends them. */
	size_t (*held)(const struct transport *transport);
	/* There is something to read of which the descriptor does not tell any more. */
	bool (*has_input)(const struct transport *transport);
	/* It cannot write before the peer has said something, whatever the descriptor tells. */
	bool (*waits_for_peer)(const struct transport *transport);
	/* Why it failed, where errno does not say it all; NULL: it does. */
	const char *(*reason)(const struct transport *transport, bool *ret_established);
};

struct transport {
	const struct transport_ops *ops;
};

static inline size_t transport_held(const struct transport *transport)
{
	return transport->ops->held != NULL ? transport->ops->held(transport) : 0;
}

static inline bool transport_has_input(const struct transport *transport)
{
	return transport->ops->has_input != NULL && transport->ops->has_input(transport);
}

static inline bool transport_waits_for_peer(const struct transport *transport)
{
	return transport->ops->waits_for_peer != NULL && transport->ops->waits_for_peer(transport);
}

/* Absolute, monotonic; DEADLINE_NEVER waits for ever. */
#define DEADLINE_NEVER UINT64_MAX
uint64_t deadline_in_ms(int64_t timeout_ms);
uint64_t deadline_add_ms(uint64_t deadline_ns, uint64_t ms);
/* Until then, rounded up; 0: it has passed; -1: never. */
int64_t deadline_left_ms(uint64_t deadline_ns);
/* poll(2) for events on fd until the deadline, through EINTR. >0 ready, 0 the deadline passed, -1 with errno. */
int deadline_poll(int fd, short events, uint64_t deadline_ns);

/* Over a connected stream socket, which is made non-blocking and belongs to the transport, also after an error (NULL:
 * no memory). */
struct transport *transport_from_socket(const struct mem *mem, int fd);

/* A read or write of the transport failed with this errno. Returns -1. */
int transport_failure(const struct transport *transport, const char *address, int os_errno, ironwal_error *error);

#endif
