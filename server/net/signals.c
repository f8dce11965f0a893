/*
 * signals: SIGTERM and SIGINT stop the server, SIGHUP reloads what the caller of server_set_calls has to reload.
 *
 * A reload reads files, and so is prepared in libuv's pool; what it comes to is put in place on the loop, between two
 * of its callbacks: no request sees a half of it. There is one at a time; a signal that comes meanwhile may be about
 * files that were read already, and begins another one afterwards.
 */
#include <signal.h>
#include <unistd.h>

#include "log.h"
#include "server_impl.h"

static void on_stop_signal(uv_signal_t *handle, int number)
{
	struct server *server = handle->data;
	if (server->net.stopping) {
		log_warn("net", "a second signal (%d): ended at once; the next start recovers", number);
		_exit(1);
	}
	shutdown_begin(server, number == SIGTERM ? "SIGTERM" : "SIGINT");
}

static void prepare(uv_work_t *work)
{
	struct server *server = work->data;
	server->calls.reload_prepare_cb(server->calls.arg);
}

static void apply(uv_work_t *work, int status)
{
	struct server *server = work->data;
	(void)status; /* it is never cancelled */
	server->calls.reload_apply_cb(server->calls.arg);
	server->reloading = false;
	if (server->reload_again)
		server_reload(server);
}

void server_reload(struct server *server)
{
	if (server->net.stopping || server->calls.reload_prepare_cb == NULL)
		return;
	server->reload_again = server->reloading;
	if (server->reloading)
		return;
	server->reloading = true;
	server->reload_work.data = server;
	server->calls.reload_begin_cb(server->calls.arg);
	uv_queue_work(&server->net.loop, &server->reload_work, prepare, apply);
}

static void on_reload_signal(uv_signal_t *handle, int number)
{
	(void)number;
	server_reload(handle->data);
}

int signals_take(struct server *server, struct error *err)
{
	const struct {
		uv_signal_t *handle;
		uv_signal_cb cb;
		int number;
	} signals[] = {
		{&server->sigterm, on_stop_signal, SIGTERM},
		{&server->sigint, on_stop_signal, SIGINT},
		{&server->sighup, on_reload_signal, SIGHUP},
	};
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		int result = uv_signal_init(&server->net.loop, signals[i].handle);
		signals[i].handle->data = server;
		if (result == 0)
			result = uv_signal_start(signals[i].handle, signals[i].cb, signals[i].number);
		if (result != 0)
			return error_set(err, ERR_CONFIG, "cannot watch for signal %d: %s", signals[i].number,
				uv_strerror(result));
	}
	return 0;
}
