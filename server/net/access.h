/*
 * access: may a request be done with the token that its connection came in with.
 *
 * Owns nothing. Loop thread only.
 * Invariant: what a method is not known to touch, it may not touch: a method without a row in the table is refused to
 * every token that is limited to some streams. Nothing is looked up before the answer is yes, so that no refusal tells
 * whether a stream is there.
 */
#ifndef IRONWALD_ACCESS_H
#define IRONWALD_ACCESS_H

#include "engine.h"
#include "error.h"
#include "message.h"
#include "tokens.h"

/* token NULL: it had one, which is not valid any more. -1: ERR_UNAUTHORIZED. Params that are malformed pass: the
 * handler says what is wrong with them. */
int access_check(const struct token *token, const struct request *request, struct engine *engine, struct error *err);

#endif
