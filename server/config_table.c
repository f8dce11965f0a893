#include <string.h>

#include "config.h"
#include "config_table.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)

/* In the order of the enums, whose values are the places here. */
static const char *const sync_modes[] = {"strict", "batch_only", "async", NULL};
static const char *const compressions[] = {"none", "lz4", NULL};
static const char *const read_strategies[] = {"standard_io", "mmap", NULL};
static const char *const corruption_policies[] = {"error", "truncate", NULL};
static const char *const no_or_yes[] = {"no", "yes", NULL};
static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};

_Static_assert(SYNC_STRICT == 0 && SYNC_BATCH_ONLY == 1 && SYNC_ASYNC == 2, "sync_modes");
_Static_assert(COMPRESSION_NONE == 0 && COMPRESSION_LZ4 == 1, "compressions");
_Static_assert(READ_STANDARD_IO == 0 && READ_MMAP == 1, "read_strategies");
_Static_assert(ON_CORRUPTION_ERROR == 0 && ON_CORRUPTION_TRUNCATE == 1, "corruption_policies");
_Static_assert(LOG_LEVEL_ERROR == 0 && LOG_LEVEL_WARN == 1 && LOG_LEVEL_INFO == 2 && LOG_LEVEL_DEBUG == 3, "levels");
_Static_assert(LOG_FORMAT_TEXT == 0 && LOG_FORMAT_JSON == 1, "log_formats");

#define FIELD(field) .offset = offsetof(struct config, field), .width = sizeof(((struct config *)NULL)->field)

