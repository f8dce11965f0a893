/*
 * config: what the daemon is told: built-in defaults, then the file, then the command line.
 *
 * Owns nothing: a struct config is plain memory of the caller's, filled once and not changed afterwards (see reload.h).
 * config_load is for one thread at a time, and for nobody else who uses getopt or libinih (both keep process-wide
 * state). Invariant: a config that config_load handed out holds for every key a value within the bounds of its row in
 * the table (config_table.h); what small values cannot carry has been raised already.
 */
#ifndef IRONWALD_CONFIG_H
#define IRONWALD_CONFIG_H

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include "address.h"
#include "error.h"
#include "log.h"
#include "options.h"

#define CONFIG_MAX_LISTEN 16
#define CONFIG_UNIX_PATH_MAX 107 /* sun_path, less its NUL */
#define CONFIG_GROUP_MAX 32
#define CONFIG_MIN_MESSAGE_BYTES (UINT64_C(128) << 10)
#define CONFIG_ENTRY_MARGIN_BYTES UINT64_C(1024) /* what an entry leaves of a message for the answer around it */

struct config_addresses {
	struct sockaddr_storage list[CONFIG_MAX_LISTEN];
	uint32_t count; /* 0: none */
};

struct config {
	struct engine_options engine;

	char root_path[PATH_MAX];
	struct config_addresses listen_tcp;
	char listen_unix[CONFIG_UNIX_PATH_MAX + 1]; /* empty: none */
	uint32_t listen_unix_mode;
	char listen_unix_group[CONFIG_GROUP_MAX + 1]; /* empty: none */
	struct config_addresses listen_metrics;

	char token_file[PATH_MAX]; /* empty: none, as those that follow */
	char tls_certificate[PATH_MAX];
	char tls_key[PATH_MAX];
	char tls_client_ca[PATH_MAX];
	uint64_t hello_timeout_ns;
	uint32_t insecure_allow_open_addresses; /* 0 or 1 */

	uint64_t max_message_bytes;
	uint64_t max_message_bytes_asked; /* before it was raised to CONFIG_MIN_MESSAGE_BYTES */
	uint64_t max_inflight_bytes;	  /* per connection */
	uint64_t max_inflight_bytes_total;
	uint32_t max_connections;
	uint64_t idle_timeout_ns;  /* 0: none */
	uint64_t write_timeout_ns; /* 0: none */
	uint64_t shutdown_timeout_ns;
	uint64_t slow_disk_after_ns;
	enum log_level log_level;
	enum log_format log_format;
};

enum config_action {
	CONFIG_RUN,
	CONFIG_CHECK, /* --check-config, and all is well */
	CONFIG_HELP,
	CONFIG_VERSION,
};

/* The defaults of the table; root_path is empty. */
void config_default(struct config *config);

/* Reads the command line and the file that it names. With CONFIG_HELP and CONFIG_VERSION the config is only the
 * defaults. -1: ERR_CONFIG, and err->message is the whole line for stderr ("FILE:LINE: key: bad value ..."). */
int config_load(int argc, char **argv, struct config *ret_config, enum config_action *ret_action, struct error *err);

/* What keeps strangers out, for address_check_open. */
void config_guard(const struct config *config, struct address_guard *ret_guard);
/* Without sockets that are inherited (how many there are), there has to be a place to listen. -1: ERR_CONFIG, the line
 * for stderr. */
int config_check_listening(const struct config *config, int inherited_count, struct error *err);

/* What --help prints. */
void config_print_help(FILE *out);

/* As the file spells them: "strict", "lz4". Static memory. */
const char *config_sync_mode_name(enum sync_mode mode);
const char *config_compression_name(enum compression compression);

#endif
