/*
 * handlers_info: hello, ping, and questions about streams: all answered at once, from memory.
 */
#include <string.h>

#include "checkpoint.h"
#include "clock.h"
#include "handlers.h"
#include "log.h"

/* A name and its header in the answer of list_streams; what is around the names. */
#define LISTED_NAME_BYTES_MAX (STREAM_NAME_MAX + 2)
#define LIST_OVERHEAD_BYTES 1024
#define LIST_LIMIT_DEFAULT UINT64_C(1000)
#define LIST_LIMIT_MAX UINT64_C(10000)

/* False: the call was answered, which was the connection's last one: each try costs a connection. */
static bool let_in(struct call *call, struct span token)
{
	struct session *session = conn_user(call->conn);
	struct error err;
	const struct transport_peer *peer = conn_peer_id(call->conn);
	const struct token *before = session->token;
	if (auth_check(call->net->auth, peer, token, clock_now_ns(), &session->token, &err) != 0) {
		call_fail_connection(call, &err);
		return false;
	}
	if (session->token == before)
		return true;
	log_info("net", "%s: is %s", peer->text, session->token->name);
	/* What waits was asked for with the other one, and a reload looks at this one only. */
	if (before != NULL)
		waiters_wake_owner(call->net->waiters, &session->waiting);
	return true;
}

void handle_HELLO(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	struct net *net = call->net;
	struct session *session = conn_user(call->conn);
	uint64_t protocol = 0;
	struct error err;
	if (field_u64(&request->params, KEY_PROTOCOL, &protocol, &err) != 0 || protocol != PROTOCOL_VERSION) {
		error_set(&err, ERR_BAD_REQUEST, "hello: protocol must be one that is served: %d", PROTOCOL_VERSION);
		call_fail_connection(call, &err);
		return;
	}
	struct span client = {0}, token = {0};
	if ((fields_has(&request->params, KEY_CLIENT) && field_str(&request->params, KEY_CLIENT, &client, &err) != 0) ||
		(fields_has(&request->params, KEY_TOKEN) &&
			field_str(&request->params, KEY_TOKEN, &token, &err) != 0)) {
		call_fail(call, &err);
		return;
	}
	if (client.len > 0)
		log_debug("net", "%s: hello from %.*s", conn_peer(call->conn), (int)client.len,
			(const char *)client.data);
	/* A later hello without a token leaves the one that it came in with. */
	if (net->auth != NULL && (!session->greeted || token.data != NULL) && !let_in(call, token))
		return;
	struct mp_writer writer;
	session->greeted = true;
	conn_welcome(call->conn);
	if (!call_reply_begin(call, &writer, 6))
		return;
	mp_write_key(&writer, KEY_PROTOCOL);
	mp_write_u64(&writer, PROTOCOL_VERSION);
	mp_write_key(&writer, KEY_SERVER);
	mp_write_str(&writer, "ironwald/" IRONWALD_VERSION);
	mp_write_key(&writer, KEY_SHARD_COUNT);
	mp_write_u64(&writer, engine_shard_count(net->engine));
	mp_write_key(&writer, KEY_MAX_MESSAGE_BYTES);
	mp_write_u64(&writer, net->options->max_message_bytes);
	mp_write_key(&writer, KEY_SYNC_MODE);
	mp_write_str(&writer, net->options->sync_mode);
	mp_write_key(&writer, KEY_COMPRESSION);
	mp_write_str(&writer, net->options->compression);
	call_reply_end(call, &writer);
}

void handle_PING(struct call *call, const struct request *request, struct buf *owner)
{
	(void)request;
	(void)owner;
	struct mp_writer writer;
	if (call_reply_begin(call, &writer, 0))
		call_reply_end(call, &writer);
}

