/*
 * transport_uv: the transport over libuv's TCP and Unix sockets.
 *
 * Owns the uv handle; the loop is the caller's. Loop thread only.
 * Invariant: a TCP socket has TCP_NODELAY and keepalive on from the start.
 */
#ifndef IRONWALD_TRANSPORT_UV_H
#define IRONWALD_TRANSPORT_UV_H

#include <stdint.h>

#include <uv.h>

#include "transport.h"

/* Takes the connection that waits at the listener (uv_tcp_t or uv_pipe_t). number goes into the peer's name where the
 * address says nothing. Returns 0 or a negative errno. */
int transport_uv_accept(uv_stream_t *listener, uint64_t number, struct transport **ret_transport);

#endif
