#include "mp_read.h"

#include <string.h>

/*
 * What a first byte says, for every form of the MessagePack specification.
 *   1 to 32: the value takes so many bytes in all (the form that most elements have, and so the first to be tested)
 *   else one of the marks below
 */
enum { FORM_LEN8 = 128, FORM_LEN16, FORM_LEN32, FORM_EXT8, FORM_EXT16, FORM_EXT32, FORM_ARRAY, FORM_MAP, FORM_BAD };

#define REPEAT16(value)                                                                                                \
	value, value, value, value, value, value, value, value, value, value, value, value, value, value, value, value

/* clang-format off */
static const uint8_t forms[256] = {
	REPEAT16(1), REPEAT16(1), REPEAT16(1), REPEAT16(1),		/* 00: positive fixint */
	REPEAT16(1), REPEAT16(1), REPEAT16(1), REPEAT16(1),
	REPEAT16(FORM_MAP),						/* 80: fixmap */
	REPEAT16(FORM_ARRAY),						/* 90: fixarray */
	1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,		/* a0: fixstr */
	17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
	1, FORM_BAD, 1, 1,						/* c0: nil, never used, false, true */
	FORM_LEN8, FORM_LEN16, FORM_LEN32,				/* c4: bin */
	FORM_EXT8, FORM_EXT16, FORM_EXT32,				/* c7: ext */
	5, 9,								/* ca: float */
	2, 3, 5, 9,							/* cc: uint */
	2, 3, 5, 9,							/* d0: int */
	3, 4, 6, 10, 18,						/* d4: fixext */
	FORM_LEN8, FORM_LEN16, FORM_LEN32,				/* d9: str */
	FORM_ARRAY, FORM_ARRAY, FORM_MAP, FORM_MAP,			/* dc: array, map */
	REPEAT16(1), REPEAT16(1),					/* e0: negative fixint */
};
/* clang-format on */

static uint16_t be16(const uint8_t *at)
{
	return (uint16_t)((unsigned)at[0] << 8 | at[1]);
}

static uint32_t be32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | (uint32_t)at[3];
}

static uint64_t be64(const uint8_t *at)
{
	return (uint64_t)be32(at) << 32 | be32(at + 4);
}

static size_t left_of(const struct mp_reader *reader)
{
	return (size_t)(reader->end - reader->at);
}

/* The length that follows the first byte in 1, 2 or 4 bytes. False: cut short. */
static bool length_after(const struct mp_reader *reader, unsigned width, uint32_t *ret_length)
{
	if (left_of(reader) < 1 + width)
		return false;
	const uint8_t *at = reader->at + 1;
	*ret_length = width == 1 ? at[0] : width == 2 ? be16(at) : be32(at);
	return true;
}

/* The header of an array or a map: its own bytes and its count, the count checked against what is left behind it. */
static bool container_header(const struct mp_reader *reader, bool *ret_map, uint32_t *ret_count, size_t *ret_bytes)
{
	uint8_t first = *reader->at;
	unsigned width = first < 0xa0 ? 0 : (first & 1) != 0 ? 4 : 2;
	bool map = first < 0x90 || first == 0xde || first == 0xdf;
	uint32_t count = first & 0x0f;
	if (width > 0 && !length_after(reader, width, &count))
		return false;
	/* An element takes one byte at least. */
	if ((uint64_t)count << (map ? 1 : 0) > left_of(reader) - 1 - width)
		return false;
	*ret_map = map;
	*ret_count = count;
	*ret_bytes = 1 + width;
	return true;
}

/* Passes up to `todo` values of a fixed size, or with an 8-bit length: what arrays of a million elements are made of.
 * Stops at anything else, and at what is cut short. Returns how many are left to do. */
static uint64_t skip_short(struct mp_reader *reader, uint64_t todo)
{
	const uint8_t *at = reader->at, *end = reader->end;
	for (; todo > 0 && at < end; todo--) {
		size_t size = forms[*at];
		if (size == FORM_LEN8 && end - at >= 2)
			size = 2 + (size_t)at[1];
		else if (size >= FORM_LEN8)
			break;
		if (size > (size_t)(end - at))
			break;
		at += size;
	}
	reader->at = at;
	return todo;
}

