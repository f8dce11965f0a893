#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guarded_copy.h"
#include "io.h"

static char base[200], root[256];
static struct io *io;

static void setup(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(base, sizeof(base), "%.150s/ironwal-io-XXXXXX", tmp ? tmp : "/tmp");
	cr_assert(mkdtemp(base) != NULL);
	snprintf(root, sizeof(root), "%s/data", base);
	cr_assert(io_posix_new(root, &io) == 0);
}

static int remove_all(const char *name, bool is_dir, void *arg)
{
	char path[300];

	snprintf(path, sizeof(path), "%s%s%s", (const char *)arg, *(const char *)arg ? "/" : "", name);
	if (!is_dir)
		return io->ops->unlink(io, path);
	cr_assert(io->ops->list_dir(io, path, remove_all, path) == 0);
	return io->ops->rmdir(io, path);
}

static void teardown(void)
{
	char empty[] = "";

	cr_assert(io->ops->list_dir(io, "", remove_all, empty) == 0);
	io_posix_free(io);
	cr_assert(rmdir(root) == 0);
	cr_assert(rmdir(base) == 0);
}

TestSuite(io, .init = setup, .fini = teardown, .timeout = 60);

static struct io_file *open_file(const char *path, int flags)
{
	struct io_file *file = NULL;

	cr_assert(io->ops->open(io, path, flags, &file) == 0, "%s: %s", path, strerror(errno));
	return file;
}

static int write_at(struct io_file *file, const void *bytes, size_t len, uint64_t offset)
{
	const struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};

	return io->ops->pwritev(file, &iov, 1, offset);
}

