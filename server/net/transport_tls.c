/*
 * transport_tls: the transport over another one, with TLS in between.
 *
 * In: encrypted bytes come into the buffer that all connections share, and OpenSSL takes them from there; what it
 * cannot take, because the connection does not read now, is kept, and then nothing more is read. Bytes of a handshake
 * wait for the connection's turn in any case. Out: what the connection offers is encrypted a chunk at a time, and only
 * told as taken once the socket has taken all of it: so what is under way is counted where it always was, and a peer
 * that does not read is found as ever.
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

static struct tls_conn *of_base(struct transport *transport)
{
	return (struct tls_conn *)transport;
}

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

/* What is in `out` may be an alert that says why. */
static void send_alert(struct tls_conn *conn)
{
	const struct iovec iov = {conn->out.data, conn->out.len};
	if (conn->out.len > 0 && conn->sending.data == NULL)
		(void)conn->under->ops->try_write(conn->under, &iov, 1);
}

/* The connection closes the transport when it is told. */
static void fail(struct tls_conn *conn, int result)
{
	if (conn->failed || conn->closed)
		return;
	conn->failed = true;
	conn->base.events->read_cb(result, conn->base.arg);
}

/* reason NULL: OpenSSL knows. */
static void fail_protocol(struct tls_conn *conn, const char *reason)
{
	char text[200];
	if (conn->failed || conn->closed)
		return;
	if (reason == NULL) {
		tls_reason(text, sizeof(text));
		reason = text;
	}
	note_failure(conn, reason);
	send_alert(conn);
	/* A client may have sent more than was read, and a reset would take the alert from it, which says what is
	 * wrong: so until it ends, too, its bytes are thrown away. It has not said hello, which bounds how long that
	 * may take. */
	if (!conn->established && conn->under->ops->shutdown(conn->under) == 0)
		conn->lingering = true;
	else
		fail(conn, -EPROTO);
}

/* ---- out ---- */

/* The next plain bytes of a row of pieces: up to a record, in one piece. */
static size_t next_record(struct tls *tls, const struct iovec *iov, int count, size_t offset, const uint8_t **ret_bytes)
{
	size_t len = iov->iov_len - offset;
	if (len >= TLS_RECORD_BYTES || count == 1) {
		*ret_bytes = (const uint8_t *)iov->iov_base + offset;
		return len < TLS_RECORD_BYTES ? len : TLS_RECORD_BYTES;
	}
	size_t used = 0;
	for (int i = 0; i < count && used < TLS_RECORD_BYTES; i++, offset = 0) {
		len = iov[i].iov_len - offset;
		if (len > TLS_RECORD_BYTES - used)
			len = TLS_RECORD_BYTES - used;
		memcpy(tls->record + used, (const uint8_t *)iov[i].iov_base + offset, len);
		used += len;
	}
	*ret_bytes = tls->record;
	return used;
}

/* Moves on by count bytes in a row of pieces. */
static void skip(const struct iovec **iov, int *count, size_t *offset, size_t bytes)
{
	while (*count > 0 && bytes >= (*iov)->iov_len - *offset) {
		bytes -= (*iov)->iov_len - *offset;
		*offset = 0;
		(*iov)++;
		(*count)--;
	}
	*offset += bytes;
}

/* Encrypts a chunk from there on, into `out`: `ahead`. -1: it cannot. */
static int encrypt(struct tls_conn *conn, const struct iovec *iov, int count, size_t offset)
{
	while (count > 0 && conn->ahead < TLS_CHUNK_BYTES) {
		const uint8_t *bytes;
		size_t written, len = next_record(conn->tls, iov, count, offset, &bytes);
		if (len > 0 && (ERR_clear_error(), SSL_write_ex(conn->ssl, bytes, len, &written)) != 1)
			return -1;
		conn->ahead += len;
		skip(&iov, &count, &offset, len);
	}
	return 0;
}

/* Gives `out` to the socket, as far as it takes it at once. 0: all of it; 1: not all; < 0: negative errno. */
static int flush(struct tls_conn *conn)
{
	if (conn->sending.data != NULL)
		return 1;
	if (conn->out.len == 0)
		return 0;
	const struct iovec iov = {conn->out.data, conn->out.len};
	ssize_t count = conn->under->ops->try_write(conn->under, &iov, 1);
	if (count < 0)
		return (int)count;
	if ((size_t)count == conn->out.len) {
		buf_free(&conn->out); /* an idle connection holds no memory */
		return 0;
	}
	buf_consume(&conn->out, (size_t)count);
	return 1;
}

