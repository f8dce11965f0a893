#include "client_tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client_memory.h"

#ifndef IRONWAL_TLS

struct client_tls *client_tls_new(const struct mem *mem, const ironwal_options *options, ironwal_error *error)
{
	(void)mem;
	(void)options;
	cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT, "this libironwal was built without TLS: use tcp: or unix:");
	return NULL;
}

void client_tls_free(struct client_tls *tls)
{
	(void)tls;
}

struct transport *client_tls_wrap(
	const struct mem *mem, struct client_tls *tls, const char *host, struct transport *under)
{
	(void)mem;
	(void)tls;
	(void)host;
	under->ops->free(under);
	return NULL;
}

#else

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "buf.h"

/* What one read takes off the socket; what goes into one record. */
#define IN_BYTES ((size_t)32768)
#define RECORD_BYTES ((size_t)16384)
/* One read of ours takes so many records at most, however short they are. */
#define RECORDS_PER_READ 1024
#define REASON_BYTES 200

struct client_tls {
	SSL_CTX *context;
};

struct tls_transport {
	struct transport base;
	struct transport *under;
	SSL *ssl;
	BIO_METHOD *method;
	bool established, failed;
	char reason[REASON_BYTES]; /* once it failed */
	int under_errno;	   /* of the last read that failed */
	bool under_ended;

	struct buf out; /* encrypted, from out_at on not with the kernel yet */
	size_t out_at;
	size_t in_at, in_len;
	uint8_t in[IN_BYTES];
};

static struct tls_transport *of_base(const struct transport *transport)
{
	return (struct tls_transport *)transport;
}

/* The first thing that went wrong, by OpenSSL's queue, which is empty afterwards. */
static void take_reason(char *text, size_t size)
{
	unsigned long code = ERR_peek_error();
	const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
	if (code != 0 && ERR_SYSTEM_ERROR(code))
		reason = strerror(ERR_GET_REASON(code));
	snprintf(text, size, "%s", reason != NULL ? reason : "unknown reason");
	ERR_clear_error();
}

/* ---- certificates ---- */

static const char *file_of(const char *option, const char *variable)
{
	const char *path = option != NULL ? option : secure_getenv(variable);
	return path != NULL && path[0] != '\0' ? path : NULL;
}

static int no_passphrase(char *buffer, int size, int writing, void *arg)
{
	(void)buffer;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

static int bad_file(const char *what, const char *path, ironwal_error *error)
{
	char reason[REASON_BYTES];
	take_reason(reason, sizeof(reason));
	return cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT, "%s %.200s: %s", what, path, reason);
}

static int load_files(SSL_CTX *context, const ironwal_options *options, ironwal_error *error)
{
	const char *ca = file_of(options->tls_ca_file, "IRONWAL_TLS_CA");
	const char *certificate = file_of(options->tls_certificate_file, "IRONWAL_TLS_CERT");
	const char *key = file_of(options->tls_key_file, "IRONWAL_TLS_KEY");
	if ((certificate == NULL) != (key == NULL))
		return cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT,
			"a certificate of the client's and its key go together: only one of them is given");
	if (ca != NULL && SSL_CTX_load_verify_file(context, ca) != 1)
		return bad_file("authorities in", ca, error);
	if (ca == NULL && SSL_CTX_set_default_verify_paths(context) != 1)
		return bad_file("authorities of", "this system", error);
	if (certificate != NULL && SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
		return bad_file("the certificate in", certificate, error);
	if (key != NULL && SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
		return bad_file("the key in", key, error);
	return 0;
}

struct client_tls *client_tls_new(const struct mem *mem, const ironwal_options *options, ironwal_error *error)
{
	struct client_tls *tls = block_new(mem, sizeof(*tls));
	ERR_clear_error();
	if (tls != NULL)
		tls->context = SSL_CTX_new(TLS_client_method());
	if (tls == NULL || tls->context == NULL) {
		client_tls_free(tls);
		cerr_no_memory(error);
		return NULL;
	}
	SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_default_passwd_cb(tls->context, no_passphrase);
	if (SSL_CTX_set_min_proto_version(tls->context, TLS1_3_VERSION) != 1) {
		cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT, "the OpenSSL that is here has no TLS 1.3");
		client_tls_free(tls);
		return NULL;
	}
	if (load_files(tls->context, options, error) != 0) {
		client_tls_free(tls);
		return NULL;
	}
	return tls;
}

