/*
 * libironwal's shards against a server of a script: appends by key, batches that succeed in part, reading a shard.
 * Of four shards, "" belongs to 2, "user-17" to 1, "user-18" and "a" to 3.
 */
#include "fake_server.h"

static const ironwal_key_value three[] = {
	{{"user-17", 7}, {"one", 3}}, {{"user-18", 7}, {"", 0}}, {{NULL, 0}, {"th\0ee", 5}}};

static void put_position(uint64_t shard, uint64_t id)
{
	mp_write_array(&answer, 2);
	mp_write_u64(&answer, shard);
	mp_write_u64(&answer, id);
}

static bool pair_is(struct pair_iter *iter, const char *key, const char *value, size_t value_len)
{
	struct span k, v;
	return pair_iter_next(iter, &k, &v) && k.len == strlen(key) && memcmp(k.data, key, k.len) == 0 &&
	       v.len == value_len && memcmp(v.data, value, v.len) == 0;
}

static void expect_three(struct fake *f)
{
	struct pair_array pairs;
	expect(f, METHOD_SHARD_APPEND_BATCH);
	MUST(field_pair_array(&f->request.params, KEY_ENTRIES, &pairs, NULL) == 0 && pairs.count == 3);
	struct pair_iter iter = pair_iter_of(&pairs);
	MUST(pair_is(&iter, "user-17", "one", 3) && pair_is(&iter, "user-18", "", 0) &&
		pair_is(&iter, "", "th\0ee", 5));
}

static void results_begin(struct fake *f, size_t count)
{
	answer_begin(f->request.msgid, 1);
	mp_write_key(&answer, KEY_RESULTS);
	mp_write_array(&answer, count);
}

/* What a call must not touch shows by this. */
static const ironwal_shard_position untouched = {77, 77, 77};

static void fill_untouched(ironwal_shard_position positions[3])
{
	for (int i = 0; i < 3; i++)
		positions[i] = untouched;
}

static bool position_is(const ironwal_shard_position *position, uint32_t shard, uint64_t id, int written)
{
	return position->shard == shard && position->id == id && (position->written != 0) == (written != 0);
}

static bool none_known_written(const ironwal_shard_position positions[3])
{
	return position_is(&positions[0], 1, 0, 0) && position_is(&positions[1], 3, 0, 0) &&
	       position_is(&positions[2], 2, 0, 0);
}

/* ---- what needs no server ---- */

Test(client_sharded, shards_of_keys_are_those_of_the_protocol)
{
	static char many[300];
	memset(many, 'x', sizeof(many));
	cr_assert(ironwal_shard_of_key(NULL, 0, 4) == 2);
	cr_assert(ironwal_shard_of_key("a", 1, 4) == 3);
	cr_assert(ironwal_shard_of_key("user-17", 7, 4) == 1);
	cr_assert(ironwal_shard_of_key("user-18", 7, 4) == 3);
	cr_assert(ironwal_shard_of_key(many, sizeof(many), 4) == 0);
	cr_assert(ironwal_shard_of_key("a", 1, 1) == 0);
	cr_assert(ironwal_shard_of_key("a", 1, 0) == 0);
	cr_assert(ironwal_shard_of_key("user-17", 7, 65535) == UINT64_C(0x7d94013a73497c81) % 65535);
}

Test(client_sharded, names_of_shards_have_two_digits_or_more)
{
	char name[IRONWAL_SHARD_NAME_MAX];
	cr_assert(ironwal_shard_name(0, name) == 8 && strcmp(name, "shard_00") == 0);
	cr_assert(ironwal_shard_name(7, name) == 8 && strcmp(name, "shard_07") == 0);
	cr_assert(ironwal_shard_name(99, name) == 8 && strcmp(name, "shard_99") == 0);
	cr_assert(ironwal_shard_name(100, name) == 9 && strcmp(name, "shard_100") == 0);
	cr_assert(ironwal_shard_name(UINT32_MAX, name) == 16 && strcmp(name, "shard_4294967295") == 0);
}

