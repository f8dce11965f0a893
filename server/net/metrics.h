/*
 * metrics: the listener for who watches the daemon: /metrics, /healthz and /readyz, by HTTP (what they say: pages.h).
 *
 * Owns its listening sockets, its connections, and the instance of libmicrohttpd that speaks HTTP over them. Loop
 * thread only. Invariant: a connection is answered one request and closed; there are at most METRICS_VISITORS_MAX of
 * them, none for longer than METRICS_VISIT_NS, whatever it sends or does not read.
 *
 * libmicrohttpd has no thread here: its epoll descriptor is watched by the loop, in which it then does what can be done
 * without waiting. So a page is made in the thread that owns most of the numbers, without a lock or a copy that might
 * be of another moment; that a page comes at all proves that the loop turns, which is what /healthz is asked for; and
 * the pages cost nothing as long as nobody asks. What a page costs is bounded: see PAGE_SHARE. Connections are accepted
 * by listener.h and handed over, for the same bounds and the same care about descriptors as everywhere else.
 */
#ifndef IRONWALD_METRICS_H
#define IRONWALD_METRICS_H

#include "clock.h"
#include "error.h"
#include "net.h"

#define METRICS_VISITORS_MAX 16
/* From its first byte to its last, and where others wait for its place. */
#define METRICS_VISIT_NS (10 * NS_PER_SECOND)
#define METRICS_CROWDED_VISIT_NS NS_PER_SECOND

struct metrics;

/* net is borrowed, and its loop, until metrics_free. -1: ERR_CONFIG (no memory; a build without libmicrohttpd). */
int metrics_new(struct net *net, struct metrics **ret_metrics, struct error *err);

/* Binds the addresses of the options (metrics_addresses), listens, and logs where. net->engine is there from here on.
 * -1: ERR_CONFIG names the address. */
int metrics_start(struct metrics *metrics, struct error *err);

/* Ends the connections and closes what the loop watches, which it has to be run for before metrics_free. NULL is legal.
 */
void metrics_close(struct metrics *metrics);
/* NULL is legal. */
void metrics_free(struct metrics *metrics);

#endif