void handle_CURRENT_SEGMENT_START_ID(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	struct span name;
	struct error err;
	if (field_stream(&request->params, &name, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	struct stream *stream = engine_find(call->net->engine, (const char *)name.data, name.len);
	struct stream_info info = {0};
	if (stream != NULL)
		engine_stream_info(call->net->engine, stream, &info);
	struct mp_writer writer;
	if (!call_reply_begin(call, &writer, 1))
		return;
	mp_write_key(&writer, KEY_ID);
	if (info.segments > 0) /* a shard's log has none at first */
		mp_write_u64(&writer, info.active_start);
	else
		mp_write_nil(&writer);
	call_reply_end(call, &writer);
}

void handle_STREAM_INFO(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	struct span name;
	struct error err;
	if (field_stream(&request->params, &name, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	struct stream *stream = engine_find(call->net->engine, (const char *)name.data, name.len);
	if (stream == NULL) {
		call_fail_stream_not_found(call, name);
		return;
	}
	struct stream_info info;
	engine_stream_info(call->net->engine, stream, &info);
	const struct {
		enum key key;
		uint64_t value;
	} rows[] = {
		{KEY_FIRST, info.first},
		{KEY_END, info.end},
		{KEY_DURABLE_END, info.durable_end},
		{KEY_SEGMENTS, info.segments},
		{KEY_BYTES, info.bytes},
	};
	struct mp_writer writer;
	if (!call_reply_begin(call, &writer, sizeof(rows) / sizeof(rows[0])))
		return;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		mp_write_key(&writer, rows[i].key);
		mp_write_u64(&writer, rows[i].value);
	}
	call_reply_end(call, &writer);
}

static void answer_count(struct call *call, uint64_t count)
{
	struct mp_writer writer;
	if (!call_reply_begin(call, &writer, 1))
		return;
	mp_write_key(&writer, KEY_COUNT);
	mp_write_u64(&writer, count);
	call_reply_end(call, &writer);
}

void handle_SHARD_COUNT(struct call *call, const struct request *request, struct buf *owner)
{
	(void)request;
	(void)owner;
	answer_count(call, engine_shard_count(call->net->engine));
}

void handle_CHECKPOINT_COUNT(struct call *call, const struct request *request, struct buf *owner)
{
	(void)request;
	(void)owner;
	answer_count(call, engine_checkpoint_count(call->net->engine));
}

struct listing {
	struct engine *engine;
	struct mp_writer *writer;
	struct span after;
	uint64_t left; /* of the limit */
	uint32_t count;
};

static void list_cb(struct stream *stream, void *arg)
{
	struct listing *listing = arg;
	size_t len;
	const char *name = stream_name(stream, &len);
	mp_write_str_len(listing->writer, name, len);
	listing->count++;
	listing->left--;
}

/* Those that begin with prefix. True: there are more of them. */
static bool list(struct listing *listing, struct span prefix)
{
	return engine_list(listing->engine, (const char *)prefix.data, prefix.len, (const char *)listing->after.data,
		listing->after.len, (size_t)listing->left, list_cb, listing);
}

/* The same, of what the token allows. Its prefixes are in the order of the names that begin with them. */
static bool list_allowed(struct listing *listing, struct span prefix, const struct token *token)
{
	for (size_t i = 0; i < token->prefix_count; i++) {
		const struct span allowed = {token->prefixes[i].bytes, token->prefixes[i].len};
		size_t common = allowed.len < prefix.len ? allowed.len : prefix.len;
		if (common > 0 && memcmp(allowed.data, prefix.data, common) != 0)
			continue;
		if (list(listing, allowed.len > prefix.len ? allowed : prefix))
			return true;
	}
	return false;
}

void handle_LIST_STREAMS(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	const struct session *session = conn_user(call->conn);
	const struct fields *params = &request->params;
	struct span prefix = {(const uint8_t *)"", 0};
	struct listing listing = {.engine = call->net->engine};
	uint64_t limit;
	struct error err;
	if ((fields_has(params, KEY_PREFIX) && field_str(params, KEY_PREFIX, &prefix, &err) != 0) ||
		(fields_has(params, KEY_AFTER) && field_str(params, KEY_AFTER, &listing.after, &err) != 0) ||
		field_u64_or(params, KEY_LIMIT, LIST_LIMIT_DEFAULT, &limit, &err) != 0) {
		call_fail(call, &err);
		return;
	}
	uint64_t fitting = (call->net->options->max_message_bytes - LIST_OVERHEAD_BYTES) / LISTED_NAME_BYTES_MAX;
	if (limit == 0)
		limit = 1; /* as in iter: an empty portion with more behind it would be a loop without end */
	if (limit > LIST_LIMIT_MAX)
		limit = LIST_LIMIT_MAX;
	if (limit > fitting)
		limit = fitting;
	listing.left = limit;
	struct mp_writer writer;
	if (!call_reply_begin(call, &writer, 2))
		return;
	mp_write_key(&writer, KEY_STREAMS);
	size_t hole = mp_hole_array(&writer);
	listing.writer = &writer;
	bool limited = session->token != NULL && !session->token->everything;
	bool more = limited ? list_allowed(&listing, prefix, session->token) : list(&listing, prefix);
	if (!writer.failed)
		mp_fill_array(&writer, hole, listing.count);
	mp_write_key(&writer, KEY_MORE);
	mp_write_bool(&writer, more);
	call_reply_end(call, &writer);
}
