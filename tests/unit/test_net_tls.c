/*
 * The transport with TLS, over one in memory that takes bytes as it likes, with OpenSSL as the other side: all arrives,
 * once and in order, whatever the pieces; and how much is done in a turn. The whole server over sockets is in
 * integration/test_tls.py.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"
#include "log.h"
#include "tls_certificate.h"
#include "tls_impl.h"
#include "transport.h"

static char dir[64], certificate_path[96], key_path[96];
static struct tls *tls;
static uint64_t random_state = 1;

static uint32_t draw(uint32_t below)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(random_state >> 33) % below;
}

static void set_up(void)
{
	const struct tls_files files = {certificate_path, key_path, NULL};
	SSL_CTX *context;
	struct error err;
	snprintf(dir, sizeof(dir), "/tmp/ironwald-tls-XXXXXX");
	cr_assert(mkdtemp(dir) != NULL);
	snprintf(certificate_path, sizeof(certificate_path), "%s/c", dir);
	snprintf(key_path, sizeof(key_path), "%s/k", dir);
	tls_certificate_make("localhost", certificate_path, key_path);
	log_set_level(LOG_LEVEL_ERROR);
	cr_assert(tls_load(&files, &context, &err) == 0, "%s", err.message);
	cr_assert((tls = tls_new(context)) != NULL);
}

static void tear_down(void)
{
	tls_free(tls);
	unlink(certificate_path);
	unlink(key_path);
	rmdir(dir);
}

TestSuite(net_tls, .init = set_up, .fini = tear_down, .timeout = 120);

/* ---- the socket that is none ---- */

struct wire {
	struct transport base;
	struct buf to_client; /* what it has taken */
	struct iovec writing; /* what it has still to take */
	bool reading, is_writing, shutdown, shutdown_told, closed;
	uint32_t stingy; /* of try_write: takes less than so much; 0: all */
};

static struct wire *wire_of(struct transport *transport)
{
	return (struct wire *)transport;
}

static int wire_read_start(struct transport *transport)
{
	wire_of(transport)->reading = true;
	return 0;
}

static void wire_read_stop(struct transport *transport)
{
	wire_of(transport)->reading = false;
}

static ssize_t wire_try_write(struct transport *transport, const struct iovec *iov, int count)
{
	struct wire *wire = wire_of(transport);
	size_t taken = 0;
	cr_assert(!wire->is_writing && !wire->shutdown && !wire->closed, "not while one is under way");
	size_t most = wire->stingy != 0 ? draw(wire->stingy) : SIZE_MAX;
	for (int i = 0; i < count && taken < most; i++) {
		size_t len = iov[i].iov_len < most - taken ? iov[i].iov_len : most - taken;
		cr_assert(buf_append(&wire->to_client, iov[i].iov_base, len) == 0);
		taken += len;
	}
	return (ssize_t)taken;
}

static int wire_write(struct transport *transport, const struct iovec *iov, int count)
{
	struct wire *wire = wire_of(transport);
	cr_assert(!wire->is_writing && !wire->shutdown && !wire->closed && count == 1);
	wire->writing = iov[0];
	wire->is_writing = true;
	return 0;
}

static size_t wire_unsent_bytes(struct transport *transport)
{
	return wire_of(transport)->writing.iov_len;
}

static int wire_shutdown(struct transport *transport)
{
	cr_assert(!wire_of(transport)->shutdown, "once");
	wire_of(transport)->shutdown = true;
	return 0;
}

static void wire_close(struct transport *transport)
{
	wire_of(transport)->closed = true;
}

static const struct transport_ops wire_ops = {
	wire_read_start, wire_read_stop, wire_try_write, wire_write, wire_unsent_bytes, wire_shutdown, wire_close};

