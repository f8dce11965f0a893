/*
 * recovery: from a directory to streams that can be served.
 *
 *   1  the clean-stop record, if there is one, gives all streams at once
 *   2  else the journals are applied to the segments: only afterwards the segments are judged
 *   3  every directory that the record does not name is listed; the newest segment's end is judged (recovery_tail.c)
 *   4  what was accepted without being known to be durable has been written again; a sync makes it so, names included,
 *      most of it while other streams are still looked at (recovery_sync.h)
 *   5  the clean-stop record is removed, durably; journals are emptied (engine.c) before anything is served
 * Doing it twice changes nothing: every step either leaves things as they are or comes to the same end again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "log.h"
#include "recovery_sync.h"
#include "spare.h"
#include "writer.h"

/* With so many streams or fewer, a clean start looks at the ends of all of them too. */
#define CLEAN_VERIFY_MAX 4096u

/* One behind the other, each with its NUL. */
struct names {
	struct buf text;
	size_t count;
};

static int names_add(struct names *names, const char *name)
{
	if (buf_append(&names->text, name, strlen(name) + 1) != 0)
		return -ENOMEM;
	names->count++;
	return 0;
}

/* at: NULL for the first. NULL: there are no more. */
static const char *names_next(const struct names *names, const char *at)
{
	const char *begin = (const char *)names->text.data, *next = at ? at + strlen(at) + 1 : begin;
	return names->count > 0 && next < begin + names->text.len ? next : NULL;
}

static bool cancelled(struct engine *engine, struct error *err)
{
	if (!engine->hooks.cancelled || !engine->hooks.cancelled(engine->hooks.cancelled_arg))
		return false;
	error_set(err, ERR_SHUTTING_DOWN, "stopped during recovery; nothing is lost, the next start begins it again");
	return true;
}

static void tell_progress(const struct engine *engine, size_t done, size_t total)
{
	if (engine->hooks.progress_cb)
		engine->hooks.progress_cb(done, total, engine->hooks.progress_arg);
}

struct stream *recovered_stream(struct engine *engine, const char *name, size_t len, struct error *err)
{
	uint64_t hash = stream_hash(name, len);
	struct stream *stream = engine_new_stream(engine, name, len, hash);
	if (!stream || stream_table_add(&engine->table, stream) != 0) {
		stream_free(stream, NULL);
		error_set_io(err, ENOMEM, "load streams", "");
		return NULL;
	}
	stream->dir_made = stream->dir_durable = true;
	return stream;
}

/* ---- one stream's directory ------------------------------------------------------------------------------------- */

struct found {
	uint64_t first_id, end_id, salt;
	bool cut;
};

struct listing {
	struct found *items;
	size_t count, cap;
	uint64_t *indexes; /* first ids */
	size_t index_count, index_cap;
};

static int listing_add_index(struct listing *listing, uint64_t first_id)
{
	if (listing->index_count == listing->index_cap) {
		size_t cap = listing->index_cap ? listing->index_cap * 2 : 8;
		uint64_t *indexes = realloc(listing->indexes, sizeof(*indexes) * cap);
		if (!indexes)
			return -ENOMEM;
		listing->indexes = indexes;
		listing->index_cap = cap;
	}
	listing->indexes[listing->index_count++] = first_id;
	return 0;
}

static int listing_cb(const char *name, bool is_dir, void *arg)
{
	struct listing *listing = arg;
	struct found found = {0};
	if (is_dir)
		return 0;
	if (index_file_parse(name, &found.first_id))
		return listing_add_index(listing, found.first_id);
	if (cut_file_parse(name, &found.first_id, &found.end_id, &found.salt))
		found.cut = true;
	else if (!segment_file_parse(name, &found.first_id))
		return 0;
	if (listing->count == listing->cap) {
		size_t cap = listing->cap ? listing->cap * 2 : 8;
		struct found *items = realloc(listing->items, sizeof(*items) * cap);
		if (!items)
			return -ENOMEM;
		listing->items = items;
		listing->cap = cap;
	}
	listing->items[listing->count++] = found;
	return 0;
}

