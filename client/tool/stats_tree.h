/*
 * stats_tree: what the server counts, as a tree with names.
 *
 * Owns a copy of the whole value. One thread.
 * Invariant: knows no names, and every text in it can be printed: nothing in it moves a cursor.
 */
#ifndef IRONWAL_STATS_TREE_H
#define IRONWAL_STATS_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ironwal.h"

struct stats_node {
	char *name; /* in a list: its number */
	char *text; /* NULL: it has children */
	bool is_list;
	bool is_number; /* not below 0, and whole: number is it; a boolean is 0 or 1 */
	uint64_t number;
	struct stats_node **children;
	size_t count;
};

/* NULL: out of memory, or too deep. */
struct stats_node *stats_tree_new(const ironwal_value *value);
/* NULL is legal. */
void stats_tree_free(struct stats_node *node);
/* What is in node by that name. NULL: there is no such thing; node may be NULL, too. */
const struct stats_node *stats_tree_child(const struct stats_node *node, const char *name);
/* What is below node by its names, "health.ready". NULL: there is no such thing. */
const struct stats_node *stats_tree_find(const struct stats_node *node, const char *path);

#endif