const struct config_key config_keys[] = {
	{.name = "root_path",
		.type = CONFIG_PATH,
		FIELD(root_path),
		.min = 1,
		.max = PATH_MAX - 1,
		.help = "data directory; made if it is not there"},
	{.name = "max_segment_size",
		.type = CONFIG_SIZE,
		FIELD(engine.max_segment_size),
		.default_text = "64M",
		.min = 1,
		.max = 1024 * GIB,
		.help = "a segment that has reached it gets no further frame"},
	{.name = "max_entries_per_segment",
		.type = CONFIG_COUNT,
		.takes_none = true,
		FIELD(engine.max_entries_per_segment),
		.default_text = "none",
		.min = 1,
		.max = INT64_MAX,
		.help = "a segment that has reached it gets no further frame"},
	{.name = "max_open_segments",
		.type = CONFIG_COUNT,
		FIELD(engine.max_open_segments),
		.default_text = "128",
		.min = 1,
		.max = 1000000,
		.help = "descriptors held for segments"},
	{.name = "write_buffer_size",
		.type = CONFIG_SIZE,
		FIELD(engine.write_buffer_size),
		.default_text = "1M",
		.min = 1,
		.max = GIB,
		.help = "entries that one write and sync takes together"},
	{.name = "read_buffer_size",
		.type = CONFIG_SIZE,
		FIELD(engine.read_buffer_size),
		.default_text = "128K",
		.min = 1,
		.max = 64 * MIB,
		.help = "bytes of one read of a segment"},
	{.name = "block_cache_size",
		.type = CONFIG_SIZE,
		.takes_none = true,
		FIELD(engine.block_cache_size),
		.default_text = "none",
		.min = 1,
		.max = 1024 * GIB,
		.help = "memory for unpacked blocks"},
	{.name = "sync_mode",
		.type = CONFIG_ENUM,
		FIELD(engine.sync_mode),
		.default_text = "strict",
		.names = sync_modes,
		.help = "what is on disk before it is acknowledged: all, batches, nothing"},
	{.name = "compression",
		.type = CONFIG_ENUM,
		FIELD(engine.compression),
		.default_text = "none",
		.names = compressions,
		.help = "of the blocks that are written from now on"},
	{.name = "read_strategy",
		.type = CONFIG_ENUM,
		FIELD(engine.read_strategy),
		.default_text = "standard_io",
		.names = read_strategies,
		.help = "how segments are read"},
	{.name = "on_corruption",
		.type = CONFIG_ENUM,
		FIELD(engine.on_corruption),
		.default_text = "error",
		.names = corruption_policies,
		.help = "damage met at start: refuse, or cut there and set aside"},
	{.name = "min_compression_size",
		.type = CONFIG_SIZE,
		FIELD(engine.min_compression_size),
		.default_text = "1K",
		.min = 0,
		.max = GIB,
		.help = "smaller blocks are stored as they are"},
	{.name = "shard_count",
		.type = CONFIG_COUNT,
		FIELD(engine.shard_count),
		.default_text = "4",
		.min = 1,
		.max = 65535,
		.help = "fixed when the directory is made"},
	{.name = "max_writers",
		.type = CONFIG_COUNT,
		FIELD(engine.max_writers),
		.default_text = "16",
		.min = 1,
		.max = 16,
		.help = "threads that write; of those that share one, one sync is for all"},
	{.name = "async_sync_interval",
		.type = CONFIG_DURATION,
		.takes_none = true,
		FIELD(engine.async_sync_interval_ns),
		.default_text = "1s",
		.min = MS,
		.max = 24 * HOUR,
		.help = "how long an unsynced append may stay so"},
	{.name = "listen_tcp",
		.type = CONFIG_ADDRESSES,
		.takes_none = true,
		FIELD(listen_tcp),
		.default_text = "127.0.0.1:7411",
		.help = "addresses, commas between them; may be given again"},
	{.name = "listen_unix",
		.type = CONFIG_PATH,
		.takes_none = true,
		FIELD(listen_unix),
		.default_text = "none",
		.min = 1,
		.max = CONFIG_UNIX_PATH_MAX,
		.help = "path of a Unix stream socket"},
	{.name = "listen_unix_mode",
		.type = CONFIG_MODE,
		FIELD(listen_unix_mode),
		.default_text = "0600",
		.min = 0,
		.max = 0777,
		.help = "who may connect to it: the rights of its file, in octal"},
	{.name = "listen_unix_group",
		.type = CONFIG_NAME,
		.takes_none = true,
		FIELD(listen_unix_group),
		.default_text = "none",
		.min = 1,
		.max = CONFIG_GROUP_MAX,
		.help = "the group of its file, by name or number"},
	{.name = "listen_metrics",
		.type = CONFIG_ADDRESSES,
		.takes_none = true,
		FIELD(listen_metrics),
		.default_text = "none",
		.help = "addresses of metrics and health, by HTTP; may be given again"},
	{.name = "token_file",
		.type = CONFIG_PATH,
		.takes_none = true,
		.reload = true,
		FIELD(token_file),
		.default_text = "none",
		.min = 1,
		.max = PATH_MAX - 1,
		.help = "who may do what: hashes of tokens; none: everyone who may connect may do everything"},
	{.name = "tls_certificate",
		.type = CONFIG_PATH,
		.takes_none = true,
		.reload = true,
		FIELD(tls_certificate),
		.default_text = "none",
		.min = 1,
		.max = PATH_MAX - 1,
		.help = "PEM file, the server's own first: TCP is TLS 1.3 then"},
	{.name = "tls_key",
		.type = CONFIG_PATH,
		.takes_none = true,
		.reload = true,
		FIELD(tls_key),
		.default_text = "none",
		.min = 1,
		.max = PATH_MAX - 1,
		.help = "PEM file of its private key"},
	{.name = "tls_client_ca",
		.type = CONFIG_PATH,
		.takes_none = true,
		.reload = true,
		FIELD(tls_client_ca),
		.default_text = "none",
		.min = 1,
		.max = PATH_MAX - 1,
		.help = "PEM file: over TLS only clients with a certificate by one of these are let in"},
	{.name = "hello_timeout",
		.type = CONFIG_DURATION,
		.reload = true,
		FIELD(hello_timeout_ns),
		.default_text = "10s",
		.min = MS,
		.max = HOUR,
		.help = "a connection that has not said who it is by then is closed"},
	{.name = "insecure_allow_open_addresses",
		.type = CONFIG_ENUM,
		FIELD(insecure_allow_open_addresses),
		.default_text = "no",
		.names = no_or_yes,
		.help = "listen on other addresses than loopback without tokens, or without TLS; metrics, too"},
	{.name = "max_message_bytes",
		.type = CONFIG_SIZE,
		FIELD(max_message_bytes),
		.default_text = "16M",
		.min = 1,
		.max = GIB,
		.help = "largest request and answer; below 128K it is raised to that"},
	{.name = "max_inflight_bytes",
		.type = CONFIG_SIZE,
		.reload = true,
		FIELD(max_inflight_bytes),
		.default_text = "64M",
		.min = 1,
		.max = 1024 * GIB,
		.help = "requests and answers held for one connection"},
	{.name = "max_inflight_bytes_total",
		.type = CONFIG_SIZE,
		.reload = true,
		FIELD(max_inflight_bytes_total),
		.default_text = "512M",
		.min = 1,
		.max = 1024 * GIB,
		.help = "requests and answers held for all connections"},
	{.name = "max_connections",
		.type = CONFIG_COUNT,
		.reload = true,
		FIELD(max_connections),
		.default_text = "1024",
		.min = 1,
		.max = 1000000,
		.help = "further ones are answered Busy"},
	{.name = "max_streams",
		.type = CONFIG_COUNT,
		.reload = true,
		FIELD(engine.max_streams),
		.default_text = "1000000",
		.min = 1,
		.max = 1000000000,
		.help = "an append that would make a further one is answered Busy"},
	{.name = "idle_timeout",
		.type = CONFIG_DURATION,
		.takes_none = true,
		.reload = true,
		FIELD(idle_timeout_ns),
		.default_text = "none",
		.min = MS,
		.max = 24 * HOUR,
		.help = "a connection that asks nothing and is owed nothing is closed"},
	{.name = "write_timeout",
		.type = CONFIG_DURATION,
		.takes_none = true,
		.reload = true,
		FIELD(write_timeout_ns),
		.default_text = "30s",
		.min = MS,
		.max = 24 * HOUR,
		.help = "a connection that does not read its answers is closed"},
	{.name = "shutdown_timeout",
		.type = CONFIG_DURATION,
		.reload = true,
		FIELD(shutdown_timeout_ns),
		.default_text = "10s",
		.min = MS,
		.max = HOUR,
		.help = "how long clients have to take their last answers"},
	{.name = "slow_disk_after",
		.type = CONFIG_DURATION,
		.reload = true,
		FIELD(slow_disk_after_ns),
		.default_text = "5s",
		.min = 10 * MS,
		.max = HOUR,
		.help = "one wait for the disk of so long is logged, and not ready"},
	{.name = "log_level",
		.type = CONFIG_ENUM,
		.reload = true,
		FIELD(log_level),
		.default_text = "info",
		.names = log_levels,
		.help = "what is written to standard error"},
	{.name = "log_format",
		.type = CONFIG_ENUM,
		.reload = true,
		FIELD(log_format),
		.default_text = "text",
		.names = log_formats,
		.help = "lines for people, or one JSON object a line"},
};

