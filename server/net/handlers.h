/*
 * handlers: what each method does with a request.
 *
 * A handler owns the call from there on: it answers it now, or copies it and answers later. Loop thread only.
 * Invariant: spans of the request are not used after the handler has returned, unless it moved `owner`, which may
 * hold the bytes that they point into.
 */
#ifndef IRONWALD_HANDLERS_H
#define IRONWALD_HANDLERS_H

#include "call.h"
#include "engine.h"
#include "message.h"

/* owner: a buffer that holds the frame and may be taken ({0} is left), or NULL. */
typedef void (*handler)(struct call *call, const struct request *request, struct buf *owner);

/* handlers_*.c: one per row of methods.def. */
#define METHOD(suffix, name, right)                                                                                    \
	void handle_##suffix(struct call *call, const struct request *request, struct buf *owner);
#include "methods.def"
#undef METHOD

/* Iters that were woken: runs those for whose answers there is room, for a bounded time. */
void reads_go_on(struct net *net);
/* There is room for more of them. */
bool reads_may_go_on(const struct net *net);
/* The session's connection is closed: nothing of it is left waiting. */
void reads_drop(struct net *net, struct session *session);

#endif
