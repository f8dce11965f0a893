#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "client_answer.h"
#include "client_core.h"
#include "clock.h"
#include "frame.h"

/* A read takes up to this much at once; a buffer larger than KEEP is given back when it is empty. */
#define READ_BYTES ((size_t)65536)
#define KEEP_BYTES ((size_t)4 << 20)
/* Queued bytes from which a submit sends without being asked to. */
#define NUDGE_BYTES ((size_t)65536)

/* msgid: the slot's index below, its generation (never 0) above; so 0 is never used, and an answer that comes twice
 * finds another generation. */
#define SLOT_BITS 16
#define SLOT_COUNT_MAX (1u << SLOT_BITS)
#define NO_SLOT UINT32_MAX

enum slot_state { SLOT_FREE, SLOT_OPEN, SLOT_WAITING, SLOT_GIVEN_UP, SLOT_DONE };

struct slot {
	enum slot_state state;
	uint16_t generation;
	uint32_t next; /* SLOT_FREE: of the free list; SLOT_DONE: of the done queue */
	struct core_request request;
	uint64_t from, to; /* where its frame is in the stream to the server */
	/* SLOT_DONE: one of the three */
	bool lost;	       /* core->failure */
	struct error *refusal; /* what the server said */
	struct core_answer answer;
	ironwal_fate fate;
};

struct core {
	struct transport *transport; /* NULL once it failed */
	const char *address;	     /* the connection's */
	struct core_limits limits;
	struct ironwal_error failure; /* why transport is NULL */
	bool write_failed;	      /* no more writing; answers may still be on their way */
	int write_errno;

	struct buf out;
	size_t out_at; /* consumed by the kernel */
	uint64_t sent, queued;
	struct buf in;

	struct slot *slots;
	uint32_t slot_count, free_slot;
	uint32_t open_slot; /* between begin and commit */
	struct mp_writer writer;
	uint32_t waiting;    /* SLOT_WAITING and SLOT_GIVEN_UP: answers to come */
	uint32_t submitted;  /* is_submitted, until taken */
	uint64_t held_bytes; /* of submitted requests without an answer */
	uint32_t done_first, done_last;
};

struct core *core_new(struct transport *transport, const char *address, const struct core_limits *limits)
{
	struct core *core = calloc(1, sizeof(*core));
	if (core == NULL) {
		transport->ops->free(transport);
		return NULL;
	}
	core->transport = transport;
	core->address = address;
	core->limits = *limits;
	core->free_slot = core->open_slot = core->done_first = core->done_last = NO_SLOT;
	mp_writer_init(&core->writer, &core->out);
	return core;
}

void core_free(struct core *core)
{
	if (core == NULL)
		return;
	if (core->transport != NULL)
		core->transport->ops->free(core->transport);
	for (uint32_t i = 0; i < core->slot_count; i++) {
		free(core->slots[i].refusal);
		free(core->slots[i].answer.payload);
	}
	free(core->slots);
	buf_free(&core->out);
	buf_free(&core->in);
	free(core);
}

void core_set_message_limits(struct core *core, uint64_t request_bytes, uint64_t answer_bytes)
{
	core->limits.request_bytes = request_bytes;
	core->limits.answer_bytes = answer_bytes;
}

bool core_is_usable(const struct core *core)
{
	return core->transport != NULL && !core->write_failed;
}

uint32_t core_submitted(const struct core *core)
{
	return core->submitted;
}

/* ---- slots ---- */

static uint32_t slot_msgid(const struct core *core, uint32_t index)
{
	return (uint32_t)core->slots[index].generation << SLOT_BITS | index;
}

static struct slot *slot_find(struct core *core, uint32_t msgid)
{
	uint32_t index = msgid & (SLOT_COUNT_MAX - 1);
	if (index >= core->slot_count)
		return NULL;
	struct slot *slot = &core->slots[index];
	return slot->state != SLOT_FREE && slot->generation == msgid >> SLOT_BITS ? slot : NULL;
}

static int slots_grow(struct core *core)
{
	uint32_t count = core->slot_count == 0 ? 16 : core->slot_count * 2;
	if (count > SLOT_COUNT_MAX)
		return -1;
	struct slot *slots = realloc(core->slots, count * sizeof(*slots));
	if (slots == NULL)
		return -1;
	memset(slots + core->slot_count, 0, (count - core->slot_count) * sizeof(*slots));
	for (uint32_t i = count; i-- > core->slot_count;) {
		slots[i].next = core->free_slot;
		core->free_slot = i;
	}
	core->slots = slots;
	core->slot_count = count;
	return 0;
}

