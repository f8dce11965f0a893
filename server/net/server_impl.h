/*
 * server_impl: what server.c, signals.c, shutdown.c and accept.c share; nobody else includes it.
 *
 * Owns the loop and all handles on it. Loop thread only.
 * Invariant: once net.stopping is set nothing is accepted, and the loop ends when nothing is in hand any more.
 */
#ifndef IRONWALD_SERVER_IMPL_H
#define IRONWALD_SERVER_IMPL_H

#include <stdbool.h>
#include <stddef.h>

#include "gather.h"
#include "listener.h"
#include "metrics.h"
#include "net.h"
#include "server.h"
#include "spin.h"

/* Connections over max_connections that are being told so. */
#define REFUSED_MAX 8

struct server {
	struct net net;
	struct sockaddr_storage addresses[SERVER_MAX_LISTEN];
	struct listener *listeners[SERVER_MAX_LISTEN + 1];
	size_t listener_count;
	struct sockaddr_storage metrics_addresses[SERVER_MAX_LISTEN];
	struct metrics *metrics; /* NULL: none */
	uv_async_t wake;	 /* the engine has completions */
	uv_prepare_t turn;	 /* once per loop turn, before it waits */
	uv_idle_t busy;		 /* active while the next turn must not wait */
	struct spin spin;
	struct gather gather;
	uv_timer_t tick;    /* timeouts of connections */
	uv_timer_t expiry;  /* the next waiting iter */
	uint64_t expiry_ns; /* what it is set to; UINT64_MAX: not set */
	uv_signal_t sigterm, sigint, sighup;
	bool handles_open;
	bool asks_for_certificates; /* of clients */

	/* what the snapshots of options point to */
	char *unix_path, *unix_group, *sync_mode, *compression;

	struct server_calls calls;
	uint64_t next_beat_ns;
	bool told_ready, told_alive;
	uv_work_t reload_work;
	bool reloading, reload_again;

	struct conn *refused[REFUSED_MAX]; /* the oldest at refused_at */
	size_t refused_at;
	uint64_t refused_count; /* now */
	uint64_t accepted_number;
	uint64_t accept_logged_ns;
	bool accept_again; /* somebody may wait who could not be accepted */
};

/* accept.c */
void accept_cb(int fd, bool tcp, void *arg);
void accept_retry(struct server *server);
/* The connection is closed. */
void accept_closed(struct server *server, struct conn *conn);

/* shutdown.c */
void shutdown_begin(struct server *server, const char *why);
/* Ends the loop if all is done. */
void shutdown_check(struct server *server);

/* signals.c */
int signals_take(struct server *server, struct error *err);

/* secrets.c */
/* Reads tokens and certificates, before anything listens. */
int secrets_begin(struct server *server, const struct server_secret_files *files, struct error *err);

#endif
