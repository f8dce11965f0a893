#include "tries.h"

#include <stdlib.h>
#include <string.h>

#define DIGESTS_KEPT 4

/* A bucket that fills again with time. */
struct entry {
	struct transport_peer_key key;
	uint64_t full_ns; /* when all of it is forgotten */
	uint64_t digests[DIGESTS_KEPT];
	unsigned next_digest;
};

struct tries {
	size_t count;
	struct entry entries[TRIES_PEERS_MAX]; /* in no order */
};

struct tries *tries_new(void)
{
	return calloc(1, sizeof(struct tries));
}

void tries_free(struct tries *tries)
{
	free(tries);
}

/* NULL: it has none. Forgets what is over on the way. */
static struct entry *find(struct tries *tries, const struct transport_peer_key *key, uint64_t now_ns)
{
	struct entry *found = NULL;
	for (size_t i = 0; i < tries->count;) {
		struct entry *entry = &tries->entries[i];
		if (entry->full_ns <= now_ns) {
			*entry = tries->entries[--tries->count];
			continue;
		}
		if (memcmp(&entry->key, key, sizeof(*key)) == 0)
			found = entry;
		i++;
	}
	return found;
}

uint64_t tries_wait_s(struct tries *tries, const struct transport_peer *peer, uint64_t now_ns)
{
	const struct entry *entry = find(tries, &peer->key, now_ns);
	if (entry == NULL || entry->full_ns <= now_ns)
		return 0;
	const uint64_t allowed_ns = (TRIES_BURST - 1) * TRIES_INTERVAL_NS, left_ns = entry->full_ns - now_ns;
	return left_ns <= allowed_ns ? 0 : (left_ns - allowed_ns - 1) / NS_PER_SECOND + 1;
}

/* Who has many addresses has many tries; to hold up all others together would let him keep everybody out. */
static struct entry *soonest_forgotten(struct tries *tries)
{
	struct entry *soonest = &tries->entries[0];
	for (size_t i = 1; i < tries->count; i++) {
		if (tries->entries[i].full_ns < soonest->full_ns)
			soonest = &tries->entries[i];
	}
	return soonest;
}

static bool is_known(const struct entry *entry, uint64_t digest)
{
	for (size_t i = 0; i < DIGESTS_KEPT; i++) {
		if (entry->digests[i] == digest)
			return true;
	}
	return false;
}

void tries_wrong(struct tries *tries, const struct transport_peer *peer, const uint8_t *digest, uint64_t now_ns)
{
	uint64_t short_digest;
	struct entry *entry = find(tries, &peer->key, now_ns);
	memcpy(&short_digest, digest, sizeof(short_digest));
	if (entry == NULL) {
		entry = tries->count < TRIES_PEERS_MAX ? &tries->entries[tries->count++] : soonest_forgotten(tries);
		*entry = (struct entry){.key = peer->key};
	}
	if (entry->full_ns > now_ns && is_known(entry, short_digest))
		return;
	entry->digests[entry->next_digest] = short_digest;
	entry->next_digest = (entry->next_digest + 1) % DIGESTS_KEPT;
	entry->full_ns = (entry->full_ns > now_ns ? entry->full_ns : now_ns) + TRIES_INTERVAL_NS;
}
