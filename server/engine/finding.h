/*
 * finding: what a start finds that is not as a clean stop leaves it, one by one, for those who want to tell of it.
 *
 * Owns nothing: what a finding points to is good during the call only. Called by the thread that opens the engine.
 * Invariant: whatever recovery cuts, sets aside, leaves out or goes on behind is told, under either policy, before
 * anything is done about it.
 */
#ifndef IRONWALD_FINDING_H
#define IRONWALD_FINDING_H

#include <stddef.h>
#include <stdint.h>

enum finding_kind {
	FINDING_TORN_TAIL,	    /* it is cut at offset, for bytes */
	FINDING_TORN_TAIL_FRAMES,   /* the same with whole frames behind the break: it is set aside */
	FINDING_UNFINISHED,	    /* a segment whose creation did not come to its end: it is removed */
	FINDING_ROT,		    /* what had been durable is broken at offset: ids [id, next_id) */
	FINDING_MISSING_SEGMENT,    /* the clean-stop record tells of a segment that is not there: ids [id, next_id) */
	FINDING_SHORT_SHARD,	    /* the newest checkpoint tells of ids [id, next_id), and nothing else does */
	FINDING_NAMELESS_DIR,	    /* no header tells whose directory `file` is */
	FINDING_STRANGE_DIR,	    /* directory `file` holds segments of a stream that is not its own */
	FINDING_JOURNAL_TORN,	    /* its last record is not whole */
	FINDING_JOURNAL_ROT,	    /* a record that had been synced is broken at offset */
	FINDING_CLEAN_STOP,	    /* the clean-stop record is damaged */
	FINDING_CHECKPOINT_HEADER,  /* the header of the checkpoint log is damaged */
	FINDING_CHECKPOINT_TORN,    /* the end of the checkpoint log is cut at offset, for bytes */
	FINDING_CHECKPOINT_VOID,    /* a torn record with others behind it is made void */
	FINDING_CHECKPOINT_DAMAGED, /* a checkpoint is lost */
};

struct recovery_finding {
	enum finding_kind kind;
	const char *stream; /* NULL: of no stream */
	size_t stream_len;
	const char *file; /* relative to the data directory; NULL: of no file */
	uint64_t offset, bytes;
	uint64_t id, next_id;	/* next_id: the one that is given next */
	uint64_t frames_behind; /* whole ones behind the break */
};

typedef void (*recovery_found_cb)(const struct recovery_finding *finding, void *arg);

#endif
