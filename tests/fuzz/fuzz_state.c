/*
 * fuzz_state: the record of a clean stop and the manifest, of a directory that an engine has left, changed; and the
 * engine that starts on them (disk.h says what is checked).
 *
 * Input: how; then changes, each to one of the two files, with its checksum made right again or not.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "disk.h"
#include "fuzz.h"
#include "names.h"

#define CLEAN_FILE NAMES_OWN_PREFIX "clean"
#define MANIFEST_FILE NAMES_OWN_PREFIX "manifest"
#define FILES_MAX 64
#define CHANGED_MAX 8192

static struct {
	char path[IO_PATH_MAX];
	uint8_t *bytes;
	size_t len;
} files[FILES_MAX];
static unsigned file_count;

struct changed {
	uint8_t bytes[CHANGED_MAX];
	size_t len;
	bool gone;
};

struct world {
	struct changed clean, manifest;
};

/* ---- a directory that was stopped -------------------------------------------------------------------------------- */

struct walking {
	struct io *io;
	const char *dir;
};

static int walk_cb(const char *name, bool is_dir, void *arg)
{
	struct walking *walking = arg;
	char path[IO_PATH_MAX];
	snprintf(path, sizeof(path), "%s%s%s", walking->dir, walking->dir[0] ? "/" : "", name);
	if (is_dir) {
		struct walking inner = {walking->io, path};
		return sim_list(walking->io, path, walk_cb, &inner);
	}
	int64_t size = sim_file_size(walking->io, path);
	if (strstr(name, "journal") != NULL || strstr(name, "lock") != NULL)
		return 0; /* a disk that is new has those */
	FUZZ_CHECK(file_count < FILES_MAX && size >= 0, "too many files");
	snprintf(files[file_count].path, sizeof(files[file_count].path), "%s", path);
	files[file_count].bytes = fuzz_alloc((size_t)size);
	files[file_count].len = (size_t)size;
	FUZZ_CHECK(sim_read_file(walking->io, path, 0, files[file_count].bytes, (size_t)size) == 0, "unreadable");
	file_count++;
	return 0;
}

static uint8_t entry[120];

static void rewind_cb(struct entry_source *source)
{
	(void)source;
}

static void next_cb(struct entry_source *source, const uint8_t **ret_bytes, size_t *ret_len)
{
	(void)source;
	*ret_bytes = entry;
	*ret_len = sizeof(entry);
}

static void run_op(struct engine *engine, struct op *op, const char *name)
{
	struct error err;
	FUZZ_CHECK(engine_submit(engine, op, name, strlen(name), &err) == 0, "%s", err.message);
	disk_run(engine);
	FUZZ_CHECK(engine_take(engine) == op && op->error == NULL, "it failed");
}

/* Streams with one segment, with several, with the first ones truncated away, and one of a long name. */
static void make_files(void)
{
	char long_name[231];
	memset(long_name, '~', 230);
	long_name[230] = '\0';
	const char *names[] = {"a", "b", "shard_00", long_name};
	struct io *io = disk_new();
	struct engine_options options;
	struct engine_hooks hooks = {.no_threads = true};
	struct engine *engine;
	struct error err;
	engine_options_default(&options);
	options.shard_count = 1;
	options.max_segment_size = 500;
	FUZZ_CHECK(engine_open(io, &options, &hooks, &engine, &err) == 0, "%s", err.message);
	for (unsigned i = 0; i < 4; i++)
		for (unsigned n = 0; n < 1 + 5 * i; n++) {
			struct entry_source source = {1, sizeof(entry), rewind_cb, next_cb};
			struct op op = {.kind = OP_APPEND, .source = &source};
			memset(entry, (int)('a' + n), sizeof(entry));
			run_op(engine, &op, names[i]);
		}
	struct op truncate = {.kind = OP_TRUNCATE, .safe_id = 5};
	run_op(engine, &truncate, "shard_00");
	FUZZ_CHECK(engine_close(engine, &err) == 0, "%s", err.message);
	struct walking walking = {io, ""};
	FUZZ_CHECK(sim_list(io, "", walk_cb, &walking) == 0, "no files");
	sim_free(io);
}

static void load(struct changed *changed, const char *path)
{
	changed->gone = false;
	changed->len = 0;
	for (unsigned i = 0; i < file_count; i++)
		if (strcmp(files[i].path, path) == 0) {
			FUZZ_CHECK(files[i].len <= CHANGED_MAX - 256, "a file is too long");
			memcpy(changed->bytes, files[i].bytes, files[i].len);
			changed->len = files[i].len;
		}
	FUZZ_CHECK(changed->len > 0, "%s is missing", path);
}

