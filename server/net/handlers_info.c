/*
 * handlers_info: hello, ping, and questions about streams: all answered at once, from memory.
 */
#include "checkpoint.h"
#include "handlers.h"
#include "log.h"

/* A name and its header in the answer of list_streams; what is around the names. */
#define LISTED_NAME_BYTES_MAX (STREAM_NAME_MAX + 2)
#define LIST_OVERHEAD_BYTES 1024
#define LIST_LIMIT_DEFAULT UINT64_C(1000)
#define LIST_LIMIT_MAX UINT64_C(10000)

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
	struct span client = {0}, token;
	if ((fields_has(&request->params, KEY_CLIENT) && field_str(&request->params, KEY_CLIENT, &client, &err) != 0) ||
		(fields_has(&request->params, KEY_TOKEN) &&
			field_str(&request->params, KEY_TOKEN, &token, &err) != 0)) {
		call_fail(call, &err);
		return;
	}
	if (client.len > 0)
		log_debug("net", "%s: hello from %.*s", conn_peer(call->conn), (int)client.len,
			(const char *)client.data);
	struct mp_writer writer;
	session->greeted = true;
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
	struct mp_writer *writer;
	uint32_t count;
};

static void list_cb(struct stream *stream, void *arg)
{
	struct listing *listing = arg;
	size_t len;
	const char *name = stream_name(stream, &len);
	mp_write_str_len(listing->writer, name, len);
	listing->count++;
}

void handle_LIST_STREAMS(struct call *call, const struct request *request, struct buf *owner)
{
	(void)owner;
	const struct fields *params = &request->params;
	struct span prefix = {(const uint8_t *)"", 0}, after = {0};
	uint64_t limit;
	struct error err;
	if ((fields_has(params, KEY_PREFIX) && field_str(params, KEY_PREFIX, &prefix, &err) != 0) ||
		(fields_has(params, KEY_AFTER) && field_str(params, KEY_AFTER, &after, &err) != 0) ||
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
	struct mp_writer writer;
	if (!call_reply_begin(call, &writer, 2))
		return;
	mp_write_key(&writer, KEY_STREAMS);
	size_t hole = mp_hole_array(&writer);
	struct listing listing = {.writer = &writer};
	bool more = engine_list(call->net->engine, (const char *)prefix.data, prefix.len, (const char *)after.data,
		after.len, (size_t)limit, list_cb, &listing);
	if (!writer.failed)
		mp_fill_array(&writer, hole, listing.count);
	mp_write_key(&writer, KEY_MORE);
	mp_write_bool(&writer, more);
	call_reply_end(call, &writer);
}
