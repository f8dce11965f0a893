/*
 * client_error: what is behind an ironwal_error.
 *
 * Owns nothing: plain memory of the caller's. Used by the thread that uses the connection.
 * Invariant: code, fate and the two flags fit together; they are set by the functions here only.
 *
 * Every function accepts NULL and returns -1, so that `return cerr_set(...)` reads well.
 */
#ifndef IRONWAL_CLIENT_ERROR_H
#define IRONWAL_CLIENT_ERROR_H

#include <stdbool.h>

#include "error.h"
#include "ironwal.h"

struct ironwal_error {
	struct error wire; /* message always; code and fields if it came from the server (or speaks its language) */
	ironwal_error_code code;
	ironwal_fate fate;
	bool retriable;
	bool unusable; /* the connection is */
};

/* An error of the library's own: printf format. Fate not a write, connection usable. */
int cerr_set(ironwal_error *error, ironwal_error_code code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same with an errno, whose text is added. */
int cerr_set_errno(ironwal_error *error, ironwal_error_code code, int os_errno, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

int cerr_no_memory(ironwal_error *error);

/* TooLarge, found here: nothing is sent. */
int cerr_too_large(ironwal_error *error, const char *what, uint64_t limit, uint64_t size);

/* What the server answered. */
int cerr_from_wire(ironwal_error *error, const struct error *wire);

/* The fate, and from it whether sending again is safe. is_repeatable: the request may be executed twice. */
int cerr_fate(ironwal_error *error, ironwal_fate fate, bool is_repeatable);

/* The fate of a write that the server refused with this. */
ironwal_fate cerr_wire_fate(const struct error *wire);

int cerr_unusable(ironwal_error *error, bool unusable);

#endif
