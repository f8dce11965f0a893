/* The names of an overlay: which are kept, and what shows of those below. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "overlay_node.h"

int names_init(struct overlay *overlay)
{
	overlay->bucket_count = 64;
	overlay->buckets = calloc(overlay->bucket_count, sizeof(struct node *));
	overlay->root.kind = NODE_DIR;
	overlay->root.below = strdup("");
	return overlay->buckets && overlay->root.below ? 0 : -1;
}

static struct node **bucket_of(struct overlay *overlay, const struct node *parent, const char *name)
{
	uint64_t hash = XXH3_64bits_withSeed(name, strlen(name), (uint64_t)(uintptr_t)parent);
	return &overlay->buckets[hash & (overlay->bucket_count - 1)];
}

static struct node *find_child(struct overlay *overlay, const struct node *parent, const char *name)
{
	struct node *node = *bucket_of(overlay, parent, name);
	while (node && (node->parent != parent || strcmp(node->name, name) != 0))
		node = node->hash_next;
	return node;
}

static void grow(struct overlay *overlay)
{
	size_t old_count = overlay->bucket_count;
	struct node **old = overlay->buckets, **buckets = calloc(old_count * 2, sizeof(struct node *));
	if (!buckets)
		return; /* it gets slower */
	overlay->buckets = buckets;
	overlay->bucket_count = old_count * 2;
	for (size_t i = 0; i < old_count; i++)
		for (struct node *node = old[i], *next; node; node = next) {
			next = node->hash_next;
			struct node **bucket = bucket_of(overlay, node->parent, node->name);
			node->hash_next = *bucket;
			*bucket = node;
		}
	free(old);
}

static void attach(struct overlay *overlay, struct node *node, struct node *parent)
{
	if (overlay->node_count >= overlay->bucket_count)
		grow(overlay);
	node->parent = parent;
	struct node **bucket = bucket_of(overlay, parent, node->name);
	node->hash_next = *bucket;
	*bucket = node;
	node->sibling_prev = NULL;
	node->sibling_next = parent->children;
	if (parent->children)
		parent->children->sibling_prev = node;
	parent->children = node;
	overlay->node_count++;
}

static void detach(struct overlay *overlay, struct node *node)
{
	struct node **at = bucket_of(overlay, node->parent, node->name);
	while (*at != node)
		at = &(*at)->hash_next;
	*at = node->hash_next;
	*(node->sibling_prev ? &node->sibling_prev->sibling_next : &node->parent->children) = node->sibling_next;
	if (node->sibling_next)
		node->sibling_next->sibling_prev = node->sibling_prev;
	node->parent = NULL;
	overlay->node_count--;
}

static void free_node(struct overlay *overlay, struct node *node)
{
	file_free_pages(overlay, node);
	free(node->name);
	free(node->below);
	free(node);
}

void names_free(struct overlay *overlay)
{
	for (size_t i = 0; overlay->buckets && i < overlay->bucket_count; i++)
		for (struct node *node = overlay->buckets[i], *next; node; node = next) {
			next = node->hash_next;
			free_node(overlay, node);
		}
	free(overlay->buckets);
	free(overlay->root.below);
}

void names_prune(struct overlay *overlay, struct node *node)
{
	while (node && node->parent) {
		struct node *parent = node->parent;
		if (node->handles > 0 || node->kind == NODE_GONE || node->placed || node->children ||
			(node->kind == NODE_FILE && file_is_changed(node)))
			return;
		detach(overlay, node);
		free_node(overlay, node);
		node = parent;
	}
}

/* ---- paths ------------------------------------------------------------------------------------------------------ */

static int join(char out[IO_PATH_MAX + 1], const char *dir, const char *name)
{
	int len = snprintf(out, IO_PATH_MAX + 1, "%s%s%s", dir, dir[0] ? "/" : "", name);
	return len < 0 || len > IO_PATH_MAX ? -ENAMETOOLONG : 0;
}

