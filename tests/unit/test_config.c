/* The table, the file, the command line and the sample file: what they take, what they refuse, and with what words. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "config.h"
#include "config_table.h"
#include "config_value.h"
#include "fd_budget.h"

static char file_path[64];

static void remove_file(void)
{
	if (file_path[0] != '\0')
		unlink(file_path);
}

TestSuite(config, .fini = remove_file, .timeout = 30);

static const char *write_file(const char *bytes, size_t len)
{
	if (file_path[0] == '\0') {
		snprintf(file_path, sizeof(file_path), "/tmp/test_config.XXXXXX");
		int fd = mkstemp(file_path);
		cr_assert(fd >= 0, "mkstemp");
		close(fd);
	}
	FILE *file = fopen(file_path, "w");
	cr_assert(file != NULL, "fopen");
	cr_assert(fwrite(bytes, 1, len, file) == len, "fwrite");
	cr_assert(fclose(file) == 0, "fclose");
	return file_path;
}

/* With up to three options; returns config_load's result. */
static int load(
	const char *text, const char *a, const char *b, const char *c, struct config *ret_config, struct error *ret_err)
{
	enum config_action action;
	char *argv[8] = {(char *)"ironwald"};
	char option[100];
	int argc = 1;

	if (text != NULL) {
		snprintf(option, sizeof(option), "--config=%s", write_file(text, strlen(text)));
		argv[argc++] = option;
	}
	if (a != NULL)
		argv[argc++] = (char *)a;
	if (b != NULL)
		argv[argc++] = (char *)b;
	if (c != NULL)
		argv[argc++] = (char *)c;
	return config_load(argc, argv, ret_config, &action, ret_err);
}

static void good(const char *text, const char *a, const char *b, struct config *ret_config)
{
	struct error err;

	cr_assert(load(text, "--root-path=/d", a, b, ret_config, &err) == 0, "%s / %s / %s: %s",
		text == NULL ? "" : text, a == NULL ? "" : a, b == NULL ? "" : b, err.message);
}

/* message: what stands behind the file's name. */
static void bad_file(const char *text, const char *message)
{
	struct config config;
	struct error err;

	cr_assert(load(text, "--root-path=/d", NULL, NULL, &config, &err) == -1, "taken: %s", text);
	cr_assert(err.code == ERR_CONFIG, "code");
	cr_assert(strchr(err.message, '\n') == NULL, "one line");
	cr_assert(strncmp(err.message, file_path, strlen(file_path)) == 0, "names the file: %s", err.message);
	cr_assert(strcmp(err.message + strlen(file_path), message) == 0, "\n got: %s\nwant: %s",
		err.message + strlen(file_path), message);
}

static void bad_option(const char *option, const char *message)
{
	struct config config;
	struct error err;

	cr_assert(load(NULL, "--root-path=/d", option, NULL, &config, &err) == -1, "taken: %s", option);
	cr_assert(err.code == ERR_CONFIG, "code");
	cr_assert(strcmp(err.message, message) == 0, "\n got: %s\nwant: %s", err.message, message);
}

Test(config, defaults_are_those_of_the_engine)
{
	struct config config;
	struct engine_options engine;

	engine_options_default(&engine);
	good(NULL, NULL, NULL, &config);
	cr_assert(config.engine.max_segment_size == engine.max_segment_size, "max_segment_size");
	cr_assert(config.engine.max_entries_per_segment == engine.max_entries_per_segment, "max_entries_per_segment");
	cr_assert(config.engine.max_open_segments == engine.max_open_segments, "max_open_segments");
	cr_assert(config.engine.write_buffer_size == engine.write_buffer_size, "write_buffer_size");
	cr_assert(config.engine.read_buffer_size == engine.read_buffer_size, "read_buffer_size");
	cr_assert(config.engine.block_cache_size == engine.block_cache_size, "block_cache_size");
	cr_assert(config.engine.sync_mode == engine.sync_mode, "sync_mode");
	cr_assert(config.engine.compression == engine.compression, "compression");
	cr_assert(config.engine.read_strategy == engine.read_strategy, "read_strategy");
	cr_assert(config.engine.on_corruption == engine.on_corruption, "on_corruption");
	cr_assert(config.engine.min_compression_size == engine.min_compression_size, "min_compression_size");
	cr_assert(config.engine.shard_count == engine.shard_count, "shard_count");
	cr_assert(config.engine.max_writers == engine.max_writers, "max_writers");
	cr_assert(config.engine.async_sync_interval_ns == engine.async_sync_interval_ns, "async_sync_interval");
	cr_assert(config.engine.max_streams == engine.max_streams, "max_streams");
	cr_assert(config.engine.max_entry_bytes == engine.max_entry_bytes, "max_entry_bytes");
}

