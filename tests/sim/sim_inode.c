/*
 * One file's bytes. Pages of 4 KiB hold what a reader sees; beside each sector that no sync has covered stands what the
 * disk has in its place. Nothing costs more than the pages that it touches, but truncation and a power cut.
 */
#include "sim_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t zeros[SECTOR_BYTES];

struct inode *inode_new(struct sim *sim, bool is_dir)
{
	struct inode *inode = sim_alloc(sizeof(*inode));

	inode->sim = sim;
	inode->is_dir = is_dir;
	inode->refs = 1;
	return inode;
}

struct inode *inode_ref(struct inode *inode)
{
	inode->refs++;
	return inode;
}

static void page_free(struct page *page)
{
	free(page->disk);
	free(page->mid);
	free(page);
}

static void mark_dirty(struct inode *inode)
{
	struct sim *sim = inode->sim;

	if (inode->is_dirty)
		return;
	inode->is_dirty = true;
	inode->dirty_prev = NULL;
	inode->dirty_next = sim->dirty;
	if (sim->dirty)
		sim->dirty->dirty_prev = inode;
	sim->dirty = inode;
}

static void mark_clean(struct inode *inode)
{
	if (!inode->is_dirty)
		return;
	inode->is_dirty = false;
	if (inode->dirty_prev)
		inode->dirty_prev->dirty_next = inode->dirty_next;
	else
		inode->sim->dirty = inode->dirty_next;
	if (inode->dirty_next)
		inode->dirty_next->dirty_prev = inode->dirty_prev;
	inode->dirty_prev = inode->dirty_next = NULL;
}

void inode_unref(struct inode *inode)
{
	if (!inode || --inode->refs > 0)
		return;
	mark_clean(inode);
	for (size_t i = 0; i < inode->page_slots; i++) {
		if (inode->pages[i] && inode->pages[i] != PAGE_RESERVED)
			page_free(inode->pages[i]);
	}
	free(inode->pages);
	tree_free_entries(inode);
	free(inode);
}

void inode_release_blocks(struct inode *inode)
{
	if (inode->has_name || inode->handles > 0)
		return;
	inode->sim->used_blocks -= inode->blocks;
	inode->blocks = 0;
}

/* ---- pages ------------------------------------------------------------------------------------------------------ */

static struct page *page_at(const struct inode *inode, uint64_t index)
{
	if (index >= inode->page_slots || inode->pages[index] == PAGE_RESERVED)
		return NULL;
	return inode->pages[index];
}

static void need_slots(struct inode *inode, uint64_t count)
{
	size_t slots = inode->page_slots ? inode->page_slots : 4;

	if (count <= inode->page_slots)
		return;
	while (slots < count)
		slots *= 2;
	struct page **pages = sim_alloc(slots * sizeof(struct page *));
	if (inode->page_slots)
		memcpy(pages, inode->pages, inode->page_slots * sizeof(struct page *));
	free(inode->pages);
	inode->pages = pages;
	inode->page_slots = slots;
}

static bool has_block(const struct inode *inode, uint64_t index)
{
	if (index >= inode->page_slots || !inode->pages[index])
		return false;
	return inode->pages[index] == PAGE_RESERVED || inode->pages[index]->counted;
}

static bool take_block(struct inode *inode)
{
	struct sim *sim = inode->sim;

	if (sim->capacity_blocks && sim->used_blocks >= sim->capacity_blocks)
		return false;
	sim->used_blocks++;
	inode->blocks++;
	return true;
}

static void give_block(struct inode *inode)
{
	inode->blocks--;
	inode->sim->used_blocks--;
}

/* The page, with a block, to be written. NULL if there is no room. */
static struct page *page_for_write(struct inode *inode, uint64_t index)
{
	need_slots(inode, index + 1);
	const bool counted = has_block(inode, index);
	struct page *page = page_at(inode, index);

	if (!counted && !take_block(inode))
		return NULL;
	if (!page) {
		page = sim_alloc(sizeof(*page));
		page->index = index;
		inode->pages[index] = page;
	}
	page->counted = true;
	return page;
}

static void list_page(struct inode *inode, struct page *page)
{
	if (page->is_listed)
		return;
	page->is_listed = true;
	page->next_listed = inode->listed;
	inode->listed = page;
}

static const uint8_t *disk_sector(const struct page *page, unsigned sector)
{
	return page->disk ? page->disk + (size_t)sector * SECTOR_BYTES : zeros;
}