/* A turn of its loop: takes some more of what it was given. */
static void wire_turn(struct wire *wire)
{
	if (wire->is_writing) {
		size_t len = wire->stingy != 0 ? draw(wire->stingy) : wire->writing.iov_len;
		if (len > wire->writing.iov_len)
			len = wire->writing.iov_len;
		cr_assert(buf_append(&wire->to_client, wire->writing.iov_base, len) == 0);
		wire->writing.iov_base = (uint8_t *)wire->writing.iov_base + len;
		wire->writing.iov_len -= len;
		if (wire->writing.iov_len == 0) {
			wire->is_writing = false;
			wire->base.events->written_cb(0, wire->base.arg);
		}
	} else if (wire->shutdown && !wire->shutdown_told) {
		wire->shutdown_told = true;
		wire->base.events->shutdown_cb(0, wire->base.arg);
	}
}

/* ---- the connection above, which writes as conn_output.c does ---- */

#define PIECES_MAX 5

struct above {
	struct transport *transport;
	const uint8_t *bytes; /* to be sent */
	size_t len, at;
	bool is_writing, shutdown_asked, shutdown_told, ended, reads;
	bool calm;  /* gives all its room, and goes on reading */
	bool stops; /* reads no more once it has had something */
	int failure;
	unsigned reads_count;
	struct buf received;
	size_t room_max;
	uint8_t room[40000];
};

static void above_alloc(uint8_t **ret_base, size_t *ret_len, void *arg)
{
	struct above *above = arg;
	*ret_base = above->room;
	*ret_len = above->calm ? above->room_max : 1 + draw((uint32_t)above->room_max);
}

static void above_read(ssize_t count, void *arg)
{
	struct above *above = arg;
	cr_assert(above->reads || count < 0, "it does not read now");
	above->reads_count++;
	if (count < 0)
		above->failure = (int)count;
	else if (count == 0)
		above->ended = true;
	else
		cr_assert(buf_append(&above->received, above->room, (size_t)count) == 0);
	if (count > 0 && (above->calm ? above->stops : draw(3) == 0)) {
		above->reads = false;
		above->transport->ops->read_stop(above->transport);
	}
}

static size_t writing_len;

static void above_written(int status, void *arg)
{
	struct above *above = arg;
	cr_assert(above->is_writing && status == 0);
	above->is_writing = false;
	above->at += writing_len;
}

static void above_shutdown(int status, void *arg)
{
	struct above *above = arg;
	cr_assert(status == 0);
	above->shutdown_told = true;
}

static void above_closed(void *arg)
{
	(void)arg;
}

static const struct transport_events above_events = {
	above_alloc, above_read, above_written, above_shutdown, above_closed};

/* Up to so much, in pieces of any length. */
static int cut(const struct above *above, size_t most, struct iovec *iov, size_t *ret_len)
{
	size_t at = above->at, end = above->len - at > most ? at + most : above->len;
	int count = 0;
	*ret_len = end - at;
	while (count < PIECES_MAX - 1 && at < end) {
		size_t len = draw(4) == 0 ? draw(60000) : draw(300);
		if (len > end - at)
			len = end - at;
		iov[count++] = (struct iovec){(uint8_t *)above->bytes + at, len};
		at += len;
	}
	iov[count++] = (struct iovec){(uint8_t *)above->bytes + at, end - at};
	return count;
}

static void above_turn(struct above *above)
{
	struct iovec iov[PIECES_MAX];
	size_t offered;
	if (!above->reads && draw(2) == 0) {
		above->reads = true;
		cr_assert(above->transport->ops->read_start(above->transport) == 0);
	}
	while (!above->is_writing && above->at < above->len) {
		int count = cut(above, 1 + draw(200000), iov, &offered);
		ssize_t taken = above->transport->ops->try_write(above->transport, iov, count);
		cr_assert(taken >= 0 && (size_t)taken <= offered);
		above->at += (size_t)taken;
		if ((size_t)taken == offered)
			continue;
		/* The rest goes on, perhaps with more behind it. */
		count = cut(above, offered - (size_t)taken + draw(1000), iov, &writing_len);
		above->is_writing = true;
		cr_assert(above->transport->ops->write(above->transport, iov, count) == 0);
	}
	if (!above->is_writing && above->at == above->len && !above->shutdown_asked) {
		above->shutdown_asked = true;
		cr_assert(above->transport->ops->shutdown(above->transport) == 0);
	}
}

