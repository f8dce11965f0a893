#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"

struct row {
	const char *name;
	uint32_t required, optional;
};

static const struct row rows[] = {
	[ERR_NONE] = {"None", 0, 0},
#define ERROR(suffix, name, required, optional) [ERR_##suffix] = {name, required, optional},
#include "errors.def"
#undef ERROR
	[ERR_OTHER] = {"Other", 0, 0},
};

static const char *const field_names[EFI_COUNT] = {
	[EFI_OS_ERRNO] = "errno",
	[EFI_PATH] = "path",
	[EFI_OUTCOME] = "outcome",
	[EFI_STREAM] = "stream",
	[EFI_SEGMENT] = "segment",
	[EFI_OFFSET] = "offset",
	[EFI_ID] = "id",
	[EFI_FIRST_ID] = "first_id",
	[EFI_EXPECTED] = "expected",
	[EFI_ACTUAL] = "actual",
	[EFI_NAME] = "name",
	[EFI_CHECKPOINT] = "id",
	[EFI_REASON] = "reason",
	[EFI_FOUND] = "found",
	[EFI_METHOD] = "method",
	[EFI_LIMIT] = "limit",
	[EFI_SIZE] = "size",
};

/* A message is one readable line of UTF-8, whatever names went into it. `cut`: the end may be in a character. */
static void message_clean(char *message, bool cut)
{
	size_t len = strlen(message);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)message[i] < 0x20 || message[i] == 0x7f)
			message[i] = '?';
	/* At most the last three bytes are the rest of a torn character. */
	for (size_t drop = 0; cut && drop <= 3 && drop <= len; drop++) {
		if (utf8_valid(message, len - drop)) {
			message[len - drop] = '\0';
			return;
		}
	}
	if (utf8_valid(message, len))
		return;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)message[i] >= 0x80)
			message[i] = '?';
}

/* Not the whole struct: the texts are 2 KiB that nobody reads unless their bit is set. */
static void clear(struct error *e, enum error_code code)
{
	e->code = code;
	e->fields = 0;
	e->os_errno = 0;
	e->outcome = OUTCOME_NONE;
	e->offset = e->id = e->first_id = e->expected = e->actual = e->found = e->limit = e->size = 0;
	struct error_text *texts[] = {
		&e->path, &e->stream, &e->segment, &e->name, &e->checkpoint, &e->reason, &e->method};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		texts[i]->len = 0;
		texts[i]->bytes[0] = '\0';
	}
	e->errno_name[0] = '\0';
	e->code_name[0] = '\0';
	e->message[0] = '\0';
}

int error_set(struct error *e, enum error_code code, const char *format, ...)
{
	if (e == NULL)
		return -1;
	int saved_errno = errno;
	/* Apart from *e first: the arguments may be texts of the same error. */
	char message[sizeof(e->message)] = "";
	va_list args;
	va_start(args, format);
	int wanted = vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	message_clean(message, wanted >= (int)sizeof(message));
	clear(e, code);
	memcpy(e->message, message, sizeof(message));
	errno = saved_errno;
	return -1;
}

int error_set_io(struct error *e, int os_errno, const char *what, const char *path)
{
	if (e == NULL)
		return -1;
	int saved_errno = errno;
	char text[128];
	/* The GNU strerror_r: it may point to a text of its own. */
	const char *reason = strerror_r(os_errno, text, sizeof(text));
	error_set(e, ERR_IO, "%s %s: %s", what, path, reason);
	e->os_errno = os_errno;
	snprintf(e->errno_name, sizeof(e->errno_name), "%s", error_errno_name(os_errno));
	error_set_text(e, EFI_PATH, path, strlen(path));
	e->fields |= EF(OS_ERRNO) | EF(OUTCOME);
	errno = saved_errno;
	return -1;
}

uint64_t *error_u64_field(struct error *e, enum error_field field)
{
	switch (field) {
	case EFI_OFFSET:
		return &e->offset;
	case EFI_ID:
		return &e->id;
	case EFI_FIRST_ID:
		return &e->first_id;
	case EFI_EXPECTED:
		return &e->expected;
	case EFI_ACTUAL:
		return &e->actual;
	case EFI_FOUND:
		return &e->found;
	case EFI_LIMIT:
		return &e->limit;
	case EFI_SIZE:
		return &e->size;
	default:
		return NULL;
	}
}

