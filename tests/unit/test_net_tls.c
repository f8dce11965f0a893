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

#include "log.h"
#include "tls_certificate.h"
#include "tls_pair.h"

static char dir[64], certificate_path[96], key_path[96];
static struct tls *tls;

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

static uint8_t *some_bytes(size_t len)
{
	uint8_t *bytes = malloc(len + 1);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)tls_pair_draw(256);
	return bytes;
}

/* Both send at the same time, and end their sides. */
static void talk(uint64_t seed, uint32_t stingy, size_t piece_max)
{
	struct peer peer;
	tls_pair_seed = seed;
	peer_open(&peer, tls);
	size_t up_len = tls_pair_draw(500000), down_len = tls_pair_draw(500000), up_at = 0;
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
			len = 1 + tls_pair_draw(30000);
		if (up_at < up_len && BIO_pending(peer.out) < 100000 &&
			SSL_write_ex(peer.ssl, up + up_at, len, &written) == 1)
			up_at += written;
		if (up_at == up_len && !said_end && SSL_is_init_finished(peer.ssl)) {
			peer_to_client(&peer); /* else OpenSSL would look for what comes, and throw it away */
			said_end = SSL_shutdown(peer.ssl) >= 0;
		}
		peer_to_server(&peer, 1 + tls_pair_draw((uint32_t)piece_max));
		tls_service(tls);
		above_turn(&peer.above);
		wire_turn(&peer.wire);
		peer_to_client(&peer);
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
		peer_open(&peers[i], tls);
		cr_assert(SSL_do_handshake(peers[i].ssl) == -1);
		while (peer_to_server(&peers[i], SIZE_MAX))
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
	peer_open(&gone, tls);
	cr_assert(SSL_do_handshake(gone.ssl) == -1 && peer_to_server(&gone, SIZE_MAX) && tls_has_work(tls));
	peer_close(&gone);
	cr_assert(!tls_has_work(tls));
	for (int i = 0; i < PEERS; i++)
		peer_close(&peers[i]);
}
static struct peer waiting[3 * TLS_HANDSHAKES_PER_TURN];

static unsigned handshakes_answered(void)
{
	unsigned count = 0;
	for (size_t i = 0; i < sizeof(waiting) / sizeof(waiting[0]); i++)
		count += waiting[i].wire.to_client.len > 0;
	return count;
}

static unsigned answered_before_read;

static void count_answered(void)
{
	answered_before_read = handshakes_answered();
}

/* Theirs comes in every turn, and first: a handshake can take longer than all that they want. */
Test(net_tls, who_is_in_does_not_wait_behind_handshakes)
{
	enum { COUNT = sizeof(waiting) / sizeof(waiting[0]) };
	struct peer in;
	size_t written;
	peer_open(&in, tls);
	peer_shake_hands(&in, tls);
	in.above.calm = in.above.stops = true;
	for (int i = 0; i < COUNT; i++) {
		peer_open(&waiting[i], tls);
		cr_assert(SSL_do_handshake(waiting[i].ssl) == -1 && peer_to_server(&waiting[i], SIZE_MAX));
	}
	peer_when_read = count_answered;
	for (unsigned turn = 0; turn < 3; turn++) {
		/* It has read the first byte, and nothing more; the second one waits until it reads again. */
		cr_assert(SSL_write_ex(in.ssl, "x", 1, &written) == 1 && SSL_write_ex(in.ssl, "y", 1, &written) == 1);
		in.above.room_max = 1;
		if (!in.above.reads) {
			in.above.reads = true;
			cr_assert(in.above.transport->ops->read_start(in.above.transport) == 0);
		}
		while (peer_to_server(&in, SIZE_MAX))
			;
		cr_assert(in.above.received.len == turn * 2 + 1 && !in.above.reads);
		in.above.reads = true;
		cr_assert(in.above.transport->ops->read_start(in.above.transport) == 0);
		answered_before_read = COUNT;
		tls_service(tls);
		cr_assert(in.above.received.len == turn * 2 + 2, "it waits behind handshakes");
		cr_assert(answered_before_read == turn * TLS_HANDSHAKES_PER_TURN, "they were first");
		cr_assert(handshakes_answered() == (turn + 1) * TLS_HANDSHAKES_PER_TURN);
	}
	for (int i = 0; i < COUNT; i++)
		peer_close(&waiting[i]);
	peer_close(&in);
}

