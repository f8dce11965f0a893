#include "tls.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "log.h"
#include "tls_impl.h"

/* Certificates between a client's and one that is trusted. */
#define CHAIN_DEPTH_MAX 8
/* How long before its end a certificate is worth a line. */
#define WARN_DAYS 14

void tls_reason(char *text, size_t size)
{
	unsigned long code = ERR_peek_error();
	const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
	if (code != 0 && ERR_SYSTEM_ERROR(code))
		reason = strerror(ERR_GET_REASON(code));
	snprintf(text, size, "%s", reason != NULL ? reason : "unknown reason");
	ERR_clear_error();
}

static int bad(struct error *err, const char *what, const char *path)
{
	char reason[TLS_REASON_BYTES];
	tls_reason(reason, sizeof(reason));
	return error_set(err, ERR_CONFIG, "%s %.200s: %s: expected a PEM file", what, path, reason);
}

/* A daemon has nobody to ask for a passphrase. */
static int no_passphrase(char *buffer, int size, int writing, void *arg)
{
	(void)buffer;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

static int check_key_file(const char *path, struct error *err)
{
	struct stat status;
	if (stat(path, &status) != 0)
		return error_set(err, ERR_CONFIG, "tls_key %.200s: %s", path, strerror(errno));
	if ((status.st_mode & (S_IROTH | S_IWOTH)) != 0)
		return error_set(
			err, ERR_CONFIG, "tls_key %.200s: everyone on this machine can read it: chmod o-rwx", path);
	return 0;
}

static void note_end(const char *path, const X509 *certificate)
{
	int days = 0, seconds = 0;
	if (certificate == NULL || ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate)) != 1)
		return;
	if (days < 0 || seconds < 0)
		log_warn("net", "tls_certificate %s is not valid any more: clients will refuse it", path);
	else if (days < WARN_DAYS)
		log_warn("net", "tls_certificate %s is valid for %d days only", path, days);
}

static int load_certificate(SSL_CTX *context, const struct tls_files *files, struct error *err)
{
	if (SSL_CTX_use_certificate_chain_file(context, files->certificate) != 1)
		return bad(err, "tls_certificate", files->certificate);
	if (check_key_file(files->key, err) != 0)
		return -1;
	/* A key of another certificate is refused here. */
	if (SSL_CTX_use_PrivateKey_file(context, files->key, SSL_FILETYPE_PEM) != 1)
		return bad(err, "tls_key", files->key);
	note_end(files->certificate, SSL_CTX_get0_certificate(context));
	return 0;
}

/* A certificate takes many times its bytes once it is read: who sends more of them than can be a chain is shown out. */
static int check_chain(X509_STORE_CTX *store, void *arg)
{
	(void)arg;
	if (sk_X509_num(X509_STORE_CTX_get0_untrusted(store)) <= CHAIN_DEPTH_MAX + 2)
		return X509_verify_cert(store) == 1;
	X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_CHAIN_TOO_LONG);
	return 0;
}

static int load_client_ca(SSL_CTX *context, const char *path, struct error *err)
{
	STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(path);
	if (names == NULL || SSL_CTX_load_verify_file(context, path) != 1) {
		sk_X509_NAME_pop_free(names, X509_NAME_free);
		return bad(err, "tls_client_ca", path);
	}
	SSL_CTX_set_client_CA_list(context, names);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_verify_depth(context, CHAIN_DEPTH_MAX);
	SSL_CTX_set_cert_verify_callback(context, check_chain, NULL);
	return 0;
}

int tls_load(const struct tls_files *files, SSL_CTX **ret_context, struct error *err)
{
	ERR_clear_error();
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
		SSL_CTX_set_num_tickets(context, 0) != 1) {
		SSL_CTX_free(context);
		return error_set(err, ERR_CONFIG, "OpenSSL does not work here: no TLS 1.3");
	}
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_max_cert_list(context, (long)TLS_CERTIFICATES_BYTES_MAX);
	SSL_CTX_set_default_passwd_cb(context, no_passphrase);
	if (load_certificate(context, files, err) != 0 ||
		(files->client_ca != NULL && load_client_ca(context, files->client_ca, err) != 0)) {
		SSL_CTX_free(context);
		return -1;
	}
	*ret_context = context;
	return 0;
}

