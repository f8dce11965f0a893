/* The parts of the network side that need no socket: waiters, read jobs, histograms. */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fake_engine.h"
#include "message.h"
#include "net_stats.h"
#include "read_job.h"
#include "waiters.h"

static void nothing(void *arg)
{
	(void)arg;
}

static const struct engine_hooks hooks = {.notify_cb = nothing};

struct filler {
	struct entry_source source;
	const char *text;
	size_t len;
};

static void fill_next(struct entry_source *source, const uint8_t **ret_bytes, size_t *ret_len)
{
	struct filler *filler = (struct filler *)source;
	*ret_bytes = (const uint8_t *)filler->text;
	*ret_len = filler->len;
}

static struct stream *fill(struct engine *engine, const char *name, uint64_t count, const char *text, size_t len)
{
	struct filler filler = {.source = {.count = count, .next = fill_next}, .text = text, .len = len};
	struct op op = {.kind = OP_APPEND, .source = &filler.source};
	struct error err;
	cr_assert(engine_submit(engine, &op, name, strlen(name), &err) == 0);
	engine_kick(engine);
	cr_assert(engine_take(engine) == &op && op.error == NULL);
	return op.stream;
}

Test(net_stats, percentiles)
{
	struct histogram histogram = {0};
	cr_assert(histogram_percentile(&histogram, 99) == 0);
	for (uint64_t i = 0; i < 98; i++)
		histogram_add(&histogram, 100);
	histogram_add(&histogram, 0);
	histogram_add(&histogram, 100000);
	cr_assert(histogram.count == 100 && histogram.max == 100000);
	cr_assert(histogram_percentile(&histogram, 50) == 127, "the bucket of 100 ends at 127");
	cr_assert(histogram_percentile(&histogram, 99) == 127);
	cr_assert(histogram_percentile(&histogram, 100) == 100000);
	histogram_add(&histogram, UINT64_MAX);
	cr_assert(histogram.buckets[HISTOGRAM_BUCKETS - 1] == 1, "what is over the last bucket is in it");
}

/* ---- waiters ---------------------------------------------------------------------------------------------------- */

struct noted {
	struct waiter waiter;
	unsigned woken;
	struct waiters *waiters;
	struct waiter_owner *take_back; /* what wake_cb wakes too */
};

static void note(struct waiter *waiter)
{
	struct noted *noted = (struct noted *)waiter;
	noted->woken++;
	if (noted->take_back != NULL)
		waiters_wake_owner(noted->waiters, noted->take_back);
}

static void wait_for(struct waiters *waiters, struct noted *noted, struct stream *stream, struct waiter_owner *owner,
	uint64_t id, uint64_t deadline_ns)
{
	*noted = (struct noted){.waiter = {.wake_cb = note, .id = id, .deadline_ns = deadline_ns}, .waiters = waiters};
	cr_assert(waiters_add(waiters, &noted->waiter, stream, owner));
}

Test(waiters, woken_when_their_entry_is_there)
{
	struct engine *engine = fake_engine_new(&hooks);
	struct waiters *waiters = waiters_new();
	struct waiter_owner owner = {0};
	struct noted next, later, other;
	struct stream *stream = fill(engine, "s", 1, "x", 1), *quiet = fill(engine, "q", 1, "x", 1);
	wait_for(waiters, &next, stream, &owner, 1, 100);
	wait_for(waiters, &later, stream, &owner, 5, 100);
	wait_for(waiters, &other, quiet, &owner, 1, 100);
	waiters_touch(waiters, stream);
	waiters_run(waiters);
	cr_assert(next.woken == 0, "nothing new, nobody woken");
	fill(engine, "s", 1, "x", 1);
	waiters_touch(waiters, stream);
	waiters_touch(waiters, stream);
	waiters_run(waiters);
	cr_assert(next.woken == 1 && later.woken == 0 && other.woken == 0);
	cr_assert(waiters_count(waiters) == 2 && owner.count == 2);
	waiters_wake_all(waiters);
	cr_assert(later.woken == 1 && other.woken == 1 && owner.head == NULL);
	cr_assert(stream_user(stream) == NULL && stream_user(quiet) == NULL, "no list is left behind");
	waiters_free(waiters);
	fake_engine_free(engine);
}

