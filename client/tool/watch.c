#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "terminal.h"
#include "watch.h"
#include "watch_events.h"
#include "watch_log.h"
#include "watch_picture.h"

/* Between attempts to connect: twice as long each time. The first one comes at once. */
#define PAUSE_FIRST_NS (100 * NS_PER_MS)
#define PAUSE_MAX_NS (5 * NS_PER_SECOND)
#define WHY_MAX 256
#define TIME_MAX 32

enum form { TO_SCREEN, TO_LINES, TO_JSON };

struct watch {
	struct tool *tool;
	const struct watch_options *options;
	const char *address;
	enum form form;
	bool has_keys;
	/* The connection: there, or being made (tool->connection), or to be made. */
	bool is_ready, is_new; /* new: it has not answered yet */
	bool asked;
	uint64_t asked_ns, lost_ns, retry_ns, pause_ns;
	char why[WHY_MAX]; /* it was lost, or the last answer was a refusal */
	/* The last answer; figures are about it. */
	struct stats_node *counted;
	uint64_t counted_ns, restarts;
	double answer_us;
	struct watch_figures figures;
	bool is_current; /* nothing was asked since that has no answer when the next one is to be asked */
	char restart_time[TIME_MAX];
	/* The picture that is due: when its answer comes, or is given up. */
	bool is_due;
	uint64_t next_ns, pictures;
	struct buf picture;
	bool is_ended;
	int status;
};