Test(config, defaults_of_the_rest)
{
	struct config config;
	char host[INET6_ADDRSTRLEN];

	good(NULL, NULL, NULL, &config);
	cr_assert(strcmp(config.root_path, "/d") == 0, "root_path");
	cr_assert(config.listen_tcp.count == 1, "one address");
	const struct sockaddr_in *in = (const struct sockaddr_in *)&config.listen_tcp.list[0];
	cr_assert(in->sin_family == AF_INET && ntohs(in->sin_port) == 7411, "port");
	inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
	cr_assert(strcmp(host, "127.0.0.1") == 0, "address");
	cr_assert(config.listen_unix[0] == '\0', "listen_unix");
	cr_assert(config.listen_unix_mode == 0600, "listen_unix_mode");
	cr_assert(config.listen_unix_group[0] == '\0', "listen_unix_group");
	cr_assert(config.token_file[0] == '\0', "token_file");
	cr_assert(config.tls_certificate[0] == '\0' && config.tls_key[0] == '\0', "tls_certificate, tls_key");
	cr_assert(config.tls_client_ca[0] == '\0', "tls_client_ca");
	cr_assert(config.hello_timeout_ns == UINT64_C(10000000000), "hello_timeout");
	cr_assert(config.insecure_allow_open_addresses == 0, "insecure_allow_open_addresses");
	cr_assert(config.max_message_bytes == 16u << 20, "max_message_bytes");
	cr_assert(config.max_message_bytes_asked == config.max_message_bytes, "not raised");
	cr_assert(config.max_inflight_bytes == 64u << 20, "max_inflight_bytes");
	cr_assert(config.max_inflight_bytes_total == 512u << 20, "max_inflight_bytes_total");
	cr_assert(config.max_connections == 1024, "max_connections");
	cr_assert(config.idle_timeout_ns == 0, "idle_timeout");
	cr_assert(config.write_timeout_ns == UINT64_C(30000000000), "write_timeout");
	cr_assert(config.shutdown_timeout_ns == UINT64_C(10000000000), "shutdown_timeout");
	cr_assert(config.slow_disk_after_ns == UINT64_C(5000000000), "slow_disk_after");
	cr_assert(config.log_level == LOG_LEVEL_INFO, "log_level");
	cr_assert(config.log_format == LOG_FORMAT_TEXT, "log_format");
}

Test(config, every_row_is_sound)
{
	for (size_t i = 0; i < config_key_count; i++) {
		const struct config_key *key = &config_keys[i];
		struct config config;
		char why[CONFIG_WHY_MAX];

		config_default(&config);
		cr_assert(strlen(key->name) < CONFIG_NAME_MAX, "%s: name", key->name);
		cr_assert(strchr(key->name, '-') == NULL, "%s: no dashes", key->name);
		cr_assert(config_key_find(key->name, strlen(key->name)) == key, "%s: found, once", key->name);
		cr_assert(key->help != NULL && strchr(key->help, '\n') == NULL, "%s: help", key->name);
		cr_assert(config_value_set(&config, key, "", false, why) == -1, "%s: empty", key->name);
		cr_assert((config_value_set(&config, key, "none", false, why) == 0) ==
				  (key->takes_none || strcmp(key->name, "compression") == 0 ||
					  strcmp(key->name, "root_path") == 0),
			"%s: none", key->name);
		if (key->default_text == NULL)
			cr_assert(strcmp(key->name, "root_path") == 0, "%s: required", key->name);
		else
			cr_assert(config_value_set(&config, key, key->default_text, false, why) == 0, "%s: default: %s",
				key->name, why);
		if (key->type == CONFIG_SIZE || key->type == CONFIG_COUNT || key->type == CONFIG_DURATION) {
			cr_assert(key->width == 4 || key->width == 8, "%s: width", key->name);
			cr_assert(key->min <= key->max, "%s: bounds", key->name);
			cr_assert(key->width == 8 || key->max <= UINT32_MAX, "%s: fits", key->name);
		}
	}
}

/* min and max are taken, one less and one more are not, and each lands in its field and in no other. */
Test(config, bounds_of_every_number)
{
	for (size_t i = 0; i < config_key_count; i++) {
		const struct config_key *key = &config_keys[i];
		const uint64_t step = key->type == CONFIG_DURATION ? 1000000 : 1;
		const char *unit = key->type == CONFIG_DURATION ? "ms" : "";
		struct config config, before;
		char text[40], why[CONFIG_WHY_MAX];

		if (key->type != CONFIG_SIZE && key->type != CONFIG_COUNT && key->type != CONFIG_DURATION)
			continue;
		for (int at_max = 0; at_max < 2; at_max++) {
			uint64_t value = at_max ? key->max : key->min, stored = 0;

			config_default(&config);
			before = config;
			snprintf(text, sizeof(text), "%llu%s", (unsigned long long)(value / step), unit);
			cr_assert(config_value_set(&config, key, text, false, why) == 0, "%s = %s: %s", key->name, text,
				why);
			memcpy(&stored, (char *)&config + key->offset, key->width);
			cr_assert(stored == value, "%s = %s is stored", key->name, text);
			memcpy((char *)&config + key->offset, (char *)&before + key->offset, key->width);
			cr_assert(memcmp(&config, &before, sizeof(config)) == 0, "%s: nothing else", key->name);

			if (!at_max && key->min == 0)
				continue;
			value = at_max ? value / step + 1 : value / step - 1;
			snprintf(text, sizeof(text), "%llu%s", (unsigned long long)value, unit);
			cr_assert(config_value_set(&config, key, text, false, why) == -1, "%s = %s: taken", key->name,
				text);
			cr_assert(memcmp(&config, &before, sizeof(config)) == 0, "%s: untouched", key->name);
			cr_assert(strncmp(why, "expected ", 9) == 0, "%s: %s", key->name, why);
		}
		static const char *const never[] = {"-1", "+1", " 1", "1 K", "1.5M", "1x", "0x10", "1KB", "1k",
			"18446744073709551616", "18446744073709551615G", "99999999999999999999999m", "1e3", "K"};
		for (size_t j = 0; j < sizeof(never) / sizeof(never[0]); j++) {
			cr_assert(config_value_set(&config, key, never[j], false, why) == -1, "%s = %s: taken",
				key->name, never[j]);
		}
	}
}

