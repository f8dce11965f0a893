#include "client_core_impl.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "client_memory.h"
#include "clock.h"
#include "frame.h"

/* Queued bytes from which a submit sends without being asked to. */
#define NUDGE_BYTES ((size_t)65536)
/* Reads before something expires: what has arrived is in time. Bounded, as a peer may never stop talking. */
#define DRAIN_READS_MAX 64

struct core *core_new(const struct mem *mem, const char *address, const struct core_limits *limits)
{
	struct core *core = block_new(mem, sizeof(*core));
	if (core == NULL)
		return NULL;
	core->address = address;
	core->limits = *limits;
	core->out.mem = core->in.mem = block_mem(core);
	core->open_slot = NO_SLOT;
	slots_init(&core->slots, block_mem(core));
	mp_writer_init(&core->writer, &core->out);
	return core;
}

static void close_transport(struct core *core)
{
	if (core->transport != NULL)
		core->transport->ops->free(core->transport);
	core->transport = NULL;
}

void core_free(struct core *core)
{
	if (core == NULL)
		return;
	close_transport(core);
	slots_free(&core->slots);
	buf_free(&core->out);
	buf_free(&core->in);
	block_free(core);
}

void core_attach(struct core *core, struct transport *transport)
{
	core->transport = transport;
}

void core_set_message_limits(struct core *core, uint64_t request_bytes, uint64_t answer_bytes)
{
	core->limits.request_bytes = request_bytes;
	core->limits.answer_bytes = answer_bytes;
}

bool core_is_lost(const struct core *core)
{
	return core->lost;
}

bool core_is_usable(const struct core *core)
{
	return !core->lost && !core->write_failed;
}

bool core_has_results(const struct core *core)
{
	return core->slots.done_first != NO_SLOT;
}

uint32_t core_submitted(const struct core *core)
{
	return core->slots.submitted;
}

/* Of a request that gets no answer any more. */
static ironwal_fate fate_without_answer(const struct core *core, const struct slot *slot)
{
	if (!slot->answer.request.is_write)
		return IRONWAL_FATE_NOT_A_WRITE;
	return slot->to <= core->sent ? IRONWAL_FATE_UNKNOWN : IRONWAL_FATE_NOT_SENT;
}

/* ---- the end of a connection ---- */

/* core->failure says why. Closing first: what is half sent can then never be executed. */
void core_fail(struct core *core)
{
	close_transport(core);
	core->lost = true;
	cerr_unusable(&core->failure, true);
	for (uint32_t i = 0; i < core->slots.count; i++) {
		struct slot *slot = &core->slots.table[i];
		if (slot->answer_to_come) {
			slot->answer_to_come = false;
			core->slots.waiting--;
		}
		if (slot->state != SLOT_WAITING && slot->state != SLOT_GIVEN_UP)
			continue;
		slot->lost = true;
		slot->fate = fate_without_answer(core, slot);
		slots_done(&core->slots, slot);
	}
	buf_free(&core->in);
	buf_free(&core->out);
	core->out_at = 0;
	core->slots.deadline_ns = DEADLINE_NEVER;
}

void core_abort(struct core *core, const struct ironwal_error *reason)
{
	if (core->lost)
		return;
	core->failure = *reason;
	core_fail(core);
}

void core_fail_lost(struct core *core, int os_errno)
{
	if (os_errno != 0)
		cerr_set_errno(&core->failure, IRONWAL_ERR_CONNECTION_LOST, os_errno, "the connection to %s was lost",
			core->address);
	else
		cerr_set(&core->failure, IRONWAL_ERR_CONNECTION_LOST,
			"the connection to %s was lost: the server closed it", core->address);
	core_fail(core);
}

void core_fail_transport(struct core *core, int os_errno)
{
	(void)transport_failure(core->transport, core->address, os_errno, &core->failure);
	core_fail(core);
}

void core_fail_protocol(struct core *core, const char *why)
{
	cerr_set(&core->failure, IRONWAL_ERR_PROTOCOL, "%s does not speak the protocol of ironwald: %s", core->address,
		why);
	core_fail(core);
}

void core_fail_no_memory(struct core *core)
{
	cerr_no_memory(&core->failure);
	core_fail(core);
}

int core_reject_answer(struct core *core, const struct error *reason, ironwal_error *error)
{
	if (!core->lost)
		core_fail_protocol(core, reason->message);
	cerr_set(error, IRONWAL_ERR_PROTOCOL, "%s does not speak the protocol of ironwald: %s", core->address,
		reason->message);
	return cerr_unusable(error, true);
}

