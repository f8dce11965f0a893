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
#include <stdint.h>
#include <sys/un.h>

#include "client_error.h"
#include "client_transport.h"

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
	int fd;		   /* -1: none at the moment */
	int old_fd;	   /* was shown, and its attempt is over; -1: none */
	uint64_t until_ns; /* of this attempt; with fd -1: when to try again */
	int failure;	   /* errno of the last attempt */
};

/* "unix:PATH" or "tcp:HOST:PORT"; HOST is looked up here. -1: the address is of no use (there is nothing to end). */
int dial_start(struct dial *dial, const char *address, uint64_t deadline_ns, ironwal_error *error);
/* error is set with DIAL_FAILED only. */
enum dial_status dial_step(struct dial *dial, ironwal_error *error);
int dial_fd(const struct dial *dial);
uint64_t dial_deadline_ns(const struct dial *dial);
/* After DIAL_CONNECTED: the socket, the caller's from here on. */
int dial_take(struct dial *dial);
/* Closes and frees what is left. Any number of times. */
void dial_end(struct dial *dial);

/* All of it, waiting. NULL: the error says why. */
struct transport *dial_and_wait(const struct mem *mem, const char *address, uint64_t deadline_ns, ironwal_error *error);

#endif
