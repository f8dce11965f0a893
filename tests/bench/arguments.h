/*
 * arguments: what the command lines of the programs here have in common: numbers, a few options, and how they are
 * refused.
 *
 * Owns nothing; called by the main thread, before anything else runs.
 * Invariant: what is accepted is inside its bounds; what is not is said in one line on stderr that names the option.
 */
#ifndef BENCH_ARGUMENTS_H
#define BENCH_ARGUMENTS_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#include "clock.h"

/* Options that all of them have; their own come behind. */
enum common_option { OPTION_DURATION = 256, OPTION_WARMUP, OPTION_JSON, OPTION_HELP, OPTION_OWN };

#define COMMON_OPTIONS                                                                                                 \
	{"duration", required_argument, NULL, OPTION_DURATION}, {"warmup", required_argument, NULL, OPTION_WARMUP},    \
		{"json", no_argument, NULL, OPTION_JSON},                                                              \
	{                                                                                                              \
		"help", no_argument, NULL, OPTION_HELP                                                                 \
	}

struct common_options {
	uint64_t duration_ns, warmup_ns;
	bool json;
};

/* Two seconds, behind a moment that does not count. */
#define COMMON_DEFAULTS                                                                                                \
	{                                                                                                              \
		.duration_ns = 2 * NS_PER_SECOND, .warmup_ns = 300 * NS_PER_MS                                         \
	}

/* name is that of the option, without its dashes. 0; -1: refused. */
int parse_number(const char *name, const char *text, uint64_t min, uint64_t max, uint64_t *ret);
int parse_seconds(const char *name, const char *text, double min, uint64_t *ret_ns);

/* One of COMMON_OPTIONS, or what getopt did not like, and has said so; usage is what --help prints. 0; 1: help was
 * given; -1: refused. */
int take_common(struct common_options *options, int code, const char *name, const char *text, const char *usage);

/* Says why, behind the program's name. Returns -1. */
int refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
