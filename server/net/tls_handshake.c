/*
 * tls_handshake: until both sides know whom they talk to.
 *
 * OpenSSL makes room for a whole message of the handshake as it comes in, and a first one may have 128 KiB: too much
 * for each stranger. So what is on its way to OpenSSL is looked at here: the lengths that messages announce while
 * nothing is encrypted yet (afterwards only certificates are long, and their room is bounded by
 * TLS_CERTIFICATES_BYTES_MAX), and how much there is in all. Nothing else is decided here: what does not look like TLS
 * is OpenSSL's to refuse.
 */
#include <stdio.h>

#include <openssl/err.h>

#include "log.h"
#include "tls_impl.h"

#define RECORD_HEAD_BYTES 5
#define MESSAGE_HEAD_BYTES 4

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Some bytes of messages, in a record that is not encrypted. */
static int watch_messages(struct tls_watch *watch, const uint8_t *bytes, size_t len)
{
	while (len > 0) {
		size_t count = smaller(len, watch->message_left);
		watch->message_left -= count;
		bytes += count;
		len -= count;
		if (len == 0)
			break;
		watch->message_head = watch->message_head << 8 | *bytes++; /* its type, and three bytes of its length */
		len--;
		if (++watch->message_head_len < MESSAGE_HEAD_BYTES)
			continue;
		watch->message_head_len = 0;
		watch->message_left = watch->message_head & 0xffffff;
		if (watch->message_left > TLS_HELLO_BYTES_MAX)
			return -1;
	}
	return 0;
}

int tls_watch(struct tls_conn *conn, const uint8_t *bytes, size_t len)
{
	struct tls_watch *watch = &conn->watch;
	watch->bytes += len;
	if (watch->bytes > TLS_HANDSHAKE_BYTES_MAX)
		return -1;
	while (len > 0) {
		size_t count = smaller(len, watch->record_left);
		if (watch->record_head[0] == SSL3_RT_HANDSHAKE && watch_messages(watch, bytes, count) != 0)
			return -1;
		watch->record_left -= count;
		bytes += count;
		len -= count;
		if (len == 0)
			break;
		watch->record_head[watch->record_head_len++] = *bytes++;
		len--;
		if (watch->record_head_len < RECORD_HEAD_BYTES)
			continue;
		watch->record_head_len = 0;
		watch->record_left = (size_t)watch->record_head[3] << 8 | watch->record_head[4];
	}
	return 0;
}

/* The alert, which OpenSSL does not know of: it is only sent in the clear, where nothing has been encrypted yet. */
static void refuse(struct tls_conn *conn)
{
	static const uint8_t alert[] = {SSL3_RT_ALERT, 3, 3, 0, 2, SSL3_AL_FATAL, SSL_AD_ILLEGAL_PARAMETER};
	char reason[100];
	if (conn->watch.message_left > TLS_HELLO_BYTES_MAX)
		snprintf(reason, sizeof(reason), "a message of %zu bytes is announced, and %zu are the most",
			conn->watch.message_left, TLS_HELLO_BYTES_MAX);
	else
		snprintf(reason, sizeof(reason), "it is not over after %zu bytes", TLS_HANDSHAKE_BYTES_MAX);
	if (BIO_number_written(SSL_get_wbio(conn->ssl)) == 0)
		(void)buf_append(&conn->out, alert, sizeof(alert));
	ERR_clear_error();
	tls_fail_protocol(conn, reason);
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

void tls_shake_hands(struct tls_conn *conn)
{
	ERR_clear_error();
	int result = SSL_accept(conn->ssl);
	if (result == 1) {
		conn->established = true;
		note_peer(conn);
	} else if (conn->watch.refused) {
		refuse(conn);
	} else if (SSL_get_error(conn->ssl, result) != SSL_ERROR_WANT_READ) {
		long verified = SSL_get_verify_result(conn->ssl);
		tls_fail_protocol(conn, verified != X509_V_OK ? X509_verify_cert_error_string(verified) : NULL);
	}
}