static int stop_cb(const char *name, bool is_dir, void *arg)
{
	(void)name;
	(void)is_dir;
	(void)arg;
	return 1;
}

static int kind_below(struct overlay *overlay, const char *path, enum node_kind *ret_kind)
{
	struct io *below = overlay->below;
	int r = below->ops->exists(below, path);
	*ret_kind = NODE_GONE;
	if (r <= 0)
		return r;
	r = below->ops->list_dir(below, path, stop_cb, NULL);
	*ret_kind = r < 0 ? NODE_FILE : NODE_DIR;
	return r == -ENOTDIR || r >= 0 ? 0 : r;
}

/* One component further. Of what is below only the last one is looked at: what leads to something is a directory. */
static int step(struct overlay *overlay, struct place *place, const char *name, size_t len)
{
	char below[IO_PATH_MAX + 1];
	if (len >= sizeof(place->name))
		return -ENAMETOOLONG;
	/* What is gone has nothing below it that shows. */
	place->parent = place->node;
	place->parent_is_there = place->kind == NODE_DIR;
	memcpy(place->name, name, len);
	place->name[len] = '\0';
	place->node = place->parent ? find_child(overlay, place->parent, place->name) : NULL;
	if (place->node) {
		place->kind = place->node->kind;
		place->has_below = place->node->below != NULL;
		snprintf(place->below, sizeof(place->below), "%s", place->has_below ? place->node->below : "");
		return 0;
	}
	place->kind = NODE_GONE;
	if (!place->parent_is_there || !place->has_below) {
		place->has_below = false;
		return 0;
	}
	int r = join(below, place->below, place->name);
	if (r != 0)
		return r;
	memcpy(place->below, below, sizeof(below));
	place->kind = NODE_DIR;
	return 0;
}

/* What the last component is, which has no node. */
static int look_at_place(struct overlay *overlay, struct place *place, enum node_kind presumed)
{
	struct io *io = overlay->below;
	char parent[IO_PATH_MAX + 1];
	enum node_kind kind;
	if (presumed == NODE_GONE) {
		int r = kind_below(overlay, place->below, &place->kind);
		if (r != 0)
			return r;
	} else {
		int there = io->ops->exists(io, place->below);
		if (there < 0)
			return there;
		place->kind = there ? presumed : NODE_GONE;
	}
	if (place->kind != NODE_GONE || place->parent)
		return 0;
	size_t len = strlen(place->below) - strlen(place->name);
	memcpy(parent, place->below, len);
	parent[len > 0 ? len - 1 : 0] = '\0';
	int r = kind_below(overlay, parent, &kind);
	place->parent_is_there = kind == NODE_DIR;
	return r;
}

int names_find(struct overlay *overlay, const char *path, enum node_kind presumed, struct place *ret_place)
{
	*ret_place =
		(struct place){.kind = NODE_DIR, .node = &overlay->root, .has_below = true, .parent_is_there = true};
	for (const char *at = path; *at;) {
		size_t len = strcspn(at, "/");
		int r = step(overlay, ret_place, at, len);
		if (r != 0)
			return r;
		at += len;
		at += *at == '/';
	}
	bool below = !ret_place->node && ret_place->kind != NODE_GONE;
	return below ? look_at_place(overlay, ret_place, presumed) : 0;
}

/* What would show at the node's place if the node were not. NULL: nothing can. */
static bool place_below(const struct node *parent, const char *name, char out[IO_PATH_MAX + 1])
{
	return parent->kind == NODE_DIR && parent->below && join(out, parent->below, name) == 0;
}

static struct node *new_node(struct overlay *overlay, struct node *parent, const struct place *place)
{
	struct node *node = calloc(1, sizeof(*node));
	if (!node)
		return NULL;
	node->name = strdup(place->name);
	node->kind = place->kind;
	if (place->kind != NODE_GONE)
		node->below = strdup(place->below);
	if (!node->name || (place->kind != NODE_GONE && !node->below)) {
		free_node(overlay, node);
		return NULL;
	}
	attach(overlay, node, parent);
	return node;
}

