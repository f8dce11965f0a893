/* What the journal has and the files have not yet (held.h). */
#include "engine_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "held.h"
#include "writer.h"

#define STREAMS 20u
/* So much the journal takes before the first switch, and more. */
#define ROUNDS_MAX 400u

TestSuite(engine_held, .timeout = 120);

/* An entry to each stream in one group; its tag is the round's number, its id one less if none was refused. */
static unsigned add_round(struct fixture *fixture, unsigned number)
{
	return fixture_add_to_many(fixture, "s%u", STREAMS, number);
}

static void add_rounds(struct fixture *fixture, unsigned from, unsigned to)
{
	for (unsigned number = from; number <= to; number++)
		cr_assert(add_round(fixture, number) == 0, "round %u", number);
}

static void check_rounds(struct fixture *fixture, unsigned count)
{
	struct error err;
	for (unsigned i = 0; i < STREAMS; i++) {
		char name[16];
		snprintf(name, sizeof(name), "s%u", i);
		for (unsigned number = 1; number <= count; number++)
			cr_assert(fixture_get(fixture, name, number - 1, number, 0, 100, &err) == ERR_NONE,
				"%s: round %u of %u: %s", name, number, count, err.message);
		cr_assert(fixture_count(fixture, name, 0, count, &err) == count, "%s: %s", name, err.message);
	}
}

static void check_after_power_cut(struct fixture *fixture, unsigned count)
{
	fixture_power_cut(fixture, SIM_LOSE_ALL);
	fixture_open(fixture);
	check_rounds(fixture, count);
}

static uint64_t held_bytes(struct fixture *fixture)
{
	return fixture_writer(fixture, 0).held_bytes;
}

static void let_it_idle(struct fixture *fixture)
{
	sim_advance(fixture->io, 2 * HELD_IDLE_NS);
	fixture_run(fixture);
}

Test(engine_held, a_file_is_written_once_for_all_its_frames)
{
	struct fixture fixture;
	fixture_init(&fixture);
	fixture_open(&fixture);
	add_rounds(&fixture, 1, 1);
	cr_assert(held_bytes(&fixture) == 0); /* new files are written at once */
	uint64_t before = sim_count(fixture.io, SIM_PWRITE);
	add_rounds(&fixture, 2, 9);
	cr_assert(sim_count(fixture.io, SIM_PWRITE) == before + 8); /* the journal's */
	cr_assert(held_bytes(&fixture) > 8 * STREAMS * 100);
	check_rounds(&fixture, 9);
	let_it_idle(&fixture);
	cr_assert(sim_count(fixture.io, SIM_PWRITE) == before + 8 + STREAMS);
	cr_assert(held_bytes(&fixture) == 0);
	check_rounds(&fixture, 9);
	add_rounds(&fixture, 10, 12);
	check_rounds(&fixture, 12);
	fixture_close(&fixture);
	fixture_open(&fixture);
	check_rounds(&fixture, 12);
	fixture_free(&fixture);
}

/* The writer's last steps are behind the keeper's. (A leak: found under LeakSanitizer.) */
Test(engine_held, a_close_when_it_is_due_writes_it)
{
	struct fixture fixture;
	fixture_init(&fixture);
	fixture_open(&fixture);
	add_rounds(&fixture, 1, 5);
	sim_advance(fixture.io, 2 * HELD_IDLE_NS);
	fixture_close(&fixture);
	fixture_open(&fixture);
	cr_assert(fixture_stats(&fixture).recovery.clean_start);
	check_rounds(&fixture, 5);
	fixture_free(&fixture);
}

Test(engine_held, it_is_there_after_a_crash)
{
	for (unsigned machine = 0; machine < 2; machine++) {
		struct fixture fixture;
		fixture_init(&fixture);
		fixture_open(&fixture);
		add_rounds(&fixture, 1, 7);
		cr_assert(held_bytes(&fixture) > 0);
		if (machine) {
			fixture_power_cut(&fixture, SIM_LOSE_ALL);
			fixture_open(&fixture);
		} else {
			fixture_restart(&fixture);
		}
		check_rounds(&fixture, 7);
		fixture_free(&fixture);
	}
}