Test(waiters, expire_in_order_of_deadline)
{
	struct engine *engine = fake_engine_new(&hooks);
	struct waiters *waiters = waiters_new();
	struct waiter_owner owner = {0};
	struct noted noted[50];
	struct stream *stream = fill(engine, "s", 1, "x", 1);
	for (uint64_t i = 0; i < 50; i++)
		wait_for(waiters, &noted[i], stream, &owner, 9, 1000 + i * 37 % 50);
	for (uint64_t now = 1000; now < 1050; now++) {
		cr_assert(waiters_next_deadline_ns(waiters) == now);
		waiters_expire(waiters, now);
		for (uint64_t i = 0; i < 50; i++)
			cr_assert(noted[i].woken == (noted[i].waiter.deadline_ns <= now ? 1 : 0));
	}
	cr_assert(waiters_next_deadline_ns(waiters) == UINT64_MAX);
	waiters_free(waiters);
	fake_engine_free(engine);
}

Test(waiters, one_may_take_back_others_while_woken)
{
	struct engine *engine = fake_engine_new(&hooks);
	struct waiters *waiters = waiters_new();
	struct waiter_owner owner = {0};
	struct noted noted[3];
	struct stream *stream = fill(engine, "s", 1, "x", 1);
	for (int i = 0; i < 3; i++) {
		wait_for(waiters, &noted[i], stream, &owner, 1, 100);
		noted[i].take_back = &owner;
	}
	fill(engine, "s", 1, "x", 1);
	waiters_touch(waiters, stream);
	waiters_run(waiters);
	for (int i = 0; i < 3; i++)
		cr_assert(noted[i].woken == 1);
	waiters_free(waiters);
	fake_engine_free(engine);
}

Test(waiters, bounded_per_owner)
{
	struct engine *engine = fake_engine_new(&hooks);
	struct waiters *waiters = waiters_new();
	struct waiter_owner owner = {0};
	struct noted *noted = calloc(WAITERS_PER_OWNER_MAX + 1, sizeof(*noted));
	struct stream *stream = fill(engine, "s", 1, "x", 1);
	for (size_t i = 0; i < WAITERS_PER_OWNER_MAX; i++)
		wait_for(waiters, &noted[i], stream, &owner, 1, 100);
	struct waiter *over = &noted[WAITERS_PER_OWNER_MAX].waiter;
	over->wake_cb = note;
	cr_assert(!waiters_add(waiters, over, stream, &owner));
	waiters_wake_owner(waiters, &owner);
	cr_assert(waiters_count(waiters) == 0);
	free(noted);
	waiters_free(waiters);
	fake_engine_free(engine);
}

