#include "request_fields.h"

#include <stdlib.h>
#include <string.h>

#include "frames.h"
#include "fuzz.h"
#include "message.h"
#include "utf8.h"

static bool is_within(struct span outer, const uint8_t *at, size_t len)
{
	return at >= outer.data && len <= outer.len && (size_t)(at - outer.data) <= outer.len - len;
}

static void check_span(struct span payload, struct span span)
{
	FUZZ_CHECK(is_within(payload, span.data, span.len), "a span outside of its message");
}

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

static void check_byte_array(const struct fields *fields, enum key key, bool nil_allowed, struct span payload)
{
	struct byte_array array;
	struct error err;
	uint64_t total = 0, longest = 0;
	uint32_t count = 0;
	if (field_byte_array(fields, key, nil_allowed, &array, &err) != 0)
		return;
	struct span bytes;
	check_span(payload, array.elements);
	for (struct byte_iter iter = byte_iter_of(&array); byte_iter_next(&iter, &bytes); count++) {
		FUZZ_CHECK(bytes.data != NULL || nil_allowed, "nil where it is not allowed");
		if (bytes.data == NULL)
			continue;
		check_span(payload, bytes);
		total += bytes.len;
		if (bytes.len > longest) {
			longest = bytes.len;
			FUZZ_CHECK(longest < array.longest_bytes || count == array.longest_index, "another is longest");
		}
	}
	FUZZ_CHECK(count == array.count && total == array.total_bytes && longest == array.longest_bytes,
		"%s: %u elements of %llu bytes, not %u of %llu", key_name(key), count, (unsigned long long)total,
		array.count, (unsigned long long)array.total_bytes);
}

static void check_pair_array(const struct fields *fields, enum key key, struct span payload)
{
	struct pair_array array;
	struct error err;
	uint64_t longest = 0;
	uint32_t count = 0;
	if (field_pair_array(fields, key, &array, &err) != 0)
		return;
	struct span first, second;
	check_span(payload, array.elements);
	for (struct pair_iter iter = pair_iter_of(&array); pair_iter_next(&iter, &first, &second); count++) {
		check_span(payload, first);
		check_span(payload, second);
		longest = second.len > longest ? second.len : longest;
	}
	FUZZ_CHECK(count == array.count && longest == array.longest_bytes, "%s: %u pairs", key_name(key), count);
}

static void check_u64_array(const struct fields *fields, enum key key, struct span payload)
{
	struct u64_array array;
	struct error err;
	uint32_t count = 0;
	uint64_t value;
	if (field_u64_array(fields, key, &array, &err) != 0)
		return;
	check_span(payload, array.elements);
	struct mp_reader reader = mp_reader_of(array.elements);
	for (struct u64_iter iter = u64_iter_of(&array); u64_iter_next(&iter, &value); count++) {
		struct mp_value same;
		FUZZ_CHECK(mp_read(&reader, &same) == 0 && same.type == MP_UINT && same.u64 == value,
			"%s[%u] is another number", key_name(key), count);
	}
	FUZZ_CHECK(count == array.count && reader.at == reader.end, "%s: %u numbers", key_name(key), count);
}

/* ---- one field --------------------------------------------------------------------------------------------------- */

/* By its first byte, which tells the type. */
static bool begins(struct span value, const char *types)
{
	uint8_t first = value.data[0];
	char type = first <= 0x7f || (first >= 0xcc && first <= 0xcf)		 ? 'u'
		    : first == 0xc2 || first == 0xc3				 ? 'o'
		    : (first & 0xe0) == 0xa0 || (first >= 0xd9 && first <= 0xdb) ? 's'
		    : first >= 0xc4 && first <= 0xc6				 ? 'b'
										 : '-';
	return strchr(types, type) != NULL;
}

