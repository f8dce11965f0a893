/*
 * config_table: every key once; the file, the command line, --help, the checks and the tests are made from it.
 *
 * Owns static constant data; any thread may read it.
 * Invariant: the default of a row (unless it is NULL: required) is a value that the row accepts.
 */
#ifndef IRONWALD_CONFIG_TABLE_H
#define IRONWALD_CONFIG_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum config_type {
	CONFIG_SIZE,	  /* bytes; K, M, G: 1024 and its powers */
	CONFIG_COUNT,	  /* a plain number */
	CONFIG_DURATION,  /* ms, s, m; kept in nanoseconds */
	CONFIG_ENUM,	  /* one of names; kept as its place among them */
	CONFIG_PATH,	  /* 1 to max bytes; kept as a NUL-terminated array */
	CONFIG_NAME,	  /* the same, of something that is no file */
	CONFIG_MODE,	  /* of a file, in octal */
	CONFIG_ADDRESSES, /* ADDRESS:PORT, with commas between several; kept as struct config_addresses */
};

struct config_key {
	const char *name; /* as in the file; on the command line with - for _ */
	enum config_type type;
	bool takes_none;	  /* `none` is a value: kept as 0, an empty path or no address */
	bool reload;		  /* a reload (SIGHUP) changes it; the others wait for a restart */
	size_t offset, width;	  /* of the field in struct config; numbers are 4 or 8 bytes wide */
	const char *default_text; /* as one would write it; NULL: there is none, the key is required */
	uint64_t min, max;	  /* bytes, count or nanoseconds; a path's length */
	const char *const *names; /* CONFIG_ENUM, NULL-terminated */
	const char *help;	  /* one line */
};

extern const struct config_key config_keys[];
extern const size_t config_key_count;

/* Longest name of a key, and most keys that there may be (they are kept in the bits of a word). */
#define CONFIG_NAME_MAX 40
#define CONFIG_KEYS_MAX 64

/* NULL if there is none of that name. */
const struct config_key *config_key_find(const char *name, size_t len);
/* The key whose name is nearest, for a hint; NULL if none is near. - counts as _. */
const struct config_key *config_key_nearest(const char *name, size_t len);

#endif
