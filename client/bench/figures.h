/*
 * figures: what is counted of one operation, and what is said of answers that are errors.
 *
 * Owns nothing but itself, plain memory of the caller's. The thread that runs the load changes both; struct figures may
 * be read by others meanwhile (counter.h), complaints may not.
 * Invariant: answers are good ones, with an entry in the histogram each; errors are not among them.
 */
#ifndef IRONWAL_BENCH_FIGURES_H
#define IRONWAL_BENCH_FIGURES_H

#include <stddef.h>
#include <stdint.h>

#include "histogram.h"

#define COMPLAINT_KINDS 24
#define COMPLAINT_CODE_BYTES 40
#define COMPLAINT_BYTES 320
#define COMPLAINTS_SHOWN 5

struct figures {
	uint64_t answers, errors;
	uint64_t entries, bytes; /* in the answers, or acknowledged by them; bytes of entries alone */
	struct histogram latency_ns;
};

/* Adds what another thread may still be counting to figures that are the caller's alone. */
void figures_merge(struct figures *sum, const struct figures *other);

struct complaint_kind {
	char code[COMPLAINT_CODE_BYTES]; /* of the protocol, or one of the two below */
	uint64_t count;
};

/* Codes of this side: the answer does not fit the request; the entry is not what was written. */
#define COMPLAINT_WRONG_ANSWER "WrongAnswer"
#define COMPLAINT_WRONG_CONTENT "WrongContent"

struct complaints {
	uint64_t count;
	struct complaint_kind kinds[COMPLAINT_KINDS]; /* the last one takes what finds no place */
	size_t kinds_count;
	char shown[COMPLAINTS_SHOWN][COMPLAINT_BYTES]; /* the first ones */
	size_t shown_count;
};

void complain(struct complaints *complaints, const char *code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void complaints_merge(struct complaints *sum, const struct complaints *other);
uint64_t complaints_of(const struct complaints *complaints, const char *code);

/* Why a load could not go on. */
enum fault_kind {
	FAULT_NONE,
	FAULT_HERE,    /* memory, a descriptor */
	FAULT_USAGE,   /* the address is none */
	FAULT_CONNECT, /* no connection, or it was refused */
	FAULT_LOST,    /* a connection ended, brought what is no answer, or nothing in time */
};

struct fault {
	enum fault_kind kind;
	char text[640];
};

/* The first one is kept. Returns -1. */
int fault_set(struct fault *fault, enum fault_kind kind, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
