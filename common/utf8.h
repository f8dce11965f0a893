/*
 * utf8: is it, and where may it be cut.
 *
 * Owns nothing; any thread may call it.
 * Invariant: strict by RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF. NUL is a character.
 */
#ifndef IRONWALD_UTF8_H
#define IRONWALD_UTF8_H

#include <stdbool.h>
#include <stddef.h>

bool utf8_valid(const void *bytes, size_t len);

/* The largest length <= max at which the bytes can be cut without tearing a character apart. Bytes that are not UTF-8
 * are cut at max. */
size_t utf8_cut(const void *bytes, size_t len, size_t max);

#endif
