/*
 * tls: TLS 1.3 for connections: certificates, and the work that waits for its turn.
 *
 * Owns the certificates that are valid now, and the buffers that all connections share. Loop thread only.
 * Invariant: in one turn of the loop at most TLS_HANDSHAKES_PER_TURN steps of handshakes are done (each may sign, or
 * check a chain of certificates): however many come at once, those who are in are served in between. There are no
 * session tickets, so that nothing of a connection outlives it.
 */
#ifndef IRONWALD_TLS_H
#define IRONWALD_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "error.h"

#define TLS_HANDSHAKES_PER_TURN 4

struct tls;
struct transport;

/* PEM files. client_ca NULL: clients need no certificate. */
struct tls_files {
	const char *certificate, *key, *client_ca;
};

struct tls_stats {
	uint64_t handshakes, failures; /* ended well; ended not well, or the connection later without a close_notify */
};

/* -1: ERR_CONFIG names the file, and says what is wrong with it. */
int tls_load(const struct tls_files *files, SSL_CTX **ret_context, struct error *err);

/* Takes the context. NULL: out of memory. */
struct tls *tls_new(SSL_CTX *context);
/* After the last transport. NULL is legal. */
void tls_free(struct tls *tls);
/* For connections that come from now on. Takes the context. */
void tls_replace(struct tls *tls, SSL_CTX *context);

/* Once per turn of the loop, before conn_group_service. */
void tls_service(struct tls *tls);
/* There is more to do for it in the next turn, which must not wait for events. */
bool tls_has_work(const struct tls *tls);

/* tls NULL: there is none, and all is 0. */
void tls_get_stats(const struct tls *tls, struct tls_stats *ret_stats);

/* A transport that speaks TLS over another one, which it takes. NULL: out of memory, and the other one is closed. */
struct transport *tls_wrap(struct tls *tls, struct transport *under);

#endif
