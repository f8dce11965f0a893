/*
 * watch_events: what a person, or the system, wants of a program that draws: signals and keys.
 *
 * Owns the signals from watch_events_start to watch_events_end, and a pipe that they write to. One thread.
 * Invariant: the first signal that ends the program is told, the second one gives the terminal back and ends it at
 * once.
 */
#ifndef IRONWAL_WATCH_EVENTS_H
#define IRONWAL_WATCH_EVENTS_H

#include <stdbool.h>

/* draws: also what changes, stops or takes away a terminal. -1, with errno. */
int watch_events_start(bool draws);
void watch_events_end(void);
/* To be watched for reading. */
int watch_events_fd(void);

enum watch_event { EVENT_NONE, EVENT_END, EVENT_SIZE, EVENT_STOP, EVENT_GO_ON };
/* Until it is EVENT_NONE. */
enum watch_event watch_events_next(void);
/* Stops, as ^Z does, until it is told to go on. */
void watch_events_stop(void);

#endif
