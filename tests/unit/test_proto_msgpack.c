/* mp_read, mp_write, frame: bytes in, bytes out, and bytes that lie. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "clock.h"
#include "frame.h"
#include "mp_read.h"
#include "mp_write.h"

#define SPAN(text) ((struct span){(const uint8_t *)(text), sizeof(text) - 1})

static struct mp_value read_one(struct span span)
{
	struct mp_reader reader = mp_reader_of(span);
	struct mp_value value;
	cr_assert(mp_read(&reader, &value) == 0, "reads");
	return value;
}

Test(mp_read, integers_in_every_form)
{
	const struct {
		struct span bytes;
		uint64_t value;
	} unsigned_forms[] = {
		{SPAN("\x00"), 0},
		{SPAN("\x7f"), 127},
		{SPAN("\xcc\x05"), 5},
		{SPAN("\xcc\xff"), 255},
		{SPAN("\xcd\x00\x05"), 5},
		{SPAN("\xcd\xff\xff"), 65535},
		{SPAN("\xce\xff\xff\xff\xff"), UINT32_MAX},
		{SPAN("\xcf\x00\x00\x00\x00\x00\x00\x00\x05"), 5},
		{SPAN("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), UINT64_MAX},
		{SPAN("\xd0\x7f"), 127},
		{SPAN("\xd1\x7f\xff"), 32767},
		{SPAN("\xd2\x7f\xff\xff\xff"), INT32_MAX},
		{SPAN("\xd3\x7f\xff\xff\xff\xff\xff\xff\xff"), INT64_MAX},
	};
	for (size_t i = 0; i < sizeof(unsigned_forms) / sizeof(unsigned_forms[0]); i++) {
		uint64_t value = 0;
		cr_assert(mp_get_u64(unsigned_forms[i].bytes, &value) == 0 && value == unsigned_forms[i].value,
			"form %zu", i);
	}
	const struct {
		struct span bytes;
		int64_t value;
	} negative_forms[] = {
		{SPAN("\xff"), -1},
		{SPAN("\xe0"), -32},
		{SPAN("\xd0\x80"), -128},
		{SPAN("\xd1\x80\x00"), -32768},
		{SPAN("\xd2\x80\x00\x00\x00"), INT32_MIN},
		{SPAN("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), INT64_MIN},
	};
	for (size_t i = 0; i < sizeof(negative_forms) / sizeof(negative_forms[0]); i++) {
		uint64_t untouched = 77;
		struct mp_value value = read_one(negative_forms[i].bytes);
		cr_assert(value.type == MP_NEGATIVE && value.i64 == negative_forms[i].value, "form %zu", i);
		cr_assert(mp_get_u64(negative_forms[i].bytes, &untouched) == -1 && untouched == 77, "no u64");
	}
	uint64_t u64;
	cr_assert(mp_get_u64(SPAN("\xca\x3f\x80\x00\x00"), &u64) == -1, "a float is no integer");
	cr_assert(mp_get_u64(SPAN("\x01\x01"), &u64) == -1, "two values are not one");
	cr_assert(mp_get_u64((struct span){0}, &u64) == -1, "nothing");
}

Test(mp_read, the_other_types)
{
	cr_assert(read_one(SPAN("\xc0")).type == MP_NIL && mp_is_nil(SPAN("\xc0")), "nil");
	bool boolean = false;
	cr_assert(mp_get_bool(SPAN("\xc3"), &boolean) == 0 && boolean, "true");
	cr_assert(mp_get_bool(SPAN("\xc2"), &boolean) == 0 && !boolean, "false");
	cr_assert(mp_get_bool(SPAN("\x01"), &boolean) == -1, "1 is not true");
	struct mp_value value = read_one(SPAN("\xca\x3f\xc0\x00\x00"));
	cr_assert(value.type == MP_FLOAT && value.number > 1.49 && value.number < 1.51, "float 32");
	value = read_one(SPAN("\xcb\xbf\xf8\x00\x00\x00\x00\x00\x00"));
	cr_assert(value.type == MP_FLOAT && value.number > -1.51 && value.number < -1.49, "float 64");
	value = read_one(SPAN("\xd6\x01"
			      "abcd"));
	cr_assert(value.type == MP_EXT && value.bytes.len == 4 && memcmp(value.bytes.data, "abcd", 4) == 0, "fixext");
	value = read_one(SPAN("\xc7\x03\x01"
			      "abc"));
	cr_assert(value.type == MP_EXT && value.bytes.len == 3 && memcmp(value.bytes.data, "abc", 3) == 0, "ext 8");
	value = read_one(SPAN("\x93\x01\x02\x03"));
	cr_assert(value.type == MP_ARRAY && value.count == 3, "array");
	value = read_one(SPAN("\xdc\x00\x01\xc0"));
	cr_assert(value.type == MP_ARRAY && value.count == 1, "array 16");
	value = read_one(SPAN("\xde\x00\x01\xc0\xc0"));
	cr_assert(value.type == MP_MAP && value.count == 1, "map 16");
	value = read_one(SPAN("\xdf\x00\x00\x00\x00"));
	cr_assert(value.type == MP_MAP && value.count == 0, "map 32");

	struct span bytes;
	const struct span strings[] = {SPAN("\xa3"
					    "abc"),
		SPAN("\xd9\x03"
		     "abc"),
		SPAN("\xda\x00\x03"
		     "abc"),
		SPAN("\xdb\x00\x00\x00\x03"
		     "abc"),
		SPAN("\xc4\x03"
		     "abc"),
		SPAN("\xc5\x00\x03"
		     "abc"),
		SPAN("\xc6\x00\x00\x00\x03"
		     "abc")};
	for (unsigned i = 0; i < 7; i++) {
		cr_assert(mp_get_bytes(strings[i], &bytes) == 0 && bytes.len == 3, "string %u", i);
		cr_assert(memcmp(bytes.data, "abc", 3) == 0, "string %u", i);
		cr_assert((mp_get_str(strings[i], &bytes) == 0) == (i < 4), "bin is no str (%u)", i);
	}
	cr_assert(mp_get_bytes(SPAN("\xc4\x00"), &bytes) == 0 && bytes.len == 0 && bytes.data != NULL, "empty");
}

/* What UndefinedBehaviorSanitizer is to see: nothing is added to a NULL. */
Test(mp_read, what_is_not_there_has_no_bytes)
{
	struct mp_reader reader = mp_reader_of((struct span){0});
	struct mp_value value;
	cr_assert(reader.at == NULL && reader.end == NULL, "no bytes");
	cr_assert(mp_read(&reader, &value) == -1 && mp_skip(&reader) == -1, "and no value in them");
}

