/*
 * conn_impl: what conn.c, conn_input.c, conn_output.c and conn_group.c share; nobody else includes it.
 *
 * Owns nothing. Loop thread only.
 * Invariant: group->inflight_bytes is the sum of inflight_bytes of all connections, group->receive_bytes the sum of
 * receive_bytes; a connection that is in the group's work list is referenced by it.
 */
#ifndef IRONWALD_CONN_IMPL_H
#define IRONWALD_CONN_IMPL_H

#include <stdatomic.h>

#include "clock.h"
#include "conn.h"

/* Frames up to here go through the group's one read buffer, so that an idle connection holds no memory. */
#define SMALL_FRAME_BYTES ((size_t)64 * 1024)
#define READ_BUFFER_BYTES (2 * SMALL_FRAME_BYTES)

/* A chunk of output that is this full gets no further answer; one that is smaller is copied into it. */
#define OUT_CHUNK_BYTES ((size_t)16 * 1024)

/* Chunks begin with so much room, and are kept for the next answers unless they grew over the bound. */
#define OUT_CHUNK_ROOM ((size_t)1024)
#define SPARE_CHUNK_BYTES ((size_t)4096)
#define SPARE_CHUNKS_MAX 64

/* What one connection may take of one loop turn before the others have theirs. */
#define TURN_NS UINT64_C(1000000)

/* Small frames are handed out one after the other without a look at the clock: so many. */
#define FRAMES_PER_LOOK 16

/* What a connection that may go over the bound of all has to send in which time, while others wait. */
#define GRANT_NS NS_PER_SECOND
#define GRANT_BYTES_MIN ((uint64_t)64 * 1024)

/* How long a connection has to be silent, after the last of the server's, to be closed when the server stops. */
#define QUIET_NS NS_PER_SECOND

/* Ticks are half a second apart at most: when this much is between two, this process did not run. */
#define STANDSTILL_NS NS_PER_SECOND

enum conn_state { CONN_OPEN, CONN_ENDING, CONN_SHUT, CONN_CLOSED };

struct out_chunk {
	struct out_chunk *next;
	struct buf buf;
	size_t sent, charged;
};

struct conn {
	struct conn_group *group;
	struct transport *transport;
	void *user;
	uint32_t refs;
	enum conn_state state;
	_Atomic bool dead;
	bool welcome;
	uint64_t born_ns;
	struct conn *next, *prev; /* of the group */
	struct conn *work_next;
	bool in_work;

	/* input */
	struct buf in;	     /* received and not yet handed out; begins with a frame */
	size_t prefix_bytes; /* of `in`, copied in front of what is being read */
	bool direct;	     /* the read that is under way goes into `in` */
	bool held_back;	     /* `in` may begin with a whole frame */
	bool reading, eof;
	bool starved;	      /* does not receive a large frame, because all together are at their bound */
	size_t frame_bytes;   /* of the frame that `in` begins with; 0: not known */
	size_t receive_bytes; /* what of `in` is counted */
	uint64_t received_ns, received_bytes; /* the last time, and all there ever was */
	uint64_t starved_ns;		      /* since when */
	uint64_t stalled_ns;		      /* how long it could have sent the rest of a frame, and sent nothing */
	uint64_t drained_bytes;

	/* what it has in flight */
	uint32_t requests;
	uint64_t inflight_bytes;
	uint64_t active_ns;

	/* output */
	struct out_chunk *out_head, *out_tail; /* to be sent */
	struct out_chunk *writing;	       /* the transport has them */
	size_t unsent_bytes;		       /* when last looked at */
	uint64_t progress_ns;
	struct buf last_answer; /* sent when nothing else is owed */
	bool shutdown_done;
	uint64_t drain_deadline_ns;
};

struct conn_group {
	struct conn_limits limits;
	const struct conn_events *events;
	void *arg;
	struct conn *all;
	struct conn *work_head, *work_tail;
	struct conn *granted; /* may receive although all are at their bound; not referenced */
	uint64_t granted_until_ns, granted_bytes;
	uint32_t starved_count;
	bool stopping;
	uint64_t grace_ns, deadline_ns, tick_ns;
	uint64_t inflight_bytes, receive_bytes;
	uint64_t now_ns; /* the clock as it was read last */
	struct blocks blocks;
	struct out_chunk *spare_chunks; /* empty, with room in them */
	unsigned spare_chunk_count;	/* at most SPARE_CHUNKS_MAX */
	uint64_t connections, bytes_in, bytes_out, protocol_errors, timeouts;
	uint8_t read_buffer[READ_BUFFER_BYTES];
};

/* conn.c */
void conn_ref(struct conn *conn);
void conn_unref(struct conn *conn);
void conn_mark(struct conn *conn); /* to be serviced in this turn */
void conn_service(struct conn *conn);
void conn_end_input(struct conn *conn); /* open -> ending */

/* conn_input.c */
void conn_alloc_cb(uint8_t **ret_base, size_t *ret_len, void *arg);
void conn_read_cb(ssize_t count, void *arg);
void conn_parse_held(struct conn *conn);
void conn_update_reading(struct conn *conn);
void conn_drop_input(struct conn *conn);

/* conn_output.c */
void conn_written_cb(int status, void *arg);
void conn_flush(struct conn *conn);
bool conn_output_empty(const struct conn *conn);
void conn_drop_output(struct conn *conn);
void conn_free_spare_chunks(struct conn_group *group);

static inline bool conn_group_full(const struct conn_group *group)
{
	return group->inflight_bytes + group->receive_bytes >= group->limits.max_inflight_bytes_total;
}

#endif
