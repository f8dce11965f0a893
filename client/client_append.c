/* Appending to streams: one entry, batches, and what became of them. */
#include <string.h>

#include "client_call.h"
#include "client_memory.h"

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

static int put_append(ironwal *connection, enum how how, enum method method, const char *stream, size_t stream_len,
	const ironwal_bytes *entries, size_t count, const ironwal_append_options *given, uint32_t *ret_msgid,
	ironwal_error *error)
{
	ironwal_append_options options = IRONWAL_APPEND_OPTIONS_INIT;
	struct core_request request = call_request(method, how);
	bool is_batch = method == METHOD_APPEND_BATCH;
	struct mp_writer *w;
	if (options_read(&options, sizeof(options), given, error) != 0)
		return cerr_fate(error, IRONWAL_FATE_NOT_SENT, false);
	bool has_expected = options.has_expected_id != 0, sync = options.sync != 0;
	request.is_repeatable = has_expected;
	request.count = count;
	/* A connection that is not ready knows no limits: call_begin says so. */
	if (connection->ready && check_size(connection, entries, count, is_batch, error) != 0)
		return cerr_fate(error, IRONWAL_FATE_NOT_SENT, has_expected);
	if (call_begin(connection, &request, 2u + has_expected + sync, &w, error) != 0)
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
	return call_commit(connection, 0, ret_msgid, error);
}

static int append_and_wait(ironwal *connection, enum method method, const char *stream, size_t stream_len,
	const ironwal_bytes *entries, size_t count, const ironwal_append_options *options,
	ironwal_append_result *ret_result, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t id;
	if (put_append(connection, BLOCKING, method, stream, stream_len, entries, count, options, &id, error) != 0 ||
		call_wait(connection, id, 0, &result, error) != 0)
		return -1;
	if (ret_result != NULL)
		*ret_result = result.append;
	return 0;
}

int ironwal_append(ironwal *connection, const char *stream, size_t stream_len, const void *entry, size_t entry_len,
	const ironwal_append_options *options, ironwal_append_result *ret_result, ironwal_error *error)
{
	const ironwal_bytes bytes = {entry, entry_len};
	return append_and_wait(connection, METHOD_APPEND, stream, stream_len, &bytes, 1, options, ret_result, error);
}

int ironwal_append_batch(ironwal *connection, const char *stream, size_t stream_len, const ironwal_bytes *entries,
	size_t count, const ironwal_append_options *options, ironwal_append_result *ret_result, ironwal_error *error)
{
	return append_and_wait(
		connection, METHOD_APPEND_BATCH, stream, stream_len, entries, count, options, ret_result, error);
}

int ironwal_submit_append(ironwal *connection, const char *stream, size_t stream_len, const void *entry,
	size_t entry_len, const ironwal_append_options *options, uint32_t *ret_request_id, ironwal_error *error)
{
	const ironwal_bytes bytes = {entry, entry_len};
	return submitted(connection, put_append(connection, SUBMITTED, METHOD_APPEND, stream, stream_len, &bytes, 1,
					     options, ret_request_id, error));
}

int ironwal_submit_append_batch(ironwal *connection, const char *stream, size_t stream_len,
	const ironwal_bytes *entries, size_t count, const ironwal_append_options *options, uint32_t *ret_request_id,
	ironwal_error *error)
{
	return submitted(connection, put_append(connection, SUBMITTED, METHOD_APPEND_BATCH, stream, stream_len, entries,
					     count, options, ret_request_id, error));
}

/* ---- settling ---- */

/* One deadline for all the requests: each has what the ones before it left. */
static void set_time_left(ironwal *connection, uint64_t deadline_ns)
{
	ironwal_set_timeout_ms(connection, deadline_left_ms(deadline_ns));
}

