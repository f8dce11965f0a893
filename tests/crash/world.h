/*
 * world: an engine on the simulated disk beside a model in memory that knows what must, may and must not be in it.
 *
 * Owns the engine, the model of every stream and all requests in flight; the disk is the caller's to hurt. One thread.
 * Invariant: everything that happens is a function of the seed, so a seed that fails once fails always.
 *
 * What the model holds of a stream: log[i], what entry i is (acknowledged, or found after a crash); durable, how far
 * power loss may not take anything; and the requests that may or may not be behind the log: in flight, or answered
 * with the outcome "unknown". What is found wrong is printed with the seed, and the program aborts.
 */
#ifndef IRONWALD_TEST_WORLD_H
#define IRONWALD_TEST_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoint.h"
#include "engine.h"
#include "sim.h"

struct dice {
	uint64_t state;
};

uint64_t dice_next(struct dice *dice);
uint64_t dice_below(struct dice *dice, uint64_t limit); /* limit > 0 */
bool dice_chance(struct dice *dice, unsigned per_mille);

/* What kind of life a seed leads. */
struct profile {
	struct engine_options options;
	unsigned stream_count;
	unsigned group_max;						   /* requests handed in before a kick */
	unsigned batch_max;						   /* entries of a batch */
	uint32_t entry_max;						   /* bytes of a usual entry */
	unsigned big_per_mille;						   /* how many entries are big */
	uint32_t big_max;						   /* bytes of those */
	unsigned batch_per_mille, expected_per_mille, sync_flag_per_mille; /* of appends */
	unsigned sync_per_mille, truncate_per_mille, tick_per_mille, read_per_mille; /* of steps */
	unsigned reopen_per_mille, death_per_mille;
	unsigned hot_per_mille;					     /* how often the first stream is meant */
	bool sharded;						     /* the first streams are the logs of shards */
	unsigned checkpoint_per_mille;				     /* of steps: something with checkpoints */
	unsigned compact_per_mille, prune_per_mille, load_per_mille; /* of those; the rest are creations */
	unsigned id_per_mille;					     /* of creations: an id that was there before */
	unsigned id_max;					     /* bytes of an id */
	bool faults;						     /* requests may fail, on a disk that is not dead */
};

/* A life at random: sync modes, sizes, few and many streams. */
void profile_roll(struct profile *profile, struct dice *dice);
const char *profile_text(const struct profile *profile); /* one line, static memory */

struct record {
	uint64_t serial; /* of the request */
	uint32_t index, len;
};

struct request;

struct model_stream {
	char name[80];
	size_t name_len;
	struct record *log;
	uint64_t count, cap;
	uint64_t durable;
	uint64_t first_low, first_high; /* where the oldest kept id can be */
	uint64_t pruned_high;		/* below this, prunes may have deleted */
	struct request *maybe_first, **maybe_last;
};

/* A version of a checkpoint: of one id there may be several, of which the last is the one. */
struct model_checkpoint {
	uint64_t number; /* which id */
	uint64_t timestamp;
	uint64_t *offsets;
	bool acknowledged; /* else it may be there or not */
	bool may_be_gone;  /* a compaction was on its way */
	struct model_checkpoint *next;
};

struct totals {
	uint64_t opens, clean_opens, requests, answered, entries, lost_entries, found_entries, conflicts;
	uint64_t truncates, journal_groups, rotations, journal_records, torn_tails_cut, files_set_aside, rewritten;
	uint64_t deaths, reopens, refused, unknown, entries_read;
	uint64_t checkpoints, checkpoints_loaded, checkpoints_found, compactions, prunes;
};

struct world {
	struct io *io;
	struct engine *engine;
	struct profile profile;
	struct dice dice;
	uint64_t seed, last_serial;
	struct model_stream *streams;
	unsigned stream_count;
	unsigned in_flight;
	struct request *sync_all_first;				  /* syncs of everything in flight */
	struct model_checkpoint *checkpoints, **checkpoints_last; /* in the order of their cuts */
	struct checkpoint_request *asked;			  /* in flight */
	uint64_t last_checkpoint, last_timestamp;
	bool power_lost; /* since the last start that was looked at */
	bool armed;	 /* faults may happen now: reads and starts may fail */
	bool ruined;	 /* by faults: what is there is not the model's any more; world_abandon, and no more */
	char where[160]; /* for the message of a failure */
	struct totals totals;
};