static int count_descriptors(void)
{
	int count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

Test(io, root_is_made_private_and_opened_again)
{
	struct stat st;
	struct io *again;
	char path[300];

	cr_assert(stat(root, &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 0777) == 0700);
	cr_assert(io_posix_new(root, &again) == 0);
	io_posix_free(again);
	snprintf(path, sizeof(path), "%s/no/such", base);
	cr_assert(io_posix_new(path, &again) == -ENOENT);
	io->ops->close(open_file("plain", IO_WRITE | IO_CREATE));
	snprintf(path, sizeof(path), "%s/plain", root);
	cr_assert(io_posix_new(path, &again) == -ENOTDIR);
	/* A trailing slash and a relative path name the same directory. */
	snprintf(path, sizeof(path), "%s/", root);
	cr_assert(io_posix_new(path, &again) == 0);
	cr_assert(again->ops->exists(again, "plain") == 1);
	io_posix_free(again);
	cr_assert(chdir(base) == 0);
	cr_assert(io_posix_new("data", &again) == 0);
	cr_assert(again->ops->exists(again, "plain") == 1);
	io_posix_free(again);
	cr_assert(chdir("/") == 0);
}

Test(io, open_flags)
{
	struct io_file *file = NULL;
	struct stat st;
	char path[300], byte;

	cr_assert(io->ops->open(io, "a", IO_READ, &file) == -ENOENT);
	io->ops->close(open_file("a", IO_WRITE | IO_CREATE | IO_EXCLUSIVE));
	cr_assert(io->ops->open(io, "a", IO_WRITE | IO_CREATE | IO_EXCLUSIVE, &file) == -EEXIST);
	snprintf(path, sizeof(path), "%s/a", root);
	cr_assert(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
	file = open_file("a", IO_WRITE | IO_CREATE);
	cr_assert(io->ops->pread(file, &byte, 1, 0, 0) == -EBADF);
	io->ops->close(file);
	file = open_file("a", IO_READ);
	cr_assert(write_at(file, "x", 1, 0) == -EBADF);
	io->ops->close(file);
	cr_assert(io->ops->open(io, "a/b", IO_READ, &file) == -ENOTDIR);
	cr_assert(io->ops->open(io, "/etc/hostname", IO_READ, &file) < 0);
	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	cr_assert(io->ops->open(io, path, IO_READ, &file) == -ENAMETOOLONG);
	io->ops->close(NULL);
}

Test(io, bytes_go_in_and_come_out_in_many_vectors)
{
	enum { VECTORS = 300, EACH = 1001 };
	struct iovec iov[VECTORS];
	unsigned char *bytes = malloc(VECTORS * EACH), *back = calloc(1, VECTORS * EACH + 10);
	struct io_file *file = open_file("v", IO_READ | IO_WRITE | IO_CREATE);
	uint64_t size;

	for (int i = 0; i < VECTORS * EACH; i++)
		bytes[i] = (unsigned char)(i * 7 + i / 251);
	for (int i = 0; i < VECTORS; i++) {
		/* Every tenth is empty; its bytes go with the one after it. */
		iov[i].iov_base = bytes + (size_t)(i - (i % 10 == 1)) * EACH;
		iov[i].iov_len = i % 10 == 0 ? 0 : i % 10 == 1 ? 2 * EACH : EACH;
	}
	cr_assert(io->ops->pwritev(file, iov, VECTORS, 5) == 0);
	cr_assert(io->ops->size(file, &size) == 0 && size == VECTORS * EACH + 5);
	cr_assert(io->ops->pread(file, back, VECTORS * EACH + 10, 5, 0) == VECTORS * EACH);
	cr_assert(memcmp(bytes, back, VECTORS * EACH) == 0);
	cr_assert(io->ops->pread(file, back, 10, size, 0) == 0);
	cr_assert(io->ops->pread(file, back, 10, size + 1000, 0) == 0);
	cr_assert(io->ops->pread(file, back, 10, 0, 0) == 10);
	cr_assert(memcmp(back, "\0\0\0\0\0", 5) == 0);
	cr_assert(io->ops->pwritev(file, iov, 1, 0) == 0, "an empty write");
	cr_assert(io->ops->sync(file) == 0);
	cr_assert(io->ops->truncate(file, 7) == 0);
	cr_assert(io->ops->size(file, &size) == 0 && size == 7);
	cr_assert(io->ops->pread(file, back, 10, 0, 0) == 7);
	cr_assert(write_at(file, "x", 1, UINT64_MAX) == -EFBIG);
	cr_assert(io->ops->pread(file, back, 1, UINT64_MAX, 0) == -EINVAL);
	io->ops->close(file);
	free(bytes);
	free(back);
}

Test(io, a_write_cut_short_is_an_error)
{
	/* RLIMIT_FSIZE makes the kernel write a part and refuse the rest, as a full disk does. */
	const struct rlimit limit = {.rlim_cur = 10000, .rlim_max = RLIM_INFINITY};
	struct io_file *file = open_file("short", IO_READ | IO_WRITE | IO_CREATE);
	char *bytes = malloc(20000);
	uint64_t size;

	memset(bytes, 'b', 20000);
	signal(SIGXFSZ, SIG_IGN);
	cr_assert(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	cr_assert(write_at(file, bytes, 20000, 0) == -EFBIG);
	cr_assert(io->ops->size(file, &size) == 0 && size == 10000);
	cr_assert(io->ops->truncate(file, 20000) == -EFBIG);
	io->ops->close(file);
	free(bytes);
}

Test(io, full_disk_is_reported)
{
	/* /dev/full answers ENOSPC to every write; a symbolic link brings it into the directory. */
	char path[300];
	struct io_file *file;

	snprintf(path, sizeof(path), "%s/full", root);
	if (symlink("/dev/full", path) != 0 || access("/dev/full", W_OK) != 0)
		cr_skip("no /dev/full here");
	file = open_file("full", IO_WRITE);
	cr_assert(write_at(file, "x", 1, 0) == -ENOSPC);
	io->ops->close(file);
}

Test(io, nowait_reads_what_is_cached_or_says_so)
{
	struct io_file *file = open_file("n", IO_READ | IO_WRITE | IO_CREATE);
	char bytes[8192], back[8192];

	memset(bytes, 'n', sizeof(bytes));
	cr_assert(write_at(file, bytes, sizeof(bytes), 0) == 0);
	memset(back, 0, sizeof(back));
	const ssize_t got = io->ops->pread(file, back, sizeof(back), 0, IO_NOWAIT);
	cr_assert(got == -EAGAIN || (got > 0 && memcmp(bytes, back, (size_t)got) == 0), "%zd", got);
	const ssize_t end = io->ops->pread(file, back, 1, sizeof(bytes), IO_NOWAIT);
	cr_assert(end == 0 || end == -EAGAIN);
	io->ops->close(file);
}

Test(io, allocate_reserves_and_grows)
{
	struct io_file *file = open_file("r", IO_READ | IO_WRITE | IO_CREATE);
	char back[5];
	uint64_t size;

	cr_assert(write_at(file, "abc", 3, 0) == 0);
	const int rc = io->ops->allocate(file, 0, 65536);
	if (rc == -EOPNOTSUPP) {
		io->ops->close(file);
		cr_skip("this file system cannot reserve");
	}
	cr_assert(rc == 0);
	cr_assert(io->ops->size(file, &size) == 0 && size == 65536);
	cr_assert(io->ops->pread(file, back, 5, 0, 0) == 5 && memcmp(back, "abc\0\0", 5) == 0);
	cr_assert(io->ops->allocate(file, 0, 0) == 0);
	cr_assert(io->ops->allocate(file, UINT64_MAX, 2) == -EFBIG);
	cr_assert(io->ops->allocate(file, 0, UINT64_C(1) << 62) < 0, "no disk is that large");
	io->ops->close(file);
}

Test(io, a_mapping_shows_the_file_and_never_kills)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct io_file *file = open_file("m", IO_READ | IO_WRITE | IO_CREATE);
	struct io_map *map;
	char back[64];

	cr_assert(write_at(file, "mapped", 6, 0) == 0);
	cr_assert(io->ops->map(file, 4 * page, &map) == 0);
	cr_assert(io->ops->map_read(map, back, 6, 0, 0) == 0 && memcmp(back, "mapped", 6) == 0);
	cr_assert(io->ops->map_read(map, back, 6, 0, IO_NOWAIT) == 0 && memcmp(back, "mapped", 6) == 0);
	/* Behind the file's end, across it, and behind the mapping. */
	for (int i = 0; i < 3; i++) {
		cr_assert(io->ops->map_read(map, back, 10, 2 * page, 0) == -EIO);
		cr_assert(io->ops->map_read(map, back, 10, page - 5, 0) == -EIO);
	}
	cr_assert(io->ops->map_read(map, back, 10, 2 * page, IO_NOWAIT) == -EAGAIN);
	cr_assert(io->ops->map_read(map, back, 1, 4 * page, 0) == -EIO);
	cr_assert(io->ops->map_read(map, back, 10, 4 * page - 5, 0) == -EIO);
	cr_assert(io->ops->map_read(map, back, 10, UINT64_MAX - 4, 0) == -EIO);
	cr_assert(io->ops->map_read(map, back, 0, 4 * page, 0) == 0);
	/* What is written later shows up; what is cut goes away. */
	cr_assert(write_at(file, "later", 5, 2 * page) == 0);
	cr_assert(io->ops->map_read(map, back, 5, 2 * page, 0) == 0 && memcmp(back, "later", 5) == 0);
	io->ops->close(file); /* the mapping stays */
	cr_assert(io->ops->map_read(map, back, 6, 0, 0) == 0 && memcmp(back, "mapped", 6) == 0);
	file = open_file("m", IO_WRITE);
	cr_assert(io->ops->truncate(file, 0) == 0);
	cr_assert(io->ops->map_read(map, back, 6, 0, 0) == -EIO);
	io->ops->unmap(map);
	io->ops->unmap(NULL);
	io->ops->close(file);
	file = open_file("m", IO_READ);
	cr_assert(io->ops->map(file, 0, &map) == 0);
	cr_assert(io->ops->map_read(map, back, 1, 0, 0) == -EIO);
	io->ops->unmap(map);
	io->ops->close(file);
}

static void *read_behind_the_end(void *arg)
{
	sigset_t all;
	char back[16];

	/* As threads of a daemon do: the guard must hold all the same. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	for (int i = 0; i < 200; i++) {
		if (io->ops->map_read(arg, back, sizeof(back), 1 << 20, 0) != -EIO)
			return arg;
		if (io->ops->map_read(arg, back, 4, 0, 0) != 0 || memcmp(back, "good", 4) != 0)
			return arg;
	}
	return NULL;
}

Test(io, faults_of_several_threads_stay_apart)
{
	struct io_file *file = open_file("t", IO_READ | IO_WRITE | IO_CREATE);
	struct io_map *map;
	pthread_t threads[4];
	void *result;

	cr_assert(write_at(file, "good", 4, 0) == 0);
	cr_assert(io->ops->map(file, 2 << 20, &map) == 0);
	for (int i = 0; i < 4; i++)
		cr_assert(pthread_create(&threads[i], NULL, read_behind_the_end, map) == 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &result);
		cr_assert(result == NULL);
	}
	io->ops->unmap(map);
	io->ops->close(file);
}

static void exit_7(int signo)
{
	(void)signo;
	_exit(7);
}

/* In a child: a guarded fault first, then one that is not ours. Returns its wait status. */
static int fault_of_others(void (*former)(int), bool sent)
{
	const pid_t child = fork();

	cr_assert(child >= 0);
	if (child == 0) {
		const struct rlimit no_core = {0, 0};
		char path[300], byte;

		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGBUS, former);
		snprintf(path, sizeof(path), "%s/f", root);
		const int fd = open(path, O_RDWR);
		const volatile unsigned char *bytes = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
		if (fd < 0 || guarded_copy(&byte, (const unsigned char *)bytes, 1) != -EIO)
			_exit(99);
		if (sent)
			raise(SIGBUS);
		else
			_exit(bytes[1] ? 98 : 97);
		_exit(96);
	}
	int status;
	cr_assert(waitpid(child, &status, 0) == child);
	return status;
}

Test(io, faults_that_are_not_ours_go_where_they_went)
{
	io->ops->close(open_file("f", IO_WRITE | IO_CREATE));
	int status = fault_of_others(SIG_DFL, false);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "%x", (unsigned)status);
	status = fault_of_others(SIG_DFL, true);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "%x", (unsigned)status);
	status = fault_of_others(exit_7, false);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7, "%x", (unsigned)status);
	status = fault_of_others(exit_7, true);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7, "%x", (unsigned)status);
	status = fault_of_others(SIG_IGN, true);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 96, "%x", (unsigned)status);
}