static int by_first_id(const void *left, const void *right)
{
	const struct found *a = left, *b = right;
	if (a->first_id != b->first_id)
		return a->first_id < b->first_id ? -1 : 1;
	return (int)b->cut - (int)a->cut;
}

static void listing_free(struct listing *listing)
{
	free(listing->items);
	free(listing->indexes);
}

static int by_number(const void *left, const void *right)
{
	const uint64_t *a = left, *b = right;
	return (*a > *b) - (*a < *b);
}

/* The segment of such an index was deleted, and the power went before the index was. Nothing depends on it. */
static void remove_stray_indexes(struct engine *engine, const char *dir, struct listing *listing)
{
	size_t at = 0;
	if (listing->index_count > 1)
		qsort(listing->indexes, listing->index_count, sizeof(*listing->indexes), by_number);
	for (size_t i = 0; i < listing->index_count; i++) {
		char path[SEGMENT_PATH_MAX], file[NAMES_FILE_MAX];
		while (at < listing->count &&
			(listing->items[at].cut || listing->items[at].first_id < listing->indexes[i]))
			at++;
		if (at < listing->count && listing->items[at].first_id == listing->indexes[i])
			continue;
		index_file_name(listing->indexes[i], file);
		snprintf(path, sizeof(path), "%s/%s", dir, file);
		(void)engine->io->ops->unlink(engine->io, path);
	}
}

/* A name that is hashed stands in full in every segment's header. 1: there is nothing that could; 2: there is, and it
 * does not. */
static int name_from_header(struct engine *engine, const char *dir, const struct listing *listing,
	char name[NAMES_STREAM_MAX + 1], size_t *ret_len)
{
	struct io *io = engine->io;
	bool damaged = false;
	for (size_t i = 0; i < listing->count; i++) {
		char path[SEGMENT_PATH_MAX], file[NAMES_FILE_MAX];
		if (listing->items[i].cut)
			cut_file_name(
				listing->items[i].first_id, listing->items[i].end_id, listing->items[i].salt, file);
		else
			segment_file_name(listing->items[i].first_id, file);
		size_t dir_len = strlen(dir);
		memcpy(path, dir, dir_len);
		path[dir_len] = '/';
		memcpy(path + dir_len + 1, file, strlen(file) + 1);
		struct io_file *opened;
		int r = io->ops->open(io, path, IO_READ, &opened);
		if (r != 0)
			return r;
		uint8_t bytes[SEGMENT_HEADER_MAX];
		struct segment_header header;
		ssize_t got = io->ops->pread(opened, bytes, sizeof(bytes), 0, 0);
		io->ops->close(opened);
		static const uint8_t zeros[SEGMENT_HEADER_MAX];
		damaged |= got == sizeof(bytes) && memcmp(bytes, zeros, sizeof(bytes)) != 0;
		if (got > 0 && segment_header_decode(bytes, (size_t)got, &header) == HEADER_OK) {
			memcpy(name, header.name, header.name_len);
			name[header.name_len] = '\0';
			*ret_len = header.name_len;
			return 0;
		}
	}
	return damaged ? 2 : 1;
}

int recovery_dir_owner(struct engine *engine, const char *dir, char name[NAMES_STREAM_MAX + 1], size_t *ret_len)
{
	struct listing listing = {0};
	int r = engine->io->ops->list_dir(engine->io, dir, listing_cb, &listing);
	if (r == 0)
		r = name_from_header(engine, dir, &listing, name, ret_len);
	listing_free(&listing);
	return r;
}

static int sealed_size(struct engine *engine, struct segment *segment)
{
	char path[SEGMENT_PATH_MAX];
	segment_path(segment, path);
	struct io_file *file;
	int r = engine->io->ops->open(engine->io, path, IO_READ, &file);
	if (r == 0) {
		r = engine->io->ops->size(file, &segment->data_end);
		engine->io->ops->close(file);
	}
	return r;
}

