#include "listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"

#define BACKLOG 1024

struct listener {
	union {
		uv_handle_t any;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	} handle;
	listener_cb cb;
	void *arg;
};

static void on_connection(uv_stream_t *stream, int status)
{
	struct listener *listener = stream->data;
	listener->cb(stream, status, listener->arg);
}

static void free_listener(uv_handle_t *handle)
{
	free(handle->data);
}

static struct listener *new_listener(listener_cb cb, void *arg, struct error *err)
{
	struct listener *listener = calloc(1, sizeof(*listener));
	if (listener == NULL) {
		error_set(err, ERR_CONFIG, "no memory to listen with");
		return NULL;
	}
	listener->cb = cb;
	listener->arg = arg;
	return listener;
}

static void name_address(const struct sockaddr_storage *address, char *text, size_t size)
{
	char host[48] = "?";
	if (address->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
		uv_ip6_name(in6, host, sizeof(host));
		snprintf(text, size, "[%s]:%u", host, ntohs(in6->sin6_port));
	} else {
		const struct sockaddr_in *in4 = (const struct sockaddr_in *)address;
		uv_ip4_name(in4, host, sizeof(host));
		snprintf(text, size, "%s:%u", host, ntohs(in4->sin_port));
	}
}

int listener_open_tcp(uv_loop_t *loop, const struct sockaddr_storage *address, listener_cb cb, void *arg,
	struct listener **ret_listener, struct error *err)
{
	char name[64];
	name_address(address, name, sizeof(name));
	struct listener *listener = new_listener(cb, arg, err);
	if (listener == NULL)
		return -1;
	int result = uv_tcp_init(loop, &listener->handle.tcp);
	if (result != 0) {
		free(listener);
		return error_set(err, ERR_CONFIG, "cannot listen on tcp %s: %s", name, uv_strerror(result));
	}
	listener->handle.any.data = listener;
	unsigned flags = address->ss_family == AF_INET6 ? UV_TCP_IPV6ONLY : 0;
	result = uv_tcp_bind(&listener->handle.tcp, (const struct sockaddr *)address, flags);
	if (result == 0)
		result = uv_listen(&listener->handle.stream, BACKLOG, on_connection);
	if (result != 0) {
		uv_close(&listener->handle.any, free_listener);
		return error_set(err, ERR_CONFIG, "cannot listen on tcp %s: %s: choose another address in listen_tcp",
			name, uv_strerror(result));
	}
	struct sockaddr_storage bound;
	int len = sizeof(bound);
	if (uv_tcp_getsockname(&listener->handle.tcp, (struct sockaddr *)&bound, &len) == 0)
		name_address(&bound, name, sizeof(name)); /* with the port that the system chose */
	log_info("net", "listening on tcp %s", name);
	*ret_listener = listener;
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

int listener_open_unix(
	uv_loop_t *loop, const char *path, listener_cb cb, void *arg, struct listener **ret_listener, struct error *err)
{
	if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return error_set(err, ERR_CONFIG, "cannot listen on unix %s: a socket's path has at most %zu bytes",
			path, sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1);
	if (make_room(path, err) != 0)
		return -1;
	struct listener *listener = new_listener(cb, arg, err);
	if (listener == NULL)
		return -1;
	int result = uv_pipe_init(loop, &listener->handle.pipe, 0);
	if (result != 0) {
		free(listener);
		return error_set(err, ERR_CONFIG, "cannot listen on unix %s: %s", path, uv_strerror(result));
	}
	listener->handle.any.data = listener;
	result = uv_pipe_bind(&listener->handle.pipe, path);
	/* Before it listens, so that nobody else gets in between. */
	if (result == 0 && chmod(path, S_IRUSR | S_IWUSR) != 0)
		result = -errno;
	if (result == 0)
		result = uv_listen(&listener->handle.stream, BACKLOG, on_connection);
	if (result != 0) {
		uv_close(&listener->handle.any, free_listener);
		return error_set(
			err, ERR_CONFIG, "cannot listen on unix %s: %s: change listen_unix", path, uv_strerror(result));
	}
	log_info("net", "listening on unix %s", path);
	*ret_listener = listener;
	return 0;
}

uv_stream_t *listener_stream(struct listener *listener)
{
	return &listener->handle.stream;
}

void listener_close(struct listener *listener)
{
	if (listener != NULL)
		uv_close(&listener->handle.any, free_listener); /* libuv unlinks the socket's file */
}
