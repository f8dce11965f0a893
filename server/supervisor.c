#include "supervisor.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

#define NS_PER_US UINT64_C(1000)

#ifdef IRONWALD_SYSTEMD
#include <string.h>
#include <systemd/sd-daemon.h>

int supervisor_take_sockets(int *ret_first, struct error *err)
{
	int count = sd_listen_fds(1);

	if (count < 0)
		return error_set(err, ERR_CONFIG, "cannot take the sockets of the supervisor (LISTEN_FDS): %s",
			strerror(-count));
	*ret_first = SD_LISTEN_FDS_START;
	return count;
}

bool supervisor_listens(void)
{
	return getenv("NOTIFY_SOCKET") != NULL;
}

uint64_t supervisor_watchdog_ns(void)
{
	uint64_t us;

	return sd_watchdog_enabled(0, &us) > 0 ? us * NS_PER_US : 0;
}

void supervisor_alive(void)
{
	if (supervisor_watchdog_ns() != 0)
		sd_notify(0, "WATCHDOG=1");
}

void supervisor_status(const char *status)
{
	sd_notifyf(0, "STATUS=%s", status);
}

void supervisor_ready(const char *status)
{
	sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void supervisor_reloading(const char *status)
{
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=%s", clock_now_ns() / NS_PER_US, status);
}

void supervisor_stopping(const char *status)
{
	sd_notifyf(0, "STOPPING=1\nSTATUS=%s", status);
}

void supervisor_extend(uint64_t ns, const char *status)
{
	sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64 "\nSTATUS=%s", ns / NS_PER_US, status);
}

#else

/* Sockets that nobody serves would let clients wait for ever, so this is refused. */
int supervisor_take_sockets(int *ret_first, struct error *err)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");

	if (pid != NULL && fds != NULL && atol(pid) == (long)getpid() && atol(fds) > 0)
		return error_set(err, ERR_CONFIG,
			"systemd hands over sockets (LISTEN_FDS), and this ironwald was built without libsystemd: "
			"build it with "
			"-Dsystemd=enabled, or start the service without its socket unit");
	if (getenv("NOTIFY_SOCKET") != NULL)
		log_warn("main", "a supervisor waits to be told that this serves (NOTIFY_SOCKET), and this ironwald "
				 "was built without "
				 "libsystemd: build it with -Dsystemd=enabled, or use Type=exec");
	*ret_first = -1;
	return 0;
}

bool supervisor_listens(void)
{
	return false;
}

uint64_t supervisor_watchdog_ns(void)
{
	return 0;
}

void supervisor_alive(void)
{
}

void supervisor_status(const char *status)
{
	(void)status;
}

void supervisor_ready(const char *status)
{
	(void)status;
}

void supervisor_reloading(const char *status)
{
	(void)status;
}

void supervisor_stopping(const char *status)
{
	(void)status;
}

void supervisor_extend(uint64_t ns, const char *status)
{
	(void)ns;
	(void)status;
}

#endif
