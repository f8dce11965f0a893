/*
 * client_answer: what is kept of a response when its frame's bytes go.
 *
 * Owns nothing; used by client_core, in the thread that uses the connection.
 * Invariant: what was kept points into its own payload only.
 */
#ifndef IRONWAL_CLIENT_ANSWER_H
#define IRONWAL_CLIENT_ANSWER_H

#include "client_slots.h"

/* A copy of the payload, a block, with the spans pointing there. -1: no memory, and the answer is as it was. */
int answer_keep(
	struct core_answer *answer, const struct mem *mem, struct span payload, const struct response *response);

/* The result of append or append_batch. -1: it lacks a field. */
int answer_read_append(
	enum method method, const struct fields *fields, ironwal_append_result *ret_result, struct error *err);

#endif