/* ---- well-behaved ---- */

static void script_appends(struct fake *f)
{
	bool sync;
	struct byte_array array;
	hello(f);
	expect(f, METHOD_SHARD_APPEND);
	MUST(param_is(f, KEY_KEY, "user-17", 7) && param_is(f, KEY_VALUE, "x\0y", 3));
	MUST(!fields_has(&f->request.params, KEY_SYNC));
	answer_begin(f->request.msgid, 2);
	answer_u64(KEY_SHARD, 1);
	answer_u64(KEY_ID, UINT64_C(1) << 40);
	answer_done(f);

	expect(f, METHOD_SHARD_APPEND); /* of nothing, to the shard of nothing */
	MUST(param_is(f, KEY_KEY, "", 0) && param_is(f, KEY_VALUE, "", 0));
	MUST(field_bool(&f->request.params, KEY_SYNC, &sync, NULL) == 0 && sync);
	answer_begin(f->request.msgid, 2);
	answer_u64(KEY_SHARD, 2);
	answer_u64(KEY_ID, 0);
	answer_done(f);

	expect_three(f);
	MUST(field_bool(&f->request.params, KEY_SYNC, &sync, NULL) == 0 && sync);
	results_begin(f, 3);
	put_position(1, 70000);
	put_position(3, 8);
	put_position(2, UINT64_MAX);
	answer_done(f);

	expect(f, METHOD_SHARD_APPEND_BATCH);
	results_begin(f, 0);
	answer_done(f);

	for (int i = 0; i < 2; i++) {
		expect(f, METHOD_SHARD_APPEND_BATCH_FOR_KEY);
		MUST(param_is(f, KEY_KEY, "a", 1));
		MUST(field_byte_array(&f->request.params, KEY_VALUES, false, &array, NULL) == 0);
		MUST(array.count == (i == 0 ? 2 : 0) && array.total_bytes == (i == 0 ? 3 : 0));
		MUST(fields_has(&f->request.params, KEY_SYNC) == (i == 0));
		answer_begin(f->request.msgid, 3);
		answer_u64(KEY_SHARD, 3);
		answer_u64(KEY_FIRST, 9);
		answer_u64(KEY_END, i == 0 ? 11 : 9);
		answer_done(f);
	}
	until_closed(f);
}

static void appends(void)
{
	ironwal_shard_append_options options = IRONWAL_SHARD_APPEND_OPTIONS_INIT;
	ironwal_shard_position one, positions[3];
	ironwal_shard_range range;
	cr_assert(ironwal_shard_append(c, "user-17", 7, "x\0y", 3, NULL, &one, err) == 0, "%s",
		ironwal_error_message(err));
	cr_assert(position_is(&one, 1, UINT64_C(1) << 40, 1));
	options.sync = 1;
	cr_assert(ironwal_shard_append(c, NULL, 0, NULL, 0, &options, NULL, err) == 0);

	fill_untouched(positions);
	cr_assert(ironwal_shard_append_batch(c, three, 3, &options, positions, err) == 0, "%s",
		ironwal_error_message(err));
	cr_assert(position_is(&positions[0], 1, 70000, 1));
	cr_assert(position_is(&positions[1], 3, 8, 1));
	cr_assert(position_is(&positions[2], 2, UINT64_MAX, 1));
	cr_assert(ironwal_shard_append_batch(c, NULL, 0, NULL, NULL, err) == 0);

	const ironwal_bytes values[] = {{"v", 1}, {"w\0", 2}};
	cr_assert(ironwal_shard_append_batch_for_key(c, "a", 1, values, 2, &options, &range, err) == 0, "%s",
		ironwal_error_message(err));
	cr_assert(range.shard == 3 && range.first == 9 && range.end == 11);
	cr_assert(ironwal_shard_append_batch_for_key(c, "a", 1, NULL, 0, NULL, &range, err) == 0);
	cr_assert(range.shard == 3 && range.first == 9 && range.end == 9);
	cr_assert(ironwal_error_get_code(err) == IRONWAL_OK, "success leaves the error alone");
}

