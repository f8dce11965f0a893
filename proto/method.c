#include "method.h"

#include <string.h>

static const struct {
	const char *name;
	enum right right;
} rows[] = {
#define METHOD(suffix, name, right) [METHOD_##suffix] = {name, RIGHT_##right},
#include "methods.def"
#undef METHOD
	[METHOD_UNKNOWN] = {"?", RIGHT_NONE},
};

enum method method_from_name(const void *name, size_t len)
{
	/* Constant lengths: each comparison becomes a few instructions. */
#define METHOD(suffix, text, right)                                                                                    \
	if (len == sizeof(text) - 1 && memcmp(name, text, sizeof(text) - 1) == 0)                                      \
		return METHOD_##suffix;
#include "methods.def"
#undef METHOD
	return METHOD_UNKNOWN;
}

const char *method_name(enum method method)
{
	return rows[method].name;
}

enum right method_right(enum method method)
{
	return rows[method].right;
}