/* Everything but the last .wal is sealed; its end is the beginning of what follows. */
static int add_segments(struct engine *engine, struct stream *stream, const struct listing *listing, struct error *err)
{
	for (size_t i = 0; i < listing->count; i++) {
		const struct found *found = &listing->items[i];
		bool hole = i + 1 < listing->count && listing->items[i + 1].first_id > found->first_id;
		if (found->cut && found->end_id <= found->first_id && !hole)
			continue; /* nothing of it is good, and all its ids were given again */
		struct segment *segment = segment_new(stream, found->first_id);
		if (!segment || stream_reserve_segment(stream) != 0) {
			segment_unref(segment, NULL);
			return error_set_io(err, ENOMEM, "load stream", stream->dir);
		}
		stream_push_segment(stream, segment);
		segment->cut = found->cut;
		segment->salt = found->salt;
		bool last = i + 1 == listing->count;
		segment->end_id = found->cut ? found->end_id : last ? found->first_id : listing->items[i + 1].first_id;
		segment->sealed = found->cut || !last;
		int r = segment->sealed ? sealed_size(engine, segment) : 0;
		if (r != 0)
			return error_set_io(err, -r, "look at a segment of", stream->dir);
		if (!segment->sealed)
			stream->tail = (struct tail){.segment = segment, .name_durable = true};
		if (segment->end_id > stream->next_id)
			stream->next_id = segment->end_id;
	}
	return 0;
}

/* Whole files of nothing: the stream never was. Its leftovers go, so far as they can. */
static void forget_stream(struct engine *engine, struct stream *stream)
{
	stream_table_remove(&engine->table, stream);
	(void)engine->io->ops->rmdir(engine->io, stream->dir);
	stream_free(stream, engine->open_cache);
}

void recovery_show(struct engine *engine, struct stream *stream)
{
	stream->loop_first = stream->segments[0]->first_id;
	stream->loop_end = stream->next_id;
	atomic_store(&stream->durable_end, stream->next_id);
	stream_table_show(&engine->table, stream);
	for (uint32_t i = 0; i < stream->segment_count; i++)
		count_add(&engine->segment_bytes, stream->segments[i]->data_end);
	count_add(&engine->segment_count, stream->segment_count);
	count_add(&engine->stream_count, 1);
	engine->recovery.streams++;
	engine->recovery.segments += stream->segment_count;
}

static int judge_tail(struct engine *engine, struct stream *stream, const struct tail_facts *facts, bool *rewritten,
	struct error *err)
{
	if (stream->tail.segment && recovery_tail(engine, stream, facts, rewritten, err) != 0)
		return -1;
	if (stream->segment_count == 0) {
		forget_stream(engine, stream);
		return 0;
	}
	recovery_show(engine, stream);
	return 0;
}

static bool is_dir_of(const char *dir, const char *name, size_t name_len)
{
	char again[NAMES_DIR_MAX];
	return dirname_from_name(name, name_len, again) >= 0 && strcmp(dir, again) == 0;
}

/* A directory whose name is hashed, with bytes in it, and no header that tells whose: a header is in one sector, old
 * (zeros) or new, so this is damage. */
