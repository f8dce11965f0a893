/*
 * main: from the command line to a serving daemon and back.
 *
 * The order, and what a failure at each step leaves behind:
 *   inherited sockets     nothing
 *   configuration         nothing
 *   descriptor budget     nothing
 *   io_posix_new          the data directory, empty, if it was not there
 *   server_new            nothing (the loop exists so that the engine has something to wake)
 *   engine_open           the directory locked and recovered; a stop signal ends recovery, which may be run again
 *   server_start          listening; from here on the loop takes the stop signals
 *   server_run            until the graceful stop is done
 *   server_free, engine_close, io_posix_free
 *
 * Exit status: 0 stopped as asked (also by a signal during recovery), 1 failed, 2 usage or configuration, 3 damage.
 * Every refusal is one line on stderr.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "activity.h"
#include "clock.h"
#include "config.h"
#include "config_value.h"
#include "engine.h"
#include "error.h"
#include "fd_budget.h"
#include "inherited.h"
#include "log.h"
#include "metrics.h"
#include "patience.h"
#include "reload.h"
#include "server.h"
#include "supervisor.h"
#include "thread.h"

/* How often a supervisor without a watchdog hears of it: its patience at a stop ends some time, too. */
#define BEAT_NS (10 * NS_PER_SECOND)

/* Connections of listen_metrics, and the descriptors of the library that serves them. */
#define FD_METRICS (METRICS_VISITORS_MAX + 4)

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_CONFIG = 2, EXIT_DAMAGE = 3 };

/* Lock-free, so that a signal handler may touch it. */
static atomic_int stop_signals, reload_signals;

/* Before the loop takes the signals, and after it gave them back. */
static void on_stop_signal(int number)
{
	(void)number;
	if (atomic_fetch_add(&stop_signals, 1) > 0)
		_exit(EXIT_FAILED);
}

/* Before the loop takes it: once it serves, the file is read again. */
static void on_reload_signal(int number)
{
	(void)number;
	atomic_store(&reload_signals, 1);
}

static bool stop_asked(void *arg)
{
	(void)arg;
	return atomic_load(&stop_signals) > 0;
}

static void take_stop_signals(void)
{
	struct sigaction action = {.sa_handler = on_stop_signal, .sa_flags = SA_RESTART};

	sigemptyset(&action.sa_mask);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

static void prepare_signals(void)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	struct sigaction reload = {.sa_handler = on_reload_signal, .sa_flags = SA_RESTART};

	/* A peer that went away, and a file over its limit, are errors of one call and not the end of the process. */
	sigemptyset(&ignore.sa_mask);
	sigaction(SIGPIPE, &ignore, NULL);
	sigaction(SIGXFSZ, &ignore, NULL);
	sigemptyset(&reload.sa_mask);
	sigaction(SIGHUP, &reload, NULL);
	take_stop_signals();
}

/* Whoever starts us with a standard stream closed would else have log lines in a segment. */
static int open_standard_streams(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			return -1;
	} while (fd <= STDERR_FILENO);
	close(fd);
	return 0;
}

static int exit_status_of(enum error_code code)
{
	switch (code) {
	case ERR_CONFIG:
	case ERR_SHARD_COUNT_MISMATCH:
		return EXIT_CONFIG;
	case ERR_CORRUPTION:
	case ERR_CRC_MISMATCH:
	case ERR_CHECKPOINT_CORRUPTED:
		return EXIT_DAMAGE;
	default:
		return EXIT_FAILED;
	}
}

/* One line on stderr, whatever the log level. Returns the exit status. */
static int refuse(const struct error *err)
{
	log_write(LOG_LEVEL_ERROR, "main", "%s", err->message);
	return exit_status_of(err->code);
}

/* What runs: made from one snapshot of the configuration after the other. */
struct daemon {
	struct reload *reload;
	int inherited_first, inherited_count;
	uint32_t max_open_segments; /* as granted at start */
	struct server *server;
	struct engine *engine;
	struct server_options *next_options; /* of a reload that is prepared */
	struct server_secrets *next_secrets; /* the same */
	bool told_ready;		     /* in the status that the supervisor shows */
	bool reload_failed;
	struct error reload_error;
};

