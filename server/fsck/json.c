#include "json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_gen.h>

#include "base64.h"
#include "utf8.h"

struct json {
	yajl_gen gen;
	FILE *file;
};

static void out_of_memory(void)
{
	fputs("ironwal-fsck: out of memory\n", stderr);
	exit(8);
}

static void print(void *arg, const char *text, size_t len)
{
	struct json *json = arg;
	(void)fwrite(text, 1, len, json->file);
}

struct json *json_new(FILE *file)
{
	struct json *json = malloc(sizeof(*json));
	yajl_gen gen = json ? yajl_gen_alloc(NULL) : NULL;
	if (!gen)
		out_of_memory();
	*json = (struct json){gen, file};
	yajl_gen_config(gen, yajl_gen_print_callback, print, json);
	return json;
}

void json_free(struct json *json)
{
	if (!json)
		return;
	yajl_gen_free(json->gen);
	free(json);
}

static void string(struct json *json, const char *text, size_t len)
{
	yajl_gen_string(json->gen, (const unsigned char *)text, len);
}

static void put_key(struct json *json, const char *key)
{
	string(json, key, strlen(key));
}

void json_begin(struct json *json)
{
	yajl_gen_reset(json->gen, NULL);
	yajl_gen_map_open(json->gen);
}

void json_end(struct json *json)
{
	yajl_gen_map_close(json->gen);
	fputc('\n', json->file);
}

void json_text(struct json *json, const char *key, const char *text)
{
	json_bytes(json, key, text, strlen(text));
}

static void base64(struct json *json, const uint8_t *bytes, size_t len)
{
	char *text = malloc(base64_len(len) + 1);
	if (!text)
		out_of_memory();
	base64_encode(bytes, len, text);
	string(json, text, base64_len(len));
	free(text);
}

void json_bytes(struct json *json, const char *key, const void *bytes, size_t len)
{
	put_key(json, key);
	if (utf8_valid(bytes, len)) {
		string(json, bytes, len);
		return;
	}
	yajl_gen_map_open(json->gen);
	put_key(json, "base64");
	base64(json, bytes, len);
	yajl_gen_map_close(json->gen);
}

void json_array_number(struct json *json, uint64_t value)
{
	char text[24];
	int len = snprintf(text, sizeof(text), "%" PRIu64, value);
	yajl_gen_number(json->gen, text, (size_t)len); /* its integers end at 2^63 */
}

void json_number(struct json *json, const char *key, uint64_t value)
{
	put_key(json, key);
	json_array_number(json, value);
}

void json_real(struct json *json, const char *key, double value)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "%.3f", value);
	put_key(json, key);
	yajl_gen_number(json->gen, text, (size_t)len);
}

void json_flag(struct json *json, const char *key, bool value)
{
	put_key(json, key);
	yajl_gen_bool(json->gen, value);
}

void json_array(struct json *json, const char *key)
{
	put_key(json, key);
	yajl_gen_array_open(json->gen);
}

void json_array_end(struct json *json)
{
	yajl_gen_array_close(json->gen);
}

void json_inner(struct json *json, const char *key)
{
	if (key)
		put_key(json, key);
	yajl_gen_map_open(json->gen);
}

void json_inner_end(struct json *json)
{
	yajl_gen_map_close(json->gen);
}
