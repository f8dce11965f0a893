#include "names.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "utf8.h"

#define PLAIN_MAX (NAMES_DIR_MAX - 1)
#define ESCAPED_MAX (3 * NAMES_STREAM_MAX)
#define HASHED_KEPT 40 /* bytes of the escaped form that a hashed name still shows */
#define HASH_DIGITS 32
#define ID_DIGITS 20
#define SALT_DIGITS 16
#define SHARD_LIMIT 65535

static const char upper_hex[] = "0123456789ABCDEF";

int stream_name_check(const char *name, size_t len, struct error *err)
{
	const char *what = NULL;

	if (len == 0)
		what = "it is empty";
	else if (len > NAMES_STREAM_MAX)
		what = "it is longer than 255 bytes";
	else if (!utf8_valid(name, len))
		what = "it is not valid UTF-8";
	if (!what)
		return 0;
	error_set(err, ERR_INVALID_FILENAME, "stream name refused: %s; use 1 to 255 bytes of UTF-8", what);
	error_set_text(err, EFI_NAME, name, len);
	return -1;
}

/* ---- directories of streams ------------------------------------------------------------------------------------- */

static bool stays_plain(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("_-.,+=@", c) != NULL);
}

static bool first_is_escaped(const char *name, size_t len)
{
	const size_t prefix = strlen(NAMES_OWN_PREFIX);

	return name[0] == '.' || (len >= prefix && memcmp(name, NAMES_OWN_PREFIX, prefix) == 0);
}

/* Escapes all of name. Returns the length; out is not terminated. *ret_kept is where a hashed name cuts it. */
static size_t escape(const char *name, size_t len, char out[ESCAPED_MAX], size_t *ret_kept)
{
	size_t n = 0, kept = 0;

	for (size_t i = 0; i < len; i++) {
		if (stays_plain(name[i]) && !(i == 0 && first_is_escaped(name, len))) {
			out[n++] = name[i];
		} else {
			const unsigned char byte = (unsigned char)name[i];

			out[n++] = '%';
			out[n++] = upper_hex[byte >> 4];
			out[n++] = upper_hex[byte & 15];
		}
		if (n <= HASHED_KEPT)
			kept = n;
	}
	*ret_kept = kept;
	return n;
}

int dirname_from_name(const char *name, size_t len, char out[NAMES_DIR_MAX])
{
	char escaped[ESCAPED_MAX];
	size_t kept;

	if (len == 0 || len > NAMES_STREAM_MAX)
		return -1;
	const size_t n = escape(name, len, escaped, &kept);
	if (n <= PLAIN_MAX) {
		memcpy(out, escaped, n);
		out[n] = '\0';
		return 0;
	}
	const XXH128_hash_t hash = XXH3_128bits(name, len);
	snprintf(out, NAMES_DIR_MAX, "%%%%%.*s-%016" PRIx64 "%016" PRIx64, (int)kept, escaped, (uint64_t)hash.high64,
		(uint64_t)hash.low64);
	return 1;
}

