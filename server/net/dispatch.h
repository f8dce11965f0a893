/*
 * dispatch: from the bytes of a message to its handler.
 *
 * Owns nothing. Loop thread only.
 * Invariant: nothing but hello is executed before hello was answered.
 */
#ifndef IRONWALD_DISPATCH_H
#define IRONWALD_DISPATCH_H

#include "buf.h"
#include "conn.h"
#include "mp_read.h"
#include "net.h"

/* As conn_events.message_cb. */
void dispatch_message(struct net *net, struct conn *conn, struct span payload, struct buf *owner);

#endif
