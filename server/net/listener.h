/*
 * listener: an address that connections arrive at.
 *
 * Owns the listening handle (and the Unix socket's file). Loop thread only.
 * Invariant: between listener_open and listener_close it is bound; after close nothing is accepted.
 */
#ifndef IRONWALD_LISTENER_H
#define IRONWALD_LISTENER_H

#include <sys/socket.h>

#include <uv.h>

#include "error.h"

struct listener;

/* Somebody waits to be accepted at `stream` (see transport_uv_accept), or status is a negative errno. */
typedef void (*listener_cb)(uv_stream_t *stream, int status, void *arg);

/* Binds, listens and logs where. ERR_CONFIG with a line that names the address. */
int listener_open_tcp(uv_loop_t *loop, const struct sockaddr_storage *address, listener_cb cb, void *arg,
	struct listener **ret_listener, struct error *err);
/* A socket file that nobody serves is replaced; the file is only for this user (mode 0600). */
int listener_open_unix(uv_loop_t *loop, const char *path, listener_cb cb, void *arg, struct listener **ret_listener,
	struct error *err);

uv_stream_t *listener_stream(struct listener *listener);

/* Frees it in a later turn of the loop; removes the socket file. NULL is legal. */
void listener_close(struct listener *listener);

#endif
