#include "guarded_copy.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

struct copy_guard {
	sigjmp_buf out;
	const unsigned char *from, *end;
};

static _Thread_local struct copy_guard *volatile active_guard;
static _Thread_local bool is_unblocked;
static pthread_once_t install_once = PTHREAD_ONCE_INIT;
static struct sigaction former;
static int install_errno;
static size_t page_bytes;

static void on_bus_error(int signo, siginfo_t *info, void *context)
{
	struct copy_guard *guard = active_guard;
	const unsigned char *at = info->si_addr;

	/* si_code > 0: the kernel says so, not somebody's kill(). */
	if (guard && info->si_code > 0 && at >= guard->from && at < guard->end) {
		active_guard = NULL;
		siglongjmp(guard->out, 1);
	}
	if (former.sa_flags & SA_SIGINFO) {
		former.sa_sigaction(signo, info, context);
	} else if (former.sa_handler == SIG_DFL || former.sa_handler == SIG_IGN) {
		if (info->si_code <= 0 && former.sa_handler == SIG_IGN)
			return;
		/* A fault comes again when we return, and then ends the process as it would have without us; a signal
		 * that was sent does not, so it is sent again. */
		signal(SIGBUS, SIG_DFL);
		if (info->si_code <= 0)
			raise(SIGBUS);
	} else {
		former.sa_handler(signo);
	}
}

static void install(void)
{
	/* SA_NODEFER: the signal is not blocked inside the handler, so leaving by siglongjmp needs no mask restored,
	 * and a copy costs no system call. */
	struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};

	page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGBUS, NULL, &former) != 0 || sigaction(SIGBUS, &action, NULL) != 0)
		install_errno = errno;
}

/* Apart from its caller, so that no local of the caller's lives across the jump. */
static __attribute__((noinline)) int copy(void *buf, const unsigned char *from, size_t len)
{
	/* Whole pages: of a bad sector the kernel may name just the page. */
	struct copy_guard guard = {.from = from - (uintptr_t)from % page_bytes, .end = from + len};

	if (sigsetjmp(guard.out, 0) != 0)
		return -EIO;
	/* The fences keep the compiler from moving the copy out of the guarded part. */
	active_guard = &guard;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	memcpy(buf, from, len);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	active_guard = NULL;
	return 0;
}

int guarded_copy(void *buf, const unsigned char *from, size_t len)
{
	pthread_once(&install_once, install);
	if (install_errno)
		return -install_errno;
	if (!is_unblocked) {
		sigset_t bus;

		sigemptyset(&bus);
		sigaddset(&bus, SIGBUS);
		if (pthread_sigmask(SIG_UNBLOCK, &bus, NULL) != 0)
			return -EIO;
		is_unblocked = true;
	}
	return copy(buf, from, len);
}
