/*
 * listener: an address that connections arrive at.
 *
 * Owns the listening socket (and the Unix socket's file, unless the socket was inherited). Loop thread only.
 * Invariant: between listener_open and listener_close it is bound; after close nothing is accepted. After an error
 * nothing is accepted until listener_resume: who comes meanwhile waits in the system's queue.
 */
#ifndef IRONWALD_LISTENER_H
#define IRONWALD_LISTENER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include <uv.h>

#include "error.h"

struct listener;

/* fd: a connection, which is the callee's (see transport_uv_open); or a negative errno: it accepts no more for now. */
typedef void (*listener_cb)(int fd, bool tcp, void *arg);

/* Binds, listens and logs where. key: of the configuration, which names the address. ERR_CONFIG with a line that names
 * both. */
int listener_open_tcp(uv_loop_t *loop, const struct sockaddr_storage *address, const char *key, listener_cb cb,
	void *arg, struct listener **ret_listener, struct error *err);
/* A socket file that nobody serves is replaced. Who may write to the file may connect: it has this mode, and this group
 * (a name or a number; NULL: the process's own). */
int listener_open_unix(uv_loop_t *loop, const char *path, uint32_t mode, const char *group, listener_cb cb, void *arg,
	struct listener **ret_listener, struct error *err);

/* Takes fd, which somebody else has bound and lets listen, also on failure; its file, if it has one, is left where it
 * is. */
int listener_adopt(
	uv_loop_t *loop, int fd, listener_cb cb, void *arg, struct listener **ret_listener, struct error *err);

/* Accepts nothing more, also from within the callback: who comes waits in the system's queue. */
void listener_pause(struct listener *listener);
/* Accepts again, after an error or a pause. */
void listener_resume(struct listener *listener);

/* Frees it in a later turn of the loop; removes the socket file. NULL is legal. */
void listener_close(struct listener *listener);

#endif
