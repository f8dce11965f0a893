#include "disk.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "journal.h"
#include "names.h"
#include "whole_frames.h"

#define STREAMS_MAX 16
#define LOCK_FILE NAMES_OWN_PREFIX "lock"
#define MANIFEST_FILE NAMES_OWN_PREFIX "manifest"

struct disk {
	struct io *io;
	struct engine_options options;
	struct engine *engine;
	bool forged, tail_is_whole;
};

/* What a start shows, as numbers to be compared. */
struct state {
	uint64_t hash, entries, damage;
	unsigned count;
	struct {
		struct stream *stream;
		uint64_t first, end;
	} streams[STREAMS_MAX];
};

/* ---- files ------------------------------------------------------------------------------------------------------- */

void disk_put(struct io *io, const char *path, const void *bytes, size_t len)
{
	const char *slash = strchr(path, '/');
	if (slash != NULL) {
		char dir[IO_PATH_MAX];
		snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
		(void)io->ops->mkdir(io, dir);
		(void)io->ops->sync_dir(io, "");
	}
	int r = sim_write_file(io, path, bytes, len);
	FUZZ_CHECK(r == 0, "%s cannot be made: %d", path, r);
}

struct io *disk_new(void)
{
	static uint8_t manifest[512];
	static size_t manifest_len;
	struct io *io = sim_new(1);
	if (manifest_len == 0) {
		struct engine_options options;
		struct engine_hooks hooks = {.no_threads = true};
		struct engine *engine;
		struct error err;
		engine_options_default(&options);
		options.shard_count = 1;
		FUZZ_CHECK(engine_open(io, &options, &hooks, &engine, &err) == 0, "%s", err.message);
		engine_abandon(engine);
		manifest_len = (size_t)sim_file_size(io, MANIFEST_FILE);
		FUZZ_CHECK(sim_read_file(io, MANIFEST_FILE, 0, manifest, manifest_len) == 0, "no manifest");
		sim_free(io);
		io = sim_new(1);
	}
	disk_put(io, MANIFEST_FILE, manifest, manifest_len);
	/* Journals as a start would make them, without the time that takes. */
	for (unsigned half = 0; half < 2; half++) {
		char path[JOURNAL_PATH_MAX];
		journal_path(0, half, path);
		disk_put(io, path, "", 0);
		FUZZ_CHECK(sim_truncate_file(io, path, JOURNAL_SOFT_BYTES) == 0, "no journal");
	}
	return io;
}

struct hashing {
	struct io *io;
	const char *dir;
	uint64_t hash;
};

static int hash_cb(const char *name, bool is_dir, void *arg)
{
	struct hashing *hashing = arg;
	char path[IO_PATH_MAX];
	snprintf(path, sizeof(path), "%s%s%s", hashing->dir, hashing->dir[0] ? "/" : "", name);
	if (is_dir) {
		struct hashing inner = {hashing->io, path, fuzz_hash(7, path, strlen(path))};
		(void)sim_list(hashing->io, path, hash_cb, &inner);
		hashing->hash += inner.hash;
		return 0;
	}
	int64_t size = sim_file_size(hashing->io, path);
	/* A journal is large and mostly zeros. */
	size_t len = size > (1 << 19) ? 8192 : (size_t)size;
	uint64_t id;
	/* An index is derived: one whose segment is gone may go as well. */
	if (strcmp(path, LOCK_FILE) == 0 || index_file_parse(name, &id))
		return 0;
	uint8_t *bytes = fuzz_alloc(len);
	(void)sim_read_file(hashing->io, path, 0, bytes, len);
	/* The order of names is nobody's promise. */
	hashing->hash += fuzz_hash(fuzz_hash((uint64_t)size, path, strlen(path)), bytes, len);
	free(bytes);
	return 0;
}

uint64_t disk_hash(struct io *io)
{
	struct hashing hashing = {io, "", 0};
	(void)sim_list(io, "", hash_cb, &hashing);
	return hashing.hash;
}

/* Far more than any of ours puts into one, with what is made ahead. */
#define LONGEST_FILE (INT64_C(4) << 20)

