/*
 * ironwal.h: the C client of ironwald, a write-ahead-log daemon.
 *
 * What it owns: an `ironwal` is one connection to one server, with the requests that are in flight on it. The library
 * has no threads, installs no signal handlers (a broken pipe is an error, not a SIGPIPE), keeps no global state, logs
 * nothing and never ends the process.
 *
 * Thread rule, for everything here: an object (connection, iterator, transaction, result, error) is used by one thread
 * at a time; iterators and transactions count as part of their connection. Different connections are independent.
 *
 * Results: functions that can fail return 0 for success and -1 for an error, unless they say otherwise. What is behind
 * a `ret_` parameter is only written on success. The error goes to the caller's `ironwal_error`; NULL is legal there
 * for those who do not care. Options whose struct_size is not set (see their ..._INIT) are
 * IRONWAL_ERR_INVALID_ARGUMENT: nothing in them is passed over in silence.
 *
 * Time: every call that talks to the server has one deadline for all that it does (names, addresses, writing, reading):
 * the connection's timeout, in milliseconds, counted from the call. A call that ends by its deadline says what became
 * of the write: see ironwal_error_fate.
 *
 * Bytes: streams, entries, keys, checkpoint ids are a pointer and a length, NUL bytes are legal in them. A pointer may
 * be NULL if its length is 0. What is passed in is copied before the call returns.
 *
 * Invariant: a length that the server announces is never believed: memory grows with bytes that arrived.
 */
#ifndef IRONWAL_H
#define IRONWAL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) && defined(IRONWAL_BUILD)
#define IRONWAL_API __attribute__((visibility("default")))
#else
#define IRONWAL_API
#endif

#define IRONWAL_VERSION_MAJOR 0
#define IRONWAL_VERSION_MINOR 1
#define IRONWAL_VERSION_PATCH 0
#define IRONWAL_VERSION_STRING "0.1.0"
/* To compare: 0x000100 is 0.1.0. */
#define IRONWAL_VERSION (IRONWAL_VERSION_MAJOR << 16 | IRONWAL_VERSION_MINOR << 8 | IRONWAL_VERSION_PATCH)

/* Where a server is looked for if nobody says anything else. */
#define IRONWAL_DEFAULT_ADDRESS "tcp:127.0.0.1:7411"

typedef struct ironwal ironwal;				/* a connection */
typedef struct ironwal_error ironwal_error;		/* what went wrong */
typedef struct ironwal_entries ironwal_entries;		/* entries that were read */
typedef struct ironwal_names ironwal_names;		/* names of streams */
typedef struct ironwal_iterator ironwal_iterator;	/* a position in a stream */
typedef struct ironwal_txn ironwal_txn;			/* entries that will be appended together or not at all */
typedef struct ironwal_checkpoint ironwal_checkpoint;	/* a consistent cut through all shards */
typedef struct ironwal_checkpoints ironwal_checkpoints; /* ids and times of checkpoints */
typedef struct ironwal_value ironwal_value;		/* a value of any shape, as the answer to stats */

typedef struct ironwal_bytes {
	const void *data;
	size_t len;
} ironwal_bytes;

/* The version of the library that runs, as "0.1.0" (static memory), and as IRONWAL_VERSION. */
IRONWAL_API const char *ironwal_version(void);
IRONWAL_API unsigned ironwal_version_number(void);

/* ---- memory ---------------------------------------------------------------------------------------------------- */

/* Where a connection's memory comes from, and that of all that it hands out. Like malloc (aligned for anything; NULL if
 * there is none), realloc (memory is never NULL) and free (memory is never NULL), with arg behind. They are called in
 * the thread that uses the connection or frees what came from it. What the C library allocates for itself while a host
 * is looked up does not come from here. */
typedef struct ironwal_allocator {
	void *(*allocate)(size_t size, void *arg);
	void *(*reallocate)(void *memory, size_t size, void *arg);
	void (*release)(void *memory, void *arg);
	void *arg;
} ironwal_allocator;

/* ---- errors ---------------------------------------------------------------------------------------------------- */

