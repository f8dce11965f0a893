/* supervisor, as it is built without libsystemd: it takes no sockets, and says so; the rest does nothing. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "supervisor.h"

static void clean(void)
{
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("NOTIFY_SOCKET");
}

TestSuite(supervisor_off, .init = clean, .timeout = 30);

static void hand_over(long pid)
{
	char text[32];
	snprintf(text, sizeof(text), "%ld", pid);
	setenv("LISTEN_PID", text, 1);
	setenv("LISTEN_FDS", "2", 1);
}

Test(supervisor_off, sockets_are_refused)
{
	struct error err = {0};
	int first;
	cr_assert(supervisor_take_sockets(&first, &err) == 0, "none");
	hand_over((long)getpid() + 1);
	cr_assert(supervisor_take_sockets(&first, &err) == 0, "another process's");
	hand_over(getpid());
	cr_assert(supervisor_take_sockets(&first, &err) == -1 && err.code == ERR_CONFIG, "ours");
	cr_assert(strstr(err.message, "built without libsystemd") != NULL, "%s", err.message);
	setenv("LISTEN_FDS", "0", 1);
	cr_assert(supervisor_take_sockets(&first, &err) == 0, "ours, but none");
}

Test(supervisor_off, who_waits_for_it_is_told_in_the_log)
{
	struct error err;
	char text[1000];
	int fds[2], first;
	cr_assert(pipe(fds) == 0, "pipe");
	log_set_fd(fds[1]);
	setenv("NOTIFY_SOCKET", "/nonexistent/socket", 1);
	cr_assert(supervisor_take_sockets(&first, &err) == 0, "it starts all the same");
	supervisor_ready("x");
	supervisor_status("x");
	supervisor_reloading("x");
	supervisor_stopping("x");
	supervisor_extend(1, "x");
	supervisor_alive();
	cr_assert(supervisor_watchdog_ns() == 0 && !supervisor_listens(), "no watchdog");
	close(fds[1]);
	ssize_t got = read(fds[0], text, sizeof(text) - 1);
	text[got > 0 ? got : 0] = '\0';
	cr_assert(strstr(text, "warn") != NULL && strstr(text, "use Type=exec") != NULL, "%s", text);
}
