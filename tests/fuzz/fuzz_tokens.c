/*
 * fuzz_tokens: the token file.
 *
 * Input: its text, in which a byte 1 stands for "sha256:" and 64 digits that the byte behind it picks (bits 6 and 7:
 * upper case). Checks: a refusal is one printable line that shows nothing of what could be a token; a second reader
 * finds the same tokens in what is accepted, and says of streams round each prefix who may have them; the file behind
 * itself has each token twice, and is refused; written anew as it was understood, it is the same.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "tokens.h"

#define TEXT_MAX ((size_t)65536)
#define LINES_MAX 512
#define PREFIXES_MAX 64
#define NAME_MAX_BYTES 255

static int file_fd;
static char file_path[64];

/* ---- a second reader, of files that were accepted ---- */

struct words {
	const char *at[PREFIXES_MAX];
	size_t len[PREFIXES_MAX], count;
};

/* Words of a line; count PREFIXES_MAX: too many. */
static void split(const char *line, size_t len, struct words *words)
{
	words->count = 0;
	for (size_t at = 0; at < len && words->count < PREFIXES_MAX;) {
		size_t end = at;
		while (end < len && strchr(" \t\r", line[end]) == NULL)
			end++;
		if (end > at) {
			words->at[words->count] = line + at;
			words->len[words->count++] = end - at;
		}
		at = end + 1;
	}
}

static unsigned digit(char c)
{
	return isdigit((unsigned char)c) ? (unsigned)(c - '0') : (unsigned)(tolower((unsigned char)c) - 'a' + 10);
}

static void digest_of(const struct words *words, uint8_t digest[TOKEN_DIGEST_BYTES])
{
	FUZZ_CHECK(words->len[0] == 7 + 64 && memcmp(words->at[0], "sha256:", 7) == 0, "a token without a digest");
	for (size_t i = 0; i < TOKEN_DIGEST_BYTES; i++) {
		const char *at = words->at[0] + 7 + 2 * i;
		FUZZ_CHECK(
			isxdigit((unsigned char)at[0]) && isxdigit((unsigned char)at[1]), "a digest of other things");
		digest[i] = (uint8_t)(digit(at[0]) * 16 + digit(at[1]));
	}
}

static unsigned roles_of(const char *word, size_t len)
{
	unsigned roles = 0;
	char text[64];
	FUZZ_CHECK(len < sizeof(text) || len > 0, "no role");
	for (size_t at = 0, end; at <= len; at = end + 1) {
		for (end = at; end < len && word[end] != ','; end++)
			;
		snprintf(text, sizeof(text), "%.*s", (int)(end - at), word + at);
		if (strcmp(text, "read") == 0)
			roles |= TOKEN_READ;
		else if (strcmp(text, "append") == 0)
			roles |= TOKEN_APPEND;
		else if (strcmp(text, "admin") == 0)
			roles |= TOKEN_READ | TOKEN_APPEND | TOKEN_ADMIN;
		else
			fuzz_fail(__FILE__, __LINE__, "a role that there is not: %s", text);
	}
	return roles;
}

struct prefix {
	char bytes[NAME_MAX_BYTES + 1];
	size_t len;
};

static void decode(const char *word, size_t len, struct prefix *prefix)
{
	FUZZ_CHECK(len > 0 && word[len - 1] == '*', "streams without *");
	prefix->len = 0;
	for (size_t i = 0; i + 1 < len; i++) {
		char byte = word[i];
		if (byte == '%') {
			FUZZ_CHECK(i + 3 < len && isxdigit((unsigned char)word[i + 1]) &&
					   isxdigit((unsigned char)word[i + 2]),
				"%% before no number");
			byte = (char)(digit(word[i + 1]) * 16 + digit(word[i + 2]));
			i += 2;
		}
		FUZZ_CHECK(prefix->len < NAME_MAX_BYTES, "a prefix is too long");
		prefix->bytes[prefix->len++] = byte;
	}
}

/* ---- what is held against it ---- */

static bool may_have(const struct prefix *prefixes, size_t count, const char *name, size_t len)
{
	for (size_t i = 0; i < count; i++) {
		if (prefixes[i].len <= len && memcmp(prefixes[i].bytes, name, prefixes[i].len) == 0)
			return true;
	}
	return false;
}

