/*
 * libironwal against a server that behaves, if at times strangely: answers a byte at a time, out of order, more of them
 * than a socket holds, every error of the table.
 */
#include "fake_server.h"

/* ---- well-behaved ---- */

static void script_all_methods(struct fake *f)
{
	hello(f);
	expect(f, METHOD_PING);
	answer_empty(f, f->request.msgid);

	expect(f, METHOD_APPEND);
	MUST(param_is(f, KEY_STREAM, "a\0b", 3));
	MUST(param_is(f, KEY_ENTRY, "x\0y", 3));
	MUST(!fields_has(&f->request.params, KEY_SYNC) && !fields_has(&f->request.params, KEY_EXPECTED_ID));
	answer_append(f, f->request.msgid, UINT64_C(1) << 40);

	expect(f, METHOD_APPEND_BATCH);
	bool sync;
	struct byte_array array;
	MUST(field_bool(&f->request.params, KEY_SYNC, &sync, NULL) == 0 && sync);
	MUST(param_u64(f, KEY_EXPECTED_ID) == 7);
	MUST(field_byte_array(&f->request.params, KEY_ENTRIES, false, &array, NULL) == 0 && array.count == 3);
	MUST(array.total_bytes == 5 && array.longest_index == 2);
	answer_batch(f, f->request.msgid, 7, 10);

	expect(f, METHOD_GET);
	MUST(param_u64(f, KEY_ID) == 3);
	answer_begin(f->request.msgid, 1);
	mp_write_key(&answer, KEY_ENTRY);
	mp_write_bin(&answer, "three", 5);
	answer_done(f);

	expect(f, METHOD_GET); /* there, and empty */
	answer_begin(f->request.msgid, 1);
	mp_write_key(&answer, KEY_ENTRY);
	mp_write_bin(&answer, "", 0);
	answer_done(f);

	expect(f, METHOD_GET); /* not there */
	answer_begin(f->request.msgid, 1);
	mp_write_key(&answer, KEY_ENTRY);
	mp_write_nil(&answer);
	answer_done(f);

	expect(f, METHOD_GET_BATCH);
	struct u64_array ids;
	MUST(field_u64_array(&f->request.params, KEY_IDS, &ids, NULL) == 0 && ids.count == 3);
	answer_begin(f->request.msgid, 1);
	mp_write_key(&answer, KEY_ENTRIES);
	mp_write_array(&answer, 3);
	mp_write_bin(&answer, "one", 3);
	mp_write_nil(&answer);
	mp_write_bin(&answer, "", 0);
	answer_done(f);

	expect(f, METHOD_TRUNCATE);
	MUST(param_u64(f, KEY_SAFE_ID) == 100);
	answer_begin(f->request.msgid, 1);
	answer_u64(KEY_SEGMENTS_DELETED, 5);
	answer_done(f);

	expect(f, METHOD_CURRENT_SEGMENT_START_ID);
	answer_begin(f->request.msgid, 1);
	answer_u64(KEY_ID, 0);
	answer_done(f);

	expect(f, METHOD_CURRENT_SEGMENT_START_ID);
	answer_begin(f->request.msgid, 1);
	mp_write_key(&answer, KEY_ID);
	mp_write_nil(&answer);
	answer_done(f);

	expect(f, METHOD_STREAM_INFO);
	answer_begin(f->request.msgid, 5);
	answer_u64(KEY_FIRST, 1);
	answer_u64(KEY_END, 2);
	answer_u64(KEY_DURABLE_END, 3);
	answer_u64(KEY_SEGMENTS, 4);
	answer_u64(KEY_BYTES, UINT64_MAX);
	answer_done(f);

	expect(f, METHOD_LIST_STREAMS);
	MUST(param_is(f, KEY_PREFIX, "p", 1) && param_is(f, KEY_AFTER, "pa", 2) && param_u64(f, KEY_LIMIT) == 2);
	answer_begin(f->request.msgid, 2);
	mp_write_key(&answer, KEY_STREAMS);
	mp_write_array(&answer, 2);
	mp_write_str(&answer, "pb");
	mp_write_str_len(&answer, "p\0c", 3);
	answer_bool(KEY_MORE, true);
	answer_done(f);

	expect(f, METHOD_SYNC);
	MUST(!fields_has(&f->request.params, KEY_STREAM));
	answer_empty(f, f->request.msgid);
	expect(f, METHOD_SYNC);
	MUST(param_is(f, KEY_STREAM, "s", 1));
	answer_empty(f, f->request.msgid);
	until_closed(f);
}

