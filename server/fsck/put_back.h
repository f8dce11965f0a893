/*
 * put_back: entries that stand whole in a file that was set aside, behind its break, become readable again.
 *
 * Owns nothing; one thread, on an engine that nobody uses. Invariant: an id is put back only where no entry has it: in
 * the hole that recovery left behind the very file when it was set aside, of which nothing was ever given again (rule
 * 8).
 *
 * How: the frames behind the break that follow one another are copied, blocks and all, into a new file whose salt
 * follows from the old one's, and which is named as one that was set aside is: <first id>.<end id>.<salt>.cut. So the
 * log has all there is to know of it in its name: it is sealed, its ids end there, what follows up to the next file is
 * a hole that speaks, and a start never judges or changes it. The file that they came from stays as it is.
 *
 * The order, and what a crash leaves: the file under a name that nobody reads (.cut.new, removed by the next repair),
 * synced; renamed; the directory synced. Until the rename the hole is what it was; behind it the ids are no hole any
 * more, so that doing it again does nothing. The clean-stop record, which does not tell of the file, has gone before:
 * the engine that is open has removed it.
 */
#ifndef IRONWALD_FSCK_PUT_BACK_H
#define IRONWALD_FSCK_PUT_BACK_H

#include "check.h"

/* *ret_files: how many were made. 0, or -1 with err. */
int put_back_all(struct check *check, uint64_t *ret_files, struct error *err);

#endif
