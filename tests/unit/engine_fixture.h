/*
 * engine_fixture: an engine on a simulated disk, and one call per thing that a test does to it.
 *
 * Owns the disk and the engine; one thread. Every call that hands in requests runs the engine until nothing is left to
 * do and takes the answers. What should not fail asserts that it does not.
 * Entries are made by fixture_bytes(tag, index): a test says only which ones it wants.
 */
#ifndef IRONWALD_TEST_ENGINE_FIXTURE_H
#define IRONWALD_TEST_ENGINE_FIXTURE_H

#include <criterion/criterion.h>

#include "engine.h"
#include "sim.h"

struct fixture {
	struct io *io;
	struct engine_options options;
	struct engine *engine;
};

struct answer {
	enum error_code code; /* ERR_NONE: done */
	struct error error;
	uint64_t first, end, segments_deleted;
	bool durable;
};

/* Entries of a request: `count` of them, of `len` bytes each. */
struct entries {
	struct entry_source base;
	uint64_t tag, next;
	size_t len;
	uint8_t *bytes;
};

void fixture_bytes(uint64_t tag, uint64_t index, uint8_t *out, size_t len);
void entries_init(struct entries *entries, uint64_t tag, uint64_t count, size_t len);
void entries_free(struct entries *entries);

/* One shard, no block cache, otherwise the defaults; nothing is logged. */
void fixture_init(struct fixture *fixture);
void fixture_free(struct fixture *fixture);

void fixture_open(struct fixture *fixture);
/* ERR_NONE or why not. */
enum error_code fixture_try_open(struct fixture *fixture, struct error *err);
void fixture_close(struct fixture *fixture);
/* The process dies. */
void fixture_die(struct fixture *fixture);
/* The machine loses power. */
void fixture_power_cut(struct fixture *fixture, enum sim_power_mode mode);
/* fixture_die and fixture_open. */
void fixture_restart(struct fixture *fixture);

/* Runs all threads' work until there is none. */
void fixture_run(struct fixture *fixture);

enum append_flags { APPEND_BATCH = 1, APPEND_SYNC = 2, APPEND_EXPECTED = 4 };

struct answer fixture_append(struct fixture *fixture, const char *name, uint64_t tag, uint64_t count, size_t len,
	int flags, uint64_t expected_id);
/* Entries from one id to another, a request each; the tag of each is its id. Or a failed test. */
void fixture_append_each(struct fixture *fixture, const char *name, uint64_t from, uint64_t to, size_t len);
/* They are all that there is. */
void fixture_check_each(struct fixture *fixture, const char *name, uint64_t count, size_t len);
/* One entry of 100 bytes, or a failed test. Returns its id. */
uint64_t fixture_add(struct fixture *fixture, const char *name, uint64_t tag);
/* One such entry to each of `count` streams (a name with %u) in one group. Returns how many were refused. */
unsigned fixture_add_to_many(struct fixture *fixture, const char *form, unsigned count, uint64_t tag);
struct answer fixture_truncate(struct fixture *fixture, const char *name, uint64_t safe_id);
struct answer fixture_sync(struct fixture *fixture, const char *name); /* NULL: everything */

struct stream *fixture_stream(struct fixture *fixture, const char *name); /* has to be there */
struct stream_info fixture_info(struct fixture *fixture, const char *name);
struct writer_stats fixture_writer(struct fixture *fixture, uint32_t writer);
struct engine_stats fixture_stats(struct fixture *fixture);

/* ERR_NONE: the entry is fixture_bytes(tag, index), of len bytes. ERR_OTHER: it is something else. */
enum error_code fixture_get(struct fixture *fixture, const char *name, uint64_t id, uint64_t tag, uint64_t index,
	size_t len, struct error *err);
/* Counts what reading [start, end) delivers, in order. */
uint64_t fixture_count(struct fixture *fixture, const char *name, uint64_t start, uint64_t end, struct error *err);

/* How many names in dir end so. */
unsigned fixture_files(struct fixture *fixture, const char *dir, const char *ending);
/* The path of the nth file (from 0, in the order of names) in dir that ends so; static memory. */
const char *fixture_file(struct fixture *fixture, const char *dir, const char *ending, unsigned nth);

#endif
