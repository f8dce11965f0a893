#include "client_connection.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "client_call.h"
#include "client_memory.h"
#include "client_token.h"
#include "frame.h"

/* Before the server has said what its messages are limited to. It takes less of a hello. */
#define HELLO_BYTES_MAX 65536
#define HELLO_REQUEST_BYTES_MAX 4096
/* A server that allows less could not carry an entry. */
#define MESSAGE_BYTES_MIN 4096

const char *ironwal_version(void)
{
	return IRONWAL_VERSION_STRING;
}

unsigned ironwal_version_number(void)
{
	return IRONWAL_VERSION;
}

/* ---- what is attached ---- */

void attach(struct attached *attached, ironwal *connection)
{
	attached->connection = connection;
	attached->next = connection->attached;
	attached->link = &connection->attached;
	if (attached->next != NULL)
		attached->next->link = &attached->next;
	connection->attached = attached;
}

void detach(struct attached *attached)
{
	if (attached->connection == NULL)
		return;
	*attached->link = attached->next;
	if (attached->next != NULL)
		attached->next->link = attached->link;
	attached->connection = NULL;
}

int connection_check(const ironwal *connection, ironwal_error *error)
{
	if (connection == NULL) {
		cerr_set(error, IRONWAL_ERR_CONNECTION_LOST, "its connection was closed: rebind it to another one");
		return cerr_unusable(error, true);
	}
	return 0;
}

/* ---- hello ---- */

static int read_text(
	const ironwal *connection, const struct fields *fields, enum key key, char **ret_text, struct error *err)
{
	struct span bytes;
	if (field_str(fields, key, &bytes, err) != 0)
		return -1;
	*ret_text = block_copy(block_mem(connection), bytes.data, bytes.len);
	return *ret_text != NULL ? 0 : READ_NO_MEMORY;
}

static int read_hello(ironwal *connection, const struct fields *fields, struct error *err)
{
	if (field_u32(fields, KEY_PROTOCOL, &connection->protocol, err) != 0 ||
		field_u32(fields, KEY_SHARD_COUNT, &connection->shard_count, err) != 0 ||
		field_u64(fields, KEY_MAX_MESSAGE_BYTES, &connection->max_message_bytes, err) != 0)
		return -1;
	if (connection->protocol != PROTOCOL_VERSION)
		return error_set(err, ERR_SERIALIZATION, "it answers with version %u", connection->protocol);
	if (connection->max_message_bytes < MESSAGE_BYTES_MIN || connection->max_message_bytes > UINT32_MAX)
		return error_set(err, ERR_SERIALIZATION, "the hello's max_message_bytes is out of range");
	int rc = read_text(connection, fields, KEY_SERVER, &connection->server, err);
	if (rc == 0)
		rc = read_text(connection, fields, KEY_SYNC_MODE, &connection->sync_mode, err);
	if (rc == 0)
		rc = read_text(connection, fields, KEY_COMPRESSION, &connection->compression, err);
	return rc;
}

static int send_hello(ironwal *connection, ironwal_error *error)
{
	const struct core_request request = {.method = METHOD_HELLO, .is_submitted = true};
	struct mp_writer *w;
	if (core_begin(connection->core, &request, connection->token != NULL ? 3 : 2, &w, error) != 0)
		return -1;
	put_u64(w, KEY_PROTOCOL, PROTOCOL_VERSION);
	mp_write_key(w, KEY_CLIENT);
	mp_write_str(w, connection->client_name);
	if (connection->token != NULL) {
		mp_write_key(w, KEY_TOKEN);
		mp_write_str(w, connection->token);
		token_free(connection->token);
		connection->token = NULL;
	}
	return core_commit(connection->core, connection->deadline_ns, &connection->hello_id, error);
}