static void ask_for_new_keys(struct peer *peer)
{
	size_t written;
	cr_assert(SSL_key_update(peer->ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
	cr_assert(SSL_write_ex(peer->ssl, "x", 1, &written) == 1);
	while (peer_to_server(peer, SIZE_MAX))
		tls_service(tls);
}

/* What the socket has, what is encrypted, what is to be encrypted, and the end: in the order in which they were asked
 * for, with the answers to the client's wish for new keys in between, behind which all is encrypted by those. */
Test(net_tls, what_waits_to_be_sent_keeps_its_order)
{
	enum { LEN = 1000000 };
	uint8_t *bytes = some_bytes(LEN);
	struct iovec iov = {bytes, LEN};
	struct peer peer;
	peer_open(&peer, tls);
	peer_shake_hands(&peer, tls);
	struct transport *transport = peer.above.transport;
	peer.above.calm = true;
	peer.wire.stingy = 1; /* takes nothing */
	cr_assert(transport->ops->try_write(transport, &iov, 1) == 0);
	peer.above.is_writing = true;
	peer.above.writing_len = LEN;
	cr_assert(transport->ops->write(transport, &iov, 1) == 0);
	tls_service(tls);
	size_t with_socket = peer.wire.writing.iov_len;
	cr_assert(peer.wire.is_writing && with_socket > 0 && with_socket < LEN / 2, "it has some of them");
	for (int i = 0; i < 3; i++)
		ask_for_new_keys(&peer);
	cr_assert(peer.above.received.len == 3 && peer.wire.writing.iov_len == with_socket);
	cr_assert(transport->ops->shutdown(transport) == 0);
	peer.wire.stingy = 7000;
	for (unsigned turn = 0; !peer.above.shutdown_told; turn++) {
		cr_assert(turn < 100000 && peer.above.failure == 0);
		tls_service(tls);
		wire_turn(&peer.wire);
		peer_to_client(&peer);
		cr_assert(peer.received.len <= LEN &&
			  (peer.received.len == 0 || memcmp(peer.received.data, bytes, peer.received.len) == 0));
		cr_assert(!peer.ended || peer.received.len == LEN, "the end is the last of all");
	}
	cr_assert(peer.ended && peer.received.len == LEN && !peer.above.is_writing);
	free(bytes);
	peer_close(&peer);
}

/* It can ask for new keys as often as it likes; each time it is sent some bytes, which it does not take. */
Test(net_tls, what_a_peer_makes_us_hold_is_bounded)
{
	struct peer peer;
	peer_open(&peer, tls);
	peer_shake_hands(&peer, tls);
	peer.wire.stingy = 1; /* takes nothing */
	for (int i = 0; i < 50000 && peer.above.failure == 0; i++) {
		size_t written;
		cr_assert(SSL_key_update(peer.ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
		cr_assert(SSL_write_ex(peer.ssl, "x", 1, &written) == 1);
		if (!peer.above.reads) {
			peer.above.reads = true;
			cr_assert(peer.above.transport->ops->read_start(peer.above.transport) == 0);
		}
		while (peer_to_server(&peer, SIZE_MAX))
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
	peer_open(&peer, tls);
	peer_shake_hands(&peer, tls);
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
		while (peer_to_server(&peer, SIZE_MAX))
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
	peer_open(&peer, tls);
	peer_shake_hands(&peer, tls);
	peer.above.calm = true;
	cr_assert(SSL_write_ex(peer.ssl, "x", 1, &written) == 1 && SSL_shutdown(peer.ssl) == 0);
	peer.above.stops = true;
	while (peer_to_server(&peer, SIZE_MAX))
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
		peer_open(&peer, tls);
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
		peer_open(&peer, tls);
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
	peer_open(&peer, tls);
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
	peer_open(&peer, tls);
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
