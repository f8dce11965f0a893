/* Every option does what it says, seen from the calls that reach the disk; and what a directory refuses. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "engine_fixture.h"

TestSuite(engine_options, .timeout = 120);

static struct fixture f;

static void set_up(void)
{
	fixture_init(&f);
}

static void tear_down(void)
{
	fixture_free(&f);
}

#define OPTIONS_TEST(name) Test(engine_options, name, .init = set_up, .fini = tear_down)

/* ---- sync_mode, sync, the interval ------------------------------------------------------------------------------ */

static uint64_t syncs(void)
{
	return sim_count(f.io, SIM_SYNC) + sim_count(f.io, SIM_SYNC_ALL);
}

static void append_in_mode(enum sync_mode mode, int flags, bool durable)
{
	f.options.sync_mode = mode;
	f.options.async_sync_interval_ns = 0;
	fixture_open(&f);
	fixture_add(&f, "a", 1); /* the stream's making is another matter */
	fixture_sync(&f, NULL);
	uint64_t before = syncs();
	struct answer answer = fixture_append(&f, "a", 2, 1, 100, flags, 0);
	cr_assert(answer.code == ERR_NONE && answer.durable == durable);
	cr_assert((syncs() > before) == durable, "mode %d, flags %d: %lu syncs", mode, flags,
		(unsigned long)(syncs() - before));
	cr_assert(fixture_info(&f, "a").durable_end == (durable ? 2 : 1));
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	cr_assert(fixture_info(&f, "a").end == (durable ? 2 : 1));
	fixture_die(&f);
	sim_free(f.io);
	f.io = sim_new(1);
}

OPTIONS_TEST(durable_means_what_the_mode_says)
{
	append_in_mode(SYNC_STRICT, 0, true);
	append_in_mode(SYNC_STRICT, APPEND_BATCH, true);
	append_in_mode(SYNC_BATCH_ONLY, 0, false);
	append_in_mode(SYNC_BATCH_ONLY, APPEND_BATCH, true);
	append_in_mode(SYNC_BATCH_ONLY, APPEND_SYNC, true);
	append_in_mode(SYNC_ASYNC, 0, false);
	append_in_mode(SYNC_ASYNC, APPEND_BATCH, false);
	append_in_mode(SYNC_ASYNC, APPEND_SYNC, true);
}

OPTIONS_TEST(a_batch_takes_the_single_appends_before_it_along)
{
	f.options.sync_mode = SYNC_BATCH_ONLY;
	f.options.async_sync_interval_ns = 0;
	fixture_open(&f);
	for (uint64_t i = 0; i < 5; i++)
		fixture_add(&f, "a", i);
	fixture_add(&f, "b", 0);
	cr_assert(fixture_append(&f, "a", 9, 2, 10, APPEND_BATCH, 0).durable);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	cr_assert(fixture_info(&f, "a").end == 7);
}

OPTIONS_TEST(sync_makes_one_stream_or_all_durable)
{
	f.options.sync_mode = SYNC_ASYNC;
	f.options.async_sync_interval_ns = 0;
	f.options.shard_count = 3;
	fixture_open(&f);
	for (unsigned i = 0; i < 9; i++) {
		char name[8];
		snprintf(name, sizeof(name), "s%u", i);
		fixture_add(&f, name, i);
		fixture_add(&f, name, i);
	}
	cr_assert(fixture_sync(&f, "s4").code == ERR_NONE);
	cr_assert(fixture_info(&f, "s4").durable_end == 2);
	cr_assert(fixture_sync(&f, NULL).code == ERR_NONE);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	fixture_open(&f);
	for (unsigned i = 0; i < 9; i++) {
		char name[8];
		snprintf(name, sizeof(name), "s%u", i);
		cr_assert(fixture_info(&f, name).end == 2);
	}
}

