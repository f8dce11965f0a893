/*
 * client_connection: what is behind an `ironwal`: how it came to be connected, a core, and what the server said in its
 * hello.
 *
 * Owns the dial while it connects, the core, the texts, and the result that is handed out. Used by the thread that uses
 * the connection.
 * Invariant: the state only goes forward: connecting (first the dial, then hello), ready, lost. Requests other than
 * hello are begun when it is ready only. Iterators and transactions that name it are in its lists, so that none names
 * it after it is closed.
 */
#ifndef IRONWAL_CLIENT_CONNECTION_H
#define IRONWAL_CLIENT_CONNECTION_H

#include "client_core.h"
#include "client_dial.h"

struct ironwal_result;

/* In a list of a connection's: an iterator or a transaction. */
struct attached {
	ironwal *connection; /* NULL: it is closed */
	struct attached **link, *next;
	void (*closing_cb)(struct attached *attached); /* the connection goes; NULL: nothing to do */
};

struct ironwal {
	struct core *core;
	char *address; /* a block, as the texts below */
	int64_t timeout_ms;
	ironwal_options options;
	/* while it connects */
	bool dialing, ready;
	bool lost_told; /* by ironwal_process */
	struct dial dial;
	uint64_t deadline_ns;
	uint32_t hello_id; /* 0: not sent yet */
	char *client_name;
	char *token; /* until it was sent; NULL: none */
	/* from hello */
	uint32_t protocol, shard_count;
	uint64_t max_message_bytes;
	char *server, *sync_mode, *compression;
	struct ironwal_result *result;
	struct attached *attached;
};

/* -1 if it is NULL, which is what closing leaves to an iterator or a transaction: fate not a write. */
int connection_check(const ironwal *connection, ironwal_error *error);

void attach(struct attached *attached, ironwal *connection);
void detach(struct attached *attached);

#endif
