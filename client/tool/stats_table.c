#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"
#include "stats_table.h"
#include "stats_tree.h"

/* The scalars in a node, whatever is around them: "latency_us.p50" and its value. */
struct flat {
	struct cell {
		char *path;
		const char *text;
	} * cells;
	size_t count;
};

static bool flatten(const struct stats_node *node, const char *prefix, struct flat *flat)
{
	for (size_t i = 0; i < node->count; i++) {
		const struct stats_node *child = node->children[i];
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
static void print_table(const struct stats_node *node, const struct flat *flats)
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

static void print_list(const struct stats_node *node, const struct flat *flats)
{
	size_t width = 0;
	for (size_t i = 0; i < node->count; i++)
		width = longer(width, node->children[i]->name);
	for (size_t i = 0; i < node->count; i++) {
		const struct stats_node *child = node->children[i];
		out_format("  %-*s ", (int)width, child->name);
		if (child->text != NULL)
			out_format(" %s", child->text);
		for (size_t k = 0; k < flats[i].count; k++)
			out_format("%s %s %s", k > 0 ? "," : "", flats[i].cells[k].path, flats[i].cells[k].text);
		out_write("\n", 1);
	}
}

/* A part of the whole, which has a name. False: out of memory. */
static bool print_section(const struct stats_node *node)
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
	struct stats_node *whole = stats_tree_new(value);
	bool good = whole != NULL;
	for (size_t i = 0; good && i < whole->count; i++)
		good = print_section(whole->children[i]);
	stats_tree_free(whole);
	return good;
}
