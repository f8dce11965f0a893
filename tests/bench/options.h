/*
 * options: what the load generator is told on its command line.
 *
 * Owns nothing; texts point into argv and into itself, so it stays where it is. Read only after options_parse.
 * Invariant: the plan was checked, and is one that the protocol has.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "arguments.h"
#include "ironwal.h"
#include "plan.h"

struct load_options {
	struct bench_plan plan;
	struct common_options common;
	ironwal_options way; /* plan.options points here */
	bool redis;
	enum bench_op mode;
	uint64_t prefill_count;	  /* for the modes that read */
	uint64_t prefilled_count; /* not 0: they are there already */
	uint64_t request_count;
	char address[512]; /* plan.address points here */
};

/* 0; 1: help was asked for and given; -1: said on stderr what is wrong. */
int options_parse(struct load_options *options, int argc, char **argv);

#endif
