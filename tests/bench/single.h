/*
 * single: one thing done again and again by one thread, and how long each took.
 *
 * Owns nothing but its figures, plain memory of the caller's. One thread.
 * Invariant: only what was begun after the warmup is counted, and each of it once.
 */
#ifndef BENCH_SINGLE_H
#define BENCH_SINGLE_H

#include <stdbool.h>
#include <stdint.h>

#include "arguments.h"
#include "histogram.h"

struct single_options {
	const char *dir; /* where its file is made */
	uint64_t bytes;
	struct common_options common;
};

struct single_result {
	uint64_t elapsed_ns;
	struct histogram latency_ns;
};

/* From a command line with --dir, --bytes, --duration, --warmup and --json; usage is what --help prints. 0; 1: help was
 * given; -1: said on stderr what is wrong. */
int single_parse(struct single_options *options, const char *usage, int argc, char **argv);

/* once: -1 ends it, and has said why. 0 or -1. */
int single_run(const struct single_options *options, int (*once)(void *arg), void *arg, struct single_result *ret);

/* A line, or with --json an object, whose names are those of `load`. */
void single_report(const struct single_options *options, const char *what, const struct single_result *result);

#endif
