#include <stdlib.h>
#include <string.h>

#include "client_connection.h"
#include "frame.h"

/* Before the server has said what its messages are limited to. */
#define HELLO_BYTES_MAX 65536
/* A server that allows less could not carry an entry. */
#define MESSAGE_BYTES_MIN 4096

const char *ironwal_version(void)
{
	return IRONWAL_VERSION_STRING;
}

/* ---- calls ---- */

/* All of these may be done twice: what was deleted stays so, and a checkpoint of the same id replaces the first one. */
static bool is_write(enum method method)
{
	return method == METHOD_TRUNCATE || method == METHOD_CREATE_CHECKPOINT ||
	       method == METHOD_PRUNE_BEFORE_CHECKPOINT || method == METHOD_COMPACT_CHECKPOINTS;
}

int call_begin(ironwal *connection, enum method method, size_t param_count, struct mp_writer **ret_writer,
	ironwal_error *error)
{
	bool writes = is_write(method);
	struct core_request request = {.method = method, .is_write = writes, .is_repeatable = writes};
	return core_begin(connection->core, &request, param_count, ret_writer, error);
}

int call_end(ironwal *connection, uint64_t extra_ms, struct core_answer *ret_answer, ironwal_error *error)
{
	uint32_t msgid;
	uint64_t deadline_ns = deadline_add_ms(deadline_in_ms(connection->timeout_ms), extra_ms);
	if (core_commit(connection->core, &msgid, error) != 0)
		return -1;
	return core_wait(connection->core, msgid, deadline_ns, ret_answer, error);
}

void call_free(struct core_answer *answer)
{
	free(answer->payload);
	answer->payload = NULL;
}

int call_reject(ironwal *connection, struct core_answer *answer, const struct error *reason, ironwal_error *error)
{
	call_free(answer);
	return core_reject_answer(connection->core, reason, error);
}

void put_stream(struct mp_writer *writer, const char *stream, size_t stream_len)
{
	mp_write_key(writer, KEY_STREAM);
	mp_write_str_len(writer, stream, stream_len);
}

void put_u64(struct mp_writer *writer, enum key key, uint64_t value)
{
	mp_write_key(writer, key);
	mp_write_u64(writer, value);
}

void put_bytes(struct mp_writer *writer, enum key key, const void *bytes, size_t len)
{
	mp_write_key(writer, key);
	mp_write_bin(writer, bytes, len);
}

/* ---- connecting ---- */

static int read_text(const struct fields *fields, enum key key, char **ret_text, struct error *err)
{
	struct span bytes;
	if (field_str(fields, key, &bytes, err) != 0)
		return -1;
	char *text = malloc(bytes.len + 1);
	if (text == NULL)
		return error_set(err, ERR_IO, "out of memory");
	memcpy(text, bytes.data, bytes.len);
	text[bytes.len] = '\0';
	*ret_text = text;
	return 0;
}

static int read_u32(const struct fields *fields, enum key key, uint32_t *ret_value, struct error *err)
{
	uint64_t value;
	if (field_u64(fields, key, &value, err) != 0)
		return -1;
	if (value > UINT32_MAX)
		return error_set(err, ERR_SERIALIZATION, "the hello's %s is out of range", key_name(key));
	*ret_value = (uint32_t)value;
	return 0;
}

static int read_hello(ironwal *connection, const struct fields *fields, struct error *err)
{
	if (read_u32(fields, KEY_PROTOCOL, &connection->protocol, err) != 0 ||
		read_u32(fields, KEY_SHARD_COUNT, &connection->shard_count, err) != 0 ||
		field_u64(fields, KEY_MAX_MESSAGE_BYTES, &connection->max_message_bytes, err) != 0 ||
		read_text(fields, KEY_SERVER, &connection->server, err) != 0 ||
		read_text(fields, KEY_SYNC_MODE, &connection->sync_mode, err) != 0 ||
		read_text(fields, KEY_COMPRESSION, &connection->compression, err) != 0)
		return -1;
	if (connection->protocol != PROTOCOL_VERSION)
		return error_set(err, ERR_SERIALIZATION, "it answers with version %u", connection->protocol);
	if (connection->max_message_bytes < MESSAGE_BYTES_MIN || connection->max_message_bytes > UINT32_MAX)
		return error_set(err, ERR_SERIALIZATION, "the hello's max_message_bytes is out of range");
	return 0;
}