static int nameless_dir(struct engine *engine, const char *dir, struct error *err)
{
	struct io *io = engine->io;
	engine->recovery.rot_found++;
	recovery_tell(engine, &(struct recovery_finding){.kind = FINDING_NAMELESS_DIR, .file = dir});
	if (engine->options.on_corruption == ON_CORRUPTION_ERROR) {
		error_set(err, ERR_CORRUPTION,
			"no segment in directory %s has a whole header: restore it, or start with on_corruption = "
			"truncate to set it aside",
			dir);
		error_set_text(err, EFI_STREAM, "", 0);
		error_set_text(err, EFI_SEGMENT, dir, strlen(dir));
		error_set_u64(err, EFI_OFFSET, 0);
		error_set_u64(err, EFI_ID, 0);
		return -1;
	}
	/* One of that name may have been set aside before. */
	char aside[sizeof(NAMES_ASIDE) + NAMES_DIR_MAX + 8];
	int r = -ENOTEMPTY;
	for (unsigned n = 0; n < 1000 && (r == -ENOTEMPTY || r == -EEXIST); n++) {
		int len = snprintf(aside, sizeof(aside), NAMES_ASIDE "%s", dir);
		if (n > 0)
			(void)snprintf(aside + len, sizeof(aside) - (size_t)len, ".%u", n);
		r = io->ops->rename(io, dir, aside);
	}
	if (r == 0)
		r = io->ops->sync_dir(io, "");
	if (r != 0)
		return error_set_io(err, -r, "set aside", dir);
	engine->recovery.files_set_aside++;
	log_error("engine", "no segment in directory %s has a whole header: set aside as %s", dir, aside);
	return 0;
}

static int recover_dir(struct engine *engine, const char *dir, bool *rewritten, struct error *err)
{
	char name[NAMES_STREAM_MAX + 1];
	size_t name_len;
	struct listing listing = {0};
	int kind = name_from_dirname(dir, name, &name_len);
	if (kind < 0)
		return 0; /* none of ours */
	int r = engine->io->ops->list_dir(engine->io, dir, listing_cb, &listing);
	if (r == -ENOENT) /* it went with its stream, which the record named and which never was */
		return 0;
	if (r == 0 && listing.count > 1)
		qsort(listing.items, listing.count, sizeof(*listing.items), by_first_id);
	if (r == 0 && kind == 1)
		r = name_from_header(engine, dir, &listing, name, &name_len);
	int result = 0;
	if (r < 0) {
		result = error_set_io(err, -r, "list", dir);
	} else if (r == 2) {
		result = nameless_dir(engine, dir, err);
	} else if (r == 0 && kind == 1 && !is_dir_of(dir, name, name_len)) {
		recovery_tell(engine, &(struct recovery_finding){FINDING_STRANGE_DIR, name, name_len, .file = dir});
		log_warn("engine",
			"directory %s holds segments of stream %.100s, which is not its own: it is left alone", dir,
			name);
	} else if (r == 0 && listing.count > 0) {
		const struct tail_facts facts = {
			.proven_next_id = shards_floor(engine, name, name_len), .no_index = listing.index_count == 0};
		remove_stray_indexes(engine, dir, &listing);
		struct stream *stream = recovered_stream(engine, name, name_len, err);
		result = !stream || add_segments(engine, stream, &listing, err) != 0
				 ? -1
				 : judge_tail(engine, stream, &facts, rewritten, err);
	}
	listing_free(&listing);
	return result;
}

/* ---- all of them ------------------------------------------------------------------------------------------------ */

struct root {
	struct names dirs, journals, spares;
};

static void root_free(struct root *root)
{
	buf_free(&root->dirs.text);
	buf_free(&root->journals.text);
	buf_free(&root->spares.text);
}

static int root_cb(const char *name, bool is_dir, void *arg)
{
	struct root *root = arg;
	if (is_dir && strcmp(name, "lost+found") != 0)
		return names_add(&root->dirs, name);
	if (!is_dir && journal_is_path(name))
		return names_add(&root->journals, name);
	if (!is_dir && spare_is_path(name))
		return names_add(&root->spares, name);
	return 0;
}

/* A start that was cut off after it had set the recorded segment aside left the record behind: the directory knows
 * better. */
static int set_aside_since(struct engine *engine, const struct stream *stream)
{
	char path[SEGMENT_PATH_MAX];
	segment_path(stream->tail.segment, path);
	int r = engine->io->ops->exists(engine->io, path);
	if (r != 0)
		return r < 0 ? r : 0;
	return recovery_has_newer(engine, stream->dir, stream->tail.segment->first_id);
}

