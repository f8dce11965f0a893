/*
 * ironwal_submit.h: requests without waiting for their answers. Comes with ironwal.h, which is what to include.
 *
 * What it owns: nothing more than ironwal.h; the rules there about threads, results, time and bytes hold here too.
 *
 * Each method of the contract has an ironwal_submit_... that queues a request and returns at once; its result is taken
 * later. Two ways to drive them, which may be mixed:
 *
 *   With waiting: submit as many as you like, then ironwal_wait_result until it returns 0.
 *
 *   In an event loop: watch ironwal_fd for ironwal_events; when one of them comes, or ironwal_next_deadline_ms has
 *   passed, call ironwal_process, then ironwal_next_result until it returns 0. None of these waits. Ask for descriptor,
 *   events and deadline again after every call that submits or processes.
 *
 * Invariant: each request that was queued has one result, whatever happens: its answer, or an error that tells its
 * fate. An answer that comes after that is dropped.
 */
#ifndef IRONWAL_SUBMIT_H
#define IRONWAL_SUBMIT_H

#include "ironwal.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- in an event loop ------------------------------------------------------------------------------------------ */

typedef enum ironwal_state {
	IRONWAL_STATE_CONNECTING = 0, /* no request can be submitted yet */
	IRONWAL_STATE_READY = 1,
	IRONWAL_STATE_LOST = 2 /* it has ended: what was in flight has results, nothing else comes */
} ironwal_state;

/* Begins to connect and to say hello, as ironwal_connect does, and returns at once: ironwal_process does the rest. (A
 * HOST that is not numeric is looked up here, which can take as long as the resolver does.) The timeout of the options
 * is counted from this call. The connection is freed with ironwal_close. */
IRONWAL_API int ironwal_connect_start(
	const char *address, const ironwal_options *options, ironwal **ret_connection, ironwal_error *error);

IRONWAL_API ironwal_state ironwal_get_state(const ironwal *connection);

#define IRONWAL_READABLE 1u
#define IRONWAL_WRITABLE 2u

/* The descriptor to watch, the connection's own: it is neither read nor closed by others. It can change, or be -1 for a
 * moment, while the state is CONNECTING (a host may have several addresses; one that follows at once has another
 * number); -1 when the connection is lost. */
IRONWAL_API int ironwal_fd(const ironwal *connection);
/* What to watch it for: IRONWAL_READABLE, IRONWAL_WRITABLE, both, or 0. It is not READABLE while the answers that
 * nobody has taken hold max_in_flight_bytes. */
IRONWAL_API unsigned ironwal_events(const ironwal *connection);
/* Milliseconds until ironwal_process is to be called even if nothing happens on the descriptor, rounded up; -1: never.
 * 0: now; so too while there are results to take, and when the connection was lost and ironwal_process has not said so
 * yet. */
IRONWAL_API int64_t ironwal_next_deadline_ms(const ironwal *connection);
/* Writes and reads what goes without waiting, and ends requests whose deadlines have passed. events: what is the case
 * on the descriptor (an error or a hang-up counts as READABLE); 0 is legal, and so is to name what is not the case. It
 * may leave more to read for the next time: watch the descriptor by level, not by edge.
 * -1: the connection is lost (each time it is called then); the error says why. */
IRONWAL_API int ironwal_process(ironwal *connection, unsigned events, ironwal_error *error);

/* ---- results --------------------------------------------------------------------------------------------------- */

/* What became of a request. It is the connection's, and good until the next call of ironwal_next_result,
 * ironwal_wait_result or ironwal_close on it; what was taken out of it (ironwal_result_take_...) is the caller's. */
typedef struct ironwal_result ironwal_result;

/* The next request that is finished, in the order of the answers. 1, or 0 if none is finished now. */
IRONWAL_API int ironwal_next_result(ironwal *connection, ironwal_result **ret_result);
/* The same, and waits for one up to the connection's timeout.
 *   1   *ret_result is one
 *   0   nothing is in flight
 *  -1   waiting failed (IRONWAL_ERR_TIMEOUT): all is still in flight, waiting again is fine */
IRONWAL_API int ironwal_wait_result(ironwal *connection, ironwal_result **ret_result, ironwal_error *error);
/* Sends what is queued, reading answers meanwhile; waits up to the timeout for the server to take it. */
IRONWAL_API int ironwal_flush(ironwal *connection, ironwal_error *error);
/* Submitted requests whose results have not been taken. */
IRONWAL_API uint32_t ironwal_in_flight(const ironwal *connection);

/* What the submit gave to *ret_request_id; never 0. */
IRONWAL_API uint32_t ironwal_result_request_id(const ironwal_result *result);
/* What ironwal_set_request_tag gave to the request; NULL if it did not. */
IRONWAL_API void *ironwal_result_tag(const ironwal_result *result);
/* NULL: it succeeded. Else the error, with the fate; it is good as long as the result is. */
IRONWAL_API const ironwal_error *ironwal_result_error(const ironwal_result *result);