/* What one writer's streams write together is one sync of its journal; each writer has a sync of its own. */
OPTIONS_TEST(there_are_no_more_writers_than_told)
{
	f.options.shard_count = 8;
	for (unsigned most = 1; most <= 8; most *= 2) {
		f.options.max_writers = most;
		fixture_open(&f);
		cr_assert(fixture_stats(&f).writer_count == most);
		cr_assert(fixture_add_to_many(&f, "s%u", 100, most) == 0);
		uint64_t syncs = 0;
		for (unsigned i = 0; i < most; i++)
			syncs += fixture_writer(&f, i).journal_syncs;
		cr_assert(syncs == most, "%lu", (unsigned long)syncs);
		/* Another number of them finds everything, after a crash, too. */
		if (most == 2)
			fixture_power_cut(&f, SIM_LOSE_ALL);
		else
			fixture_close(&f);
	}
	fixture_open(&f);
	for (unsigned i = 0; i < 100; i++) {
		char name[8];
		snprintf(name, sizeof(name), "s%u", i);
		cr_assert(fixture_info(&f, name).end == 4);
	}
}

OPTIONS_TEST(the_interval_bounds_what_is_not_durable)
{
	f.options.sync_mode = SYNC_ASYNC;
	f.options.async_sync_interval_ns = UINT64_C(5000000000);
	fixture_open(&f);
	fixture_add(&f, "a", 1);
	sim_advance(f.io, UINT64_C(4000000000));
	fixture_run(&f);
	cr_assert(fixture_info(&f, "a").durable_end == 0, "too early");
	sim_advance(f.io, UINT64_C(1100000000));
	fixture_run(&f);
	cr_assert(fixture_info(&f, "a").durable_end == 1, "too late");
	uint64_t before = syncs();
	sim_advance(f.io, UINT64_C(60000000000));
	fixture_run(&f);
	cr_assert(syncs() == before, "nothing was to be synced");
	fixture_die(&f);
	f.options.async_sync_interval_ns = 0;
	fixture_open(&f);
	fixture_add(&f, "a", 2);
	before = syncs();
	sim_advance(f.io, UINT64_C(3600000000000));
	fixture_run(&f);
	cr_assert(syncs() == before, "there was to be no sync by time");
}

/* ---- segments --------------------------------------------------------------------------------------------------- */

OPTIONS_TEST(segments_end_by_size)
{
	f.options.max_segment_size = 2000;
	fixture_open(&f);
	for (uint64_t i = 0; i < 40; i++)
		fixture_add(&f, "a", i);
	uint64_t segments = fixture_info(&f, "a").segments;
	cr_assert(segments >= 4 && segments <= 8, "%lu segments", (unsigned long)segments);
	for (unsigned i = 0; i + 1 < segments; i++) {
		int64_t size = sim_file_size(f.io, fixture_file(&f, "a", ".wal", i));
		cr_assert(size >= 2000 && size < 2600, "segment %u has %ld bytes", i, (long)size);
	}
	struct answer big = fixture_append(&f, "a", 1, 1, 50000, 0, 0);
	cr_assert(big.code == ERR_NONE, "an entry larger than a segment");
	cr_assert(fixture_writer(&f, 0).rotations == segments - 1 || fixture_writer(&f, 0).rotations == segments);
}

OPTIONS_TEST(segments_end_by_entries)
{
	struct error err;
	f.options.max_entries_per_segment = 5;
	fixture_open(&f);
	for (uint64_t i = 0; i < 23; i++)
		fixture_add(&f, "a", i);
	cr_assert(fixture_info(&f, "a").segments == 5 && fixture_info(&f, "a").active_start == 20);
	cr_assert(fixture_append(&f, "a", 77, 12, 10, APPEND_BATCH, 0).first == 23, "a batch is never torn apart");
	cr_assert(fixture_info(&f, "a").segments == 5);
	fixture_add(&f, "a", 1);
	cr_assert(fixture_info(&f, "a").active_start == 35);
	fixture_restart(&f);
	cr_assert(fixture_get(&f, "a", 30, 77, 7, 10, &err) == ERR_NONE);
	cr_assert(fixture_count(&f, "a", 0, 36, &err) == 36);
}

