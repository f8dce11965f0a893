/*
 * tls_output: what a connection sends, over TLS.
 *
 * What is offered is encrypted a chunk at a time, and only told as taken once the socket has taken all of it: so what
 * is under way is counted where it always was, and a peer that does not read is found as ever.
 *
 * There are two queues, and their order: `sending` is with the socket, `out` comes after it, the plain bytes behind
 * `iov` (which `ahead` of are in `out` already) after that, and close_notify is last of all.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "tls_impl.h"

void tls_send_alert(struct tls_conn *conn)
{
	const struct iovec iov = {conn->out.data, conn->out.len};
	if (conn->out.len > 0 && conn->sending.data == NULL)
		(void)conn->under->ops->try_write(conn->under, &iov, 1);
}

/* The next plain bytes of a row of pieces: up to a record, in one piece. */
static size_t next_record(struct tls *tls, const struct iovec *iov, int count, size_t offset, const uint8_t **ret_bytes)
{
	size_t len = iov->iov_len - offset;
	if (len >= TLS_RECORD_BYTES || count == 1) {
		*ret_bytes = (const uint8_t *)iov->iov_base + offset;
		return len < TLS_RECORD_BYTES ? len : TLS_RECORD_BYTES;
	}
	size_t used = 0;
	for (int i = 0; i < count && used < TLS_RECORD_BYTES; i++, offset = 0) {
		len = iov[i].iov_len - offset;
		if (len > TLS_RECORD_BYTES - used)
			len = TLS_RECORD_BYTES - used;
		memcpy(tls->record + used, (const uint8_t *)iov[i].iov_base + offset, len);
		used += len;
	}
	*ret_bytes = tls->record;
	return used;
}

/* Moves on by count bytes in a row of pieces. */
static void skip(const struct iovec **iov, int *count, size_t *offset, size_t bytes)
{
	while (*count > 0 && bytes >= (*iov)->iov_len - *offset) {
		bytes -= (*iov)->iov_len - *offset;
		*offset = 0;
		(*iov)++;
		(*count)--;
	}
	*offset += bytes;
}

/* Encrypts a chunk from there on, into `out`: `ahead`. -1: it cannot. */
static int encrypt(struct tls_conn *conn, const struct iovec *iov, int count, size_t offset)
{
	while (count > 0 && conn->ahead < TLS_CHUNK_BYTES) {
		const uint8_t *bytes;
		size_t written, len = next_record(conn->tls, iov, count, offset, &bytes);
		if (len > 0 && (ERR_clear_error(), SSL_write_ex(conn->ssl, bytes, len, &written)) != 1)
			return -1;
		conn->ahead += len;
		skip(&iov, &count, &offset, len);
	}
	return 0;
}

/* Gives `out` to the socket, as far as it takes it at once. 0: all of it; 1: not all; < 0: negative errno. */
static int flush(struct tls_conn *conn)
{
	if (conn->sending.data != NULL)
		return 1;
	if (conn->out.len == 0)
		return 0;
	const struct iovec iov = {conn->out.data, conn->out.len};
	ssize_t count = conn->under->ops->try_write(conn->under, &iov, 1);
	if (count < 0)
		return (int)count;
	if ((size_t)count == conn->out.len) {
		buf_free(&conn->out); /* an idle connection holds no memory */
		return 0;
	}
	buf_consume(&conn->out, (size_t)count);
	return 1;
}

/* The socket gets `out`, and tells when it has taken it. */
static int send_rest(struct tls_conn *conn)
{
	if (conn->sending.data != NULL || conn->out.len == 0)
		return 0;
	conn->sending = conn->out;
	conn->out = (struct buf){0};
	const struct iovec iov = {conn->sending.data, conn->sending.len};
	return conn->under->ops->write(conn->under, &iov, 1);
}

/* At once what goes at once, and the rest when the socket can. 0 or a negative errno. */
static int push(struct tls_conn *conn)
{
	int status = flush(conn);
	return status > 0 ? send_rest(conn) : status;
}