struct node *names_node(struct overlay *overlay, const char *path, const struct place *place)
{
	if (place->node)
		return place->node;
	struct node *parent = place->parent;
	if (!parent) {
		char dir[IO_PATH_MAX + 1];
		struct place above;
		const char *slash = strrchr(path, '/');
		size_t len = slash ? (size_t)(slash - path) : 0;
		memcpy(dir, path, len);
		dir[len] = '\0';
		if (names_find(overlay, dir, NODE_GONE, &above) != 0 || !(parent = names_node(overlay, dir, &above)))
			return NULL;
	}
	return new_node(overlay, parent, place);
}

/* ---- changes ---------------------------------------------------------------------------------------------------- */

static void free_gone_children(struct overlay *overlay, struct node *node)
{
	while (node->children) {
		struct node *child = node->children;
		detach(overlay, child);
		free_node(overlay, child);
	}
}

/* At the place of a node that leaves it. 0 or a negative errno. */
static int leave_gone(struct overlay *overlay, struct node *parent, const char *name)
{
	char below[IO_PATH_MAX + 1];
	int there = place_below(parent, name, below) ? overlay->below->ops->exists(overlay->below, below) : 0;
	if (there <= 0) {
		if (there == 0)
			names_prune(overlay, parent);
		return there;
	}
	struct place place = {.kind = NODE_GONE};
	snprintf(place.name, sizeof(place.name), "%s", name);
	return new_node(overlay, parent, &place) ? 0 : -ENOMEM;
}

int names_remove(struct overlay *overlay, struct node *node)
{
	struct node *parent = node->parent;
	free_gone_children(overlay, node);
	detach(overlay, node);
	int r = leave_gone(overlay, parent, node->name);
	if (r != 0) {
		attach(overlay, node, parent);
		return r;
	}
	node->unlinked = true;
	if (node->handles == 0)
		free_node(overlay, node);
	return 0;
}

int names_move(struct overlay *overlay, struct node *node, struct node *gone)
{
	struct node *from = node->parent, *to = gone->parent;
	char *name = strdup(gone->name);
	if (!name)
		return -ENOMEM;
	detach(overlay, node);
	int r = leave_gone(overlay, from, node->name);
	if (r != 0) {
		attach(overlay, node, from);
		free(name);
		return r;
	}
	detach(overlay, gone);
	free_node(overlay, gone);
	free(node->name);
	node->name = name;
	node->placed = true;
	attach(overlay, node, to);
	return 0;
}

/* ---- listing ---------------------------------------------------------------------------------------------------- */

struct listing {
	struct overlay *overlay;
	struct node *dir;
	io_list_cb cb;
	void *arg;
};

static int below_cb(const char *name, bool is_dir, void *arg)
{
	struct listing *listing = arg;
	if (listing->dir && find_child(listing->overlay, listing->dir, name))
		return 0;
	return listing->cb(name, is_dir, listing->arg);
}

int names_list(struct overlay *overlay, const char *path, io_list_cb cb, void *arg)
{
	struct place place;
	int r = names_find(overlay, path, NODE_DIR, &place);
	if (r != 0)
		return r;
	if (place.kind != NODE_DIR)
		return place.kind == NODE_FILE ? -ENOTDIR : -ENOENT;
	struct listing listing = {overlay, place.node, cb, arg};
	if (place.has_below)
		r = overlay->below->ops->list_dir(overlay->below, place.below, below_cb, &listing);
	for (struct node *child = place.node ? place.node->children : NULL; child && r == 0;
		child = child->sibling_next)
		if (child->kind != NODE_GONE)
			r = cb(child->name, child->kind == NODE_DIR, arg);
	return r;
}

bool names_dir_is_empty(struct overlay *overlay, const char *path, int *ret_error)
{
	int r = names_list(overlay, path, stop_cb, NULL);
	*ret_error = r < 0 ? r : 0;
	return r == 0;
}
