#include "tls_pair.h"

#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

uint64_t tls_pair_seed = 1;
void (*peer_when_read)(void);

uint32_t tls_pair_draw(uint32_t below)
{
	tls_pair_seed = tls_pair_seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(tls_pair_seed >> 33) % below;
}

/* ---- the socket that is none ---- */

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
	size_t most = wire->stingy != 0 ? tls_pair_draw(wire->stingy) : SIZE_MAX;
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
void wire_turn(struct wire *wire)
{
	if (wire->is_writing) {
		size_t len = wire->stingy != 0 ? tls_pair_draw(wire->stingy) : wire->writing.iov_len;
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

static void above_alloc(uint8_t **ret_base, size_t *ret_len, void *arg)
{
	struct above *above = arg;
	*ret_base = above->room;
	*ret_len = above->calm ? above->room_max : 1 + tls_pair_draw((uint32_t)above->room_max);
}

static void above_read(ssize_t count, void *arg)
{
	struct above *above = arg;
	cr_assert(above->reads || count < 0, "it does not read now");
	above->reads_count++;
	if (peer_when_read != NULL)
		peer_when_read();
	if (count < 0)
		above->failure = (int)count;
	else if (count == 0)
		above->ended = true;
	else
		cr_assert(buf_append(&above->received, above->room, (size_t)count) == 0);
	if (count > 0 && (above->calm ? above->stops : tls_pair_draw(3) == 0)) {
		above->reads = false;
		above->transport->ops->read_stop(above->transport);
	}
}

static void above_written(int status, void *arg)
{
	struct above *above = arg;
	cr_assert(above->is_writing && status == 0);
	above->is_writing = false;
	above->at += above->writing_len;
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
		size_t len = tls_pair_draw(4) == 0 ? tls_pair_draw(60000) : tls_pair_draw(300);
		if (len > end - at)
			len = end - at;
		iov[count++] = (struct iovec){(uint8_t *)above->bytes + at, len};
		at += len;
	}
	iov[count++] = (struct iovec){(uint8_t *)above->bytes + at, end - at};
	return count;
}

void above_turn(struct above *above)
{
	struct iovec iov[PIECES_MAX];
	size_t offered;
	if (!above->reads && tls_pair_draw(2) == 0) {
		above->reads = true;
		cr_assert(above->transport->ops->read_start(above->transport) == 0);
	}
	while (!above->is_writing && above->at < above->len) {
		int count = cut(above, 1 + tls_pair_draw(200000), iov, &offered);
		ssize_t taken = above->transport->ops->try_write(above->transport, iov, count);
		cr_assert(taken >= 0 && (size_t)taken <= offered);
		above->at += (size_t)taken;
		if ((size_t)taken == offered)
			continue;
		/* The rest goes on, perhaps with more behind it. */
		count = cut(above, offered - (size_t)taken + tls_pair_draw(1000), iov, &above->writing_len);
		above->is_writing = true;
		cr_assert(above->transport->ops->write(above->transport, iov, count) == 0);
	}
	if (!above->is_writing && above->at == above->len && !above->shutdown_asked) {
		above->shutdown_asked = true;
		cr_assert(above->transport->ops->shutdown(above->transport) == 0);
	}
}

/* ---- the client ---- */

void peer_open(struct peer *peer, struct tls *tls)
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
	peer_when_read = NULL;
	peer->above.transport = transport;
	peer->above.reads = true;
	cr_assert(transport->ops->read_start(transport) == 0);
}

void peer_close(struct peer *peer)
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
bool peer_to_server(struct peer *peer, size_t most)
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

void peer_to_client(struct peer *peer)
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

void peer_shake_hands(struct peer *peer, struct tls *tls)
{
	for (int i = 0; i < 10 && !SSL_is_init_finished(peer->ssl); i++) {
		(void)SSL_do_handshake(peer->ssl);
		while (peer_to_server(peer, SIZE_MAX))
			;
		tls_service(tls);
		peer_to_client(peer);
	}
	while (peer_to_server(peer, SIZE_MAX))
		tls_service(tls);
	tls_service(tls);
}
