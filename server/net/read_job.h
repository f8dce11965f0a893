/*
 * read_job: the work of one get, get_batch or iter: entries read and encoded straight into the answer.
 *
 * Owns its answer buffer and its ids. Used by one thread at a time: first the loop thread (which never waits for a
 * disk), then, if that does not suffice, threads of libuv's pool go on where it stopped, each for a slice of time.
 * Invariant: the answer holds a frame that is open, and is never over max_message_bytes.
 */
#ifndef IRONWALD_READ_JOB_H
#define IRONWALD_READ_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "engine.h"
#include "error.h"
#include "fields.h"
#include "mp_write.h"

enum read_kind { READ_GET, READ_GET_BATCH, READ_ITER };

struct read_job {
	/* in */
	enum read_kind kind;
	struct engine *engine;
	struct stream *stream;
	struct stream_view view; /* as it was when the job was made, or woken */
	uint32_t msgid;
	uint64_t max_message_bytes;
	uint64_t id;		      /* get */
	struct u64_array ids;	      /* get_batch: in ids_bytes */
	struct buf ids_bytes;	      /* freed by read_job_free */
	bool has_start;		      /* iter */
	uint64_t start;		      /* iter: given, or the oldest kept */
	uint64_t max_entries;	      /* iter: at least 1 */
	uint64_t max_bytes;	      /* iter: of entries */
	uint64_t slice_ns;	      /* how long a run elsewhere than on the loop takes, and one entry */
	bool (*cancelled)(void *arg); /* [any] nobody wants the answer any more */
	void *cancelled_arg;

	/* out */
	struct buf answer;   /* the whole frame; empty if there is an error */
	struct error *error; /* NULL: it went well */

	/* its own */
	struct mp_writer writer;
	bool begun, enough, on_loop, yielded;
	size_t first_hole, entries_hole;
	uint64_t next; /* id to go on at */
	uint64_t entry_count, entry_bytes;
	struct u64_iter ids_iter;
	uint64_t run_next, run_left; /* get_batch: so many ids in a row from run_next are to be read */
	uint64_t loop_entries, loop_bytes, loop_reads;
	uint64_t slice_end_ns, slice_entries;
};

/* True: it is done, see answer and error. False: call it again elsewhere, as on the loop it would have to wait, or is
 * too much for it; or, not on_loop, once others had their turn. */
bool read_job_run(struct read_job *job, bool on_loop);

void read_job_free(struct read_job *job);

#endif