/* ---- OpenSSL's side: bytes to take, and a place for what it makes ---- */

static int bio_read(BIO *bio, char *bytes, int len)
{
	struct tls_conn *conn = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	if (conn->fed_len == 0 || conn->key_updates > TLS_KEY_UPDATES_MAX) {
		BIO_set_retry_read(bio);
		return -1;
	}
	size_t count = conn->fed_len < (size_t)len ? conn->fed_len : (size_t)len;
	if (!conn->established && (conn->watch.refused || tls_watch(conn, conn->fed, count) != 0)) {
		conn->watch.refused = true;
		return -1;
	}
	memcpy(bytes, conn->fed, count);
	conn->fed += count;
	conn->fed_len -= count;
	return (int)count;
}

static int bio_write(BIO *bio, const char *bytes, int len)
{
	struct tls_conn *conn = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	if (conn->out.len + (size_t)len > TLS_HELD_BYTES_MAX || buf_append(&conn->out, bytes, (size_t)len) != 0)
		return -1;
	return len;
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

static BIO_METHOD *bio_method(void)
{
	BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "ironwald");
	if (method == NULL)
		return NULL;
	BIO_meth_set_read(method, bio_read);
	BIO_meth_set_write(method, bio_write);
	BIO_meth_set_ctrl(method, bio_ctrl);
	BIO_meth_set_create(method, bio_create);
	return method;
}

/* ---- life ---- */

struct tls *tls_new(SSL_CTX *context)
{
	struct tls *tls = calloc(1, sizeof(*tls));
	if (tls == NULL || (tls->method = bio_method()) == NULL) {
		free(tls);
		SSL_CTX_free(context);
		return NULL;
	}
	tls->context = context;
	return tls;
}

void tls_free(struct tls *tls)
{
	if (tls == NULL)
		return;
	SSL_CTX_free(tls->context);
	BIO_meth_free(tls->method);
	free(tls);
}

void tls_replace(struct tls *tls, SSL_CTX *context)
{
	/* Connections have their own references to the old one. */
	SSL_CTX_free(tls->context);
	tls->context = context;
}

void tls_get_stats(const struct tls *tls, struct tls_stats *ret_stats)
{
	*ret_stats = tls != NULL ? tls->stats : (struct tls_stats){0};
}

/* ---- the queue ---- */

void tls_enqueue(struct tls_conn *conn)
{
	struct tls_queue *queue = conn->established ? &conn->tls->established : &conn->tls->strangers;
	if (conn->queue != NULL || conn->closed)
		return;
	conn->queue = queue;
	queue->count++;
	conn->next = NULL;
	conn->prev = queue->tail;
	if (queue->tail != NULL)
		queue->tail->next = conn;
	else
		queue->head = conn;
	queue->tail = conn;
}

void tls_dequeue(struct tls_conn *conn)
{
	struct tls_queue *queue = conn->queue;
	if (queue == NULL)
		return;
	conn->queue = NULL;
	queue->count--;
	if (conn->prev != NULL)
		conn->prev->next = conn->next;
	else
		queue->head = conn->next;
	if (conn->next != NULL)
		conn->next->prev = conn->prev;
	else
		queue->tail = conn->prev;
}

/* Who is queued again meanwhile has the next turn. */
static void serve(struct tls_queue *queue, unsigned handshakes_max)
{
	unsigned handshakes = 0;
	for (size_t left = queue->count; left > 0 && queue->head != NULL && handshakes < handshakes_max; left--) {
		struct tls_conn *conn = queue->head;
		tls_dequeue(conn);
		handshakes += tls_conn_turn(conn);
	}
}

void tls_service(struct tls *tls)
{
	tls->turn++;
	serve(&tls->established, UINT_MAX); /* none of them shakes hands */
	serve(&tls->strangers, TLS_HANDSHAKES_PER_TURN);
}

bool tls_has_work(const struct tls *tls)
{
	return tls->established.head != NULL || tls->strangers.head != NULL;
}
