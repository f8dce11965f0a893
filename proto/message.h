/*
 * message: requests, responses and notifications, around their params and results.
 *
 * Owns nothing: what is decoded are spans into the frame's bytes, which must stay while it is used. Any thread may call
 * it. Invariant: a message that was decoded is exactly one well-formed MessagePack value of the right shape, with
 * nothing behind it, and every span in it was checked.
 *
 * Encoding, in the server:                        in the client:
 *   response_begin(&w, msgid, 2);                   request_begin(&w, msgid, METHOD_GET, 2);
 *   mp_write_key(&w, KEY_ID); mp_write_u64(...);    mp_write_key(&w, KEY_STREAM); mp_write_str_len(...);
 *   mp_write_key(&w, KEY_DURABLE); ...              mp_write_key(&w, KEY_ID); mp_write_u64(...);
 *   frame_end(&w)                                   frame_end(&w)
 */
#ifndef IRONWALD_MESSAGE_H
#define IRONWALD_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "fields.h"
#include "method.h"
#include "mp_read.h"
#include "mp_write.h"

#define PROTOCOL_VERSION 1

/* ---- decoding, server ---------------------------------------------------------------------------------------- */

struct request {
	bool notification; /* to be ignored; msgid is 0, the params may be missing */
	uint32_t msgid;
	enum method method;	 /* METHOD_UNKNOWN: see method_name */
	struct span method_name; /* as it came, not checked for UTF-8 */
	struct fields params;	 /* errors blame BadRequest */
};

/* payload is a frame without its length. One pass over the bytes. -1 with
 *   ERR_BAD_REQUEST: msgid is set if it could be read, else 0; the connection is to be closed after that answer
 *   ERR_TOO_LARGE: over REQUEST_VALUES_MAX; all but params is set; the connection lives on after that answer */
int request_decode(struct span payload, struct request *ret_request, struct error *err);

/* ERR_UNKNOWN_METHOD with the field. Returns -1. */
int request_unknown_method(const struct request *request, struct error *err);

/* ---- decoding, client ---------------------------------------------------------------------------------------- */

struct response {
	uint32_t msgid;
	struct span error;    /* the encoded error map, for error_decode; data NULL: it went well */
	struct span result;   /* the encoded map; data NULL if it was nil */
	struct fields fields; /* of result; errors blame Serialization; nothing is present if there is no result */
};

/* -1: ERR_SERIALIZATION, the connection is of no use any more. A notification is not an error: *ret_notification says
 * so, and there is nothing to do (version 1 has none from the server). */
int response_decode(struct span payload, struct response *ret_response, bool *ret_notification, struct error *err);

/* ---- encoding -------------------------------------------------------------------------------------------------- */

/* Opens a frame up to the params' map, for param_count keys with values. */
void request_begin(struct mp_writer *writer, uint32_t msgid, enum method method, size_t param_count);

/* Opens a frame up to the result's map, for field_count keys with values. */
void response_begin(struct mp_writer *writer, uint32_t msgid, size_t field_count);

/* A whole frame: 0 or -1 as frame_end. */
int response_error(struct mp_writer *writer, uint32_t msgid, const struct error *err);

/* The same in two parts: in between, extra_count keys with values of the error's map are written. */
void response_error_begin(struct mp_writer *writer, uint32_t msgid, const struct error *err, size_t extra_count);
int response_error_end(struct mp_writer *writer);

/* ---- errors on the wire (error_codec.c) ---------------------------------------------------------------------- */

/* The error map: code, message, and every field that is set; extra_count keys with values follow. */
void error_encode(struct mp_writer *writer, const struct error *err, size_t extra_count);

/* *ret_error is always an error afterwards: the one that was sent; if the map is no error map, ERR_SERIALIZATION that
 * says so. A code that is not known is ERR_OTHER with code_name; fields not known are passed over (mp_map_find on the
 * span finds them), as are known ones of a wrong type. Texts over the limits of struct error are cut. */
void error_decode(struct span map, struct error *ret_error);

#endif
