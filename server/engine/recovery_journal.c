/*
 * recovery_journal: what the journals hold is put into the segments, before these are judged.
 *
 * A journal may be applied again and again: it writes bytes that stand there already, or that were lost. What was
 * deleted or set aside since is not made anew. Start-up's thread.
 *
 * Ops to many segments take turns in a journal. Those to one segment, one behind the other, are collected into a run,
 * so that each file is opened and written once; runs are written in the order of their first ops, so that segments are
 * made in the order in which they were.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "log.h"
#include "writer.h"

/* More than this is not collected before it is written. */
#define RUNS_BYTES (UINT64_C(32) << 20)
#define RUN_BUCKETS 16384u

/* Ops to one segment, each beginning where the one before it ends. */
struct run {
	struct run *next;  /* in the order of their first ops */
	struct run *chain; /* of its bucket */
	uint64_t first_id, salt, offset;
	struct buf bytes;
	char dir[NAMES_DIR_MAX];
};

struct replay {
	struct engine *engine;
	struct run *first, **last;
	uint64_t bytes; /* in all runs */
	struct run *buckets[RUN_BUCKETS];
};

struct newer {
	uint64_t first_id;
	bool found;
};

static int newer_cb(const char *name, bool is_dir, void *arg)
{
	struct newer *newer = arg;
	uint64_t first_id, end_id, salt;
	if (is_dir)
		return 0;
	if ((segment_file_parse(name, &first_id) && first_id > newer->first_id) ||
		(cut_file_parse(name, &first_id, &end_id, &salt) && first_id >= newer->first_id))
		newer->found = true;
	return newer->found;
}

/* A segment that the journal makes and that is not there: either its name was not durable yet, or it was deleted or set
 * aside since. Segments are made in rising order, each only when the one before it is durable, and deleted oldest
 * first; so if there is a newer one, it was deleted. */
int recovery_has_newer(struct engine *engine, const char *dir, uint64_t first_id)
{
	struct newer newer = {first_id, false};
	int r = engine->io->ops->list_dir(engine->io, dir, newer_cb, &newer);
	return r < 0 && r != -ENOENT ? r : newer.found;
}

/* 1: it is not there, and not to be made. */
static int open_target(struct engine *engine, const struct run *run, struct io_file **ret_file)
{
	struct io *io = engine->io;
	char file[NAMES_FILE_MAX], path[SEGMENT_PATH_MAX];
	segment_file_name(run->first_id, file);
	size_t dir_len = strlen(run->dir);
	memcpy(path, run->dir, dir_len);
	path[dir_len] = '/';
	memcpy(path + dir_len + 1, file, strlen(file) + 1);
	int r = io->ops->open(io, path, IO_READ | IO_WRITE, ret_file);
	if (r == -ENOENT && run->offset == 0) {
		r = recovery_has_newer(engine, run->dir, run->first_id);
		if (r != 0)
			return r;
		r = io->ops->mkdir(io, run->dir);
		if (r == 0 || r == -EEXIST)
			r = io->ops->open(io, path, IO_READ | IO_WRITE | IO_CREATE, ret_file);
	}
	return r == -ENOENT ? 1 : r;
}

/* Is the file that is there the one that the run was meant for? */
static bool same_segment(struct io *io, struct io_file *file, const struct run *run)
{
	uint8_t bytes[SEGMENT_HEADER_MAX];
	struct segment_header header;
	ssize_t got = io->ops->pread(file, bytes, sizeof(bytes), 0, 0);
	return got <= 0 || segment_header_decode(bytes, (size_t)got, &header) != HEADER_OK || run->salt == header.salt;
}

static int write_run(struct engine *engine, const struct run *run)
{
	struct io *io = engine->io;
	struct io_file *file;
	int r = open_target(engine, run, &file);
	if (r != 0)
		return r == 1 ? 0 : r;
	struct iovec iov = {run->bytes.data, run->bytes.len};
	if (same_segment(io, file, run))
		r = io->ops->pwritev(file, &iov, 1, run->offset);
	io->ops->close(file);
	return r == -EBADMSG ? -EIO : r; /* what the disk says, not the journal */
}

