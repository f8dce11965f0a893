/*
 * libironwal's checkpoints against a server of a script: every call, what it accepts as an answer, the errors with
 * their fields, and what is said of the fate of those that write.
 */
#include "fake_server.h"

/* The calls, to be made in a row. Each returns what the library does. */
enum call { CALL_CREATE, CALL_LOAD, CALL_LATEST, CALL_LIST, CALL_PRUNE, CALL_COMPACT, CALL_COUNT, CALL_TOTAL };

static const enum method methods[CALL_TOTAL] = {METHOD_CREATE_CHECKPOINT, METHOD_LOAD_CHECKPOINT,
	METHOD_LOAD_LATEST_CHECKPOINT, METHOD_LIST_CHECKPOINTS, METHOD_PRUNE_BEFORE_CHECKPOINT,
	METHOD_COMPACT_CHECKPOINTS, METHOD_CHECKPOINT_COUNT};

static bool is_write(enum call call)
{
	return call == CALL_CREATE || call == CALL_PRUNE || call == CALL_COMPACT;
}

/* Of an id with a NUL in it; what it returns is freed, after it failed it must not have been touched. */
static int make(enum call call)
{
	ironwal_checkpoint *checkpoint = NULL;
	ironwal_checkpoints *list = NULL;
	ironwal_prune_stats pruned = {99, 99};
	ironwal_compaction_stats compacted = {99, 99, 99};
	uint64_t count = 99;
	int rc = 0;
	switch (call) {
	case CALL_CREATE:
		rc = ironwal_create_checkpoint(c, "a\0b", 3, &checkpoint, err);
		break;
	case CALL_LOAD:
		rc = ironwal_load_checkpoint(c, "a\0b", 3, &checkpoint, err);
		break;
	case CALL_LATEST:
		rc = ironwal_load_latest_checkpoint(c, &checkpoint, err);
		break;
	case CALL_LIST:
		rc = ironwal_list_checkpoints(c, 3, &list, err);
		break;
	case CALL_PRUNE:
		rc = ironwal_prune_before_checkpoint(c, "a\0b", 3, &pruned, err);
		break;
	case CALL_COMPACT:
		rc = ironwal_compact_checkpoints(c, 5, &compacted, err);
		break;
	default:
		rc = ironwal_checkpoint_count(c, &count, err);
	}
	bool untouched = checkpoint == NULL && list == NULL && pruned.shards_pruned == 99 &&
			 compacted.checkpoints_before == 99 && compacted.bytes_reclaimed == 99 && count == 99;
	cr_assert(untouched == (rc != 0), "call %d", call);
	ironwal_checkpoint_free(checkpoint);
	ironwal_checkpoints_free(list);
	return rc;
}

/* ---- well-behaved ---- */

static const uint64_t some_offsets[] = {0, 5, UINT64_MAX, 300};

static void put_offsets(size_t count)
{
	mp_write_key(&answer, KEY_OFFSETS);
	mp_write_array(&answer, count);
	for (size_t i = 0; i < count; i++)
		mp_write_u64(&answer, some_offsets[i % 4]);
}

static void put_id(const char *id, size_t len)
{
	mp_write_key(&answer, KEY_ID);
	mp_write_bin(&answer, id, len);
}

static void put_listed(const char *id, size_t len, uint64_t timestamp)
{
	mp_write_array(&answer, 2);
	mp_write_bin(&answer, id, len);
	mp_write_u64(&answer, timestamp);
}

static void answer_checkpoint(struct fake *f, uint64_t timestamp, bool with_id)
{
	answer_begin(f->request.msgid, with_id ? 4 : 3);
	if (with_id)
		put_id("new\0est", 7);
	put_offsets(4);
	answer_u64(KEY_TIMESTAMP, timestamp);
	answer_u64(KEY_SHARD_COUNT, 4);
	answer_done(f);
}