/* What goes to the file by itself takes with it what is held before it. */
Test(engine_held, a_group_of_its_own_and_a_full_segment_write_it)
{
	struct fixture fixture;
	fixture_init(&fixture);
	fixture.options.max_entries_per_segment = 5;
	fixture_open(&fixture);
	add_rounds(&fixture, 1, 3);
	uint64_t before = held_bytes(&fixture);
	cr_assert(fixture_add(&fixture, "s3", 4) == 3);
	cr_assert(held_bytes(&fixture) < before);
	for (unsigned i = 0; i < STREAMS; i++) {
		char name[16];
		snprintf(name, sizeof(name), "s%u", i);
		cr_assert(i == 3 || fixture_add(&fixture, name, 4) == 3);
	}
	cr_assert(held_bytes(&fixture) == 0);
	add_rounds(&fixture, 5, 19);
	check_rounds(&fixture, 19);
	cr_assert(fixture_writer(&fixture, 0).rotations == 3 * STREAMS);
	check_after_power_cut(&fixture, 19);
	fixture_free(&fixture);
}

/* The frames of the group are held when the journal finds no room: they go to the files, once. */
Test(engine_held, without_room_for_the_journal_nothing_is_there_twice)
{
	struct fixture fixture;
	fixture_init(&fixture);
	fixture_open(&fixture);
	add_rounds(&fixture, 1, 3);
	sim_fail_at(fixture.io, 1, ENOSPC, SIM_BIT(SIM_PWRITE));
	add_rounds(&fixture, 4, 4);
	cr_assert(sim_faults_fired(fixture.io) == 1 && held_bytes(&fixture) == 0);
	const struct tail *tail = &fixture_stream(&fixture, "s0")->tail;
	char path[SEGMENT_PATH_MAX];
	uint8_t behind = 0;
	segment_path(tail->segment, path);
	cr_assert(sim_read_file(fixture.io, path, tail->written, &behind, 1) != 0 || behind == 0);
	add_rounds(&fixture, 5, 6);
	check_rounds(&fixture, 6);
	check_after_power_cut(&fixture, 6);
	fixture_free(&fixture);
}

/* Its own stream is refused, and keeps what it has. */
Test(engine_held, a_full_segment_that_cannot_be_written_stays)
{
	struct fixture fixture;
	fixture_init(&fixture);
	fixture.options.max_entries_per_segment = 5;
	fixture_open(&fixture);
	add_rounds(&fixture, 1, 5);
	sim_fail_at(fixture.io, 1, ENOSPC, SIM_BIT(SIM_PWRITE));
	cr_assert(add_round(&fixture, 6) == 1 && sim_faults_fired(fixture.io) == 1);
	check_rounds(&fixture, 5);
	cr_assert(fixture_add(&fixture, "s0", 6) == 5);
	add_rounds(&fixture, 7, 8);
	check_rounds(&fixture, 8);
	check_after_power_cut(&fixture, 8);
	sim_fail_at(fixture.io, 1, EIO, SIM_BIT(SIM_PWRITE));
	for (unsigned number = 9; !fixture_writer(&fixture, 0).failed; number++) {
		cr_assert(number < 20);
		(void)add_round(&fixture, number);
	}
	fixture_free(&fixture);
}

/* The round in which the journal is checkpointed for the first time, and how often the round writes. */
static unsigned find_checkpoint(uint64_t *ret_writes)
{
	struct fixture fixture;
	unsigned number = 1;
	fixture_init(&fixture);
	fixture_open(&fixture);
	for (uint64_t syncs = sim_count(fixture.io, SIM_SYNC_ALL); number < ROUNDS_MAX; number++) {
		uint64_t before = sim_count(fixture.io, SIM_PWRITE);
		add_rounds(&fixture, number, number);
		*ret_writes = sim_count(fixture.io, SIM_PWRITE) - before;
		if (sim_count(fixture.io, SIM_SYNC_ALL) > syncs)
			break;
	}
	cr_assert(number<ROUNDS_MAX && * ret_writes> STREAMS);
	check_rounds(&fixture, number);
	fixture_free(&fixture);
	return number;
}

static void fail_in_checkpoint(unsigned number, uint64_t nth, int os_errno)
{
	struct fixture fixture;
	fixture_init(&fixture);
	fixture_open(&fixture);
	add_rounds(&fixture, 1, number - 1);
	uint64_t syncs = sim_count(fixture.io, SIM_SYNC_ALL);
	sim_fail_at(fixture.io, nth, os_errno, SIM_BIT(SIM_PWRITE));
	unsigned refused = add_round(&fixture, number), done = refused == 0 ? number : number - 1;
	cr_assert(sim_faults_fired(fixture.io) == 1);
	check_rounds(&fixture, done);
	if (os_errno == ENOSPC) {
		/* Nothing has failed for good, and the next one does what this one could not. */
		cr_assert(refused == 0 && !fixture_writer(&fixture, 0).failed);
		add_rounds(&fixture, number + 1, number + 3);
		done = number + 3;
		check_rounds(&fixture, done);
		cr_assert(sim_count(fixture.io, SIM_SYNC_ALL) > syncs, "write %lu", (unsigned long)nth);
	} else {
		struct answer answer = fixture_append(&fixture, "s1", 1, 1, 100, 0, 0);
		cr_assert(fixture_writer(&fixture, 0).failed && answer.code == ERR_IO);
		cr_assert(sim_count(fixture.io, SIM_SYNC_ALL) == syncs, "write %lu", (unsigned long)nth);
	}
	check_after_power_cut(&fixture, done);
	fixture_free(&fixture);
}

