#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "client_transport.h"

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

int deadline_poll(int fd, short events, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = fd, .events = events};
	for (;;) {
		int wait_ms = -1;
		if (deadline_ns != DEADLINE_NEVER) {
			uint64_t now = clock_now_ns();
			/* Rounded up: a poll that ends early by a fraction would spin. */
			uint64_t left_ms = now >= deadline_ns ? 0 : (deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS;
			wait_ms = left_ms > 1000000 ? 1000000 : (int)left_ms;
		}
		int n = poll(&p, 1, wait_ms);
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
	free(transport);
}

static const struct transport_ops socket_ops = {socket_read, socket_write, socket_fd, socket_free};

struct transport *transport_from_socket(int fd)
{
	struct socket_transport *s = malloc(sizeof(*s));
	int flags = fcntl(fd, F_GETFL);
	if (s == NULL || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		free(s);
		close(fd);
		return NULL;
	}
	s->base.ops = &socket_ops;
	s->fd = fd;
	return &s->base;
}

/* ---- connecting ---- */

/* A connected descriptor, or -1 with errno. */
static int connect_one(const struct sockaddr *sa, socklen_t sa_len, uint64_t deadline_ns)
{
	int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	int failure = 0;
	/* EINTR on a non-blocking socket: the connection goes on in the background, as with EINPROGRESS. */
	if (connect(fd, sa, sa_len) != 0) {
		failure = errno;
		if (failure == EINPROGRESS || failure == EINTR) {
			int n = deadline_poll(fd, POLLOUT, deadline_ns);
			socklen_t len = sizeof(failure);
			if (n == 0)
				failure = ETIMEDOUT;
			else if (n < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &len) != 0)
				failure = errno;
		}
	}
	if (failure != 0) {
		close(fd);
		errno = failure;
		return -1;
	}
	if (sa->sa_family != AF_UNIX) {
		int on = 1;
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	}
	return fd;
}

static int connect_failed(ironwal_error *error, int os_errno, const char *address)
{
	if (os_errno == ETIMEDOUT)
		return cerr_set_errno(error, IRONWAL_ERR_TIMEOUT, os_errno, "cannot connect to %s", address);
	return cerr_set_errno(error, IRONWAL_ERR_CONNECT, os_errno,
		"cannot connect to %s (does ironwald run, and listen there?)", address);
}

static int connect_unix(const char *address, const char *path, uint64_t deadline_ns, ironwal_error *error)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	size_t len = strlen(path);
	if (len == 0 || len >= sizeof(sun.sun_path))
		return cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT,
			"address %s: the path of a Unix socket has 1 to %zu bytes", address, sizeof(sun.sun_path) - 1);
	memcpy(sun.sun_path, path, len + 1);
	/* A full backlog is EAGAIN, and there is nothing to poll for: try again until the deadline. */
	for (;;) {
		int fd = connect_one((const struct sockaddr *)&sun, sizeof(sun), deadline_ns);
		if (fd >= 0)
			return fd;
		if (errno != EAGAIN)
			return connect_failed(error, errno, address);
		if (clock_now_ns() >= deadline_ns)
			return connect_failed(error, ETIMEDOUT, address);
		(void)poll(NULL, 0, 10);
	}
}

static int connect_tcp(const char *address, const char *rest, uint64_t deadline_ns, ironwal_error *error)
{
	char host[256];
	const char *colon = strrchr(rest, ':');
	size_t host_len = colon != NULL ? (size_t)(colon - rest) : 0;
	if (host_len >= 2 && rest[0] == '[' && rest[host_len - 1] == ']') {
		rest++;
		host_len -= 2;
	}
	if (colon == NULL || host_len == 0 || host_len >= sizeof(host) || colon[1] == '\0')
		return cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT, "address %s: expected tcp:HOST:PORT", address);
	memcpy(host, rest, host_len);
	host[host_len] = '\0';

	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list = NULL;
	char *end;
	unsigned long port = strtoul(colon + 1, &end, 10);
	if (*end != '\0' || port == 0 || port > 65535)
		return cerr_set(
			error, IRONWAL_ERR_INVALID_ARGUMENT, "address %s: a port is a number from 1 to 65535", address);
	int rc = getaddrinfo(host, colon + 1, &hints, &list);
	if (rc != 0)
		return cerr_set(error, IRONWAL_ERR_CONNECT, "cannot look up the host of %s: %s", address,
			rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
	unsigned left = 0;
	for (struct addrinfo *a = list; a != NULL; a = a->ai_next)
		left++;
	int fd = -1, failure = ECONNREFUSED;
	for (struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next, left--) {
		/* One address that swallows packets must not eat the time of those behind it. */
		uint64_t until = deadline_ns, now = clock_now_ns();
		if (deadline_ns != DEADLINE_NEVER && now < deadline_ns)
			until = now + (deadline_ns - now) / left;
		fd = connect_one(a->ai_addr, a->ai_addrlen, until);
		if (fd < 0)
			failure = errno;
	}
	freeaddrinfo(list);
	return fd >= 0 ? fd : connect_failed(error, failure, address);
}

int transport_connect(const char *address, uint64_t deadline_ns, struct transport **ret_transport, ironwal_error *error)
{
	int fd;
	if (strncmp(address, "unix:", 5) == 0)
		fd = connect_unix(address, address + 5, deadline_ns, error);
	else if (strncmp(address, "tcp:", 4) == 0)
		fd = connect_tcp(address, address + 4, deadline_ns, error);
	else
		return cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT, "address %s: expected unix:PATH or tcp:HOST:PORT",
			address);
	if (fd < 0)
		return -1;
	struct transport *transport = transport_from_socket(fd);
	if (transport == NULL)
		return cerr_no_memory(error);
	*ret_transport = transport;
	return 0;
}
