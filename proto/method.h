/*
 * method: the methods by name, and what right each needs.
 *
 * Owns nothing; any thread may call it.
 * Invariant: METHOD_UNKNOWN is every name that this release does not serve.
 */
#ifndef IRONWALD_METHOD_H
#define IRONWALD_METHOD_H

#include <stddef.h>

enum method {
#define METHOD(suffix, name, right) METHOD_##suffix,
#include "methods.def"
#undef METHOD
	METHOD_UNKNOWN, /* also the number of the others */
};

enum right { RIGHT_NONE, RIGHT_READ, RIGHT_APPEND, RIGHT_ADMIN };

enum method method_from_name(const void *name, size_t len);
/* NUL-terminated; "?" for METHOD_UNKNOWN. */
const char *method_name(enum method method);
enum right method_right(enum method method);

#endif