static void all_methods(void)
{
	ironwal_append_result result = {0};
	ironwal_append_options options = IRONWAL_APPEND_OPTIONS_INIT;
	cr_assert(strcmp(ironwal_server(c), "fake/1.2.3") == 0);
	cr_assert(ironwal_protocol(c) == 1 && ironwal_shard_count(c) == 4);
	cr_assert(ironwal_max_message_bytes(c) == 16u << 20);
	cr_assert(ironwal_max_entry_bytes(c) == (16u << 20) - 1024);
	cr_assert(strcmp(ironwal_sync_mode(c), "strict") == 0 && strcmp(ironwal_compression(c), "none") == 0);
	cr_assert(strcmp(ironwal_address(c), fake.address) == 0);
	cr_assert(ironwal_ping(c, err) == 0, "%s", ironwal_error_message(err));

	cr_assert(ironwal_append(c, "a\0b", 3, "x\0y", 3, NULL, &result, err) == 0, "%s", ironwal_error_message(err));
	cr_assert(result.first == UINT64_C(1) << 40 && result.end == result.first + 1 && result.durable);

	const ironwal_bytes entries[] = {{"", 0}, {"ab", 2}, {"abc", 3}};
	options.sync = 1;
	options.has_expected_id = 1;
	options.expected_id = 7;
	cr_assert(ironwal_append_batch(c, "s", 1, entries, 3, &options, &result, err) == 0, "%s",
		ironwal_error_message(err));
	cr_assert(result.first == 7 && result.end == 10 && !result.durable);

	void *entry;
	size_t len;
	cr_assert(ironwal_get(c, "s", 1, 3, &entry, &len, err) == 0);
	cr_assert(len == 5 && memcmp(entry, "three", 5) == 0);
	ironwal_entry_free(entry);
	cr_assert(ironwal_get(c, "s", 1, 4, &entry, &len, err) == 0);
	cr_assert(len == 0 && entry != NULL);
	ironwal_entry_free(entry);
	cr_assert(ironwal_get(c, "s", 1, 5, &entry, &len, err) == 0 && entry == NULL);

	const uint64_t ids[] = {9, 5, 8};
	ironwal_entries *found;
	const void *data;
	uint64_t id;
	cr_assert(ironwal_get_batch(c, "s", 1, ids, 3, &found, err) == 0);
	cr_assert(ironwal_entries_count(found) == 3);
	cr_assert(ironwal_entries_get(found, 0, &id, &data, &len) == 1 && id == 9 && len == 3);
	cr_assert(memcmp(data, "one", 3) == 0);
	cr_assert(ironwal_entries_get(found, 1, &id, &data, &len) == 0 && id == 5);
	cr_assert(ironwal_entries_get(found, 2, NULL, &data, &len) == 1 && len == 0);
	cr_assert(ironwal_entries_get(found, 3, &id, &data, &len) == 0);
	ironwal_entries_free(found);

	uint64_t deleted;
	cr_assert(ironwal_truncate(c, "s", 1, 100, &deleted, err) == 0 && deleted == 5);
	cr_assert(ironwal_current_segment_start_id(c, "s", 1, &id, err) == 1 && id == 0);
	cr_assert(ironwal_current_segment_start_id(c, "t", 1, &id, err) == 0);
	ironwal_stream_info info;
	cr_assert(ironwal_get_stream_info(c, "s", 1, &info, err) == 0);
	cr_assert(info.first == 1 && info.end == 2 && info.durable_end == 3 && info.segments == 4);
	cr_assert(info.bytes == UINT64_MAX);

	ironwal_names *names;
	cr_assert(ironwal_list_streams(c, "p", 1, "pa", 2, 2, &names, err) == 0);
	cr_assert(ironwal_names_count(names) == 2 && ironwal_names_more(names));
	const char *name = ironwal_names_get(names, 1, &len);
	cr_assert(len == 3 && memcmp(name, "p\0c", 3) == 0);
	cr_assert(ironwal_names_get(names, 2, &len) == NULL);
	ironwal_names_free(names);
	cr_assert(ironwal_sync(c, NULL, 0, err) == 0);
	cr_assert(ironwal_sync(c, "s", 1, err) == 0);
	cr_assert(ironwal_error_get_code(err) == IRONWAL_OK, "success leaves the error alone");
}

