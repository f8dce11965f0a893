#include "dispatch.h"

#include "access.h"
#include "call.h"
#include "handlers.h"
#include "message.h"

static const handler handlers[METHOD_UNKNOWN] = {
#define METHOD(suffix, name, right) [METHOD_##suffix] = handle_##suffix,
#include "methods.def"
#undef METHOD
};

void dispatch_message(struct net *net, struct conn *conn, struct span payload, struct buf *owner)
{
	struct session *session = conn_user(conn);
	struct request request;
	struct error err;
	bool decoded = request_decode(payload, &request, &err) == 0;
	if (!decoded && err.code != ERR_TOO_LARGE) {
		net->stats.errors[err.code]++;
		conn_fail(conn, request.msgid, &err);
		return;
	}
	if (request.notification)
		return;
	if (!session->greeted && request.method != METHOD_HELLO) {
		error_set(&err, ERR_BAD_REQUEST,
			"the first request of a connection must be hello with protocol (served: %d)", PROTOCOL_VERSION);
		net->stats.errors[err.code]++;
		conn_fail(conn, request.msgid, &err);
		return;
	}
	struct call call;
	call_begin(&call, net, conn, request.msgid, request.method);
	if (!decoded) {
		call_fail(&call, &err);
	} else if (request.method == METHOD_UNKNOWN) {
		request_unknown_method(&request, &err);
		call_fail(&call, &err);
	} else if (net->auth != NULL && request.method != METHOD_HELLO &&
		   access_check(session->token, &request, net->engine, &err) != 0) {
		call_fail(&call, &err);
	} else if (net->stopping) {
		error_set(&err, ERR_SHUTTING_DOWN, "the server is stopping: connect again later");
		call_fail(&call, &err);
	} else {
		handlers[request.method](&call, &request, owner);
	}
}
