#include "repair.h"

#include <errno.h>

#include "check.h"
#include "overlay.h"
#include "put_back.h"
#include "verify.h"

/* It is derived: unlinked, and written anew. A crash in between leaves less of it, and the next repair does the rest.
 */
static int rebuild_index(struct check *check, const struct index_check *index, uint64_t salt)
{
	const struct stream *stream = index->segment->stream;
	struct io *io = check->io;
	int r = index->missing ? 0 : io->ops->unlink(io, index->path);
	if (r == 0)
		r = index_file_append(io, index->path, salt, &index->wanted, 0, index->wanted.count);
	if (r != 0)
		return r;
	report_add(check->report, &(struct finding){.severity = SEVERITY_NOTE,
					  .kind = "index_rebuilt",
					  .stream = stream->name,
					  .stream_len = stream->name_len,
					  .file = index->path,
					  .text = "the repair makes it anew"});
	return 0;
}

static int close_engine(struct check *check, struct error *err)
{
	int r = engine_close(check->engine, err);
	check->engine = NULL;
	return r;
}

/* A start that knows of the files that were made, and a clean stop that records them. */
static enum fsck_status start_again(struct check *check, struct error *err)
{
	struct report *report = check->report, silent;
	engine_abandon(check->engine);
	check->engine = NULL;
	report_init(&silent, NULL, false);
	check->report = &silent;
	enum fsck_status status = check_open(check, err);
	check->report = report;
	report_free(&silent);
	return status;
}

static enum fsck_status mend(struct check *check, struct error *err)
{
	uint64_t files;
	enum fsck_status status = check_open(check, err);
	if (status != STATUS_CLEAN)
		return status;
	check->index_cb = rebuild_index;
	if (check_manifest(check, err) != 0 || check_streams(check, err) != 0 || check_checkpoints(check, err) != 0 ||
		check_names(check, err) != 0 || put_back_all(check, &files, err) != 0)
		return STATUS_FAILED;
	if (files > 0)
		status = start_again(check, err);
	if (status != STATUS_CLEAN)
		return status;
	return close_engine(check, err) == 0 ? STATUS_CLEAN : STATUS_FAILED;
}

/* STATUS_DAMAGE: it cannot be opened, and that was told. */
static enum fsck_status run_on(
	struct io *io, struct io *below, struct report *report, struct progress *progress, struct error *err)
{
	struct check check = {.io = io, .below = below, .report = report, .progress = progress};
	report->progress = progress;
	enum fsck_status status = mend(&check, err);
	if (progress)
		progress_end(progress);
	check_free(&check);
	return status;
}

/* What is found and done is told by a run on an overlay, which is just what the real one does then. */
static enum fsck_status do_it(struct io *io, struct error *err)
{
	struct report silent;
	report_init(&silent, NULL, false);
	enum fsck_status status = run_on(io, io, &silent, NULL, err);
	report_free(&silent);
	return status;
}

/* phase: the same for programs. */
static void say(const struct report *report, const char *phase, const char *text)
{
	if (!report->out)
		return;
	if (!report->json) {
		fprintf(report->out, "%s\n", text);
		return;
	}
	json_begin(report->json);
	json_text(report->json, "phase", phase);
	json_end(report->json);
}

enum fsck_status repair_run(
	struct io *io, bool write, struct report *report, struct progress *progress, struct error *err)
{
	struct io *overlay = overlay_new(io);
	struct report after;
	if (!overlay) {
		error_set_io(err, ENOMEM, "repair", "");
		return STATUS_FAILED;
	}
	say(report, write ? "repair" : "dry_run",
		write ? "what is found, and what the repair does:" : "what is found, and what a repair would do:");
	enum fsck_status status = run_on(overlay, io, report, progress, err);
	if (status == STATUS_CLEAN && write)
		status = do_it(io, err);
	if (status == STATUS_CLEAN) {
		say(report, "after", write ? "after the repair:" : "after that it would be:");
		report_init(&after, report->out, report->json != NULL);
		after.found_cb = report->found_cb;
		after.found_arg = report->found_arg;
		status = verify_run(write ? io : overlay, &after, progress, err);
		report_free(&after);
	}
	overlay_free(overlay);
	if (status != STATUS_FAILED && !write && !report->json)
		say(report, "", "nothing was changed; repair --write does it");
	return status;
}
