/*
 * options: what the load generator is told on its command line.
 *
 * Owns nothing; texts point into argv. Read only after options_parse.
 * Invariant: every number is inside its bounds, and the combination is one that the protocol has.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum load_mode { MODE_APPEND, MODE_GET, MODE_ITER };

struct load_options {
	const char *unix_path; /* NULL: TCP */
	const char *host, *port;
	const char *prefix; /* of the streams' names */
	bool redis, sync, json;
	bool keys; /* appends go to the shards of keys: the streams' names are the keys */
	enum load_mode mode;
	uint64_t connections, pipeline, payload_bytes, batch_count, streams, prefill_count, request_count;
	uint64_t duration_ns, warmup_ns;
};

const char *load_mode_name(enum load_mode mode);

/* 0; 1: help was asked for and given; -1: said on stderr what is wrong. */
int options_parse(struct load_options *options, int argc, char **argv);

#endif
