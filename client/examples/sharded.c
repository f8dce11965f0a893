/*
 * How a state machine uses shards and checkpoints: write by key, take a checkpoint, and after a restart (its own or the
 * server's) go on from the newest checkpoint. In phases, each a run of its own:
 *
 *   sharded ADDRESS write    1,000 entries by key, the checkpoint "snapshot_1", and 250 entries after it, in batches
 *   sharded ADDRESS replay   goes on from the newest checkpoint: reads what came after it, shard by shard; then deletes
 *                            what is not needed any more. It can be run any number of times.
 *
 * Plain C99 on the public header. The exit status is 0 if everything is as it must be, on a server whose shards were
 * empty before.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ironwal.h>

#define BEFORE 1000
#define AFTER_BY_KEYS 200
#define AFTER_FOR_ONE_KEY 50
#define AFTER (AFTER_BY_KEYS + AFTER_FOR_ONE_KEY)
#define CHECKPOINT "snapshot_1"
#define CHECKPOINTS_KEPT 5

static const char value[] = "data";

/* For a program of this size, every error is the end. */
static void die(const ironwal_error *error, const char *what)
{
	fprintf(stderr, "sharded: %s: %s (%s)\n", what, ironwal_error_message(error), ironwal_error_code_name(error));
	exit(1);
}

static void must(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "sharded: %s\n", what);
	exit(1);
}

/* ---- write ---- */

static void append_users(ironwal *wal, unsigned count, ironwal_error *error)
{
	for (unsigned i = 0; i < count; i++) {
		char key[32];
		ironwal_shard_position position;
		int len = snprintf(key, sizeof(key), "user_%u", i);
		if (ironwal_shard_append(wal, key, (size_t)len, value, strlen(value), NULL, &position, error) != 0)
			die(error, "append");
		must(position.shard == ironwal_shard_of_key(key, (size_t)len, ironwal_shard_count(wal)),
			"the server and the library do not agree on a key's shard");
	}
}

/* Many keys at once: each shard takes its part, all or nothing. */
static void append_batch(ironwal *wal, ironwal_error *error)
{
	static char keys[AFTER_BY_KEYS][32];
	ironwal_key_value entries[AFTER_BY_KEYS];
	ironwal_shard_position positions[AFTER_BY_KEYS];
	for (unsigned i = 0; i < AFTER_BY_KEYS; i++) {
		int len = snprintf(keys[i], sizeof(keys[i]), "user_%u", i);
		entries[i].key.data = keys[i];
		entries[i].key.len = (size_t)len;
		entries[i].value.data = value;
		entries[i].value.len = strlen(value);
	}
	if (ironwal_shard_append_batch(wal, entries, AFTER_BY_KEYS, NULL, positions, error) != 0) {
		/* Who goes on from here sends those again whose positions are not written. */
		if (ironwal_error_fate(error) == IRONWAL_FATE_PARTLY)
			fprintf(stderr, "sharded: only a part of the batch was written\n");
		die(error, "append a batch");
	}
	for (unsigned i = 0; i < AFTER_BY_KEYS; i++)
		must(positions[i].written, "an entry of a batch is not written");
}

/* Many values of one key: all or nothing, next to each other. */
static void append_for_one_key(ironwal *wal, ironwal_error *error)
{
	ironwal_bytes values[AFTER_FOR_ONE_KEY];
	ironwal_shard_range range;
	for (unsigned i = 0; i < AFTER_FOR_ONE_KEY; i++) {
		values[i].data = value;
		values[i].len = strlen(value);
	}
	if (ironwal_shard_append_batch_for_key(wal, "user_0", 6, values, AFTER_FOR_ONE_KEY, NULL, &range, error) != 0)
		die(error, "append for one key");
	must(range.end - range.first == AFTER_FOR_ONE_KEY, "a range does not fit its entries");
}

static uint64_t sum_of_offsets(const ironwal_checkpoint *checkpoint)
{
	size_t count;
	const uint64_t *offsets = ironwal_checkpoint_offsets(checkpoint, &count);
	uint64_t sum = 0;
	for (size_t shard = 0; shard < count; shard++)
		sum += offsets[shard];
	return sum;
}

