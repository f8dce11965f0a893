#include "client_slots.h"

#include <string.h>

#include "client_memory.h"
#include "client_transport.h"
#include "frame.h"

/* msgid: the slot's index below, its generation (never 0) above; so 0 is never used, and an answer that comes twice
 * finds another generation. */
#define SLOT_BITS 16
#define SLOT_COUNT_MAX (1u << SLOT_BITS)
#define SLOT_COUNT_MIN 16

void slots_init(struct slots *slots, const struct mem *mem)
{
	*slots = (struct slots){.mem = mem, .free = NO_SLOT, .done_first = NO_SLOT, .done_last = NO_SLOT};
	slots->deadline_ns = DEADLINE_NEVER;
}

static void slot_clear(struct slot *slot)
{
	block_free(slot->refusal);
	block_free(slot->answer.payload);
	block_free(slot->answer.request.memory);
	slot->refusal = NULL;
	slot->answer.payload = NULL;
	slot->answer.request.memory = NULL;
}

void slots_free(struct slots *slots)
{
	for (uint32_t i = 0; i < slots->count; i++)
		slot_clear(&slots->table[i]);
	mem_free(slots->mem, slots->table);
	slots_init(slots, slots->mem);
}

uint32_t slots_msgid(const struct slots *slots, const struct slot *slot)
{
	return (uint32_t)slot->generation << SLOT_BITS | (uint32_t)(slot - slots->table);
}

struct slot *slots_find(const struct slots *slots, uint32_t msgid)
{
	uint32_t index = msgid & (SLOT_COUNT_MAX - 1);
	if (index >= slots->count)
		return NULL;
	struct slot *slot = &slots->table[index];
	return slot->state != SLOT_FREE && slot->generation == msgid >> SLOT_BITS ? slot : NULL;
}

bool slots_full(const struct slots *slots)
{
	return slots->free == NO_SLOT && slots->count == SLOT_COUNT_MAX;
}

static int grow(struct slots *slots)
{
	uint32_t count = slots->count == 0 ? SLOT_COUNT_MIN : slots->count * 2;
	if (count > SLOT_COUNT_MAX)
		return -1;
	struct slot *table = mem_realloc(slots->mem, slots->table, count * sizeof(*table));
	if (table == NULL)
		return -1;
	memset(table + slots->count, 0, (count - slots->count) * sizeof(*table));
	for (uint32_t i = count; i-- > slots->count;) {
		table[i].next = slots->free;
		slots->free = i;
	}
	slots->table = table;
	slots->count = count;
	return 0;
}

uint32_t slots_open(struct slots *slots, const struct core_request *request)
{
	if (slots->free == NO_SLOT && grow(slots) != 0)
		return NO_SLOT;
	uint32_t index = slots->free;
	struct slot *slot = &slots->table[index];
	slots->free = slot->next;
	uint16_t generation = (uint16_t)(slot->generation + 1);
	slot->state = SLOT_OPEN;
	slot->generation = generation != 0 ? generation : 1;
	slot->lost = slot->expired = slot->answer_to_come = slot->taken_back = false;
	slot->answer.request = *request;
	slot->answer.tag = NULL;
	return index;
}

void slots_commit(struct slots *slots, struct slot *slot, uint64_t from, uint64_t to, uint64_t deadline_ns)
{
	slot->state = SLOT_WAITING;
	slot->from = from;
	slot->to = to;
	slot->deadline_ns = deadline_ns;
	slots->waiting++;
	if (!slot->answer.request.is_submitted)
		return;
	slots->submitted++;
	slots->held_bytes += to - from;
	if (deadline_ns < slots->deadline_ns)
		slots->deadline_ns = deadline_ns;
}

void slots_done(struct slots *slots, struct slot *slot)
{
	uint32_t index = (uint32_t)(slot - slots->table);
	bool given_up = slot->state == SLOT_GIVEN_UP;
	if (!slot->answer_to_come)
		slots->waiting--;
	if (given_up) {
		slots_release(slots, slot);
		return;
	}
	slot->state = SLOT_DONE;
	if (!slot->answer.request.is_submitted)
		return; /* core_wait looks at it */
	slots->held_bytes -= slot->to - slot->from;
	if (slots->held_bytes == 0)
		slots->deadline_ns = DEADLINE_NEVER; /* an idle connection wakes nobody up */
	if (slot->answer.payload != NULL)
		slots->kept_bytes += slot->answer.payload_len;
	slot->next = NO_SLOT;
	if (slots->done_last == NO_SLOT)
		slots->done_first = index;
	else
		slots->table[slots->done_last].next = index;
	slots->done_last = index;
}

/* The request whose frame begins these bytes. */
static struct slot *slot_of_frame(const struct slots *slots, const uint8_t *frame, size_t have, size_t *ret_len)
{
	struct span payload = {0};
	struct mp_value value = {0};
	(void)frame_next(frame, have, UINT32_MAX, &payload, ret_len);
	struct mp_reader reader = mp_reader_of(payload);
	for (int i = 0; i < 3; i++) /* the array, the type, the msgid */
		(void)mp_read(&reader, &value);
	return slots_find(slots, (uint32_t)value.u64);
}

size_t slots_take_back(struct slots *slots, uint8_t *frames, size_t len, uint64_t from)
{
	size_t at = 0, end = 0, frame_len;
	for (; at < len; at += frame_len) {
		struct slot *slot = slot_of_frame(slots, frames + at, len - at, &frame_len);
		if (slot->taken_back)
			continue;
		memmove(frames + end, frames + at, frame_len);
		slot->from = from + end;
		end += frame_len;
		slot->to = from + end;
	}
	return len - end;
}

void slots_release(struct slots *slots, struct slot *slot)
{
	slot_clear(slot);
	slot->state = SLOT_FREE;
	slot->next = slots->free;
	slots->free = (uint32_t)(slot - slots->table);
}

struct slot *slots_pop(struct slots *slots)
{
	if (slots->done_first == NO_SLOT)
		return NULL;
	struct slot *slot = &slots->table[slots->done_first];
	slots->done_first = slot->next;
	if (slots->done_first == NO_SLOT)
		slots->done_last = NO_SLOT;
	slots->submitted--;
	if (slot->answer.payload != NULL)
		slots->kept_bytes -= slot->answer.payload_len;
	return slot;
}
