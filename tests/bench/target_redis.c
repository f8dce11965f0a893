#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "target.h"

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

/* A bulk string of zeros, to be filled later. */
static int add_room(struct buf *out, size_t len, size_t *ret_at)
{
	if (add(out, "$%zu\r\n", len) != 0 || buf_reserve(out, len + 2) != 0)
		return -1;
	*ret_at = out->len;
	memset(out->data + out->len, '0', len);
	out->len += len;
	return buf_append(out, "\r\n", 2);
}

static int add_id(struct template *template)
{
	return add_room(&template->frame, ID_DIGITS, &template->id_at[template->id_count++]);
}

static int add_key(struct template *template, const char *command, unsigned words, const char *prefix, uint64_t stream)
{
	char name[256];
	int len = snprintf(name, sizeof(name), "%s%06" PRIu64, prefix, stream);
	return add(&template->frame, "*%u\r\n$%zu\r\n%s\r\n$%d\r\n%s\r\n", words, strlen(command), command, len, name);
}

static int make_xadd(const struct load_options *options, bool own_id, uint64_t stream, struct template *ret)
{
	if (add_key(ret, "XADD", 5, options->prefix, stream) != 0 ||
		(own_id ? add_id(ret) : add(&ret->frame, "$1\r\n*\r\n")) != 0 || add(&ret->frame, "$1\r\nf\r\n") != 0 ||
		add_room(&ret->frame, options->payload_bytes, &ret->entry_at) != 0)
		return -1;
	ret->entry_count = 1;
	return 0;
}

static int make(const struct load_options *options, enum load_op op, uint64_t stream, struct template *ret)
{
	*ret = (struct template){.number_at = SIZE_MAX};
	switch (op) {
	case LOAD_APPEND:
	case LOAD_PREFILL:
		return make_xadd(options, op == LOAD_PREFILL, stream, ret);
	case LOAD_GET:
		return add_key(ret, "XRANGE", 4, options->prefix, stream) != 0 || add_id(ret) != 0 || add_id(ret) != 0
			       ? -1
			       : 0;
	case LOAD_ITER:
		if (add_key(ret, "XRANGE", 6, options->prefix, stream) != 0 || add_id(ret) != 0)
			return -1;
		char count[24];
		int len = snprintf(count, sizeof(count), "%" PRIu64, options->batch_count);
		return add(&ret->frame, "$1\r\n+\r\n$5\r\nCOUNT\r\n$%d\r\n%s\r\n", len, count);
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

/* ---- answers ------------------------------------------------------------------------------------------------------
 */

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

static enum parse_status parse(const uint8_t *data, size_t len, enum load_op op, bool greeting,
	const struct load_options *options, struct answer *ret)
{
	struct cursor cursor = {data, data + len, false};
	struct value value;
	(void)greeting; /* there is none */
	if (!pass_value(&cursor, &value)) {
		snprintf(ret->error, sizeof(ret->error), "not RESP");
		return cursor.malformed ? PARSE_MALFORMED : PARSE_MORE;
	}
	ret->used_bytes = (size_t)(cursor.at - data);
	ret->failed = false;
	ret->first = ret->end = 0;
	if (value.type == '-') {
		ret->failed = true;
		snprintf(ret->error, sizeof(ret->error), "%.*s", (int)(value.len < 200 ? value.len : 200), value.text);
	} else if (op == LOAD_APPEND || op == LOAD_PREFILL) {
		ret->failed = value.type != '$' || !read_id(value.text, value.len, &ret->first);
		ret->end = ret->first + 1;
		if (ret->failed)
			snprintf(ret->error, sizeof(ret->error), "XADD answered no id");
	} else {
		/* Each entry: its id, the field's name, and the payload. */
		ret->failed = value.type != '*' || value.elements < 1 ||
			      value.bulk_bytes < (uint64_t)value.elements * (options->payload_bytes + 1);
		ret->end = ret->failed ? 0 : (uint64_t)value.elements;
		if (ret->failed)
			snprintf(ret->error, sizeof(ret->error), "XRANGE answered not what is there");
	}
	return PARSE_ANSWER;
}

const struct target target_redis = {
	.name = "redis",
	.prefill_batch = 1,
	.make = make,
	.put_number = put_number,
	.put_id = put_id,
	.parse = parse,
};
