/* error maps: every row of the table there and back, and maps that no honest peer sends. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "buf.h"
#include "message.h"
#include "utf8.h"

#define SPAN(text) ((struct span){(const uint8_t *)(text), sizeof(text) - 1})

/* A value for each field, so that a mix-up of two shows. */
static void fill_fields(struct error *e, uint32_t fields)
{
	static const char texts[EFI_COUNT][16] = {[EFI_PATH] = "some/path",
		[EFI_STREAM] = "st\0ream",
		[EFI_SEGMENT] = "0001.wal",
		[EFI_NAME] = "n\xc3\xa4me",
		[EFI_CHECKPOINT] = "check\xff",
		[EFI_REASON] = "torn",
		[EFI_METHOD] = "frobnicate"};
	static const size_t lengths[EFI_COUNT] = {[EFI_PATH] = 9,
		[EFI_STREAM] = 7,
		[EFI_SEGMENT] = 8,
		[EFI_NAME] = 5,
		[EFI_CHECKPOINT] = 6,
		[EFI_REASON] = 4,
		[EFI_METHOD] = 10};
	for (unsigned i = 0; i < EFI_COUNT; i++) {
		enum error_field field = (enum error_field)i;
		if ((fields >> i & 1) == 0)
			continue;
		if (field == EFI_OUTCOME) {
			error_set_outcome(e, OUTCOME_UNKNOWN);
		} else if (field == EFI_OS_ERRNO) {
			e->os_errno = ENOSPC;
			e->fields |= EF(OS_ERRNO);
		} else if (error_u64_field(e, field) != NULL) {
			error_set_u64(e, field, UINT64_MAX - i);
		} else {
			error_set_text(e, field, texts[i], lengths[i]);
		}
	}
	cr_assert(e->fields == fields, "all set");
}

static struct span encode(struct buf *buf, const struct error *e)
{
	struct mp_writer writer;
	buf->len = 0;
	mp_writer_init(&writer, buf);
	error_encode(&writer, e, 0);
	cr_assert(!writer.failed, "encoded");
	struct mp_reader reader = {buf->data, buf->data + buf->len};
	cr_assert(mp_skip(&reader) == 0 && reader.at == reader.end, "one well-formed value");
	return (struct span){buf->data, buf->len};
}

static void same(const struct error *sent, const struct error *got)
{
	const char *name = error_code_name(sent->code);
	cr_assert(got->code == sent->code, "%s: code %s", name, error_code_name(got->code));
	cr_assert(got->fields == sent->fields, "%s: fields %x, not %x", name, got->fields, sent->fields);
	cr_assert(strcmp(got->message, sent->message) == 0, "%s: %s", name, got->message);
	for (unsigned i = 0; i < EFI_COUNT; i++) {
		enum error_field field = (enum error_field)i;
		if (!error_has(sent, field))
			continue;
		const uint64_t *number = error_u64_field((struct error *)got, field);
		const struct error_text *text = error_text_field((struct error *)got, field);
		const struct error_text *sent_text = error_text_field((struct error *)sent, field);
		if (number != NULL)
			cr_assert(*number == *error_u64_field((struct error *)sent, field), "%s.%s", name,
				error_field_name(field));
		else if (text != NULL)
			cr_assert(text->len == sent_text->len &&
					  memcmp(text->bytes, sent_text->bytes, text->len + 1U) == 0,
				"%s.%s", name, error_field_name(field));
	}
	cr_assert(got->outcome == sent->outcome && got->os_errno == sent->os_errno, "%s: outcome, errno", name);
}

