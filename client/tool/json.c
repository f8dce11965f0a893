/* JSON by yajl, which streams: an answer of any size is written as it is walked through. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_gen.h>

#include "base64.h"
#include "tool.h"
#include "utf8.h"

struct json {
	yajl_gen gen;
	FILE *file; /* stdout goes through out_write, which remembers failures */
};

static void print(void *arg, const char *text, size_t len)
{
	struct json *json = arg;
	if (json->file == stdout)
		out_write(text, len);
	else
		(void)fwrite(text, 1, len, json->file);
}

static struct json *json_new_file(FILE *file)
{
	struct json *json = malloc(sizeof(*json));
	yajl_gen gen = json != NULL ? yajl_gen_alloc(NULL) : NULL;
	if (gen == NULL) {
		fputs("ironwal: out of memory\n", stderr);
		exit(EXIT_FAILED);
	}
	json->gen = gen;
	json->file = file;
	yajl_gen_config(gen, yajl_gen_print_callback, print, json);
	return json;
}

struct json *json_new(void)
{
	return json_new_file(stdout);
}

struct json *json_new_stderr(void)
{
	return json_new_file(stderr);
}

void json_free(struct json *json)
{
	yajl_gen_free(json->gen);
	free(json);
}

void json_map(struct json *json)
{
	yajl_gen_map_open(json->gen);
}

void json_map_end(struct json *json)
{
	yajl_gen_map_close(json->gen);
}

void json_array(struct json *json)
{
	yajl_gen_array_open(json->gen);
}

void json_array_end(struct json *json)
{
	yajl_gen_array_close(json->gen);
}

void json_str(struct json *json, const char *text)
{
	json_bytes(json, text, strlen(text));
}

void json_key(struct json *json, const char *key)
{
	yajl_gen_string(json->gen, (const unsigned char *)key, strlen(key));
}

void json_key_len(struct json *json, const char *key, size_t len)
{
	json_bytes(json, key, len);
}

void json_put_u64(struct json *json, const char *key, uint64_t value)
{
	json_key(json, key);
	json_u64(json, value);
}

void json_put_double(struct json *json, const char *key, double value)
{
	json_key(json, key);
	json_double(json, value);
}

void json_put_bool(struct json *json, const char *key, bool value)
{
	json_key(json, key);
	json_bool(json, value);
}

void json_put_str(struct json *json, const char *key, const char *text)
{
	json_key(json, key);
	json_str(json, text);
}

void json_u64(struct json *json, uint64_t value)
{
	char text[24];
	int len = snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	yajl_gen_number(json->gen, text, (size_t)len); /* its integers end at 2^63 */
}

void json_i64(struct json *json, int64_t value)
{
	yajl_gen_integer(json->gen, value);
}

void json_double(struct json *json, double value)
{
	if (!isfinite(value)) {
		yajl_gen_null(json->gen); /* JSON has no name for it */
		return;
	}
	char text[32];
	int len = snprintf(text, sizeof(text), "%.15g", value); /* yajl's own writes 0.1 with 20 digits */
	yajl_gen_number(json->gen, text, (size_t)len);
}

void json_bool(struct json *json, bool value)
{
	yajl_gen_bool(json->gen, value);
}

void json_null(struct json *json)
{
	yajl_gen_null(json->gen);
}

static void base64(struct json *json, const uint8_t *bytes, size_t len)
{
	char *text = malloc(base64_len(len) + 1);
	if (text == NULL) {
		fputs("ironwal: out of memory\n", stderr);
		exit(EXIT_FAILED);
	}
	base64_encode(bytes, len, text);
	yajl_gen_string(json->gen, (const unsigned char *)text, base64_len(len));
	free(text);
}

void json_bytes(struct json *json, const void *bytes, size_t len)
{
	if (utf8_valid(bytes, len))
		yajl_gen_string(json->gen, bytes, len);
	else
		base64(json, bytes, len);
}

void json_key_bytes(struct json *json, const char *key, const void *bytes, size_t len)
{
	char longer[64];
	if (!utf8_valid(bytes, len)) {
		(void)snprintf(longer, sizeof(longer), "%s_base64", key);
		key = longer;
	}
	json_key(json, key);
	json_bytes(json, bytes, len);
}

bool json_line(struct json *json)
{
	yajl_gen_reset(json->gen, NULL);
	print(json, "\n", 1);
	return json->file != stdout || out_write("", 0);
}
