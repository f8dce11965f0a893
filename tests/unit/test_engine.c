/* The engine's calls, one by one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"

TestSuite(engine, .timeout = 60);

static struct fixture f;

static void set_up(void)
{
	fixture_init(&f);
	fixture_open(&f);
}

static void tear_down(void)
{
	fixture_free(&f);
}

#define ENGINE_TEST(name) Test(engine, name, .init = set_up, .fini = tear_down)

/* ---- append ----------------------------------------------------------------------------------------------------- */

ENGINE_TEST(ids_begin_at_0_and_go_on_in_each_stream)
{
	struct error err;
	for (uint64_t i = 0; i < 5; i++) {
		cr_assert(fixture_add(&f, "a", i) == i);
		cr_assert(fixture_add(&f, "b", 100 + i) == i);
	}
	struct answer batch = fixture_append(&f, "a", 50, 7, 10, APPEND_BATCH, 0);
	cr_assert(batch.code == ERR_NONE && batch.first == 5 && batch.end == 12);
	for (uint64_t i = 0; i < 7; i++)
		cr_assert(fixture_get(&f, "a", 5 + i, 50, i, 10, &err) == ERR_NONE);
	cr_assert(fixture_get(&f, "b", 3, 103, 0, 100, &err) == ERR_NONE);
	cr_assert(fixture_get(&f, "b", 3, 3, 0, 100, &err) == ERR_OTHER, "the test cannot tell entries apart");
	struct stream_view view = stream_view(fixture_stream(&f, "a"));
	cr_assert(view.first == 0 && view.end == 12);
}

ENGINE_TEST(an_empty_batch_changes_nothing_and_makes_no_stream)
{
	struct answer answer = fixture_append(&f, "a", 1, 0, 0, APPEND_BATCH, 0);
	cr_assert(answer.code == ERR_NONE && answer.first == 0 && answer.end == 0);
	cr_assert(engine_find(f.engine, "a", 1) == NULL);
	cr_assert(fixture_sync(&f, "a").code == ERR_STREAM_NOT_FOUND);
	fixture_add(&f, "a", 1);
	answer = fixture_append(&f, "a", 1, 0, 0, APPEND_BATCH, 0);
	cr_assert(answer.code == ERR_NONE && answer.first == 1 && answer.end == 1);
	fixture_restart(&f);
	cr_assert(fixture_info(&f, "a").end == 1);
}

ENGINE_TEST(empty_entries_are_entries)
{
	struct error err;
	struct answer answer = fixture_append(&f, "a", 1, 3, 0, APPEND_BATCH, 0);
	cr_assert(answer.code == ERR_NONE && answer.end == 3);
	fixture_restart(&f);
	for (uint64_t id = 0; id < 3; id++)
		cr_assert(fixture_get(&f, "a", id, 1, id, 0, &err) == ERR_NONE);
}

ENGINE_TEST(expected_id_holds_or_conflicts)
{
	struct answer answer = fixture_append(&f, "a", 1, 1, 10, APPEND_EXPECTED, 4);
	cr_assert(answer.code == ERR_CONFLICT && answer.error.expected == 4 && answer.error.actual == 0);
	cr_assert(engine_find(f.engine, "a", 1) == NULL, "a refused append made a stream");
	answer = fixture_append(&f, "a", 1, 0, 0, APPEND_EXPECTED | APPEND_BATCH, 1);
	cr_assert(answer.code == ERR_CONFLICT && answer.error.actual == 0, "an empty batch has its expected_id too");
	answer = fixture_append(&f, "a", 1, 0, 0, APPEND_EXPECTED | APPEND_BATCH, 0);
	cr_assert(answer.code == ERR_NONE && engine_find(f.engine, "a", 1) == NULL);
	answer = fixture_append(&f, "a", 1, 2, 10, APPEND_EXPECTED | APPEND_BATCH, 0);
	cr_assert(answer.code == ERR_NONE && answer.first == 0 && answer.end == 2);
	answer = fixture_append(&f, "a", 1, 1, 10, APPEND_EXPECTED, 1);
	cr_assert(answer.code == ERR_CONFLICT && answer.error.expected == 1 && answer.error.actual == 2);
	answer = fixture_append(&f, "a", 1, 0, 0, APPEND_EXPECTED | APPEND_BATCH, 2);
	cr_assert(answer.code == ERR_NONE && answer.first == 2 && answer.end == 2);
	cr_assert(fixture_writer(&f, 0).conflicts == 3);
	fixture_restart(&f);
	answer = fixture_append(&f, "a", 1, 1, 10, APPEND_EXPECTED, 2);
	cr_assert(answer.code == ERR_NONE && answer.first == 2);
}