OPTIONS_TEST(open_segments_are_bounded)
{
	enum { STREAMS = 3000 };
	struct error err;
	f.options.max_open_segments = 40;
	fixture_open(&f);
	uint64_t others = sim_open_count(f.io); /* lock, journals */
	cr_assert(fixture_add_to_many(&f, "s%u", STREAMS, 5) == 0);
	cr_assert(fixture_add_to_many(&f, "s%u", STREAMS, 6) == 0);
	cr_assert(fixture_writer(&f, 0).journal_groups > 0);
	for (unsigned i = 0; i < STREAMS; i++) {
		char name[16];
		snprintf(name, sizeof(name), "s%u", i);
		cr_assert(fixture_get(&f, name, 1, 6, 0, 100, &err) == ERR_NONE);
	}
	cr_assert(fixture_stats(&f).open_segments_max <= 40);
	cr_assert(sim_open_high(f.io) <= others + 40 + 2, "%lu descriptors", (unsigned long)sim_open_high(f.io));
	sim_set_max_open(f.io, 60);
	fixture_restart(&f);
	cr_assert(fixture_stats(&f).streams == STREAMS && fixture_add_to_many(&f, "s%u", STREAMS, 7) == 0);
}

OPTIONS_TEST(open_segments_are_bounded_when_nothing_is_synced)
{
	f.options.max_open_segments = 40;
	f.options.sync_mode = SYNC_ASYNC;
	f.options.async_sync_interval_ns = 0;
	fixture_open(&f);
	uint64_t others = sim_open_count(f.io);
	for (uint64_t round = 0; round < 3; round++)
		for (unsigned i = 0; i < 200; i++) {
			char name[16];
			snprintf(name, sizeof(name), "s%u", i);
			fixture_add(&f, name, round);
		}
	cr_assert(sim_open_high(f.io) <= others + 40 + 2, "%lu descriptors", (unsigned long)sim_open_high(f.io));
	fixture_close(&f);
	sim_power_on(f.io, SIM_LOSE_ALL);
	fixture_open(&f);
	cr_assert(fixture_stats(&f).streams == 200 && fixture_info(&f, "s199").end == 3);
}

OPTIONS_TEST(few_open_segments_mean_more_opens)
{
	uint64_t opens[2];
	struct error err;
	for (unsigned round = 0; round < 2; round++) {
		f.options.max_open_segments = round == 0 ? 1 : 500;
		fixture_open(&f);
		fixture_add_to_many(&f, "s%u", 200, round);
		uint64_t before = sim_count(f.io, SIM_OPEN);
		for (unsigned i = 0; i < 400; i++) {
			char name[16];
			snprintf(name, sizeof(name), "s%u", i % 200);
			cr_assert(fixture_get(&f, name, 0, 0, 0, 100, &err) == ERR_NONE);
		}
		opens[round] = sim_count(f.io, SIM_OPEN) - before;
		fixture_die(&f);
	}
	cr_assert(opens[0] >= 400 && opens[1] <= 200, "%lu and %lu opens", (unsigned long)opens[0],
		(unsigned long)opens[1]);
}

/* ---- buffers, cache, packing, mapping --------------------------------------------------------------------------- */

OPTIONS_TEST(the_write_buffer_bounds_a_group)
{
	uint64_t groups[2];
	for (unsigned round = 0; round < 2; round++) {
		f.options.write_buffer_size = round == 0 ? 1000 : 1 << 20;
		fixture_open(&f);
		fixture_add_to_many(&f, "s%u", 100, round);
		groups[round] = fixture_writer(&f, 0).groups;
		fixture_die(&f);
	}
	cr_assert(groups[0] >= 10 && groups[1] == 1, "%lu and %lu groups", (unsigned long)groups[0],
		(unsigned long)groups[1]);
}

