/* The manifest says what the directory is: text, so that a person can read it, with a checksum. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "crc32c.h"
#include "engine_private.h"
#include "io_util.h"

#define MANIFEST_NEW MANIFEST_PATH ".new"
#define MANIFEST_VERSION 1u

static int foreign_cb(const char *name, bool is_dir, void *arg)
{
	(void)is_dir;
	/* What a start that was cut off leaves behind, and what file systems put into their root. */
	if (strcmp(name, LOCK_PATH) == 0 || strcmp(name, MANIFEST_NEW) == 0 || strcmp(name, "lost+found") == 0)
		return 0;
	snprintf(arg, 256, "%s", name);
	return 1;
}

int manifest_refuse_foreign(struct engine *engine, struct error *err)
{
	struct io *io = engine->io;
	char found[256];
	int r = io->ops->exists(io, MANIFEST_PATH);
	if (r == 0)
		r = io->ops->list_dir(io, "", foreign_cb, found);
	else if (r == 1)
		return 0;
	if (r == 1)
		return error_set(err, ERR_CONFIG,
			"the data directory has no %s but holds \"%.100s\": not a directory of ironwald; choose an "
			"empty one",
			MANIFEST_PATH, found);
	return r == 0 ? 0 : error_set_io(err, -r, "list", "the data directory");
}

static int make(struct engine *engine, struct error *err)
{
	struct io *io = engine->io;
	char text[256];
	if (manifest_refuse_foreign(engine, err) != 0)
		return -1;
	int len = snprintf(text, sizeof(text),
		"ironwald data directory\nversion %u\nshard_count %u\ncreated_ns %" PRIu64 "\n", MANIFEST_VERSION,
		engine->options.shard_count, io->ops->wall_ns(io));
	len += snprintf(text + len, sizeof(text) - (size_t)len, "check %08x\n", crc32c(0, text, (size_t)len));
	int r = io_replace_file(io, MANIFEST_PATH, MANIFEST_NEW, text, (size_t)len);
	return r == 0 ? 0 : error_set_io(err, -r, "make", MANIFEST_PATH);
}

static int damaged(struct error *err, const char *why)
{
	error_set(err, ERR_CORRUPTION,
		"%s is damaged (%s): restore it from a copy; it says format version and shard count", MANIFEST_PATH,
		why);
	error_set_text(err, EFI_STREAM, "", 0);
	error_set_text(err, EFI_SEGMENT, MANIFEST_PATH, strlen(MANIFEST_PATH));
	error_set_u64(err, EFI_OFFSET, 0);
	error_set_u64(err, EFI_ID, 0);
	return -1;
}

static int check(struct engine *engine, char *text, struct error *err)
{
	unsigned version, shard_count, crc;
	char *check_line = strstr(text, "check ");
	if (sscanf(text, "ironwald data directory\nversion %u\n", &version) != 1)
		return damaged(err, "it does not begin as it should");
	if (!check_line || sscanf(check_line, "check %8x\n", &crc) != 1 ||
		crc != crc32c(0, text, (size_t)(check_line - text)))
		return damaged(err, "its checksum is wrong");
	if (version != MANIFEST_VERSION)
		return error_set(err, ERR_CONFIG,
			"the data directory has format version %u; this program serves version %u", version,
			MANIFEST_VERSION);
	if (sscanf(text, "ironwald data directory\nversion %*u\nshard_count %u\n", &shard_count) != 1)
		return damaged(err, "it has no shard_count");
	if (shard_count != engine->options.shard_count) {
		error_set(err, ERR_SHARD_COUNT_MISMATCH,
			"the data directory was made with shard_count %u, the configuration says %u; it cannot be "
			"changed: set it back",
			shard_count, engine->options.shard_count);
		error_set_u64(err, EFI_EXPECTED, engine->options.shard_count);
		error_set_u64(err, EFI_FOUND, shard_count);
		return -1;
	}
	return 0;
}

int manifest_check(struct engine *engine, bool *ret_fresh, struct error *err)
{
	struct io *io = engine->io;
	struct io_file *file;
	int r = io->ops->open(io, MANIFEST_PATH, IO_READ, &file);
	*ret_fresh = r == -ENOENT;
	if (r == -ENOENT)
		return make(engine, err);
	if (r != 0)
		return error_set_io(err, -r, "open", MANIFEST_PATH);
	char text[512];
	ssize_t got = io->ops->pread(file, text, sizeof(text) - 1, 0, 0);
	io->ops->close(file);
	if (got < 0)
		return error_set_io(err, (int)-got, "read", MANIFEST_PATH);
	text[got] = '\0';
	return check(engine, text, err);
}
