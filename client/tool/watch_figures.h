/*
 * watch_figures: what an operator wants to know of a server, out of what it counts now and what it counted a while ago.
 *
 * Owns its lists; names and texts are those of the tree that is `now`. One thread.
 * Invariant: what a server does not count is not known (NAN, or known is false) and never 0; no rate is below 0: where
 * a count went back, another process counts, and no rate is known.
 */
#ifndef IRONWAL_WATCH_FIGURES_H
#define IRONWAL_WATCH_FIGURES_H

#include "stats_tree.h"

struct watch_count {
	bool known;
	uint64_t n;
};

/* What each writer counts. */
enum watch_counter {
	WATCH_APPENDS,
	WATCH_ENTRIES,
	WATCH_BYTES,
	WATCH_SYNCS,
	WATCH_GROUPS,
	WATCH_REQUESTS, /* that its groups had in them */
	WATCH_NO_SPACE,
	WATCH_COUNTERS
};

enum watch_gauge {
	WATCH_UPTIME,
	WATCH_CONNECTIONS,
	WATCH_CONNECTIONS_MAX,
	WATCH_INFLIGHT,
	WATCH_INFLIGHT_MAX,
	WATCH_WAITING_ITERS,
	WATCH_POOL_READS,
	WATCH_DISK_TOTAL,
	WATCH_DISK_FREE,
	WATCH_STREAMS,
	WATCH_SEGMENTS,
	WATCH_SEGMENT_BYTES,
	WATCH_DAMAGE,
	WATCH_DISK_WAITS_NOW,
	WATCH_GAUGES
};

enum watch_state {
	WATCH_OK,
	WATCH_SLOW_DISK,
	WATCH_NO_SPACE_LEFT,
	WATCH_NOT_READY,
	/* The rest is not said by the server. */
	WATCH_NO_ANSWER,
	WATCH_NO_CONNECTION
};

/* Microseconds. The server's summaries are since its start. */
struct watch_latency {
	struct watch_count p50, p99, max;
	double mean_now; /* of what came in between; NAN also if that cannot be told well from means since the start */
};

struct watch_writer {
	uint64_t number;
	bool failed;
	struct watch_count streams, queue;
	double rates[WATCH_COUNTERS];
	struct watch_latency sync, queued;
};

struct watch_method {
	const char *name;
	uint64_t count;
	double rate, error_rate;
	struct watch_latency latency;
};

/* Something that was refused, or went wrong, by its name. */
struct watch_refusal {
	const char *name;
	uint64_t total;
	double rate;
};

struct watch_figures {
	enum watch_state state;
	const char *why; /* one line, may be empty */
	double seconds;	 /* in between; NAN: there are no rates */
	bool went_back;	 /* a count did */
	const char *version, *sync_mode;
	struct watch_count totals[WATCH_COUNTERS];
	double rates[WATCH_COUNTERS];
	struct watch_count queue;
	struct watch_count gauges[WATCH_GAUGES];
	double disk_waits, disk_wait_us;   /* in between */
	struct watch_latency sync, queued; /* the worst of all writers */
	/* What is refused most comes first; what failed, then what does most; what is asked most. */
	struct watch_refusal *refusals;
	struct watch_writer *writers;
	struct watch_method *methods;
	size_t refusal_count, writer_count, method_count;
};

/* What is to be seen, apart from what the server counts. */
struct watch_scene {
	enum watch_state state;
	const char *why;      /* one line, may be empty */
	double for_seconds;   /* how long there has been no answer, or no connection */
	double answer_us;     /* how long the last answer took; NAN */
	double every_seconds; /* the next picture comes after so long */
	const char *address;
	const char *time;	  /* UTC, as "2026-11-27T23:59:59Z" */
	uint64_t restarts;	  /* seen so far */
	const char *restart_time; /* of the last one */
	/* NULL: there is nothing that is known now. */
	const struct watch_figures *figures;
};

/* before may be NULL, `seconds` is what lies between. False: out of memory (then there is nothing to free). */
bool watch_figures_make(
	struct watch_figures *ret, const struct stats_node *now, const struct stats_node *before, double seconds);
void watch_figures_free(struct watch_figures *figures);

/* "ok", "slow-disk", ... */
const char *watch_state_name(enum watch_state state);
/* "appends", ... */
const char *watch_counter_name(enum watch_counter counter);
/* One divided by the other; NAN if that is not known. */
double watch_ratio(double above, double below);
/* Of all refusals together; NAN: not known. */
double watch_refused_rate(const struct watch_figures *figures);

#endif