/* 1 to 99 come from the server, under these names on the wire; 100 and up are the library's own. */
typedef enum ironwal_error_code {
	IRONWAL_OK = 0,
	IRONWAL_ERR_IO = 1,		   /* Io: errno, path, outcome */
	IRONWAL_ERR_CORRUPTION = 2,	   /* Corruption: stream, segment, offset, id, [first_id] */
	IRONWAL_ERR_CRC_MISMATCH = 3,	   /* CrcMismatch: expected, actual, offset, stream, segment, id, [first_id] */
	IRONWAL_ERR_CONFIG = 4,		   /* Config */
	IRONWAL_ERR_SEGMENT_NOT_FOUND = 5, /* SegmentNotFound: id */
	IRONWAL_ERR_STREAM_NOT_FOUND = 6,  /* StreamNotFound: stream */
	IRONWAL_ERR_INVALID_FILENAME = 7,  /* InvalidFilename: name */
	IRONWAL_ERR_SERIALIZATION = 8,	   /* Serialization */
	IRONWAL_ERR_CHECKPOINT_NOT_FOUND = 9,	/* CheckpointNotFound: id (bytes) */
	IRONWAL_ERR_CHECKPOINT_CORRUPTED = 10,	/* CheckpointCorrupted: offset, reason */
	IRONWAL_ERR_SHARD_COUNT_MISMATCH = 11,	/* ShardCountMismatch: expected, found */
	IRONWAL_ERR_INVALID_CHECKPOINT_ID = 12, /* InvalidCheckpointId */
	IRONWAL_ERR_NO_CHECKPOINTS = 13,	/* NoCheckpoints */
	IRONWAL_ERR_BAD_REQUEST = 14,		/* BadRequest */
	IRONWAL_ERR_UNKNOWN_METHOD = 15,	/* UnknownMethod: method */
	IRONWAL_ERR_TOO_LARGE = 16,		/* TooLarge: limit, size, [id], [first_id]; also found by the library */
	IRONWAL_ERR_TRUNCATED = 17,		/* Truncated: first_id */
	IRONWAL_ERR_CONFLICT = 18,		/* Conflict: expected, actual */
	IRONWAL_ERR_UNAUTHORIZED = 19,		/* Unauthorized */
	IRONWAL_ERR_BUSY = 20,			/* Busy */
	IRONWAL_ERR_SHUTTING_DOWN = 21,		/* ShuttingDown */
	IRONWAL_ERR_OTHER = 99,			/* a code this library does not know: ironwal_error_code_name has it */

	IRONWAL_ERR_NO_MEMORY = 100,	    /* an allocation failed */
	IRONWAL_ERR_INVALID_ARGUMENT = 101, /* the call itself is wrong; nothing was sent */
	IRONWAL_ERR_CONNECT = 102,	    /* no connection could be made */
	IRONWAL_ERR_CONNECTION_LOST = 103,  /* it ended while requests were in flight, or before */
	IRONWAL_ERR_TIMEOUT = 104,	    /* the deadline passed */
	IRONWAL_ERR_PROTOCOL = 105,	    /* the server answered something that is not the protocol */
	IRONWAL_ERR_AGAIN = 106		    /* as much is in flight as may be: take results first */
} ironwal_error_code;

/* What became of the entries, when a write ended with an error. */
typedef enum ironwal_fate {
	IRONWAL_FATE_NOT_A_WRITE = 0, /* the request would not have written anything */
	IRONWAL_FATE_NOT_SENT = 1,    /* the server never had the whole request: nothing was written, nor will be */
	IRONWAL_FATE_REFUSED = 2,     /* the server answered that it wrote nothing */
	IRONWAL_FATE_WRITTEN = 3,     /* the server acknowledged it (the answer could not be delivered in full) */
	IRONWAL_FATE_UNKNOWN = 4,     /* sent, and not (or not clearly) answered: it may be there or turn up later */
	IRONWAL_FATE_PARTLY = 5	      /* some entries of ironwal_shard_append_batch were written, see their positions;
					 the others were not, nor will be */
} ironwal_fate;

/* An empty error, to be passed to any number of calls one after the other; freed with ironwal_error_free.
 * NULL if there is no memory (which is legal to pass on). */
IRONWAL_API ironwal_error *ironwal_error_new(void);
/* The same from an allocator, which is copied; NULL: malloc. */
IRONWAL_API ironwal_error *ironwal_error_new_with(const ironwal_allocator *allocator);
/* NULL is legal. */
IRONWAL_API void ironwal_error_free(ironwal_error *error);
/* Back to IRONWAL_OK. A call that succeeds leaves its error as it was. */
IRONWAL_API void ironwal_error_clear(ironwal_error *error);
/* error becomes what other is; NULL is legal for both. So the error of a result can outlive it. */
IRONWAL_API void ironwal_error_copy(ironwal_error *error, const ironwal_error *other);

/* All of these accept NULL, which reads as "no error". Pointers stay good until the error is used again or freed. */
IRONWAL_API ironwal_error_code ironwal_error_get_code(const ironwal_error *error);
/* As on the wire, "Conflict"; for the library's own "Timeout" and so on. Never NULL. */
IRONWAL_API const char *ironwal_error_code_name(const ironwal_error *error);
/* One line: what, where, what to do. Never NULL. Without control characters, so that it can be printed. */
IRONWAL_API const char *ironwal_error_message(const ironwal_error *error);
/* The errno of this host: of the server's failed operation (Io), or of the connection's; 0 if there is none. */
IRONWAL_API int ironwal_error_errno(const ironwal_error *error);
/* What became of the entries. */
IRONWAL_API ironwal_fate ironwal_error_fate(const ironwal_error *error);
/* "not sent", "refused", "written", "unknown", "partly"; "not a write". Static memory. */
IRONWAL_API const char *ironwal_fate_name(ironwal_fate fate);
/* 1 if the same request may succeed when it is sent again, unchanged, after a moment or on a new connection, and cannot
 * write its entries twice by that (which for IRONWAL_FATE_UNKNOWN means that it carried an expected_id, or was one to
 * truncate, or to create, prune before or compact checkpoints). Else 0; so always for IRONWAL_FATE_PARTLY. */