/* Every first byte there is: what mp_read and mp_skip make of it agrees, and every cut of it fails in both. */
Test(mp_read, every_first_byte_at_every_cut)
{
	for (unsigned first = 0; first < 256; first++) {
		/* Lengths and counts that follow are read as 1 (or are zeros), the elements behind as nil. */
		uint8_t bytes[64];
		memset(bytes, 0xc0, sizeof(bytes));
		bytes[0] = (uint8_t)first;
		unsigned width = 0;
		if (first == 0xc4 || first == 0xc7 || first == 0xd9)
			width = 1;
		else if (first == 0xc5 || first == 0xc8 || first == 0xda || first == 0xdc || first == 0xde)
			width = 2;
		else if (first == 0xc6 || first == 0xc9 || first == 0xdb || first == 0xdd || first == 0xdf)
			width = 4;
		for (unsigned i = 1; i <= width; i++)
			bytes[i] = i == width;
		struct mp_reader reader = {bytes, bytes + sizeof(bytes)};
		struct mp_value value;
		if (first == 0xc1) {
			cr_assert(mp_skip(&reader) == -1 && mp_read(&reader, &value) == -1, "c1 is never used");
			continue;
		}
		cr_assert(mp_skip(&reader) == 0, "%02x", first);
		size_t whole = (size_t)(reader.at - bytes);
		struct mp_reader elements = {bytes, bytes + sizeof(bytes)};
		cr_assert(mp_read(&elements, &value) == 0, "%02x", first);
		unsigned children = value.type == MP_ARRAY ? value.count : value.type == MP_MAP ? value.count * 2 : 0;
		for (unsigned i = 0; i < children; i++)
			cr_assert(mp_skip(&elements) == 0, "%02x element %u", first, i);
		cr_assert(elements.at == reader.at, "%02x: both agree on its length", first);
		for (size_t cut = 0; cut < whole; cut++) {
			/* Its own memory, so that the sanitizer sees a byte read too far. */
			uint8_t *copy = malloc(cut + 1);
			memcpy(copy + 1, bytes, cut);
			reader = (struct mp_reader){copy + 1, copy + 1 + cut};
			cr_assert(mp_skip(&reader) == -1, "%02x cut to %zu", first, cut);
			cr_assert(reader.at == copy + 1, "a failed skip moves nothing");
			free(copy);
		}
	}
}