/* How many connections and segments there can be. segments: as asked, or, while running, as granted at start. */
static int fit_descriptors(
	const struct daemon *daemon, const struct config *config, uint32_t segments, struct fd_budget *ret_budget)
{
	const uint32_t own_listeners = config->listen_tcp.count + (config->listen_unix[0] != '\0');
	const uint32_t connections = config->max_connections;
	struct fd_budget budget = {
		.limit = fd_budget_raise(),
		.shards = config->engine.shard_count,
		.listeners = daemon->inherited_count > 0 ? (uint32_t)daemon->inherited_count : own_listeners,
		.others = config->listen_metrics.count > 0 ? config->listen_metrics.count + FD_METRICS : 0,
		.connections = connections,
		.segments = segments,
	};

	if (!fd_budget_fit(&budget)) {
		log_write(LOG_LEVEL_ERROR, "main",
			"the limit of %" PRIu64 " open files is too low: at least %" PRIu64
			" are needed; raise it (ulimit -n, LimitNOFILE=)",
			budget.limit, budget.minimum);
		return -1;
	}
	if (budget.connections < connections || budget.segments < segments)
		log_warn("main",
			"the limit of %" PRIu64 " open files is below the %" PRIu64
			" that the configuration wants: max_connections is %" PRIu32 " instead of %" PRIu32
			", max_open_segments %" PRIu32 " instead of %" PRIu32 "; raise it (ulimit -n, LimitNOFILE=)",
			budget.limit, budget.wanted, budget.connections, connections, budget.segments, segments);
	*ret_budget = budget;
	return 0;
}

static void note_what_was_raised(const struct config *config)
{
	char asked[40], raised[40];

	if (config->max_message_bytes == config->max_message_bytes_asked)
		return;
	config_format_size(config->max_message_bytes_asked, asked, sizeof(asked));
	config_format_size(config->max_message_bytes, raised, sizeof(raised));
	log_info("main", "max_message_bytes of %s is raised to %s, the least there is", asked, raised);
}

static const char *text_or_null(const char *text)
{
	return text[0] != '\0' ? text : NULL;
}

static void secret_files_of(const struct config *config, struct server_secret_files *ret_files)
{
	ret_files->token_file = text_or_null(config->token_file);
	ret_files->tls_certificate = text_or_null(config->tls_certificate);
	ret_files->tls_key = text_or_null(config->tls_key);
	ret_files->tls_client_ca = text_or_null(config->tls_client_ca);
}

static void server_options_of(
	const struct config *config, const struct fd_budget *budget, struct server_options *ret_options)
{
	server_options_default(ret_options);
	ret_options->tcp_addresses = config->listen_tcp.list;
	ret_options->tcp_count = config->listen_tcp.count;
	ret_options->metrics_addresses = config->listen_metrics.list;
	ret_options->metrics_count = config->listen_metrics.count;
	ret_options->unix_path = text_or_null(config->listen_unix);
	ret_options->unix_mode = config->listen_unix_mode;
	ret_options->unix_group = text_or_null(config->listen_unix_group);
	secret_files_of(config, &ret_options->secrets);
	ret_options->allow_open = config->insecure_allow_open_addresses != 0;
	ret_options->hello_timeout_ns = config->hello_timeout_ns;
	ret_options->max_message_bytes = config->max_message_bytes;
	ret_options->max_inflight_bytes = config->max_inflight_bytes;
	ret_options->max_inflight_bytes_total = config->max_inflight_bytes_total;
	ret_options->max_connections = budget->connections;
	ret_options->idle_timeout_ns = config->idle_timeout_ns;
	ret_options->write_timeout_ns = config->write_timeout_ns;
	ret_options->shutdown_timeout_ns = config->shutdown_timeout_ns;
	ret_options->slow_disk_ns = config->slow_disk_after_ns;
	ret_options->sync_mode = config_sync_mode_name(config->engine.sync_mode);
	ret_options->compression = config_compression_name(config->engine.compression);
}

/* ---- reload ------------------------------------------------------------------------------------------------------ */

static void apply_log(const struct config *config, void *arg)
{
	(void)arg;
	log_set_level(config->log_level);
	log_set_format(config->log_format);
}

static int prepare_limits(const struct config *config, void *arg, struct error *err)
{
	struct daemon *daemon = arg;
	struct fd_budget budget;

	if (fit_descriptors(daemon, config, daemon->max_open_segments, &budget) != 0)
		return error_set(err, ERR_CONFIG, "the limit of open files is too low");
	daemon->next_options = malloc(sizeof(*daemon->next_options));
	if (daemon->next_options == NULL)
		return error_set(err, ERR_CONFIG, "no memory for the configuration");
	server_options_of(config, &budget, daemon->next_options);
	return 0;
}

static void apply_limits(const struct config *config, void *arg)
{
	struct daemon *daemon = arg;

	server_take_options(daemon->server, daemon->next_options);
	daemon->next_options = NULL;
	engine_set_max_streams(daemon->engine, config->engine.max_streams);
}

static void drop_limits(void *arg)
{
	struct daemon *daemon = arg;

	free(daemon->next_options);
	daemon->next_options = NULL;
}

static int prepare_secrets(const struct config *config, void *arg, struct error *err)
{
	struct daemon *daemon = arg;
	struct server_secret_files files;

	secret_files_of(config, &files);
	return server_read_secrets(daemon->server, &files, &daemon->next_secrets, err);
}

