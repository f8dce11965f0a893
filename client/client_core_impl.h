/*
 * client_core_impl: what the two parts of the core share: client_core.c, requests and their ends; client_core_io.c,
 * bytes and what they say. Not for others; the rules are those of client_core.h.
 */
#ifndef IRONWAL_CLIENT_CORE_IMPL_H
#define IRONWAL_CLIENT_CORE_IMPL_H

#include "client_core.h"

struct core {
	struct transport *transport; /* NULL: not attached yet, or lost */
	bool lost;
	const char *address; /* the connection's */
	struct core_limits limits;
	struct ironwal_error failure; /* why it was lost */
	bool write_failed;	      /* no more writing; answers may still be on their way */
	int write_errno;

	struct buf out;
	size_t out_at; /* consumed by the kernel */
	uint64_t sent, queued;
	struct buf in;

	struct slots slots;
	uint32_t open_slot; /* between begin and commit */
	struct mp_writer writer;
};

/* ---- client_core.c ---- */

/* Ends the connection; core->failure says why. */
void core_fail(struct core *core);
void core_fail_lost(struct core *core, int os_errno);
/* A read failed; the transport may know more than its errno. */
void core_fail_transport(struct core *core, int os_errno);
void core_fail_protocol(struct core *core, const char *why);
void core_fail_no_memory(struct core *core);

/* ---- client_core_io.c ---- */

/* There is room for answers that nobody waits for. */
bool core_is_reading(const struct core *core);
/* One read, and all that came whole by it. False: there was nothing. */
bool core_read(struct core *core);
/* Bytes that are queued and can be sent. */
size_t core_to_write(const struct core *core);
/* What goes without waiting. */
void core_write(struct core *core);

#endif