IRONWAL_API int ironwal_error_is_retriable(const ironwal_error *error);
/* 1 if the connection can be used further; 0 if it has ended and all it is good for is ironwal_next_result (for the
 * fates of what was in flight) and ironwal_close. */
IRONWAL_API int ironwal_error_connection_usable(const ironwal_error *error);
/* Fields by their names on the wire ("actual", "first_id", "limit", "path", "errno" ...). 1 and the value if the error
 * has a field of that name and type, else 0. Texts are at most 255 bytes and NUL-terminated besides. */
IRONWAL_API int ironwal_error_get_uint(const ironwal_error *error, const char *field, uint64_t *ret_value);
IRONWAL_API int ironwal_error_get_text(
	const ironwal_error *error, const char *field, const char **ret_text, size_t *ret_len);
/* To see all fields: the name of field number index and its kind (1 for a number, 2 for a text); NULL at the end. */
IRONWAL_API const char *ironwal_error_field(const ironwal_error *error, unsigned index, int *ret_kind);

/* ---- connections ----------------------------------------------------------------------------------------------- */

/* Begin with IRONWAL_OPTIONS_INIT and set what should differ. */
typedef struct ironwal_options {
	size_t struct_size;
	int64_t timeout_ms;	      /* of each call; default 30,000; below 0: no deadline */
	const char *client_name;      /* told to the server; NULL: "libironwal/VERSION" */
	uint32_t max_in_flight_count; /* requests; default 1024; at most 32,768 */
	uint64_t max_in_flight_bytes; /* of requests; default 64 MiB; one request alone may be larger */
	uint64_t max_message_bytes;   /* longest message that is accepted from a server; default 1 GiB: then what the
					 server announces is the limit */
	const ironwal_allocator *allocator; /* copied; NULL: malloc */
	const char *token; /* shown to a server that asks for one; copied, never told in an error; NULL: that of: */
	const char *token_file; /* its first line is the token; NULL: the environment's IRONWAL_TOKEN_FILE; "": none */
	int allow_plain_token;	/* not 0: the token is also sent where everyone on the way can read it */
	/* PEM files, for tls: addresses alone; NULL: the environment's, below; "": none */
	const char *tls_ca_file;	  /* by whom the server's certificate may be signed; none: the system's */
	const char *tls_certificate_file; /* our own, if the server asks for one */
	const char *tls_key_file;	  /* its key */
} ironwal_options;

#define IRONWAL_OPTIONS_INIT                                                                                           \
	{                                                                                                              \
		sizeof(ironwal_options), 30000, NULL, 1024, 67108864u, 1073741824u, NULL, NULL, NULL, 0, NULL, NULL,   \
			NULL                                                                                           \
	}

/* Connects and says hello, within one timeout. address is "unix:PATH", "tcp:HOST:PORT" ("tcp:[::1]:7411" for IPv6), or
 * "tls:HOST:PORT", where the server has to prove that it is HOST. NULL stands for the environment's IRONWAL_CONNECT,
 * and without that for IRONWAL_DEFAULT_ADDRESS; IRONWAL_TOKEN_FILE, IRONWAL_TLS_CA, IRONWAL_TLS_CERT and
 * IRONWAL_TLS_KEY stand in for options. Every address of a host is tried. Looking up a HOST that is not numeric is the
 * one thing that the timeout cannot interrupt: it ends by the resolver's own. options may be NULL. The connection is
 * freed with ironwal_close.
 */
IRONWAL_API int ironwal_connect(
	const char *address, const ironwal_options *options, ironwal **ret_connection, ironwal_error *error);
/* Ends the connection at once and frees it; what is in flight has an unknown fate. Iterators and transactions of it
 * stay, to be freed, or to be used with another connection (ironwal_iterator_rebind, ironwal_txn_rebind); what an
 * iterator has buffered it still gives. NULL is legal. */
IRONWAL_API void ironwal_close(ironwal *connection);

/* For the calls that follow, in milliseconds; below 0: no deadline. */
IRONWAL_API void ironwal_set_timeout_ms(ironwal *connection, int64_t timeout_ms);
/* 1 while requests can be sent. */
IRONWAL_API int ironwal_is_usable(const ironwal *connection);
/* The address that it is connected to, as "tcp:127.0.0.1:7411". The connection's memory. */
IRONWAL_API const char *ironwal_address(const ironwal *connection);

