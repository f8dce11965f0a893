#include "metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "listener.h"
#include "log.h"
#include "pages.h"

/* What a request's line and headers may have. */
#define REQUEST_BYTES 8192

/* A page that took t to be made is given to everybody who asks within PAGE_SHARE times t: however many ask, making it
 * takes no more than one part in so many of the loop's time. */
#define PAGE_SHARE 20

#define PLAIN_TEXT "text/plain; charset=utf-8"

/* While there are visitors, or some could not be accepted: how often is looked whose time is over. */
#define LOOK_MS 100

struct visitor {
	int fd; /* -1: the place is free */
	uint64_t since_ns;
	bool asked;  /* its request was there, and is answered */
	bool ending; /* it was cut off, and is still to be closed */
};

struct page {
	const char *path, *content_type;
	unsigned (*make)(const struct net *net, struct metrics_text *text);
	/* what is given to those who ask until then; NULL: nothing */
	struct MHD_Response *response;
	unsigned status;
	uint64_t until_ns;
};

struct metrics {
	struct net *net;
	struct MHD_Daemon *http;
	struct listener *listeners[SERVER_MAX_LISTEN];
	size_t listener_count;
	uv_poll_t poll;	 /* libmicrohttpd's epoll descriptor */
	uv_timer_t more; /* it has something to do without waiting for that */
	uv_timer_t look;
	struct visitor visitors[METRICS_VISITORS_MAX];
	unsigned visitor_count;
	bool failed;	    /* somebody could not be accepted: tried again at the next look */
	bool paused;	    /* nobody is accepted for now */
	uint64_t logged_ns; /* when that was logged last */
	struct page pages[3];
};

/* ---- what is answered -------------------------------------------------------------------------------------------- */

static enum MHD_Result answer_with(struct MHD_Connection *connection, unsigned status, struct MHD_Response *response)
{
	return response == NULL ? MHD_NO : MHD_queue_response(connection, status, response);
}

