/*
 * quiet_disk: the simulated disk (sim.h) with all the memory that it wants, whatever alloc_fault.h lets fail.
 *
 * Owned by the caller, freed with sim_free; all else of sim.h works on it. One thread. One at a time.
 * Invariant: what the disk allocates is not counted; what a callback of the engine allocates is.
 */
#ifndef IRONWALD_TEST_QUIET_DISK_H
#define IRONWALD_TEST_QUIET_DISK_H

#include <stdint.h>

#include "io.h"

struct io *quiet_disk_new(uint64_t seed);

#endif
