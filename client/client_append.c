/* Appending: single, batches, pipelined, and transactions, which are batches that are gathered first. */
#include <stdlib.h>
#include <string.h>

#include "client_connection.h"

static int check_size(
	const ironwal *connection, const ironwal_bytes *entries, size_t count, bool is_batch, ironwal_error *error)
{
	if (count > ARRAY_ELEMENTS_MAX)
		return cerr_too_large(error, "entries in the batch", ARRAY_ELEMENTS_MAX, count);
	uint64_t total = 0, limit = ironwal_max_entry_bytes(connection);
	for (size_t i = 0; i < count; i++) {
		if (entries[i].len > limit)
			return cerr_too_large(error, "bytes of the entry", limit, entries[i].len);
		total += mp_bin_bytes(entries[i].len);
	}
	/* Known before anything is copied; what is around the entries is checked when the frame is closed. */
	if (is_batch && total > connection->max_message_bytes)
		return cerr_too_large(error, "bytes of the batch", connection->max_message_bytes, total);
	return 0;
}

static int put_append(ironwal *connection, const char *stream, size_t stream_len, const ironwal_bytes *entries,
	size_t count, bool is_batch, bool is_submitted, const ironwal_append_options *given, uint32_t *ret_msgid,
	ironwal_error *error)
{
	ironwal_append_options options = IRONWAL_APPEND_OPTIONS_INIT;
	if (given != NULL)
		memcpy(&options, given, given->struct_size < sizeof(options) ? given->struct_size : sizeof(options));
	bool has_expected = options.has_expected_id != 0, sync = options.sync != 0;
	if (check_size(connection, entries, count, is_batch, error) != 0)
		return cerr_fate(error, IRONWAL_FATE_NOT_SENT, has_expected);
	struct core_request request = {
		.method = is_batch ? METHOD_APPEND_BATCH : METHOD_APPEND,
		.is_write = true,
		.is_submitted = is_submitted,
		.is_repeatable = has_expected,
		.count = count,
	};
	struct mp_writer *w;
	if (core_begin(connection->core, &request, 2u + has_expected + sync, &w, error) != 0)
		return -1;
	put_stream(w, stream, stream_len);
	if (has_expected)
		put_u64(w, KEY_EXPECTED_ID, options.expected_id);
	if (sync) {
		mp_write_key(w, KEY_SYNC);
		mp_write_bool(w, true);
	}
	if (is_batch) {
		mp_write_key(w, KEY_ENTRIES);
		mp_write_array(w, count);
	} else {
		mp_write_key(w, KEY_ENTRY);
	}
	for (size_t i = 0; i < count; i++)
		mp_write_bin(w, entries[i].data, entries[i].len);
	return core_commit(connection->core, ret_msgid, error);
}

static int append_and_wait(ironwal *connection, const char *stream, size_t stream_len, const ironwal_bytes *entries,
	size_t count, bool is_batch, const ironwal_append_options *options, ironwal_append_result *ret_result,
	ironwal_error *error)
{
	uint64_t deadline_ns = deadline_in_ms(connection->timeout_ms);
	struct core_answer answer;
	uint32_t msgid;
	if (put_append(connection, stream, stream_len, entries, count, is_batch, false, options, &msgid, error) != 0 ||
		core_wait(connection->core, msgid, deadline_ns, &answer, error) != 0)
		return -1;
	if (ret_result != NULL)
		*ret_result = answer.append;
	return 0;
}

int ironwal_append(ironwal *connection, const char *stream, size_t stream_len, const void *entry, size_t entry_len,
	const ironwal_append_options *options, ironwal_append_result *ret_result, ironwal_error *error)
{
	ironwal_bytes bytes = {entry, entry_len};
	return append_and_wait(connection, stream, stream_len, &bytes, 1, false, options, ret_result, error);
}

int ironwal_append_batch(ironwal *connection, const char *stream, size_t stream_len, const ironwal_bytes *entries,
	size_t count, const ironwal_append_options *options, ironwal_append_result *ret_result, ironwal_error *error)
{
	return append_and_wait(connection, stream, stream_len, entries, count, true, options, ret_result, error);
}

/* ---- pipelined ---- */

int ironwal_submit_append(ironwal *connection, const char *stream, size_t stream_len, const void *entry,
	size_t entry_len, const ironwal_append_options *options, uint32_t *ret_request_id, ironwal_error *error)
{
	ironwal_bytes bytes = {entry, entry_len};
	if (put_append(connection, stream, stream_len, &bytes, 1, false, true, options, ret_request_id, error) != 0)
		return -1;
	core_nudge(connection->core);
	return 0;
}

