/* Checkpoints in a world: asked for, answered, found again. */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct checkpoint_request {
	struct checkpoint_op checkpoint; /* the first member */
	struct checkpoint_request *next;
	uint64_t number; /* of the id */
	uint64_t *cut;	 /* creations: what was readable when it was asked for */
	uint64_t keep;
	bool must_be_found;
	uint8_t id[];
};

static void *need(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

/* ---- ids: their number, and letters behind it to a length that goes with the number ---- */

static size_t id_of(const struct world *world, uint64_t number, uint8_t *out)
{
	struct dice dice = {number * 77};
	size_t len = (size_t)snprintf((char *)out, 24, "%llu", (unsigned long long)number);
	size_t more = dice_below(&dice, world->profile.id_max + 1);
	for (size_t i = 0; i < more; i++)
		out[len + i] = (uint8_t)('a' + (number + i) % 26);
	return len + more;
}

static uint64_t number_of(struct world *world, const uint8_t *id, size_t len)
{
	char digits[24] = "";
	static uint8_t again[1 << 16];
	for (size_t i = 0; i < len && i < sizeof(digits) - 1 && id[i] >= '0' && id[i] <= '9'; i++)
		digits[i] = (char)id[i];
	uint64_t number = strtoull(digits, NULL, 10);
	if (id_of(world, number, again) != len || memcmp(again, id, len) != 0)
		world_fail(
			world, "a checkpoint was listed with an id that was never given: %zu bytes, %s", len, digits);
	return number;
}

/* ---- the model ---- */

static uint32_t shard_count(const struct world *world)
{
	return world->profile.options.shard_count;
}

static uint64_t *copy_offsets(const struct world *world, const uint64_t *offsets)
{
	size_t bytes = sizeof(*offsets) * shard_count(world);
	return memcpy(need(malloc(bytes)), offsets, bytes);
}

static void version_free(struct model_checkpoint *version)
{
	free(version->offsets);
	free(version);
}

/* Takes offsets over. */
static struct model_checkpoint *version_add(struct world *world, uint64_t number, uint64_t *offsets)
{
	struct model_checkpoint *version = need(calloc(1, sizeof(*version)));
	version->number = number;
	version->offsets = offsets;
	*world->checkpoints_last = version;
	world->checkpoints_last = &version->next;
	return version;
}

static void remove_versions(struct world *world, uint64_t number, const struct model_checkpoint *but)
{
	world->checkpoints_last = &world->checkpoints;
	for (struct model_checkpoint *version = world->checkpoints, *next; version; version = next) {
		next = version->next;
		if (version->number == number && version != but) {
			version_free(version);
			continue;
		}
		*world->checkpoints_last = version;
		world->checkpoints_last = &version->next;
	}
	*world->checkpoints_last = NULL;
}

static uint64_t acknowledged(const struct world *world)
{
	uint64_t count = 0;
	for (const struct model_checkpoint *version = world->checkpoints; version; version = version->next)
		count += version->acknowledged;
	return count;
}

void world_free_checkpoints(struct world *world)
{
	world_drop_checkpoint_ops(world);
	while (world->checkpoints) {
		struct model_checkpoint *version = world->checkpoints;
		world->checkpoints = version->next;
		version_free(version);
	}
	world->checkpoints_last = &world->checkpoints;
}

/* ---- asking ---- */

static void request_drop(struct checkpoint_request *request)
{
	free(request->checkpoint.op.error);
	checkpoint_op_clear(&request->checkpoint);
	free(request->cut);
	free(request);
}

static struct checkpoint_request *request_of(struct world *world, enum op_kind kind, uint64_t number)
{
	struct checkpoint_request *request = need(calloc(1, sizeof(*request) + 24 + world->profile.id_max));
	request->checkpoint.op.kind = kind;
	request->number = number;
	request->checkpoint.id = request->id;
	request->checkpoint.id_len = id_of(world, number, request->id);
	request->checkpoint.limit = UINT64_MAX;
	request->checkpoint.max_bytes = UINT64_MAX;
	return request;
}

static bool must_be_found(const struct world *world, enum op_kind kind, uint64_t number);

static void hand_in(struct world *world, struct checkpoint_request *request)
{
	struct error err;
	request->must_be_found = must_be_found(world, request->checkpoint.op.kind, request->number);
	if (engine_submit_checkpoint(world->engine, &request->checkpoint, &err) != 0)
		world_fail(world, "a request was refused at once: %s", err.message);
	struct checkpoint_request **last = &world->asked;
	while (*last)
		last = &(*last)->next;
	*last = request;
	world->in_flight++;
	world->totals.requests++;
}

static void create(struct world *world, uint64_t number)
{
	struct checkpoint_request *request = request_of(world, OP_CREATE_CHECKPOINT, number);
	request->cut = need(calloc(shard_count(world), sizeof(*request->cut)));
	for (uint32_t i = 0; i < shard_count(world); i++) {
		request->cut[i] = stream_view(engine_shard(world->engine, i)).end;
		if (i < world->stream_count && request->cut[i] != world->streams[i].count)
			world_fail(world, "shard %u shows %llu entries, not %llu", i,
				(unsigned long long)request->cut[i], (unsigned long long)world->streams[i].count);
	}
	hand_in(world, request);
}

/* What any version of it says may be deleted. */
static void prune(struct world *world, uint64_t number)
{
	struct checkpoint_request *request = request_of(world, OP_PRUNE, number);
	for (uint32_t i = 0; i < shard_count(world) && i < world->stream_count; i++) {
		struct model_stream *stream = &world->streams[i];
		const struct model_checkpoint *version = world->checkpoints;
		for (; version; version = version->next)
			if (version->number == number && version->offsets[i] > stream->pruned_high)
				stream->pruned_high = version->offsets[i];
		for (const struct checkpoint_request *asked = world->asked; asked; asked = asked->next)
			if (asked->cut && asked->number == number && asked->cut[i] > stream->pruned_high)
				stream->pruned_high = asked->cut[i];
	}
	hand_in(world, request);
}

/* Compactions that come later begin later, so nothing can take it away before it is looked for. */
static bool must_be_found(const struct world *world, enum op_kind kind, uint64_t number)
{
	bool found = false;
	for (const struct checkpoint_request *asked = world->asked; asked; asked = asked->next)
		if (asked->checkpoint.op.kind == OP_COMPACT_CHECKPOINTS)
			return false;
	for (const struct model_checkpoint *version = world->checkpoints; version; version = version->next)
		found |= version->acknowledged && !version->may_be_gone &&
			 (version->number == number || kind == OP_LOAD_LATEST_CHECKPOINT);
	return found;
}

static uint64_t number_at_random(struct world *world)
{
	return world->last_checkpoint == 0 ? 1 : 1 + dice_below(&world->dice, world->last_checkpoint);
}

void world_create_checkpoint(struct world *world, uint64_t number)
{
	if (number > world->last_checkpoint)
		world->last_checkpoint = number;
	create(world, number);
}

void world_compact_checkpoints(struct world *world, uint64_t keep)
{
	struct checkpoint_request *request = request_of(world, OP_COMPACT_CHECKPOINTS, 0);
	request->keep = request->checkpoint.keep = keep;
	hand_in(world, request);
}

void world_prune(struct world *world, uint64_t number)
{
	prune(world, number);
}

void world_checkpoint_at_random(struct world *world)
{
	struct dice *dice = &world->dice;
	const struct profile *profile = &world->profile;
	uint64_t chance = dice_below(dice, 1000), below = profile->compact_per_mille;
	if (chance < below) {
		world_compact_checkpoints(world, dice_chance(dice, 200) ? UINT64_MAX : dice_below(dice, 6));
	} else if (chance < (below += profile->prune_per_mille)) {
		prune(world, number_at_random(world));
	} else if (chance < below + profile->load_per_mille) {
		enum op_kind kind = dice_chance(dice, 300)   ? OP_LOAD_LATEST_CHECKPOINT
				    : dice_chance(dice, 200) ? OP_LIST_CHECKPOINTS
							     : OP_LOAD_CHECKPOINT;
		hand_in(world, request_of(world, kind, number_at_random(world)));
	} else {
		for (uint64_t n = 1 + dice_below(dice, 3); n > 0; n--)
			create(world, dice_chance(dice, profile->id_per_mille) ? number_at_random(world)
									       : ++world->last_checkpoint);
	}
}

/* ---- answers ---- */

static void created(struct world *world, struct checkpoint_request *request)
{
	const struct checkpoint_op *op = &request->checkpoint;
	if (op->timestamp <= world->last_timestamp)
		world_fail(world, "checkpoint %llu: its timestamp is not above the last",
			(unsigned long long)request->number);
	world->last_timestamp = op->timestamp;
	for (uint32_t i = 0; i < shard_count(world); i++) {
		if (op->offsets[i] != request->cut[i])
			world_fail(world, "checkpoint %llu: it has %llu for shard %u; %llu entries were readable",
				(unsigned long long)request->number, (unsigned long long)op->offsets[i], i,
				(unsigned long long)request->cut[i]);
		if (i < world->stream_count && op->offsets[i] > world->streams[i].durable)
			world->streams[i].durable = op->offsets[i];
	}
	struct model_checkpoint *version = version_add(world, request->number, copy_offsets(world, op->offsets));
	version->acknowledged = true;
	version->timestamp = op->timestamp;
	remove_versions(world, request->number, version);
	world->totals.checkpoints++;
}

static void compacted(struct world *world, const struct checkpoint_request *request)
{
	const struct checkpoint_op *op = &request->checkpoint;
	uint64_t now = acknowledged(world), kept = op->count_before < request->keep ? op->count_before : request->keep;
	uint64_t drop = op->count_before - kept;
	if (op->count_before > now || op->count_after > now || (drop == 0 && op->count_after != now))
		world_fail(world, "a compaction from %llu to %llu checkpoints, keeping %llu of %llu",
			(unsigned long long)op->count_before, (unsigned long long)op->count_after,
			(unsigned long long)request->keep, (unsigned long long)now);
	/* What is left is the newest: creations that were answered meanwhile stand behind it, or took the place of one.
	 */
	drop = now - op->count_after;
	while (drop-- > 0) {
		struct model_checkpoint *first = world->checkpoints;
		world->checkpoints = first->next;
		if (!world->checkpoints)
			world->checkpoints_last = &world->checkpoints;
		version_free(first);
	}
	world->totals.compactions++;
}

static void check_same(struct world *world, const struct model_checkpoint *version, const struct checkpoint_op *op)
{
	bool same = !version->acknowledged || version->timestamp == op->timestamp;
	for (uint32_t i = 0; i < shard_count(world); i++)
		same &= version->offsets[i] == op->offsets[i];
	if (!same || op->shard_count != shard_count(world))
		world_fail(world, "checkpoint %llu is not what was acknowledged", (unsigned long long)version->number);
	world->totals.checkpoints_loaded++;
}

/* While it runs, all that is answered is known; what is in flight may have been done when the answer was made. */
static const struct model_checkpoint *version_of(const struct world *world, const struct checkpoint_op *op)
{
	for (const struct model_checkpoint *version = world->checkpoints; version; version = version->next)
		if (version->acknowledged && version->timestamp == op->timestamp)
			return version;
	return NULL;
}

static bool take_error(struct world *world, const struct checkpoint_request *request)
{
	const struct checkpoint_op *op = &request->checkpoint;
	const struct error *error = op->op.error;
	bool missing = error->code == ERR_CHECKPOINT_NOT_FOUND || error->code == ERR_NO_CHECKPOINTS;
	if (missing && op->op.kind != OP_CREATE_CHECKPOINT && op->op.kind != OP_COMPACT_CHECKPOINTS) {
		if (request->must_be_found)
			world_fail(world, "checkpoint %llu was not found", (unsigned long long)request->number);
		return false;
	}
	if (error->code != ERR_IO || !world_may_fail(world))
		world_fail(world, "a checkpoint request failed: %s", error->message);
	bool unknown = error->outcome == OUTCOME_UNKNOWN;
	world->totals.refused += !unknown;
	world->totals.unknown += unknown;
	return unknown;
}

static void unlink_request(struct world *world, struct checkpoint_request *request)
{
	struct checkpoint_request **at = &world->asked;
	while (*at != request)
		at = &(*at)->next;
	*at = request->next;
}

static void may_have_happened(struct world *world, struct checkpoint_request *request)
{
	if (request->checkpoint.op.kind == OP_CREATE_CHECKPOINT)
		version_add(world, request->number, copy_offsets(world, request->cut));
	if (request->checkpoint.op.kind == OP_COMPACT_CHECKPOINTS)
		for (struct model_checkpoint *version = world->checkpoints; version; version = version->next)
			version->may_be_gone = true;
}

void world_take_checkpoint(struct world *world, struct op *op)
{
	struct checkpoint_request *request = (struct checkpoint_request *)op;
	unlink_request(world, request);
	world->in_flight--;
	world->totals.answered++;
	if (op->error) {
		if (take_error(world, request))
			may_have_happened(world, request);
	} else if (op->kind == OP_CREATE_CHECKPOINT) {
		created(world, request);
	} else if (op->kind == OP_COMPACT_CHECKPOINTS) {
		compacted(world, request);
	} else if (op->kind == OP_PRUNE) {
		world->totals.prunes++;
	} else if (op->kind != OP_LIST_CHECKPOINTS) {
		const struct model_checkpoint *version = version_of(world, &request->checkpoint);
		if (version)
			check_same(world, version, &request->checkpoint);
	}
	request_drop(request);
}

/* ---- the end of a life ---- */

void world_forget_checkpoint_op(struct world *world, struct op *op)
{
	struct checkpoint_request *request = (struct checkpoint_request *)op;
	unlink_request(world, request);
	if (!op->error || op->error->outcome == OUTCOME_UNKNOWN)
		may_have_happened(world, request);
	request_drop(request);
}

void world_drop_checkpoint_ops(struct world *world)
{
	while (world->asked) {
		struct checkpoint_request *request = world->asked;
		world->asked = request->next;
		may_have_happened(world, request);
		request_drop(request);
	}
}

/* ---- what a start finds ---- */

/* Until it is answered otherwise than by a failure that was armed. NULL: the disk is dead. */
static struct checkpoint_request *ask(struct world *world, enum op_kind kind, uint64_t number)
{
	for (unsigned tries = 0;; tries++) {
		struct checkpoint_request *request = request_of(world, kind, number);
		struct error err;
		if (engine_submit_checkpoint(world->engine, &request->checkpoint, &err) != 0)
			world_fail(world, "a request was refused at once: %s", err.message);
		struct op *op = NULL;
		while (!op) {
			for (unsigned i = 0; i < engine_step_count(world->engine); i++)
				(void)engine_step(world->engine, i);
			op = engine_take(world->engine);
		}
		/* What cannot be read is left out of a list, and counted. */
		bool failed = op->error ? op->error->code == ERR_IO : request->checkpoint.nameless > 0;
		if (!failed)
			return request;
		bool dead = sim_is_dead(world->io);
		if (!dead && (!world->armed || tries > 30))
			world_fail(
				world, "checkpoints cannot be read: %s", op->error ? op->error->message : "left out");
		request_drop(request);
		if (dead)
			return NULL;
	}
}

static void check_offsets(struct world *world, uint64_t number, const uint64_t *offsets)
{
	for (uint32_t i = 0; i < shard_count(world); i++) {
		uint64_t end = stream_view(engine_shard(world->engine, i)).end;
		if (offsets[i] > end)
			world_fail(world, "checkpoint %llu names entry %llu of shard %u, which ends at %llu",
				(unsigned long long)number, (unsigned long long)offsets[i], i, (unsigned long long)end);
	}
}

/* The version that a start has found: the last acknowledged one, or one that may be there. */
static void check_found(struct world *world, uint64_t number, const struct checkpoint_op *op)
{
	const struct model_checkpoint *last = NULL, *version;
	for (version = world->checkpoints; version; version = version->next) {
		if (version->number != number)
			continue;
		bool same = true;
		for (uint32_t i = 0; i < shard_count(world); i++)
			same &= version->offsets[i] == op->offsets[i];
		same &= version->acknowledged ? version->timestamp == op->timestamp : true;
		if (same)
			last = version;
		else if (version->acknowledged)
			last = NULL; /* an older one would be a step back */
	}
	if (!last)
		world_fail(
			world, "checkpoint %llu was never made like this, or was replaced", (unsigned long long)number);
	world->totals.checkpoints_found += !last->acknowledged;
}

static void check_missing(struct world *world, const struct checkpoint_op *list)
{
	for (const struct model_checkpoint *version = world->checkpoints; version; version = version->next) {
		if (!version->acknowledged || version->may_be_gone)
			continue;
		size_t at = 0, len;
		const uint8_t *id;
		uint64_t timestamp;
		bool listed = false;
		while (checkpoint_listed(list, &at, &id, &len, &timestamp))
			listed |= number_of(world, id, len) == version->number;
		if (!listed)
			world_fail(world, "checkpoint %llu was acknowledged, and is gone",
				(unsigned long long)version->number);
	}
}

void world_check_checkpoints(struct world *world)
{
	struct checkpoint_request *list = ask(world, OP_LIST_CHECKPOINTS, 0);
	if (!list)
		return;
	struct world found = {.profile = world->profile};
	found.checkpoints_last = &found.checkpoints;
	check_missing(world, &list->checkpoint);
	if (list->checkpoint.nameless > 0 || engine_checkpoint_count(world->engine) != list->checkpoint.listed_count)
		world_fail(world, "%llu checkpoints are listed, %llu counted, %llu without an id",
			(unsigned long long)list->checkpoint.listed_count,
			(unsigned long long)engine_checkpoint_count(world->engine),
			(unsigned long long)list->checkpoint.nameless);
	size_t at = 0, len;
	const uint8_t *id;
	uint64_t timestamp, before = 0;
	const uint64_t *last = NULL;
	while (checkpoint_listed(&list->checkpoint, &at, &id, &len, &timestamp)) {
		uint64_t number = number_of(world, id, len);
		struct checkpoint_request *loaded = ask(world, OP_LOAD_CHECKPOINT, number);
		if (!loaded) {
			world_free_checkpoints(&found);
			request_drop(list);
			return;
		}
		const struct checkpoint_op *op = &loaded->checkpoint;
		if (op->op.error)
			world_fail(world, "checkpoint %llu: %s", (unsigned long long)number, op->op.error->message);
		if (timestamp <= before || op->timestamp != timestamp)
			world_fail(world, "checkpoint %llu: timestamps do not rise", (unsigned long long)number);
		for (uint32_t i = 0; last && i < shard_count(world); i++)
			if (op->offsets[i] < last[i])
				world_fail(world, "checkpoint %llu: shard %u goes back", (unsigned long long)number, i);
		check_offsets(world, number, op->offsets);
		check_found(world, number, op);
		struct model_checkpoint *version = version_add(&found, number, copy_offsets(world, op->offsets));
		version->acknowledged = true;
		version->timestamp = before = timestamp;
		last = version->offsets;
		request_drop(loaded);
	}
	request_drop(list);
	world_free_checkpoints(world);
	world->checkpoints = found.checkpoints;
	world->checkpoints_last = found.checkpoints ? found.checkpoints_last : &world->checkpoints;
	if (before > world->last_timestamp)
		world->last_timestamp = before;
}