struct seen {
	unsigned files, dirs, others;
	int stop;
};

static int see(const char *name, bool is_dir, void *arg)
{
	struct seen *seen = arg;

	if (strcmp(name, "file") == 0 && !is_dir)
		seen->files++;
	else if (strcmp(name, "dir") == 0 && is_dir)
		seen->dirs++;
	else
		seen->others++;
	return seen->stop;
}

static int tick_off(const char *name, bool is_dir, void *arg)
{
	unsigned char *times = arg;
	unsigned n;

	cr_assert(sscanf(name, "a-name-of-some-length-%u", &n) == 1 && n < 500 && !is_dir);
	times[n]++;
	return io->ops->unlink(io, name);
}

Test(io, every_name_of_a_large_directory_is_listed_once)
{
	unsigned char times[500] = {0};
	char name[64];

	for (unsigned i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "a-name-of-some-length-%u", i);
		io->ops->close(open_file(name, IO_WRITE | IO_CREATE));
	}
	cr_assert(io->ops->list_dir(io, "", tick_off, times) == 0);
	for (unsigned i = 0; i < 500; i++)
		cr_assert(times[i] == 1, "%u: %u times", i, times[i]);
	cr_assert(io->ops->list_dir(io, "", tick_off, times) == 0);
	cr_assert(times[0] == 1, "they were removed");
}