/* It is listed like one that the record does not name. */
static void drop_recorded(struct engine *engine, struct stream *stream)
{
	stream_table_remove(&engine->table, stream);
	stream_free(stream, engine->open_cache);
}

/* The streams of the clean-stop record. */
static int verify_clean(
	struct engine *engine, struct stream *const *streams, size_t count, bool *rewritten, struct error *err)
{
	bool look = count <= CLEAN_VERIFY_MAX;
	int result = 0;
	for (size_t i = 0; i < count && result == 0; i++) {
		struct stream *stream = streams[i];
		if (look || i % 64 == 0)
			tell_progress(engine, i, count);
		struct tail_facts facts = {.proven_end = stream->tail.written, .proven_next_id = stream->next_id};
		uint64_t floor = shards_floor(engine, stream->name, stream->name_len);
		if (floor > facts.proven_next_id)
			facts.proven_next_id = floor;
		int moved = look && stream->tail.segment ? set_aside_since(engine, stream) : 0;
		if (moved < 0)
			result = error_set_io(err, -moved, "list", stream->dir);
		else if (moved > 0)
			drop_recorded(engine, stream);
		else if (cancelled(engine, err))
			result = -1;
		else if (look && stream->tail.segment)
			result = judge_tail(engine, stream, &facts, rewritten, err);
		else
			recovery_show(engine, stream);
	}
	return result;
}

