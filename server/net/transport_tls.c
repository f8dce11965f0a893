/*
 * transport_tls: the transport over another one, with TLS in between.
 *
 * Encrypted bytes come into the buffer that all connections share, and OpenSSL takes them from there; what it cannot
 * take, because the connection does not read now, is kept, and then nothing more is read. Bytes of a handshake
 * (tls_handshake.c) wait for the connection's turn in any case. How bytes go out is in tls_output.c.
 *
 * close_notify is the half-close, in both directions. A bare end of the stream is an error: somebody else may have made
 * it, to cut off what was to come.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "clock.h"
#include "log.h"
#include "tls_impl.h"

/* ---- how it ends ---- */

/* One line a second at most, so that who knocks does not fill the log. */
static void note_failure(struct tls_conn *conn, const char *reason)
{
	struct tls *tls = conn->tls;
	uint64_t now_ns = clock_now_ns();
	tls->stats.failures++;
	if (tls->logged_ns != 0 && now_ns < tls->logged_ns + NS_PER_SECOND)
		return;
	tls->logged_ns = now_ns;
	log_info("net", "%s: TLS%s: %s (%" PRIu64 " such connections since the start)", conn->base.peer.text,
		conn->established ? "" : " handshake", reason, tls->stats.failures);
}

void tls_fail(struct tls_conn *conn, int result)
{
	if (conn->failed || conn->closed)
		return;
	conn->failed = true;
	conn->base.events->read_cb(result, conn->base.arg);
}

void tls_fail_protocol(struct tls_conn *conn, const char *reason)
{
	char text[TLS_REASON_BYTES];
	if (conn->failed || conn->closed)
		return;
	if (reason == NULL) {
		tls_reason(text, sizeof(text));
		reason = text;
	}
	note_failure(conn, reason);
	tls_send_alert(conn);
	/* A client may have sent more than was read, and a reset would take the alert from it, which says what is
	 * wrong: so until it ends, too, its bytes are thrown away. It has not said hello, which bounds how long that
	 * may take. */
	if (conn->established || conn->under->ops->shutdown(conn->under) != 0) {
		tls_fail(conn, -EPROTO);
		return;
	}
	conn->lingering = true;
	SSL_free(conn->ssl); /* with all that it holds */
	conn->ssl = NULL;
}

/* ---- in ---- */

/* Reads from the socket if the connection wants more, or the handshake does, and nothing waits. */
static int start_or_stop_reading(struct tls_conn *conn)
{
	bool reading = (conn->wanted || !conn->established) && conn->queue == NULL && !conn->failed &&
		       !conn->peer_ended && conn->kept.len == 0;
	if (conn->closed || reading == conn->under_reading)
		return 0;
	conn->under_reading = reading;
	if (reading)
		return conn->under->ops->read_start(conn->under);
	conn->under->ops->read_stop(conn->under);
	return 0;
}

static void update_reading(struct tls_conn *conn)
{
	int result = start_or_stop_reading(conn);
	if (result != 0)
		tls_fail(conn, result);
}

/* What OpenSSL has not taken is kept; `fed` may be in it. */
static void keep_rest(struct tls_conn *conn)
{
	size_t len = conn->fed_len;
	conn->fed_len = 0;
	if (conn->kept.data != NULL && len <= conn->kept.len) {
		if (len == 0)
			buf_free(&conn->kept);
		else
			buf_consume(&conn->kept, conn->kept.len - len);
	} else if (len > 0 && buf_append(&conn->kept, conn->fed, len) != 0) {
		tls_fail(conn, -ENOBUFS);
	}
}

/* In one turn of the loop a connection has so many records decrypted (each costs something, however short), and the
 * others theirs before it goes on. */
static bool has_had_its_turn(struct tls_conn *conn)
{
	if (conn->turn != conn->tls->turn) {
		conn->turn = conn->tls->turn;
		conn->records = 0;
	}
	return conn->records >= TLS_RECORDS_PER_TURN;
}