/* The socket gets `out`, and tells when it has taken it. */
static int send_rest(struct tls_conn *conn)
{
	if (conn->sending.data != NULL || conn->out.len == 0)
		return 0;
	conn->sending = conn->out;
	conn->out = (struct buf){0};
	const struct iovec iov = {conn->sending.data, conn->sending.len};
	return conn->under->ops->write(conn->under, &iov, 1);
}

static ssize_t tls_try_write(struct transport *transport, const struct iovec *iov, int count)
{
	struct tls_conn *conn = of_base(transport);
	size_t offset = 0, taken = 0;
	if (!conn->established)
		return 0;
	for (;;) {
		int status = flush(conn);
		if (status < 0)
			return status;
		if (status > 0)
			return (ssize_t)taken;
		taken += conn->ahead;
		skip(&iov, &count, &offset, conn->ahead);
		conn->ahead = 0;
		if (count == 0)
			return (ssize_t)taken;
		if (encrypt(conn, iov, count, offset) != 0)
			return -EPROTO;
	}
}

static int tls_write(struct transport *transport, const struct iovec *iov, int count)
{
	struct tls_conn *conn = of_base(transport);
	conn->iov = malloc((size_t)count * sizeof(*iov));
	if (conn->iov == NULL)
		return -ENOMEM;
	memcpy(conn->iov, iov, (size_t)count * sizeof(*iov));
	conn->iov_count = count;
	conn->iov_at = 0;
	conn->iov_offset = conn->iov_left = 0;
	for (int i = 0; i < count; i++)
		conn->iov_left += iov[i].iov_len;
	/* Not told of in here, whatever goes at once. */
	if (conn->established && conn->sending.data == NULL && conn->out.len == 0)
		tls_enqueue(conn);
	return send_rest(conn);
}

/* All that a write had is with the socket. */
static void end_write(struct tls_conn *conn, int status)
{
	free(conn->iov);
	conn->iov = NULL;
	conn->iov_left = 0;
	conn->base.events->written_cb(status, conn->base.arg);
}

static void break_off(struct tls_conn *conn, int result)
{
	if (conn->iov != NULL)
		end_write(conn, result);
	fail(conn, result);
}

/* Of the write under way, what was encrypted ahead has left. */
static void take_ahead(struct tls_conn *conn)
{
	const struct iovec *iov = conn->iov + conn->iov_at;
	int count = conn->iov_count - conn->iov_at;
	conn->iov_left -= conn->ahead;
	skip(&iov, &count, &conn->iov_offset, conn->ahead);
	conn->iov_at = conn->iov_count - count;
	conn->ahead = 0;
}

static void end_sending(struct tls_conn *conn)
{
	if (!conn->shutdown_begun && conn->established) {
		ERR_clear_error();
		(void)SSL_shutdown(conn->ssl);
	}
	conn->shutdown_begun = true;
	int status = flush(conn);
	if (status > 0)
		status = send_rest(conn);
	if (status == 0)
		status = conn->under->ops->shutdown(conn->under); /* after what is being sent */
	if (status != 0)
		break_off(conn, status);
}

static void go_on_sending(struct tls_conn *conn)
{
	while (!conn->closed && !conn->failed && !conn->lingering && conn->sending.data == NULL) {
		int status = flush(conn);
		if (status > 0)
			status = send_rest(conn);
		if (status < 0) {
			break_off(conn, status);
			return;
		}
		if (conn->sending.data != NULL)
			return;
		if (conn->iov == NULL || !conn->established) {
			if (conn->shutdown_asked && !conn->shutdown_begun)
				end_sending(conn);
			return;
		}
		take_ahead(conn);
		if (conn->iov_left == 0) {
			end_write(conn, 0);
			continue;
		}
		if (encrypt(conn, conn->iov + conn->iov_at, conn->iov_count - conn->iov_at, conn->iov_offset) != 0) {
			break_off(conn, -EPROTO);
			return;
		}
	}
}

static void on_written(int status, void *arg)
{
	struct tls_conn *conn = arg;
	buf_free(&conn->sending);
	if (conn->closed || conn->failed)
		return;
	if (status != 0)
		break_off(conn, status);
	else
		go_on_sending(conn);
}

static size_t tls_unsent_bytes(struct transport *transport)
{
	struct tls_conn *conn = of_base(transport);
	return conn->iov_left + conn->out.len + conn->under->ops->unsent_bytes(conn->under);
}

static int tls_shutdown(struct transport *transport)
{
	struct tls_conn *conn = of_base(transport);
	if (conn->lingering)
		return -EPROTO;
	conn->shutdown_asked = true;
	go_on_sending(conn);
	return 0;
}

static void on_shutdown(int status, void *arg)
{
	struct tls_conn *conn = arg;
	if (!conn->closed && !conn->failed && !conn->lingering)
		conn->base.events->shutdown_cb(status, conn->base.arg);
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
		fail(conn, result);
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
		fail(conn, -ENOBUFS);
	}
}

