#include "message.h"

#include <string.h>

#include "utf8.h"

static const char outcome_none[] = "none", outcome_unknown[] = "unknown";

/* "id" is an entry's number or a checkpoint's bytes: one of them can be sent. */
static bool is_sent(const struct error *err, enum error_field field)
{
	return error_has(err, field) && !(field == EFI_CHECKPOINT && error_has(err, EFI_ID));
}

static void encode_field(struct mp_writer *writer, const struct error *err, enum error_field field)
{
	/* The accessors hand out places to write to; here they are only read. */
	const uint64_t *number = error_u64_field((struct error *)err, field);
	const struct error_text *text = error_text_field((struct error *)err, field);

	mp_write_str(writer, error_field_name(field));
	if (number != NULL)
		mp_write_u64(writer, *number);
	else if (field == EFI_CHECKPOINT)
		mp_write_bin(writer, text->bytes, text->len);
	else if (text != NULL)
		mp_write_text(writer, text->bytes, text->len);
	else if (field == EFI_OUTCOME)
		mp_write_str(writer, err->outcome == OUTCOME_UNKNOWN ? outcome_unknown : outcome_none);
	else /* EFI_OS_ERRNO */
		mp_write_str(writer, err->errno_name[0] != '\0' ? err->errno_name : error_errno_name(err->os_errno));
}

void error_encode(struct mp_writer *writer, const struct error *err, size_t extra_count)
{
	size_t count = 2 + extra_count;
	for (unsigned field = 0; field < EFI_COUNT; field++)
		count += is_sent(err, (enum error_field)field);
	mp_write_map(writer, count);
	mp_write_str(writer, "code");
	mp_write_str(writer, err->code == ERR_OTHER ? err->code_name : error_code_name(err->code));
	mp_write_str(writer, "message");
	mp_write_text(writer, err->message, strlen(err->message));
	for (unsigned field = 0; field < EFI_COUNT; field++)
		if (is_sent(err, (enum error_field)field))
			encode_field(writer, err, (enum error_field)field);
}

/* A short text from the wire that is shown to people and compared by programs: what is no plain text becomes '?'. */
static void copy_name(char *to, size_t size, struct span from)
{
	size_t len = utf8_cut(from.data, from.len, size - 1);
	bool utf8 = utf8_valid(from.data, len);
	for (size_t i = 0; i < len; i++) {
		uint8_t byte = from.data[i];
		to[i] = byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !utf8) ? '?' : (char)byte;
	}
	to[len] = '\0';
}

static bool is_text(struct span bytes, const char *text)
{
	return bytes.len == strlen(text) && memcmp(bytes.data, text, bytes.len) == 0;
}

static void decode_field(struct error *err, enum error_field field, struct span value)
{
	uint64_t number;
	struct span bytes;
	if (error_u64_field(err, field) != NULL) {
		if (mp_get_u64(value, &number) == 0)
			error_set_u64(err, field, number);
		return;
	}
	if (mp_get_bytes(value, &bytes) != 0)
		return;
	if (field == EFI_OUTCOME) {
		/* A word of a later version: whatever it means, it is not the promise that nothing was written. */
		error_set_outcome(err, is_text(bytes, outcome_none) ? OUTCOME_NONE : OUTCOME_UNKNOWN);
	} else if (field == EFI_OS_ERRNO) {
		copy_name(err->errno_name, sizeof(err->errno_name), bytes);
		err->os_errno = error_errno_from_name(err->errno_name, strlen(err->errno_name));
		err->fields |= EF(OS_ERRNO);
	} else {
		error_set_text(err, field, bytes.data, bytes.len);
	}
}

/* The map's keys and values; false at its end, or where it is malformed (then *ret_failed). */
static bool next_pair(
	struct mp_reader *reader, uint32_t *left, struct span *ret_key, struct span *ret_value, bool *ret_failed)
{
	struct span encoded;
	while (*left > 0) {
		(*left)--;
		if (mp_read_span(reader, &encoded) != 0 || mp_read_span(reader, ret_value) != 0) {
			*ret_failed = true;
			return false;
		}
		if (mp_get_str(encoded, ret_key) == 0 && !mp_is_nil(*ret_value))
			return true;
	}
	return false;
}

void error_decode(struct span map, struct error *ret_error)
{
	struct mp_reader reader = mp_reader_of(map);
	struct mp_value header;
	struct span key, value, code = {0}, message = {0};
	bool failed = map.data == NULL || mp_read(&reader, &header) != 0 || header.type != MP_MAP;

	if (failed)
		goto fail;
	/* First the code and the message: setting them clears the rest. */
	struct mp_reader first = reader;
	uint32_t left = header.count;
	while (next_pair(&first, &left, &key, &value, &failed)) {
		if (is_text(key, "code"))
			failed |= mp_get_str(value, &code) != 0;
		else if (is_text(key, "message"))
			failed |= mp_get_bytes(value, &message) != 0;
	}
	if (failed || code.data == NULL || first.at != first.end)
		goto fail;
	if (message.data == NULL)
		message = code;
	int message_len = message.len < sizeof(ret_error->message) ? (int)message.len : (int)sizeof(ret_error->message);
	error_set(ret_error, error_code_from_name((const char *)code.data, code.len), "%.*s", message_len,
		(const char *)message.data);
	if (ret_error->code == ERR_OTHER)
		copy_name(ret_error->code_name, sizeof(ret_error->code_name), code);

	left = header.count;
	while (next_pair(&reader, &left, &key, &value, &failed)) {
		for (unsigned field = 0; field < EFI_COUNT; field++)
			if (is_text(key, error_field_name((enum error_field)field)))
				decode_field(ret_error, (enum error_field)field, value);
	}
	return;
fail:
	error_set(ret_error, ERR_SERIALIZATION, "the peer sent an error that is no map with a code");
}
