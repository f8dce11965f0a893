#include "message.h"

#include <inttypes.h>

#include "utf8.h"

enum { TYPE_REQUEST = 0, TYPE_RESPONSE = 1, TYPE_NOTIFICATION = 2 };

/* The msgid of a message that is malformed further on (cut short, a count that lies): whatever stands at its place. */
static uint32_t peek_msgid(struct span payload)
{
	struct mp_reader reader = mp_reader_of(payload);
	if (payload.len == 0)
		return 0;
	uint8_t first = *reader.at;
	size_t header = (first & 0xf0) == 0x90 ? 1 : first == 0xdc ? 3 : first == 0xdd ? 5 : 0;
	if (header == 0 || header > payload.len || first == 0x90 || first == 0x91)
		return 0;
	reader.at += header;
	struct mp_value type, msgid;
	if (mp_read(&reader, &type) != 0 || type.type != MP_UINT || type.u64 > TYPE_RESPONSE)
		return 0;
	if (mp_read(&reader, &msgid) != 0 || msgid.type != MP_UINT || msgid.u64 > UINT32_MAX)
		return 0;
	return (uint32_t)msgid.u64;
}

/* The array's header and the type. -1: not a message. */
static int message_head(struct mp_reader *reader, uint32_t *ret_count, uint64_t *ret_type)
{
	struct mp_value header, type;
	const uint8_t *at = reader->at;
	/* A request as everybody sends it. What is cut short behind it is found where it is read. */
	if (reader->end - at > 4 && at[0] == 0x94 && at[1] == TYPE_REQUEST) {
		*ret_count = 4;
		*ret_type = TYPE_REQUEST;
		reader->at = at + 2;
		return 0;
	}
	if (mp_read(reader, &header) != 0 || header.type != MP_ARRAY)
		return -1;
	if (header.count == 0 || mp_read(reader, &type) != 0 || type.type != MP_UINT)
		return -1;
	*ret_count = header.count;
	*ret_type = type.u64;
	return 0;
}

static int read_msgid(struct mp_reader *reader, uint32_t *ret_msgid)
{
	struct mp_value msgid;
	uint64_t number;
	if (mp_read_short_uint(reader, &number)) {
		*ret_msgid = (uint32_t)number;
		return 0;
	}
	if (mp_read(reader, &msgid) != 0 || msgid.type != MP_UINT || msgid.u64 > UINT32_MAX)
		return -1;
	*ret_msgid = (uint32_t)msgid.u64;
	return 0;
}

/* Says what is wrong as well as can be told: the bytes, or what they mean. */
static int malformed(struct span payload, enum error_code code, const char *shape, struct error *err)
{
	struct mp_reader reader = mp_reader_of(payload);
	if (payload.len == 0)
		return error_set(err, code, "the frame is empty, expected a message: %s", shape);
	struct mp_budget budget = {.limit = REQUEST_VALUES_MAX};
	int skipped = mp_skip_within(&reader, &budget);
	if (mp_budget_is_over(&budget)) /* not worth the time to say it better */
		return error_set(err, code, "not a message of this protocol, expected %s", shape);
	if (skipped != 0)
		return error_set(err, code,
			"the frame's %zu bytes are not MessagePack (cut short, or nested more than %d deep)",
			payload.len, MP_DEPTH_MAX);
	if (reader.at != reader.end)
		return error_set(err, code, "%zu bytes behind the message: a frame holds exactly one",
			(size_t)(reader.end - reader.at));
	return error_set(err, code, "not a message of this protocol, expected %s", shape);
}

static int too_many_values(const struct mp_budget *budget, struct error *err)
{
	error_set(err, ERR_TOO_LARGE,
		"the request has %" PRIu64
		" values or more (elements of arrays, keys and values of maps), at most %" PRIu64 " in one message",
		budget->used, budget->limit);
	error_set_u64(err, EFI_LIMIT, budget->limit);
	error_set_u64(err, EFI_SIZE, budget->used);
	return -1;
}