static void apply_secrets(const struct config *config, void *arg)
{
	struct daemon *daemon = arg;
	struct server_secret_files files;

	secret_files_of(config, &files);
	server_take_secrets(daemon->server, daemon->next_secrets, &files);
	daemon->next_secrets = NULL;
}

static void drop_secrets(void *arg)
{
	struct daemon *daemon = arg;

	server_secrets_free(daemon->next_secrets);
	daemon->next_secrets = NULL;
}

/* In their order: what else a reload reads again comes here. */
static void add_reload_hooks(struct daemon *daemon)
{
	const struct reload_hook hooks[] = {
		{.apply_cb = apply_log},
		{.prepare_cb = prepare_limits, .apply_cb = apply_limits, .drop_cb = drop_limits, .arg = daemon},
		{.prepare_cb = prepare_secrets, .apply_cb = apply_secrets, .drop_cb = drop_secrets, .arg = daemon},
	};

	for (size_t i = 0; i < sizeof(hooks) / sizeof(hooks[0]); i++)
		reload_add_hook(daemon->reload, &hooks[i]);
}

static void on_reload_begin(void *arg)
{
	(void)arg;
	supervisor_reloading("reading the configuration again");
	log_info("main", "reload: reading the configuration again");
}

static void on_reload_prepare(void *arg)
{
	struct daemon *daemon = arg;

	daemon->reload_failed = reload_prepare(daemon->reload, &daemon->reload_error) != 0;
}

static void on_reload_apply(void *arg)
{
	struct daemon *daemon = arg;

	if (daemon->reload_failed) {
		log_error("main", "reload refused, all stays as it was: %s", daemon->reload_error.message);
		supervisor_ready("serving; the last reload was refused, see the log");
		return;
	}
	reload_apply(daemon->reload);
	log_info("main", "reloaded");
	supervisor_ready("serving");
	daemon->told_ready = true;
}

static void on_stopping(void *arg)
{
	(void)arg;
	supervisor_stopping("stopping: clients take their last answers");
}

/* The watchdog hears nothing of a daemon of which a thread hangs; if the loop hangs, this is not called at all. */
static void on_beat(const struct health_report *report, bool stopping, void *arg)
{
	struct daemon *daemon = arg;
	char status[256];

	if (report->alive)
		supervisor_alive();
	if (stopping) {
		supervisor_extend(PATIENCE_NS, "stopping: clients take their last answers");
		return;
	}
	if (report->ready == daemon->told_ready)
		return;
	daemon->told_ready = report->ready;
	snprintf(status, sizeof(status), report->ready ? "serving" : "serving, but not ready: %s", report->reason);
	supervisor_status(status);
}

/* ---- start and stop ---------------------------------------------------------------------------------------------- */

/* libuv gives the signals back to their defaults when the server goes; from the first signal on the next one has to end
 * the process with our status, so they wait meanwhile: no thread but this one takes them (see thread.h). */
static void free_server(struct server *server)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigset_t before;

	thread_block_stops(&before);
	server_free(server);
	atomic_store(&stop_signals, 1);
	take_stop_signals();
	sigemptyset(&ignore.sa_mask);
	sigaction(SIGHUP, &ignore, NULL); /* there is nothing to reload any more */
	thread_restore_signals(&before);
}

/* The engine is open: listen, serve, stop. Frees the server, not the engine. */
static int serve(struct daemon *daemon)
{
	const struct config *config = reload_current(daemon->reload);
	struct server *server = daemon->server;
	struct error err;
	int status = EXIT_OK;

	if (server_start(server, daemon->engine, &err) != 0) {
		status = refuse(&err);
	} else {
		note_what_was_raised(config);
		log_info("main", "ironwald " IRONWALD_VERSION " serves %s", config->root_path);
		/* For a supervisor or a script: from here on connections are served. */
		supervisor_ready("serving");
		daemon->told_ready = true;
		puts("ready");
		fflush(stdout);
		if (stop_asked(NULL))
			server_stop(server);
		else if (atomic_load(&reload_signals) > 0)
			server_reload(server);
		if (server_run(server, &err) != 0)
			status = refuse(&err);
	}
	free_server(server);
	return status;
}

static void on_progress(uint64_t done, uint64_t total, void *arg)
{
	(void)arg;
	patience_progress(done, total);
}

/* It may take long, and is to be waited for while it gets on. */
static int close_engine(struct daemon *daemon, struct error *err)
{
	patience_begin("stopping: making everything durable");
	int result = engine_close(daemon->engine, err);
	patience_end();
	return result;
}