/* What the server said in its hello. Texts are NUL-terminated, the connection's memory. */
IRONWAL_API const char *ironwal_server(const ironwal *connection); /* "ironwald/0.1.0" */
IRONWAL_API uint32_t ironwal_protocol(const ironwal *connection);
IRONWAL_API uint32_t ironwal_shard_count(const ironwal *connection);
IRONWAL_API uint64_t ironwal_max_message_bytes(const ironwal *connection);
/* The largest entry that can be appended: max_message_bytes less 1 KiB. */
IRONWAL_API uint64_t ironwal_max_entry_bytes(const ironwal *connection);
IRONWAL_API const char *ironwal_sync_mode(const ironwal *connection);	/* "strict", "batch_only" or "async" */
IRONWAL_API const char *ironwal_compression(const ironwal *connection); /* "none" or "lz4" */

/* Asks the server for an answer. */
IRONWAL_API int ironwal_ping(ironwal *connection, ironwal_error *error);

/* ---- appending ------------------------------------------------------------------------------------------------- */

/* Most elements that one batch can have. */
#define IRONWAL_MAX_BATCH_COUNT 1048576u

/* Begin with IRONWAL_APPEND_OPTIONS_INIT. Wherever it is asked for, NULL means just that. */
typedef struct ironwal_append_options {
	size_t struct_size;
	int sync;	     /* not 0: on disk before it is answered, whatever the server's mode */
	int has_expected_id; /* not 0: only if the stream's next id is expected_id, else Conflict and nothing written */
	uint64_t expected_id;
} ironwal_append_options;

#define IRONWAL_APPEND_OPTIONS_INIT                                                                                    \
	{                                                                                                              \
		sizeof(ironwal_append_options), 0, 0, 0                                                                \
	}

/* The entries have the ids [first, end). durable: not 0 if they were on disk when it was answered. */
typedef struct ironwal_append_result {
	uint64_t first;
	uint64_t end;
	int durable;
} ironwal_append_result;

/* Appends one entry. After an error ironwal_error_fate tells whether it may be there all the same. ret_result may be
 * NULL, here and in what follows. */
IRONWAL_API int ironwal_append(ironwal *connection, const char *stream, size_t stream_len, const void *entry,
	size_t entry_len, const ironwal_append_options *options, ironwal_append_result *ret_result,
	ironwal_error *error);

/* Appends count entries, all or none. A batch that does not fit in one message or has more than
 * IRONWAL_MAX_BATCH_COUNT entries is TooLarge and not sent. An empty batch writes nothing. */
IRONWAL_API int ironwal_append_batch(ironwal *connection, const char *stream, size_t stream_len,
	const ironwal_bytes *entries, size_t count, const ironwal_append_options *options,
	ironwal_append_result *ret_result, ironwal_error *error);

/* Makes an unknown fate known: of an append with options->has_expected_id (needed here) of exactly these entries, which
 * ended with IRONWAL_FATE_UNKNOWN on this or another connection. It appends again with that expected_id; if that is a
 * Conflict, it compares what is there with the entries. So entries of several writers to a stream must differ from each
 * other, and nobody else may append to it without reading what is there.
 *   0   *ret_fate is IRONWAL_FATE_WRITTEN: the entries are there, once, at *ret_result; durable as the answer says, or,
 *       if they were found, as the Conflict promises for the server's mode
 *       or IRONWAL_FATE_REFUSED: something else is there, the entries are not, nor will be
 *  -1   still unknown: the error says why. Call it again, on another connection if this one is lost. */
IRONWAL_API int ironwal_settle_append(ironwal *connection, const char *stream, size_t stream_len,
	const ironwal_bytes *entries, size_t count, const ironwal_append_options *options, ironwal_fate *ret_fate,
	ironwal_append_result *ret_result, ironwal_error *error);

/* ---- transactions ---------------------------------------------------------------------------------------------- */

/* Gathers entries in memory, to append them as one atomic batch. Nothing goes to the server before the commit. Freed
 * with ironwal_txn_free, which without a commit discards it. */
IRONWAL_API int ironwal_txn_begin(
	ironwal *connection, const char *stream, size_t stream_len, ironwal_txn **ret_txn, ironwal_error *error);
/* Adds a copy of entry. TooLarge if the batch would not fit in one message: then it is as before. */
IRONWAL_API int ironwal_txn_add(ironwal_txn *txn, const void *entry, size_t entry_len, ironwal_error *error);
/* How many entries it has. */
IRONWAL_API size_t ironwal_txn_count(const ironwal_txn *txn);
/* Appends all of it. After success it is empty and can be filled again. After an error it is as before: by the error's
 * fate and retriability it can be committed again. */
