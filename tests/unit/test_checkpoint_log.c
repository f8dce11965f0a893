/* The checkpoint log's own promises, below the engine: its bytes, damage, torn ends, compaction, timestamps. */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_log.h"
#include "log.h"
#include "names.h"
#include "sim.h"

TestSuite(checkpoint_log, .timeout = 100);

#define SHARDS_MAX 200

struct fixture {
	struct io *io;
	struct checkpoint_log *log;
	uint32_t shard_count;
};

static void reopen(struct fixture *f)
{
	struct error err;
	const struct engine_hooks hooks = {.no_threads = true};
	checkpoint_log_close(f->log);
	cr_assert(checkpoint_log_open(f->io, f->shard_count, &hooks, &f->log, &err) == 0, "%s", err.message);
}

static void begin(struct fixture *f, uint32_t shard_count)
{
	log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	*f = (struct fixture){.io = sim_new(7), .shard_count = shard_count};
	reopen(f);
}

static void end(struct fixture *f)
{
	checkpoint_log_close(f->log);
	sim_free(f->io);
}

static void fill_op(struct fixture *f, struct checkpoint_op *op, enum op_kind kind, const char *id, uint64_t base)
{
	*op = (struct checkpoint_op){.op.kind = kind, .id = id, .id_len = strlen(id), .limit = UINT64_MAX};
	op->max_bytes = UINT64_MAX;
	if (kind != OP_CREATE_CHECKPOINT)
		return;
	op->offsets = calloc(f->shard_count, sizeof(*op->offsets));
	for (uint32_t i = 0; i < f->shard_count; i++)
		op->offsets[i] = base + i;
}

/* The error's code; ERR_NONE: it was done. */
static enum error_code end_op(struct checkpoint_op *op, struct error *ret_error)
{
	enum error_code code = op->op.error ? op->op.error->code : ERR_NONE;
	if (op->op.error && ret_error)
		*ret_error = *op->op.error;
	free(op->op.error);
	checkpoint_op_clear(op);
	return code;
}

static enum error_code create(
	struct fixture *f, const char *id, uint64_t base, uint64_t *ret_timestamp, struct error *err)
{
	struct checkpoint_op op;
	fill_op(f, &op, OP_CREATE_CHECKPOINT, id, base);
	checkpoint_log_create(f->log, &op);
	if (ret_timestamp)
		*ret_timestamp = op.timestamp;
	return end_op(&op, err);
}

static void make(struct fixture *f, const char *id, uint64_t base)
{
	struct error err;
	cr_assert(create(f, id, base, NULL, &err) == ERR_NONE, "%s", err.message);
}

/* ERR_NONE: it is there, with those offsets. */
static enum error_code load(struct fixture *f, const char *id, uint64_t base, struct error *err)
{
	struct checkpoint_op op;
	fill_op(f, &op, OP_LOAD_CHECKPOINT, id, 0);
	checkpoint_log_load(f->log, &op);
	for (uint32_t i = 0; !op.op.error && i < f->shard_count; i++)
		cr_assert(op.offsets[i] == base + i && op.shard_count == f->shard_count, "%s: shard %u", id, i);
	return end_op(&op, err);
}

static enum error_code latest(struct fixture *f, char id[100], struct error *err)
{
	struct checkpoint_op op;
	fill_op(f, &op, OP_LOAD_LATEST_CHECKPOINT, "", 0);
	checkpoint_log_latest(f->log, &op);
	if (!op.op.error)
		snprintf(id, 100, "%.*s", (int)op.ids.len, (const char *)op.ids.data);
	return end_op(&op, err);
}

/* "a b c", and how many are without a name. */
static const char *list(struct fixture *f, uint64_t limit, uint64_t *ret_nameless)
{
	static char text[4000];
	struct checkpoint_op op;
	size_t at = 0, id_len, len = 0;
	const uint8_t *id;
	uint64_t timestamp, before = 0;
	fill_op(f, &op, OP_LIST_CHECKPOINTS, "", 0);
	op.limit = limit;
	while (!checkpoint_log_list(f->log, &op))
		;
	cr_assert(op.op.error == NULL);
	text[0] = '\0';
	while (checkpoint_listed(&op, &at, &id, &id_len, &timestamp)) {
		cr_assert(timestamp > before);
		before = timestamp;
		if (len + id_len + 2 < sizeof(text))
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%.*s", len > 0 ? " " : "",
				(int)id_len, (const char *)id);
	}
	if (ret_nameless)
		*ret_nameless = op.nameless;
	end_op(&op, NULL);
	return text;
}

static enum error_code compact(struct fixture *f, uint64_t keep, struct checkpoint_op *ret_op, struct error *err)
{
	struct checkpoint_op op;
	fill_op(f, &op, OP_COMPACT_CHECKPOINTS, "", 0);
	op.keep = keep;
	while (!checkpoint_log_compact(f->log, &op))
		;
	if (ret_op)
		*ret_op = op;
	return end_op(&op, err);
}

