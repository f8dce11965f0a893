#include "transport_uv.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"

#define KEEPALIVE_SECONDS 60

/* struct iovec goes to libuv as it is. */
_Static_assert(sizeof(struct iovec) == sizeof(uv_buf_t), "uv_buf_t is an iovec");
_Static_assert(offsetof(struct iovec, iov_base) == offsetof(uv_buf_t, base), "uv_buf_t is an iovec");
_Static_assert(offsetof(struct iovec, iov_len) == offsetof(uv_buf_t, len), "uv_buf_t is an iovec");

struct transport_uv {
	struct transport base;
	union {
		uv_handle_t any;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	} handle;
	uv_write_t write;
	uv_shutdown_t shutdown;
};

static struct transport_uv *of_base(struct transport *transport)
{
	return (struct transport_uv *)transport;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	(void)suggested;
	struct transport_uv *uv = handle->data;
	uint8_t *base = NULL;
	size_t len = 0;
	uv->base.events->alloc_cb(&base, &len, uv->base.arg);
	buf->base = (char *)base;
	buf->len = len;
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
	(void)buf;
	struct transport_uv *uv = stream->data;
	if (count == 0) /* nothing there after all */
		return;
	if (count == UV_EOF)
		count = 0;
	uv->base.events->read_cb(count, uv->base.arg);
}

static int uv_transport_read_start(struct transport *transport)
{
	return uv_read_start(&of_base(transport)->handle.stream, on_alloc, on_read);
}

static void uv_transport_read_stop(struct transport *transport)
{
	uv_read_stop(&of_base(transport)->handle.stream);
}

static ssize_t uv_transport_try_write(struct transport *transport, const struct iovec *iov, int count)
{
	int done = uv_try_write(&of_base(transport)->handle.stream, (const uv_buf_t *)iov, (unsigned)count);
	return done == UV_EAGAIN ? 0 : done;
}

static void on_written(uv_write_t *write, int status)
{
	struct transport_uv *uv = write->data;
	uv->base.events->written_cb(status, uv->base.arg);
}

static int uv_transport_write(struct transport *transport, const struct iovec *iov, int count)
{
	struct transport_uv *uv = of_base(transport);
	uv->write.data = uv;
	return uv_write(&uv->write, &uv->handle.stream, (const uv_buf_t *)iov, (unsigned)count, on_written);
}

static size_t uv_transport_unsent_bytes(struct transport *transport)
{
	return uv_stream_get_write_queue_size(&of_base(transport)->handle.stream);
}

static void on_shutdown(uv_shutdown_t *shutdown, int status)
{
	struct transport_uv *uv = shutdown->data;
	uv->base.events->shutdown_cb(status, uv->base.arg);
}

static int uv_transport_shutdown(struct transport *transport)
{
	struct transport_uv *uv = of_base(transport);
	uv->shutdown.data = uv;
	return uv_shutdown(&uv->shutdown, &uv->handle.stream, on_shutdown);
}

static void on_closed(uv_handle_t *handle)
{
	struct transport_uv *uv = handle->data;
	uv->base.events->closed_cb(uv->base.arg);
	free(uv);
}

static void uv_transport_close(struct transport *transport)
{
	uv_close(&of_base(transport)->handle.any, on_closed);
}

static const struct transport_ops uv_ops = {
	.read_start = uv_transport_read_start,
	.read_stop = uv_transport_read_stop,
	.try_write = uv_transport_try_write,
	.write = uv_transport_write,
	.unsent_bytes = uv_transport_unsent_bytes,
	.shutdown = uv_transport_shutdown,
	.close = uv_transport_close,
};

static void free_unused(uv_handle_t *handle)
{
	free(handle->data);
}

static void name_tcp_peer(int fd, uint64_t number, struct transport_peer *peer)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	if (getpeername(fd, (struct sockaddr *)&address, &len) != 0) {
		snprintf(peer->text, sizeof(peer->text), "tcp #%" PRIu64, number);
		return;
	}
	address_format((const struct sockaddr *)&address, peer->text, sizeof(peer->text));
	if (address.ss_family == AF_INET) {
		const struct sockaddr_in *in4 = (const struct sockaddr_in *)&address;
		peer->key.kind = '4';
		memcpy(peer->key.bytes, &in4->sin_addr, sizeof(in4->sin_addr));
	} else if (address.ss_family == AF_INET6) {
		const struct in6_addr *in6 = &((const struct sockaddr_in6 *)&address)->sin6_addr;
		bool mapped = IN6_IS_ADDR_V4MAPPED(in6);
		peer->key.kind = mapped ? '4' : '6';
		memcpy(peer->key.bytes, in6->s6_addr + (mapped ? 12 : 0), mapped ? 4 : 8);
	}
}

/* Whose process it is: what it was when it connected. */
static void name_unix_peer(int fd, uint64_t number, struct transport_peer *peer)
{
	struct ucred who;
	socklen_t len = sizeof(who);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0) {
		snprintf(peer->text, sizeof(peer->text), "unix #%" PRIu64, number);
		return;
	}
	snprintf(peer->text, sizeof(peer->text), "unix #%" PRIu64 " (pid %d, uid %u, gid %u)", number, (int)who.pid,
		(unsigned)who.uid, (unsigned)who.gid);
	peer->key.kind = 'u';
	memcpy(peer->key.bytes, &who.uid, sizeof(who.uid));
}

void transport_uv_discard(struct transport *transport)
{
	uv_close(&of_base(transport)->handle.any, free_unused);
}

int transport_uv_open(uv_loop_t *loop, int fd, bool tcp, uint64_t number, struct transport **ret_transport)
{
	struct transport_uv *uv = calloc(1, sizeof(*uv));
	int result = uv == NULL ? -ENOMEM : 0;
	if (result == 0)
		result = tcp ? uv_tcp_init(loop, &uv->handle.tcp) : uv_pipe_init(loop, &uv->handle.pipe, 0);
	if (result != 0) {
		free(uv);
		close(fd);
		return result;
	}
	uv->base.ops = &uv_ops;
	uv->handle.any.data = uv;
	result = tcp ? uv_tcp_open(&uv->handle.tcp, fd) : uv_pipe_open(&uv->handle.pipe, fd);
	if (result != 0) {
		close(fd);
		uv_close(&uv->handle.any, free_unused);
		return result;
	}
	if (tcp) {
		/* A peer that is gone already makes these fail; the first read will say so. */
		uv_tcp_nodelay(&uv->handle.tcp, 1);
		uv_tcp_keepalive(&uv->handle.tcp, 1, KEEPALIVE_SECONDS);
		name_tcp_peer(fd, number, &uv->base.peer);
	} else {
		name_unix_peer(fd, number, &uv->base.peer);
	}
	*ret_transport = &uv->base;
	return 0;
}