static uint64_t reads_of_an_iteration(uint64_t read_buffer_size)
{
	struct error err;
	f.options.read_buffer_size = read_buffer_size;
	fixture_restart(&f);
	uint64_t before = sim_count(f.io, SIM_PREAD);
	cr_assert(fixture_count(&f, "a", 0, 2000, &err) == 2000);
	return sim_count(f.io, SIM_PREAD) - before;
}

OPTIONS_TEST(the_read_buffer_bounds_the_number_of_reads)
{
	fixture_open(&f);
	for (uint64_t i = 0; i < 20; i++)
		fixture_append(&f, "a", i, 100, 400, APPEND_BATCH, 0);
	uint64_t small = reads_of_an_iteration(4096), large = reads_of_an_iteration(1 << 20);
	cr_assert(small > 50 && large < 5, "%lu and %lu reads", (unsigned long)small, (unsigned long)large);
}

OPTIONS_TEST(the_block_cache_saves_reads)
{
	struct error err;
	for (unsigned round = 0; round < 2; round++) {
		f.options.block_cache_size = round == 0 ? 0 : 1 << 20;
		fixture_open(&f);
		if (round == 0)
			for (uint64_t i = 0; i < 10; i++)
				fixture_append(&f, "a", i, 10, 1000, APPEND_BATCH, 0);
		for (unsigned again = 0; again < 50; again++)
			cr_assert(fixture_get(&f, "a", 55, 5, 5, 1000, &err) == ERR_NONE);
		struct engine_stats stats = fixture_stats(&f);
		if (round == 0)
			cr_assert(stats.block_cache_hits == 0 && stats.block_cache_bytes == 0);
		else
			cr_assert(stats.block_cache_hits == 49 && stats.block_cache_misses == 1 &&
					  stats.block_cache_bytes >= 3000 && stats.block_cache_bytes <= 1 << 20,
				"%lu hits", (unsigned long)stats.block_cache_hits);
		fixture_die(&f);
	}
}

static void next_text(struct entry_source *source, const uint8_t **ret_bytes, size_t *ret_len)
{
	(void)source;
	static char text[2000];
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = "a line that is always the same\n"[i % 31];
	*ret_bytes = (const uint8_t *)text;
	*ret_len = sizeof(text);
}

static void rewind_text(struct entry_source *source)
{
	(void)source;
}

static int same_text(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	const uint8_t *wanted;
	size_t wanted_len;
	(void)id;
	next_text(NULL, &wanted, &wanted_len);
	*(bool *)arg = len == wanted_len && memcmp(bytes, wanted, len) == 0;
	return 0;
}

static uint64_t stored_bytes_of_text(enum compression compression, uint64_t min_compression_size)
{
	struct entry_source source = {10, 20000, rewind_text, next_text};
	struct op op = {.kind = OP_APPEND, .source = &source, .batch = true};
	struct error err;
	uint64_t next;
	bool same = false;
	f.options.compression = compression;
	f.options.min_compression_size = min_compression_size;
	fixture_open(&f);
	cr_assert(engine_submit(f.engine, &op, "a", 1, &err) == 0);
	fixture_run(&f);
	cr_assert(engine_take(f.engine) == &op && !op.error);
	uint64_t bytes = fixture_info(&f, "a").bytes;
	fixture_restart(&f);
	struct stream *stream = fixture_stream(&f, "a");
	cr_assert(engine_read(f.engine, stream, stream_view(stream), 7, 8, false, same_text, &same, &next, &err) ==
			  READ_DONE &&
		  same);
	fixture_die(&f);
	sim_free(f.io);
	f.io = sim_new(1);
	return bytes;
}

