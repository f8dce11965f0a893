#include "tokens.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "buf.h"

struct token_set {
	size_t count;
	struct token *tokens;
};

/* Where the reading is, for errors. */
struct place {
	const char *path;
	unsigned line;
	struct error *err;
};

static int bad(const struct place *place, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int bad(const struct place *place, const char *format, ...)
{
	char why[300];
	va_list args;
	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	if (place->line > 0)
		return error_set(place->err, ERR_CONFIG, "token_file %.150s:%u: %s", place->path, place->line, why);
	return error_set(place->err, ERR_CONFIG, "token_file %.150s: %s", place->path, why);
}

int token_digest(const void *token, size_t len, uint8_t ret_digest[TOKEN_DIGEST_BYTES])
{
	unsigned digest_len = 0;
	return EVP_Digest(token, len, ret_digest, &digest_len, EVP_sha256(), NULL) == 1 &&
			       digest_len == TOKEN_DIGEST_BYTES
		       ? 0
		       : -1;
}

/* ---- the file ---- */

static int read_line(const char *line, size_t len, struct token_set *set, const struct place *place)
{
	char why[TOKEN_WHY_MAX];
	struct token token;
	int result = token_line_read(line, len, &token, why);
	if (result < 0)
		return bad(place, "%s", why);
	if (result == 0)
		return 0;
	if (set->count == TOKENS_MAX) {
		token_clear(&token);
		return bad(place, "there are at most %d tokens", TOKENS_MAX);
	}
	set->tokens[set->count++] = token;
	for (size_t i = 0; i + 1 < set->count; i++) {
		if (memcmp(set->tokens[i].digest, token.digest, TOKEN_DIGEST_BYTES) == 0)
			return bad(place, "the token of %s is there twice", set->tokens[i].name);
	}
	return 0;
}

static int read_lines(const struct buf *text, struct token_set *set, struct place *place)
{
	const char *at = (const char *)text->data, *end = at + text->len;
	while (at < end) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		size_t len = (size_t)((newline != NULL ? newline : end) - at);
		place->line++;
		if (memchr(at, '\0', len) != NULL)
			return bad(place, "a NUL byte: it has to be a text file");
		if (read_line(at, len, set, place) != 0)
			return -1;
		at += len + 1;
	}
	place->line = 0;
	return set->count > 0
		       ? 0
		       : bad(place, "there is no token in it, so nobody could come in: `ironwal token` makes one");
}

/* -1: refused, or a failure that errno tells and place->err does not. */
static int read_bytes(int fd, struct buf *text, const struct place *place)
{
	struct stat status;
	if (fstat(fd, &status) != 0)
		return bad(place, "%s", strerror(errno));
	if (!S_ISREG(status.st_mode))
		return bad(place, "it is not a file");
	if ((status.st_mode & S_IWOTH) != 0)
		return bad(place, "everyone on this machine can write to it: chmod o-w");
	for (;;) {
		if (buf_reserve(text, 4096) != 0)
			return bad(place, "no memory for its tokens");
		ssize_t count = read(fd, text->data + text->len, text->cap - text->len);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return bad(place, "%s", strerror(errno));
		if (count == 0)
			return 0;
		text->len += (size_t)count;
		if (text->len > TOKEN_FILE_BYTES_MAX)
			return bad(place, "it has over %zu bytes, which is the most", TOKEN_FILE_BYTES_MAX);
	}
}

int token_set_read(const char *path, struct token_set **ret_set, struct error *err)
{
	struct place place = {.path = path, .err = err};
	/* Not to be kept waiting by a pipe. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return bad(&place, "%s", strerror(errno));
	struct buf text = {0};
	struct token_set *set = calloc(1, sizeof(*set));
	if (set != NULL)
		set->tokens = calloc(TOKENS_MAX, sizeof(set->tokens[0]));
	int result = set == NULL || set->tokens == NULL ? bad(&place, "no memory for its tokens") : 0;
	if (result == 0)
		result = read_bytes(fd, &text, &place);
	if (result == 0)
		result = read_lines(&text, set, &place);
	close(fd);
	buf_free(&text);
	if (result != 0) {
		token_set_free(set);
		return -1;
	}
	*ret_set = set;
	return 0;
}

void token_set_free(struct token_set *set)
{
	if (set == NULL)
		return;
	for (size_t i = 0; i < set->count; i++)
		token_clear(&set->tokens[i]);
	free(set->tokens);
	free(set);
}

size_t token_set_count(const struct token_set *set)
{
	return set->count;
}

const struct token *token_set_find(const struct token_set *set, const uint8_t digest[TOKEN_DIGEST_BYTES])
{
	const struct token *found = NULL;
	for (size_t i = 0; i < set->count; i++) {
		if (CRYPTO_memcmp(set->tokens[i].digest, digest, TOKEN_DIGEST_BYTES) == 0)
			found = &set->tokens[i];
	}
	return found;
}
