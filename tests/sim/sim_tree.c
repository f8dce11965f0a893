/*
 * Names. Each entry of a directory knows its inode now and on disk; the list of changes, in the order in which they
 * were made, is the difference. A sync applies all changes of its directory; a power cut applies some of them.
 */
#include "sim_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 255

static uint64_t name_hash(const char *name, size_t len)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)name[i]) * UINT64_C(0x100000001b3);
	return h ^ (h >> 29);
}

/* ---- entries ---------------------------------------------------------------------------------------------------- */

static struct entry **bucket_of(struct inode *dir, const char *name, size_t len)
{
	return &dir->buckets[name_hash(name, len) & (dir->bucket_count - 1)];
}

static void grow_buckets(struct inode *dir)
{
	struct entry **former = dir->buckets;
	const size_t former_count = dir->bucket_count;

	dir->bucket_count = former_count ? former_count * 2 : 8;
	dir->buckets = sim_alloc(dir->bucket_count * sizeof(struct entry *));
	for (size_t i = 0; i < former_count; i++) {
		for (struct entry *entry = former[i], *next; entry; entry = next) {
			struct entry **bucket = bucket_of(dir, entry->name, entry->name_len);

			next = entry->chain;
			entry->chain = *bucket;
			*bucket = entry;
		}
	}
	free(former);
}

static struct entry *find_entry(struct inode *dir, const char *name, size_t len)
{
	struct entry *entry = dir->bucket_count ? *bucket_of(dir, name, len) : NULL;

	while (entry && (entry->name_len != len || memcmp(entry->name, name, len) != 0))
		entry = entry->chain;
	return entry;
}

struct entry *tree_entry(struct inode *dir, const char *name, bool make)
{
	const size_t len = strlen(name);
	struct entry *entry = find_entry(dir, name, len);

	if (entry || !make)
		return entry;
	if (dir->entry_count >= dir->bucket_count)
		grow_buckets(dir);
	entry = sim_alloc(sizeof(*entry) + len + 1);
	memcpy(entry->name, name, len);
	entry->name_len = len;
	entry->dir = dir;
	struct entry **bucket = bucket_of(dir, name, len);
	entry->chain = *bucket;
	*bucket = entry;
	dir->entry_count++;
	return entry;
}

static void drop_if_empty(struct entry *entry)
{
	if (entry->now || entry->disk || entry->pins > 0)
		return;
	struct inode *dir = entry->dir;
	struct entry **link = bucket_of(dir, entry->name, entry->name_len);

	while (*link != entry)
		link = &(*link)->chain;
	*link = entry->chain;
	dir->entry_count--;
	free(entry);
}

static void set_now(struct entry *entry, struct inode *inode)
{
	struct inode *former = entry->now;

	if (former == inode)
		return;
	entry->now = inode ? inode_ref(inode) : NULL;
	if (inode)
		inode->has_name = true;
	entry->dir->names_now += inode != NULL;
	entry->dir->names_now -= former != NULL;
	inode_unref(former);
}

static void set_disk(struct entry *entry, struct inode *inode)
{
	struct inode *former = entry->disk;

	if (former == inode)
		return;
	entry->disk = inode ? inode_ref(inode) : NULL;
	if (inode)
		inode->disk_entry = entry;
	if (former && former->disk_entry == entry)
		former->disk_entry = NULL;
	inode_unref(former);
}

void tree_free_entries(struct inode *dir)
{
	for (size_t i = 0; i < dir->bucket_count; i++) {
		for (struct entry *entry = dir->buckets[i], *next; entry; entry = next) {
			next = entry->chain;
			if (entry->disk && entry->disk->disk_entry == entry)
				entry->disk->disk_entry = NULL;
			inode_unref(entry->now);
			inode_unref(entry->disk);
			free(entry);
		}
	}
	free(dir->buckets);
	dir->buckets = NULL;
	dir->bucket_count = 0;
}

/* ---- paths ------------------------------------------------------------------------------------------------------ */

int tree_parent(struct sim *sim, const char *path, struct inode **ret_dir, const char **ret_name)
{
	struct inode *dir = sim->root;

	if (path[0] == '/' || strlen(path) > IO_PATH_MAX)
		return -ENAMETOOLONG;
	for (;;) {
		const char *slash = strchr(path, '/');
		const size_t len = slash ? (size_t)(slash - path) : strlen(path);

		if (len == 0)
			return -EINVAL;
		if (len > NAME_MAX_BYTES)
			return -ENAMETOOLONG;
		if (!slash)
			break;
		const struct entry *entry = find_entry(dir, path, len);
		if (!entry || !entry->now)
			return -ENOENT;
		dir = entry->now;
		if (!dir->is_dir)
			return -ENOTDIR;
		path = slash + 1;
	}
	*ret_dir = dir;
	*ret_name = path;
	return 0;
}