static void script_all(struct fake *f)
{
	hello(f);
	expect(f, METHOD_CREATE_CHECKPOINT);
	MUST(param_is(f, KEY_ID, "a\0b", 3));
	answer_checkpoint(f, UINT64_C(1790000000000000001), false);
	expect(f, METHOD_CREATE_CHECKPOINT); /* whose offsets nobody wants */
	MUST(param_is(f, KEY_ID, "x", 1));
	answer_checkpoint(f, 2, false);
	expect(f, METHOD_LOAD_CHECKPOINT);
	MUST(param_is(f, KEY_ID, "a\0b", 3));
	answer_checkpoint(f, 3, false);
	expect(f, METHOD_LOAD_LATEST_CHECKPOINT);
	MUST(f->request.params.present == 0);
	answer_checkpoint(f, 4, true);

	expect(f, METHOD_LIST_CHECKPOINTS);
	MUST(param_u64(f, KEY_LIMIT) == 2);
	answer_begin(f->request.msgid, 2);
	mp_write_key(&answer, KEY_CHECKPOINTS);
	mp_write_array(&answer, 2);
	put_listed("a\0b", 3, 7);
	put_listed("c", 1, UINT64_MAX);
	answer_u64(KEY_DAMAGED, 3);
	answer_done(f);
	expect(f, METHOD_LIST_CHECKPOINTS);
	MUST(f->request.params.present == 0);
	answer_begin(f->request.msgid, 1);
	mp_write_key(&answer, KEY_CHECKPOINTS);
	mp_write_array(&answer, 0);
	answer_done(f);

	expect(f, METHOD_PRUNE_BEFORE_CHECKPOINT);
	MUST(param_is(f, KEY_ID, "a\0b", 3));
	answer_begin(f->request.msgid, 2);
	answer_u64(KEY_SHARDS_PRUNED, 4);
	answer_u64(KEY_SEGMENTS_DELETED, UINT64_C(1) << 33);
	answer_done(f);
	expect(f, METHOD_COMPACT_CHECKPOINTS);
	MUST(param_u64(f, KEY_KEEP_LATEST_N) == 0);
	answer_begin(f->request.msgid, 3);
	answer_u64(KEY_CHECKPOINTS_BEFORE, 10);
	answer_u64(KEY_CHECKPOINTS_AFTER, 11);
	answer_u64(KEY_BYTES_RECLAIMED, UINT64_C(1) << 34);
	answer_done(f);
	expect(f, METHOD_CHECKPOINT_COUNT);
	answer_begin(f->request.msgid, 1);
	answer_u64(KEY_COUNT, 12);
	answer_done(f);
	until_closed(f);
}

static void assert_checkpoint(ironwal_checkpoint *checkpoint, const char *id, size_t id_len, uint64_t timestamp_ns)
{
	size_t len, count;
	const void *got = ironwal_checkpoint_id(checkpoint, &len);
	cr_assert(len == id_len && memcmp(got, id, len) == 0);
	cr_assert(ironwal_checkpoint_timestamp_ns(checkpoint) == timestamp_ns);
	cr_assert(ironwal_checkpoint_shard_count(checkpoint) == 4);
	const uint64_t *offsets = ironwal_checkpoint_offsets(checkpoint, &count);
	cr_assert(count == 4 && memcmp(offsets, some_offsets, sizeof(some_offsets)) == 0);
	cr_assert(ironwal_checkpoint_offsets(checkpoint, NULL) == offsets);
	ironwal_checkpoint_free(checkpoint);
}