Test(waiters, woken_and_expired_bit_by_bit)
{
	struct engine *engine = fake_engine_new(&hooks);
	struct waiters *waiters = waiters_new();
	struct waiter_owner owners[3] = {0};
	const size_t count = 3 * WAITERS_PER_OWNER_MAX;
	struct noted *noted = calloc(count, sizeof(*noted)), later, late;
	struct stream *stream = fill(engine, "s", 1, "x", 1), *other = fill(engine, "o", 1, "x", 1);
	for (size_t i = 0; i < count - 1; i++)
		wait_for(waiters, &noted[i], stream, &owners[i % 3], 1, 100);
	wait_for(waiters, &later, other, &owners[2], 1, 100);
	fill(engine, "s", 1, "x", 1);
	waiters_touch(waiters, stream);
	size_t before = waiters_count(waiters);
	cr_assert(waiters_run(waiters));
	cr_assert(before - waiters_count(waiters) <= WAITERS_PER_RUN && waiters_count(waiters) < before);
	/* What comes meanwhile is seen too: another who waits there, more entries, another stream, one who goes. */
	wait_for(waiters, &late, stream, &owners[0], 2, 100);
	fill(engine, "s", 1, "x", 1);
	fill(engine, "o", 1, "x", 1);
	waiters_touch(waiters, stream);
	waiters_touch(waiters, other);
	waiters_wake_owner(waiters, &owners[1]);
	while (waiters_run(waiters))
		;
	cr_assert(waiters_count(waiters) == 0 && late.woken == 1 && later.woken == 1);
	for (size_t i = 0; i < count - 1; i++)
		cr_assert(noted[i].woken == 1);
	cr_assert(stream_user(stream) == NULL && stream_user(other) == NULL, "no list is left behind");

	for (size_t i = 0; i < count; i++)
		wait_for(waiters, &noted[i], stream, &owners[i % 3], 9, 100);
	for (size_t left = count; left > 0; left = waiters_count(waiters)) {
		cr_assert(waiters_next_deadline_ns(waiters) == 100);
		waiters_expire(waiters, 100);
		cr_assert(left - waiters_count(waiters) <= WAITERS_PER_RUN && waiters_count(waiters) < left);
	}
	free(noted);
	waiters_free(waiters);
	fake_engine_free(engine);
}

/* ---- read jobs -------------------------------------------------------------------------------------------------- */

#define LIMIT (256 * 1024)

static struct read_job iter_job(struct engine *engine, struct stream *stream, uint64_t start)
{
	return (struct read_job){.kind = READ_ITER,
		.engine = engine,
		.stream = stream,
		.view = stream_view(stream),
		.msgid = 7,
		.max_message_bytes = LIMIT,
		.has_start = true,
		.start = start,
		.max_entries = UINT64_MAX,
		.max_bytes = UINT64_MAX,
		.slice_ns = 3600 * NS_PER_SECOND};
}

struct iter_answer {
	uint64_t first, next, end;
	struct byte_array entries;
};

static void decode_iter(const struct read_job *job, struct iter_answer *ret)
{
	struct response response;
	struct error err;
	bool notification;
	cr_assert(job->error == NULL && job->answer.len > 4 && job->answer.len - 4 <= job->max_message_bytes);
	struct span payload = {job->answer.data + 4, job->answer.len - 4};
	cr_assert(response_decode(payload, &response, &notification, &err) == 0);
	cr_assert(response.msgid == 7 && response.error.data == NULL);
	cr_assert(field_u64(&response.fields, KEY_FIRST, &ret->first, &err) == 0);
	cr_assert(field_u64(&response.fields, KEY_NEXT, &ret->next, &err) == 0);
	cr_assert(field_u64(&response.fields, KEY_END, &ret->end, &err) == 0);
	cr_assert(field_byte_array(&response.fields, KEY_ENTRIES, false, &ret->entries, &err) == 0);
	cr_assert(ret->first + ret->entries.count == ret->next);
}

static void run_to_end(struct read_job *job)
{
	bool done = read_job_run(job, true);
	while (!done)
		done = read_job_run(job, false);
}

Test(read_job, iter_ends_at_its_limits)
{
	struct engine *engine = fake_engine_new(&hooks);
	struct stream *stream = fill(engine, "s", 10, "0123456789", 10);
	struct iter_answer answer;

	struct read_job job = iter_job(engine, stream, 2);
	job.max_entries = 3;
	run_to_end(&job);
	decode_iter(&job, &answer);
	cr_assert(answer.first == 2 && answer.next == 5 && answer.end == 10);
	read_job_free(&job);

	job = iter_job(engine, stream, 2);
	job.max_bytes = 25;
	run_to_end(&job);
	decode_iter(&job, &answer);
	cr_assert(answer.entries.count == 2, "max_bytes counts entries' bytes");
	read_job_free(&job);

	job = iter_job(engine, stream, 2);
	job.max_bytes = 0;
	job.max_entries = 0;
	run_to_end(&job);
	decode_iter(&job, &answer);
	cr_assert(answer.entries.count == 1, "one at least");
	read_job_free(&job);

	job = iter_job(engine, stream, 99);
	run_to_end(&job);
	decode_iter(&job, &answer);
	cr_assert(answer.first == 99 && answer.next == 99 && answer.end == 10);
	read_job_free(&job);
	fake_engine_free(engine);
}

