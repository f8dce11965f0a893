#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"
#include "stats_table.h"

/* ---- the value as a tree ---- */

#define DEPTH_MAX 16

struct node {
	char *name; /* in a list: its number */
	char *text; /* NULL: it has children */
	bool is_list;
	struct node **children;
	size_t count;
};

struct build {
	struct node *open[DEPTH_MAX + 1]; /* what the next value goes into; open[0] is the whole */
	size_t depth;
	char *key;
};

static void node_free(struct node *node)
{
	if (node == NULL)
		return;
	for (size_t i = 0; i < node->count; i++)
		node_free(node->children[i]);
	free(node->children);
	free(node->name);
	free(node->text);
	free(node);
}

/* NULL: out of memory. name is the node's then; it is freed if that fails. */
static struct node *node_add(struct node *parent, char *name)
{
	struct node *node = calloc(1, sizeof(*node));
	struct node **children = realloc(parent->children, (parent->count + 1) * sizeof(*children));
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
	struct node *parent = build->open[build->depth], *node = parent;
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
	if (opens)
		build->open[item->depth > 0 ? ++build->depth : 0] = node;
	return 0;
}

/* ---- tables ---- */

/* The scalars in a node, whatever is around them: "latency_us.p50" and its value. */
struct flat {
	struct cell {
		char *path;
		const char *text;
	} * cells;
	size_t count;
};

static bool flatten(const struct node *node, const char *prefix, struct flat *flat)
{
	for (size_t i = 0; i < node->count; i++) {
		const struct node *child = node->children[i];
		char *path;
		if (asprintf(&path, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", child->name) < 0)
			return false;
		if (child->text == NULL) {
			bool good = flatten(child, path, flat);
			free(path);
			if (!good)
				return false;
			continue;
		}
		struct cell *cells = realloc(flat->cells, (flat->count + 1) * sizeof(*cells));
		if (cells == NULL) {
			free(path);
			return false;
		}
		flat->cells = cells;
		flat->cells[flat->count++] = (struct cell){path, child->text};
	}
	return true;
}

static void flat_free(struct flat *flat)
{
	for (size_t i = 0; i < flat->count; i++)
		free(flat->cells[i].path);
	free(flat->cells);
}

static const char *flat_text(const struct flat *flat, const char *path)
{
	for (size_t i = 0; i < flat->count; i++) {
		if (strcmp(flat->cells[i].path, path) == 0)
			return flat->cells[i].text;
	}
	return "-";
}

static size_t longer(size_t width, const char *text)
{
	return strlen(text) > width ? strlen(text) : width;
}

/* What is called so is a row of its own, and those that have it are columns (a list); or the other way round (a map).
 * The first one says what there is. */
static void print_table(const struct node *node, const struct flat *flats)
{
	const struct flat *first = &flats[0];
	const size_t row_count = node->is_list ? first->count : node->count;
	const size_t column_count = node->is_list ? node->count : first->count;
	size_t name_width = 0;
	for (size_t r = 0; r < row_count; r++)
		name_width = longer(name_width, node->is_list ? first->cells[r].path : node->children[r]->name);
	for (size_t r = 0; r <= row_count; r++) { /* row 0 is the heading */
		const char *name = r == 0 ? "" : node->is_list ? first->cells[r - 1].path : node->children[r - 1]->name;
		out_format("  %-*s", (int)name_width, name);
		for (size_t c = 0; c < column_count; c++) {
			const char *heading = node->is_list ? node->children[c]->name : first->cells[c].path;
			size_t width = strlen(heading);
			const char *text = heading;
			for (size_t other = 0; other < row_count; other++) {
				const struct flat *flat = &flats[node->is_list ? c : other];
				const char *path = first->cells[node->is_list ? other : c].path;
				const char *value = flat_text(flat, path);
				width = longer(width, value);
				if (other + 1 == r)
					text = value;
			}
			out_format("  %*s", (int)width, text);
		}
		out_write("\n", 1);
	}
}

static void print_list(const struct node *node, const struct flat *flats)
{
	size_t width = 0;
	for (size_t i = 0; i < node->count; i++)
		width = longer(width, node->children[i]->name);
	for (size_t i = 0; i < node->count; i++) {
		const struct node *child = node->children[i];
		out_format("  %-*s ", (int)width, child->name);
		if (child->text != NULL)
			out_format(" %s", child->text);
		for (size_t k = 0; k < flats[i].count; k++)
			out_format("%s %s %s", k > 0 ? "," : "", flats[i].cells[k].path, flats[i].cells[k].text);
		out_write("\n", 1);
	}
}

/* A part of the whole, which has a name. False: out of memory. */
static bool print_section(const struct node *node)
{
	if (node->text != NULL || node->count == 0) {
		out_format("%s  %s\n", node->name, node->text != NULL ? node->text : "(none)");
		return true;
	}
	struct flat *flats = calloc(node->count, sizeof(*flats));
	bool good = flats != NULL, has_scalars = false;
	for (size_t i = 0; i < node->count && good; i++) {
		has_scalars = has_scalars || node->children[i]->text != NULL;
		good = node->children[i]->text != NULL || flatten(node->children[i], "", &flats[i]);
	}
	if (good) {
		out_format("%s\n", node->name);
		if (has_scalars || flats[0].count == 0)
			print_list(node, flats);
		else
			print_table(node, flats);
	}
	for (size_t i = 0; flats != NULL && i < node->count; i++)
		flat_free(&flats[i]);
	free(flats);
	return good;
}

bool stats_table_print(const ironwal_value *value)
{
	struct node *whole = calloc(1, sizeof(*whole));
	struct build build = {.open = {whole}};
	bool good = whole != NULL && ironwal_value_walk(value, add_item, &build) == 0;
	for (size_t i = 0; good && i < whole->count; i++)
		good = print_section(whole->children[i]);
	free(build.key);
	node_free(whole);
	return good;
}
