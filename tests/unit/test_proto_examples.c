/* PROTOCOL.md: its examples say what they claim, our codec reads them and writes the same bytes, and nothing of the
 * tables (methods, errors, names) is missing from the page. */
#include <criterion/criterion.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "frame.h"
#include "message.h"
#include "shard_key.h"

struct example {
	char name[64], kind[32];
	bool has_meaning, wide;
	uint32_t msgid;
	uint64_t limit;
	struct buf meaning, bytes;
};

static char *page;

static void read_page(void)
{
	FILE *file = fopen(PROTOCOL_MD, "rb");
	cr_assert(file != NULL, "cannot open %s", PROTOCOL_MD);
	struct buf buf = {0};
	char piece[4096];
	size_t got;
	while ((got = fread(piece, 1, sizeof(piece), file)) > 0)
		cr_assert(buf_append(&buf, piece, got) == 0, "memory");
	fclose(file);
	cr_assert(buf_append(&buf, "", 1) == 0, "memory");
	page = (char *)buf.data;
}

static void free_page(void)
{
	free(page);
}

TestSuite(examples, .init = read_page, .fini = free_page);

/* ---- the blocks ------------------------------------------------------------------------------------------------ */

static void add_hex(struct buf *bytes, const char *text, size_t len)
{
	for (size_t i = 0; i < len;) {
		if (text[i] == ' ') {
			i++;
			continue;
		}
		char pair[3] = {text[i], i + 1 < len ? text[i + 1] : '\0', '\0'}, *end;
		uint8_t byte = (uint8_t)strtoul(pair, &end, 16);
		cr_assert(end == pair + 2, "bad hex: %.*s", (int)len, text);
		cr_assert(buf_append(bytes, &byte, 1) == 0, "memory");
		i += 2;
	}
}

static bool starts(const char *line, size_t len, const char *word, const char **ret_rest, size_t *ret_len)
{
	size_t word_len = strlen(word);
	if (len < word_len || memcmp(line, word, word_len) != 0)
		return false;
	*ret_rest = line + word_len;
	*ret_len = len - word_len;
	return true;
}

/* Reads one block; *at stands behind its first line, and behind its last one afterwards. */
static void read_block(const char **at, struct example *example)
{
	enum { OTHER, MEANING, HEX } in = OTHER;
	for (;;) {
		const char *line = *at, *rest;
		const char *end = strchr(line, '\n');
		cr_assert(end != NULL, "%s: no end", example->name);
		size_t len = (size_t)(end - line), rest_len;
		*at = end + 1;
		if (starts(line, len, "```", &rest, &rest_len))
			return;
		if (starts(line, len, "  ", &rest, &rest_len)) {
			cr_assert(in != OTHER, "%s: a continuation of nothing", example->name);
			if (in == HEX) {
				add_hex(&example->bytes, rest, rest_len);
			} else {
				buf_append(&example->meaning, " ", 1);
				buf_append(&example->meaning, rest, rest_len);
			}
			continue;
		}
		in = OTHER;
		if (starts(line, len, "kind: ", &rest, &rest_len)) {
			snprintf(example->kind, sizeof(example->kind), "%.*s", (int)rest_len, rest);
		} else if (starts(line, len, "meaning: ", &rest, &rest_len)) {
			in = MEANING;
			example->has_meaning = true;
			buf_append(&example->meaning, rest, rest_len);
		} else if (starts(line, len, "hex: ", &rest, &rest_len)) {
			in = HEX;
			add_hex(&example->bytes, rest, rest_len);
		} else if (starts(line, len, "msgid: ", &rest, &rest_len)) {
			example->msgid = (uint32_t)strtoul(rest, NULL, 10);
		} else if (starts(line, len, "limit: ", &rest, &rest_len)) {
			example->limit = strtoull(rest, NULL, 10);
		} else if (starts(line, len, "form: wide", &rest, &rest_len)) {
			example->wide = true;
		} else {
			cr_assert(starts(line, len, "why: ", &rest, &rest_len), "%s: what is '%.*s'?", example->name,
				(int)len, line);
		}
	}
}

/* The next block from *at on; false if there is none. */
static bool next_example(const char **at, struct example *ret)
{
	static const char opening[] = "\n```example ";
	const char *found = strstr(*at, opening);
	if (found == NULL)
		return false;
	*ret = (struct example){0};
	const char *name = found + sizeof(opening) - 1;
	const char *end = strchr(name, '\n');
	snprintf(ret->name, sizeof(ret->name), "%.*s", (int)(end - name), name);
	*at = end + 1;
	read_block(at, ret);
	cr_assert(ret->bytes.len >= FRAME_LENGTH_BYTES, "%s: no frame", ret->name);
	return true;
}