Test(config, every_enum_value)
{
	struct config config;

	good("sync_mode=batch_only\ncompression = "
	     "lz4\nread_strategy=mmap\non_corruption=truncate\nlog_level=debug\nlog_format=json\n",
		NULL, NULL, &config);
	cr_assert(config.engine.sync_mode == SYNC_BATCH_ONLY, "batch_only");
	cr_assert(config.engine.compression == COMPRESSION_LZ4, "lz4");
	cr_assert(config.engine.read_strategy == READ_MMAP, "mmap");
	cr_assert(config.engine.on_corruption == ON_CORRUPTION_TRUNCATE, "truncate");
	cr_assert(config.log_level == LOG_LEVEL_DEBUG, "debug");
	cr_assert(config.log_format == LOG_FORMAT_JSON, "json");
	good("sync_mode=async\nlog_level=warn\n", NULL, NULL, &config);
	cr_assert(config.engine.sync_mode == SYNC_ASYNC, "async");
	cr_assert(config.log_level == LOG_LEVEL_WARN, "warn");
	cr_assert(strcmp(config_sync_mode_name(SYNC_BATCH_ONLY), "batch_only") == 0, "name");
	cr_assert(strcmp(config_compression_name(COMPRESSION_LZ4), "lz4") == 0, "name");
}

Test(config, units)
{
	struct config config;
	char text[40];

	good("max_segment_size = 500\nwrite_buffer_size = 3K\nblock_cache_size = 2G\nasync_sync_interval = 1500ms\n"
	     "idle_timeout = 2m\nwrite_timeout = 7s\n",
		NULL, NULL, &config);
	cr_assert(config.engine.max_segment_size == 500, "bytes");
	cr_assert(config.engine.write_buffer_size == 3072, "K");
	cr_assert(config.engine.block_cache_size == UINT64_C(2) << 30, "G");
	cr_assert(config.engine.async_sync_interval_ns == UINT64_C(1500000000), "ms");
	cr_assert(config.idle_timeout_ns == UINT64_C(120000000000), "m");
	cr_assert(config.write_timeout_ns == UINT64_C(7000000000), "s");
	good("block_cache_size = none\nasync_sync_interval = none\nmax_entries_per_segment = none\nwrite_timeout = "
	     "none\n",
		NULL, NULL, &config);
	cr_assert(config.engine.block_cache_size == 0 && config.engine.async_sync_interval_ns == 0 &&
			  config.engine.max_entries_per_segment == 0 && config.write_timeout_ns == 0,
		"none is 0");

	config_format_size(UINT64_C(131072), text, sizeof(text));
	cr_assert(strcmp(text, "128K") == 0, "%s", text);
	config_format_size(1000, text, sizeof(text));
	cr_assert(strcmp(text, "1000") == 0, "%s", text);
	config_format_size(0, text, sizeof(text));
	cr_assert(strcmp(text, "0") == 0, "%s", text);
	config_format_duration(UINT64_C(1500000000), text, sizeof(text));
	cr_assert(strcmp(text, "1500ms") == 0, "%s", text);
	config_format_duration(UINT64_C(120000000000), text, sizeof(text));
	cr_assert(strcmp(text, "2m") == 0, "%s", text);
}

Test(config, small_messages_are_raised)
{
	struct config config;

	good(NULL, "--max-message-bytes=1", NULL, &config);
	cr_assert(config.max_message_bytes == 128 * 1024, "raised");
	cr_assert(config.max_message_bytes_asked == 1, "and remembered");
	cr_assert(config.engine.max_entry_bytes == 127 * 1024, "the entry limit follows");
	good(NULL, "--max-message-bytes=1G", NULL, &config);
	cr_assert(config.engine.max_entry_bytes == (UINT64_C(1) << 30) - 1024, "upwards too");
}

Test(config, file_is_read_as_written)
{
	struct config config;
	struct error err;

	/* BOM, CRLF, blanks, a long comment, no blanks at all, tabs, no newline at the end. */
	good("\xef\xbb\xbf# first\r\nshard_count = 7\r\n\r\n   max_streams=9\n\t# "
	     "2345678901234567890123456789012345678901234"
	     "567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
	     "0"
	     "123456789012345678901234567890123456789012345678901234567890 sync_mode = x\n"
	     "max_connections\t=\t5\n  max_open_segments = 6  ",
		NULL, NULL, &config);
	cr_assert(config.engine.shard_count == 7, "after a BOM");
	cr_assert(config.engine.max_streams == 9, "indented, and no continuation");
	cr_assert(config.max_connections == 5, "tabs");
	cr_assert(config.engine.max_open_segments == 6, "no newline");
	cr_assert(load("root_path = /some/where else\n", NULL, NULL, NULL, &config, &err) == 0, "%s", err.message);
	cr_assert(strcmp(config.root_path, "/some/where else") == 0, "a blank inside: %s", config.root_path);
	cr_assert(load("root_path = /a#b;c=d:e\n", NULL, NULL, NULL, &config, &err) == 0, "%s", err.message);
	cr_assert(strcmp(config.root_path, "/a#b;c=d:e") == 0, "%s", config.root_path);

	good("\xef\xbb\xbf \t# blanks behind the BOM are blanks like any other\n\tshard_count = 3\n", NULL, NULL,
		&config);
	cr_assert(config.engine.shard_count == 3, "behind a BOM, blanks and a comment");
}

