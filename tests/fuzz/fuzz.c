#include "fuzz.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

void fuzz_fail(const char *file, int line, const char *format, ...)
{
	va_list args;
	const char *name = strrchr(file, '/');
	fprintf(stderr, "%s:%d: ", name != NULL ? name + 1 : file, line);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

void fuzz_quiet(void)
{
	if (getenv("FUZZ_LOG") != NULL)
		return;
	log_set_level(LOG_LEVEL_ERROR);
	log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
}

/* For the targets that have nothing else to prepare; the others have one of their own. */
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_quiet();
	return 0;
}

uint64_t fuzz_number(struct fuzz_in *in)
{
	uint8_t form = fuzz_u8(in);
	if (form < 128)
		return form;
	if (form < 192) /* 2^0 - 1 ... 2^63 + 1, and less often the greatest */
		return (UINT64_C(1) << (form & 63)) + fuzz_u8(in) % 3 - 1;
	if (form == 255)
		return UINT64_MAX - fuzz_u8(in);
	return fuzz_uint(in, 1 + (form & 7));
}

uint64_t fuzz_hash(uint64_t seed, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	uint64_t hash = seed ^ UINT64_C(0xcbf29ce484222325);
	for (; len >= 8; at += 8, len -= 8)
		hash = (hash ^ hash >> 31 ^ fuzz_get64(at)) * UINT64_C(0x9e3779b97f4a7c15);
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
	return (hash ^ hash >> 29) * UINT64_C(0x9e3779b97f4a7c15);
}

void *fuzz_alloc(size_t size)
{
	void *memory = malloc(size > 0 ? size : 1);
	FUZZ_CHECK(memory != NULL, "no memory for the fuzzer itself");
	return memory;
}

uint8_t *fuzz_copy(const void *bytes, size_t len)
{
	/* malloc(0) is a place with no byte in it. */
	uint8_t *copy = malloc(len);
	FUZZ_CHECK(copy != NULL || len == 0, "no memory for the fuzzer itself");
	if (len > 0)
		memcpy(copy, bytes, len);
	return copy;
}
