/*
 * client_token: the token that is shown to a server, and where it may go.
 *
 * Owns nothing: the token is its holder's block. Used by the thread that uses the connection.
 * Invariant: a token is in no message of any error.
 */
#ifndef IRONWAL_CLIENT_TOKEN_H
#define IRONWAL_CLIENT_TOKEN_H

#include "client_error.h"
#include "mem.h"

/* Most bytes of a token: it goes into a small hello. */
#define TOKEN_BYTES_MAX 1024

/* What the options say (see ironwal.h), else the file that the environment names: a block; NULL: there is none. */
int token_load(const struct mem *mem, const ironwal_options *options, char **ret_token, ironwal_error *error);
/* Over a connected socket without encryption: -1 if others could read it on the way. */
int token_check_path(int fd, const char *address, const ironwal_options *options, ironwal_error *error);
/* Wipes it, and frees it. NULL is legal. */
void token_free(char *token);

#endif
