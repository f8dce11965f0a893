/*
 * dump: what the files say, as they are: nothing is recovered, and it goes on behind damage.
 *
 * Owns nothing; one thread. Invariant: io is only read (and locked, while it runs).
 */
#ifndef IRONWALD_FSCK_DUMP_H
#define IRONWALD_FSCK_DUMP_H

#include "buf.h"
#include "error.h"
#include "io.h"
#include "report.h"
#include "scan.h"

struct dump_options {
	bool json;
	bool entries;	    /* their bytes, too */
	const char *stream; /* only this one; NULL: all, and the directory's own files */
	size_t stream_len;
	const char *segment; /* only files of that name; NULL: all */
	uint64_t from;	     /* frames (or entries) of ids from there */
	uint64_t max;	     /* so many frames (or entries) at most; UINT64_MAX: all */
};

struct dump {
	struct io *io;
	const struct dump_options *options;
	FILE *out;
	struct json *json; /* NULL: for people */
	uint64_t left;	   /* of options->max */
	struct window window;
	struct buf raw;
	bool damaged;
};

/* STATUS_CLEAN, STATUS_DAMAGE: something could not be read as it should; STATUS_FAILED: err says why. */
enum fsck_status dump_run(struct io *io, const struct dump_options *options, FILE *out, struct error *err);

/* ---- inner. Each prints what it is named after; 0, or a negative errno ---- */

int dump_manifest(struct dump *dump);
int dump_clean_stop(struct dump *dump);
int dump_journal(struct dump *dump, const char *path);
int dump_checkpoints(struct dump *dump);
int dump_segment(struct dump *dump, const char *dir, const char *file);

/* A line that says what is wrong at this place. */
void dump_damage(struct dump *dump, const char *path, uint64_t offset, const char *text);
/* Unix time in nanoseconds, as 2026-01-31T12:34:56.123456789Z. */
void dump_time(uint64_t ns, char out[40]);

#endif