/* What a reader in line made of bytes is what mp_read makes of them; if it left them alone, it did not move. */
static void compare_in_line(const uint8_t *bytes, size_t len, unsigned *ret_taken)
{
	/* Its own memory, so that the sanitizer sees a byte read too far. */
	uint8_t *copy = malloc(len + 1);
	memcpy(copy + 1, bytes, len);
	const struct mp_reader start = {copy + 1, copy + 1 + len};
	struct mp_reader whole = start, reader = start;
	struct mp_value value = {0};
	struct span short_bytes, encoded;
	uint64_t number;
	bool good = mp_read(&whole, &value) == 0;
	if (mp_read_fixstr(&reader, &short_bytes)) {
		cr_assert(good && value.type == MP_STR && reader.at == whole.at, "%02x of %zu", bytes[0], len);
		cr_assert(short_bytes.data == value.bytes.data && short_bytes.len == value.bytes.len);
		ret_taken[0]++;
	} else {
		cr_assert(reader.at == start.at, "nothing moved");
	}
	reader = start;
	if (mp_read_short_uint(&reader, &number)) {
		cr_assert(good && value.type == MP_UINT && reader.at == whole.at && number == value.u64);
		ret_taken[1]++;
	} else {
		cr_assert(reader.at == start.at, "nothing moved");
	}
	reader = start;
	if (mp_read_short_bytes(&reader, &short_bytes, &encoded)) {
		cr_assert(good && (value.type == MP_STR || value.type == MP_BIN) && reader.at == whole.at);
		cr_assert(short_bytes.data == value.bytes.data && short_bytes.len == value.bytes.len);
		cr_assert(encoded.data == start.at && encoded.len == (size_t)(whole.at - start.at));
		ret_taken[2]++;
	} else {
		cr_assert(reader.at == start.at, "nothing moved");
	}
	reader = start;
	uint32_t count;
	if (mp_read_fixmap(&reader, &count)) {
		cr_assert(good && value.type == MP_MAP && reader.at == whole.at && count == value.count);
		ret_taken[3]++;
	} else {
		cr_assert(reader.at == start.at, "nothing moved");
	}
	free(copy);
}

Test(mp_read, in_line_is_the_same_at_every_cut)
{
	uint8_t bytes[400];
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7);
	unsigned taken[4] = {0};
	static const uint8_t seconds[] = {0, 1, 2, 31, 127, 128, 255};
	for (unsigned first = 0; first < 256; first++)
		for (size_t second = 0; second < sizeof(seconds); second++)
			for (size_t len = 0; len < sizeof(bytes); len++) {
				bytes[0] = (uint8_t)first;
				bytes[1] = seconds[second];
				compare_in_line(bytes, len, taken);
			}
	for (unsigned i = 0; i < 4; i++)
		cr_assert(taken[i] > 1000, "reader %u took %u", i, taken[i]);
	struct mp_reader nothing = mp_reader_of((struct span){0});
	struct span span;
	uint64_t number;
	uint32_t count;
	cr_assert(!mp_read_fixmap(&nothing, &count) && !mp_read_fixstr(&nothing, &span) &&
		  !mp_read_short_uint(&nothing, &number) && !mp_read_short_bytes(&nothing, &span, &span));
}

Test(mp_read, lengths_and_counts_that_lie)
{
	const struct span lies[] = {SPAN("\xdd\xff\xff\xff\xff"), SPAN("\xdf\xff\xff\xff\xff"),
		SPAN("\xdf\x80\x00\x00\x00"
		     "aa"),
		SPAN("\xdc\xff\xff"
		     "abc"),
		SPAN("\xde\xff\xff"
		     "abc"),
		SPAN("\xc6\xff\xff\xff\xff"
		     "abc"),
		SPAN("\xdb\xff\xff\xff\xff"
		     "abc"),
		SPAN("\xc9\xff\xff\xff\xff\x01"
		     "abc"),
		SPAN("\x9f\xc0"), SPAN("\x82\xc0\xc0\xc0"), SPAN("\xdf\x80\x00\x00\x01\xc0\xc0")};
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct mp_reader reader = mp_reader_of(lies[i]);
		struct mp_value value;
		cr_assert(mp_skip(&reader) == -1, "lie %zu skipped", i);
		cr_assert(mp_read(&reader, &value) == -1, "lie %zu read", i);
		cr_assert(reader.at == lies[i].data, "lie %zu moved the reader", i);
	}
}

