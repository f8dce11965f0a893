/* Requests and answers. */
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void world_fail(struct world *world, const char *format, ...)
{
	va_list args;
	fprintf(stderr, "\nFAILED at seed %llu, %s (%s): ", (unsigned long long)world->seed, world->where,
		profile_text(&world->profile));
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

static void *need(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

/* ---- what entries hold ------------------------------------------------------------------------------------------ */

static uint64_t mix(uint64_t serial, uint32_t index)
{
	struct dice dice = {serial * UINT64_C(0x2545f4914f6cdd1d) + index};
	return dice_next(&dice);
}

uint32_t entry_len(const struct world *world, uint64_t serial, uint32_t index)
{
	const struct profile *profile = &world->profile;
	uint64_t chance = mix(serial, index);
	uint32_t max = chance % 1000 < profile->big_per_mille ? profile->big_max : profile->entry_max;
	return (uint32_t)(chance / 1000 % (max + 1));
}

/* Half of the requests hold bytes that LZ4 can pack. Every 8 bytes tell the request and the entry. */
void entry_bytes(uint64_t serial, uint32_t index, uint8_t *out, size_t len)
{
	struct dice dice = {mix(serial, index)};
	bool plain = serial % 2 == 0;
	uint64_t word = dice_next(&dice);
	for (size_t i = 0; i < len; i += 8) {
		size_t n = len - i < 8 ? len - i : 8;
		memcpy(out + i, &word, n);
		if (!plain)
			word = word * UINT64_C(6364136223846793005) + 1442695040888963407;
	}
}

static void source_rewind(struct entry_source *base)
{
	((struct source *)base)->next_index = 0;
}

static void source_next(struct entry_source *base, const uint8_t **ret_bytes, size_t *ret_len)
{
	struct source *source = (struct source *)base;
	size_t len = entry_len(source->world, source->serial, source->next_index);
	if (len > source->cap || !source->bytes) {
		source->cap = len + 64;
		source->bytes = need(realloc(source->bytes, source->cap));
	}
	entry_bytes(source->serial, source->next_index++, source->bytes, len);
	*ret_bytes = source->bytes;
	*ret_len = len;
}

/* ---- the model -------------------------------------------------------------------------------------------------- */

void world_init(struct world *world, struct io *io, uint64_t seed, const struct profile *profile)
{
	*world = (struct world){.io = io, .seed = seed, .profile = *profile, .dice = {seed ^ UINT64_C(0x5eed)}};
	world->stream_count = profile->stream_count;
	world->streams = need(calloc(world->stream_count, sizeof(*world->streams)));
	for (unsigned i = 0; i < world->stream_count; i++) {
		struct model_stream *stream = &world->streams[i];
		if (profile->sharded && i < profile->options.shard_count) {
			stream->name_len = (size_t)snprintf(stream->name, sizeof(stream->name), "shard_%02u", i);
			stream->maybe_last = &stream->maybe_first;
			continue;
		}
		const char *form = i % 7 == 3 ? "a/b %u" : i % 7 == 5 ? "..%u" : "stream%u";
		stream->name_len = (size_t)snprintf(stream->name, sizeof(stream->name), form, i);
		stream->maybe_last = &stream->maybe_first;
	}
	world->checkpoints_last = &world->checkpoints;
	snprintf(world->where, sizeof(world->where), "the beginning");
}

void request_free(struct request *request)
{
	free(request->op.error);
	free(request->source.bytes);
	free(request->counts);
	free(request);
}

void stream_drop_maybe(struct model_stream *stream)
{
	while (stream->maybe_first) {
		struct request *request = stream->maybe_first;
		stream->maybe_first = request->next;
		request_free(request);
	}
	stream->maybe_last = &stream->maybe_first;
}

static void drop_sync_all(struct world *world)
{
	while (world->sync_all_first) {
		struct request *request = world->sync_all_first;
		world->sync_all_first = request->next;
		request_free(request);
	}
}

void world_free(struct world *world)
{
	for (unsigned i = 0; i < world->stream_count; i++) {
		stream_drop_maybe(&world->streams[i]);
		free(world->streams[i].log);
	}
	drop_sync_all(world);
	world_free_checkpoints(world);
	free(world->streams);
}

void stream_push(struct model_stream *stream, uint64_t serial, uint32_t index, uint32_t len)
{
	if (stream->count == stream->cap) {
		stream->cap = stream->cap ? stream->cap * 2 : 64;
		stream->log = need(realloc(stream->log, stream->cap * sizeof(*stream->log)));
	}
	stream->log[stream->count++] = (struct record){serial, index, len};
}

static void unlink_request(struct request **first, struct request ***last, struct request *request)
{
	struct request **at = first;
	while (*at != request)
		at = &(*at)->next;
	*at = request->next;
	if (last && *last == &request->next)
		*last = at;
}

/* ---- handing in ------------------------------------------------------------------------------------------------- */

struct request *world_request(struct world *world, struct model_stream *stream, enum op_kind kind)
{
	struct request *request = need(calloc(1, sizeof(*request)));
	request->serial = ++world->last_serial;
	request->stream = stream;
	request->op.kind = kind;
	return request;
}

void world_hand_in(struct world *world, struct request *request)
{
	struct error err;
	struct model_stream *stream = request->stream;
	if (engine_submit(world->engine, &request->op, stream ? stream->name : NULL, stream ? stream->name_len : 0,
		    &err) != 0)
		world_fail(world, "a request was refused at once: %s", err.message);
	world->in_flight++;
	world->totals.requests++;
	if (!stream) {
		request->next = world->sync_all_first;
		world->sync_all_first = request;
		return;
	}
	*stream->maybe_last = request;
	stream->maybe_last = &request->next;
}

void request_fill(struct world *world, struct request *request, uint64_t count)
{
	struct source *source = &request->source;
	*source = (struct source){.world = world, .serial = request->serial};
	source->base = (struct entry_source){.count = count, .rewind = source_rewind, .next = source_next};
	for (uint32_t i = 0; i < count; i++)
		source->base.total_bytes += entry_len(world, request->serial, i);
	request->op.source = &source->base;
	request->count = count;
}

struct request *world_append(struct world *world, unsigned stream, uint64_t count, bool batch)
{
	struct request *request = world_request(world, &world->streams[stream], OP_APPEND);
	request_fill(world, request, count);
	request->op.batch = batch;
	world_hand_in(world, request);
	return request;
}

void world_truncate(struct world *world, unsigned stream, uint64_t safe_id)
{
	struct request *request = world_request(world, &world->streams[stream], OP_TRUNCATE);
	request->op.safe_id = safe_id;
	world_hand_in(world, request);
}

struct stream *world_found(struct world *world, const struct model_stream *stream)
{
	return engine_find(world->engine, stream->name, stream->name_len);
}

void world_hand_in_sync_all(struct world *world)
{
	struct request *request = world_request(world, NULL, OP_SYNC);
	request->counts = need(malloc(sizeof(uint64_t) * world->stream_count));
	for (unsigned i = 0; i < world->stream_count; i++)
		request->counts[i] = world->streams[i].count;
	world_hand_in(world, request);
}

void world_sync(struct world *world)
{
	world_hand_in_sync_all(world);
	world_settle(world);
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

bool world_may_fail(const struct world *world)
{
	return world->profile.faults || sim_is_dead(world->io);
}

static void take_conflict(struct world *world, struct request *request)
{
	const struct error *error = request->op.error;
	if (!request->op.has_expected || error->actual != request->stream->count ||
		error->expected != request->op.expected_id || error->actual == error->expected)
		world_fail(world, "stream %s: a conflict that is none: %s", request->stream->name, error->message);
	world->totals.conflicts++;
}

/* True: the request stays, as one that may have happened. */
static bool take_error(struct world *world, struct request *request)
{
	const struct error *error = request->op.error;
	if (error->code == ERR_CONFLICT) {
		take_conflict(world, request);
		return false;
	}
	if (!world_may_fail(world))
		world_fail(world, "a request failed on a healthy disk: %s", error->message);
	if (error->code != ERR_IO)
		world_fail(world, "a request failed with another error than Io: %s", error->message);
	bool unknown = error->outcome == OUTCOME_UNKNOWN;
	if (unknown && (request->op.kind != OP_APPEND || request->count == 0))
		world_fail(world, "the outcome of a request that changes nothing is unknown: %s", error->message);
	world->totals.refused += !unknown;
	world->totals.unknown += unknown;
	return unknown;
}

static void take_append(struct world *world, struct request *request)
{
	struct model_stream *stream = request->stream;
	const struct op *op = &request->op;
	enum sync_mode mode = world->profile.options.sync_mode;
	if (op->first != stream->count || op->end != op->first + request->count)
		world_fail(world, "stream %s: ids [%llu, %llu) were given to %llu entries at %llu", stream->name,
			(unsigned long long)op->first, (unsigned long long)op->end, (unsigned long long)request->count,
			(unsigned long long)stream->count);
	if (op->has_expected && op->expected_id != op->first)
		world_fail(world, "stream %s: expected_id was passed over", stream->name);
	for (uint32_t i = 0; i < request->count; i++)
		stream_push(stream, request->serial, i, entry_len(world, request->serial, i));
	bool promised = op->sync || mode == SYNC_STRICT || (mode == SYNC_BATCH_ONLY && op->batch);
	if (promised && !op->durable)
		world_fail(world, "stream %s: entry %llu was to be durable, and the answer says it is not",
			stream->name, (unsigned long long)op->first);
	if (op->durable)
		stream->durable = stream->count;
	world->totals.entries += request->count;
}

static void take_truncate(struct world *world, struct request *request)
{
	struct model_stream *stream = request->stream;
	const struct op *op = &request->op;
	if (op->segments_deleted == 0)
		return;
	if (op->first > op->safe_id || op->first > stream->count || op->first <= stream->first_low)
		world_fail(world, "stream %s: truncate below %llu left %llu as the first", stream->name,
			(unsigned long long)op->safe_id, (unsigned long long)op->first);
	if (op->first > stream->first_high)
		stream->first_high = op->first;
	world->totals.truncates++;
}

static void take_sync(struct world *world, struct request *request)
{
	if (request->stream) {
		request->stream->durable = request->stream->count;
		return;
	}
	for (unsigned i = 0; i < world->stream_count; i++)
		if (request->counts[i] > world->streams[i].durable)
			world->streams[i].durable = request->counts[i];
}

void world_look_at(struct world *world, struct model_stream *model)
{
	struct stream *stream = world_found(world, model);
	if (!stream) {
		if (model->count > 0)
			world_fail(world, "stream %s is gone", model->name);
		return;
	}
	struct stream_view view = stream_view(stream);
	struct stream_info info;
	engine_stream_info(world->engine, stream, &info);
	if (view.end != model->count || info.end != view.end || info.first != view.first || info.durable_end > view.end)
		world_fail(world, "stream %s: shown as [%llu, %llu), durable up to %llu, with %llu entries",
			model->name, (unsigned long long)view.first, (unsigned long long)view.end,
			(unsigned long long)info.durable_end, (unsigned long long)model->count);
	if (info.durable_end < model->durable)
		world_fail(world, "stream %s: its durable end went back from %llu to %llu", model->name,
			(unsigned long long)model->durable, (unsigned long long)info.durable_end);
	model->durable = info.durable_end;
}

static void take_one(struct world *world, struct request *request)
{
	struct model_stream *stream = request->stream;
	world->in_flight--;
	world->totals.answered++;
	if (request->op.error) {
		if (take_error(world, request)) {
			request->answered = true;
			return;
		}
	} else if (request->op.kind == OP_APPEND) {
		take_append(world, request);
	} else if (request->op.kind == OP_TRUNCATE) {
		take_truncate(world, request);
	} else {
		take_sync(world, request);
	}
	if (stream)
		unlink_request(&stream->maybe_first, &stream->maybe_last, request);
	else
		unlink_request(&world->sync_all_first, NULL, request);
	request_free(request);
}

void world_take(struct world *world)
{
	struct op *op = engine_take(world->engine);
	struct op *first = op;
	/* Views include all that was taken: the model has to have all of it before they are looked at. */
	struct model_stream **touched = NULL;
	size_t count = 0;
	for (; op; op = op->next)
		count++;
	if (count == 0)
		return;
	touched = need(malloc(count * sizeof(*touched)));
	count = 0;
	for (op = first; op;) {
		struct op *next = op->next;
		struct request *request = (struct request *)op;
		if (op->kind < OP_CREATE_CHECKPOINT) {
			touched[count++] = request->stream;
			take_one(world, request);
		} else {
			world_take_checkpoint(world, op);
		}
		op = next;
	}
	for (size_t i = 0; i < count; i++)
		if (touched[i])
			world_look_at(world, touched[i]);
	free(touched);
}

void world_settle(struct world *world)
{
	bool worked = true;
	while (worked) {
		worked = false;
		engine_kick(world->engine);
		for (unsigned i = 0; i < engine_step_count(world->engine); i++)
			worked |= engine_step(world->engine, i);
		if (!worked) { /* an answer may lead to more work */
			worked = world->in_flight > 0;
			unsigned before = world->in_flight;
			world_take(world);
			worked &= world->in_flight > 0 && world->in_flight != before;
			engine_kick(world->engine);
			for (unsigned i = 0; i < engine_step_count(world->engine); i++)
				worked |= engine_step(world->engine, i);
		}
	}
	world_take(world);
	if (world->in_flight > 0 || !engine_idle(world->engine))
		world_fail(world, "%u requests were never answered", world->in_flight);
}

/* ---- the end of a life ------------------------------------------------------------------------------------------ */

/* Answers that nobody saw. */
static void discard_answers(struct world *world)
{
	struct op *next;
	for (struct op *op = engine_take(world->engine); op; op = next) {
		next = op->next;
		if (op->kind >= OP_CREATE_CHECKPOINT) {
			world_forget_checkpoint_op(world, op);
			continue;
		}
		struct request *request = (struct request *)op;
		if (request->stream && op->error &&
			(op->error->code == ERR_CONFLICT || op->error->outcome == OUTCOME_NONE)) {
			unlink_request(&request->stream->maybe_first, &request->stream->maybe_last, request);
			request_free(request);
		}
	}
}

void world_abandon(struct world *world)
{
	if (!world->engine)
		return;
	if (dice_chance(&world->dice, 500))
		world_take(world);
	else
		discard_answers(world);
	struct totals *totals = &world->totals;
	struct engine_stats stats;
	engine_stats(world->engine, &stats);
	for (uint32_t i = 0; i < stats.writer_count; i++) {
		struct writer_stats writer;
		engine_writer_stats(world->engine, i, &writer);
		totals->journal_groups += writer.journal_groups;
		totals->rotations += writer.rotations;
	}
	engine_abandon(world->engine);
	world->engine = NULL;
	world->in_flight = 0;
	drop_sync_all(world);
	world_drop_checkpoint_ops(world);
	totals->deaths++;
}

void world_power_cut(struct world *world, enum sim_power_mode mode)
{
	sim_power_on(world->io, mode);
	world->power_lost = true;
}

bool world_close(struct world *world, struct error *err)
{
	world_settle(world);
	int r = engine_close(world->engine, err);
	world->engine = NULL;
	if (r == 0 && sim_open_count(world->io) > 0)
		world_fail(world, "a clean stop left files open");
	sim_process_died(world->io);
	if (r != 0) {
		if (!world_may_fail(world))
			world_fail(world, "a clean stop failed: %s", err->message);
		return false;
	}
	for (unsigned i = 0; i < world->stream_count; i++)
		world->streams[i].durable = world->streams[i].count;
	world->totals.reopens++;
	return true;
}

/* ---- sums ------------------------------------------------------------------------------------------------------- */

void totals_add(struct totals *to, const struct totals *from)
{
	uint64_t *sum = (uint64_t *)to;
	const uint64_t *add = (const uint64_t *)from;
	for (size_t i = 0; i < sizeof(*to) / sizeof(*sum); i++)
		sum[i] += add[i];
}

void totals_print(const struct totals *totals)
{
#define ROW(field) printf("  %-16s %llu\n", #field, (unsigned long long)totals->field)
	ROW(opens);
	ROW(clean_opens);
	ROW(reopens);
	ROW(deaths);
	ROW(requests);
	ROW(answered);
	ROW(conflicts);
	ROW(refused);
	ROW(unknown);
	ROW(entries);
	ROW(entries_read);
	ROW(lost_entries);
	ROW(found_entries);
	ROW(truncates);
	ROW(checkpoints);
	ROW(checkpoints_loaded);
	ROW(checkpoints_found);
	ROW(compactions);
	ROW(prunes);
	ROW(rotations);
	ROW(journal_groups);
	ROW(journal_records);
	ROW(torn_tails_cut);
	ROW(files_set_aside);
	ROW(rewritten);
#undef ROW
}
