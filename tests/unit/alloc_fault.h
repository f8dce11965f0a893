/*
 * alloc_fault: the n-th allocation answers NULL.
 *
 * Linked with -Wl,--wrap for malloc, calloc, realloc, strdup and free, so that every allocation of the program's own
 * objects (not of shared libraries) goes through here, also under a sanitizer. Any thread. Counts, and may fail, only
 * what a thread allocates between alloc_fault_begin and alloc_fault_end; the calls nest by being paired.
 * Invariant: without a fault armed nothing differs from the C library's.
 */
#ifndef IRONWALD_TEST_ALLOC_FAULT_H
#define IRONWALD_TEST_ALLOC_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* The nth allocation (1: the next) and the run - 1 behind it fail. 0: none does. Counting begins anew. */
void alloc_fault_arm(uint64_t nth, uint64_t run);

/* The calling thread's allocations count from here on, until the end. */
void alloc_fault_begin(void);
void alloc_fault_end(void);

/* All threads but those that called alloc_fault_exempt are counted, always. */
void alloc_fault_every_thread(bool on);
void alloc_fault_exempt(bool on);

uint64_t alloc_fault_count(void); /* allocations since it was armed */
uint64_t alloc_fault_fired(void); /* of which failed */
int64_t alloc_fault_live(void);	  /* blocks of all threads, counted or not, that were not freed */

#endif
