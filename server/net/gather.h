/*
 * gather: for a moment, the requests that have come wait for those that are about to, so that one sync carries them
 * all.
 *
 * While a writer syncs, requests gather by themselves. But when none is at work, the first to come would go alone, and
 * all others wait for its sync. So they are kept until as many have come as were in flight together lately, for no
 * longer than writers took to answer lately, GATHER_NS at most. Where that brings nothing it is not done for a while; a
 * client that is alone waits for nobody, once the others have been gone for some requests.
 *
 * Owns that decision. Loop thread only.
 *
 * Invariant: while gather_keep said that they are kept, the loop does not sleep before it has asked again.
 */
#ifndef IRONWALD_GATHER_H
#define IRONWALD_GATHER_H

#include <stdbool.h>
#include <stdint.h>

#define GATHER_NS UINT64_C(150000)
/* After so many in a row that did not double what was there, so many groups go at once. */
#define GATHER_VAIN_MAX 8u
#define GATHER_REST 64u

struct gather {
	uint64_t in_flight; /* so many were together; goes down slowly */
	uint64_t first;	    /* so many were there when they began to be kept; 0: none are */
	uint64_t gone_ns;   /* when those went whose answer tells how long one takes; 0: none did */
	uint64_t answer_ns; /* how long it took lately */
	unsigned vain, rest;
};

/* Zeros are a good beginning. */

/* Whether the `waiting` requests, the first of which came at since_ns, are to be kept; else they go now. waiting > 0;
 * held: with those that are at the writers. */
bool gather_keep(struct gather *gather, uint64_t waiting, uint64_t held, uint64_t since_ns, uint64_t now_ns);
/* The writers have answered. */
void gather_answered(struct gather *gather, uint64_t now_ns);

#endif