/* The answer to hello, if it is there. */
static int take_hello(ironwal *connection, ironwal_error *error)
{
	struct core_answer answer;
	struct error err;
	uint32_t msgid;
	int rc = core_next(connection->core, &msgid, &answer, error);
	if (rc <= 0)
		return rc;
	rc = read_hello(connection, &answer.response.fields, &err);
	block_free(answer.payload);
	if (rc == READ_NO_MEMORY)
		return cerr_no_memory(error);
	if (rc != 0)
		return core_reject_answer(connection->core, &err, error);
	uint64_t limit = connection->max_message_bytes, own = connection->options.max_message_bytes;
	core_set_message_limits(connection->core, limit, own < limit ? own : limit);
	connection->ready = true;
	return 0;
}

/* ---- connecting ---- */

static int read_options(const ironwal_options *given, ironwal_options *ret_options, ironwal_error *error)
{
	const ironwal_options defaults = IRONWAL_OPTIONS_INIT;
	*ret_options = defaults;
	if (options_read(ret_options, sizeof(*ret_options), given, error) != 0)
		return -1;
	if (ret_options->max_in_flight_count == 0 || ret_options->max_in_flight_count > CORE_IN_FLIGHT_MAX)
		return cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT, "options: max_in_flight_count is 1 to %u",
			CORE_IN_FLIGHT_MAX);
	const ironwal_allocator *allocator = ret_options->allocator;
	if (allocator != NULL &&
		(allocator->allocate == NULL || allocator->reallocate == NULL || allocator->release == NULL))
		return cerr_set(
			error, IRONWAL_ERR_INVALID_ARGUMENT, "options: the allocator needs all three functions");
	return 0;
}

static ironwal *connection_new(const char *address, const ironwal_options *options)
{
	const struct mem mem = mem_from(options->allocator);
	const struct core_limits limits = {
		.in_flight_count = options->max_in_flight_count,
		.in_flight_bytes = options->max_in_flight_bytes,
		.request_bytes = HELLO_REQUEST_BYTES_MAX,
		.answer_bytes = HELLO_BYTES_MAX,
	};
	const char *name = options->client_name != NULL ? options->client_name : "libironwal/" IRONWAL_VERSION_STRING;
	ironwal *connection = block_new(&mem, sizeof(*connection));
	if (connection == NULL)
		return NULL;
	connection->options = *options;
	connection->timeout_ms = options->timeout_ms;
	connection->dial.fd = connection->dial.old_fd = -1;
	connection->address = block_copy(&mem, address, strlen(address));
	connection->client_name = block_copy(&mem, name, strlen(name));
	connection->result = block_new(&mem, sizeof(*connection->result));
	connection->core = core_new(&mem, connection->address, &limits);
	if (connection->address == NULL || connection->client_name == NULL || connection->result == NULL ||
		connection->core == NULL) {
		ironwal_close(connection);
		return NULL;
	}
	result_clear(connection->result);
	return connection;
}

/* One step on the way to ready. -1: it failed, and is lost. */
static int connect_step(ironwal *connection, unsigned events, ironwal_error *error)
{
	struct ironwal_error own = {0};
	if (connection->dialing) {
		enum dial_status status = dial_step(&connection->dial, &own);
		if (status == DIAL_WAITING)
			return 0;
		struct transport *transport = NULL;
		if (status == DIAL_CONNECTED)
			transport = dial_take(&connection->dial, block_mem(connection), &connection->options,
				connection->token != NULL, &own);
		connection->dialing = false;
		dial_end(&connection->dial);
		if (transport == NULL)
			goto fail;
		core_attach(connection->core, transport);
		if (send_hello(connection, &own) != 0)
			goto fail;
		events = 0;
	}
	core_process(connection->core, events);
	if (take_hello(connection, &own) == 0) /* nonsense may have come right behind it */
		return core_is_lost(connection->core) ? core_failure(connection->core, error) : 0;
fail:
	cerr_unusable(&own, true);
	core_abort(connection->core, &own);
	if (error != NULL)
		*error = own;
	return -1;
}

