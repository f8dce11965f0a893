#include "report.h"

#include <inttypes.h>
#include <string.h>

#include "utf8.h"

void report_init(struct report *report, FILE *out, bool json)
{
	*report = (struct report){.out = out, .json = json ? json_new(out) : NULL};
}

void report_free(struct report *report)
{
	json_free(report->json);
}

enum fsck_status report_status(const struct report *report)
{
	return report->damage > 0 ? STATUS_DAMAGE : report->torn > 0 ? STATUS_TORN : STATUS_CLEAN;
}

void print_escaped(FILE *out, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	bool text = utf8_valid(bytes, len);
	for (size_t i = 0; i < len; i++) {
		bool control = at[i] < 0x20 || at[i] == 0x7f || (text && at[i] == 0xc2 && at[i + 1] < 0xa0);
		if (at[i] == '\\')
			fputs("\\\\", out);
		else if (control || (at[i] >= 0x80 && !text))
			fprintf(out, "\\x%02x", at[i]);
		else
			fputc(at[i], out);
	}
}

static const char *severity_name(enum severity severity)
{
	return severity == SEVERITY_NOTE ? "note" : severity == SEVERITY_TORN ? "torn" : "damage";
}

static void add_text(struct report *report, const struct finding *finding)
{
	FILE *out = report->out;
	fprintf(out, "%s: ", severity_name(finding->severity));
	if (finding->stream) {
		fputs("stream ", out);
		print_escaped(out, finding->stream, finding->stream_len);
		fputs(": ", out);
	}
	if (finding->file) {
		print_escaped(out, finding->file, strlen(finding->file));
		fputs(": ", out);
	}
	if (finding->has_offset)
		fprintf(out, "at byte %" PRIu64 ": ", finding->offset);
	fputs(finding->text, out);
	if (finding->has_offset && finding->bytes > 0)
		fprintf(out, " (%" PRIu64 " bytes)", finding->bytes);
	if (finding->has_ids && finding->end == finding->first + 1)
		fprintf(out, ": id %" PRIu64 " %s", finding->first, finding->ids_text);
	else if (finding->has_ids)
		fprintf(out, ": ids %" PRIu64 " to %" PRIu64 " %s", finding->first, finding->end - 1,
			finding->ids_text);
	fputc('\n', out);
}

static void add_json(struct report *report, const struct finding *finding)
{
	struct json *json = report->json;
	json_begin(json);
	json_text(json, "finding", finding->kind);
	json_text(json, "severity", severity_name(finding->severity));
	if (finding->stream)
		json_bytes(json, "stream", finding->stream, finding->stream_len);
	if (finding->file)
		json_text(json, "file", finding->file);
	if (finding->has_offset)
		json_number(json, "offset", finding->offset);
	if (finding->has_offset && finding->bytes > 0)
		json_number(json, "bytes", finding->bytes);
	if (finding->has_ids) {
		json_number(json, "first_id", finding->first);
		json_number(json, "end_id", finding->end);
	}
	json_text(json, "text", finding->text);
	json_end(json);
}

void report_add(struct report *report, const struct finding *finding)
{
	struct finding shown = *finding;
	shown.has_ids = finding->has_ids && finding->end > finding->first;
	report->notes += finding->severity == SEVERITY_NOTE;
	report->torn += finding->severity == SEVERITY_TORN;
	report->damage += finding->severity == SEVERITY_DAMAGE;
	if (shown.has_ids && finding->severity == SEVERITY_DAMAGE)
		report->ids_damaged += finding->end - finding->first;
	if (report->found_cb)
		report->found_cb(&shown, report->found_arg);
	if (!report->out)
		return;
	if (report->progress)
		progress_end(report->progress);
	if (report->json)
		add_json(report, &shown);
	else
		add_text(report, &shown);
}
