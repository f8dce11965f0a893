#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "message.h"
#include "target.h"

#define ANSWER_BYTES_MAX (UINT64_C(1) << 30)
#define NUMBER_BYTES 5 /* a u32 in its widest form */

static int greet(struct buf *out)
{
	struct mp_writer writer;
	mp_writer_init(&writer, out);
	request_begin(&writer, 0, METHOD_HELLO, 2);
	mp_write_key(&writer, KEY_PROTOCOL);
	mp_write_u64(&writer, PROTOCOL_VERSION);
	mp_write_key(&writer, KEY_CLIENT);
	mp_write_str(&writer, "ironwald-bench");
	return frame_end(&writer);
}

/* request_begin would take the fewest bytes that a msgid needs: it has to have room for any. */
static void begin(struct mp_writer *writer, const char *method, size_t param_count, struct template *template)
{
	static const uint8_t number[NUMBER_BYTES] = {0xce};
	frame_begin(writer);
	mp_write_array(writer, 4);
	mp_write_u64(writer, 0);
	template->number_at = writer->buf->len + 1;
	mp_write_raw(writer, number, sizeof(number));
	mp_write_str(writer, method);
	mp_write_map(writer, param_count);
}

static void write_stream(struct mp_writer *writer, const struct load_options *options, uint64_t stream)
{
	char name[256];
	snprintf(name, sizeof(name), "%s%06" PRIu64, options->prefix, stream);
	mp_write_key(writer, options->keys ? KEY_KEY : KEY_STREAM);
	mp_write_str(writer, name);
}

static void write_id(struct mp_writer *writer, enum key key, struct template *template)
{
	mp_write_key(writer, key);
	template->id_at[template->id_count++] = mp_hole_u64(writer);
}

/* Zeros for now: the entry's own bytes come later. */
static void write_entry(struct mp_writer *writer, const uint8_t *zeros, size_t len, struct template *template)
{
	size_t at = writer->buf->len;
	mp_write_bin(writer, zeros, len);
	if (template->entry_count++ == 0)
		template->entry_at = writer->buf->len - len;
	template->entry_stride = writer->buf->len - at;
}

static int write_append(struct mp_writer *writer, const struct load_options *options, uint64_t stream, size_t count,
	struct template *ret)
{
	uint8_t *zeros = calloc(1, options->payload_bytes + 1);
	if (zeros == NULL)
		return -1;
	const char *one = options->keys ? "shard_append" : "append";
	const char *many = options->keys ? "shard_append_batch_for_key" : "append_batch";
	begin(writer, count > 1 ? many : one, options->sync ? 3 : 2, ret);
	write_stream(writer, options, stream);
	if (options->sync) {
		mp_write_key(writer, KEY_SYNC);
		mp_write_bool(writer, true);
	}
	if (options->keys)
		mp_write_key(writer, count > 1 ? KEY_VALUES : KEY_VALUE);
	else
		mp_write_key(writer, count > 1 ? KEY_ENTRIES : KEY_ENTRY);
	if (count > 1)
		mp_write_array(writer, count);
	for (size_t i = 0; i < count; i++)
		write_entry(writer, zeros, options->payload_bytes, ret);
	free(zeros);
	return 0;
}

static int make(const struct load_options *options, enum load_op op, uint64_t stream, struct template *ret)
{
	struct mp_writer writer;
	*ret = (struct template){0};
	mp_writer_init(&writer, &ret->frame);
	switch (op) {
	case LOAD_APPEND:
	case LOAD_PREFILL:
		if (write_append(&writer, options, stream, target_entries(&target_ironwald, options, op), ret) != 0)
			return -1;
		break;
	case LOAD_GET:
		begin(&writer, "get", 2, ret);
		write_stream(&writer, options, stream);
		write_id(&writer, KEY_ID, ret);
		break;
	case LOAD_ITER:
		begin(&writer, "iter", 4, ret);
		write_stream(&writer, options, stream);
		write_id(&writer, KEY_START_ID, ret);
		mp_write_key(&writer, KEY_MAX_ENTRIES);
		mp_write_u64(&writer, options->batch_count);
		mp_write_key(&writer, KEY_MAX_BYTES);
		mp_write_u64(&writer, options->batch_count * (options->payload_bytes + 16));
		break;
	}
	return frame_end(&writer);
}