static void check_field(const struct fields *fields, enum key key, struct span payload)
{
	struct error err;
	struct span bytes = {0};
	uint64_t number = 0;
	bool is_there = fields_has(fields, key), boolean = false;
	struct span value = is_there ? fields->values[key] : (struct span){0};
	if (is_there) {
		check_span(payload, value);
		FUZZ_CHECK(frames_value_bytes(value.data, value.len, 64) == value.len, "%s is no value", key_name(key));
	}
	/* A signed form may hold a number that is not negative. */
	bool is_number = field_u64(fields, key, &number, &err) == 0;
	FUZZ_CHECK(!is_there || !begins(value, "u") || is_number, "%s is a number", key_name(key));
	FUZZ_CHECK(!is_number || begins(value, "u") || (value.data[0] >= 0xd0 && value.data[0] <= 0xd3),
		"%s is no number", key_name(key));
	bool is_bool = field_bool(fields, key, &boolean, &err) == 0;
	FUZZ_CHECK(is_bool == (is_there && begins(value, "o")), "%s: a bool or not", key_name(key));
	bool is_bytes = field_bytes(fields, key, &bytes, &err) == 0;
	FUZZ_CHECK(is_bytes == (is_there && begins(value, "sb")), "%s: bytes or not", key_name(key));
	if (is_bytes) {
		check_span(payload, bytes);
		FUZZ_CHECK(bytes.data + bytes.len == value.data + value.len, "%s: other bytes", key_name(key));
		bool is_text = begins(value, "s") && utf8_valid(bytes.data, bytes.len);
		FUZZ_CHECK((field_str(fields, key, &bytes, &err) == 0) == is_text, "%s: a text or not", key_name(key));
	} else {
		FUZZ_CHECK(field_str(fields, key, &bytes, &err) != 0, "%s: no bytes, and a text", key_name(key));
	}
	FUZZ_CHECK((field_u64_or(fields, key, 7, &number, &err) == 0) == (is_number || !is_there), "%s", key_name(key));
	FUZZ_CHECK(
		(field_bool_or(fields, key, true, &boolean, &err) == 0) == (is_bool || !is_there), "%s", key_name(key));
	check_byte_array(fields, key, true, payload);
	check_byte_array(fields, key, false, payload);
	check_pair_array(fields, key, payload);
	check_u64_array(fields, key, payload);
}

static void check_stream(const struct fields *fields)
{
	struct span name, text;
	struct error err;
	bool is_text = field_str(fields, KEY_STREAM, &text, &err) == 0;
	bool is_name = field_stream(fields, &name, &err) == 0;
	FUZZ_CHECK(is_name == (is_text && text.len >= 1 && text.len <= 255), "a stream's name or not");
	FUZZ_CHECK(is_name || err.code == (is_text ? ERR_INVALID_FILENAME : ERR_BAD_REQUEST), "refused as %s",
		error_code_name(err.code));
}

/* ---- a message --------------------------------------------------------------------------------------------------- */

/* What was decoded, as a frame of its own, is decoded as the same. */
static void check_again(const struct request *request)
{
	struct buf out = {0};
	struct mp_writer writer;
	struct request again;
	struct error err;
	size_t count = 0;
	for (unsigned key = 0; key < KEY_TOTAL; key++)
		count += fields_has(&request->params, (enum key)key);
	mp_writer_init(&writer, &out);
	frame_begin(&writer);
	mp_write_array(&writer, 4);
	mp_write_u64(&writer, 0);
	mp_write_u64(&writer, request->msgid);
	mp_write_str_len(&writer, request->method_name.data, request->method_name.len);
	mp_write_map(&writer, count);
	for (unsigned key = 0; key < KEY_TOTAL; key++) {
		struct span value = request->params.values[key];
		if (!fields_has(&request->params, (enum key)key))
			continue;
		mp_write_key(&writer, (enum key)key);
		mp_write_raw(&writer, value.data, value.len);
	}
	FUZZ_CHECK(frame_end(&writer) == 0, "no memory for the fuzzer itself");
	int r = request_decode((struct span){out.data + 4, out.len - 4}, &again, &err);
	FUZZ_CHECK(r == 0, "what was decoded cannot be decoded again: %s", err.message);
	FUZZ_CHECK(again.method == request->method && again.msgid == request->msgid && !again.notification &&
			   again.params.present == request->params.present,
		"it means something else");
	for (unsigned key = 0; key < KEY_TOTAL; key++)
		if (fields_has(&again.params, (enum key)key))
			FUZZ_CHECK(again.params.values[key].len == request->params.values[key].len &&
					   memcmp(again.params.values[key].data, request->params.values[key].data,
						   again.params.values[key].len) == 0,
				"%s is another value", key_name((enum key)key));
	buf_free(&out);
}