ssize_t tls_try_write(struct transport *transport, const struct iovec *iov, int count)
{
	struct tls_conn *conn = tls_conn_of(transport);
	size_t offset = 0, taken = 0;
	if (!conn->established)
		return 0;
	for (;;) {
		int status = flush(conn);
		if (status < 0)
			return status;
		if (status > 0)
			return (ssize_t)taken;
		taken += conn->ahead;
		skip(&iov, &count, &offset, conn->ahead);
		conn->ahead = 0;
		if (count == 0)
			return (ssize_t)taken;
		if (encrypt(conn, iov, count, offset) != 0)
			return -EPROTO;
	}
}

int tls_write(struct transport *transport, const struct iovec *iov, int count)
{
	struct tls_conn *conn = tls_conn_of(transport);
	conn->iov = malloc((size_t)count * sizeof(*iov));
	if (conn->iov == NULL)
		return -ENOMEM;
	memcpy(conn->iov, iov, (size_t)count * sizeof(*iov));
	conn->iov_count = count;
	conn->iov_at = 0;
	conn->iov_offset = conn->iov_left = 0;
	for (int i = 0; i < count; i++)
		conn->iov_left += iov[i].iov_len;
	/* Not told of in here, whatever goes at once. */
	if (conn->established && conn->sending.data == NULL && conn->out.len == 0)
		tls_enqueue(conn);
	return send_rest(conn);
}

/* All that a write had is with the socket. */
static void end_write(struct tls_conn *conn, int status)
{
	free(conn->iov);
	conn->iov = NULL;
	conn->iov_left = 0;
	conn->base.events->written_cb(status, conn->base.arg);
}

static void break_off(struct tls_conn *conn, int result)
{
	if (conn->iov != NULL)
		end_write(conn, result);
	tls_fail(conn, result);
}

/* Of the write under way, what was encrypted ahead has left. */
static void take_ahead(struct tls_conn *conn)
{
	const struct iovec *iov = conn->iov + conn->iov_at;
	int count = conn->iov_count - conn->iov_at;
	conn->iov_left -= conn->ahead;
	skip(&iov, &count, &conn->iov_offset, conn->ahead);
	conn->iov_at = conn->iov_count - count;
	conn->ahead = 0;
}

static void end_sending(struct tls_conn *conn)
{
	if (!conn->shutdown_begun && conn->established) {
		ERR_clear_error();
		(void)SSL_shutdown(conn->ssl);
	}
	conn->shutdown_begun = true;
	int status = push(conn);
	if (status == 0)
		status = conn->under->ops->shutdown(conn->under); /* after what is being sent */
	if (status != 0)
		break_off(conn, status);
}

void tls_go_on_sending(struct tls_conn *conn)
{
	while (!conn->closed && !conn->failed && !conn->lingering && conn->sending.data == NULL) {
		int status = push(conn);
		if (status < 0) {
			break_off(conn, status);
			return;
		}
		if (conn->sending.data != NULL)
			return;
		if (conn->iov == NULL || !conn->established) {
			if (conn->shutdown_asked && !conn->shutdown_begun)
				end_sending(conn);
			return;
		}
		take_ahead(conn);
		if (conn->iov_left == 0) {
			end_write(conn, 0);
			continue;
		}
		if (encrypt(conn, conn->iov + conn->iov_at, conn->iov_count - conn->iov_at, conn->iov_offset) != 0) {
			break_off(conn, -EPROTO);
			return;
		}
	}
}

void tls_on_written(int status, void *arg)
{
	struct tls_conn *conn = arg;
	buf_free(&conn->sending);
	if (conn->closed || conn->failed)
		return;
	if (status != 0)
		break_off(conn, status);
	else
		tls_go_on_sending(conn);
}

size_t tls_unsent_bytes(struct transport *transport)
{
	struct tls_conn *conn = tls_conn_of(transport);
	return conn->iov_left + conn->out.len + conn->under->ops->unsent_bytes(conn->under);
}

int tls_shutdown(struct transport *transport)
{
	struct tls_conn *conn = tls_conn_of(transport);
	if (conn->lingering)
		return -EPROTO;
	conn->shutdown_asked = true;
	tls_go_on_sending(conn);
	return 0;
}

void tls_on_shutdown(int status, void *arg)
{
	struct tls_conn *conn = arg;
	if (!conn->closed && !conn->failed && !conn->lingering)
		conn->base.events->shutdown_cb(status, conn->base.arg);
}
