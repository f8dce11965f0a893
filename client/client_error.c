#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "client_error.h"
#include "client_memory.h"

ironwal_error *ironwal_error_new(void)
{
	return ironwal_error_new_with(NULL);
}

ironwal_error *ironwal_error_new_with(const ironwal_allocator *allocator)
{
	const struct mem mem = mem_from(allocator);
	return block_new(&mem, sizeof(struct ironwal_error));
}

void ironwal_error_free(ironwal_error *error)
{
	block_free(error);
}

void ironwal_error_clear(ironwal_error *error)
{
	if (error != NULL)
		memset(error, 0, sizeof(*error));
}

void ironwal_error_copy(ironwal_error *error, const ironwal_error *other)
{
	if (other == NULL)
		ironwal_error_clear(error);
	else if (error != NULL)
		*error = *other;
}

/* The table makes the mapping: a row that the public header lacks does not compile. */
static ironwal_error_code code_from_wire(enum error_code code)
{
	switch (code) {
#define ERROR(suffix, name, required, optional)                                                                        \
	case ERR_##suffix:                                                                                             \
		return IRONWAL_ERR_##suffix;
#include "errors.def"
#undef ERROR
	case ERR_NONE:
	case ERR_OTHER:
		break;
	}
	return IRONWAL_ERR_OTHER;
}

/* A message is printed as one line: what a server (or a name in it) says must not move the cursor. */
static void make_printable(char *text)
{
	for (unsigned char *at = (unsigned char *)text; *at != '\0'; at++) {
		if (*at < 0x20 || *at == 0x7f)
			*at = '?';
		else if (*at == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0)
			at[0] = at[1] = '?'; /* U+0080 to U+009F, as the one that stands for ESC [ */
	}
}

static bool is_transient(const struct ironwal_error *error)
{
	switch (error->code) {
	case IRONWAL_ERR_BUSY:
	case IRONWAL_ERR_SHUTTING_DOWN:
	case IRONWAL_ERR_CONNECT:
	case IRONWAL_ERR_CONNECTION_LOST:
	case IRONWAL_ERR_TIMEOUT:
	case IRONWAL_ERR_AGAIN:
	case IRONWAL_ERR_NO_MEMORY:
		return true;
	case IRONWAL_ERR_IO:
		return error->wire.os_errno == ENOSPC || error->wire.os_errno == EDQUOT;
	default:
		return false;
	}
}

int cerr_set(ironwal_error *error, ironwal_error_code code, const char *format, ...)
{
	if (error == NULL)
		return -1;
	va_list args;
	memset(error, 0, sizeof(*error));
	error->code = code;
	va_start(args, format);
	(void)vsnprintf(error->wire.message, sizeof(error->wire.message), format, args);
	va_end(args);
	make_printable(error->wire.message);
	return cerr_fate(error, IRONWAL_FATE_NOT_A_WRITE, false);
}

int cerr_set_errno(ironwal_error *error, ironwal_error_code code, int os_errno, const char *format, ...)
{
	if (error == NULL)
		return -1;
	char what[400], reason[96];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	const char *text = strerror_r(os_errno, reason, sizeof(reason));
	cerr_set(error, code, "%s: %s", what, text);
	error->wire.os_errno = os_errno;
	return -1;
}

int cerr_no_memory(ironwal_error *error)
{
	return cerr_set(error, IRONWAL_ERR_NO_MEMORY, "out of memory");
}

int cerr_too_large(ironwal_error *error, const char *what, uint64_t limit, uint64_t size)
{
	cerr_set(error, IRONWAL_ERR_TOO_LARGE, "%s: %llu, the limit is %llu; nothing was sent", what,
		(unsigned long long)size, (unsigned long long)limit);
	if (error != NULL) {
		error_set_u64(&error->wire, EFI_LIMIT, limit);
		error_set_u64(&error->wire, EFI_SIZE, size);
	}
	return cerr_fate(error, IRONWAL_FATE_NOT_SENT, false);
}

int cerr_from_wire(ironwal_error *error, const struct error *wire)
{
	if (error == NULL)
		return -1;
	memset(error, 0, sizeof(*error));
	error->wire = *wire;
	error->code = code_from_wire(wire->code);
	make_printable(error->wire.message);
	make_printable(error->wire.code_name);
	return cerr_fate(error, IRONWAL_FATE_NOT_A_WRITE, false);
}

ironwal_fate cerr_wire_fate(const struct error *wire)
{
	/* Every refusal says that nothing was written, except one that says it does not know. */
	if (error_has(wire, EFI_OUTCOME) && wire->outcome != OUTCOME_NONE)
		return IRONWAL_FATE_UNKNOWN;
	return IRONWAL_FATE_REFUSED;
}

int cerr_fate(ironwal_error *error, ironwal_fate fate, bool is_repeatable)
{
	if (error == NULL)
		return -1;
	error->fate = fate;
	error->retriable = is_transient(error) && fate != IRONWAL_FATE_WRITTEN && fate != IRONWAL_FATE_PARTLY &&
			   (fate != IRONWAL_FATE_UNKNOWN || is_repeatable);
	return -1;
}