Test(read_job, iter_goes_on_in_another_thread)
{
	struct engine *engine = fake_engine_new(&hooks);
	struct stream *stream = fill(engine, "s", 6000, "0123456789", 10);
	struct iter_answer answer;
	struct read_job job = iter_job(engine, stream, 0);
	cr_assert(!read_job_run(&job, true), "6,000 entries are too much for the loop");
	cr_assert(job.entry_count > 0, "what was read there is kept");
	cr_assert(read_job_run(&job, false));
	decode_iter(&job, &answer);
	cr_assert(answer.next == 6000);
	read_job_free(&job);

	fake_engine_cold(true);
	job = iter_job(engine, stream, 5999);
	cr_assert(!read_job_run(&job, true), "it would block");
	cr_assert(read_job_run(&job, false));
	decode_iter(&job, &answer);
	cr_assert(answer.first == 5999 && answer.next == 6000);
	read_job_free(&job);
	fake_engine_free(engine);
}

Test(read_job, iter_never_over_the_message_limit)
{
	struct engine *engine = fake_engine_new(&hooks);
	static char big[LIMIT];
	struct stream *stream = fill(engine, "s", 3, big, LIMIT - 1024);
	struct iter_answer answer;
	struct read_job job = iter_job(engine, stream, 0);
	run_to_end(&job);
	decode_iter(&job, &answer);
	cr_assert(answer.entries.count == 1, "the largest legal entry alone");
	read_job_free(&job);

	fill(engine, "s", 1, big, LIMIT);
	job = iter_job(engine, stream, 3);
	run_to_end(&job);
	cr_assert(job.error != NULL && job.error->code == ERR_TOO_LARGE);
	cr_assert(job.error->id == 3 && job.error->first_id == 4 && job.error->limit == LIMIT);
	read_job_free(&job);
	fake_engine_free(engine);
}

Test(read_job, iter_ends_before_damage)
{
	struct engine *engine = fake_engine_new(&hooks);
	struct stream *stream = fill(engine, "s", 10, "0123456789", 10);
	struct iter_answer answer;
	fake_engine_damage(4);
	struct read_job job = iter_job(engine, stream, 2);
	run_to_end(&job);
	decode_iter(&job, &answer);
	cr_assert(answer.first == 2 && answer.next == 4);
	read_job_free(&job);
	job = iter_job(engine, stream, 4);
	run_to_end(&job);
	cr_assert(job.error != NULL && job.error->code == ERR_CORRUPTION && job.error->id == 4);
	cr_assert(job.answer.len == 0);
	read_job_free(&job);
	fake_engine_free(engine);
}

static void truncate_to(struct engine *engine, uint64_t safe_id)
{
	struct error err;
	struct op op = {.kind = OP_TRUNCATE, .safe_id = safe_id};
	cr_assert(engine_submit(engine, &op, "s", 1, &err) == 0);
	engine_kick(engine);
	cr_assert(engine_take(engine) == &op);
}

Test(read_job, iter_and_truncation)
{
	struct engine *engine = fake_engine_new(&hooks);
	struct stream *stream = fill(engine, "s", 10, "0123456789", 10);
	struct iter_answer answer;
	/* Both views are from before the truncation. */
	struct read_job given = iter_job(engine, stream, 2), oldest = iter_job(engine, stream, 0);
	oldest.has_start = false;
	truncate_to(engine, 6);
	run_to_end(&given);
	cr_assert(given.error != NULL && given.error->code == ERR_TRUNCATED && given.error->first_id == 6);
	read_job_free(&given);
	run_to_end(&oldest);
	decode_iter(&oldest, &answer);
	cr_assert(answer.first == 6 && answer.next == 10);
	read_job_free(&oldest);
	fake_engine_free(engine);
}

