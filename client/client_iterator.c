/*
 * Walking a stream or a shard. An iterator has up to two answers: the one that it gives entries from, and the next one,
 * which is asked for as soon as the first is there and may arrive while other calls wait for theirs.
 */
#include "client_entries.h"
#include "client_memory.h"
#include "clock.h"

struct ironwal_iterator {
	struct attached attached; /* to its connection */
	char *name;		  /* of source, which points to it; NULL for a shard */
	struct source source;
	ironwal_read_options options;	 /* has_start_id, start_id: of the next request */
	struct ironwal_entries *entries; /* of the last answer */
	size_t index;			 /* in entries: the next one to give */
	uint32_t asked;			 /* the request for what comes behind entries; 0: none */
};

/* What was asked for will not come; it is asked for again over another connection. */
static void on_closing(struct attached *attached)
{
	((struct ironwal_iterator *)attached)->asked = 0;
}

/* Takes name over. */
static int iterator_open(ironwal *connection, char *name, const struct source *source,
	const ironwal_read_options *given, ironwal_iterator **ret_iterator, ironwal_error *error)
{
	ironwal_read_options options = IRONWAL_READ_OPTIONS_INIT;
	struct ironwal_iterator *iterator = block_new(block_mem(connection), sizeof(*iterator));
	int rc = iterator != NULL ? options_read(&options, sizeof(options), given, error) : cerr_no_memory(error);
	if (rc != 0) {
		block_free(iterator);
		block_free(name);
		return -1;
	}
	iterator->attached.closing_cb = on_closing;
	attach(&iterator->attached, connection);
	iterator->name = name;
	iterator->source = *source;
	iterator->options = options;
	*ret_iterator = iterator;
	return 0;
}

int ironwal_iterator_open(ironwal *connection, const char *stream, size_t stream_len,
	const ironwal_read_options *options, ironwal_iterator **ret_iterator, ironwal_error *error)
{
	char *name = block_copy(block_mem(connection), stream, stream_len);
	if (name == NULL)
		return cerr_no_memory(error);
	const struct source source = {.stream = name, .stream_len = stream_len};
	return iterator_open(connection, name, &source, options, ret_iterator, error);
}

int ironwal_shard_iterator_open(ironwal *connection, uint32_t shard, const ironwal_read_options *options,
	ironwal_iterator **ret_iterator, ironwal_error *error)
{
	const struct source source = {.shard = shard};
	return iterator_open(connection, NULL, &source, options, ret_iterator, error);
}

int ironwal_iterator_buffered(const ironwal_iterator *iterator)
{
	return iterator->entries != NULL && iterator->index < iterator->entries->count;
}

static int ask(struct ironwal_iterator *iterator, uint64_t wait_ms, ironwal_error *error)
{
	ironwal_read_options options = iterator->options;
	options.wait_ms = wait_ms;
	if (connection_check(iterator->attached.connection, error) != 0)
		return -1;
	return put_read(iterator->attached.connection, BLOCKING, &iterator->source, &options, &iterator->asked, error);
}

/* Asks for what comes behind the entries, while they are given. Not at the end of the stream, if it is not followed:
 * there the next call asks, which so sees what has come since. What fails here fails there. */
static void ask_ahead(struct ironwal_iterator *iterator)
{
	const struct ironwal_entries *entries = iterator->entries;
	ironwal *connection = iterator->attached.connection;
	if (entries->count == 0 || (entries->next >= entries->end && iterator->options.wait_ms == 0))
		return;
	if (ask(iterator, iterator->options.wait_ms, NULL) == 0)
		core_process(connection->core, 0); /* so that it leaves now */
}

static int wait_for_answer(
	struct ironwal_iterator *iterator, uint64_t deadline_ns, ironwal_entries **ret_entries, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t id = iterator->asked;
	iterator->asked = 0;
	if (call_wait_until(iterator->attached.connection, id, deadline_ns, &result, error) != 0)
		return -1;
	*ret_entries = result.entries;
	return 0;
}

/* Asks, if nothing is asked for yet, and waits. */
static int next_answer(struct ironwal_iterator *iterator, ironwal_entries **ret_entries, ironwal_error *error)
{
	if (connection_check(iterator->attached.connection, error) != 0)
		return -1;
	uint64_t wait_ms = iterator->options.wait_ms, wait_until_ns = deadline_add_ms(clock_now_ns(), wait_ms);
	uint64_t deadline_ns = call_deadline_ns(iterator->attached.connection, wait_ms);
	if (iterator->asked != 0) {
		if (wait_for_answer(iterator, deadline_ns, ret_entries, error) != 0)
			return -1;
		if ((*ret_entries)->count > 0)
			return 0;
		/* Of a while ago: there may be something by now. What was waited for counts. */
		ironwal_entries_free(*ret_entries);
		if (wait_until_ns != DEADLINE_NEVER)
			wait_ms = (uint64_t)deadline_left_ms(wait_until_ns);
	}
	if (ask(iterator, wait_ms, error) != 0)
		return -1;
	return wait_for_answer(iterator, deadline_ns, ret_entries, error);
}

static int fetch(struct ironwal_iterator *iterator, ironwal_error *error)
{
	ironwal_entries *entries;
	if (next_answer(iterator, &entries, error) != 0)
		return -1;
	ironwal_entries_free(iterator->entries);
	iterator->entries = entries;
	iterator->index = 0;
	iterator->options.has_start_id = 1;
	iterator->options.start_id = entries->next;
	ask_ahead(iterator);
	return 0;
}

int ironwal_iterator_next(
	ironwal_iterator *iterator, uint64_t *ret_id, const void **ret_data, size_t *ret_len, ironwal_error *error)
{
	if (!ironwal_iterator_buffered(iterator)) {
		if (fetch(iterator, error) != 0)
			return -1;
		if (iterator->entries->count == 0)
			return 0;
	}
	return ironwal_entries_get(iterator->entries, iterator->index++, ret_id, ret_data, ret_len);
}

int ironwal_iterator_next_id(const ironwal_iterator *iterator, uint64_t *ret_id)
{
	if (!iterator->options.has_start_id)
		return 0;
	*ret_id = ironwal_iterator_buffered(iterator) ? iterator->entries->first + iterator->index
						      : iterator->options.start_id;
	return 1;
}

/* Nobody wants what was asked for any more. */
static void leave(struct ironwal_iterator *iterator)
{
	if (iterator->asked != 0)
		core_drop(iterator->attached.connection->core, iterator->asked);
	iterator->asked = 0;
	detach(&iterator->attached);
}

void ironwal_iterator_rebind(ironwal_iterator *iterator, ironwal *connection)
{
	leave(iterator);
	attach(&iterator->attached, connection);
}

void ironwal_iterator_free(ironwal_iterator *iterator)
{
	if (iterator == NULL)
		return;
	leave(iterator);
	ironwal_entries_free(iterator->entries);
	block_free(iterator->name);
	block_free(iterator);
}
