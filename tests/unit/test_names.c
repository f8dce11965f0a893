#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "names.h"

static void expect_dir(const char *name, size_t len, const char *dir)
{
	char out[NAMES_DIR_MAX], back[NAMES_STREAM_MAX + 1];
	size_t back_len = 0;

	cr_assert(dirname_from_name(name, len, out) == 0, "%s is not plain", dir);
	cr_assert_str_eq(out, dir);
	cr_assert(name_from_dirname(out, back, &back_len) == 0, "%s does not come back", dir);
	cr_assert(back_len == len && memcmp(back, name, len) == 0, "%s comes back as another name", dir);
	cr_assert(back[len] == '\0');
}

static void expect_no_dir(const char *dir)
{
	char out[NAMES_STREAM_MAX + 1] = "untouched";
	size_t len = 77;

	cr_assert(name_from_dirname(dir, out, &len) == -1, "%s was taken for a stream's directory", dir);
	cr_assert(strcmp(out, "untouched") == 0 && len == 77);
}

Test(names, directories_of_known_names)
{
	expect_dir("orders", 6, "orders");
	expect_dir("Az09_-.,+=@", 11, "Az09_-.,+=@");
	expect_dir("a/b", 3, "a%2Fb");
	expect_dir("a_b", 3, "a_b");
	expect_dir(".", 1, "%2E");
	expect_dir("..", 2, "%2E.");
	expect_dir(".hidden", 7, "%2Ehidden");
	expect_dir("a.", 2, "a.");
	expect_dir("%41", 3, "%2541");
	expect_dir("a b", 3, "a%20b");
	expect_dir("\0", 1, "%00");
	expect_dir("a\0b", 3, "a%00b");
	expect_dir("\xf0\x9f\x98\x80", 4, "%F0%9F%98%80");
	expect_dir("ironwald.manifest", 17, "%69ronwald.manifest");
	expect_dir("ironwald.", 9, "%69ronwald.");
	expect_dir("ironwald", 8, "ironwald");
	expect_dir("ironwald_x", 10, "ironwald_x");
	expect_dir("Ironwald.x", 10, "Ironwald.x");
}

Test(names, other_spellings_are_refused)
{
	expect_no_dir("");
	expect_no_dir(".");
	expect_no_dir("..");
	expect_no_dir(".x");
	expect_no_dir("a b");
	expect_no_dir("a/b");
	expect_no_dir("a%2fb"); /* lower-case hex */
	expect_no_dir("%61");	/* 'a' needs no escape */
	expect_no_dir("a%2");	/* cut */
	expect_no_dir("a%");
	expect_no_dir("a%GG");
	expect_no_dir("%FF");		    /* not UTF-8 */
	expect_no_dir("\xc3\xa9");	    /* not escaped */
	expect_no_dir("ironwald.manifest"); /* the directory's own */
	expect_no_dir("%69ronwald");	    /* escaped without need */
	expect_no_dir("lost found");
	expect_no_dir("%%");
}

Test(names, the_longest_plain_name_and_the_first_hashed)
{
	char name[NAMES_STREAM_MAX + 1], dir[NAMES_DIR_MAX], other[NAMES_DIR_MAX], out[NAMES_STREAM_MAX + 1];
	size_t len;

	memset(name, 'x', sizeof(name));
	cr_assert(dirname_from_name(name, 200, dir) == 0 && strlen(dir) == 200);
	cr_assert(dirname_from_name(name, 201, dir) == 1);
	cr_assert(strlen(dir) == 2 + 40 + 1 + 32);
	cr_assert(memcmp(dir, "%%xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-", 43) == 0, "%s", dir);
	cr_assert(name_from_dirname(dir, out, &len) == 1);
	cr_assert(dirname_from_name(name, 255, other) == 1);
	cr_assert_str_neq(dir, other);
	cr_assert(dirname_from_name(name, 256, dir) == -1);
	cr_assert(dirname_from_name(name, 0, dir) == -1);
}

