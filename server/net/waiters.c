#include "waiters.h"

#include <stdlib.h>

struct waiter_list {
	struct waiter *head;
	struct waiter *unseen; /* as they were when it was touched, and not yet looked at */
	struct stream *stream;
	struct waiter_list *touched_next;
	bool touched, again; /* is among the touched; was touched since `unseen` was taken */
};

struct waiters {
	struct waiter **heap; /* by deadline, the soonest first */
	size_t count, cap;
	struct waiter_list *touched_head, *touched_tail;
};

struct waiters *waiters_new(void)
{
	return calloc(1, sizeof(struct waiters));
}

void waiters_free(struct waiters *waiters)
{
	if (waiters == NULL)
		return;
	while (waiters_run(waiters)) /* lists that are empty by now, and only still marked */
		;
	free(waiters->heap);
	free(waiters);
}

/* ---- the heap --------------------------------------------------------------------------------------------------- */

static void heap_put(struct waiters *waiters, size_t at, struct waiter *waiter)
{
	waiters->heap[at] = waiter;
	waiter->heap_at = at;
}

static void heap_up(struct waiters *waiters, size_t at)
{
	struct waiter *waiter = waiters->heap[at];
	while (at > 0 && waiters->heap[(at - 1) / 2]->deadline_ns > waiter->deadline_ns) {
		heap_put(waiters, at, waiters->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_put(waiters, at, waiter);
}

static void heap_down(struct waiters *waiters, size_t at)
{
	struct waiter *waiter = waiters->heap[at];
	for (;;) {
		size_t child = 2 * at + 1;
		if (child >= waiters->count)
			break;
		if (child + 1 < waiters->count &&
			waiters->heap[child + 1]->deadline_ns < waiters->heap[child]->deadline_ns)
			child++;
		if (waiters->heap[child]->deadline_ns >= waiter->deadline_ns)
			break;
		heap_put(waiters, at, waiters->heap[child]);
		at = child;
	}
	heap_put(waiters, at, waiter);
}

static bool heap_add(struct waiters *waiters, struct waiter *waiter)
{
	if (waiters->count == waiters->cap) {
		size_t cap = waiters->cap == 0 ? 64 : 2 * waiters->cap;
		struct waiter **heap = realloc(waiters->heap, cap * sizeof(struct waiter *));
		if (heap == NULL)
			return false;
		waiters->heap = heap;
		waiters->cap = cap;
	}
	heap_put(waiters, waiters->count++, waiter);
	heap_up(waiters, waiter->heap_at);
	return true;
}

static void heap_remove(struct waiters *waiters, struct waiter *waiter)
{
	size_t at = waiter->heap_at;
	struct waiter *last = waiters->heap[--waiters->count];
	if (last == waiter)
		return;
	heap_put(waiters, at, last);
	heap_up(waiters, at);
	heap_down(waiters, last->heap_at);
}

/* ---- the lists -------------------------------------------------------------------------------------------------- */

static struct waiter_list *list_of(struct stream *stream)
{
	struct waiter_list *list = stream_user(stream);
	if (list == NULL) {
		list = calloc(1, sizeof(*list));
		if (list != NULL) {
			list->stream = stream;
			stream_set_user(stream, list);
		}
	}
	return list;
}

static void drop_if_unused(struct waiter_list *list)
{
	if (list->head != NULL || list->unseen != NULL || list->touched)
		return;
	stream_set_user(list->stream, NULL);
	free(list);
}

static void stream_push(struct waiter **head, struct waiter *waiter)
{
	waiter->stream_link = head;
	waiter->stream_next = *head;
	if (*head != NULL)
		(*head)->stream_link = &waiter->stream_next;
	*head = waiter;
}

static void stream_unlink(struct waiter *waiter)
{
	*waiter->stream_link = waiter->stream_next;
	if (waiter->stream_next != NULL)
		waiter->stream_next->stream_link = waiter->stream_link;
}

bool waiters_add(struct waiters *waiters, struct waiter *waiter, struct stream *stream, struct waiter_owner *owner)
{
	if (owner->count >= WAITERS_PER_OWNER_MAX || waiters->count >= WAITERS_MAX)
		return false;
	struct waiter_list *list = list_of(stream);
	if (list == NULL)
		return false;
	if (!heap_add(waiters, waiter)) {
		drop_if_unused(list);
		return false;
	}
	waiter->stream = stream;
	waiter->owner = owner;
	stream_push(&list->head, waiter);
	waiter->owner_link = &owner->head;
	waiter->owner_next = owner->head;
	if (owner->head != NULL)
		owner->head->owner_link = &waiter->owner_next;
	owner->head = waiter;
	owner->count++;
	return true;
}

/* Takes it out of everything. The stream's list may be gone then. */
static void remove_waiter(struct waiters *waiters, struct waiter *waiter)
{
	struct waiter_list *list = stream_user(waiter->stream);
	stream_unlink(waiter);
	*waiter->owner_link = waiter->owner_next;
	if (waiter->owner_next != NULL)
		waiter->owner_next->owner_link = waiter->owner_link;
	waiter->owner->count--;
	heap_remove(waiters, waiter);
	drop_if_unused(list);
}

static void wake(struct waiters *waiters, struct waiter *waiter)
{
	remove_waiter(waiters, waiter);
	waiter->wake_cb(waiter);
}

static void add_touched(struct waiters *waiters, struct waiter_list *list)
{
	list->touched_next = NULL;
	if (waiters->touched_tail != NULL)
		waiters->touched_tail->touched_next = list;
	else
		waiters->touched_head = list;
	waiters->touched_tail = list;
}

void waiters_touch(struct waiters *waiters, struct stream *stream)
{
	struct waiter_list *list = stream_user(stream);
	if (list == NULL)
		return;
	list->again = true;
	if (!list->touched)
		add_touched(waiters, list);
	list->touched = true;
}

static void take_unseen(struct waiter_list *list)
{
	list->again = false;
	list->unseen = list->head;
	list->head = NULL;
	if (list->unseen != NULL)
		list->unseen->stream_link = &list->unseen;
}

/* Looks at some of the list's. wake_cb may take any of them away (its connection fails), but not the list. */
static void look_at(struct waiters *waiters, struct waiter_list *list, size_t *left)
{
	uint64_t end = stream_view(list->stream).end;
	for (; list->unseen != NULL && *left > 0; --*left) {
		struct waiter *waiter = list->unseen;
		if (waiter->id < end) {
			wake(waiters, waiter);
		} else {
			stream_unlink(waiter);
			stream_push(&list->head, waiter);
		}
	}
}

bool waiters_run(struct waiters *waiters)
{
	size_t left = WAITERS_PER_RUN;
	while (waiters->touched_head != NULL && left > 0) {
		struct waiter_list *list = waiters->touched_head;
		left--;
		if (list->unseen == NULL)
			take_unseen(list);
		look_at(waiters, list, &left);
		if (list->unseen != NULL)
			break;
		waiters->touched_head = list->touched_next;
		if (waiters->touched_head == NULL)
			waiters->touched_tail = NULL;
		if (list->again) {
			add_touched(waiters, list); /* after the others */
		} else {
			list->touched = false;
			drop_if_unused(list);
		}
	}
	return waiters->touched_head != NULL;
}

void waiters_expire(struct waiters *waiters, uint64_t now_ns)
{
	for (size_t left = WAITERS_PER_RUN; left > 0 && waiters->count > 0; left--) {
		if (waiters->heap[0]->deadline_ns > now_ns)
			return;
		wake(waiters, waiters->heap[0]);
	}
}

uint64_t waiters_next_deadline_ns(const struct waiters *waiters)
{
	return waiters->count > 0 ? waiters->heap[0]->deadline_ns : UINT64_MAX;
}

void waiters_wake_owner(struct waiters *waiters, struct waiter_owner *owner)
{
	while (owner->head != NULL)
		wake(waiters, owner->head);
}

void waiters_wake_all(struct waiters *waiters)
{
	while (waiters->count > 0)
		wake(waiters, waiters->heap[0]);
}

size_t waiters_count(const struct waiters *waiters)
{
	return waiters->count;
}
