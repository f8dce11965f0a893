/*
 * names: what things are called on disk: stream directories, files of a stream, shards.
 *
 * Owns nothing; pure functions on the caller's memory, any thread may call them.
 * Invariant: the map from stream names to directory names is injective (up to collisions of a 128-bit hash, which the
 * name in the segment header settles), and every name has exactly one spelling on disk: what is not the canonical
 * spelling is not one of ours.
 *
 * Directory of a stream:
 *   plain     bytes of [A-Za-z0-9_-.,+=@] stay, all others become %XX (upper-case hex). The first byte is escaped too
 *             if it is '.', or if the result would begin with "ironwald.", the prefix of the directory's own files.
 *   hashed    where plain is longer than 200 bytes: "%%", the first 40 bytes of plain at most (no escape is cut),
 *             '-', 32 lower-case hex digits of XXH3_128 of the name. "%%" is in no plain form.
 * Files of a stream (ids in decimal, 20 digits, so that byte order is the order of ids):
 *   segment     <first id>.wal
 *   index       <first id>.idx
 *   set aside   <first id>.<end id>.<salt, 16 lower-case hex digits>.cut     end id: one past the last good entry
 *   torn        the same with .torn: set aside with nothing good in it and its ids given again; no part of the log
 * Shards are streams named shard_00, shard_01, ..., shard_99, shard_100, ..., shard_65534.
 */
#ifndef IRONWALD_NAMES_H
#define IRONWALD_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

#define NAMES_STREAM_MAX 255 /* bytes of a stream's name */
#define NAMES_DIR_MAX 201    /* a directory's name with its NUL */
#define NAMES_FILE_MAX 64    /* the longest file name of a stream with its NUL */
#define NAMES_SHARD_MAX 12   /* "shard_65534" with its NUL */
#define NAMES_OWN_PREFIX "ironwald."
#define NAMES_ASIDE NAMES_OWN_PREFIX "aside-" /* and the name of a directory: a hashed one that no header names */

/* 0 if name can be a stream's: 1 to 255 bytes of valid UTF-8. Else -1 with ERR_INVALID_FILENAME and its field name. */
int stream_name_check(const char *name, size_t len, struct error *err);

/* out holds the directory's name, NUL-terminated. Returns 0: it can be turned back; 1: it is hashed;
 * -1: len is 0 or over 255. */
int dirname_from_name(const char *name, size_t len, char out[NAMES_DIR_MAX]);

/* The reverse. 0: out holds the stream's name, NUL-terminated, of *ret_len bytes. 1: a hashed name, to be read from a
 * segment's header (and compared by dirname_from_name). -1: not a stream's directory. out is touched only for 0. */
int name_from_dirname(const char *dir, char out[NAMES_STREAM_MAX + 1], size_t *ret_len);

void segment_file_name(uint64_t first_id, char out[NAMES_FILE_MAX]);
void index_file_name(uint64_t first_id, char out[NAMES_FILE_MAX]);
void cut_file_name(uint64_t first_id, uint64_t end_id, uint64_t salt, char out[NAMES_FILE_MAX]);

/* Exactly what the functions above make, nothing else. ret_ parameters are untouched where the result is false. */
bool segment_file_parse(const char *file_name, uint64_t *ret_first_id);
bool index_file_parse(const char *file_name, uint64_t *ret_first_id);
bool cut_file_parse(const char *file_name, uint64_t *ret_first_id, uint64_t *ret_end_id, uint64_t *ret_salt);

/* True for the canonical name of a shard: shard_ and at least two digits, no more leading zeros than that needs, below
 * 65535. */
bool shard_number(const char *name, size_t len, uint32_t *ret_shard);
/* shard must be below 65535. Returns the length. */
size_t shard_name(uint32_t shard, char out[NAMES_SHARD_MAX]);

#endif