int core_failure(const struct core *core, ironwal_error *error)
{
	if (error != NULL && core->lost)
		*error = core->failure;
	else if (error != NULL)
		cerr_set_errno(error, IRONWAL_ERR_CONNECTION_LOST, core->write_errno, "the connection to %s was lost",
			core->address);
	return cerr_unusable(error, true);
}

static ironwal_fate fate_of_nothing(const struct core_request *request)
{
	return request->is_write ? IRONWAL_FATE_NOT_SENT : IRONWAL_FATE_NOT_A_WRITE;
}

/* ---- submitting ---- */

static bool is_full(const struct core *core)
{
	const struct slots *slots = &core->slots;
	return slots->submitted > 0 &&
	       (slots->submitted >= core->limits.in_flight_count || slots->held_bytes >= core->limits.in_flight_bytes);
}

static int refuse(const struct core *core, const struct core_request *request, ironwal_error *error)
{
	block_free(request->memory);
	cerr_fate(error, fate_of_nothing(request), request->is_repeatable);
	return cerr_unusable(error, !core_is_usable(core));
}

int core_begin(struct core *core, const struct core_request *request, size_t param_count, struct mp_writer **ret_writer,
	ironwal_error *error)
{
	if (!core_is_usable(core)) {
		core_failure(core, error);
		return refuse(core, request, error);
	}
	if (request->is_submitted && is_full(core)) {
		cerr_set(error, IRONWAL_ERR_AGAIN, "%u requests are in flight, which is the limit: take results first",
			core->slots.submitted);
		return refuse(core, request, error);
	}
	if (slots_full(&core->slots)) {
		/* There are no results that would make room: most of them were given up long ago. */
		cerr_set(&core->failure, IRONWAL_ERR_TIMEOUT,
			"%s did not answer %u requests in time; the connection was closed", core->address,
			core->slots.waiting);
		core_fail(core);
		core_failure(core, error);
		return refuse(core, request, error);
	}
	uint32_t index = slots_open(&core->slots, request);
	if (index == NO_SLOT) {
		cerr_no_memory(error);
		return refuse(core, request, error);
	}
	core->open_slot = index;
	request_begin(
		&core->writer, slots_msgid(&core->slots, &core->slots.table[index]), request->method, param_count);
	*ret_writer = &core->writer;
	return 0;
}

int core_commit(struct core *core, uint64_t deadline_ns, uint32_t *ret_msgid, ironwal_error *error)
{
	struct slot *slot = &core->slots.table[core->open_slot];
	size_t bytes = frame_bytes(&core->writer);
	core->open_slot = NO_SLOT;
	if (!core->writer.failed && bytes > core->limits.request_bytes) {
		frame_drop(&core->writer);
		cerr_too_large(error, "the bytes of the request", core->limits.request_bytes, bytes);
	} else if (frame_end(&core->writer) != 0) {
		cerr_no_memory(error);
	} else {
		uint64_t from = core->queued;
		core->queued += FRAME_LENGTH_BYTES + bytes;
		slots_commit(&core->slots, slot, from, core->queued, deadline_ns);
		*ret_msgid = slots_msgid(&core->slots, slot);
		return 0;
	}
	cerr_fate(error, fate_of_nothing(&slot->answer.request), slot->answer.request.is_repeatable);
	slots_release(&core->slots, slot);
	return -1;
}

/* Takes the frames of the requests that are marked out of what is queued; the first one begins at from. */
static void take_back(struct core *core, uint64_t from)
{
	uint8_t *first = core->out.data + core->out_at + (from - core->sent);
	size_t len = slots_take_back(&core->slots, first, (size_t)(core->queued - from), from);
	core->out.len -= len;
	core->queued -= len;
}

/* ---- deadlines ---- */

/* Half of a request has left. Only the end of the connection keeps the server from executing it. */
static void fail_half_sent(struct core *core, const struct slot *slot)
{
	cerr_set(&core->failure, IRONWAL_ERR_TIMEOUT,
		"%s: %s did not take the whole request in time; the connection was closed",
		method_name(slot->answer.request.method), core->address);
	core_fail(core);
}

