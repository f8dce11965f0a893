#include "process_numbers.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

#define FILES_DIRECTORY "/proc/self/fd"

static void get_memory(struct process_numbers *numbers)
{
	char text[128];
	unsigned long long total_pages, resident_pages;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t len = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (len <= 0)
		return;
	text[len] = '\0';
	if (sscanf(text, "%llu %llu", &total_pages, &resident_pages) != 2)
		return;
	uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	numbers->virtual_bytes = total_pages * page_bytes;
	numbers->resident_bytes = resident_pages * page_bytes;
}

static uint64_t count_files(void)
{
	struct stat status;
	uint64_t count = 0;
	/* Since Linux 6.2 it is there to be read. */
	if (stat(FILES_DIRECTORY, &status) == 0 && status.st_size > 0)
		return (uint64_t)status.st_size;
	DIR *directory = opendir(FILES_DIRECTORY);
	if (directory == NULL)
		return 0;
	for (struct dirent *entry; (entry = readdir(directory)) != NULL && count <= PROCESS_FILES_COUNTED_MAX;)
		count += entry->d_name[0] != '.';
	closedir(directory);
	/* The directory was one of them. */
	return count > PROCESS_FILES_COUNTED_MAX ? 0 : count - 1;
}

void process_numbers_get(struct process_numbers *ret_numbers)
{
	struct process_numbers numbers = {0};
	struct timespec cpu;
	struct rlimit limit;
	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
		numbers.cpu_ns = (uint64_t)cpu.tv_sec * NS_PER_SECOND + (uint64_t)cpu.tv_nsec;
	get_memory(&numbers);
	numbers.open_files = count_files();
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		numbers.max_files = limit.rlim_cur;
	*ret_numbers = numbers;
}