int mp_skip(struct mp_reader *reader)
{
	struct mp_budget unlimited = {.limit = UINT64_MAX};
	return mp_skip_within(reader, &unlimited);
}

int mp_skip_within(struct mp_reader *reader, struct mp_budget *budget)
{
	/* Elements still to come on each level of containers; level 0 is the value itself. */
	uint64_t waiting[MP_DEPTH_MAX + 1];
	unsigned depth = 0;
	uint64_t todo = 1;
	struct mp_reader at = *reader;

	for (;;) {
		todo = skip_short(&at, todo);
		while (todo == 0) {
			if (depth == 0) {
				*reader = at;
				return 0;
			}
			todo = waiting[--depth];
			todo = skip_short(&at, todo);
		}
		size_t left = left_of(&at);
		if (left == 0)
			return -1;
		todo--;
		uint8_t form = forms[*at.at];
		if (form < FORM_LEN8)
			return -1; /* skip_short stopped at it: cut short */
		if (form == FORM_ARRAY || form == FORM_MAP) {
			bool map;
			uint32_t count;
			size_t header;
			if (depth == MP_DEPTH_MAX || !container_header(&at, &map, &count, &header))
				return -1;
			at.at += header;
			waiting[depth++] = todo;
			todo = (uint64_t)count << (map ? 1 : 0);
			budget->used += todo;
			if (mp_budget_is_over(budget))
				return -1;
			continue;
		}
		if (form == FORM_BAD)
			return -1;
		bool ext = form >= FORM_EXT8;
		unsigned width = 1U << (form - (ext ? FORM_EXT8 : FORM_LEN8));
		uint32_t len;
		if (!length_after(&at, width, &len))
			return -1;
		uint64_t total = (uint64_t)len + 1 + width + (ext ? 1 : 0);
		if (total > left)
			return -1;
		at.at += total;
	}
}

int mp_read_span(struct mp_reader *reader, struct span *ret_span)
{
	struct mp_budget unlimited = {.limit = UINT64_MAX};
	return mp_read_span_within(reader, &unlimited, ret_span);
}

int mp_read_span_within(struct mp_reader *reader, struct mp_budget *budget, struct span *ret_span)
{
	const uint8_t *start = reader->at;
	if (mp_skip_within(reader, budget) != 0)
		return -1;
	*ret_span = (struct span){start, (size_t)(reader->at - start)};
	return 0;
}

static void read_number(const uint8_t *at, struct mp_value *value)
{
	int64_t number;
	switch (*at) {
	case 0xca: {
		uint32_t bits = be32(at + 1);
		float single;
		memcpy(&single, &bits, sizeof(single));
		value->type = MP_FLOAT;
		value->number = (double)single;
		return;
	}
	case 0xcb: {
		uint64_t bits = be64(at + 1);
		memcpy(&value->number, &bits, sizeof(bits));
		value->type = MP_FLOAT;
		return;
	}
	case 0xcc:
		value->u64 = at[1];
		return;
	case 0xcd:
		value->u64 = be16(at + 1);
		return;
	case 0xce:
		value->u64 = be32(at + 1);
		return;
	case 0xcf:
		value->u64 = be64(at + 1);
		return;
	case 0xd0:
		number = (int8_t)at[1];
		break;
	case 0xd1:
		number = (int16_t)be16(at + 1);
		break;
	case 0xd2:
		number = (int32_t)be32(at + 1);
		break;
	case 0xd3:
		number = (int64_t)be64(at + 1);
		break;
	default:
		number = (int8_t)*at; /* both fixints */
		break;
	}
	if (number >= 0) {
		value->u64 = (uint64_t)number;
	} else {
		value->type = MP_NEGATIVE;
		value->i64 = number;
	}
}

