#include "client_core_impl.h"

#include <errno.h>
#include <string.h>

#include "client_answer.h"
#include "client_memory.h"
#include "frame.h"

/* A read takes up to this much at once; a buffer larger than KEEP is given back when it is empty. */
#define READ_BYTES ((size_t)65536)
#define KEEP_BYTES ((size_t)4 << 20)

/* ---- answers ---- */

/* An answer that acknowledges and cannot be understood. The request is done, then the connection ends. */
static void spoil_slot(struct core *core, struct slot *slot, const char *why, ironwal_fate fate)
{
	slot->lost = true;
	slot->fate = slot->answer.request.is_write ? fate : IRONWAL_FATE_NOT_A_WRITE;
	slots_done(&core->slots, slot);
	core_fail_protocol(core, why);
}

static void take_refusal(struct core *core, struct slot *slot, struct span payload, const struct response *response)
{
	const struct core_request *request = &slot->answer.request;
	slot->refusal = block_alloc(block_mem(core), sizeof(*slot->refusal));
	if (slot->refusal == NULL ||
		(request->keeps_refusal && answer_keep(&slot->answer, block_mem(core), payload, response) != 0)) {
		/* Without the memory to say what it was, nothing is known but that it is answered. */
		block_free(slot->refusal);
		slot->refusal = NULL;
		slot->lost = true;
		slot->fate = request->is_write ? IRONWAL_FATE_UNKNOWN : IRONWAL_FATE_NOT_A_WRITE;
		slots_done(&core->slots, slot);
		core_fail_no_memory(core);
		return;
	}
	error_decode(response->error, slot->refusal);
	slot->fate = request->is_write ? cerr_wire_fate(slot->refusal) : IRONWAL_FATE_NOT_A_WRITE;
	slots_done(&core->slots, slot);
}

static void take_response(struct core *core, struct slot *slot, struct span payload, const struct response *response)
{
	const struct core_request *request = &slot->answer.request;
	struct error err;
	if (slot->answer_to_come) { /* it has expired, and nobody has taken note of it yet */
		slot->answer_to_come = false;
		core->slots.waiting--;
	} else if (slot->state == SLOT_GIVEN_UP) {
		slots_done(&core->slots, slot);
	} else if (response->error.data != NULL) {
		take_refusal(core, slot, payload, response);
	} else if (request->method == METHOD_APPEND || request->method == METHOD_APPEND_BATCH) {
		ironwal_append_result *result = &slot->answer.append;
		if (answer_read_append(request->method, &response->fields, result, &err) != 0)
			spoil_slot(core, slot, err.message, IRONWAL_FATE_WRITTEN);
		else if (result->end < result->first || result->end - result->first != request->count)
			spoil_slot(core, slot, "the ids of an append do not fit the number of its entries",
				IRONWAL_FATE_UNKNOWN);
		else
			slots_done(&core->slots, slot);
	} else if (answer_keep(&slot->answer, block_mem(core), payload, response) != 0) {
		core_fail_no_memory(core);
	} else {
		slots_done(&core->slots, slot);
	}
}

/* A server may refuse what it has read a part of; nothing else can be said of that. */
static bool waits_for_answer(const struct core *core, const struct slot *slot, bool is_refusal)
{
	return (slot->state == SLOT_WAITING || slot->state == SLOT_GIVEN_UP || slot->answer_to_come) &&
	       (is_refusal ? slot->from < core->sent : slot->to <= core->sent);
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
	struct slot *slot = slots_find(&core->slots, response.msgid);
	if (slot == NULL || !waits_for_answer(core, slot, response.error.data != NULL))
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

/* Whether there is room for answers that nobody waits for. */
bool core_is_reading(const struct core *core)
{
	return core->slots.kept_bytes == 0 || core->slots.kept_bytes < core->limits.in_flight_bytes;
}

/* False: there was nothing. */
bool core_read(struct core *core)
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
			core_fail_no_memory(core);
			return false;
		}
	}
	ssize_t n = core->transport->ops->read(core->transport, in->data + in->len, in->cap - in->len);
	if (n > 0) {
		in->len += (size_t)n;
		take_frames(core);
	} else if (n == 0) {
		core_fail_lost(core, core->write_failed ? core->write_errno : 0);
	} else if (errno != EAGAIN && errno != EWOULDBLOCK) {
		core_fail_transport(core, errno);
	}
	return n > 0;
}

size_t core_to_write(const struct core *core)
{
	if (core->transport == NULL || core->write_failed)
		return 0;
	return core->out.len - core->out_at + transport_held(core->transport);
}

void core_write(struct core *core)
{
	while (core_to_write(core) > 0) {
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
