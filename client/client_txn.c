/* Transactions: batches that are gathered first. */
#include <string.h>

#include "client_call.h"
#include "client_memory.h"

struct ironwal_txn {
	struct attached attached;		     /* to its connection */
	uint64_t max_entry_bytes, max_message_bytes; /* of the connection that it was begun on, or bound to */
	char *stream;
	size_t stream_len;
	struct buf bytes; /* of all entries */
	size_t *ends;	  /* in bytes */
	size_t count, cap;
	uint64_t encoded_bytes;
};

/* What is in a batch request besides its entries, at most. */
#define BATCH_OVERHEAD_BYTES 512

/* A connection that is not ready yet does not know its limits: until then those of the one before count. */
static void learn_limits(ironwal_txn *txn)
{
	const ironwal *connection = txn->attached.connection;
	if (connection == NULL || !connection->ready)
		return;
	txn->max_entry_bytes = ironwal_max_entry_bytes(connection);
	txn->max_message_bytes = ironwal_max_message_bytes(connection);
}

int ironwal_txn_begin(
	ironwal *connection, const char *stream, size_t stream_len, ironwal_txn **ret_txn, ironwal_error *error)
{
	const struct mem *mem = block_mem(connection);
	if (!connection->ready && core_is_lost(connection->core))
		return core_failure(connection->core, error);
	if (!connection->ready)
		return cerr_set(error, IRONWAL_ERR_AGAIN, "the connection to %s is not ready yet", connection->address);
	struct ironwal_txn *txn = block_new(mem, sizeof(*txn));
	char *copy = block_copy(mem, stream, stream_len);
	if (txn == NULL || copy == NULL) {
		block_free(txn);
		block_free(copy);
		return cerr_no_memory(error);
	}
	txn->stream = copy;
	txn->stream_len = stream_len;
	txn->bytes.mem = block_mem(txn);
	attach(&txn->attached, connection);
	learn_limits(txn);
	*ret_txn = txn;
	return 0;
}

int ironwal_txn_add(ironwal_txn *txn, const void *entry, size_t entry_len, ironwal_error *error)
{
	learn_limits(txn);
	if (entry_len > txn->max_entry_bytes)
		return cerr_too_large(error, "bytes of the entry", txn->max_entry_bytes, entry_len);
	if (txn->count == ARRAY_ELEMENTS_MAX)
		return cerr_too_large(error, "entries in the batch", ARRAY_ELEMENTS_MAX, txn->count + 1);
	uint64_t encoded = txn->encoded_bytes + mp_bin_bytes(entry_len);
	uint64_t room = txn->max_message_bytes - BATCH_OVERHEAD_BYTES;
	if (encoded > room)
		return cerr_too_large(error, "bytes of the batch", room, encoded);
	if (txn->count == txn->cap) {
		size_t cap = txn->cap == 0 ? 16 : txn->cap * 2;
		size_t *ends = mem_realloc(block_mem(txn), txn->ends, cap * sizeof(*ends));
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

/* The entries, as a batch takes them: to be freed with block_free. NULL: no memory. */
static ironwal_bytes *entries_of(const ironwal_txn *txn)
{
	ironwal_bytes *entries = block_array(block_mem(txn), txn->count + 1, sizeof(*entries));
	size_t from = 0;
	for (size_t i = 0; entries != NULL && i < txn->count; i++) {
		entries[i].data = txn->bytes.data != NULL ? txn->bytes.data + from : NULL; /* all are empty */
		entries[i].len = txn->ends[i] - from;
		from = txn->ends[i];
	}
	return entries;
}

static int commit_begin(const ironwal_txn *txn, ironwal_bytes **ret_entries, ironwal_error *error)
{
	if (connection_check(txn->attached.connection, error) == 0) {
		*ret_entries = entries_of(txn);
		if (*ret_entries != NULL)
			return 0;
		cerr_no_memory(error);
	}
	return cerr_fate(error, IRONWAL_FATE_NOT_SENT, false);
}

int ironwal_txn_commit(ironwal_txn *txn, const ironwal_append_options *options, ironwal_append_result *ret_result,
	ironwal_error *error)
{
	ironwal_bytes *entries;
	if (commit_begin(txn, &entries, error) != 0)
		return -1;
	int rc = ironwal_append_batch(txn->attached.connection, txn->stream, txn->stream_len, entries, txn->count,
		options, ret_result, error);
	block_free(entries);
	if (rc == 0)
		ironwal_txn_clear(txn);
	return rc;
}

int ironwal_submit_txn_commit(
	const ironwal_txn *txn, const ironwal_append_options *options, uint32_t *ret_request_id, ironwal_error *error)
{
	ironwal_bytes *entries;
	if (commit_begin(txn, &entries, error) != 0)
		return -1;
	int rc = ironwal_submit_append_batch(txn->attached.connection, txn->stream, txn->stream_len, entries,
		txn->count, options, ret_request_id, error);
	block_free(entries);
	return rc;
}

void ironwal_txn_clear(ironwal_txn *txn)
{
	txn->bytes.len = 0;
	txn->count = 0;
	txn->encoded_bytes = 0;
}

void ironwal_txn_rebind(ironwal_txn *txn, ironwal *connection)
{
	detach(&txn->attached);
	attach(&txn->attached, connection);
}

void ironwal_txn_free(ironwal_txn *txn)
{
	if (txn == NULL)
		return;
	detach(&txn->attached);
	buf_free(&txn->bytes);
	mem_free(block_mem(txn), txn->ends);
	block_free(txn->stream);
	block_free(txn);
}
