#include "server.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "clock.h"
#include "dispatch.h"
#include "handlers.h"
#include "log.h"
#include "server_impl.h"
#include "thread.h"

#define MIB (UINT64_C(1024) * 1024)

/* What is thrown away of a connection that is ended: so much, or for so long. */
#define DRAIN_TIMEOUT_NS (5 * NS_PER_SECOND)
#define DRAIN_BYTES (64 * MIB)

/* Completions are answered one after the other without a look at the clock: so many. */
#define OPS_PER_LOOK 64

/* What hello may have: a token, and the name of a client. */
#define FIRST_MESSAGE_BYTES 4096

/* Without anybody who wants to hear beats. */
#define HANG_NS (30 * NS_PER_SECOND)

#define TICK_MS_MIN 10
#define TICK_MS_MAX 500

void server_options_default(struct server_options *options)
{
	*options = (struct server_options){
		.max_message_bytes = 16 * MIB,
		.max_inflight_bytes = 64 * MIB,
		.max_inflight_bytes_total = 512 * MIB,
		.max_connections = 1024,
		.hello_timeout_ns = 10 * NS_PER_SECOND,
		.write_timeout_ns = 30 * NS_PER_SECOND,
		.shutdown_timeout_ns = 10 * NS_PER_SECOND,
		.max_wait_ms = 60000,
		.unix_mode = 0600,
		.slow_disk_ns = 5 * NS_PER_SECOND,
		.sync_mode = "strict",
		.compression = "none",
	};
}

/* ---- what happens on the loop ------------------------------------------------------------------------------------ */

static void on_expiry(uv_timer_t *timer)
{
	struct server *server = timer->data;
	server->expiry_ns = UINT64_MAX;
	waiters_expire(server->net.waiters, clock_now_ns());
}

static void set_expiry(struct server *server)
{
	uint64_t deadline_ns = waiters_next_deadline_ns(server->net.waiters);
	if (deadline_ns == server->expiry_ns)
		return;
	server->expiry_ns = deadline_ns;
	if (deadline_ns == UINT64_MAX) {
		uv_timer_stop(&server->expiry);
		return;
	}
	uint64_t now_ns = clock_now_ns();
	uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
	uv_update_time(&server->net.loop);
	uv_timer_start(&server->expiry, on_expiry, left_ns / NS_PER_MS + 1, 0);
}

static void take_completions(struct server *server)
{
	struct net *net = &server->net;
	unsigned count = 0;
	net->completing = true;
	for (struct op *op = engine_take(net->engine), *next; op != NULL; op = next) {
		next = op->next;
		if (count++ % OPS_PER_LOOK == 0)
			gather_answered(&server->gather, conn_group_read_clock(net->conns));
		if (op->stream != NULL)
			waiters_touch(net->waiters, op->stream);
		op->done_cb(op);
	}
	net->completing = false;
}

static void on_wake(uv_async_t *async)
{
	struct server *server = async->data;
	if (server->net.engine != NULL) /* else woken while it was being opened */
		take_completions(server);
}

/* What was submitted goes to the writers. True: not yet, look again at once. */
static bool hand_over(struct server *server)
{
	struct engine *engine = server->net.engine;
	uint64_t since_ns, waiting = engine_waiting_ops(engine, &since_ns);
	bool was_kept = server->gather.first > 0;
	if (waiting > 0 &&
		gather_keep(&server->gather, waiting, engine_held_ops(engine, NULL), since_ns, clock_now_ns()))
		return true;
	if (was_kept) /* the wait for the writers begins now */
		(void)conn_group_read_clock(server->net.conns);
	engine_kick(engine);
	return false;
}

/* Whether the loop stays awake for what the writers are about to answer. */
static bool spins(struct server *server)
{
	struct net *net = &server->net;
	uint32_t writers;
	uint64_t ops = engine_held_ops(net->engine, &writers);
	bool spin = spin_go_on(&server->spin, ops, writers, conn_group_now_ns(net->conns), clock_now_ns());
	spin_set_awake(&server->spin, spin);
	return spin || engine_has_done(net->engine);
}

