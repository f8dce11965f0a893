#include "fields.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "utf8.h"

static_assert(KEY_TOTAL <= 64, "a bit per key");

static const char *const key_names[KEY_TOTAL] = {
#define KEY(suffix, name) [KEY_##suffix] = name,
#include "keys.def"
#undef KEY
};

static const uint8_t key_lengths[KEY_TOTAL] = {
#define KEY(suffix, name) [KEY_##suffix] = sizeof(name) - 1,
#include "keys.def"
#undef KEY
};

#define KEY_MOST 31
#define KEY(suffix, name) static_assert(sizeof(name) - 1 <= KEY_MOST, "the shortest form of a str");
#include "keys.def"
#undef KEY

const char *key_name(enum key key)
{
	return key_names[key];
}

static enum key key_from_name(struct span name)
{
#define KEY(suffix, text)                                                                                              \
	if (name.len == sizeof(text) - 1 && memcmp(name.data, text, sizeof(text) - 1) == 0)                            \
		return KEY_##suffix;
#include "keys.def"
#undef KEY
	return KEY_TOTAL;
}

void mp_write_key(struct mp_writer *writer, enum key key)
{
	mp_write_str_len(writer, key_names[key], key_lengths[key]);
}

/* A map of any size. */
static int read_map_header(struct mp_reader *reader, uint32_t *ret_count)
{
	struct mp_value header;
	if (mp_read(reader, &header) != 0 || header.type != MP_MAP)
		return -1;
	*ret_count = header.count;
	return 0;
}

/* A key of any length: none of ours has it, but it may be there. */
static int read_name(struct mp_reader *reader, struct span *ret_name)
{
	struct mp_value name;
	if (mp_read(reader, &name) != 0 || name.type != MP_STR)
		return -1;
	*ret_name = name.bytes;
	return 0;
}

/* One room for both: most of what an answer is made of. */
static inline uint8_t *put_key(uint8_t *at, enum key key)
{
	size_t len = key_lengths[key];
	*at = (uint8_t)(0xa0 | len);
	memcpy(at + 1, key_names[key], len);
	return at + 1 + len;
}

void mp_write_key_u64(struct mp_writer *writer, enum key key, uint64_t value)
{
	uint8_t *start = mp_writer_room(writer, 1 + KEY_MOST + MP_U64_MOST);
	if (start != NULL)
		mp_writer_advance(writer, mp_put_u64(put_key(start, key), value));
}

void mp_write_key_bool(struct mp_writer *writer, enum key key, bool value)
{
	uint8_t *start = mp_writer_room(writer, 1 + KEY_MOST + 1);
	if (start == NULL)
		return;
	uint8_t *at = put_key(start, key);
	*at = value ? 0xc3 : 0xc2;
	mp_writer_advance(writer, at + 1);
}

int fields_read(struct fields *fields, struct mp_reader *reader, enum error_code blame)
{
	struct mp_budget unlimited = {.limit = UINT64_MAX};
	return fields_read_within(fields, reader, &unlimited, blame);
}

int fields_read_within(struct fields *fields, struct mp_reader *reader, struct mp_budget *budget, enum error_code blame)
{
	struct mp_reader at = *reader;
	uint32_t count;
	fields->present = 0;
	fields->blame = blame;
	if (!mp_read_fixmap(&at, &count) && read_map_header(&at, &count) != 0)
		return -1;
	budget->used += (uint64_t)count * 2;
	if (mp_budget_is_over(budget))
		return -1;
	for (uint32_t i = 0; i < count; i++) {
		struct span name, bytes, value;
		if (!mp_read_fixstr(&at, &name) && read_name(&at, &name) != 0)
			return -1;
		if (!mp_read_short_bytes(&at, &bytes, &value) && mp_read_span_within(&at, budget, &value) != 0)
			return -1;
		enum key key = key_from_name(name);
		if (key == KEY_TOTAL)
			continue;
		uint64_t bit = UINT64_C(1) << key;
		if (mp_is_nil(value)) {
			fields->present &= ~bit;
		} else {
			fields->present |= bit;
			fields->values[key] = value;
		}
	}
	*reader = at;
	return 0;
}

static int mistyped(const struct fields *fields, enum key key, const char *expected, struct error *err)
{
	return error_set(err, fields->blame, "%s: %s, expected %s", key_names[key],
		fields_has(fields, key) ? "mistyped" : "missing", expected);
}

int field_u64(const struct fields *fields, enum key key, uint64_t *ret_value, struct error *err)
{
	if (!fields_has(fields, key) || mp_get_u64(fields->values[key], ret_value) != 0)
		return mistyped(fields, key, "an unsigned integer", err);
	return 0;
}

int field_bool(const struct fields *fields, enum key key, bool *ret_value, struct error *err)
{
	if (!fields_has(fields, key) || mp_get_bool(fields->values[key], ret_value) != 0)
		return mistyped(fields, key, "true or false", err);
	return 0;
}

