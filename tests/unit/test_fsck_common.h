/*
 * test_fsck_common: what the tests of ironwal-fsck share: all that a disk holds, and what verify finds there.
 *
 * Owns nothing. One thread. Invariant: none of it changes the disk.
 */
#ifndef IRONWALD_TEST_FSCK_COMMON_H
#define IRONWALD_TEST_FSCK_COMMON_H

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_files.h"
#include "verify.h"

/* ---- all that a disk holds, as text ----------------------------------------------------------------------------- */

struct names {
	char items[256][256];
	size_t count;
};

static inline int name_cb(const char *name, bool is_dir, void *arg)
{
	struct names *names = arg;
	cr_assert(names->count < 256);
	snprintf(names->items[names->count++], sizeof(names->items[0]), "%s%s", name, is_dir ? "/" : "");
	return 0;
}

static inline int by_text(const void *left, const void *right)
{
	return strcmp(left, right);
}

static inline uint64_t hash_of_file(struct io *io, const char *path, uint64_t *ret_size)
{
	struct io_file *file = open_file(io, path, IO_READ);
	uint64_t hash = 1469598103934665603u;
	cr_assert(io->ops->size(file, ret_size) == 0);
	uint8_t *bytes = malloc(*ret_size + 1);
	cr_assert(io->ops->pread(file, bytes, *ret_size + 1, 0, 0) == (ssize_t)*ret_size);
	for (uint64_t i = 0; i < *ret_size; i++)
		hash = (hash ^ bytes[i]) * 1099511628211u;
	free(bytes);
	io->ops->close(file);
	return hash;
}

static inline void describe(struct io *io, const char *dir, FILE *out)
{
	struct names names = {0};
	cr_assert(io->ops->list_dir(io, dir, name_cb, &names) == 0, "list \"%s\"", dir);
	qsort(names.items, names.count, sizeof(names.items[0]), by_text);
	for (size_t i = 0; i < names.count; i++) {
		char path[600];
		size_t len = strlen(names.items[i]);
		snprintf(path, sizeof(path), "%s%s%s", dir, dir[0] ? "/" : "", names.items[i]);
		if (names.items[i][len - 1] == '/') {
			path[strlen(path) - 1] = '\0';
			fprintf(out, "%s/\n", path);
			describe(io, path, out);
		} else {
			uint64_t size, hash = hash_of_file(io, path, &size);
			fprintf(out, "%s %llu %llx\n", path, (unsigned long long)size, (unsigned long long)hash);
		}
	}
}

/* All that is there, as text, to be freed. */
static inline char *all_of(struct io *io)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	describe(io, "", out);
	fclose(out);
	return text;
}

/* ---- findings ---- */

struct seen {
	unsigned count, notes;
	struct {
		enum severity severity;
		char kind[32], file[300];
		bool has_ids, has_offset;
		uint64_t first, end, offset;
	} items[64];
};

static inline void seen_cb(const struct finding *finding, void *arg)
{
	struct seen *seen = arg;
	if (finding->severity == SEVERITY_NOTE)
		seen->notes++;
	if (seen->count == 64)
		return;
	unsigned at = seen->count++;
	seen->items[at].severity = finding->severity;
	seen->items[at].has_ids = finding->has_ids;
	seen->items[at].has_offset = finding->has_offset;
	seen->items[at].first = finding->first;
	seen->items[at].end = finding->end;
	seen->items[at].offset = finding->offset;
	snprintf(seen->items[at].kind, sizeof(seen->items[at].kind), "%s", finding->kind);
	snprintf(seen->items[at].file, sizeof(seen->items[at].file), "%s", finding->file ? finding->file : "");
}

/* What of it is of that kind, the nth; -1: none. */
static inline int seen_find(const struct seen *seen, const char *kind, unsigned nth)
{
	for (unsigned i = 0; i < seen->count; i++)
		if (strcmp(seen->items[i].kind, kind) == 0 && nth-- == 0)
			return (int)i;
	return -1;
}

static inline void seen_print(const struct seen *seen)
{
	for (unsigned i = 0; i < seen->count; i++)
		fprintf(stderr, "  %d %s %s at %lu, ids %lu to %lu\n", (int)seen->items[i].severity,
			seen->items[i].kind, seen->items[i].file, (unsigned long)seen->items[i].offset,
			(unsigned long)seen->items[i].first, (unsigned long)seen->items[i].end);
}

/* Runs verify in process, and sees that it changed nothing. */
static inline enum fsck_status verify_disk(struct io *io, struct seen *seen, struct error *err)
{
	struct report report;
	uint64_t operations = sim_op_count(io);
	report_init(&report, NULL, false);
	*seen = (struct seen){0};
	report.found_cb = seen_cb;
	report.found_arg = seen;
	enum fsck_status status = verify_run(io, &report, NULL, err);
	report_free(&report);
	cr_assert(sim_op_count(io) == operations, "verify changed something");
	cr_assert(sim_open_count(io) == 0, "verify left files open");
	return status;
}

#endif