Test(mp_read, nesting_is_bounded)
{
	enum { DEEP = 100000 };
	static uint8_t bytes[DEEP + 1];
	for (unsigned kind = 0; kind < 2; kind++) {
		struct mp_reader reader;
		/* 0x91: an array of one; 0x81 0xc0: a map with the key nil */
		size_t step = kind + 1;
		for (size_t depth = 1; depth <= DEEP / 2; depth = depth < 70 ? depth + 1 : depth * 3) {
			for (size_t i = 0; i < depth; i++) {
				bytes[i * step] = kind == 0 ? 0x91 : 0x81;
				if (kind == 1)
					bytes[i * step + 1] = 0xc0;
			}
			bytes[depth * step] = 0xc0;
			reader = (struct mp_reader){bytes, bytes + depth * step + 1};
			cr_assert((mp_skip(&reader) == 0) == (depth <= MP_DEPTH_MAX), "depth %zu", depth);
		}
	}
	memset(bytes, 0x91, DEEP);
	bytes[DEEP] = 0xc0;
	struct mp_reader reader = {bytes, bytes + sizeof(bytes)};
	cr_assert(mp_skip(&reader) == -1, "100,000 levels");
	/* Width is not depth. */
	memset(bytes, 0x90, sizeof(bytes));
	memcpy(bytes, "\xdd\x00\x00\x10\x00", 5);
	reader = (struct mp_reader){bytes, bytes + 5 + 4096};
	cr_assert(mp_skip(&reader) == 0 && reader.at == reader.end, "4,096 empty arrays side by side");
}

Test(mp_read, map_find)
{
	/* {1: 2, "a": 3, "b": [4], "a": 5} */
	struct span map = SPAN("\x84\x01\x02\xa1"
			       "a\x03\xa1"
			       "b\x91\x04\xa1"
			       "a\x05");
	struct span value;
	uint64_t number = 0;
	cr_assert(mp_map_find(map, "a", &value) == 0 && mp_get_u64(value, &number) == 0 && number == 5, "the last");
	cr_assert(mp_map_find(map, "b", &value) == 0 && value.len == 2, "an array, encoded");
	cr_assert(mp_map_find(map, "c", &value) == -1 && mp_map_find(map, "", &value) == -1, "not there");
	cr_assert(mp_map_find(SPAN("\x91\x01"), "a", &value) == -1, "not a map");
	cr_assert(mp_map_find((struct span){0}, "a", &value) == -1, "nothing");
}

/* ---- writing -------------------------------------------------------------------------------------------------- */