static void all_calls(void)
{
	ironwal_checkpoint *checkpoint;
	ironwal_checkpoints *list;
	ironwal_prune_stats pruned;
	ironwal_compaction_stats compacted;
	const void *id;
	size_t len;
	uint64_t timestamp_ns, count;
	cr_assert(ironwal_create_checkpoint(c, "a\0b", 3, &checkpoint, err) == 0, "%s", ironwal_error_message(err));
	assert_checkpoint(checkpoint, "a\0b", 3, UINT64_C(1790000000000000001));
	cr_assert(ironwal_create_checkpoint(c, "x", 1, NULL, err) == 0, "%s", ironwal_error_message(err));
	cr_assert(ironwal_load_checkpoint(c, "a\0b", 3, &checkpoint, err) == 0);
	assert_checkpoint(checkpoint, "a\0b", 3, 3);
	cr_assert(ironwal_load_latest_checkpoint(c, &checkpoint, err) == 0);
	assert_checkpoint(checkpoint, "new\0est", 7, 4);

	cr_assert(ironwal_list_checkpoints(c, 2, &list, err) == 0, "%s", ironwal_error_message(err));
	cr_assert(ironwal_checkpoints_count(list) == 2 && ironwal_checkpoints_damaged(list) == 3);
	cr_assert(ironwal_checkpoints_get(list, 0, &id, &len, &timestamp_ns) == 1 && timestamp_ns == 7);
	cr_assert(len == 3 && memcmp(id, "a\0b", 3) == 0);
	cr_assert(ironwal_checkpoints_get(list, 1, &id, &len, &timestamp_ns) == 1 && timestamp_ns == UINT64_MAX);
	cr_assert(ironwal_checkpoints_get(list, 1, &id, &len, NULL) == 1 && len == 1);
	cr_assert(ironwal_checkpoints_get(list, 2, &id, &len, &timestamp_ns) == 0);
	ironwal_checkpoints_free(list);
	cr_assert(ironwal_list_checkpoints(c, 0, &list, err) == 0);
	cr_assert(ironwal_checkpoints_count(list) == 0 && ironwal_checkpoints_damaged(list) == 0);
	cr_assert(ironwal_checkpoints_get(list, 0, &id, &len, &timestamp_ns) == 0);
	ironwal_checkpoints_free(list);

	cr_assert(ironwal_prune_before_checkpoint(c, "a\0b", 3, &pruned, err) == 0);
	cr_assert(pruned.shards_pruned == 4 && pruned.segments_deleted == UINT64_C(1) << 33);
	cr_assert(ironwal_compact_checkpoints(c, 0, &compacted, err) == 0);
	cr_assert(compacted.checkpoints_before == 10 && compacted.checkpoints_after == 11);
	cr_assert(compacted.bytes_reclaimed == UINT64_C(1) << 34);
	cr_assert(ironwal_checkpoint_count(c, &count, err) == 0 && count == 12);
	cr_assert(ironwal_error_get_code(err) == IRONWAL_OK, "success leaves the error alone");
}

Test(client_checkpoints, every_call)
{
	start(script_all);
	all_calls();
	stop();
}

static void script_all_split(struct fake *f)
{
	f->one_byte_at_a_time = true;
	script_all(f);
}

Test(client_checkpoints, every_call_with_answers_a_byte_at_a_time)
{
	start(script_all_split);
	all_calls();
	stop();
}

Test(client_checkpoints, null_is_freed)
{
	ironwal_checkpoint_free(NULL);
	ironwal_checkpoints_free(NULL);
}

/* ---- answers that are not what the protocol says ---- */

static enum call called;
static int shape;

/* Shape by shape another thing is wrong: -1 after the last one. */
static int put_malformed_checkpoint(bool latest)
{
	static char long_id[65536];
	if (latest && (shape == 7 || shape == 8))
		put_id(long_id, shape == 7 ? 0 : 65536);
	else if (latest && shape == 9)
		answer_u64(KEY_ID, 1);
	else if (latest && shape != 6)
		put_id("x", 1);
	else
		answer_u64(KEY_NEXT, 0);
	if (shape == 1)
		answer_u64(KEY_OFFSETS, 4);
	else if (shape != 0)
		put_offsets(shape == 2 ? 3 : shape == 3 ? 5 : 4);
	else
		answer_u64(KEY_NEXT, 0);
	answer_u64(shape == 4 ? KEY_NEXT : KEY_TIMESTAMP, 1);
	/* 5: as many as there are offsets, yet not as many as there are shards */
	answer_u64(KEY_SHARD_COUNT, shape == 3 ? 5 : shape == 5 ? UINT64_C(1) << 32 | 4 : 4);
	return shape < (latest ? 9 : 5) ? 0 : -1;
}