Test(config, file_longest_line)
{
	char text[500], value[400];
	struct config config;
	struct error err;

	memset(value, 'x', sizeof(value));
	value[0] = '/';
	value[198 - strlen("root_path=")] = '\0';
	snprintf(text, sizeof(text), "root_path=%s\nshard_count=3\n", value);
	cr_assert(load(text, NULL, NULL, NULL, &config, &err) == 0, "%s", err.message);
	cr_assert(strcmp(config.root_path, value) == 0, "198 bytes come whole");
	cr_assert(config.engine.shard_count == 3, "and the next line is the next line");
	snprintf(text, sizeof(text), "\nroot_path=%sx\n", value);
	bad_file(text, ":2: the line is longer than 198 bytes (a longer value can be given on the command line)");
}

Test(config, file_refusals)
{
	bad_file("\nsinc_mode = strict\n", ":2: unknown key \"sinc_mode\": did you mean sync_mode?");
	bad_file("sync-mode = strict\n", ":1: unknown key \"sync-mode\": did you mean sync_mode?");
	bad_file("Sync_mode = strict\n", ":1: unknown key \"Sync_mode\": did you mean sync_mode?");
	bad_file("\xef\xbb\xbf\xef\xbb\xbfshard_count = 3\n", ":1: expected key = value");
	bad_file("on_corr = error\n", ":1: unknown key \"on_corr\": did you mean on_corruption?");
	bad_file("max = 1\n", ":1: unknown key \"max\"");
	bad_file("frobnicate = 1\n", ":1: unknown key \"frobnicate\"");
	bad_file("sync_mode = sometimes\n",
		":1: sync_mode: bad value \"sometimes\": expected strict, batch_only or async");
	bad_file("sync_mode =\n", ":1: sync_mode: bad value \"\": expected strict, batch_only or async");
	bad_file("compression = zstd\n", ":1: compression: bad value \"zstd\": expected none or lz4");
	bad_file("# x\n\nmax_segment_size = 0\n",
		":3: max_segment_size: bad value \"0\": expected a size from 1 to 1024G, in bytes or with K, M or G");
	bad_file("block_cache_size = 0\n", ":1: block_cache_size: bad value \"0\": expected none or a size from 1 to "
					   "1024G, in bytes or with K, M or "
					   "G");
	bad_file("max_message_bytes = 2G\n",
		":1: max_message_bytes: bad value \"2G\": expected a size from 1 to 1G, in bytes or with K, M or G");
	bad_file("shard_count = 65536\n", ":1: shard_count: bad value \"65536\": expected a number from 1 to 65535");
	bad_file("async_sync_interval = 5\n", ":1: async_sync_interval: bad value \"5\": expected none or a duration "
					      "from 1ms to 1440m, with the unit: "
					      "ms, s or m");
	bad_file("shard_count = 3\n\nshard_count = 3\n", ":3: shard_count: given already in line 1");
	bad_file("[server]\nshard_count = 3\n", ":1: sections are not known here: expected key = value");
	bad_file("; hello\n", ":1: expected key = value (a comment begins with #)");
	bad_file("shard_count\n", ":1: expected key = value");
	bad_file("shard_count 3\n", ":1: expected key = value");
	bad_file("= 3\n", ":1: expected key = value");
	bad_file("shard_count: 3\n", ":1: expected key = value");
	bad_file("listen_unix: a=b\n", ":1: expected key = value, with nothing but = between them");
	bad_file("shard_count = 3 # three\n",
		":1: a comment stands on a line of its own, and a value holds no # or ; behind a blank");
	bad_file("root_path = /a ;b\n",
		":1: a comment stands on a line of its own, and a value holds no # or ; behind a blank");
	bad_file("shard_count = 3\a\n", ":1: a control character: this is no text file");
	bad_file("root_path = \"/data\"\n",
		":1: root_path: bad value \"\"/data\"\": expected a path without quotes around it");
	bad_file("root_path =\n", ":1: root_path: bad value \"\": expected a path of 1 to 4095 bytes");
	/* The first of two errors is the one that is told, and nothing behind it is. */
	bad_file("shard_count = x\nsync_mode = x\n",
		":1: shard_count: bad value \"x\": expected a number from 1 to 65535");
}

Test(config, file_with_nul_and_no_file)
{
	static const char nul[] = "shard_count = 3\0\nshard_count = 4\n";
	struct config config;
	struct error err;
	enum config_action action;
	char option[100];

	snprintf(option, sizeof(option), "--config=%s", write_file(nul, sizeof(nul) - 1));
	char *argv[] = {(char *)"ironwald", (char *)"--root-path=/d", option, NULL};
	cr_assert(config_load(3, argv, &config, &action, &err) == -1, "NUL");
	cr_assert(strstr(err.message, ":1: a control character") != NULL, "%s", err.message);

	argv[2] = (char *)"--config=/nonexistent/ironwald.conf";
	cr_assert(config_load(3, argv, &config, &action, &err) == -1, "no file");
	cr_assert(strcmp(err.message, "/nonexistent/ironwald.conf: No such file or directory") == 0, "%s", err.message);
	argv[2] = (char *)"--config=/tmp";
	cr_assert(config_load(3, argv, &config, &action, &err) == -1, "a directory");
	cr_assert(strcmp(err.message, "/tmp: Is a directory") == 0, "%s", err.message);
	argv[2] = (char *)"--config=/dev/zero";
	cr_assert(config_load(3, argv, &config, &action, &err) == -1, "no end");
}

