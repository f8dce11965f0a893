/*
 * plan: what a load is to be: where to, how many connections, what requests.
 *
 * Owns nothing; texts belong to the front end. Filled by it, then read only: any thread may read it.
 * Invariant: after plan_check every number is inside its bounds, and all that the plan needs in memory is inside
 * BENCH_MEMORY_MAX; so sizes that are computed from a checked plan do not overflow.
 */
#ifndef IRONWAL_BENCH_PLAN_H
#define IRONWAL_BENCH_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ironwal.h"

#define BENCH_CONNECTIONS_MAX 10000
#define BENCH_THREADS_MAX 64
#define BENCH_PIPELINE_MAX 65536
#define BENCH_PAYLOAD_MAX (UINT64_C(64) << 20)
#define BENCH_BATCH_MAX UINT64_C(1000000)
#define BENCH_NAMES_MAX 100000
#define BENCH_PREFIX_BYTES_MAX 200
#define BENCH_PREFILL_MAX UINT32_MAX
/* Of one request or answer; and of all buffers and tables. */
#define BENCH_MESSAGE_BYTES_MAX (UINT64_C(64) << 20)
#define BENCH_MEMORY_MAX (UINT64_C(1) << 30)

/* What answers take besides entries; what a request does. */
#define BENCH_ANSWER_OVERHEAD_BYTES 4096
#define BENCH_REQUEST_OVERHEAD_BYTES 512
/* A prefill keeps at least so many requests in flight. */
#define BENCH_PREFILL_PIPELINE 8

enum bench_op { BENCH_APPEND, BENCH_GET, BENCH_ITER, BENCH_PREFILL };
#define BENCH_OPS 4
/* Those that a measured phase is mixed of: the others are in front of it. */
#define BENCH_MIXED_OPS 3

struct bench_plan {
	const char *address; /* unix:PATH or tcp:HOST:PORT */
	const char *client_name;
	const ironwal_options *options; /* of the way there; NULL: the defaults */
	const char *token;		/* NULL: none */
	const char *prefix;		/* of the names of streams, or of keys: behind it there are six digits */
	uint64_t names_count;		/* requests go round over so many */
	bool by_key;			/* the names are keys: appends go to their shards */
	bool sync;
	bool random;  /* entries are random bytes, each its own; else all are of BENCH_PATTERN */
	bool verify;  /* entries describe themselves (content.h), and are checked whenever they are read */
	bool any_run; /* verify: what another run wrote is good, too */
	bool checks;  /* ids and lengths in answers are held against what was asked */
	uint32_t weights[BENCH_MIXED_OPS];
	uint64_t connections_count, threads_count, pipeline, payload_bytes, batch_count, iter_count, prefill_count;
	uint64_t seed;
	uint64_t timeout_ns; /* without any answer for so long, the server is taken for dead; UINT64_MAX: never */
};

#define BENCH_PATTERN "ironwald"

const char *bench_op_name(enum bench_op op);

/* NULL, or what is wrong, as one line that names the options. */
const char *plan_check(const struct bench_plan *plan);

/* The sum of the weights is not 0. */
bool plan_reads(const struct bench_plan *plan);
bool plan_appends(const struct bench_plan *plan);
/* Places for requests in flight on each connection. */
uint64_t plan_slots_count(const struct bench_plan *plan);
/* Of one prefill: up to batch_max, and up to 1 MiB. */
uint64_t plan_prefill_batch(const struct bench_plan *plan, uint64_t batch_max);
/* Room for the longest answer. */
uint64_t plan_in_bytes(const struct bench_plan *plan);

#endif