/* The rest of a result, which depends on the request. All return 0, or NULL, if it failed or is of another kind. */

/* append, append_batch, txn: 1. */
IRONWAL_API int ironwal_result_append(const ironwal_result *result, ironwal_append_result *ret_append);
/* get: 1 and the entry's bytes, good as long as the result is; 0 also if there is none of that id. */
IRONWAL_API int ironwal_result_entry(const ironwal_result *result, const void **ret_data, size_t *ret_len);
/* get: the same, to be freed with ironwal_entry_free; once. */
IRONWAL_API void *ironwal_result_take_entry(ironwal_result *result, size_t *ret_len);
/* get_batch, read, read_shard: to be freed with ironwal_entries_free; once. */
IRONWAL_API ironwal_entries *ironwal_result_take_entries(ironwal_result *result);
/* get_stream_info: 1. */
IRONWAL_API int ironwal_result_stream_info(const ironwal_result *result, ironwal_stream_info *ret_info);
/* truncate: 1 and the segments deleted. current_segment_start_id: 1 and the id, 0 also if there is none.
 * checkpoint_count: 1 and the count. */
IRONWAL_API int ironwal_result_uint(const ironwal_result *result, uint64_t *ret_value);
/* list_streams: to be freed with ironwal_names_free; once. */
IRONWAL_API ironwal_names *ironwal_result_take_names(ironwal_result *result);
/* shard_append: 1. */
IRONWAL_API int ironwal_result_shard_position(const ironwal_result *result, ironwal_shard_position *ret_position);
/* shard_append_batch: the positions, in the order of the entries, good as long as the result is; after an error too,
 * except where nothing was sent: see ironwal_shard_append_batch. */
IRONWAL_API const ironwal_shard_position *ironwal_result_shard_positions(
	const ironwal_result *result, size_t *ret_count);
/* shard_append_batch_for_key: 1. */
IRONWAL_API int ironwal_result_shard_range(const ironwal_result *result, ironwal_shard_range *ret_range);
/* create_checkpoint, load_checkpoint, load_latest_checkpoint: to be freed with ironwal_checkpoint_free; once. */
IRONWAL_API ironwal_checkpoint *ironwal_result_take_checkpoint(ironwal_result *result);
/* list_checkpoints: to be freed with ironwal_checkpoints_free; once. */
IRONWAL_API ironwal_checkpoints *ironwal_result_take_checkpoints(ironwal_result *result);
/* prune_before_checkpoint: 1. */
IRONWAL_API int ironwal_result_prune_stats(const ironwal_result *result, ironwal_prune_stats *ret_stats);
/* compact_checkpoints: 1. */
IRONWAL_API int ironwal_result_compaction_stats(const ironwal_result *result, ironwal_compaction_stats *ret_stats);
/* stats: to be freed with ironwal_value_free; once. */
IRONWAL_API ironwal_value *ironwal_result_take_value(ironwal_result *result);

/* ---- requests -------------------------------------------------------------------------------------------------- */

/* All of them: 0, and *ret_request_id (which has to be given; never 0, and not that of another request in flight) is
 * how the result will name it. -1: nothing is queued (fate: not sent), with
 *   IRONWAL_ERR_AGAIN   as much is in flight as the options allow: take a result and try again; or the connection is
 *                       not ready yet
 *   IRONWAL_ERR_TOO_LARGE, and whatever else the blocking call finds by itself
 * Their parameters are those of the blocking calls; what is passed in is copied. Each has the connection's timeout as
 * its deadline, counted from the submit. A request whose deadline passes before the first byte of it was sent is taken
 * back (fate: not sent); one of which only a part was taken by then ends the connection. An answer that has arrived
 * when the deadline is looked at is in time. Answers that are late are waited for in the background; when they and what
 * is in flight are more than 65,536, the connection ends with IRONWAL_ERR_TIMEOUT.
 *
 * Requests of one connection that append to one stream are applied in the order in which they were submitted. (Of
 * several that expect consecutive ids, where somebody else's entry came first, only the first is a Conflict: the others
 * are written behind it.) They are sent when much is queued, by ironwal_flush, ironwal_process, and by all that waits.
 */

IRONWAL_API int ironwal_submit_ping(ironwal *connection, uint32_t *ret_request_id, ironwal_error *error);

IRONWAL_API int ironwal_submit_append(ironwal *connection, const char *stream, size_t stream_len, const void *entry,
	size_t entry_len, const ironwal_append_options *options, uint32_t *ret_request_id, ironwal_error *error);