static void flip(struct fixture *f, uint64_t offset)
{
	cr_assert(sim_flip_bit(f->io, CHECKPOINT_PATH, offset, 3) == 0);
}

/* ---- bytes ------------------------------------------------------------------------------------------------------ */

/* Written down by hand from the picture in checkpoint_format.h: later versions must read it. */
Test(checkpoint_log, the_bytes_are_those_of_the_picture)
{
	uint64_t next_ids[2] = {5, 0x1122334455667788};
	struct checkpoint_record record = {.kind = CHECKPOINT_WHOLE,
		.salt = 0x0102030405060708,
		.offset = 1024,
		.synced_end = 512,
		.timestamp = 0x1a1b1c1d1e1f2021,
		.hash = checkpoint_hash_of("abc", 3),
		.hash_before = {0x1011121314151617, 0x18191a1b1c1d1e1f},
		.shard_count = 2,
		.id_bytes = 3};
	uint8_t out[CHECKPOINT_SECTOR];
	cr_assert(checkpoint_record_bytes(2, 3) == sizeof(out));
	checkpoint_record_encode(&record, "abc", next_ids, out);
	static const uint8_t head[] = {'I', 'W', 'C', 'P', 1, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 0, 4, 0, 0, 0, 0, 0, 0,
		0, 2, 0, 0, 0, 0, 0, 0, 0x21, 0x20, 0x1f, 0x1e, 0x1d, 0x1c, 0x1b, 0x1a,
		/* XXH3_128("abc") */
		0x52, 0xe5, 0xd9, 0x65, 0x09, 0xe1, 0xaf, 0x78, 0x86, 0x8d, 0x5b, 0x06, 0x9b, 0x41, 0xaf, 0x06, 2, 0, 0,
		0, 3, 0, 0, 0};
	for (size_t i = 0; i < 40; i++)
		cr_assert(out[i] == head[i], "byte %zu: %02x", i, out[i]);
	cr_assert(memcmp(out + 56, head + 56, 8) == 0, "shard_count, id_bytes");
	static const uint8_t before[] = {
		0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0x10, 0x1f, 0x1e, 0x1d, 0x1c, 0x1b, 0x1a, 0x19, 0x18};
	static const uint8_t content[] = {
		'a', 'b', 'c', 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0x89, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11};
	cr_assert(memcmp(out + 64, before, sizeof(before)) == 0, "the hash of the one before");
	cr_assert(memcmp(out + 88, content, sizeof(content)) == 0, "content");
	for (size_t i = 88 + sizeof(content); i < sizeof(out); i++)
		cr_assert(out[i] == 0);
	struct checkpoint_record again;
	cr_assert(checkpoint_record_decode(out, record.salt, 1024, &again) && checkpoint_content_is_whole(&again, out));
	cr_assert(checkpoint_record_next_id(&again, out, 1) == next_ids[1] && again.timestamp == record.timestamp);
	cr_assert(!checkpoint_record_decode(out, record.salt + 1, 1024, &again), "another file's");
	cr_assert(!checkpoint_record_decode(out, record.salt, 512, &again), "another place's");
	for (size_t bit = 0; bit < 8 * CHECKPOINT_HEADER_BYTES; bit++) {
		out[bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_assert(!checkpoint_record_decode(out, record.salt, 1024, &again), "bit %zu", bit);
		out[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

/* ---- what is kept ----------------------------------------------------------------------------------------------- */

Test(checkpoint_log, what_was_created_is_found_also_after_a_restart)
{
	static const uint32_t shard_counts[] = {1, 4, 60, SHARDS_MAX};
	for (size_t i = 0; i < sizeof(shard_counts) / sizeof(shard_counts[0]); i++) {
		struct fixture f;
		char id[100];
		struct error err;
		begin(&f, shard_counts[i]);
		cr_assert(latest(&f, id, &err) == ERR_NO_CHECKPOINTS &&
			  load(&f, "a", 0, &err) == ERR_CHECKPOINT_NOT_FOUND);
		cr_assert(error_has(&err, EFI_CHECKPOINT) && strcmp(err.checkpoint.bytes, "a") == 0);
		for (unsigned n = 0; n < 50; n++) {
			snprintf(id, sizeof(id), "id%u", n);
			make(&f, id, 10 * n);
		}
		make(&f, "id7", 5000); /* again: it is the newest then */
		for (unsigned round = 0; round < 2; round++) {
			cr_assert(load(&f, "id0", 0, &err) == ERR_NONE && load(&f, "id7", 5000, &err) == ERR_NONE);
			cr_assert(latest(&f, id, &err) == ERR_NONE && strcmp(id, "id7") == 0);
			cr_assert(f.log->index.live == 50 && f.log->index.count == 51);
			cr_assert_str_eq(list(&f, 3, NULL), "id48 id49 id7");
			cr_assert(strncmp(list(&f, UINT64_MAX, NULL), "id0 id1 id2 id3 id4 id5 id6 id8 ", 32) == 0);
			cr_assert_str_eq(list(&f, 0, NULL), "");
			uint64_t offsets[SHARDS_MAX];
			cr_assert(checkpoint_log_newest(f.log, offsets) && offsets[0] == 5000);
			reopen(&f);
		}
		end(&f);
	}
}

Test(checkpoint_log, timestamps_rise_when_the_clock_goes_back_and_over_restarts_and_compaction_to_nothing)
{
	struct fixture f;
	uint64_t before = 0, timestamp;
	struct error err;
	begin(&f, 4);
	sim_set_wall(f.io, UINT64_C(2000000000000000000));
	for (unsigned i = 0; i < 40; i++) {
		cr_assert(create(&f, i % 2 ? "a" : "b", i, &timestamp, &err) == ERR_NONE);
		cr_assert(timestamp > before);
		before = timestamp;
		if (i == 10)
			sim_set_wall(f.io, 1000);
		if (i % 7 == 3)
			reopen(&f);
		if (i % 7 == 5)
			cr_assert(compact(&f, i % 2, NULL, &err) == ERR_NONE);
		if (i % 14 == 5) {
			cr_assert(compact(&f, 0, NULL, &err) == ERR_NONE);
			reopen(&f);
		}
	}
	end(&f);
}

/* No clock says so: but what was acknowledged has to be there all the same. */
Test(checkpoint_log, behind_the_last_time_that_there_is_a_checkpoint_can_still_be_read)
{
	struct fixture f;
	struct error err;
	char id[100];
	uint8_t bytes[CHECKPOINT_SECTOR];
	uint64_t timestamp;
	begin(&f, 4);
	make(&f, "a", 1);
	/* The file's floor: the newest time that was ever given. */
	struct checkpoint_file header;
	cr_assert(sim_read_file(f.io, CHECKPOINT_PATH, 0, bytes, sizeof(bytes)) == 0);
	cr_assert(checkpoint_file_decode(bytes, &header));
	header.floor = CHECKPOINT_TIME_MAX - 1;
	checkpoint_file_encode(&header, bytes);
	cr_assert(sim_patch_file(f.io, CHECKPOINT_PATH, 0, bytes, sizeof(bytes)) == 0);
	reopen(&f);
	for (unsigned i = 0; i < 3; i++) {
		static const char *const ids[] = {"b", "c", "d"};
		cr_assert(create(&f, ids[i], i, &timestamp, &err) == ERR_NONE && timestamp == CHECKPOINT_TIME_MAX);
		cr_assert(load(&f, ids[i], i, &err) == ERR_NONE, "%s: %s", ids[i], err.message);
		reopen(&f);
		cr_assert(load(&f, ids[i], i, &err) == ERR_NONE, "%s: %s", ids[i], err.message);
		cr_assert(latest(&f, id, &err) == ERR_NONE && strcmp(id, ids[i]) == 0);
	}
	cr_assert(compact(&f, 0, NULL, &err) == ERR_NONE);
	reopen(&f);
	make(&f, "e", 5);
	reopen(&f);
	cr_assert(load(&f, "e", 5, &err) == ERR_NONE && load(&f, "b", 0, &err) == ERR_CHECKPOINT_NOT_FOUND);
	end(&f);
}

Test(checkpoint_log, a_group_is_one_write_and_one_sync)
{
	struct fixture f;
	struct checkpoint_op ops[20];
	char ids[20][8];
	begin(&f, 16);
	make(&f, "first", 0);
	for (unsigned i = 0; i < 20; i++) {
		snprintf(ids[i], sizeof(ids[i]), "%u", i);
		fill_op(&f, &ops[i], OP_CREATE_CHECKPOINT, ids[i], i);
		ops[i].op.next = i + 1 < 20 ? &ops[i + 1].op : NULL;
	}
	uint64_t writes = sim_count(f.io, SIM_PWRITE), syncs = sim_count(f.io, SIM_SYNC);
	checkpoint_log_create(f.log, &ops[0]);
	cr_assert(sim_count(f.io, SIM_PWRITE) == writes + 1 && sim_count(f.io, SIM_SYNC) == syncs + 1);
	for (unsigned i = 0; i < 20; i++)
		cr_assert(end_op(&ops[i], NULL) == ERR_NONE && load(&f, ids[i], i, NULL) == ERR_NONE);
	end(&f);
}

/* ---- damage ----------------------------------------------------------------------------------------------------- */

/* Every byte of a log in which each record has one sector, and of one in which it has several. */
Test(checkpoint_log, damage_costs_one_checkpoint_and_is_told)
{
	static const char *const ids[] = {"one", "two", "three", "four"};
	for (unsigned wide = 0; wide < 2; wide++) {
		uint32_t shard_count = wide ? 150 : 4;
		uint64_t bytes = checkpoint_record_bytes(shard_count, 5), size = CHECKPOINT_SECTOR + 4 * bytes;
		for (uint64_t at = 0; at < size; at += wide ? 37 : 5) {
			struct fixture f;
			struct error err;
			char id[100];
			begin(&f, shard_count);
			for (unsigned i = 0; i < 4; i++)
				make(&f, ids[i], 10 * i);
			flip(&f, at);
			reopen(&f);
			uint64_t hurt = at < CHECKPOINT_SECTOR ? 4 : (at - CHECKPOINT_SECTOR) / bytes;
			for (unsigned round = 0; round < 2; round++) {
				unsigned lost = 0;
				for (unsigned i = 0; i < 4; i++) {
					enum error_code code = load(&f, ids[i], 10 * i, &err);
					if (code == ERR_CHECKPOINT_CORRUPTED)
						cr_assert(error_has(&err, EFI_OFFSET) && err.reason.len > 0 &&
							  err.offset == CHECKPOINT_SECTOR + hurt * bytes);
					cr_assert(code == ERR_NONE || (i == hurt && code == ERR_CHECKPOINT_CORRUPTED),
						"byte %llu: %s: %s", (unsigned long long)at, ids[i], err.message);
					lost += code != ERR_NONE;
				}
				uint64_t nameless;
				(void)list(&f, UINT64_MAX, &nameless);
				/* An id that was never there is not there; but as long as there is a record that nobody
				 * can name, nobody can tell. */
				cr_assert(load(&f, "other", 0, &err) == (f.log->index.unreadable > 0
											? ERR_CHECKPOINT_CORRUPTED
											: ERR_CHECKPOINT_NOT_FOUND));
				cr_assert(latest(&f, id, &err) ==
					  (hurt == 3 && lost > 0 ? ERR_CHECKPOINT_CORRUPTED : ERR_NONE));
				/* Others can be made, and the next start sees the same. */
				if (round == 0) {
					make(&f, "more", 100);
					cr_assert(load(&f, "more", 100, &err) == ERR_NONE);
					cr_assert(latest(&f, id, &err) == ERR_NONE && strcmp(id, "more") == 0);
					hurt = hurt == 3 ? 30 : hurt;
				}
				reopen(&f);
				if (hurt == 30)
					break;
			}
			end(&f);
		}
	}
}

Test(checkpoint_log, a_record_that_is_gone_in_the_middle_leaves_the_others)
{
	static const uint8_t zeros[CHECKPOINT_SECTOR];
	struct fixture f;
	struct error err;
	uint64_t nameless;
	begin(&f, 4);
	make(&f, "one", 10);
	make(&f, "two", 20);
	make(&f, "three", 30);
	cr_assert(sim_patch_file(f.io, CHECKPOINT_PATH, 2 * CHECKPOINT_SECTOR, zeros, sizeof(zeros)) == 0);
	reopen(&f);
	cr_assert(load(&f, "one", 10, &err) == ERR_NONE && load(&f, "three", 30, &err) == ERR_NONE);
	cr_assert(load(&f, "two", 20, &err) == ERR_CHECKPOINT_CORRUPTED && err.offset == 2 * CHECKPOINT_SECTOR);
	cr_assert_str_eq(list(&f, UINT64_MAX, &nameless), "one three");
	cr_assert(nameless == 1 && f.log->index.live == 3, "the one behind it tells which it was");
	cr_assert(load(&f, "never", 0, &err) == ERR_CHECKPOINT_CORRUPTED, "as long as an id cannot be read");
	struct fixture none;
	begin(&none, 4);
	make(&none, "only", 1);
	flip(&none, CHECKPOINT_SECTOR + 20);
	reopen(&none);
	cr_assert(load(&none, "only", 1, &err) == ERR_CHECKPOINT_CORRUPTED);
	cr_assert(
		compact(&none, 5, NULL, &err) == ERR_NONE && load(&none, "only", 1, &err) == ERR_CHECKPOINT_CORRUPTED);
	cr_assert(
		compact(&none, 0, NULL, &err) == ERR_NONE && load(&none, "only", 1, &err) == ERR_CHECKPOINT_NOT_FOUND);
	end(&none);
	/* A note of it stays as long as it stands among what is kept. */
	cr_assert(compact(&f, UINT64_MAX, NULL, &err) == ERR_NONE);
	cr_assert(load(&f, "two", 20, &err) == ERR_CHECKPOINT_CORRUPTED);
	make(&f, "four", 40);
	cr_assert(compact(&f, 2, NULL, &err) == ERR_NONE);
	cr_assert(load(&f, "two", 20, &err) == ERR_CHECKPOINT_NOT_FOUND && load(&f, "three", 30, &err) == ERR_NONE);
	end(&f);
}

Test(checkpoint_log, a_version_that_was_replaced_does_not_stand_in_for_a_damaged_one)
{
	struct fixture f;
	struct error err;
	begin(&f, 4);
	make(&f, "a", 0);
	make(&f, "b", 50);
	make(&f, "a", 100);
	make(&f, "c", 150);
	flip(&f, 3 * CHECKPOINT_SECTOR + 9);
	reopen(&f);
	cr_assert(load(&f, "a", 100, &err) == ERR_CHECKPOINT_CORRUPTED && err.offset == 3 * CHECKPOINT_SECTOR);
	cr_assert(load(&f, "b", 50, &err) == ERR_NONE && load(&f, "c", 150, &err) == ERR_NONE);
	end(&f);
}

/* Two in a row: the one behind them names the second; of the first nobody knows. */
Test(checkpoint_log, of_two_damaged_neighbours_the_second_is_named)
{
	struct fixture f;
	struct error err;
	begin(&f, 4);
	make(&f, "a", 0);
	make(&f, "b", 50);
	make(&f, "c", 100);
	make(&f, "d", 150);
	flip(&f, 2 * CHECKPOINT_SECTOR + 9);
	flip(&f, 3 * CHECKPOINT_SECTOR + 9);
	reopen(&f);
	cr_assert(load(&f, "c", 100, &err) == ERR_CHECKPOINT_CORRUPTED && err.offset == 3 * CHECKPOINT_SECTOR);
	cr_assert(load(&f, "b", 50, &err) == ERR_CHECKPOINT_CORRUPTED && err.offset == 2 * CHECKPOINT_SECTOR);
	cr_assert(load(&f, "a", 0, &err) == ERR_NONE && load(&f, "d", 150, &err) == ERR_NONE);
	end(&f);
}

/* A clean stop says that all was durable: even what looks torn is damage then. */
Test(checkpoint_log, after_a_clean_stop_all_damage_is_told)
{
	static const uint8_t zeros[CHECKPOINT_SECTOR];
	for (unsigned clean = 0; clean < 2; clean++) {
		struct fixture f;
		struct error err;
		char id[100];
		begin(&f, 4);
		make(&f, "one", 10);
		make(&f, "two", 20);
		cr_assert(!clean || checkpoint_log_mark_end(f.log, &err) == 0);
		reopen(&f);
		uint64_t end_before = f.log->end;
		cr_assert(checkpoint_log_mark_end(f.log, &err) == 0);
		cr_assert(!clean || f.log->end == end_before, "once is enough");
		cr_assert(sim_patch_file(f.io, CHECKPOINT_PATH, 2 * CHECKPOINT_SECTOR, zeros, sizeof(zeros)) == 0);
		reopen(&f);
		cr_assert(latest(&f, id, &err) == ERR_CHECKPOINT_CORRUPTED);
		cr_assert(
			load(&f, "two", 20, &err) == ERR_CHECKPOINT_CORRUPTED && load(&f, "one", 10, &err) == ERR_NONE);
		make(&f, "three", 30);
		reopen(&f);
		cr_assert(latest(&f, id, &err) == ERR_NONE && load(&f, "one", 10, &err) == ERR_NONE);
		end(&f);
	}
}

Test(checkpoint_log, compaction_keeps_a_note_of_a_damaged_one)
{
	struct fixture f;
	struct error err;
	char id[100];
	struct checkpoint_op op;
	begin(&f, 150);
	uint64_t bytes = checkpoint_record_bytes(150, 3);
	for (unsigned i = 0; i < 6; i++) {
		snprintf(id, sizeof(id), "cp%u", i);
		make(&f, id, 10 * i);
	}
	flip(&f, CHECKPOINT_SECTOR + 5 * bytes + 300); /* the content of cp5 */
	cr_assert(compact(&f, 3, &op, &err) == ERR_NONE && op.count_before == 6 && op.count_after == 3);
	for (unsigned round = 0; round < 2; round++) {
		cr_assert(load(&f, "cp5", 50, &err) == ERR_CHECKPOINT_CORRUPTED);
		cr_assert(latest(&f, id, &err) == ERR_CHECKPOINT_CORRUPTED, "never an older one in silence");
		cr_assert(
			load(&f, "cp4", 40, &err) == ERR_NONE && load(&f, "cp2", 20, &err) == ERR_CHECKPOINT_CORRUPTED);
		reopen(&f);
	}
	make(&f, "cp5", 500);
	cr_assert(load(&f, "cp5", 500, &err) == ERR_NONE && latest(&f, id, &err) == ERR_NONE);
	end(&f);
}

Test(checkpoint_log, a_log_of_another_number_of_shards_answers_with_both_numbers)
{
	struct fixture f;
	struct error err;
	char id[100];
	begin(&f, 4);
	make(&f, "one", 10);
	f.shard_count = 8;
	reopen(&f);
	cr_assert(load(&f, "one", 10, &err) == ERR_SHARD_COUNT_MISMATCH && err.expected == 8 && err.found == 4);
	make(&f, "two", 20);
	cr_assert(latest(&f, id, &err) == ERR_NONE);
	end(&f);
}

/* ---- torn ends -------------------------------------------------------------------------------------------------- */

/* Whatever of the last write reached the disk: before it all is there, of it each record is there whole or not at all,
 * and there is nothing that speaks of damage. */
Test(checkpoint_log, a_torn_end_is_cut)
{
	unsigned kept = 0, lost = 0;
	for (uint64_t seed = 0; seed < 600; seed++) {
		struct fixture f = {.io = sim_new(seed), .shard_count = (uint32_t)(1 + seed % 3 * 90)};
		struct checkpoint_op ops[3];
		static const char *const ids[] = {"x", "yy", "zzz"};
		struct error err;
		uint64_t nameless;
		log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
		reopen(&f);
		for (unsigned i = 0; i < seed % 4; i++)
			make(&f, i % 2 ? "even" : "odd", i);
		for (unsigned i = 0; i < 3; i++) {
			fill_op(&f, &ops[i], OP_CREATE_CHECKPOINT, ids[i], 1000 + i);
			ops[i].op.next = i < seed % 3 ? &ops[i + 1].op : NULL;
		}
		sim_cut_power_after(f.io, seed % 5 + (seed % 4 == 0 ? 6 : 0));
		checkpoint_log_create(f.log, &ops[0]);
		for (unsigned i = 0; i < 3; i++)
			end_op(&ops[i], NULL);
		checkpoint_log_close(f.log);
		f.log = NULL;
		sim_power_on(f.io, SIM_POWER_RANDOM);
		reopen(&f);
		for (unsigned round = 0; round < 2; round++) {
			if (seed % 4 > 0)
				cr_assert(load(&f, "odd", seed % 4 == 3 ? 2 : 0, &err) == ERR_NONE, "%s", err.message);
			for (unsigned i = 0; i < 3; i++) {
				enum error_code code = load(&f, ids[i], 1000 + i, &err);
				cr_assert(code == ERR_NONE || code == ERR_CHECKPOINT_NOT_FOUND, "seed %llu: %s",
					(unsigned long long)seed, err.message);
				kept += code == ERR_NONE;
				lost += code != ERR_NONE;
			}
			(void)list(&f, UINT64_MAX, &nameless);
			cr_assert(nameless == 0);
			make(&f, "behind", 7);
			checkpoint_log_close(f.log);
			f.log = NULL;
			sim_power_on(f.io, SIM_LOSE_ALL);
			reopen(&f);
			cr_assert(load(&f, "behind", 7, &err) == ERR_NONE, "%s", err.message);
		}
		end(&f);
	}
	cr_assert(kept > 100 && lost > 100, "%u kept, %u lost", kept, lost);
}

/* The sectors of a group reach the disk in any order: of what is not there nothing is told, and the others stay. */
Test(checkpoint_log, a_torn_record_costs_only_itself)
{
	static const uint8_t zeros[CHECKPOINT_SECTOR];
	for (unsigned torn = 0; torn < 8; torn++) {
		struct fixture f;
		struct error err;
		struct checkpoint_op ops[8];
		char ids[8][8];
		uint64_t nameless;
		begin(&f, torn % 2 ? 4 : 150);
		uint64_t bytes = checkpoint_record_bytes(f.shard_count, 1);
		make(&f, "x", 3);
		for (unsigned i = 0; i < 8; i++) {
			snprintf(ids[i], sizeof(ids[i]), "%u", i);
			fill_op(&f, &ops[i], OP_CREATE_CHECKPOINT, ids[i], i);
			ops[i].op.next = i + 1 < 8 ? &ops[i + 1].op : NULL;
		}
		checkpoint_log_create(f.log, &ops[0]);
		for (unsigned i = 0; i < 8; i++)
			cr_assert(end_op(&ops[i], NULL) == ERR_NONE);
		uint64_t sector = torn % 4 < 2 ? 0 : bytes - CHECKPOINT_SECTOR;
		uint64_t at = CHECKPOINT_SECTOR + (1 + torn) * bytes + sector;
		cr_assert(sim_patch_file(f.io, CHECKPOINT_PATH, at, zeros, sizeof(zeros)) == 0);
		for (unsigned round = 0; round < 3; round++) {
			reopen(&f);
			for (unsigned i = 0; i < 8; i++)
				cr_assert(
					load(&f, ids[i], i, &err) == (i == torn ? ERR_CHECKPOINT_NOT_FOUND : ERR_NONE),
					"%u of %u: %s", i, torn, err.message);
			(void)list(&f, UINT64_MAX, &nameless);
			cr_assert(nameless == 0 && load(&f, "x", 3, &err) == ERR_NONE);
			make(&f, "y", 9);
		}
		end(&f);
	}
}

/* ---- failures --------------------------------------------------------------------------------------------------- */

Test(checkpoint_log, a_full_disk_refuses_and_more_room_mends_it)
{
	for (unsigned nth = 1; nth < 6; nth++) {
		struct fixture f;
		struct error err;
		begin(&f, 4);
		if (nth > 3)
			make(&f, "before", 1);
		sim_fail_at(f.io, nth % 3 + 1, ENOSPC,
			(SIM_BIT(SIM_ALLOCATE) | SIM_BIT(SIM_PWRITE) | SIM_BIT(SIM_OPEN)) | SIM_EVERY);
		enum error_code code = create(&f, "full", 2, NULL, &err);
		cr_assert(code == ERR_NONE || (code == ERR_IO && err.os_errno == ENOSPC && err.outcome == OUTCOME_NONE),
			"%s", err.message);
		sim_fail_clear(f.io);
		make(&f, "after", 3);
		reopen(&f);
		cr_assert(load(&f, "after", 3, &err) == ERR_NONE);
		if (code != ERR_NONE)
			cr_assert(load(&f, "full", 2, &err) == ERR_CHECKPOINT_NOT_FOUND);
		end(&f);
	}
}

Test(checkpoint_log, a_failed_sync_stops_it_until_a_restart)
{
	struct fixture f;
	struct error err;
	begin(&f, 4);
	make(&f, "one", 1);
	sim_fail_at(f.io, 1, EIO, SIM_BIT(SIM_SYNC));
	cr_assert(create(&f, "two", 2, NULL, &err) == ERR_IO && err.outcome == OUTCOME_UNKNOWN);
	cr_assert(create(&f, "three", 3, NULL, &err) == ERR_IO && err.outcome == OUTCOME_NONE);
	cr_assert(compact(&f, 1, NULL, &err) == ERR_IO && err.outcome == OUTCOME_NONE);
	cr_assert(f.log->stats.failed && f.log->stats.failed_reason[0] != '\0');
	cr_assert(load(&f, "one", 1, &err) == ERR_NONE, "loading goes on");
	cr_assert(load(&f, "two", 2, &err) == ERR_CHECKPOINT_NOT_FOUND);
	/* The page cache shows what the disk does not have: what the start accepts, it writes again. */
	checkpoint_log_close(f.log);
	f.log = NULL;
	sim_process_died(f.io);
	reopen(&f);
	enum error_code two = load(&f, "two", 2, &err);
	checkpoint_log_close(f.log);
	f.log = NULL;
	sim_power_on(f.io, SIM_LOSE_ALL);
	reopen(&f);
	cr_assert(load(&f, "two", 2, &err) == two && load(&f, "one", 1, &err) == ERR_NONE);
	make(&f, "three", 3);
	end(&f);
}

/* Whichever call of a compaction fails: the log is as before, and takes more; or, if the last step failed, it stops. */
Test(checkpoint_log, a_compaction_that_fails_costs_nothing)
{
	static const uint32_t kinds[] = {SIM_BIT(SIM_PREAD), SIM_BIT(SIM_OPEN), SIM_BIT(SIM_PWRITE), SIM_BIT(SIM_SYNC),
		SIM_BIT(SIM_RENAME), SIM_BIT(SIM_TRUNCATE), SIM_BIT(SIM_RANDOM), SIM_BIT(SIM_SYNC_DIR)};
	for (size_t kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++)
		for (uint64_t nth = 1;; nth++) {
			struct fixture f;
			struct error err;
			char id[100];
			begin(&f, 4);
			for (unsigned i = 0; i < 5; i++) {
				snprintf(id, sizeof(id), "cp%u", i);
				make(&f, id, i);
			}
			sim_fail_at(f.io, nth, EIO, kinds[kind]);
			enum error_code code = compact(&f, 2, NULL, &err);
			bool fired = sim_faults_fired(f.io) > 0;
			sim_fail_clear(f.io);
			cr_assert(fired ? code == ERR_IO : code == ERR_NONE);
			bool stopped = f.log->failed_errno != 0;
			bool last_step = kinds[kind] == SIM_BIT(SIM_SYNC_DIR) || kinds[kind] == SIM_BIT(SIM_RENAME);
			cr_assert(stopped == (fired && last_step));
			cr_assert(!fired || err.outcome == (stopped ? OUTCOME_UNKNOWN : OUTCOME_NONE));
			cr_assert(load(&f, "cp4", 4, &err) == ERR_NONE && load(&f, "cp3", 3, &err) == ERR_NONE);
			if (fired && !stopped)
				cr_assert(load(&f, "cp0", 0, &err) == ERR_NONE);
			if (!stopped)
				make(&f, "more", 9);
			checkpoint_log_close(f.log);
			f.log = NULL;
			sim_power_on(f.io, SIM_POWER_RANDOM);
			reopen(&f);
			cr_assert(load(&f, "cp4", 4, &err) == ERR_NONE);
			cr_assert(sim_file_size(f.io, CHECKPOINT_NEW) == -ENOENT, "nothing is left behind");
			if (!stopped)
				cr_assert(load(&f, "more", 9, &err) == ERR_NONE);
			end(&f);
			if (!fired)
				break;
		}
}

/* ---- compaction ------------------------------------------------------------------------------------------------- */

Test(checkpoint_log, compaction_keeps_the_newest_and_what_comes_meanwhile)
{
	struct fixture f;
	struct error err;
	char id[100];
	struct checkpoint_op op;
	begin(&f, 100);
	for (unsigned i = 0; i < 6000; i++) {
		snprintf(id, sizeof(id), "cp%u", i % 5000);
		make(&f, id, i);
	}
	fill_op(&f, &op, OP_COMPACT_CHECKPOINTS, "", 0);
	op.keep = 4000;
	unsigned pieces = 0;
	for (bool done = false; !done; pieces++) {
		done = checkpoint_log_compact(f.log, &op);
		if (done)
			break;
		snprintf(id, sizeof(id), "meanwhile%u", pieces);
		make(&f, id, 10000 + pieces);
		cr_assert(load(&f, "cp4999", 4999, &err) == ERR_NONE);
	}
	cr_assert(pieces > 0 && op.op.error == NULL && op.count_before == 5000 && op.count_after == 4000 + pieces,
		"%u, %llu, %llu", pieces, (unsigned long long)op.count_before, (unsigned long long)op.count_after);
	cr_assert(op.bytes_reclaimed >= (2000 - pieces) * checkpoint_record_bytes(100, 6));
	for (unsigned round = 0; round < 2; round++) {
		cr_assert(load(&f, "meanwhile0", 10000, &err) == ERR_NONE && load(&f, "cp500", 5500, &err) == ERR_NONE);
		/* The newest 4,000 were cp2000 to cp4999, and cp0 to cp999, which were made again. */
		cr_assert(load(&f, "cp1999", 0, &err) == ERR_CHECKPOINT_NOT_FOUND);
		cr_assert(load(&f, "cp2000", 2000, &err) == ERR_NONE);
		cr_assert(f.log->index.live == 4000 + pieces && f.log->index.count == f.log->index.live);
		reopen(&f);
	}
	/* What needs nothing does nothing. */
	uint64_t calls = sim_op_count(f.io);
	cr_assert(compact(&f, UINT64_MAX, &op, &err) == ERR_NONE && op.bytes_reclaimed == 0);
	cr_assert(sim_op_count(f.io) == calls && op.count_before == op.count_after);
	cr_assert(compact(&f, 0, &op, &err) == ERR_NONE && op.count_after == 0);
	cr_assert(latest(&f, id, &err) == ERR_NO_CHECKPOINTS);
	end(&f);
}

Test(checkpoint_log, a_list_goes_on_through_a_compaction)
{
	struct fixture f;
	char id[100];
	struct checkpoint_op listing, compaction;
	begin(&f, 2);
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(id, sizeof(id), "%u", i);
		make(&f, id, i);
	}
	fill_op(&f, &listing, OP_LIST_CHECKPOINTS, "", 0);
	fill_op(&f, &compaction, OP_COMPACT_CHECKPOINTS, "", 0);
	compaction.keep = 1500;
	cr_assert(!checkpoint_log_list(f.log, &listing));
	while (!checkpoint_log_compact(f.log, &compaction))
		;
	while (!checkpoint_log_list(f.log, &listing))
		;
	size_t at = 0, len;
	const uint8_t *bytes;
	uint64_t timestamp, before = 0, count = 0;
	while (checkpoint_listed(&listing, &at, &bytes, &len, &timestamp)) {
		cr_assert(timestamp > before);
		before = timestamp;
		count++;
	}
	cr_assert(count == listing.listed_count && count >= 1500 && count <= 3000);
	listing.max_bytes = 1;
	end_op(&listing, NULL);
	fill_op(&f, &listing, OP_LIST_CHECKPOINTS, "", 0);
	listing.max_bytes = 1000;
	while (!checkpoint_log_list(f.log, &listing))
		;
	struct error err;
	cr_assert(end_op(&listing, &err) == ERR_TOO_LARGE && err.limit == 1000 && err.size > 1000);
	end(&f);
}

Test(checkpoint_log, much_that_was_replaced_makes_it_stale)
{
	struct fixture f;
	struct error err;
	begin(&f, 2);
	unsigned made = 0;
	for (; !checkpoint_log_is_stale(f.log) && made < 100000; made++)
		make(&f, made % 2 ? "odd" : "even", made);
	cr_assert(made > 1000 && made < 100000);
	cr_assert(compact(&f, UINT64_MAX, NULL, &err) == ERR_NONE && !checkpoint_log_is_stale(f.log));
	cr_assert(f.log->index.count == 2);
	end(&f);
}
