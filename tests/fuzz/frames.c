#include "frames.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "mp_write.h"

#define FRAMES_MAX 256
#define VALUES_MAX 512

/* ---- a reader of MessagePack, as simple as can be ---------------------------------------------------------------- */

static size_t big_endian(const uint8_t *at, unsigned bytes)
{
	size_t value = 0;
	for (unsigned i = 0; i < bytes; i++)
		value = value << 8 | at[i];
	return value;
}

/* The header's bytes, what of the value follows as bytes, and as elements. False: no such value. */
static bool describe(const uint8_t *at, size_t len, size_t *ret_header, size_t *ret_bytes, size_t *ret_elements)
{
	uint8_t first = at[0];
	unsigned width = 0, fixed = 0, multiple = 0;
	bool ext = false;
	*ret_bytes = *ret_elements = 0;
	*ret_header = 1;
	if (first <= 0x7f || first >= 0xe0 || first == 0xc0 || first == 0xc2 || first == 0xc3)
		return true;
	if (first <= 0x8f || first <= 0x9f) {
		*ret_elements = (first & 0x0f) * (first <= 0x8f ? 2u : 1u);
		return true;
	}
	if (first <= 0xbf) {
		*ret_bytes = first & 0x1f;
		return true;
	}
	switch (first) {
	case 0xc4:
	case 0xd9:
		width = 1;
		break;
	case 0xc5:
	case 0xda:
		width = 2;
		break;
	case 0xc6:
	case 0xdb:
		width = 4;
		break;
	case 0xc7:
		width = 1;
		ext = true;
		break;
	case 0xc8:
		width = 2;
		ext = true;
		break;
	case 0xc9:
		width = 4;
		ext = true;
		break;
	case 0xcc:
	case 0xd0:
		fixed = 1;
		break;
	case 0xcd:
	case 0xd1:
		fixed = 2;
		break;
	case 0xca:
	case 0xce:
	case 0xd2:
		fixed = 4;
		break;
	case 0xcb:
	case 0xcf:
	case 0xd3:
		fixed = 8;
		break;
	case 0xd4:
	case 0xd5:
	case 0xd6:
	case 0xd7:
	case 0xd8:
		fixed = 1 + (1u << (first - 0xd4));
		break;
	case 0xdc:
		width = 2;
		multiple = 1;
		break;
	case 0xdd:
		width = 4;
		multiple = 1;
		break;
	case 0xde:
		width = 2;
		multiple = 2;
		break;
	case 0xdf:
		width = 4;
		multiple = 2;
		break;
	default:
		return false; /* 0xc1 */
	}
	if (len < 1 + width)
		return false;
	*ret_header = 1 + width + ext;
	if (multiple != 0)
		*ret_elements = big_endian(at + 1, width) * multiple;
	else
		*ret_bytes = fixed + big_endian(at + 1, width);
	return true;
}

struct values {
	size_t at[VALUES_MAX], len[VALUES_MAX];
	size_t count;
};

static size_t walk(const uint8_t *bytes, size_t from, size_t len, unsigned depth, struct values *values)
{
	size_t header, inner, elements, slot = VALUES_MAX;
	if (from >= len || !describe(bytes + from, len - from, &header, &inner, &elements) ||
		(elements > 0 && depth == 0))
		return 0;
	/* An empty container is one too: it is as deep as a full one. */
	if (depth == 0 && ((bytes[from] >= 0x80 && bytes[from] <= 0x9f) || bytes[from] >= 0xdc) && bytes[from] < 0xe0)
		return 0;
	if (values != NULL && values->count < VALUES_MAX)
		values->at[slot = values->count++] = from;
	if (header > len - from || inner > len - from - header)
		return 0;
	size_t at = from + header + inner;
	for (size_t i = 0; i < elements; i++) {
		size_t element = walk(bytes, at, len, depth - 1, values);
		if (element == 0)
			return 0;
		at += element;
	}
	if (slot < VALUES_MAX)
		values->len[slot] = at - from;
	return at - from;
}

size_t frames_value_bytes(const uint8_t *bytes, size_t len, unsigned max_depth)
{
	return walk(bytes, 0, len, max_depth, NULL);
}

/* ---- making ----------------------------------------------------------------------------------------------------- */

static uint64_t some_number(uint64_t *state)
{
	uint32_t form = fuzz_next(state) % 16;
	if (form < 10)
		return fuzz_next(state) % 4;
	if (form < 12)
		return fuzz_next(state) % 300;
	if (form < 15)
		return (UINT64_C(1) << fuzz_next(state) % 64) + fuzz_next(state) % 3 - 1;
	return UINT64_MAX - fuzz_next(state) % 2;
}