/* The sector is about to differ from the disk for the first time: keep what the disk has. */
static void keep_disk_sector(struct page *page, unsigned sector)
{
	const size_t at = (size_t)sector * SECTOR_BYTES;

	/* Else it is zeros there, and so is its place in page->disk. */
	if (!(page->was_synced & (1u << sector)))
		return;
	if (!page->disk)
		page->disk = sim_alloc(PAGE_BYTES);
	memcpy(page->disk + at, page->data + at, SECTOR_BYTES);
}

static void before_sector_write(struct inode *inode, struct page *page, unsigned sector)
{
	const uint8_t bit = (uint8_t)(1u << sector);
	const size_t at = (size_t)sector * SECTOR_BYTES;

	if (page->dirty & bit) {
		/* The kernel may have written the former contents back meanwhile. */
		if ((page->written & bit) && rng_below(&inode->sim->chance, 4) == 0) {
			if (!page->mid)
				page->mid = sim_alloc(PAGE_BYTES);
			memcpy(page->mid + at, page->data + at, SECTOR_BYTES);
			page->has_mid |= bit;
		}
	} else {
		if (!(page->dropped & bit))
			keep_disk_sector(page, sector);
		page->dropped &= (uint8_t)~bit;
		page->dirty |= bit;
		list_page(inode, page);
	}
	page->written |= bit;
}

/* The sector lies wholly behind a new end. */
static void cut_sector(struct inode *inode, struct page *page, unsigned sector)
{
	const uint8_t bit = (uint8_t)(1u << sector);

	if (!((page->dirty | page->dropped) & bit))
		keep_disk_sector(page, sector);
	page->dirty |= bit;
	page->written &= (uint8_t)~bit;
	page->dropped &= (uint8_t)~bit;
	page->has_mid &= (uint8_t)~bit;
	memset(page->data + (size_t)sector * SECTOR_BYTES, 0, SECTOR_BYTES);
	list_page(inode, page);
}

/* ---- reading and changing --------------------------------------------------------------------------------------- */

size_t inode_read(const struct inode *inode, void *buf, size_t len, uint64_t offset)
{
	uint8_t *to = buf;
	size_t done = 0;

	if (offset >= inode->size)
		return 0;
	if (len > inode->size - offset)
		len = (size_t)(inode->size - offset);
	while (done < len) {
		const size_t in_page = (size_t)((offset + done) % PAGE_BYTES);
		const size_t n = len - done < PAGE_BYTES - in_page ? len - done : PAGE_BYTES - in_page;
		const struct page *page = page_at(inode, (offset + done) / PAGE_BYTES);

		if (page)
			memcpy(to + done, page->data + in_page, n);
		else
			memset(to + done, 0, n);
		done += n;
	}
	return len;
}

static void grow(struct inode *inode, uint64_t size)
{
	if (size > inode->size) {
		inode->size = size;
		mark_dirty(inode);
	}
}

size_t inode_write(struct inode *inode, const void *buf, size_t len, uint64_t offset)
{
	const uint8_t *from = buf;
	size_t done = 0;

	if (len > 0)
		mark_dirty(inode);
	while (done < len) {
		const size_t in_page = (size_t)((offset + done) % PAGE_BYTES);
		const size_t n = len - done < PAGE_BYTES - in_page ? len - done : PAGE_BYTES - in_page;
		struct page *page = page_for_write(inode, (offset + done) / PAGE_BYTES);

		if (!page)
			break;
		for (size_t sector = in_page / SECTOR_BYTES; sector * SECTOR_BYTES < in_page + n; sector++)
			before_sector_write(inode, page, (unsigned)sector);
		memcpy(page->data + in_page, from + done, n);
		done += n;
		grow(inode, offset + done);
	}
	return done;
}

void inode_truncate(struct inode *inode, uint64_t size)
{
	const uint64_t former = inode->size;

	mark_dirty(inode);
	inode->size = size;
	if (size >= former)
		return;
	if (size < inode->low_size)
		inode->low_size = size;
	for (uint64_t index = size / PAGE_BYTES; index < inode->page_slots && index * PAGE_BYTES < former; index++) {
		struct page *page = page_at(inode, index);
		const bool wholly = index * PAGE_BYTES >= size;

		if (wholly && has_block(inode, index))
			give_block(inode);
		if (!page) {
			if (wholly)
				inode->pages[index] = NULL;
			continue;
		}
		if (wholly)
			page->counted = false;
		size_t at = wholly ? 0 : (size_t)(size % PAGE_BYTES);
		if (at % SECTOR_BYTES) {
			/* The kernel zeroes the rest of the last sector: a write like others. */
			before_sector_write(inode, page, (unsigned)(at / SECTOR_BYTES));
			const size_t rest = SECTOR_BYTES - at % SECTOR_BYTES;
			memset(page->data + at, 0, rest);
			at += rest;
		}
		for (; at < PAGE_BYTES; at += SECTOR_BYTES)
			cut_sector(inode, page, (unsigned)(at / SECTOR_BYTES));
	}
}