Test(names, hash_and_cut_are_pinned)
{
	char name[255], dir[NAMES_DIR_MAX];

	/* An escape does not fit into the last two of the forty bytes. */
	for (size_t i = 0; i < 201; i++)
		name[i] = i == 38 ? '/' : 'y';
	cr_assert(dirname_from_name(name, 201, dir) == 1);
	cr_assert(strlen(dir) == 2 + 38 + 1 + 32, "%s", dir);
	cr_assert_str_eq(dir, "%%yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy-fe16119019e0b0baa8fcbf851fc9d9f4");
}

Test(names, broken_hashed_names_are_refused)
{
	static const char good[] = "%%xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-0123456789abcdef0123456789abcdef";
	char dir[sizeof(good)], out[NAMES_STREAM_MAX + 1];
	size_t len;

	cr_assert(name_from_dirname(good, out, &len) == 1);
	memcpy(dir, good, sizeof(dir));
	dir[50] = 'A';
	expect_no_dir(dir);
	memcpy(dir, good, sizeof(dir));
	dir[42] = '_';
	expect_no_dir(dir);
	memcpy(dir, good, sizeof(dir));
	dir[2] = '.';
	expect_no_dir(dir);
	memcpy(dir, good, sizeof(dir));
	dir[5] = '%';
	expect_no_dir(dir);
	memcpy(dir, good, sizeof(dir));
	dir[sizeof(good) - 2] = '\0';
	expect_no_dir(dir);
	expect_no_dir("%%short-0123456789abcdef0123456789abcdef");
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(a, b);
}

Test(names, random_names_are_mapped_injectively)
{
	enum { COUNT = 20000 };
	static const char *const pieces[] = {"a", "/", ".", "..", "%", "%%", "_", "ironwald.", "\xc3\xa9", " ", "-",
		"A", "\xf0\x9f\x98\x80", "%2F", "0123456789"};
	char(*dirs)[NAMES_DIR_MAX] = malloc(COUNT * sizeof(*dirs));
	char(*names)[NAMES_STREAM_MAX + 1] = calloc(COUNT, sizeof(*names));
	uint64_t state = 42;
	size_t count = 0;

	while (count < COUNT) {
		char *name = names[count];
		size_t len = 0;

		state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
		const unsigned n = (unsigned)(state >> 33) % 60 + 1;
		for (unsigned i = 0; i < n; i++) {
			state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
			const char *piece = pieces[(state >> 33) % (sizeof(pieces) / sizeof(*pieces))];

			if (len + strlen(piece) > NAMES_STREAM_MAX)
				break;
			memcpy(name + len, piece, strlen(piece) + 1);
			len += strlen(piece);
		}
		count++;
	}
	qsort(names, count, sizeof(*names), by_bytes);
	size_t distinct = 0;
	for (size_t i = 0; i < count; i++) {
		if (i > 0 && strcmp(names[i], names[i - 1]) == 0)
			continue;
		char back[NAMES_STREAM_MAX + 1];
		size_t back_len;
		const size_t len = strlen(names[i]);
		const int hashed = dirname_from_name(names[i], len, dirs[distinct]);

		cr_assert(hashed == 0 || hashed == 1);
		cr_assert(name_from_dirname(dirs[distinct], back, &back_len) == hashed, "%s", dirs[distinct]);
		if (hashed == 0)
			cr_assert(back_len == len && memcmp(back, names[i], len) == 0);
		cr_assert(strncmp(dirs[distinct], "ironwald.", 9) != 0 && dirs[distinct][0] != '.');
		distinct++;
	}
	cr_assert(distinct > 10000);
	qsort(dirs, distinct, sizeof(*dirs), by_bytes);
	for (size_t i = 1; i < distinct; i++)
		cr_assert_str_neq(dirs[i], dirs[i - 1]);
	free(dirs);
	free(names);
}

Test(names, stream_names_are_checked)
{
	char long_name[300];
	struct error err;

	memset(long_name, 'n', sizeof(long_name));
	cr_assert(stream_name_check("a", 1, &err) == 0);
	cr_assert(stream_name_check("a\0b", 3, &err) == 0);
	cr_assert(stream_name_check(long_name, 255, &err) == 0);
	cr_assert(stream_name_check(long_name, 256, &err) == -1);
	cr_assert(err.code == ERR_INVALID_FILENAME && error_has(&err, EFI_NAME) && err.name.len == 255);
	cr_assert(stream_name_check("", 0, &err) == -1);
	cr_assert(err.code == ERR_INVALID_FILENAME && error_has(&err, EFI_NAME) && err.name.len == 0);
	cr_assert(stream_name_check("a\xff", 2, &err) == -1);
	cr_assert(err.code == ERR_INVALID_FILENAME && err.name.len == 2 && memcmp(err.name.bytes, "a\xff", 2) == 0);
}