static void on_busy(uv_idle_t *idle)
{
	(void)idle; /* that it is active keeps the loop from waiting */
}

/* Everything that one turn of the loop has made goes out together: ops to the writers, answers to the sockets. */
static void on_turn(uv_prepare_t *prepare)
{
	struct server *server = prepare->data;
	struct net *net = &server->net;
	if (net->tls != NULL)
		tls_service(net->tls);
	if (engine_has_done(net->engine))
		take_completions(server);
	(void)hand_over(server);
	bool more = waiters_run(net->waiters);
	reads_go_on(net);
	more |= conn_group_service(net->conns);
	more |= reads_may_go_on(net);  /* also as answers went out just now */
	bool kept = hand_over(server); /* with requests that were held back until now */
	more |= net->tls != NULL && tls_has_work(net->tls);
	if (kept || spins(server) || more)
		uv_idle_start(&server->busy, on_busy);
	else
		uv_idle_stop(&server->busy);
	set_expiry(server);
	shutdown_check(server);
}

static void look_around(struct server *server, uint64_t now_ns)
{
	struct net *net = &server->net;
	struct activity_sample samples[ACTIVITY_MAX];
	const struct health_limits limits = {.slow_ns = net->options->slow_disk_ns,
		.hang_ns = server->calls.beat_ns != 0 ? server->calls.beat_ns : HANG_NS};
	struct health_report report;
	health_look(net->health, samples, activity_look(samples), &limits, now_ns);
	net_health(net, &report);
	bool news = report.ready != server->told_ready || report.alive != server->told_alive;
	if (server->calls.beat_ns == 0 || (now_ns < server->next_beat_ns && !news))
		return;
	server->next_beat_ns = now_ns + server->calls.beat_ns / 2;
	server->told_ready = report.ready;
	server->told_alive = report.alive;
	server->calls.beat_cb(&report, net->stopping, server->calls.arg);
}

static void on_tick(uv_timer_t *timer)
{
	struct server *server = timer->data;
	uint64_t now_ns = clock_now_ns();
	conn_group_tick(server->net.conns, now_ns);
	accept_retry(server);
	look_around(server, now_ns);
}

static void on_message(struct conn *conn, struct span payload, struct buf *owner, void *arg)
{
	struct server *server = arg;
	dispatch_message(&server->net, conn, payload, owner);
}

static void on_input_end(struct conn *conn, void *arg)
{
	struct server *server = arg;
	struct session *session = conn_user(conn);
	waiters_wake_owner(server->net.waiters, &session->waiting);
}

static void on_closed(struct conn *conn, void *arg)
{
	struct server *server = arg;
	reads_drop(&server->net, conn_user(conn));
	accept_closed(server, conn);
}

static const struct conn_events conn_events = {
	.message_cb = on_message, .input_end_cb = on_input_end, .closed_cb = on_closed};

/* ---- life -------------------------------------------------------------------------------------------------------- */

/* What a snapshot points to stays the server's, and the same for all of them. */
static int copy_options(struct server *server, const struct server_options *options, struct error *err)
{
	struct server_options *own = malloc(sizeof(*own));
	if (own == NULL)
		return error_set(err, ERR_CONFIG, "no memory for the server's options");
	*own = *options;
	server->net.options = own;
	own->tcp_addresses = server->addresses;
	own->metrics_addresses = server->metrics_addresses;
	own->sync_mode = server->sync_mode = strdup(options->sync_mode);
	own->compression = server->compression = strdup(options->compression);
	own->unix_path = server->unix_path = options->unix_path != NULL ? strdup(options->unix_path) : NULL;
	own->unix_group = server->unix_group = options->unix_group != NULL ? strdup(options->unix_group) : NULL;
	own->secrets =
		(struct server_secret_files){NULL, NULL, NULL, NULL}; /* they are read, and not looked at again */
	if (own->sync_mode == NULL || own->compression == NULL ||
		(options->unix_path != NULL && own->unix_path == NULL) ||
		(options->unix_group != NULL && own->unix_group == NULL))
		return error_set(err, ERR_CONFIG, "no memory for the server's options");
	if (options->tcp_count > SERVER_MAX_LISTEN || options->metrics_count > SERVER_MAX_LISTEN ||
		options->inherited_count > SERVER_MAX_LISTEN)
		return error_set(err, ERR_CONFIG, "at most %d addresses can be listened on", SERVER_MAX_LISTEN);
	if (options->tcp_count > 0)
		memcpy(server->addresses, options->tcp_addresses, options->tcp_count * sizeof(server->addresses[0]));
	if (options->metrics_count > 0)
		memcpy(server->metrics_addresses, options->metrics_addresses,
			options->metrics_count * sizeof(server->metrics_addresses[0]));
	return 0;
}

