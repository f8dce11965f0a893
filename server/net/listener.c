#include "listener.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "address.h"
#include "log.h"

#define BACKLOG 1024
/* So many are accepted before others have the loop. */
#define ACCEPTS_PER_TURN 64
/* What the system may need to tell of a group with all its members. */
#define GROUP_BYTES_MAX ((size_t)4 * 1024 * 1024)

struct listener {
	uv_poll_t poll;
	int fd;
	bool tcp, paused;
	char *path; /* of the socket file, which is ours; NULL: none */
	listener_cb cb;
	void *arg;
};

/* What one connection failed with that was given up before it was accepted; the next one may be good. */
static bool concerns_one(int os_errno)
{
	return os_errno == EINTR || os_errno == ECONNABORTED || os_errno == EPERM || os_errno == EPROTO;
}

/* libuv's own way to accept runs in a circle, for good, once a process has no descriptor left (the limit was lowered
 * while it runs): so the descriptors are taken here. Who cannot be accepted waits in the system's queue. */
static void on_connection(uv_poll_t *poll, int status, int events)
{
	struct listener *listener = poll->data;
	(void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN && listener->fd >= 0 && !listener->paused; i++) {
		int fd = status == 0 ? accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : status;
		int os_errno = status == 0 ? errno : -status;
		if (fd >= 0) {
			listener->cb(fd, listener->tcp, listener->arg);
			continue;
		}
		if (os_errno == EAGAIN)
			return;
		if (concerns_one(os_errno))
			continue;
		listener_pause(listener);
		listener->cb(-os_errno, listener->tcp, listener->arg);
	}
}

void listener_pause(struct listener *listener)
{
	listener->paused = true;
	uv_poll_stop(&listener->poll);
}

void listener_resume(struct listener *listener)
{
	if (!listener->paused)
		return;
	listener->paused = false;
	uv_poll_start(&listener->poll, UV_READABLE, on_connection);
}

static void free_listener(uv_handle_t *handle)
{
	struct listener *listener = handle->data;
	free(listener->path);
	free(listener);
}

/* Takes fd, which is bound and listens, also on failure; path may be NULL. */
static int watch(
	uv_loop_t *loop, int fd, const char *path, bool tcp, listener_cb cb, void *arg, struct listener **ret_listener)
{
	struct listener *listener = calloc(1, sizeof(*listener));
	char *copy = path != NULL ? strdup(path) : NULL;
	int result = listener == NULL || (path != NULL && copy == NULL) ? -ENOMEM : 0;
	if (result == 0)
		result = uv_poll_init(loop, &listener->poll, fd);
	if (result != 0) {
		close(fd);
		free(copy);
		free(listener);
		return result;
	}
	listener->poll.data = listener;
	listener->fd = fd;
	listener->path = copy;
	listener->tcp = tcp;
	listener->cb = cb;
	listener->arg = arg;
	listener->paused = true;
	listener_resume(listener);
	*ret_listener = listener;
	return 0;
}

/* A socket that is bound and listens, or a negative errno. */
static int listen_tcp(const struct sockaddr_storage *address)
{
	const int on = 1;
	bool in6 = address->ss_family == AF_INET6;
	socklen_t len = in6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
		(!in6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0) &&
		bind(fd, (const struct sockaddr *)address, len) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	int saved = errno;
	close(fd);
	return -saved;
}

int listener_open_tcp(uv_loop_t *loop, const struct sockaddr_storage *address, const char *key, listener_cb cb,
	void *arg, struct listener **ret_listener, struct error *err)
{
	char name[ADDRESS_TEXT_MAX];
	address_format((const struct sockaddr *)address, name, sizeof(name));
	int fd = listen_tcp(address), result = fd < 0 ? fd : 0;
	struct sockaddr_storage bound;
	socklen_t len = sizeof(bound);
	if (fd >= 0 && getsockname(fd, (struct sockaddr *)&bound, &len) == 0)
		address_format(
			(const struct sockaddr *)&bound, name, sizeof(name)); /* with the port that the system chose */
	if (result == 0)
		result = watch(loop, fd, NULL, true, cb, arg, ret_listener);
	if (result != 0)
		return error_set(err, ERR_CONFIG, "cannot listen on tcp %s: %s: choose another address in %s", name,
			uv_strerror(result), key);
	if (strcmp(key, "listen_tcp") == 0)
		log_info("net", "listening on tcp %s", name);
	else
		log_info("net", "listening on tcp %s (%s)", name, key);
	return 0;
}