int ironwal_connect_start(
	const char *address, const ironwal_options *given, ironwal **ret_connection, ironwal_error *error)
{
	ironwal_options options;
	if (read_options(given, &options, error) != 0)
		return cerr_unusable(error, true);
	uint64_t deadline_ns = deadline_in_ms(options.timeout_ms);
	if (address == NULL)
		address = secure_getenv("IRONWAL_CONNECT");
	if (address == NULL || address[0] == '\0')
		address = IRONWAL_DEFAULT_ADDRESS;
	ironwal *connection = connection_new(address, &options);
	if (connection == NULL) {
		cerr_no_memory(error);
		return cerr_unusable(error, true);
	}
	connection->deadline_ns = deadline_ns;
	if (token_load(block_mem(connection), &options, &connection->token, error) != 0) {
		ironwal_close(connection);
		return cerr_unusable(error, true);
	}
	if (dial_start(&connection->dial, block_mem(connection), connection->address, &options, deadline_ns, error) !=
		0) {
		ironwal_close(connection);
		return cerr_unusable(error, true);
	}
	/* What they point to need not live as long as the connection. */
	connection->options.token = connection->options.token_file = NULL;
	connection->options.tls_ca_file = connection->options.tls_certificate_file = NULL;
	connection->options.tls_key_file = NULL;
	connection->dialing = true;
	*ret_connection = connection;
	return 0;
}

static uint64_t next_deadline_ns(const ironwal *connection)
{
	return connection->dialing ? dial_deadline_ns(&connection->dial) : core_deadline_ns(connection->core);
}

int ironwal_connect(const char *address, const ironwal_options *options, ironwal **ret_connection, ironwal_error *error)
{
	ironwal *connection;
	if (ironwal_connect_start(address, options, &connection, error) != 0)
		return -1;
	for (;;) {
		if (connect_step(connection, IRONWAL_READABLE | IRONWAL_WRITABLE, error) != 0) {
			ironwal_close(connection);
			return -1;
		}
		if (connection->ready)
			break;
		unsigned events = ironwal_events(connection);
		short wanted =
			(short)((events & IRONWAL_READABLE ? POLLIN : 0) | (events & IRONWAL_WRITABLE ? POLLOUT : 0));
		(void)deadline_poll(ironwal_fd(connection), wanted, next_deadline_ns(connection));
	}
	*ret_connection = connection;
	return 0;
}

void ironwal_close(ironwal *connection)
{
	if (connection == NULL)
		return;
	while (connection->attached != NULL) {
		struct attached *attached = connection->attached;
		if (attached->closing_cb != NULL)
			attached->closing_cb(attached);
		detach(attached);
	}
	dial_end(&connection->dial);
	core_free(connection->core);
	if (connection->result != NULL)
		result_clear(connection->result);
	block_free(connection->result);
	block_free(connection->address);
	block_free(connection->client_name);
	token_free(connection->token);
	block_free(connection->server);
	block_free(connection->sync_mode);
	block_free(connection->compression);
	block_free(connection);
}

/* ---- in an event loop ---- */

ironwal_state ironwal_get_state(const ironwal *connection)
{
	if (core_is_lost(connection->core))
		return IRONWAL_STATE_LOST;
	return connection->ready ? IRONWAL_STATE_READY : IRONWAL_STATE_CONNECTING;
}

int ironwal_fd(const ironwal *connection)
{
	return connection->dialing ? dial_fd(&connection->dial) : core_fd(connection->core);
}

unsigned ironwal_events(const ironwal *connection)
{
	if (connection->dialing)
		return dial_fd(&connection->dial) >= 0 ? IRONWAL_WRITABLE : 0;
	return core_events(connection->core);
}

int64_t ironwal_next_deadline_ms(const ironwal *connection)
{
	const struct core *core = connection->core;
	/* Nothing will happen on the descriptor to tell of these. */
	bool is_news = (connection->ready && core_has_results(core)) || (core_is_lost(core) && !connection->lost_told);
	return is_news ? 0 : deadline_left_ms(next_deadline_ns(connection));
}