int inode_allocate(struct inode *inode, uint64_t offset, uint64_t len)
{
	struct sim *sim = inode->sim;
	uint64_t missing = 0;

	if (len == 0)
		return 0;
	const uint64_t from = offset / PAGE_BYTES, end = (offset + len - 1) / PAGE_BYTES + 1;
	for (uint64_t index = from; index < end; index++)
		missing += !has_block(inode, index);
	if (sim->capacity_blocks &&
		(sim->used_blocks >= sim->capacity_blocks ? missing > 0
							  : missing > sim->capacity_blocks - sim->used_blocks))
		return -ENOSPC;
	need_slots(inode, end);
	for (uint64_t index = from; index < end; index++) {
		if (has_block(inode, index))
			continue;
		take_block(inode);
		if (inode->pages[index])
			inode->pages[index]->counted = true;
		else
			inode->pages[index] = PAGE_RESERVED;
	}
	mark_dirty(inode);
	grow(inode, offset + len);
	return 0;
}

/* ---- syncing ---------------------------------------------------------------------------------------------------- */

bool inode_has_unsynced(const struct inode *inode)
{
	return inode->is_dirty || inode->listed;
}

/* It is off the list. */
static void sync_page(struct inode *inode, struct page *page)
{
	page->was_synced |= page->dirty;
	page->dirty = page->written = page->has_mid = 0;
	page->is_listed = false;
	if (page->dropped) {
		list_page(inode, page);
	} else if (page->index * PAGE_BYTES >= inode->size) {
		inode->pages[page->index] = NULL;
		if (page->counted)
			give_block(inode);
		page_free(page);
	} else {
		free(page->disk);
		free(page->mid);
		page->disk = page->mid = NULL;
	}
}

void inode_sync(struct inode *inode)
{
	struct page *page = inode->listed;

	inode->listed = NULL;
	while (page) {
		struct page *next = page->next_listed;

		sync_page(inode, page);
		page = next;
	}
	inode->synced_size = inode->low_size = inode->size;
	mark_clean(inode);
}

void inode_sync_range(struct inode *inode, uint64_t offset, uint64_t len)
{
	struct page *page = inode->listed;

	if (inode->low_size < inode->synced_size) { /* what was cut off must not come between: it is all one */
		inode_sync(inode);
		return;
	}
	inode->listed = NULL;
	while (page) {
		struct page *next = page->next_listed;

		page->is_listed = false;
		if (page->index >= offset / PAGE_BYTES && page->index * PAGE_BYTES < offset + len)
			sync_page(inode, page);
		else
			list_page(inode, page);
		page = next;
	}
	if (inode->synced_size < offset + len)
		inode->synced_size = inode->low_size = offset + len;
}

void inode_sync_failed(struct inode *inode)
{
	/* The size, and what a truncation cut off, is metadata: that may still reach the disk later. */
	for (struct page *page = inode->listed; page; page = page->next_listed) {
		page->dropped |= page->written;
		page->dirty &= (uint8_t)~page->written;
		page->written = page->has_mid = 0;
	}
}

/* ---- after a power cut ------------------------------------------------------------------------------------------ */

struct fate {
	enum sim_power_mode mode;
	bool cut_kept;	      /* a truncation that was not synced did happen */
	uint64_t size;	      /* what is behind it will not be there */
	uint64_t kept_in_256; /* how likely a written sector is new */
};

