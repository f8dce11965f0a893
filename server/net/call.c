#include "call.h"

void call_begin(struct call *call, struct net *net, struct conn *conn, uint32_t msgid, enum method method)
{
	*call = (struct call){.net = net,
		.conn = conn,
		.msgid = msgid,
		.method = method,
		.started_ns = conn_group_now_ns(net->conns)};
	conn_request_begin(conn);
}

void call_charge(struct call *call, size_t bytes)
{
	conn_charge(call->conn, bytes);
	conn_release(call->conn, call->charged_bytes);
	call->charged_bytes = bytes;
}

static void end(struct call *call, const struct error *err)
{
	struct net_stats *stats = &call->net->stats;
	struct method_stats *method = &stats->methods[call->method];
	struct conn_group *conns = call->net->conns;
	uint64_t now_ns = call->net->completing ? conn_group_now_ns(conns) : conn_group_read_clock(conns);
	histogram_add(&method->latency_ns, now_ns - call->started_ns);
	if (err != NULL) {
		method->errors++;
		stats->errors[err->code]++;
	}
	conn_release(call->conn, call->charged_bytes);
	conn_request_end(call->conn);
}

bool call_reply_begin(struct call *call, struct mp_writer *writer, size_t field_count)
{
	struct buf *out = conn_output_begin(call->conn);
	if (out == NULL) {
		end(call, NULL);
		return false;
	}
	mp_writer_init(writer, out);
	response_begin(writer, call->msgid, field_count);
	return true;
}

void call_reply_end(struct call *call, struct mp_writer *writer)
{
	if (frame_end(writer) != 0)
		conn_abort(call->conn, "no memory for its answers");
	else
		conn_output_end(call->conn);
	end(call, NULL);
}

void call_send(struct call *call, struct buf *answer)
{
	conn_send(call->conn, answer);
	end(call, NULL);
}

bool call_fail_begin(struct call *call, struct mp_writer *writer, const struct error *err, size_t extra_count)
{
	struct buf *out = conn_output_begin(call->conn);
	if (out == NULL) {
		end(call, err);
		return false;
	}
	mp_writer_init(writer, out);
	response_error_begin(writer, call->msgid, err, extra_count);
	return true;
}

void call_fail_end(struct call *call, struct mp_writer *writer, const struct error *err)
{
	if (response_error_end(writer) != 0)
		conn_abort(call->conn, "no memory for its answers");
	else
		conn_output_end(call->conn);
	end(call, err);
}

void call_fail(struct call *call, const struct error *err)
{
	struct mp_writer writer;
	if (call_fail_begin(call, &writer, err, 0))
		call_fail_end(call, &writer, err);
}

void call_fail_stream_not_found(struct call *call, struct span name)
{
	struct error err;
	error_set(&err, ERR_STREAM_NOT_FOUND, "there is no stream of that name: the first append makes it");
	error_set_text(&err, EFI_STREAM, name.data, name.len);
	call_fail(call, &err);
}

void call_fail_connection(struct call *call, const struct error *err)
{
	conn_fail(call->conn, call->msgid, err);
	end(call, err);
}
