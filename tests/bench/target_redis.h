/*
 * target_redis: streams of Redis, as a target for the same load.
 *
 * Owns nothing; see target.h. Answers come in the order of the requests, an entry is one field of an XADD.
 */
#ifndef BENCH_TARGET_REDIS_H
#define BENCH_TARGET_REDIS_H

#include "target.h"

extern const struct target target_redis;

#endif
