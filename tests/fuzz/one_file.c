#include "one_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

/* The one handle is the file itself. */
static struct one_file *of_handle(struct io_file *handle)
{
	return (struct one_file *)(void *)handle;
}

static int one_open(struct io *io, const char *path, int flags, struct io_file **ret_file)
{
	struct one_file *file = (struct one_file *)(void *)io;
	FUZZ_CHECK(strcmp(path, ONE_FILE_PATH) == 0, "another file is opened");
	if (file->bytes == NULL && !(flags & IO_CREATE))
		return -ENOENT;
	file->opened++;
	*ret_file = (struct io_file *)(void *)file;
	return 0;
}

static void one_close(struct io_file *handle)
{
	if (handle != NULL)
		of_handle(handle)->opened--;
}

static ssize_t one_pread(struct io_file *handle, void *buf, size_t len, uint64_t offset, int flags)
{
	struct one_file *file = of_handle(handle);
	(void)flags;
	if (offset >= file->len)
		return 0;
	size_t left = file->len - (size_t)offset, got = len < left ? len : left;
	memcpy(buf, file->bytes + offset, got);
	return (ssize_t)got;
}

static int one_pwritev(struct io_file *handle, const struct iovec *iov, int count, uint64_t offset)
{
	struct one_file *file = of_handle(handle);
	FUZZ_CHECK(file->may_write, "it writes to what it only reads");
	for (int i = 0; i < count; i++) {
		size_t end = (size_t)offset + iov[i].iov_len;
		if (end > file->len) {
			file->bytes = realloc(file->bytes, end);
			FUZZ_CHECK(file->bytes != NULL, "no memory for the fuzzer itself");
			memset(file->bytes + file->len, 0, end - file->len);
			file->len = end;
		}
		memcpy(file->bytes + offset, iov[i].iov_base, iov[i].iov_len);
		offset += iov[i].iov_len;
	}
	return 0;
}

static int one_size(struct io_file *handle, uint64_t *ret_bytes)
{
	*ret_bytes = of_handle(handle)->len;
	return 0;
}

static const struct io_ops one_ops = {
	.open = one_open, .close = one_close, .pread = one_pread, .pwritev = one_pwritev, .size = one_size};

void one_file_init(struct one_file *file)
{
	file->io.ops = &one_ops;
}

void one_file_free(struct one_file *file)
{
	FUZZ_CHECK(file->opened == 0, "the file is left open");
	free(file->bytes);
}
