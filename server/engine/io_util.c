#include "io_util.h"

int io_write_zeros(struct io *io, struct io_file *file, uint64_t from, uint64_t to)
{
	static const uint8_t zeros[64 << 10];
	int r = 0;
	for (uint64_t at = from; r == 0 && at < to; at += sizeof(zeros)) {
		struct iovec iov = {(void *)zeros, to - at < sizeof(zeros) ? (size_t)(to - at) : sizeof(zeros)};
		r = io->ops->pwritev(file, &iov, 1, at);
	}
	return r;
}

int io_put_file(struct io *io, const char *path, const char *new_path, const void *bytes, size_t len)
{
	struct io_file *file;
	int r = io->ops->open(io, new_path, IO_WRITE | IO_CREATE, &file);
	if (r != 0)
		return r;
	struct iovec iov = {(void *)bytes, len};
	r = io->ops->truncate(file, 0);
	if (r == 0)
		r = io->ops->pwritev(file, &iov, 1, 0);
	if (r == 0)
		r = io->ops->sync(file);
	io->ops->close(file);
	return r == 0 ? io->ops->rename(io, new_path, path) : r;
}

int io_replace_file(struct io *io, const char *path, const char *new_path, const void *bytes, size_t len)
{
	int r = io_put_file(io, path, new_path, bytes, len);
	return r == 0 ? io->ops->sync_dir(io, "") : r;
}
