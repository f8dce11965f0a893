#include "verify.h"

#include <errno.h>
#include <inttypes.h>

#include "check.h"
#include "overlay.h"

static double mib_per_second(const struct counts *counts)
{
	double seconds = (double)counts->elapsed_ns / 1e9;
	return seconds > 0 ? (double)counts->bytes / 1048576.0 / seconds : 0;
}

static const char *word_of(enum fsck_status status)
{
	return status == STATUS_CLEAN ? "clean" : status == STATUS_TORN ? "torn" : "damaged";
}

static void sum_up_json(const struct report *report, const struct counts *counts)
{
	struct json *json = report->json;
	json_begin(json);
	json_text(json, "summary", word_of(report_status(report)));
	json_number(json, "damage", report->damage);
	json_number(json, "torn", report->torn);
	json_number(json, "notes", report->notes);
	json_number(json, "ids_damaged", report->ids_damaged);
	json_number(json, "ids_lost_before", counts->ids_lost_before);
	json_number(json, "streams", counts->streams);
	json_number(json, "segments", counts->segments);
	json_number(json, "frames", counts->frames);
	json_number(json, "entries", counts->entries);
	json_number(json, "bytes", counts->bytes);
	json_number(json, "index_points", counts->index_points);
	json_number(json, "checkpoints", counts->checkpoints);
	json_real(json, "seconds", (double)counts->elapsed_ns / 1e9);
	json_real(json, "mib_per_second", mib_per_second(counts));
	json_end(json);
}

static void sum_up(const struct report *report, const struct counts *counts)
{
	if (!report->out)
		return;
	if (report->json) {
		sum_up_json(report, counts);
		return;
	}
	fprintf(report->out,
		"%s: %" PRIu64 " streams, %" PRIu64 " segments, %" PRIu64 " frames, %" PRIu64 " entries, %" PRIu64
		" bytes, %" PRIu64 " checkpoints; %.2f s, %.1f MiB/s\n",
		word_of(report_status(report)), counts->streams, counts->segments, counts->frames, counts->entries,
		counts->bytes, counts->checkpoints, (double)counts->elapsed_ns / 1e9, mib_per_second(counts));
}

static enum fsck_status check_all(struct check *check, struct error *err)
{
	enum fsck_status status = check_open(check, err);
	if (status != STATUS_CLEAN)
		return status;
	if (check_manifest(check, err) != 0 || check_streams(check, err) != 0 || check_checkpoints(check, err) != 0 ||
		check_names(check, err) != 0)
		return STATUS_FAILED;
	return report_status(check->report);
}

enum fsck_status verify_run(struct io *io, struct report *report, struct progress *progress, struct error *err)
{
	struct check check = {.io = overlay_new(io), .below = io, .report = report, .progress = progress};
	if (!check.io) {
		error_set_io(err, ENOMEM, "verify", "");
		return STATUS_FAILED;
	}
	bool locked = io->ops->exists(io, LOCK_PATH) == 1;
	uint64_t begin = io->ops->monotonic_ns(io);
	report->progress = progress;
	enum fsck_status status = check_all(&check, err);
	if (progress)
		progress_end(progress);
	check.counts.elapsed_ns = io->ops->monotonic_ns(io) - begin;
	check_free(&check);
	overlay_free(check.io);
	/* Where there was no lock to take, a daemon may have come meanwhile. */
	if (status != STATUS_FAILED && !locked && io->ops->exists(io, LOCK_PATH) == 1) {
		error_set(err, ERR_CONFIG, "the data directory was put to use while it was read");
		status = STATUS_FAILED;
	}
	if (status != STATUS_FAILED)
		sum_up(report, &check.counts);
	return status;
}