Test(config, long_texts_do_not_break_the_message)
{
	char text[600];
	struct config config;
	struct error err;

	memset(text, 'y', sizeof(text));
	memcpy(text, "--sync-mode=\n\x1b", 14);
	text[sizeof(text) - 1] = '\0';
	cr_assert(load(NULL, "--root-path=/d", text, NULL, &config, &err) == -1, "taken");
	cr_assert(strncmp(err.message, "ironwald: --sync-mode: bad value \"??yyy", 39) == 0, "%s", err.message);
	cr_assert(strstr(err.message, "...\": expected strict, batch_only or async") != NULL, "%s", err.message);

	memset(text, 'y', sizeof(text));
	memcpy(text, "--", 2);
	text[sizeof(text) - 1] = '\0';
	cr_assert(load(NULL, "--root-path=/d", text, NULL, &config, &err) == -1, "taken");
	cr_assert(strncmp(err.message, "ironwald: unknown option \"--yyy", 31) == 0, "%s", err.message);
}

Test(config, command_line_wins)
{
	struct config config;

	good("sync_mode = batch_only\nshard_count = 9\nlisten_tcp = 127.0.0.1:1, 127.0.0.1:2\n", "--sync-mode=async",
		"--listen-tcp=[::1]:3", &config);
	cr_assert(config.engine.sync_mode == SYNC_ASYNC, "option over file");
	cr_assert(config.engine.shard_count == 9, "file over default");
	cr_assert(config.listen_tcp.count == 1 && config.listen_tcp.list[0].ss_family == AF_INET6, "addresses too");
	good(NULL, "--shard-count=2", "--shard-count=3", &config);
	cr_assert(config.engine.shard_count == 3, "the last one");
	good(NULL, "--shard-count", "5", &config);
	cr_assert(config.engine.shard_count == 5, "value as the next argument");
}

Test(config, command_line_refusals)
{
	bad_option("--sync-mode=x", "ironwald: --sync-mode: bad value \"x\": expected strict, batch_only or async");
	bad_option("--sync-mod=async",
		"ironwald: unknown option \"--sync-mod\": did you mean --sync-mode? (--help lists all)");
	bad_option("--sync_mode=async",
		"ironwald: unknown option \"--sync_mode\": did you mean --sync-mode? (--help lists all)");
	bad_option("--root-pat=async",
		"ironwald: unknown option \"--root-pat\": did you mean --root-path? (--help lists all)");
	bad_option("--max=1", "ironwald: unknown option \"--max\" (--help lists all)");
	bad_option("--sync-mode", "ironwald: --sync-mode: expected a value");
	bad_option("--check-config=yes", "ironwald: --check-config: expected no value");
	bad_option("strict", "ironwald: unexpected argument \"strict\": expected --key=value");
}

Test(config, needs_root_and_a_place_to_listen)
{
	struct config config;
	struct error err;

	cr_assert(load(NULL, NULL, NULL, NULL, &config, &err) == -1, "no root_path");
	cr_assert(
		strcmp(err.message, "ironwald: root_path is not given: expected --root-path=DIR, or root_path = DIR in "
				    "the file") == 0,
		"%s", err.message);
	good(NULL, "--listen-tcp=none", NULL, &config);
	cr_assert(config_check_listening(&config, 1, &err) == 0, "sockets are inherited");
	cr_assert(config_check_listening(&config, 0, &err) == -1, "nowhere");
	cr_assert(strstr(err.message, "listen_tcp and listen_unix are both none") != NULL, "%s", err.message);
	good(NULL, "--listen-tcp=none", "--listen-unix=/s", &config);
	cr_assert(config.listen_tcp.count == 0 && strcmp(config.listen_unix, "/s") == 0, "Unix alone");
	cr_assert(config_check_listening(&config, 0, &err) == 0, "a place");
}

