/*
 * thread: threads that leave the stop signals to the main one.
 *
 * Owns nothing; any thread may call it. Invariant: SIGTERM, SIGINT and SIGHUP are blocked in a thread from its start
 * on, so that they are delivered to the main thread alone, which can hold them back while their dispositions change
 * hands.
 */
#ifndef IRONWALD_THREAD_H
#define IRONWALD_THREAD_H

#include <pthread.h>
#include <signal.h>

/* name: at most 15 bytes. 0, or an errno value. */
int thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *), void *arg);

/* For threads that a library starts: what is started in between inherits it. */
void thread_block_stops(sigset_t *ret_before);
void thread_restore_signals(const sigset_t *before);

#endif
