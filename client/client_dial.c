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
	char host[256], *end;
	size_t host_len = colon != NULL ? (size_t)(colon - rest) : 0;
	if (host_len >= 2 && rest[0] == '[' && rest[host_len - 1] == ']') {
		rest++;
		host_len -= 2;
	}
	if (colon == NULL || host_len == 0 || host_len >= sizeof(host) || colon[1] == '\0')
		return cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT, "address %s: expected tcp:HOST:PORT", address);
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

int dial_start(struct dial *dial, const char *address, uint64_t deadline_ns, ironwal_error *error)
{
	*dial = (struct dial){
		.address = address, .deadline_ns = deadline_ns, .fd = -1, .old_fd = -1, .failure = ECONNREFUSED};
	if (strncmp(address, "unix:", 5) == 0)
		return start_unix(dial, address + 5, error);
	if (strncmp(address, "tcp:", 4) == 0)
		return start_tcp(dial, address + 4, error);
	return cerr_set(
		error, IRONWAL_ERR_INVALID_ARGUMENT, "address %s: expected unix:PATH or tcp:HOST:PORT", address);
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

int dial_take(struct dial *dial)
{
	int fd = dial->fd;
	dial->fd = -1;
	return fd;
}

struct transport *dial_and_wait(const struct mem *mem, const char *address, uint64_t deadline_ns, ironwal_error *error)
{
	struct dial dial;
	struct transport *transport = NULL;
	enum dial_status status;
	if (dial_start(&dial, address, deadline_ns, error) != 0)
		return NULL;
	while ((status = dial_step(&dial, error)) == DIAL_WAITING)
		(void)deadline_poll(dial.fd, POLLOUT, dial_deadline_ns(&dial));
	if (status == DIAL_CONNECTED) {
		transport = transport_from_socket(mem, dial_take(&dial));
		if (transport == NULL)
			cerr_no_memory(error);
	}
	dial_end(&dial);
	return transport;
}