static void sector_survives(struct inode *inode, struct page *page, unsigned sector, const struct fate *fate)
{
	struct rng *chance = &inode->sim->chance;
	const uint8_t bit = (uint8_t)(1u << sector);
	const size_t at = (size_t)sector * SECTOR_BYTES;
	const uint64_t start = page->index * PAGE_BYTES + at;
	uint8_t old[SECTOR_BYTES];

	memcpy(old, disk_sector(page, sector), SECTOR_BYTES);
	if (fate->cut_kept && inode->low_size < start + SECTOR_BYTES) {
		const size_t keep = inode->low_size > start ? (size_t)(inode->low_size - start) : 0;

		memset(old + keep, 0, SECTOR_BYTES - keep);
	}
	if (page->dropped & bit) {
		memcpy(page->data + at, old, SECTOR_BYTES);
	} else if (!(page->written & bit)) {
		if (!fate->cut_kept)
			memcpy(page->data + at, old, SECTOR_BYTES);
	} else if (fate->mode == SIM_LOSE_ALL) {
		memcpy(page->data + at, old, SECTOR_BYTES);
	} else if (fate->mode == SIM_CHOSEN) {
		if (start < fate->size && memcmp(page->data + at, old, SECTOR_BYTES) != 0 && !sim_choose(inode->sim)) {
			const bool mid = (page->has_mid & bit) && memcmp(page->mid + at, old, SECTOR_BYTES) != 0 &&
					 sim_choose(inode->sim);

			memcpy(page->data + at, mid ? page->mid + at : old, SECTOR_BYTES);
		}
	} else if (fate->mode == SIM_POWER_RANDOM && rng_below(chance, 256) >= fate->kept_in_256) {
		const bool mid = (page->has_mid & bit) && rng_below(chance, 2) == 0;

		memcpy(page->data + at, mid ? page->mid + at : old, SECTOR_BYTES);
	}
}

static uint64_t surviving_size(struct inode *inode, const struct fate *fate, bool was_cut)
{
	struct rng *chance = &inode->sim->chance;

	if (fate->mode == SIM_KEEP_ALL)
		return inode->size;
	if (fate->mode == SIM_LOSE_ALL || (was_cut && !fate->cut_kept))
		return inode->synced_size;
	const uint64_t least = was_cut ? inode->low_size : inode->synced_size;
	if (fate->mode == SIM_CHOSEN) {
		if (inode->size == least || sim_choose(inode->sim))
			return inode->size;
		return sim_choose(inode->sim) ? least + (inode->size - least) / 2 : least;
	}
	switch (rng_below(chance, 4)) {
	case 0:
		return least;
	case 1:
		return least + rng_below(chance, inode->size - least + 1);
	default:
		return inode->size;
	}
}

static void drop_behind(struct inode *inode, uint64_t size)
{
	for (uint64_t index = size / PAGE_BYTES; index < inode->page_slots; index++) {
		struct page *page = page_at(inode, index);
		const size_t keep = index * PAGE_BYTES >= size ? 0 : (size_t)(size % PAGE_BYTES);

		if (keep > 0) {
			if (page)
				memset(page->data + keep, 0, PAGE_BYTES - keep);
			continue;
		}
		if (page)
			page_free(page);
		inode->pages[index] = NULL;
	}
}

void inode_survive(struct inode *inode, enum sim_power_mode mode)
{
	static const uint64_t likelihoods[] = {0, 32, 128, 128, 224, 256};
	struct rng *chance = &inode->sim->chance;
	const bool was_cut = inode->low_size < inode->synced_size;
	struct fate fate = {.mode = mode};

	if (!inode->is_dirty && !inode->listed)
		return;
	if (mode == SIM_POWER_RANDOM) {
		fate.kept_in_256 = likelihoods[rng_below(chance, sizeof(likelihoods) / sizeof(*likelihoods))];
		fate.cut_kept = was_cut && rng_below(chance, 2) == 0;
	} else {
		fate.cut_kept = was_cut && (mode == SIM_KEEP_ALL || (mode == SIM_CHOSEN && sim_choose(inode->sim)));
	}
	const uint64_t size = fate.size = surviving_size(inode, &fate, was_cut);

	for (struct page *page = inode->listed, *next; page; page = next) {
		next = page->next_listed;
		for (unsigned sector = 0; sector < PAGE_SECTORS; sector++) {
			if ((page->dirty | page->dropped) & (1u << sector))
				sector_survives(inode, page, sector, &fate);
		}
		page->was_synced |= page->dirty | page->dropped;
		page->dirty = page->written = page->dropped = page->has_mid = 0;
		page->is_listed = false;
		free(page->disk);
		free(page->mid);
		page->disk = page->mid = NULL;
	}
	inode->listed = NULL;
	drop_behind(inode, size);
	inode->size = inode->synced_size = inode->low_size = size;
	mark_clean(inode);
}

void inode_count_blocks(struct inode *inode)
{
	inode->blocks = inode->is_dir;
	for (size_t i = 0; i < inode->page_slots; i++) {
		if (!inode->pages[i])
			continue;
		inode->blocks++;
		if (inode->pages[i] != PAGE_RESERVED)
			inode->pages[i]->counted = true;
	}
	inode->sim->used_blocks += inode->blocks;
}