/* Names that a prefix is about: itself, one byte less, one more, and its last byte changed. */
static void check_streams(const struct token *token, const struct prefix *prefixes, size_t count)
{
	char name[NAME_MAX_BYTES + 2];
	for (size_t i = 0; i < count; i++) {
		size_t len = prefixes[i].len;
		memcpy(name, prefixes[i].bytes, len);
		name[len] = 'x';
		for (size_t around = len > 0 ? len - 1 : 0; around <= len + 1; around++)
			FUZZ_CHECK(token_allows_stream(token, name, around) == may_have(prefixes, count, name, around),
				"%.*s of %s", (int)around, name, token->name);
		if (len == 0)
			continue;
		name[len - 1] ^= 1;
		FUZZ_CHECK(token_allows_stream(token, name, len) == may_have(prefixes, count, name, len), "%.*s of %s",
			(int)len, name, token->name);
	}
}

static void check_prefixes(const struct token *token)
{
	FUZZ_CHECK(token->prefix_count > 0 && token->everything == (token->prefixes[0].len == 0), "all, or not");
	FUZZ_CHECK(!token->everything || token->prefix_count == 1, "all, and more");
	for (size_t i = 1; i < token->prefix_count; i++) {
		const struct token_prefix *a = &token->prefixes[i - 1], *b = &token->prefixes[i];
		size_t least = a->len < b->len ? a->len : b->len;
		FUZZ_CHECK(memcmp(a->bytes, b->bytes, least) < 0, "prefixes that are not in order, or overlap");
	}
}

struct written {
	char text[2 * TEXT_MAX];
	size_t len;
};

static void put(struct written *written, const char *text)
{
	size_t len = strlen(text);
	FUZZ_CHECK(written->len + len <= sizeof(written->text), "it is longer than it was");
	memcpy(written->text + written->len, text, len);
	written->len += len;
}

/* A line that says what was understood. */
static void write_token(struct written *written, const struct token *token)
{
	char piece[32];
	put(written, "sha256:");
	for (size_t i = 0; i < TOKEN_DIGEST_BYTES; i++) {
		snprintf(piece, sizeof(piece), "%02x", token->digest[i]);
		put(written, piece);
	}
	put(written, " ");
	put(written, token->name);
	put(written, (token->roles & TOKEN_ADMIN) != 0 ? " admin" : token->roles == TOKEN_READ ? " read" : " append");
	put(written, token->roles == (TOKEN_READ | TOKEN_APPEND) ? ",read" : "");
	for (size_t i = 0; i < token->prefix_count; i++) {
		put(written, " ");
		for (size_t j = 0; j < token->prefixes[i].len; j++) {
			uint8_t byte = token->prefixes[i].bytes[j];
			snprintf(piece, sizeof(piece), isalnum(byte) ? "%c" : "%%%02X", byte);
			put(written, piece);
		}
		put(written, "*");
	}
	put(written, "\n");
}

static struct token_set *read_file(const char *text, size_t len, struct error *err)
{
	struct token_set *set = NULL;
	FUZZ_CHECK(ftruncate(file_fd, 0) == 0 && pwrite(file_fd, text, len, 0) == (ssize_t)len, "no file in memory");
	FUZZ_CHECK((token_set_read(file_path, &set, err) == 0) == (set != NULL), "neither read nor refused");
	return set;
}

static void check_refusal(const struct error *err, const char *text, size_t len)
{
	FUZZ_CHECK(err->code == ERR_CONFIG && err->message[0] != '\0', "refused without a reason");
	for (const char *at = err->message; *at != '\0'; at++)
		FUZZ_CHECK(!iscntrl((unsigned char)*at), "a control character in: %s", err->message);
	/* Where the digest should be may be the token itself. */
	for (const char *line = text, *end = text + len, *next; line < end; line = next) {
		const char *stop = memchr(line, '\n', (size_t)(end - line));
		struct words words;
		next = stop != NULL ? stop + 1 : end;
		split(line, (size_t)((stop != NULL ? stop : end) - line), &words);
		if (words.count > 0 && words.len[0] >= 20)
			FUZZ_CHECK(memmem(err->message, strlen(err->message), words.at[0], words.len[0]) == NULL,
				"it is shown: %s", err->message);
	}
}