OPTIONS_TEST(packing_saves_space_only_where_it_may)
{
	uint64_t plain = stored_bytes_of_text(COMPRESSION_NONE, 1);
	cr_assert(plain > 20000);
	cr_assert(stored_bytes_of_text(COMPRESSION_LZ4, 1) < plain / 10);
	uint64_t stays = stored_bytes_of_text(COMPRESSION_LZ4, 30000);
	cr_assert(stays > 20000 && stays <= plain, "blocks below min_compression_size stay");
	struct error err;
	f.options.compression = COMPRESSION_LZ4;
	f.options.min_compression_size = 1;
	fixture_open(&f);
	fixture_append(&f, "a", 3, 10, 2000, APPEND_BATCH, 0); /* noise: packing it would make it longer */
	cr_assert(fixture_info(&f, "a").bytes < 20300);
	cr_assert(fixture_get(&f, "a", 9, 3, 9, 2000, &err) == ERR_NONE);
}

OPTIONS_TEST(mmap_reads_through_mappings)
{
	struct error err;
	for (unsigned round = 0; round < 2; round++) {
		f.options.read_strategy = round == 0 ? READ_STANDARD_IO : READ_MMAP;
		fixture_open(&f);
		if (round == 0)
			fixture_append(&f, "a", 1, 50, 500, APPEND_BATCH, 0);
		uint64_t mapped = sim_count(f.io, SIM_MAP_READ), read = sim_count(f.io, SIM_PREAD);
		cr_assert(fixture_count(&f, "a", 0, 50, &err) == 50);
		mapped = sim_count(f.io, SIM_MAP_READ) - mapped;
		read = sim_count(f.io, SIM_PREAD) - read;
		cr_assert(round == 0 ? mapped == 0 && read > 0 : mapped > 0 && read == 0);
		fixture_add(&f, "a", 2); /* and beyond what was mapped then */
		uint64_t last = fixture_info(&f, "a").end - 1;
		cr_assert(fixture_get(&f, "a", last, 2, 0, 100, &err) == ERR_NONE);
		fixture_die(&f);
	}
}

/* ---- costs ------------------------------------------------------------------------------------------------------ */

OPTIONS_TEST(a_get_costs_the_same_at_the_end_of_a_big_segment)
{
	struct error err;
	enum { FRAMES = 4000 };
	fixture_open(&f);
	for (uint64_t i = 0; i < FRAMES; i++)
		cr_assert(fixture_append(&f, "a", i, 1, 2000, 0, 0).code == ERR_NONE);
	cr_assert(fixture_info(&f, "a").segments == 1 && fixture_info(&f, "a").bytes > 8000000);
	for (unsigned round = 0; round < 3; round++) {
		for (uint64_t id = 100; id < FRAMES; id += 777) {
			uint64_t before = sim_count(f.io, SIM_PREAD), bytes = fixture_stats(&f).bytes_read;
			cr_assert(fixture_get(&f, "a", id, id, 0, 2000, &err) == ERR_NONE);
			cr_assert(sim_count(f.io, SIM_PREAD) - before <= 40, "%lu reads for entry %lu",
				(unsigned long)(sim_count(f.io, SIM_PREAD) - before), (unsigned long)id);
			cr_assert(fixture_stats(&f).bytes_read - bytes == 2000);
		}
		if (round == 0)
			fixture_restart(&f);
		else
			fixture_close(&f), fixture_open(&f);
	}
}

OPTIONS_TEST(a_start_reads_the_end_and_not_the_history)
{
	uint64_t read[2];
	fixture_open(&f);
	for (unsigned round = 0; round < 2; round++) {
		for (uint64_t i = 0; i < 5000; i++)
			fixture_append(&f, "a", i, 1, 2000, 0, 0);
		fixture_restart(&f);
		read[round] = fixture_stats(&f).recovery.tail_bytes_read;
	}
	/* Up to 1 MiB behind the last index point, and up to 4 MiB and a little of zeros written ahead. */
	cr_assert(fixture_info(&f, "a").bytes > 20 << 20);
	cr_assert(read[0] < 7 << 20 && read[1] < 7 << 20, "%lu and %lu bytes", (unsigned long)read[0],
		(unsigned long)read[1]);
}

