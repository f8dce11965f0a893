/* Starts with many streams: what they cost in calls, and failures of the syncs that are begun early. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine_fixture.h"
#include "stream.h"

TestSuite(engine_starts, .timeout = 60);

enum { STREAMS = 5000 }; /* more than recovery writes to before it syncs, and than a clean start looks at */

static struct fixture f;

static void set_up(void)
{
	fixture_init(&f);
	fixture_open(&f);
	cr_assert(fixture_add_to_many(&f, "s%u", STREAMS, 0) == 0);
}

static void tear_down(void)
{
	fixture_free(&f);
}

#define STARTS_TEST(name) Test(engine_starts, name, .init = set_up, .fini = tear_down)

struct listed {
	char last[16];
	unsigned count;
};

static void list_cb(struct stream *stream, void *arg)
{
	struct listed *listed = arg;
	cr_assert(strcmp(listed->last, stream->name) < 0, "%s before %s", listed->last, stream->name);
	cr_assert(stream->name_len < sizeof(listed->last));
	memcpy(listed->last, stream->name, stream->name_len + 1u);
	listed->count++;
}

static void all_are_there(uint64_t entries)
{
	struct listed listed = {0};
	struct error err;
	cr_assert(!engine_list(f.engine, "", 0, NULL, 0, STREAMS, list_cb, &listed) && listed.count == STREAMS);
	for (unsigned i = 0; i < STREAMS; i += 7) {
		char name[16];
		snprintf(name, sizeof(name), "s%u", i);
		cr_assert(fixture_info(&f, name).end == entries);
		cr_assert(fixture_get(&f, name, entries - 1, entries - 1, 0, 100, &err) == ERR_NONE, "%s", name);
	}
}

STARTS_TEST(nothing_is_looked_at_for_each_stream_after_a_clean_stop)
{
	for (uint64_t round = 1; round < 3; round++) {
		fixture_close(&f);
		uint64_t opens = sim_count(f.io, SIM_OPEN), lists = sim_count(f.io, SIM_LIST),
			 exists = sim_count(f.io, SIM_EXISTS);
		fixture_open(&f);
		cr_assert(sim_count(f.io, SIM_OPEN) - opens < 50);
		cr_assert(sim_count(f.io, SIM_LIST) - lists == 1 && sim_count(f.io, SIM_EXISTS) - exists < 10);
		all_are_there(round);
		cr_assert(fixture_add_to_many(&f, "s%u", STREAMS, round) == 0);
		all_are_there(round + 1);
	}
}

STARTS_TEST(a_stream_is_listed_opened_and_written_once_after_a_death)
{
	fixture_restart(&f); /* the journals are empty now */
	fixture_die(&f);
	uint64_t opens = sim_count(f.io, SIM_OPEN), lists = sim_count(f.io, SIM_LIST),
		 reads = sim_count(f.io, SIM_PREAD), writes = sim_count(f.io, SIM_PWRITE),
		 syncs = sim_count(f.io, SIM_SYNC_ALL);
	fixture_open(&f);
	cr_assert(sim_count(f.io, SIM_LIST) - lists == STREAMS + 1);
	cr_assert(sim_count(f.io, SIM_OPEN) - opens < STREAMS + 50);
	cr_assert(sim_count(f.io, SIM_PREAD) - reads < STREAMS + 50);
	cr_assert(sim_count(f.io, SIM_PWRITE) - writes < STREAMS + 50);
	cr_assert(sim_count(f.io, SIM_SYNC_ALL) - syncs == 2, "one early, one at the end");
	all_are_there(1);
}

/* The system tells of a failure once: also of one that an early sync was told of, though the last one is well. */
STARTS_TEST(any_sync_that_fails_refuses_to_start)
{
	struct error err;
	uint64_t nth = 1;
	for (;; nth++) {
		fixture_die(&f);
		sim_fail_at(f.io, nth, EIO, SIM_BIT(SIM_SYNC_ALL));
		uint64_t fired = sim_faults_fired(f.io);
		if (fixture_try_open(&f, &err) == ERR_NONE)
			break;
		cr_assert(err.code == ERR_IO && sim_faults_fired(f.io) == fired + 1);
		sim_process_died(f.io);
		sim_fail_clear(f.io);
		fixture_open(&f); /* what the failed sync has dropped is written again */
		all_are_there(1);
	}
	cr_assert(nth > 2, "there was to be an early one");
	sim_fail_clear(f.io);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	all_are_there(1);
}