static int say_hello(ironwal *connection, const ironwal_options *options, uint64_t deadline_ns, ironwal_error *error)
{
	const struct core_request request = {.method = METHOD_HELLO};
	const char *name = options->client_name != NULL ? options->client_name : "libironwal/" IRONWAL_VERSION_STRING;
	struct mp_writer *w;
	struct core_answer answer;
	struct error err;
	uint32_t msgid;
	if (core_begin(connection->core, &request, 2, &w, error) != 0)
		return -1;
	put_u64(w, KEY_PROTOCOL, PROTOCOL_VERSION);
	mp_write_key(w, KEY_CLIENT);
	mp_write_str(w, name);
	if (core_commit(connection->core, &msgid, error) != 0 ||
		core_wait(connection->core, msgid, deadline_ns, &answer, error) != 0)
		return -1;
	if (read_hello(connection, &answer.response.fields, &err) != 0)
		return call_reject(connection, &answer, &err, error);
	call_free(&answer);
	uint64_t answer_max = options->max_message_bytes < connection->max_message_bytes
				      ? options->max_message_bytes
				      : connection->max_message_bytes;
	core_set_message_limits(connection->core, connection->max_message_bytes, answer_max);
	return 0;
}

/* The caller's struct may be that of an older release, and shorter. */
static int read_options(const ironwal_options *given, ironwal_options *ret_options, ironwal_error *error)
{
	const ironwal_options defaults = IRONWAL_OPTIONS_INIT;
	*ret_options = defaults;
	if (given != NULL) {
		if (given->struct_size < sizeof(size_t))
			return cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT,
				"options: begin with IRONWAL_OPTIONS_INIT (struct_size is %zu)", given->struct_size);
		size_t size = given->struct_size < sizeof(defaults) ? given->struct_size : sizeof(defaults);
		memcpy(ret_options, given, size);
	}
	if (ret_options->max_in_flight_count == 0 || ret_options->max_in_flight_count > CORE_IN_FLIGHT_MAX)
		return cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT, "options: max_in_flight_count is 1 to %u",
			CORE_IN_FLIGHT_MAX);
	return 0;
}

int ironwal_connect(const char *address, const ironwal_options *given, ironwal **ret_connection, ironwal_error *error)
{
	ironwal_options options;
	if (read_options(given, &options, error) != 0)
		return -1;
	uint64_t deadline_ns = deadline_in_ms(options.timeout_ms);
	if (address == NULL)
		address = getenv("IRONWAL_CONNECT");
	if (address == NULL || address[0] == '\0')
		address = IRONWAL_DEFAULT_ADDRESS;

	struct transport *transport;
	if (transport_connect(address, deadline_ns, &transport, error) != 0)
		return cerr_unusable(error, true);
	struct core_limits limits = {
		.in_flight_count = options.max_in_flight_count,
		.in_flight_bytes = options.max_in_flight_bytes,
		.request_bytes = HELLO_BYTES_MAX,
		.answer_bytes = HELLO_BYTES_MAX,
	};
	ironwal *connection = calloc(1, sizeof(*connection));
	char *address_copy = strdup(address);
	struct core *core = NULL;
	if (connection == NULL || address_copy == NULL)
		transport->ops->free(transport);
	else
		core = core_new(transport, address_copy, &limits);
	if (core == NULL) {
		free(connection);
		free(address_copy);
		cerr_no_memory(error);
		return cerr_unusable(error, true);
	}
	connection->core = core;
	connection->address = address_copy;
	connection->timeout_ms = options.timeout_ms;
	if (say_hello(connection, &options, deadline_ns, error) != 0) {
		ironwal_close(connection);
		return cerr_unusable(error, true);
	}
	*ret_connection = connection;
	return 0;
}

void ironwal_close(ironwal *connection)
{
	if (connection == NULL)
		return;
	core_free(connection->core);
	free(connection->address);
	free(connection->server);
	free(connection->sync_mode);
	free(connection->compression);
	free(connection);
}

/* ---- what is known of it ---- */

void ironwal_set_timeout_ms(ironwal *connection, int64_t timeout_ms)
{
	connection->timeout_ms = timeout_ms;
}

int ironwal_is_usable(const ironwal *connection)
{
	return core_is_usable(connection->core);
}

const char *ironwal_address(const ironwal *connection)
{
	return connection->address;
}

const char *ironwal_server(const ironwal *connection)
{
	return connection->server;
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
	return connection->max_message_bytes - ENTRY_OVERHEAD_BYTES;
}

const char *ironwal_sync_mode(const ironwal *connection)
{
	return connection->sync_mode;
}

const char *ironwal_compression(const ironwal *connection)
{
	return connection->compression;
}

int ironwal_ping(ironwal *connection, ironwal_error *error)
{
	struct mp_writer *w;
	struct core_answer answer;
	if (call_begin(connection, METHOD_PING, 0, &w, error) != 0 || call_end(connection, 0, &answer, error) != 0)
		return -1;
	call_free(&answer);
	return 0;
}
