/*
 * arguments: numbers on the command lines of the programs here, and how they are refused.
 *
 * Owns nothing; called by the main thread, before anything else runs.
 * Invariant: what is accepted is inside its bounds; what is not is said in one line on stderr that names the option.
 */
#ifndef BENCH_ARGUMENTS_H
#define BENCH_ARGUMENTS_H

#include <stdint.h>

/* name is that of the option, without its dashes. 0; -1: refused. */
int parse_number(const char *name, const char *text, uint64_t min, uint64_t max, uint64_t *ret);
int parse_seconds(const char *name, const char *text, double min, uint64_t *ret_ns);

/* Says why, behind the program's name. Returns -1. */
int refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