/* Decrypts for the connection as long as it reads. */
static void decrypt(struct tls_conn *conn)
{
	while (conn->wanted && !conn->closed && !conn->failed && !conn->peer_ended) {
		uint8_t *base = NULL;
		size_t len = 0, count = 0;
		conn->base.events->alloc_cb(&base, &len, conn->base.arg);
		if (len == 0) {
			fail(conn, -ENOBUFS);
			return;
		}
		ERR_clear_error();
		if (SSL_read_ex(conn->ssl, base, len, &count) == 1) {
			conn->key_updates = 0;
			conn->base.events->read_cb((ssize_t)count, conn->base.arg);
			continue;
		}
		int status = SSL_get_error(conn->ssl, 0);
		if (conn->key_updates > TLS_KEY_UPDATES_MAX) {
			fail_protocol(conn, "too many new keys, and nothing is said with them");
			return;
		}
		if (status == SSL_ERROR_WANT_READ)
			return;
		if (status == SSL_ERROR_ZERO_RETURN) {
			conn->peer_ended = true;
			conn->base.events->read_cb(0, conn->base.arg);
			return;
		}
		fail_protocol(conn, NULL);
	}
}

static void note_peer(struct tls_conn *conn)
{
	X509 *certificate = SSL_get0_peer_certificate(conn->ssl);
	char name[200] = "";
	conn->tls->stats.handshakes++;
	if (certificate == NULL)
		return;
	X509_NAME_oneline(X509_get_subject_name(certificate), name, sizeof(name));
	log_info("net", "%s: has the certificate of %s", conn->base.peer.text, name);
}

static void shake_hands(struct tls_conn *conn)
{
	ERR_clear_error();
	int result = SSL_accept(conn->ssl);
	if (result == 1) {
		conn->established = true;
		note_peer(conn);
	} else if (SSL_get_error(conn->ssl, result) != SSL_ERROR_WANT_READ) {
		long verified = SSL_get_verify_result(conn->ssl);
		fail_protocol(conn, verified != X509_V_OK ? X509_verify_cert_error_string(verified) : NULL);
	}
}

bool tls_conn_turn(struct tls_conn *conn)
{
	bool handshake = !conn->established;
	conn->fed = conn->kept.data;
	conn->fed_len = conn->kept.len;
	if (handshake)
		shake_hands(conn);
	if (conn->established)
		decrypt(conn);
	if (conn->closed)
		return handshake;
	if (conn->lingering)
		conn->fed_len = 0;
	keep_rest(conn);
	go_on_sending(conn);
	update_reading(conn);
	return handshake;
}

static void on_alloc(uint8_t **ret_base, size_t *ret_len, void *arg)
{
	struct tls_conn *conn = arg;
	*ret_base = conn->tls->read_buffer;
	*ret_len = TLS_READ_BYTES;
}

static void on_read(ssize_t count, void *arg)
{
	struct tls_conn *conn = arg;
	if (conn->closed || conn->failed)
		return;
	if (conn->lingering) {
		conn->drained_bytes += count > 0 ? (size_t)count : TLS_HELD_BYTES_MAX;
		if (conn->drained_bytes >= TLS_HELD_BYTES_MAX)
			fail(conn, -EPROTO);
		return;
	}
	if (count == 0 && conn->established && !conn->shutdown_begun) {
		fail_protocol(conn, "the connection ended without a close_notify");
		return;
	}
	if (count <= 0) {
		fail(conn, count < 0 ? (int)count : -ECONNRESET);
		return;
	}
	if (!conn->established) {
		if (conn->kept.len + (size_t)count > TLS_HELD_BYTES_MAX ||
			buf_append(&conn->kept, conn->tls->read_buffer, (size_t)count) != 0)
			fail(conn, -ENOBUFS);
		else
			tls_enqueue(conn);
		update_reading(conn);
		return;
	}
	conn->fed = conn->tls->read_buffer;
	conn->fed_len = (size_t)count;
	decrypt(conn);
	if (conn->closed)
		return;
	keep_rest(conn);
	go_on_sending(conn);
	update_reading(conn);
}

static int tls_read_start(struct transport *transport)
{
	struct tls_conn *conn = of_base(transport);
	conn->wanted = true;
	/* Not in here: who starts to read may be in the middle of something. */
	if (conn->established && (conn->kept.len > 0 || SSL_has_pending(conn->ssl) == 1))
		tls_enqueue(conn);
	return start_or_stop_reading(conn);
}

static void tls_read_stop(struct transport *transport)
{
	struct tls_conn *conn = of_base(transport);
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
	struct tls_conn *conn = of_base(transport);
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
	.written_cb = on_written,
	.shutdown_cb = on_shutdown,
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
