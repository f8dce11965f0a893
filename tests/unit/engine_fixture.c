#include "engine_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

/* ---- entries ---------------------------------------------------------------------------------------------------- */

void fixture_bytes(uint64_t tag, uint64_t index, uint8_t *out, size_t len)
{
	uint64_t word = tag * UINT64_C(0x9e3779b97f4a7c15) + index * UINT64_C(0xbf58476d1ce4e5b9) + 1;
	for (size_t i = 0; i < len; i++) {
		if (i % 8 == 0)
			word = (word ^ word >> 27) * UINT64_C(0x94d049bb133111eb) + 11;
		out[i] = (uint8_t)(word >> (i % 8 * 8));
	}
}

static void rewind_entries(struct entry_source *base)
{
	((struct entries *)base)->next = 0;
}

static void next_entry(struct entry_source *base, const uint8_t **ret_bytes, size_t *ret_len)
{
	struct entries *entries = (struct entries *)base;
	fixture_bytes(entries->tag, entries->next++, entries->bytes, entries->len);
	*ret_bytes = entries->bytes;
	*ret_len = entries->len;
}

void entries_init(struct entries *entries, uint64_t tag, uint64_t count, size_t len)
{
	*entries = (struct entries){.base = {count, count * len, rewind_entries, next_entry}, .tag = tag, .len = len};
	entries->bytes = malloc(len + 1);
	cr_assert(entries->bytes != NULL);
}