IRONWAL_API int ironwal_txn_commit(ironwal_txn *txn, const ironwal_append_options *options,
	ironwal_append_result *ret_result, ironwal_error *error);
/* Discards what it holds; it can be filled again. */
IRONWAL_API void ironwal_txn_clear(ironwal_txn *txn);
/* Goes over to another connection, with what it holds. The old one may be closed already. */
IRONWAL_API void ironwal_txn_rebind(ironwal_txn *txn, ironwal *connection);
/* Discards what was not committed. NULL is legal. */
IRONWAL_API void ironwal_txn_free(ironwal_txn *txn);

/* ---- reading --------------------------------------------------------------------------------------------------- */

/* The entry, a copy that is freed with ironwal_entry_free, or NULL in *ret_entry if there is none of that id (not yet,
 * or truncated away). An empty entry is a pointer that is not NULL, with length 0. */
IRONWAL_API int ironwal_get(ironwal *connection, const char *stream, size_t stream_len, uint64_t id, void **ret_entry,
	size_t *ret_len, ironwal_error *error);
/* NULL is legal. */
IRONWAL_API void ironwal_entry_free(void *entry);

/* The entries of these ids, in the same order, missing where there is none. Freed with ironwal_entries_free. */
IRONWAL_API int ironwal_get_batch(ironwal *connection, const char *stream, size_t stream_len, const uint64_t *ids,
	size_t count, ironwal_entries **ret_entries, ironwal_error *error);

/* Begin with IRONWAL_READ_OPTIONS_INIT. NULL means just that. */
typedef struct ironwal_read_options {
	size_t struct_size;
	int has_start_id; /* 0: from the oldest entry kept */
	uint64_t start_id;
	uint64_t max_entries; /* 0: as many as the server gives */
	uint64_t max_bytes;   /* 0: as many as the server gives; at least one entry comes if there is one */
	uint64_t wait_ms; /* how long the server may wait for an entry if there is none at start_id; it is added to the
			     call's timeout; a server may cut it */
} ironwal_read_options;

#define IRONWAL_READ_OPTIONS_INIT                                                                                      \
	{                                                                                                              \
		sizeof(ironwal_read_options), 0, 0, 0, 0, 0                                                            \
	}

/* One request for consecutive entries. At the end of the stream the result is empty. `Truncated` with first_id if
 * start_id is older than what is kept. Freed with ironwal_entries_free. */
IRONWAL_API int ironwal_read(ironwal *connection, const char *stream, size_t stream_len,
	const ironwal_read_options *options, ironwal_entries **ret_entries, ironwal_error *error);

/* How many there are, those that are missing (only after ironwal_get_batch) included. */
IRONWAL_API size_t ironwal_entries_count(const ironwal_entries *entries);
/* Number index (below count): 1 and its bytes, good until the entries are freed; 0 if it is missing. ret_id may be
 * NULL. */
IRONWAL_API int ironwal_entries_get(
	const ironwal_entries *entries, size_t index, uint64_t *ret_id, const void **ret_data, size_t *ret_len);
/* After ironwal_read: the id to go on with, and the end of the stream (one past its newest entry). 0 after get_batch.
 */
IRONWAL_API uint64_t ironwal_entries_next_id(const ironwal_entries *entries);
IRONWAL_API uint64_t ironwal_entries_end_id(const ironwal_entries *entries);
/* NULL is legal. */
IRONWAL_API void ironwal_entries_free(ironwal_entries *entries);

/* Walks a stream from options->start_id (or its oldest entry); max_entries, max_bytes and wait_ms are those of each
 * request that it makes. With wait_ms it follows the stream. Nothing is sent before the first ironwal_iterator_next;
 * from then on it asks for the next entries while it gives those that it has (and, following, waits for more): so it
 * holds up to two answers. Freed with ironwal_iterator_free, before or after its connection is closed. */
IRONWAL_API int ironwal_iterator_open(ironwal *connection, const char *stream, size_t stream_len,
	const ironwal_read_options *options, ironwal_iterator **ret_iterator, ironwal_error *error);
/* The next entry: 1 and its id and bytes, good until the next call on this iterator; 0 if the end of the stream was
 * reached (call again later to go on; with wait_ms it has waited already); -1 for an error, after which the iterator is
 * where it was: a retriable one can be tried again. */
IRONWAL_API int ironwal_iterator_next(
	ironwal_iterator *iterator, uint64_t *ret_id, const void **ret_data, size_t *ret_len, ironwal_error *error);
/* 1 and the id that comes next; 0 if that is not known yet (from the oldest entry, before the first answer). */
IRONWAL_API int ironwal_iterator_next_id(const ironwal_iterator *iterator, uint64_t *ret_id);
/* 1 if the next call gives an entry without waiting for the server. */
IRONWAL_API int ironwal_iterator_buffered(const ironwal_iterator *iterator);
/* Goes on over another connection at its next id. The old one may be closed already.
 * What it has buffered it gives first. */