/* ---- what a directory refuses ----------------------------------------------------------------------------------- */

OPTIONS_TEST(a_second_engine_is_refused)
{
	struct fixture second = f;
	struct error err;
	fixture_open(&f);
	fixture_add(&f, "a", 1);
	uint64_t changes = sim_op_count(f.io);
	cr_assert(fixture_try_open(&second, &err) == ERR_CONFIG);
	cr_assert(sim_op_count(f.io) - changes <= 1, "it touched the directory"); /* it may make the lock file */
	fixture_add(&f, "a", 2);
}

OPTIONS_TEST(another_shard_count_is_refused)
{
	struct error err;
	f.options.shard_count = 4;
	fixture_open(&f);
	fixture_close(&f);
	f.options.shard_count = 5;
	cr_assert(fixture_try_open(&f, &err) == ERR_SHARD_COUNT_MISMATCH && err.expected == 5 && err.found == 4);
	f.options.shard_count = 0;
	cr_assert(fixture_try_open(&f, &err) == ERR_CONFIG);
	f.options.shard_count = 4;
	fixture_open(&f);
}

OPTIONS_TEST(another_format_version_is_refused)
{
	char text[300];
	struct error err;
	fixture_open(&f);
	fixture_add(&f, "a", 1);
	fixture_close(&f);
	int len = snprintf(text, sizeof(text), "ironwald data directory\nversion 2\nshard_count 1\ncreated_ns 1\n");
	len += snprintf(text + len, sizeof(text) - (size_t)len, "check %08x\n", crc32c(0, text, (size_t)len));
	cr_assert(sim_write_file(f.io, "ironwald.manifest", text, (size_t)len) == 0);
	cr_assert(fixture_try_open(&f, &err) == ERR_CONFIG && strstr(err.message, "version 2"));
	text[40] ^= 1;
	cr_assert(sim_write_file(f.io, "ironwald.manifest", text, (size_t)len) == 0);
	cr_assert(fixture_try_open(&f, &err) == ERR_CORRUPTION);
	cr_assert(sim_write_file(f.io, "ironwald.manifest", "", 0) == 0);
	cr_assert(fixture_try_open(&f, &err) == ERR_CORRUPTION);
}

OPTIONS_TEST(a_segment_of_another_version_is_refused)
{
	struct error err;
	uint8_t header[312];
	fixture_open(&f);
	fixture_add(&f, "a", 1);
	fixture_restart(&f); /* empties the journal, which would write the right header again */
	fixture_die(&f);
	const char *path = fixture_file(&f, "a", ".wal", 0);
	cr_assert(sim_read_file(f.io, path, 0, header, 56) == 0);
	header[8] = 2;
	uint32_t check = crc32c(0, header, 52);
	memcpy(header + 52, &check, 4);
	cr_assert(sim_patch_file(f.io, path, 0, header, 56) == 0);
	for (unsigned round = 0; round < 2; round++) {
		f.options.on_corruption = round == 0 ? ON_CORRUPTION_ERROR : ON_CORRUPTION_TRUNCATE;
		cr_assert(fixture_try_open(&f, &err) == ERR_CONFIG && strstr(err.message, "version"));
	}
}

OPTIONS_TEST(a_foreign_directory_is_refused_untouched)
{
	struct error err;
	cr_assert(sim_write_file(f.io, "somebody's file", "x", 1) == 0);
	cr_assert(fixture_try_open(&f, &err) == ERR_CONFIG && strstr(err.message, "somebody's file"));
	cr_assert(sim_file_size(f.io, "ironwald.manifest") == -ENOENT);
	cr_assert(sim_remove_file(f.io, "somebody's file") == 0);
	fixture_open(&f);
}

