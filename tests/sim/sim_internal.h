/*
 * sim_internal: the parts of the simulated disk, for its own files only.
 *
 *   sim_inode.c  one file's bytes: pages, what of them is on disk, what a power cut leaves
 *   sim_tree.c   names: directories, changes that are not yet durable, what a power cut leaves of them
 *   sim_disk.c   the calls of io.h
 *   sim_fault.c  counting, failing and cutting calls; the knobs
 *   sim_power.c  death and restart; the helpers that damage files
 */
#ifndef IRONWALD_SIM_INTERNAL_H
#define IRONWALD_SIM_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim.h"

#define SECTOR_BYTES 512
#define PAGE_BYTES 4096
#define PAGE_SECTORS (PAGE_BYTES / SECTOR_BYTES)
#define FAULTS_MAX 16

struct sim;
struct entry;

/* A page of the cache and what the disk has in its place. One bit a sector in the masks.
 * Invariants: written is a part of dirty; dropped and dirty share no bit; a sector in neither is the same on disk. */
struct page {
	uint64_t index;
	struct page *next_listed; /* in inode->listed: pages with dirty or dropped sectors */
	bool is_listed;
	bool counted;	    /* takes a block */
	uint8_t dirty;	    /* differs from the disk, or may */
	uint8_t written;    /* by pwritev (what is dirty and not written was only cut off by a truncation) */
	uint8_t dropped;    /* a sync failed: reads well, is not on disk, no later sync writes it */
	uint8_t has_mid;    /* mid holds the sector as it was at some moment since the last sync */
	uint8_t was_synced; /* the sector has been on disk: not known to be zeros there */
	uint8_t *disk;	    /* dirty and dropped sectors as they are on disk; NULL: zeros */
	uint8_t *mid;
	uint8_t data[PAGE_BYTES];
};

struct inode {
	struct sim *sim;
	unsigned refs; /* names (now, on disk), pending changes, handles, mappings */
	bool is_dir;
	bool has_name; /* now */
	unsigned handles;
	bool locked;
	struct entry *disk_entry; /* the one name that it has on disk */

	/* a file */
	struct page **pages; /* NULL: zeros, no block; PAGE_RESERVED: zeros, with a block */
	size_t page_slots;
	uint64_t blocks;
	uint64_t size, synced_size, low_size; /* low: the least since the last sync */
	struct page *listed;
	struct inode *dirty_prev, *dirty_next; /* in sim->dirty: something for sync_all to do */
	bool is_dirty;

	/* a directory */
	struct entry **buckets;
	size_t bucket_count, entry_count, names_now;
	uint64_t sync_mark;
	uint64_t stuck_in; /* the process of which a sync of it failed: none of its names gets to the disk any more */
};

#define PAGE_RESERVED ((struct page *)1)

/* A name in a directory, as it is now and as the disk has it. */
struct entry {
	struct entry *chain;
	struct inode *dir;
	struct inode *now, *disk;
	unsigned pins; /* pending changes */
	size_t name_len;
	char name[];
};

enum change_kind { CHANGE_ADD, CHANGE_REMOVE, CHANGE_RENAME };

/* A change of names that is not durable. */
struct change {
	struct change *next;
	enum change_kind kind;
	struct entry *from, *to; /* REMOVE and RENAME; ADD and RENAME */
	struct inode *inode, *replaced;
};

struct io_file {
	struct sim *sim;
	struct inode *inode;
	int flags;
	bool holds_lock;
	bool dead; /* its process died */
	struct io_file *prev, *next;
};

struct io_map {
	struct sim *sim;
	struct inode *inode;
	uint64_t len;
	bool dead;
	struct io_map *prev, *next;
};

struct fault {
	uint64_t left; /* 0: not armed; 1: the next call */
	int os_errno;
	uint32_t kinds;
};

struct rng {
	uint64_t state;
};