static size_t some_bytes(uint64_t *state, uint8_t out[80])
{
	static const uint8_t lengths[] = {0, 1, 1, 2, 3, 5, 8, 31, 32, 79};
	size_t len = lengths[fuzz_next(state) % sizeof(lengths)];
	memset(out, (int)('a' + fuzz_next(state) % 3), len);
	if (len > 0 && fuzz_next(state) % 4 == 0)
		out[fuzz_next(state) % len] = (uint8_t)fuzz_next(state);
	return len;
}

static void write_bytes(struct mp_writer *writer, uint64_t *state, bool text)
{
	uint8_t bytes[80];
	size_t len = some_bytes(state, bytes);
	if (text || fuzz_next(state) % 8 == 0)
		mp_write_str_len(writer, bytes, len);
	else
		mp_write_bin(writer, bytes, len);
}

static void write_name(struct mp_writer *writer, uint64_t *state)
{
	static const char *const names[] = {
		"s", "s", "s", "t", "shard_00", "shard_01", "shard_7", "", "\xf0\x9f\xa6\x80"};
	mp_write_str(writer, names[fuzz_next(state) % (sizeof(names) / sizeof(names[0]))]);
}

static void write_one(struct mp_writer *writer, uint64_t *state, char type);

static void write_pair(struct mp_writer *writer, uint64_t *state, char first, char second)
{
	mp_write_array(writer, 2);
	write_one(writer, state, first);
	write_one(writer, state, second);
}

static void write_one(struct mp_writer *writer, uint64_t *state, char type)
{
	static const char scalars[] = "uostbnf";
	switch (type) {
	case 'u':
		mp_write_u64(writer, some_number(state));
		break;
	case '1':
	case '4': /* just that */
		mp_write_u64(writer, (uint64_t)(type - '0'));
		break;
	case 'm': /* of bytes in a message */
		mp_write_u64(writer, fuzz_next(state) % 4 == 0 ? some_number(state) : 1u << 20);
		break;
	case 'o':
		mp_write_bool(writer, fuzz_next(state) % 2 == 0);
		break;
	case 's':
		write_name(writer, state);
		break;
	case 't':
		write_bytes(writer, state, true);
		break;
	case 'b':
		write_bytes(writer, state, false);
		break;
	case 'N':
		if (fuzz_next(state) % 4 == 0)
			mp_write_nil(writer);
		else
			write_bytes(writer, state, false);
		break;
	case 'p':
		write_pair(writer, state, 'b', 'b');
		break;
	case 'c':
		write_pair(writer, state, 'b', 'u');
		break;
	case 'r':
		if (fuzz_next(state) % 6 == 0)
			mp_write_nil(writer);
		else
			write_pair(writer, state, 'u', 'u');
		break;
	case 'f':
		mp_write_double(writer, 1.5);
		break;
	case 'i':
		mp_write_i64(writer, -(int64_t)(some_number(state) >> 1));
		break;
	case 'M': {
		size_t count = fuzz_next(state) % 4;
		mp_write_map(writer, count);
		for (; count > 0; count--) {
			write_one(writer, state, 't');
			write_one(writer, state, fuzz_next(state) % 4 == 0 ? 'M' : scalars[fuzz_next(state) % 7]);
		}
		break;
	}
	default:
		mp_write_nil(writer);
		break;
	}
}

static void write_value(struct mp_writer *writer, uint64_t *state, char type)
{
	static const char arrays[] = "UuSsBbPpCcRrEN";
	const char *array = strchr(arrays, type);
	if (array == NULL || (array - arrays) % 2 != 0) {
		write_one(writer, state, type);
		return;
	}
	size_t count = fuzz_next(state) % 5;
	mp_write_array(writer, count);
	for (; count > 0; count--)
		write_one(writer, state, array[1]);
}

void frames_write_map(struct buf *out, uint64_t *state, const char *what)
{
	struct buf pairs = {0};
	struct mp_writer writer;
	size_t count = 0;
	mp_writer_init(&writer, &pairs);
	while (*what != '\0') {
		size_t name = strcspn(what, "?="), optional = what[name] == '?';
		char type = what[name + optional + 1];
		/* What is optional is there in half of them, and what is not is missing in a few. */
		if (fuzz_next(state) % 16 < (optional ? 8u : 15u)) {
			mp_write_str_len(&writer, what, name);
			write_value(&writer, state, type);
			count++;
		}
		what += name + optional + 2;
		what += *what == ' ';
	}
	mp_writer_init(&writer, out);
	mp_write_map(&writer, count);
	mp_write_raw(&writer, pairs.data, pairs.len);
	buf_free(&pairs);
}

/* ---- changing --------------------------------------------------------------------------------------------------- */

struct found {
	size_t at[FRAMES_MAX], len[FRAMES_MAX]; /* with the length's bytes */
	size_t count;
};

