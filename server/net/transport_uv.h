/*
 * transport_uv: the transport over libuv's TCP and Unix sockets.
 *
 * Owns the uv handle; the loop is the caller's. Loop thread only.
 * Invariant: a TCP socket has TCP_NODELAY and keepalive on from the start.
 */
#ifndef IRONWALD_TRANSPORT_UV_H
#define IRONWALD_TRANSPORT_UV_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "transport.h"

/* Takes the connected socket fd (over TCP, or a Unix socket), also on failure. number goes into the peer's name where
 * the address says nothing. Returns 0 or a negative errno. */
int transport_uv_open(uv_loop_t *loop, int fd, bool tcp, uint64_t number, struct transport **ret_transport);
/* Closes one that nobody got to use. */
void transport_uv_discard(struct transport *transport);

#endif
