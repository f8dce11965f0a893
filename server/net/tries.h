/*
 * tries: a bound on how often somebody may be wrong about a token.
 *
 * Owns a table of a fixed size. Loop thread only.
 * Invariant: of one peer (an IPv4 address, an IPv6 network of 64 bits, a user of this machine) at most TRIES_BURST
 * different wrong tokens are looked at at once, and one more each TRIES_INTERVAL_NS, as long as it has a place: where
 * more than TRIES_PEERS_MAX are wrong at a time, who would be forgotten soonest makes way. Nobody waits for what others
 * did.
 *
 * The same wrong token again does not count: a program that was left with an old one finds out nothing, and must not
 * keep others on its machine from coming in.
 */
#ifndef IRONWALD_TRIES_H
#define IRONWALD_TRIES_H

#include <stdbool.h>
#include <stdint.h>

#include "clock.h"
#include "transport.h"

#define TRIES_BURST 10
#define TRIES_INTERVAL_NS NS_PER_SECOND
#define TRIES_PEERS_MAX 1024

struct tries;

/* NULL: out of memory. */
struct tries *tries_new(void);
/* NULL is legal. */
void tries_free(struct tries *tries);

/* 0: what it shows may be looked at; else how many seconds there are until then. */
uint64_t tries_wait_s(struct tries *tries, const struct transport_peer *peer, uint64_t now_ns);
/* It was wrong, with a token of this digest (of which the first 8 bytes count). */
void tries_wrong(struct tries *tries, const struct transport_peer *peer, const uint8_t *digest, uint64_t now_ns);

#endif