/* Plain bytes of as many records as there are, and fit: what comes in small ones is not handed on piece by piece, which
 * would cost the connection a look at all that it has of a request for each. Returns how many bytes; *ret_status: an
 * SSL_ERROR_... if it ended there. */
static size_t gather(struct tls_conn *conn, uint8_t *base, size_t len, int *ret_status)
{
	size_t total = 0, count;
	*ret_status = SSL_ERROR_NONE;
	ERR_clear_error();
	while (total < len && !has_had_its_turn(conn)) {
		if (SSL_read_ex(conn->ssl, base + total, len - total, &count) != 1) {
			*ret_status = SSL_get_error(conn->ssl, 0);
			break;
		}
		conn->records++;
		conn->key_updates = 0;
		total += count;
	}
	return total;
}

/* What comes behind the last plain byte. */
static void end_gathering(struct tls_conn *conn, int status, const char *reason)
{
	if (conn->key_updates > TLS_KEY_UPDATES_MAX)
		tls_fail_protocol(conn, "too many new keys, and nothing is said with them");
	else if (status == SSL_ERROR_ZERO_RETURN)
		conn->end_received = true;
	else if (status != SSL_ERROR_NONE && status != SSL_ERROR_WANT_READ)
		tls_fail_protocol(conn, reason);
}

/* Decrypts for the connection as long as it reads. */
static void decrypt(struct tls_conn *conn)
{
	while (conn->wanted && !conn->closed && !conn->failed && !conn->peer_ended) {
		uint8_t *base = NULL;
		size_t len = 0;
		int status;
		char reason[TLS_REASON_BYTES] = "";
		if (conn->end_received) {
			conn->peer_ended = true;
			conn->base.events->read_cb(0, conn->base.arg);
			return;
		}
		if (has_had_its_turn(conn)) {
			tls_enqueue(conn);
			return;
		}
		conn->base.events->alloc_cb(&base, &len, conn->base.arg);
		if (len == 0) {
			tls_fail(conn, -ENOBUFS);
			return;
		}
		size_t count = gather(conn, base, len, &status);
		/* Now, as the next operation of any connection takes it away. */
		if (status == SSL_ERROR_SSL || status == SSL_ERROR_SYSCALL)
			tls_reason(reason, sizeof(reason));
		if (count > 0)
			conn->base.events->read_cb((ssize_t)count, conn->base.arg);
		end_gathering(conn, status, reason);
		if (status == SSL_ERROR_WANT_READ)
			return;
	}
}

/* Bytes that have come, now or before. */
static void take_bytes(struct tls_conn *conn, const uint8_t *bytes, size_t len)
{
	conn->fed = bytes;
	conn->fed_len = len;
	if (!conn->established)
		tls_shake_hands(conn);
	if (conn->established)
		decrypt(conn);
	if (conn->closed)
		return;
	if (conn->lingering)
		conn->fed_len = 0;
	keep_rest(conn);
	tls_go_on_sending(conn);
	update_reading(conn);
}

bool tls_conn_turn(struct tls_conn *conn)
{
	bool handshake = !conn->established;
	take_bytes(conn, conn->kept.data, conn->kept.len);
	return handshake;
}

static void on_alloc(uint8_t **ret_base, size_t *ret_len, void *arg)
{
	struct tls_conn *conn = arg;
	*ret_base = conn->tls->read_buffer;
	*ret_len = conn->established ? TLS_READ_BYTES : TLS_HANDSHAKE_READ_BYTES;
}