static void fill(struct io *io, void *arg)
{
	struct world *world = arg;
	for (unsigned i = 0; i < file_count; i++) {
		struct changed *changed = strcmp(files[i].path, CLEAN_FILE) == 0      ? &world->clean
					  : strcmp(files[i].path, MANIFEST_FILE) == 0 ? &world->manifest
										      : NULL;
		if (changed == NULL)
			disk_put(io, files[i].path, files[i].bytes, files[i].len);
		else if (!changed->gone)
			disk_put(io, files[i].path, changed->bytes, changed->len);
		else
			(void)sim_remove_file(io, files[i].path);
	}
}

/* ---- changing ---------------------------------------------------------------------------------------------------- */

/* data[at, at + old) becomes the bytes. */
static void splice(struct changed *changed, size_t at, size_t old, const uint8_t *bytes, size_t len)
{
	if (at > changed->len || old > changed->len - at || changed->len - old + len > CHANGED_MAX)
		return;
	memmove(changed->bytes + at + len, changed->bytes + at + old, changed->len - at - old);
	if (len > 0)
		memcpy(changed->bytes + at, bytes, len);
	changed->len = changed->len - old + len;
}

static void change(struct changed *changed, struct fuzz_in *in)
{
	uint8_t how = fuzz_u8(in);
	size_t at = changed->len > 0 ? fuzz_uint(in, 2) % changed->len : 0, len;
	const uint8_t *bytes;
	switch (how % 7) {
	case 0:
		if (changed->len > 0)
			changed->bytes[at] ^= (uint8_t)(1u << how / 7 % 8);
		break;
	case 1: /* over what stands there */
		bytes = fuzz_take(in, 1 + how / 7 % 16, &len);
		splice(changed, at, len < changed->len - at ? len : changed->len - at, bytes, len);
		break;
	case 2: { /* a number */
		uint8_t number[8];
		fuzz_put64(number, fuzz_number(in));
		splice(changed, at & ~(size_t)3, changed->len - at >= 8 ? 8 : 0, number, 8);
		break;
	}
	case 3:
		bytes = fuzz_take(in, 1 + how / 7, &len);
		splice(changed, at, 0, bytes, len);
		break;
	case 4:
		len = 1 + fuzz_u8(in);
		splice(changed, at, len < changed->len - at ? len : changed->len - at, NULL, 0);
		break;
	case 5: { /* a part of it twice */
		uint8_t copy[256];
		len = 1 + fuzz_u8(in) % sizeof(copy);
		len = len < changed->len - at ? len : changed->len - at;
		memcpy(copy, changed->bytes + at, len);
		splice(changed, fuzz_uint(in, 2) % (changed->len + 1), 0, copy, len);
		break;
	}
	default:
		changed->gone = how / 7 % 8 == 0;
		changed->len = changed->gone ? changed->len : at;
		break;
	}
}

static void fix_clean(struct changed *clean)
{
	if (clean->len >= 4)
		fuzz_put32(clean->bytes + clean->len - 4, crc32c(0, clean->bytes, clean->len - 4));
}

static void fix_manifest(struct changed *manifest)
{
	char line[32];
	manifest->bytes[manifest->len < CHANGED_MAX ? manifest->len : CHANGED_MAX - 1] = '\0';
	const char *text = (const char *)manifest->bytes, *check = strstr(text, "check ");
	if (check == NULL)
		return;
	size_t at = (size_t)(check - text);
	int len = snprintf(line, sizeof(line), "check %08x\n", crc32c(0, text, at));
	manifest->len = at;
	splice(manifest, at, 0, (const uint8_t *)line, (size_t)len);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_quiet();
	make_files();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world world;
	struct fuzz_in in = {data, data + size};
	uint8_t how = fuzz_u8(&in);
	load(&world.clean, CLEAN_FILE);
	load(&world.manifest, MANIFEST_FILE);
	bool manifest = false;
	while (fuzz_more(&in)) {
		bool this_one = how & 1 || (how & 2 && fuzz_u8(&in) % 2 == 0);
		manifest |= this_one;
		change(this_one ? &world.manifest : &world.clean, &in);
	}
	if (how & 4)
		fix_clean(&world.clean);
	if (how & 8)
		fix_manifest(&world.manifest);
	/* A manifest that is damaged is refused, always; a record that is damaged is not looked at. */
	disk_trial(fill, &world,
		(how & 16 ? DISK_MMAP : 0) | (how & 4 || manifest ? DISK_FORGED : DISK_BOTH) |
			(how & 4 ? 0 : DISK_KEEPS_REFUSED));
	return 0;
}
