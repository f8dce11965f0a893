#include "client_answer.h"

#include <string.h>

#include "client_memory.h"

static void rebase_span(struct span *span, const uint8_t *from, const uint8_t *to)
{
	if (span->data != NULL)
		span->data = to + (span->data - from);
}

int answer_keep(struct core_answer *answer, const struct mem *mem, struct span payload, const struct response *response)
{
	answer->payload = block_alloc(mem, payload.len > 0 ? payload.len : 1);
	if (answer->payload == NULL)
		return -1;
	memcpy(answer->payload, payload.data, payload.len);
	answer->payload_len = payload.len;
	answer->response = *response;
	rebase_span(&answer->response.error, payload.data, answer->payload);
	rebase_span(&answer->response.result, payload.data, answer->payload);
	for (unsigned key = 0; key < KEY_TOTAL; key++) {
		if (fields_has(&response->fields, (enum key)key))
			rebase_span(&answer->response.fields.values[key], payload.data, answer->payload);
	}
	return 0;
}

int answer_read_append(
	enum method method, const struct fields *fields, ironwal_append_result *ret_result, struct error *err)
{
	bool durable;
	if (method == METHOD_APPEND) {
		if (field_u64(fields, KEY_ID, &ret_result->first, err) != 0)
			return -1;
		ret_result->end = ret_result->first + 1;
	} else if (field_u64(fields, KEY_FIRST, &ret_result->first, err) != 0 ||
		   field_u64(fields, KEY_END, &ret_result->end, err) != 0) {
		return -1;
	}
	if (field_bool(fields, KEY_DURABLE, &durable, err) != 0)
		return -1;
	ret_result->durable = durable;
	return 0;
}
