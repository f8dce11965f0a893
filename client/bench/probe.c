#include "probe.h"

#include "wire.h"

#define ANSWER_BYTES ((size_t)64 << 10)

int probe_server(
	const struct bench_plan *plan, const struct target *target, struct server_facts *ret_facts, struct fault *fault)
{
	struct server_facts facts = {.shard_count = 1};
	struct wire wire;
	if (wire_open(&wire, plan, target, ANSWER_BYTES, 0, &facts, fault) != 0)
		return -1;
	wire_close(&wire);
	*ret_facts = facts;
	return 0;
}

static int ask_extent(
	struct wire *wire, const char *stream, struct buf *request, struct extent *ret, struct fault *fault)
{
	struct mp_writer writer;
	struct answer answer;
	struct error err;
	request->len = 0;
	mp_writer_init(&writer, request);
	request_begin(&writer, 0, METHOD_STREAM_INFO, 1);
	mp_write_key(&writer, KEY_STREAM);
	mp_write_str(&writer, stream);
	if (frame_end(&writer) != 0)
		return fault_set(fault, FAULT_HERE, "out of memory");
	if (wire_ask(wire, request->data, request->len, &answer, fault) != 0)
		return -1;
	if (answer.failed && strcmp(answer.code, error_code_name(ERR_STREAM_NOT_FOUND)) == 0)
		return 0;
	if (answer.failed)
		return fault_set(
			fault, FAULT_HERE, "cannot tell what is in %s: %s (%s)", stream, answer.error, answer.code);
	const struct fields *fields = &answer.raw.response.fields;
	struct extent extent;
	if (field_u64(fields, KEY_FIRST, &extent.first, &err) != 0 ||
		field_u64(fields, KEY_END, &extent.end, &err) != 0)
		return fault_set(fault, FAULT_LOST, "a malformed answer: %s", err.message);
	if (extent.first < extent.end)
		*ret = extent;
	return 0;
}

int probe_extents(
	const struct bench_plan *plan, const struct requests *requests, struct extent *ret_extents, struct fault *fault)
{
	struct buf request = {0};
	struct wire wire;
	char text[NAME_TEXT_BYTES];
	int result = 0;
	if (wire_open(&wire, plan, requests->target, ANSWER_BYTES, 0, NULL, fault) != 0)
		return -1;
	for (uint64_t log = 0; result == 0 && log < requests->logs_count; log++) {
		requests_log_text(plan, log, text);
		result = ask_extent(&wire, text, &request, &ret_extents[log], fault);
	}
	buf_free(&request);
	wire_close(&wire);
	return result;
}
