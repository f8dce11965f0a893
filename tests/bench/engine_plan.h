/*
 * engine_plan: what the load on the bare engine is to be.
 *
 * Owns nothing; texts point into argv. Read only after engine_plan_parse.
 * Invariant: every number is inside its bounds, and what is in flight is inside IN_FLIGHT_MAX requests and
 * IN_FLIGHT_BYTES_MAX bytes of entries.
 */
#ifndef BENCH_ENGINE_PLAN_H
#define BENCH_ENGINE_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "arguments.h"
#include "engine.h"

#define IN_FLIGHT_MAX UINT64_C(1000000)
#define IN_FLIGHT_BYTES_MAX (UINT64_C(1) << 30)

enum engine_op { ENGINE_APPEND, ENGINE_GET, ENGINE_ITER };

struct engine_plan {
	const char *root_path;
	enum engine_op op;
	enum sync_mode sync_mode;
	uint64_t clients_count, depth; /* each has so many appends in flight */
	uint64_t payload_bytes, batch_count;
	uint64_t streams_count; /* or, with by_shard, shards */
	uint64_t prefill_count; /* entries in each, for the operations that read */
	bool by_shard;
	struct common_options common;
};

/* 0; 1: help was asked for and given; -1: said on stderr what is wrong. */
int engine_plan_parse(struct engine_plan *plan, int argc, char **argv);

const char *engine_op_name(enum engine_op op);
const char *sync_mode_name(enum sync_mode mode);

#endif