int tree_find(struct sim *sim, const char *path, struct inode **ret_inode)
{
	struct inode *dir;
	const char *name;

	if (path[0] == '\0') {
		*ret_inode = sim->root;
		return 0;
	}
	const int rc = tree_parent(sim, path, &dir, &name);
	if (rc < 0)
		return rc;
	const struct entry *entry = tree_entry(dir, name, false);
	if (!entry || !entry->now)
		return -ENOENT;
	*ret_inode = entry->now;
	return 0;
}

/* ---- changes ---------------------------------------------------------------------------------------------------- */

static void pin(struct entry *entry)
{
	if (!entry)
		return;
	entry->pins++;
	inode_ref(entry->dir);
}

static void unpin(struct entry *entry)
{
	if (!entry)
		return;
	struct inode *dir = entry->dir;

	entry->pins--;
	drop_if_empty(entry);
	inode_unref(dir);
}

static void record(struct sim *sim, enum change_kind kind, struct entry *from, struct entry *to, struct inode *inode,
	struct inode *replaced)
{
	struct change *change = sim_alloc(sizeof(*change));

	*change = (struct change){.kind = kind, .from = from, .to = to, .inode = inode_ref(inode)};
	change->replaced = replaced ? inode_ref(replaced) : NULL;
	pin(from);
	pin(to);
	*sim->changes_end = change;
	sim->changes_end = &change->next;
}

static void forget(struct change *change)
{
	unpin(change->from);
	unpin(change->to);
	inode_unref(change->inode);
	inode_unref(change->replaced);
	free(change);
}

void tree_forget_changes(struct sim *sim)
{
	struct change *change = sim->changes;

	sim->changes = NULL;
	sim->changes_end = &sim->changes;
	while (change) {
		struct change *next = change->next;

		forget(change);
		change = next;
	}
}

void tree_add(struct sim *sim, struct inode *dir, const char *name, struct inode *inode)
{
	struct entry *entry = tree_entry(dir, name, true);

	record(sim, CHANGE_ADD, NULL, entry, inode, NULL);
	set_now(entry, inode);
}

static void lose_name(struct inode *inode)
{
	inode->has_name = false;
	inode_release_blocks(inode);
}

void tree_remove(struct sim *sim, struct entry *entry)
{
	struct inode *inode = entry->now;

	record(sim, CHANGE_REMOVE, entry, NULL, inode, NULL);
	set_now(entry, NULL);
	lose_name(inode); /* the recorded change still holds it */
}

void tree_rename(struct sim *sim, struct entry *from, struct entry *to)
{
	struct inode *inode = from->now, *replaced = to->now;

	if (inode == replaced)
		return;
	record(sim, CHANGE_RENAME, from, to, inode, replaced);
	set_now(to, inode);
	set_now(from, NULL);
	if (replaced)
		lose_name(replaced);
}

/* ---- making them durable ---------------------------------------------------------------------------------------- */

static bool is_marked(const struct entry *entry, uint64_t mark)
{
	return entry && entry->dir->sync_mark == mark;
}

static bool mark_dir(struct inode *dir, uint64_t mark)
{
	if (dir->sync_mark == mark)
		return false;
	dir->sync_mark = mark;
	return true;
}

/* The inside of a directory that is removed must be synced with it: a file that was moved out of it must not be lost on
 * both sides. A rename from one directory to another needs both, and the names of both: rare, so all is synced.
 * True if there were more. */
static bool mark_more(struct sim *sim, uint64_t mark, bool *ret_all)
{
	bool more = false;

	for (struct change *change = sim->changes; change; change = change->next) {
		if (!is_marked(change->from, mark) && !is_marked(change->to, mark))
			continue;
		if (change->kind == CHANGE_RENAME && change->from->dir != change->to->dir)
			*ret_all = true;
		if (change->kind == CHANGE_REMOVE && change->inode->is_dir)
			more |= mark_dir(change->inode, mark);
	}
	return more;
}

static bool is_stuck(const struct entry *entry)
{
	return entry && entry->dir->stuck_in == entry->dir->sim->process;
}

static void apply_marked(struct sim *sim, uint64_t mark, bool all)
{
	struct change **link = &sim->changes, *done = NULL;

	while (*link) {
		struct change *change = *link;

		if ((!all && !is_marked(change->from, mark) && !is_marked(change->to, mark)) ||
			is_stuck(change->from) || is_stuck(change->to)) {
			link = &change->next;
			continue;
		}
		/* Every change of these names is applied, so the outcome is what is there now. */
		if (change->from)
			set_disk(change->from, change->from->now);
		if (change->to)
			set_disk(change->to, change->to->now);
		*link = change->next;
		change->next = done;
		done = change;
	}
	sim->changes_end = link;
	while (done) {
		struct change *next = done->next;

		forget(done);
		done = next;
	}
}

void tree_sync_dir(struct sim *sim, struct inode *dir)
{
	const uint64_t mark = ++sim->sync_marks;

	bool all = false;

	mark_dir(dir, mark);
	while (mark_more(sim, mark, &all))
		;
	apply_marked(sim, mark, all);
}

