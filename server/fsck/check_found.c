/* What recovery finds, in the words of a report. */
#include <stdio.h>
#include <string.h>

#include "check.h"

struct wording {
	enum severity severity;
	const char *kind, *text, *ids_text;
	bool offset, ids;
};

static const struct wording wordings[] = {
	[FINDING_TORN_TAIL] = {SEVERITY_TORN, "torn_tail", "a torn tail, which a start cuts", NULL, true, false},
	[FINDING_TORN_TAIL_FRAMES] = {SEVERITY_TORN, "torn_tail",
		"a torn tail with whole frames behind the break, which a start sets aside", NULL, true, false},
	[FINDING_UNFINISHED] = {SEVERITY_TORN, "unfinished", "its creation did not come to its end; a start removes it",
		NULL, false, false},
	[FINDING_ROT] = {SEVERITY_DAMAGE, "rot",
		"what had been durable is broken here, and cannot be read from here on", "lost or unreadable", true,
		true},
	[FINDING_SHORT_SHARD] = {SEVERITY_DAMAGE, "short_shard",
		"the newest checkpoint tells of more entries than there are", "lost", false, true},
	[FINDING_NAMELESS_DIR] = {SEVERITY_DAMAGE, "nameless_directory",
		"no segment in this directory has a whole header, so nothing tells its stream", NULL, false, false},
	[FINDING_STRANGE_DIR] = {SEVERITY_DAMAGE, "strange_directory",
		"this directory holds the segments of a stream whose directory it is not", NULL, false, false},
	[FINDING_JOURNAL_TORN] = {SEVERITY_TORN, "torn_journal", "its last record is not whole; a start leaves it out",
		NULL, true, false},
	[FINDING_JOURNAL_ROT] = {SEVERITY_DAMAGE, "journal_rot",
		"a record that had been synced is broken; what follows it cannot be applied", NULL, true, false},
	[FINDING_CLEAN_STOP] = {SEVERITY_DAMAGE, "clean_stop",
		"the record of a clean stop is damaged; it is derived, and a start makes do without it", NULL, false,
		false},
	[FINDING_CHECKPOINT_HEADER] = {SEVERITY_DAMAGE, "checkpoint_header",
		"the header of the checkpoint log is damaged; the records can be read without it", NULL, true, false},
	[FINDING_CHECKPOINT_TORN] = {SEVERITY_TORN, "torn_checkpoint", "a torn end, which a start cuts", NULL, true,
		false},
	[FINDING_CHECKPOINT_VOID] = {SEVERITY_TORN, "torn_checkpoint",
		"a torn record with others behind it, which a start makes void", NULL, true, false},
};

void check_found(const struct recovery_finding *found, void *arg)
{
	struct check *check = arg;
	/* These are found again, by those who look at each segment and each record. */
	if (found->kind == FINDING_MISSING_SEGMENT || found->kind == FINDING_CHECKPOINT_DAMAGED)
		return;
	const struct wording *wording = &wordings[found->kind];
	char text[256];
	snprintf(text, sizeof(text), "%s", wording->text);
	if (found->kind == FINDING_ROT && found->frames_behind > 0)
		snprintf(text, sizeof(text),
			"%s (%llu whole frames stand behind it, which a repair makes readable again)", wording->text,
			(unsigned long long)found->frames_behind);
	const struct finding finding = {
		.severity = wording->severity,
		.kind = wording->kind,
		.stream = found->stream,
		.stream_len = found->stream_len,
		.file = found->file,
		.has_offset = wording->offset,
		.has_ids = wording->ids,
		.offset = found->offset,
		.bytes = found->bytes,
		.first = found->id,
		.end = found->next_id,
		.text = text,
		.ids_text = wording->ids_text,
	};
	report_add(check->report, &finding);
}
