/*
 * response_calls: one request of every method, submitted or waited for, and all that can be asked about its result.
 *
 * Owns nothing; one thread. Invariant: a result that comes is one of what was submitted, and comes once.
 */
#ifndef IRONWALD_FUZZ_RESPONSE_CALLS_H
#define IRONWALD_FUZZ_RESPONSE_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client_connection.h"

#define CALLS_MAX 32

struct calls {
	uint32_t ids[CALLS_MAX]; /* 0: not submitted, or its result was taken */
	uint64_t hash;		 /* of all results, in their order */
	const uint8_t *bytes;	 /* what the server sends: no request succeeds that is not answered there */
	size_t len;
};

size_t calls_count(void);
/* What the result of that one is made of, for frames_write_map. */
const char *calls_result(size_t which);
/* The msgid of that one, if all are submitted right after hello. */
uint32_t calls_msgid(size_t which);

/* which: a bit each; 0: all. */
void calls_submit(struct calls *calls, ironwal *connection, uint32_t which);
/* One after the other, waiting; an iterator to its end. */
void calls_block(struct calls *calls, ironwal *connection, uint32_t which);
void calls_take(struct calls *calls, ironwal *connection, ironwal_result *result);
/* Nothing is missing. */
void calls_check(const struct calls *calls);

#endif
