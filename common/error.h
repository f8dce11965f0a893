/*
 * error: what went wrong, as a code with typed fields and one readable line.
 *
 * Owns nothing but itself: a struct error is plain memory of the caller's, filled by the callee.
 * Any thread may call anything here on an error that it owns.
 * Invariant: a function that returns 0 has not touched the error; one that returns -1 has filled it.
 *
 * A field is meaningful only if its bit is in `fields`. `code` ERR_OTHER is a code from the wire that
 * this program does not know; its name is in `code_name` and is passed on as it came.
 */
#ifndef IRONWALD_ERROR_H
#define IRONWALD_ERROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum error_code {
	ERR_NONE = 0,
#define ERROR(suffix, name, required, optional) ERR_##suffix,
#include "errors.def"
#undef ERROR
	ERR_OTHER,
};

enum error_field {
	/* name on the wire, type */
	EFI_OS_ERRNO,	/* "errno", str: the symbolic name, as ENOSPC */
	EFI_PATH,	/* "path", str */
	EFI_OUTCOME,	/* "outcome", str: "none" or "unknown" */
	EFI_STREAM,	/* "stream", str */
	EFI_SEGMENT,	/* "segment", str: a file's name */
	EFI_OFFSET,	/* "offset", uint: bytes from the file's start */
	EFI_ID,		/* "id", uint: an entry's id */
	EFI_FIRST_ID,	/* "first_id", uint: where reading can go on */
	EFI_EXPECTED,	/* "expected", uint */
	EFI_ACTUAL,	/* "actual", uint */
	EFI_NAME,	/* "name", str (bin if it is not UTF-8) */
	EFI_CHECKPOINT, /* "id", bin: a checkpoint's id, cut to 255 bytes */
	EFI_REASON,	/* "reason", str */
	EFI_FOUND,	/* "found", uint */
	EFI_METHOD,	/* "method", str */
	EFI_LIMIT,	/* "limit", uint: bytes or elements */
	EFI_SIZE,	/* "size", uint: bytes or elements */
	EFI_COUNT,
};

#define EF(field) (UINT32_C(1) << EFI_##field)

enum error_outcome { OUTCOME_NONE = 0, OUTCOME_UNKNOWN = 1 };

/* Up to 255 bytes, NUL inside is legal; always NUL-terminated at bytes[len]. */
struct error_text {
	uint16_t len;
	char bytes[256];
};

struct error {
	enum error_code code;
	uint32_t fields; /* EF() bits */
	int os_errno;	 /* host errno; 0 if the peer sent a name that this host does not know */
	enum error_outcome outcome;
	uint64_t offset, id, first_id, expected, actual, found, limit, size;
	struct error_text path, stream, segment, name, checkpoint, reason, method;
	char errno_name[24]; /* as "ENOSPC" */
	char code_name[40];  /* only for ERR_OTHER */
	char message[512];   /* one line: what, where, what to do */
};

/* Clears *e, sets code and message (printf format). Returns -1, so that `return error_set(...)` reads well.
 * A NULL e is legal and only returns -1. */
int error_set(struct error *e, enum error_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* An Io error: code, errno with its symbolic name, path, outcome none, and "what PATH: strerror". Returns -1. */
int error_set_io(struct error *e, int os_errno, const char *what, const char *path);

/* Set one field and its bit. Texts are cut to 255 bytes, at a UTF-8 boundary. */
void error_set_u64(struct error *e, enum error_field field, uint64_t value);
void error_set_text(struct error *e, enum error_field field, const void *bytes, size_t len);
void error_set_outcome(struct error *e, enum error_outcome outcome);

/* The fields again, by number, for the codec: NULL where the field is of the other type. */
uint64_t *error_u64_field(struct error *e, enum error_field field);
struct error_text *error_text_field(struct error *e, enum error_field field);

bool error_has(const struct error *e, enum error_field field);

/* On the heap, for whoever is told of it later: read it, then error_free. Never NULL: without memory it is one of a few
 * that are always there, Io with ENOMEM and the same outcome. */
struct error *error_copy(const struct error *from);
void error_free(struct error *e); /* NULL is legal */

/* "Io", "Corruption", ... Never NULL. For ERR_OTHER use e->code_name. */
const char *error_code_name(enum error_code code);
/* ERR_OTHER for a name not in the table. */
enum error_code error_code_from_name(const char *name, size_t len);
/* "errno", "path", ... as on the wire. */
const char *error_field_name(enum error_field field);
/* EF() bits of the table's row. */
uint32_t error_required_fields(enum error_code code);
uint32_t error_optional_fields(enum error_code code);

/* "ENOSPC" for ENOSPC; "E<number>" for what has no name. Static memory. */
const char *error_errno_name(int os_errno);
/* The reverse; 0 if not known. */
int error_errno_from_name(const char *name, size_t len);

#endif