Test(config, addresses)
{
	struct config config;
	struct error err;
	char text[1000] = "--listen-tcp=127.0.0.1:0";

	good("listen_tcp = 127.0.0.1:0 ,127.9.8.7:65535\nlisten_tcp = [::1]:7411\n", NULL, NULL, &config);
	cr_assert(config.listen_tcp.count == 3, "three");
	cr_assert(((struct sockaddr_in *)&config.listen_tcp.list[0])->sin_port == 0, "port 0");
	cr_assert(((struct sockaddr_in *)&config.listen_tcp.list[1])->sin_port == htons(65535), "last port");
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&config.listen_tcp.list[2];
	cr_assert(in6->sin6_family == AF_INET6 && in6->sin6_port == htons(7411), "IPv6");
	cr_assert(IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr), "::1");
	good(NULL, "--listen-tcp=127.0.0.1:5", "--listen-tcp=127.0.0.1:6", &config);
	cr_assert(config.listen_tcp.count == 2, "options gather");
	good(NULL, "--listen-tcp=127.0.0.1:0,127.0.0.1:0", NULL, &config);
	cr_assert(config.listen_tcp.count == 2, "port 0 twice is two ports");

	static const char *const wrong[] = {"7411", ":7411", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
		"127.0.0.1:x", "127.0.0.1:-1", "::1:7411", "[::1]", "[::1:7411", "[]:1", "localhost:7411", "127.1:7411",
		"127.0.0.1:1,", ",127.0.0.1:1", "127.0.0.1:1,,127.0.0.1:2", "127.0.0.1:123456", "[127.0.0.1]:1", "",
		"[", "[::1]:7411x", "127.0.0.1:1 127.0.0.1:2"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char option[100];
		snprintf(option, sizeof(option), "--listen-tcp=%s", wrong[i]);
		cr_assert(load(NULL, "--root-path=/d", option, NULL, &config, &err) == -1, "taken: %s", wrong[i]);
		cr_assert(strstr(err.message, "expected none or ADDRESS:PORT, as 127.0.0.1:7411 or [::1]:7411") != NULL,
			"%s", err.message);
	}
	/* Those that others can reach want more than an address. */
	static const char *const open[] = {"0.0.0.0:1", "192.168.1.1:1", "[::]:1", "128.0.0.1:1", "[fe80::1]:1",
		"[::ffff:10.0.0.1]:1", "127.0.0.1:1,10.0.0.1:1"};
	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++) {
		char option[100];
		snprintf(option, sizeof(option), "--listen-tcp=%s", open[i]);
		cr_assert(load(NULL, "--root-path=/d", option, NULL, &config, &err) == -1, "taken: %s", open[i]);
		cr_assert(strstr(err.message, "is not a loopback address, and nobody is asked") != NULL, "%s",
			err.message);
		good(NULL, option, "--insecure-allow-open-addresses=yes", &config);
		cr_assert(load(NULL, "--root-path=/d", option, "--token-file=/t", &config, &err) == -1, "taken: %s",
			open[i]);
		cr_assert(strstr(err.message, "is not a loopback address, and without TLS") != NULL, "%s", err.message);
	}
	cr_assert(load(NULL, "--root-path=/d", "--listen-tcp=127.0.0.1:1,127.0.0.1:1", NULL, &config, &err) == -1,
		"twice");
	cr_assert(strstr(err.message, "127.0.0.1:1 is there twice") != NULL, "%s", err.message);
	cr_assert(load("listen_tcp = 127.0.0.1:1\nlisten_tcp = none\n", "--root-path=/d", NULL, NULL, &config, &err) ==
			  -1,
		"none after one");
	cr_assert(load("listen_tcp = none\nlisten_tcp = 127.0.0.1:1\n", "--root-path=/d", NULL, NULL, &config, &err) ==
			  -1,
		"one after none");
	for (int i = 1; i < CONFIG_MAX_LISTEN; i++)
		strcat(text, ",127.0.0.1:0");
	good(NULL, text, NULL, &config);
	cr_assert(config.listen_tcp.count == CONFIG_MAX_LISTEN, "as many as there may be");
	strcat(text, ",127.0.0.1:0");
	cr_assert(load(NULL, "--root-path=/d", text, NULL, &config, &err) == -1, "one more");
	cr_assert(strstr(err.message, "expected at most 16 addresses") != NULL, "%s", err.message);
}

Test(config, unix_path_length)
{
	struct config config;
	struct error err;
	char option[200] = "--listen-unix=";
	size_t prefix = strlen(option);

	memset(option + prefix, 's', 107);
	option[prefix + 107] = '\0';
	good(NULL, option, NULL, &config);
	cr_assert(strlen(config.listen_unix) == 107, "107 bytes");
	option[prefix + 107] = 's';
	option[prefix + 108] = '\0';
	cr_assert(load(NULL, "--root-path=/d", option, NULL, &config, &err) == -1, "108 bytes");
	cr_assert(strstr(err.message, "expected none or a path of 1 to 107 bytes") != NULL, "%s", err.message);
}

Test(config, actions)
{
	struct config config;
	struct error err;
	enum config_action action;
	char *argv[] = {(char *)"ironwald", (char *)"--version", NULL, NULL};

	cr_assert(config_load(2, argv, &config, &action, &err) == 0 && action == CONFIG_VERSION, "--version");
	argv[1] = (char *)"--help";
	cr_assert(config_load(2, argv, &config, &action, &err) == 0 && action == CONFIG_HELP, "--help");
	argv[1] = (char *)"-h";
	cr_assert(config_load(2, argv, &config, &action, &err) == 0 && action == CONFIG_HELP, "-h");
	argv[1] = (char *)"--check-config";
	cr_assert(config_load(2, argv, &config, &action, &err) == -1, "--check-config checks");
	argv[2] = (char *)"--root-path=/d";
	cr_assert(config_load(3, argv, &config, &action, &err) == 0 && action == CONFIG_CHECK, "--check-config");
	argv[1] = (char *)"--log-level=warn";
	cr_assert(config_load(3, argv, &config, &action, &err) == 0 && action == CONFIG_RUN, "neither");
}

