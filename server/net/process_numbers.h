/*
 * process_numbers: what this process takes of the machine.
 *
 * Owns nothing; any thread may call it. It waits for no disk: it reads /proc, which is memory.
 * Invariant: what the system does not tell is 0, and no process has 0 of any of these.
 */
#ifndef IRONWALD_PROCESS_NUMBERS_H
#define IRONWALD_PROCESS_NUMBERS_H

#include <stdint.h>

/* More open files than so many are not counted (0): that would take milliseconds. */
#define PROCESS_FILES_COUNTED_MAX 8192

struct process_numbers {
	uint64_t cpu_ns; /* of all threads, in user and system mode */
	uint64_t resident_bytes, virtual_bytes;
	uint64_t open_files, max_files; /* descriptors, and how many there may be */
};

void process_numbers_get(struct process_numbers *ret_numbers);

#endif