static void slot_release(struct core *core, struct slot *slot)
{
	free(slot->refusal);
	slot->refusal = NULL;
	slot->state = SLOT_FREE;
	slot->next = core->free_slot;
	core->free_slot = (uint32_t)(slot - core->slots);
}

/* Of a request that gets no answer any more. */
static ironwal_fate fate_without_answer(const struct core *core, const struct slot *slot)
{
	if (!slot->request.is_write)
		return IRONWAL_FATE_NOT_A_WRITE;
	return slot->to <= core->sent ? IRONWAL_FATE_UNKNOWN : IRONWAL_FATE_NOT_SENT;
}

static void slot_done(struct core *core, struct slot *slot)
{
	uint32_t index = (uint32_t)(slot - core->slots);
	bool given_up = slot->state == SLOT_GIVEN_UP;
	core->waiting--;
	if (given_up) {
		slot_release(core, slot);
		return;
	}
	slot->state = SLOT_DONE;
	if (!slot->request.is_submitted)
		return; /* core_wait looks at it */
	core->held_bytes -= slot->to - slot->from;
	slot->next = NO_SLOT;
	if (core->done_last == NO_SLOT)
		core->done_first = index;
	else
		core->slots[core->done_last].next = index;
	core->done_last = index;
}

/* ---- the end of a connection ---- */

/* core->failure says why. Closing first: what is half sent can then never be executed. */
static void core_fail(struct core *core)
{
	core->transport->ops->free(core->transport);
	core->transport = NULL;
	cerr_unusable(&core->failure, true);
	for (uint32_t i = 0; i < core->slot_count; i++) {
		struct slot *slot = &core->slots[i];
		if (slot->state != SLOT_WAITING && slot->state != SLOT_GIVEN_UP)
			continue;
		slot->lost = true;
		slot->fate = fate_without_answer(core, slot);
		slot_done(core, slot);
	}
	buf_free(&core->in);
	buf_free(&core->out);
	core->out_at = 0;
}

static void core_fail_lost(struct core *core, int os_errno)
{
	if (os_errno != 0)
		cerr_set_errno(&core->failure, IRONWAL_ERR_CONNECTION_LOST, os_errno, "the connection to %s was lost",
			core->address);
	else
		cerr_set(&core->failure, IRONWAL_ERR_CONNECTION_LOST,
			"the connection to %s was lost: the server closed it", core->address);
	core_fail(core);
}

static void core_fail_protocol(struct core *core, const char *why)
{
	cerr_set(&core->failure, IRONWAL_ERR_PROTOCOL, "%s does not speak the protocol of ironwald: %s", core->address,
		why);
	core_fail(core);
}

int core_reject_answer(struct core *core, const struct error *reason, ironwal_error *error)
{
	if (core->transport != NULL)
		core_fail_protocol(core, reason->message);
	cerr_set(error, IRONWAL_ERR_PROTOCOL, "%s does not speak the protocol of ironwald: %s", core->address,
		reason->message);
	return cerr_unusable(error, true);
}

static int unusable_error(const struct core *core, bool is_write, bool is_repeatable, ironwal_error *error)
{
	if (error != NULL) {
		if (core->transport == NULL)
			*error = core->failure;
		else
			cerr_set_errno(error, IRONWAL_ERR_CONNECTION_LOST, core->write_errno,
				"the connection to %s was lost", core->address);
	}
	cerr_fate(error, is_write ? IRONWAL_FATE_NOT_SENT : IRONWAL_FATE_NOT_A_WRITE, is_repeatable);
	return cerr_unusable(error, true);
}

/* ---- submitting ---- */

