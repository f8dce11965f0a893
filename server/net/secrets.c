/*
 * secrets: tokens and certificates, which can be renewed while connections are served.
 *
 * First all of the new ones are read, then, where nothing can fail any more, they take the place of the old.
 */
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "server_impl.h"

struct renewal {
	const struct auth *auth;
	size_t kept, ended;
};

static void renew(struct conn *conn, void *arg)
{
	struct renewal *renewal = arg;
	struct session *session = conn_user(conn);
	struct error err;
	if (session->token == NULL)
		return;
	const struct token *old = session->token;
	session->token = auth_again(renewal->auth, old);
	if (session->token != NULL) {
		renewal->kept++;
		return;
	}
	renewal->ended++;
	log_info("net", "%s: the token of %s was taken away or changed", conn_peer(conn), old->name);
	error_set(
		&err, ERR_UNAUTHORIZED, "the token is not valid any more, or allows something else now: connect again");
	conn_fail(conn, 0, &err);
}

/* systemd copies credentials when it starts a service, and not again. */
static void note_copy(const char *what, const char *path)
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	size_t len = directory != NULL ? strlen(directory) : 0;
	if (len > 0 && strncmp(path, directory, len) == 0 && (path[len] == '/' || directory[len - 1] == '/'))
		log_warn("net",
			"%s %s is a copy that systemd made when it started this: what has changed since then is only "
			"read after a restart",
			what, path);
}

struct server_secrets {
	struct token_set *set; /* NULL: none is asked for */
	SSL_CTX *context;      /* the same */
};

static int check_switches(const struct server *server, const struct server_secret_files *files, struct error *err)
{
	const struct {
		const char *name, *now;
		bool was;
	} switches[] = {
		{"token_file", files->token_file, server->net.auth != NULL},
		{"tls_certificate", files->tls_certificate, server->net.tls != NULL},
		{"tls_client_ca", files->tls_client_ca, server->asks_for_certificates},
	};
	for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++) {
		if ((switches[i].now != NULL) != switches[i].was)
			return error_set(err, ERR_CONFIG, "%s cannot become %s while the daemon runs: restart it",
				switches[i].name, switches[i].was ? "none" : "a file");
	}
	return 0;
}

static void renew_tokens(struct net *net, const char *path, struct token_set *set)
{
	struct token_set *old = auth_replace(net->auth, set);
	struct renewal renewal = {.auth = net->auth};
	conn_group_each(net->conns, renew, &renewal);
	token_set_free(old);
	log_info("net", "token_file %s: %zu tokens; of the connections %zu stay and %zu were ended", path,
		token_set_count(set), renewal.kept, renewal.ended);
	note_copy("token_file", path);
}

static void renew_certificates(struct net *net, const struct server_secret_files *files, SSL_CTX *context)
{
	tls_replace(net->tls, context);
	log_info("net", "tls_certificate %s is that of new connections", files->tls_certificate);
	note_copy("tls_certificate", files->tls_certificate);
	note_copy("tls_key", files->tls_key);
	if (files->tls_client_ca != NULL)
		note_copy("tls_client_ca", files->tls_client_ca);
}

static int read_files(const struct server_secret_files *files, struct server_secrets *secrets, struct error *err)
{
	const struct tls_files tls = {files->tls_certificate, files->tls_key, files->tls_client_ca};
	if (files->token_file != NULL && token_set_read(files->token_file, &secrets->set, err) != 0)
		return -1;
	return files->tls_certificate != NULL ? tls_load(&tls, &secrets->context, err) : 0;
}

void server_secrets_free(struct server_secrets *secrets)
{
	if (secrets == NULL)
		return;
	token_set_free(secrets->set);
	SSL_CTX_free(secrets->context);
	free(secrets);
}

int server_read_secrets(const struct server *server, const struct server_secret_files *files,
	struct server_secrets **ret_secrets, struct error *err)
{
	if (check_switches(server, files, err) != 0)
		return -1;
	struct server_secrets *secrets = calloc(1, sizeof(*secrets));
	if (secrets == NULL)
		return error_set(err, ERR_CONFIG, "no memory for tokens and certificates");
	if (read_files(files, secrets, err) != 0) {
		server_secrets_free(secrets);
		return -1;
	}
	*ret_secrets = secrets;
	return 0;
}

void server_take_secrets(struct server *server, struct server_secrets *secrets, const struct server_secret_files *files)
{
	struct net *net = &server->net;
	if (secrets->set != NULL)
		renew_tokens(net, files->token_file, secrets->set);
	if (secrets->context != NULL)
		renew_certificates(net, files, secrets->context);
	free(secrets);
}

int secrets_begin(struct server *server, const struct server_secret_files *files, struct error *err)
{
	const struct tls_files tls = {files->tls_certificate, files->tls_key, files->tls_client_ca};
	SSL_CTX *context;
	server->asks_for_certificates = files->tls_client_ca != NULL;
	if (files->token_file != NULL && auth_new(files->token_file, &server->net.auth, err) != 0)
		return -1;
	if (files->tls_certificate == NULL)
		return 0;
	if (tls_load(&tls, &context, err) != 0)
		return -1;
	server->net.tls = tls_new(context);
	return server->net.tls != NULL ? 0 : error_set(err, ERR_CONFIG, "no memory for TLS");
}