static int put_malformed_list(void)
{
	static char long_id[65536];
	if (shape == 0) {
		for (int i = 0; i < 4; i++)
			answer_u64(KEY_NEXT, 0);
		return 0;
	}
	for (int i = 0; i < 2; i++)
		answer_u64(KEY_NEXT, 0);
	mp_write_key(&answer, KEY_DAMAGED);
	if (shape == 1)
		mp_write_i64(&answer, -1);
	else
		mp_write_nil(&answer);
	mp_write_key(&answer, KEY_CHECKPOINTS);
	if (shape == 2) {
		mp_write_map(&answer, 0);
		return 0;
	}
	mp_write_array(&answer, shape == 3 ? 4 : 2); /* three were asked for */
	put_listed("a", 1, 1);
	for (int i = 0; shape == 3 && i < 3; i++)
		put_listed("b", 1, 2);
	if (shape == 1) {
		put_listed("c", 1, 3);
	} else if (shape == 4) {
		put_listed("", 0, 3);
	} else if (shape == 5) {
		put_listed(long_id, sizeof(long_id), 3);
	} else if (shape == 6) {
		mp_write_array(&answer, 1);
		mp_write_bin(&answer, "c", 1);
	} else if (shape == 7) {
		mp_write_array(&answer, 2);
		mp_write_u64(&answer, 3);
		mp_write_bin(&answer, "c", 1);
	} else if (shape == 8) {
		mp_write_array(&answer, 2);
		mp_write_bin(&answer, "c", 1);
		mp_write_double(&answer, 3);
	} else if (shape == 9) {
		mp_write_nil(&answer);
	}
	return shape < 9 ? 0 : -1;
}

static int put_malformed_stats(void)
{
	if (called == CALL_PRUNE) {
		/* 5 shards are more than there are; no shard can be pruned of nothing */
		answer_u64(shape == 0 ? KEY_NEXT : KEY_SHARDS_PRUNED, shape == 2   ? 5
								      : shape == 3 ? UINT32_MAX + 1ull
										   : 2);
		answer_u64(shape == 1 ? KEY_NEXT : KEY_SEGMENTS_DELETED, shape == 4 ? 1 : 9);
		answer_u64(KEY_ID, 0);
		answer_u64(KEY_FIRST, 0);
		return shape < 4 ? 0 : -1;
	}
	if (called == CALL_COMPACT) {
		answer_u64(shape == 0 ? KEY_NEXT : KEY_CHECKPOINTS_BEFORE, 1);
		answer_u64(shape == 1 ? KEY_NEXT : KEY_CHECKPOINTS_AFTER, 1);
		answer_u64(shape == 2 ? KEY_NEXT : KEY_BYTES_RECLAIMED, 1);
		answer_u64(KEY_FIRST, 0);
		return shape < 2 ? 0 : -1;
	}
	for (int i = 0; i < 3; i++)
		answer_u64(KEY_NEXT, 0);
	mp_write_key(&answer, KEY_COUNT);
	mp_write_str(&answer, "12");
	return -1;
}

static void script_malformed(struct fake *f)
{
	int more;
	hello(f);
	expect(f, methods[called]);
	answer_begin(f->request.msgid, 4);
	if (called == CALL_LIST)
		more = put_malformed_list();
	else if (called == CALL_CREATE || called == CALL_LOAD || called == CALL_LATEST)
		more = put_malformed_checkpoint(called == CALL_LATEST);
	else
		more = put_malformed_stats();
	answer_done(f);
	set_step(f, more == 0 ? 1 : 2);
	until_closed(f);
}

Test(client_checkpoints, answers_that_make_no_sense, .timeout = 120)
{
	int cases = 0;
	for (called = 0; called < CALL_TOTAL; called++) {
		bool last = false;
		for (shape = 0; !last; shape++, cases++) {
			start(script_malformed);
			cr_assert(make(called) == -1, "call %d, shape %d", called, shape);
			ASSERT_ERROR(IRONWAL_ERR_PROTOCOL,
				is_write(called) ? IRONWAL_FATE_WRITTEN : IRONWAL_FATE_NOT_A_WRITE, 0);
			cr_assert(!ironwal_error_is_retriable(err));
			stop();
			last = fake.step == 2;
		}
	}
	cr_assert(cases == 6 + 6 + 10 + 10 + 5 + 3 + 1, "%d", cases);
}

