/*
 * request_fields: one message of a client, decoded in every way that the server's handlers know.
 *
 * Owns nothing. One thread. Invariant: none of it depends on which method was asked for.
 */
#ifndef IRONWALD_FUZZ_REQUEST_FIELDS_H
#define IRONWALD_FUZZ_REQUEST_FIELDS_H

#include "mp_read.h"

/* Checks that it is accepted exactly if a second reader accepts it, that all that the getters give lies within it and
 * is what that reader finds there, and that what was decoded, encoded, means the same. */
void request_fields_check(struct span payload);

#endif