static struct read_job batch_job(struct engine *engine, struct stream *stream, const uint64_t *ids, uint32_t count)
{
	struct read_job job = iter_job(engine, stream, 0);
	struct mp_writer writer;
	job.kind = READ_GET_BATCH;
	mp_writer_init(&writer, &job.ids_bytes);
	for (uint32_t i = 0; i < count; i++)
		mp_write_u64(&writer, ids[i]);
	job.ids = (struct u64_array){.elements = {job.ids_bytes.data, job.ids_bytes.len}, .count = count};
	return job;
}

static void decode_batch(const struct read_job *job, struct byte_array *ret_entries)
{
	struct response response;
	struct error err;
	bool notification;
	cr_assert(job->error == NULL);
	struct span payload = {job->answer.data + 4, job->answer.len - 4};
	cr_assert(response_decode(payload, &response, &notification, &err) == 0);
	cr_assert(field_byte_array(&response.fields, KEY_ENTRIES, true, ret_entries, &err) == 0);
}

Test(read_job, get_batch_keeps_the_order_of_ids)
{
	struct engine *engine = fake_engine_new(&hooks);
	struct stream *stream = fill(engine, "s", 1, "a", 1);
	fill(engine, "s", 1, "bb", 2);
	fill(engine, "s", 1, "ccc", 3);
	fill(engine, "s", 1, "dddd", 4);
	truncate_to(engine, 1);
	const uint64_t ids[] = {3, 1, 2, 0, 1, 4, UINT64_MAX, 3};
	const size_t lens[] = {4, 2, 3, SIZE_MAX, 2, SIZE_MAX, SIZE_MAX, 4};
	struct read_job job = batch_job(engine, stream, ids, 8);
	struct byte_array entries;
	run_to_end(&job);
	decode_batch(&job, &entries);
	cr_assert(entries.count == 8);
	struct byte_iter iter = byte_iter_of(&entries);
	struct span entry;
	for (int i = 0; byte_iter_next(&iter, &entry); i++) {
		cr_assert((entry.data == NULL) == (lens[i] == SIZE_MAX));
		cr_assert(entry.data == NULL || entry.len == lens[i]);
	}
	read_job_free(&job);

	fake_engine_damage(2);
	job = batch_job(engine, stream, ids, 8);
	run_to_end(&job);
	cr_assert(job.error != NULL && job.error->code == ERR_CORRUPTION, "a damaged id fails it whole");
	read_job_free(&job);
	fake_engine_free(engine);
}

Test(read_job, get_batch_over_the_limit_and_many_ids)
{
	struct engine *engine = fake_engine_new(&hooks);
	static char big[LIMIT / 2];
	struct stream *stream = fill(engine, "s", 3, big, sizeof(big));
	const uint64_t ids[] = {0, 1, 2};
	struct read_job job = batch_job(engine, stream, ids, 3);
	run_to_end(&job);
	cr_assert(job.error != NULL && job.error->code == ERR_TOO_LARGE && job.error->limit == LIMIT);
	cr_assert(job.error->size > LIMIT);
	read_job_free(&job);

	static uint64_t many[20000];
	for (size_t i = 0; i < 20000; i++)
		many[i] = 1000 + i;
	job = batch_job(engine, stream, many, 20000);
	cr_assert(!read_job_run(&job, true), "not on the loop");
	cr_assert(read_job_run(&job, false));
	struct byte_array entries;
	decode_batch(&job, &entries);
	cr_assert(entries.count == 20000);
	read_job_free(&job);
	fake_engine_free(engine);
}

