/*
 * repair: what a start with on_corruption = truncate does, and then what only a person should ask for: index files are
 * made anew, and whole frames of files that were set aside are put back where their ids are free.
 *
 * Owns nothing; one thread. Invariant: nothing is written without `write`; what is written is durable before it is
 * named, and doing it twice, or after it was cut off anywhere, comes to the same end.
 */
#ifndef IRONWALD_FSCK_REPAIR_H
#define IRONWALD_FSCK_REPAIR_H

#include "error.h"
#include "io.h"
#include "report.h"

/* Reports what is found and what is done (or would be), then what verify says behind it: its status is the result.
 * STATUS_FAILED: err says why. */
enum fsck_status repair_run(
	struct io *io, bool write, struct report *report, struct progress *progress, struct error *err);

#endif
