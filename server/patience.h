/*
 * patience: asks the supervisor for more time while a start or a stop takes long and gets on.
 *
 * Owns a thread, from patience_begin to patience_end; both are for the main thread. Progress may be told by any thread.
 * Invariant: time is only asked for while some thread gets on or waits for the system (activity.h): what hangs is not
 * held up from being ended.
 */
#ifndef IRONWALD_PATIENCE_H
#define IRONWALD_PATIENCE_H

#include <stdint.h>

/* So much is asked for each time. */
#define PATIENCE_NS UINT64_C(30000000000)

/* what: for the status, as "recovering". Without a supervisor, or without memory for it, nothing is done. */
void patience_begin(const char *what);
/* Shown in the status; total 0: nothing is known of it. */
void patience_progress(uint64_t done, uint64_t total);
void patience_end(void);

#endif
