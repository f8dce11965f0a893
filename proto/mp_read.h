/*
 * mp_read: reading MessagePack in place, by spans into the bytes received.
 *
 * Owns nothing, allocates nothing; any thread may call it on bytes that nobody changes meanwhile.
 * Invariant: 0 means that what was read lies wholly inside the bytes given; -1 means malformed or cut short, and
 * then the reader stands where it stood. No length or count from the bytes is believed before it was compared with
 * the bytes that are there.
 */
#ifndef IRONWALD_MP_READ_H
#define IRONWALD_MP_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Containers inside containers. Deeper is malformed (the contract's own messages need 5). */
#define MP_DEPTH_MAX 64

/* Bytes of somebody else's. data NULL: not there. (Empty but there: data not NULL, len 0.) */
struct span {
	const uint8_t *data;
	size_t len;
};

enum mp_type {
	MP_NIL,
	MP_BOOL,
	MP_UINT,     /* any non-negative integer, however it is encoded */
	MP_NEGATIVE, /* a negative integer */
	MP_FLOAT,
	MP_STR,
	MP_BIN,
	MP_ARRAY,
	MP_MAP,
	MP_EXT,
};

/* One value, or, for an array or a map, its header: the elements follow in the reader. */
struct mp_value {
	enum mp_type type;
	bool boolean;
	uint32_t count; /* MP_ARRAY: elements; MP_MAP: pairs. The bytes left are enough for one byte each. */
	uint64_t u64;
	int64_t i64; /* MP_NEGATIVE */
	double number;
	struct span bytes; /* MP_STR, MP_BIN, MP_EXT (without its type byte) */
};

struct mp_reader {
	const uint8_t *at, *end;
};

static inline struct mp_reader mp_reader_of(struct span span)
{
	/* Of what is not there: no bytes. (Adding even 0 to NULL is not C.) */
	return (struct mp_reader){span.data, span.data != NULL ? span.data + span.len : NULL};
}

int mp_read(struct mp_reader *reader, struct mp_value *ret_value);

/*
 * In line, the forms that small messages are made of; the rest, and what is malformed, is left to mp_read and mp_skip.
 * False: it is something else or cut short, and the reader stands where it stood.
 */

/* str of up to 31 bytes: names of methods and keys. */
static inline bool mp_read_fixstr(struct mp_reader *reader, struct span *ret_bytes)
{
	const uint8_t *at = reader->at;
	if (at == reader->end || (*at & 0xe0) != 0xa0)
		return false;
	size_t len = *at & 0x1f;
	if ((size_t)(reader->end - at) - 1 < len)
		return false;
	*ret_bytes = (struct span){at + 1, len};
	reader->at = at + 1 + len;
	return true;
}

/* The header of a map of up to 15 pairs. */
static inline bool mp_read_fixmap(struct mp_reader *reader, uint32_t *ret_count)
{
	const uint8_t *at = reader->at;
	if (at == reader->end || (*at & 0xf0) != 0x80)
		return false;
	uint32_t count = *at & 0x0f;
	if ((size_t)(reader->end - at) - 1 < 2 * (size_t)count)
		return false;
	*ret_count = count;
	reader->at = at + 1;
	return true;
}

/* uint of up to 32 bits, but for the 8-bit form. */
static inline bool mp_read_short_uint(struct mp_reader *reader, uint64_t *ret_value)
{
	const uint8_t *at = reader->at;
	size_t left = (size_t)(reader->end - at);
	if (left >= 1 && at[0] < 0x80) {
		*ret_value = at[0];
		reader->at = at + 1;
	} else if (left >= 3 && at[0] == 0xcd) {
		*ret_value = (uint64_t)at[1] << 8 | at[2];
		reader->at = at + 3;
	} else if (left >= 5 && at[0] == 0xce) {
		*ret_value = (uint64_t)at[1] << 24 | (uint64_t)at[2] << 16 | (uint64_t)at[3] << 8 | at[4];
		reader->at = at + 5;
	} else {
		return false;
	}
	return true;
}

/* bin of up to 65535 bytes, str of up to 255; its own bytes, and those with the header. */
static inline bool mp_read_short_bytes(struct mp_reader *reader, struct span *ret_bytes, struct span *ret_encoded)
{
	const uint8_t *at = reader->at;
	size_t left = (size_t)(reader->end - at), header = 2, len;
	if (left < 3) /* an empty bin at the very end is left to mp_read */
		return false;
	if (at[0] == 0xc4 || at[0] == 0xd9) {
		len = at[1];
	} else if ((at[0] & 0xe0) == 0xa0) {
		header = 1;
		len = at[0] & 0x1f;
	} else if (at[0] == 0xc5) {
		header = 3;
		len = (size_t)at[1] << 8 | at[2];
	} else {
		return false;
	}
	if (len > left - header)
		return false;
	*ret_bytes = (struct span){at + header, len};
	*ret_encoded = (struct span){at, header + len};
	reader->at = at + header + len;
	return true;
}

/* How many values may be passed: time and not only bytes, of which the smallest value has one. An array counts its
 * elements, a map twice its pairs, each when its header is met and before anything in it is looked at. */
struct mp_budget {
	uint64_t used, limit;
};

static inline bool mp_budget_is_over(const struct mp_budget *budget)
{
	return budget->used > budget->limit;
}

/* Passes one whole value, checking all of it (lengths, counts, nesting, no 0xc1). Not recursive. */
int mp_skip(struct mp_reader *reader);
/* The same, at most as far as the budget goes: -1 also if it is over then, and the bytes may be well-formed. */
int mp_skip_within(struct mp_reader *reader, struct mp_budget *budget);
/* The same with the encoded bytes of the value. */
int mp_read_span(struct mp_reader *reader, struct span *ret_span);
int mp_read_span_within(struct mp_reader *reader, struct mp_budget *budget, struct span *ret_span);

/* A span that is exactly one value of the type. -1: it is not. */
int mp_get_u64(struct span value, uint64_t *ret_u64);
int mp_get_bool(struct span value, bool *ret_boolean);
int mp_get_str(struct span value, struct span *ret_bytes);   /* str only; not checked for UTF-8 */
int mp_get_bytes(struct span value, struct span *ret_bytes); /* bin or str */
bool mp_is_nil(struct span value);

/* The value (encoded) of a str key in a map; of the last one if the key is there twice. -1: not a map, malformed, or
 * no such key. For what has no KEY_ in fields.h: stats, error fields of later versions. */
int mp_map_find(struct span map, const char *key, struct span *ret_value);

#endif
