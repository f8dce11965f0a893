/*
 * server: the daemon's network side, whole: loop, listeners, connections, request handlers, graceful stop.
 *
 * Owns the uv loop and everything on it. All functions are called by one thread, the loop thread; only the hook
 * that server_hooks hands out may be called by any thread.
 * Invariant: every request that was read is answered exactly once, and nothing on the loop thread waits for a disk.
 *
 * Order of use:
 *   server_new      loop and the handle that the engine's hook wakes (so that the engine can be opened with it)
 *   server_hooks    fills in notify_cb and notify_arg
 *   engine_open     the caller's
 *   server_start    binds and listens
 *   server_run      serves until SIGTERM, SIGINT or server_stop, and until the graceful stop is done
 *   server_free     closes what is left; before engine_close, which then has no op in hand
 */
#ifndef IRONWALD_SERVER_H
#define IRONWALD_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "engine.h"
#include "error.h"
#include "health.h"

#define SERVER_MAX_LISTEN 16

/* Files that say who may come in. */
struct server_secret_files {
	const char *token_file; /* NULL: nobody is asked for a token */
	/* PEM; NULL, all or the last one: TCP is not TLS, clients need no certificate. */
	const char *tls_certificate, *tls_key, *tls_client_ca;
};
struct server_secrets; /* what was read of them */

struct server_options {
	/* Where to listen: IPv4 or IPv6 addresses, port 0 is chosen by the system (and logged). At most
	 * SERVER_MAX_LISTEN are legal. */
	const struct sockaddr_storage *tcp_addresses;
	size_t tcp_count;
	const char *unix_path; /* NULL: none. A socket file that nobody serves is replaced. */
	uint32_t unix_mode;
	const char *unix_group; /* NULL: the process's own */
	/* If there are any, these are served instead: bound and listening already, descriptors inherited_first and
	 * following, TCP or Unix. server_start takes them; the files of Unix sockets are left where they are. */
	int inherited_first;
	size_t inherited_count; /* at most SERVER_MAX_LISTEN */

	/* Where metrics are to be read, by HTTP: as tcp_addresses. Others than loopback only with allow_open, as nobody
	 * is asked who they are there. */
	const struct sockaddr_storage *metrics_addresses;
	size_t metrics_count;

	struct server_secret_files secrets;
	bool allow_open; /* addresses that are not loopback, also without tokens or TLS */

	uint64_t max_message_bytes;	   /* N of a frame, in and out; at least 128 KiB */
	uint64_t max_inflight_bytes;	   /* per connection: request bytes held and answers queued */
	uint64_t max_inflight_bytes_total; /* the same, for all connections together */
	uint32_t max_connections;	   /* over it: Busy, and closed */
	uint64_t hello_timeout_ns;	   /* no hello that was let in: closed; 0: never */
	uint64_t idle_timeout_ns;	   /* nothing asked, nothing owed: closed; 0: never */
	uint64_t write_timeout_ns;	   /* answers that make no way to the client: closed; 0: never */
	uint64_t shutdown_timeout_ns;	   /* graceful stop: how long clients have to take their last answers */
	uint64_t max_wait_ms;		   /* cap of iter's wait_ms */
	uint64_t slow_disk_ns; /* a thread inside of one call for so long waits for a slow disk: not ready */

	/* For hello, spelled as in the configuration. */
	const char *sync_mode, *compression;
};

struct server;

/* 16M, 64M, 512M, 1024 connections, hello 10 s, idle never, write 30 s, shutdown 10 s, wait 60,000 ms, slow disk 5 s;
 * modes "strict", "none"; no address, a Unix socket's mode 0600, no tokens, no TLS. */
void server_options_default(struct server_options *options);

/* Copies options (addresses and texts too), and reads the token file and the certificates. ERR_CONFIG also for an
 * address, or an inherited socket's, that is open to strangers without what keeps them out (see common/address.h). */
int server_new(const struct server_options *options, struct server **ret_server, struct error *err);

/* Fills notify_cb and notify_arg; the rest is left alone. */
void server_hooks(struct server *server, struct engine_hooks *hooks);

/* Binds all addresses and listens; logs `listening on tcp ADDR:PORT` or `listening on unix PATH` for each. From here
 * on SIGTERM, SIGINT and SIGHUP are taken by the loop. engine is borrowed until server_free. ERR_CONFIG with one line
 * that names the address; nothing stays bound then but what server_free closes. */
int server_start(struct server *server, struct engine *engine, struct error *err);

/* Begins the graceful stop, as SIGTERM does. For a signal that was taken before server_start. */
void server_stop(struct server *server);

/* What the server calls, in the loop thread unless it says otherwise. */
struct server_calls {
	/* SIGHUP, once for each time: begin, then prepare in a thread that may wait for files, then apply. */
	void (*reload_begin_cb)(void *arg);
	void (*reload_prepare_cb)(void *arg); /* [any one thread] */
	void (*reload_apply_cb)(void *arg);
	/* The graceful stop begins. */
	void (*stopping_cb)(void *arg);
	/* While the loop turns: every beat_ns or more often, also during the graceful stop, and whenever it is ready or
	 * alive (see health.h) and was not, or the other way round. beat_ns 0: never. */
	void (*beat_cb)(const struct health_report *report, bool stopping, void *arg);
	uint64_t beat_ns;
	void *arg;
};

/* Before server_start; all callbacks are needed. Without it nothing is called, and SIGHUP does nothing. */
void server_set_calls(struct server *server, const struct server_calls *calls);
/* As SIGHUP does. For a signal that came before server_start. */
void server_reload(struct server *server);

/* Takes the place of the options, from the next callback on. options is from malloc, and the server's from here on.
 * Limits and timeouts are taken from it; where it listens, max_message_bytes and the modes stay what they are. */
void server_take_options(struct server *server, struct server_options *options);

/* Serves until the graceful stop is done: no accepting, what was read is answered (waiting iters empty), the engine
 * has no op in hand, connections closed. A second signal ends the process at once with status 1. Returns 0; -1 if the
 * loop failed (err is filled). */
int server_run(struct server *server, struct error *err);

/* What tokens and certificates are, read again while it runs. First, in any thread: reads and checks. -1: ERR_CONFIG
 * says what is wrong with which file; also if tokens, TLS or certificates of clients would begin or cease to be asked
 * for. */
int server_read_secrets(const struct server *server, const struct server_secret_files *files,
	struct server_secrets **ret_secrets, struct error *err);
/* Then, in the loop thread: they take the place of the old. Whose token is gone, or allows other things than before, is
 * disconnected with Unauthorized; connections stay with the certificate that they began with. files: that were read. */
void server_take_secrets(
	struct server *server, struct server_secrets *secrets, const struct server_secret_files *files);
/* If they are not taken. NULL is legal. */
void server_secrets_free(struct server_secrets *secrets);

/* Closes what is open and removes the Unix socket file, unless it was inherited. NULL is legal. */
void server_free(struct server *server);

#endif