Test(client_sharded, appends_by_key)
{
	start(script_appends);
	appends();
	stop();
}

static void script_appends_split(struct fake *f)
{
	f->one_byte_at_a_time = true;
	script_appends(f);
}

Test(client_sharded, appends_by_key_with_answers_a_byte_at_a_time)
{
	start(script_appends_split);
	appends();
	stop();
}

static void script_reads(struct fake *f)
{
	hello(f);
	expect(f, METHOD_ITER_SHARD);
	MUST(param_u64(f, KEY_SHARD) == 3 && param_u64(f, KEY_START_ID) == 5 && param_u64(f, KEY_MAX_ENTRIES) == 2);
	MUST(param_u64(f, KEY_MAX_BYTES) == 1000 && param_u64(f, KEY_WAIT_MS) == 7);
	MUST(!fields_has(&f->request.params, KEY_STREAM));
	answer_iter(f, 5, 2, 8);
	expect(f, METHOD_ITER_SHARD);
	MUST(param_u64(f, KEY_SHARD) == 0 && !fields_has(&f->request.params, KEY_START_ID));
	answer_iter(f, 4, 1, 6);
	expect(f, METHOD_ITER_SHARD);
	MUST(param_u64(f, KEY_SHARD) == 0 && param_u64(f, KEY_START_ID) == 5);
	answer_iter(f, 5, 1, 6);
	expect(f, METHOD_ITER_SHARD);
	MUST(param_u64(f, KEY_SHARD) == 0 && param_u64(f, KEY_START_ID) == 6);
	answer_iter(f, 6, 0, 6);
	expect(f, METHOD_ITER_SHARD);
	MUST(param_u64(f, KEY_SHARD) == 4);
	struct error e;
	error_set(&e, ERR_CONFIG, "there is no shard 4: the log has 4, from 0 to 3");
	answer_error(f, f->request.msgid, &e);
	expect(f, METHOD_ITER_SHARD); /* what is asked for at 5 begins at 6 */
	answer_iter(f, 6, 1, 7);
	until_closed(f);
}