IRONWAL_API void ironwal_iterator_rebind(ironwal_iterator *iterator, ironwal *connection);
/* NULL is legal. */
IRONWAL_API void ironwal_iterator_free(ironwal_iterator *iterator);

/* ---- streams --------------------------------------------------------------------------------------------------- */

typedef struct ironwal_stream_info {
	uint64_t first;	      /* oldest id that is kept */
	uint64_t end;	      /* one past the newest id that can be read */
	uint64_t durable_end; /* one past the newest id that is known to be on disk; at most end */
	uint64_t segments;
	uint64_t bytes; /* of frames on disk, without what is held ahead */
} ironwal_stream_info;

IRONWAL_API int ironwal_get_stream_info(ironwal *connection, const char *stream, size_t stream_len,
	ironwal_stream_info *ret_info, ironwal_error *error);

/* Deletes the segments that hold only entries older than safe_id; *ret_segments_deleted says how many. */
IRONWAL_API int ironwal_truncate(ironwal *connection, const char *stream, size_t stream_len, uint64_t safe_id,
	uint64_t *ret_segments_deleted, ironwal_error *error);

/* The first id of the segment that is being written: 1 and the id; 0 if there is none; -1 for an error. */
IRONWAL_API int ironwal_current_segment_start_id(
	ironwal *connection, const char *stream, size_t stream_len, uint64_t *ret_id, ironwal_error *error);

/* Once everything acknowledged before is on disk. stream NULL with length 0: of all streams. */
IRONWAL_API int ironwal_sync(ironwal *connection, const char *stream, size_t stream_len, ironwal_error *error);

/* Names of streams that begin with prefix and sort after `after`, both may be empty; sorted by bytes; at most limit (0:
 * as many as the server gives). Freed with ironwal_names_free. */
IRONWAL_API int ironwal_list_streams(ironwal *connection, const char *prefix, size_t prefix_len, const char *after,
	size_t after_len, uint64_t limit, ironwal_names **ret_names, ironwal_error *error);
IRONWAL_API size_t ironwal_names_count(const ironwal_names *names);
/* Number index (below count): not NUL-terminated, good until the names are freed. */
IRONWAL_API const char *ironwal_names_get(const ironwal_names *names, size_t index, size_t *ret_len);
/* 1 if there are more after the last one. */
IRONWAL_API int ironwal_names_more(const ironwal_names *names);
/* NULL is legal. */
IRONWAL_API void ironwal_names_free(ironwal_names *names);

/* ---- shards ---------------------------------------------------------------------------------------------------- */

/* A server has ironwal_shard_count(connection) shards: logs that are chosen by a key, and through all of which a
 * checkpoint cuts at once. Keys are not stored: put them into the values if readers need them. */

/* The shard of a key: XXH3_64bits(key) mod shard_count, as the server reckons it; 0 for a shard_count of 0. A key is
 * any bytes, none too. Any thread may call it. */
IRONWAL_API uint32_t ironwal_shard_of_key(const void *key, size_t key_len, uint32_t shard_count);

/* The stream that is a shard's log, "shard_07": what the reference calls inner(). All calls that take a stream work on
 * it, and it is the same log: ironwal_append to it with an expected_id is the safe retry of a shard append. Writes the
 * name and a NUL, returns the name's length. Any thread may call it. */
#define IRONWAL_SHARD_NAME_MAX 24
IRONWAL_API size_t ironwal_shard_name(uint32_t shard, char ret_name[IRONWAL_SHARD_NAME_MAX]);

/* Begin with IRONWAL_SHARD_APPEND_OPTIONS_INIT. NULL means just that. */
typedef struct ironwal_shard_append_options {
	size_t struct_size;
	int sync;     /* not 0: on disk before it is answered, whatever the server's mode */
	int reserved; /* 0 */
} ironwal_shard_append_options;

#define IRONWAL_SHARD_APPEND_OPTIONS_INIT                                                                              \
	{                                                                                                              \
		sizeof(ironwal_shard_append_options), 0, 0                                                             \
	}

typedef struct ironwal_key_value {
	ironwal_bytes key, value;
} ironwal_key_value;

/* Where an entry is: entry id of the log of shard. */
typedef struct ironwal_shard_position {
	uint64_t id;	/* 0 if it was not written */
	uint32_t shard; /* the key's, whether it was written or not */
	int written;	/* not 0: acknowledged. 0: see the error's fate */
} ironwal_shard_position;

/* Entries [first, end) of the log of shard. */
typedef struct ironwal_shard_range {
	uint64_t first;
	uint64_t end;
	uint32_t shard;
} ironwal_shard_range;