static void put_number(uint8_t *at, uint32_t number)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(number >> (24 - 8 * i));
}

/* mp_hole_u64 gives the place of the type byte. */
static void put_id(uint8_t *at, uint64_t id)
{
	for (int i = 0; i < 8; i++)
		at[1 + i] = (uint8_t)(id >> (56 - 8 * i));
}

static int read_append(const struct fields *fields, bool batch, struct answer *ret, struct error *err)
{
	if (!batch) {
		if (field_u64(fields, KEY_ID, &ret->first, err) != 0)
			return -1;
		ret->end = ret->first + 1;
		return 0;
	}
	return field_u64(fields, KEY_FIRST, &ret->first, err) == 0 ? field_u64(fields, KEY_END, &ret->end, err) : -1;
}

static int read_get(const struct fields *fields, uint64_t payload_bytes, struct answer *ret, struct error *err)
{
	struct span entry;
	if (field_bytes(fields, KEY_ENTRY, &entry, err) != 0)
		return -1;
	if (entry.len != payload_bytes)
		return error_set(err, ERR_SERIALIZATION, "an entry of %zu bytes came back", entry.len);
	ret->first = 0;
	ret->end = 1;
	return 0;
}

static int read_iter(const struct fields *fields, uint64_t payload_bytes, struct answer *ret, struct error *err)
{
	struct byte_array entries;
	if (field_byte_array(fields, KEY_ENTRIES, false, &entries, err) != 0 ||
		field_u64(fields, KEY_FIRST, &ret->first, err) != 0 || field_u64(fields, KEY_NEXT, &ret->end, err) != 0)
		return -1;
	if (entries.total_bytes != entries.count * payload_bytes || ret->end - ret->first != entries.count)
		return error_set(err, ERR_SERIALIZATION,
			"an iter from %" PRIu64 " to %" PRIu64 " with %" PRIu32 " entries of %" PRIu64
			" bytes came back",
			ret->first, ret->end, entries.count, entries.total_bytes);
	return 0;
}

static void fail(struct answer *ret, const struct error *err)
{
	ret->failed = true;
	snprintf(ret->error, sizeof(ret->error), "%s: %.200s",
		err->code == ERR_OTHER ? err->code_name : error_code_name(err->code), err->message);
}

static enum parse_status parse(const uint8_t *data, size_t len, enum load_op op, bool greeting,
	const struct load_options *options, struct answer *ret)
{
	struct span payload;
	struct response response;
	struct error err;
	bool notification;
	int result = 0;
	enum frame_status status = frame_next(data, len, ANSWER_BYTES_MAX, &payload, &ret->used_bytes);
	if (status == FRAME_MORE)
		return PARSE_MORE;
	if (status == FRAME_OVER) {
		snprintf(ret->error, sizeof(ret->error), "an answer of over 1 GiB");
		return PARSE_MALFORMED;
	}
	if (response_decode(payload, &response, &notification, &err) != 0 || notification) {
		snprintf(ret->error, sizeof(ret->error), "%.200s", notification ? "a notification" : err.message);
		return PARSE_MALFORMED;
	}
	ret->number = response.msgid;
	ret->failed = false;
	if (response.error.data != NULL) {
		error_decode(response.error, &err);
		fail(ret, &err);
		return PARSE_ANSWER;
	}
	if (greeting)
		return PARSE_ANSWER;
	if (op == LOAD_GET)
		result = read_get(&response.fields, options->payload_bytes, ret, &err);
	else if (op == LOAD_ITER)
		result = read_iter(&response.fields, options->payload_bytes, ret, &err);
	else
		result = read_append(&response.fields, target_entries(&target_ironwald, options, op) > 1, ret, &err);
	if (result != 0)
		fail(ret, &err);
	return PARSE_ANSWER;
}

const struct target target_ironwald = {
	.name = "ironwald",
	.numbered_answers = true,
	.prefill_batch = 100,
	.greet = greet,
	.make = make,
	.put_number = put_number,
	.put_id = put_id,
	.parse = parse,
};
