/*
 * auth: who a connection is, by the token of its hello.
 *
 * Owns the tokens that are valid now and the count of wrong ones. Loop thread only.
 * Invariant: tokens that were handed out are good until the next auth_reload, which tells who has lost theirs.
 */
#ifndef IRONWALD_AUTH_H
#define IRONWALD_AUTH_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "mp_read.h"
#include "tokens.h"
#include "transport.h"

struct auth;

struct auth_stats {
	uint64_t tokens;       /* now */
	uint64_t wrong_tokens; /* that were looked at */
	uint64_t held_off;     /* that were not: their peers have been wrong too often */
};

/* Reads the token file. -1: as token_set_read. */
int auth_new(const char *token_file, struct auth **ret_auth, struct error *err);
/* NULL is legal. */
void auth_free(struct auth *auth);

/* token.data NULL: hello had none. -1: ERR_UNAUTHORIZED, or ERR_BUSY for a peer that has been wrong too often; neither
 * says more than somebody may know who guesses. */
int auth_check(struct auth *auth, const struct transport_peer *peer, struct span token, uint64_t now_ns,
	const struct token **ret_token, struct error *err);

/* Takes the set (see token_set_read) in place of the one that was valid until now; that one is the caller's, to be
 * freed when nobody has a token of it any more. */
struct token_set *auth_replace(struct auth *auth, struct token_set *set);
/* What the token is now. NULL: it is not valid any more, or is not what it was. */
const struct token *auth_again(const struct auth *auth, const struct token *token);

/* auth NULL: there are no tokens, and all is 0. */
void auth_get_stats(const struct auth *auth, struct auth_stats *ret_stats);

#endif