/* Appends value to the shard of key. TooLarge, and not sent, as ironwal_append_batch. ret_position may be NULL. */
IRONWAL_API int ironwal_shard_append(ironwal *connection, const void *key, size_t key_len, const void *value,
	size_t value_len, const ironwal_shard_append_options *options, ironwal_shard_position *ret_position,
	ironwal_error *error);

/* Appends count entries, each to the shard of its key: all or none of those of one shard, but each shard by itself.
 * An empty batch writes nothing. ret_positions is the caller's array of count, in the order of the entries, or NULL.
 * Unlike other results it is also filled by an error, whenever something was sent; what `written` is 0 says then is
 * told by the fate:
 *   IRONWAL_FATE_NOT_SENT   the array is not touched; nothing was written
 *   IRONWAL_FATE_REFUSED    written is 0 everywhere; nothing was written
 *   IRONWAL_FATE_PARTLY     some shards failed (the error is that of the first entry that did): where written is 0,
 *                           nothing was written nor will be: these entries, and no others, may be sent again
 *   IRONWAL_FATE_UNKNOWN    where written is 0, the entry may be there or turn up later */
IRONWAL_API int ironwal_shard_append_batch(ironwal *connection, const ironwal_key_value *entries, size_t count,
	const ironwal_shard_append_options *options, ironwal_shard_position *ret_positions, ironwal_error *error);

/* Appends count values to the shard of one key, all or none. An empty batch writes nothing, and its range is empty at
 * the shard's next id. TooLarge, and not sent, as ironwal_append_batch. ret_range may be NULL. */
IRONWAL_API int ironwal_shard_append_batch_for_key(ironwal *connection, const void *key, size_t key_len,
	const ironwal_bytes *values, size_t count, const ironwal_shard_append_options *options,
	ironwal_shard_range *ret_range, ironwal_error *error);

/* As ironwal_read and ironwal_iterator_open, of the log of a shard (whose number is below ironwal_shard_count, else the
 * server answers Config). A shard that nothing was written to is empty. */
IRONWAL_API int ironwal_read_shard(ironwal *connection, uint32_t shard, const ironwal_read_options *options,
	ironwal_entries **ret_entries, ironwal_error *error);
IRONWAL_API int ironwal_shard_iterator_open(ironwal *connection, uint32_t shard, const ironwal_read_options *options,
	ironwal_iterator **ret_iterator, ironwal_error *error);

/* ---- checkpoints ----------------------------------------------------------------------------------------------- */

/* A checkpoint has an offset for each shard, and covers the shard's entries below it. It covers all appends to shards
 * that were acknowledged before the request, and of two appends that came one after the other never the second alone.
 * Its id is 1 to 65,535 bytes, any (else InvalidCheckpointId); of one over max_message_bytes TooLarge, and not sent.
 *
 * Creating, pruning and compacting have a fate as appends do, and can safely be repeated also if it is unknown, which
 * ironwal_error_is_retriable says too: a checkpoint that is created again replaces the first one; what is deleted or
 * dropped stays so. */

/* Takes a checkpoint and keeps it under id, in place of one that is there; it is then the newest. When this returns 0
 * it is on disk, and so is all that it covers, in every sync mode. Freed with ironwal_checkpoint_free; ret_checkpoint
 * may be NULL. */
IRONWAL_API int ironwal_create_checkpoint(
	ironwal *connection, const void *id, size_t id_len, ironwal_checkpoint **ret_checkpoint, ironwal_error *error);
/* The one of that id. CheckpointNotFound (id); CheckpointCorrupted (offset, reason); ShardCountMismatch (expected, of
 * the server; found). Freed with ironwal_checkpoint_free. */
IRONWAL_API int ironwal_load_checkpoint(
	ironwal *connection, const void *id, size_t id_len, ironwal_checkpoint **ret_checkpoint, ironwal_error *error);
/* The newest one. NoCheckpoints if there is none; if it is damaged CheckpointCorrupted, never an older one. */
IRONWAL_API int ironwal_load_latest_checkpoint(
	ironwal *connection, ironwal_checkpoint **ret_checkpoint, ironwal_error *error);

/* Not NUL-terminated; good, as the offsets are, until the checkpoint is freed. */
IRONWAL_API const void *ironwal_checkpoint_id(const ironwal_checkpoint *checkpoint, size_t *ret_len);
/* Unix time, in nanoseconds; of two checkpoints of a server never the same. */
IRONWAL_API uint64_t ironwal_checkpoint_timestamp_ns(const ironwal_checkpoint *checkpoint);
/* That of the connection. */
IRONWAL_API uint32_t ironwal_checkpoint_shard_count(const ironwal_checkpoint *checkpoint);
/* One for each shard, ironwal_checkpoint_shard_count of them (in *ret_count, which may be NULL): the first id that is
 * not covered, where a reader goes on. */