/* All runs, until one fails; there are none any more then. 0 or a negative errno. */
static int write_runs(struct replay *replay)
{
	int r = 0;
	for (struct run *run = replay->first, *next; run; run = next) {
		next = run->next;
		if (r == 0 && run->bytes.len > 0)
			r = write_run(replay->engine, run);
		buf_free(&run->bytes);
		free(run);
	}
	memset(replay->buckets, 0, sizeof(replay->buckets));
	replay->first = NULL;
	replay->last = &replay->first;
	replay->bytes = 0;
	return r;
}

/* A frame says where it stands: to be written elsewhere it would be none, and make the file as long as the op likes. */
static bool is_frame_of_its_place(const struct journal_op *op)
{
	struct frame frame;
	return op->len >= FRAME_FIXED_BYTES &&
	       frame_decode_fixed(op->data, get_u64(op->data + 40), op->offset, &frame) &&
	       op->len >= frame.header_bytes && frame_check_header(op->data, &frame);
}

/* Nothing else is put into a journal. */
static int check_op(const struct journal_op *op, void *arg)
{
	char name[NAMES_STREAM_MAX + 1];
	size_t name_len;
	(void)arg;
	bool good = name_from_dirname(op->dir, name, &name_len) >= 0 && strlen(op->dir) < NAMES_DIR_MAX &&
		    (op->offset == 0 ? op->len >= SEGMENT_HEADER_FIXED : is_frame_of_its_place(op));
	return good ? 0 : -EBADMSG;
}

static uint64_t salt_of(const struct journal_op *op)
{
	return get_u64(op->data + (op->offset == 0 ? 24 : 40));
}

static struct run *new_run(struct replay *replay, const struct journal_op *op, struct run **bucket)
{
	struct run *run = calloc(1, sizeof(*run));
	if (!run)
		return NULL;
	run->first_id = op->segment_first_id;
	run->salt = salt_of(op);
	run->offset = op->offset;
	memcpy(run->dir, op->dir, strlen(op->dir) + 1);
	run->chain = *bucket;
	*bucket = run;
	*replay->last = run;
	replay->last = &run->next;
	return run;
}

static int collect_op(const struct journal_op *op, void *arg)
{
	struct replay *replay = arg;
	if (check_op(op, NULL) != 0)
		return -EBADMSG;
	struct run **bucket =
		&replay->buckets[XXH3_64bits_withSeed(op->dir, strlen(op->dir), op->segment_first_id) % RUN_BUCKETS];
	if (replay->bytes > RUNS_BYTES) {
		int r = write_runs(replay);
		if (r != 0)
			return r;
	}
	struct run *run = *bucket; /* the newest comes first */
	while (run && (run->first_id != op->segment_first_id || strcmp(run->dir, op->dir) != 0))
		run = run->chain;
	bool goes_on = run && run->offset + run->bytes.len == op->offset && run->salt == salt_of(op);
	if (!goes_on && !(run = new_run(replay, op, bucket)))
		return -ENOMEM;
	if (buf_append(&run->bytes, op->data, op->len) != 0)
		return -ENOMEM;
	replay->bytes += sizeof(*run) + op->len;
	return 0;
}

/* What was collected before an op that is none is written all the same. */
static int apply(struct replay *replay, const char *path, struct journal_scan *ret_scan)
{
	int r = journal_replay(replay->engine->io, path, collect_op, replay, ret_scan);
	int written = write_runs(replay);
	return r == 0 || r == -EBADMSG ? (written != 0 ? written : r) : r;
}

static void tell(const struct engine *engine, enum finding_kind kind, const char *path, const struct journal_scan *scan)
{
	recovery_tell(engine, &(struct recovery_finding){.kind = kind, .file = path, .offset = scan->end});
}

struct journal_file {
	char path[JOURNAL_PATH_MAX];
	struct journal_scan scan;
	bool lies; /* a whole record, at scan.end, has an op that is none: rot, too */
};

