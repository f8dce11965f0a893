/*
 * shutdown: the graceful stop.
 *
 *   1. listeners are closed, but for that of metrics, which tells how it stops until the loop ends; waiting iters are
 *      answered, empty
 *   2. what was read is answered; requests that arrive now get ShuttingDown
 *   3. each connection that is owed nothing: sending side ended, input thrown away until the client ends too
 *   4. connections that are left at the deadline are closed; what the engine has in hand is waited for, always
 *   5. the loop ends; main closes the engine, which syncs everything
 */
#include <inttypes.h>

#include "clock.h"
#include "log.h"
#include "server_impl.h"

/* For requests that were on their way when the stop began: they are told so, rather than left without an answer. */
#define GRACE_NS (100 * NS_PER_MS)
#define TICK_MS 20

void shutdown_begin(struct server *server, const char *why)
{
	struct net *net = &server->net;
	if (net->stopping)
		return;
	net->stopping = true;
	uint64_t now_ns = clock_now_ns();
	struct conn_group_stats stats;
	conn_group_stats(net->conns, &stats);
	log_info("net", "stopping (%s): %" PRIu64 " connections have up to %" PRIu64 " ms to take their answers", why,
		stats.connections, net->options->shutdown_timeout_ns / NS_PER_MS);
	if (server->calls.stopping_cb != NULL)
		server->calls.stopping_cb(server->calls.arg);
	for (size_t i = 0; i < server->listener_count; i++)
		listener_close(server->listeners[i]);
	server->listener_count = 0;
	uint64_t grace_ns = net->options->shutdown_timeout_ns < GRACE_NS ? net->options->shutdown_timeout_ns : GRACE_NS;
	conn_group_stop(net->conns, now_ns + grace_ns, now_ns + net->options->shutdown_timeout_ns);
	waiters_wake_all(net->waiters);
	uv_timer_set_repeat(&server->tick, TICK_MS);
	uv_timer_again(&server->tick);
}

void shutdown_check(struct server *server)
{
	struct net *net = &server->net;
	struct conn_group_stats stats;
	if (!net->stopping)
		return;
	conn_group_stats(net->conns, &stats);
	if (stats.connections == 0 && net->pool_reads == 0 && engine_idle(net->engine))
		uv_stop(&net->loop);
}