/* No id is one past the greatest; and the loop thread may stop anywhere before it. */
Test(read_job, get_batch_of_the_greatest_id)
{
	struct engine *engine = fake_engine_new(&hooks);
	struct stream *stream = fill(engine, "s", 1, "a", 1);
	static uint64_t ids[4096];
	for (uint32_t before = 2046; before <= 2049; before++) {
		for (uint32_t i = 0; i < before; i++)
			ids[i] = 1000;
		ids[before] = UINT64_MAX;
		ids[before + 1] = UINT64_MAX;
		ids[before + 2] = 0;
		struct read_job job = batch_job(engine, stream, ids, before + 3);
		struct byte_array entries;
		run_to_end(&job);
		decode_batch(&job, &entries);
		cr_assert(entries.count == before + 3);
		read_job_free(&job);
	}
	fake_engine_free(engine);
}

Test(read_job, ids_without_entries_over_the_limit)
{
	struct engine *engine = fake_engine_new(&hooks);
	struct stream *stream = fill(engine, "s", 1, "a", 1);
	static uint64_t ids[LIMIT + 1];
	struct read_job job = batch_job(engine, stream, ids, LIMIT + 1);
	run_to_end(&job);
	cr_assert(job.error != NULL && job.error->code == ERR_TOO_LARGE && job.error->size > LIMIT);
	cr_assert(job.error->fields == (EF(LIMIT) | EF(SIZE)), "no entry is too large");
	read_job_free(&job);
	fake_engine_free(engine);
}

/* With a slice of no time each run does one step, and the answer is the same. */
Test(read_job, goes_on_slice_by_slice)
{
	struct engine *engine = fake_engine_new(&hooks);
	struct stream *stream = fill(engine, "s", 10, "abc", 3);
	truncate_to(engine, 1);
	const uint64_t ids[] = {3, 4, 5, 0, 99, UINT64_MAX, 9, 1};
	struct read_job job = batch_job(engine, stream, ids, 8);
	struct byte_array entries;
	struct iter_answer answer;
	unsigned runs = 1;
	job.slice_ns = 0;
	while (!read_job_run(&job, false))
		runs++;
	cr_assert(runs == 8, "%u", runs);
	decode_batch(&job, &entries);
	cr_assert(entries.count == 8 && entries.total_bytes == 5 * 3);
	read_job_free(&job);

	job = iter_job(engine, stream, 2);
	job.slice_ns = 0;
	job.max_bytes = 5 * 3;
	for (runs = 1; !read_job_run(&job, false);)
		runs++;
	cr_assert(runs == 5 || runs == 6, "%u", runs);
	decode_iter(&job, &answer);
	cr_assert(answer.first == 2 && answer.next == 7 && answer.end == 10);
	read_job_free(&job);

	job = iter_job(engine, stream, 2);
	job.kind = READ_GET;
	job.id = 5;
	job.slice_ns = 0;
	cr_assert(read_job_run(&job, false) && job.error == NULL);
	read_job_free(&job);
	fake_engine_free(engine);
}

Test(read_job, get)
{
	struct engine *engine = fake_engine_new(&hooks);
	static char big[LIMIT];
	struct stream *stream = fill(engine, "s", 1, big, 200 * 1024);
	fill(engine, "s", 1, big, LIMIT);
	struct read_job job = iter_job(engine, stream, 0);
	job.kind = READ_GET;
	cr_assert(!read_job_run(&job, true), "200 KiB are too much for the loop");
	cr_assert(read_job_run(&job, false));
	cr_assert(job.error == NULL && job.answer.len > 200 * 1024);
	read_job_free(&job);
	job = iter_job(engine, stream, 0);
	job.kind = READ_GET;
	job.id = 1;
	run_to_end(&job);
	cr_assert(job.error != NULL && job.error->code == ERR_TOO_LARGE && job.error->id == 1);
	read_job_free(&job);
	job = iter_job(engine, stream, 0);
	job.kind = READ_GET;
	job.id = 2;
	cr_assert(read_job_run(&job, true) && job.error == NULL && job.answer.len < 64, "nil");
	read_job_free(&job);
	fake_engine_free(engine);
}