ENGINE_TEST(expected_ids_inside_one_group_see_each_other)
{
	struct entries entries[3];
	struct op ops[3];
	struct error err;
	for (unsigned i = 0; i < 3; i++) {
		entries_init(&entries[i], i, 2, 10);
		ops[i] =
			(struct op){.kind = OP_APPEND, .source = &entries[i].base, .batch = true, .has_expected = true};
	}
	ops[0].expected_id = 0;
	ops[1].expected_id = 0; /* too late: the first of the group has it */
	ops[2].expected_id = 2;
	for (unsigned i = 0; i < 3; i++)
		cr_assert(engine_submit(f.engine, &ops[i], "a", 1, &err) == 0);
	fixture_run(&f);
	cr_assert(fixture_writer(&f, 0).groups == 1, "they were to be one group");
	for (struct op *op = engine_take(f.engine); op; op = op->next)
		;
	cr_assert(!ops[0].error && ops[0].first == 0 && !ops[2].error && ops[2].first == 2 && ops[2].end == 4);
	cr_assert(ops[1].error && ops[1].error->code == ERR_CONFLICT && ops[1].error->actual == 2);
	free(ops[1].error);
	for (unsigned i = 0; i < 3; i++)
		entries_free(&entries[i]);
	cr_assert(fixture_get(&f, "a", 2, 2, 0, 10, &err) == ERR_NONE);
}

ENGINE_TEST(what_cannot_be_stored_is_refused_at_once)
{
	cr_assert(fixture_append(&f, "", 1, 1, 1, 0, 0).code == ERR_INVALID_FILENAME);
	cr_assert(fixture_append(&f, "\xff", 1, 1, 1, 0, 0).code == ERR_INVALID_FILENAME);
	cr_assert(fixture_sync(&f, "nobody").code == ERR_STREAM_NOT_FOUND);
	cr_assert(fixture_truncate(&f, "nobody", 1).code == ERR_STREAM_NOT_FOUND);
	fixture_die(&f);
	f.options.max_entry_bytes = 1000;
	f.options.max_streams = 2;
	fixture_open(&f);
	struct answer answer = fixture_append(&f, "a", 1, 2, 1001, APPEND_BATCH, 0);
	cr_assert(answer.code == ERR_TOO_LARGE && answer.error.limit == 1000 && answer.error.size == 1001);
	cr_assert(fixture_append(&f, "a", 1, 2, 1000, APPEND_BATCH, 0).code == ERR_NONE, "each entry is in the limit");
	fixture_add(&f, "b", 1);
	cr_assert(fixture_append(&f, "c", 1, 1, 1, 0, 0).code == ERR_BUSY);
	fixture_add(&f, "b", 2);
}

