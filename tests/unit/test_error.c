/* error: codes, fields, texts, names of errno. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "error.h"
#include "utf8.h"

Test(error, every_row_has_a_name_and_it_leads_back)
{
	unsigned rows = 0;
#define ERROR(suffix, name, required, optional)                                                                        \
	cr_assert(strcmp(error_code_name(ERR_##suffix), name) == 0, name);                                             \
	cr_assert(error_code_from_name(name, strlen(name)) == ERR_##suffix, name);                                     \
	cr_assert(error_required_fields(ERR_##suffix) == (required), name);                                            \
	cr_assert(error_optional_fields(ERR_##suffix) == (optional), name);                                            \
	cr_assert(((required) & (optional)) == 0, name);                                                               \
	rows++;
#include "errors.def"
#undef ERROR
	cr_assert(rows == 21, "%u rows", rows);
	cr_assert(error_code_from_name("NoSuchCode", 10) == ERR_OTHER, "unknown");
	cr_assert(error_code_from_name("Ioo", 3) == ERR_OTHER && error_code_from_name("I", 1) == ERR_OTHER, "length");
	cr_assert(error_code_from_name("", 0) == ERR_OTHER, "empty");
	cr_assert(error_code_from_name("None", 4) == ERR_OTHER, "none is no code");
}

Test(error, set_clears_and_returns_minus_one)
{
	struct error e;
	memset(&e, 0xaa, sizeof(e));
	errno = EPIPE;
	cr_assert(error_set(&e, ERR_CONFLICT, "stream %s: %d", "a", 5) == -1, "-1");
	cr_assert(errno == EPIPE, "errno is kept");
	cr_assert(e.code == ERR_CONFLICT && e.fields == 0 && strcmp(e.message, "stream a: 5") == 0, "%s", e.message);
	cr_assert(e.os_errno == 0 && e.outcome == OUTCOME_NONE && e.expected == 0 && e.stream.len == 0, "cleared");
	cr_assert(error_set(NULL, ERR_IO, "x") == -1, "NULL");
	cr_assert(error_set_io(NULL, EIO, "x", "y") == -1, "NULL");
	error_set_u64(NULL, EFI_ID, 1);
	error_set_text(NULL, EFI_PATH, "x", 1);
	error_set_outcome(NULL, OUTCOME_UNKNOWN);
}

Test(error, an_error_may_be_wrapped_in_itself)
{
	struct error e;
	error_set(&e, ERR_IO, "inner");
	error_set(&e, ERR_CONFIG, "outer: %s", e.message);
	cr_assert(strcmp(e.message, "outer: inner") == 0, "%s", e.message);
}

Test(error, fields_are_set_once_and_by_type)
{
	struct error e;
	error_set(&e, ERR_IO, "x");
	for (unsigned field = 0; field < EFI_COUNT; field++) {
		bool number = error_u64_field(&e, (enum error_field)field) != NULL;
		bool text = error_text_field(&e, (enum error_field)field) != NULL;
		bool other = field == EFI_OUTCOME || field == EFI_OS_ERRNO;
		cr_assert(number + text + other == 1, "field %u has one type", field);
		cr_assert(!error_has(&e, (enum error_field)field), "field %u is not set", field);
		error_set_u64(&e, (enum error_field)field, 100 + field);
		cr_assert(error_has(&e, (enum error_field)field) == number, "field %u", field);
		error_set_text(&e, (enum error_field)field, "text", 4);
		cr_assert(error_has(&e, (enum error_field)field) == (number || text), "field %u", field);
		if (number)
			cr_assert(*error_u64_field(&e, (enum error_field)field) == 100 + field, "field %u", field);
	}
}

Test(error, texts_keep_nul_and_are_cut_at_a_character)
{
	struct error e;
	error_set(&e, ERR_STREAM_NOT_FOUND, "x");
	error_set_text(&e, EFI_STREAM, "a\0b", 3);
	cr_assert(e.stream.len == 3 && memcmp(e.stream.bytes, "a\0b", 4) == 0, "NUL inside");
	char text[300];
	for (size_t i = 0; i < sizeof(text); i += 3)
		memcpy(text + i, "\xe2\x82\xac", 3);
	error_set_text(&e, EFI_NAME, text, sizeof(text));
	cr_assert(e.name.len == 255 && utf8_valid(e.name.bytes, 255) && e.name.bytes[255] == '\0', "85 characters");
	error_set_text(&e, EFI_NAME, text + 1, sizeof(text) - 1);
	cr_assert(e.name.len <= 255, "what is not UTF-8 too");
	error_set_text(&e, EFI_NAME, NULL, 0);
	cr_assert(e.name.len == 0 && error_has(&e, EFI_NAME), "empty is set");
}

Test(error, a_message_is_one_line_of_utf8)
{
	struct error e;
	error_set(&e, ERR_CONFIG, "%s", "two\nlines\tand\x7f");
	cr_assert(strcmp(e.message, "two?lines?and?") == 0, "%s", e.message);
	error_set(&e, ERR_CONFIG, "%s", "bad \xff byte");
	cr_assert(strcmp(e.message, "bad ? byte") == 0, "%s", e.message);
	char text[1200];
	for (unsigned shift = 0; shift < 3; shift++) {
		memset(text, 'x', shift);
		for (size_t i = shift; i + 3 < sizeof(text); i += 3)
			memcpy(text + i, "\xe2\x82\xac", 4);
		error_set(&e, ERR_CONFIG, "%s", text);
		cr_assert(strlen(e.message) >= 509 && utf8_valid(e.message, strlen(e.message)), "cut %u", shift);
		cr_assert(strchr(e.message, '?') == NULL, "a cut end is no reason to spoil the rest");
	}
}

Test(error, io_carries_what_the_contract_names)
{
	struct error e;
	cr_assert(error_set_io(&e, ENOSPC, "write", "orders/1.wal") == -1, "-1");
	cr_assert(e.code == ERR_IO && e.fields == error_required_fields(ERR_IO), "fields");
	cr_assert(e.os_errno == ENOSPC && strcmp(e.errno_name, "ENOSPC") == 0, "errno");
	cr_assert(strcmp(e.path.bytes, "orders/1.wal") == 0 && e.outcome == OUTCOME_NONE, "path, outcome");
	cr_assert(strcmp(e.message, "write orders/1.wal: No space left on device") == 0, "%s", e.message);
	error_set_outcome(&e, OUTCOME_UNKNOWN);
	cr_assert(e.outcome == OUTCOME_UNKNOWN, "outcome");
}

Test(error, errno_names_lead_back)
{
	cr_assert(strcmp(error_errno_name(ENOSPC), "ENOSPC") == 0, "ENOSPC");
	cr_assert(strcmp(error_errno_name(EDQUOT), "EDQUOT") == 0, "EDQUOT");
	cr_assert(strcmp(error_errno_name(3999), "E3999") == 0, "%s", error_errno_name(3999));
	cr_assert(error_errno_from_name("E3999", 5) == 3999, "a number");
	for (int number = 1; number < 140; number++) {
		const char *name = error_errno_name(number);
		cr_assert(error_errno_from_name(name, strlen(name)) == number, "%s", name);
	}
	cr_assert(error_errno_from_name("EWOULDBLOCK", 11) == EWOULDBLOCK, "an alias");
	cr_assert(error_errno_from_name("ENOTSUP", 7) == ENOTSUP, "an alias");
	cr_assert(error_errno_from_name("ENOSUCH", 7) == 0, "unknown");
	cr_assert(error_errno_from_name("E", 1) == 0 && error_errno_from_name("", 0) == 0, "short");
	cr_assert(error_errno_from_name("E99999999999999", 15) == 0, "a number out of range");
	cr_assert(error_errno_from_name("ENOSPCx", 7) == 0 && error_errno_from_name("ENOSP", 5) == 0, "length");
}
