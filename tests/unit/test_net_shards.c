/* Sharded appends and reads on an engine in memory: routing, the order of results, and batches of which a part fails.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_engine.h"
#include "net_harness.h"
#include "shard_key.h"

TestSuite(net_shards, .init = set_up, .fini = tear_down, .timeout = 60);

#define SHARDS 4 /* of the fake engine */
#define COUNT 300

static uint32_t shard_of(unsigned number)
{
	char key[16];
	int len = snprintf(key, sizeof(key), "key%u", number);
	return shard_of_key(key, (size_t)len, SHARDS);
}

/* Entries key0 to key(count - 1), each with its number as the value; or (tiny) all empty. Sent at once. */
static void ask_batch(struct client *client, uint32_t msgid, unsigned count, bool tiny)
{
	struct buf buf = {0};
	struct mp_writer writer;
	mp_writer_init(&writer, &buf);
	request_begin(&writer, msgid, METHOD_SHARD_APPEND_BATCH, 1);
	mp_write_key(&writer, KEY_ENTRIES);
	mp_write_array(&writer, count);
	for (unsigned i = 0; i < count; i++) {
		char text[16];
		int len = snprintf(text, sizeof(text), "key%u", i);
		if (tiny)
			len = 3;
		mp_write_array(&writer, 2);
		mp_write_bin(&writer, text, tiny ? 0 : (size_t)len);
		mp_write_bin(&writer, text + 3, (size_t)len - 3);
	}
	cr_assert(frame_end(&writer) == 0);
	flush(client, &buf);
}

/* `results`: written says which shards did it; their entries have ids in a row from 0, in the order of the request. */
static void check_results(struct span results, unsigned count, const bool written[SHARDS])
{
	struct mp_reader reader = mp_reader_of(results);
	struct mp_value value;
	uint64_t next[SHARDS] = {0};
	cr_assert(mp_read(&reader, &value) == 0 && value.type == MP_ARRAY && value.count == count);
	for (unsigned i = 0; i < count; i++) {
		uint32_t shard = shard_of(i);
		cr_assert(mp_read(&reader, &value) == 0);
		if (!written[shard]) {
			cr_assert(value.type == MP_NIL, "entry %u", i);
			continue;
		}
		cr_assert(value.type == MP_ARRAY && value.count == 2, "entry %u", i);
		cr_assert(mp_read(&reader, &value) == 0 && value.type == MP_UINT && value.u64 == shard, "entry %u", i);
		cr_assert(mp_read(&reader, &value) == 0 && value.type == MP_UINT && value.u64 == next[shard]++,
			"entry %u", i);
	}
	cr_assert(reader.at == reader.end);
}

static void check_stored(struct client *client, unsigned count, const bool written[SHARDS])
{
	struct response response;
	for (uint32_t shard = 0; shard < SHARDS; shard++) {
		ask(client, 70 + shard, METHOD_ITER_SHARD, NULL, KEY_SHARD, shard, KEY_TOTAL, 0);
		receive_ok(client, 70 + shard, &response);
		struct byte_array entries;
		struct error err;
		cr_assert(field_byte_array(&response.fields, KEY_ENTRIES, false, &entries, &err) == 0);
		struct byte_iter iter = byte_iter_of(&entries);
		struct span entry;
		for (unsigned i = 0; i < count && written[shard]; i++) {
			char text[16];
			if (shard_of(i) != shard)
				continue;
			int len = snprintf(text, sizeof(text), "%u", i);
			cr_assert(byte_iter_next(&iter, &entry) && entry.len == (size_t)len &&
				  memcmp(entry.data, text, entry.len) == 0);
		}
		cr_assert(!byte_iter_next(&iter, &entry), "shard %u holds more", shard);
	}
}

Test(net_shards, a_batch_over_all_shards_is_answered_in_the_order_of_the_request)
{
	static const bool all[SHARDS] = {true, true, true, true};
	start_server();
	struct client client = client_new();
	struct response response;
	ask_batch(&client, 5, 0, false);
	receive_ok(&client, 5, &response);
	check_results(response.fields.values[KEY_RESULTS], 0, all);
	ask_batch(&client, 6, COUNT, false);
	receive_ok(&client, 6, &response);
	check_results(response.fields.values[KEY_RESULTS], COUNT, all);
	check_stored(&client, COUNT, all);
	client_close(&client);
}

static void check_failed_in_part(enum error_outcome outcome)
{
	bool written[SHARDS] = {true, true, true, true};
	uint32_t failing = shard_of(7);
	written[failing] = false;
	start_server();
	struct client client = client_new();
	struct response response;
	struct error err;
	struct span results;
	fake_engine_fail_shard(failing, outcome);
	ask_batch(&client, 6, COUNT, false);
	cr_assert(receive(&client, &response) && response.msgid == 6 && response.result.data == NULL);
	error_decode(response.error, &err);
	cr_assert(err.code == ERR_IO && err.outcome == outcome && error_has(&err, EFI_PATH));
	char name[16];
	snprintf(name, sizeof(name), "shard_%02u", failing);
	cr_assert_str_eq(err.path.bytes, name, "the fields are those of the failure");
	cr_assert(mp_map_find(response.error, "results", &results) == 0);
	check_results(results, COUNT, written);
	check_stored(&client, COUNT, written);
	client_close(&client);
}

Test(net_shards, a_batch_of_which_a_part_fails_says_which)
{
	check_failed_in_part(OUTCOME_NONE);
}

Test(net_shards, a_batch_of_which_a_part_is_unknown_says_which)
{
	check_failed_in_part(OUTCOME_UNKNOWN);
}

Test(net_shards, a_batch_whose_answer_would_not_fit_writes_nothing)
{
	static const bool none[SHARDS];
	start_server();
	struct client client = client_new();
	struct error err;
	ask_batch(&client, 6, (unsigned)(LIMIT / 13), true);
	receive_error(&client, 6, ERR_TOO_LARGE, &err);
	cr_assert(err.limit == LIMIT && err.size > LIMIT);
	check_stored(&client, 0, none);
	client_close(&client);
}

Test(net_shards, who_goes_away_while_a_batch_is_under_way_leaves_nothing_behind)
{
	static const bool all[SHARDS] = {true, true, true, true};
	start_server();
	struct client client = client_new();
	fake_engine_hold(engine, true);
	ask_batch(&client, 6, COUNT, false);
	struct client other = client_new(); /* the batch has been read by now */
	client_close(&client);
	fake_engine_hold(engine, false);
	check_stored(&other, COUNT, all);
	client_close(&other);
}
