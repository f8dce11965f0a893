/* messages: shapes, params, arrays in place, and what a hostile or broken peer sends. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "buf.h"
#include "clock.h"
#include "frame.h"
#include "message.h"

#define SPAN(text) ((struct span){(const uint8_t *)(text), sizeof(text) - 1})

static struct buf buf;
static struct mp_writer w;

static void start(void)
{
	buf.len = 0;
	mp_writer_init(&w, &buf);
}

/* The payload of the only frame in buf. */
static struct span finish(void)
{
	struct span payload = {0};
	size_t total;
	cr_assert(frame_end(&w) == 0, "frame_end");
	cr_assert(
		frame_next(buf.data, buf.len, 1U << 30, &payload, &total) == FRAME_READY && total == buf.len, "frame");
	return payload;
}

static void free_buf(void)
{
	buf_free(&buf);
}

static bool says(const struct error *e, const char *word)
{
	return strstr(e->message, word) != NULL;
}

TestSuite(message, .fini = free_buf);
TestSuite(fields, .fini = free_buf);

/* ---- requests ------------------------------------------------------------------------------------------------- */

static struct span append_request(void)
{
	start();
	request_begin(&w, 0xfffffffe, METHOD_APPEND, 4);
	mp_write_key(&w, KEY_STREAM);
	mp_write_str(&w, "orders");
	mp_write_key(&w, KEY_ENTRY);
	mp_write_bin(&w, "hello", 5);
	mp_write_key(&w, KEY_EXPECTED_ID);
	mp_write_u64(&w, UINT64_MAX);
	mp_write_key(&w, KEY_SYNC);
	mp_write_bool(&w, true);
	return finish();
}

Test(message, a_request_there_and_back)
{
	struct request r;
	struct error e;
	struct span stream, entry;
	uint64_t expected;
	bool sync;
	cr_assert(request_decode(append_request(), &r, &e) == 0, "decode");
	cr_assert(!r.notification && r.msgid == 0xfffffffe && r.method == METHOD_APPEND, "envelope");
	cr_assert(field_stream(&r.params, &stream, &e) == 0 && stream.len == 6 && memcmp(stream.data, "orders", 6) == 0,
		"stream");
	cr_assert(field_bytes(&r.params, KEY_ENTRY, &entry, &e) == 0 && entry.len == 5, "entry");
	cr_assert(entry.data > buf.data && entry.data < buf.data + buf.len, "in place");
	cr_assert(field_u64(&r.params, KEY_EXPECTED_ID, &expected, &e) == 0 && expected == UINT64_MAX, "expected_id");
	cr_assert(field_bool_or(&r.params, KEY_SYNC, false, &sync, &e) == 0 && sync, "sync");
	cr_assert(!fields_has(&r.params, KEY_IDS), "not there");
}

