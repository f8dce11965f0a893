/*
 * address: addresses of sockets, as text, and which of them strangers can reach.
 *
 * Owns nothing; any thread may call it.
 * Invariant: an address counts as open unless it is known that only this machine reaches it.
 */
#ifndef IRONWALD_ADDRESS_H
#define IRONWALD_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "error.h"

#define ADDRESS_TEXT_MAX 64

/* "127.0.0.1:7411", "[::1]:7411"; "?" for other families. */
void address_format(const struct sockaddr *address, char *text, size_t size);

/* Loopback, or a Unix socket, of which the rights of its file say who may connect (one that has no file, an abstract
 * one, is as loopback: for everyone on this machine). */
bool address_is_local(const struct sockaddr *address);

/* What keeps strangers out of a server, or lets them in on purpose. */
struct address_guard {
	bool authenticated; /* they have to prove who they are */
	bool encrypted;	    /* TLS, so that what proves it cannot be read or replaced on the way */
	bool allowed;	    /* insecure_allow_open_addresses = yes */
};

/* The rule about open addresses, for those of the configuration and for sockets that were inherited: -1 with ERR_CONFIG
 * (what is missing, and what to do) if nobody may listen there with such a guard. Unix sockets and loopback may always
 * be listened on. */
int address_check_open(const struct sockaddr *address, const struct address_guard *guard, struct error *err);

/* The same for an address at which metrics are to be read: strangers are kept out by nothing but the address. */
int address_check_open_metrics(const struct sockaddr *address, bool allowed, struct error *err);

#endif
