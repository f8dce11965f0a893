/*
 * net_harness: the server whole, in a thread, on an engine in memory, and a client that is a blocking socket.
 *
 * Owns the one server under test and its directory. The test's thread calls everything.
 * Invariant: every client call fails the test rather than wait longer than TIMEOUT_MS.
 */
#ifndef IRONWALD_NET_HARNESS_H
#define IRONWALD_NET_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "engine.h"
#include "message.h"
#include "server.h"

#define TIMEOUT_MS 20000
#define LIMIT (UINT64_C(256) * 1024) /* max_message_bytes, unless the test says otherwise */

/* ---- the server: set_up, change options, start_server ... tear_down stops it, unless join_server waited for that */

extern struct server_options options;
extern struct engine *engine;  /* of fake_engine.h */
extern char dir[64], path[96]; /* path: of the Unix socket */

void set_up(void);
void start_server(void);
void join_server(void);
void tear_down(void);

/* ---- a client */

struct client {
	int fd;
	struct buf in;
	size_t used; /* of in: the answer that was returned last */
};

struct client client_raw(void);
struct client client_new(void); /* hello is done */
void client_close(struct client *client);

void send_all(struct client *client, const void *bytes, size_t len);
void flush(struct client *client, struct buf *buf); /* and frees buf */

/* False at the end of what the server sends. The response is good until the next call. */
bool receive(struct client *client, struct response *ret);
void receive_ok(struct client *client, uint32_t msgid, struct response *ret);
void receive_error(struct client *client, uint32_t msgid, enum error_code code, struct error *ret_err);
void receive_end(struct client *client);
uint64_t u64_of(const struct response *response, enum key key);

/* A request with a stream (NULL: none) and up to two numbers; KEY_TOTAL: none. */
void put(struct buf *buf, uint32_t msgid, enum method method, const char *stream, enum key key, uint64_t value,
	enum key key2, uint64_t value2);
void put_append(struct buf *buf, uint32_t msgid, const char *stream, const void *entry, size_t len);

/* The same, sent at once. */
void ask(struct client *client, uint32_t msgid, enum method method, const char *stream, enum key key, uint64_t value,
	enum key key2, uint64_t value2);
void ask_plain(struct client *client, uint32_t msgid, enum method method);
void append(struct client *client, uint32_t msgid, const char *stream, const void *entry, size_t len);

/* A number of the answer to stats: connections.NAME. */
uint64_t connection_stat(struct client *client, const char *name);

void wait_until(bool (*cond)(void *arg), void *arg);

/* len bytes that differ by seed; freed by the caller. */
char *pattern(size_t len, unsigned seed);

#endif