const size_t config_key_count = sizeof(config_keys) / sizeof(config_keys[0]);

_Static_assert(sizeof(config_keys) / sizeof(config_keys[0]) <= CONFIG_KEYS_MAX, "the keys fit into a word's bits");

const struct config_key *config_key_find(const char *name, size_t len)
{
	for (size_t i = 0; i < config_key_count; i++) {
		if (strlen(config_keys[i].name) == len && memcmp(config_keys[i].name, name, len) == 0)
			return &config_keys[i];
	}
	return NULL;
}

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t least = a < b ? a : b;
	return least < c ? least : c;
}

/* Levenshtein's: insertions, deletions and changes that lead from one to the other. */
static size_t edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t row[CONFIG_NAME_MAX + 1];

	for (size_t j = 0; j <= b_len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			char from = a[i - 1] == '-' ? '_' : a[i - 1];
			size_t change = diagonal + (from != b[j - 1]);
			diagonal = row[j];
			row[j] = min3(change, row[j] + 1, row[j - 1] + 1);
		}
	}
	return row[b_len];
}

static bool is_prefix(const char *name, size_t len, const char *of)
{
	for (size_t i = 0; i < len; i++) {
		/* The end of `of` is a difference too. */
		if ((name[i] == '-' ? '_' : name[i]) != of[i])
			return false;
	}
	return true;
}

/* The one key that begins so; NULL if there are several, or none. */
static const struct config_key *completion(const char *name, size_t len)
{
	const struct config_key *only = NULL;

	for (size_t i = 0; i < config_key_count && len > 0; i++) {
		if (!is_prefix(name, len, config_keys[i].name))
			continue;
		if (only != NULL)
			return NULL;
		only = &config_keys[i];
	}
	return only;
}

const struct config_key *config_key_nearest(const char *name, size_t len)
{
	const struct config_key *nearest = completion(name, len);
	size_t least = len / 3 + 1; /* further than that is another word */

	if (nearest != NULL || len > CONFIG_NAME_MAX)
		return nearest;
	for (size_t i = 0; i < config_key_count; i++) {
		size_t distance = edit_distance(name, len, config_keys[i].name, strlen(config_keys[i].name));
		if (distance < least || (distance == least && nearest == NULL)) {
			least = distance;
			nearest = &config_keys[i];
		}
	}
	return nearest;
}
