#include "read_job.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "message.h"

/* What the loop thread does for one request at most. */
#define LOOP_BYTES_MAX ((uint64_t)128 * 1024)
#define LOOP_ENTRIES_MAX 2048
#define LOOP_READS_MAX 32

/* What follows the entries in an answer of iter: two keys with numbers. */
#define ITER_TAIL_BYTES 32

static const struct error no_memory = {
	.code = ERR_BUSY, .message = "no memory for the answer: ask for less at once, or later"};

/* The error that every job can fail with, also without memory, is static. */
static void set_error(struct read_job *job, const struct error *err)
{
	job->error = malloc(sizeof(*job->error));
	if (job->error != NULL)
		memcpy(job->error, err, sizeof(*err));
	else
		job->error = (struct error *)&no_memory;
	buf_free(&job->answer);
}

void read_job_free(struct read_job *job)
{
	if (job->error != &no_memory)
		free(job->error);
	job->error = NULL;
	buf_free(&job->answer);
	buf_free(&job->ids_bytes);
}

static void set_too_large(struct read_job *job, uint64_t size, uint64_t id, bool with_first_id)
{
	struct error err;
	error_set(&err, ERR_TOO_LARGE,
		"the answer with entry %" PRIu64 " would be %" PRIu64 " bytes, over max_message_bytes (%" PRIu64 ")",
		id, size, job->max_message_bytes);
	error_set_u64(&err, EFI_LIMIT, job->max_message_bytes);
	error_set_u64(&err, EFI_SIZE, size);
	error_set_u64(&err, EFI_ID, id);
	if (with_first_id)
		error_set_u64(&err, EFI_FIRST_ID, id + 1);
	set_error(job, &err);
}

static bool finish(struct read_job *job)
{
	if (job->error == NULL && frame_end(&job->writer) != 0)
		set_error(job, &no_memory);
	return true;
}

/* True: this run has done its share, for the sake of others. Elsewhere than on the loop each run does something. */
static bool must_yield(struct read_job *job, size_t len)
{
	if (!job->on_loop) {
		if (job->slice_entries++ == 0 || clock_now_ns() < job->slice_end_ns)
			return false;
		job->yielded = true;
		return true;
	}
	if (job->loop_entries >= LOOP_ENTRIES_MAX || job->loop_bytes + len > LOOP_BYTES_MAX)
		return true;
	job->loop_entries++;
	job->loop_bytes += len;
	return false;
}

static void begin(struct read_job *job, size_t field_count)
{
	job->begun = true;
	mp_writer_init(&job->writer, &job->answer);
	response_begin(&job->writer, job->msgid, field_count);
}

/* ---- get -------------------------------------------------------------------------------------------------------- */

static int get_entry_cb(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	struct read_job *job = arg;
	if (must_yield(job, len))
		return 1;
	uint64_t size = frame_bytes(&job->writer) + mp_bin_bytes(len);
	if (size > job->max_message_bytes) {
		set_too_large(job, size, id, false);
		return 1;
	}
	mp_write_bin(&job->writer, bytes, len);
	job->enough = true;
	return 0;
}

static bool run_get(struct read_job *job)
{
	if (!job->begun) {
		begin(job, 1);
		mp_write_key(&job->writer, KEY_ENTRY);
	}
	if (job->id >= job->view.first && job->id < job->view.end) {
		uint64_t next;
		struct error err;
		enum read_result result = engine_read(job->engine, job->stream, job->view, job->id, job->id + 1,
			job->on_loop, get_entry_cb, job, &next, &err);
		if (job->error != NULL || job->enough)
			return finish(job);
		if (result == READ_ERROR && err.code != ERR_TRUNCATED) {
			set_error(job, &err);
			return true;
		}
		if (result != READ_ERROR && job->on_loop)
			return false; /* would wait, or is much */
	}
	mp_write_nil(&job->writer);
	return finish(job);
}

/* ---- get_batch -------------------------------------------------------------------------------------------------- */

static int batch_entry_cb(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	struct read_job *job = arg;
	if (must_yield(job, len) || (job->cancelled != NULL && job->cancelled(job->cancelled_arg)))
		return 1;
	/* Each of those that follow takes a byte at least. */
	uint64_t size = frame_bytes(&job->writer) + mp_bin_bytes(len) + (job->ids.count - job->entry_count - 1);
	if (size > job->max_message_bytes) {
		set_too_large(job, size, id, false);
		return 1;
	}
	mp_write_bin(&job->writer, bytes, len);
	job->entry_count++;
	return 0;
}

/* Takes the next ids that follow each other, as one read. False: no more ids. */
static bool next_run(struct read_job *job)
{
	uint64_t id;
	if (job->run_left > 0)
		return true;
	if (!u64_iter_next(&job->ids_iter, &id))
		return false;
	job->run_next = id;
	job->run_left = 1; /* a count, as one past the greatest id is no id */
	if (id < job->view.first || id >= job->view.end)
		return true;
	struct u64_iter ahead = job->ids_iter;
	while (u64_iter_next(&ahead, &id) && id < job->view.end && id == job->run_next + job->run_left) {
		job->run_left++;
		job->ids_iter = ahead;
	}
	return true;
}

/* Already without any entry: no id is to blame. */
static void set_too_many_ids(struct read_job *job, uint64_t size)
{
	struct error err;
	error_set(&err, ERR_TOO_LARGE,
		"the answer for %" PRIu32 " ids would be %" PRIu64 " bytes or more, over max_message_bytes (%" PRIu64
		"): ask for fewer at once",
		job->ids.count, size, job->max_message_bytes);
	error_set_u64(&err, EFI_LIMIT, job->max_message_bytes);
	error_set_u64(&err, EFI_SIZE, size);
	set_error(job, &err);
}