static int run_engine(struct daemon *daemon, struct io *io)
{
	const struct config *config = reload_current(daemon->reload);
	const struct server_calls calls = {
		.reload_begin_cb = on_reload_begin,
		.reload_prepare_cb = on_reload_prepare,
		.reload_apply_cb = on_reload_apply,
		.stopping_cb = on_stopping,
		.beat_cb = on_beat,
		.beat_ns = supervisor_watchdog_ns() != 0 ? supervisor_watchdog_ns() : BEAT_NS,
		.arg = daemon,
	};
	struct engine_options options = config->engine;
	struct engine_hooks hooks = {.cancelled = stop_asked, .progress_cb = on_progress};
	struct error err;
	int result, status;

	options.max_open_segments = daemon->max_open_segments;
	server_hooks(daemon->server, &hooks);
	server_set_calls(daemon->server, &calls);
	result = engine_open(io, &options, &hooks, &daemon->engine, &err);
	patience_end();
	if (result != 0) {
		free_server(daemon->server);
		if (err.code != ERR_SHUTTING_DOWN) {
			/* The engine knows its files by their names in the directory only. */
			log_write(LOG_LEVEL_ERROR, "main", "%s: %s", config->root_path, err.message);
			return exit_status_of(err.code);
		}
		log_info("main", "stopped by a signal during recovery; the next start begins it again");
		return EXIT_OK;
	}
	status = serve(daemon);
	if (close_engine(daemon, &err) != 0)
		return refuse(&err);
	return status;
}

static int run(struct daemon *daemon, const struct fd_budget *budget)
{
	const struct config *config = reload_current(daemon->reload);
	struct server_options options;
	struct error err;
	struct io *io;
	uint64_t began_ns = clock_now_ns();
	int result, status;

	patience_begin("recovering"); /* ends when the engine is open, or here */
	result = io_posix_new(config->root_path, &io);
	if (result != 0) {
		patience_end();
		error_set_io(&err, -result, "cannot open the data directory", config->root_path);
		return refuse(&err);
	}
	server_options_of(config, budget, &options);
	options.inherited_first = daemon->inherited_first;
	options.inherited_count = (size_t)daemon->inherited_count;
	if (server_new(&options, &daemon->server, &err) != 0)
		status = refuse(&err);
	else
		status = run_engine(daemon, io);
	patience_end();
	io_posix_free(io);
	if (status == EXIT_OK)
		log_info("main", "stopped after %" PRIu64 " s", (clock_now_ns() - began_ns) / NS_PER_SECOND);
	return status;
}

static void note_what_is_replaced(const struct config *config, const struct daemon *daemon)
{
	if (daemon->inherited_count > 0)
		log_info("main", "the supervisor has opened %d sockets: they replace listen_tcp%s",
			daemon->inherited_count, config->listen_unix[0] != '\0' ? " and listen_unix" : "");
}

/* The command line was read, and says to serve. */
static int start(int argc, char **argv, const struct config *config, int inherited_first, int inherited_count)
{
	struct daemon daemon = {.inherited_first = inherited_first, .inherited_count = inherited_count};
	struct fd_budget budget;
	struct error err;
	int status;

	prepare_signals();
	activity_join("main", NULL, false);
	apply_log(config, NULL);
	if (inherited_check(inherited_first, inherited_count, config, &err) != 0)
		return refuse(&err);
	note_what_is_replaced(config, &daemon);
	if (fit_descriptors(&daemon, config, config->engine.max_open_segments, &budget) != 0)
		return EXIT_FAILED;
	daemon.max_open_segments = budget.segments;
	if (reload_new(argc, argv, config, &daemon.reload, &err) != 0)
		return refuse(&err);
	add_reload_hooks(&daemon);
	status = run(&daemon, &budget);
	reload_free(daemon.reload);
	return status;
}

int main(int argc, char **argv)
{
	struct config config;
	enum config_action action;
	struct error err;
	int inherited_first, inherited_count;

	if (open_standard_streams() != 0)
		return EXIT_FAILED;
	log_find_journal();
	inherited_count = supervisor_take_sockets(&inherited_first, &err);
	if (inherited_count < 0 || config_load(argc, argv, &config, &action, &err) != 0 ||
		((action == CONFIG_RUN || action == CONFIG_CHECK) &&
			config_check_listening(&config, inherited_count, &err) != 0)) {
		fprintf(stderr, "%s%s\n", log_priority(LOG_LEVEL_ERROR), err.message);
		return EXIT_CONFIG;
	}
	switch (action) {
	case CONFIG_HELP:
		config_print_help(stdout);
		return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
	case CONFIG_VERSION:
		puts("ironwald " IRONWALD_VERSION);
		return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
	case CONFIG_CHECK:
		puts("configuration ok");
		return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
	case CONFIG_RUN:
		break;
	}
	return start(argc, argv, &config, inherited_first, inherited_count);
}