/* text is static. header: NULL: none. */
static enum MHD_Result refuse(
	struct MHD_Connection *connection, unsigned status, const char *text, const char *header, const char *value)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_PERSISTENT);
	if (response == NULL)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, PLAIN_TEXT);
	if (header != NULL)
		MHD_add_response_header(response, header, value);
	enum MHD_Result result = answer_with(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static void drop(struct page *page)
{
	if (page->response != NULL)
		MHD_destroy_response(page->response); /* those that it was given to keep it */
	page->response = NULL;
}

/* Leaves page->response NULL if there is no memory for it. */
static void make(struct page *page, const struct net *net)
{
	struct metrics_text text = {0};
	uint64_t begin_ns = clock_now_ns();
	drop(page);
	page->status = page->make(net, &text);
	if (!text.failed)
		page->response = MHD_create_response_from_buffer(text.buf.len, text.buf.data, MHD_RESPMEM_MUST_FREE);
	if (page->response == NULL) {
		metrics_text_free(&text);
		return;
	}
	MHD_add_response_header(page->response, MHD_HTTP_HEADER_CONNECTION, "close");
	MHD_add_response_header(page->response, MHD_HTTP_HEADER_CONTENT_TYPE, page->content_type);
	MHD_add_response_header(page->response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	uint64_t end_ns = clock_now_ns();
	page->until_ns = end_ns + PAGE_SHARE * (end_ns - begin_ns);
}

static bool has_body(struct MHD_Connection *connection)
{
	const char *length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
	return (length != NULL && strcmp(length, "0") != 0) ||
	       MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL;
}

/* Called when the headers are there; an answer at once means that nothing behind them is read. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url, const char *method,
	const char *version, const char *upload, size_t *upload_len, void **request)
{
	struct metrics *metrics = arg;
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	if (info != NULL && info->socket_context != NULL)
		((struct visitor *)info->socket_context)->asked = true;
	(void)version;
	(void)upload;
	(void)upload_len;
	(void)request;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n", MHD_HTTP_HEADER_ALLOW,
			"GET, HEAD");
	if (has_body(connection))
		return refuse(connection, MHD_HTTP_CONTENT_TOO_LARGE, "no body is taken\n", NULL, NULL);
	for (size_t i = 0; i < sizeof(metrics->pages) / sizeof(metrics->pages[0]); i++) {
		struct page *page = &metrics->pages[i];
		if (strcmp(url, page->path) != 0)
			continue;
		if (page->response == NULL || clock_now_ns() >= page->until_ns)
			make(page, metrics->net);
		if (page->response == NULL)
			return refuse(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "no memory\n", NULL, NULL);
		return answer_with(connection, page->status, page->response);
	}
	return refuse(connection, MHD_HTTP_NOT_FOUND, "there are /metrics, /healthz and /readyz\n", NULL, NULL);
}

/* ---- on the loop ------------------------------------------------------------------------------------------------- */

static void on_look(uv_timer_t *timer);
static void on_more(uv_timer_t *timer);

/* After whatever may have changed the number of visitors, or kept one out: who finds no place waits in the system's
 * queue. */
static void settle(struct metrics *metrics)
{
	bool pause = metrics->failed || metrics->visitor_count == METRICS_VISITORS_MAX;
	for (size_t i = 0; i < metrics->listener_count && pause != metrics->paused; i++) {
		if (pause)
			listener_pause(metrics->listeners[i]);
		else
			listener_resume(metrics->listeners[i]);
	}
	metrics->paused = pause;
	if (metrics->visitor_count == 0 && !metrics->failed)
		uv_timer_stop(&metrics->look);
	else if (!uv_is_active((uv_handle_t *)&metrics->look))
		uv_timer_start(&metrics->look, on_look, LOOK_MS, LOOK_MS);
}

/* What can be done without waiting; what takes more than one round goes on after the loop had its turn. */
static void run(struct metrics *metrics)
{
	MHD_UNSIGNED_LONG_LONG wait_ms;
	MHD_run(metrics->http);
	if (MHD_get_timeout(metrics->http, &wait_ms) == MHD_YES)
		uv_timer_start(&metrics->more, on_more, wait_ms, 0);
	else
		uv_timer_stop(&metrics->more);
	settle(metrics);
}

static void on_more(uv_timer_t *timer)
{
	run(timer->data);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
	(void)status;
	(void)events;
	run(poll->data);
}

/* An end that comes together with the last bytes is told by the system only once, and libmicrohttpd, which stops at a
 * short read, does not see it: who sent half a request and went would keep the place. */
static bool has_gone(const struct visitor *visitor)
{
	char byte;
	return !visitor->asked && recv(visitor->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void on_look(uv_timer_t *timer)
{
	struct metrics *metrics = timer->data;
	bool crowded = metrics->visitor_count == METRICS_VISITORS_MAX;
	uint64_t now_ns = clock_now_ns(), visit_ns = crowded ? METRICS_CROWDED_VISIT_NS : METRICS_VISIT_NS;
	for (size_t i = 0; i < METRICS_VISITORS_MAX; i++) {
		struct visitor *visitor = &metrics->visitors[i];
		if (visitor->fd < 0 || visitor->ending)
			continue;
		if (now_ns < visitor->since_ns + visit_ns && !has_gone(visitor))
			continue;
		/* libmicrohttpd sees that there is nobody any more, and closes it. */
		visitor->ending = true;
		shutdown(visitor->fd, SHUT_RDWR);
	}
	metrics->failed = false;
	run(metrics);
}

static void leave(struct metrics *metrics, struct visitor *visitor)
{
	if (visitor->fd < 0)
		return;
	visitor->fd = -1;
	metrics->visitor_count--;
}

/* libmicrohttpd has begun with a connection, or has closed it. */
static void on_visit(
	void *arg, struct MHD_Connection *connection, void **context, enum MHD_ConnectionNotificationCode what)
{
	struct metrics *metrics = arg;
	const union MHD_ConnectionInfo *info;
	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (*context != NULL)
			leave(metrics, *context);
		return;
	}
	info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	for (size_t i = 0; info != NULL && i < METRICS_VISITORS_MAX; i++) {
		if (metrics->visitors[i].fd == info->connect_fd)
			*context = &metrics->visitors[i];
	}
}

static struct visitor *free_place(struct metrics *metrics)
{
	for (size_t i = 0; i < METRICS_VISITORS_MAX; i++) {
		if (metrics->visitors[i].fd < 0)
			return &metrics->visitors[i];
	}
	return NULL;
}

/* One line a second at most. */
static void note_failure(struct metrics *metrics, int os_errno)
{
	uint64_t now_ns = clock_now_ns();
	metrics->failed = true;
	if (metrics->logged_ns != 0 && now_ns < metrics->logged_ns + NS_PER_SECOND)
		return;
	metrics->logged_ns = now_ns;
	log_warn("net", "cannot accept a connection of listen_metrics: %s; it is tried again", uv_strerror(os_errno));
}

static void on_accepted(int fd, bool tcp, void *arg)
{
	struct metrics *metrics = arg;
	struct sockaddr_storage address = {0};
	socklen_t len = sizeof(address);
	struct visitor *visitor = free_place(metrics);
	(void)tcp;
	if (fd < 0) {
		note_failure(metrics, fd);
		settle(metrics);
		return;
	}
	if (visitor == NULL || getpeername(fd, (struct sockaddr *)&address, &len) != 0) {
		close(fd); /* who came has gone already */
		return;
	}
	*visitor = (struct visitor){.fd = fd, .since_ns = clock_now_ns()};
	metrics->visitor_count++;
	if (MHD_add_connection(metrics->http, fd, (const struct sockaddr *)&address, len) != MHD_YES)
		leave(metrics, visitor); /* it has closed it */
	run(metrics);
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

static int watch(struct metrics *metrics, struct error *err)
{
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(metrics->http, MHD_DAEMON_INFO_EPOLL_FD);
	uv_loop_t *loop = &metrics->net->loop;
	int result = info == NULL ? UV_ENOTSUP : uv_poll_init(loop, &metrics->poll, info->epoll_fd);
	if (result != 0)
		return error_set(
			err, ERR_CONFIG, "listen_metrics: cannot watch libmicrohttpd: %s", uv_strerror(result));
	uv_timer_init(loop, &metrics->more);
	uv_timer_init(loop, &metrics->look);
	metrics->poll.data = metrics->more.data = metrics->look.data = metrics;
	uv_poll_start(&metrics->poll, UV_READABLE, on_ready);
	return 0;
}

int metrics_new(struct net *net, struct metrics **ret_metrics, struct error *err)
{
	struct metrics *metrics = calloc(1, sizeof(*metrics));
	if (metrics == NULL)
		return error_set(err, ERR_CONFIG, "no memory for listen_metrics");
	metrics->net = net;
	for (size_t i = 0; i < METRICS_VISITORS_MAX; i++)
		metrics->visitors[i].fd = -1;
	metrics->pages[0] = (struct page){
		.path = "/metrics", .content_type = "text/plain; version=0.0.4; charset=utf-8", .make = page_metrics};
	metrics->pages[1] = (struct page){.path = "/healthz", .content_type = PLAIN_TEXT, .make = page_healthz};
	metrics->pages[2] = (struct page){.path = "/readyz", .content_type = PLAIN_TEXT, .make = page_readyz};
	metrics->http = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, on_request, metrics,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)REQUEST_BYTES, MHD_OPTION_NOTIFY_CONNECTION, on_visit,
		metrics, MHD_OPTION_END);
	if (metrics->http == NULL) {
		free(metrics);
		return error_set(err, ERR_CONFIG, "listen_metrics: cannot start libmicrohttpd: %s", strerror(errno));
	}
	if (watch(metrics, err) != 0) {
		MHD_stop_daemon(metrics->http);
		free(metrics);
		return -1;
	}
	*ret_metrics = metrics;
	return 0;
}

int metrics_start(struct metrics *metrics, struct error *err)
{
	const struct server_options *options = metrics->net->options;
	for (size_t i = 0; i < options->metrics_count; i++) {
		if (listener_open_tcp(&metrics->net->loop, &options->metrics_addresses[i], "listen_metrics",
			    on_accepted, metrics, &metrics->listeners[i], err) != 0)
			return -1;
		metrics->listener_count++;
	}
	return 0;
}

void metrics_close(struct metrics *metrics)
{
	if (metrics == NULL)
		return;
	for (size_t i = 0; i < metrics->listener_count; i++)
		listener_close(metrics->listeners[i]);
	metrics->listener_count = 0;
	uv_close((uv_handle_t *)&metrics->poll, NULL);
	uv_close((uv_handle_t *)&metrics->more, NULL);
	uv_close((uv_handle_t *)&metrics->look, NULL);
	MHD_stop_daemon(metrics->http); /* closes the connections; its descriptor is not watched any more */
	for (size_t i = 0; i < sizeof(metrics->pages) / sizeof(metrics->pages[0]); i++)
		drop(&metrics->pages[i]);
}

void metrics_free(struct metrics *metrics)
{
	free(metrics);
}