IRONWAL_API const uint64_t *ironwal_checkpoint_offsets(const ironwal_checkpoint *checkpoint, size_t *ret_count);
/* NULL is legal. */
IRONWAL_API void ironwal_checkpoint_free(ironwal_checkpoint *checkpoint);

/* The newest limit (0: all) of the checkpoints, oldest first. Freed with ironwal_checkpoints_free. TooLarge if the list
 * does not fit an answer: ask for fewer. */
IRONWAL_API int ironwal_list_checkpoints(
	ironwal *connection, uint64_t limit, ironwal_checkpoints **ret_list, ironwal_error *error);
IRONWAL_API size_t ironwal_checkpoints_count(const ironwal_checkpoints *list);
/* Number index: 1, its id (not NUL-terminated, good until the list is freed) and when it was taken, in Unix nanoseconds
 * (ret_timestamp_ns may be NULL); 0 if index is not below count. */
IRONWAL_API int ironwal_checkpoints_get(const ironwal_checkpoints *list, size_t index, const void **ret_id,
	size_t *ret_len, uint64_t *ret_timestamp_ns);
/* How many more there are that are so badly damaged that their ids cannot be told. */
IRONWAL_API uint64_t ironwal_checkpoints_damaged(const ironwal_checkpoints *list);
/* NULL is legal. */
IRONWAL_API void ironwal_checkpoints_free(ironwal_checkpoints *list);
/* How many different ids there are. */
IRONWAL_API int ironwal_checkpoint_count(ironwal *connection, uint64_t *ret_count, ironwal_error *error);

typedef struct ironwal_prune_stats {
	uint64_t segments_deleted; /* of all shards together */
	uint32_t shards_pruned;	   /* of how many shards at least one */
} ironwal_prune_stats;

/* Deletes, in all shards, the segments that hold only entries covered by the checkpoint: never one that is written to.
 * Errors as ironwal_load_checkpoint; after Io some may have been deleted (fate unknown). ret_stats may be NULL. */
IRONWAL_API int ironwal_prune_before_checkpoint(
	ironwal *connection, const void *id, size_t id_len, ironwal_prune_stats *ret_stats, ironwal_error *error);

typedef struct ironwal_compaction_stats {
	uint64_t checkpoints_before; /* different ids */
	uint64_t checkpoints_after;
	uint64_t bytes_reclaimed; /* by how much the file that holds them became shorter */
} ironwal_compaction_stats;

/* Keeps the newest keep_latest_n checkpoints (0: none) and drops the others. ret_stats may be NULL. */
IRONWAL_API int ironwal_compact_checkpoints(
	ironwal *connection, uint64_t keep_latest_n, ironwal_compaction_stats *ret_stats, ironwal_error *error);

/* ---- stats ----------------------------------------------------------------------------------------------------- */

/* Counters, gauges and summaries of the server, a map. Freed with ironwal_value_free. */
IRONWAL_API int ironwal_stats(ironwal *connection, ironwal_value **ret_value, ironwal_error *error);
/* The value as MessagePack, good until it is freed. */
IRONWAL_API const void *ironwal_value_msgpack(const ironwal_value *value, size_t *ret_len);

typedef enum ironwal_value_kind {
	IRONWAL_VALUE_NIL = 0,
	IRONWAL_VALUE_BOOL,	 /* u */
	IRONWAL_VALUE_UINT,	 /* u */
	IRONWAL_VALUE_INT,	 /* i, negative */
	IRONWAL_VALUE_FLOAT,	 /* f */
	IRONWAL_VALUE_TEXT,	 /* data, len */
	IRONWAL_VALUE_BYTES,	 /* data, len */
	IRONWAL_VALUE_MAP_BEGIN, /* u: pairs; then key, value, key, value ...; then MAP_END */
	IRONWAL_VALUE_MAP_END,
	IRONWAL_VALUE_ARRAY_BEGIN, /* u: elements; then these; then ARRAY_END */
	IRONWAL_VALUE_ARRAY_END
} ironwal_value_kind;

typedef struct ironwal_value_item {
	ironwal_value_kind kind;
	unsigned depth; /* of the maps and arrays around it */
	int is_key;	/* it is a key of a map */
	uint64_t u;
	int64_t i;
	double f;
	const char *data; /* not NUL-terminated, good until the value is freed */
	size_t len;
} ironwal_value_item;

/* Called for each part of the value, in order. Not 0 ends the walk. */
typedef int (*ironwal_value_cb)(const ironwal_value_item *item, void *arg);
/* Walks through the value. 0, or what the callback returned. */
IRONWAL_API int ironwal_value_walk(const ironwal_value *value, ironwal_value_cb callback, void *arg);
/* NULL is legal. */
IRONWAL_API void ironwal_value_free(ironwal_value *value);

#ifdef __cplusplus
}
#endif

/* The same requests without waiting for their answers, for event loops and for pipelines. */
#include "ironwal_submit.h"

#endif