int field_bytes(const struct fields *fields, enum key key, struct span *ret_bytes, struct error *err)
{
	if (!fields_has(fields, key) || mp_get_bytes(fields->values[key], ret_bytes) != 0)
		return mistyped(fields, key, "bin (or str)", err);
	return 0;
}

int field_str(const struct fields *fields, enum key key, struct span *ret_bytes, struct error *err)
{
	struct span bytes;
	if (!fields_has(fields, key) || mp_get_str(fields->values[key], &bytes) != 0)
		return mistyped(fields, key, "a str", err);
	if (!utf8_valid(bytes.data, bytes.len))
		return error_set(err, fields->blame, "%s: not UTF-8", key_names[key]);
	*ret_bytes = bytes;
	return 0;
}

int field_stream(const struct fields *fields, struct span *ret_name, struct error *err)
{
	struct span name;
	if (field_str(fields, KEY_STREAM, &name, err) != 0)
		return -1;
	if (name.len == 0 || name.len > STREAM_BYTES_MAX) {
		error_set(err, ERR_INVALID_FILENAME, "a stream's name is 1 to %d bytes of UTF-8, this one has %zu",
			STREAM_BYTES_MAX, name.len);
		error_set_text(err, EFI_NAME, name.data, name.len);
		return -1;
	}
	*ret_name = name;
	return 0;
}

int field_u64_or(const struct fields *fields, enum key key, uint64_t absent, uint64_t *ret_value, struct error *err)
{
	if (fields_has(fields, key))
		return field_u64(fields, key, ret_value, err);
	*ret_value = absent;
	return 0;
}

int field_bool_or(const struct fields *fields, enum key key, bool absent, bool *ret_value, struct error *err)
{
	if (fields_has(fields, key))
		return field_bool(fields, key, ret_value, err);
	*ret_value = absent;
	return 0;
}

/* ---- arrays --------------------------------------------------------------------------------------------------- */

static int array_begin(
	const struct fields *fields, enum key key, struct mp_reader *ret_reader, uint32_t *ret_count, struct error *err)
{
	struct mp_value header;
	if (!fields_has(fields, key))
		return mistyped(fields, key, "an array", err);
	*ret_reader = mp_reader_of(fields->values[key]);
	if (mp_read(ret_reader, &header) != 0 || header.type != MP_ARRAY)
		return mistyped(fields, key, "an array", err);
	if (header.count > ARRAY_ELEMENTS_MAX) {
		error_set(err, ERR_TOO_LARGE, "%s: %" PRIu32 " elements, at most %" PRIu32 " in one message",
			key_names[key], header.count, ARRAY_ELEMENTS_MAX);
		error_set_u64(err, EFI_LIMIT, ARRAY_ELEMENTS_MAX);
		error_set_u64(err, EFI_SIZE, header.count);
		return -1;
	}
	*ret_count = header.count;
	return 0;
}

static int element_mistyped(
	const struct fields *fields, enum key key, uint32_t index, const char *expected, struct error *err)
{
	return error_set(err, fields->blame, "%s[%" PRIu32 "]: mistyped, expected %s", key_names[key], index, expected);
}

/* One element that is bytes (or nil): the length of its header, and of what follows. False: it is something else, or
 * cut short. This is the inner loop of a batch of a million small entries: no struct mp_value here. */
static inline bool bytes_header(const uint8_t *at, size_t left, size_t *ret_header, uint64_t *ret_len)
{
	if (left == 0)
		return false;
	uint8_t first = *at;
	if (first == 0xc4 || first == 0xd9) {
		if (left < 2)
			return false;
		*ret_header = 2;
		*ret_len = at[1];
	} else if ((first & 0xe0) == 0xa0) {
		*ret_header = 1;
		*ret_len = first & 0x1f;
	} else if (first == 0xc5 || first == 0xda) {
		if (left < 3)
			return false;
		*ret_header = 3;
		*ret_len = (uint64_t)at[1] << 8 | at[2];
	} else if (first == 0xc6 || first == 0xdb) {
		if (left < 5)
			return false;
		*ret_header = 5;
		*ret_len = (uint64_t)at[1] << 24 | (uint64_t)at[2] << 16 | (uint64_t)at[3] << 8 | at[4];
	} else {
		return false;
	}
	return *ret_len <= left - *ret_header;
}

int field_byte_array(
	const struct fields *fields, enum key key, bool nil_allowed, struct byte_array *ret_array, struct error *err)
{
	struct mp_reader reader;
	uint32_t count;
	if (array_begin(fields, key, &reader, &count, err) != 0)
		return -1;
	struct byte_array array = {.elements.data = reader.at, .count = count};
	const uint8_t *at = reader.at;
	for (uint32_t i = 0; i < count; i++) {
		size_t header;
		uint64_t len;
		if (!bytes_header(at, (size_t)(reader.end - at), &header, &len)) {
			if (!nil_allowed || at == reader.end || *at != 0xc0)
				return element_mistyped(fields, key, i, "bin (or str)", err);
			at++;
			continue;
		}
		at += header + len;
		array.total_bytes += len;
		if (len > array.longest_bytes) {
			array.longest_bytes = len;
			array.longest_index = i;
		}
	}
	array.elements.len = (size_t)(at - reader.at);
	*ret_array = array;
	return 0;
}