IRONWAL_API int ironwal_submit_append_batch(ironwal *connection, const char *stream, size_t stream_len,
	const ironwal_bytes *entries, size_t count, const ironwal_append_options *options, uint32_t *ret_request_id,
	ironwal_error *error);
/* Commits what the transaction holds. The transaction keeps it (it can be committed again, by the result's fate and
 * retriability): ironwal_txn_clear empties it. */
IRONWAL_API int ironwal_submit_txn_commit(
	const ironwal_txn *txn, const ironwal_append_options *options, uint32_t *ret_request_id, ironwal_error *error);

IRONWAL_API int ironwal_submit_get(ironwal *connection, const char *stream, size_t stream_len, uint64_t id,
	uint32_t *ret_request_id, ironwal_error *error);
IRONWAL_API int ironwal_submit_get_batch(ironwal *connection, const char *stream, size_t stream_len,
	const uint64_t *ids, size_t count, uint32_t *ret_request_id, ironwal_error *error);
/* options->wait_ms is added to the deadline. To go on where it ended: has_start_id, and ironwal_entries_next_id. */
IRONWAL_API int ironwal_submit_read(ironwal *connection, const char *stream, size_t stream_len,
	const ironwal_read_options *options, uint32_t *ret_request_id, ironwal_error *error);
IRONWAL_API int ironwal_submit_read_shard(ironwal *connection, uint32_t shard, const ironwal_read_options *options,
	uint32_t *ret_request_id, ironwal_error *error);

IRONWAL_API int ironwal_submit_get_stream_info(
	ironwal *connection, const char *stream, size_t stream_len, uint32_t *ret_request_id, ironwal_error *error);
IRONWAL_API int ironwal_submit_truncate(ironwal *connection, const char *stream, size_t stream_len, uint64_t safe_id,
	uint32_t *ret_request_id, ironwal_error *error);
IRONWAL_API int ironwal_submit_current_segment_start_id(
	ironwal *connection, const char *stream, size_t stream_len, uint32_t *ret_request_id, ironwal_error *error);
IRONWAL_API int ironwal_submit_sync(
	ironwal *connection, const char *stream, size_t stream_len, uint32_t *ret_request_id, ironwal_error *error);
IRONWAL_API int ironwal_submit_list_streams(ironwal *connection, const char *prefix, size_t prefix_len,
	const char *after, size_t after_len, uint64_t limit, uint32_t *ret_request_id, ironwal_error *error);

IRONWAL_API int ironwal_submit_shard_append(ironwal *connection, const void *key, size_t key_len, const void *value,
	size_t value_len, const ironwal_shard_append_options *options, uint32_t *ret_request_id, ironwal_error *error);
IRONWAL_API int ironwal_submit_shard_append_batch(ironwal *connection, const ironwal_key_value *entries, size_t count,
	const ironwal_shard_append_options *options, uint32_t *ret_request_id, ironwal_error *error);
IRONWAL_API int ironwal_submit_shard_append_batch_for_key(ironwal *connection, const void *key, size_t key_len,
	const ironwal_bytes *values, size_t count, const ironwal_shard_append_options *options,
	uint32_t *ret_request_id, ironwal_error *error);

IRONWAL_API int ironwal_submit_create_checkpoint(
	ironwal *connection, const void *id, size_t id_len, uint32_t *ret_request_id, ironwal_error *error);
IRONWAL_API int ironwal_submit_load_checkpoint(
	ironwal *connection, const void *id, size_t id_len, uint32_t *ret_request_id, ironwal_error *error);
IRONWAL_API int ironwal_submit_load_latest_checkpoint(
	ironwal *connection, uint32_t *ret_request_id, ironwal_error *error);
IRONWAL_API int ironwal_submit_list_checkpoints(
	ironwal *connection, uint64_t limit, uint32_t *ret_request_id, ironwal_error *error);
IRONWAL_API int ironwal_submit_checkpoint_count(ironwal *connection, uint32_t *ret_request_id, ironwal_error *error);
IRONWAL_API int ironwal_submit_prune_before_checkpoint(
	ironwal *connection, const void *id, size_t id_len, uint32_t *ret_request_id, ironwal_error *error);
IRONWAL_API int ironwal_submit_compact_checkpoints(
	ironwal *connection, uint64_t keep_latest_n, uint32_t *ret_request_id, ironwal_error *error);

IRONWAL_API int ironwal_submit_stats(ironwal *connection, uint32_t *ret_request_id, ironwal_error *error);

/* tag comes back with the result of that request (ironwal_result_tag); the library does not look at it. Nothing happens
 * if the request is not in flight. */
IRONWAL_API void ironwal_set_request_tag(ironwal *connection, uint32_t request_id, void *tag);

#ifdef __cplusplus
}
#endif

#endif
