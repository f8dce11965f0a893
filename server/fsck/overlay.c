#include "overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "overlay_node.h"

/* Of a file that is open, or of the lock. */
struct io_file {
	struct overlay *overlay;
	struct node *node;    /* NULL: the lock */
	struct io_file *lock; /* NULL: nobody else can have it */
	int flags;
};

static struct overlay *overlay_of(struct io *io)
{
	return (struct overlay *)io;
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

/* The file below is held open while there are handles. */
static int look_below(struct overlay *overlay, struct node *node)
{
	if (!node->below || node->file)
		return 0;
	bool changed = file_is_changed(node);
	uint64_t size;
	int r = overlay->below->ops->open(overlay->below, node->below, IO_READ, &node->file);
	if (r == 0)
		r = overlay->below->ops->size(node->file, &size);
	if (r == 0 && !changed)
		node->size = node->below_size = node->below_end = size;
	if (r != 0) {
		overlay->below->ops->close(node->file);
		node->file = NULL;
	}
	return r;
}

static void let_go(struct overlay *overlay, struct node *node)
{
	if (node->handles == 0) {
		overlay->below->ops->close(node->file);
		node->file = NULL;
	}
	if (!node->unlinked) {
		names_prune(overlay, node);
	} else if (node->handles == 0) {
		file_free_pages(overlay, node);
		free(node->name);
		free(node->below);
		free(node);
	}
}

static int make_file(struct overlay *overlay, const char *path, struct place *place, struct node **ret_node)
{
	if (!place->parent_is_there)
		return -ENOENT;
	struct node *node = names_node(overlay, path, place);
	if (!node)
		return -ENOMEM;
	node->kind = NODE_FILE;
	node->placed = true;
	*ret_node = node;
	return 0;
}

static int overlay_open(struct io *io, const char *path, int flags, struct io_file **ret_file)
{
	struct overlay *overlay = overlay_of(io);
	struct place place;
	struct node *node = NULL;
	struct io_file *file = calloc(1, sizeof(*file));
	int r = file ? names_find(overlay, path, NODE_FILE, &place) : -ENOMEM;
	if (r == 0 && place.kind == NODE_DIR)
		r = -EISDIR;
	if (r == 0 && place.kind == NODE_FILE && (flags & IO_CREATE) && (flags & IO_EXCLUSIVE))
		r = -EEXIST;
	if (r == 0 && place.kind == NODE_GONE)
		r = flags & IO_CREATE ? make_file(overlay, path, &place, &node) : -ENOENT;
	else if (r == 0 && !(node = names_node(overlay, path, &place)))
		r = -ENOMEM;
	if (r == 0)
		r = look_below(overlay, node);
	if (r != 0) {
		if (node)
			names_prune(overlay, node);
		free(file);
		return r;
	}
	node->handles++;
	*file = (struct io_file){.overlay = overlay, .node = node, .flags = flags};
	*ret_file = file;
	return 0;
}

static void overlay_close(struct io_file *file)
{
	if (!file)
		return;
	file->node->handles--;
	let_go(file->overlay, file->node);
	free(file);
}

static ssize_t overlay_pread(struct io_file *file, void *buf, size_t len, uint64_t offset, int flags)
{
	if (!(file->flags & IO_READ))
		return -EBADF;
	return file_read(file->overlay, file->node, buf, len, offset, flags);
}

static int overlay_pwritev(struct io_file *file, const struct iovec *iov, int iov_count, uint64_t offset)
{
	int r = file->flags & IO_WRITE ? 0 : -EBADF;
	for (int i = 0; i < iov_count && r == 0; i++) {
		r = file_write(file->overlay, file->node, iov[i].iov_base, iov[i].iov_len, offset);
		offset += iov[i].iov_len;
	}
	return r;
}

static int overlay_sync(struct io_file *file)
{
	(void)file;
	return 0;
}

static int overlay_truncate(struct io_file *file, uint64_t size_bytes)
{
	return file->flags & IO_WRITE ? file_truncate(file->overlay, file->node, size_bytes) : -EBADF;
}

static int overlay_allocate(struct io_file *file, uint64_t offset, uint64_t len)
{
	if (!(file->flags & IO_WRITE))
		return -EBADF;
	if (len > 0 && offset + len > file->node->size)
		file->node->size = offset + len;
	return 0;
}

static int overlay_size(struct io_file *file, uint64_t *ret_bytes)
{
	*ret_bytes = file->node->size;
	return 0;
}

static int overlay_map(struct io_file *file, uint64_t len, struct io_map **ret_map)
{
	(void)file;
	(void)len;
	(void)ret_map;
	return -EOPNOTSUPP;
}

static void overlay_unmap(struct io_map *map)
{
	(void)map;
}

static int overlay_map_read(struct io_map *map, void *buf, size_t len, uint64_t offset, int flags)
{
	(void)map;
	(void)buf;
	(void)len;
	(void)offset;
	(void)flags;
	return -EOPNOTSUPP;
}

/* ---- names ------------------------------------------------------------------------------------------------------ */

static int overlay_mkdir(struct io *io, const char *path)
{
	struct overlay *overlay = overlay_of(io);
	struct place place;
	int r = names_find(overlay, path, NODE_GONE, &place);
	if (r != 0)
		return r;
	if (place.kind != NODE_GONE)
		return -EEXIST;
	if (!place.parent_is_there)
		return -ENOENT;
	struct node *node = names_node(overlay, path, &place);
	if (!node)
		return -ENOMEM;
	node->kind = NODE_DIR;
	node->placed = true;
	return 0;
}

static int remove_place(struct overlay *overlay, const char *path, const struct place *place)
{
	struct node *node = names_node(overlay, path, place);
	return node ? names_remove(overlay, node) : -ENOMEM;
}

static int overlay_rmdir(struct io *io, const char *path)
{
	struct overlay *overlay = overlay_of(io);
	struct place place;
	int error, r = names_find(overlay, path, NODE_GONE, &place);
	if (r != 0)
		return r;
	if (place.kind != NODE_DIR)
		return place.kind == NODE_FILE ? -ENOTDIR : -ENOENT;
	if (!names_dir_is_empty(overlay, path, &error))
		return error != 0 ? error : -ENOTEMPTY;
	return remove_place(overlay, path, &place);
}

static int overlay_unlink(struct io *io, const char *path)
{
	struct overlay *overlay = overlay_of(io);
	struct place place;
	int r = names_find(overlay, path, NODE_GONE, &place);
	if (r != 0)
		return r;
	if (place.kind != NODE_FILE)
		return place.kind == NODE_DIR ? -EISDIR : -ENOENT;
	return remove_place(overlay, path, &place);
}

/* What is at `to` makes room, as rename(2) has it. */
static int make_room(struct overlay *overlay, const char *to, const struct place *from_place, const struct place *place)
{
	int error;
	if (place->kind == NODE_GONE)
		return place->parent_is_there ? 0 : -ENOENT;
	if (from_place->kind == NODE_DIR && place->kind == NODE_FILE)
		return -ENOTDIR;
	if (from_place->kind == NODE_FILE && place->kind == NODE_DIR)
		return -EISDIR;
	if (place->kind == NODE_DIR && !names_dir_is_empty(overlay, to, &error))
		return error != 0 ? error : -ENOTEMPTY;
	return remove_place(overlay, to, place);
}

static int overlay_rename(struct io *io, const char *from, const char *to)
{
	struct overlay *overlay = overlay_of(io);
	struct place from_place, to_place;
	int r = names_find(overlay, from, NODE_GONE, &from_place);
	if (r == 0)
		r = names_find(overlay, to, NODE_GONE, &to_place);
	if (r != 0)
		return r;
	if (from_place.kind == NODE_GONE)
		return -ENOENT;
	if (strcmp(from, to) == 0)
		return 0;
	size_t len = strlen(from);
	if (from_place.kind == NODE_DIR && strncmp(from, to, len) == 0 && to[len] == '/')
		return -EINVAL; /* into itself */
	r = make_room(overlay, to, &from_place, &to_place);
	if (r != 0)
		return r;
	/* Anew: removing may have pruned what they pointed to. */
	r = names_find(overlay, to, NODE_GONE, &to_place);
	struct node *gone = r == 0 ? names_node(overlay, to, &to_place) : NULL;
	if (r == 0)
		r = names_find(overlay, from, NODE_GONE, &from_place);
	struct node *node = r == 0 ? names_node(overlay, from, &from_place) : NULL;
	if (r != 0 || !gone || !node)
		return r != 0 ? r : -ENOMEM;
	if (node->kind == NODE_FILE && node->handles == 0) { /* its size is to be known */
		r = look_below(overlay, node);
		overlay->below->ops->close(node->file);
		node->file = NULL;
	}
	return r == 0 ? names_move(overlay, node, gone) : r;
}

static int overlay_exists(struct io *io, const char *path)
{
	struct place place;
	int r = names_find(overlay_of(io), path, NODE_DIR, &place);
	return r == 0 ? place.kind != NODE_GONE : r;
}

static int overlay_sync_dir(struct io *io, const char *path)
{
	struct place place;
	int r = names_find(overlay_of(io), path, NODE_DIR, &place);
	if (r != 0)
		return r;
	return place.kind == NODE_DIR ? 0 : place.kind == NODE_FILE ? -ENOTDIR : -ENOENT;
}

static int overlay_list_dir(struct io *io, const char *path, io_list_cb cb, void *arg)
{
	return names_list(overlay_of(io), path, cb, arg);
}

static int overlay_sync_all(struct io *io)
{
	(void)io;
	return 0;
}

static int overlay_space(struct io *io, struct io_space *ret_space)
{
	struct io *below = overlay_of(io)->below;
	return below->ops->space(below, ret_space);
}

/* ---- the rest --------------------------------------------------------------------------------------------------- */

/* The real one. Where its file is not there nobody holds it, and it is not made; where nobody can write, as on a
 * read-only mount, nobody can hold it either. */
static int overlay_lock(struct io *io, const char *path, struct io_file **ret_lock)
{
	struct overlay *overlay = overlay_of(io);
	struct io *below = overlay->below;
	struct io_file *file = calloc(1, sizeof(*file));
	int there = file ? below->ops->exists(below, path) : -ENOMEM;
	int r = there == 1 ? below->ops->lock(below, path, &file->lock) : there;
	if (r != 0 && r != -EROFS) {
		free(file);
		return r;
	}
	file->overlay = overlay;
	*ret_lock = file;
	return 0;
}

static void overlay_unlock(struct io_file *lock)
{
	if (lock->lock)
		lock->overlay->below->ops->unlock(lock->lock);
	free(lock);
}

static uint64_t overlay_monotonic_ns(struct io *io)
{
	struct io *below = overlay_of(io)->below;
	return below->ops->monotonic_ns(below);
}

static uint64_t overlay_wall_ns(struct io *io)
{
	struct io *below = overlay_of(io)->below;
	return below->ops->wall_ns(below);
}

static int overlay_random(struct io *io, void *buf, size_t len)
{
	struct io *below = overlay_of(io)->below;
	return below->ops->random(below, buf, len);
}

static const struct io_ops overlay_ops = {
	.open = overlay_open,
	.close = overlay_close,
	.pread = overlay_pread,
	.pwritev = overlay_pwritev,
	.sync = overlay_sync,
	.truncate = overlay_truncate,
	.allocate = overlay_allocate,
	.size = overlay_size,
	.map = overlay_map,
	.unmap = overlay_unmap,
	.map_read = overlay_map_read,
	.mkdir = overlay_mkdir,
	.rmdir = overlay_rmdir,
	.unlink = overlay_unlink,
	.rename = overlay_rename,
	.exists = overlay_exists,
	.sync_dir = overlay_sync_dir,
	.list_dir = overlay_list_dir,
	.sync_all = overlay_sync_all,
	.space = overlay_space,
	.lock = overlay_lock,
	.unlock = overlay_unlock,
	.monotonic_ns = overlay_monotonic_ns,
	.wall_ns = overlay_wall_ns,
	.random = overlay_random,
};

struct io *overlay_new(struct io *below)
{
	struct overlay *overlay = calloc(1, sizeof(*overlay));
	if (!overlay)
		return NULL;
	overlay->base.ops = &overlay_ops;
	overlay->below = below;
	if (names_init(overlay) != 0) {
		overlay_free(&overlay->base);
		return NULL;
	}
	return &overlay->base;
}

void overlay_free(struct io *io)
{
	if (!io)
		return;
	names_free(overlay_of(io));
	free(overlay_of(io));
}

struct io *overlay_below(struct io *io)
{
	return overlay_of(io)->below;
}

void overlay_use(const struct io *io, struct overlay_use *ret_use)
{
	const struct overlay *overlay = (const struct overlay *)io;
	*ret_use = (struct overlay_use){overlay->node_count, overlay->pages, overlay->data_pages};
}