/* ---- errors that the server answers ---- */

static void script_errors(struct fake *f)
{
	struct error e;
	hello(f);
	expect(f, METHOD_LOAD_CHECKPOINT);
	error_set(&e, ERR_CHECKPOINT_NOT_FOUND, "there is none");
	error_set_text(&e, EFI_CHECKPOINT, "a\0b", 3);
	answer_error(f, f->request.msgid, &e);
	expect(f, METHOD_LOAD_LATEST_CHECKPOINT);
	error_set(&e, ERR_CHECKPOINT_CORRUPTED, "damaged");
	error_set_u64(&e, EFI_OFFSET, 512);
	error_set_text(&e, EFI_REASON, "its checksum", 12);
	answer_error(f, f->request.msgid, &e);
	expect(f, METHOD_PRUNE_BEFORE_CHECKPOINT);
	error_set(&e, ERR_SHARD_COUNT_MISMATCH, "of another log");
	error_set_u64(&e, EFI_EXPECTED, 4);
	error_set_u64(&e, EFI_FOUND, 16);
	answer_error(f, f->request.msgid, &e);
	expect(f, METHOD_CREATE_CHECKPOINT);
	MUST(param_is(f, KEY_ID, "", 0)); /* the server says that it is not legal, not the library */
	error_set(&e, ERR_INVALID_CHECKPOINT_ID, "empty");
	answer_error(f, f->request.msgid, &e);
	expect(f, METHOD_LOAD_LATEST_CHECKPOINT);
	error_set(&e, ERR_NO_CHECKPOINTS, "none yet");
	answer_error(f, f->request.msgid, &e);
	until_closed(f);
}

