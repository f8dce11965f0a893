/* What lies in the directory beside the log: set aside, derived, left over, foreign. And the manifest's text. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "checkpoint_log.h"
#include "crc32c.h"
#include "journal.h"
#include "spare.h"

/* ---- the manifest ----------------------------------------------------------------------------------------------- */

/* The engine reads what it needs of it; here every byte counts. */
int check_manifest(struct check *check, struct error *err)
{
	struct io *io = check->below;
	struct io_file *file;
	char text[512], wanted[512];
	unsigned version, shard_count;
	uint64_t created_ns;
	int r = io->ops->open(io, MANIFEST_PATH, IO_READ, &file);
	ssize_t got = r == 0 ? io->ops->pread(file, text, sizeof(text) - 1, 0, 0) : r;
	if (r == 0)
		io->ops->close(file);
	if (got < 0)
		return error_set_io(err, (int)-got, "read", MANIFEST_PATH);
	text[got] = '\0';
	int len = 0;
	if (sscanf(text, "ironwald data directory\nversion %u\nshard_count %u\ncreated_ns %" SCNu64, &version,
		    &shard_count, &created_ns) == 3) {
		len = snprintf(wanted, sizeof(wanted),
			"ironwald data directory\nversion %u\nshard_count %u\ncreated_ns %" PRIu64 "\n", version,
			shard_count, created_ns);
		len += snprintf(
			wanted + len, sizeof(wanted) - (size_t)len, "check %08x\n", crc32c(0, wanted, (size_t)len));
	}
	if (len != got || memcmp(text, wanted, (size_t)got) != 0)
		report_add(check->report, &(struct finding){SEVERITY_DAMAGE, "manifest", .file = MANIFEST_PATH,
						  .text = "its text is not as it was written; restore it from a copy"});
	return 0;
}

/* ---- names ------------------------------------------------------------------------------------------------------ */

static void note(struct check *check, const struct stream *stream, const char *dir, const char *name, const char *kind,
	const char *text)
{
	char path[600];
	snprintf(path, sizeof(path), "%s%s%s", dir, dir[0] ? "/" : "", name);
	const struct finding finding = {
		.severity = SEVERITY_NOTE,
		.kind = kind,
		.stream = stream ? stream->name : NULL,
		.stream_len = stream ? stream->name_len : 0,
		.file = path,
		.text = text,
	};
	/* What this recovery has just made was told when it was. */
	if (check_was_there(check, path))
		report_add(check->report, &finding);
}

static bool ends_in(const char *name, const char *ending)
{
	size_t len = strlen(name), ending_len = strlen(ending);
	return len >= ending_len && strcmp(name + len - ending_len, ending) == 0;
}

struct in_stream {
	struct check *check;
	const struct stream *stream;
};

static bool is_listed(const struct stream *stream, uint64_t first_id, bool cut, uint64_t salt)
{
	uint32_t low = 0, high = stream->segment_count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (stream->segments[middle]->first_id < first_id)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < stream->segment_count && stream->segments[low]->first_id == first_id; low++)
		if (stream->segments[low]->cut == cut && (!cut || stream->segments[low]->salt == salt))
			return true;
	return false;
}

static int stream_cb(const char *name, bool is_dir, void *arg)
{
	const struct in_stream *in = arg;
	const struct stream *stream = in->stream;
	uint64_t first_id, end_id, salt;
	if (is_dir)
		note(in->check, stream, stream->dir, name, "foreign", "a directory that is none of ironwald's");
	else if (index_file_parse(name, &first_id))
		return 0;
	else if (segment_file_parse(name, &first_id)) {
		if (!is_listed(stream, first_id, false, 0))
			note(in->check, stream, stream->dir, name, "stray", "a segment that is no part of the log");
	} else if (cut_file_parse(name, &first_id, &end_id, &salt)) {
		if (is_listed(stream, first_id, true, salt))
			note(in->check, stream, stream->dir, name, "set_aside",
				"it was set aside by a start, or made by a repair, and is read up to its end");
		else
			note(in->check, stream, stream->dir, name, "set_aside",
				"it was set aside by a start, and is no part of the log any more");
	} else if (strstr(name, ".torn"))
		note(in->check, stream, stream->dir, name, "set_aside",
			"a torn tail that a start set aside; its ids were given again");
	else if (ends_in(name, ".cut.new"))
		note(in->check, stream, stream->dir, name, "leftover", "left over from a repair that was cut off");
	else
		note(in->check, stream, stream->dir, name, "foreign", "it is none of ironwald's");
	return 0;
}

static const struct stream *stream_of_dir(struct check *check, const char *dir)
{
	char name[NAMES_STREAM_MAX + 1];
	size_t len;
	int kind = name_from_dirname(dir, name, &len);
	if (kind == 1 && recovery_dir_owner(check->engine, dir, name, &len) != 0)
		return NULL;
	const struct stream *stream = stream_table_find(&check->engine->table, name, len, stream_hash(name, len));
	return stream && strcmp(stream->dir, dir) == 0 ? stream : NULL;
}

static void check_root_dir(struct check *check, const char *name)
{
	char stream_name[NAMES_STREAM_MAX + 1];
	size_t len;
	if (strcmp(name, "lost+found") == 0)
		return;
	if (strncmp(name, NAMES_ASIDE, strlen(NAMES_ASIDE)) == 0)
		note(check, NULL, "", name, "set_aside",
			"a directory that a start set aside, as nothing in it tells its stream");
	else if (name_from_dirname(name, stream_name, &len) < 0)
		note(check, NULL, "", name, "foreign", "a directory that is none of ironwald's");
	else if (!stream_of_dir(check, name))
		note(check, NULL, "", name, "no_stream", "a directory in which no entry is: it is no stream");
}

static int root_cb(const char *name, bool is_dir, void *arg)
{
	struct check *check = arg;
	static const char *const own[] = {LOCK_PATH, MANIFEST_PATH, CLEAN_PATH, CHECKPOINT_PATH};
	if (is_dir) {
		check_root_dir(check, name);
		return 0;
	}
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (strcmp(name, own[i]) == 0)
			return 0;
	if (journal_is_path(name) || spare_is_path(name))
		return 0;
	if (strncmp(name, NAMES_OWN_PREFIX, strlen(NAMES_OWN_PREFIX)) == 0 && ends_in(name, ".new"))
		note(check, NULL, "", name, "leftover", "left over from a write that was cut off");
	else
		note(check, NULL, "", name, "foreign", "it is none of ironwald's");
	return 0;
}

int check_names(struct check *check, struct error *err)
{
	struct io *io = check->io;
	struct stream_table *table = &check->engine->table;
	int r = io->ops->list_dir(io, "", root_cb, check);
	if (r != 0)
		return error_set_io(err, -r, "list", "the data directory");
	for (size_t i = 0; i < table->sorted_count; i++) {
		struct in_stream in = {check, table->sorted[i]};
		r = io->ops->list_dir(io, in.stream->dir, stream_cb, &in);
		if (r != 0 && r != -ENOENT)
			return error_set_io(err, -r, "list", in.stream->dir);
	}
	return 0;
}