void client_tls_free(struct client_tls *tls)
{
	if (tls == NULL)
		return;
	SSL_CTX_free(tls->context);
	block_free(tls);
}

/* ---- OpenSSL's side of the socket ---- */

static int bio_read(BIO *bio, char *bytes, int len)
{
	struct tls_transport *t = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	if (t->in_at == t->in_len) {
		ssize_t count = t->under->ops->read(t->under, t->in, sizeof(t->in));
		if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			BIO_set_retry_read(bio);
			return -1;
		}
		if (count <= 0) {
			t->under_errno = count < 0 ? errno : 0;
			t->under_ended = count == 0;
			return -1;
		}
		t->in_at = 0;
		t->in_len = (size_t)count;
	}
	size_t count = t->in_len - t->in_at < (size_t)len ? t->in_len - t->in_at : (size_t)len;
	memcpy(bytes, t->in + t->in_at, count);
	t->in_at += count;
	return (int)count;
}

static int bio_write(BIO *bio, const char *bytes, int len)
{
	struct tls_transport *t = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	return buf_append(&t->out, bytes, (size_t)len) == 0 ? len : -1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *arg)
{
	(void)bio;
	(void)number;
	(void)arg;
	return command == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

static BIO *make_bio(struct tls_transport *t)
{
	t->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "ironwal");
	if (t->method == NULL)
		return NULL;
	BIO_meth_set_read(t->method, bio_read);
	BIO_meth_set_write(t->method, bio_write);
	BIO_meth_set_ctrl(t->method, bio_ctrl);
	BIO_meth_set_create(t->method, bio_create);
	BIO *bio = BIO_new(t->method);
	if (bio != NULL)
		BIO_set_data(bio, t);
	return bio;
}

/* ---- bytes ---- */