Test(client_sharded, reading_a_shard)
{
	ironwal_read_options options = IRONWAL_READ_OPTIONS_INIT;
	ironwal_entries *entries;
	ironwal_iterator *it;
	const void *data;
	size_t len;
	uint64_t id;
	start(script_reads);
	options.has_start_id = 1;
	options.start_id = 5;
	options.max_entries = 2;
	options.max_bytes = 1000;
	options.wait_ms = 7;
	cr_assert(ironwal_read_shard(c, 3, &options, &entries, err) == 0, "%s", ironwal_error_message(err));
	cr_assert(ironwal_entries_count(entries) == 2 && ironwal_entries_next_id(entries) == 7);
	cr_assert(ironwal_entries_end_id(entries) == 8);
	cr_assert(ironwal_entries_get(entries, 1, &id, &data, &len) == 1 && id == 6 && len == 7);
	ironwal_entries_free(entries);

	cr_assert(ironwal_shard_iterator_open(c, 0, NULL, &it, err) == 0);
	cr_assert(ironwal_iterator_next_id(it, &id) == 0);
	cr_assert(ironwal_iterator_next(it, &id, &data, &len, err) == 1 && id == 4);
	cr_assert(ironwal_iterator_next(it, &id, &data, &len, err) == 1 && id == 5);
	cr_assert(ironwal_iterator_next(it, &id, &data, &len, err) == 0);
	cr_assert(ironwal_iterator_next_id(it, &id) == 1 && id == 6);
	ironwal_iterator_free(it);

	cr_assert(ironwal_read_shard(c, 4, NULL, &entries, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_CONFIG, IRONWAL_FATE_NOT_A_WRITE, 1);
	cr_assert(ironwal_read_shard(c, 0, &options, &entries, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_PROTOCOL, IRONWAL_FATE_NOT_A_WRITE, 0);
	stop();
}

/* ---- batches that fail, wholly or in part ---- */

/* How the next batch is refused. */
static struct refusal {
	enum error_code code;
	int outcome;	  /* -1: none is told */
	bool is_full;	  /* no space, else a failing disk */
	int result_count; /* -1: no results */
	int nil_mask;	  /* of these, which are nil */
} refusal;

static void answer_refusal(struct fake *f)
{
	static const uint64_t shards[] = {1, 3, 2, 0};
	struct error e;
	if (refusal.code == ERR_IO)
		error_set_io(&e, refusal.is_full ? ENOSPC : EIO, "write", "shard_03/segment");
	else
		error_set(&e, refusal.code, "refused");
	if (refusal.outcome >= 0)
		error_set_outcome(&e, refusal.outcome > 0 ? OUTCOME_UNKNOWN : OUTCOME_NONE);
	mp_writer_init(&answer, &answer_buf);
	response_error_begin(&answer, f->request.msgid, &e, refusal.result_count >= 0 ? 1 : 0);
	if (refusal.result_count >= 0) {
		mp_write_key(&answer, KEY_RESULTS);
		mp_write_array(&answer, (size_t)refusal.result_count);
	}
	for (int i = 0; i < refusal.result_count; i++) {
		if (refusal.nil_mask >> i & 1)
			mp_write_nil(&answer);
		else
			put_position(shards[i], 100u + (unsigned)i);
	}
	MUST(response_error_end(&answer) == 0);
	send_bytes(f, answer_buf.data, answer_buf.len);
	answer_buf.len = 0;
}

static void script_refuses(struct fake *f)
{
	hello(f);
	while (next_request(f)) {
		MUST(f->request.method == METHOD_SHARD_APPEND_BATCH);
		answer_refusal(f);
	}
}

static int refused_batch(struct refusal how, ironwal_shard_position positions[3])
{
	refusal = how;
	fill_untouched(positions);
	return ironwal_shard_append_batch(c, three, 3, NULL, positions, err);
}

Test(client_sharded, a_batch_in_part)
{
	ironwal_shard_position positions[3];
	start(script_refuses);
	cr_assert(refused_batch((struct refusal){ERR_IO, 0, true, 3, 2}, positions) == -1);
	ASSERT_ERROR(IRONWAL_ERR_IO, IRONWAL_FATE_PARTLY, 1);
	cr_assert(ironwal_error_errno(err) == ENOSPC && !ironwal_error_is_retriable(err), "it would write twice");
	cr_assert(strcmp(ironwal_fate_name(ironwal_error_fate(err)), "partly") == 0);
	cr_assert(position_is(&positions[0], 1, 100, 1));
	cr_assert(position_is(&positions[1], 3, 0, 0), "the shard is the key's all the same");
	cr_assert(position_is(&positions[2], 2, 102, 1));

	/* The first failure decides the code, and an outcome of it the fate. */
	cr_assert(refused_batch((struct refusal){ERR_BUSY, -1, false, 3, 5}, positions) == -1);
	ASSERT_ERROR(IRONWAL_ERR_BUSY, IRONWAL_FATE_PARTLY, 1);
	cr_assert(!ironwal_error_is_retriable(err));
	cr_assert(!positions[0].written && position_is(&positions[1], 3, 101, 1) && !positions[2].written);

	cr_assert(refused_batch((struct refusal){ERR_IO, 1, false, 3, 1}, positions) == -1);
	ASSERT_ERROR(IRONWAL_ERR_IO, IRONWAL_FATE_UNKNOWN, 1);
	cr_assert(position_is(&positions[0], 1, 0, 0) && positions[1].written && positions[2].written);

	/* Nobody wants to know. */
	refusal = (struct refusal){ERR_IO, 0, true, 3, 2};
	cr_assert(ironwal_shard_append_batch(c, three, 3, NULL, NULL, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_IO, IRONWAL_FATE_PARTLY, 1);
	fill_untouched(positions);
	cr_assert(ironwal_shard_append_batch(c, three, 3, NULL, positions, NULL) == -1);
	cr_assert(positions[0].written == 1 && positions[1].written == 0 && positions[2].written == 1);
	stop();
}

Test(client_sharded, a_batch_that_is_refused_whole)
{
	ironwal_shard_position positions[3];
	start(script_refuses);
	for (int with_results = 0; with_results < 2; with_results++) {
		const int count = with_results ? 3 : -1;
		cr_assert(refused_batch((struct refusal){ERR_BUSY, -1, false, count, 7}, positions) == -1);
		ASSERT_ERROR(IRONWAL_ERR_BUSY, IRONWAL_FATE_REFUSED, 1);
		cr_assert(ironwal_error_is_retriable(err));
		cr_assert(none_known_written(positions));
		cr_assert(refused_batch((struct refusal){ERR_IO, 1, true, count, 7}, positions) == -1);
		ASSERT_ERROR(IRONWAL_ERR_IO, IRONWAL_FATE_UNKNOWN, 1);
		cr_assert(!ironwal_error_is_retriable(err));
		cr_assert(none_known_written(positions));
	}
	refusal = (struct refusal){ERR_BUSY, -1, false, 0, 0};
	cr_assert(ironwal_shard_append_batch(c, NULL, 0, NULL, NULL, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_BUSY, IRONWAL_FATE_REFUSED, 1);
	stop();
}

Test(client_sharded, results_of_an_error_that_make_no_sense)
{
	static const struct refusal cases[] = {
		{ERR_IO, 0, true, 2, 2},  /* one too few */
		{ERR_IO, 0, true, 4, 2},  /* one too many */
		{ERR_IO, 0, true, 0, 0},  /* none */
		{ERR_IO, 0, true, 3, 0},  /* everything was written */
		{ERR_IO, 1, false, 3, 0}, /* and is not known to be */
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ironwal_shard_position positions[3];
		start(script_refuses);
		cr_assert(refused_batch(cases[i], positions) == -1);
		ASSERT_ERROR(IRONWAL_ERR_PROTOCOL, IRONWAL_FATE_UNKNOWN, 0);
		cr_assert(none_known_written(positions), "case %zu", i);
		stop();
	}
}

/* ---- answers that are not what the protocol says ---- */

static int shape; /* of the answer */

static void script_malformed_batch(struct fake *f)
{
	hello(f);
	expect_three(f);
	if (shape == 0) {
		answer_empty(f, f->request.msgid);
		until_closed(f);
		return;
	}
	results_begin(f, shape == 1 ? 2 : shape == 2 ? 4 : 3);
	put_position(shape == 3 ? 0 : 1, 5); /* not the key's shard */
	put_position(shape == 4 ? 7 : 3, 5); /* no shard at all: 7 mod 4 is 3 */
	if (shape == 2)
		put_position(2, 6);
	if (shape == 5) {
		mp_write_nil(&answer); /* without an error */
	} else if (shape == 6) {
		mp_write_array(&answer, 3);
		for (int i = 0; i < 3; i++)
			mp_write_u64(&answer, 2);
	} else if (shape == 7) {
		mp_write_array(&answer, 2);
		mp_write_u64(&answer, 2);
		mp_write_i64(&answer, -1);
	} else if (shape == 8) {
		mp_write_u64(&answer, 2);
	} else if (shape != 1) {
		put_position(2, 5);
	}
	answer_done(f);
	until_closed(f);
}

Test(client_sharded, results_that_make_no_sense)
{
	for (shape = 0; shape <= 8; shape++) {
		ironwal_shard_position positions[3];
		fill_untouched(positions);
		start(script_malformed_batch);
		cr_assert(ironwal_shard_append_batch(c, three, 3, NULL, positions, err) == -1, "shape %d", shape);
		ASSERT_ERROR(IRONWAL_ERR_PROTOCOL, IRONWAL_FATE_UNKNOWN, 0);
		cr_assert(none_known_written(positions), "shape %d", shape);
		stop();
	}
}

static void script_malformed_append(struct fake *f)
{
	hello(f);
	MUST(next_request(f));
	bool batch = f->request.method == METHOD_SHARD_APPEND_BATCH_FOR_KEY;
	answer_begin(f->request.msgid, 4);
	answer_u64(shape == 0 ? KEY_NEXT : KEY_SHARD, shape == 1 ? 2 : shape == 2 ? 7 : 3);
	answer_u64(shape == 3 && !batch ? KEY_NEXT : KEY_ID, 5);
	answer_u64(shape == 3 ? KEY_NEXT : KEY_FIRST, 5);
	answer_u64(KEY_END, shape == 4 ? 6 : shape == 5 ? 4 : 7);
	answer_done(f);
	until_closed(f);
}

Test(client_sharded, positions_that_make_no_sense)
{
	const ironwal_bytes values[] = {{"v", 1}, {"w", 1}};
	for (shape = 0; shape <= 3; shape++) {
		ironwal_shard_position position = untouched;
		start(script_malformed_append);
		cr_assert(ironwal_shard_append(c, "a", 1, "v", 1, NULL, &position, err) == -1, "shape %d", shape);
		ASSERT_ERROR(IRONWAL_ERR_PROTOCOL, IRONWAL_FATE_UNKNOWN, 0);
		cr_assert(memcmp(&position, &untouched, sizeof(position)) == 0);
		stop();
	}
	for (shape = 0; shape <= 5; shape++) {
		ironwal_shard_range range = {7, 7, 7};
		start(script_malformed_append);
		cr_assert(ironwal_shard_append_batch_for_key(c, "a", 1, values, 2, NULL, &range, err) == -1, "shape %d",
			shape);
		ASSERT_ERROR(IRONWAL_ERR_PROTOCOL, IRONWAL_FATE_UNKNOWN, 0);
		cr_assert(range.first == 7 && range.end == 7 && range.shard == 7);
		stop();
	}
}

/* ---- fates ---- */

static void script_late_refusal(struct fake *f)
{
	hello(f);
	expect_three(f);
	uint32_t late = f->request.msgid;
	expect(f, METHOD_SHARD_APPEND);
	uint32_t second = f->request.msgid;
	expect(f, METHOD_PING);
	uint32_t ping = f->request.msgid;
	f->request.msgid = late;
	refusal = (struct refusal){ERR_IO, 0, true, 3, 2};
	answer_refusal(f); /* of what nobody waits for any more */
	answer_begin(second, 2);
	answer_u64(KEY_SHARD, 1);
	answer_u64(KEY_ID, 1);
	answer_done(f);
	answer_empty(f, ping);
	until_closed(f);
}

Test(client_sharded, without_an_answer_the_fate_is_unknown)
{
	ironwal_shard_position positions[3], position = untouched;
	start(script_late_refusal);
	fill_untouched(positions);
	ironwal_set_timeout_ms(c, 50);
	cr_assert(ironwal_shard_append_batch(c, three, 3, NULL, positions, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_UNKNOWN, 1);
	cr_assert(!ironwal_error_is_retriable(err));
	cr_assert(none_known_written(positions));
	cr_assert(ironwal_shard_append(c, "user-17", 7, "v", 1, NULL, &position, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_UNKNOWN, 1);
	cr_assert(!ironwal_error_is_retriable(err));
	cr_assert(memcmp(&position, &untouched, sizeof(position)) == 0);
	ironwal_set_timeout_ms(c, 60000);
	cr_assert(ironwal_ping(c, err) == 0, "%s", ironwal_error_message(err));
	stop();
}

static void script_hangs_up(struct fake *f)
{
	hello(f);
	expect_three(f);
}

Test(client_sharded, a_lost_connection)
{
	ironwal_shard_position positions[3];
	start(script_hangs_up);
	fill_untouched(positions);
	cr_assert(ironwal_shard_append_batch(c, three, 3, NULL, positions, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_CONNECTION_LOST, IRONWAL_FATE_UNKNOWN, 0);
	cr_assert(position_is(&positions[1], 3, 0, 0));
	fill_untouched(positions);
	cr_assert(ironwal_shard_append_batch(c, three, 3, NULL, positions, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_CONNECTION_LOST, IRONWAL_FATE_NOT_SENT, 0);
	cr_assert(memcmp(&positions[1], &untouched, sizeof(untouched)) == 0, "nothing was sent");
	stop();
}

Test(client_sharded, what_is_too_large_is_not_sent)
{
	static char large[8192];
	ironwal_key_value pairs[16];
	ironwal_bytes values[16];
	ironwal_shard_position positions[16] = {untouched};
	ironwal_shard_range range;
	uint64_t limit;
	start(script_silent);
	cr_assert(ironwal_shard_append(c, "k", 1, large, 8192 - 1023, NULL, NULL, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(!ironwal_error_is_retriable(err));
	cr_assert(ironwal_error_get_uint(err, "limit", &limit) == 1 && limit == 8192 - 1024);
	cr_assert(ironwal_shard_append(c, large, 8190, "v", 1, NULL, NULL, err) == -1, "the key does not fit");
	ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(ironwal_shard_append(c, large, SIZE_MAX, "v", 1, NULL, NULL, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
	/* Key and value alone would fit, the message does not. */
	cr_assert(ironwal_shard_append(c, large, 1030, large, 8192 - 1024 - 20, NULL, NULL, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);

	for (int i = 0; i < 16; i++) {
		values[i] = (ironwal_bytes){large, 520};
		pairs[i] = (ironwal_key_value){{large, 260}, {large, 260}};
	}
	cr_assert(ironwal_shard_append_batch_for_key(c, "k", 1, values, 16, NULL, &range, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(ironwal_shard_append_batch_for_key(c, large, 320, values, 15, NULL, &range, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
	values[3].len = 8192 - 1023;
	cr_assert(ironwal_shard_append_batch_for_key(c, "k", 1, values, 4, NULL, &range, err) == -1);
	cr_assert(ironwal_error_get_uint(err, "limit", &limit) == 1 && limit == 8192 - 1024);
	cr_assert(ironwal_shard_append_batch_for_key(c, "k", 1, values, SIZE_MAX, NULL, &range, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(ironwal_error_get_uint(err, "limit", &limit) == 1 && limit == IRONWAL_MAX_BATCH_COUNT);

	cr_assert(ironwal_shard_append_batch(c, pairs, 16, NULL, positions, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
	pairs[15] = (ironwal_key_value){{NULL, 0}, {large, 270}}; /* the entries fit by now, the message does not */
	cr_assert(ironwal_shard_append_batch(c, pairs, 16, NULL, positions, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(memcmp(&positions[0], &untouched, sizeof(untouched)) == 0);
	pairs[3].value.len = 8192 - 1023;
	cr_assert(ironwal_shard_append_batch(c, pairs, 4, NULL, positions, err) == -1);
	cr_assert(ironwal_error_get_uint(err, "limit", &limit) == 1 && limit == 8192 - 1024);
	cr_assert(ironwal_shard_append_batch(c, pairs, IRONWAL_MAX_BATCH_COUNT + 1, NULL, positions, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(ironwal_error_get_uint(err, "limit", &limit) == 1 && limit == IRONWAL_MAX_BATCH_COUNT);
	cr_assert(memcmp(&positions[0], &untouched, sizeof(untouched)) == 0);
	stop();
}

/* A server without shards: none of its answers can be right. */
static void script_no_shards(struct fake *f)
{
	f->shard_count = 0;
	hello(f);
	expect_three(f);
	results_begin(f, 3);
	for (int i = 0; i < 3; i++)
		put_position(0, 0);
	answer_done(f);
	until_closed(f);
}

Test(client_sharded, a_server_without_shards)
{
	ironwal_shard_position positions[3];
	start(script_no_shards);
	cr_assert(ironwal_shard_append_batch(c, three, 3, NULL, positions, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_PROTOCOL, IRONWAL_FATE_UNKNOWN, 0);
	stop();
}