Test(client, every_method)
{
	start(script_all_methods);
	all_methods();
	stop();
}

static void script_all_methods_split(struct fake *f)
{
	f->one_byte_at_a_time = true;
	script_all_methods(f);
}

Test(client, every_method_with_answers_a_byte_at_a_time)
{
	start(script_all_methods_split);
	all_methods();
	stop();
}

/* ---- reading a stream ---- */

static void script_iterate(struct fake *f)
{
	struct error e;
	hello(f);
	expect(f, METHOD_ITER);
	MUST(!fields_has(&f->request.params, KEY_START_ID) && param_u64(f, KEY_MAX_ENTRIES) == 2);
	answer_iter(f, 5, 2, 8);
	expect(f, METHOD_ITER);
	MUST(param_u64(f, KEY_START_ID) == 7);
	answer_iter(f, 7, 1, 8);
	expect(f, METHOD_ITER);
	MUST(param_u64(f, KEY_START_ID) == 8);
	answer_iter(f, 8, 0, 8);
	expect(f, METHOD_ITER); /* the same again: it is stateless here */
	MUST(param_u64(f, KEY_START_ID) == 8);
	error_set(&e, ERR_TRUNCATED, "entries below 20 are gone");
	error_set_u64(&e, EFI_FIRST_ID, 20);
	answer_error(f, f->request.msgid, &e);
	expect(f, METHOD_ITER);
	MUST(param_u64(f, KEY_START_ID) == 8);
	answer_iter(f, 8, 1, 9);
	until_closed(f);
}

