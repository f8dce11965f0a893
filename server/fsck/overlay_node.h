/*
 * overlay_node: what an overlay keeps of one name: the inside of overlay.[ch], overlay_names.c and overlay_pages.c.
 *
 * Owned by the overlay's table; open handles hold them too. One thread.
 * Invariant: a node that nothing holds open differs from what is below, or is the directory of one that does.
 */
#ifndef IRONWALD_OVERLAY_NODE_H
#define IRONWALD_OVERLAY_NODE_H

#include <stddef.h>

#include "overlay.h"

#define OVERLAY_PAGE 4096u

enum node_kind {
	NODE_GONE, /* there is nothing of that name, whatever is below */
	NODE_FILE,
	NODE_DIR,
};

struct page {
	uint64_t number;
	uint8_t *data; /* NULL: zeros */
};

struct node {
	/* the tree */
	struct node *hash_next, *parent, *children, *sibling_prev, *sibling_next;
	char *name;
	enum node_kind kind;
	char *below;   /* where in the io below its contents are; NULL: nowhere */
	bool placed;   /* it was made, or came here by a rename: it is not below under that name */
	bool unlinked; /* only handles know it */
	/* a file */
	uint32_t handles;
	struct io_file *file; /* the one below, while there are handles */
	uint64_t size;
	uint64_t below_size; /* of the file below, when it was looked at */
	uint64_t below_end;  /* what is below shows up to there */
	struct page *pages;  /* by number */
	size_t page_count, page_cap;
};

struct overlay {
	struct io base;
	struct io *below;
	struct node root;
	struct node **buckets;
	size_t bucket_count, node_count;
	uint64_t pages, data_pages;
};

/* ---- overlay_pages.c: the contents of a file ---- */

bool file_is_changed(const struct node *node);
ssize_t file_read(struct overlay *overlay, struct node *node, void *buf, size_t len, uint64_t offset, int flags);
int file_write(struct overlay *overlay, struct node *node, const uint8_t *bytes, size_t len, uint64_t offset);
int file_truncate(struct overlay *overlay, struct node *node, uint64_t size);
void file_free_pages(struct overlay *overlay, struct node *node);

/* ---- overlay_names.c: names ---- */

/* What a path leads to. */
struct place {
	enum node_kind kind;
	struct node *node;   /* NULL: it is as it is below */
	struct node *parent; /* NULL: is as it is below */
	bool parent_is_there;
	char name[256];		     /* its last component */
	char below[IO_PATH_MAX + 1]; /* where it is below; kind GONE: where it would be */
	bool has_below;
};

/* presumed: what to take a thing for that is as it is below (then it is not looked at more than it has to be);
 * NODE_GONE: look. 0 or a negative errno. */
int names_find(struct overlay *overlay, const char *path, enum node_kind presumed, struct place *ret_place);
/* The node at the place, made if need be; what is not there gets one of NODE_GONE. NULL: out of memory. */
struct node *names_node(struct overlay *overlay, const char *path, const struct place *place);
/* What is there goes; its name stays as gone if there is something below. 0 or a negative errno. */
int names_remove(struct overlay *overlay, struct node *node);
/* To where a NODE_GONE is, which it takes the place of. */
int names_move(struct overlay *overlay, struct node *node, struct node *gone);
/* Forgets nodes that are as what is below, from this one up. */
void names_prune(struct overlay *overlay, struct node *node);
bool names_dir_is_empty(struct overlay *overlay, const char *path, int *ret_error);
int names_list(struct overlay *overlay, const char *path, io_list_cb cb, void *arg);
int names_init(struct overlay *overlay);
void names_free(struct overlay *overlay);

#endif