int request_decode(struct span payload, struct request *ret_request, struct error *err)
{
	static const char shape[] = "[0, msgid, method, params] with params a map with str keys";
	struct mp_reader reader = mp_reader_of(payload);
	uint32_t count;
	uint64_t type;
	struct mp_value method;
	struct span name;
	struct mp_budget budget = {.limit = REQUEST_VALUES_MAX};

	ret_request->msgid = 0;
	ret_request->notification = false;
	if (message_head(&reader, &count, &type) != 0)
		goto fail;
	if (type == TYPE_REQUEST && count == 4) {
		if (read_msgid(&reader, &ret_request->msgid) != 0)
			goto fail;
	} else if (type == TYPE_NOTIFICATION && count == 3) {
		ret_request->notification = true;
	} else {
		goto fail;
	}
	if (!mp_read_fixstr(&reader, &name)) {
		if (mp_read(&reader, &method) != 0 || method.type != MP_STR)
			goto fail;
		name = method.bytes;
	}
	ret_request->method_name = name;
	ret_request->method = method_from_name(name.data, name.len);
	if (fields_read_within(&ret_request->params, &reader, &budget, ERR_BAD_REQUEST) != 0) {
		if (!mp_budget_is_over(&budget))
			goto fail;
		/* The next message begins where this frame ends, whatever is in it. */
		return ret_request->notification ? 0 : too_many_values(&budget, err);
	}
	if (reader.at != reader.end)
		goto fail;
	return 0;
fail:
	ret_request->notification = false;
	ret_request->msgid = peek_msgid(payload);
	return malformed(payload, ERR_BAD_REQUEST, shape, err);
}

int request_unknown_method(const struct request *request, struct error *err)
{
	struct span name = request->method_name;
	int shown = (int)utf8_cut(name.data, name.len, 64);
	error_set(err, ERR_UNKNOWN_METHOD, "%.*s: this server has no such method", shown, (const char *)name.data);
	error_set_text(err, EFI_METHOD, name.data, name.len);
	return -1;
}

int response_decode(struct span payload, struct response *ret_response, bool *ret_notification, struct error *err)
{
	static const char shape[] = "[1, msgid, error, result]";
	struct mp_reader reader = mp_reader_of(payload);
	struct mp_value head;
	uint32_t count;
	uint64_t type;
	struct span error, result;

	if (message_head(&reader, &count, &type) != 0)
		goto fail;
	if (type == TYPE_NOTIFICATION && count == 3) {
		if (mp_skip(&reader) != 0 || mp_skip(&reader) != 0 || reader.at != reader.end)
			goto fail;
		*ret_notification = true;
		return 0;
	}
	if (type != TYPE_RESPONSE || count != 4 || read_msgid(&reader, &ret_response->msgid) != 0)
		goto fail;
	if (mp_read_span(&reader, &error) != 0)
		goto fail;
	if (mp_is_nil(error)) {
		error = (struct span){0};
	} else {
		struct mp_reader inner = mp_reader_of(error);
		if (mp_read(&inner, &head) != 0 || head.type != MP_MAP)
			goto fail;
	}
	result = (struct span){reader.at, (size_t)(reader.end - reader.at)};
	if (mp_is_nil(result)) {
		result = (struct span){0};
		ret_response->fields.present = 0;
		ret_response->fields.blame = ERR_SERIALIZATION;
	} else if (fields_read(&ret_response->fields, &reader, ERR_SERIALIZATION) != 0 || reader.at != reader.end) {
		goto fail;
	}
	ret_response->error = error;
	ret_response->result = result;
	*ret_notification = false;
	return 0;
fail:
	return malformed(payload, ERR_SERIALIZATION, shape, err);
}

void request_begin(struct mp_writer *writer, uint32_t msgid, enum method method, size_t param_count)
{
	frame_begin_message(writer, TYPE_REQUEST, msgid);
	mp_write_str(writer, method_name(method));
	mp_write_map(writer, param_count);
}

void response_begin(struct mp_writer *writer, uint32_t msgid, size_t field_count)
{
	if (field_count <= 15) {
		frame_begin_result(writer, TYPE_RESPONSE, msgid, (uint8_t)field_count);
		return;
	}
	frame_begin_message(writer, TYPE_RESPONSE, msgid);
	mp_write_nil(writer);
	mp_write_map(writer, field_count);
}

void response_error_begin(struct mp_writer *writer, uint32_t msgid, const struct error *err, size_t extra_count)
{
	frame_begin_message(writer, TYPE_RESPONSE, msgid);
	error_encode(writer, err, extra_count);
}

int response_error_end(struct mp_writer *writer)
{
	mp_write_nil(writer);
	return frame_end(writer);
}

int response_error(struct mp_writer *writer, uint32_t msgid, const struct error *err)
{
	response_error_begin(writer, msgid, err, 0);
	return response_error_end(writer);
}