int core_begin(struct core *core, const struct core_request *request, size_t param_count, struct mp_writer **ret_writer,
	ironwal_error *error)
{
	ironwal_fate fate = request->is_write ? IRONWAL_FATE_NOT_SENT : IRONWAL_FATE_NOT_A_WRITE;
	if (!core_is_usable(core))
		return unusable_error(core, request->is_write, request->is_repeatable, error);
	bool full =
		request->is_submitted && core->submitted > 0 &&
		(core->submitted >= core->limits.in_flight_count || core->held_bytes >= core->limits.in_flight_bytes);
	if (full || (core->free_slot == NO_SLOT && core->slot_count == SLOT_COUNT_MAX)) {
		cerr_set(error, IRONWAL_ERR_AGAIN, "%u requests are in flight, which is the limit: take results first",
			core->waiting);
		return cerr_fate(error, fate, request->is_repeatable);
	}
	if (core->free_slot == NO_SLOT && slots_grow(core) != 0) {
		cerr_no_memory(error);
		return cerr_fate(error, fate, request->is_repeatable);
	}
	uint32_t index = core->free_slot;
	struct slot *slot = &core->slots[index];
	core->free_slot = slot->next;
	uint16_t generation = (uint16_t)(slot->generation + 1);
	*slot = (struct slot){.state = SLOT_OPEN, .generation = generation != 0 ? generation : 1, .request = *request};
	core->open_slot = index;
	request_begin(&core->writer, slot_msgid(core, index), request->method, param_count);
	*ret_writer = &core->writer;
	return 0;
}

int core_commit(struct core *core, uint32_t *ret_msgid, ironwal_error *error)
{
	struct slot *slot = &core->slots[core->open_slot];
	ironwal_fate fate = slot->request.is_write ? IRONWAL_FATE_NOT_SENT : IRONWAL_FATE_NOT_A_WRITE;
	size_t bytes = frame_bytes(&core->writer);
	if (!core->writer.failed && bytes > core->limits.request_bytes) {
		frame_drop(&core->writer);
		cerr_too_large(error, "the bytes of the request", core->limits.request_bytes, bytes);
	} else if (frame_end(&core->writer) != 0) {
		cerr_no_memory(error);
	} else {
		uint32_t index = core->open_slot;
		core->open_slot = NO_SLOT;
		slot->state = SLOT_WAITING;
		slot->from = core->queued;
		core->queued += FRAME_LENGTH_BYTES + bytes;
		slot->to = core->queued;
		core->waiting++;
		if (slot->request.is_submitted) {
			core->submitted++;
			core->held_bytes += slot->to - slot->from;
		}
		*ret_msgid = slot_msgid(core, index);
		return 0;
	}
	core->open_slot = NO_SLOT;
	cerr_fate(error, fate, slot->request.is_repeatable);
	slot_release(core, slot);
	return -1;
}

/* ---- answers ---- */

/* An answer that acknowledges and cannot be understood. The request is done, then the connection ends. */
static void spoil_slot(struct core *core, struct slot *slot, const char *why, ironwal_fate fate)
{
	slot->lost = true;
	slot->fate = slot->request.is_write ? fate : IRONWAL_FATE_NOT_A_WRITE;
	slot_done(core, slot);
	core_fail_protocol(core, why);
}

static void take_response(struct core *core, struct slot *slot, struct span payload, const struct response *response)
{
	struct error err;
	if (slot->state == SLOT_GIVEN_UP) {
		slot_done(core, slot);
	} else if (response->error.data != NULL) {
		slot->refusal = malloc(sizeof(*slot->refusal));
		if (slot->refusal == NULL ||
			(slot->request.keeps_refusal && answer_keep(&slot->answer, payload, response) != 0)) {
			/* Without the memory to say what it was, nothing is known but that it is answered. */
			cerr_no_memory(&core->failure);
			slot->lost = true;
			slot->fate = slot->request.is_write ? IRONWAL_FATE_UNKNOWN : IRONWAL_FATE_NOT_A_WRITE;
			slot_done(core, slot);
			core_fail(core);
			return;
		}
		error_decode(response->error, slot->refusal);
		slot->fate = slot->request.is_write ? cerr_wire_fate(slot->refusal) : IRONWAL_FATE_NOT_A_WRITE;
		slot_done(core, slot);
	} else if (slot->request.method == METHOD_APPEND || slot->request.method == METHOD_APPEND_BATCH) {
		ironwal_append_result *result = &slot->answer.append;
		if (answer_read_append(slot->request.method, &response->fields, result, &err) != 0) {
			spoil_slot(core, slot, err.message, IRONWAL_FATE_WRITTEN);
			return;
		}
		if (result->end < result->first || result->end - result->first != slot->request.count) {
			spoil_slot(core, slot, "the ids of an append do not fit the number of its entries",
				IRONWAL_FATE_UNKNOWN);
			return;
		}
		slot_done(core, slot);
	} else if (answer_keep(&slot->answer, payload, response) != 0) {
		cerr_no_memory(&core->failure);
		core_fail(core);
	} else {
		slot_done(core, slot);
	}
}

