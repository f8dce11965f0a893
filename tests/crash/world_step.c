/* What happens next, at random. */
#include "world.h"

#include <string.h>

/* ---- requests --------------------------------------------------------------------------------------------------- */

static void append_at_random(struct world *world)
{
	const struct profile *profile = &world->profile;
	struct dice *dice = &world->dice;
	unsigned which =
		dice_chance(dice, profile->hot_per_mille) ? 0 : (unsigned)dice_below(dice, world->stream_count);
	struct model_stream *stream = &world->streams[which];
	struct request *request = world_request(world, stream, OP_APPEND);
	bool batch = dice_chance(dice, profile->batch_per_mille);
	uint64_t count = batch ? dice_below(dice, profile->batch_max + 1) : 1;
	request->op.batch = batch;
	request->op.sync = dice_chance(dice, profile->sync_flag_per_mille);
	if (dice_chance(dice, profile->expected_per_mille)) {
		request->op.has_expected = true;
		request->op.expected_id = stream->count + dice_below(dice, 3);
	}
	request_fill(world, request, count);
	world_hand_in(world, request);
}

static void truncate_at_random(struct world *world)
{
	struct model_stream *stream = &world->streams[dice_below(&world->dice, world->stream_count)];
	if (stream->count == 0 || !world_found(world, stream))
		return;
	struct request *request = world_request(world, stream, OP_TRUNCATE);
	request->op.safe_id = dice_chance(&world->dice, 400) ? UINT64_MAX : dice_below(&world->dice, stream->count + 2);
	world_hand_in(world, request);
}

static void sync_at_random(struct world *world)
{
	struct model_stream *stream = &world->streams[dice_below(&world->dice, world->stream_count)];
	if (dice_chance(&world->dice, 300))
		world_hand_in_sync_all(world);
	else if (world_found(world, stream))
		world_hand_in(world, world_request(world, stream, OP_SYNC));
}

/* ---- one more thing --------------------------------------------------------------------------------------------- */

static int compare_cb(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	struct record *record = arg;
	static uint8_t wanted[1 << 20];
	(void)id;
	if (len != record->len)
		return 2;
	entry_bytes(record->serial, record->index, wanted, len);
	record->serial = memcmp(bytes, wanted, len) == 0 ? 0 : record->serial;
	return record->serial == 0 ? 0 : 2;
}

/* Either the view begins there, or a truncate that was not answered yet has come so far. */
static bool truncated_to(const struct model_stream *model, uint64_t view_first, uint64_t first_id)
{
	bool possible = first_id == view_first || (first_id > view_first && first_id <= model->pruned_high);
	for (const struct request *request = model->maybe_first; request; request = request->next)
		possible |= request->op.kind == OP_TRUNCATE && first_id > view_first && first_id <= request->op.safe_id;
	return possible;
}

static void read_at_random(struct world *world)
{
	struct model_stream *model = &world->streams[dice_below(&world->dice, world->stream_count)];
	struct stream *stream = world_found(world, model);
	if (!stream || model->count == 0)
		return;
	struct stream_view view = stream_view(stream);
	uint64_t id = dice_below(&world->dice, model->count), next;
	struct record record = model->log[id];
	struct error err = {0};
	bool nowait = dice_chance(&world->dice, 500);
	enum read_result result =
		engine_read(world->engine, stream, view, id, id + 1, nowait, compare_cb, &record, &next, &err);
	if (result == READ_WOULD_BLOCK && nowait)
		result = engine_read(world->engine, stream, view, id, id + 1, false, compare_cb, &record, &next, &err);
	if (result == READ_ERROR && err.code == ERR_TRUNCATED && truncated_to(model, view.first, err.first_id))
		return;
	if (result == READ_ERROR && err.code == ERR_IO && (world->armed || sim_is_dead(world->io)))
		return;
	if (result != READ_DONE || record.serial != 0)
		world_fail(world, "stream %s: entry %llu of [%llu, %llu): %s", model->name, (unsigned long long)id,
			(unsigned long long)view.first, (unsigned long long)view.end,
			result == READ_ERROR ? err.message : "other bytes");
	world->totals.entries_read++;
}

/* Time passes: with an interval, all that was written before is durable after one round. */
static void tick(struct world *world)
{
	uint64_t interval = world->profile.options.async_sync_interval_ns;
	world_settle(world);
	sim_advance(world->io, interval ? interval + 1 : UINT64_C(1000000000));
	world_settle(world);
	if (world_may_fail(world) || interval == 0)
		return;
	for (unsigned i = 0; i < world->stream_count; i++) {
		world_look_at(world, &world->streams[i]);
		if (world->streams[i].durable != world->streams[i].count)
			world_fail(world, "stream %s: the interval is over, and only %llu of %llu entries are durable",
				world->streams[i].name, (unsigned long long)world->streams[i].durable,
				(unsigned long long)world->streams[i].count);
	}
}

static bool start_again(struct world *world)
{
	struct error err;
	return !sim_is_dead(world->io) && world_open(world, &err);
}

bool world_step(struct world *world)
{
	const struct profile *profile = &world->profile;
	struct dice *dice = &world->dice;
	struct error err;
	uint64_t chance = dice_below(dice, 1000);
	uint64_t below = profile->sync_per_mille;
	if (chance < below) {
		sync_at_random(world);
	} else if (chance < (below += profile->truncate_per_mille)) {
		truncate_at_random(world);
	} else if (chance < (below += profile->checkpoint_per_mille)) {
		world_checkpoint_at_random(world);
	} else if (chance < (below += profile->tick_per_mille)) {
		tick(world);
	} else if (chance < (below += profile->read_per_mille)) {
		read_at_random(world);
	} else if (chance < (below += profile->reopen_per_mille)) {
		if (!world_close(world, &err))
			return false;
		return start_again(world);
	} else if (chance < below + profile->death_per_mille) {
		if (sim_is_dead(world->io))
			return false;
		world_abandon(world);
		sim_process_died(world->io);
		return start_again(world);
	} else {
		for (uint64_t n = 1 + dice_below(dice, profile->group_max); n > 0; n--)
			append_at_random(world);
	}
	if (dice_chance(dice, 700))
		engine_kick(world->engine);
	for (uint64_t n = dice_below(dice, 5); n > 0; n--)
		(void)engine_step(world->engine, (unsigned)dice_below(dice, engine_step_count(world->engine)));
	if (dice_chance(dice, 600))
		world_take(world);
	return !sim_is_dead(world->io);
}
