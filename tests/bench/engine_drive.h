/*
 * engine_drive: an engine, and one thread that keeps it busy.
 *
 * Owns the engine and the requests in flight. All of it is called by one thread, which is the engine's loop thread.
 * Invariant: between two runs nothing is in flight.
 */
#ifndef BENCH_ENGINE_DRIVE_H
#define BENCH_ENGINE_DRIVE_H

#include "engine_plan.h"
#include "latency.h"

struct drive;

/* Of all writers, while a run was measured. */
struct drive_work {
	uint64_t groups, journal_groups, group_ops, group_ops_p50,
		group_ops_p99; /* the p's: up to the next power of two */
	uint64_t file_syncs, dir_syncs, journal_syncs;
	uint64_t group_syncs, group_sync_ns; /* groups that synced, and how long that took them in all */
};

struct drive_result {
	uint64_t requests, entries, bytes; /* done */
	uint64_t elapsed_ns, process_cpu_ns, loop_cpu_ns;
	struct latency *latency; /* the drive's own */
	struct drive_work work;
};

/* Opens the engine and makes all streams, with entries in them if the plan is to read. NULL: said what failed. */
struct drive *drive_open(const struct engine_plan *plan);
/* Runs for so long, until nothing is in flight. 0 or -1: said what failed. */
int drive_run(struct drive *drive, uint64_t duration_ns, struct drive_result *ret_result);
/* What was appended since drive_open, warmup and all. */
uint64_t drive_entries_appended(const struct drive *drive);
/* Stops the engine cleanly. -1: said what could not be made durable. NULL is legal. */
int drive_close(struct drive *drive);

#endif
