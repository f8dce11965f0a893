/*
 * recovery_judge: what recovery_tail.c knows of the newest segment's end, and what recovery_aside.c does about it.
 *
 * Owns nothing: the file, the window and the segment are recovery_tail's. The thread that opens the engine calls it.
 * Invariant: no whole frame is destroyed, and a successor is durable before what tells the same next id goes.
 */
#ifndef IRONWALD_RECOVERY_JUDGE_H
#define IRONWALD_RECOVERY_JUDGE_H

#include "scan.h"
#include "writer.h"

#define JUDGE_CHUNK (256u << 10)

struct judge {
	struct engine *engine;
	struct stream *stream;
	struct segment *segment;
	struct io_file *file;
	struct window window;
	uint64_t size;
	struct segment_header header;
	bool header_good, header_may_be_torn;
	bool no_index;				/* there is no file of index points */
	struct index_point at;			/* X: where the next frame would be, its id */
	uint64_t known;				/* durable up to here */
	uint64_t rewrite_from;			/* what is accepted behind it is not known to be durable */
	uint64_t known_next_id;			/* ids below it may have been acknowledged */
	uint64_t behind_frames, behind_next_id; /* whole frames behind X */
	bool rubbish;				/* something that is not zero stands behind X */
	uint64_t behind_bytes;			/* up to the end of that */
	struct error *err;
};

static inline const char *judge_path(const struct judge *judge, char path[SEGMENT_PATH_MAX])
{
	segment_path(judge->segment, path);
	return path;
}

static inline int judge_io_failed(struct judge *judge, int r, const char *what)
{
	char path[SEGMENT_PATH_MAX];
	return error_set_io(judge->err, -r, what, judge_path(judge, path));
}

/* Takes the newest segment off the stream, in memory. */
void judge_pop_segment(struct judge *judge);

/* Renames the file, behind a successor that begins with next_id. Closes it. 0 or -1 with judge->err. */
int judge_set_aside(struct judge *judge, uint64_t next_id, const char *why);
/* Nothing good stands in it but the header, or not even that, and the name has to stay where it is, as it alone tells
 * the next id: so a copy is what is set aside. 1: there is no room for it, and nothing was done. */
int judge_set_copy_aside(struct judge *judge);

#endif