/* ---- the clean-stop record and other derived files -------------------------------------------------------------- */

static void fill(void)
{
	f.options.max_segment_size = 300000;
	fixture_open(&f);
	for (uint64_t i = 0; i < 400; i++)
		fixture_append(&f, "a", i, 1, 2000, 0, 0);
	fixture_add_to_many(&f, "s%u", 20, 3);
}

static void all_there(void)
{
	struct error err;
	cr_assert(fixture_stats(&f).streams == 21 && fixture_info(&f, "a").end >= 400);
	for (uint64_t id = 0; id < 400; id++)
		cr_assert(fixture_get(&f, "a", id, id, 0, 2000, &err) == ERR_NONE, "entry %lu: %s", (unsigned long)id,
			err.message);
	cr_assert(fixture_get(&f, "s7", 0, 3, 0, 100, &err) == ERR_NONE);
}

OPTIONS_TEST(a_clean_stop_is_trusted_once)
{
	fill();
	fixture_close(&f);
	cr_assert(sim_file_size(f.io, "ironwald.clean") > 0);
	sim_power_on(f.io, SIM_LOSE_ALL);
	cr_assert(sim_file_size(f.io, "ironwald.clean") > 0, "it was not durable");
	fixture_open(&f);
	cr_assert(fixture_stats(&f).recovery.clean_start);
	fixture_power_cut(&f, SIM_LOSE_ALL);
	cr_assert(sim_file_size(f.io, "ironwald.clean") == -ENOENT, "it was not removed durably");
	fixture_open(&f);
	cr_assert(!fixture_stats(&f).recovery.clean_start);
	all_there();
}

OPTIONS_TEST(derived_files_may_be_noise_or_gone)
{
	static uint8_t noise[5000];
	fill();
	fixture_bytes(1, 1, noise, sizeof(noise));
	for (unsigned round = 0; round < 4; round++) {
		fixture_close(&f);
		unsigned count = fixture_files(&f, "a", ".idx");
		cr_assert(count > 0 || round >= 2, "no index was written");
		for (unsigned i = 0; i < count; i++) {
			char path[600];
			snprintf(path, sizeof(path), "%s", fixture_file(&f, "a", ".idx", round == 0 ? i : 0));
			cr_assert((round == 0 ? sim_write_file(f.io, path, noise, sizeof(noise))
					      : sim_remove_file(f.io, path)) == 0);
		}
		cr_assert((round < 2 ? sim_remove_file(f.io, "ironwald.clean")
				     : sim_write_file(f.io, "ironwald.clean", noise, sizeof(noise))) == 0);
		fixture_open(&f);
		cr_assert(!fixture_stats(&f).recovery.clean_start);
		all_there();
		fixture_append(&f, "a", 1, 1, 10, 0, 0);
	}
	cr_assert(fixture_info(&f, "a").end == 404);
}

OPTIONS_TEST(a_flipped_bit_in_a_derived_file_costs_nothing)
{
	fill();
	fixture_close(&f);
	int64_t clean = sim_file_size(f.io, "ironwald.clean");
	char path[600];
	snprintf(path, sizeof(path), "%s", fixture_file(&f, "a", ".idx", 0));
	int64_t index = sim_file_size(f.io, path);
	for (uint64_t at = 0; at < 300; at += 7) {
		cr_assert(sim_flip_bit(f.io, "ironwald.clean", at % (uint64_t)clean, at % 8) == 0);
		cr_assert(sim_flip_bit(f.io, path, at % (uint64_t)index, at % 8) == 0);
		fixture_open(&f);
		cr_assert(!fixture_stats(&f).recovery.clean_start);
		all_there();
		fixture_close(&f);
		cr_assert(sim_flip_bit(f.io, path, at % (uint64_t)index, at % 8) == 0);
	}
}
