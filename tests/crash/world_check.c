/* What a start finds, held against the model. */
#include "world.h"

#include <stdlib.h>
#include <string.h>

struct compare {
	struct world *world;
	struct model_stream *model;
	uint8_t *wanted;
	size_t cap;
};

static bool same(struct compare *compare, const struct record *record, const uint8_t *bytes, size_t len)
{
	if (len != record->len)
		return false;
	if (len > compare->cap || !compare->wanted) {
		compare->cap = len + 4096;
		compare->wanted = realloc(compare->wanted, compare->cap);
		if (!compare->wanted)
			abort();
	}
	entry_bytes(record->serial, record->index, compare->wanted, len);
	return memcmp(bytes, compare->wanted, len) == 0;
}

static int compare_cb(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	struct compare *compare = arg;
	if (!same(compare, &compare->model->log[id], bytes, len))
		world_fail(compare->world, "stream %s: entry %llu is not what was appended (%zu bytes, not %u)",
			compare->model->name, (unsigned long long)id, len, compare->model->log[id].len);
	compare->world->totals.entries_read++;
	return 0;
}

struct probe {
	struct compare compare;
	struct record record;
	bool same;
};

static int probe_cb(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	struct probe *probe = arg;
	(void)id;
	probe->same = same(&probe->compare, &probe->record, bytes, len);
	return 0;
}

/* Is entry id the first one of the request? */
static bool begins_at(struct world *world, struct stream *stream, const struct request *request, uint64_t id)
{
	if (id < stream_view(stream).first)
		return true; /* a truncate that nobody saw the answer of has taken it away already */
	struct probe probe = {.record = {request->serial, 0, entry_len(world, request->serial, 0)}};
	struct error err;
	uint64_t next;
	if (engine_read(world->engine, stream, stream_view(stream), id, id + 1, false, probe_cb, &probe, &next, &err) !=
			READ_DONE &&
		engine_read(world->engine, stream, stream_view(stream), id, id + 1, false, probe_cb, &probe, &next,
			&err) != READ_DONE) /* one fault fails it once */
		world_fail(world, "entry %llu: %s", (unsigned long long)id, err.message);
	free(probe.compare.wanted);
	return probe.same;
}

/* The entries behind those that were acknowledged: whole requests of those that were in flight, in their order. */
static void take_found(struct world *world, struct model_stream *model, struct stream *stream, uint64_t end)
{
	uint64_t id = model->count;
	for (const struct request *request = model->maybe_first; request && id < end; request = request->next) {
		if (request->op.kind != OP_APPEND || request->count == 0)
			continue;
		if (request->op.has_expected && request->op.expected_id != id)
			continue;
		if (id + request->count > end && !world->profile.faults)
			world_fail(world, "stream %s: it ends at %llu, in the middle of a batch [%llu, %llu)",
				model->name, (unsigned long long)end, (unsigned long long)id,
				(unsigned long long)(id + request->count));
		if (id + request->count > end || !begins_at(world, stream, request, id)) {
			if (world->profile.faults)
				continue; /* it may have been refused before the end */
			world_fail(world, "stream %s: entry %llu is not what was sent next", model->name,
				(unsigned long long)id);
		}
		for (uint32_t i = 0; i < request->count; i++)
			stream_push(model, request->serial, i, entry_len(world, request->serial, i));
		id += request->count;
		world->totals.found_entries += request->count;
	}
	if (id < end)
		world_fail(world, "stream %s: entries [%llu, %llu) were never sent", model->name,
			(unsigned long long)id, (unsigned long long)end);
}

static void check_lost(struct world *world, struct model_stream *model, uint64_t end)
{
	uint64_t least = world->power_lost ? model->durable : model->count;
	if (end < least)
		world_fail(world, "stream %s: %llu entries are left; %llu were %s", model->name,
			(unsigned long long)end, (unsigned long long)least,
			world->power_lost ? "durable" : "acknowledged, and only the process died");
	if (end < model->count && model->log[end].index != 0)
		world_fail(world, "stream %s: a batch was torn: it ends at entry %llu, which is number %u of its batch",
			model->name, (unsigned long long)end, model->log[end].index);
	if (end < model->count)
		world->totals.lost_entries += model->count - end;
}