/* What is at the path now: nothing (0), a socket that nobody serves (it is removed, 0), or something to leave alone. */
static int make_room(const char *path, struct error *err)
{
	struct stat status;
	if (lstat(path, &status) != 0) {
		if (errno == ENOENT)
			return 0;
		return error_set(err, ERR_CONFIG, "cannot listen on unix %s: %s", path, strerror(errno));
	}
	if (!S_ISSOCK(status.st_mode))
		return error_set(err, ERR_CONFIG,
			"cannot listen on unix %s: there is a file that is no socket: remove it or change listen_unix",
			path);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	memcpy(address.sun_path, path, strlen(path) + 1);
	int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (probe < 0)
		return error_set(err, ERR_CONFIG, "cannot listen on unix %s: %s", path, strerror(errno));
	int saved = connect(probe, (const struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : errno;
	close(probe);
	if (saved != ECONNREFUSED)
		return error_set(err, ERR_CONFIG,
			"cannot listen on unix %s: another process serves it (%s): stop it or change listen_unix", path,
			saved == 0 ? "it answers" : strerror(saved));
	if (unlink(path) != 0 && errno != ENOENT)
		return error_set(err, ERR_CONFIG, "cannot remove the stale socket %s: %s", path, strerror(errno));
	log_info("net", "removed the stale socket %s", path);
	return 0;
}

/* A group by its name, or by its number. A negative errno: -ENOENT, there is none of that name; or the system cannot
 * tell. */
static int find_group(const char *text, gid_t *ret_gid)
{
	if (text[strspn(text, "0123456789")] == '\0') {
		errno = 0;
		unsigned long number = strtoul(text, NULL, 10);
		*ret_gid = (gid_t)number;
		/* The last number stands for none. */
		return errno == 0 && number < UINT32_MAX ? 0 : -ENOENT;
	}
	/* A group with many members needs more room than any constant tells. */
	for (size_t size = 4096; size <= GROUP_BYTES_MAX; size *= 2) {
		struct group entry, *found = NULL;
		char *buffer = malloc(size);
		int os_errno = buffer != NULL ? getgrnam_r(text, &entry, buffer, size, &found) : ENOMEM;
		if (found != NULL)
			*ret_gid = found->gr_gid;
		free(buffer);
		if (found != NULL)
			return 0;
		if (os_errno == EINTR)
			size /= 2; /* as large again */
		else if (os_errno != ERANGE)
			return os_errno == 0 ? -ENOENT : -os_errno;
	}
	return -ERANGE;
}

/* Only of a socket that is at the path itself: whoever may write to its directory could have put something else there,
 * which is to stay as it is. */
static int give_to_group(const char *path, gid_t gid)
{
	struct stat status;
	int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int result = fstat(fd, &status) == 0 ? 0 : -errno;
	if (result == 0 && !S_ISSOCK(status.st_mode))
		result = -ENOTSOCK;
	if (result == 0 && fchownat(fd, "", (uid_t)-1, gid, AT_EMPTY_PATH) != 0)
		result = -errno;
	close(fd);
	return result;
}

/* The file has its mode from the first moment on: Linux makes it with that of the socket, less the umask. The umask is
 * of all threads, but nobody here makes a file without saying which mode it is to have. */
static int bind_with_mode(int fd, const struct sockaddr_un *address, mode_t mode)
{
	if (fchmod(fd, mode) != 0)
		return -errno;
	mode_t mask = umask(0);
	int result = bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ? 0 : -errno;
	umask(mask);
	return result;
}

/* As listen_tcp. gid (gid_t)-1: the process's own. */
static int listen_unix(const char *path, mode_t mode, gid_t gid)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	memcpy(address.sun_path, path, strlen(path) + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int result = bind_with_mode(fd, &address, mode);
	bool bound = result == 0;
	/* Before it listens, so that nobody of another group gets in between. */
	if (result == 0 && gid != (gid_t)-1)
		result = give_to_group(path, gid);
	if (result == 0 && listen(fd, BACKLOG) != 0)
		result = -errno;
	if (result == 0)
		return fd;
	if (bound)
		unlink(path);
	close(fd);
	return result;
}

int listener_open_unix(uv_loop_t *loop, const char *path, uint32_t mode, const char *group, listener_cb cb, void *arg,
	struct listener **ret_listener, struct error *err)
{
	gid_t gid = (gid_t)-1;
	if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return error_set(err, ERR_CONFIG, "cannot listen on unix %s: a socket's path has at most %zu bytes",
			path, sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1);
	int found = group != NULL ? find_group(group, &gid) : 0;
	if (found == -ENOENT)
		return error_set(err, ERR_CONFIG,
			"cannot listen on unix %s: there is no group %s: make it (addgroup) or change "
			"listen_unix_group",
			path, group);
	if (found != 0)
		return error_set(err, ERR_CONFIG,
			"cannot listen on unix %s: the system cannot tell which group %s is: %s: change "
			"listen_unix_group to its number",
			path, group, strerror(-found));
	if (make_room(path, err) != 0)
		return -1;
	int fd = listen_unix(path, (mode_t)mode, gid), result = fd < 0 ? fd : 0;
	if (result == 0) {
		result = watch(loop, fd, path, false, cb, arg, ret_listener);
		if (result != 0)
			unlink(path);
	}
	if (result != 0)
		return error_set(err, ERR_CONFIG, "cannot listen on unix %s: %s: change listen_unix%s", path,
			uv_strerror(result),
			result == -EPERM && group != NULL ? ", or listen_unix_group to one that this user is in" : "");
	log_info("net", "listening on unix %s", path);
	return 0;
}

/* "tcp 127.0.0.1:7411", "unix /run/ironwald/socket", "unix @name". */
static void name_inherited(const struct sockaddr_storage *address, socklen_t len, char *text, size_t size)
{
	if (address->ss_family != AF_UNIX) {
		char name[ADDRESS_TEXT_MAX];
		address_format((const struct sockaddr *)address, name, sizeof(name));
		snprintf(text, size, "tcp %s", name);
		return;
	}
	const struct sockaddr_un *un = (const struct sockaddr_un *)address;
	int path_len =
		len > offsetof(struct sockaddr_un, sun_path) ? (int)(len - offsetof(struct sockaddr_un, sun_path)) : 0;
	bool abstract = path_len > 0 && un->sun_path[0] == '\0';
	snprintf(text, size, "unix %s%.*s", abstract ? "@" : "", abstract ? path_len - 1 : path_len,
		un->sun_path + abstract);
}

int listener_adopt(
	uv_loop_t *loop, int fd, listener_cb cb, void *arg, struct listener **ret_listener, struct error *err)
{
	struct sockaddr_storage address = {0};
	socklen_t len = sizeof(address);
	char name[128];
	int flags = fcntl(fd, F_GETFL);
	int result = flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 &&
				     getsockname(fd, (struct sockaddr *)&address, &len) == 0
			     ? 0
			     : -errno;
	if (result == 0) {
		name_inherited(&address, len, name, sizeof(name));
		result = watch(loop, fd, NULL, address.ss_family != AF_UNIX, cb, arg, ret_listener);
	}
	if (result != 0)
		return error_set(err, ERR_CONFIG, "cannot listen on descriptor %d of the supervisor: %s", fd,
			uv_strerror(result));
	log_info("net", "listening on %s, which the supervisor has opened", name);
	return 0;
}

void listener_close(struct listener *listener)
{
	if (listener == NULL)
		return;
	/* The file first: who finds it is to be served. */
	if (listener->path != NULL)
		unlink(listener->path);
	uv_close((uv_handle_t *)&listener->poll, free_listener);
	close(listener->fd);
	listener->fd = -1;
}
