#include "client_dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client_token.h"
#include "clock.h"

/* After a full backlog of a Unix socket. */
#define RETRY_NS (10 * NS_PER_MS)

/* ---- addresses ---- */

static int start_unix(struct dial *dial, const char *path, ironwal_error *error)
{
	size_t len = strlen(path);
	if (len == 0 || len >= sizeof(dial->path.sun_path))
		return cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT,
			"address %s: the path of a Unix socket has 1 to %zu bytes", dial->address,
			sizeof(dial->path.sun_path) - 1);
	dial->path.sun_family = AF_UNIX;
	memcpy(dial->path.sun_path, path, len + 1);
	return 0;
}

static int start_tcp(struct dial *dial, const char *rest, ironwal_error *error)
{
	const char *address = dial->address, *colon = strrchr(rest, ':');
	char *host = dial->host, *end;
	size_t host_len = colon != NULL ? (size_t)(colon - rest) : 0;
	if (host_len >= 2 && rest[0] == '[' && rest[host_len - 1] == ']') {
		rest++;
		host_len -= 2;
	}
	if (colon == NULL || host_len == 0 || host_len >= sizeof(dial->host) || colon[1] == '\0')
		return cerr_set(
			error, IRONWAL_ERR_INVALID_ARGUMENT, "address %s: expected %.4sHOST:PORT", address, address);
	memcpy(host, rest, host_len);
	host[host_len] = '\0';

	unsigned long port = strtoul(colon + 1, &end, 10);
	if (colon[1] < '0' || colon[1] > '9' || *end != '\0' || port == 0 || port > 65535)
		return cerr_set(
			error, IRONWAL_ERR_INVALID_ARGUMENT, "address %s: a port is a number from 1 to 65535", address);
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	int rc = getaddrinfo(host, colon + 1, &hints, &dial->list);
	if (rc != 0)
		return cerr_set(error, IRONWAL_ERR_CONNECT, "cannot look up the host of %s: %s", address,
			rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
	dial->at = dial->list;
	for (struct addrinfo *a = dial->list; a != NULL; a = a->ai_next)
		dial->left++;
	return 0;
}

/* Asked for in so many words where there can be none: better no connection than one that is not what it seems. */
static int check_plain(const struct dial *dial, const ironwal_options *options, ironwal_error *error)
{
	if (options->tls_ca_file == NULL && options->tls_certificate_file == NULL && options->tls_key_file == NULL)
		return 0;
	return cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT,
		"address %s: certificates are for TLS: expected tls:HOST:PORT, or no certificates", dial->address);
}

int dial_start(struct dial *dial, const struct mem *mem, const char *address, const ironwal_options *options,
	uint64_t deadline_ns, ironwal_error *error)
{
	*dial = (struct dial){
		.address = address, .deadline_ns = deadline_ns, .fd = -1, .old_fd = -1, .failure = ECONNREFUSED};
	if (strncmp(address, "unix:", 5) == 0)
		return check_plain(dial, options, error) != 0 ? -1 : start_unix(dial, address + 5, error);
	if (strncmp(address, "tcp:", 4) == 0)
		return check_plain(dial, options, error) != 0 ? -1 : start_tcp(dial, address + 4, error);
	if (strncmp(address, "tls:", 4) != 0)
		return cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT,
			"address %s: expected unix:PATH, tcp:HOST:PORT or tls:HOST:PORT", address);
	dial->tls = client_tls_new(mem, options, error);
	if (dial->tls == NULL)
		return -1;
	if (start_tcp(dial, address + 4, error) == 0)
		return 0;
	client_tls_free(dial->tls);
	dial->tls = NULL;
	return -1;
}

static void close_old(struct dial *dial)
{
	if (dial->old_fd >= 0)
		close(dial->old_fd);
	dial->old_fd = -1;
}

void dial_end(struct dial *dial)
{
	if (dial->fd >= 0)
		close(dial->fd);
	dial->fd = -1;
	close_old(dial);
	if (dial->list != NULL)
		freeaddrinfo(dial->list);
	dial->list = dial->at = NULL;
	client_tls_free(dial->tls);
	dial->tls = NULL;
}

/* ---- attempts ---- */

/* A socket that was shown between two steps stays until the next one: what follows it so has another number, and who
 * watches descriptors sees the change. */
static void end_attempt(struct dial *dial, int os_errno)
{
	if (dial->old_fd < 0)
		dial->old_fd = dial->fd;
	else
		close(dial->fd);
	dial->failure = os_errno;
	dial->fd = -1;
}

/* Goes on to the next address. False: that was the last one. */
static bool next_address(struct dial *dial)
{
	if (dial->at == NULL)
		return false;
	dial->at = dial->at->ai_next;
	dial->left--;
	return dial->at != NULL;
}

