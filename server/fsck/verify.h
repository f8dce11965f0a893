/*
 * verify: everything is looked at, nothing is changed.
 *
 * Owns nothing; one thread. Invariant: io is only read (and locked, while it runs).
 */
#ifndef IRONWALD_FSCK_VERIFY_H
#define IRONWALD_FSCK_VERIFY_H

#include "error.h"
#include "io.h"
#include "report.h"

/* progress may be NULL. Reports findings, and a summary at the end. STATUS_FAILED: err says why. */
enum fsck_status verify_run(struct io *io, struct report *report, struct progress *progress, struct error *err);

#endif