static int by_text(const void *left, const void *right)
{
	return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* The directories of the record's streams whose names are hashed: they do not tell their stream. */
static int hashed_dirs(struct engine *engine, const char ***ret_dirs, size_t *ret_count)
{
	const char **dirs = malloc(sizeof(*dirs) * (engine->table.count + 1));
	if (!dirs)
		return -1;
	size_t count = 0;
	for (size_t i = 0; i < engine->table.bucket_count; i++)
		for (struct stream *stream = engine->table.buckets[i]; stream; stream = stream->table_next)
			if (strncmp(stream->dir, "%%", 2) == 0)
				dirs[count++] = stream->dir;
	qsort(dirs, count, sizeof(*dirs), by_text);
	*ret_dirs = dirs;
	*ret_count = count;
	return 0;
}

static bool known(struct engine *engine, const char *dir, const char **hashed, size_t hashed_count)
{
	char name[NAMES_STREAM_MAX + 1];
	size_t len = strlen(dir);
	/* Most are called like their streams. */
	const struct stream *stream = stream_table_find(&engine->table, dir, len, stream_hash(dir, len));
	if (stream && strcmp(stream->dir, dir) == 0)
		return true;
	if (name_from_dirname(dir, name, &len) == 0)
		return stream_table_find(&engine->table, name, len, stream_hash(name, len)) != NULL;
	return bsearch(&dir, hashed, hashed_count, sizeof(*hashed), by_text) != NULL;
}

/* 1: all that the record names are shown; 0: there is no record to trust. */
static int recover_clean(struct engine *engine, struct recovery_sync *sync, struct error *err)
{
	struct stream **streams = NULL;
	size_t count = 0;
	bool rewritten = false;
	int clean = clean_stop_load(engine, &streams, &count, err);
	if (clean == 1 && verify_clean(engine, streams, count, &rewritten, err) != 0)
		clean = -1;
	free(streams);
	engine->recovery.clean_start = clean == 1;
	recovery_sync_note(sync, rewritten);
	return clean;
}

static int recover_dirs(
	struct engine *engine, const struct names *dirs, bool clean, struct recovery_sync *sync, struct error *err)
{
	const char **hashed = NULL;
	size_t hashed_count = 0, done = 0;
	if (clean && hashed_dirs(engine, &hashed, &hashed_count) != 0)
		return error_set_io(err, ENOMEM, "load streams", "");
	int result = 0;
	for (const char *dir = NULL; result == 0 && (dir = names_next(dirs, dir)); done++) {
		bool rewritten = false, skip = clean && known(engine, dir, hashed, hashed_count);
		if (!skip || done % 64 == 0)
			tell_progress(engine, done, dirs->count);
		if (done % 64 == 0 && cancelled(engine, err))
			result = -1;
		else if (!skip)
			result = recover_dir(engine, dir, &rewritten, err);
		recovery_sync_note(sync, rewritten);
	}
	free(hashed);
	return result;
}

static int recover_streams(
	struct engine *engine, const struct root *root, struct recovery_sync *sync, struct error *err)
{
	int clean = recover_clean(engine, sync, err);
	if (clean < 0)
		return -1;
	if (clean == 1)
		return recover_dirs(engine, &root->dirs, true, sync, err);
	if (recovery_replay(engine, (const char *)root->journals.text.data, root->journals.count, err) != 0)
		return -1;
	const struct recovery_stats *stats = &engine->recovery;
	/* A file for each record and op is a guess: they are in few files, or in nearly as many. */
	recovery_sync_note(sync, stats->journal_records + stats->journal_ops);
	if (stats->journal_ops == 0)
		return recover_dirs(engine, &root->dirs, false, sync, err);
	struct root again = {0}; /* the journals may have made directories */
	int r = engine->io->ops->list_dir(engine->io, "", root_cb, &again);
	int result = r == 0 ? recover_dirs(engine, &again.dirs, false, sync, err)
			    : error_set_io(err, -r, "list", "the data directory");
	root_free(&again);
	return result;
}

static int recover_all(struct engine *engine, const struct root *root, struct error *err)
{
	struct recovery_sync sync;
	recovery_sync_begin(&sync, engine);
	int result = recover_streams(engine, root, &sync, err);
	/* From there on everything that was accepted is durable, names too (the journals are emptied next). */
	if (recovery_sync_end(&sync, result != 0, err) != 0)
		result = -1;
	return result == 0 ? clean_stop_remove(engine, err) : -1;
}

/* Those of writers that there were when it ran on a machine with more cores: what they hold is in place, and must not
 * be put there again by a later start. Durable with the sync of the directory behind open_journals. */
static int remove_journals(struct engine *engine, const struct names *journals, struct error *err)
{
	for (const char *path = NULL; (path = names_next(journals, path));) {
		if (journal_writer_of(path) < engine->writer_count)
			continue;
		int r = engine->io->ops->unlink(engine->io, path);
		if (r != 0 && r != -ENOENT)
			return error_set_io(err, -r, "remove", path);
	}
	return 0;
}

int recovery_run(struct engine *engine, struct error *err)
{
	struct root root = {0};
	int r = engine->io->ops->list_dir(engine->io, "", root_cb, &root);
	/* First, as their room may be needed. One that had become a segment, and its name was lost, is none any more.
	 */
	for (const char *path = NULL; (path = names_next(&root.spares, path));)
		(void)engine->io->ops->unlink(engine->io, path);
	int result = r == 0 ? recover_all(engine, &root, err) : error_set_io(err, -r, "list", "the data directory");
	if (result == 0)
		result = remove_journals(engine, &root.journals, err);
	root_free(&root);
	if (result == 0) {
		const struct recovery_stats *stats = &engine->recovery;
		log_info("engine",
			"recovered %llu streams, %llu segments (%s): %llu journal records, %llu ends read, %llu torn "
			"ends cut, %llu files set aside",
			(unsigned long long)stats->streams, (unsigned long long)stats->segments,
			stats->clean_start ? "after a clean stop" : "after a crash",
			(unsigned long long)stats->journal_records, (unsigned long long)stats->tails_read,
			(unsigned long long)stats->torn_tails_cut, (unsigned long long)stats->files_set_aside);
	}
	return result;
}
