#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "target.h"

#define NUMBER_BYTES 5 /* a u32 in its widest form */

/* ---- requests ---- */

static int greet(const struct bench_plan *plan, struct buf *out)
{
	struct mp_writer writer;
	mp_writer_init(&writer, out);
	request_begin(&writer, 0, METHOD_HELLO, plan->token != NULL ? 3 : 2);
	mp_write_key(&writer, KEY_PROTOCOL);
	mp_write_u64(&writer, PROTOCOL_VERSION);
	mp_write_key(&writer, KEY_CLIENT);
	mp_write_str(&writer, plan->client_name);
	if (plan->token != NULL) {
		mp_write_key(&writer, KEY_TOKEN);
		mp_write_str(&writer, plan->token);
	}
	return frame_end(&writer);
}

/* request_begin would take the fewest bytes that a msgid needs: it has to have room for any. */
static void begin(struct mp_writer *writer, enum method method, size_t param_count, struct head *head)
{
	static const uint8_t number[NUMBER_BYTES] = {0xce};
	frame_begin(writer);
	mp_write_array(writer, 4);
	mp_write_u64(writer, 0);
	head->number_at = writer->buf->len + 1;
	mp_write_raw(writer, number, sizeof(number));
	mp_write_str(writer, method_name(method));
	mp_write_map(writer, param_count);
}

static void write_id(struct mp_writer *writer, enum key key, struct head *head)
{
	mp_write_key(writer, key);
	head->id_at[head->id_count++] = mp_hole_u64(writer);
}

