/*
 * Many connections in one thread, driven by poll(2): each appends its entries to a stream of its own, with many in
 * flight, and goes on until each is written once, also when the server is killed and comes back meanwhile.
 *
 *   poll ADDRESS [CONNECTIONS [COUNT [IN_FLIGHT]]]
 *
 * CONNECTIONS (16) streams, poll-0 and so on, get COUNT (1,000) entries each; IN_FLIGHT (1,000) appends are on their
 * way at a time, in all. The exit status is 0 if all are written. What a connection does is in writer.c.
 *
 * C99 and POSIX.
 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <ironwal.h>

#include "writer.h"

#define CONNECTIONS_MAX 1000
#define NAME_MAX_BYTES 32

static char names[CONNECTIONS_MAX][NAME_MAX_BYTES];
static struct writer *writers[CONNECTIONS_MAX];
static struct pollfd watched[CONNECTIONS_MAX];

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What each writer waits for, and for how long all together at most; 0 if none works any more. */
static int gather(unsigned count, int *ret_wait_ms)
{
	int64_t now = now_ms(), wait_ms = -1;
	int works = 0;
	unsigned i;
	for (i = 0; i < count; i++) {
		unsigned events = writer_events(writers[i]);
		int64_t deadline_ms = writer_deadline_ms(writers[i], now);
		works |= writer_get_state(writers[i]) == WRITER_WORKS;
		watched[i].fd = writer_fd(writers[i]); /* poll passes over what is below 0 */
		watched[i].events =
			(short)((events & IRONWAL_READABLE ? POLLIN : 0) | (events & IRONWAL_WRITABLE ? POLLOUT : 0));
		watched[i].revents = 0;
		if (deadline_ms >= 0 && (wait_ms < 0 || deadline_ms < wait_ms))
			wait_ms = deadline_ms;
	}
	*ret_wait_ms = wait_ms > 60000 ? 60000 : (int)wait_ms;
	return works;
}

static void turn(unsigned i, int64_t now)
{
	unsigned events = 0;
	if (watched[i].revents & (POLLIN | POLLERR | POLLHUP | POLLNVAL))
		events |= IRONWAL_READABLE;
	if (watched[i].revents & POLLOUT)
		events |= IRONWAL_WRITABLE;
	if (events || writer_deadline_ms(writers[i], now) == 0)
		writer_turn(writers[i], events, now);
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
	unsigned i, done = 0;
	int wait_ms;
	if (argc < 2 || argc > 5 || connections < 1 || connections > CONNECTIONS_MAX || in_flight < connections ||
		in_flight / connections > 32768) {
		fprintf(stderr, "usage: poll ADDRESS [CONNECTIONS [COUNT [IN_FLIGHT]]]\n");
		return 2;
	}
	for (i = 0; i < connections; i++) {
		snprintf(names[i], sizeof(names[i]), "poll-%u", i);
		writers[i] = writer_new(argv[1], names[i], count, (uint32_t)(in_flight / connections));
		if (!writers[i]) {
			fprintf(stderr, "poll: no memory\n");
			return 1;
		}
	}
	while (gather((unsigned)connections, &wait_ms)) {
		poll(watched, (nfds_t)connections, wait_ms);
		int64_t now = now_ms();
		for (i = 0; i < connections; i++)
			turn(i, now);
	}
	for (i = 0; i < connections; i++) {
		done += writer_get_state(writers[i]) == WRITER_DONE;
		writer_report(writers[i], stdout);
		writer_free(writers[i]);
	}
	return done == connections ? 0 : 1;
}
