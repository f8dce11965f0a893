/*
 * handlers_write: what requests that write share. Loop thread only.
 */
#ifndef IRONWALD_HANDLERS_WRITE_H
#define IRONWALD_HANDLERS_WRITE_H

#include "call.h"

/* Less than this is copied rather than keeping a receive buffer. */
#define COPY_MAX 4096

/* An entry of len bytes, number index of its request, could be handed out again. -1: ERR_TOO_LARGE. */
int check_entry_len(const struct call *call, uint64_t len, uint64_t index, struct error *err);

#endif