static void find(const uint8_t *data, size_t size, size_t from, struct found *found)
{
	found->count = 0;
	while (size - from >= 4 && found->count < FRAMES_MAX) {
		size_t len = big_endian(data + from, 4);
		if (len > size - from - 4)
			break;
		found->at[found->count] = from;
		found->len[found->count++] = len + 4;
		from += len + 4;
	}
}

static void put_length(uint8_t *at, size_t len)
{
	for (unsigned i = 0; i < 4; i++)
		at[i] = (uint8_t)(len >> (24 - 8 * i));
}

/* data[at, at + old) becomes the bytes. Returns the size, which is as it was where there is no room. */
static size_t replace(uint8_t *data, size_t size, size_t max, size_t at, size_t old, const uint8_t *bytes, size_t len)
{
	if (size - old + len > max)
		return size;
	memmove(data + at + len, data + at + old, size - at - old);
	if (len > 0)
		memcpy(data + at, bytes, len);
	return size - old + len;
}

static void other_value(struct buf *out, uint64_t *state, const uint8_t *payload, const struct values *values)
{
	static const char types[] = "uuosbbNfiMUSBPCR";
	struct mp_writer writer;
	size_t other = values->count > 0 ? fuzz_next(state) % values->count : 0;
	if (values->count > 0 && fuzz_next(state) % 4 == 0 && values->len[other] > 0) {
		(void)buf_append(out, payload + values->at[other], values->len[other]);
		return;
	}
	mp_writer_init(&writer, out);
	write_value(&writer, state, types[fuzz_next(state) % (sizeof(types) - 1)]);
}

/* One value of the message becomes another one. */
static size_t change_value(uint8_t *data, size_t size, size_t max, size_t at, size_t len, uint64_t *state)
{
	struct values values = {.count = 0};
	struct buf bytes = {0};
	uint8_t *payload = data + at + 4;
	memset(values.len, 0, sizeof(values.len));
	(void)walk(payload, 0, len - 4, 64, &values);
	size_t which = values.count > 0 ? fuzz_next(state) % values.count : 0;
	if (values.count == 0 || values.len[which] == 0)
		return size;
	other_value(&bytes, state, payload, &values);
	size_t old = values.len[which];
	size_t changed = replace(data, size, max, at + 4 + values.at[which], old, bytes.data, bytes.len);
	if (changed != size || bytes.len == old)
		put_length(data + at, len - 4 - old + bytes.len);
	buf_free(&bytes);
	return changed;
}

static size_t change_payload(uint8_t *data, size_t size, size_t max, size_t at, size_t len)
{
	size_t room = max - size + len - 4;
	uint8_t *payload = fuzz_alloc(room + 1);
	memcpy(payload, data + at + 4, len - 4);
	size_t changed = LLVMFuzzerMutate(payload, len - 4, room);
	size = replace(data, size, max, at + 4, len - 4, payload, changed);
	put_length(data + at, changed);
	free(payload);
	return size;
}

size_t frames_mutate(uint8_t *data, size_t size, size_t max, unsigned seed, size_t header, frames_make make)
{
	struct found found;
	uint64_t state = seed;
	struct buf made = {0};
	(void)fuzz_next(&state);
	if (max < header + 64 || fuzz_next(&state) % 8 == 0)
		return LLVMFuzzerMutate(data, size, max);
	if (size < header) {
		memset(data + size, 0, header - size);
		size = header;
	}
	find(data, size, header, &found);
	size_t which = found.count > 0 ? fuzz_next(&state) % found.count : 0;
	size_t at = found.count > 0 ? found.at[which] : header, len = found.count > 0 ? found.len[which] : 0;
	uint32_t how = fuzz_next(&state) % 16;
	if (how >= 15)
		return (void)LLVMFuzzerMutate(data, header, header), size;
	if (found.count == 0 || how < 4) {
		bool behind = fuzz_next(&state) % 2 == 0;
		make(&made, &state, behind ? found.count : which, data);
		size_t end = found.count > 0 ? found.at[found.count - 1] + found.len[found.count - 1] : header;
		size = replace(data, size, max, behind ? end : at, 0, made.data, made.len);
	} else if (how < 9) {
		size = change_value(data, size, max, at, len, &state);
	} else if (how < 11) {
		size = change_payload(data, size, max, at, len);
	} else if (how == 11) {
		uint8_t *copy = fuzz_copy(data + at, len);
		size = replace(data, size, max, at, 0, copy, len);
		free(copy);
	} else if (how == 12) {
		size = replace(data, size, max, at, len, NULL, 0);
	} else if (how == 13) {
		put_length(data + at, len - 4 + fuzz_next(&state) % 5 - 2);
	} else {
		size = at + fuzz_next(&state) % (len + 1);
	}
	buf_free(&made);
	return size;
}