Test(message, every_method_by_name)
{
#define METHOD(suffix, name, right)                                                                                    \
	cr_assert(method_from_name(name, strlen(name)) == METHOD_##suffix, name);                                      \
	cr_assert(strcmp(method_name(METHOD_##suffix), name) == 0, name);                                              \
	cr_assert(method_right(METHOD_##suffix) == RIGHT_##right, name);
#include "methods.def"
#undef METHOD
	cr_assert(method_from_name("", 0) == METHOD_UNKNOWN && method_from_name("pin", 3) == METHOD_UNKNOWN, "others");
}

Test(message, an_unknown_method_is_named)
{
	struct request r;
	struct error e;
	cr_assert(request_decode(SPAN("\x94\x00\x05\xa4"
				      "frob\x80"),
			  &r, &e) == 0 &&
			  r.method == METHOD_UNKNOWN,
		"shape");
	cr_assert(request_unknown_method(&r, &e) == -1 && e.code == ERR_UNKNOWN_METHOD, "code");
	cr_assert(strcmp(e.method.bytes, "frob") == 0 && says(&e, "frob"), "%s", e.message);
}

Test(message, a_notification_is_no_request)
{
	struct request r;
	struct error e;
	cr_assert(request_decode(SPAN("\x93\x02\xa4"
				      "ping\x80"),
			  &r, &e) == 0,
		"decode");
	cr_assert(r.notification && r.msgid == 0, "notification");
}

Test(message, other_shapes_are_refused_with_the_msgid_if_there_is_one)
{
	const struct {
		struct span payload;
		uint32_t msgid;
		const char *why;
	} bad[] = {
		{SPAN(""), 0, "empty"},
		{SPAN("\xc1"), 0, "not MessagePack"},
		{SPAN("\xc0"), 0, "not a message"},
		{SPAN("\x90"), 0, "not a message"},
		{SPAN("\x80"), 0, "not a message"},
		{SPAN("\x01"), 0, "not a message"},
		{SPAN("\x92\x00\x05"), 5, "not a message"},
		{SPAN("\x94\x01\x05\xc0\xc0"), 5, "not a message"}, /* a response */
		{SPAN("\x94\x03\x05\xa4"
		      "ping\x80"),
			0, "not a message"}, /* no such type */
		{SPAN("\x95\x00\x05\xa4"
		      "ping\x80\xc0"),
			5, "not a message"}, /* five elements */
		{SPAN("\x93\x00\x05\xa4"
		      "ping"),
			5, "not a message"}, /* three */
		{SPAN("\x94\x00\xff\xa4"
		      "ping\x80"),
			0, "not a message"}, /* a negative msgid */
		{SPAN("\x94\x00\xcf\0\0\0\x01\0\0\0\0\xa4"
		      "ping\x80"),
			0, "not a message"}, /* over 32 bits */
		{SPAN("\x94\x00\xa1"
		      "5\xa4"
		      "ping\x80"),
			0, "not a message"}, /* a str */
		{SPAN("\x94\x00\x05\xc4\x04"
		      "ping\x80"),
			5, "not a message"},			    /* the method as bin */
		{SPAN("\x94\x00\x05\x07\x80"), 5, "not a message"}, /* the method as a number */
		{SPAN("\x94\x00\x05\xa4"
		      "ping\x90"),
			5, "not a message"}, /* params an array */
		{SPAN("\x94\x00\x05\xa4"
		      "ping\xc0"),
			5, "not a message"}, /* params nil */
		{SPAN("\x94\x00\x05\xa4"
		      "ping\x81\x01\x02"),
			5, "not a message"}, /* a key that is no str */
		{SPAN("\x94\x00\x05\xa4"
		      "ping\x81\xc4\x01"
		      "a\x02"),
			5, "not a message"}, /* a key that is bin */
		{SPAN("\x94\x00\x05\xa4"
		      "ping\x80\xc0"),
			5, "1 bytes behind"},
		{SPAN("\x94\x00\x05\xa4"
		      "ping\x80\xc1"),
			5, "1 bytes behind"},
		{SPAN("\x94\x00\x05\xa4"
		      "ping\x81\xa1"
		      "a"),
			5, "not MessagePack"},
		{SPAN("\x94\x00\x05\xa4"
		      "ping\x81\xa1"
		      "a\xc1"),
			5, "not MessagePack"},
		{SPAN("\x94\x00\x05\xdb\xff\xff\xff\xff"
		      "ping\x80"),
			5, "not MessagePack"},
		{SPAN("\x94\x00\x05\xa4"
		      "ping\xdf\xff\xff\xff\xff"),
			5, "not MessagePack"},
		{SPAN("\x94\x00\x05"), 5, "not MessagePack"},
		{SPAN("\x94\x00"), 0, "not MessagePack"},
		{SPAN("\x94"), 0, "not MessagePack"},
		{SPAN("\xdd\xff\xff\xff\xff\x00\x05\xa4"
		      "ping\x80"),
			5, "not MessagePack"},
		{SPAN("\xdc\x00"), 0, "not MessagePack"},
		{SPAN("GET / HTTP/1.1\r\n\r\n"), 0, "behind"},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct request r = {.msgid = 99, .notification = true};
		struct error e;
		cr_assert(request_decode(bad[i].payload, &r, &e) == -1, "message %zu", i);
		cr_assert(e.code == ERR_BAD_REQUEST && says(&e, bad[i].why), "message %zu: %s", i, e.message);
		cr_assert(r.msgid == bad[i].msgid && !r.notification, "message %zu: msgid %u", i, r.msgid);
	}
	/* The same shape with the widest forms is the same message. */
	struct request r;
	struct error e;
	cr_assert(request_decode(SPAN("\xdd\0\0\0\x04\xcf\0\0\0\0\0\0\0\0\xd3\0\0\0\0\0\0\0\x05\xdb\0\0\0\x04"
				      "ping"
				      "\xdf\0\0\0\0"),
			  &r, &e) == 0 &&
			  r.method == METHOD_PING && r.msgid == 5,
		"wide");
}

Test(message, cut_at_every_byte)
{
	struct span whole = append_request();
	struct request r;
	struct error e;
	for (size_t cut = 0; cut < whole.len; cut++) {
		uint8_t *copy = malloc(cut + 1);
		memcpy(copy + 1, whole.data, cut);
		cr_assert(request_decode((struct span){copy + 1, cut}, &r, &e) == -1, "cut to %zu", cut);
		cr_assert(r.msgid == (cut < 7 ? 0 : 0xfffffffe), "cut to %zu: msgid %u", cut, r.msgid);
		free(copy);
	}
}

Test(message, deep_nesting_in_params_is_refused)
{
	enum { DEEP = 100000 };
	static uint8_t nest[DEEP];
	struct request r;
	struct error e;
	memset(nest, 0x91, sizeof(nest));
	for (size_t depth = 0; depth <= DEEP; depth = depth < 70 ? depth + 1 : depth < 1000 ? 1000 : depth * 10) {
		start();
		request_begin(&w, 1, METHOD_PING, 1);
		mp_write_str(&w, "unknown");
		mp_write_raw(&w, nest, depth);
		mp_write_nil(&w);
		cr_assert((request_decode(finish(), &r, &e) == 0) == (depth <= MP_DEPTH_MAX), "depth %zu", depth);
	}
}

/* ---- fields --------------------------------------------------------------------------------------------------- */

/* Decodes [0, 1, "get", params]. */
static int with_params(struct span params, struct request *ret_request, struct error *err)
{
	start();
	frame_begin(&w);
	mp_write_raw(&w,
		"\x94\x00\x01\xa3"
		"get",
		7);
	mp_write_raw(&w, params.data, params.len);
	return request_decode(finish(), ret_request, err);
}

Test(fields, nil_is_absent_unknown_is_passed_over_the_last_counts)
{
	struct request r;
	struct error e;
	uint64_t id = 9;
	bool sync = false;
	cr_assert(with_params(SPAN("\x85\xa2"
				   "id\x01\xa4"
				   "what\x93\x01\x02\x03\xa2"
				   "id\x02\xa4"
				   "sync\xc0\xa0\xc0"),
			  &r, &e) == 0,
		"decode");
	cr_assert(field_u64(&r.params, KEY_ID, &id, &e) == 0 && id == 2, "the last");
	cr_assert(!fields_has(&r.params, KEY_SYNC), "nil");
	cr_assert(field_bool_or(&r.params, KEY_SYNC, true, &sync, &e) == 0 && sync, "the default");
	cr_assert(with_params(SPAN("\x82\xa2"
				   "id\x01\xa2"
				   "id\xc0"),
			  &r, &e) == 0,
		"decode");
	cr_assert(field_u64(&r.params, KEY_ID, &id, &e) == -1, "nil last: absent");
}

Test(fields, every_key_by_name)
{
#define KEY(suffix, name)                                                                                              \
	do {                                                                                                           \
		struct fields fields;                                                                                  \
		start();                                                                                               \
		mp_write_map(&w, 1);                                                                                   \
		mp_write_key(&w, KEY_##suffix);                                                                        \
		mp_write_u64(&w, 7);                                                                                   \
		struct mp_reader reader = {buf.data, buf.data + buf.len};                                              \
		cr_assert(fields_read(&fields, &reader, ERR_BAD_REQUEST) == 0, name);                                  \
		cr_assert(fields.present == UINT64_C(1) << KEY_##suffix, name);                                        \
		cr_assert(strcmp(key_name(KEY_##suffix), name) == 0, name);                                            \
	} while (0);
#include "keys.def"
#undef KEY
}

/* What is written in one go is what the pieces make. */
Test(fields, in_one_go_is_the_same)
{
	static const uint64_t numbers[] = {
		0, 127, 128, 255, 256, 65535, 65536, UINT32_MAX, UINT64_C(1) << 32, UINT64_MAX};
	struct buf whole = {0}, pieces = {0};
	struct mp_writer one, by_one;
	mp_writer_init(&one, &whole);
	mp_writer_init(&by_one, &pieces);
	for (unsigned key = 0; key < KEY_TOTAL; key++)
		for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
			uint32_t msgid = (uint32_t)numbers[i];
			response_begin(&one, msgid, i * 2);
			frame_begin(&by_one);
			mp_write_array(&by_one, 4);
			mp_write_u64(&by_one, 1);
			mp_write_u64(&by_one, msgid);
			mp_write_nil(&by_one);
			mp_write_map(&by_one, i * 2);
			mp_write_key_u64(&one, (enum key)key, numbers[i]);
			mp_write_key(&by_one, (enum key)key);
			mp_write_u64(&by_one, numbers[i]);
			mp_write_key_bool(&one, (enum key)key, i % 2 == 0);
			mp_write_key(&by_one, (enum key)key);
			mp_write_bool(&by_one, i % 2 == 0);
			cr_assert(frame_end(&one) == 0 && frame_end(&by_one) == 0);
			cr_assert(whole.len == pieces.len && memcmp(whole.data, pieces.data, whole.len) == 0, "%s",
				key_name((enum key)key));
		}
	buf_free(&whole);
	buf_free(&pieces);
}

Test(fields, missing_and_mistyped_are_named)
{
	struct request r;
	struct error e;
	uint64_t u64 = 77;
	bool boolean = true;
	struct span span = SPAN("untouched");
	struct byte_array array;
	struct u64_array ids;
	/* {"id": -1, "sync": 1, "entry": 5, "stream": bin, "prefix": str not UTF-8, "entries": {}, "ids": "x"} */
	cr_assert(with_params(SPAN("\x87\xa2"
				   "id\xff\xa4"
				   "sync\x01\xa5"
				   "entry\x05\xa6"
				   "stream\xc4\x01"
				   "a\xa6"
				   "prefix\xa1\xff\xa7"
				   "entries\x80\xa3"
				   "ids\xa1x"),
			  &r, &e) == 0,
		"decode");
	cr_assert(field_u64(&r.params, KEY_ID, &u64, &e) == -1 && says(&e, "id: mistyped"), "%s", e.message);
	cr_assert(e.code == ERR_BAD_REQUEST && e.fields == 0, "code");
	cr_assert(field_u64_or(&r.params, KEY_ID, 5, &u64, &e) == -1, "a default does not hide a wrong type");
	cr_assert(field_u64(&r.params, KEY_LIMIT, &u64, &e) == -1 && says(&e, "limit: missing"), "%s", e.message);
	cr_assert(field_bool(&r.params, KEY_SYNC, &boolean, &e) == -1 && says(&e, "sync: mistyped"), "%s", e.message);
	cr_assert(field_bytes(&r.params, KEY_ENTRY, &span, &e) == -1 && says(&e, "entry: mistyped"), "%s", e.message);
	cr_assert(field_stream(&r.params, &span, &e) == -1 && says(&e, "stream: mistyped"), "%s", e.message);
	cr_assert(e.code == ERR_BAD_REQUEST, "a stream as bin is a wrong type");
	cr_assert(field_str(&r.params, KEY_PREFIX, &span, &e) == -1 && says(&e, "prefix: not UTF-8"), "%s", e.message);
	cr_assert(field_byte_array(&r.params, KEY_ENTRIES, false, &array, &e) == -1 && says(&e, "entries: mistyped"),
		"%s", e.message);
	cr_assert(field_u64_array(&r.params, KEY_IDS, &ids, &e) == -1 && says(&e, "ids: mistyped"), "%s", e.message);
	cr_assert(
		field_u64_array(&r.params, KEY_VALUES, &ids, &e) == -1 && says(&e, "values: missing"), "%s", e.message);
	cr_assert(u64 == 77 && boolean && span.len == 9, "results are untouched");
}

Test(fields, a_streams_name)
{
	struct request r;
	struct error e;
	struct span name;
	char text[257];
	memset(text, 'n', sizeof(text));
	for (size_t len = 0; len <= 257; len++) {
		start();
		request_begin(&w, 1, METHOD_GET, 1);
		mp_write_key(&w, KEY_STREAM);
		mp_write_str_len(&w, text, len);
		cr_assert(request_decode(finish(), &r, &e) == 0, "decode");
		int result = field_stream(&r.params, &name, &e);
		cr_assert((result == 0) == (len >= 1 && len <= 255), "%zu bytes", len);
		if (result != 0)
			cr_assert(e.code == ERR_INVALID_FILENAME && error_has(&e, EFI_NAME) &&
					  e.name.len == (len < 255 ? len : 255),
				"%zu bytes", len);
	}
	start();
	request_begin(&w, 1, METHOD_GET, 1);
	mp_write_key(&w, KEY_STREAM);
	mp_write_str_len(&w, "\xed\xa0\x80", 3);
	cr_assert(request_decode(finish(), &r, &e) == 0, "decode");
	cr_assert(field_stream(&r.params, &name, &e) == -1 && e.code == ERR_BAD_REQUEST && says(&e, "stream"),
		"not UTF-8");
	cr_assert(with_params(SPAN("\x81\xa6"
				   "stream\xa3"
				   "a\0b"),
			  &r, &e) == 0,
		"decode");
	cr_assert(field_stream(&r.params, &name, &e) == 0 && name.len == 3, "NUL is a character");
}

Test(fields, a_byte_array_in_place)
{
	static uint8_t body[70000];
	static const size_t lengths[] = {3, 0, 255, 256, 65535, 65536, 1, 65536, 31};
	enum { COUNT = sizeof(lengths) / sizeof(lengths[0]) };
	struct request r;
	struct error e;
	struct byte_array array;
	struct span element;
	uint64_t total = 0;
	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (uint8_t)(i * 31);
	start();
	request_begin(&w, 1, METHOD_APPEND_BATCH, 1);
	mp_write_key(&w, KEY_ENTRIES);
	mp_write_array(&w, COUNT);
	for (size_t i = 0; i < COUNT; i++) {
		if (i % 2 == 0)
			mp_write_bin(&w, body, lengths[i]);
		else
			mp_write_str_len(&w, body, lengths[i]);
		total += lengths[i];
	}
	cr_assert(request_decode(finish(), &r, &e) == 0, "decode");
	cr_assert(field_byte_array(&r.params, KEY_ENTRIES, false, &array, &e) == 0, "array");
	cr_assert(array.count == COUNT && array.total_bytes == total, "count, total");
	cr_assert(array.longest_bytes == 65536 && array.longest_index == 5, "the first of the longest");
	for (int pass = 0; pass < 2; pass++) {
		struct byte_iter iter = byte_iter_of(&array);
		size_t i = 0;
		for (; byte_iter_next(&iter, &element); i++)
			cr_assert(element.len == lengths[i] && element.data != NULL &&
					  memcmp(element.data, body, element.len) == 0,
				"element %zu", i);
		cr_assert(i == COUNT && iter.at == array.elements.data + array.elements.len, "all of them");
		cr_assert(!byte_iter_next(&iter, &element), "and no more");
	}
}

Test(fields, elements_that_are_no_bytes)
{
	struct request r;
	struct error e;
	struct byte_array array;
	struct u64_array ids;
	struct span element;
	uint64_t id;
	cr_assert(with_params(SPAN("\x81\xa7"
				   "entries\x93\xc4\x01"
				   "a\xc0\xa0"),
			  &r, &e) == 0,
		"decode");
	cr_assert(field_byte_array(&r.params, KEY_ENTRIES, false, &array, &e) == -1 && says(&e, "entries[1]"), "%s",
		e.message);
	cr_assert(e.code == ERR_BAD_REQUEST, "code");
	cr_assert(field_byte_array(&r.params, KEY_ENTRIES, true, &array, &e) == 0 && array.count == 3, "nil allowed");
	struct byte_iter iter = byte_iter_of(&array);
	cr_assert(byte_iter_next(&iter, &element) && element.len == 1, "first");
	cr_assert(byte_iter_next(&iter, &element) && element.data == NULL, "nil");
	cr_assert(byte_iter_next(&iter, &element) && element.data != NULL && element.len == 0, "empty");
	cr_assert(with_params(SPAN("\x81\xa7"
				   "entries\x92\xa1"
				   "a\x91\xc0"),
			  &r, &e) == 0,
		"decode");
	cr_assert(field_byte_array(&r.params, KEY_ENTRIES, true, &array, &e) == -1 && says(&e, "entries[1]"), "%s",
		e.message);
	cr_assert(with_params(SPAN("\x81\xa7"
				   "entries\x90"),
			  &r, &e) == 0,
		"decode");
	cr_assert(field_byte_array(&r.params, KEY_ENTRIES, false, &array, &e) == 0 && array.count == 0, "empty");
	iter = byte_iter_of(&array);
	cr_assert(!byte_iter_next(&iter, &element), "nothing in it");

	cr_assert(with_params(SPAN("\x81\xa3"
				   "ids\x94\x00\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xd0\x05\x07"),
			  &r, &e) == 0,
		"decode");
	cr_assert(field_u64_array(&r.params, KEY_IDS, &ids, &e) == 0 && ids.count == 4, "ids");
	struct u64_iter ids_iter = u64_iter_of(&ids);
	static const uint64_t expected[] = {0, UINT64_MAX, 5, 7};
	for (unsigned i = 0; i < 4; i++)
		cr_assert(u64_iter_next(&ids_iter, &id) && id == expected[i], "id %u", i);
	cr_assert(!u64_iter_next(&ids_iter, &id), "no more");
	cr_assert(with_params(SPAN("\x81\xa3"
				   "ids\x92\x00\xff"),
			  &r, &e) == 0,
		"decode");
	cr_assert(field_u64_array(&r.params, KEY_IDS, &ids, &e) == -1 && says(&e, "ids[1]"), "%s", e.message);
}

Test(fields, the_most_elements_that_a_request_may_hold)
{
	struct request r;
	struct error e;
	struct byte_array array;
	struct u64_array ids;
	for (uint32_t count = ARRAY_ELEMENTS_MAX; count <= ARRAY_ELEMENTS_MAX + 1; count++) {
		start();
		request_begin(&w, 1, METHOD_APPEND_BATCH, 2);
		mp_write_key(&w, KEY_ENTRIES);
		mp_write_array(&w, count);
		for (uint32_t i = 0; i < count; i++)
			mp_write_bin(&w, "x", 1);
		mp_write_key(&w, KEY_IDS);
		mp_write_array(&w, count);
		for (uint32_t i = 0; i < count; i++)
			mp_write_u64(&w, i);
		struct span payload = finish();
		uint64_t begun = clock_now_ns();
		cr_assert(request_decode(payload, &r, &e) == 0, "decode");
		uint64_t decoded = clock_now_ns();
		int result = field_byte_array(&r.params, KEY_ENTRIES, false, &array, &e);
		uint64_t checked = clock_now_ns();
		if (count == ARRAY_ELEMENTS_MAX) {
			cr_assert(result == 0 && array.count == count && array.total_bytes == count, "at the limit");
			cr_assert(field_u64_array(&r.params, KEY_IDS, &ids, &e) == 0, "ids at the limit");
			struct span element;
			struct byte_iter iter = byte_iter_of(&array);
			uint64_t sum = 0;
			while (byte_iter_next(&iter, &element))
				sum += element.len;
			cr_assert(sum == count, "all there");
			fprintf(stderr,
				"1,048,576 elements: request_decode (with as many ids) %.2f ms, field_byte_array "
				"%.2f ms, iteration after ids %.2f ms\n",
				(double)(decoded - begun) / 1e6, (double)(checked - decoded) / 1e6,
				(double)(clock_now_ns() - checked) / 1e6);
			continue;
		}
		cr_assert(result == -1 && e.code == ERR_TOO_LARGE, "over it");
		cr_assert(e.limit == ARRAY_ELEMENTS_MAX && e.size == count &&
				  e.fields == error_required_fields(ERR_TOO_LARGE),
			"limit, size");
		cr_assert(
			field_u64_array(&r.params, KEY_IDS, &ids, &e) == -1 && e.code == ERR_TOO_LARGE, "ids over it");
	}
}

static void write_nils(uint32_t count)
{
	mp_write_array(&w, count);
	for (uint32_t i = 0; i < count; i++)
		mp_write_nil(&w);
}

Test(fields, the_most_values_that_a_request_may_hold)
{
	enum { REST = REQUEST_VALUES_MAX - 4 }; /* two parameters */
	struct request r;
	struct error e;
	for (uint32_t more = 0; more <= 1; more++) {
		start();
		request_begin(&w, 77, METHOD_GET_BATCH, 2);
		mp_write_key(&w, KEY_IDS);
		write_nils(REST / 2);
		mp_write_str(&w, "unknown");
		mp_write_map(&w, REST / 4 - 1);
		for (uint32_t i = 0; i < REST / 4 - 1; i++) {
			mp_write_str(&w, "");
			if (i == 0)
				write_nils(2 + more);
			else
				mp_write_nil(&w);
		}
		int result = request_decode(finish(), &r, &e);
		cr_assert(r.msgid == 77 && r.method == METHOD_GET_BATCH && !r.notification, "who asked what");
		if (more == 0) {
			cr_assert(result == 0 && fields_has(&r.params, KEY_IDS), "at the limit");
			continue;
		}
		cr_assert(result == -1 && e.code == ERR_TOO_LARGE, "over it");
		cr_assert(e.limit == REQUEST_VALUES_MAX && e.size == REQUEST_VALUES_MAX + 1 &&
				  e.fields == error_required_fields(ERR_TOO_LARGE),
			"limit, size");
	}
}

/* A header alone says that it is too much: what is behind it costs nothing, in whatever it stands. */
Test(fields, too_many_values_are_not_looked_at)
{
	enum { COUNT = 15000000 };
	static const struct {
		const char *bytes;
		size_t len;
		enum error_code code;
	} heads[] = {
		{"\x94\x00\x05\xa4ping\x81\xa1z\xdd", 12, ERR_TOO_LARGE},
		{"\x94\x00\x05\xa4ping\x81\xa1z\x91\x91\xdd", 14, ERR_TOO_LARGE},
		{"\x94\x00\x05\xa4ping\xdf", 9, ERR_TOO_LARGE},
		{"\x94\x00\x05\xa4ping\xdd", 9, ERR_BAD_REQUEST}, /* params are no map */
		{"\x94\x00\x05\xdd", 4, ERR_BAD_REQUEST},
	};
	struct request r;
	struct error e;
	uint8_t *bytes = malloc(COUNT + 64);
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		uint32_t count = heads[i].bytes[heads[i].len - 1] == '\xdf' ? COUNT / 2 : COUNT;
		memset(bytes, 0xc1, COUNT + 64); /* malformed, were it looked at */
		memcpy(bytes, heads[i].bytes, heads[i].len);
		for (size_t k = 0; k < 4; k++)
			bytes[heads[i].len + k] = (uint8_t)(count >> (24 - 8 * k));
		cr_assert(request_decode((struct span){bytes, COUNT + 64}, &r, &e) == -1, "case %zu", i);
		cr_assert(e.code == heads[i].code && r.msgid == 5, "case %zu: %s", i, e.message);
		cr_assert(!says(&e, "not MessagePack"), "case %zu: %s", i, e.message);
	}
	/* An ignored message stays ignored. */
	memcpy(bytes, "\x93\x02\xa4ping\x81\xa1z\xdd\x00\xe4\xe1\xc0", 15);
	cr_assert(request_decode((struct span){bytes, COUNT + 64}, &r, &e) == 0 && r.notification, "a notification");
	free(bytes);
}

/* ---- arrays of [key, value] ------------------------------------------------------------------------------------ */

static void write_pair_header(unsigned form)
{
	const struct span headers[] = {SPAN("\x92"), SPAN("\xdc\x00\x02"), SPAN("\xdd\x00\x00\x00\x02")};
	mp_write_raw(&w, headers[form].data, headers[form].len);
}

/* Bytes in the narrowest or the widest form, as bin or as str. */
static void write_bytes_as(unsigned form, const void *bytes, size_t len)
{
	uint8_t head[5] = {
		form == 2 ? 0xc6 : 0xdb, (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len};
	if (form == 0) {
		mp_write_bin(&w, bytes, len);
	} else if (form == 1) {
		mp_write_str_len(&w, bytes, len);
	} else {
		mp_write_raw(&w, head, sizeof(head));
		mp_write_raw(&w, bytes, len);
	}
}

Test(fields, pairs_in_place)
{
	static uint8_t body[70000];
	static const size_t lengths[] = {0, 1, 31, 32, 255, 256, 65535, 65536, 65536, 3};
	enum { LENGTHS = sizeof(lengths) / sizeof(lengths[0]), COUNT = 3 * 4 * LENGTHS };
	struct request r;
	struct error e;
	struct pair_array array;
	struct span key, value;
	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (uint8_t)(i * 37);
	start();
	request_begin(&w, 1, METHOD_SHARD_APPEND_BATCH, 1);
	mp_write_key(&w, KEY_ENTRIES);
	mp_write_array(&w, COUNT);
	/* Every header of a pair with every form of value; keys in another form, and of another length. */
	for (unsigned i = 0; i < COUNT; i++) {
		write_pair_header(i % 3);
		write_bytes_as((i + 1) % 4, body + i, lengths[(i + 1) % LENGTHS] % 1000);
		write_bytes_as(i / 3 % 4, body, lengths[i / 12]);
	}
	cr_assert(request_decode(finish(), &r, &e) == 0, "decode");
	cr_assert(field_pair_array(&r.params, KEY_ENTRIES, &array, &e) == 0, "%s", e.message);
	cr_assert(array.count == COUNT, "count");
	cr_assert(array.longest_bytes == 65536 && array.longest_index == 7 * 12, "the first of the longest values");
	for (int pass = 0; pass < 2; pass++) {
		struct pair_iter iter = pair_iter_of(&array);
		unsigned i = 0;
		for (; pair_iter_next(&iter, &key, &value); i++) {
			cr_assert(key.len == lengths[(i + 1) % LENGTHS] % 1000 && key.data != NULL &&
					  memcmp(key.data, body + i, key.len) == 0,
				"key %u", i);
			cr_assert(value.len == lengths[i / 12] && value.data != NULL &&
					  memcmp(value.data, body, value.len) == 0,
				"value %u", i);
			cr_assert(key.data > buf.data && value.data + value.len <= buf.data + buf.len, "in place");
		}
		cr_assert(i == COUNT && iter.at == array.elements.data + array.elements.len, "all of them");
		cr_assert(!pair_iter_next(&iter, &key, &value), "and no more");
	}
}

Test(fields, a_long_key_is_no_long_value)
{
	struct request r;
	struct error e;
	struct pair_array array;
	cr_assert(with_params(SPAN("\x81\xa7"
				   "entries\x92\x92\xc4\x05"
				   "12345\xc4\x00\x92\xc4\x00\xc4\x01v"),
			  &r, &e) == 0,
		"decode");
	cr_assert(field_pair_array(&r.params, KEY_ENTRIES, &array, &e) == 0, "%s", e.message);
	cr_assert(array.count == 2 && array.longest_bytes == 1 && array.longest_index == 1, "values are counted");
	cr_assert(with_params(SPAN("\x81\xa7"
				   "entries\x90"),
			  &r, &e) == 0,
		"decode");
	cr_assert(field_pair_array(&r.params, KEY_ENTRIES, &array, &e) == 0, "none at all");
	cr_assert(array.count == 0 && array.longest_bytes == 0 && array.elements.len == 0, "nothing in it");
	struct pair_iter iter = pair_iter_of(&array);
	struct span key, value;
	cr_assert(!pair_iter_next(&iter, &key, &value), "nothing to go through");
}

Test(fields, elements_that_are_no_pairs)
{
	const struct span bad[] = {
		SPAN("\xc0"),				  /* nil */
		SPAN("\x90"),				  /* of none */
		SPAN("\x91\xa1k"),			  /* of one */
		SPAN("\x93\xa1k\xa1v\xa1w"),		  /* of three */
		SPAN("\xdc\x00\x03\xa1k\xa1v\xa1w"),	  /* of three, wide */
		SPAN("\xdd\x00\x00\x00\x01\xa1k"),	  /* of one, wide */
		SPAN("\x82\xa1k\xa1v\xa1l\xa1w"),	  /* a map of two */
		SPAN("\x81\xa1k\xa1v"),			  /* a map */
		SPAN("\xa2kv"),				  /* a str */
		SPAN("\xc4\x02kv"),			  /* bin */
		SPAN("\x02"),				  /* a number */
		SPAN("\x92\xc0\xa1v"),			  /* the key is nil */
		SPAN("\x92\xa1k\xc0"),			  /* the value is nil */
		SPAN("\x92\x01\xa1v"),			  /* the key is a number */
		SPAN("\x92\xa1k\x01"),			  /* the value is one */
		SPAN("\x92\xc3\xa1v"),			  /* bool */
		SPAN("\x92\x91\xa1k\xa1v"),		  /* the key is an array */
		SPAN("\x92\xa1k\x91\xa1v"),		  /* the value is one */
		SPAN("\x92\xa1k\x80"),			  /* a map */
		SPAN("\x92\xa1k\xd4\x01v"),		  /* ext */
		SPAN("\x92\x92\xa1k\xa1v\x92\xa1k\xa1v"), /* of two pairs */
	};
	struct request r;
	struct error e;
	struct pair_array array = {.count = 77};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint8_t params[128] = "\x81\xa7"
				      "entries\x93\x92\xa1k\xa1v";
		size_t len = 15;
		memcpy(params + len, bad[i].data, bad[i].len);
		len += bad[i].len;
		memcpy(params + len, "\x92\xa1k\xa1v", 5);
		len += 5;
		cr_assert(with_params((struct span){params, len}, &r, &e) == 0, "case %zu is well-formed", i);
		cr_assert(field_pair_array(&r.params, KEY_ENTRIES, &array, &e) == -1, "case %zu", i);
		cr_assert(e.code == ERR_BAD_REQUEST && says(&e, "entries[1]: mistyped"), "case %zu: %s", i, e.message);
	}
	const struct span others[] = {SPAN("\x80"), SPAN("\xa1x"), SPAN("\xc4\x01x"), SPAN("\x05"), SPAN("\xc3")};
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		start();
		request_begin(&w, 1, METHOD_SHARD_APPEND_BATCH, 1);
		mp_write_key(&w, KEY_ENTRIES);
		mp_write_raw(&w, others[i].data, others[i].len);
		cr_assert(request_decode(finish(), &r, &e) == 0, "decode");
		cr_assert(field_pair_array(&r.params, KEY_ENTRIES, &array, &e) == -1 && says(&e, "entries: mistyped"),
			"no array %zu: %s", i, e.message);
	}
	cr_assert(field_pair_array(&r.params, KEY_VALUES, &array, &e) == -1 && says(&e, "values: missing"), "%s",
		e.message);
	cr_assert(array.count == 77, "the result is untouched");
}

/* A value of params is whole when it comes here; the getter does not rely on that. */
Test(fields, pairs_cut_at_every_byte)
{
	for (unsigned form = 0; form < 3; form++) {
		start();
		mp_write_array(&w, 2);
		for (unsigned i = 0; i < 2; i++) {
			write_pair_header(form);
			write_bytes_as(i + form, "key", 3);
			write_bytes_as(i + 1, "the value", 9);
		}
		for (size_t cut = 0; cut <= buf.len; cut++) {
			struct fields fields = {.present = UINT64_C(1) << KEY_ENTRIES, .blame = ERR_BAD_REQUEST};
			struct pair_array array;
			struct error e;
			uint8_t *copy = malloc(cut > 0 ? cut : 1); /* the sanitizer watches its end */
			memcpy(copy, buf.data, cut);
			fields.values[KEY_ENTRIES] = (struct span){copy, cut};
			int result = field_pair_array(&fields, KEY_ENTRIES, &array, &e);
			cr_assert((result == 0) == (cut == buf.len), "form %u cut to %zu", form, cut);
			free(copy);
		}
	}
}

Test(fields, the_most_pairs_that_a_request_may_hold)
{
	struct request r;
	struct error e;
	struct pair_array array;
	struct span key, value;
	for (uint32_t count = ARRAY_ELEMENTS_MAX; count <= ARRAY_ELEMENTS_MAX + 1; count++) {
		start();
		request_begin(&w, 1, METHOD_SHARD_APPEND_BATCH, 1);
		mp_write_key(&w, KEY_ENTRIES);
		mp_write_array(&w, count);
		for (uint32_t i = 0; i < count; i++)
			mp_write_raw(&w, "\x92\xa1k\xa1v", 5);
		cr_assert(request_decode(finish(), &r, &e) == 0, "decode: %s", e.message);
		int result = field_pair_array(&r.params, KEY_ENTRIES, &array, &e);
		if (count > ARRAY_ELEMENTS_MAX) {
			cr_assert(result == -1 && e.code == ERR_TOO_LARGE, "over it");
			cr_assert(e.limit == ARRAY_ELEMENTS_MAX && e.size == count &&
					  e.fields == error_required_fields(ERR_TOO_LARGE),
				"limit, size");
			continue;
		}
		cr_assert(result == 0 && array.count == count, "at the limit");
		struct pair_iter iter = pair_iter_of(&array);
		uint32_t seen = 0;
		while (pair_iter_next(&iter, &key, &value))
			seen += key.len == 1 && value.len == 1;
		cr_assert(seen == count, "all there");
	}
}

/* ---- responses ------------------------------------------------------------------------------------------------ */

Test(message, a_response_there_and_back)
{
	struct response r;
	struct error e;
	bool notification = true, durable = false;
	uint64_t id = 0;
	start();
	response_begin(&w, 7, 2);
	mp_write_key(&w, KEY_ID);
	mp_write_u64(&w, 42);
	mp_write_key(&w, KEY_DURABLE);
	mp_write_bool(&w, true);
	cr_assert(response_decode(finish(), &r, &notification, &e) == 0 && !notification, "decode");
	cr_assert(r.msgid == 7 && r.error.data == NULL && r.result.data != NULL, "envelope");
	cr_assert(field_u64(&r.fields, KEY_ID, &id, &e) == 0 && id == 42, "id");
	cr_assert(field_bool(&r.fields, KEY_DURABLE, &durable, &e) == 0 && durable, "durable");
	cr_assert(field_u64(&r.fields, KEY_FIRST, &id, &e) == -1 && e.code == ERR_SERIALIZATION, "blames the server");
}

Test(message, an_error_response_there_and_back)
{
	struct response r;
	struct error sent, got, e;
	bool notification;
	struct span payload = {0};
	size_t total;
	error_set(&sent, ERR_CONFLICT, "next id is 6");
	error_set_u64(&sent, EFI_EXPECTED, 5);
	error_set_u64(&sent, EFI_ACTUAL, 6);
	start();
	cr_assert(response_error(&w, 8, &sent) == 0, "encode");
	cr_assert(frame_next(buf.data, buf.len, 4096, &payload, &total) == FRAME_READY, "frame");
	cr_assert(response_decode(payload, &r, &notification, &e) == 0 && r.msgid == 8, "decode");
	cr_assert(r.error.data != NULL && r.result.data == NULL && r.fields.present == 0, "error");
	error_decode(r.error, &got);
	cr_assert(got.code == ERR_CONFLICT && got.expected == 5 && got.actual == 6, "fields");
}

Test(message, an_error_with_more_than_its_fields)
{
	struct response r;
	struct error sent, got, e;
	struct span payload = {0}, results, later;
	bool notification;
	size_t total;
	error_set_io(&sent, 28, "write", "shard_03/0.wal");
	start();
	mp_write_str(&w, "what the buffer held before");
	size_t before = buf.len;
	for (size_t extra = 0; extra <= 2; extra++) {
		buf.len = before;
		response_error_begin(&w, 21, &sent, extra);
		if (extra > 0) {
			mp_write_key(&w, KEY_RESULTS);
			mp_write_array(&w, 2);
			mp_write_nil(&w);
			mp_write_array(&w, 2);
			mp_write_u64(&w, 3);
			mp_write_u64(&w, 1000);
		}
		if (extra > 1) {
			mp_write_str(&w, "later");
			mp_write_u64(&w, 7);
		}
		cr_assert(response_error_end(&w) == 0, "encode");
		cr_assert(frame_next(buf.data + before, buf.len - before, 4096, &payload, &total) == FRAME_READY &&
				  total == buf.len - before,
			"frame");
		cr_assert(response_decode(payload, &r, &notification, &e) == 0 && r.msgid == 21, "%s", e.message);
		cr_assert(r.error.data != NULL && r.result.data == NULL && r.fields.present == 0, "error");
		error_decode(r.error, &got);
		cr_assert(got.code == ERR_IO && got.os_errno == 28 && got.outcome == OUTCOME_NONE, "code and fields");
		cr_assert(got.fields == sent.fields && strcmp(got.message, sent.message) == 0, "and nothing more");
		cr_assert((mp_map_find(r.error, "results", &results) == 0) == (extra > 0), "results");
		if (extra > 0)
			cr_assert(results.len == 7 && memcmp(results.data, "\x92\xc0\x92\x03\xcd\x03\xe8", 7) == 0,
				"as written");
		cr_assert((mp_map_find(r.error, "later", &later) == 0) == (extra > 1), "what nobody knows");
	}
	/* Without more it is what response_error writes. */
	struct buf other = {0};
	struct mp_writer writer;
	mp_writer_init(&writer, &other);
	cr_assert(response_error(&writer, 21, &sent) == 0, "encode");
	buf.len = before;
	response_error_begin(&w, 21, &sent, 0);
	cr_assert(response_error_end(&w) == 0, "encode");
	cr_assert(other.len == buf.len - before && memcmp(other.data, buf.data + before, other.len) == 0, "the same");
	buf_free(&other);
}

Test(message, responses_of_other_shapes)
{
	const struct span bad[] = {SPAN(""), SPAN("\xc0"),
		SPAN("\x94\x00\x05\xa4"
		     "ping\x80"),
		SPAN("\x93\x01\x05\xc0"), SPAN("\x94\x01\xff\xc0\xc0"), SPAN("\x94\x01\x05\x01\xc0"),
		SPAN("\x94\x01\x05\xc0\x01"), SPAN("\x94\x01\x05\xc0\x90"), SPAN("\x94\x01\x05\xc0\xc0\xc0"),
		SPAN("\x94\x01\x05\xc0\x81\x01\x02"), SPAN("\x94\x01\x05\xc0\x80\x00"), SPAN("\x94\x01\x05\xc0\xc1"),
		SPAN("\x94\x01\x05\x80"),
		SPAN("\x93\x02\xa1"
		     "a\xc1"),
		SPAN("\x93\x02\xa1"
		     "a")};
	struct response r;
	struct error e;
	bool notification;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert(response_decode(bad[i], &r, &notification, &e) == -1 && e.code == ERR_SERIALIZATION,
			"response %zu", i);
	cr_assert(response_decode(SPAN("\x93\x02\xa1"
				       "a\x80"),
			  &r, &notification, &e) == 0 &&
			  notification,
		"notification");
	cr_assert(response_decode(SPAN("\x94\x01\x05\xc0\xc0"), &r, &notification, &e) == 0 && !notification &&
			  r.result.data == NULL && r.fields.present == 0,
		"a nil result");
}

/* ---- mutations ------------------------------------------------------------------------------------------------ */

static uint64_t seed = 0x9e3779b97f4a7c15;

static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Every getter on whatever was decoded: nothing may read outside the message (the sanitizer watches). */
static uint64_t use_fields(const struct fields *fields)
{
	struct error e;
	uint64_t sum = 0;
	for (unsigned i = 0; i < KEY_TOTAL; i++) {
		enum key key = (enum key)i;
		uint64_t u64;
		bool boolean;
		struct span span;
		struct byte_array bytes;
		struct u64_array numbers;
		struct pair_array pairs;
		if (!fields_has(fields, key))
			continue;
		if (field_u64(fields, key, &u64, &e) == 0)
			sum += u64;
		if (field_bool(fields, key, &boolean, &e) == 0)
			sum += boolean;
		if (field_bytes(fields, key, &span, &e) == 0 && span.len > 0)
			sum += span.data[0] + span.data[span.len - 1];
		if (field_str(fields, key, &span, &e) == 0)
			sum += span.len;
		if (field_byte_array(fields, key, true, &bytes, &e) == 0) {
			uint32_t count = 0;
			struct byte_iter iter = byte_iter_of(&bytes);
			while (byte_iter_next(&iter, &span)) {
				count++;
				sum += span.len > 0 ? span.data[span.len - 1] : 0;
			}
			cr_assert(count == bytes.count && iter.at == bytes.elements.data + bytes.elements.len, "iter");
		}
		if (field_pair_array(fields, key, &pairs, &e) == 0) {
			uint32_t count = 0;
			struct span value;
			struct pair_iter iter = pair_iter_of(&pairs);
			while (pair_iter_next(&iter, &span, &value)) {
				count++;
				sum += span.len > 0 ? span.data[span.len - 1] : 0;
				sum += value.len > 0 ? value.data[value.len - 1] : 0;
			}
			cr_assert(count == pairs.count && iter.at == pairs.elements.data + pairs.elements.len, "iter");
		}
		if (field_u64_array(fields, key, &numbers, &e) == 0) {
			uint32_t count = 0;
			struct u64_iter iter = u64_iter_of(&numbers);
			while (u64_iter_next(&iter, &u64))
				count++;
			cr_assert(count == numbers.count, "iter");
		}
	}
	return sum;
}

Test(message, mutations)
{
	const struct span seeds[] = {
		SPAN("\x94\x00\x05\xa5"
		     "batch\x83\xa7"
		     "entries\x93\xc4\x01"
		     "a\xa2"
		     "bc\xc5\x00\x01"
		     "d\xa3"
		     "ids\x93\x01\xcd"
		     "\x01\x00\xcf\0\0\0\0\0\0\0\x09\xa6"
		     "stream\xa1"
		     "s"),
		SPAN("\x94\x01\x07\xc0\x83\xa5"
		     "first\x00\xa7"
		     "entries\x93\xc4\x01"
		     "a\xc0\xc4\x00\xa4"
		     "next\x02"),
		SPAN("\x94\x01\x07\x84\xa4"
		     "code\xa2"
		     "Io\xa7"
		     "message\xa3"
		     "bad\xa5"
		     "errno\xa3"
		     "EIO\xa2"
		     "id\xc4\x02"
		     "ab\xc0"),
		SPAN("\x94\x00\x09\xb2"
		     "shard_append_batch\x81\xa7"
		     "entries\x93\x92\xa1k\xc4\x01v\xdc\x00\x02\xa0\xc4\x00\xdd\x00\x00\x00\x02\xc5\x00\x01k\xa1v"),
	};
	unsigned good = 0;
	uint64_t sum = 0;
	for (unsigned round = 0; round < 300000; round++) {
		struct span from = seeds[next_random() % (sizeof(seeds) / sizeof(seeds[0]))];
		size_t len = from.len;
		if (next_random() % 8 == 0)
			len = next_random() % (len + 1);
		/* Exactly as long as the message. */
		uint8_t *copy = malloc(len > 0 ? len : 1);
		memcpy(copy, from.data, len);
		for (uint64_t changes = next_random() % 4; changes > 0 && len > 0; changes--) {
			static const uint8_t forms[] = {0xc1, 0xc4, 0xc5, 0xc6, 0xc7, 0xc9, 0xd9, 0xdb, 0xdc, 0xdd,
				0xde, 0xdf, 0xff, 0x00, 0x80, 0x90, 0x8f, 0x9f};
			size_t at = next_random() % len;
			copy[at] =
				next_random() % 2 == 0 ? forms[next_random() % sizeof(forms)] : (uint8_t)next_random();
		}
		struct span payload = {copy, len};
		struct request request;
		struct response response;
		struct error e;
		bool notification;
		if (request_decode(payload, &request, &e) == 0) {
			good++;
			sum += use_fields(&request.params) + request.method_name.len;
		}
		if (response_decode(payload, &response, &notification, &e) == 0 && !notification) {
			good++;
			sum += use_fields(&response.fields);
			error_decode(response.error, &e);
			cr_assert(e.code != ERR_NONE, "always an error");
		}
		free(copy);
	}
	cr_assert(good > 1000, "%u messages survived (%ju)", good, (uintmax_t)sum);
}