Test(config, help_names_every_key_and_default)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	config_print_help(out);
	fclose(out);
	for (size_t i = 0; i < config_key_count; i++) {
		const struct config_key *key = &config_keys[i];
		char want[200], syntax[100], name[CONFIG_NAME_MAX];

		snprintf(name, sizeof(name), "%s", key->name);
		for (char *at = name; *at != '\0'; at++)
			*at = *at == '_' ? '-' : *at;
		config_value_syntax(key, syntax, sizeof(syntax));
		snprintf(want, sizeof(want), "  --%s=%s\n        %s (%s%s%s)\n", name, syntax, key->help,
			key->default_text == NULL ? "required" : "default: ",
			key->default_text == NULL ? "" : key->default_text, key->reload ? "; reload" : "");
		cr_assert(strstr(text, want) != NULL, "not in --help: %s", want);
	}
	cr_assert(strstr(text, "--sync-mode=strict|batch_only|async\n") != NULL, "values of an enum");
	free(text);
}

/* conf/ironwald.conf holds every key of the table once, commented out, with the default that is built in, below at
 * least two lines of prose. */
Test(config, sample_file_is_the_table)
{
	FILE *sample = fopen(SAMPLE_CONF, "r");
	char line[300], text[20000] = "";
	size_t used = 0, prose = 0, keys = 0;
	bool reload = false;
	struct config from_sample, built_in;
	struct error err;
	uint64_t seen = 0;

	cr_assert(sample != NULL, "cannot open %s", SAMPLE_CONF);
	while (fgets(line, sizeof(line), sample) != NULL) {
		size_t name_len = strspn(line + 1, "abcdefghijklmnopqrstuvwxyz_");

		cr_assert(line[0] == '#' || line[0] == '\n', "nothing is set in it: %s", line);
		if (line[0] == '#' && name_len > 0 && strncmp(line + 1 + name_len, " = ", 3) == 0) {
			const struct config_key *key = config_key_find(line + 1, name_len);
			cr_assert(key != NULL, "no such key: %s", line);
			cr_assert((seen & UINT64_C(1) << (key - config_keys)) == 0, "twice: %s", line);
			seen |= UINT64_C(1) << (key - config_keys);
			cr_assert(prose >= 2, "explained: %s", line);
			cr_assert(reload == key->reload, "marked [reload], or not: %s", line);
			line[strcspn(line, "\n")] = '\0';
			const char *value = line + 1 + name_len + 3;
			cr_assert(key->default_text == NULL || strcmp(value, key->default_text) == 0, "default: %s",
				line);
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s\n", line + 1);
			cr_assert(used < sizeof(text), "too long for this test");
			keys++;
		}
		prose = line[0] == '#' && line[1] == ' ' ? prose + 1 : 0;
		reload = prose > 0 && strstr(line, "[reload]\n") != NULL;
	}
	fclose(sample);
	cr_assert(keys == config_key_count, "%zu keys of %zu", keys, config_key_count);

	cr_assert(load(text, NULL, NULL, NULL, &from_sample, &err) == 0, "%s", err.message);
	cr_assert(load(NULL, "--root-path=/var/lib/ironwald", NULL, NULL, &built_in, &err) == 0, "%s", err.message);
	cr_assert(memcmp(&from_sample, &built_in, sizeof(built_in)) == 0, "the sample is the built-in configuration");
}

Test(config, tls_is_whole)
{
	struct config config;
	struct error err;

	good("listen_tcp = 0.0.0.0:1\ntoken_file = /t\ntls_certificate = /c\ntls_key = /k\n", NULL, NULL, &config);
	good("listen_tcp = 0.0.0.0:1\ntls_client_ca = /a\ntls_certificate = /c\ntls_key = /k\n", NULL, NULL, &config);
	bad_option(
		"--tls-certificate=/c", "ironwald: tls_certificate and tls_key go together: expected both, or neither");
	bad_option("--tls-key=/k", "ironwald: tls_certificate and tls_key go together: expected both, or neither");
	bad_option("--tls-client-ca=/a",
		"ironwald: tls_client_ca is of no use without TLS: expected tls_certificate and tls_key, too");
	cr_assert(load("listen_tcp = 0.0.0.0:1\ntls_certificate = /c\ntls_key = /k\n", "--root-path=/d", NULL, NULL,
			  &config, &err) == -1,
		"TLS alone");
	cr_assert(strstr(err.message, "nobody is asked who they are") != NULL, "%s", err.message);
}

/* Whatever keeps strangers out of the log does not keep them out of what is there for everyone. */
Test(config, metrics_are_for_loopback)
{
	static const char guards[] = "token_file = /t\ntls_certificate = /c\ntls_key = /k\n";
	struct config config;
	struct error err;
	char text[200];

	good(NULL, NULL, NULL, &config);
	cr_assert(config.listen_metrics.count == 0, "none is the default");
	good("listen_metrics = 127.0.0.1:9411, [::1]:9411\n", "--listen-metrics=127.8.8.8:1",
		"--listen-metrics=[::1]:2", &config);
	cr_assert(config.listen_metrics.count == 2, "options gather, and replace those of the file");
	snprintf(text, sizeof(text), "listen_metrics = 127.0.0.1:1,192.0.2.1:9411\n%s", guards);
	cr_assert(load(text, "--root-path=/d", NULL, NULL, &config, &err) == -1, "open");
	cr_assert(err.code == ERR_CONFIG && strstr(err.message, "metrics at tcp 192.0.2.1:9411") != NULL, "%s",
		err.message);
	good(text, "--insecure-allow-open-addresses=yes", NULL, &config);
	cr_assert(config.listen_metrics.count == 2, "on purpose");
	/* They are no place to serve clients at. */
	good("listen_metrics = 127.0.0.1:1\nlisten_tcp = none\n", NULL, NULL, &config);
	cr_assert(config_check_listening(&config, 0, &err) == -1, "nowhere to listen");
}

