/*
 * base64: bytes as text, for what cannot be written otherwise.
 *
 * Owns nothing; any thread may call it.
 * Invariant: the text of len bytes has exactly base64_len(len) characters, padding included, and no NUL.
 */
#ifndef IRONWALD_BASE64_H
#define IRONWALD_BASE64_H

#include <stddef.h>
#include <stdint.h>

static inline size_t base64_len(size_t len)
{
	return (len + 2) / 3 * 4;
}

/* text has room for base64_len(len). */
static inline void base64_encode(const uint8_t *bytes, size_t len, char *text)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	for (size_t i = 0; i < len; i += 3) {
		uint32_t v = (uint32_t)bytes[i] << 16;
		if (i + 1 < len)
			v |= (uint32_t)bytes[i + 1] << 8;
		if (i + 2 < len)
			v |= bytes[i + 2];
		*text++ = digits[v >> 18];
		*text++ = digits[v >> 12 & 63];
		*text++ = i + 1 < len ? digits[v >> 6 & 63] : '=';
		*text++ = i + 2 < len ? digits[v & 63] : '=';
	}
}

#endif