/* The entries come last, in the tail. */
static void write_append(
	struct mp_writer *writer, const struct bench_plan *plan, const char *name, size_t count, struct head *head)
{
	bool many = count > 1;
	enum method method = many ? METHOD_APPEND_BATCH : METHOD_APPEND;
	enum key entries = many ? KEY_ENTRIES : KEY_ENTRY;
	if (plan->by_key) {
		method = many ? METHOD_SHARD_APPEND_BATCH_FOR_KEY : METHOD_SHARD_APPEND;
		entries = many ? KEY_VALUES : KEY_VALUE;
	}
	begin(writer, method, plan->sync ? 3 : 2, head);
	mp_write_key(writer, plan->by_key ? KEY_KEY : KEY_STREAM);
	mp_write_str(writer, name);
	if (plan->sync) {
		mp_write_key(writer, KEY_SYNC);
		mp_write_bool(writer, true);
	}
	mp_write_key(writer, entries);
	if (many)
		mp_write_array(writer, count);
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

static int make_head(const struct bench_plan *plan, enum bench_op op, const char *name, size_t entry_count,
	size_t tail_bytes, struct head *ret_head)
{
	struct mp_writer writer;
	*ret_head = (struct head){0};
	mp_writer_init(&writer, &ret_head->bytes);
	switch (op) {
	case BENCH_APPEND:
	case BENCH_PREFILL:
		write_append(&writer, plan, name, entry_count, ret_head);
		break;
	case BENCH_GET:
		begin(&writer, METHOD_GET, 2, ret_head);
		mp_write_key(&writer, KEY_STREAM);
		mp_write_str(&writer, name);
		write_id(&writer, KEY_ID, ret_head);
		break;
	case BENCH_ITER:
		begin(&writer, METHOD_ITER, 4, ret_head);
		mp_write_key(&writer, KEY_STREAM);
		mp_write_str(&writer, name);
		write_id(&writer, KEY_START_ID, ret_head);
		mp_write_key(&writer, KEY_MAX_ENTRIES);
		mp_write_u64(&writer, entry_count);
		mp_write_key(&writer, KEY_MAX_BYTES);
		mp_write_u64(&writer, entry_count * (plan->payload_bytes + 16));
		break;
	}
	if (frame_end(&writer) != 0)
		return -1;
	put_number(ret_head->bytes.data, (uint32_t)(ret_head->bytes.len - FRAME_LENGTH_BYTES + tail_bytes));
	return 0;
}

static int make_tail(const struct bench_plan *plan, size_t entry_count, struct tail *ret_tail)
{
	static const char pattern[] = BENCH_PATTERN;
	size_t len = plan->payload_bytes, header = mp_bin_bytes(len) - len;
	uint8_t *entry = malloc(len + 1);
	struct mp_writer writer;
	*ret_tail = (struct tail){.entry_at = header, .entry_stride = header + len, .entry_count = entry_count};
	if (entry == NULL || buf_reserve(&ret_tail->bytes, entry_count * ret_tail->entry_stride) != 0) {
		free(entry);
		return -1;
	}
	for (size_t i = 0; i < len; i++)
		entry[i] = (uint8_t)pattern[i % (sizeof(pattern) - 1)];
	mp_writer_init(&writer, &ret_tail->bytes);
	for (size_t i = 0; i < entry_count; i++)
		mp_write_bin(&writer, entry, len);
	free(entry);
	return writer.failed ? -1 : 0;
}

/* ---- answers ---- */

static void fail(struct answer *answer, const struct error *err)
{
	answer->unknown = err->code == ERR_IO && err->outcome == OUTCOME_UNKNOWN;
	answer_fail(
		answer, err->code == ERR_OTHER ? err->code_name : error_code_name(err->code), "%.250s", err->message);
}

static int copy_text(const struct fields *fields, enum key key, char *text, size_t size, struct error *err)
{
	struct span span;
	if (!fields_has(fields, key))
		return 0;
	if (field_str(fields, key, &span, err) != 0)
		return -1;
	(void)snprintf(text, size, "%.*s", (int)(span.len < size ? span.len : size - 1), (const char *)span.data);
	return 0;
}

static int read_greeting(struct answer *answer, struct server_facts *ret_facts)
{
	const struct fields *fields = &answer->raw.response.fields;
	struct server_facts facts = {0};
	struct error err;
	uint64_t shard_count;
	if (field_u64(fields, KEY_SHARD_COUNT, &shard_count, &err) != 0 ||
		field_u64(fields, KEY_MAX_MESSAGE_BYTES, &facts.max_message_bytes, &err) != 0 ||
		copy_text(fields, KEY_SERVER, facts.server, sizeof(facts.server), &err) != 0 ||
		copy_text(fields, KEY_SYNC_MODE, facts.sync_mode, sizeof(facts.sync_mode), &err) != 0) {
		fail(answer, &err);
		return -1;
	}
	if (shard_count == 0 || shard_count > UINT16_MAX) {
		answer_fail(answer, COMPLAINT_WRONG_ANSWER, "%" PRIu64 " shards", shard_count);
		return -1;
	}
	facts.shard_count = (uint32_t)shard_count;
	*ret_facts = facts;
	return 0;
}

static enum parse_status malformed(struct answer *answer, const char *why)
{
	answer_fail(answer, COMPLAINT_WRONG_ANSWER, "%.250s", why);
	return PARSE_MALFORMED;
}

static enum parse_status parse(const uint8_t *data, size_t len, size_t limit_bytes, struct answer *ret_answer)
{
	struct span payload;
	struct response *response = &ret_answer->raw.response;
	struct error err;
	bool notification;
	enum frame_status status = frame_next(data, len, limit_bytes, &payload, &ret_answer->used_bytes);
	if (status == FRAME_MORE)
		return PARSE_MORE;
	if (status == FRAME_OVER) {
		answer_fail(ret_answer, COMPLAINT_WRONG_ANSWER,
			"an answer of %zu bytes, and room for %zu: a larger --payload makes more",
			ret_answer->used_bytes, limit_bytes);
		return PARSE_MALFORMED;
	}
	if (response_decode(payload, response, &notification, &err) != 0)
		return malformed(ret_answer, err.message);
	if (notification)
		return malformed(ret_answer, "a notification");
	ret_answer->number = response->msgid;
	ret_answer->failed = ret_answer->unknown = false;
	if (response->error.data != NULL) {
		error_decode(response->error, &err);
		fail(ret_answer, &err);
	}
	return PARSE_ANSWER;
}

static int read_append(const struct bench_plan *plan, const struct fields *fields, bool batch, struct answer *answer,
	struct error *err)
{
	uint64_t shard = 0;
	if (plan->by_key && field_u64(fields, KEY_SHARD, &shard, err) != 0)
		return -1;
	answer->shard = shard < UINT32_MAX ? (uint32_t)shard : UINT32_MAX;
	if (!batch) {
		if (field_u64(fields, KEY_ID, &answer->first, err) != 0)
			return -1;
		answer->end = answer->first + 1;
		return 0;
	}
	return field_u64(fields, KEY_FIRST, &answer->first, err) == 0 ? field_u64(fields, KEY_END, &answer->end, err)
								      : -1;
}

static void read_get(const struct fields *fields, struct answer *answer)
{
	struct error err;
	if (field_bytes(fields, KEY_ENTRY, &answer->entry, &err) != 0) {
		answer_fail(answer, COMPLAINT_WRONG_ANSWER, "there is no entry where one is");
		return;
	}
	answer->first = 0;
	answer->end = 1;
	answer->bytes = answer->entry.len;
}

static void read_iter(const struct fields *fields, struct answer *answer)
{
	struct error err;
	struct byte_array *entries = &answer->entries;
	if (field_byte_array(fields, KEY_ENTRIES, false, entries, &err) != 0 ||
		field_u64(fields, KEY_FIRST, &answer->first, &err) != 0 ||
		field_u64(fields, KEY_NEXT, &answer->end, &err) != 0)
		fail(answer, &err);
	else if (answer->end - answer->first != entries->count)
		answer_fail(answer, COMPLAINT_WRONG_ANSWER,
			"an iter from %" PRIu64 " to %" PRIu64 " came with %" PRIu32 " entries", answer->first,
			answer->end, entries->count);
	else
		answer->bytes = entries->total_bytes;
}

static void read_answer(const struct bench_plan *plan, enum bench_op op, size_t entry_count, struct answer *answer)
{
	const struct fields *fields = &answer->raw.response.fields;
	struct error err;
	if (op == BENCH_GET) {
		read_get(fields, answer);
	} else if (op == BENCH_ITER) {
		read_iter(fields, answer);
	} else if (read_append(plan, fields, entry_count > 1, answer, &err) != 0) {
		fail(answer, &err);
	} else {
		answer->bytes = entry_count * plan->payload_bytes;
	}
}

const struct target target_ironwald = {
	.name = "ironwald",
	.numbered_answers = true,
	.prefill_batch = 100,
	.greet = greet,
	.read_greeting = read_greeting,
	.make_head = make_head,
	.make_tail = make_tail,
	.put_number = put_number,
	.put_id = put_id,
	.parse = parse,
	.read = read_answer,
};