int ironwal_submit_append_batch(ironwal *connection, const char *stream, size_t stream_len,
	const ironwal_bytes *entries, size_t count, const ironwal_append_options *options, uint32_t *ret_request_id,
	ironwal_error *error)
{
	if (put_append(connection, stream, stream_len, entries, count, true, true, options, ret_request_id, error) != 0)
		return -1;
	core_nudge(connection->core);
	return 0;
}

int ironwal_flush(ironwal *connection, ironwal_error *error)
{
	return core_flush(connection->core, deadline_in_ms(connection->timeout_ms), error);
}

int ironwal_wait_next(
	ironwal *connection, uint32_t *ret_request_id, ironwal_append_result *ret_result, ironwal_error *error)
{
	struct core_answer answer;
	int rc = core_next(connection->core, deadline_in_ms(connection->timeout_ms), ret_request_id, &answer, error);
	if (rc > 0)
		*ret_result = answer.append;
	return rc;
}

uint32_t ironwal_in_flight(const ironwal *connection)
{
	return core_submitted(connection->core);
}

/* ---- transactions ---- */

struct ironwal_txn {
	ironwal *connection;
	char *stream;
	size_t stream_len;
	struct buf bytes; /* of all entries */
	size_t *ends;	  /* in bytes */
	size_t count, cap;
	uint64_t encoded_bytes;
};

/* What is in a batch request besides its entries, at most. */
#define BATCH_OVERHEAD_BYTES 512

int ironwal_txn_begin(
	ironwal *connection, const char *stream, size_t stream_len, ironwal_txn **ret_txn, ironwal_error *error)
{
	struct ironwal_txn *txn = calloc(1, sizeof(*txn));
	char *copy = malloc(stream_len > 0 ? stream_len : 1);
	if (txn == NULL || copy == NULL) {
		free(txn);
		free(copy);
		return cerr_no_memory(error);
	}
	if (stream_len > 0)
		memcpy(copy, stream, stream_len);
	txn->connection = connection;
	txn->stream = copy;
	txn->stream_len = stream_len;
	*ret_txn = txn;
	return 0;
}

int ironwal_txn_add(ironwal_txn *txn, const void *entry, size_t entry_len, ironwal_error *error)
{
	uint64_t limit = ironwal_max_entry_bytes(txn->connection);
	if (entry_len > limit)
		return cerr_too_large(error, "bytes of the entry", limit, entry_len);
	if (txn->count == ARRAY_ELEMENTS_MAX)
		return cerr_too_large(error, "entries in the batch", ARRAY_ELEMENTS_MAX, txn->count + 1);
	uint64_t encoded = txn->encoded_bytes + mp_bin_bytes(entry_len);
	uint64_t room = txn->connection->max_message_bytes - BATCH_OVERHEAD_BYTES;
	if (encoded > room)
		return cerr_too_large(error, "bytes of the batch", room, encoded);
	if (txn->count == txn->cap) {
		size_t cap = txn->cap == 0 ? 16 : txn->cap * 2;
		size_t *ends = realloc(txn->ends, cap * sizeof(*ends));
		if (ends == NULL)
			return cerr_no_memory(error);
		txn->ends = ends;
		txn->cap = cap;
	}
	if (buf_append(&txn->bytes, entry, entry_len) != 0)
		return cerr_no_memory(error);
	txn->ends[txn->count++] = txn->bytes.len;
	txn->encoded_bytes = encoded;
	return 0;
}

size_t ironwal_txn_count(const ironwal_txn *txn)
{
	return txn->count;
}

int ironwal_txn_commit(ironwal_txn *txn, const ironwal_append_options *options, ironwal_append_result *ret_result,
	ironwal_error *error)
{
	ironwal_bytes *entries = calloc(txn->count + 1, sizeof(*entries));
	if (entries == NULL) {
		cerr_no_memory(error);
		return cerr_fate(error, IRONWAL_FATE_NOT_SENT, false);
	}
	size_t from = 0;
	for (size_t i = 0; i < txn->count; i++) {
		entries[i].data = txn->bytes.data + from;
		entries[i].len = txn->ends[i] - from;
		from = txn->ends[i];
	}
	int rc = ironwal_append_batch(
		txn->connection, txn->stream, txn->stream_len, entries, txn->count, options, ret_result, error);
	free(entries);
	if (rc == 0) {
		txn->bytes.len = 0;
		txn->count = 0;
		txn->encoded_bytes = 0;
	}
	return rc;
}

void ironwal_txn_free(ironwal_txn *txn)
{
	if (txn == NULL)
		return;
	buf_free(&txn->bytes);
	free(txn->ends);
	free(txn->stream);
	free(txn);
}