ENGINE_TEST(nothing_happens_between_submit_and_kick)
{
	struct entries entries;
	struct error err;
	entries_init(&entries, 1, 1, 10);
	struct op op = {.kind = OP_APPEND, .source = &entries.base};
	cr_assert(engine_submit(f.engine, &op, "a", 1, &err) == 0);
	cr_assert(!engine_step(f.engine, 0) && engine_take(f.engine) == NULL && !engine_idle(f.engine));
	engine_kick(f.engine);
	cr_assert(engine_step(f.engine, 0));
	cr_assert(engine_find(f.engine, "a", 1) == NULL, "it shows up when the answer is taken");
	cr_assert(engine_take(f.engine) == &op && !op.error && engine_idle(f.engine));
	cr_assert(engine_find(f.engine, "a", 1) != NULL);
	entries_free(&entries);
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

ENGINE_TEST(ranges_are_cut_to_what_is_there)
{
	struct error err;
	fixture_append(&f, "a", 1, 10, 20, APPEND_BATCH, 0);
	cr_assert(fixture_count(&f, "a", 0, 10, &err) == 10);
	cr_assert(fixture_count(&f, "a", 3, 7, &err) == 4);
	cr_assert(fixture_count(&f, "a", 8, UINT64_MAX, &err) == 2 && err.code == ERR_NONE);
	cr_assert(fixture_count(&f, "a", 10, 20, &err) == 0 && err.code == ERR_NONE);
	cr_assert(fixture_count(&f, "a", UINT64_MAX, UINT64_MAX, &err) == 0 && err.code == ERR_NONE);
	cr_assert(fixture_count(&f, "a", 5, 5, &err) == 0 && fixture_count(&f, "a", 7, 3, &err) == 0);
}

static int stop_at_3(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	(void)bytes;
	(void)len;
	(void)arg;
	return id == 3;
}

ENGINE_TEST(a_reader_can_stop_and_go_on)
{
	struct error err;
	uint64_t next;
	fixture_append(&f, "a", 1, 10, 20, APPEND_BATCH, 0);
	struct stream *stream = fixture_stream(&f, "a");
	cr_assert(engine_read(f.engine, stream, stream_view(stream), 1, 10, false, stop_at_3, NULL, &next, &err) ==
		  READ_DONE);
	cr_assert(next == 3, "the entry that stopped it counts as not read");
	cr_assert(fixture_count(&f, "a", next, 10, &err) == 7);
}

ENGINE_TEST(a_view_hides_what_came_after_it)
{
	struct error err;
	uint64_t next;
	fixture_append(&f, "a", 1, 2, 20, APPEND_BATCH, 0);
	struct stream *stream = fixture_stream(&f, "a");
	struct stream_view view = stream_view(stream);
	fixture_append(&f, "a", 1, 2, 20, APPEND_BATCH, 0);
	cr_assert(engine_read(f.engine, stream, view, 0, 100, false, stop_at_3, NULL, &next, &err) == READ_DONE &&
		  next == 2);
}

ENGINE_TEST(a_cold_read_that_may_not_wait_says_so)
{
	struct error err;
	uint64_t next;
	fixture_append(&f, "a", 1, 3, 2000, APPEND_BATCH, 0);
	struct stream *stream = fixture_stream(&f, "a");
	sim_set_cold_reads(f.io, 1000);
	cr_assert(engine_read(f.engine, stream, stream_view(stream), 0, 3, true, stop_at_3, NULL, &next, &err) ==
			  READ_WOULD_BLOCK &&
		  next == 0);
	cr_assert(engine_read(f.engine, stream, stream_view(stream), 0, 3, false, stop_at_3, NULL, &next, &err) ==
			  READ_DONE &&
		  next == 3);
	sim_set_cold_reads(f.io, 0);
	cr_assert(engine_read(f.engine, stream, stream_view(stream), 0, 3, true, stop_at_3, NULL, &next, &err) ==
		  READ_DONE);
}

/* ---- truncate --------------------------------------------------------------------------------------------------- */

static void ten_segments(const char *name)
{
	fixture_die(&f);
	f.options.max_entries_per_segment = 2;
	fixture_open(&f);
	for (uint64_t i = 0; i < 20; i++)
		cr_assert(fixture_add(&f, name, i) == i);
	cr_assert(fixture_info(&f, name).segments == 10);
}

ENGINE_TEST(truncate_takes_whole_old_segments)
{
	struct error err;
	ten_segments("a");
	struct answer answer = fixture_truncate(&f, "a", 5);
	cr_assert(answer.code == ERR_NONE && answer.segments_deleted == 2);
	struct stream_info info = fixture_info(&f, "a");
	cr_assert(info.first == 4 && info.end == 20 && info.segments == 8 && info.active_start == 18);
	cr_assert(fixture_files(&f, "a", ".wal") == 8 && fixture_stats(&f).segments_unlinked == 2);
	cr_assert(fixture_get(&f, "a", 3, 3, 0, 100, &err) == ERR_TRUNCATED && err.first_id == 4);
	cr_assert(fixture_get(&f, "a", 4, 4, 0, 100, &err) == ERR_NONE);
	cr_assert(fixture_truncate(&f, "a", 5).segments_deleted == 0);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	cr_assert(fixture_info(&f, "a").first == 4);
	cr_assert(fixture_get(&f, "a", 3, 3, 0, 100, &err) == ERR_TRUNCATED && err.first_id == 4);
}

ENGINE_TEST(truncate_keeps_the_newest_segment)
{
	struct error err;
	ten_segments("a");
	struct answer answer = fixture_truncate(&f, "a", UINT64_MAX);
	cr_assert(answer.code == ERR_NONE && answer.segments_deleted == 9);
	cr_assert(fixture_info(&f, "a").first == 18 && fixture_info(&f, "a").end == 20);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	cr_assert(fixture_get(&f, "a", 19, 19, 0, 100, &err) == ERR_NONE);
	cr_assert(fixture_add(&f, "a", 20) == 20, "ids go on");
	cr_assert(fixture_truncate(&f, "a", 0).segments_deleted == 0);
}

struct slow_reader {
	struct fixture *fixture;
	uint64_t seen;
	unsigned files;
};

static int truncate_meanwhile(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	struct slow_reader *reader = arg;
	uint8_t wanted[100];
	fixture_bytes(id, 0, wanted, sizeof(wanted));
	cr_assert(len == 100 && memcmp(bytes, wanted, len) == 0);
	if (id == 0) {
		cr_assert(fixture_truncate(reader->fixture, "a", 20).segments_deleted == 9);
		reader->files = fixture_files(reader->fixture, "a", ".wal");
	}
	reader->seen++;
	return 0;
}

/* A reader is in the first segment when all old ones go: it reads that one to its end and is told that the next ones
 * are gone; no file goes while it is in the first. */
ENGINE_TEST(truncate_waits_for_a_reader_inside)
{
	struct slow_reader reader = {.fixture = &f};
	struct error err;
	uint64_t next;
	ten_segments("a");
	struct stream *stream = fixture_stream(&f, "a");
	enum read_result result = engine_read(
		f.engine, stream, stream_view(stream), 0, 20, false, truncate_meanwhile, &reader, &next, &err);
	cr_assert(reader.files == 10, "%u files are left while a reader is in the oldest", reader.files);
	cr_assert(result == READ_ERROR && err.code == ERR_TRUNCATED && err.first_id == 18 && next == 2);
	fixture_run(&f);
	cr_assert(fixture_files(&f, "a", ".wal") == 1);
}

ENGINE_TEST(a_file_that_cannot_be_deleted_keeps_the_newer_ones)
{
	struct error err;
	ten_segments("a");
	sim_fail_at(f.io, 4, EIO, SIM_BIT(SIM_UNLINK)); /* the second one: each goes behind its index */
	cr_assert(fixture_truncate(&f, "a", 10).segments_deleted == 5);
	cr_assert(sim_faults_fired(f.io) == 1 && fixture_files(&f, "a", ".wal") == 9);
	fixture_restart(&f);
	uint64_t first = fixture_info(&f, "a").first;
	cr_assert(fixture_count(&f, "a", first, 20, &err) == 20 - first && err.code == ERR_NONE, "a hole: %s",
		err.code ? err.message : "");
	cr_assert(fixture_truncate(&f, "a", 10).code == ERR_NONE);
	cr_assert(fixture_info(&f, "a").first == 10 && fixture_files(&f, "a", ".wal") == 5);
}

/* ---- streams ---------------------------------------------------------------------------------------------------- */

struct names {
	char text[2000];
	unsigned count;
};

static void name_cb(struct stream *stream, void *arg)
{
	struct names *names = arg;
	size_t len;
	const char *name = stream_name(stream, &len);
	cr_assert(strlen(name) == len);
	strcat(names->text, name);
	strcat(names->text, " ");
	names->count++;
}

static const char *list(const char *prefix, const char *after, size_t limit, bool *ret_more)
{
	static struct names names;
	names = (struct names){0};
	*ret_more =
		engine_list(f.engine, prefix, strlen(prefix), after, after ? strlen(after) : 0, limit, name_cb, &names);
	return names.text;
}

ENGINE_TEST(streams_are_listed_in_order)
{
	bool more;
	cr_assert(strcmp(list("", NULL, 10, &more), "") == 0 && !more);
	const char *names[] = {"b", "a/1", "a_1", "..", "c", "a", "a/2", "\xc3\xa9"};
	for (size_t i = 0; i < 8; i++)
		fixture_add(&f, names[i], i);
	for (unsigned round = 0; round < 2; round++) {
		cr_assert(strcmp(list("", NULL, 100, &more), ".. a a/1 a/2 a_1 b c \xc3\xa9 ") == 0 && !more);
		cr_assert(strcmp(list("", NULL, 3, &more), ".. a a/1 ") == 0 && more);
		cr_assert(strcmp(list("", "a/1", 2, &more), "a/2 a_1 ") == 0 && more);
		cr_assert(strcmp(list("", "a/1x", 1, &more), "a/2 ") == 0 && more);
		cr_assert(strcmp(list("a/", NULL, 2, &more), "a/1 a/2 ") == 0 && !more);
		cr_assert(strcmp(list("a/", "a/1", 2, &more), "a/2 ") == 0 && !more);
		cr_assert(strcmp(list("a", "0", 1, &more), "a ") == 0 && more);
		cr_assert(strcmp(list("", "z", 9, &more), "\xc3\xa9 ") == 0 && !more);
		cr_assert(strcmp(list("nothing", NULL, 9, &more), "") == 0 && !more);
		cr_assert(strcmp(list("", NULL, 0, &more), "") == 0 && more);
		fixture_restart(&f);
	}
}

ENGINE_TEST(names_that_look_alike_are_different_streams)
{
	char long_a[256], long_b[256];
	struct error err;
	memset(long_a, 'x', 255);
	memset(long_b, 'x', 255);
	long_a[255] = long_b[255] = '\0';
	long_b[254] = 'y';
	const char *names[] = {
		"a/b", "a_b", "a%2Fb", "A/b", ".", "..", "ironwald.lock", "\xf0\x9f\x98\x80", long_a, long_b};
	for (uint64_t i = 0; i < 10; i++)
		cr_assert(fixture_append(&f, names[i], i, 1 + i, 50, APPEND_BATCH, 0).code == ERR_NONE);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	for (uint64_t i = 0; i < 10; i++) {
		cr_assert(fixture_info(&f, names[i]).end == 1 + i);
		cr_assert(fixture_get(&f, names[i], i, i, i, 50, &err) == ERR_NONE);
	}
	fixture_close(&f);
	fixture_open(&f);
	cr_assert(fixture_get(&f, long_b, 9, 9, 9, 50, &err) == ERR_NONE);
}

ENGINE_TEST(info_says_what_is_there)
{
	fixture_die(&f);
	f.options.max_entries_per_segment = 4;
	f.options.sync_mode = SYNC_ASYNC;
	fixture_open(&f);
	for (uint64_t i = 0; i < 10; i++)
		fixture_add(&f, "a", i);
	struct stream_info info = fixture_info(&f, "a");
	cr_assert(info.first == 0 && info.end == 10 && info.segments == 3 && info.active_start == 8);
	cr_assert(info.durable_end == 8, "what a rotation closed is durable, the rest is not: %lu",
		(unsigned long)info.durable_end);
	cr_assert(info.bytes >= 10 * 100 && info.bytes < 10 * 400);
	cr_assert(fixture_sync(&f, "a").code == ERR_NONE && fixture_info(&f, "a").durable_end == 10);
	int marker;
	stream_set_user(fixture_stream(&f, "a"), &marker);
	cr_assert(stream_user(fixture_stream(&f, "a")) == &marker);
	struct engine_stats stats = fixture_stats(&f);
	cr_assert(stats.streams == 1 && stats.segments == 3 && stats.segment_bytes >= info.bytes);
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

ENGINE_TEST(closing_finishes_what_was_handed_in)
{
	struct entries entries;
	struct error err;
	entries_init(&entries, 7, 1, 10);
	struct op op = {.kind = OP_APPEND, .source = &entries.base};
	cr_assert(engine_submit(f.engine, &op, "a", 1, &err) == 0);
	fixture_close(&f);
	cr_assert(!op.error && op.end == 1);
	sim_power_on(f.io, SIM_LOSE_ALL);
	fixture_open(&f);
	cr_assert(fixture_get(&f, "a", 0, 7, 0, 10, &err) == ERR_NONE);
	entries_free(&entries);
}

static unsigned notified;

static void notify(void *arg)
{
	++*(unsigned *)arg;
}

ENGINE_TEST(completions_are_announced)
{
	struct engine_hooks hooks = {.no_threads = true, .notify_cb = notify, .notify_arg = &notified};
	struct error err;
	fixture_close(&f);
	cr_assert(engine_open(f.io, &f.options, &hooks, &f.engine, &err) == 0);
	notified = 0;
	fixture_add(&f, "a", 1);
	cr_assert(notified == 1);
	fixture_add(&f, "a", 1);
	cr_assert(notified == 2);
}

static bool give_up(void *arg)
{
	(void)arg;
	return true;
}

ENGINE_TEST(a_start_can_be_given_up)
{
	struct engine_hooks hooks = {.no_threads = true, .cancelled = give_up};
	struct engine *engine;
	struct error err;
	fixture_add(&f, "a", 1);
	fixture_die(&f);
	cr_assert(engine_open(f.io, &f.options, &hooks, &engine, &err) == -1 && err.code == ERR_SHUTTING_DOWN);
	cr_assert(sim_open_count(f.io) == 0);
	fixture_open(&f);
	cr_assert(fixture_get(&f, "a", 0, 1, 0, 100, &err) == ERR_NONE);
}

/* What is left must tell the next id, so it is made durable before anything goes, in every mode. */
ENGINE_TEST(truncate_makes_durable_what_stays)
{
	struct error err;
	f.options.sync_mode = SYNC_ASYNC;
	f.options.async_sync_interval_ns = 0;
	fixture_die(&f);
	f.options.max_entries_per_segment = 2;
	fixture_open(&f);
	for (uint64_t i = 0; i < 5; i++)
		fixture_add(&f, "a", i);
	cr_assert(fixture_info(&f, "a").durable_end == 4);
	cr_assert(fixture_truncate(&f, "a", 100).segments_deleted == 2 && fixture_info(&f, "a").durable_end == 5);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	cr_assert(fixture_info(&f, "a").first == 4 && fixture_info(&f, "a").end == 5);
	cr_assert(fixture_get(&f, "a", 4, 4, 0, 100, &err) == ERR_NONE && fixture_add(&f, "a", 5) == 5);
}

/* They ran on a machine with more cores, where there were more writers. */
ENGINE_TEST(journals_of_writers_that_are_no_more_count_once)
{
	static uint8_t bytes[8192];
	struct error err;
	fixture_add_to_many(&f, "s%u", 5, 1); /* by the journal */
	fixture_die(&f);
	cr_assert(sim_read_file(f.io, "ironwald.journal-00000-0", 0, bytes, sizeof(bytes)) == 0);
	cr_assert(sim_write_file(f.io, "ironwald.journal-00007-0", bytes, sizeof(bytes)) == 0);
	cr_assert(sim_remove_file(f.io, "ironwald.journal-00000-0") == 0);
	cr_assert(sim_remove_file(f.io, "s3/00000000000000000000.wal") == 0);
	fixture_open(&f);
	cr_assert(fixture_get(&f, "s3", 0, 1, 0, 100, &err) == ERR_NONE, "what only it holds is put in place");
	cr_assert(sim_file_size(f.io, "ironwald.journal-00007-0") < 0, "and then it goes");
	fixture_power_cut(&f, SIM_LOSE_ALL);
	cr_assert(sim_file_size(f.io, "ironwald.journal-00007-0") < 0, "durably");
	fixture_open(&f);
	cr_assert(fixture_get(&f, "s3", 0, 1, 0, 100, &err) == ERR_NONE);
}