/* The header of the array or map at the front, and how many values it says that it has. */
static size_t container(const uint8_t *at, size_t *ret_values)
{
	size_t width = at[0] < 0xa0 ? 0 : at[0] % 2 == 0 ? 2 : 4, count = at[0] & 0x0f;
	bool is_map = at[0] < 0x90 || at[0] >= 0xde;
	for (size_t i = 0; i < width; i++)
		count = (i == 0 ? 0 : count << 8) | at[1 + i];
	*ret_values = is_map ? count * 2 : count;
	return 1 + width;
}

/* By the second reader: which keys there are, and what each is. The last one of a name counts, and nil is none. */
static void check_map(const struct request *request, struct span payload)
{
	struct span wanted[KEY_TOTAL] = {{0}};
	size_t values, left = payload.len;
	const uint8_t *at = payload.data + container(payload.data, &values);
	for (left -= (size_t)(at - payload.data); values > 1; values--) { /* up to the params */
		size_t len = frames_value_bytes(at, left, 63);
		at += len;
		left -= len;
	}
	size_t header = container(at, &values);
	for (at += header, left -= header; values > 0; values -= 2) {
		size_t name = frames_value_bytes(at, left, 62), value = frames_value_bytes(at + name, left - name, 62);
		size_t head = at[0] < 0xc0 ? 1 : at[0] == 0xd9 ? 2 : at[0] == 0xda ? 3 : 5;
		for (unsigned key = 0; key < KEY_TOTAL; key++)
			if (strlen(key_name((enum key)key)) == name - head &&
				memcmp(key_name((enum key)key), at + head, name - head) == 0)
				wanted[key] = (struct span){at + name, value};
		at += name + value;
		left -= name + value;
	}
	for (unsigned key = 0; key < KEY_TOTAL; key++) {
		bool is_there = wanted[key].data != NULL && wanted[key].data[0] != 0xc0;
		FUZZ_CHECK(fields_has(&request->params, (enum key)key) == is_there, "%s is %s", key_name((enum key)key),
			is_there ? "there, and not seen" : "not there, and seen");
		FUZZ_CHECK(!is_there || (request->params.values[key].data == wanted[key].data &&
						request->params.values[key].len == wanted[key].len),
			"%s is another value", key_name((enum key)key));
	}
}

void request_fields_check(struct span payload)
{
	struct request request;
	struct error err;
	memset(&request, 0, sizeof(request));
	struct mp_reader reader = mp_reader_of(payload);
	size_t len = frames_value_bytes(payload.data, payload.len, 64);
	bool skipped = payload.len > 0 && mp_skip(&reader) == 0;
	FUZZ_CHECK(skipped == (len > 0), "one reader says it is a value, the other one not");
	FUZZ_CHECK(!skipped || reader.at == payload.data + len, "the value is of another length");
	if (request_decode(payload, &request, &err) != 0) {
		FUZZ_CHECK(err.code == ERR_BAD_REQUEST || err.code == ERR_TOO_LARGE, "refused as %s",
			error_code_name(err.code));
		return;
	}
	FUZZ_CHECK(len == payload.len && len > 0, "accepted, and it is not one value");
	check_span(payload, request.method_name);
	check_map(&request, payload);
	/* All that are there, and one that may not be: to say of each that it is missing takes long. */
	for (unsigned key = 0; key < KEY_TOTAL; key++)
		if (fields_has(&request.params, (enum key)key) || key == payload.len % KEY_TOTAL)
			check_field(&request.params, (enum key)key, payload);
	check_stream(&request.params);
	if (request.method == METHOD_UNKNOWN)
		(void)request_unknown_method(&request, &err);
	if (!request.notification)
		check_again(&request);
}