static int check_address(const struct sockaddr *address, const struct address_guard *guard, struct error *err)
{
	char text[ADDRESS_TEXT_MAX];
	if (address_check_open(address, guard, err) != 0)
		return -1;
	if (address_is_local(address) || (guard->authenticated && guard->encrypted))
		return 0;
	address_format(address, text, sizeof(text));
	log_warn("net", "tcp %s is open to everyone who reaches it%s: insecure_allow_open_addresses is yes", text,
		guard->authenticated ? ", and sends tokens in the clear" : "");
	return 0;
}

/* There is neither a token nor TLS there. */
static int check_metrics_address(const struct sockaddr *address, bool allowed, struct error *err)
{
	char text[ADDRESS_TEXT_MAX];
	if (address_check_open_metrics(address, allowed, err) != 0)
		return -1;
	address_format(address, text, sizeof(text));
	if (!address_is_local(address))
		log_warn("net",
			"metrics at tcp %s are open to everyone who reaches it: insecure_allow_open_addresses is yes",
			text);
	return 0;
}

/* Those that will be served, whoever has opened them. */
static int check_addresses(const struct server_options *options, const struct address_guard *guard, struct error *err)
{
	for (size_t i = 0; i < options->inherited_count; i++) {
		struct sockaddr_storage address = {0};
		socklen_t len = sizeof(address);
		int fd = options->inherited_first + (int)i;
		if (getsockname(fd, (struct sockaddr *)&address, &len) != 0)
			return error_set(err, ERR_CONFIG, "descriptor %d of the supervisor has no address: %s", fd,
				strerror(errno));
		if (check_address((const struct sockaddr *)&address, guard, err) != 0)
			return -1;
	}
	for (size_t i = 0; options->inherited_count == 0 && i < options->tcp_count; i++) {
		if (check_address((const struct sockaddr *)&options->tcp_addresses[i], guard, err) != 0)
			return -1;
	}
	for (size_t i = 0; i < options->metrics_count; i++) {
		const struct sockaddr *address = (const struct sockaddr *)&options->metrics_addresses[i];
		if (check_metrics_address(address, guard->allowed, err) != 0)
			return -1;
	}
	return 0;
}

/* What keeps strangers out is there before anything listens. */
static int make_guard(struct server *server, const struct server_options *options, struct error *err)
{
	const struct address_guard guard = {
		.authenticated = options->secrets.token_file != NULL || options->secrets.tls_client_ca != NULL,
		.encrypted = options->secrets.tls_certificate != NULL,
		.allowed = options->allow_open,
	};
	if (check_addresses(options, &guard, err) != 0)
		return -1;
	return secrets_begin(server, &options->secrets, err);
}

static struct conn_limits conn_limits_of(const struct server_options *options)
{
	return (struct conn_limits){
		.max_message_bytes = options->max_message_bytes,
		.first_message_bytes = FIRST_MESSAGE_BYTES,
		.welcome_timeout_ns = options->hello_timeout_ns,
		.max_inflight_bytes = options->max_inflight_bytes,
		.max_inflight_bytes_total = options->max_inflight_bytes_total,
		.idle_timeout_ns = options->idle_timeout_ns,
		.write_timeout_ns = options->write_timeout_ns,
		.drain_timeout_ns = DRAIN_TIMEOUT_NS,
		.drain_bytes = DRAIN_BYTES,
	};
}