Test(mp_write, what_is_written_reads_back)
{
	static const uint64_t numbers[] = {
		0, 1, 127, 128, 255, 256, 65535, 65536, UINT32_MAX, UINT64_C(1) << 32, INT64_MAX, UINT64_MAX};
	static const size_t lengths[] = {0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536, 100000};
	static uint8_t body[100000];
	struct buf buf = {0};
	struct mp_writer writer;
	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (uint8_t)(i % 127);
	mp_writer_init(&writer, &buf);

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		uint64_t back = 1234;
		buf.len = 0;
		mp_write_u64(&writer, numbers[i]);
		cr_assert(buf.len == mp_u64_bytes(numbers[i]), "size of %ju", (uintmax_t)numbers[i]);
		cr_assert(mp_get_u64((struct span){buf.data, buf.len}, &back) == 0 && back == numbers[i], "%ju",
			(uintmax_t)numbers[i]);
	}
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct span back;
		buf.len = 0;
		mp_write_bin(&writer, body, lengths[i]);
		cr_assert(buf.len == mp_bin_bytes(lengths[i]), "size of bin %zu", lengths[i]);
		cr_assert(mp_get_bytes((struct span){buf.data, buf.len}, &back) == 0 && back.len == lengths[i], "bin");
		cr_assert(memcmp(back.data, body, back.len) == 0, "bin of %zu", lengths[i]);
		cr_assert(mp_get_str((struct span){buf.data, buf.len}, &back) == -1, "bin is bin");
		buf.len = 0;
		mp_write_text(&writer, body, lengths[i]);
		cr_assert(mp_get_str((struct span){buf.data, buf.len}, &back) == 0 && back.len == lengths[i], "str");
		cr_assert((buf.len == lengths[i] + 1) == (lengths[i] < 32), "the shortest form");
		buf.len = 0;
		mp_write_array(&writer, lengths[i]);
		buf.len += lengths[i]; /* the elements' place: the capacity is there from before */
		struct mp_reader reader = {buf.data, buf.data + buf.len};
		struct mp_value value;
		cr_assert(
			mp_read(&reader, &value) == 0 && value.type == MP_ARRAY && value.count == lengths[i], "array");
		cr_assert((buf.len == lengths[i] + 1) == (lengths[i] < 16), "the shortest form");
		buf.len = 0;
		mp_write_map(&writer, lengths[i] / 2);
		buf.len += lengths[i];
		reader = (struct mp_reader){buf.data, buf.data + buf.len};
		cr_assert(
			mp_read(&reader, &value) == 0 && value.type == MP_MAP && value.count == lengths[i] / 2, "map");
	}
	buf.len = 0;
	mp_write_text(&writer, "\xff", 1);
	cr_assert(buf.len == 3 && buf.data[0] == 0xc4, "text that is not UTF-8 goes as bin");
	buf.len = 0;
	mp_write_i64(&writer, -5);
	mp_write_i64(&writer, 5);
	mp_write_double(&writer, 1.5);
	mp_write_bool(&writer, true);
	mp_write_bool(&writer, false);
	mp_write_nil(&writer);
	mp_write_raw(&writer, "\x01", 1);
	cr_assert(
		buf.len == 15 && memcmp(buf.data, "\xfb\x05\xcb\x3f\xf8\0\0\0\0\0\0\xc3\xc2\xc0\x01", 15) == 0, "rest");
	cr_assert(!writer.failed, "no failure");
	buf_free(&buf);
}

Test(mp_write, frames_and_holes)
{
	struct buf buf = {0};
	struct mp_writer writer;
	cr_assert(buf_append(&buf, "before", 6) == 0, "append");
	mp_writer_init(&writer, &buf);
	frame_begin(&writer);
	size_t array = mp_hole_array(&writer);
	mp_write_nil(&writer);
	size_t number = mp_hole_u64(&writer);
	mp_fill_array(&writer, array, 2);
	mp_fill_u64(&writer, number, 0x0102030405060708);
	cr_assert(frame_bytes(&writer) == 15, "%zu", frame_bytes(&writer));
	cr_assert(frame_end(&writer) == 0, "end");
	frame_begin(&writer);
	mp_write_nil(&writer);
	frame_drop(&writer);
	frame_begin(&writer);
	mp_write_bool(&writer, true);
	cr_assert(frame_end(&writer) == 0, "second");
	static const char expected[] =
		"before\0\0\0\x0f\xdd\0\0\0\x02\xc0\xcf\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\x01\xc3";
	cr_assert(buf.len == sizeof(expected) - 1 && memcmp(buf.data, expected, buf.len) == 0, "bytes");
	buf_free(&buf);
}

Test(mp_write, a_failure_stays_until_the_frame_is_dropped)
{
	struct buf buf = {0};
	struct mp_writer writer;
	mp_writer_init(&writer, &buf);
	frame_begin(&writer);
	mp_write_u64(&writer, 1);
	frame_end(&writer);
	size_t before = buf.len;
	frame_begin(&writer);
	mp_write_array(&writer, (size_t)UINT32_MAX + 1);
	mp_write_bin(&writer, "abc", 3);
	size_t hole = mp_hole_u64(&writer);
	mp_fill_u64(&writer, hole, 1);
	mp_write_nil(&writer);
	mp_write_u64(&writer, 1);
	mp_write_array(&writer, 1);
	mp_write_str(&writer, "abc");
	cr_assert(frame_bytes(&writer) == 0, "nothing to be counted");
	cr_assert(frame_end(&writer) == -1 && buf.len == before, "taken back");
	frame_begin(&writer);
	mp_write_bin(&writer, "abc", (size_t)UINT32_MAX + 1);
	cr_assert(frame_end(&writer) == -1 && buf.len == before, "a length over 32 bits");
	frame_begin(&writer);
	mp_write_raw(&writer, "abc", SIZE_MAX);
	cr_assert(frame_end(&writer) == -1 && buf.len == before, "no memory");
	frame_begin(&writer);
	mp_write_nil(&writer);
	cr_assert(frame_end(&writer) == 0 && buf.len == before + 5, "and the next one is well again");
	buf_free(&buf);
}