static bool run_get_batch(struct read_job *job)
{
	if (!job->begun) {
		begin(job, 1);
		mp_write_key(&job->writer, KEY_ENTRIES);
		mp_write_array(&job->writer, job->ids.count);
		job->ids_iter = u64_iter_of(&job->ids);
		if (frame_bytes(&job->writer) + job->ids.count > job->max_message_bytes) {
			set_too_many_ids(job, frame_bytes(&job->writer) + job->ids.count);
			return true;
		}
	}
	while (next_run(job)) {
		if (job->cancelled != NULL && job->cancelled(job->cancelled_arg)) {
			set_error(job, &no_memory); /* nobody sees it */
			return true;
		}
		if (job->run_next < job->view.first || job->run_next >= job->view.end) {
			if (must_yield(job, 1))
				return false;
			mp_write_nil(&job->writer);
			job->entry_count++;
			job->run_next++;
			job->run_left--;
			continue;
		}
		if (job->on_loop && job->loop_reads++ >= LOOP_READS_MAX)
			return false;
		uint64_t next = job->run_next;
		struct error err;
		enum read_result result = engine_read(job->engine, job->stream, job->view, job->run_next,
			job->run_next + job->run_left, job->on_loop, batch_entry_cb, job, &next, &err);
		if (job->error != NULL)
			return true;
		job->run_left -= next - job->run_next;
		job->run_next = next;
		if (result == READ_ERROR && err.code == ERR_TRUNCATED) {
			/* Truncated since the view was taken: what is below is nil from now on. */
			job->view.first = err.first_id > next ? err.first_id : next + 1;
		} else if (result == READ_ERROR) {
			set_error(job, &err);
			return true;
		} else if (job->run_left > 0 && (job->on_loop || job->yielded)) {
			return false;
		}
	}
	return finish(job);
}

/* ---- iter ------------------------------------------------------------------------------------------------------- */

static int iter_entry_cb(uint64_t id, const uint8_t *bytes, size_t len, void *arg)
{
	struct read_job *job = arg;
	bool cancelled = job->cancelled != NULL && job->cancelled(job->cancelled_arg);
	/* The first one may be over max_bytes; then nothing follows it, not even an empty entry. */
	bool over = job->entry_bytes > job->max_bytes || len > job->max_bytes - job->entry_bytes;
	if (cancelled || (job->entry_count > 0 && over)) {
		job->enough = true;
		return 1;
	}
	uint64_t size = frame_bytes(&job->writer) + mp_bin_bytes(len) + ITER_TAIL_BYTES;
	if (size > job->max_message_bytes) {
		job->enough = true;
		if (job->entry_count == 0)
			set_too_large(job, size, id, true);
		return 1;
	}
	if (must_yield(job, len))
		return 1;
	mp_write_bin(&job->writer, bytes, len);
	job->entry_count++;
	job->entry_bytes += len;
	if (job->writer.failed)
		job->enough = true;
	return 0;
}

static bool finish_iter(struct read_job *job)
{
	if (job->error != NULL)
		return true;
	if (!job->writer.failed) {
		mp_fill_u64(&job->writer, job->first_hole, job->start);
		mp_fill_array(&job->writer, job->entries_hole, (uint32_t)job->entry_count);
	}
	mp_write_key(&job->writer, KEY_NEXT);
	mp_write_u64(&job->writer, job->next);
	mp_write_key(&job->writer, KEY_END);
	mp_write_u64(&job->writer, job->view.end);
	return finish(job);
}

static uint64_t iter_end(const struct read_job *job)
{
	uint64_t left = job->max_entries - job->entry_count;
	uint64_t known = job->view.end - job->next;
	return left < known ? job->next + left : job->view.end;
}

static bool run_iter(struct read_job *job)
{
	if (!job->begun) {
		begin(job, 4);
		mp_write_key(&job->writer, KEY_FIRST);
		job->first_hole = mp_hole_u64(&job->writer);
		mp_write_key(&job->writer, KEY_ENTRIES);
		job->entries_hole = mp_hole_array(&job->writer);
		job->next = job->start;
		if (job->max_entries == 0)
			job->max_entries = 1;
		if (job->max_entries > ARRAY_ELEMENTS_MAX)
			job->max_entries = ARRAY_ELEMENTS_MAX;
	}
	while (!job->enough && job->next < job->view.end && job->entry_count < job->max_entries) {
		struct error err;
		uint64_t end = iter_end(job);
		uint64_t next = job->next;
		enum read_result result = engine_read(job->engine, job->stream, job->view, job->next, end, job->on_loop,
			iter_entry_cb, job, &next, &err);
		job->next = next;
		if (job->error != NULL)
			return true;
		if (result == READ_ERROR && job->entry_count > 0)
			break; /* the answer ends before it; the next request meets it */
		if (result == READ_ERROR && err.code == ERR_TRUNCATED && !job->has_start && err.first_id > job->start) {
			job->start = job->next = err.first_id;
			continue;
		}
		if (result == READ_ERROR) {
			set_error(job, &err);
			return true;
		}
		if ((job->on_loop || job->yielded) && !job->enough && job->next < end)
			return false;
	}
	return finish_iter(job);
}

bool read_job_run(struct read_job *job, bool on_loop)
{
	job->on_loop = on_loop;
	if (!on_loop) {
		job->yielded = false;
		job->slice_entries = 0;
		job->slice_end_ns = clock_now_ns() + job->slice_ns;
	}
	switch (job->kind) {
	case READ_GET:
		return run_get(job);
	case READ_GET_BATCH:
		return run_get_batch(job);
	case READ_ITER:
		return run_iter(job);
	}
	return true;
}
