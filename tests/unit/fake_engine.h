/*
 * fake_engine: engine.h in memory, in place of the real one, to test the network side without a disk.
 *
 * Owns all streams; one per process. engine.h's functions are called by the loop thread (engine_read by any), the
 * switches below by any thread.
 * Invariant: an op is completed in the order submitted, at a kick, or at the next one after hold was taken back.
 */
#ifndef IRONWALD_FAKE_ENGINE_H
#define IRONWALD_FAKE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"

struct engine *fake_engine_new(const struct engine_hooks *hooks);
void fake_engine_free(struct engine *engine);

/* Ops stay in hand; taking it back completes them (and wakes the loop). */
void fake_engine_hold(struct engine *engine, bool hold);
/* Reads with nowait would block. */
void fake_engine_cold(bool cold);
/* An entry with this id cannot be read (UINT64_MAX: none). */
void fake_engine_damage(uint64_t id);
/* Appends to this shard fail with Io, with that outcome (UINT32_MAX: to none). */
void fake_engine_fail_shard(uint32_t shard, enum error_outcome outcome);
/* All shards of its writer but one take no writes any more. */
void fake_engine_fail(struct engine *engine, const char *why);
uint64_t fake_engine_ops_held(struct engine *engine);

#endif
