#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stats_tree.h"
#include "tool.h"

#define DEPTH_MAX 16

struct build {
	struct stats_node *open[DEPTH_MAX + 1]; /* what the next value goes into; open[0] is the whole */
	size_t depth;
	char *key;
};

void stats_tree_free(struct stats_node *node)
{
	if (node == NULL)
		return;
	for (size_t i = 0; i < node->count; i++)
		stats_tree_free(node->children[i]);
	free(node->children);
	free(node->name);
	free(node->text);
	free(node);
}

/* NULL: out of memory. name is the node's then; it is freed if that fails. */
static struct stats_node *node_add(struct stats_node *parent, char *name)
{
	struct stats_node *node = calloc(1, sizeof(*node));
	struct stats_node **children = realloc(parent->children, (parent->count + 1) * sizeof(*children));
	if (children != NULL)
		parent->children = children;
	if (node == NULL || children == NULL || name == NULL) {
		free(node);
		free(name);
		return NULL;
	}
	node->name = name;
	parent->children[parent->count++] = node;
	return node;
}

/* To be freed. NULL: out of memory. */
static char *scalar_text(const ironwal_value_item *item)
{
	char *text = NULL;
	int n = 0;
	switch (item->kind) {
	case IRONWAL_VALUE_NIL:
		return strdup("-");
	case IRONWAL_VALUE_BOOL:
		return strdup(item->u ? "yes" : "no");
	case IRONWAL_VALUE_UINT:
		n = asprintf(&text, "%llu", (unsigned long long)item->u);
		break;
	case IRONWAL_VALUE_INT:
		n = asprintf(&text, "%lld", (long long)item->i);
		break;
	case IRONWAL_VALUE_FLOAT:
		n = asprintf(&text, "%.6g", item->f);
		break;
	default:
		return item->len > 0 ? tool_shown(item->data, item->len) : strdup("-");
	}
	return n >= 0 ? text : NULL;
}

/* Not 0: out of memory, or too deep to be shown. */
static int add_item(const ironwal_value_item *item, void *arg)
{
	struct build *build = arg;
	if (item->kind == IRONWAL_VALUE_MAP_END || item->kind == IRONWAL_VALUE_ARRAY_END) {
		if (build->depth > 0)
			build->depth--;
		return 0;
	}
	char *text = NULL;
	bool opens = item->kind == IRONWAL_VALUE_MAP_BEGIN || item->kind == IRONWAL_VALUE_ARRAY_BEGIN;
	if (!opens && (text = scalar_text(item)) == NULL)
		return -1;
	if (item->is_key) {
		build->key = text;
		return 0;
	}
	struct stats_node *parent = build->open[build->depth], *node = parent;
	if (item->depth > 0) { /* else it is the whole itself */
		char *name = build->key;
		build->key = NULL;
		if (name == NULL && asprintf(&name, "%zu", parent->count) < 0)
			name = NULL;
		node = node_add(parent, name);
	}
	if (node == NULL || (opens && item->depth > 0 && build->depth == DEPTH_MAX)) {
		free(text);
		return -1;
	}
	node->text = text;
	node->is_list = item->kind == IRONWAL_VALUE_ARRAY_BEGIN;
	node->is_number = item->kind == IRONWAL_VALUE_UINT || item->kind == IRONWAL_VALUE_BOOL;
	node->number = node->is_number ? item->u : 0;
	if (opens)
		build->open[item->depth > 0 ? ++build->depth : 0] = node;
	return 0;
}

struct stats_node *stats_tree_new(const ironwal_value *value)
{
	struct stats_node *whole = calloc(1, sizeof(*whole));
	struct build build = {.open = {whole}};
	bool good = whole != NULL && ironwal_value_walk(value, add_item, &build) == 0;
	free(build.key);
	if (good)
		return whole;
	stats_tree_free(whole);
	return NULL;
}

static const struct stats_node *child(const struct stats_node *node, const char *name, size_t len)
{
	for (size_t i = 0; node != NULL && i < node->count; i++) {
		const char *other = node->children[i]->name;
		if (strncmp(other, name, len) == 0 && other[len] == '\0')
			return node->children[i];
	}
	return NULL;
}

const struct stats_node *stats_tree_child(const struct stats_node *node, const char *name)
{
	return child(node, name, strlen(name));
}

const struct stats_node *stats_tree_find(const struct stats_node *node, const char *path)
{
	while (node != NULL && *path != '\0') {
		const size_t len = strcspn(path, ".");
		node = child(node, path, len);
		path += len + (path[len] == '.');
	}
	return node;
}
