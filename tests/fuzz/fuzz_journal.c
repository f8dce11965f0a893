/*
 * fuzz_journal: the two journals of a writer, whole or damaged: read by themselves, then by an engine that starts on
 * them and on what of the segments had reached the disk (disk.h says what is checked).
 *
 * Input: how; a script of segments (segments.h) and a zero; how much of each is on the disk; records, and a zero; then
 * what is done to the records. 0xff as the first byte: the rest of the input is the first journal.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "disk.h"
#include "fuzz.h"
#include "journal.h"
#include "segments.h"

#define JOURNAL_BYTES_MAX ((size_t)128 * 1024)
#define RECORDS_MAX 40

struct made_journal {
	uint8_t *bytes;
	size_t len;
	size_t records[RECORDS_MAX];
	unsigned count;
};

struct world {
	struct segments segments;
	struct made_journal halves[2];
	size_t kept[SEGMENTS_MAX]; /* how much of a segment is on the disk */
	bool forged;
};

/* ---- making ------------------------------------------------------------------------------------------------------ */

static size_t put_op(
	struct world *world, uint8_t *out, size_t room, const struct made_segment *made, size_t from, size_t len)
{
	size_t dir_len = strlen(world->segments.dir), dir_bytes = (size_t)align_up(dir_len, 8);
	size_t total = 32 + dir_bytes + (size_t)align_up(len, 8);
	if (total > room)
		return 0;
	memset(out, 0, total);
	out[0] = (uint8_t)dir_len;
	fuzz_put64(out + 8, made->first_id);
	fuzz_put64(out + 16, from);
	fuzz_put64(out + 24, len);
	memcpy(out + 32, world->segments.dir, dir_len);
	memcpy(out + 32 + dir_bytes, made->bytes + from, len);
	return total;
}

/* The next record: a few of the frames, each with its segment's header if it is the first. */
static void add_record(struct world *world, struct fuzz_in *in, uint8_t how, uint64_t *seq, uint64_t *generation)
{
	struct made_journal *journal = &world->halves[*generation % 2];
	size_t at = journal->len, used = 64, room = JOURNAL_BYTES_MAX - at;
	unsigned ops = 0;
	if (journal->count == RECORDS_MAX || room < 4096)
		return;
	uint8_t *record = journal->bytes + at;
	memset(record, 0, 64);
	for (unsigned wanted = 1 + (how >> 3) % 4; wanted > 0; wanted--) {
		struct made_segment *made = &world->segments.list[fuzz_u8(in) % world->segments.count];
		unsigned number = made->frame_count > 0 ? fuzz_u8(in) % made->frame_count : 0;
		size_t from = number > 0 ? made->frames[number].at : 0;
		size_t to =
			made->frame_count > 0 ? made->frames[number].at + made->frames[number].len : made->header_bytes;
		if (to > made->len || from >= to)
			continue;
		size_t bytes = put_op(world, record + used, room - used - 512, made, from, to - from);
		used += bytes;
		ops += bytes > 0;
	}
	memcpy(record, "IWJR", 4);
	fuzz_put32(record + 4, ops);
	fuzz_put64(record + 8, 0xabcdef);
	fuzz_put64(record + 16, *generation);
	fuzz_put64(record + 24, ++*seq);
	fuzz_put64(record + 32, used - 64);
	fuzz_put64(record + 40, how & 128 ? *seq - 1 : 0);
	fuzz_put32(record + 48, crc32c(0, record + 64, used - 64));
	fuzz_put32(record + 60, crc32c(0, record, 60));
	size_t end = (size_t)align_up(used, JOURNAL_ALIGN);
	memset(record + used, 0, end - used);
	journal->records[journal->count++] = at;
	journal->len += end;
}

static void make_records(struct world *world, struct fuzz_in *in)
{
	uint64_t seq = 0, generation = 1;
	while (fuzz_more(in)) {
		uint8_t how = fuzz_u8(in);
		if (how % 8 == 0)
			return;
		if (how % 8 == 1 && generation < 3) { /* the other file's turn */
			struct made_journal *journal = &world->halves[++generation % 2];
			seq = 0;
			if (journal->count > 0) { /* ended: its first sector is zeros, the rest is there still */
				journal->count = 0;
				memset(journal->bytes, 0, JOURNAL_ALIGN);
				journal->len = 0;
			}
		} else {
			add_record(world, in, how, &seq, &generation);
		}
	}
}