/* It is done, with a timeout. */
static void expire(struct core *core, struct slot *slot)
{
	slot->expired = true;
	slot->fate = fate_without_answer(core, slot);
	slot->answer_to_come = slot->to <= core->sent;
	slot->taken_back = !slot->answer_to_come;
	slots_done(&core->slots, slot);
}

static void expire_all(struct core *core)
{
	struct slots *slots = &core->slots;
	if (slots->deadline_ns == DEADLINE_NEVER)
		return;
	uint64_t now_ns = clock_now_ns(), taken_back_from = UINT64_MAX;
	if (now_ns < slots->deadline_ns)
		return;
	/* Who was busy for longer than a timeout gets the answers that have come meanwhile. */
	for (int i = 0; i < DRAIN_READS_MAX && core->transport != NULL && core_is_reading(core) && core_read(core); i++)
		;
	slots->deadline_ns = DEADLINE_NEVER;
	for (uint32_t i = 0; i < slots->count; i++) {
		struct slot *slot = &slots->table[i];
		if (slot->state != SLOT_WAITING || !slot->answer.request.is_submitted)
			continue;
		if (slot->deadline_ns > now_ns) {
			if (slot->deadline_ns < slots->deadline_ns)
				slots->deadline_ns = slot->deadline_ns;
		} else if (slot->from < core->sent && slot->to > core->sent) {
			fail_half_sent(core, slot);
			return;
		} else {
			expire(core, slot);
			if (slot->taken_back && slot->from < taken_back_from)
				taken_back_from = slot->from;
		}
	}
	if (taken_back_from != UINT64_MAX)
		take_back(core, taken_back_from);
}

/* ---- without waiting ---- */

int core_fd(const struct core *core)
{
	return core->transport != NULL ? core->transport->ops->fd(core->transport) : -1;
}

unsigned core_events(const struct core *core)
{
	if (core->transport == NULL)
		return 0;
	if (transport_waits_for_peer(core->transport))
		return IRONWAL_READABLE;
	return (core_is_reading(core) ? IRONWAL_READABLE : 0) | (core_to_write(core) > 0 ? IRONWAL_WRITABLE : 0);
}

uint64_t core_deadline_ns(const struct core *core)
{
	if (core->transport != NULL && core_is_reading(core) && transport_has_input(core->transport))
		return 0; /* the descriptor would not tell */
	return core->slots.deadline_ns;
}

/* One read, and more if there is what the descriptor will not tell of. */
static void read_all_that_is_here(struct core *core)
{
	while (core_read(core) && core->transport != NULL && core_is_reading(core) &&
		transport_has_input(core->transport))
		;
}

void core_process(struct core *core, unsigned events)
{
	/* First: what is too late must not be sent any more. */
	expire_all(core);
	core_write(core);
	if (core->transport == NULL || !core_is_reading(core))
		return;
	if ((events & IRONWAL_READABLE) == 0 && !transport_has_input(core->transport))
		return;
	read_all_that_is_here(core);
	core_write(core);
}

void core_nudge(struct core *core)
{
	if (core_to_write(core) >= NUDGE_BYTES)
		core_process(core, IRONWAL_READABLE);
}

/* ---- waiting ---- */

/* Writes what goes, waits for either direction, reads what is there, whatever is kept already. False: the deadline
 * passed. */
static bool turn(struct core *core, uint64_t deadline_ns)
{
	expire_all(core);
	core_write(core);
	if (core->transport == NULL)
		return true;
	bool writes = core_to_write(core) > 0 && !transport_waits_for_peer(core->transport);
	short events = (short)(POLLIN | (writes ? POLLOUT : 0));
	uint64_t until_ns = deadline_ns < core->slots.deadline_ns ? deadline_ns : core->slots.deadline_ns;
	if (!transport_has_input(core->transport) && deadline_poll(core_fd(core), events, until_ns) == 0) {
		expire_all(core);
		return until_ns < deadline_ns;
	}
	/* Whatever poll says besides readable (an error, a hang-up), read tells what it is. */
	read_all_that_is_here(core);
	core_write(core);
	return deadline_ns == DEADLINE_NEVER || clock_now_ns() < deadline_ns;
}

static int timeout_error(const struct core *core, const char *what, ironwal_error *error)
{
	cerr_set(error, IRONWAL_ERR_TIMEOUT, "%s: no answer from %s in time", what, core->address);
	return cerr_unusable(error, !core_is_usable(core));
}