/* io is the caller's and outlives the world. */
void world_init(struct world *world, struct io *io, uint64_t seed, const struct profile *profile);
/* The engine must be gone. */
void world_free(struct world *world);

/* Opens, and compares all that is there with the model. False: the disk died or failed a call meanwhile (the engine is
 * not open); with a healthy disk a failure to open aborts. */
bool world_open(struct world *world, struct error *err);

/* One more thing happens: requests, rounds of the engine's threads, answers, reads, restarts. False: the disk is
 * dead, or the engine could not be opened again. */
bool world_step(struct world *world);
/* Rounds until nothing is left to do; answers are taken. */
void world_settle(struct world *world);
/* Answers that are there are held against the model. */
void world_take(struct world *world);

/* The process dies: what was in flight may or may not have happened. */
void world_abandon(struct world *world);
/* After world_abandon: the machine loses power, and comes back. */
void world_power_cut(struct world *world, enum sim_power_mode mode);
/* A clean stop. False: it could not be (the disk). */
bool world_close(struct world *world, struct error *err);

/* Single requests, for tests that want to know what they do. count 0: an empty batch. */
struct request *world_append(struct world *world, unsigned stream, uint64_t count, bool batch);
void world_sync(struct world *world);
void world_truncate(struct world *world, unsigned stream, uint64_t safe_id);
void world_create_checkpoint(struct world *world, uint64_t number);
void world_compact_checkpoints(struct world *world, uint64_t keep);
void world_prune(struct world *world, uint64_t number);

/* Every entry of every stream is read and compared (world_open does it too). */
void world_compare(struct world *world);

void totals_add(struct totals *to, const struct totals *from);
void totals_print(const struct totals *totals);

_Noreturn void world_fail(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- inner: world.c, world_step.c, world_check.c ---- */

struct source {
	struct entry_source base;
	const struct world *world;
	uint64_t serial;
	uint32_t next_index;
	uint8_t *bytes;
	size_t cap;
};

struct request {
	struct op op;
	struct source source;
	struct model_stream *stream; /* NULL: a sync of everything */
	uint64_t serial, count;
	struct request *next; /* in stream->maybe or sync_all */
	bool answered;	      /* with "unknown", or not seen */
	uint64_t *counts;     /* sync of everything: the ends when it was handed in */
};

uint32_t entry_len(const struct world *world, uint64_t serial, uint32_t index);
void entry_bytes(uint64_t serial, uint32_t index, uint8_t *out, size_t len);
void stream_push(struct model_stream *stream, uint64_t serial, uint32_t index, uint32_t len);
void request_free(struct request *request);
struct request *world_request(struct world *world, struct model_stream *stream, enum op_kind kind);
void request_fill(struct world *world, struct request *request, uint64_t count);
void world_hand_in(struct world *world, struct request *request);
void world_hand_in_sync_all(struct world *world);
struct stream *world_found(struct world *world, const struct model_stream *stream);
bool world_may_fail(const struct world *world);
/* What the engine shows of it agrees with the model. */
void world_look_at(struct world *world, struct model_stream *model);
void stream_drop_maybe(struct model_stream *stream);
/* world_checkpoint.c */
void world_checkpoint_at_random(struct world *world);
void world_take_checkpoint(struct world *world, struct op *op);
void world_forget_checkpoint_op(struct world *world, struct op *op); /* an answer that nobody saw */
void world_drop_checkpoint_ops(struct world *world);		     /* what is in flight will not be answered */
void world_check_checkpoints(struct world *world);
void world_free_checkpoints(struct world *world);
void world_check_recovered(struct world *world);

#endif
