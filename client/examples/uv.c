/*
 * The same as poll.c, driven by libuv: for each connection a uv_poll_t on its descriptor and a uv_timer_t for its next
 * deadline.
 *
 *   uv ADDRESS [CONNECTIONS [COUNT [IN_FLIGHT]]]
 *
 * The streams are uv-0 and so on. C99 and libuv, whose header wants POSIX.
 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <stdio.h>
#include <stdlib.h>

#include <ironwal.h>
#include <uv.h>

#include "writer.h"

#define CONNECTIONS_MAX 1000

struct driven {
	char name[32];
	struct writer *writer;
	uv_timer_t timer;
	uv_poll_t *poll; /* on the heap: libuv ends with it when it has told so */
	int fd;		 /* that of poll; -1: none */
};

static struct driven driven[CONNECTIONS_MAX];

static void follow(struct driven *one);

static void turn(struct driven *one, unsigned events)
{
	uv_update_time(one->timer.loop);
	writer_turn(one->writer, events, (int64_t)uv_now(one->timer.loop));
	follow(one);
}

static void on_timer(uv_timer_t *timer)
{
	turn((struct driven *)timer->data, 0);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	unsigned happened = 0;
	if (status < 0 || (events & UV_READABLE))
		happened |= IRONWAL_READABLE;
	if (events & UV_WRITABLE)
		happened |= IRONWAL_WRITABLE;
	turn((struct driven *)poll->data, happened);
}

static void on_closed(uv_handle_t *handle)
{
	free(handle);
}

static void stop_watching(struct driven *one)
{
	if (one->poll)
		uv_close((uv_handle_t *)one->poll, on_closed);
	one->poll = NULL;
	one->fd = -1;
}

static void watch(struct driven *one, int fd)
{
	one->poll = (uv_poll_t *)malloc(sizeof(*one->poll));
	if (!one->poll || uv_poll_init(one->timer.loop, one->poll, fd) != 0) {
		fprintf(stderr, "uv: cannot watch a connection\n");
		exit(1);
	}
	one->poll->data = one;
	one->fd = fd;
}

/* Brings the two handles to what the connection wants now. This follows each turn at once, so that a descriptor that
 * was closed in it is forgotten before another connection gets its number. */
static void follow(struct driven *one)
{
	int fd = writer_fd(one->writer);
	unsigned wanted = writer_events(one->writer);
	int events = (wanted & IRONWAL_READABLE ? UV_READABLE : 0) | (wanted & IRONWAL_WRITABLE ? UV_WRITABLE : 0);
	int64_t deadline_ms = writer_deadline_ms(one->writer, (int64_t)uv_now(one->timer.loop));
	if (fd != one->fd)
		stop_watching(one);
	if (fd >= 0 && !one->poll)
		watch(one, fd);
	if (one->poll && events)
		uv_poll_start(one->poll, events, on_poll);
	else if (one->poll)
		uv_poll_stop(one->poll);
	if (deadline_ms >= 0)
		uv_timer_start(&one->timer, on_timer, (uint64_t)deadline_ms, 0);
	else
		uv_timer_stop(&one->timer);
}

static unsigned long argument(int argc, char **argv, int index, unsigned long otherwise)
{
	return argc > index ? strtoul(argv[index], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
	unsigned long connections = argument(argc, argv, 2, 16);
	unsigned long count = argument(argc, argv, 3, 1000);
	unsigned long in_flight = argument(argc, argv, 4, 1000);
	uv_loop_t *loop = uv_default_loop();
	unsigned i, done = 0;
	if (!loop || argc < 2 || argc > 5 || connections < 1 || connections > CONNECTIONS_MAX ||
		in_flight < connections || in_flight / connections > 32768) {
		fprintf(stderr, "usage: uv ADDRESS [CONNECTIONS [COUNT [IN_FLIGHT]]]\n");
		return 2;
	}
	for (i = 0; i < connections; i++) {
		struct driven *one = &driven[i];
		snprintf(one->name, sizeof(one->name), "uv-%u", i);
		one->writer = writer_new(argv[1], one->name, count, (uint32_t)(in_flight / connections));
		if (!one->writer) {
			fprintf(stderr, "uv: no memory\n");
			return 1;
		}
		one->fd = -1;
		uv_timer_init(loop, &one->timer);
		one->timer.data = one;
		follow(one);
	}
	/* Ends when no handle is active: when no writer works any more. */
	uv_run(loop, UV_RUN_DEFAULT);
	for (i = 0; i < connections; i++) {
		done += writer_get_state(driven[i].writer) == WRITER_DONE;
		writer_report(driven[i].writer, stdout);
		writer_free(driven[i].writer);
		uv_close((uv_handle_t *)&driven[i].timer, NULL);
	}
	uv_run(loop, UV_RUN_DEFAULT);
	uv_loop_close(loop);
	return done == connections ? 0 : 1;
}
