/*
 * token_line: a line of the token file: whose a token is, and what it allows.
 *
 * Owns nothing but what a struct token holds. Any thread may call it.
 * Invariant: the prefixes of a token that was read are sorted, and none begins with another one, so that the streams
 * that they allow come in the order of the prefixes, each once.
 *
 * A line has words with blanks or tabs between them:
 *
 *   sha256:HEX  NAME  ROLE[,ROLE...]  STREAMS...
 *
 *   HEX      64 hex digits: the SHA-256 of the token's bytes, as `ironwal token` prints it
 *   NAME     for logs; letters, digits, and _ . @ - ; several tokens may have one name, so that one can replace another
 *   ROLE     read, append, admin (which may do all)
 *   STREAMS  PREFIX* for all streams whose names begin so; * for all, and for what concerns them all together.
 *            In a prefix %XX is the byte of that hex number: %20 a blank, %25 a percent sign
 */
#ifndef IRONWALD_TOKEN_LINE_H
#define IRONWALD_TOKEN_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOKEN_NAME_MAX 64
#define TOKEN_PREFIXES_MAX 32
#define TOKEN_PREFIX_MAX 255
#define TOKEN_DIGEST_BYTES 32
#define TOKEN_WHY_MAX 200

/* Bits. */
enum token_role { TOKEN_READ = 1, TOKEN_APPEND = 2, TOKEN_ADMIN = 4 };

struct token_prefix {
	uint8_t len; /* 0: everything, and the only one */
	uint8_t bytes[TOKEN_PREFIX_MAX];
};

struct token {
	uint8_t digest[TOKEN_DIGEST_BYTES];
	char name[TOKEN_NAME_MAX + 1];
	unsigned roles;	 /* token_role bits */
	bool everything; /* its streams are all */
	size_t prefix_count;
	struct token_prefix *prefixes;
};

/* 1: a token, to be cleared; 0: the line is empty or a comment; -1: it is neither, and why says what was expected. */
int token_line_read(const char *line, size_t len, struct token *ret_token, char why[TOKEN_WHY_MAX]);
/* Frees what it holds. {0} is legal. */
void token_clear(struct token *token);

/* The same roles on the same streams, under the same name. */
bool token_same(const struct token *a, const struct token *b);
bool token_allows_stream(const struct token *token, const void *name, size_t len);
/* All streams that begin with prefix, those that are not there yet, too. */
bool token_allows_prefix(const struct token *token, const void *prefix, size_t len);

#endif