static int length_cb(const char *name, bool is_dir, void *arg)
{
	const struct hashing *outer = arg;
	char path[IO_PATH_MAX];
	snprintf(path, sizeof(path), "%s%s%s", outer->dir, outer->dir[0] ? "/" : "", name);
	if (is_dir) {
		struct hashing inner = {outer->io, path, 0};
		return sim_list(outer->io, path, length_cb, &inner);
	}
	int64_t size = sim_file_size(outer->io, path);
	FUZZ_CHECK(size <= LONGEST_FILE, "a start made %s of %" PRId64 " bytes", path, size);
	return 0;
}

/* What it costs to start, and to read, follows what is there, not what is announced. */
static void check_lengths(struct io *io)
{
	struct hashing outer = {io, "", 0};
	(void)sim_list(io, "", length_cb, &outer);
}

/* ---- starting ---------------------------------------------------------------------------------------------------- */

static void init(struct disk *disk, disk_fill fill, void *arg)
{
	*disk = (struct disk){.io = disk_new()};
	engine_options_default(&disk->options);
	disk->options.shard_count = 1;
	disk->options.max_segment_size = 1 << 20;
	fill(disk->io, arg);
}

static enum error_code start(struct disk *disk, enum corruption_policy policy)
{
	const struct engine_hooks hooks = {.no_threads = true};
	struct error err = {0};
	disk->options.on_corruption = policy;
	int r = engine_open(disk->io, &disk->options, &hooks, &disk->engine, &err);
	check_lengths(disk->io);
	if (r == 0)
		return ERR_NONE;
	disk->engine = NULL;
	FUZZ_CHECK(err.code != ERR_NONE && err.message[0] != '\0', "refused without a reason");
	if (getenv("FUZZ_LOG") != NULL)
		fprintf(stderr, "refused: %s: %s\n", error_code_name(err.code), err.message);
	FUZZ_CHECK(sim_open_count(disk->io) == 0, "a start that was refused leaves files open");
	return err.code;
}

static void die(struct disk *disk)
{
	engine_abandon(disk->engine);
	disk->engine = NULL;
	FUZZ_CHECK(sim_open_count(disk->io) == 0, "files are left open");
	sim_process_died(disk->io);
}

