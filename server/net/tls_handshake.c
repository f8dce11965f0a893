#include <openssl/err.h>

#include "log.h"
#include "tls_impl.h"

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
	} else if (SSL_get_error(conn->ssl, result) != SSL_ERROR_WANT_READ) {
		long verified = SSL_get_verify_result(conn->ssl);
		tls_fail_protocol(conn, verified != X509_V_OK ? X509_verify_cert_error_string(verified) : NULL);
	}
}
