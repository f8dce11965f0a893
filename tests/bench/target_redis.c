#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "target_redis.h"

/* Entries that are to be read again get ids of our own, all with the same number of digits. */
#define ID_BASE UINT64_C(1000000000000)
#define ID_DIGITS 13
/* Sequence numbers within a millisecond stay below this, so that an id fits one number. */
#define SEQUENCE_BITS 22

static int add(struct buf *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int add(struct buf *out, const char *format, ...)
{
	char text[320];
	va_list args;
	va_start(args, format);
	int len = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return buf_append(out, text, (size_t)len);
}

/* Room in a bulk string, to be filled later. */
static int add_room(struct buf *out, size_t len, size_t *ret_at)
{
	if (add(out, "$%zu\r\n", len) != 0 || buf_reserve(out, len + 2) != 0)
		return -1;
	*ret_at = out->len;
	memset(out->data + out->len, '0', len);
	out->len += len;
	return buf_append(out, "\r\n", 2);
}

static int add_id(struct head *head)
{
	return add_room(&head->bytes, ID_DIGITS, &head->id_at[head->id_count++]);
}

static int add_key(struct head *head, const char *command, unsigned words, const char *name)
{
	return add(&head->bytes, "*%u\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n", words, strlen(command), command, strlen(name),
		name);
}

static int make_tail(const struct bench_plan *plan, size_t entry_count, struct tail *ret_tail)
{
	*ret_tail = (struct tail){.entry_count = entry_count}; /* always one */
	return add_room(&ret_tail->bytes, plan->payload_bytes, &ret_tail->entry_at);
}

static int make_xadd(bool own_id, const char *name, struct head *ret)
{
	if (add_key(ret, "XADD", 5, name) != 0 || (own_id ? add_id(ret) : add(&ret->bytes, "$1\r\n*\r\n")) != 0)
		return -1;
	return add(&ret->bytes, "$1\r\nf\r\n");
}

static int make_head(const struct bench_plan *plan, enum bench_op op, const char *name, size_t entry_count,
	size_t tail_bytes, struct head *ret_head)
{
	char count[24];
	(void)plan;
	(void)tail_bytes; /* has its own length */
	*ret_head = (struct head){.number_at = SIZE_MAX};
	switch (op) {
	case BENCH_APPEND:
	case BENCH_PREFILL:
		return make_xadd(op == BENCH_PREFILL, name, ret_head);
	case BENCH_GET:
		return add_key(ret_head, "XRANGE", 4, name) != 0 || add_id(ret_head) != 0 ? -1 : add_id(ret_head);
	case BENCH_ITER:
		if (add_key(ret_head, "XRANGE", 6, name) != 0 || add_id(ret_head) != 0)
			return -1;
		int len = snprintf(count, sizeof(count), "%zu", entry_count);
		return add(&ret_head->bytes, "$1\r\n+\r\n$5\r\nCOUNT\r\n$%d\r\n%s\r\n", len, count);
	}
	return -1;
}

static void put_number(uint8_t *at, uint32_t number)
{
	(void)at; /* answers come in order, there is none */
	(void)number;
}

static void put_id(uint8_t *at, uint64_t id)
{
	uint64_t left = ID_BASE + id;
	for (int i = ID_DIGITS - 1; i >= 0; i--, left /= 10)
		at[i] = (uint8_t)('0' + left % 10);
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

struct cursor {
	const uint8_t *at, *end;
	bool malformed;
};

/* One value, the outermost. */
struct value {
	uint8_t type;
	int64_t elements;    /* of an array */
	const uint8_t *text; /* of what is none */
	size_t len;
	uint64_t bulk_bytes; /* of all bulk strings in it */
};

/* A line of "<type><number or text>\r\n". False: not all there, or malformed. */
static bool line(struct cursor *cursor, struct value *ret)
{
	const uint8_t *stop = memchr(cursor->at, '\n', (size_t)(cursor->end - cursor->at));
	if (stop == NULL)
		return false;
	size_t len = (size_t)(stop - cursor->at);
	if (len < 2 || stop[-1] != '\r') {
		cursor->malformed = true;
		return false;
	}
	int64_t number = 0;
	bool negative = cursor->at[1] == '-';
	for (const uint8_t *at = cursor->at + 1 + negative; at < stop - 1 && *at >= '0' && *at <= '9'; at++)
		number = number < INT64_C(1) << 40 ? number * 10 + (*at - '0') : number;
	*ret = (struct value){
		.type = cursor->at[0], .elements = negative ? -number : number, .text = cursor->at + 1, .len = len - 2};
	cursor->at = stop + 1;
	return true;
}

/* Passes one value, however deep. False: not all there, or malformed. */
static bool pass_value(struct cursor *cursor, struct value *ret)
{
	uint64_t left = 1;
	*ret = (struct value){0};
	while (left > 0) {
		struct value value;
		if (!line(cursor, &value))
			return false;
		left--;
		if (value.type == '$' && value.elements >= 0) {
			if ((uint64_t)(cursor->end - cursor->at) < (uint64_t)value.elements + 2)
				return false;
			value.text = cursor->at;
			value.len = (size_t)value.elements;
			cursor->at += value.len + 2;
			ret->bulk_bytes += value.len;
		} else if (value.type == '*' && value.elements > 0) {
			left += (uint64_t)value.elements;
		} else if (memchr("$*+-:", value.type, 5) == NULL) {
			cursor->malformed = true;
			return false;
		}
		if (ret->type == 0) {
			value.bulk_bytes = ret->bulk_bytes;
			*ret = value;
		}
	}
	return true;
}

static bool read_id(const uint8_t *text, size_t len, uint64_t *ret_id)
{
	uint64_t parts[2] = {0, 0};
	int part = 0;
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '-' && part == 0)
			part = 1;
		else if (text[i] >= '0' && text[i] <= '9')
			parts[part] = parts[part] * 10 + (uint64_t)(text[i] - '0');
		else
			return false;
	}
	*ret_id = parts[0] << SEQUENCE_BITS | parts[1];
	return part == 1 && parts[1] < UINT64_C(1) << SEQUENCE_BITS;
}