void disk_run(struct engine *engine)
{
	bool worked = true;
	engine_kick(engine);
	while (worked) {
		worked = false;
		for (unsigned i = 0; i < engine_step_count(engine); i++)
			worked |= engine_step(engine, i);
	}
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

struct reading {
	struct whole_frames *frames;
	const char *dir;
	uint64_t next;
	uint64_t hash, entries;
};

static int entry_cb(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	struct reading *reading = arg;
	FUZZ_CHECK(id == reading->next, "entry %" PRIu64 " comes in the place of %" PRIu64, id, reading->next);
	reading->next = id + 1;
	FUZZ_CHECK(whole_frames_have(reading->frames, reading->dir, id, bytes, len),
		"entry %" PRIu64 " of %zu bytes stands in no whole frame", id, len);
	reading->hash = fuzz_hash(reading->hash ^ id, bytes, len);
	reading->entries++;
	return 0;
}

/* All that can be read, and what is answered where nothing can. */
static void read_all(
	struct disk *disk, struct stream *stream, struct reading *reading, uint64_t tail, uint64_t *ret_damage)
{
	struct stream_view view = stream_view(stream);
	uint64_t at = view.first;
	while (at < view.end) {
		struct error err = {0};
		uint64_t next = 0;
		reading->next = at;
		enum read_result result =
			engine_read(disk->engine, stream, view, at, view.end, false, entry_cb, reading, &next, &err);
		FUZZ_CHECK(
			next == reading->next, "it delivered up to %" PRIu64 " and says %" PRIu64, reading->next, next);
		if (result == READ_DONE) {
			FUZZ_CHECK(next == view.end, "it ends at %" PRIu64 ", before its end %" PRIu64, next, view.end);
			return;
		}
		FUZZ_CHECK(result == READ_ERROR && err.code != ERR_NONE && err.code != ERR_IO, "%s at %" PRIu64 ": %s",
			error_code_name(err.code), next, err.message);
		/* A start has looked at each block of the newest segment. */
		FUZZ_CHECK(
			!disk->tail_is_whole || next < tail, "what a start has accepted is damaged at %" PRIu64, next);
		(*ret_damage)++;
		reading->hash = fuzz_hash(reading->hash ^ next, &err.code, sizeof(err.code));
		if (!error_has(&err, EFI_FIRST_ID))
			return;
		FUZZ_CHECK(err.first_id > next, "reading goes on at %" PRIu64 ", which is not behind %" PRIu64,
			err.first_id, next);
		at = err.first_id;
	}
}

struct looking {
	struct disk *disk;
	struct state *state;
	struct whole_frames *frames;
};

/* Where the newest segment begins. One that nothing was written to is judged, too, and is none of the stream's. */
static uint64_t judged_from(struct io *io, const char *dir, const struct stream_info *info)
{
	char path[NAMES_DIR_MAX + NAMES_FILE_MAX], file[NAMES_FILE_MAX];
	segment_file_name(info->end, file);
	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return io->ops->exists(io, path) == 1 ? info->end : info->active_start;
}

static void look_at_stream(struct stream *stream, void *arg)
{
	struct looking *looking = arg;
	struct state *state = looking->state;
	struct stream_view view = stream_view(stream);
	struct stream_info info;
	size_t len;
	char dir[NAMES_DIR_MAX];
	const char *name = stream_name(stream, &len);
	FUZZ_CHECK(dirname_from_name(name, len, dir) >= 0, "a stream without a name");
	engine_stream_info(looking->disk->engine, stream, &info);
	if (!looking->disk->forged) {
		FUZZ_CHECK(info.first == view.first && info.end == view.end && info.first <= info.end &&
				   info.durable_end == info.end,
			"a stream of [%" PRIu64 ", %" PRIu64 "), durable up to %" PRIu64, info.first, info.end,
			info.durable_end);
		FUZZ_CHECK(info.active_start <= info.end, "its last segment begins behind its end");
	}
	struct reading reading = {.frames = looking->frames, .dir = dir};
	reading.hash = fuzz_hash(info.first * 31 + info.end, name, len);
	read_all(looking->disk, stream, &reading, judged_from(looking->disk->io, dir, &info), &state->damage);
	state->hash += reading.hash; /* whatever their order */
	state->entries += reading.entries;
	FUZZ_CHECK(state->count < STREAMS_MAX, "too many streams for the fuzzer");
	state->streams[state->count].stream = stream;
	state->streams[state->count].first = view.first;
	state->streams[state->count++].end = view.end;
}

static void look(struct disk *disk, struct state *state)
{
	struct looking looking = {disk, state, whole_frames_find(disk->io)};
	*state = (struct state){.count = 0};
	(void)engine_list(disk->engine, "", 0, NULL, 0, SIZE_MAX, look_at_stream, &looking);
	whole_frames_free(looking.frames);
}

static void check_same(const struct state *before, struct disk *disk, const char *when)
{
	struct state state;
	look(disk, &state);
	FUZZ_CHECK(state.count == before->count && state.entries == before->entries && state.hash == before->hash,
		"%s: %u streams, %" PRIu64 " entries and %" PRIu64 " damaged places were %u, %" PRIu64 " and %" PRIu64
		", or are others",
		when, state.count, state.entries, state.damage, before->count, before->entries, before->damage);
}

static void start_again(struct disk *disk, const char *when)
{
	enum error_code code = start(disk, ON_CORRUPTION_ERROR);
	FUZZ_CHECK(code == ERR_NONE, "%s: refused with %s", when, error_code_name(code));
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static const uint8_t new_entry[] = "an entry that was appended";

static void rewind_cb(struct entry_source *source)
{
	(void)source;
}

static void next_cb(struct entry_source *source, const uint8_t **ret_bytes, size_t *ret_len)
{
	(void)source;
	*ret_bytes = new_entry;
	*ret_len = sizeof(new_entry);
}

/* No stream comes to so many ids, but for one whose files say so. */
#define IDS_MAX (UINT64_C(1) << 62)

/* Each stream takes an entry, at its end. */
static void append_to_all(struct disk *disk, const struct state *state)
{
	for (unsigned i = 0; i <= state->count; i++) {
		struct entry_source source = {1, sizeof(new_entry), rewind_cb, next_cb};
		struct op op = {.kind = OP_APPEND, .source = &source};
		struct error err;
		size_t len = 9;
		const char *name = i < state->count ? stream_name(state->streams[i].stream, &len) : "brand new";
		uint64_t end = i < state->count ? state->streams[i].end : 0;
		if (end > IDS_MAX)
			continue;
		FUZZ_CHECK(engine_submit(disk->engine, &op, name, len, &err) == 0, "%s", err.message);
		disk_run(disk->engine);
		FUZZ_CHECK(engine_take(disk->engine) == &op, "it does not come back");
		FUZZ_CHECK(op.error == NULL, "append: %s", op.error->message);
		FUZZ_CHECK(op.first == end && op.end == end + 1 && op.durable,
			"the end was %" PRIu64 ", and it got %" PRIu64, end, op.first);
	}
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

/* It is started on files that lie: it is read, written, stopped and started again. */
static void bear(struct disk *disk)
{
	struct state state;
	struct error err;
	look(disk, &state);
	die(disk);
	if (start(disk, ON_CORRUPTION_TRUNCATE) != ERR_NONE)
		return;
	look(disk, &state);
	(void)engine_close(disk->engine, &err);
	if (start(disk, ON_CORRUPTION_TRUNCATE) != ERR_NONE)
		return;
	look(disk, &state);
	die(disk);
}

/* It is started. */
static void settle(struct disk *disk, struct state *ret_state)
{
	struct state state;
	struct error err;
	look(disk, ret_state);
	die(disk);
	disk->options.read_strategy = READ_STANDARD_IO;
	start_again(disk, "after a death");
	check_same(ret_state, disk, "after a death");
	engine_abandon(disk->engine);
	sim_power_on(disk->io, SIM_LOSE_ALL);
	start_again(disk, "after a power cut");
	check_same(ret_state, disk, "after a power cut");
	look(disk, &state); /* its streams are this engine's */
	append_to_all(disk, &state);
	look(disk, &state);
	FUZZ_CHECK(state.entries > ret_state->entries, "nothing was appended");
	FUZZ_CHECK(engine_close(disk->engine, &err) == 0, "close: %s", err.message);
	disk->engine = NULL;
	start_again(disk, "after a clean stop");
	check_same(&state, disk, "after a clean stop");
	die(disk);
	start_again(disk, "after a death behind a clean stop");
	check_same(&state, disk, "after a death behind a clean stop");
	die(disk);
}

void disk_trial(disk_fill fill, void *arg, unsigned flags)
{
	struct disk disk;
	struct state state, other;
	init(&disk, fill, arg);
	disk.forged = flags & DISK_FORGED;
	disk.tail_is_whole = (flags & DISK_TAIL_IS_WHOLE) && !disk.forged;
	disk.options.read_strategy = flags & DISK_MMAP ? READ_MMAP : READ_STANDARD_IO;
	uint64_t files = disk_hash(disk.io);
	bool refused = start(&disk, ON_CORRUPTION_ERROR) != ERR_NONE;
	FUZZ_CHECK(refused || !(flags & DISK_ROT), "rot is taken for a torn end");
	if (refused && (flags & DISK_KEEPS_REFUSED))
		FUZZ_CHECK(disk_hash(disk.io) == files, "it was refused, and something is changed");
	bool started = !refused || start(&disk, ON_CORRUPTION_TRUNCATE) == ERR_NONE;
	FUZZ_CHECK(started || (flags & DISK_FORGED), "damage is refused under on_corruption = truncate, too");
	if (started && (flags & DISK_FORGED))
		bear(&disk);
	else if (started)
		settle(&disk, &state);
	sim_free(disk.io);
	if (refused || (flags & DISK_FORGED) || !(flags & DISK_BOTH))
		return;
	init(&disk, fill, arg);
	FUZZ_CHECK(start(&disk, ON_CORRUPTION_TRUNCATE) == ERR_NONE, "no damage, and yet refused");
	look(&disk, &other);
	FUZZ_CHECK(other.hash == state.hash && other.count == state.count, "no damage, and the policies differ");
	die(&disk);
	sim_free(disk.io);
}