static void time_of_day(char text[TIME_MAX])
{
	const time_t now = time(NULL);
	struct tm tm;
	text[0] = '\0';
	if (gmtime_r(&now, &tm) == NULL || strftime(text, TIME_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		(void)snprintf(text, TIME_MAX, "0000-00-00T00:00:00Z");
}

static void end(struct watch *watch, int status)
{
	watch->is_ended = true;
	watch->status = status;
}

/* The message comes when the terminal is as it was. */
static void end_in_failure(struct watch *watch, int (*report)(const struct tool *tool))
{
	if (watch->is_ended)
		return;
	terminal_give_back(NULL);
	end(watch, report(watch->tool));
}

static int report_memory(const struct tool *tool)
{
	return tool_failed_here(tool, "out of memory, or too deep a value; --json without --watch shows it");
}

static int report_stats(const struct tool *tool)
{
	return tool_failed(tool, "ask for stats", NULL, NULL);
}

/* ---- pictures ---- */

static void draw(struct watch *watch, const struct watch_scene *scene)
{
	size_t columns, rows;
	terminal_size(STDOUT_FILENO, &columns, &rows);
	watch->picture.len = 0;
	if (watch_picture(scene, columns, rows, terminal_has_colour(), &watch->picture) != 0)
		end_in_failure(watch, report_memory);
	else if (!terminal_draw(&watch->picture))
		end(watch, EXIT_OK); /* the terminal has gone: nobody is there to be told */
}

static void show(struct watch *watch)
{
	const uint64_t now_ns = clock_now_ns();
	char now[TIME_MAX];
	struct watch_scene scene = {.why = watch->why,
		.answer_us = watch->answer_us,
		.every_seconds = (double)watch->options->interval_ns / 1e9,
		.address = watch->address,
		.time = now,
		.restarts = watch->restarts,
		.restart_time = watch->restart_time};
	time_of_day(now);
	if (!watch->is_ready) {
		scene.state = WATCH_NO_CONNECTION;
		scene.for_seconds = (double)(now_ns - watch->lost_ns) / 1e9;
	} else if (!watch->is_current) {
		scene.state = WATCH_NO_ANSWER;
		scene.for_seconds = (double)(now_ns - watch->asked_ns) / 1e9;
	} else {
		scene.state = watch->figures.state;
		scene.why = watch->figures.why;
		scene.figures = &watch->figures;
	}
	if (watch->form == TO_SCREEN)
		draw(watch, &scene);
	else if (watch->form == TO_LINES)
		watch_log_line(&scene);
	else
		watch_log_json(&scene);
	if (watch->form != TO_SCREEN && !out_flush())
		end(watch, EXIT_OK); /* out_end says what it is */
}

/* What changed between two pictures is drawn, but no line is for it. */
static void show_change(struct watch *watch)
{
	if (watch->form == TO_SCREEN && !watch->is_ended)
		show(watch);
}

static void show_picture(struct watch *watch)
{
	watch->is_due = false;
	show(watch);
	if (++watch->pictures == watch->options->count && !watch->is_ended)
		end(watch, EXIT_OK);
}

/* ---- the connection ---- */

/* tool->error says why. What goes on being so is for whoever started it, and so is all that is wrong in the beginning.
 */
static void lost(struct watch *watch)
{
	const ironwal_error_code code = ironwal_error_get_code(watch->tool->error);
	const uint64_t now_ns = clock_now_ns();
	if (watch->counted == NULL) {
		end_in_failure(watch, report_stats);
		return;
	}
	if (code == IRONWAL_ERR_UNAUTHORIZED || code == IRONWAL_ERR_INVALID_ARGUMENT || code == IRONWAL_ERR_NO_MEMORY) {
		end_in_failure(watch, tool_connect_failed);
		return;
	}
	(void)snprintf(watch->why, sizeof(watch->why), "%s", ironwal_error_message(watch->tool->error));
	if (watch->is_ready)
		watch->lost_ns = now_ns;
	watch->is_ready = watch->asked = watch->is_current = false;
	ironwal_close(watch->tool->connection);
	watch->tool->connection = NULL;
	watch->retry_ns = now_ns + watch->pause_ns;
	watch->pause_ns = watch->pause_ns == 0		       ? PAUSE_FIRST_NS
			  : watch->pause_ns < PAUSE_MAX_NS / 2 ? watch->pause_ns * 2
							       : PAUSE_MAX_NS;
	if (watch->is_due)
		show_picture(watch);
	else
		show_change(watch);
}

static void ask(struct watch *watch)
{
	uint32_t id;
	watch->asked_ns = clock_now_ns();
	if (ironwal_submit_stats(watch->tool->connection, &id, watch->tool->error) != 0)
		lost(watch);
	else
		watch->asked = true;
}

static void note_restart(struct watch *watch)
{
	watch->restarts++;
	time_of_day(watch->restart_time);
}

/* Whether what answers on a new connection was started after the last answer: it would be older. */
static bool is_younger(const struct watch *watch, const struct stats_node *counted, double seconds)
{
	const struct stats_node *up = stats_tree_find(counted, "server.uptime_seconds");
	const struct stats_node *up_before = stats_tree_find(watch->counted, "server.uptime_seconds");
	return up != NULL && up_before != NULL && (double)up->number + 1 < (double)up_before->number + seconds;
}

static void take_answer(struct watch *watch, const ironwal_value *value)
{
	const uint64_t now_ns = clock_now_ns();
	const double seconds = (double)(now_ns - watch->counted_ns) / 1e9;
	struct stats_node *counted = stats_tree_new(value);
	struct watch_figures figures;
	if (counted == NULL || !watch_figures_make(&figures, counted, watch->counted, seconds)) {
		stats_tree_free(counted);
		end_in_failure(watch, report_memory);
		return;
	}
	const bool was_restarted =
		watch->counted != NULL && (figures.went_back || (watch->is_new && is_younger(watch, counted, seconds)));
	if (was_restarted)
		note_restart(watch);
	if (watch->is_new && !figures.went_back) { /* no rate over a gap, in which anything may have happened */
		watch_figures_free(&figures);
		if (!watch_figures_make(&figures, counted, NULL, NAN)) {
			stats_tree_free(counted);
			end_in_failure(watch, report_memory);
			return;
		}
	}
	watch_figures_free(&watch->figures);
	stats_tree_free(watch->counted);
	watch->figures = figures;
	watch->counted = counted;
	watch->counted_ns = now_ns;
	watch->answer_us = (double)(now_ns - watch->asked_ns) / 1e3;
	watch->is_current = true;
	watch->is_new = false;
	watch->pause_ns = 0;
	watch->why[0] = '\0';
	if (watch->is_due)
		show_picture(watch);
	else
		show_change(watch);
}

static void take_result(struct watch *watch, ironwal_result *result)
{
	const ironwal_error *error = ironwal_result_error(result);
	watch->asked = false;
	if (error == NULL) {
		ironwal_value *value = ironwal_result_take_value(result);
		take_answer(watch, value);
		ironwal_value_free(value);
		return;
	}
	ironwal_error_copy(watch->tool->error, error);
	if (!ironwal_error_is_retriable(error) && ironwal_error_connection_usable(error))
		end_in_failure(watch, report_stats);
	else
		lost(watch); /* also where it is only late, or busy: another connection may fare better */
}

static void process(struct watch *watch, unsigned events)
{
	ironwal *connection = watch->tool->connection;
	ironwal_result *result;
	const int rc = ironwal_process(connection, events, watch->tool->error);
	while (!watch->is_ended && watch->tool->connection == connection &&
		ironwal_next_result(connection, &result) == 1)
		take_result(watch, result);
	if (watch->is_ended || watch->tool->connection != connection)
		return;
	if (rc != 0) {
		lost(watch);
	} else if (!watch->is_ready && ironwal_get_state(connection) == IRONWAL_STATE_READY) {
		watch->is_ready = watch->is_new = watch->is_due = true;
		watch->next_ns = clock_now_ns() + watch->options->interval_ns;
		ask(watch);
	}
}

/* ---- time ---- */

static void tick(struct watch *watch, uint64_t now_ns)
{
	watch->next_ns += watch->options->interval_ns;
	if (watch->next_ns <= now_ns) /* it was stopped meanwhile */
		watch->next_ns = now_ns + watch->options->interval_ns;
	if (watch->is_ready && !watch->asked) {
		watch->is_due = true;
		ask(watch);
		return;
	}
	watch->is_current = false;
	show_picture(watch);
}

static void retry(struct watch *watch)
{
	if (tool_connect_again(watch->tool) != 0)
		lost(watch);
}

/* How long nothing is to be done, in milliseconds, rounded up. */
static int wait_ms(const struct watch *watch, uint64_t now_ns)
{
	uint64_t until_ns = watch->next_ns;
	const int64_t deadline_ms =
		watch->tool->connection != NULL ? ironwal_next_deadline_ms(watch->tool->connection) : -1;
	if (watch->tool->connection == NULL && watch->retry_ns < until_ns)
		until_ns = watch->retry_ns;
	const uint64_t ns = until_ns > now_ns ? until_ns - now_ns : 0;
	int64_t ms = (int64_t)((ns + NS_PER_MS - 1) / NS_PER_MS);
	if (deadline_ms >= 0 && deadline_ms < ms)
		ms = deadline_ms;
	return ms < 60000 ? (int)ms : 60000;
}

/* ---- what happens ---- */

static void on_events(struct watch *watch)
{
	enum watch_event event;
	while (!watch->is_ended && (event = watch_events_next()) != EVENT_NONE) {
		switch (event) {
		case EVENT_END:
			end(watch, EXIT_OK);
			break;
		case EVENT_STOP:
			terminal_give_back(NULL);
			watch_events_stop();
			terminal_take();
			show_change(watch);
			break;
		case EVENT_GO_ON:
			terminal_take_again();
			show_change(watch);
			break;
		default:
			show_change(watch);
		}
	}
}

static void on_key(struct watch *watch)
{
	const int key = terminal_key();
	if (key == 'q' || key == 'Q')
		end(watch, EXIT_OK);
	if (key < 0)
		watch->has_keys = false;
}

static void turn(struct watch *watch)
{
	ironwal *connection = watch->tool->connection;
	const unsigned wanted = connection != NULL ? ironwal_events(connection) : 0;
	struct pollfd fds[] = {
		{.fd = watch_events_fd(), .events = POLLIN},
		{.fd = watch->has_keys ? STDIN_FILENO : -1, .events = POLLIN},
		{.fd = watch->form != TO_SCREEN ? STDOUT_FILENO : -1}, /* to see that its reader goes */
		{.fd = connection != NULL ? ironwal_fd(connection) : -1,
			.events = (short)((wanted & IRONWAL_READABLE ? POLLIN : 0) |
					  (wanted & IRONWAL_WRITABLE ? POLLOUT : 0))},
	};
	if (poll(fds, sizeof(fds) / sizeof(fds[0]), wait_ms(watch, clock_now_ns())) < 0 && errno != EINTR)
		end(watch, tool_failed_here(watch->tool, "cannot wait: %s", strerror(errno)));
	on_events(watch);
	if (!watch->is_ended && fds[1].revents != 0)
		on_key(watch);
	if (!watch->is_ended && fds[2].revents != 0 && out_reader_gone())
		end(watch, EXIT_OK);
	if (!watch->is_ended && connection != NULL)
		process(watch, (fds[3].revents & (POLLIN | POLLERR | POLLHUP | POLLNVAL) ? IRONWAL_READABLE : 0) |
				       (fds[3].revents & POLLOUT ? IRONWAL_WRITABLE : 0));
	const uint64_t now_ns = clock_now_ns();
	if (!watch->is_ended && now_ns >= watch->next_ns)
		tick(watch, now_ns);
	if (!watch->is_ended && watch->tool->connection == NULL && now_ns >= watch->retry_ns)
		retry(watch);
}

int watch_run(struct tool *tool, const struct watch_options *options)
{
	struct watch watch = {.tool = tool,
		.options = options,
		.form = tool->json			  ? TO_JSON
			: terminal_is_able(STDOUT_FILENO) ? TO_SCREEN
							  : TO_LINES,
		.is_ready = true,
		.is_new = true,
		.is_due = true,
		.status = EXIT_OK};
	char *address = strdup(ironwal_address(tool->connection)); /* of the first one: it is the connection's memory */
	if (address == NULL || watch_events_start(watch.form == TO_SCREEN) != 0) {
		free(address);
		return tool_failed_here(tool, "cannot watch: %s", strerror(errno));
	}
	watch.address = address;
	watch.has_keys = watch.form == TO_SCREEN && isatty(STDIN_FILENO) == 1;
	watch.next_ns = clock_now_ns() + options->interval_ns;
	if (watch.form == TO_SCREEN)
		terminal_take();
	else if (watch.form == TO_LINES)
		watch_log_header();
	ask(&watch);
	while (!watch.is_ended)
		turn(&watch);
	terminal_give_back(&watch.picture);
	watch_events_end();
	watch_figures_free(&watch.figures);
	stats_tree_free(watch.counted);
	buf_free(&watch.picture);
	free(address);
	return watch.status;
}