static void check_again(const struct token_set *set, const struct words *words, struct written *written)
{
	static struct prefix prefixes[PREFIXES_MAX];
	uint8_t digest[TOKEN_DIGEST_BYTES];
	FUZZ_CHECK(words->count >= 4 && words->count < PREFIXES_MAX, "a token of %zu words", words->count);
	digest_of(words, digest);
	const struct token *token = token_set_find(set, digest);
	FUZZ_CHECK(token != NULL && strlen(token->name) == words->len[1] &&
			   memcmp(token->name, words->at[1], words->len[1]) == 0,
		"a token is not there, or has another name");
	FUZZ_CHECK(token->roles == roles_of(words->at[2], words->len[2]), "roles %u", token->roles);
	for (size_t i = 3; i < words->count; i++)
		decode(words->at[i], words->len[i], &prefixes[i - 3]);
	check_prefixes(token);
	check_streams(token, prefixes, words->count - 3);
	write_token(written, token);
}

static void check_accepted(const struct token_set *set, const char *text, size_t len)
{
	static struct written written;
	struct error err = {0};
	size_t count = 0;
	written.len = 0;
	for (const char *line = text, *end = text + len, *next; line < end; line = next) {
		const char *stop = memchr(line, '\n', (size_t)(end - line));
		struct words words;
		next = stop != NULL ? stop + 1 : end;
		split(line, (size_t)((stop != NULL ? stop : end) - line), &words);
		if (words.count == 0 || words.at[0][0] == '#')
			continue;
		check_again(set, &words, &written);
		count++;
	}
	FUZZ_CHECK(count > 0 && token_set_count(set) == count, "%zu tokens of %zu", token_set_count(set), count);

	struct token_set *same = read_file(written.text, written.len, &err);
	FUZZ_CHECK(same != NULL && token_set_count(same) == count, "as understood it is refused: %s", err.message);
	for (const char *line = written.text, *end = line + written.len; line < end;
		line = (const char *)memchr(line, '\n', (size_t)(end - line)) + 1) {
		const struct words words = {.at = {line}, .len = {7 + 64}, .count = 1};
		uint8_t digest[TOKEN_DIGEST_BYTES];
		digest_of(&words, digest);
		const struct token *a = token_set_find(set, digest), *b = token_set_find(same, digest);
		FUZZ_CHECK(a != NULL && b != NULL && token_same(a, b), "as understood it is another");
	}
	token_set_free(same);
	memmove(written.text + written.len, written.text, written.len);
	FUZZ_CHECK(read_file(written.text, 2 * written.len, &err) == NULL && strstr(err.message, "twice") != NULL,
		"each is there twice, and it is: %s", err.message);
	check_refusal(&err, written.text, written.len);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_quiet();
	file_fd = memfd_create("tokens", MFD_CLOEXEC);
	FUZZ_CHECK(file_fd >= 0 && fchmod(file_fd, 0600) == 0, "no file in memory");
	snprintf(file_path, sizeof(file_path), "/proc/self/fd/%d", file_fd);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[TEXT_MAX];
	struct fuzz_in in = {data, data + size};
	struct error err = {0};
	size_t len = 0;
	while (fuzz_more(&in) && len + 80 < TEXT_MAX) {
		uint8_t byte = fuzz_u8(&in);
		if (byte != 1) {
			text[len++] = (char)byte;
			continue;
		}
		memcpy(text + len, "sha256:", 7);
		len += 7;
		byte = fuzz_u8(&in);
		for (unsigned i = 0; i < 64; i++)
			text[len++] = (byte >> 6 == 3 ? "0123456789ABCDEF" : "0123456789abcdef")[(byte + i) & 15];
	}
	struct token_set *set = read_file(text, len, &err);
	if (set == NULL)
		check_refusal(&err, text, len);
	else
		check_accepted(set, text, len);
	token_set_free(set);
	return 0;
}