int ironwal_process(ironwal *connection, unsigned events, ironwal_error *error)
{
	if (!connection->ready && !core_is_lost(connection->core)) {
		connection->lost_told = connect_step(connection, events, error) != 0;
		return connection->lost_told ? -1 : 0;
	}
	core_process(connection->core, events);
	if (!core_is_lost(connection->core))
		return 0;
	connection->lost_told = true;
	return core_failure(connection->core, error);
}

/* ---- results ---- */

int ironwal_next_result(ironwal *connection, ironwal_result **ret_result)
{
	struct core_answer answer;
	struct ironwal_result *result = connection->result;
	uint32_t msgid;
	if (!connection->ready)
		return 0; /* hello's is not the caller's */
	result_clear(result);
	int rc = core_next(connection->core, &msgid, &answer, &result->error);
	if (rc == 0)
		return 0;
	(void)result_make(connection, msgid, &answer, rc > 0 ? 0 : -1, result);
	*ret_result = result;
	return 1;
}

int ironwal_wait_result(ironwal *connection, ironwal_result **ret_result, ironwal_error *error)
{
	if (!connection->ready)
		return 0;
	int rc = core_wait_next(connection->core, deadline_in_ms(connection->timeout_ms), error);
	return rc > 0 ? ironwal_next_result(connection, ret_result) : rc;
}

int ironwal_flush(ironwal *connection, ironwal_error *error)
{
	return core_flush(connection->core, deadline_in_ms(connection->timeout_ms), error);
}

uint32_t ironwal_in_flight(const ironwal *connection)
{
	return connection->ready ? core_submitted(connection->core) : 0;
}

void ironwal_set_request_tag(ironwal *connection, uint32_t request_id, void *tag)
{
	core_set_tag(connection->core, request_id, tag);
}

/* ---- what is known of it ---- */

void ironwal_set_timeout_ms(ironwal *connection, int64_t timeout_ms)
{
	connection->timeout_ms = timeout_ms;
}

int ironwal_is_usable(const ironwal *connection)
{
	return connection->ready && core_is_usable(connection->core);
}

const char *ironwal_address(const ironwal *connection)
{
	return connection->address;
}

/* Before hello is answered. */
static const char *known(const char *text)
{
	return text != NULL ? text : "";
}

const char *ironwal_server(const ironwal *connection)
{
	return known(connection->server);
}

uint32_t ironwal_protocol(const ironwal *connection)
{
	return connection->protocol;
}

uint32_t ironwal_shard_count(const ironwal *connection)
{
	return connection->shard_count;
}

uint64_t ironwal_max_message_bytes(const ironwal *connection)
{
	return connection->max_message_bytes;
}

uint64_t ironwal_max_entry_bytes(const ironwal *connection)
{
	return connection->max_message_bytes > ENTRY_OVERHEAD_BYTES
		       ? connection->max_message_bytes - ENTRY_OVERHEAD_BYTES
		       : 0;
}

const char *ironwal_sync_mode(const ironwal *connection)
{
	return known(connection->sync_mode);
}

const char *ironwal_compression(const ironwal *connection)
{
	return known(connection->compression);
}

static int put_ping(ironwal *connection, enum how how, uint32_t *ret_msgid, ironwal_error *error)
{
	struct mp_writer *w;
	if (call_begin_plain(connection, METHOD_PING, how, 0, &w, error) != 0)
		return -1;
	return call_commit(connection, 0, ret_msgid, error);
}

int ironwal_submit_ping(ironwal *connection, uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection, put_ping(connection, SUBMITTED, ret_request_id, error));
}

int ironwal_ping(ironwal *connection, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t id;
	if (put_ping(connection, BLOCKING, &id, error) != 0)
		return -1;
	return call_wait(connection, id, 0, &result, error);
}