int cerr_unusable(ironwal_error *error, bool unusable)
{
	if (error != NULL)
		error->unusable = unusable;
	return -1;
}

ironwal_error_code ironwal_error_get_code(const ironwal_error *error)
{
	return error != NULL ? error->code : IRONWAL_OK;
}

const char *ironwal_error_code_name(const ironwal_error *error)
{
	switch (ironwal_error_get_code(error)) {
	case IRONWAL_OK:
		return "Ok";
	case IRONWAL_ERR_NO_MEMORY:
		return "NoMemory";
	case IRONWAL_ERR_INVALID_ARGUMENT:
		return "InvalidArgument";
	case IRONWAL_ERR_CONNECT:
		return "Connect";
	case IRONWAL_ERR_CONNECTION_LOST:
		return "ConnectionLost";
	case IRONWAL_ERR_TIMEOUT:
		return "Timeout";
	case IRONWAL_ERR_PROTOCOL:
		return "Protocol";
	case IRONWAL_ERR_AGAIN:
		return "Again";
	case IRONWAL_ERR_OTHER:
		return error->wire.code_name[0] != '\0' ? error->wire.code_name : "Other";
	case IRONWAL_ERR_TOO_LARGE: /* may be the library's own, without a code from the wire */
		return error_code_name(ERR_TOO_LARGE);
	default:
		return error_code_name(error->wire.code);
	}
}

const char *ironwal_error_message(const ironwal_error *error)
{
	if (ironwal_error_get_code(error) == IRONWAL_OK)
		return "no error";
	return error->wire.message[0] != '\0' ? error->wire.message : ironwal_error_code_name(error);
}

int ironwal_error_errno(const ironwal_error *error)
{
	return error != NULL ? error->wire.os_errno : 0;
}

ironwal_fate ironwal_error_fate(const ironwal_error *error)
{
	return error != NULL ? error->fate : IRONWAL_FATE_NOT_A_WRITE;
}

const char *ironwal_fate_name(ironwal_fate fate)
{
	switch (fate) {
	case IRONWAL_FATE_NOT_A_WRITE:
		return "not a write";
	case IRONWAL_FATE_NOT_SENT:
		return "not sent";
	case IRONWAL_FATE_REFUSED:
		return "refused";
	case IRONWAL_FATE_WRITTEN:
		return "written";
	case IRONWAL_FATE_PARTLY:
		return "partly";
	case IRONWAL_FATE_UNKNOWN:
		break;
	}
	return "unknown";
}

int ironwal_error_is_retriable(const ironwal_error *error)
{
	return error != NULL && error->retriable;
}

int ironwal_error_connection_usable(const ironwal_error *error)
{
	return error == NULL || !error->unusable;
}

static bool is_present(const struct ironwal_error *error, enum error_field field)
{
	return error != NULL && error_has(&error->wire, field);
}

int ironwal_error_get_uint(const ironwal_error *error, const char *field, uint64_t *ret_value)
{
	for (unsigned i = 0; i < EFI_COUNT; i++) {
		enum error_field f = (enum error_field)i;
		if (!is_present(error, f) || strcmp(error_field_name(f), field) != 0)
			continue;
		/* The accessors of common/ are not const, as they serve the decoder too; nothing is changed here. */
		const uint64_t *value = error_u64_field((struct error *)&error->wire, f);
		if (value == NULL)
			continue;
		*ret_value = *value;
		return 1;
	}
	return 0;
}

static const char *field_text(const struct ironwal_error *error, enum error_field field, size_t *ret_len)
{
	const char *text;
	if (field == EFI_OS_ERRNO) {
		text = error->wire.errno_name;
	} else if (field == EFI_OUTCOME) {
		text = error->wire.outcome == OUTCOME_NONE ? "none" : "unknown";
	} else {
		const struct error_text *t = error_text_field((struct error *)&error->wire, field);
		if (t == NULL)
			return NULL;
		*ret_len = t->len;
		return t->bytes;
	}
	*ret_len = strlen(text);
	return text;
}

int ironwal_error_get_text(const ironwal_error *error, const char *field, const char **ret_text, size_t *ret_len)
{
	for (unsigned i = 0; i < EFI_COUNT; i++) {
		enum error_field f = (enum error_field)i;
		if (!is_present(error, f) || strcmp(error_field_name(f), field) != 0)
			continue;
		size_t len;
		const char *text = field_text(error, f, &len);
		if (text == NULL)
			continue;
		*ret_text = text;
		*ret_len = len;
		return 1;
	}
	return 0;
}

const char *ironwal_error_field(const ironwal_error *error, unsigned index, int *ret_kind)
{
	for (unsigned i = 0; i < EFI_COUNT; i++) {
		enum error_field f = (enum error_field)i;
		if (!is_present(error, f) || index-- > 0)
			continue;
		*ret_kind = error_u64_field((struct error *)&error->wire, f) != NULL ? 1 : 2;
		return error_field_name(f);
	}
	return NULL;
}
