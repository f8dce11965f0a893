/* metrics: the listener for /metrics, /healthz and /readyz, on the server whole with an engine in memory. */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "fake_engine.h"
#include "log.h"
#include "metrics.h"
#include "net_harness.h"

#define ANSWER_MAX (256 * 1024)

static struct sockaddr_storage address;
static struct sockaddr_in bound;
static char answer[ANSWER_MAX];

/* The port is the system's choice, and told in the log. */
static void start(void)
{
	char log[4096];
	int ends[2];
	cr_assert(pipe(ends) == 0);
	*(struct sockaddr_in *)&address =
		(struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	options.metrics_addresses = &address;
	options.metrics_count = 1;
	log_set_level(LOG_LEVEL_INFO);
	log_set_fd(ends[1]);
	start_server();
	log_set_level(LOG_LEVEL_ERROR);
	log_set_fd(STDERR_FILENO);
	ssize_t len = read(ends[0], log, sizeof(log) - 1);
	cr_assert(len > 0);
	log[len] = '\0';
	close(ends[0]);
	close(ends[1]);
	const char *found = strstr(log, "listening on tcp 127.0.0.1:");
	cr_assert(found != NULL && strstr(found, " (listen_metrics)") != NULL, "%s", log);
	bound = *(struct sockaddr_in *)&address;
	bound.sin_port = htons((uint16_t)atoi(found + strlen("listening on tcp 127.0.0.1:")));
}

TestSuite(metrics, .init = set_up, .fini = tear_down, .timeout = 60);

static int visit(void)
{
	struct timeval timeout = {.tv_sec = TIMEOUT_MS / 1000};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert(connect(fd, (struct sockaddr *)&bound, sizeof(bound)) == 0, "%s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	return fd;
}

/* All that comes until the end, in answer. */
static void read_answer(int fd)
{
	size_t len = 0;
	ssize_t got;
	while ((got = recv(fd, answer + len, ANSWER_MAX - 1 - len, 0)) > 0)
		len += (size_t)got;
	cr_assert(got == 0, "%s", strerror(errno));
	answer[len] = '\0';
	close(fd);
}

static void get(const char *page)
{
	char request[200];
	int fd = visit();
	int len = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", page);
	cr_assert(send(fd, request, (size_t)len, MSG_NOSIGNAL) == len);
	read_answer(fd);
}

static bool begins(const char *with)
{
	return strncmp(answer, with, strlen(with)) == 0;
}

static bool has(const char *text)
{
	return strstr(answer, text) != NULL;
}

static bool becomes(void *arg)
{
	const char *const *wanted = arg;
	get(wanted[0]);
	return has(wanted[1]);
}

/* A page is good for a moment after it was made, so it is asked for until it shows what it has to. */
static void wait_for(const char *page, const char *text)
{
	const char *wanted[] = {page, text};
	wait_until(becomes, wanted);
}

Test(metrics, requests_errors_and_what_is_in_hand_are_counted)
{
	start();
	struct client client = client_new();
	struct response response;
	struct error err;
	for (uint32_t i = 0; i < 5; i++) {
		append(&client, 10 + i, "s", "x", 1);
		receive_ok(&client, 10 + i, &response);
	}
	ask(&client, 20, METHOD_GET, "none", KEY_ID, 0, KEY_TOTAL, 0);
	receive_error(&client, 20, ERR_STREAM_NOT_FOUND, &err);
	wait_for("/metrics", "\nironwald_request_seconds_count{method=\"append\"} 5\n");
	cr_assert(begins("HTTP/1.1 200 OK\r\n"), "%.200s", answer);
	cr_assert(has("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "%.400s", answer);
	cr_assert(has("\nironwald_request_seconds_bucket{method=\"append\",le=\"+Inf\"} 5\n"));
	cr_assert(has("\nironwald_request_seconds_count{method=\"get\"} 1\n"));
	cr_assert(has("\nironwald_request_errors_total{method=\"get\"} 1\n"));
	cr_assert(has("\nironwald_request_errors_total{method=\"append\"} 0\n"));
	cr_assert(has("\nironwald_errors_total{code=\"StreamNotFound\"} 1\n"));
	cr_assert(has("\nironwald_errors_total{code=\"Busy\"} 0\n"));
	cr_assert(has("\nironwald_connections 1\n") && has("\nironwald_inflight_bytes 0\n"));
	fake_engine_hold(engine, true);
	append(&client, 30, "s", "0123456789", 10);
	wait_for("/metrics", "\nironwald_writer_queue_depth{writer=\"0\"} 1\n");
	cr_assert(!has("\nironwald_inflight_bytes 0\n"));
	fake_engine_hold(engine, false);
	receive_ok(&client, 30, &response);
	wait_for("/metrics", "\nironwald_writer_queue_depth{writer=\"0\"} 0\n");
	client_close(&client);
}

/* The reason is for the log: it has a path, and so the name of a stream. */
Test(metrics, a_writer_that_failed_is_not_ready_and_nobody_hears_its_path)
{
	start();
	get("/readyz");
	cr_assert(begins("HTTP/1.1 200 OK\r\n") && has("\r\n\r\nok\n"), "%s", answer);
	get("/healthz");
	cr_assert(begins("HTTP/1.1 200 OK\r\n") && has("\r\n\r\nok\n"), "%s", answer);
	fake_engine_fail(engine, "write to secret/00000000000000000000.wal: EIO");
	wait_for("/readyz", "3 of the 4 shards of writer-0 take no writes until a restart: see the log\n");
	cr_assert(begins("HTTP/1.1 503 Service Unavailable\r\n"), "%s", answer);
	cr_assert(!has("secret"), "%s", answer);
	wait_for("/metrics", "\nironwald_writer_failed{writer=\"0\"} 1\n");
	cr_assert(has("\nironwald_ready 0\n") && has("\nironwald_alive 1\n"));
	cr_assert(has("\nironwald_shards{state=\"writable\"} 1\n"));
	cr_assert(has("\nironwald_shards{state=\"refusing_writes\"} 3\n"));
	cr_assert(!has("secret"));
	/* Nothing is the better for a restart that nobody looked into. */
	get("/healthz");
	cr_assert(begins("HTTP/1.1 200 OK\r\n"), "%s", answer);
}

Test(metrics, a_server_that_stops_is_not_ready_and_tells_it_to_the_end)
{
	options.shutdown_timeout_ns = 60 * NS_PER_SECOND;
	start();
	struct client client = client_new();
	struct response response;
	fake_engine_hold(engine, true);
	append(&client, 1, "s", "x", 1);
	wait_for("/metrics", "\nironwald_writer_queue_depth{writer=\"0\"} 1\n");
	kill(getpid(), SIGTERM);
	wait_for("/readyz", "it stops\n");
	cr_assert(begins("HTTP/1.1 503 Service Unavailable\r\n"), "%s", answer);
	get("/healthz");
	cr_assert(begins("HTTP/1.1 200 OK\r\n"), "%s", answer);
	wait_for("/metrics", "\nironwald_ready 0\n");
	int late = visit(); /* whoever is there does not keep it */
	fake_engine_hold(engine, false);
	receive_ok(&client, 1, &response);
	client_close(&client);
	join_server();
	close(late);
}

/* Those who came before have a second, where others wait. */
Test(metrics, who_holds_all_places_makes_room)
{
	start();
	int silent[METRICS_VISITORS_MAX + 4];
	for (size_t i = 0; i < sizeof(silent) / sizeof(silent[0]); i++)
		silent[i] = visit();
	uint64_t begin_ns = clock_now_ns();
	get("/healthz");
	cr_assert(has("ok\n"), "%s", answer);
	cr_assert(clock_now_ns() - begin_ns < METRICS_VISIT_NS, "it did not wait for what one alone may take");
	for (size_t i = 0; i < sizeof(silent) / sizeof(silent[0]); i++)
		close(silent[i]);
}

static bool is_over(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	return poll(&poll_fd, 1, 0) == 1;
}

/* A byte now and then does not give it more time. */
Test(metrics, who_takes_too_long_is_cut_off)
{
	start();
	uint64_t begin_ns = clock_now_ns();
	int silent = visit(), slow = visit();
	while (!is_over(slow)) {
		cr_assert(clock_now_ns() - begin_ns < 2 * METRICS_VISIT_NS, "it has all the time");
		(void)!send(slow, "G", 1, MSG_NOSIGNAL);
		poll(NULL, 0, 100);
	}
	cr_assert(clock_now_ns() - begin_ns > METRICS_VISIT_NS / 2, "it had its time");
	read_answer(silent);
	cr_assert(answer[0] == '\0', "%s", answer);
	close(slow);
}

Test(metrics, an_address_that_is_taken_is_an_error_with_its_key)
{
	struct sockaddr_in taken = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(taken);
	struct server *server;
	struct error err = {0};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert(bind(fd, (struct sockaddr *)&taken, sizeof(taken)) == 0 && listen(fd, 1) == 0);
	cr_assert(getsockname(fd, (struct sockaddr *)&taken, &len) == 0);
	*(struct sockaddr_in *)&address = taken;
	options.metrics_addresses = &address;
	options.metrics_count = 1;
	cr_assert(server_new(&options, &server, &err) == 0, "%s", err.message);
	struct engine_hooks hooks = {0};
	server_hooks(server, &hooks);
	struct engine *own = fake_engine_new(&hooks);
	cr_assert(server_start(server, own, &err) == -1);
	cr_assert(err.code == ERR_CONFIG && strstr(err.message, "listen_metrics") != NULL, "%s", err.message);
	server_free(server);
	fake_engine_free(own);
	close(fd);
}