static void free_example(struct example *example)
{
	buf_free(&example->meaning);
	buf_free(&example->bytes);
}

static struct span payload_of(const struct example *example)
{
	struct span payload = {0};
	size_t total;
	cr_assert(frame_next(example->bytes.data, example->bytes.len, 1U << 24, &payload, &total) == FRAME_READY &&
			  total == example->bytes.len,
		"%s: the frame's length is wrong", example->name);
	return payload;
}

/* ---- what the bytes say, as in the page; and the bytes again ---------------------------------------------------- */

static void put(struct buf *out, const char *text)
{
	cr_assert(buf_append(out, text, strlen(text)) == 0, "memory");
}

static void show_quoted(struct buf *out, struct span bytes)
{
	put(out, "\"");
	for (size_t i = 0; i < bytes.len; i++) {
		char text[8];
		uint8_t byte = bytes.data[i];
		if (byte == '"' || byte == '\\')
			snprintf(text, sizeof(text), "\\%c", byte);
		else if (byte >= 0x20 && byte < 0x7f)
			snprintf(text, sizeof(text), "%c", byte);
		else
			snprintf(text, sizeof(text), "\\x%02x", byte);
		put(out, text);
	}
	put(out, "\"");
}

/* One value: as text to `out`, and encoded again through our writer. Examples are not nested deeply. */
static void transcode(struct mp_reader *reader, struct buf *out, struct mp_writer *writer)
{
	struct mp_value value;
	char number[32];
	cr_assert(mp_read(reader, &value) == 0, "well-formed");
	switch (value.type) {
	case MP_NIL:
		put(out, "nil");
		mp_write_nil(writer);
		break;
	case MP_BOOL:
		put(out, value.boolean ? "true" : "false");
		mp_write_bool(writer, value.boolean);
		break;
	case MP_UINT:
		snprintf(number, sizeof(number), "%" PRIu64, value.u64);
		put(out, number);
		mp_write_u64(writer, value.u64);
		break;
	case MP_NEGATIVE:
		snprintf(number, sizeof(number), "%" PRId64, value.i64);
		put(out, number);
		mp_write_i64(writer, value.i64);
		break;
	case MP_STR:
		show_quoted(out, value.bytes);
		mp_write_str_len(writer, value.bytes.data, value.bytes.len);
		break;
	case MP_BIN:
		put(out, "b");
		show_quoted(out, value.bytes);
		mp_write_bin(writer, value.bytes.data, value.bytes.len);
		break;
	case MP_ARRAY:
	case MP_MAP: {
		bool map = value.type == MP_MAP;
		put(out, map ? "{" : "[");
		if (map)
			mp_write_map(writer, value.count);
		else
			mp_write_array(writer, value.count);
		for (uint32_t i = 0; i < value.count; i++) {
			put(out, i > 0 ? ", " : "");
			transcode(reader, out, writer);
			if (map) {
				put(out, ": ");
				transcode(reader, out, writer);
			}
		}
		put(out, map ? "}" : "]");
		break;
	}
	case MP_FLOAT:
	case MP_EXT:
		cr_assert(false, "no example has these");
	}
}

static void check_meaning(const struct example *example, struct span payload)
{
	struct buf text = {0}, again = {0};
	struct mp_writer writer;
	struct mp_reader reader = mp_reader_of(payload);
	mp_writer_init(&writer, &again);
	frame_begin(&writer);
	transcode(&reader, &text, &writer);
	cr_assert(frame_end(&writer) == 0 && reader.at == reader.end, "%s: one value", example->name);
	cr_assert(example->has_meaning, "%s: no meaning", example->name);
	cr_assert(text.len == example->meaning.len && memcmp(text.data, example->meaning.data, text.len) == 0,
		"%s:\n  the page says %.*s\n  the bytes say %.*s", example->name, (int)example->meaning.len,
		(const char *)example->meaning.data, (int)text.len, (const char *)text.data);
	bool same = again.len == example->bytes.len && memcmp(again.data, example->bytes.data, again.len) == 0;
	cr_assert(same == !example->wide, "%s: encoded again", example->name);
	buf_free(&text);
	buf_free(&again);
}

/* ---- each kind through the codec ------------------------------------------------------------------------------- */

/* The pairs of a map, raw, behind what `writer` holds; then the frame must be the example's. */
static void check_again(const struct example *example, struct mp_writer *writer, struct buf *again, struct span map)
{
	struct mp_reader reader = mp_reader_of(map);
	struct mp_value header;
	cr_assert(mp_read(&reader, &header) == 0, "%s", example->name);
	mp_write_raw(writer, reader.at, (size_t)(reader.end - reader.at));
	cr_assert(frame_end(writer) == 0, "%s", example->name);
	cr_assert(again->len == example->bytes.len && memcmp(again->data, example->bytes.data, again->len) == 0,
		"%s: our encoder writes other bytes", example->name);
	buf_free(again);
}

