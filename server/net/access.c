#include "access.h"

#include "shard_key.h"

/* So the names of the logs of all shards begin. */
#define SHARD_NAMES "shard_"

/* What a method works on. */
enum scope {
	SCOPE_EVERYTHING,    /* more than some streams */
	SCOPE_NOTHING,	     /* no stream at all */
	SCOPE_OWN,	     /* what the token allows: the handler looks at it */
	SCOPE_STREAM,	     /* `stream` */
	SCOPE_STREAM_OR_ALL, /* the same; without it everything */
	SCOPE_SHARD,	     /* the log of `shard` */
	SCOPE_KEY,	     /* the log of the shard of `key` */
	SCOPE_KEYS,	     /* the logs of the shards of all keys in `entries` */
	SCOPE_EVERY_SHARD,   /* the logs of all shards */
};

static const enum scope scopes[METHOD_UNKNOWN] = {
	[METHOD_HELLO] = SCOPE_NOTHING,
	[METHOD_PING] = SCOPE_NOTHING,
	[METHOD_APPEND] = SCOPE_STREAM,
	[METHOD_APPEND_BATCH] = SCOPE_STREAM,
	[METHOD_GET] = SCOPE_STREAM,
	[METHOD_GET_BATCH] = SCOPE_STREAM,
	[METHOD_ITER] = SCOPE_STREAM,
	[METHOD_TRUNCATE] = SCOPE_STREAM,
	[METHOD_CURRENT_SEGMENT_START_ID] = SCOPE_STREAM,
	[METHOD_STREAM_INFO] = SCOPE_STREAM,
	[METHOD_LIST_STREAMS] = SCOPE_OWN,
	[METHOD_SYNC] = SCOPE_STREAM_OR_ALL,
	[METHOD_STATS] = SCOPE_EVERYTHING,
	[METHOD_SHARD_APPEND] = SCOPE_KEY,
	[METHOD_SHARD_APPEND_BATCH] = SCOPE_KEYS,
	[METHOD_SHARD_APPEND_BATCH_FOR_KEY] = SCOPE_KEY,
	[METHOD_ITER_SHARD] = SCOPE_SHARD,
	[METHOD_CREATE_CHECKPOINT] = SCOPE_EVERY_SHARD,
	[METHOD_LOAD_CHECKPOINT] = SCOPE_EVERY_SHARD,
	[METHOD_LOAD_LATEST_CHECKPOINT] = SCOPE_EVERY_SHARD,
	[METHOD_LIST_CHECKPOINTS] = SCOPE_EVERY_SHARD,
	[METHOD_PRUNE_BEFORE_CHECKPOINT] = SCOPE_EVERY_SHARD,
	[METHOD_COMPACT_CHECKPOINTS] = SCOPE_EVERY_SHARD,
	[METHOD_SHARD_COUNT] = SCOPE_NOTHING, /* hello tells it, too */
	[METHOD_CHECKPOINT_COUNT] = SCOPE_EVERY_SHARD,
};

/* One that is not there is the handler's to refuse. */
static bool allows_shard(const struct token *token, struct engine *engine, uint64_t shard)
{
	size_t len;
	if (shard >= engine_shard_count(engine))
		return true;
	const char *name = stream_name(engine_shard(engine, (uint32_t)shard), &len);
	return token_allows_stream(token, name, len);
}

static bool allows_key(const struct token *token, struct engine *engine, struct span key)
{
	return allows_shard(token, engine, shard_of_key(key.data, key.len, engine_shard_count(engine)));
}

static bool allows_keys(const struct token *token, struct engine *engine, const struct pair_array *entries)
{
	struct span key, value;
	struct pair_iter iter = pair_iter_of(entries);
	while (pair_iter_next(&iter, &key, &value)) {
		if (!allows_key(token, engine, key))
			return false;
	}
	return true;
}

static bool allows(const struct token *token, enum scope scope, const struct fields *params, struct engine *engine)
{
	struct span bytes;
	struct pair_array entries;
	uint64_t shard;
	struct error malformed;
	switch (scope) {
	case SCOPE_NOTHING:
	case SCOPE_OWN:
		return true;
	case SCOPE_STREAM_OR_ALL:
		if (!fields_has(params, KEY_STREAM))
			return false;
		/* fall through */
	case SCOPE_STREAM:
		return field_stream(params, &bytes, &malformed) != 0 ||
		       token_allows_stream(token, bytes.data, bytes.len);
	case SCOPE_SHARD:
		return field_u64(params, KEY_SHARD, &shard, &malformed) != 0 || allows_shard(token, engine, shard);
	case SCOPE_KEY:
		return field_bytes(params, KEY_KEY, &bytes, &malformed) != 0 || allows_key(token, engine, bytes);
	case SCOPE_KEYS:
		return field_pair_array(params, KEY_ENTRIES, &entries, &malformed) != 0 ||
		       allows_keys(token, engine, &entries);
	case SCOPE_EVERY_SHARD:
		return token_allows_prefix(token, SHARD_NAMES, sizeof(SHARD_NAMES) - 1);
	case SCOPE_EVERYTHING:
		break;
	}
	return false;
}

static const unsigned roles[] = {[RIGHT_READ] = TOKEN_READ, [RIGHT_APPEND] = TOKEN_APPEND, [RIGHT_ADMIN] = TOKEN_ADMIN};

int access_check(const struct token *token, const struct request *request, struct engine *engine, struct error *err)
{
	enum method method = request->method;
	enum right right = method_right(method);
	if (token == NULL)
		return error_set(err, ERR_UNAUTHORIZED, "%s: the token is not valid any more", method_name(method));
	if (right != RIGHT_NONE && (token->roles & roles[right]) == 0)
		return error_set(err, ERR_UNAUTHORIZED, "%s: the token (%s) does not have that right",
			method_name(method), token->name);
	if (!token->everything && !allows(token, scopes[method], &request->params, engine))
		return error_set(err, ERR_UNAUTHORIZED, "%s: the token (%s) is for other streams only",
			method_name(method), token->name);
	return 0;
}
