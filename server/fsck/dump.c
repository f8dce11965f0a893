#include "dump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "buf.h"
#include "engine_private.h"
#include "journal.h"
#include "overlay.h"

void dump_time(uint64_t ns, char out[40])
{
	time_t seconds = (time_t)(ns / 1000000000);
	struct tm tm;
	char text[24];
	if (!gmtime_r(&seconds, &tm) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
		snprintf(text, sizeof(text), "?");
	snprintf(out, 40, "%s.%09" PRIu64 "Z", text, ns % 1000000000);
}

void dump_damage(struct dump *dump, const char *path, uint64_t offset, const char *text)
{
	dump->damaged = true;
	if (!dump->json) {
		fputs("damage ", dump->out);
		print_escaped(dump->out, path, strlen(path));
		fprintf(dump->out, ": at byte %" PRIu64 ": %s\n", offset, text);
		return;
	}
	json_begin(dump->json);
	json_text(dump->json, "kind", "damage");
	json_text(dump->json, "file", path);
	json_number(dump->json, "offset", offset);
	json_text(dump->json, "text", text);
	json_end(dump->json);
}

/* ---- what there is ---------------------------------------------------------------------------------------------- */

struct names {
	char **items;
	size_t count, cap;
	bool dirs; /* wanted; else files */
};

static int name_cb(const char *name, bool is_dir, void *arg)
{
	struct names *names = arg;
	if (is_dir != names->dirs)
		return 0;
	if (names->count == names->cap) {
		size_t cap = names->cap ? names->cap * 2 : 64;
		char **items = realloc(names->items, sizeof(*items) * cap);
		if (!items)
			return -ENOMEM;
		names->items = items;
		names->cap = cap;
	}
	names->items[names->count] = strdup(name);
	return names->items[names->count] ? (names->count++, 0) : -ENOMEM;
}

static int by_text(const void *left, const void *right)
{
	return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static int list(struct dump *dump, const char *dir, bool dirs, struct names *ret_names)
{
	*ret_names = (struct names){.dirs = dirs};
	int r = dump->io->ops->list_dir(dump->io, dir, name_cb, ret_names);
	if (ret_names->count > 1)
		qsort(ret_names->items, ret_names->count, sizeof(*ret_names->items), by_text);
	return r;
}

static void names_done(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->items[i]);
	free(names->items);
}

static bool is_wanted_file(const struct dump *dump, const char *file)
{
	uint64_t first_id, end_id, salt;
	if (dump->options->segment)
		return strcmp(file, dump->options->segment) == 0;
	return segment_file_parse(file, &first_id) || cut_file_parse(file, &first_id, &end_id, &salt);
}

static int dump_dir(struct dump *dump, const char *dir)
{
	struct names files;
	int r = list(dump, dir, false, &files);
	for (size_t i = 0; r == 0 && i < files.count && dump->left > 0; i++)
		if (is_wanted_file(dump, files.items[i]))
			r = dump_segment(dump, dir, files.items[i]);
	names_done(&files);
	return r;
}

static int dump_streams(struct dump *dump)
{
	char dir[NAMES_DIR_MAX];
	struct names dirs;
	if (dump->options->stream) {
		if (dirname_from_name(dump->options->stream, dump->options->stream_len, dir) < 0)
			return -ENOENT;
		return dump_dir(dump, dir);
	}
	int r = list(dump, "", true, &dirs);
	for (size_t i = 0; r == 0 && i < dirs.count && dump->left > 0; i++) {
		char name[NAMES_STREAM_MAX + 1];
		size_t len;
		if (name_from_dirname(dirs.items[i], name, &len) >= 0 ||
			strncmp(dirs.items[i], NAMES_ASIDE, strlen(NAMES_ASIDE)) == 0)
			r = dump_dir(dump, dirs.items[i]);
	}
	names_done(&dirs);
	return r;
}

static int dump_own(struct dump *dump)
{
	struct names files;
	int r = dump_manifest(dump);
	if (r == 0)
		r = dump_clean_stop(dump);
	if (r == 0)
		r = list(dump, "", false, &files);
	else
		return r;
	for (size_t i = 0; r == 0 && i < files.count; i++)
		if (journal_is_path(files.items[i]))
			r = dump_journal(dump, files.items[i]);
	names_done(&files);
	return r == 0 ? dump_checkpoints(dump) : r;
}

static int dump_all(struct dump *dump)
{
	int r = 0;
	if (!dump->options->stream && !dump->options->segment)
		r = dump_own(dump);
	return r == 0 ? dump_streams(dump) : r;
}

enum fsck_status dump_run(struct io *io, const struct dump_options *options, FILE *out, struct error *err)
{
	struct io *overlay = overlay_new(io); /* its lock makes no file */
	struct dump dump = {.io = io, .options = options, .out = out, .left = options->max};
	struct io_file *lock = NULL;
	int there = io->ops->exists(io, MANIFEST_PATH) == 1 || io->ops->exists(io, LOCK_PATH) == 1;
	int r = overlay ? 0 : -ENOMEM;
	if (r == 0 && there == 0)
		error_set(err, ERR_CONFIG, "there is no %s: not a data directory of ironwald", MANIFEST_PATH);
	if (r == 0 && there == 1)
		r = overlay->ops->lock(overlay, LOCK_PATH, &lock);
	if (r == -EWOULDBLOCK)
		error_set(err, ERR_CONFIG, "the data directory is in use by another process");
	if (r == 0 && there == 1) {
		dump.json = options->json ? json_new(out) : NULL;
		r = dump_all(&dump);
	}
	if (r != 0 && r != -EWOULDBLOCK)
		error_set_io(err, -r, "read", "the data directory");
	json_free(dump.json);
	window_free(&dump.window);
	buf_free(&dump.raw);
	if (lock)
		overlay->ops->unlock(lock);
	overlay_free(overlay);
	if (r != 0 || there != 1)
		return STATUS_FAILED;
	return dump.damaged ? STATUS_DAMAGE : STATUS_CLEAN;
}