static void write_phase(ironwal *wal, ironwal_error *error)
{
	ironwal_checkpoint *checkpoint;
	append_users(wal, BEFORE, error);
	if (ironwal_create_checkpoint(wal, CHECKPOINT, strlen(CHECKPOINT), &checkpoint, error) != 0)
		die(error, "create a checkpoint");
	printf("%d entries in %" PRIu32 " shards, checkpoint " CHECKPOINT " covers %" PRIu64 "\n", BEFORE,
		ironwal_checkpoint_shard_count(checkpoint), sum_of_offsets(checkpoint));
	must(sum_of_offsets(checkpoint) == BEFORE, "the checkpoint does not cover what was appended before it");
	ironwal_checkpoint_free(checkpoint);
	append_batch(wal, error);
	append_for_one_key(wal, error);
	printf("%d entries after it\n", AFTER);
}

/* ---- replay ---- */

/* The entries of a shard from the offset on. */
static uint64_t replay_shard(ironwal *wal, uint32_t shard, uint64_t offset, ironwal_error *error)
{
	ironwal_read_options options = IRONWAL_READ_OPTIONS_INIT;
	ironwal_iterator *iterator;
	const void *entry;
	size_t len;
	uint64_t id, count = 0;
	int rc;
	options.has_start_id = 1;
	options.start_id = offset;
	if (ironwal_shard_iterator_open(wal, shard, &options, &iterator, error) != 0)
		die(error, "open an iterator");
	while ((rc = ironwal_iterator_next(iterator, &id, &entry, &len, error)) > 0) {
		must(id == offset + count, "an entry was skipped");
		must(len == strlen(value) && memcmp(entry, value, len) == 0, "an entry is not what was written");
		count++;
	}
	if (rc < 0)
		die(error, "read a shard");
	ironwal_iterator_free(iterator);
	return count;
}

static void replay_phase(ironwal *wal, ironwal_error *error)
{
	ironwal_checkpoint *checkpoint;
	ironwal_prune_stats pruned;
	ironwal_compaction_stats compacted;
	uint64_t replayed = 0;
	size_t len, shard_count;
	if (ironwal_load_latest_checkpoint(wal, &checkpoint, error) != 0)
		die(error, "load the latest checkpoint");
	const void *id = ironwal_checkpoint_id(checkpoint, &len);
	const uint64_t *offsets = ironwal_checkpoint_offsets(checkpoint, &shard_count);
	must(len == strlen(CHECKPOINT) && memcmp(id, CHECKPOINT, len) == 0, "the newest checkpoint is another one");
	must(sum_of_offsets(checkpoint) == BEFORE, "the checkpoint does not cover what it did");
	for (size_t shard = 0; shard < shard_count; shard++)
		replayed += replay_shard(wal, (uint32_t)shard, offsets[shard], error);
	printf("%" PRIu64 " entries replayed from %zu shards\n", replayed, shard_count);
	must(replayed == AFTER, "there are not as many entries behind the checkpoint as were written");
	ironwal_checkpoint_free(checkpoint);

	if (ironwal_prune_before_checkpoint(wal, CHECKPOINT, strlen(CHECKPOINT), &pruned, error) != 0)
		die(error, "prune");
	printf("%" PRIu64 " segments of %" PRIu32 " shards deleted\n", pruned.segments_deleted, pruned.shards_pruned);
	if (ironwal_compact_checkpoints(wal, CHECKPOINTS_KEPT, &compacted, error) != 0)
		die(error, "compact");
	printf("%" PRIu64 " of %" PRIu64 " checkpoints kept, %" PRIu64 " bytes reclaimed\n",
		compacted.checkpoints_after, compacted.checkpoints_before, compacted.bytes_reclaimed);
}

int main(int argc, char **argv)
{
	if (argc != 3 || (strcmp(argv[2], "write") != 0 && strcmp(argv[2], "replay") != 0)) {
		fprintf(stderr, "usage: sharded ADDRESS write|replay\n");
		return 2;
	}
	ironwal *wal;
	ironwal_error *error = ironwal_error_new();
	if (ironwal_connect(argv[1], NULL, &wal, error) != 0)
		die(error, "connect");
	if (strcmp(argv[2], "write") == 0)
		write_phase(wal, error);
	else
		replay_phase(wal, error);
	ironwal_close(wal);
	ironwal_error_free(error);
	return 0;
}