/* ---- the client ---- */

struct peer {
	SSL_CTX *context;
	SSL *ssl;
	BIO *in, *out;
	struct wire wire;
	struct above above;
	struct buf received;
	bool ended;
};

static void peer_open(struct peer *peer)
{
	memset(peer, 0, sizeof(*peer));
	peer->context = SSL_CTX_new(TLS_client_method());
	peer->ssl = SSL_new(peer->context);
	peer->in = BIO_new(BIO_s_mem());
	peer->out = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(peer->in, -1);
	SSL_set_bio(peer->ssl, peer->in, peer->out);
	SSL_set_connect_state(peer->ssl);
	peer->wire.base.ops = &wire_ops;
	peer->above.room_max = sizeof(peer->above.room) - 1;
	struct transport *transport = tls_wrap(tls, &peer->wire.base);
	cr_assert(transport != NULL);
	transport->events = &above_events;
	transport->arg = &peer->above;
	peer->above.transport = transport;
	peer->above.reads = true;
	cr_assert(transport->ops->read_start(transport) == 0);
}

static void peer_close(struct peer *peer)
{
	peer->above.transport->ops->close(peer->above.transport);
	cr_assert(peer->wire.closed);
	peer->wire.base.events->closed_cb(peer->wire.base.arg);
	SSL_free(peer->ssl);
	SSL_CTX_free(peer->context);
	buf_free(&peer->wire.to_client);
	buf_free(&peer->received);
	buf_free(&peer->above.received);
}

/* Some of what the client has for the server, if that reads. */
static bool to_server(struct peer *peer, size_t most)
{
	uint8_t *base;
	size_t len;
	if (!peer->wire.reading || BIO_pending(peer->out) == 0)
		return false;
	peer->wire.base.events->alloc_cb(&base, &len, peer->wire.base.arg);
	int count = BIO_read(peer->out, base, (int)(len < most ? len : most));
	cr_assert(count > 0);
	peer->wire.base.events->read_cb(count, peer->wire.base.arg);
	return true;
}