Test(client, iterator_keeps_its_place)
{
	ironwal_read_options options = IRONWAL_READ_OPTIONS_INIT;
	ironwal_iterator *it;
	uint64_t id, expected;
	const void *data;
	size_t len;
	start(script_iterate);
	options.max_entries = 2;
	cr_assert(ironwal_iterator_open(c, "s", 1, &options, &it, err) == 0);
	cr_assert(ironwal_iterator_next_id(it, &id) == 0);
	for (expected = 5; expected < 8; expected++) {
		char text[32];
		cr_assert(ironwal_iterator_next(it, &id, &data, &len, err) == 1, "%s", ironwal_error_message(err));
		snprintf(text, sizeof(text), "entry %u", (unsigned)expected);
		cr_assert(id == expected && len == strlen(text) && memcmp(data, text, len) == 0);
		cr_assert(ironwal_iterator_next_id(it, &id) == 1 && id == expected + 1);
	}
	cr_assert(ironwal_iterator_next(it, &id, &data, &len, err) == 0);
	cr_assert(ironwal_iterator_next(it, &id, &data, &len, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TRUNCATED, IRONWAL_FATE_NOT_A_WRITE, 1);
	cr_assert(ironwal_error_get_uint(err, "first_id", &id) == 1 && id == 20);
	cr_assert(ironwal_iterator_next_id(it, &id) == 1 && id == 8);
	cr_assert(ironwal_iterator_next(it, &id, &data, &len, err) == 1 && id == 8);
	ironwal_iterator_free(it);
	stop();
}

static void script_skips(struct fake *f)
{
	hello(f);
	expect(f, METHOD_ITER);
	answer_iter(f, 6, 2, 8); /* 5 was asked for */
	until_closed(f);
}

Test(client, entries_that_skip_are_not_accepted)
{
	ironwal_read_options options = IRONWAL_READ_OPTIONS_INIT;
	ironwal_entries *entries;
	start(script_skips);
	options.has_start_id = 1;
	options.start_id = 5;
	cr_assert(ironwal_read(c, "s", 1, &options, &entries, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_PROTOCOL, IRONWAL_FATE_NOT_A_WRITE, 0);
	stop();
}

/* ---- pipelining ---- */

static void script_out_of_order(struct fake *f)
{
	uint32_t ids[3];
	hello(f);
	for (int i = 0; i < 3; i++) {
		expect(f, METHOD_APPEND);
		ids[i] = f->request.msgid;
	}
	answer_append(f, ids[2], 12);
	answer_append(f, ids[0], 10);
	expect(f, METHOD_PING); /* a blocking call meanwhile takes its own answer only */
	answer_empty(f, f->request.msgid);
	answer_append(f, ids[1], 11);
	until_closed(f);
}

Test(client, answers_out_of_order)
{
	uint32_t ids[3], id = 0;
	ironwal_append_result result;
	start(script_out_of_order);
	cr_assert(next_append(&id, &result) == 0, "nothing is in flight");
	for (int i = 0; i < 3; i++)
		cr_assert(ironwal_submit_append(c, "s", 1, "e", 1, NULL, &ids[i], err) == 0);
	cr_assert(ironwal_in_flight(c) == 3);
	cr_assert(ironwal_ping(c, err) == 0, "%s", ironwal_error_message(err));
	const int order[] = {2, 0, 1};
	for (int i = 0; i < 3; i++) {
		cr_assert(next_append(&id, &result) == 1);
		cr_assert(id == ids[order[i]] && result.first == 10u + (unsigned)order[i]);
	}
	cr_assert(next_append(&id, &result) == 0);
	cr_assert(ironwal_in_flight(c) == 0);
	stop();
}

#define DEEP 1000

/* Both directions carry more than any socket buffer holds, and this side writes before it reads the next one. */
static void script_deep(struct fake *f)
{
	hello(f);
	for (unsigned i = 0; i < DEEP; i++) {
		expect(f, METHOD_APPEND);
		send_notification(f, 32768);
		answer_append(f, f->request.msgid, i);
	}
	until_closed(f);
}

Test(client, deep_pipeline_does_not_lock_up, .timeout = 120)
{
	static char entry[32768];
	uint32_t id;
	ironwal_append_result result;
	start(script_deep);
	for (unsigned i = 0; i < DEEP; i++)
		cr_assert(ironwal_submit_append(c, "s", 1, entry, sizeof(entry), NULL, &id, err) == 0, "%s",
			ironwal_error_message(err));
	cr_assert(ironwal_flush(c, err) == 0, "%s", ironwal_error_message(err));
	for (unsigned i = 0; i < DEEP; i++) {
		cr_assert(next_append(&id, &result) == 1, "%s", ironwal_error_message(err));
		cr_assert(result.first == i);
	}
	stop();
}

static void script_two(struct fake *f)
{
	hello(f);
	for (unsigned i = 0; i < 3; i++) {
		expect(f, METHOD_APPEND);
		answer_append(f, f->request.msgid, i);
	}
	until_closed(f);
}

Test(client, bounds_on_what_is_in_flight)
{
	ironwal_options options = IRONWAL_OPTIONS_INIT;
	ironwal_append_result result;
	uint32_t id;
	err = ironwal_error_new();
	options.max_in_flight_count = 2;
	fake_start(&fake, script_two);
	cr_assert(ironwal_connect(fake.address, &options, &c, err) == 0);
	cr_assert(ironwal_submit_append(c, "s", 1, "e", 1, NULL, &id, err) == 0);
	cr_assert(ironwal_submit_append(c, "s", 1, "e", 1, NULL, &id, err) == 0);
	cr_assert(ironwal_submit_append(c, "s", 1, "e", 1, NULL, &id, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_AGAIN, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(ironwal_error_is_retriable(err));
	cr_assert(next_append(&id, &result) == 1 && result.first == 0);
	cr_assert(ironwal_submit_append(c, "s", 1, "e", 1, NULL, &id, err) == 0);
	cr_assert(next_append(&id, &result) == 1 && result.first == 1);
	cr_assert(next_append(&id, &result) == 1 && result.first == 2);
	stop();
}

/* ---- what is too large ---- */

Test(client, what_is_too_large_is_not_sent)
{
	static char large[8192];
	ironwal_append_result result;
	ironwal_bytes many[16];
	start(script_silent);
	cr_assert(ironwal_append(c, "s", 1, large, 8192 - 1023, NULL, &result, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(!ironwal_error_is_retriable(err));
	for (int i = 0; i < 16; i++)
		many[i] = (ironwal_bytes){large, 525};
	cr_assert(ironwal_append_batch(c, "s", 1, many, 16, NULL, &result, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
	/* The entries alone would fit, the message does not. */
	cr_assert(ironwal_append_batch(c, large, 255, many, 15, NULL, &result, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(ironwal_append_batch(c, "s", 1, many, SIZE_MAX, NULL, &result, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
	stop();
}

/* ---- errors that the server answers ---- */

static const enum error_code wire_codes[] = {
#define ERROR(suffix, name, required, optional) ERR_##suffix,
#include "errors.def"
#undef ERROR
};
static const char *const wire_names[] = {
#define ERROR(suffix, name, required, optional) name,
#include "errors.def"
#undef ERROR
};
static const ironwal_error_code public_codes[] = {
#define ERROR(suffix, name, required, optional) IRONWAL_ERR_##suffix,
#include "errors.def"
#undef ERROR
};
#define CODE_COUNT (sizeof(wire_codes) / sizeof(wire_codes[0]))

static void fill_error(struct error *e, enum error_code code)
{
	error_set(e, code, "a\nmessage");
	uint32_t wanted = error_required_fields(code) | error_optional_fields(code);
	for (unsigned i = 0; i < EFI_COUNT; i++) {
		enum error_field field = (enum error_field)i;
		if ((wanted >> i & 1) == 0)
			continue;
		if (field == EFI_OUTCOME)
			error_set_outcome(e, OUTCOME_NONE);
		else if (field == EFI_OS_ERRNO)
			error_set_text(e, field, "ENOSPC", 6);
		else if (error_u64_field(e, field) != NULL)
			error_set_u64(e, field, 1000 + i);
		else
			error_set_text(e, field, "te\0xt", 5);
	}
}

static void script_errors(struct fake *f)
{
	hello(f);
	for (size_t i = 0; i < CODE_COUNT; i++) {
		struct error e;
		expect(f, METHOD_APPEND);
		if (wire_codes[i] == ERR_IO) {
			error_set_io(&e, ENOSPC, "write", "te");
			error_set_outcome(&e, OUTCOME_NONE);
		} else {
			fill_error(&e, wire_codes[i]);
		}
		answer_error(f, f->request.msgid, &e);
	}
	until_closed(f);
}

Test(client, every_error_arrives_with_its_fields)
{
	start(script_errors);
	for (size_t i = 0; i < CODE_COUNT; i++) {
		cr_assert(append("e", NULL) == -1);
		ASSERT_ERROR(public_codes[i], IRONWAL_FATE_REFUSED, 1);
		cr_assert(strcmp(ironwal_error_code_name(err), wire_names[i]) == 0, "%s", wire_names[i]);
		uint32_t wanted = error_required_fields(wire_codes[i]) | error_optional_fields(wire_codes[i]);
		if (wire_codes[i] == ERR_IO) {
			cr_assert(ironwal_error_errno(err) == ENOSPC);
			wanted = error_required_fields(ERR_IO);
		} else {
			cr_assert(strcmp(ironwal_error_message(err), "a?message") == 0, "made printable");
		}
		unsigned count = 0, expected = (unsigned)__builtin_popcount(wanted);
		const char *field, *text;
		uint64_t value;
		size_t len;
		int kind;
		for (; (field = ironwal_error_field(err, count, &kind)) != NULL; count++) {
			if (kind == 1)
				cr_assert(
					ironwal_error_get_uint(err, field, &value) == 1 && value >= 1000, "%s", field);
			else
				cr_assert(ironwal_error_get_text(err, field, &text, &len) == 1 && len > 0, "%s", field);
			cr_assert(ironwal_error_get_uint(err, "no such", &value) == 0);
		}
		cr_assert(count == expected, "%s: %u fields of %u", wire_names[i], count, expected);
	}
	stop();
}

static void script_unknown_outcome(struct fake *f)
{
	struct error e;
	hello(f);
	expect(f, METHOD_APPEND);
	error_set_io(&e, EIO, "sync", "/a/segment");
	error_set_outcome(&e, OUTCOME_UNKNOWN);
	answer_error(f, f->request.msgid, &e);
	expect(f, METHOD_APPEND);
	/* A code and a field of a later version. */
	mp_writer_init(&answer, &answer_buf);
	frame_begin(&answer);
	mp_write_array(&answer, 4);
	mp_write_u64(&answer, 1);
	mp_write_u64(&answer, f->request.msgid);
	mp_write_map(&answer, 3);
	mp_write_str(&answer, "code");
	mp_write_str(&answer, "QuotaExceeded");
	mp_write_str(&answer, "message");
	mp_write_str(&answer, "too much");
	mp_write_str(&answer, "quota");
	mp_write_u64(&answer, 5);
	mp_write_nil(&answer);
	answer_done(f);
	until_closed(f);
}

Test(client, io_with_unknown_outcome_and_codes_of_later_versions)
{
	start(script_unknown_outcome);
	cr_assert(append("e", NULL) == -1);
	ASSERT_ERROR(IRONWAL_ERR_IO, IRONWAL_FATE_UNKNOWN, 1);
	cr_assert(ironwal_error_errno(err) == EIO && !ironwal_error_is_retriable(err));
	cr_assert(append("e", NULL) == -1);
	ASSERT_ERROR(IRONWAL_ERR_OTHER, IRONWAL_FATE_REFUSED, 1);
	cr_assert(strcmp(ironwal_error_code_name(err), "QuotaExceeded") == 0);
	stop();
}

/* ---- stats ---- */

static void script_stats(struct fake *f)
{
	hello(f);
	expect(f, METHOD_STATS);
	answer_begin(f->request.msgid, 3);
	mp_write_str(&answer, "appends");
	mp_write_u64(&answer, 12);
	mp_write_str(&answer, "shards");
	mp_write_array(&answer, 2);
	mp_write_map(&answer, 1);
	mp_write_str(&answer, "depth");
	mp_write_i64(&answer, -3);
	mp_write_map(&answer, 0);
	mp_write_str(&answer, "mean");
	mp_write_double(&answer, 0.5);
	answer_done(f);
	until_closed(f);
}

static int draw(const ironwal_value_item *item, void *arg)
{
	char text[64] = "";
	switch (item->kind) {
	case IRONWAL_VALUE_MAP_BEGIN:
		strcpy(text, "{");
		break;
	case IRONWAL_VALUE_MAP_END:
		strcpy(text, "}");
		break;
	case IRONWAL_VALUE_ARRAY_BEGIN:
		strcpy(text, "[");
		break;
	case IRONWAL_VALUE_ARRAY_END:
		strcpy(text, "]");
		break;
	case IRONWAL_VALUE_UINT:
		snprintf(text, sizeof(text), "%llu ", (unsigned long long)item->u);
		break;
	case IRONWAL_VALUE_INT:
		snprintf(text, sizeof(text), "%lld ", (long long)item->i);
		break;
	case IRONWAL_VALUE_FLOAT:
		snprintf(text, sizeof(text), "%g ", item->f);
		break;
	default:
		snprintf(text, sizeof(text), "%.*s%s", (int)item->len, item->data, item->is_key ? ":" : " ");
	}
	strcat(arg, text);
	return 0;
}

static int stop_at_once(const ironwal_value_item *item, void *arg)
{
	(void)item;
	(void)arg;
	return 42;
}

Test(client, stats_can_be_walked)
{
	ironwal_value *value;
	char drawn[512] = "";
	size_t len;
	start(script_stats);
	cr_assert(ironwal_stats(c, &value, err) == 0, "%s", ironwal_error_message(err));
	cr_assert(ironwal_value_walk(value, draw, drawn) == 0);
	cr_assert(strcmp(drawn, "{appends:12 shards:[{depth:-3 }{}]mean:0.5 }") == 0, "%s", drawn);
	cr_assert(ironwal_value_walk(value, stop_at_once, NULL) == 42);
	cr_assert(*(const uint8_t *)ironwal_value_msgpack(value, &len) == 0x83 && len > 30);
	ironwal_value_free(value);
	stop();
}
