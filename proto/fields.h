/*
 * fields: a map of params or results, by name, with typed getters.
 *
 * Owns nothing: values are spans into the message's bytes, which must stay as they are while these are used. Any thread
 * may read. Invariant: a key is present only if its value is well-formed and not nil; if a key came twice, the last
 * counts; unknown keys are passed over.
 *
 * Getters return 0, or -1 with *err filled: code `blame` (BadRequest for params, Serialization for results), and a
 * message that names the field. What they return is untouched on failure.
 */
#ifndef IRONWALD_FIELDS_H
#define IRONWALD_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "mp_read.h"
#include "mp_write.h"

/* More in one request is TooLarge. */
#define ARRAY_ELEMENTS_MAX UINT32_C(1048576)
/* Elements of arrays, and keys and values of maps, of a whole request: a batch of the most elements with three values
 * each, and the rest of the request. More is TooLarge. */
#define REQUEST_VALUES_MAX (3 * ARRAY_ELEMENTS_MAX + 1024)
#define STREAM_BYTES_MAX 255

enum key {
#define KEY(suffix, name) KEY_##suffix,
#include "keys.def"
#undef KEY
	KEY_TOTAL,
};

struct fields {
	uint64_t present; /* bit per key */
	enum error_code blame;
	struct span values[KEY_TOTAL]; /* encoded; meaningful only if present */
};

const char *key_name(enum key key);
void mp_write_key(struct mp_writer *writer, enum key key);
/* With its value. */
void mp_write_key_u64(struct mp_writer *writer, enum key key, uint64_t value);
void mp_write_key_bool(struct mp_writer *writer, enum key key, bool value);

/* Reads one whole map at the reader, checking all of it. -1: malformed, not a map, or a key that is not a str. */
int fields_read(struct fields *fields, struct mp_reader *reader, enum error_code blame);
/* -1 also if the budget is over then; what is behind that was not looked at. */
int fields_read_within(
	struct fields *fields, struct mp_reader *reader, struct mp_budget *budget, enum error_code blame);

static inline bool fields_has(const struct fields *fields, enum key key)
{
	return (fields->present >> key & 1) != 0;
}

/* Required ones. For an optional one, ask fields_has first or use the form with a default. */
int field_u64(const struct fields *fields, enum key key, uint64_t *ret_value, struct error *err);
int field_bool(const struct fields *fields, enum key key, bool *ret_value, struct error *err);
int field_bytes(const struct fields *fields, enum key key, struct span *ret_bytes, struct error *err); /* bin or str */
int field_str(const struct fields *fields, enum key key, struct span *ret_bytes, struct error *err);   /* str, UTF-8 */
/* KEY_STREAM: as field_str; a length that is not 1 to 255 is ERR_INVALID_FILENAME with the name. */
int field_stream(const struct fields *fields, struct span *ret_name, struct error *err);

int field_u64_or(const struct fields *fields, enum key key, uint64_t absent, uint64_t *ret_value, struct error *err);
int field_bool_or(const struct fields *fields, enum key key, bool absent, bool *ret_value, struct error *err);

/* An array whose elements were all checked to be bytes (bin or str, or nil where that is allowed). */
struct byte_array {
	struct span elements; /* encoded, without the array's header */
	uint32_t count;
	uint32_t longest_index;
	uint64_t total_bytes; /* sum of the lengths */
	uint64_t longest_bytes;
};

/* One pass over the elements. Over ARRAY_ELEMENTS_MAX elements: ERR_TOO_LARGE with limit and size. */
int field_byte_array(
	const struct fields *fields, enum key key, bool nil_allowed, struct byte_array *ret_array, struct error *err);

/* Goes through a byte_array in place. It needs no error: the elements were checked. Copyable. */
struct byte_iter {
	const uint8_t *at;
	uint32_t left;
};

struct byte_iter byte_iter_of(const struct byte_array *array);
/* False at the end. A nil element has data NULL; an empty one does not. */
bool byte_iter_next(struct byte_iter *iter, struct span *ret_bytes);

/* An array of [key, value], both checked to be bytes (bin or str). */
struct pair_array {
	struct span elements; /* encoded, without the array's header */
	uint32_t count;
	uint32_t longest_index;
	uint64_t longest_bytes; /* of a value */
};

/* One pass over the elements. Errors as field_byte_array. */
int field_pair_array(const struct fields *fields, enum key key, struct pair_array *ret_array, struct error *err);

struct pair_iter {
	const uint8_t *at;
	uint32_t left;
};

struct pair_iter pair_iter_of(const struct pair_array *array);
/* False at the end. It needs no error: the elements were checked. */
bool pair_iter_next(struct pair_iter *iter, struct span *ret_key, struct span *ret_value);

/* The bytes whose encoding (bin or str, checked before) begins at `encoded`. */
struct span bytes_at(const uint8_t *encoded);

/* An array of unsigned integers, all checked. */
struct u64_array {
	struct span elements;
	uint32_t count;
};

int field_u64_array(const struct fields *fields, enum key key, struct u64_array *ret_array, struct error *err);

struct u64_iter {
	const uint8_t *at, *end;
	uint32_t left;
};

struct u64_iter u64_iter_of(const struct u64_array *array);
bool u64_iter_next(struct u64_iter *iter, uint64_t *ret_value);

#endif
