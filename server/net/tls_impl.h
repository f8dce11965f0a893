/*
 * tls_impl: what tls.c, transport_tls.c, tls_handshake.c and tls_output.c share; nobody else includes it.
 *
 * Owns nothing. Loop thread only.
 * Invariant: a connection is in the queue at most once, and not after it was closed.
 */
#ifndef IRONWALD_TLS_IMPL_H
#define IRONWALD_TLS_IMPL_H

#include <stddef.h>

#include "buf.h"
#include "tls.h"
#include "transport.h"

/* What one read takes off a socket. */
#define TLS_READ_BYTES ((size_t)64 * 1024)
/* Of plain bytes in one record. */
#define TLS_RECORD_BYTES ((size_t)16 * 1024)
/* So much is encrypted before it is known that what came before has left. */
#define TLS_CHUNK_BYTES (4 * TLS_RECORD_BYTES)
/* What a peer may make us hold: unread bytes of its handshake; what it does not take of what it asked for. */
#define TLS_HELD_BYTES_MAX ((size_t)256 * 1024)

/* Of a handshake: what one read takes; what a message may have that is not encrypted (clients say hello in a few
 * hundred bytes, with keys that are safe from quantum computers in two thousand), and the certificates of a client; all
 * of it. */
#define TLS_HANDSHAKE_READ_BYTES ((size_t)16 * 1024)
#define TLS_HELLO_BYTES_MAX ((size_t)16 * 1024)
#define TLS_CERTIFICATES_BYTES_MAX ((size_t)16 * 1024)
#define TLS_HANDSHAKE_BYTES_MAX ((size_t)80 * 1024)

/* So many records of a connection are decrypted in one turn of the loop: half a millisecond of the shortest ones. Of
 * long ones so many never come at once. */
#define TLS_RECORDS_PER_TURN 1024

/* So many times a peer may change its keys without a word. */
#define TLS_KEY_UPDATES_MAX 16

/* How far what OpenSSL has taken of a handshake goes: see tls_handshake.c. */
struct tls_watch {
	size_t bytes;		/* in all */
	uint8_t record_head[5]; /* of the record that it is in; of the next one, as far as it has come */
	unsigned record_head_len, message_head_len;
	uint32_t message_head;
	size_t record_left, message_left; /* bytes that are to come */
	bool refused;
};

struct tls_conn {
	struct transport base;
	struct transport *under;
	struct tls *tls;
	SSL *ssl; /* NULL: it lingers */
	bool established, failed, closed;
	bool lingering; /* the handshake failed, and the peer is to see why */
	size_t drained_bytes;
	struct tls_queue *queue; /* NULL: it is in none */
	struct tls_conn *next, *prev;

	struct tls_watch watch;

	/* input */
	bool wanted;	    /* the connection reads */
	bool under_reading; /* so does the socket */
	bool end_received;  /* a close_notify came, */
	bool peer_ended;    /* and the connection knows */
	uint64_t turn;	    /* in which this many records were decrypted */
	unsigned records;
	unsigned key_updates; /* since the last plain byte */
	const uint8_t *fed;   /* encrypted bytes that OpenSSL takes from */
	size_t fed_len;
	struct buf kept; /* those that it could not take yet */

	/* output */
	struct buf out;	    /* encrypted, not given to the socket yet */
	struct buf sending; /* the socket has it */
	size_t ahead;	    /* plain bytes that are encrypted, and not told as taken yet: what is in `out` holds them */
	struct iovec *iov;  /* of the write under way; NULL: there is none */
	int iov_count, iov_at;
	size_t iov_offset; /* in iov[iov_at]; `ahead` begins there */
	size_t iov_left;   /* bytes from there on */
	bool shutdown_asked, shutdown_begun;
};

struct tls_queue {
	struct tls_conn *head, *tail;
	size_t count;
};

struct tls {
	SSL_CTX *context;
	BIO_METHOD *method;
	struct tls_queue strangers, established;
	struct tls_stats stats;
	uint64_t logged_ns;
	uint64_t turn; /* of the loop */
	uint8_t read_buffer[TLS_READ_BYTES];
	uint8_t record[TLS_RECORD_BYTES]; /* small pieces, put together */
};

/* tls.c */
void tls_enqueue(struct tls_conn *conn);
void tls_dequeue(struct tls_conn *conn);
#define TLS_REASON_BYTES 200
/* Why the last operation failed, by OpenSSL's queue of errors, which is empty afterwards. */
void tls_reason(char *text, size_t size);

/* transport_tls.c */
static inline struct tls_conn *tls_conn_of(struct transport *transport)
{
	return (struct tls_conn *)transport;
}
/* Its turn has come. True: it was a step of a handshake. */
bool tls_conn_turn(struct tls_conn *conn);
/* The connection closes the transport when it is told. */
void tls_fail(struct tls_conn *conn, int result);
/* The same with a line in the log, and the alert that is in `out`. reason NULL: OpenSSL knows. */
void tls_fail_protocol(struct tls_conn *conn, const char *reason);

/* tls_handshake.c */
/* What OpenSSL is about to take of a handshake. -1: it is too much, and must not get it. */
int tls_watch(struct tls_conn *conn, const uint8_t *bytes, size_t len);
void tls_shake_hands(struct tls_conn *conn);

/* tls_output.c */
/* Of struct transport_ops, and of the transport below. */
ssize_t tls_try_write(struct transport *transport, const struct iovec *iov, int count);
int tls_write(struct transport *transport, const struct iovec *iov, int count);
size_t tls_unsent_bytes(struct transport *transport);
int tls_shutdown(struct transport *transport);
void tls_on_written(int status, void *arg);
void tls_on_shutdown(int status, void *arg);
/* Whatever can leave, leaves: after anything that may have made something to send. */
void tls_go_on_sending(struct tls_conn *conn);
/* What is in `out` may be an alert that says why. */
void tls_send_alert(struct tls_conn *conn);

#endif
