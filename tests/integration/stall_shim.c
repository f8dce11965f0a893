/*
 * stall_shim: a system that hangs, for one process: LD_PRELOAD it, and make files in the directory that STALL_SHIM
 * names. While one of them is there, this does not come back:
 *
 *   sync     a sync of a file, a directory or the file system (a disk that does not answer)
 *   loop     the event loop's wait (the thread that serves hangs)
 *   writer   a look at the clock by a thread "writer-..." (it hangs outside of any call that waits)
 *   main     a look at the clock by the main thread (the same)
 *   opens    each opening of a file takes 20 ms (a slow disk, which gets on)
 *
 * and with these, something else is not as it should be:
 *
 *   eio      a sync of a file fails (a disk that is broken)
 *   narrow   a connection that is accepted takes little of what is sent at once (a network that is slow)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char *directory;

__attribute__((constructor)) static void find_directory(void)
{
	directory = getenv("STALL_SHIM");
}

static bool is_asked_for(const char *name)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/%s", directory != NULL ? directory : "/nonexistent", name);
	return access(path, F_OK) == 0;
}

static void pause_ms(long ms)
{
	const struct timespec time = {.tv_nsec = ms * 1000000};
	nanosleep(&time, NULL);
}

static void stall_while(const char *name)
{
	while (is_asked_for(name))
		pause_ms(2);
}

int fdatasync(int fd)
{
	stall_while("sync");
	if (is_asked_for("eio")) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
	stall_while("sync");
	return (int)syscall(SYS_fsync, fd);
}

int syncfs(int fd)
{
	stall_while("sync");
	return (int)syscall(SYS_syncfs, fd);
}

int openat(int dir, const char *path, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
	va_end(args);
	if (is_asked_for("opens"))
		pause_ms(20);
	return (int)syscall(SYS_openat, dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...) __attribute__((alias("openat")));

int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
	const int bytes = 4096;
	int accepted = (int)syscall(SYS_accept4, fd, address, len, flags);
	if (accepted >= 0 && is_asked_for("narrow"))
		setsockopt(accepted, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	return accepted;
}

/* libuv waits by one or the other. */
int epoll_pwait(int epoll, struct epoll_event *events, int count, int timeout, const sigset_t *mask)
{
	stall_while("loop");
	return (int)syscall(SYS_epoll_pwait, epoll, events, count, timeout, mask, 8L);
}

int epoll_wait(int epoll, struct epoll_event *events, int count, int timeout)
{
	return epoll_pwait(epoll, events, count, timeout, NULL);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
	char name[16] = "";
	if (directory != NULL && gettid() == getpid())
		stall_while("main");
	else if (directory != NULL && prctl(PR_GET_NAME, name) == 0 && strncmp(name, "writer-", 7) == 0)
		stall_while("writer");
	return (int)syscall(SYS_clock_gettime, clock, time);
}