int core_flush(struct core *core, uint64_t deadline_ns, ironwal_error *error)
{
	while (core_to_write(core) > 0) {
		core_write(core);
		if (core_to_write(core) > 0 && !turn(core, deadline_ns) && core_to_write(core) > 0) {
			timeout_error(core, "flush", error);
			return cerr_fate(error, IRONWAL_FATE_NOT_A_WRITE, false);
		}
	}
	return core_is_usable(core) ? 0 : core_failure(core, error);
}

/* ---- taking results ---- */

/* Takes a slot that is done. */
static int slot_take(struct core *core, struct slot *slot, struct core_answer *ret_answer, ironwal_error *error)
{
	const struct core_request *request = &slot->answer.request;
	int rc = 0;
	if (slot->lost) {
		if (error != NULL)
			*error = core->failure;
		rc = -1;
	} else if (slot->expired) {
		rc = timeout_error(core, method_name(request->method), error);
	} else if (slot->refusal != NULL) {
		rc = cerr_from_wire(error, slot->refusal);
	}
	if (rc != 0) {
		cerr_fate(error, slot->fate, request->is_repeatable);
		cerr_unusable(error, !core_is_usable(core));
	}
	*ret_answer = slot->answer;
	slot->answer.payload = NULL;
	slot->answer.request.memory = NULL;
	if (slot->answer_to_come) {
		slot->answer_to_come = false;
		slot->state = SLOT_GIVEN_UP; /* until the late answer comes */
	} else {
		slots_release(&core->slots, slot);
	}
	return rc;
}

/* Nobody waits for it any longer: what has begun to leave goes on, and its late answer will be dropped. */
static void give_up(struct core *core, struct slot *slot)
{
	if (slot->from < core->sent) {
		slot->state = SLOT_GIVEN_UP;
		return;
	}
	slot->taken_back = true;
	take_back(core, slot->from);
	core->slots.waiting--;
	slots_release(&core->slots, slot);
}

static int wait_failed(struct core *core, struct slot *slot, struct core_answer *ret_answer, ironwal_error *error)
{
	const struct core_request request = slot->answer.request;
	ironwal_fate fate = fate_without_answer(core, slot);
	slot->answer.request.memory = NULL;
	ret_answer->request = request;
	ret_answer->payload = NULL;
	if (slot->from < core->sent && slot->to > core->sent) {
		slot->state = SLOT_GIVEN_UP;
		fail_half_sent(core, slot);
	} else {
		give_up(core, slot);
	}
	timeout_error(core, method_name(request.method), error);
	cerr_fate(error, fate, request.is_repeatable);
	return cerr_unusable(error, !core_is_usable(core));
}

int core_wait(
	struct core *core, uint32_t msgid, uint64_t deadline_ns, struct core_answer *ret_answer, ironwal_error *error)
{
	bool in_time = true;
	for (;;) {
		struct slot *slot = slots_find(&core->slots, msgid);
		if (slot->state == SLOT_DONE)
			return slot_take(core, slot, ret_answer, error);
		if (!in_time)
			return wait_failed(core, slot, ret_answer, error);
		in_time = turn(core, deadline_ns);
	}
}

int core_wait_next(struct core *core, uint64_t deadline_ns, ironwal_error *error)
{
	bool in_time = true;
	while (core->slots.done_first == NO_SLOT) {
		if (core->slots.submitted == 0)
			return 0;
		if (!in_time) {
			timeout_error(core, "waiting for results", error);
			return cerr_fate(error, IRONWAL_FATE_NOT_A_WRITE, false);
		}
		in_time = turn(core, deadline_ns);
	}
	return 1;
}

int core_next(struct core *core, uint32_t *ret_msgid, struct core_answer *ret_answer, ironwal_error *error)
{
	struct slot *slot = slots_pop(&core->slots);
	if (slot == NULL)
		return 0;
	*ret_msgid = slots_msgid(&core->slots, slot);
	return slot_take(core, slot, ret_answer, error) == 0 ? 1 : -1;
}

void core_set_tag(struct core *core, uint32_t msgid, void *tag)
{
	struct slot *slot = slots_find(&core->slots, msgid);
	if (slot != NULL)
		slot->answer.tag = tag;
}

void core_drop(struct core *core, uint32_t msgid)
{
	struct slot *slot = slots_find(&core->slots, msgid);
	if (slot == NULL)
		return;
	if (slot->state == SLOT_DONE)
		slots_release(&core->slots, slot);
	else
		give_up(core, slot);
}