static void take_message(struct core *core, struct span payload)
{
	struct response response;
	struct error err;
	bool notification = false;
	if (response_decode(payload, &response, &notification, &err) != 0) {
		core_fail_protocol(core, err.message);
		return;
	}
	if (notification)
		return;
	if (response.msgid == 0 && response.error.data != NULL) {
		/* Not about a request but about all of us: too many connections, or bytes that it could not read. */
		error_decode(response.error, &err);
		cerr_from_wire(&core->failure, &err);
		core_fail(core);
		return;
	}
	struct slot *slot = slot_find(core, response.msgid);
	if (slot == NULL || (slot->state != SLOT_WAITING && slot->state != SLOT_GIVEN_UP) || slot->from >= core->sent)
		core_fail_protocol(core, "it answered a request that was not asked");
	else
		take_response(core, slot, payload, &response);
}

static void take_frames(struct core *core)
{
	size_t at = 0;
	while (core->transport != NULL) {
		struct span payload;
		size_t total;
		enum frame_status status =
			frame_next(core->in.data + at, core->in.len - at, core->limits.answer_bytes, &payload, &total);
		if (status == FRAME_MORE)
			break;
		if (status == FRAME_OVER) {
			core_fail_protocol(core, "it announced an answer over the limit");
			break;
		}
		take_message(core, payload);
		at += total;
	}
	if (core->transport == NULL)
		return; /* the buffer is gone */
	if (at > 0)
		buf_consume(&core->in, at);
	if (core->in.len == 0 && core->in.cap > KEEP_BYTES)
		buf_free(&core->in);
}

/* ---- moving bytes ---- */

static void read_some(struct core *core)
{
	struct buf *in = &core->in;
	if (in->len == in->cap) {
		struct span payload;
		size_t total = 0, want = READ_BYTES;
		if (in->len >= READ_BYTES) {
			(void)frame_next(in->data, in->len, core->limits.answer_bytes, &payload, &total);
			want = frame_capacity(in->len, total);
		}
		if (buf_set_capacity(in, want) != 0) {
			cerr_no_memory(&core->failure);
			core_fail(core);
			return;
		}
	}
	ssize_t n = core->transport->ops->read(core->transport, in->data + in->len, in->cap - in->len);
	if (n > 0) {
		in->len += (size_t)n;
		take_frames(core);
	} else if (n == 0) {
		core_fail_lost(core, core->write_failed ? core->write_errno : 0);
	} else if (errno != EAGAIN && errno != EWOULDBLOCK) {
		core_fail_lost(core, errno);
	}
}

static size_t to_write(const struct core *core)
{
	return core->transport != NULL && !core->write_failed ? core->out.len - core->out_at : 0;
}

static void write_some(struct core *core)
{
	while (to_write(core) > 0) {
		ssize_t n = core->transport->ops->write(
			core->transport, core->out.data + core->out_at, core->out.len - core->out_at);
		if (n < 0) {
			if (errno == EAGAIN || errno == EWOULDBLOCK)
				break;
			/* The server's last words may still be on their way: read until its end of the stream. */
			core->write_failed = true;
			core->write_errno = errno;
			break;
		}
		core->out_at += (size_t)n;
		core->sent += (uint64_t)n;
	}
	if (core->out_at == core->out.len) {
		core->out.len = core->out_at = 0;
		if (core->out.cap > KEEP_BYTES)
			buf_free(&core->out);
	} else if (core->out_at > KEEP_BYTES) {
		buf_consume(&core->out, core->out_at);
		core->out_at = 0;
	}
}

/* Writes what goes, waits for either direction, reads what is there. False: the deadline passed. */
static bool turn(struct core *core, uint64_t deadline_ns)
{
	write_some(core);
	short events = (short)(POLLIN | (to_write(core) > 0 ? POLLOUT : 0));
	int fd = core->transport->ops->fd(core->transport);
	struct pollfd p = {.fd = fd, .events = events};
	int n = deadline_ns == 0 ? poll(&p, 1, 0) : deadline_poll(fd, events, deadline_ns);
	if (n == 0)
		return false;
	/* Whatever poll says besides readable (an error, a hang-up), read tells what it is. */
	read_some(core);
	if (core->transport != NULL)
		write_some(core);
	return deadline_ns == DEADLINE_NEVER || deadline_ns == 0 || clock_now_ns() < deadline_ns;
}

