/*
 * client_dial: from an address to a connected socket, step by step, without waiting.
 *
 * Owns the addresses that are left to try and the socket that is being connected. Used by the thread that uses the
 * connection. Invariant: a dial that waits, waits for its descriptor to be writable or for its deadline, whichever
 * comes first; the time that is left is shared among the addresses that are left, so that one that swallows packets
 * does not eat the time of those behind it.
 */
#ifndef IRONWAL_CLIENT_DIAL_H
#define IRONWAL_CLIENT_DIAL_H

#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "client_error.h"
#include "client_tls.h"
#include "client_transport.h"

#define DIAL_HOST_BYTES 256

enum dial_status {
	DIAL_WAITING,	/* see dial_fd and dial_deadline_ns */
	DIAL_CONNECTED, /* dial_take has it */
	DIAL_FAILED,
};

struct dial {
	const char *address; /* the caller's */
	uint64_t deadline_ns;
	struct sockaddr_un path; /* of a Unix socket, if list is NULL */
	struct addrinfo *list, *at;
	unsigned left;
	char host[DIAL_HOST_BYTES]; /* of a TCP address */
	struct client_tls *tls;	    /* for a tls: address; NULL: it is none */
	int fd;			    /* -1: none at the moment */
	int old_fd;		    /* was shown, and its attempt is over; -1: none */
	uint64_t until_ns;	    /* of this attempt; with fd -1: when to try again */
	int failure;		    /* errno of the last attempt */
};

/* "unix:PATH", "tcp:HOST:PORT" or "tls:HOST:PORT"; HOST is looked up here, and certificates are read. -1: the address,
 * or what options say of the way there, is of no use (there is nothing to end). */
int dial_start(struct dial *dial, const struct mem *mem, const char *address, const ironwal_options *options,
	uint64_t deadline_ns, ironwal_error *error);
/* error is set with DIAL_FAILED only. */
enum dial_status dial_step(struct dial *dial, ironwal_error *error);
int dial_fd(const struct dial *dial);
uint64_t dial_deadline_ns(const struct dial *dial);
/* After DIAL_CONNECTED: what was connected, the caller's from here on. has_token: one will be sent, if it may be. NULL:
 * the error says why. */
struct transport *dial_take(
	struct dial *dial, const struct mem *mem, const ironwal_options *options, bool has_token, ironwal_error *error);
/* Closes and frees what is left. Any number of times. */
void dial_end(struct dial *dial);

/* All of it, waiting, with the handshake of TLS. options may be NULL. NULL: the error says why. */
struct transport *dial_and_wait(const struct mem *mem, const char *address, const ironwal_options *options,
	bool has_token, uint64_t deadline_ns, ironwal_error *error);

#endif
