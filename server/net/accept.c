#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "clock.h"
#include "log.h"
#include "server_impl.h"
#include "transport_uv.h"

/* A connection that is over the bound gets its one answer; if too many of those are still being ended, the oldest
 * has had its time. */
static void refuse(struct server *server, struct conn *conn)
{
	struct error err;
	struct conn *oldest = server->refused[server->refused_at];
	if (oldest != NULL)
		conn_abort(oldest, NULL);
	server->refused[server->refused_at] = conn;
	server->refused_at = (server->refused_at + 1) % REFUSED_MAX;
	server->refused_count++;
	server->net.stats.connections_refused++;
	error_set(&err, ERR_BUSY, "there are max_connections (%" PRIu32 ") already: connect again later",
		server->net.options->max_connections);
	server->net.stats.errors[ERR_BUSY]++;
	conn_fail(conn, 0, &err);
}

void accept_closed(struct server *server, struct conn *conn)
{
	for (size_t i = 0; i < REFUSED_MAX; i++) {
		if (server->refused[i] == conn) {
			server->refused[i] = NULL;
			break;
		}
	}
	struct session *session = conn_user(conn);
	if (session->refused)
		server->refused_count--;
	free(session);
}

/* One line a second at most: what fails here fails for each that comes. */
static void note_failure(struct server *server, int status)
{
	uint64_t now_ns = clock_now_ns();
	server->net.stats.accept_errors++;
	if (server->accept_logged_ns != 0 && now_ns < server->accept_logged_ns + NS_PER_SECOND)
		return;
	server->accept_logged_ns = now_ns;
	log_warn("net", "cannot accept a connection: %s; it is tried again", uv_strerror(status));
}

void accept_cb(int fd, bool tcp, void *arg)
{
	struct server *server = arg;
	struct transport *transport;
	if (fd < 0) {
		server->accept_again = true;
		note_failure(server, fd);
		return;
	}
	int status = transport_uv_open(&server->net.loop, fd, tcp, ++server->accepted_number, &transport);
	struct session *session = status == 0 ? calloc(1, sizeof(*session)) : NULL;
	if (status == 0 && session == NULL) {
		transport_uv_discard(transport);
		status = -ENOMEM;
	}
	if (status != 0) {
		note_failure(server, status);
		return;
	}
	if (tcp && server->net.tls != NULL && (transport = tls_wrap(server->net.tls, transport)) == NULL) {
		free(session);
		note_failure(server, -ENOMEM);
		return;
	}
	struct conn_group_stats stats;
	conn_group_stats(server->net.conns, &stats);
	session->refused = stats.connections - server->refused_count >= server->net.options->max_connections;
	struct conn *conn = conn_new(server->net.conns, transport, session);
	if (conn == NULL) {
		free(session);
		note_failure(server, -ENOMEM);
		return;
	}
	server->net.stats.connections_accepted++;
	if (session->refused)
		refuse(server, conn);
}

void accept_retry(struct server *server)
{
	if (!server->accept_again || server->net.stopping)
		return;
	server->accept_again = false;
	for (size_t i = 0; i < server->listener_count; i++)
		listener_resume(server->listeners[i]);
}
