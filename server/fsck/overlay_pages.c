/* What of a file differs from the one below, page by page. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "overlay_node.h"

static const uint8_t zeros[OVERLAY_PAGE];

bool file_is_changed(const struct node *node)
{
	return !node->below || node->size != node->below_size || node->below_end != node->below_size ||
	       node->page_count > 0;
}

/* The first page whose number is not below. */
static size_t lower(const struct node *node, uint64_t number)
{
	size_t low = 0, high = node->page_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (node->pages[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* What shows of the file below; zeros behind that. */
static int read_below(struct overlay *overlay, struct node *node, uint8_t *to, size_t len, uint64_t offset, int flags)
{
	size_t part = offset >= node->below_end	       ? 0
		      : len < node->below_end - offset ? len
						       : (size_t)(node->below_end - offset);
	ssize_t got = part > 0 ? overlay->below->ops->pread(node->file, to, part, offset, flags) : 0;
	if (got < 0)
		return (int)got;
	if ((size_t)got < part && (flags & IO_NOWAIT))
		return -EAGAIN;
	memset(to + got, 0, len - (size_t)got);
	return 0;
}

ssize_t file_read(struct overlay *overlay, struct node *node, void *buf, size_t len, uint64_t offset, int flags)
{
	if (offset >= node->size)
		return 0;
	if (len > node->size - offset)
		len = (size_t)(node->size - offset);
	uint8_t *to = buf;
	for (size_t done = 0; done < len;) {
		uint64_t at = offset + done, number = at / OVERLAY_PAGE;
		size_t index = lower(node, number), inside = (size_t)(at % OVERLAY_PAGE), piece = len - done;
		const struct page *page = index < node->page_count ? &node->pages[index] : NULL;
		if (page && page->number == number) {
			if (piece > OVERLAY_PAGE - inside)
				piece = OVERLAY_PAGE - inside;
			memcpy(to + done, (page->data ? page->data : zeros) + inside, piece);
		} else {
			if (page && piece > page->number * OVERLAY_PAGE - at)
				piece = (size_t)(page->number * OVERLAY_PAGE - at);
			int r = read_below(overlay, node, to + done, piece, at, flags);
			if (r < 0)
				return r;
		}
		done += piece;
	}
	return (ssize_t)len;
}

static int insert_page(struct overlay *overlay, struct node *node, size_t index, uint64_t number)
{
	if (node->page_count == node->page_cap) {
		size_t cap = node->page_cap ? node->page_cap * 2 : 4;
		struct page *pages = realloc(node->pages, sizeof(*pages) * cap);
		if (!pages)
			return -ENOMEM;
		node->pages = pages;
		node->page_cap = cap;
	}
	memmove(&node->pages[index + 1], &node->pages[index], sizeof(*node->pages) * (node->page_count - index));
	node->pages[index] = (struct page){number, NULL};
	node->page_count++;
	overlay->pages++;
	return 0;
}

static void drop_data(struct overlay *overlay, struct page *page)
{
	overlay->data_pages -= page->data != NULL;
	free(page->data);
	page->data = NULL;
}

static void remove_page(struct overlay *overlay, struct node *node, size_t index)
{
	drop_data(overlay, &node->pages[index]);
	node->page_count--;
	overlay->pages--;
	memmove(&node->pages[index], &node->pages[index + 1], sizeof(*node->pages) * (node->page_count - index));
}

/* One page becomes these bytes: kept only so far as it has to be. */
static int set_page(struct overlay *overlay, struct node *node, uint64_t number, const uint8_t bytes[OVERLAY_PAGE])
{
	uint8_t below[OVERLAY_PAGE];
	int r = read_below(overlay, node, below, OVERLAY_PAGE, number * OVERLAY_PAGE, 0);
	/* What cannot be read is not what is written. */
	bool same = r == 0 && memcmp(below, bytes, OVERLAY_PAGE) == 0;
	size_t index = lower(node, number);
	bool there = index < node->page_count && node->pages[index].number == number;
	if (same) {
		if (there)
			remove_page(overlay, node, index);
		return 0;
	}
	if (!there && insert_page(overlay, node, index, number) != 0)
		return -ENOMEM;
	struct page *page = &node->pages[index];
	if (memcmp(bytes, zeros, OVERLAY_PAGE) == 0) {
		drop_data(overlay, page);
		return 0;
	}
	if (!page->data) {
		page->data = malloc(OVERLAY_PAGE);
		if (!page->data) {
			if (!there)
				remove_page(overlay, node, index);
			return -ENOMEM;
		}
		overlay->data_pages++;
	}
	memcpy(page->data, bytes, OVERLAY_PAGE);
	return 0;
}

int file_write(struct overlay *overlay, struct node *node, const uint8_t *bytes, size_t len, uint64_t offset)
{
	while (len > 0) {
		uint64_t number = offset / OVERLAY_PAGE;
		size_t inside = (size_t)(offset % OVERLAY_PAGE), piece = OVERLAY_PAGE - inside;
		if (piece > len)
			piece = len;
		uint8_t page[OVERLAY_PAGE] = {0};
		if (piece < OVERLAY_PAGE) {
			ssize_t got = file_read(overlay, node, page, OVERLAY_PAGE, number * OVERLAY_PAGE, 0);
			if (got < 0)
				return (int)got;
		}
		memcpy(page + inside, bytes, piece);
		int r = set_page(overlay, node, number, page);
		if (r != 0)
			return r;
		offset += piece;
		bytes += piece;
		len -= piece;
		if (offset > node->size)
			node->size = offset;
	}
	return 0;
}

int file_truncate(struct overlay *overlay, struct node *node, uint64_t size)
{
	if (size < node->size) {
		size_t keep = lower(node, (size + OVERLAY_PAGE - 1) / OVERLAY_PAGE);
		while (node->page_count > keep)
			remove_page(overlay, node, node->page_count - 1);
		if (node->page_count > 0) {
			struct page *last = &node->pages[node->page_count - 1];
			uint64_t at = last->number * OVERLAY_PAGE;
			if (last->data && at + OVERLAY_PAGE > size)
				memset(last->data + (size - at), 0, OVERLAY_PAGE - (size_t)(size - at));
		}
		if (node->below_end > size)
			node->below_end = size;
	}
	node->size = size;
	return 0;
}

void file_free_pages(struct overlay *overlay, struct node *node)
{
	while (node->page_count > 0)
		remove_page(overlay, node, node->page_count - 1);
	free(node->pages);
	node->pages = NULL;
	node->page_cap = 0;
}
