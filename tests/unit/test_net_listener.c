/* The Unix socket's file: its mode and group, also beside somebody who can write to its directory. */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "listener.h"
#include "log.h"

static char dir[64], path[80], victim[80];
static uv_loop_t loop;

/* ---- what the system does, and somebody else right behind it ---- */

static void (*behind_bind)(void);
int __real_bind(int fd, const struct sockaddr *address, socklen_t len);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t len);

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t len)
{
	int result = __real_bind(fd, address, len), saved = errno;
	if (behind_bind != NULL)
		behind_bind();
	errno = saved;
	return result;
}

static size_t group_needs;
static int group_fails;
int __wrap_getgrnam_r(const char *name, struct group *entry, char *buffer, size_t size, struct group **ret_entry);

int __wrap_getgrnam_r(const char *name, struct group *entry, char *buffer, size_t size, struct group **ret_entry)
{
	(void)name;
	*ret_entry = NULL;
	if (group_fails != 0)
		return group_fails;
	if (size < group_needs)
		return ERANGE;
	memset(buffer, 0, size);
	*entry = (struct group){.gr_name = buffer, .gr_gid = getgid()};
	*ret_entry = entry;
	return 0;
}

static void set_up(void)
{
	snprintf(dir, sizeof(dir), "/tmp/ironwald-listener-XXXXXX");
	cr_assert(mkdtemp(dir) != NULL);
	snprintf(path, sizeof(path), "%s/socket", dir);
	snprintf(victim, sizeof(victim), "%s/victim", dir);
	log_set_level(LOG_LEVEL_ERROR);
	cr_assert(uv_loop_init(&loop) == 0);
	behind_bind = NULL;
	group_needs = 0;
	group_fails = 0;
}

static void tear_down(void)
{
	uv_run(&loop, UV_RUN_DEFAULT);
	cr_assert(uv_loop_close(&loop) == 0);
	unlink(path);
	unlink(victim);
	cr_assert(rmdir(dir) == 0, "nothing else is left");
}

TestSuite(net_listener, .init = set_up, .fini = tear_down, .timeout = 60);

static void on_connection(int fd, bool tcp, void *arg)
{
	(void)tcp;
	(void)arg;
	cr_assert(fd < 0, "nobody connects");
}

static int open_at(const char *at, uint32_t mode, const char *group, struct listener **ret_listener, struct error *err)
{
	return listener_open_unix(&loop, at, mode, group, on_connection, NULL, ret_listener, err);
}

static mode_t mode_of(const char *at)
{
	struct stat status;
	cr_assert(lstat(at, &status) == 0, "%s: %s", at, strerror(errno));
	return status.st_mode;
}

Test(net_listener, the_mode_is_what_was_asked_for_whatever_the_umask)
{
	static const mode_t masks[] = {0, 022, 077, 0777}, modes[] = {0, 0600, 0620, 0660, 0666, 0777};
	for (size_t i = 0; i < 4 * 6; i++) {
		struct listener *listener;
		struct error err;
		umask(masks[i % 4]);
		cr_assert(open_at(path, modes[i / 4], NULL, &listener, &err) == 0, "%s", err.message);
		cr_assert(umask(022) == masks[i % 4], "the umask is as it was");
		cr_assert((mode_of(path) & 07777) == modes[i / 4], "%o with a umask of %o", mode_of(path) & 07777,
			masks[i % 4]);
		listener_close(listener);
		uv_run(&loop, UV_RUN_DEFAULT);
	}
}

static mode_t mode_behind_bind;

static void note_mode(void)
{
	mode_behind_bind = mode_of(path) & 07777;
}

/* It never has another one, not even for a moment. */
Test(net_listener, the_mode_is_there_from_the_beginning)
{
	struct listener *listener;
	struct error err;
	char events[4096];
	int watch = inotify_init1(IN_NONBLOCK);
	cr_assert(watch >= 0 && inotify_add_watch(watch, dir, IN_ATTRIB) >= 0);
	behind_bind = note_mode;
	umask(0);
	cr_assert(open_at(path, 0620, NULL, &listener, &err) == 0, "%s", err.message);
	cr_assert(mode_behind_bind == 0620, "%o", mode_behind_bind);
	cr_assert(read(watch, events, sizeof(events)) == -1 && errno == EAGAIN, "its attributes were changed");
	close(watch);
	listener_close(listener);
}

static void put_symlink_there(void)
{
	cr_assert(unlink(path) == 0 && symlink(victim, path) == 0);
}

static void put_file_there(void)
{
	cr_assert(unlink(path) == 0 && link(victim, path) == 0);
}

/* Whatever somebody puts there, nothing of ours becomes theirs. */
Test(net_listener, what_comes_in_its_place_is_left_alone)
{
	static void (*const others[])(void) = {put_symlink_there, put_file_there};
	for (size_t i = 0; i < 4; i++) {
		struct listener *listener;
		struct error err;
		struct stat before, after;
		char group[20];
		int fd = open(victim, O_CREAT | O_WRONLY | O_TRUNC, 0600);
		cr_assert(fd >= 0 && close(fd) == 0 && chmod(victim, 0600) == 0);
		/* Root can see a change of the group, others that one was made: of the time. */
		cr_assert(getuid() != 0 || chown(victim, 0, 12345) == 0);
		cr_assert(stat(victim, &before) == 0);
		behind_bind = others[i % 2];
		snprintf(group, sizeof(group), "%u", (unsigned)getgid());
		int result = open_at(path, 0666, i < 2 ? group : NULL, &listener, &err);
		cr_assert(stat(victim, &after) == 0);
		cr_assert(before.st_mode == after.st_mode, "the mode is %o", after.st_mode & 07777);
		cr_assert(before.st_gid == after.st_gid, "the group is another");
		if (i < 2)
			cr_assert(result == -1 && err.code == ERR_CONFIG, "it is refused");
		else
			listener_close(listener);
		uv_run(&loop, UV_RUN_DEFAULT);
		unlink(path);
		unlink(victim);
	}
}

Test(net_listener, a_group_may_have_many_members)
{
	struct listener *listener;
	struct error err;
	group_needs = 1000000;
	cr_assert(open_at(path, 0660, "many", &listener, &err) == 0, "%s", err.message);
	listener_close(listener);
	group_needs = SIZE_MAX;
	cr_assert(open_at(path, 0660, "endless", &listener, &err) == -1 && strstr(err.message, "cannot tell") != NULL,
		"%s", err.message);
	group_needs = 0;
	group_fails = EIO;
	cr_assert(open_at(path, 0660, "any", &listener, &err) == -1 && strstr(err.message, strerror(EIO)) != NULL, "%s",
		err.message);
	cr_assert(access(path, F_OK) != 0, "nothing was made");
}