static void on_read(ssize_t count, void *arg)
{
	struct tls_conn *conn = arg;
	if (conn->closed || conn->failed)
		return;
	if (conn->lingering) {
		conn->drained_bytes += count > 0 ? (size_t)count : TLS_HELD_BYTES_MAX;
		if (conn->drained_bytes >= TLS_HELD_BYTES_MAX)
			tls_fail(conn, -EPROTO);
		return;
	}
	if (count == 0 && conn->established && !conn->shutdown_begun) {
		tls_fail_protocol(conn, "the connection ended without a close_notify");
		return;
	}
	if (count <= 0) {
		tls_fail(conn, count < 0 ? (int)count : -ECONNRESET);
		return;
	}
	if (!conn->established) {
		if (conn->kept.len + (size_t)count > TLS_HELD_BYTES_MAX ||
			buf_append(&conn->kept, conn->tls->read_buffer, (size_t)count) != 0)
			tls_fail(conn, -ENOBUFS);
		else
			tls_enqueue(conn);
		update_reading(conn);
		return;
	}
	take_bytes(conn, conn->tls->read_buffer, (size_t)count);
}

static int tls_read_start(struct transport *transport)
{
	struct tls_conn *conn = tls_conn_of(transport);
	conn->wanted = true;
	/* Not in here: who starts to read may be in the middle of something. */
	if (conn->established && (conn->kept.len > 0 || conn->end_received || SSL_has_pending(conn->ssl) == 1))
		tls_enqueue(conn);
	return start_or_stop_reading(conn);
}

static void tls_read_stop(struct transport *transport)
{
	struct tls_conn *conn = tls_conn_of(transport);
	conn->wanted = false;
	(void)start_or_stop_reading(conn);
}

/* ---- life ---- */

static void on_closed(void *arg)
{
	struct tls_conn *conn = arg;
	conn->base.events->closed_cb(conn->base.arg);
	SSL_free(conn->ssl);
	buf_free(&conn->kept);
	buf_free(&conn->out);
	buf_free(&conn->sending);
	free(conn->iov);
	free(conn);
}

static void tls_close(struct transport *transport)
{
	struct tls_conn *conn = tls_conn_of(transport);
	tls_dequeue(conn);
	conn->closed = true;
	conn->under->ops->close(conn->under);
}

static const struct transport_ops tls_ops = {
	.read_start = tls_read_start,
	.read_stop = tls_read_stop,
	.try_write = tls_try_write,
	.write = tls_write,
	.unsent_bytes = tls_unsent_bytes,
	.shutdown = tls_shutdown,
	.close = tls_close,
};

static const struct transport_events under_events = {
	.alloc_cb = on_alloc,
	.read_cb = on_read,
	.written_cb = tls_on_written,
	.shutdown_cb = tls_on_shutdown,
	.closed_cb = on_closed,
};

static void nothing(void *arg)
{
	(void)arg;
}

/* OpenSSL works off any number of them without an end, and plain bytes, which have limits, never come of it. */
static void on_message(int is_sent, int version, int type, const void *bytes, size_t len, SSL *ssl, void *arg)
{
	struct tls_conn *conn = arg;
	(void)version;
	(void)ssl;
	if (!is_sent && type == SSL3_RT_HANDSHAKE && len > 0 && *(const uint8_t *)bytes == SSL3_MT_KEY_UPDATE)
		conn->key_updates++;
}

static const struct transport_events unused_events = {.closed_cb = nothing};

struct transport *tls_wrap(struct tls *tls, struct transport *under)
{
	struct tls_conn *conn = calloc(1, sizeof(*conn));
	BIO *bio = conn != NULL ? BIO_new(tls->method) : NULL;
	if (bio != NULL)
		conn->ssl = SSL_new(tls->context);
	if (bio == NULL || conn->ssl == NULL) {
		BIO_free(bio);
		free(conn);
		ERR_clear_error();
		under->events = &unused_events;
		under->ops->close(under);
		return NULL;
	}
	BIO_set_data(bio, conn);
	SSL_set_msg_callback(conn->ssl, on_message);
	SSL_set_msg_callback_arg(conn->ssl, conn);
	SSL_set_bio(conn->ssl, bio, bio);
	SSL_set_accept_state(conn->ssl);
	conn->base.ops = &tls_ops;
	conn->base.peer = under->peer;
	conn->under = under;
	conn->tls = tls;
	under->events = &under_events;
	under->arg = conn;
	return &conn->base;
}