Test(engine_held, each_write_of_a_checkpoint_fails_once)
{
	uint64_t writes;
	unsigned number = find_checkpoint(&writes);
	/* The first is the record, which goes into the other half. The last ends the generation: behind all syncs. */
	for (uint64_t nth = 2; nth < writes; nth++) {
		fail_in_checkpoint(number, nth, ENOSPC);
		fail_in_checkpoint(number, nth, EIO);
	}
}

Test(engine_held, a_close_that_cannot_write_it_leaves_it_to_the_journal)
{
	struct fixture fixture;
	struct error err;
	fixture_init(&fixture);
	fixture_open(&fixture);
	add_rounds(&fixture, 1, 5);
	sim_fail_at(fixture.io, 3, EIO, SIM_BIT(SIM_PWRITE));
	cr_assert(engine_close(fixture.engine, &err) == -1 && err.code == ERR_IO);
	fixture.engine = NULL;
	sim_power_on(fixture.io, SIM_LOSE_ALL);
	fixture_open(&fixture);
	check_rounds(&fixture, 5);
	fixture_free(&fixture);
}

/* The keeper comes between a group's writing and its publishing: what is not promised is not written. */
Test(engine_held, what_is_not_published_is_not_written)
{
	static uint8_t bytes[700];
	struct iovec iov[] = {{bytes, 100}, {bytes, sizeof(bytes)}};
	struct fixture fixture;
	fixture_init(&fixture);
	fixture_open(&fixture);
	add_rounds(&fixture, 1, 4);
	struct stream *stream = fixture_stream(&fixture, "s0");
	struct writer *writer = stream->writer;
	uint64_t offset = stream->tail.written;
	uint8_t found[100];
	char path[SEGMENT_PATH_MAX];
	segment_path(stream->tail.segment, path);
	memset(bytes, 'x', sizeof(bytes));
	for (unsigned times = 0; times < 3; times++) {
		cr_assert(held_add(writer, stream, offset, &iov[0], 1));
		cr_assert(held_write_all(writer, journal_generation(writer->journal) + times) == 0);
		struct held *held = stream->tail.segment->held;
		cr_assert(held && held->from + held->in_place == offset && held->len == held->in_place + 100);
		int r = sim_read_file(fixture.io, path, offset, found, sizeof(found));
		cr_assert(r != 0 || found[0] == 0);
		/* And it grows, without what is in the file. */
		cr_assert(held_add(writer, stream, offset + 100, &iov[1], 1));
		held = stream->tail.segment->held;
		cr_assert(held->from + held->in_place == offset && held->len == held->in_place + 800);
		held_take_back(writer, stream, offset);
		cr_assert(stream->tail.segment->held == NULL);
	}
	add_rounds(&fixture, 5, 6);
	check_rounds(&fixture, 6);
	check_after_power_cut(&fixture, 6);
	fixture_free(&fixture);
}

/* As much as is worth a write is written, though the journal has room. */
Test(engine_held, there_is_a_bound)
{
	struct fixture fixture;
	struct error err;
	uint32_t highest = 0;
	const unsigned rounds = 700;
	fixture_init(&fixture);
	fixture.options.read_strategy = READ_MMAP;
	fixture_open(&fixture);
	for (unsigned number = 1; number <= rounds; number++) {
		cr_assert(fixture_add_to_many(&fixture, "s%u", 3, number) == 0);
		const struct held *held = fixture_stream(&fixture, "s0")->tail.segment->held;
		highest = held && held->len > highest ? held->len : highest;
	}
	cr_assert(sim_count(fixture.io, SIM_SYNC_ALL) <= 1 && highest > HELD_MAX / 2 && highest <= HELD_MAX);
	cr_assert(fixture_count(&fixture, "s2", 0, rounds, &err) == rounds, "%s", err.message);
	for (unsigned number = 1; number <= rounds; number++)
		cr_assert(fixture_get(&fixture, "s1", number - 1, number, 0, 100, &err) == ERR_NONE);
	fixture_free(&fixture);
}