struct byte_iter byte_iter_of(const struct byte_array *array)
{
	return (struct byte_iter){.at = array->elements.data, .left = array->count};
}

bool byte_iter_next(struct byte_iter *iter, struct span *ret_bytes)
{
	if (iter->left == 0)
		return false;
	iter->left--;
	size_t header;
	uint64_t len;
	/* Checked when the array was made; the bound here is only for the compiler to fold away. */
	if (!bytes_header(iter->at, SIZE_MAX, &header, &len)) {
		iter->at++;
		*ret_bytes = (struct span){0};
		return true;
	}
	*ret_bytes = (struct span){iter->at + header, (size_t)len};
	iter->at += header + len;
	return true;
}

struct span bytes_at(const uint8_t *encoded)
{
	size_t header = 0;
	uint64_t len = 0;
	(void)bytes_header(encoded, SIZE_MAX, &header, &len);
	return (struct span){encoded + header, (size_t)len};
}

/* The header of an array of two, in any of its forms; 0: it is something else, or cut short. */
static inline size_t pair_header(const uint8_t *at, size_t left)
{
	static const uint8_t wide[] = {0xdc, 0, 2}, widest[] = {0xdd, 0, 0, 0, 2};
	if (left >= 1 && at[0] == 0x92)
		return 1;
	if (left >= sizeof(wide) && memcmp(at, wide, sizeof(wide)) == 0)
		return sizeof(wide);
	return left >= sizeof(widest) && memcmp(at, widest, sizeof(widest)) == 0 ? sizeof(widest) : 0;
}

int field_pair_array(const struct fields *fields, enum key key, struct pair_array *ret_array, struct error *err)
{
	static const char expected[] = "[key, value], both bin (or str)";
	struct mp_reader reader;
	uint32_t count;
	if (array_begin(fields, key, &reader, &count, err) != 0)
		return -1;
	struct pair_array array = {.elements.data = reader.at, .count = count};
	const uint8_t *at = reader.at;
	for (uint32_t i = 0; i < count; i++) {
		size_t header = pair_header(at, (size_t)(reader.end - at));
		uint64_t len = 0;
		if (header == 0)
			return element_mistyped(fields, key, i, expected, err);
		at += header;
		for (unsigned part = 0; part < 2; part++) { /* len is the value's in the end */
			if (!bytes_header(at, (size_t)(reader.end - at), &header, &len))
				return element_mistyped(fields, key, i, expected, err);
			at += header + len;
		}
		if (len > array.longest_bytes) {
			array.longest_bytes = len;
			array.longest_index = i;
		}
	}
	array.elements.len = (size_t)(at - reader.at);
	*ret_array = array;
	return 0;
}

struct pair_iter pair_iter_of(const struct pair_array *array)
{
	return (struct pair_iter){.at = array->elements.data, .left = array->count};
}

bool pair_iter_next(struct pair_iter *iter, struct span *ret_key, struct span *ret_value)
{
	if (iter->left == 0)
		return false;
	iter->left--;
	*ret_key = bytes_at(iter->at + pair_header(iter->at, SIZE_MAX));
	*ret_value = bytes_at(ret_key->data + ret_key->len);
	iter->at = ret_value->data + ret_value->len;
	return true;
}

/* One unsigned integer: the forms that encoders use for them first, the rest by mp_read. The reader moves on success.
 */
static inline bool read_u64(struct mp_reader *reader, uint64_t *ret_value)
{
	struct mp_value value;
	if (mp_read_short_uint(reader, ret_value))
		return true;
	if (mp_read(reader, &value) != 0 || value.type != MP_UINT)
		return false;
	*ret_value = value.u64;
	return true;
}

int field_u64_array(const struct fields *fields, enum key key, struct u64_array *ret_array, struct error *err)
{
	struct mp_reader reader;
	uint32_t count;
	if (array_begin(fields, key, &reader, &count, err) != 0)
		return -1;
	const uint8_t *start = reader.at;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t value;
		if (!read_u64(&reader, &value))
			return element_mistyped(fields, key, i, "an unsigned integer", err);
	}
	*ret_array = (struct u64_array){.elements = {start, (size_t)(reader.at - start)}, .count = count};
	return 0;
}

struct u64_iter u64_iter_of(const struct u64_array *array)
{
	struct mp_reader reader = mp_reader_of(array->elements);
	return (struct u64_iter){.at = reader.at, .end = reader.end, .left = array->count};
}

bool u64_iter_next(struct u64_iter *iter, uint64_t *ret_value)
{
	if (iter->left == 0)
		return false;
	struct mp_reader reader = {iter->at, iter->end};
	if (!read_u64(&reader, ret_value))
		return false;
	iter->at = reader.at;
	iter->left--;
	return true;
}