void core_nudge(struct core *core)
{
	if (to_write(core) >= NUDGE_BYTES)
		(void)turn(core, 0);
}

static int timeout_error(const struct core *core, const char *what, ironwal_error *error)
{
	cerr_set(error, IRONWAL_ERR_TIMEOUT, "%s: no answer from %s in time", what, core->address);
	return cerr_unusable(error, !core_is_usable(core));
}

int core_flush(struct core *core, uint64_t deadline_ns, ironwal_error *error)
{
	while (to_write(core) > 0) {
		write_some(core);
		if (to_write(core) > 0 && !turn(core, deadline_ns) && to_write(core) > 0) {
			timeout_error(core, "flush", error);
			return cerr_fate(error, IRONWAL_FATE_NOT_A_WRITE, false);
		}
	}
	return core_is_usable(core) ? 0 : unusable_error(core, false, false, error);
}

/* ---- taking results ---- */

/* Takes a slot that is done. */
static int slot_take(struct core *core, struct slot *slot, struct core_answer *ret_answer, ironwal_error *error)
{
	int rc = 0;
	if (slot->lost) {
		if (error != NULL)
			*error = core->failure;
		rc = -1;
	} else if (slot->refusal != NULL) {
		rc = cerr_from_wire(error, slot->refusal);
	}
	if (rc == 0 || slot->answer.payload != NULL) {
		*ret_answer = slot->answer;
		slot->answer.payload = NULL;
	}
	if (rc != 0) {
		cerr_fate(error, slot->fate, slot->request.is_repeatable);
		cerr_unusable(error, !core_is_usable(core));
	}
	slot_release(core, slot);
	return rc;
}

/* The caller of a blocking call does not wait any longer. */
static int slot_give_up(struct core *core, struct slot *slot, ironwal_error *error)
{
	bool is_write = slot->request.is_write, is_repeatable = slot->request.is_repeatable;
	ironwal_fate fate = fate_without_answer(core, slot);
	const char *name = method_name(slot->request.method);
	if (slot->to <= core->sent) {
		slot->state = SLOT_GIVEN_UP; /* until the late answer comes */
	} else if (slot->from >= core->sent && slot->to == core->queued) {
		/* Not a byte of it has left, and it is the last one: as if it had never been. */
		core->out.len -= (size_t)(slot->to - slot->from);
		core->queued = slot->from;
		core->waiting--;
		slot_release(core, slot);
	} else {
		/* Half of it has left. Only the end of the connection keeps the server from executing it. */
		slot->state = SLOT_GIVEN_UP;
		cerr_set(&core->failure, IRONWAL_ERR_TIMEOUT,
			"%s: %s did not take the whole request in time; the connection was closed", name,
			core->address);
		core_fail(core);
	}
	timeout_error(core, name, error);
	cerr_fate(error, is_write ? fate : IRONWAL_FATE_NOT_A_WRITE, is_repeatable);
	return cerr_unusable(error, !core_is_usable(core));
}

int core_wait(
	struct core *core, uint32_t msgid, uint64_t deadline_ns, struct core_answer *ret_answer, ironwal_error *error)
{
	bool in_time = true;
	for (;;) {
		struct slot *slot = slot_find(core, msgid);
		if (slot->state == SLOT_DONE)
			return slot_take(core, slot, ret_answer, error);
		if (!in_time)
			return slot_give_up(core, slot, error);
		in_time = turn(core, deadline_ns);
	}
}

int core_next(struct core *core, uint64_t deadline_ns, uint32_t *ret_msgid, struct core_answer *ret_answer,
	ironwal_error *error)
{
	if (core->submitted == 0)
		return 0;
	bool in_time = true;
	while (core->done_first == NO_SLOT) {
		if (!in_time) {
			*ret_msgid = 0;
			timeout_error(core, "waiting for results", error);
			return cerr_fate(error, IRONWAL_FATE_NOT_A_WRITE, false);
		}
		in_time = turn(core, deadline_ns);
	}
	uint32_t index = core->done_first;
	struct slot *slot = &core->slots[index];
	*ret_msgid = slot_msgid(core, index);
	core->done_first = slot->next;
	if (core->done_first == NO_SLOT)
		core->done_last = NO_SLOT;
	core->submitted--;
	return slot_take(core, slot, ret_answer, error) == 0 ? 1 : -1;
}