struct sim {
	struct io base;
	struct rng chance;  /* what survives, what is torn, clocks */
	struct rng entropy; /* what random() hands out */
	struct inode *root;
	struct inode *dirty;
	struct change *changes, **changes_end;
	uint64_t sync_marks;
	uint64_t process;      /* the first is 1 */
	bool write_back_error; /* to be reported by the next sync_all */

	struct io_file *files;
	struct io_map *maps;
	uint64_t open_count, open_high, max_open, closed_unsynced;

	uint64_t choice_bits; /* what is left of them */
	unsigned choices;     /* used */

	bool dead, cut_armed;
	uint64_t cut_left;
	struct fault faults[FAULTS_MAX];
	uint64_t faults_fired;
	uint64_t counts[SIM_KIND_COUNT], op_count;
	uint64_t capacity_blocks, used_blocks; /* capacity 0: no bound */
	unsigned cold_per_mille;
	bool no_allocate;
	uint64_t monotonic, wall_offset;
};

static inline struct sim *sim_of(const struct io *io)
{
	return (struct sim *)(uintptr_t)io;
}

/* ---- sim_fault.c ---- */

/* What to do with a call. Go on if `apply`, and return rc if it is not 0. */
struct verdict {
	int rc;
	bool apply; /* also true for a call in flight when the power went */
	bool torn;  /* pwritev: apply a part */
	bool fault; /* by sim_fail_at */
};

struct verdict sim_judge(struct sim *sim, enum sim_kind kind, bool changes);

void *sim_alloc(size_t size); /* zeroed, never NULL */
uint64_t rng_next(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t limit); /* limit > 0 */

/* The next choice of SIM_CHOSEN. */
bool sim_choose(struct sim *sim);

/* ---- sim_inode.c ---- */

struct inode *inode_new(struct sim *sim, bool is_dir);
struct inode *inode_ref(struct inode *inode);
void inode_unref(struct inode *inode);
/* Gives its blocks back if no name and no handle holds it any more. */
void inode_release_blocks(struct inode *inode);

size_t inode_read(const struct inode *inode, void *buf, size_t len, uint64_t offset);
/* Returns how much was written: less than len when blocks ran out. */
size_t inode_write(struct inode *inode, const void *buf, size_t len, uint64_t offset);
void inode_truncate(struct inode *inode, uint64_t size);
int inode_allocate(struct inode *inode, uint64_t offset, uint64_t len);
bool inode_has_unsynced(const struct inode *inode);
void inode_sync(struct inode *inode);
/* The pages of the range, and the size up to its end. */
void inode_sync_range(struct inode *inode, uint64_t offset, uint64_t len);
void inode_sync_failed(struct inode *inode);
void inode_survive(struct inode *inode, enum sim_power_mode mode);
/* After a restart: counts the blocks anew. */
void inode_count_blocks(struct inode *inode);

/* ---- sim_tree.c ---- */

/* The directory that holds path's last component; *ret_name points into path. -ENOENT, -ENOTDIR, -EINVAL for "". */
int tree_parent(struct sim *sim, const char *path, struct inode **ret_dir, const char **ret_name);
/* -ENOENT, -ENOTDIR. */
int tree_find(struct sim *sim, const char *path, struct inode **ret_inode);
struct entry *tree_entry(struct inode *dir, const char *name, bool make);
void tree_add(struct sim *sim, struct inode *dir, const char *name, struct inode *inode);
void tree_remove(struct sim *sim, struct entry *entry);
void tree_rename(struct sim *sim, struct entry *from, struct entry *to);
void tree_sync_dir(struct sim *sim, struct inode *dir);
void tree_sync_all(struct sim *sim);
void tree_sync_dir_failed(struct inode *dir);
void tree_sync_all_failed(struct sim *sim);
int tree_list(struct inode *dir, io_list_cb cb, void *arg);
void tree_survive(struct sim *sim, enum sim_power_mode mode);
void tree_free_entries(struct inode *dir);
void tree_forget_changes(struct sim *sim);

/* ---- sim_disk.c ---- */

extern const struct io_ops sim_ops;
void sim_kill_handles(struct sim *sim);

#endif
