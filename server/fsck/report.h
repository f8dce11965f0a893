/*
 * report: what was found, as lines for people or as JSON, and the exit status that comes of it.
 *
 * Owns its counters and its JSON generator; borrows the stream. One thread.
 * Invariant: the status is that of the worst finding so far.
 */
#ifndef IRONWALD_FSCK_REPORT_H
#define IRONWALD_FSCK_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "json.h"
#include "progress.h"

enum fsck_status { STATUS_CLEAN = 0, STATUS_TORN = 1, STATUS_DAMAGE = 2, STATUS_FAILED = 8 };

enum severity {
	SEVERITY_NOTE,	 /* nothing is wrong with it */
	SEVERITY_TORN,	 /* what a crash may leave: nothing that was acknowledged as durable is lost by it */
	SEVERITY_DAMAGE, /* something that had been durable is not what it was */
};

struct finding {
	enum severity severity;
	const char *kind;   /* one word for programs, as "rot" */
	const char *stream; /* NULL: of none */
	size_t stream_len;
	const char *file; /* relative to the data directory; NULL: of none */
	bool has_offset, has_ids;
	uint64_t offset;
	uint64_t bytes;	      /* 0: not told */
	uint64_t first, end;  /* ids [first, end) */
	const char *text;     /* what it is, without a full stop */
	const char *ids_text; /* of the ids, as "cannot be read" */
};

struct report {
	FILE *out;
	struct json *json; /* NULL: for people */
	struct progress *progress;
	uint64_t notes, torn, damage;
	uint64_t ids_damaged; /* ids that findings of damage tell of */
	/* Tests see findings as they come. NULL is legal. */
	void (*found_cb)(const struct finding *finding, void *arg);
	void *found_arg;
};

void report_init(struct report *report, FILE *out, bool json);
void report_free(struct report *report);
void report_add(struct report *report, const struct finding *finding);
enum fsck_status report_status(const struct report *report);

/* Bytes for people: what is no printable UTF-8 is escaped as \xNN. */
void print_escaped(FILE *out, const void *bytes, size_t len);

#endif
