/*
 * client_result: what became of a request, in the form in which it is handed out.
 *
 * Owns what it holds until that is taken out. A submitted request's result is the connection's; a blocking call has its
 * own. Used by the thread that uses the connection.
 * Invariant: what is held fits the method; nothing is held twice.
 */
#ifndef IRONWAL_CLIENT_RESULT_H
#define IRONWAL_CLIENT_RESULT_H

#include "client_connection.h"

struct ironwal_result {
	uint32_t request_id;
	enum method method;
	void *tag;
	bool failed;
	bool is_there; /* entry, number: there is one */
	union {
		ironwal_append_result append;
		struct {
			uint8_t *payload; /* the block, of which data is the beginning once it is taken */
			const uint8_t *data;
			size_t len;
		} entry;
		ironwal_entries *entries;
		ironwal_stream_info info;
		uint64_t number;
		ironwal_names *names;
		ironwal_shard_position position;
		ironwal_shard_range range;
		ironwal_checkpoint *checkpoint;
		ironwal_checkpoints *checkpoints;
		ironwal_prune_stats prune;
		ironwal_compaction_stats compaction;
		ironwal_value *value;
	};
	ironwal_shard_position *positions; /* a block; shard_append_batch, after some errors too */
	size_t position_count;
	struct ironwal_error error; /* if it failed */
};

/* Makes a result of what the core gave (rc, and result->error for -1), whose blocks it takes over. 0, or -1 with
 * result->error, also if the answer is not what the protocol says, which ends the connection. */
int result_make(
	ironwal *connection, uint32_t request_id, struct core_answer *answer, int rc, struct ironwal_result *result);
/* The entry of a get, a block of its own from here on. */
void *entry_take(struct ironwal_result *result, size_t *ret_len);
/* Frees what was not taken; any number of times. */
void result_clear(struct ironwal_result *result);

/* The readers of the methods: 0; -1 with *err: the answer is not what the protocol says; NO_MEMORY. They take the
 * answer's blocks by setting them to NULL. */
#define READ_NO_MEMORY (-2)
typedef int result_reader(
	const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err);

/* client_read.c, client_streams.c, client_shards.c, client_checkpoints.c, client_stats.c */
result_reader read_entry, read_entries, read_iter, read_stream_info, read_segments_deleted, read_segment_start,
	read_names, read_position, read_positions, read_range, read_checkpoint, read_checkpoints, read_checkpoint_count,
	read_prune, read_compaction, read_value;
/* After an error of shard_append_batch, whose fate it may change. */
void read_refused_positions(ironwal *connection, struct core_answer *answer, struct ironwal_result *result);

#endif
