/*
 * client_entries: entries that were read, and where they come from: a stream, or a shard by its number.
 *
 * Owns the answer that they are in. Used by the thread that uses the connection.
 * Invariant: next - first == count for what an iter answered; the spans point into the payload.
 */
#ifndef IRONWAL_CLIENT_ENTRIES_H
#define IRONWAL_CLIENT_ENTRIES_H

#include "client_call.h"

struct ironwal_entries {
	uint8_t *payload;   /* these three are blocks */
	struct span *spans; /* into payload; data NULL: missing */
	uint64_t *ids;	    /* get_batch; NULL: consecutive from first */
	size_t count;
	uint64_t first, next, end;
};

struct source {
	const char *stream; /* NULL: the shard */
	size_t stream_len;
	uint32_t shard;
};

/* The request for the entries of a source; options has all members. */
int put_read(ironwal *connection, enum how how, const struct source *source, const ironwal_read_options *options,
	uint32_t *ret_msgid, ironwal_error *error);

#endif
