#include "dir_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FEW_BYTES (2u << 10) /* enough for the directory of most streams */
#define FEW_NAMES 16u
#define ENTRY_MAX 512u /* more than an entry with the longest name takes */

struct name {
	uint64_t inode;
	size_t at; /* in the bytes */
};

struct dir {
	alignas(struct dirent64) char few[FEW_BYTES];
	struct name few_names[FEW_NAMES];
	char *bytes;
	size_t len, cap;
	struct name *names;
	size_t count;
};

static int grow(struct dir *dir)
{
	size_t cap = dir->cap * 8;
	char *bytes = realloc(dir->bytes == dir->few ? NULL : dir->bytes, cap);
	if (!bytes)
		return -ENOMEM;
	if (dir->bytes == dir->few)
		memcpy(bytes, dir->few, dir->len);
	dir->bytes = bytes;
	dir->cap = cap;
	return 0;
}

static int read_all(struct dir *dir, int fd)
{
	for (;;) {
		if (dir->cap - dir->len < ENTRY_MAX && grow(dir) != 0)
			return -ENOMEM;
		ssize_t got = getdents64(fd, dir->bytes + dir->len, dir->cap - dir->len);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : 0;
		dir->len += (size_t)got;
	}
}

static bool is_self_or_parent(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

static const struct dirent64 *entry_at(const struct dir *dir, size_t at)
{
	return (const void *)(dir->bytes + at);
}

static int by_inode(const void *left, const void *right)
{
	const struct name *a = left, *b = right;
	return (a->inode > b->inode) - (a->inode < b->inode);
}

static int put_in_order(struct dir *dir)
{
	size_t count = 0;
	for (size_t at = 0; at < dir->len; at += entry_at(dir, at)->d_reclen)
		count++;
	if (count > FEW_NAMES && !(dir->names = malloc(sizeof(*dir->names) * count)))
		return -ENOMEM;
	for (size_t at = 0; at < dir->len; at += entry_at(dir, at)->d_reclen)
		if (!is_self_or_parent(entry_at(dir, at)->d_name))
			dir->names[dir->count++] = (struct name){entry_at(dir, at)->d_ino, at};
	if (dir->count > 1)
		qsort(dir->names, dir->count, sizeof(*dir->names), by_inode);
	return 0;
}

static int entry_is_dir(int fd, const struct dirent64 *entry, bool *ret_is_dir)
{
	struct stat st;
	if (entry->d_type != DT_UNKNOWN) {
		*ret_is_dir = entry->d_type == DT_DIR;
		return 0;
	}
	if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	*ret_is_dir = S_ISDIR(st.st_mode);
	return 0;
}

int dir_list(int fd, io_list_cb cb, void *arg)
{
	struct dir dir;
	dir.bytes = dir.few;
	dir.cap = sizeof(dir.few);
	dir.names = dir.few_names;
	dir.len = dir.count = 0;
	int r = read_all(&dir, fd);
	if (r == 0)
		r = put_in_order(&dir);
	for (size_t i = 0; i < dir.count && r == 0; i++) {
		const struct dirent64 *entry = entry_at(&dir, dir.names[i].at);
		bool is_dir = false;
		r = entry_is_dir(fd, entry, &is_dir);
		if (r == 0)
			r = cb(entry->d_name, is_dir, arg);
		else if (r == -ENOENT) /* it went away meanwhile: as if not listed */
			r = 0;
	}
	if (dir.names != dir.few_names)
		free(dir.names);
	if (dir.bytes != dir.few)
		free(dir.bytes);
	return r;
}
