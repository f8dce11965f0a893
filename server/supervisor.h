/*
 * supervisor: what systemd is told (sd_notify(3)), and the sockets that it hands over (sd_listen_fds(3)).
 *
 * Owns nothing but what the environment says. supervisor_take_sockets is for the main thread, before there are others;
 * the rest may be called by any thread. Where nobody supervises, and where this was built without libsystemd
 * (-Dsystemd), everything does nothing; only what such a build was asked for and cannot do is refused, or told.
 * Invariant: what is sent is one datagram with one state.
 */
#ifndef IRONWALD_SUPERVISOR_H
#define IRONWALD_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* The sockets become the caller's, with close-on-exec; the environment does not speak of them afterwards. Returns how
 * many there are (0: none), beginning with *ret_first. -1: ERR_CONFIG. */
int supervisor_take_sockets(int *ret_first, struct error *err);

/* Whether anybody wants to be told anything. */
bool supervisor_listens(void);

/* How often it wants to hear supervisor_alive, at least; 0: it does not. */
uint64_t supervisor_watchdog_ns(void);
void supervisor_alive(void);

/* status: one line of what is being done, for `systemctl status`. */
void supervisor_status(const char *status);
/* Serving; also after a reload. */
void supervisor_ready(const char *status);
void supervisor_reloading(const char *status);
void supervisor_stopping(const char *status);
/* A start or a stop takes longer, and goes on: so long from now on before patience ends. */
void supervisor_extend(uint64_t ns, const char *status);

#endif
