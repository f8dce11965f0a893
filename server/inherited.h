/*
 * inherited: may these sockets, which the supervisor opened, be served?
 *
 * Owns nothing; for the main thread at start.
 * Invariant: what listen_tcp may not say may not be inherited either: the rule (address_check_open) is about the
 * address, whoever bound it.
 */
#ifndef IRONWALD_INHERITED_H
#define IRONWALD_INHERITED_H

#include "config.h"
#include "error.h"

/* Descriptors first to first + count - 1: listening stream sockets, Unix or TCP, where config has what keeps strangers
 * out (see common/address.h), and not too many. -1: ERR_CONFIG, one line that names the descriptor. */
int inherited_check(int first, int count, const struct config *config, struct error *err);

#endif
