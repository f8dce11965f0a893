/*
 * client_transport: how the bytes of a connection travel. TLS will be another set of the same operations.
 *
 * Owns the descriptor. Used by the thread that uses the connection.
 * Invariant: never blocks; never raises a signal.
 */
#ifndef IRONWAL_CLIENT_TRANSPORT_H
#define IRONWAL_CLIENT_TRANSPORT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

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
};

struct transport {
	const struct transport_ops *ops;
};

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

#endif