Test(io, directories)
{
	struct seen seen = {0};
	struct stat st;
	char path[300];

	cr_assert(io->ops->exists(io, "dir") == 0);
	cr_assert(io->ops->mkdir(io, "dir") == 0);
	snprintf(path, sizeof(path), "%s/dir", root);
	cr_assert(stat(path, &st) == 0 && (st.st_mode & 0777) == 0700);
	cr_assert(io->ops->mkdir(io, "dir") == -EEXIST);
	cr_assert(io->ops->mkdir(io, "no/such") == -ENOENT);
	cr_assert(io->ops->sync_dir(io, "") == 0);
	io->ops->close(open_file("dir/inside", IO_WRITE | IO_CREATE));
	cr_assert(io->ops->sync_dir(io, "dir") == 0);
	cr_assert(io->ops->sync_dir(io, "nodir") == -ENOENT);
	cr_assert(io->ops->sync_dir(io, "dir/inside") == -ENOTDIR);
	io->ops->close(open_file("file", IO_WRITE | IO_CREATE));
	cr_assert(io->ops->list_dir(io, "", see, &seen) == 0);
	cr_assert(seen.files == 1 && seen.dirs == 1 && seen.others == 0);
	seen.stop = 33;
	cr_assert(io->ops->list_dir(io, "", see, &seen) == 33);
	cr_assert(seen.files + seen.dirs == 3);
	cr_assert(io->ops->list_dir(io, "nodir", see, &seen) == -ENOENT);
	cr_assert(io->ops->rmdir(io, "dir") == -ENOTEMPTY || io->ops->rmdir(io, "dir") == -EEXIST);
	cr_assert(io->ops->rename(io, "dir/inside", "dir/other") == 0);
	cr_assert(io->ops->exists(io, "dir/inside") == 0 && io->ops->exists(io, "dir/other") == 1);
	cr_assert(io->ops->rename(io, "dir/inside", "x") == -ENOENT);
	cr_assert(io->ops->exists(io, "file/below") == 0);
	cr_assert(io->ops->unlink(io, "dir/other") == 0);
	cr_assert(io->ops->unlink(io, "dir/other") == -ENOENT);
	cr_assert(io->ops->rmdir(io, "dir") == 0);
	cr_assert(io->ops->exists(io, "") == 1);
	cr_assert(io->ops->sync_all(io) == 0);
}