Test(client_checkpoints, errors_arrive_with_their_fields)
{
	const char *text;
	size_t len;
	uint64_t value;
	start(script_errors);
	cr_assert(make(CALL_LOAD) == -1);
	ASSERT_ERROR(IRONWAL_ERR_CHECKPOINT_NOT_FOUND, IRONWAL_FATE_NOT_A_WRITE, 1);
	cr_assert(ironwal_error_get_text(err, "id", &text, &len) == 1 && len == 3 && memcmp(text, "a\0b", 3) == 0);
	cr_assert(ironwal_error_get_uint(err, "id", &value) == 0, "it is bytes here");

	cr_assert(make(CALL_LATEST) == -1);
	ASSERT_ERROR(IRONWAL_ERR_CHECKPOINT_CORRUPTED, IRONWAL_FATE_NOT_A_WRITE, 1);
	cr_assert(ironwal_error_get_uint(err, "offset", &value) == 1 && value == 512);
	cr_assert(ironwal_error_get_text(err, "reason", &text, &len) == 1 && strcmp(text, "its checksum") == 0);

	cr_assert(make(CALL_PRUNE) == -1);
	ASSERT_ERROR(IRONWAL_ERR_SHARD_COUNT_MISMATCH, IRONWAL_FATE_REFUSED, 1);
	cr_assert(ironwal_error_get_uint(err, "expected", &value) == 1 && value == 4);
	cr_assert(ironwal_error_get_uint(err, "found", &value) == 1 && value == 16);

	cr_assert(ironwal_create_checkpoint(c, NULL, 0, NULL, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_INVALID_CHECKPOINT_ID, IRONWAL_FATE_REFUSED, 1);
	cr_assert(!ironwal_error_is_retriable(err));
	cr_assert(strcmp(ironwal_error_code_name(err), "InvalidCheckpointId") == 0);

	cr_assert(make(CALL_LATEST) == -1);
	ASSERT_ERROR(IRONWAL_ERR_NO_CHECKPOINTS, IRONWAL_FATE_NOT_A_WRITE, 1);
	stop();
}

static struct error io_error;

static void script_io(struct fake *f)
{
	hello(f);
	while (next_request(f))
		answer_error(f, f->request.msgid, &io_error);
}

Test(client_checkpoints, a_failing_disk)
{
	start(script_io);
	error_set_io(&io_error, ENOSPC, "write", "checkpoints");
	error_set_outcome(&io_error, OUTCOME_NONE);
	cr_assert(make(CALL_CREATE) == -1);
	ASSERT_ERROR(IRONWAL_ERR_IO, IRONWAL_FATE_REFUSED, 1);
	cr_assert(ironwal_error_is_retriable(err));
	cr_assert(make(CALL_COMPACT) == -1);
	ASSERT_ERROR(IRONWAL_ERR_IO, IRONWAL_FATE_REFUSED, 1);
	cr_assert(make(CALL_PRUNE) == -1);
	ASSERT_ERROR(IRONWAL_ERR_IO, IRONWAL_FATE_UNKNOWN, 1); /* other shards may have been pruned */
	cr_assert(ironwal_error_is_retriable(err));

	error_set_io(&io_error, EIO, "sync", "checkpoints");
	error_set_outcome(&io_error, OUTCOME_UNKNOWN);
	cr_assert(make(CALL_CREATE) == -1);
	ASSERT_ERROR(IRONWAL_ERR_IO, IRONWAL_FATE_UNKNOWN, 1);
	cr_assert(!ironwal_error_is_retriable(err), "a broken disk does not mend");
	stop();
}

/* ---- fates ---- */

static void script_never_answers(struct fake *f)
{
	hello(f);
	until_closed(f);
}

Test(client_checkpoints, without_an_answer_what_writes_can_be_repeated)
{
	start(script_never_answers);
	ironwal_set_timeout_ms(c, 20);
	for (enum call call = 0; call < CALL_TOTAL; call++) {
		cr_assert(make(call) == -1);
		ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, is_write(call) ? IRONWAL_FATE_UNKNOWN : IRONWAL_FATE_NOT_A_WRITE, 1);
		cr_assert(ironwal_error_is_retriable(err), "call %d", call);
	}
	cr_assert(ironwal_truncate(c, "s", 1, 5, NULL, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TIMEOUT, IRONWAL_FATE_UNKNOWN, 1);
	cr_assert(ironwal_error_is_retriable(err));
	stop();
}

static void script_hangs_up(struct fake *f)
{
	hello(f);
	expect(f, METHOD_CREATE_CHECKPOINT);
}

Test(client_checkpoints, a_lost_connection)
{
	start(script_hangs_up);
	cr_assert(make(CALL_CREATE) == -1);
	ASSERT_ERROR(IRONWAL_ERR_CONNECTION_LOST, IRONWAL_FATE_UNKNOWN, 0);
	cr_assert(ironwal_error_is_retriable(err));
	cr_assert(make(CALL_PRUNE) == -1);
	ASSERT_ERROR(IRONWAL_ERR_CONNECTION_LOST, IRONWAL_FATE_NOT_SENT, 0);
	cr_assert(make(CALL_LIST) == -1);
	ASSERT_ERROR(IRONWAL_ERR_CONNECTION_LOST, IRONWAL_FATE_NOT_A_WRITE, 0);
	stop();
}

Test(client_checkpoints, an_id_over_a_message_is_not_sent)
{
	static char large[8193];
	ironwal_checkpoint *checkpoint = NULL;
	uint64_t limit;
	start(script_silent);
	for (size_t len = 8180; len <= 8193; len += 13) { /* the message is over the limit, or the id already is */
		cr_assert(ironwal_create_checkpoint(c, large, len, &checkpoint, err) == -1);
		ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
		cr_assert(ironwal_error_get_uint(err, "limit", &limit) == 1 && limit == 8192);
		cr_assert(ironwal_prune_before_checkpoint(c, large, len, NULL, err) == -1);
		ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
		cr_assert(ironwal_load_checkpoint(c, large, len, &checkpoint, err) == -1);
		ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_A_WRITE, 1);
	}
	cr_assert(ironwal_create_checkpoint(c, large, SIZE_MAX, NULL, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_TOO_LARGE, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(checkpoint == NULL);
	stop();
}
