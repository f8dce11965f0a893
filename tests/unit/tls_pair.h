/*
 * tls_pair: the transport with TLS between two that are in memory: a socket that takes bytes as it likes, a connection
 * that reads and writes as it likes, and OpenSSL as the client.
 *
 * Owns what both sides have received. One thread; a failure is the test's.
 * Invariant: what any of them does that it may choose, is by tls_pair_seed.
 */
#ifndef IRONWALD_TEST_TLS_PAIR_H
#define IRONWALD_TEST_TLS_PAIR_H

#include "buf.h"
#include "tls_impl.h"
#include "transport.h"

extern uint64_t tls_pair_seed;
uint32_t tls_pair_draw(uint32_t below);

/* The socket. */
struct wire {
	struct transport base;
	struct buf to_client; /* what it has taken */
	struct iovec writing; /* what it has still to take */
	bool reading, is_writing, shutdown, shutdown_told, closed;
	uint32_t stingy; /* of try_write: takes less than so much; 0: all */
};

/* A turn of its loop: takes some more of what it was given. */
void wire_turn(struct wire *wire);

/* The connection, which writes as conn_output.c does. */
struct above {
	struct transport *transport;
	const uint8_t *bytes; /* to be sent */
	size_t len, at;
	bool is_writing, shutdown_asked, shutdown_told, ended, reads;
	bool calm;  /* gives all its room, and goes on reading */
	bool stops; /* reads no more once it has had something */
	size_t writing_len;
	int failure;
	unsigned reads_count;
	struct buf received;
	size_t room_max;
	uint8_t room[40000];
};

void above_turn(struct above *above);

struct peer {
	SSL_CTX *context;
	SSL *ssl;
	BIO *in, *out;
	struct wire wire;
	struct above above;
	struct buf received;
	bool ended;
};

extern void (*peer_when_read)(void); /* before the connection of any peer takes bytes; NULL after peer_open */
void peer_open(struct peer *peer, struct tls *tls);
void peer_close(struct peer *peer);
/* Some of what the client has for the server, if that reads. */
bool peer_to_server(struct peer *peer, size_t most);
void peer_to_client(struct peer *peer);
void peer_shake_hands(struct peer *peer, struct tls *tls);

#endif