Test(config, modes_and_names)
{
	struct config config;

	good("listen_unix_mode = 0660\nlisten_unix_group = ironwald-users\n", NULL, NULL, &config);
	cr_assert(config.listen_unix_mode == 0660, "0660");
	cr_assert(strcmp(config.listen_unix_group, "ironwald-users") == 0, "a name");
	good(NULL, "--listen-unix-mode=777", "--listen-unix-group=none", &config);
	cr_assert(config.listen_unix_mode == 0777 && config.listen_unix_group[0] == '\0', "without the 0; none");
	static const char *const wrong[] = {"", "0", "66", "0680", "00660", "1777", "-600", "0x1ff", "u=rw", "0660 "};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char option[100], message[300];
		snprintf(option, sizeof(option), "--listen-unix-mode=%s", wrong[i]);
		snprintf(message, sizeof(message),
			"ironwald: --listen-unix-mode: bad value \"%s\": expected the rights of a file in octal, from "
			"0000 "
			"to 0777, as 0660",
			wrong[i]);
		bad_option(option, message);
	}
	bad_option("--listen-unix-group=a-name-that-has-more-than-32-bytes",
		"ironwald: --listen-unix-group: bad value \"a-name-that-has-more-than-32-bytes\": expected none or a "
		"name of "
		"1 to 32 bytes");
	bad_option("--listen-unix-group='g'",
		"ironwald: --listen-unix-group: bad value \"'g'\": expected a name without quotes around it");
}

/* ---- descriptors ------------------------------------------------------------------------------------------------ */

/* Four shards and one listener: 24 + 8 + 1 are fixed, and the engine needs 24 segments. */
static struct fd_budget fit(uint64_t limit, uint32_t connections, uint32_t segments, bool *ret_fits)
{
	struct fd_budget budget = {
		.limit = limit, .shards = 4, .listeners = 1, .connections = connections, .segments = segments};

	*ret_fits = fd_budget_fit(&budget);
	if (*ret_fits)
		cr_assert(33 + budget.connections + budget.segments <= limit, "over the limit of %d", (int)limit);
	return budget;
}

Test(config, descriptors)
{
	struct fd_budget budget;
	bool fits;

	budget = fit(100000, 1024, 128, &fits);
	cr_assert(fits && budget.connections == 1024 && budget.segments == 128, "enough");
	cr_assert(budget.wanted == 33 + 1024 + 128, "wanted");
	budget = fit(budget.wanted, 1024, 128, &fits);
	cr_assert(fits && budget.connections == 1024 && budget.segments == 128, "just enough");
	budget = fit(budget.wanted - 1, 1024, 128, &fits);
	cr_assert(fits && budget.connections == 1023 && budget.segments == 128, "one short: a connection");
	budget = fit(256, 1024, 128, &fits);
	cr_assert(fits && budget.connections == 95 && budget.segments == 128, "256");
	budget = fit(128, 1024, 128, &fits);
	cr_assert(fits && budget.connections == 16 && budget.segments == 79, "128");
	budget = fit(64, 1024, 128, &fits);
	cr_assert(fits && budget.connections == 7 && budget.segments == 24, "64");
	budget = fit(61, 1024, 128, &fits);
	cr_assert(fits && budget.connections == 4 && budget.segments == 24, "the minimum");
	budget = fit(60, 1024, 128, &fits);
	cr_assert(!fits && budget.minimum == 61, "below the minimum");
	fit(32, 1024, 128, &fits);
	cr_assert(!fits, "32");
	budget = fit(58, 1, 1, &fits);
	cr_assert(fits && budget.connections == 1 && budget.segments == 24, "one connection; what the engine needs");
	fit(57, 1, 1, &fits);
	cr_assert(!fits, "below that");
	for (uint64_t limit = 61; limit < 2000; limit++) {
		fit(limit, 700, 500, &fits);
		cr_assert(fits, "fits");
	}
	/* Writers do not grow with shards beyond what the engine has. */
	budget = (struct fd_budget){.limit = 4096, .shards = 65535, .listeners = 1, .connections = 10, .segments = 10};
	cr_assert(fd_budget_fit(&budget) && budget.segments == 8 + 4 * 16 && budget.minimum == 24 + 32 + 1 + 4 + 72,
		"65535 shards");
	/* What others may take is not there for connections. */
	budget = (struct fd_budget){
		.limit = 256, .shards = 4, .listeners = 1, .others = 20, .connections = 1024, .segments = 128};
	cr_assert(fd_budget_fit(&budget) && budget.connections == 75 && budget.segments == 128, "256 less 20");
}

Test(config, descriptors_are_raised)
{
	struct rlimit limit;

	cr_assert(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
	limit.rlim_cur = 100;
	if (limit.rlim_max > 300)
		limit.rlim_max = 300;
	cr_assert(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
	cr_assert(fd_budget_raise() == limit.rlim_max, "told");
	cr_assert(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == limit.rlim_max, "and done");
}