/* ---- frames --------------------------------------------------------------------------------------------------- */

Test(frame, byte_by_byte)
{
	static const uint8_t bytes[] = {0, 0, 0, 3, 'a', 'b', 'c', 0, 0};
	struct span payload;
	size_t total;
	for (size_t have = 0; have < 4; have++)
		cr_assert(frame_next(bytes, have, 100, &payload, &total) == FRAME_MORE && total == 0, "%zu", have);
	for (size_t have = 4; have < 7; have++)
		cr_assert(frame_next(bytes, have, 100, &payload, &total) == FRAME_MORE && total == 7, "%zu", have);
	for (size_t have = 7; have <= sizeof(bytes); have++) {
		cr_assert(frame_next(bytes, have, 100, &payload, &total) == FRAME_READY && total == 7, "%zu", have);
		cr_assert(payload.data == bytes + 4 && payload.len == 3, "payload");
	}
	cr_assert(frame_next((const uint8_t *)"\0\0\0\0", 4, 100, &payload, &total) == FRAME_READY && payload.len == 0,
		"an empty frame is a frame");
}

Test(frame, the_limit_counts_the_payload_and_is_known_at_four_bytes)
{
	struct span payload;
	size_t total;
	cr_assert(frame_next((const uint8_t *)"\0\0\0\x64", 4, 100, &payload, &total) == FRAME_MORE, "at the limit");
	cr_assert(frame_next((const uint8_t *)"\0\0\0\x65", 4, 100, &payload, &total) == FRAME_OVER, "over it");
	cr_assert(total == 105, "%zu", total);
	cr_assert(frame_next((const uint8_t *)"\xff\xff\xff\xff", 4, 1 << 24, &payload, &total) == FRAME_OVER,
		"far over");
	cr_assert(total == (size_t)UINT32_MAX + 4, "no overflow");
	cr_assert(frame_next((const uint8_t *)"\xff\xff\xff", 3, 100, &payload, &total) == FRAME_MORE,
		"3 bytes say nothing");
}

Test(frame, memory_follows_what_was_received)
{
	size_t total = (16 << 20) + 4;
	cr_assert(frame_capacity(0, 0) == FRAME_BUFFER_MIN, "at first");
	cr_assert(frame_capacity(4, total) == FRAME_BUFFER_MIN, "an announcement alone gets nothing");
	size_t have = FRAME_BUFFER_MIN, rounds = 0;
	while (have < total) {
		size_t cap = frame_capacity(have, total);
		cr_assert(cap > have && cap <= 2 * have && cap <= total, "have %zu cap %zu", have, cap);
		have = cap;
		rounds++;
	}
	cr_assert(have == total && rounds < 20, "doubling, %zu rounds", rounds);
	cr_assert(frame_capacity(5000, 5001) == 5001, "no more than the frame needs");
	cr_assert(frame_capacity(SIZE_MAX - 1, 0) == SIZE_MAX, "no overflow");
}

/* ---- speed, for the eye only ---------------------------------------------------------------------------------- */

Test(mp_read, a_million_small_elements)
{
	enum { COUNT = 1000000 };
	struct buf buf = {0};
	struct mp_writer writer;
	mp_writer_init(&writer, &buf);
	mp_write_array(&writer, COUNT);
	for (int i = 0; i < COUNT; i++)
		mp_write_bin(&writer, "x", 1);
	struct mp_reader reader = {buf.data, buf.data + buf.len};
	uint64_t start = clock_now_ns();
	cr_assert(mp_skip(&reader) == 0 && reader.at == reader.end, "whole");
	fprintf(stderr, "mp_skip of %d one-byte bin elements: %.2f ms\n", COUNT,
		(double)(clock_now_ns() - start) / 1e6);
	buf_free(&buf);
}