Test(names, files_of_a_stream)
{
	char name[NAMES_FILE_MAX];
	uint64_t first = 7, end = 7, salt = 7;

	segment_file_name(0, name);
	cr_assert_str_eq(name, "00000000000000000000.wal");
	segment_file_name(UINT64_MAX, name);
	cr_assert_str_eq(name, "18446744073709551615.wal");
	cr_assert(segment_file_parse(name, &first) && first == UINT64_MAX);
	cr_assert(!index_file_parse(name, &first));
	index_file_name(42, name);
	cr_assert_str_eq(name, "00000000000000000042.idx");
	cr_assert(index_file_parse(name, &first) && first == 42);
	cut_file_name(1, UINT64_MAX, UINT64_C(0xfedcba9876543210), name);
	cr_assert_str_eq(name, "00000000000000000001.18446744073709551615.fedcba9876543210.cut");
	cr_assert(cut_file_parse(name, &first, &end, &salt));
	cr_assert(first == 1 && end == UINT64_MAX && salt == UINT64_C(0xfedcba9876543210));
}

Test(names, other_files_are_refused)
{
	static const char *const segments[] = {"", ".wal", "1.wal", "0000000000000000001.wal",
		"000000000000000000001.wal", "18446744073709551616.wal", "99999999999999999999.wal",
		"0000000000000000000a.wal", "00000000000000000001.WAL", "00000000000000000001.wal~",
		"00000000000000000001.wal.", "-0000000000000000001.wal", " 0000000000000000001.wal",
		"00000000000000000001", "00000000000000000001.idx"};
	static const char *const cuts[] = {"00000000000000000001.cut",
		"00000000000000000001.00000000000000000002.fedcba987654321.cut",
		"00000000000000000001.00000000000000000002.FEDCBA9876543210.cut",
		"00000000000000000001-00000000000000000002.fedcba9876543210.cut",
		"00000000000000000001.00000000000000000002-fedcba9876543210.cut",
		"00000000000000000001.18446744073709551616.fedcba9876543210.cut",
		"00000000000000000001.00000000000000000002.fedcba9876543210.wal",
		"00000000000000000001.00000000000000000002.fedcba9876543210.cut2"};
	uint64_t first = 7, end = 7, salt = 7;

	for (size_t i = 0; i < sizeof(segments) / sizeof(*segments); i++)
		cr_assert(!segment_file_parse(segments[i], &first), "%s", segments[i]);
	for (size_t i = 0; i < sizeof(cuts) / sizeof(*cuts); i++)
		cr_assert(!cut_file_parse(cuts[i], &first, &end, &salt), "%s", cuts[i]);
	cr_assert(first == 7 && end == 7 && salt == 7);
}

Test(names, shards)
{
	static const char *const others[] = {"", "shard_", "shard_7", "shard_007", "shard_0100", "shard_65535",
		"shard_99999", "shard_100000", "shard_-1", "shard_ 1", "shard_1a", "Shard_01", "shards_01", "shard_01 ",
		"shard_4294967297"};
	char name[NAMES_SHARD_MAX];
	uint32_t shard = 99;

	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		cr_assert(!shard_number(others[i], strlen(others[i]), &shard), "%s", others[i]);
	cr_assert(!shard_number("shard_01\0", 9, &shard));
	cr_assert(shard == 99);
	for (uint32_t i = 0; i < 65535; i++) {
		const size_t len = shard_name(i, name);

		cr_assert(len == strlen(name));
		cr_assert(shard_number(name, len, &shard) && shard == i, "%s", name);
	}
	shard_name(7, name);
	cr_assert_str_eq(name, "shard_07");
	shard_name(65534, name);
	cr_assert_str_eq(name, "shard_65534");
}
