/*
 * transport: the bytes of one connection, through an interface (plain sockets now, TLS can come).
 *
 * Owns the socket and its handle. Loop thread only.
 * Invariant: at most one write and one shutdown are under way; after close nothing but closed_cb is called, and
 * the transport is gone when that returns.
 *
 * Memory: what alloc_cb gives is used until the read_cb that follows it; bytes given to write are used until
 * written_cb (with -ECANCELED if closed before); the iovec array itself is not kept.
 */
#ifndef IRONWALD_TRANSPORT_H
#define IRONWALD_TRANSPORT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct transport;

struct transport_events {
	/* Where to read to. A length of 0 (no memory) makes read_cb come with -ENOBUFS. */
	void (*alloc_cb)(uint8_t **ret_base, size_t *ret_len, void *arg);
	/* count > 0: bytes; 0: the peer sends no more; < 0: negative errno. */
	void (*read_cb)(ssize_t count, void *arg);
	void (*written_cb)(int status, void *arg); /* 0 or a negative errno */
	void (*shutdown_cb)(int status, void *arg);
	void (*closed_cb)(void *arg);
};

/* Results are 0 (or a count) or a negative errno. */
struct transport_ops {
	int (*read_start)(struct transport *transport);
	void (*read_stop)(struct transport *transport);
	/* Sends what can be sent at once: bytes taken, 0 if none could be. Not while a write is under way. */
	ssize_t (*try_write)(struct transport *transport, const struct iovec *iov, int count);
	int (*write)(struct transport *transport, const struct iovec *iov, int count);
	/* Bytes of the write under way that the system has not taken yet. */
	size_t (*unsent_bytes)(struct transport *transport);
	/* Ends the sending side, after what is being written. */
	int (*shutdown)(struct transport *transport);
	void (*close)(struct transport *transport);
};

/* What wrong tokens are counted for: an IPv4 address, the network half of an IPv6 address (of the other half a peer has
 * as many as it likes), a user of this machine. */
struct transport_peer_key {
	uint8_t kind; /* 0: not known, '4', '6', 'u' */
	uint8_t bytes[8];
};

struct transport_peer {
	char text[80]; /* for log lines: the address, or of a process here its number and its user's */
	struct transport_peer_key key;
};

/* The first member of every implementation. */
struct transport {
	const struct transport_ops *ops;
	const struct transport_events *events; /* set by the connection, before read_start */
	void *arg;
	struct transport_peer peer;
};

#endif
