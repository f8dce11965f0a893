/*
 * pages: what there is to be read at the listener for metrics: /metrics, /healthz and /readyz, as text.
 *
 * Owns nothing: it looks at what others count, through the same functions as the method stats. Loop thread only, as
 * most of it is the loop's own. Invariant: everybody may read them who reaches the listener, so there are only numbers,
 * and names of the program's own: no name of a stream, no path, no key, no token, no peer.
 */
#ifndef IRONWALD_PAGES_H
#define IRONWALD_PAGES_H

#include "metrics_text.h"
#include "net.h"

/* Each appends to text, which is empty, and returns the status of HTTP: 200, or 503. */

/* All that is counted, in the format of metrics_text. Always 200. */
unsigned page_metrics(const struct net *net, struct metrics_text *text);
/* 503: a thread hangs (see health.h), which only a restart ends. That it is answered shows that the loop turns. */
unsigned page_healthz(const struct net *net, struct metrics_text *text);
/* 503 with a line for each reason: the server stops, a writer waits for a slow disk, or shards take no writes any more.
 */
unsigned page_readyz(const struct net *net, struct metrics_text *text);

#endif
