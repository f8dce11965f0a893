#include "client_transport.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client_memory.h"
#include "clock.h"

/* ---- deadlines ---- */

uint64_t deadline_add_ms(uint64_t deadline_ns, uint64_t ms)
{
	if (deadline_ns == DEADLINE_NEVER || ms > (DEADLINE_NEVER - deadline_ns) / NS_PER_MS)
		return DEADLINE_NEVER;
	return deadline_ns + ms * NS_PER_MS;
}

uint64_t deadline_in_ms(int64_t timeout_ms)
{
	if (timeout_ms < 0)
		return DEADLINE_NEVER;
	return deadline_add_ms(clock_now_ns(), (uint64_t)timeout_ms);
}

int64_t deadline_left_ms(uint64_t deadline_ns)
{
	if (deadline_ns == DEADLINE_NEVER)
		return -1;
	uint64_t now_ns = clock_now_ns();
	return deadline_ns <= now_ns ? 0 : (int64_t)((deadline_ns - now_ns - 1) / NS_PER_MS + 1);
}

int deadline_poll(int fd, short events, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = fd, .events = events};
	for (;;) {
		/* Rounded up: a poll that ends early by a fraction would spin. */
		int64_t left_ms = deadline_left_ms(deadline_ns);
		int n = poll(&p, 1, left_ms > 1000000 ? 1000000 : (int)left_ms);
		if (n > 0 || (n < 0 && errno != EINTR))
			return n;
		if (n == 0 && deadline_ns != DEADLINE_NEVER && clock_now_ns() >= deadline_ns)
			return 0;
	}
}

/* ---- sockets ---- */

struct socket_transport {
	struct transport base;
	int fd;
};

static ssize_t socket_read(struct transport *transport, void *bytes, size_t len)
{
	ssize_t n;
	do {
		n = recv(((struct socket_transport *)transport)->fd, bytes, len, 0);
	} while (n < 0 && errno == EINTR);
	return n;
}

static ssize_t socket_write(struct transport *transport, const void *bytes, size_t len)
{
	ssize_t n;
	do {
		n = send(((struct socket_transport *)transport)->fd, bytes, len, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n;
}

static int socket_fd(const struct transport *transport)
{
	return ((const struct socket_transport *)transport)->fd;
}

static void socket_free(struct transport *transport)
{
	close(((struct socket_transport *)transport)->fd);
	block_free(transport);
}

static const struct transport_ops socket_ops = {
	.read = socket_read, .write = socket_write, .fd = socket_fd, .free = socket_free};

struct transport *transport_from_socket(const struct mem *mem, int fd)
{
	struct socket_transport *s = block_alloc(mem, sizeof(*s));
	int flags = fcntl(fd, F_GETFL);
	if (s == NULL || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		block_free(s);
		close(fd);
		return NULL;
	}
	s->base.ops = &socket_ops;
	s->fd = fd;
	return &s->base;
}

int transport_failure(const struct transport *transport, const char *address, int os_errno, ironwal_error *error)
{
	bool established = true;
	const char *reason = transport->ops->reason != NULL ? transport->ops->reason(transport, &established) : NULL;
	if (!established && reason != NULL)
		return cerr_set(error, IRONWAL_ERR_CONNECT, "cannot connect to %s: %s", address, reason);
	if (reason != NULL)
		return cerr_set(
			error, IRONWAL_ERR_CONNECTION_LOST, "the connection to %s was lost: %s", address, reason);
	return cerr_set_errno(error, IRONWAL_ERR_CONNECTION_LOST, os_errno, "the connection to %s was lost", address);
}
