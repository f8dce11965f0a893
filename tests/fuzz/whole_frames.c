#include "whole_frames.h"

#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "fuzz.h"

/* More than any file here has of frames. */
#define LOOKED_AT_MAX (1 << 20)

struct whole_frames {
	struct io *io;
	const char *dir; /* while one is looked at */
	uint64_t *keys;
	size_t count, cap;
};

static uint64_t key_of(const char *dir, uint64_t id, const uint8_t *bytes, size_t len)
{
	return fuzz_hash(fuzz_hash(id * 2 + 1, dir, strlen(dir)), bytes, len);
}

static void add(struct whole_frames *frames, uint64_t key)
{
	if (frames->count == frames->cap) {
		frames->cap = frames->cap * 2 + 256;
		frames->keys = realloc(frames->keys, frames->cap * sizeof(*frames->keys));
		FUZZ_CHECK(frames->keys != NULL, "no memory for the fuzzer itself");
	}
	frames->keys[frames->count++] = key;
}

static void add_block(struct whole_frames *frames, uint64_t id, const uint8_t *raw, size_t len, uint32_t count)
{
	uint32_t begin = 0;
	if ((uint64_t)count * 4 > len)
		return;
	const uint8_t *data = raw + (size_t)4 * count;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t end = fuzz_get32(raw + (size_t)4 * i);
		if (end < begin || end > len - (size_t)4 * count)
			return;
		add(frames, key_of(frames->dir, id + i, data + begin, end - begin));
		begin = end;
	}
}

/* A frame whose header is whole: its blocks, those that are whole. */
static void add_frame(struct whole_frames *frames, const uint8_t *frame, size_t len, size_t header_bytes)
{
	uint32_t blocks = fuzz_get32(frame + 60), ext = fuzz_get32(frame + 88);
	uint64_t id = fuzz_get64(frame + 16);
	size_t at = header_bytes;
	if (96 + (uint64_t)ext + (uint64_t)16 * blocks + 4 != header_bytes)
		return;
	for (uint32_t i = 0; i < blocks; i++) {
		const uint8_t *row = frame + 96 + ext + (size_t)16 * i;
		uint32_t raw_bytes = fuzz_get32(row), stored = fuzz_get32(row + 4), count = fuzz_get32(row + 8);
		if (stored > len - at)
			return;
		if (crc32c(0, frame + at, stored) == fuzz_get32(row + 12) && raw_bytes < 1u << 26) {
			uint8_t *raw = fuzz_alloc(raw_bytes);
			bool good = stored == raw_bytes;
			if (good)
				memcpy(raw, frame + at, stored);
			else
				good = LZ4_decompress_safe((const char *)frame + at, (char *)raw, (int)stored,
					       (int)raw_bytes) == (int)raw_bytes;
			if (good)
				add_block(frames, id, raw, raw_bytes, count);
			free(raw);
		}
		id += count;
		at += stored;
	}
}

static bool header_salt(const uint8_t *bytes, size_t len, uint64_t *ret_salt)
{
	uint32_t header = len >= 52 ? fuzz_get32(bytes + 12) : 0;
	if (header < 52 || header > len || header > 312 || memcmp(bytes, "IWALSEG1", 8) != 0 ||
		crc32c(0, bytes, header - 4) != fuzz_get32(bytes + header - 4))
		return false;
	*ret_salt = fuzz_get64(bytes + 24);
	return true;
}

static void add_file(struct whole_frames *frames, const char *name, const uint8_t *bytes, size_t len)
{
	uint64_t salt = 0, name_salt = 0;
	unsigned long long first, end, of_name;
	bool has_salt = header_salt(bytes, len, &salt);
	bool is_cut = sscanf(name, "%20llu.%20llu.%16llx.cut", &first, &end, &of_name) == 3;
	if (is_cut)
		name_salt = of_name;
	for (size_t at = 0; at + 116 <= len; at += 8) {
		const uint8_t *frame = bytes + at;
		size_t header = fuzz_get32(frame + 4);
		uint64_t own = fuzz_get64(frame + 40);
		if (memcmp(frame, "IWFR", 4) != 0 || fuzz_get64(frame + 8) != at || header < 116 || header > len - at)
			continue;
		if (!(has_salt && own == salt) && !(is_cut && own == name_salt))
			continue;
		if (crc32c(0, frame, header - 4) == fuzz_get32(frame + header - 4))
			add_frame(frames, frame, len - at, header);
	}
}

static int file_cb(const char *name, bool is_dir, void *arg)
{
	struct whole_frames *frames = arg;
	char path[IO_PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", frames->dir, name);
	int64_t size = is_dir ? 0 : sim_file_size(frames->io, path);
	if (size <= 0)
		return 0;
	/* A journal that lies can make a file long, and only by zeros. */
	size = size > LOOKED_AT_MAX ? LOOKED_AT_MAX : size;
	uint8_t *bytes = fuzz_alloc((size_t)size);
	FUZZ_CHECK(sim_read_file(frames->io, path, 0, bytes, (size_t)size) == 0, "%s cannot be read", path);
	add_file(frames, name, bytes, (size_t)size);
	free(bytes);
	return 0;
}

static int dir_cb(const char *name, bool is_dir, void *arg)
{
	struct whole_frames *frames = arg;
	if (!is_dir)
		return 0;
	frames->dir = name;
	return sim_list(frames->io, name, file_cb, frames);
}

static int by_key(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
	return (a > b) - (a < b);
}

struct whole_frames *whole_frames_find(struct io *io)
{
	struct whole_frames *frames = fuzz_alloc(sizeof(*frames));
	*frames = (struct whole_frames){.io = io};
	(void)sim_list(io, "", dir_cb, frames);
	if (frames->count > 0)
		qsort(frames->keys, frames->count, sizeof(*frames->keys), by_key);
	return frames;
}

void whole_frames_free(struct whole_frames *frames)
{
	free(frames->keys);
	free(frames);
}

bool whole_frames_have(
	const struct whole_frames *frames, const char *dir, uint64_t id, const uint8_t *bytes, size_t len)
{
	uint64_t key = key_of(dir, id, bytes, len);
	return frames->count > 0 && bsearch(&key, frames->keys, frames->count, sizeof(key), by_key) != NULL;
}