/* ---- damaging ---------------------------------------------------------------------------------------------------- */

static void fix(struct made_journal *journal, size_t at)
{
	uint8_t *record = journal->bytes + at;
	uint64_t content = fuzz_get64(record + 32);
	if (content <= journal->len - at - 64)
		fuzz_put32(record + 48, crc32c(0, record + 64, (size_t)content));
	fuzz_put32(record + 60, crc32c(0, record, 60));
}

static void damage(struct world *world, struct fuzz_in *in)
{
	static const uint8_t fields[] = {0, 4, 8, 16, 24, 32, 40, 48, 52, 60, 64, 72, 80, 88, 96};
	uint8_t how = fuzz_u8(in);
	struct made_journal *journal = &world->halves[how & 1];
	size_t at = fuzz_uint(in, 2), len;
	if (journal->len == 0)
		return;
	switch (how / 2 % 6) {
	case 0:
	case 1:
	case 2: {
		size_t record = journal->records[(at >> 8) % (journal->count > 0 ? journal->count : 1)];
		at = record + (at & 128 ? 64 + (at & 127) * 4 : fields[(at & 127) % sizeof(fields)]);
		if (journal->count == 0 || record + JOURNAL_ALIGN > journal->len || at + 8 > journal->len)
			return;
		if (how & 64) {
			fuzz_put64(journal->bytes + at, fuzz_number(in));
		} else {
			const uint8_t *bytes = fuzz_take(in, 1 + how / 16 % 8, &len);
			memcpy(journal->bytes + at, bytes, len);
		}
		if (how & 128) {
			fix(journal, record);
			world->forged = true;
		}
		break;
	}
	case 3:
		journal->bytes[at % journal->len] ^= (uint8_t)(1u << how / 16 % 8);
		break;
	case 4:
		journal->len = at % (journal->len + 1);
		break;
	default:
		at = at % 256 * JOURNAL_ALIGN;
		if (at + JOURNAL_ALIGN <= journal->len)
			memset(journal->bytes + at, 0, JOURNAL_ALIGN);
		break;
	}
}

/* ---- reading them by themselves ---------------------------------------------------------------------------------- */

struct counting {
	const uint8_t *bytes;
	size_t len;
	uint64_t ops;
};

static int count_cb(const struct journal_op *op, void *arg)
{
	struct counting *counting = arg;
	counting->ops++;
	FUZZ_CHECK(op->len <= counting->len && strlen(op->dir) <= 255, "an op of %zu bytes", op->len);
	/* All of it is touched. */
	volatile uint64_t hash = fuzz_hash(1, op->data, op->len);
	(void)hash;
	return 0;
}

/* How many records there are by the description: whole, of one epoch and generation, numbered. False: one of them has a
 * right checksum over ops that do not fit in it. */
static bool count_records(const uint8_t *bytes, size_t len, uint64_t *ret_records, uint64_t *ret_ops)
{
	uint64_t epoch = 0, generation = 0;
	*ret_records = *ret_ops = 0;
	for (size_t at = 0; at + 64 <= len;) {
		const uint8_t *record = bytes + at;
		uint64_t content = fuzz_get64(record + 32);
		uint32_t ops = fuzz_get32(record + 4);
		if (memcmp(record, "IWJR", 4) != 0 || fuzz_get32(record + 60) != crc32c(0, record, 60) ||
			content > len - at - 64 || fuzz_get32(record + 48) != crc32c(0, record + 64, (size_t)content))
			break;
		if (*ret_records == 0) {
			epoch = fuzz_get64(record + 8);
			generation = fuzz_get64(record + 16);
		}
		if (fuzz_get64(record + 8) != epoch || fuzz_get64(record + 16) != generation ||
			fuzz_get64(record + 24) != *ret_records + 1)
			break;
		size_t from = 64, end = 64 + (size_t)content;
		for (uint32_t i = 0; i < ops; i++) {
			if (end - from < 32)
				return false;
			size_t dir = (size_t)record[from] | (size_t)record[from + 1] << 8,
			       dir_bytes = (dir + 7) / 8 * 8;
			uint64_t data = fuzz_get64(record + from + 24);
			from += 32;
			if (dir == 0 || dir > 255 || dir_bytes > end - from || data > end - from - dir_bytes)
				return false;
			from += dir_bytes + (size_t)data;
			from = (from + 7) / 8 * 8;
			from = from < end ? from : end;
		}
		++*ret_records;
		*ret_ops += ops;
		at += (size_t)align_up(64 + content, 512);
	}
	return true;
}

