#include "token_line.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"

static int bad(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int bad(char *why, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(why, TOKEN_WHY_MAX, format, args);
	va_end(args);
	return -1;
}

/* ---- words ---- */

struct word {
	const char *at;
	size_t len;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* The next word of the line; its length is 0 at the end. */
static struct word next_word(struct word *line)
{
	while (line->len > 0 && is_blank(line->at[0])) {
		line->at++;
		line->len--;
	}
	struct word word = {line->at, 0};
	while (word.len < line->len && !is_blank(line->at[word.len]))
		word.len++;
	line->at += word.len;
	line->len -= word.len;
	return word;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* -1: no number of two hex digits. */
static int hex_byte(const char *text)
{
	int high = hex_digit(text[0]), low = high < 0 ? -1 : hex_digit(text[1]);
	return low < 0 ? -1 : high * 16 + low;
}

static int read_digest(struct word word, struct token *token, char *why)
{
	static const char label[] = "sha256:";
	const size_t label_len = sizeof(label) - 1;
	bool good = word.len == label_len + 2 * TOKEN_DIGEST_BYTES && memcmp(word.at, label, label_len) == 0;
	for (size_t i = 0; good && i < TOKEN_DIGEST_BYTES; i++) {
		int byte = hex_byte(word.at + label_len + 2 * i);
		good = byte >= 0;
		token->digest[i] = (uint8_t)byte;
	}
	/* Not shown: it may be a token that somebody put there by mistake. */
	return good ? 0 : bad(why, "a line begins with sha256: and 64 hex digits: `ironwal token` makes such lines");
}

static int read_name(struct word word, struct token *token, char *why)
{
	bool good = word.len > 0 && word.len <= TOKEN_NAME_MAX;
	for (size_t i = 0; good && i < word.len; i++) {
		char c = word.at[i];
		good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		       strchr("_.@-", c) != NULL;
	}
	if (!good)
		return bad(why, "a name has 1 to %d letters, digits, and _ . @ -", TOKEN_NAME_MAX);
	memcpy(token->name, word.at, word.len);
	return 0;
}

static int read_roles(struct word word, struct token *token, char *why)
{
	static const struct {
		const char *name;
		unsigned bits;
	} roles[] = {
		{"read", TOKEN_READ},
		{"append", TOKEN_APPEND},
		{"admin", TOKEN_READ | TOKEN_APPEND | TOKEN_ADMIN},
	};
	for (size_t at = 0; at <= word.len;) {
		size_t end = at, which = 0;
		while (end < word.len && word.at[end] != ',')
			end++;
		while (which < 3 && (strlen(roles[which].name) != end - at ||
					    memcmp(roles[which].name, word.at + at, end - at) != 0))
			which++;
		if (which == 3)
			return bad(why, "roles are read, append and admin, with commas between several");
		token->roles |= roles[which].bits;
		at = end + 1;
	}
	return 0;
}

static int read_prefix(struct word word, struct token *token, char *why)
{
	struct token_prefix *prefix = &token->prefixes[token->prefix_count];
	size_t len = 0;
	if (word.at[word.len - 1] != '*')
		return bad(why, "streams are given as PREFIX*, or as * for all");
	for (size_t i = 0; i < word.len - 1; i++) {
		int byte = (uint8_t)word.at[i];
		if (byte == '%') {
			byte = word.len - 1 - i > 2 ? hex_byte(word.at + i + 1) : -1;
			i += 2;
		}
		if (byte < 0)
			return bad(why, "in a prefix %% stands before two hex digits: %%25 is a percent sign");
		if (len == TOKEN_PREFIX_MAX)
			return bad(why, "a prefix has at most %d bytes", TOKEN_PREFIX_MAX);
		prefix->bytes[len++] = (uint8_t)byte;
	}
	if (!utf8_valid(prefix->bytes, len))
		return bad(why, "a prefix is UTF-8, and ends behind a whole character");
	prefix->len = (uint8_t)len;
	token->prefix_count++;
	return 0;
}

/* ---- prefixes ---- */

static bool begins_with(const void *bytes, size_t len, const void *prefix, size_t prefix_len)
{
	return prefix_len <= len && (prefix_len == 0 || memcmp(bytes, prefix, prefix_len) == 0);
}

static int compare_prefixes(const void *one, const void *other)
{
	const struct token_prefix *a = one, *b = other;
	int order = memcmp(a->bytes, b->bytes, a->len < b->len ? a->len : b->len);
	return order != 0 ? order : (int)a->len - (int)b->len;
}

/* Sorted, one that begins with another stands behind it, and those between them do, too. */
static void tidy_prefixes(struct token *token)
{
	size_t kept = 0;
	qsort(token->prefixes, token->prefix_count, sizeof(token->prefixes[0]), compare_prefixes);
	for (size_t i = 0; i < token->prefix_count; i++) {
		const struct token_prefix *last = kept > 0 ? &token->prefixes[kept - 1] : NULL;
		const struct token_prefix *each = &token->prefixes[i];
		if (last == NULL || !begins_with(each->bytes, each->len, last->bytes, last->len))
			token->prefixes[kept++] = *each;
	}
	token->prefix_count = kept;
	token->everything = token->prefixes[0].len == 0;
}

bool token_allows_prefix(const struct token *token, const void *prefix, size_t len)
{
	bool allowed = false;
	for (size_t i = 0; i < token->prefix_count && !allowed; i++)
		allowed = begins_with(prefix, len, token->prefixes[i].bytes, token->prefixes[i].len);
	return allowed;
}

bool token_allows_stream(const struct token *token, const void *name, size_t len)
{
	return token->everything || token_allows_prefix(token, name, len);
}

bool token_same(const struct token *a, const struct token *b)
{
	if (strcmp(a->name, b->name) != 0 || a->roles != b->roles || a->prefix_count != b->prefix_count)
		return false;
	for (size_t i = 0; i < a->prefix_count; i++) {
		if (compare_prefixes(&a->prefixes[i], &b->prefixes[i]) != 0)
			return false;
	}
	return true;
}

static int read_streams(struct word line, struct token *token, char *why)
{
	struct word rest = line;
	size_t count = 0;
	while (next_word(&rest).len > 0)
		count++;
	if (count == 0)
		return bad(why, "behind the roles the streams are missing: PREFIX*, or * for all");
	if (count > TOKEN_PREFIXES_MAX)
		return bad(why, "a token has at most %d prefixes", TOKEN_PREFIXES_MAX);
	token->prefixes = calloc(count, sizeof(token->prefixes[0]));
	if (token->prefixes == NULL)
		return bad(why, "no memory for its tokens");
	while (token->prefix_count < count) {
		if (read_prefix(next_word(&line), token, why) != 0)
			return -1;
	}
	tidy_prefixes(token);
	return 0;
}

int token_line_read(const char *line, size_t len, struct token *ret_token, char why[TOKEN_WHY_MAX])
{
	struct word rest = {line, len};
	struct token token = {.prefixes = NULL};
	struct word first = next_word(&rest);
	if (first.len == 0 || first.at[0] == '#')
		return 0;
	if (read_digest(first, &token, why) != 0 || read_name(next_word(&rest), &token, why) != 0 ||
		read_roles(next_word(&rest), &token, why) != 0 || read_streams(rest, &token, why) != 0) {
		token_clear(&token);
		return -1;
	}
	*ret_token = token;
	return 1;
}

void token_clear(struct token *token)
{
	free(token->prefixes);
	*token = (struct token){.prefixes = NULL};
}