/* Whether the entries from id first on are these. 1, 0, or -1: it cannot be told. */
static int are_there(ironwal *connection, const char *stream, size_t stream_len, const ironwal_bytes *entries,
	size_t count, uint64_t first, uint64_t deadline_ns, ironwal_error *error)
{
	ironwal_read_options options = IRONWAL_READ_OPTIONS_INIT;
	int same = 1;
	options.has_start_id = 1;
	for (size_t done = 0; done < count && same > 0;) {
		ironwal_entries *found;
		options.start_id = first + done;
		options.max_entries = count - done;
		set_time_left(connection, deadline_ns);
		if (ironwal_read(connection, stream, stream_len, &options, &found, error) != 0)
			return -1;
		size_t n = ironwal_entries_count(found);
		same = n > 0; /* the stream ends among them: not all of them, so none of them */
		for (size_t i = 0; i < n && i < count - done && same > 0; i++) {
			const void *data;
			size_t len;
			(void)ironwal_entries_get(found, i, NULL, &data, &len);
			same = len == entries[done + i].len &&
			       (len == 0 || memcmp(data, entries[done + i].data, len) == 0);
		}
		ironwal_entries_free(found);
		done += n;
	}
	return same;
}

static int settle(ironwal *connection, const char *stream, size_t stream_len, const ironwal_bytes *entries,
	size_t count, const ironwal_append_options *options, ironwal_fate *ret_fate, ironwal_append_result *ret_result,
	struct ironwal_error *error)
{
	uint64_t actual = 0, deadline_ns = call_deadline_ns(connection, 0);
	/* What a Conflict counts is as durable then as an append is by the server's mode. */
	bool is_strict = strcmp(ironwal_sync_mode(connection), "strict") == 0;
	if (append_and_wait(connection, count == 1 ? METHOD_APPEND : METHOD_APPEND_BATCH, stream, stream_len, entries,
		    count, options, ret_result, error) == 0) {
		*ret_fate = IRONWAL_FATE_WRITTEN;
		return 0;
	}
	/* A stream that ends before the id may yet grow to it, and let the first one in. */
	if (error->code != IRONWAL_ERR_CONFLICT || !ironwal_error_get_uint(error, "actual", &actual) ||
		actual <= options->expected_id)
		return -1;
	int same = are_there(connection, stream, stream_len, entries, count, options->expected_id, deadline_ns, error);
	if (same < 0)
		return -1;
	set_time_left(connection, deadline_ns);
	if (same && options->sync && !is_strict && ironwal_sync(connection, stream, stream_len, error) != 0)
		return -1;
	*ret_fate = same ? IRONWAL_FATE_WRITTEN : IRONWAL_FATE_REFUSED;
	if (same && ret_result != NULL) {
		*ret_result = (ironwal_append_result){.first = options->expected_id};
		ret_result->end = options->expected_id + count;
		ret_result->durable = options->sync || is_strict;
	}
	return 0;
}

int ironwal_settle_append(ironwal *connection, const char *stream, size_t stream_len, const ironwal_bytes *entries,
	size_t count, const ironwal_append_options *given, ironwal_fate *ret_fate, ironwal_append_result *ret_result,
	ironwal_error *error)
{
	ironwal_append_options options = IRONWAL_APPEND_OPTIONS_INIT;
	struct ironwal_error own = {0};
	if (options_read(&options, sizeof(options), given, error) != 0)
		return cerr_fate(error, IRONWAL_FATE_UNKNOWN, false);
	if (!options.has_expected_id || count == 0) {
		cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT,
			"settling takes the expected_id that the append carried, and its entries");
		return cerr_fate(error, IRONWAL_FATE_UNKNOWN, false);
	}
	const int64_t timeout_ms = connection->timeout_ms;
	int rc = settle(connection, stream, stream_len, entries, count, &options, ret_fate, ret_result, &own);
	ironwal_set_timeout_ms(connection, timeout_ms);
	if (rc == 0)
		return 0;
	if (error != NULL)
		*error = own;
	return cerr_fate(error, IRONWAL_FATE_UNKNOWN, true);
}
