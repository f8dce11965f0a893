/* The index file of a segment: whatever whole point it holds has to be the beginning of a frame. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static int row_cb(enum index_row row, uint64_t offset, const struct index_point *point, void *arg)
{
	struct index_check *index = arg;
	(void)offset;
	if (row == INDEX_HEADER_BROKEN || row == INDEX_ROW_BROKEN)
		index->broken = true;
	if (row != INDEX_POINT)
		return 0;
	struct index *points = &index->points;
	if (points->count == points->cap) {
		uint32_t cap = points->cap ? points->cap * 2 : 64;
		struct index_point *bigger = realloc(points->points, sizeof(*bigger) * cap);
		if (!bigger)
			return -ENOMEM;
		points->points = bigger;
		points->cap = cap;
	}
	points->points[points->count++] = *point;
	return 0;
}

static int by_offset(const void *left, const void *right)
{
	const struct index_point *a = left, *b = right;
	return (a->offset > b->offset) - (a->offset < b->offset);
}

int index_check_begin(struct index_check *index, struct check *check, const struct segment *segment, uint64_t salt)
{
	*index = (struct index_check){.check = check, .segment = segment};
	segment_index_path(segment, index->path);
	int r = segment->cut ? -ENOENT : index_file_rows(check->io, index->path, salt, row_cb, index);
	index->missing = r == -ENOENT;
	if (r == -EIO)
		index->broken = true;
	if (index->points.count > 1)
		qsort(index->points.points, index->points.count, sizeof(*index->points.points), by_offset);
	check->counts.index_points += index->points.count;
	return r == -ENOENT || r == -EIO ? 0 : r;
}

static bool equals(const struct index_point *a, const struct index_point *b)
{
	return a->id == b->id && a->offset == b->offset && a->prev_check == b->prev_check;
}

static void lie(struct index_check *index, const struct index_point *point)
{
	const struct stream *stream = index->segment->stream;
	const struct finding finding = {
		.severity = SEVERITY_DAMAGE,
		.kind = "index_lies",
		.stream = stream->name,
		.stream_len = stream->name_len,
		.file = index->path,
		.text = "a point names a place where no such frame begins: delete the file, it is derived",
		.has_ids = true,
		.first = point->id,
		.end = point->id + 1,
		.ids_text = "is what it names",
	};
	if (!index->lies)
		report_add(index->check->report, &finding);
	index->lies = true;
}

void index_check_frame(struct index_check *index, struct index_point point)
{
	index_note(&index->wanted, point);
	while (index->at < index->points.count && index->points.points[index->at].offset <= point.offset) {
		const struct index_point *claimed = &index->points.points[index->at++];
		if (!equals(claimed, &point))
			lie(index, claimed);
	}
}

void index_check_skip(struct index_check *index, uint64_t from, uint64_t to)
{
	while (index->at < index->points.count && index->points.points[index->at].offset < from)
		lie(index, &index->points.points[index->at++]);
	while (index->at < index->points.count && index->points.points[index->at].offset < to)
		index->at++;
}

/* A point may be written when what is before it is durable: its own frame need not have become so. */
bool index_check_end(struct index_check *index, struct index_point end)
{
	for (; index->at < index->points.count; index->at++)
		if (!equals(&index->points.points[index->at], &end))
			lie(index, &index->points.points[index->at]);
	const struct stream *stream = index->segment->stream;
	struct finding finding = {
		.severity = SEVERITY_TORN,
		.kind = "index_broken",
		.stream = stream->name,
		.stream_len = stream->name_len,
		.file = index->path,
		.text = "not all of it is whole; it is derived, and reads make do with the rest",
	};
	bool sealed = index->segment->sealed && !index->segment->cut; /* that of an active one is behind it as a rule */
	if (index->broken) {
		report_add(index->check->report, &finding);
		return sealed;
	}
	finding.severity = SEVERITY_NOTE;
	finding.kind = "index_incomplete";
	finding.text = "it is missing or incomplete: reads take longer";
	bool incomplete = sealed && index->points.count < index->wanted.count;
	if (incomplete)
		report_add(index->check->report, &finding);
	return sealed && (incomplete || index->lies);
}

void index_check_free(struct index_check *index)
{
	index_clear(&index->points);
	index_clear(&index->wanted);
}