static void to_client(struct peer *peer)
{
	struct buf *buf = &peer->wire.to_client;
	if (buf->len > 0)
		cr_assert(BIO_write(peer->in, buf->data, (int)buf->len) == (int)buf->len);
	buf_consume(buf, buf->len);
	for (;;) {
		uint8_t bytes[20000];
		size_t count;
		if (SSL_read_ex(peer->ssl, bytes, sizeof(bytes), &count) != 1)
			break;
		cr_assert(buf_append(&peer->received, bytes, count) == 0);
	}
	peer->ended = (SSL_get_shutdown(peer->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
}

static uint8_t *some_bytes(size_t len)
{
	uint8_t *bytes = malloc(len + 1);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)draw(256);
	return bytes;
}

/* Both send at the same time, and end their sides. */
static void talk(uint64_t seed, uint32_t stingy, size_t piece_max)
{
	struct peer peer;
	random_state = seed;
	peer_open(&peer);
	size_t up_len = draw(500000), down_len = draw(500000), up_at = 0;
	uint8_t *up = some_bytes(up_len), *down = some_bytes(down_len);
	bool said_end = false;
	peer.wire.stingy = stingy;
	peer.above.bytes = down;
	peer.above.len = down_len;
	for (unsigned turn = 0; !peer.ended || !peer.above.ended || !peer.above.shutdown_told; turn++) {
		size_t written, len = up_len - up_at;
		cr_assert(turn < 3000000, "seed %llu: it does not end", (unsigned long long)seed);
		cr_assert(peer.above.failure == 0, "seed %llu: %d", (unsigned long long)seed, peer.above.failure);
		if (len > 30000)
			len = 1 + draw(30000);
		if (up_at < up_len && BIO_pending(peer.out) < 100000 &&
			SSL_write_ex(peer.ssl, up + up_at, len, &written) == 1)
			up_at += written;
		if (up_at == up_len && !said_end && SSL_is_init_finished(peer.ssl)) {
			to_client(&peer); /* else OpenSSL would look for what comes, and throw it away */
			said_end = SSL_shutdown(peer.ssl) >= 0;
		}
		to_server(&peer, 1 + draw((uint32_t)piece_max));
		tls_service(tls);
		above_turn(&peer.above);
		wire_turn(&peer.wire);
		to_client(&peer);
	}
	cr_assert(peer.received.len == down_len && memcmp(peer.received.data, down, down_len) == 0,
		"seed %llu: %zu of %zu bytes down", (unsigned long long)seed, peer.received.len, down_len);
	cr_assert(peer.above.received.len == up_len && memcmp(peer.above.received.data, up, up_len) == 0,
		"seed %llu: %zu of %zu bytes up", (unsigned long long)seed, peer.above.received.len, up_len);
	cr_assert(!tls_has_work(tls));
	free(up);
	free(down);
	peer_close(&peer);
}

Test(net_tls, all_arrives_in_order_whatever_the_pieces)
{
	for (uint64_t seed = 1; seed <= 25; seed++) {
		talk(seed * 4, 0, 100000);
		talk(seed * 4 + 1, 200000, 70000);
		talk(seed * 4 + 2, 20000, 20000);
		talk(seed * 4 + 3, 3000, 3000);
	}
}

/* ---- turns ---- */

Test(net_tls, few_handshakes_in_a_turn)
{
	enum { PEERS = 5 * TLS_HANDSHAKES_PER_TURN };
	static struct peer peers[PEERS];
	for (int i = 0; i < PEERS; i++) {
		peer_open(&peers[i]);
		cr_assert(SSL_do_handshake(peers[i].ssl) == -1);
		while (to_server(&peers[i], SIZE_MAX))
			;
		cr_assert(peers[i].wire.to_client.len == 0, "nothing is done before its turn");
	}
	for (int turn = 1; turn <= 5; turn++) {
		int answered = 0;
		cr_assert(tls_has_work(tls));
		tls_service(tls);
		for (int i = 0; i < PEERS; i++) {
			cr_assert((peers[i].wire.to_client.len > 0) == (i < turn * TLS_HANDSHAKES_PER_TURN),
				"first come, first served");
			answered += peers[i].wire.to_client.len > 0;
		}
		cr_assert(answered == turn * TLS_HANDSHAKES_PER_TURN, "turn %d: %d", turn, answered);
	}
	cr_assert(!tls_has_work(tls));
	/* Who goes while waiting is not touched any more. */
	struct peer gone;
	peer_open(&gone);
	cr_assert(SSL_do_handshake(gone.ssl) == -1 && to_server(&gone, SIZE_MAX) && tls_has_work(tls));
	peer_close(&gone);
	cr_assert(!tls_has_work(tls));
	for (int i = 0; i < PEERS; i++)
		peer_close(&peers[i]);
}

static void shake_hands(struct peer *peer)
{
	for (int i = 0; i < 10 && !SSL_is_init_finished(peer->ssl); i++) {
		(void)SSL_do_handshake(peer->ssl);
		while (to_server(peer, SIZE_MAX))
			;
		tls_service(tls);
		to_client(peer);
	}
	while (to_server(peer, SIZE_MAX))
		tls_service(tls);
	tls_service(tls);
}

/* It can ask for new keys as often as it likes; each time it is sent some bytes, which it does not take. */
Test(net_tls, what_a_peer_makes_us_hold_is_bounded)
{
	struct peer peer;
	peer_open(&peer);
	shake_hands(&peer);
	peer.wire.stingy = 1; /* takes nothing */
	for (int i = 0; i < 50000 && peer.above.failure == 0; i++) {
		size_t written;
		cr_assert(SSL_key_update(peer.ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
		cr_assert(SSL_write_ex(peer.ssl, "x", 1, &written) == 1);
		if (!peer.above.reads) {
			peer.above.reads = true;
			cr_assert(peer.above.transport->ops->read_start(peer.above.transport) == 0);
		}
		while (to_server(&peer, SIZE_MAX))
			tls_service(tls);
		tls_service(tls);
	}
	cr_assert(peer.above.failure == -EPROTO, "it goes on for ever");
	peer_close(&peer);
}

/* However many there are: they are handed on together, and not all of them in one turn of the loop. */
Test(net_tls, very_small_records)
{
	enum { COUNT = 5 * TLS_RECORDS_PER_TURN + 100 };
	struct peer peer;
	peer_open(&peer);
	shake_hands(&peer);
	peer.above.calm = true;
	for (unsigned i = 0; i < COUNT; i++) {
		size_t written;
		const uint8_t byte = (uint8_t)(i % 251);
		cr_assert(SSL_write_ex(peer.ssl, &byte, 1, &written) == 1);
	}
	SSL_shutdown(peer.ssl);
	unsigned turns = 0, in_work = 0;
	for (; !peer.above.ended; turns++) {
		size_t before = peer.above.received.len;
		cr_assert(turns < 100);
		while (to_server(&peer, SIZE_MAX))
			;
		tls_service(tls);
		cr_assert(peer.above.received.len - before <= 2 * TLS_RECORDS_PER_TURN, "of two turns");
		in_work += tls_has_work(tls);
	}
	cr_assert(peer.above.received.len == COUNT && turns >= 3 && in_work >= 2);
	cr_assert(peer.above.reads_count <= 4 * turns + 1, "%u in %u turns", peer.above.reads_count, turns);
	for (unsigned i = 0; i < COUNT; i++)
		cr_assert(peer.above.received.data[i] == i % 251);
	peer_close(&peer);
}

/* What came with the last bytes is told once it reads again. */
Test(net_tls, an_end_that_comes_while_it_does_not_read)
{
	struct peer peer;
	size_t written;
	peer_open(&peer);
	shake_hands(&peer);
	peer.above.calm = true;
	cr_assert(SSL_write_ex(peer.ssl, "x", 1, &written) == 1 && SSL_shutdown(peer.ssl) == 0);
	peer.above.stops = true;
	while (to_server(&peer, SIZE_MAX))
		tls_service(tls);
	tls_service(tls);
	cr_assert(peer.above.received.len == 1 && !peer.above.ended);
	peer.above.reads = true;
	cr_assert(peer.above.transport->ops->read_start(peer.above.transport) == 0);
	tls_service(tls);
	cr_assert(peer.above.ended && peer.above.failure == 0);
	peer_close(&peer);
}

static void feed(struct peer *peer, const void *bytes, size_t len)
{
	uint8_t *base;
	size_t room;
	peer->wire.base.events->alloc_cb(&base, &room, peer->wire.base.arg);
	cr_assert(len <= room);
	memcpy(base, bytes, len);
	peer->wire.base.events->read_cb((ssize_t)len, peer->wire.base.arg);
	tls_service(tls);
}

/* A reset would take the alert from it: so what it still sends is read, and thrown away, until it ends; but not for
 * ever. */
Test(net_tls, who_is_refused_can_read_why)
{
	static const uint8_t no_hello[] = {22, 3, 1, 0, 4, 9, 0, 0, 0};
	static const uint8_t more[10000];
	for (int ends = 0; ends < 2; ends++) {
		struct peer peer;
		peer_open(&peer);
		feed(&peer, no_hello, sizeof(no_hello));
		cr_assert(peer.above.failure == 0 && peer.wire.shutdown && peer.wire.reading);
		cr_assert(peer.wire.to_client.len == 7 && peer.wire.to_client.data[0] == 21, "an alert");
		feed(&peer, more, sizeof(more));
		cr_assert(peer.above.failure == 0);
		for (int i = 0; i < 50 && !ends && peer.above.failure == 0; i++)
			feed(&peer, more, sizeof(more));
		if (ends)
			peer.wire.base.events->read_cb(0, peer.wire.base.arg);
		cr_assert(peer.above.failure == -EPROTO && peer.above.received.len == 0 && !peer.above.ended);
		peer_close(&peer);
	}
}

/* As records of at most so many bytes, one or a few at a time. */
static void feed_records(struct peer *peer, const uint8_t *message, size_t len, size_t record_max, size_t piece_max)
{
	static uint8_t wire[2000000];
	size_t used = 0;
	for (size_t at = 0; at < len; at += record_max) {
		size_t count = len - at < record_max ? len - at : record_max;
		const uint8_t head[] = {22, 3, 1, (uint8_t)(count >> 8), (uint8_t)count};
		cr_assert(used + sizeof(head) + count <= sizeof(wire));
		memcpy(wire + used, head, sizeof(head));
		memcpy(wire + used + sizeof(head), message + at, count);
		used += sizeof(head) + count;
	}
	for (size_t at = 0; at < used && !peer->wire.shutdown; at += piece_max)
		feed(peer, wire + at, used - at < piece_max ? used - at : piece_max);
}

/* What is announced is refused before room is made for it, however it is cut; the longest that may be is not. */
Test(net_tls, a_hello_that_is_too_long_is_refused)
{
	static const size_t records[] = {1, 3, 4, 16384}, pieces[] = {1, 7, 1000};
	static uint8_t hello[200000];
	for (unsigned i = 0; i < 4 * 3 * 3; i++) {
		size_t record = records[i % 4], piece = pieces[i / 4 % 3];
		size_t announced = i / 12 == 0 ? 200000 : TLS_HELLO_BYTES_MAX + (i / 12 == 1);
		bool fits = announced <= TLS_HELLO_BYTES_MAX;
		struct peer peer;
		peer_open(&peer);
		hello[0] = 1;
		hello[1] = (uint8_t)(announced >> 16);
		hello[2] = (uint8_t)(announced >> 8);
		hello[3] = (uint8_t)announced;
		feed_records(&peer, hello, 1000, record, piece);
		cr_assert(peer.wire.shutdown == !fits && peer.wire.reading, "%zu in records of %zu", announced, record);
		if (!fits)
			cr_assert(peer.wire.to_client.len == 7 && peer.wire.to_client.data[0] == 21 &&
					  peer.wire.to_client.data[6] == 47,
				"an alert: illegal_parameter");
		peer_close(&peer);
	}
}

/* Record by record of nearly nothing, until it costs too much. */
Test(net_tls, a_handshake_of_very_many_bytes_is_refused)
{
	static uint8_t hello[TLS_HELLO_BYTES_MAX] = {1, 0, 0x40, 0};
	struct tls_stats stats;
	struct peer peer;
	peer_open(&peer);
	feed_records(&peer, hello, 13000, 1, 1000);
	cr_assert(!peer.wire.shutdown);
	feed_records(&peer, hello + 13000, sizeof(hello) - 13000, 1, 1000);
	cr_assert(peer.wire.shutdown && peer.wire.to_client.len == 7 && peer.wire.to_client.data[0] == 21);
	tls_get_stats(tls, &stats);
	cr_assert(stats.failures == 1 && stats.handshakes == 0);
	peer_close(&peer);
}

Test(net_tls, a_handshake_that_is_too_long_ends)
{
	struct peer peer;
	uint8_t *base;
	size_t len, sent = 0;
	peer_open(&peer);
	/* A message of 16 MiB, of which OpenSSL would take as much as it allows. */
	while (peer.above.failure == 0 && peer.wire.reading && sent < 10000000) {
		static const uint8_t record[] = {22, 3, 3, 0x3f, 0xff, 1, 0xff, 0xff, 0xff};
		peer.wire.base.events->alloc_cb(&base, &len, peer.wire.base.arg);
		memset(base, 0, len);
		memcpy(base, record, sizeof(record));
		peer.wire.base.events->read_cb((ssize_t)len, peer.wire.base.arg);
		sent += len;
		tls_service(tls);
	}
	cr_assert(peer.above.failure != 0 && sent < 1000000, "%zu bytes", sent);
	peer_close(&peer);
}