static void check_journal(const uint8_t *bytes, size_t len, unsigned half)
{
	struct io *io = sim_new(1);
	char path[JOURNAL_PATH_MAX];
	struct journal_scan scan, seen, other = {.epoch = 0xabcdef, .generation = 2};
	struct counting counting = {bytes, len, 0};
	uint64_t records, ops;
	bool rot;
	journal_path(0, half, path);
	FUZZ_CHECK(journal_is_path(path), "its own path is none");
	disk_put(io, path, bytes, len);
	int looked = journal_replay(io, path, NULL, NULL, &seen);
	int r = journal_replay(io, path, count_cb, &counting, &scan);
	bool fits = count_records(bytes, len, &records, &ops);
	FUZZ_CHECK(looked == 0, "looking at it answers %d", looked);
	FUZZ_CHECK(r == (fits ? 0 : -EBADMSG), "replaying it answers %d", r);
	FUZZ_CHECK(!fits || (scan.records == records && scan.ops == ops && counting.ops == ops),
		"%llu records with %llu ops, not %llu with %llu", (unsigned long long)scan.records,
		(unsigned long long)scan.ops, (unsigned long long)records, (unsigned long long)ops);
	FUZZ_CHECK(!fits || (seen.records == records && seen.rot == scan.rot && seen.end == scan.end),
		"looking at it and replaying it differ");
	r = journal_headless_rot(io, path, &other, &rot);
	FUZZ_CHECK(r == 0, "looking for its head answers %d", r);
	FUZZ_CHECK(sim_open_count(io) == 0, "files are left open");
	sim_free(io);
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

static void fill(struct io *io, void *arg)
{
	struct world *world = arg;
	segments_write(&world->segments, io);
	for (unsigned half = 0; half < 2; half++) {
		char path[JOURNAL_PATH_MAX];
		struct made_journal *journal = &world->halves[half];
		/* Generation n is in file (n - 1) % 2. */
		journal_path(0, half ^ 1, path);
		disk_put(io, path, journal->bytes, journal->len);
		FUZZ_CHECK(sim_truncate_file(io, path, JOURNAL_SOFT_BYTES) == 0, "no journal");
	}
}

/* What had not reached the disk: the end of a segment, or all of it. */
static void lose_ends(struct world *world, struct fuzz_in *in)
{
	for (unsigned i = 0; i < world->segments.count; i++) {
		struct made_segment *made = &world->segments.list[i];
		uint8_t how = fuzz_u8(in);
		if (how % 4 == 0)
			continue;
		unsigned number = made->frame_count > 0 ? how / 4 % made->frame_count : 0;
		if (how % 4 == 1)
			made->is_missing = true;
		else if (how % 4 == 2 && made->frame_count > 0)
			made->len = made->frames[number].at;
		else if (made->frame_count > 0)
			memset(made->bytes + made->frames[number].at, 0, made->len - made->frames[number].at);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = {data, data + size};
	static struct world world;
	uint8_t how = fuzz_u8(&in);
	memset(&world, 0, sizeof(world));
	if (how == 0xff) {
		uint8_t *copy = fuzz_copy(in.at, (size_t)(in.end - in.at));
		check_journal(copy, (size_t)(in.end - in.at), 0);
		free(copy);
		return 0;
	}
	for (unsigned half = 0; half < 2; half++)
		world.halves[half].bytes = fuzz_alloc(JOURNAL_BYTES_MAX);
	segments_init(&world.segments, how & 1, how & 2 ? 0 : fuzz_number(&in));
	while (segments_build(&world.segments, &in))
		;
	struct fuzz_in ends = in;
	(void)fuzz_uint(&in, SEGMENTS_MAX);
	make_records(&world, &in);
	while (fuzz_more(&in))
		damage(&world, &in);
	lose_ends(&world, &ends);
	for (unsigned half = 0; half < 2; half++)
		check_journal(world.halves[half].bytes, world.halves[half].len, half);
	/* Journals that speak of other ends than segments do are forged, too: records in an order of their own. */
	disk_trial(fill, &world, (how & 4 ? DISK_MMAP : 0) | (world.forged || world.segments.forged ? DISK_FORGED : 0));
	segments_free(&world.segments);
	for (unsigned half = 0; half < 2; half++)
		free(world.halves[half].bytes);
	return 0;
}