static void check_first(struct world *world, struct model_stream *model, uint64_t first)
{
	uint64_t highest = model->first_high > model->pruned_high ? model->first_high : model->pruned_high;
	for (const struct request *request = model->maybe_first; request; request = request->next)
		if (request->op.kind == OP_TRUNCATE && request->op.safe_id > highest)
			highest = request->op.safe_id;
	if (first < model->first_low || first > highest)
		world_fail(world, "stream %s: the first id is %llu; between %llu and %llu was possible", model->name,
			(unsigned long long)first, (unsigned long long)model->first_low, (unsigned long long)highest);
	/* A deletion whose sync failed may come undone at the next power cut, which does no harm. */
	if (!world->profile.faults)
		model->first_low = first;
	model->first_high = first;
}

static void check_stream(struct world *world, struct model_stream *model)
{
	struct stream *stream = engine_find(world->engine, model->name, model->name_len);
	struct stream_view view = {0};
	struct stream_info info = {0};
	if (stream) {
		view = stream_view(stream);
		engine_stream_info(world->engine, stream, &info);
	}
	check_lost(world, model, view.end);
	if (view.end > model->count)
		take_found(world, model, stream, view.end);
	model->count = view.end;
	if (info.durable_end != view.end)
		world_fail(world, "stream %s: the start accepted %llu entries and calls %llu durable", model->name,
			(unsigned long long)view.end, (unsigned long long)info.durable_end);
	model->durable = view.end;
	check_first(world, model, view.first);
	stream_drop_maybe(model);
}

static void count_cb(struct stream *stream, void *arg)
{
	(void)stream;
	++*(uint64_t *)arg;
}

void world_compare(struct world *world)
{
	struct compare compare = {.world = world};
	for (unsigned i = 0; i < world->stream_count; i++) {
		struct model_stream *model = &world->streams[i];
		struct stream *stream = engine_find(world->engine, model->name, model->name_len);
		if (!stream)
			continue;
		struct stream_view view = stream_view(stream);
		struct error err;
		uint64_t next;
		compare.model = model;
		if (engine_read(world->engine, stream, view, view.first, view.end, false, compare_cb, &compare, &next,
			    &err) != READ_DONE) {
			if (world->armed && err.code == ERR_IO)
				continue;
			world_fail(world, "stream %s: entry %llu cannot be read: %s", model->name,
				(unsigned long long)next, err.message);
		}
		if (next != view.end)
			world_fail(world, "stream %s: reading stopped at %llu of %llu", model->name,
				(unsigned long long)next, (unsigned long long)view.end);
	}
	free(compare.wanted);
}

void world_check_recovered(struct world *world)
{
	uint64_t with_entries = 0, listed = 0;
	for (unsigned i = 0; i < world->stream_count; i++) {
		check_stream(world, &world->streams[i]);
		with_entries += world->streams[i].count > 0;
	}
	if (engine_list(world->engine, "", 0, NULL, 0, SIZE_MAX, count_cb, &listed) || listed != with_entries)
		world_fail(world, "%llu streams are listed, %llu have entries", (unsigned long long)listed,
			(unsigned long long)with_entries);
	world->power_lost = false;
	world_compare(world);
	world_check_checkpoints(world);
}

bool world_open(struct world *world, struct error *err)
{
	struct engine_hooks hooks = {.no_threads = true};
	uint64_t fired = sim_faults_fired(world->io);
	if (engine_open(world->io, &world->profile.options, &hooks, &world->engine, err) != 0) {
		world->engine = NULL;
		if (!sim_is_dead(world->io) && !world->armed)
			world_fail(world, "it does not start: %s", err->message);
		return false;
	}
	struct engine_stats stats;
	engine_stats(world->engine, &stats);
	struct totals *totals = &world->totals;
	totals->opens++;
	totals->clean_opens += stats.recovery.clean_start;
	totals->journal_records += stats.recovery.journal_records;
	totals->torn_tails_cut += stats.recovery.torn_tails_cut;
	totals->files_set_aside += stats.recovery.files_set_aside;
	totals->rewritten += stats.recovery.entries_rewritten;
	if (stats.recovery.rot_found > 0) {
		/* A page that twice in a row could not be read is rot, and `truncate` goes on without it. */
		world->ruined = world->armed && sim_faults_fired(world->io) - fired >= 2 &&
				world->profile.options.on_corruption == ON_CORRUPTION_TRUNCATE;
		if (!world->ruined)
			world_fail(world, "rot was found where none is");
		return false;
	}
	/* The power may have gone in the last moments of the start, which were no changes. */
	world_check_recovered(world);
	return true;
}
