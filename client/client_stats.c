/* The answer to stats: a value whose shape is the server's business, and a walk through it. */
#include "client_call.h"
#include "client_memory.h"

struct ironwal_value {
	uint8_t *payload;  /* a block */
	struct span value; /* in payload; checked to be whole when it was decoded */
};

int read_value(const ironwal *connection, struct core_answer *answer, struct ironwal_result *result, struct error *err)
{
	if (answer->response.result.data == NULL)
		return error_set(err, ERR_SERIALIZATION, "the answer to stats is nil");
	struct ironwal_value *value = block_new(block_mem(connection), sizeof(*value));
	if (value == NULL)
		return READ_NO_MEMORY;
	value->payload = answer->payload;
	value->value = answer->response.result;
	answer->payload = NULL;
	result->value = value;
	return 0;
}

static int put_stats(ironwal *connection, enum how how, uint32_t *ret_msgid, ironwal_error *error)
{
	struct mp_writer *w;
	if (call_begin_plain(connection, METHOD_STATS, how, 0, &w, error) != 0)
		return -1;
	return call_commit(connection, 0, ret_msgid, error);
}

int ironwal_submit_stats(ironwal *connection, uint32_t *ret_request_id, ironwal_error *error)
{
	return submitted(connection, put_stats(connection, SUBMITTED, ret_request_id, error));
}

int ironwal_stats(ironwal *connection, ironwal_value **ret_value, ironwal_error *error)
{
	struct ironwal_result result;
	uint32_t id;
	if (put_stats(connection, BLOCKING, &id, error) != 0 || call_wait(connection, id, 0, &result, error) != 0)
		return -1;
	*ret_value = result.value;
	return 0;
}

const void *ironwal_value_msgpack(const ironwal_value *value, size_t *ret_len)
{
	*ret_len = value->value.len;
	return value->value.data;
}

void ironwal_value_free(ironwal_value *value)
{
	if (value == NULL)
		return;
	block_free(value->payload);
	block_free(value);
}

static void item_from(const struct mp_value *v, ironwal_value_item *item)
{
	item->data = (const char *)v->bytes.data;
	item->len = v->bytes.len;
	switch (v->type) {
	case MP_NIL:
		item->kind = IRONWAL_VALUE_NIL;
		break;
	case MP_BOOL:
		item->kind = IRONWAL_VALUE_BOOL;
		item->u = v->boolean;
		break;
	case MP_UINT:
		item->kind = IRONWAL_VALUE_UINT;
		item->u = v->u64;
		break;
	case MP_NEGATIVE:
		item->kind = IRONWAL_VALUE_INT;
		item->i = v->i64;
		break;
	case MP_FLOAT:
		item->kind = IRONWAL_VALUE_FLOAT;
		item->f = v->number;
		break;
	case MP_STR:
		item->kind = IRONWAL_VALUE_TEXT;
		break;
	case MP_BIN:
	case MP_EXT:
		item->kind = IRONWAL_VALUE_BYTES;
		break;
	case MP_ARRAY:
		item->kind = IRONWAL_VALUE_ARRAY_BEGIN;
		item->u = v->count;
		break;
	case MP_MAP:
		item->kind = IRONWAL_VALUE_MAP_BEGIN;
		item->u = v->count;
		break;
	}
}

int ironwal_value_walk(const ironwal_value *value, ironwal_value_cb callback, void *arg)
{
	struct {
		bool is_map;
		uint64_t left; /* values, a pair counts two */
	} stack[MP_DEPTH_MAX + 1];
	unsigned depth = 0;
	struct mp_reader reader = mp_reader_of(value->value);
	do {
		struct mp_value v;
		ironwal_value_item item = {.depth = depth};
		int rc;
		if (depth > 0 && stack[depth - 1].left == 0) {
			depth--;
			item.kind = stack[depth].is_map ? IRONWAL_VALUE_MAP_END : IRONWAL_VALUE_ARRAY_END;
			item.depth = depth;
			if ((rc = callback(&item, arg)) != 0)
				return rc;
			continue;
		}
		if (depth > 0) {
			item.is_key = stack[depth - 1].is_map && stack[depth - 1].left % 2 == 0;
			stack[depth - 1].left--;
		}
		/* Both cannot happen to a value that was checked; an endless walk would be worse than a short one. */
		if (mp_read(&reader, &v) != 0 || depth > MP_DEPTH_MAX)
			return 0;
		item_from(&v, &item);
		if ((rc = callback(&item, arg)) != 0)
			return rc;
		if (v.type == MP_ARRAY || v.type == MP_MAP) {
			stack[depth].is_map = v.type == MP_MAP;
			stack[depth].left = v.type == MP_MAP ? (uint64_t)v.count * 2 : v.count;
			depth++;
		}
	} while (depth > 0);
	return 0;
}