Test(io, rename_replaces)
{
	struct io_file *file = open_file("from", IO_READ | IO_WRITE | IO_CREATE);
	char back[3];

	cr_assert(write_at(file, "new", 3, 0) == 0);
	io->ops->close(file);
	io->ops->close(open_file("to", IO_WRITE | IO_CREATE));
	cr_assert(io->ops->rename(io, "from", "to") == 0);
	file = open_file("to", IO_READ);
	cr_assert(io->ops->pread(file, back, 3, 0, 0) == 3 && memcmp(back, "new", 3) == 0);
	io->ops->close(file);
}

Test(io, the_lock_excludes_and_ends_with_its_holder)
{
	struct io_file *lock, *other;
	int ready[2], status;
	char byte;

	cr_assert(io->ops->lock(io, "lock", &lock) == 0);
	cr_assert(io->ops->lock(io, "lock", &other) == -EWOULDBLOCK);
	cr_assert(io->ops->lock(io, "lock2", &other) == 0);
	io->ops->unlock(other);
	io->ops->unlock(lock);
	/* Another process takes it and is killed. */
	cr_assert(pipe(ready) == 0);
	const pid_t child = fork();
	cr_assert(child >= 0);
	if (child == 0) {
		if (io->ops->lock(io, "lock", &lock) == 0 && write(ready[1], "r", 1) == 1)
			pause();
		_exit(1);
	}
	cr_assert(read(ready[0], &byte, 1) == 1);
	cr_assert(io->ops->lock(io, "lock", &other) == -EWOULDBLOCK);
	kill(child, SIGKILL);
	cr_assert(waitpid(child, &status, 0) == child);
	cr_assert(io->ops->lock(io, "lock", &other) == 0);
	io->ops->unlock(other);
	close(ready[0]);
	close(ready[1]);
}

Test(io, descriptors_are_closed_and_never_inherited)
{
	const int before = count_descriptors();
	struct io_file *file, *lock;
	struct io_map *map;
	struct seen seen = {0};

	file = open_file("d", IO_READ | IO_WRITE | IO_CREATE);
	cr_assert(io->ops->lock(io, "lock", &lock) == 0);
	for (int fd = 3; fd < 1024; fd++) {
		char link[64], target[400];

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		const ssize_t n = readlink(link, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		if (strncmp(target, root, strlen(root)) == 0)
			cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC, "%s", target);
	}
	cr_assert(count_descriptors() == before + 2);
	cr_assert(write_at(file, "x", 1, 0) == 0);
	cr_assert(io->ops->map(file, 1, &map) == 0);
	io->ops->unmap(map);
	io->ops->close(file);
	io->ops->unlock(lock);
	cr_assert(io->ops->open(io, "nofile", IO_READ, &file) == -ENOENT);
	cr_assert(io->ops->lock(io, "nodir/lock", &lock) == -ENOENT);
	cr_assert(io->ops->sync_dir(io, "") == 0);
	cr_assert(io->ops->list_dir(io, "", see, &seen) == 0);
	cr_assert(count_descriptors() == before);
}

Test(io, space_clocks_and_randomness)
{
	struct io_space space = {0};
	unsigned char a[300] = {0}, b[300] = {0};
	unsigned zeros = 0;

	cr_assert(io->ops->space(io, &space) == 0);
	cr_assert(space.total_bytes > 0 && space.free_bytes <= space.total_bytes);
	const uint64_t first = io->ops->monotonic_ns(io);
	cr_assert(first > 0 && io->ops->monotonic_ns(io) >= first);
	cr_assert(io->ops->wall_ns(io) > UINT64_C(1700000000) * 1000000000);
	cr_assert(io->ops->random(io, a, sizeof(a)) == 0 && io->ops->random(io, b, sizeof(b)) == 0);
	for (size_t i = 0; i < sizeof(a); i++)
		zeros += a[i] == 0;
	cr_assert(memcmp(a, b, sizeof(a)) != 0 && zeros < 100);
}