static int make_rooms(struct server *server, struct error *err)
{
	const struct conn_limits limits = conn_limits_of(server->net.options);
	server->net.conns = conn_group_new(&limits, &conn_events, server);
	server->net.waiters = waiters_new();
	server->net.health = health_new();
	if (server->net.conns == NULL || server->net.waiters == NULL || server->net.health == NULL)
		return error_set(err, ERR_CONFIG, "no memory for the server");
	return 0;
}

static uint64_t tick_ms(const struct server *server)
{
	const struct server_options *options = server->net.options;
	const uint64_t timeouts_ns[] = {options->hello_timeout_ns, options->idle_timeout_ns, options->write_timeout_ns,
		options->shutdown_timeout_ns, options->slow_disk_ns, server->calls.beat_ns};
	uint64_t ms = TICK_MS_MAX;
	for (size_t i = 0; i < sizeof(timeouts_ns) / sizeof(timeouts_ns[0]); i++) {
		uint64_t quarter_ms = timeouts_ns[i] / 4 / NS_PER_MS;
		if (timeouts_ns[i] != 0 && quarter_ms < ms)
			ms = quarter_ms;
	}
	return ms < TICK_MS_MIN ? TICK_MS_MIN : ms;
}

void server_take_options(struct server *server, struct server_options *options)
{
	struct net *net = &server->net;
	const struct server_options *old = net->options;
	options->tcp_addresses = old->tcp_addresses;
	options->tcp_count = old->tcp_count;
	options->metrics_addresses = old->metrics_addresses;
	options->metrics_count = old->metrics_count;
	options->unix_path = old->unix_path;
	options->unix_mode = old->unix_mode;
	options->unix_group = old->unix_group;
	options->secrets = old->secrets;		     /* see server_take_secrets */
	options->max_message_bytes = old->max_message_bytes; /* clients were told */
	options->sync_mode = old->sync_mode;
	options->compression = old->compression;
	net->options = options;
	free((void *)old);
	const struct conn_limits limits = conn_limits_of(options);
	conn_group_set_limits(net->conns, &limits);
	if (!net->stopping)
		uv_timer_set_repeat(&server->tick, tick_ms(server)); /* from the next one on */
}

static int open_handles(struct server *server, struct error *err)
{
	uv_loop_t *loop = &server->net.loop;
	int result = uv_loop_init(loop);
	if (result != 0)
		return error_set(err, ERR_CONFIG, "cannot make the event loop: %s", uv_strerror(result));
	result = uv_async_init(loop, &server->wake, on_wake);
	if (result != 0) {
		uv_loop_close(loop);
		return error_set(err, ERR_CONFIG, "cannot make the event loop: %s", uv_strerror(result));
	}
	uv_prepare_init(loop, &server->turn);
	uv_idle_init(loop, &server->busy);
	uv_timer_init(loop, &server->tick);
	uv_timer_init(loop, &server->expiry);
	server->wake.data = server->turn.data = server->tick.data = server->expiry.data = server;
	server->expiry_ns = UINT64_MAX;
	spin_init(&server->spin);
	server->handles_open = true;
	return 0;
}

