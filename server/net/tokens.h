/*
 * tokens: the token file: who may come in, to do what, with which streams. Its lines are those of common/token_line.h;
 * empty ones, and those that begin with #, do not count.
 *
 * Owns what it read of the file; of a token there is only its SHA-256. Any thread may read a set.
 * Invariant: a set is never changed, and has at least one token.
 */
#ifndef IRONWALD_TOKENS_H
#define IRONWALD_TOKENS_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "token_line.h"

#define TOKEN_FILE_BYTES_MAX ((size_t)1024 * 1024)
#define TOKENS_MAX 1024

struct token_set;

/* -1: ERR_CONFIG with file, line, and what was expected. A file that others than its owner and group can write to is
 * refused, as is one without any token. */
int token_set_read(const char *path, struct token_set **ret_set, struct error *err);
/* NULL is legal. */
void token_set_free(struct token_set *set);
size_t token_set_count(const struct token_set *set);

/* -1: the library of hashes does not work. */
int token_digest(const void *token, size_t len, uint8_t ret_digest[TOKEN_DIGEST_BYTES]);
/* The set's; NULL: there is none. Takes as long for any digest. */
const struct token *token_set_find(const struct token_set *set, const uint8_t digest[TOKEN_DIGEST_BYTES]);

#endif