static void check_request(const struct example *example, struct span payload)
{
	struct request request;
	struct error err;
	cr_assert(request_decode(payload, &request, &err) == 0, "%s: %s", example->name, err.message);
	bool notification = strcmp(example->kind, "notification") == 0;
	cr_assert(request.notification == notification, "%s", example->name);
	cr_assert(request.method != METHOD_UNKNOWN, "%s: method", example->name);
	if (notification || example->wide)
		return;
	struct buf again = {0};
	struct mp_writer writer;
	mp_writer_init(&writer, &again);
	struct span params = {request.method_name.data + request.method_name.len, 0};
	params.len = (size_t)(payload.data + payload.len - params.data);
	struct mp_reader reader = mp_reader_of(params);
	struct mp_value header;
	cr_assert(mp_read(&reader, &header) == 0 && header.type == MP_MAP, "%s: params", example->name);
	request_begin(&writer, request.msgid, request.method, header.count);
	check_again(example, &writer, &again, params);
	/* Every parameter of an example is one that we know. */
	unsigned known = 0;
	for (unsigned key = 0; key < KEY_TOTAL; key++)
		known += fields_has(&request.params, (enum key)key);
	cr_assert(known == header.count, "%s: a parameter that is not in keys.def", example->name);
}

static void check_response(const struct example *example, struct span payload)
{
	struct response response;
	struct error err;
	bool notification;
	cr_assert(response_decode(payload, &response, &notification, &err) == 0 && !notification, "%s: %s",
		example->name, err.message);
	struct buf again = {0};
	struct mp_writer writer;
	mp_writer_init(&writer, &again);
	if (strcmp(example->kind, "response") == 0) {
		struct mp_reader reader = mp_reader_of(response.result);
		struct mp_value header;
		cr_assert(response.error.data == NULL, "%s: an error", example->name);
		cr_assert(mp_read(&reader, &header) == 0, "%s: result", example->name);
		response_begin(&writer, response.msgid, header.count);
		check_again(example, &writer, &again, response.result);
		return;
	}
	cr_assert(response.error.data != NULL && response.result.data == NULL, "%s: no error", example->name);
	error_decode(response.error, &err);
	cr_assert(err.code != ERR_OTHER && err.code != ERR_NONE, "%s: a code of the table", example->name);
	uint32_t required = error_required_fields(err.code), optional = error_optional_fields(err.code);
	cr_assert((err.fields & required) == required, "%s: lacks a field that it always has", example->name);
	cr_assert((err.fields & ~(required | optional)) == 0, "%s: a field that is not its own", example->name);
	/* What shard_append_batch adds to an error is no field of it. */
	struct span results;
	bool in_part = mp_map_find(response.error, "results", &results) == 0;
	response_error_begin(&writer, response.msgid, &err, in_part);
	if (in_part) {
		mp_write_key(&writer, KEY_RESULTS);
		mp_write_raw(&writer, results.data, results.len);
	}
	cr_assert(response_error_end(&writer) == 0, "%s", example->name);
	cr_assert(again.len == example->bytes.len && memcmp(again.data, example->bytes.data, again.len) == 0,
		"%s: our encoder writes other bytes", example->name);
	buf_free(&again);
}

static void check_refused(const struct example *example)
{
	struct span payload = {0};
	struct request request;
	struct error err;
	size_t total;
	if (strcmp(example->kind, "over") == 0) {
		cr_assert(frame_next(example->bytes.data, example->bytes.len, example->limit, &payload, &total) ==
				  FRAME_OVER,
			"%s: not over", example->name);
		return;
	}
	cr_assert(strcmp(example->kind, "malformed") == 0, "%s: what kind is '%s'?", example->name, example->kind);
	payload = payload_of(example);
	cr_assert(request_decode(payload, &request, &err) == -1 && err.code == ERR_BAD_REQUEST, "%s", example->name);
	cr_assert(request.msgid == example->msgid, "%s: msgid %u", example->name, request.msgid);
}

Test(examples, replay)
{
	const char *at = page;
	struct example example;
	unsigned count = 0;
	for (; next_example(&at, &example); count++) {
		const char *kind = example.kind;
		bool request = strcmp(kind, "request") == 0 || strcmp(kind, "notification") == 0;
		bool response = strcmp(kind, "response") == 0 || strcmp(kind, "error") == 0;
		if (request || response) {
			struct span payload = payload_of(&example);
			check_meaning(&example, payload);
			if (request)
				check_request(&example, payload);
			else
				check_response(&example, payload);
		} else {
			check_refused(&example);
		}
		free_example(&example);
	}
	cr_assert(count > 85, "only %u examples were found", count);
}

