/*
 * spare: a file of zeros, made and synced beforehand, that becomes the next segment of a stream that fills them fast.
 *
 * In a file that grows, a sync has to make new blocks durable, too, and waits for whoever writes zeros ahead of it; in
 * a spare it writes to blocks that are there, and nobody else is in the file. A writer has one at most, named
 * ironwald.spare-<writer>; it is derived: a start deletes what a crash has left.
 * It is made past the page cache, which the log has better use for: who writes to it writes whole pages, lest they be
 * read first.
 * Owns the file until it is taken. The writer's thread calls it; the file is made by the engine's maker.
 * Invariant: what is taken is zeros from its beginning to its end, durably, but for its name.
 */
#ifndef IRONWALD_SPARE_H
#define IRONWALD_SPARE_H

#include <stdbool.h>
#include <stdint.h>

struct io;
struct spare;
struct writer;

#define SPARE_MIN_BYTES (16u << 10)
#define SPARE_MAX_BYTES (UINT64_C(128) << 20)

bool spare_is_path(const char *name);

/* Has one made, if there is none and none is under way: little by little, so that the log's own syncs have the disk,
 * but until by_ns, of the monotonic clock. Makes none while the disk has not much more room than that. Without memory,
 * or without room, there is none. */
void spare_want(struct writer *writer, uint64_t bytes, uint64_t by_ns);
/* Moves it to path, where nothing is. *ret_bytes: its size. 0; -ENOENT: there is none that is ready; or another
 * negative errno. */
int spare_take(struct writer *writer, const char *path, uint64_t *ret_bytes);
/* Gives its room back: at once if it is ready; true: it is being made, and its room is given back by the maker's next
 * round. Another one is made some seconds later. */
bool spare_drop(struct writer *writer);

#endif