void tree_sync_all(struct sim *sim)
{
	apply_marked(sim, 0, true);
}

void tree_sync_dir_failed(struct inode *dir)
{
	dir->stuck_in = dir->sim->process;
}

void tree_sync_all_failed(struct sim *sim)
{
	for (struct change *change = sim->changes; change; change = change->next) {
		if (change->from)
			tree_sync_dir_failed(change->from->dir);
		if (change->to)
			tree_sync_dir_failed(change->to->dir);
	}
}

/* ---- listing ---------------------------------------------------------------------------------------------------- */

struct listed_name {
	char *name;
	bool is_dir;
};

int tree_list(struct inode *dir, io_list_cb cb, void *arg)
{
	/* The callback may change the directory: it sees the names of before. */
	struct listed_name *names = sim_alloc((dir->names_now + 1) * sizeof(*names));
	size_t count = 0;
	int rc = 0;

	for (size_t i = 0; i < dir->bucket_count; i++) {
		for (const struct entry *entry = dir->buckets[i]; entry; entry = entry->chain) {
			if (!entry->now)
				continue;
			names[count].name = sim_alloc(entry->name_len + 1);
			memcpy(names[count].name, entry->name, entry->name_len);
			names[count++].is_dir = entry->now->is_dir;
		}
	}
	for (size_t i = 0; i < count; i++) {
		if (rc == 0)
			rc = cb(names[i].name, names[i].is_dir, arg);
		free(names[i].name);
	}
	free(names);
	return rc;
}

/* ---- after a power cut ------------------------------------------------------------------------------------------ */

static bool is_empty_on_disk(const struct inode *dir)
{
	for (size_t i = 0; i < dir->bucket_count; i++) {
		for (const struct entry *entry = dir->buckets[i]; entry; entry = entry->chain) {
			if (entry->disk)
				return false;
		}
	}
	return true;
}

static bool is_reachable_on_disk(const struct sim *sim, const struct inode *dir)
{
	while (dir != sim->root && dir->disk_entry)
		dir = dir->disk_entry->dir;
	return dir == sim->root;
}

/* Changes are chosen one by one, so a chosen one may rest on one that was lost. Where that would take a name away that
 * nobody removed (a new file in a place whose former one was moved away, say), it is lost too. */
static void apply_chosen(struct sim *sim, struct change *change)
{
	struct inode *inode = change->inode;

	switch (change->kind) {
	case CHANGE_ADD:
		if (!change->to->disk)
			set_disk(change->to, inode);
		break;
	case CHANGE_REMOVE:
		if (change->from->disk == inode && (!inode->is_dir || is_empty_on_disk(inode)))
			set_disk(change->from, NULL);
		break;
	case CHANGE_RENAME:
		if (change->to->disk && change->to->disk != change->replaced && change->to->disk != inode)
			break;
		if (inode->disk_entry && is_reachable_on_disk(sim, inode->disk_entry->dir) &&
			!is_reachable_on_disk(sim, change->to->dir))
			break;
		if (inode->disk_entry && inode->disk_entry != change->to)
			set_disk(inode->disk_entry, NULL);
		set_disk(change->to, inode);
		break;
	}
}

static void choose_changes(struct sim *sim, enum sim_power_mode mode)
{
	struct rng *chance = &sim->chance;
	uint64_t count = 0, in_order = UINT64_MAX, kept_in_256 = 256;

	for (struct change *change = sim->changes; change; change = change->next)
		count++;
	if (count == 0 || mode == SIM_LOSE_ALL)
		return;
	if (mode == SIM_POWER_RANDOM) {
		static const uint64_t likelihoods[] = {32, 128, 224};

		if (rng_below(chance, 3) == 0)
			in_order = rng_below(chance, count + 1);
		else
			kept_in_256 = likelihoods[rng_below(chance, 3)];
	}
	for (struct change *change = sim->changes; change; change = change->next) {
		if (in_order-- == 0)
			break;
		if (mode == SIM_CHOSEN ? sim_choose(sim) : rng_below(chance, 256) < kept_in_256)
			apply_chosen(sim, change);
	}
}

/* What the disk has is what there is. */
static void settle(struct sim *sim, struct inode *dir, enum sim_power_mode mode)
{
	for (size_t i = 0; i < dir->bucket_count; i++) {
		for (struct entry *entry = dir->buckets[i], *next; entry; entry = next) {
			next = entry->chain;
			set_now(entry, entry->disk);
			if (!entry->disk) {
				drop_if_empty(entry);
				continue;
			}
			if (entry->disk->is_dir)
				settle(sim, entry->disk, mode);
			else
				inode_survive(entry->disk, mode);
			inode_count_blocks(entry->disk);
		}
	}
}

void tree_survive(struct sim *sim, enum sim_power_mode mode)
{
	choose_changes(sim, mode);
	tree_forget_changes(sim);
	sim->used_blocks = 0;
	settle(sim, sim->root, mode);
}