int server_new(const struct server_options *options, struct server **ret_server, struct error *err)
{
	struct server *server = calloc(1, sizeof(*server));
	if (server == NULL)
		return error_set(err, ERR_CONFIG, "no memory for the server");
	if (copy_options(server, options, err) != 0 || make_guard(server, options, err) != 0 ||
		make_rooms(server, err) != 0 || open_handles(server, err) != 0 ||
		(options->metrics_count > 0 && metrics_new(&server->net, &server->metrics, err) != 0)) {
		server_free(server);
		return -1;
	}
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	server->net.started_unix_ns = (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
	server->net.started_ns = clock_now_ns();
	*ret_server = server;
	return 0;
}

/* [any] */
static void notify(void *arg)
{
	struct server *server = arg;
	if (!spin_awake(&server->spin))
		uv_async_send(&server->wake);
}

void server_hooks(struct server *server, struct engine_hooks *hooks)
{
	hooks->notify_cb = notify;
	hooks->notify_arg = server;
}

static void nothing(uv_work_t *work)
{
	(void)work;
}

/* libuv starts the pool's threads with the first piece of work: here, where they come without the stop signals. */
static int start_pool(struct error *err)
{
	uv_loop_t loop;
	uv_work_t work;
	sigset_t before;
	int result = uv_loop_init(&loop);
	if (result == 0) {
		thread_block_stops(&before);
		result = uv_queue_work(&loop, &work, nothing, NULL);
		thread_restore_signals(&before);
		uv_run(&loop, UV_RUN_DEFAULT);
		uv_loop_close(&loop);
	}
	if (result != 0)
		return error_set(err, ERR_CONFIG, "cannot start the threads that read: %s", uv_strerror(result));
	return 0;
}

void server_set_calls(struct server *server, const struct server_calls *calls)
{
	server->calls = *calls;
}

static int open_listeners(struct server *server, struct error *err)
{
	struct net *net = &server->net;
	const struct server_options *options = net->options;
	size_t *count = &server->listener_count;
	for (size_t i = 0; i < options->inherited_count; i++, ++*count) {
		struct listener **slot = &server->listeners[*count];
		if (listener_adopt(&net->loop, options->inherited_first + (int)i, accept_cb, server, slot, err) != 0)
			return -1;
	}
	if (options->inherited_count > 0)
		return 0;
	for (size_t i = 0; i < options->tcp_count; i++, ++*count) {
		struct listener **slot = &server->listeners[*count];
		if (listener_open_tcp(&net->loop, &server->addresses[i], "listen_tcp", accept_cb, server, slot, err) !=
			0)
			return -1;
	}
	if (options->unix_path != NULL) {
		struct listener **slot = &server->listeners[*count];
		if (listener_open_unix(&net->loop, options->unix_path, options->unix_mode, options->unix_group,
			    accept_cb, server, slot, err) != 0)
			return -1;
		++*count;
	}
	return 0;
}

int server_start(struct server *server, struct engine *engine, struct error *err)
{
	struct net *net = &server->net;
	net->engine = engine;
	signal(SIGPIPE, SIG_IGN); /* a peer that went away is an error of one write */
	if (start_pool(err) != 0)
		return -1;
	if (open_listeners(server, err) != 0 || (server->metrics != NULL && metrics_start(server->metrics, err) != 0))
		return -1;
	server->told_ready = server->told_alive = true;
	uv_prepare_start(&server->turn, on_turn);
	uint64_t every_ms = tick_ms(server);
	uv_timer_start(&server->tick, on_tick, every_ms, every_ms);
	return signals_take(server, err);
}

void server_stop(struct server *server)
{
	shutdown_begin(server, "asked to");
}

int server_run(struct server *server, struct error *err)
{
	uv_run(&server->net.loop, UV_RUN_DEFAULT);
	if (!server->net.stopping)
		return error_set(err, ERR_CONFIG, "the event loop ended without being asked to");
	return 0;
}

static void close_handle(uv_handle_t *handle)
{
	if (handle->loop != NULL && !uv_is_closing(handle))
		uv_close(handle, NULL);
}

void server_free(struct server *server)
{
	if (server == NULL)
		return;
	if (server->handles_open) {
		for (size_t i = 0; i < server->listener_count; i++)
			listener_close(server->listeners[i]);
		metrics_close(server->metrics);
		conn_group_abort(server->net.conns);
		close_handle((uv_handle_t *)&server->wake);
		close_handle((uv_handle_t *)&server->turn);
		close_handle((uv_handle_t *)&server->busy);
		close_handle((uv_handle_t *)&server->tick);
		close_handle((uv_handle_t *)&server->expiry);
		close_handle((uv_handle_t *)&server->sigterm);
		close_handle((uv_handle_t *)&server->sigint);
		close_handle((uv_handle_t *)&server->sighup);
		uv_run(&server->net.loop, UV_RUN_DEFAULT); /* closing, and reads that are still in the pool */
		uv_loop_close(&server->net.loop);
	}
	metrics_free(server->metrics);
	conn_group_free(server->net.conns);
	waiters_free(server->net.waiters);
	auth_free(server->net.auth);
	tls_free(server->net.tls);
	health_free(server->net.health);
	free((void *)server->net.options);
	free(server->unix_path);
	free(server->unix_group);
	free(server->sync_mode);
	free(server->compression);
	free(server);
}