void entries_free(struct entries *entries)
{
	free(entries->bytes);
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

void fixture_init(struct fixture *fixture)
{
	*fixture = (struct fixture){.io = sim_new(1)};
	engine_options_default(&fixture->options);
	fixture->options.shard_count = 1;
	log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
}

void fixture_free(struct fixture *fixture)
{
	if (fixture->engine)
		fixture_die(fixture);
	cr_assert(sim_open_count(fixture->io) == 0, "%lu descriptors were left open",
		(unsigned long)sim_open_count(fixture->io));
	sim_free(fixture->io);
}

enum error_code fixture_try_open(struct fixture *fixture, struct error *err)
{
	const struct engine_hooks hooks = {.no_threads = true};
	err->code = ERR_NONE;
	if (engine_open(fixture->io, &fixture->options, &hooks, &fixture->engine, err) == 0)
		return ERR_NONE;
	fixture->engine = NULL;
	cr_assert(err->code != ERR_NONE && err->message[0] != '\0');
	return err->code;
}

void fixture_open(struct fixture *fixture)
{
	struct error err;
	cr_assert(fixture_try_open(fixture, &err) == ERR_NONE, "open: %s", err.message);
}

void fixture_close(struct fixture *fixture)
{
	struct error err;
	cr_assert(engine_close(fixture->engine, &err) == 0, "close: %s", err.message);
	fixture->engine = NULL;
}

void fixture_die(struct fixture *fixture)
{
	engine_abandon(fixture->engine);
	fixture->engine = NULL;
	sim_process_died(fixture->io);
}

void fixture_power_cut(struct fixture *fixture, enum sim_power_mode mode)
{
	engine_abandon(fixture->engine);
	fixture->engine = NULL;
	sim_power_on(fixture->io, mode);
}

void fixture_restart(struct fixture *fixture)
{
	fixture_die(fixture);
	fixture_open(fixture);
}

void fixture_run(struct fixture *fixture)
{
	bool worked = true;
	engine_kick(fixture->engine);
	while (worked) {
		worked = false;
		for (unsigned i = 0; i < engine_step_count(fixture->engine); i++)
			worked |= engine_step(fixture->engine, i);
	}
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

static struct answer answer_of(struct op *op)
{
	struct answer answer = {
		.first = op->first, .end = op->end, .segments_deleted = op->segments_deleted, .durable = op->durable};
	if (op->error) {
		answer.error = *op->error;
		answer.code = op->error->code;
		free(op->error);
	}
	return answer;
}

static struct answer carry_out(struct fixture *fixture, struct op *op, const char *name)
{
	struct answer answer = {0};
	if (engine_submit(fixture->engine, op, name, name ? strlen(name) : 0, &answer.error) != 0) {
		answer.code = answer.error.code;
		return answer;
	}
	cr_assert(!engine_idle(fixture->engine));
	fixture_run(fixture);
	cr_assert(engine_take(fixture->engine) == op && op->next == NULL && engine_idle(fixture->engine));
	return answer_of(op);
}

struct answer fixture_append(struct fixture *fixture, const char *name, uint64_t tag, uint64_t count, size_t len,
	int flags, uint64_t expected_id)
{
	struct entries entries;
	entries_init(&entries, tag, count, len);
	struct op op = {
		.kind = OP_APPEND,
		.source = &entries.base,
		.batch = flags & APPEND_BATCH,
		.sync = flags & APPEND_SYNC,
		.has_expected = flags & APPEND_EXPECTED,
		.expected_id = expected_id,
	};
	struct answer answer = carry_out(fixture, &op, name);
	entries_free(&entries);
	return answer;
}

uint64_t fixture_add(struct fixture *fixture, const char *name, uint64_t tag)
{
	struct answer answer = fixture_append(fixture, name, tag, 1, 100, 0, 0);
	cr_assert(answer.code == ERR_NONE, "append: %s", answer.error.message);
	cr_assert(answer.end == answer.first + 1);
	return answer.first;
}

unsigned fixture_add_to_many(struct fixture *fixture, const char *form, unsigned count, uint64_t tag)
{
	struct op *ops = calloc(count, sizeof(*ops));
	struct entries *entries = calloc(count, sizeof(*entries));
	unsigned answered = 0, refused = 0;
	struct error err;
	cr_assert(ops && entries);
	for (unsigned i = 0; i < count; i++) {
		char name[64];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		int len = snprintf(name, sizeof(name), form, i);
#pragma GCC diagnostic pop
		entries_init(&entries[i], tag, 1, 100);
		ops[i] = (struct op){.kind = OP_APPEND, .source = &entries[i].base};
		cr_assert(engine_submit(fixture->engine, &ops[i], name, (size_t)len, &err) == 0, "%s", err.message);
	}
	fixture_run(fixture);
	for (struct op *op = engine_take(fixture->engine), *next; op; op = next, answered++) {
		next = op->next;
		refused += answer_of(op).code != ERR_NONE;
	}
	cr_assert(answered == count && engine_idle(fixture->engine));
	for (unsigned i = 0; i < count; i++)
		entries_free(&entries[i]);
	free(entries);
	free(ops);
	return refused;
}

struct answer fixture_truncate(struct fixture *fixture, const char *name, uint64_t safe_id)
{
	struct op op = {.kind = OP_TRUNCATE, .safe_id = safe_id};
	return carry_out(fixture, &op, name);
}

struct answer fixture_sync(struct fixture *fixture, const char *name)
{
	struct op op = {.kind = OP_SYNC};
	return carry_out(fixture, &op, name);
}

/* ---- looking ---------------------------------------------------------------------------------------------------- */

struct stream *fixture_stream(struct fixture *fixture, const char *name)
{
	struct stream *stream = engine_find(fixture->engine, name, strlen(name));
	cr_assert(stream != NULL, "no stream %s", name);
	return stream;
}

struct stream_info fixture_info(struct fixture *fixture, const char *name)
{
	struct stream_info info;
	engine_stream_info(fixture->engine, fixture_stream(fixture, name), &info);
	return info;
}

struct writer_stats fixture_writer(struct fixture *fixture, uint32_t writer)
{
	struct writer_stats stats;
	engine_writer_stats(fixture->engine, writer, &stats);
	return stats;
}

struct engine_stats fixture_stats(struct fixture *fixture)
{
	struct engine_stats stats;
	engine_stats(fixture->engine, &stats);
	return stats;
}

struct wanted {
	uint8_t *bytes;
	size_t len;
	uint64_t next;
	bool same;
};

static int wanted_cb(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	struct wanted *wanted = arg;
	cr_assert(id == wanted->next++, "ids out of order");
	wanted->same = len == wanted->len && memcmp(bytes, wanted->bytes, len) == 0;
	return 0;
}

enum error_code fixture_get(struct fixture *fixture, const char *name, uint64_t id, uint64_t tag, uint64_t index,
	size_t len, struct error *err)
{
	struct stream *stream = fixture_stream(fixture, name);
	struct wanted wanted = {.bytes = malloc(len + 1), .len = len, .next = id};
	uint64_t next;
	err->code = ERR_NONE;
	fixture_bytes(tag, index, wanted.bytes, len);
	enum read_result result = engine_read(
		fixture->engine, stream, stream_view(stream), id, id + 1, false, wanted_cb, &wanted, &next, err);
	free(wanted.bytes);
	if (result == READ_ERROR) {
		cr_assert(next == id && err->code != ERR_NONE);
		return err->code;
	}
	cr_assert(result == READ_DONE && next == wanted.next);
	return wanted.same ? ERR_NONE : ERR_OTHER;
}

static int count_cb(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	struct wanted *wanted = arg;
	(void)bytes;
	(void)len;
	cr_assert(id == wanted->next++, "ids out of order");
	return 0;
}

void fixture_append_each(struct fixture *fixture, const char *name, uint64_t from, uint64_t to, size_t len)
{
	for (uint64_t i = from; i < to; i++)
		cr_assert(
			fixture_append(fixture, name, i, 1, len, 0, 0).code == ERR_NONE, "entry %lu", (unsigned long)i);
}

void fixture_check_each(struct fixture *fixture, const char *name, uint64_t count, size_t len)
{
	struct error err;
	uint64_t end = fixture_info(fixture, name).end;
	cr_assert(end == count, "%lu", (unsigned long)end);
	for (uint64_t i = 0; i < count; i++)
		cr_assert(fixture_get(fixture, name, i, i, 0, len, &err) == ERR_NONE, "entry %lu", (unsigned long)i);
}

uint64_t fixture_count(struct fixture *fixture, const char *name, uint64_t start, uint64_t end, struct error *err)
{
	struct stream *stream = fixture_stream(fixture, name);
	struct wanted wanted = {.next = start};
	uint64_t next;
	err->code = ERR_NONE;
	enum read_result result = engine_read(
		fixture->engine, stream, stream_view(stream), start, end, false, count_cb, &wanted, &next, err);
	cr_assert(next == wanted.next && (result == READ_DONE || result == READ_ERROR));
	return wanted.next - start;
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

struct search {
	const char *ending;
	unsigned count;
	char (*names)[256];
};

static int search_cb(const char *name, bool is_dir, void *arg)
{
	struct search *search = arg;
	size_t len = strlen(name), ending_len = strlen(search->ending);
	if (is_dir || len < ending_len || strcmp(name + len - ending_len, search->ending) != 0)
		return 0;
	search->names = realloc(search->names, sizeof(*search->names) * (search->count + 1));
	cr_assert(search->names != NULL);
	snprintf(search->names[search->count++], sizeof(*search->names), "%s", name);
	return 0;
}

unsigned fixture_files(struct fixture *fixture, const char *dir, const char *ending)
{
	struct search search = {.ending = ending};
	(void)sim_list(fixture->io, dir, search_cb, &search);
	free(search.names);
	return search.count;
}

static int by_name(const void *left, const void *right)
{
	return strcmp(left, right);
}

const char *fixture_file(struct fixture *fixture, const char *dir, const char *ending, unsigned nth)
{
	static char path[600];
	struct search search = {.ending = ending};
	(void)sim_list(fixture->io, dir, search_cb, &search);
	cr_assert(nth < search.count, "%s has no %u. file *%s", dir, nth, ending);
	qsort(search.names, search.count, sizeof(*search.names), by_name);
	snprintf(path, sizeof(path), "%s%s%s", dir, dir[0] ? "/" : "", search.names[nth]);
	free(search.names);
	return path;
}