static enum parse_status parse(const uint8_t *data, size_t len, size_t limit_bytes, struct answer *ret)
{
	struct cursor cursor = {data, data + len, false};
	struct value value;
	ret->unknown = false;
	if (!pass_value(&cursor, &value)) {
		if (!cursor.malformed && len <= limit_bytes)
			return PARSE_MORE;
		answer_fail(ret, COMPLAINT_WRONG_ANSWER,
			cursor.malformed ? "not RESP" : "a longer answer than there can be");
		return PARSE_MALFORMED;
	}
	ret->used_bytes = (size_t)(cursor.at - data);
	ret->failed = false;
	ret->raw.resp.type = value.type;
	ret->raw.resp.elements = value.elements;
	ret->raw.resp.text = value.text;
	ret->raw.resp.len = value.len;
	ret->raw.resp.bulk_bytes = value.bulk_bytes;
	if (value.type == '-')
		answer_fail(ret, "Redis", "%.*s", (int)(value.len < 200 ? value.len : 200), value.text);
	return PARSE_ANSWER;
}

static void read_answer(const struct bench_plan *plan, enum bench_op op, size_t entry_count, struct answer *answer)
{
	uint64_t payload_bytes = plan->payload_bytes, elements = (uint64_t)answer->raw.resp.elements;
	(void)entry_count;
	answer->first = answer->end = 0;
	if (op == BENCH_APPEND || op == BENCH_PREFILL) {
		if (answer->raw.resp.type != '$' ||
			!read_id(answer->raw.resp.text, answer->raw.resp.len, &answer->first))
			answer_fail(answer, COMPLAINT_WRONG_ANSWER, "XADD answered no id");
		answer->end = answer->first + 1;
		answer->bytes = payload_bytes;
		return;
	}
	/* Each entry: its id, the field's name, and the payload. */
	if (answer->raw.resp.type != '*' || answer->raw.resp.elements < 1 ||
		answer->raw.resp.bulk_bytes < elements * (payload_bytes + 1)) {
		answer_fail(answer, COMPLAINT_WRONG_ANSWER, "XRANGE answered not what is there");
		return;
	}
	answer->end = elements;
	answer->bytes = elements * payload_bytes;
}

const struct target target_redis = {
	.name = "redis",
	.prefill_batch = 1,
	.make_head = make_head,
	.make_tail = make_tail,
	.put_number = put_number,
	.put_id = put_id,
	.parse = parse,
	.read = read_answer,
};
