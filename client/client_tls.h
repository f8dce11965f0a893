/*
 * client_tls: TLS 1.3 to a server whose certificate is checked: by whom it was signed, and for which host.
 *
 * Owns what it read of certificates. Used by the thread that uses the connection.
 * Invariant: nothing of a request leaves before the server has proved to be the host of the address. What was told as
 * written may have left; what was not has not, and will not.
 *
 * Without OpenSSL (-Dtls=disabled) tls_new only says so.
 */
#ifndef IRONWAL_CLIENT_TLS_H
#define IRONWAL_CLIENT_TLS_H

#include "client_error.h"
#include "client_transport.h"

struct client_tls;

/* Reads the files of options, or else of the environment (see ironwal.h). NULL: the error says why. */
struct client_tls *client_tls_new(const struct mem *mem, const ironwal_options *options, ironwal_error *error);
/* NULL is legal. */
void client_tls_free(struct client_tls *tls);

/* Over another transport, which it takes, also on failure. host: a name, or an address in numbers. The handshake comes
 * with the first write. NULL: no memory. */
struct transport *client_tls_wrap(
	const struct mem *mem, struct client_tls *tls, const char *host, struct transport *under);

#endif