int mp_read(struct mp_reader *reader, struct mp_value *ret_value)
{
	size_t left = left_of(reader);
	if (left == 0)
		return -1;
	const uint8_t *at = reader->at;
	uint8_t first = *at, form = forms[first];
	struct mp_value value = {.type = MP_UINT};

	if (form == FORM_ARRAY || form == FORM_MAP) {
		bool map;
		size_t header;
		if (!container_header(reader, &map, &value.count, &header))
			return -1;
		value.type = map ? MP_MAP : MP_ARRAY;
		reader->at += header;
		*ret_value = value;
		return 0;
	}

	uint64_t total = form;
	if (form == FORM_BAD)
		return -1;
	if (form < FORM_LEN8) {
		if (total > left)
			return -1;
		if (first >= 0xa0 && first <= 0xbf) {
			value.type = MP_STR;
			value.bytes = (struct span){at + 1, form - 1U};
		} else if (first == 0xc0) {
			value.type = MP_NIL;
		} else if (first == 0xc2 || first == 0xc3) {
			value.type = MP_BOOL;
			value.boolean = first == 0xc3;
		} else if (first >= 0xd4 && first <= 0xd8) {
			value.type = MP_EXT;
			value.bytes = (struct span){at + 2, form - 2U};
		} else {
			read_number(at, &value);
		}
	} else {
		bool ext = form >= FORM_EXT8;
		unsigned width = 1U << (form - (ext ? FORM_EXT8 : FORM_LEN8));
		uint32_t len;
		if (!length_after(reader, width, &len))
			return -1;
		size_t header = 1 + width + (ext ? 1 : 0);
		total = (uint64_t)len + header;
		if (total > left)
			return -1;
		value.type = ext ? MP_EXT : first >= 0xd9 ? MP_STR : MP_BIN;
		value.bytes = (struct span){at + header, len};
	}
	reader->at += total;
	*ret_value = value;
	return 0;
}

/* A span that holds one value and no more. */
static int read_single(struct span span, struct mp_value *ret_value)
{
	if (span.data == NULL)
		return -1;
	struct mp_reader reader = mp_reader_of(span);
	if (mp_read(&reader, ret_value) != 0 || reader.at != reader.end)
		return -1;
	return 0;
}

int mp_get_u64(struct span value, uint64_t *ret_u64)
{
	struct mp_value read;
	struct mp_reader reader = mp_reader_of(value);
	uint64_t number;
	if (mp_read_short_uint(&reader, &number) && reader.at == reader.end) {
		*ret_u64 = number;
		return 0;
	}
	if (read_single(value, &read) != 0 || read.type != MP_UINT)
		return -1;
	*ret_u64 = read.u64;
	return 0;
}

int mp_get_bool(struct span value, bool *ret_boolean)
{
	struct mp_value read;
	if (read_single(value, &read) != 0 || read.type != MP_BOOL)
		return -1;
	*ret_boolean = read.boolean;
	return 0;
}

int mp_get_str(struct span value, struct span *ret_bytes)
{
	struct mp_value read;
	struct mp_reader reader = mp_reader_of(value);
	struct span bytes;
	if (mp_read_fixstr(&reader, &bytes) && reader.at == reader.end) {
		*ret_bytes = bytes;
		return 0;
	}
	if (read_single(value, &read) != 0 || read.type != MP_STR)
		return -1;
	*ret_bytes = read.bytes;
	return 0;
}

int mp_get_bytes(struct span value, struct span *ret_bytes)
{
	struct mp_value read;
	struct mp_reader reader = mp_reader_of(value);
	struct span bytes, encoded;
	if (mp_read_short_bytes(&reader, &bytes, &encoded) && reader.at == reader.end) {
		*ret_bytes = bytes;
		return 0;
	}
	if (read_single(value, &read) != 0 || (read.type != MP_STR && read.type != MP_BIN))
		return -1;
	*ret_bytes = read.bytes;
	return 0;
}

bool mp_is_nil(struct span value)
{
	return value.len == 1 && value.data[0] == 0xc0;
}

int mp_map_find(struct span map, const char *key, struct span *ret_value)
{
	if (map.data == NULL)
		return -1;
	struct mp_reader reader = mp_reader_of(map);
	struct mp_value header;
	struct span found = {0};
	size_t key_len = strlen(key);
	if (mp_read(&reader, &header) != 0 || header.type != MP_MAP)
		return -1;
	for (uint32_t i = 0; i < header.count; i++) {
		struct span encoded, name, value;
		if (mp_read_span(&reader, &encoded) != 0 || mp_read_span(&reader, &value) != 0)
			return -1;
		if (mp_get_str(encoded, &name) == 0 && name.len == key_len && memcmp(name.data, key, key_len) == 0)
			found = value;
	}
	if (found.data == NULL)
		return -1;
	*ret_value = found;
	return 0;
}