/* A socket that connects in the background, or is connected: dial_step finds out. False: see failure. */
static bool attempt(struct dial *dial)
{
	const struct sockaddr *sa = (const struct sockaddr *)&dial->path;
	socklen_t sa_len = sizeof(dial->path);
	uint64_t now_ns = clock_now_ns();
	dial->until_ns = dial->deadline_ns;
	if (dial->at != NULL) {
		sa = dial->at->ai_addr;
		sa_len = dial->at->ai_addrlen;
		if (dial->deadline_ns != DEADLINE_NEVER && now_ns < dial->deadline_ns)
			dial->until_ns = now_ns + (dial->deadline_ns - now_ns) / dial->left;
	}
	dial->fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (dial->fd < 0) {
		dial->failure = errno;
		return false;
	}
	/* EINTR on a non-blocking socket: the connection goes on in the background, as with EINPROGRESS. */
	if (connect(dial->fd, sa, sa_len) == 0 || errno == EINPROGRESS || errno == EINTR)
		return true;
	bool is_full = dial->at == NULL && errno == EAGAIN; /* the backlog; and there is nothing to poll for */
	end_attempt(dial, errno);
	if (is_full)
		dial->until_ns = now_ns + RETRY_NS;
	return is_full;
}

/* What has become of the attempt: 0 connected, -1 not yet, else its errno. */
static int attempt_result(const struct dial *dial)
{
	struct pollfd p = {.fd = dial->fd, .events = POLLOUT};
	int failure = 0;
	socklen_t len = sizeof(failure);
	int n = poll(&p, 1, 0);
	if (n < 0 && errno != EINTR)
		return errno;
	if (n <= 0)
		return clock_now_ns() >= dial->until_ns ? ETIMEDOUT : -1;
	return getsockopt(dial->fd, SOL_SOCKET, SO_ERROR, &failure, &len) == 0 ? failure : errno;
}

static enum dial_status failed(const struct dial *dial, ironwal_error *error)
{
	if (dial->failure == ETIMEDOUT)
		cerr_set_errno(error, IRONWAL_ERR_TIMEOUT, dial->failure, "cannot connect to %s", dial->address);
	else
		cerr_set_errno(error, IRONWAL_ERR_CONNECT, dial->failure,
			"cannot connect to %s (does ironwald run, and listen there?)", dial->address);
	return DIAL_FAILED;
}

static void set_tcp_options(const struct dial *dial)
{
	const int on = 1;
	if (dial->at == NULL)
		return;
	(void)setsockopt(dial->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(dial->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

enum dial_status dial_step(struct dial *dial, ironwal_error *error)
{
	close_old(dial);
	for (;;) {
		bool waits_to_retry = dial->fd < 0 && dial->until_ns != 0;
		if (waits_to_retry && clock_now_ns() >= dial->deadline_ns) {
			dial->failure = ETIMEDOUT;
			return failed(dial, error);
		}
		if (waits_to_retry && clock_now_ns() < dial->until_ns)
			return DIAL_WAITING;
		bool begun = dial->fd >= 0 || attempt(dial);
		if (begun && dial->fd < 0)
			continue;
		if (begun) {
			int result = attempt_result(dial);
			if (result < 0)
				return DIAL_WAITING;
			if (result == 0) {
				set_tcp_options(dial);
				return DIAL_CONNECTED;
			}
			end_attempt(dial, result);
		}
		dial->until_ns = 0;
		if (!next_address(dial))
			return failed(dial, error);
	}
}

int dial_fd(const struct dial *dial)
{
	return dial->fd;
}

uint64_t dial_deadline_ns(const struct dial *dial)
{
	return dial->until_ns < dial->deadline_ns ? dial->until_ns : dial->deadline_ns;
}

struct transport *dial_take(
	struct dial *dial, const struct mem *mem, const ironwal_options *options, bool has_token, ironwal_error *error)
{
	if (dial->tls == NULL && has_token && token_check_path(dial->fd, dial->address, options, error) != 0)
		return NULL;
	int fd = dial->fd;
	dial->fd = -1;
	struct transport *transport = transport_from_socket(mem, fd);
	if (transport != NULL && dial->tls != NULL)
		transport = client_tls_wrap(mem, dial->tls, dial->host, transport);
	if (transport == NULL)
		cerr_no_memory(error);
	return transport;
}

/* Where there is a handshake, it comes with the first write, if only of nothing. -1: it failed. */
static int wait_for_handshake(
	struct transport *transport, const char *address, uint64_t deadline_ns, ironwal_error *error)
{
	while (transport->ops->held != NULL && transport->ops->write(transport, NULL, 0) < 0) {
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return transport_failure(transport, address, errno, error);
		short events = transport_waits_for_peer(transport) ? POLLIN : POLLIN | POLLOUT;
		if (deadline_poll(transport->ops->fd(transport), events, deadline_ns) == 0)
			return cerr_set_errno(error, IRONWAL_ERR_TIMEOUT, ETIMEDOUT, "cannot connect to %s", address);
	}
	return 0;
}

struct transport *dial_and_wait(const struct mem *mem, const char *address, const ironwal_options *options,
	bool has_token, uint64_t deadline_ns, ironwal_error *error)
{
	const ironwal_options defaults = IRONWAL_OPTIONS_INIT;
	struct dial dial;
	struct transport *transport = NULL;
	enum dial_status status;
	if (options == NULL)
		options = &defaults;
	if (dial_start(&dial, mem, address, options, deadline_ns, error) != 0)
		return NULL;
	while ((status = dial_step(&dial, error)) == DIAL_WAITING)
		(void)deadline_poll(dial.fd, POLLOUT, dial_deadline_ns(&dial));
	if (status == DIAL_CONNECTED)
		transport = dial_take(&dial, mem, options, has_token, error);
	dial_end(&dial);
	if (transport != NULL && wait_for_handshake(transport, address, deadline_ns, error) != 0) {
		transport->ops->free(transport);
		transport = NULL;
	}
	return transport;
}