struct error_text *error_text_field(struct error *e, enum error_field field)
{
	switch (field) {
	case EFI_PATH:
		return &e->path;
	case EFI_STREAM:
		return &e->stream;
	case EFI_SEGMENT:
		return &e->segment;
	case EFI_NAME:
		return &e->name;
	case EFI_CHECKPOINT:
		return &e->checkpoint;
	case EFI_REASON:
		return &e->reason;
	case EFI_METHOD:
		return &e->method;
	default:
		return NULL;
	}
}

void error_set_u64(struct error *e, enum error_field field, uint64_t value)
{
	if (e == NULL)
		return;
	uint64_t *place = error_u64_field(e, field);
	if (place == NULL)
		return;
	*place = value;
	e->fields |= UINT32_C(1) << field;
}

void error_set_text(struct error *e, enum error_field field, const void *bytes, size_t len)
{
	if (e == NULL)
		return;
	struct error_text *text = error_text_field(e, field);
	if (text == NULL)
		return;
	len = utf8_cut(bytes, len, sizeof(text->bytes) - 1);
	if (len > 0)
		memcpy(text->bytes, bytes, len);
	text->bytes[len] = '\0';
	text->len = (uint16_t)len;
	e->fields |= UINT32_C(1) << field;
}

void error_set_outcome(struct error *e, enum error_outcome outcome)
{
	if (e == NULL)
		return;
	e->outcome = outcome;
	e->fields |= EF(OUTCOME);
}

bool error_has(const struct error *e, enum error_field field)
{
	return (e->fields >> field & 1) != 0;
}

const char *error_code_name(enum error_code code)
{
	return (size_t)code < sizeof(rows) / sizeof(rows[0]) ? rows[code].name : rows[ERR_OTHER].name;
}

enum error_code error_code_from_name(const char *name, size_t len)
{
	for (unsigned code = ERR_NONE + 1; code < ERR_OTHER; code++)
		if (strlen(rows[code].name) == len && memcmp(rows[code].name, name, len) == 0)
			return (enum error_code)code;
	return ERR_OTHER;
}

const char *error_field_name(enum error_field field)
{
	return (size_t)field < EFI_COUNT ? field_names[field] : "?";
}

uint32_t error_required_fields(enum error_code code)
{
	return (size_t)code < sizeof(rows) / sizeof(rows[0]) ? rows[code].required : 0;
}

uint32_t error_optional_fields(enum error_code code)
{
	return (size_t)code < sizeof(rows) / sizeof(rows[0]) ? rows[code].optional : 0;
}

/* Above the largest errno of Linux; what is unnamed up to here is "E<number>". */
#define ERRNO_MAX 4095

const char *error_errno_name(int os_errno)
{
	static _Thread_local char unnamed[16];
	const char *name = os_errno > 0 ? strerrorname_np(os_errno) : NULL;
	if (name != NULL)
		return name;
	snprintf(unnamed, sizeof(unnamed), "E%d", os_errno);
	return unnamed;
}

int error_errno_from_name(const char *name, size_t len)
{
	if (len < 2 || len >= 24 || name[0] != 'E')
		return 0;
	for (int number = 1; number <= 255; number++) {
		const char *known = strerrorname_np(number);
		if (known != NULL && strlen(known) == len && memcmp(known, name, len) == 0)
			return number;
	}
	/* Aliases, which strerrorname_np gives under one name only. */
	if (len == 11 && memcmp(name, "EWOULDBLOCK", len) == 0)
		return EWOULDBLOCK;
	if (len == 9 && memcmp(name, "EDEADLOCK", len) == 0)
		return EDEADLOCK;
	if (len == 10 && memcmp(name, "EOPNOTSUPP", len) == 0)
		return EOPNOTSUPP;
	if (len == 7 && memcmp(name, "ENOTSUP", len) == 0)
		return ENOTSUP;
	/* "E<number>" for one without a name. */
	int number = 0;
	for (size_t i = 1; i < len; i++) {
		if (name[i] < '0' || name[i] > '9')
			return 0;
		number = number * 10 + (name[i] - '0');
		if (number > ERRNO_MAX)
			return 0;
	}
	return number;
}