static void round_trip(enum error_code code, uint32_t fields)
{
	struct error sent, got;
	struct buf buf = {0};
	error_set(&sent, code, "what %d, where, what to do", (int)code);
	fill_fields(&sent, fields);
	struct span map = encode(&buf, &sent);
	struct span value, text;
	cr_assert(mp_map_find(map, "code", &value) == 0 && mp_get_str(value, &text) == 0, "code is a str");
	cr_assert(text.len == strlen(error_code_name(code)) && memcmp(text.data, error_code_name(code), text.len) == 0,
		"its name");
	memset(&got, 0x55, sizeof(got));
	error_decode(map, &got);
	same(&sent, &got);
	if (fields & EF(OS_ERRNO))
		cr_assert(strcmp(got.errno_name, "ENOSPC") == 0, "errno by name");
	/* Cut anywhere, it is still an error: that the peer does not speak the protocol. */
	for (size_t cut = 0; cut < map.len; cut++) {
		uint8_t *copy = malloc(cut + 1);
		memcpy(copy + 1, map.data, cut);
		error_decode((struct span){copy + 1, cut}, &got);
		cr_assert(got.code == ERR_SERIALIZATION && got.fields == 0, "cut to %zu", cut);
		free(copy);
	}
	buf_free(&buf);
}

