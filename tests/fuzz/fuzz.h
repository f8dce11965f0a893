/*
 * fuzz: what all fuzzers share: reading a script of an input, and checks.
 *
 * Owns nothing. One thread.
 * Invariant: any bytes are a script: what is read behind its end is zeros, so that no input is refused. What a fuzzer
 * checks with is written a second time here (but for the CRC), so that it does not agree with what it checks by sharing
 * its mistakes.
 */
#ifndef IRONWALD_FUZZ_H
#define IRONWALD_FUZZ_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ---- the targets: each of fuzz_*.c has one of each; libFuzzer or replay.c calls them ---- */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Once, before the first; a target that has nothing to prepare takes that of fuzz.c. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
/* libFuzzer's own, for mutators of ours. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

/* Prints what is wrong and ends the program in a way that libFuzzer and the sanitizers take for a crash. */
_Noreturn void fuzz_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define FUZZ_CHECK(condition, ...) ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, __VA_ARGS__))

/* Nothing of what the program logs is shown, unless FUZZ_LOG is set in the environment. */
void fuzz_quiet(void);

/* ---- a script ---- */

struct fuzz_in {
	const uint8_t *at, *end;
};

static inline bool fuzz_more(const struct fuzz_in *in)
{
	return in->at < in->end;
}

static inline uint8_t fuzz_u8(struct fuzz_in *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

/* Little-endian, of 1 to 8 bytes. */
static inline uint64_t fuzz_uint(struct fuzz_in *in, unsigned bytes)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)fuzz_u8(in) << 8 * i;
	return value;
}

/* Up to `wanted` bytes; *ret_len is how many there are. */
static inline const uint8_t *fuzz_take(struct fuzz_in *in, size_t wanted, size_t *ret_len)
{
	const uint8_t *at = in->at;
	size_t left = (size_t)(in->end - in->at);
	*ret_len = wanted < left ? wanted : left;
	in->at += *ret_len;
	return at;
}

/* One of: small numbers, the neighbours of powers of two, any. */
uint64_t fuzz_number(struct fuzz_in *in);

/* ---- a sequence that a seed picks ---- */

static inline uint32_t fuzz_next(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*state >> 33);
}

/* ---- bytes ---- */

uint64_t fuzz_hash(uint64_t seed, const void *bytes, size_t len);

/* Little-endian. */
static inline uint32_t fuzz_get32(const uint8_t *at)
{
	uint32_t value;
	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static inline uint64_t fuzz_get64(const uint8_t *at)
{
	uint64_t value;
	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

static inline void fuzz_put32(uint8_t *at, uint32_t value)
{
	value = htole32(value);
	memcpy(at, &value, sizeof(value));
}

static inline void fuzz_put64(uint8_t *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof(value));
}

/* ---- memory ---- */

/* Never NULL. */
void *fuzz_alloc(size_t size);
/* A copy of exactly these bytes, so that what looks behind them is caught; to be freed with free(). */
uint8_t *fuzz_copy(const void *bytes, size_t len);

#endif
