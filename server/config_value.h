/*
 * config_value: one value, from text to its field and back.
 *
 * Owns nothing; any thread may call anything here on a config that it owns.
 * Invariant: after -1 the field is as it was.
 */
#ifndef IRONWALD_CONFIG_VALUE_H
#define IRONWALD_CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "config_table.h"

#define CONFIG_WHY_MAX 300

/* Checks text against the row and stores it. add: addresses join those that are there instead of replacing them. On -1,
 * why holds what was expected ("expected strict, batch_only or async"), or the reason. */
int config_value_set(
	struct config *config, const struct config_key *key, const char *text, bool add, char why[CONFIG_WHY_MAX]);

/* As one would write it in the file; a long one is cut. */
void config_value_text(const struct config *config, const struct config_key *key, char *buf, size_t size);
bool config_value_same(const struct config *left, const struct config *right, const struct config_key *key);
/* to gets what from has. */
void config_value_copy(struct config *to, const struct config *from, const struct config_key *key);

/* "strict|batch_only|async", "none|SIZE", ...: for --help. */
void config_value_syntax(const struct config_key *key, char *buf, size_t size);

/* Shortest exact text: 65536 is "64K", 1500 ms is "1500ms". */
void config_format_size(uint64_t bytes, char *buf, size_t size);
void config_format_duration(uint64_t ns, char *buf, size_t size);

#endif