static int rot_in_journal(struct engine *engine, const struct journal_file *journal, struct error *err)
{
	const char *path = journal->path;
	const struct journal_scan *scan = &journal->scan;
	const char *what = journal->lies ? "a whole record says what is never written"
					 : "a record that had been synced is damaged";
	engine->recovery.rot_found++;
	tell(engine, FINDING_JOURNAL_ROT, path, scan);
	if (engine->options.on_corruption == ON_CORRUPTION_TRUNCATE) {
		log_error("engine", "journal %s: %s at byte %llu; what is behind it is not applied", path, what,
			(unsigned long long)scan->end);
		return 0;
	}
	error_set(err, ERR_CORRUPTION, "journal %s: %s at byte %llu; on_corruption = truncate starts without it", path,
		what, (unsigned long long)scan->end);
	error_set_text(err, EFI_STREAM, "", 0);
	error_set_text(err, EFI_SEGMENT, path, strlen(path));
	error_set_u64(err, EFI_OFFSET, scan->end);
	error_set_u64(err, EFI_ID, 0);
	return -1;
}

static int by_generation(const void *left, const void *right)
{
	const struct journal_file *a = left, *b = right;
	return (a->scan.generation > b->scan.generation) - (a->scan.generation < b->scan.generation);
}

/* The other file of the same writer: the names differ in the last byte. */
static const struct journal_scan *other_of(const struct journal_file *files, size_t count, const char *path)
{
	size_t len = strlen(path);
	for (size_t i = 0; i < count; i++)
		if (strlen(files[i].path) == len && strncmp(files[i].path, path, len - 1) == 0 &&
			files[i].path[len - 1] != path[len - 1] && files[i].scan.records > 0)
			return &files[i].scan;
	return NULL;
}

static int look_at_journals(struct engine *engine, const char *paths, size_t path_count, struct journal_file *files,
	size_t *ret_count, struct error *err)
{
	size_t count = 0;
	const char *path = paths;
	for (size_t i = 0, bytes; i < path_count; i++, path += bytes) {
		bytes = strlen(path) + 1;
		if (bytes > JOURNAL_PATH_MAX)
			continue;
		struct journal_file *file = &files[count++];
		memcpy(file->path, path, bytes);
		int r = journal_replay(engine->io, file->path, check_op, NULL, &file->scan);
		file->lies = r == -EBADMSG;
		file->scan.rot |= file->lies;
		if (r != 0 && !file->lies)
			return error_set_io(err, -r, "read", file->path);
	}
	for (size_t i = 0; i < count; i++) {
		struct journal_file *file = &files[i];
		const struct journal_scan *other = file->scan.headless ? other_of(files, count, file->path) : NULL;
		int r = other ? journal_headless_rot(engine->io, file->path, other, &file->scan.rot) : 0;
		if (r != 0)
			return error_set_io(err, -r, "read", file->path);
		if (file->scan.rot && rot_in_journal(engine, file, err) != 0)
			return -1;
		if ((file->scan.torn || file->scan.headless) && !file->scan.rot)
			tell(engine, FINDING_JOURNAL_TORN, file->path, &file->scan);
	}
	*ret_count = count;
	return 0;
}

int recovery_replay(struct engine *engine, const char *paths, size_t path_count, struct error *err)
{
	struct journal_file *files = calloc(path_count + 1, sizeof(*files));
	struct replay *replay = calloc(1, sizeof(*replay));
	size_t count = 0;
	int result = files && replay ? look_at_journals(engine, paths, path_count, files, &count, err)
				     : error_set_io(err, ENOMEM, "recover", "journals");
	if (result == 0) {
		replay->engine = engine;
		replay->last = &replay->first;
		qsort(files, count, sizeof(*files), by_generation);
	}
	for (size_t i = 0; i < count && result == 0; i++) {
		struct journal_scan scan;
		int r = apply(replay, files[i].path, &scan);
		if (r != 0 && !(files[i].lies && r == -EBADMSG))
			result = error_set_io(err, -r, "apply the journal", files[i].path);
		engine->recovery.journal_records += scan.records;
		engine->recovery.journal_ops += scan.ops;
	}
	free(replay);
	free(files);
	return result;
}
