/*
 * disk: what the disk allows: a write and an fdatasync, one after the other, on a file whose blocks are written.
 *
 * The file has no name any more once it is open, so nothing is left of it. Exit status: 0; 1 failed; 2 usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "arguments.h"
#include "single.h"

#define FILE_BYTES (UINT64_C(64) << 20)
#define PART_BYTES (UINT64_C(1) << 20)

static const char usage[] = "disk: writes and syncs, one after the other, of a file that was written before\n"
			    "\n"
			    "  --dir DIR              where its file is made, without a name\n"
			    "  --bytes N              of a write, random; they follow one another (100)\n"
			    "  --duration SECONDS     measured for so long (2)\n"
			    "  --warmup SECONDS       the same before, not measured (0.3)\n"
			    "  --json                 one JSON object instead of one line\n";

struct disk {
	int fd;
	uint64_t offset, bytes;
	uint8_t *data;
};

static struct single_result result;

static int write_all(int fd, const uint8_t *data, uint64_t len, uint64_t offset)
{
	while (len > 0) {
		ssize_t done = pwrite(fd, data, len, (off_t)offset);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return refuse("write: %s", strerror(errno));
		data += done;
		len -= (uint64_t)done;
		offset += (uint64_t)done;
	}
	return 0;
}

/* The first bytes of each write are its own, so that no layer can leave it out. */
static int write_and_sync(void *arg)
{
	struct disk *disk = arg;
	uint64_t offset = disk->offset;
	memcpy(disk->data, &offset, disk->bytes < sizeof(offset) ? disk->bytes : sizeof(offset));
	if (write_all(disk->fd, disk->data, disk->bytes, offset) != 0)
		return -1;
	if (fdatasync(disk->fd) != 0)
		return refuse("fdatasync: %s", strerror(errno));
	disk->offset = offset + 2 * disk->bytes <= FILE_BYTES ? offset + disk->bytes : 0;
	return 0;
}

static int open_written(struct disk *disk, const char *dir)
{
	char path[4096];
	if (snprintf(path, sizeof(path), "%s/disk-XXXXXX", dir) >= (int)sizeof(path))
		return refuse("--dir %s: too long", dir);
	disk->fd = mkostemp(path, O_CLOEXEC);
	if (disk->fd < 0)
		return refuse("%s: %s", path, strerror(errno));
	unlink(path);
	for (uint64_t at = 0; at < FILE_BYTES; at += PART_BYTES)
		if (write_all(disk->fd, disk->data, PART_BYTES, at) != 0)
			return -1;
	return fsync(disk->fd) == 0 ? 0 : refuse("fsync: %s", strerror(errno));
}

static int run(struct disk *disk, const struct single_options *options)
{
	if (disk->data == NULL || getrandom(disk->data, 256, 0) != 256)
		return refuse("no memory, or no randomness");
	for (uint64_t i = 256; i < disk->bytes; i++)
		disk->data[i] = (uint8_t)(disk->data[i - 256] * 5 + 1);
	if (open_written(disk, options->dir) != 0)
		return -1;
	return single_run(options, write_and_sync, disk, &result);
}

int main(int argc, char **argv)
{
	struct single_options options;
	int parsed = single_parse(&options, usage, argc, argv);
	if (parsed != 0)
		return parsed > 0 ? 0 : 2;
	struct disk disk = {.fd = -1, .bytes = options.bytes};
	disk.data = calloc(1, options.bytes > PART_BYTES ? options.bytes : PART_BYTES);
	int outcome = run(&disk, &options);
	if (outcome == 0)
		single_report(&options, "disk", &result);
	if (disk.fd >= 0)
		close(disk.fd);
	free(disk.data);
	return outcome == 0 ? 0 : 1;
}