/* -1: errno. What the kernel does not take now stays. */
static int send_out(struct tls_transport *t)
{
	while (t->out_at < t->out.len) {
		ssize_t count = t->under->ops->write(t->under, t->out.data + t->out_at, t->out.len - t->out_at);
		if (count < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
		t->out_at += (size_t)count;
	}
	t->out.len = t->out_at = 0;
	return 0;
}

/* The operation that returned this has not succeeded: -1 with errno, EAGAIN if it only has to wait. */
static ssize_t not_done(struct tls_transport *t, int result)
{
	int status = SSL_get_error(t->ssl, result);
	if (status == SSL_ERROR_WANT_READ) {
		ERR_clear_error();
		errno = EAGAIN;
		return -1;
	}
	t->failed = true;
	long verified = SSL_get_verify_result(t->ssl);
	if (verified != X509_V_OK) {
		snprintf(t->reason, sizeof(t->reason), "the server's certificate is not accepted: %s",
			X509_verify_cert_error_string(verified));
		ERR_clear_error();
	} else if (t->under_ended) {
		snprintf(t->reason, sizeof(t->reason), "%s",
			t->established ? "it was cut off: there was no close_notify"
				       : "the server closed it during the handshake");
		ERR_clear_error();
	} else if (t->under_errno != 0) {
		snprintf(t->reason, sizeof(t->reason), "%s", strerror(t->under_errno));
		ERR_clear_error();
	} else {
		take_reason(t->reason, sizeof(t->reason));
	}
	(void)send_out(t); /* an alert */
	errno = t->under_errno != 0 ? t->under_errno : EPROTO;
	return -1;
}

/* 0: established. */
static ssize_t go_on_with_handshake(struct tls_transport *t)
{
	if (t->established)
		return 0;
	ERR_clear_error();
	int result = SSL_connect(t->ssl);
	if (result != 1)
		return send_out(t) != 0 ? -1 : not_done(t, result);
	t->established = true;
	return send_out(t);
}

static ssize_t tls_write(struct transport *transport, const void *bytes, size_t len)
{
	struct tls_transport *t = of_base(transport);
	size_t written = 0;
	if (t->failed) {
		errno = EPROTO;
		return -1;
	}
	if (send_out(t) != 0 || go_on_with_handshake(t) != 0)
		return -1;
	if (t->out_at < t->out.len) {
		errno = EAGAIN;
		return -1;
	}
	if (len == 0)
		return 0;
	ERR_clear_error();
	if (SSL_write_ex(t->ssl, bytes, len < RECORD_BYTES ? len : RECORD_BYTES, &written) != 1)
		return not_done(t, 0);
	return send_out(t) == 0 ? (ssize_t)written : -1;
}

static ssize_t tls_read(struct transport *transport, void *bytes, size_t len)
{
	struct tls_transport *t = of_base(transport);
	size_t count = 0, total = 0;
	if (t->failed) {
		errno = t->under_errno != 0 ? t->under_errno : EPROTO;
		return -1;
	}
	/* That nothing more can be written is no reason not to read what was said before. */
	(void)send_out(t);
	if (go_on_with_handshake(t) != 0)
		return -1;
	ERR_clear_error();
	for (unsigned records = 0; total < len && records < RECORDS_PER_READ; records++) {
		if (SSL_read_ex(t->ssl, (uint8_t *)bytes + total, len - total, &count) == 1) {
			total += count;
			continue;
		}
		/* What comes behind the bytes is told by the next read: tls_has_input knows of it. */
		if (SSL_get_error(t->ssl, 0) != SSL_ERROR_ZERO_RETURN && not_done(t, 0) != 0 && total == 0)
			return -1;
		break;
	}
	return (ssize_t)total;
}

static int tls_fd(const struct transport *transport)
{
	const struct transport *under = of_base(transport)->under;
	return under->ops->fd(under);
}

static size_t tls_held(const struct transport *transport)
{
	const struct tls_transport *t = of_base(transport);
	return t->out.len - t->out_at;
}

static bool tls_has_input(const struct transport *transport)
{
	const struct tls_transport *t = of_base(transport);
	/* Of a failure, and of the end, the next read tells. */
	return t->failed || t->in_at < t->in_len || SSL_pending(t->ssl) > 0 ||
	       (SSL_get_shutdown(t->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
}

static bool tls_waits_for_peer(const struct transport *transport)
{
	const struct tls_transport *t = of_base(transport);
	/* Before its first step it has something to say. */
	return !t->established && !t->failed && SSL_get_state(t->ssl) != TLS_ST_BEFORE && t->out_at == t->out.len;
}

static const char *tls_reason(const struct transport *transport, bool *ret_established)
{
	const struct tls_transport *t = of_base(transport);
	*ret_established = t->established;
	return t->failed ? t->reason : NULL;
}

static void tls_free(struct transport *transport)
{
	struct tls_transport *t = of_base(transport);
	ERR_clear_error();
	if (t->established && !t->failed && t->out_at == t->out.len && SSL_shutdown(t->ssl) >= 0)
		(void)send_out(t);
	ERR_clear_error();
	SSL_free(t->ssl);
	BIO_meth_free(t->method);
	buf_free(&t->out);
	t->under->ops->free(t->under);
	block_free(t);
}

static const struct transport_ops tls_ops = {
	.read = tls_read,
	.write = tls_write,
	.fd = tls_fd,
	.free = tls_free,
	.held = tls_held,
	.has_input = tls_has_input,
	.waits_for_peer = tls_waits_for_peer,
	.reason = tls_reason,
};

static bool set_host(SSL *ssl, const char *host)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	X509_VERIFY_PARAM_set_hostflags(
		param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	if (X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1)
		return true;
	ERR_clear_error();
	return X509_VERIFY_PARAM_set1_host(param, host, 0) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

struct transport *client_tls_wrap(
	const struct mem *mem, struct client_tls *tls, const char *host, struct transport *under)
{
	struct tls_transport *t = block_new(mem, sizeof(*t));
	BIO *bio = t != NULL ? make_bio(t) : NULL;
	if (bio != NULL)
		t->ssl = SSL_new(tls->context);
	if (bio == NULL || t->ssl == NULL || !set_host(t->ssl, host)) {
		if (t != NULL) {
			SSL_free(t->ssl);
			BIO_free(bio);
			BIO_meth_free(t->method);
			block_free(t);
		}
		ERR_clear_error();
		under->ops->free(under);
		return NULL;
	}
	SSL_set_bio(t->ssl, bio, bio);
	SSL_set_connect_state(t->ssl);
	t->base.ops = &tls_ops;
	t->under = under;
	t->out.mem = block_mem(t);
	return &t->base;
}

#endif
