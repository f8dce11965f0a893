#include "thread.h"

#include <stddef.h>

void thread_block_stops(sigset_t *ret_before)
{
	sigset_t stops;
	sigemptyset(&stops);
	sigaddset(&stops, SIGTERM);
	sigaddset(&stops, SIGINT);
	sigaddset(&stops, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &stops, ret_before);
}

void thread_restore_signals(const sigset_t *before)
{
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

int thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *), void *arg)
{
	sigset_t before;
	thread_block_stops(&before);
	int result = pthread_create(ret_thread, NULL, run, arg);
	thread_restore_signals(&before);
	if (result == 0)
		pthread_setname_np(*ret_thread, name);
	return result;
}