/* ---- nothing is left out ---------------------------------------------------------------------------------------- */

static bool has_example_of(const char *kind, const char *needle)
{
	const char *at = page;
	struct example example;
	bool found = false;
	while (!found && next_example(&at, &example)) {
		found = strcmp(example.kind, kind) == 0 &&
			memmem(example.meaning.data, example.meaning.len, needle, strlen(needle)) != NULL;
		free_example(&example);
	}
	return found;
}

Test(examples, every_method_has_one)
{
#define METHOD(suffix, name, right)                                                                                    \
	cr_assert(has_example_of("request", ", \"" name "\", {"), "no example of " name);                              \
	cr_assert(strstr(page, "\n### " name "\n") != NULL, "no section " name);
#include "methods.def"
#undef METHOD
}

Test(examples, every_error_has_one_and_a_row_with_its_fields)
{
	for (unsigned code = ERR_NONE + 1; code < ERR_OTHER; code++) {
		char needle[64];
		const char *name = error_code_name((enum error_code)code);
		snprintf(needle, sizeof(needle), "{\"code\": \"%s\"", name);
		cr_assert(has_example_of("error", needle), "no example of %s", name);
		snprintf(needle, sizeof(needle), "\n| `%s` |", name);
		const char *row = strstr(page, needle);
		cr_assert(row != NULL, "no row of %s", name);
		char *line = strndup(row + 1, strcspn(row + 1, "\n"));
		for (unsigned field = 0; field < EFI_COUNT; field++) {
			uint32_t bit = UINT32_C(1) << field;
			snprintf(needle, sizeof(needle), "`%s`", error_field_name((enum error_field)field));
			if (error_required_fields((enum error_code)code) & bit)
				cr_assert(strstr(line, needle) != NULL, "%s lacks %s", name, needle);
			snprintf(needle, sizeof(needle), "[`%s`]", error_field_name((enum error_field)field));
			if (error_optional_fields((enum error_code)code) & bit)
				cr_assert(strstr(line, needle) != NULL, "%s lacks %s", name, needle);
		}
		free(line);
	}
}

/* A client computes shards from this page: its table is what the server's function says. */
Test(examples, keys_and_their_shards)
{
	static char long_key[300];
	memset(long_key, 'x', sizeof(long_key));
	const struct {
		const char *told, *key;
		size_t len;
	} rows[] = {
		{"(empty)", "", 0},
		{"`a`", "a", 1},
		{"`user-17`", "user-17", 7},
		{"`user-18`", "user-18", 7},
		{"300 times `x`", long_key, sizeof(long_key)},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char row[64];
		snprintf(row, sizeof(row), "\n| %s | ", rows[i].told);
		const char *at = strstr(page, row);
		cr_assert(at != NULL, "no row of %s", rows[i].told);
		char *end;
		uint64_t hash = strtoull(at + strlen(row), &end, 16);
		static const uint32_t counts[] = {1, 4, 1000, 65535};
		for (size_t k = 0; k < sizeof(counts) / sizeof(counts[0]); k++)
			cr_assert(shard_of_key(rows[i].key, rows[i].len, counts[k]) == hash % counts[k], "%s mod %u",
				rows[i].told, counts[k]);
		snprintf(row, sizeof(row), " | %u |\n", (unsigned)(hash % 4));
		cr_assert(strncmp(end, row, strlen(row)) == 0, "%s: its shard of 4", rows[i].told);
	}
}

Test(examples, every_name_is_told)
{
	for (unsigned key = 0; key < KEY_TOTAL; key++) {
		char needle[64];
		snprintf(needle, sizeof(needle), "`%s`", key_name((enum key)key));
		cr_assert(strstr(page, needle) != NULL, "%s is not in the page", needle);
	}
	/* The figures of the page are those of the code. */
	char text[64];
	cr_assert(strstr(page, "1,048,576") != NULL && ARRAY_ELEMENTS_MAX == 1048576, "elements");
	snprintf(text, sizeof(text), "nested more than %d deep", MP_DEPTH_MAX);
	cr_assert(strstr(page, text) != NULL, "nesting");
	cr_assert(strstr(page, "less 1,024 bytes") != NULL && ENTRY_OVERHEAD_BYTES == 1024, "entry limit");
	snprintf(text, sizeof(text), "1 to %d bytes of UTF-8", STREAM_BYTES_MAX);
	cr_assert(strstr(page, text) != NULL, "names");
}