Test(error_codec, every_row_there_and_back)
{
	unsigned rows = 0;
#define ERROR(suffix, name, required, optional)                                                                        \
	round_trip(ERR_##suffix, required);                                                                            \
	round_trip(ERR_##suffix, (required) | (optional));                                                             \
	rows++;
#include "errors.def"
#undef ERROR
	cr_assert(rows == (unsigned)ERR_OTHER - 1, "%u rows", rows);
}

Test(error_codec, id_is_a_number_or_bytes)
{
	struct error sent, got;
	struct buf buf = {0};
	struct span value, bytes;
	error_set(&sent, ERR_CHECKPOINT_NOT_FOUND, "x");
	error_set_text(&sent, EFI_CHECKPOINT, "abc", 3);
	struct span map = encode(&buf, &sent);
	cr_assert(mp_map_find(map, "id", &value) == 0 && mp_get_bytes(value, &bytes) == 0 && value.data[0] == 0xc4,
		"a checkpoint's id is bin, even if it is text");
	error_decode(map, &got);
	cr_assert(error_has(&got, EFI_CHECKPOINT) && !error_has(&got, EFI_ID), "bytes");
	error_set(&sent, ERR_SEGMENT_NOT_FOUND, "x");
	error_set_u64(&sent, EFI_ID, 7);
	error_set_text(&sent, EFI_CHECKPOINT, "abc", 3);
	error_decode(encode(&buf, &sent), &got);
	cr_assert(
		error_has(&got, EFI_ID) && got.id == 7 && !error_has(&got, EFI_CHECKPOINT), "not two keys of one name");
	buf_free(&buf);
}

Test(error_codec, a_name_that_is_not_utf8_goes_as_bin)
{
	struct error sent, got;
	struct buf buf = {0};
	struct span value, bytes;
	error_set(&sent, ERR_INVALID_FILENAME, "x");
	error_set_text(&sent, EFI_NAME, "a\xff", 2);
	struct span map = encode(&buf, &sent);
	cr_assert(mp_map_find(map, "name", &value) == 0 && mp_get_str(value, &bytes) == -1, "not str");
	error_decode(map, &got);
	cr_assert(got.name.len == 2 && memcmp(got.name.bytes, "a\xff", 2) == 0, "the same bytes");
	buf_free(&buf);
}

Test(error_codec, codes_and_fields_of_later_versions_survive)
{
	/* {"code": "Tomorrow", "message": "m", "limit": 9, "novelty": [1], "limit2": 3} */
	struct span map = SPAN("\x85\xa4"
			       "code\xa8"
			       "Tomorrow\xa7"
			       "message\xa1"
			       "m\xa5"
			       "limit\x09\xa7"
			       "novelty\x91\x01\xa6"
			       "limit2\x03");
	struct error e;
	struct span value;
	struct buf buf = {0};
	error_decode(map, &e);
	cr_assert(e.code == ERR_OTHER && strcmp(e.code_name, "Tomorrow") == 0, "%s", e.code_name);
	cr_assert(e.fields == EF(LIMIT) && e.limit == 9 && strcmp(e.message, "m") == 0, "known fields");
	cr_assert(mp_map_find(map, "novelty", &value) == 0, "unknown ones are in the map");
	struct error again;
	error_decode(encode(&buf, &e), &again);
	cr_assert(again.code == ERR_OTHER && strcmp(again.code_name, "Tomorrow") == 0, "passed on as it came");
	buf_free(&buf);
}

Test(error_codec, errno_and_outcome_that_this_host_does_not_know)
{
	struct error e;
	struct buf buf = {0};
	/* {"code": "Io", "errno": "EWHATEVER", "outcome": "perhaps"} */
	error_decode(SPAN("\x83\xa4"
			  "code\xa2"
			  "Io\xa5"
			  "errno\xa9"
			  "EWHATEVER\xa7"
			  "outcome\xa7"
			  "perhaps"),
		&e);
	cr_assert(e.code == ERR_IO && e.os_errno == 0 && strcmp(e.errno_name, "EWHATEVER") == 0, "%s", e.errno_name);
	cr_assert(e.outcome == OUTCOME_UNKNOWN, "a word that is not known promises nothing");
	cr_assert(strcmp(e.message, "Io") == 0, "without a message the code has to do: %s", e.message);
	struct error again;
	error_decode(encode(&buf, &e), &again);
	cr_assert(strcmp(again.errno_name, "EWHATEVER") == 0, "passed on");
	buf_free(&buf);
}

Test(error_codec, what_is_no_error_map)
{
	const struct span bad[] = {SPAN("\xc0"), SPAN("\x01"), SPAN("\x90"), SPAN("\x80"), SPAN(""),
		SPAN("\x81\xa4"
		     "code\x01"),
		SPAN("\x81\xa7"
		     "message\xa1"
		     "m"),
		SPAN("\x81\xa4"
		     "code\xa2"
		     "Io\x00"),
		SPAN("\xdf\xff\xff\xff\xff"),
		SPAN("\x82\xa4"
		     "code\xa2"
		     "Io\xa7"
		     "message\x01"),
		SPAN("\x81\xa4"
		     "code\xdb\xff\xff\xff\xff"
		     "Io")};
	struct error e;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		error_decode(bad[i], &e);
		cr_assert(e.code == ERR_SERIALIZATION && e.message[0] != '\0', "map %zu", i);
	}
	error_decode((struct span){0}, &e);
	cr_assert(e.code == ERR_SERIALIZATION, "nothing");
	/* A known field of a wrong type is as if it were not there. */
	error_decode(SPAN("\x82\xa4"
			  "code\xa8"
			  "Conflict\xa8"
			  "expected\xff"),
		&e);
	cr_assert(e.code == ERR_CONFLICT && e.fields == 0, "mistyped");
	error_decode(SPAN("\x82\xa4"
			  "code\xa8"
			  "Conflict\xa8"
			  "expected\xc0"),
		&e);
	cr_assert(e.code == ERR_CONFLICT && e.fields == 0, "nil");
}

Test(error_codec, texts_of_the_peer_are_cut_and_cleaned)
{
	static char text[70000];
	struct buf buf = {0};
	struct mp_writer writer;
	struct error e;
	memset(text, 'A', sizeof(text));
	mp_writer_init(&writer, &buf);
	mp_write_map(&writer, 4);
	mp_write_str(&writer, "code");
	mp_write_str_len(&writer, text, sizeof(text));
	mp_write_str(&writer, "message");
	mp_write_str_len(&writer, text, sizeof(text));
	mp_write_str(&writer, "errno");
	mp_write_str_len(&writer, text, sizeof(text));
	mp_write_str(&writer, "path");
	mp_write_str_len(&writer, text, sizeof(text));
	error_decode((struct span){buf.data, buf.len}, &e);
	cr_assert(e.code == ERR_OTHER && strlen(e.code_name) == sizeof(e.code_name) - 1, "code");
	cr_assert(strlen(e.message) == sizeof(e.message) - 1, "message");
	cr_assert(strlen(e.errno_name) == sizeof(e.errno_name) - 1 && e.path.len == 255, "errno, path");
	error_decode(SPAN("\x82\xa4"
			  "code\xa3"
			  "a\x1b"
			  "b\xa7"
			  "message\xa5"
			  "a\nb\xff"
			  "c"),
		&e);
	cr_assert(strcmp(e.code_name, "a?b") == 0 && strcmp(e.message, "a?b?c") == 0, "%s %s", e.code_name, e.message);
	buf_free(&buf);
}
