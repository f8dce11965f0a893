/*
 * json: one object a line on a stream, written as it is made.
 *
 * Owns its generator; borrows the stream. One thread. Without memory the program ends.
 * Invariant: what it writes is JSON: numbers are whole, bytes that are not UTF-8 become {"base64": "..."}.
 */
#ifndef IRONWALD_FSCK_JSON_H
#define IRONWALD_FSCK_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json;

struct json *json_new(FILE *file);
void json_free(struct json *json); /* NULL is legal */

/* An object, then a newline. */
void json_begin(struct json *json);
void json_end(struct json *json);
void json_text(struct json *json, const char *key, const char *text);
void json_bytes(struct json *json, const char *key, const void *bytes, size_t len);
void json_number(struct json *json, const char *key, uint64_t value);
void json_real(struct json *json, const char *key, double value);
void json_flag(struct json *json, const char *key, bool value);
void json_array(struct json *json, const char *key);
void json_array_number(struct json *json, uint64_t value);
void json_array_end(struct json *json);
/* An object inside an array or, with a key, inside an object. */
void json_inner(struct json *json, const char *key);
void json_inner_end(struct json *json);

#endif