static int upper_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool lower_hex_parse(const char *digits, size_t count, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (size_t i = 0; i < count; i++) {
		const char c = digits[i];

		if (c >= '0' && c <= '9')
			value = value << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	*ret_value = value;
	return true;
}

/* Undoes the escapes of dir[0..dir_len). False if an escape is broken or more than NAMES_STREAM_MAX bytes come out. */
static bool unescape(const char *dir, size_t dir_len, char out[NAMES_STREAM_MAX + 1], size_t *ret_len)
{
	size_t n = 0;

	for (size_t i = 0; i < dir_len; n++) {
		if (n == NAMES_STREAM_MAX)
			return false;
		if (dir[i] != '%') {
			out[n] = dir[i++];
			continue;
		}
		if (dir_len - i < 3)
			return false;
		const int high = upper_hex_digit(dir[i + 1]), low = upper_hex_digit(dir[i + 2]);
		if (high < 0 || low < 0)
			return false;
		out[n] = (char)(high << 4 | low);
		i += 3;
	}
	*ret_len = n;
	return true;
}

/* The shape of a hashed name: its visible part must be what escaping makes, as far as one can tell from a part. */
static bool is_hashed(const char *dir, size_t dir_len)
{
	char name[NAMES_STREAM_MAX + 1], escaped[ESCAPED_MAX];
	uint64_t high, low;
	size_t name_len, kept;

	if (dir_len < 2 + 1 + HASH_DIGITS)
		return false;
	const size_t shown = dir_len - 2 - 1 - HASH_DIGITS;
	const char *hash = dir + 2 + shown + 1;
	if (shown > HASHED_KEPT || shown <= HASHED_KEPT - 3 || hash[-1] != '-')
		return false;
	if (!lower_hex_parse(hash, 16, &high) || !lower_hex_parse(hash + 16, 16, &low))
		return false;
	return unescape(dir + 2, shown, name, &name_len) && escape(name, name_len, escaped, &kept) == shown &&
	       memcmp(escaped, dir + 2, shown) == 0;
}

int name_from_dirname(const char *dir, char out[NAMES_STREAM_MAX + 1], size_t *ret_len)
{
	char name[NAMES_STREAM_MAX + 1], again[NAMES_DIR_MAX];
	const size_t dir_len = strnlen(dir, NAMES_DIR_MAX);
	size_t len;

	if (dir_len == 0 || dir_len > PLAIN_MAX)
		return -1;
	if (dir[0] == '%' && dir[1] == '%')
		return is_hashed(dir, dir_len) ? 1 : -1;
	if (!unescape(dir, dir_len, name, &len) || stream_name_check(name, len, NULL) != 0)
		return -1;
	/* Other spellings of the same name are not ours: two directories must never claim one stream. */
	if (dirname_from_name(name, len, again) != 0 || strcmp(again, dir) != 0)
		return -1;
	memcpy(out, name, len);
	out[len] = '\0';
	*ret_len = len;
	return 0;
}

/* ---- files of a stream ------------------------------------------------------------------------------------------ */

static bool id_parse(const char *digits, uint64_t *ret_id)
{
	uint64_t id = 0;

	for (size_t i = 0; i < ID_DIGITS; i++) {
		if (digits[i] < '0' || digits[i] > '9')
			return false;
		const uint64_t digit = (uint64_t)(digits[i] - '0');
		if (id > (UINT64_MAX - digit) / 10)
			return false;
		id = id * 10 + digit;
	}
	*ret_id = id;
	return true;
}

static bool numbered_parse(const char *file_name, const char *suffix, uint64_t *ret_first_id)
{
	if (strlen(file_name) != ID_DIGITS + strlen(suffix) || strcmp(file_name + ID_DIGITS, suffix) != 0)
		return false;
	return id_parse(file_name, ret_first_id);
}

void segment_file_name(uint64_t first_id, char out[NAMES_FILE_MAX])
{
	snprintf(out, NAMES_FILE_MAX, "%020" PRIu64 ".wal", first_id);
}

void index_file_name(uint64_t first_id, char out[NAMES_FILE_MAX])
{
	snprintf(out, NAMES_FILE_MAX, "%020" PRIu64 ".idx", first_id);
}

void cut_file_name(uint64_t first_id, uint64_t end_id, uint64_t salt, char out[NAMES_FILE_MAX])
{
	snprintf(out, NAMES_FILE_MAX, "%020" PRIu64 ".%020" PRIu64 ".%016" PRIx64 ".cut", first_id, end_id, salt);
}

bool segment_file_parse(const char *file_name, uint64_t *ret_first_id)
{
	return numbered_parse(file_name, ".wal", ret_first_id);
}

bool index_file_parse(const char *file_name, uint64_t *ret_first_id)
{
	return numbered_parse(file_name, ".idx", ret_first_id);
}

bool cut_file_parse(const char *file_name, uint64_t *ret_first_id, uint64_t *ret_end_id, uint64_t *ret_salt)
{
	const size_t end_at = ID_DIGITS + 1, salt_at = end_at + ID_DIGITS + 1, suffix_at = salt_at + SALT_DIGITS;
	uint64_t first, end, salt;

	if (strlen(file_name) != suffix_at + strlen(".cut") || strcmp(file_name + suffix_at, ".cut") != 0)
		return false;
	if (file_name[end_at - 1] != '.' || file_name[salt_at - 1] != '.')
		return false;
	if (!id_parse(file_name, &first) || !id_parse(file_name + end_at, &end) ||
		!lower_hex_parse(file_name + salt_at, SALT_DIGITS, &salt))
		return false;
	*ret_first_id = first;
	*ret_end_id = end;
	*ret_salt = salt;
	return true;
}

/* ---- shards ----------------------------------------------------------------------------------------------------- */

bool shard_number(const char *name, size_t len, uint32_t *ret_shard)
{
	static const char prefix[] = "shard_";
	const size_t prefix_len = sizeof(prefix) - 1;
	uint32_t shard = 0;

	if (len < prefix_len + 2 || len >= NAMES_SHARD_MAX || memcmp(name, prefix, prefix_len) != 0)
		return false;
	if (len > prefix_len + 2 && name[prefix_len] == '0')
		return false;
	for (size_t i = prefix_len; i < len; i++) {
		if (name[i] < '0' || name[i] > '9')
			return false;
		shard = shard * 10 + (uint32_t)(name[i] - '0');
	}
	if (shard >= SHARD_LIMIT)
		return false;
	*ret_shard = shard;
	return true;
}

size_t shard_name(uint32_t shard, char out[NAMES_SHARD_MAX])
{
	assert(shard < SHARD_LIMIT);
	return (size_t)snprintf(out, NAMES_SHARD_MAX, "shard_%02" PRIu32, shard % SHARD_LIMIT);
}
