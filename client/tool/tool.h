/*
 * tool: what the subcommands of `ironwal` share: options, connection, output, errors.
 *
 * Owns the connection and the state of standard output; one thread. A subcommand is a function that parses its own
 * arguments (with the common ones among them), connects, works, and returns an exit status.
 * Invariant: an exit status of 0 means that everything asked for was done and written out, or that the reader of
 * standard output went away.
 */
#ifndef IRONWAL_TOOL_H
#define IRONWAL_TOOL_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "ironwal.h"

enum exit_status {
	EXIT_OK = 0,
	EXIT_FAILED = 1,     /* the server said no, there is no such thing, or a local file failed */
	EXIT_USAGE = 2,	     /* the command line is wrong */
	EXIT_CONNECTION = 3, /* no connection, or it was lost, or no answer came in time */
};

/* Not an exit status: go on. */
#define TOOL_GO_ON (-1)

struct tool;

struct command {
	const char *name;
	const char *summary;
	const char *help; /* all of it: usage, options, an example */
	int (*run)(struct tool *tool, int argc, char **argv);
};

struct tool {
	const struct command *command;
	char **argv;		/* the command's: getopt is in the middle of it */
	const char *address;	/* NULL: the library's choice */
	const char *token_file; /* the same */
	bool allow_plain_token;
	const char *tls_ca, *tls_cert, *tls_key;
	int64_t timeout_ms;
	bool json;
	ironwal *connection; /* after tool_connect */
	ironwal_error *error;
};

/* ---- options (options.c) ---- */

enum {
	OPTION_CONNECT = 256,
	OPTION_TIMEOUT,
	OPTION_JSON,
	OPTION_HELP,
	OPTION_TOKEN_FILE,
	OPTION_ALLOW_PLAIN_TOKEN,
	OPTION_TLS_CA,
	OPTION_TLS_CERT,
	OPTION_TLS_KEY,
	OPTION_OWN /* a command's own begin here */
};

#define TOOL_OPTIONS                                                                                                   \
	{"connect", required_argument, NULL, OPTION_CONNECT}, {"timeout", required_argument, NULL, OPTION_TIMEOUT},    \
		{"json", no_argument, NULL, OPTION_JSON}, {"help", no_argument, NULL, OPTION_HELP},                    \
		{"token-file", required_argument, NULL, OPTION_TOKEN_FILE},                                            \
		{"allow-plain-token", no_argument, NULL, OPTION_ALLOW_PLAIN_TOKEN},                                    \
		{"tls-ca", required_argument, NULL, OPTION_TLS_CA},                                                    \
		{"tls-cert", required_argument, NULL, OPTION_TLS_CERT},                                                \
	{                                                                                                              \
		"tls-key", required_argument, NULL, OPTION_TLS_KEY                                                     \
	}

/* The lines of a help text that stand for them. */
#define TOOL_OPTIONS_HELP                                                                                              \
	"  --connect ADDR, --timeout SEC, --json, --help\n"                                                            \
	"  --token-file FILE, --allow-plain-token, --tls-ca FILE, --tls-cert FILE, --tls-key FILE\n"

/* An option of a command: where what it says goes. */
struct option_row {
	const char *name; /* NULL: the end of the rows */
	bool *is_given;	  /* may be NULL */
	/* At most one of these; without one it takes no argument. */
	uint64_t *number;
	const char **text;
	const char *what; /* the number is: "an id" */
	bool is_optional; /* the argument: it comes behind a '=' then */
};

#define OPT_FLAG(name, ret_given)                                                                                      \
	{                                                                                                              \
		name, ret_given, NULL, NULL, NULL, false                                                               \
	}
#define OPT_TEXT(name, ret_text)                                                                                       \
	{                                                                                                              \
		name, NULL, NULL, ret_text, NULL, false                                                                \
	}
#define OPT_NUMBER(name, ret_given, ret_number, what)                                                                  \
	{                                                                                                              \
		name, ret_given, ret_number, NULL, what, false                                                         \
	}
#define OPT_MAYBE_TEXT(name, ret_given, ret_text)                                                                      \
	{                                                                                                              \
		name, ret_given, NULL, ret_text, NULL, true                                                            \
	}
#define OPT_END                                                                                                        \
	{                                                                                                              \
		NULL, NULL, NULL, NULL, NULL, false                                                                    \
	}

/* All of a command's arguments: the common options, its own (rows may be NULL), and, from argv[optind] on, between
 * `least` and `most` others. TOOL_GO_ON, or the exit status. */
int tool_arguments(struct tool *tool, int argc, char **argv, const struct option_row *rows, int least, int most);
/* The options before a name of a command (`--version` among them where it is asked for): argv[optind] is that name.
 * TOOL_GO_ON, or the exit status. */
int tool_leading_options(struct tool *tool, int argc, char **argv, bool *is_version);
/* A common option (or one that getopt did not know): TOOL_GO_ON, or the exit status. */
int tool_option(struct tool *tool, int option);
/* A whole unsigned number. */
bool tool_parse_u64(const char *text, uint64_t *ret_value);
/* The bytes that an argument stands for, behind what buf holds: its own, or what it says in hex. TOOL_GO_ON, or the
 * exit status. */
int tool_parse_bytes(const struct tool *tool, const char *text, bool is_hex, struct buf *buf);
/* What `len` hex digits say, behind what buf holds. -1: they are none, or out of memory. */
int tool_parse_hex(const char *text, size_t len, struct buf *buf);
/* TOOL_GO_ON, or the exit status. The number of arguments left must be between the two. */
int tool_check_count(const struct tool *tool, int count, int least, int most);

/* ---- commands of commands, the connection (main.c) ---- */

int tool_print_help(void);
/* How the command line says that a connection is to be made. */
void tool_client_options(const struct tool *tool, ironwal_options *ret_options);
/* TOOL_GO_ON, or the exit status, with the error reported. */
int tool_connect(struct tool *tool);
/* Begins to, in place of the connection that there was: see ironwal_connect_start. -1, with tool->error. */
int tool_connect_again(struct tool *tool);
/* tool->error, that there is no connection, reported; the exit status. */
int tool_connect_failed(const struct tool *tool);
/* For a command of commands, called "GROUP NAME": runs the one that the arguments name, with the options before it. */
int tool_run_one_of(struct tool *tool, int argc, char **argv, const struct command *const *commands, size_t count);

/* ---- errors (output.c) ---- */

/* tool->error in one line on stderr (one JSON object with --json), and the exit status for it. what: "append to",
 * stream may be NULL. hint: what to do besides, or NULL. */
int tool_failed(const struct tool *tool, const char *what, const char *stream, const char *hint);
/* The same about something else than a stream: kind "checkpoint" or "key". */
int tool_failed_about(
	const struct tool *tool, const char *what, const char *kind, const void *bytes, size_t len, const char *hint);
/* The same for a job of many requests, of which the error is only the first one's: `done` says what became of them. */
int tool_failed_partly(const struct tool *tool, const char *what, const char *stream, const char *done);
/* A failure of this side, printf format; EXIT_FAILED. */
int tool_failed_here(const struct tool *tool, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Wrong usage, printf format, to which "see ... --help" is added; EXIT_USAGE. */
int tool_usage(const struct tool *tool, const char *format, ...) __attribute__((format(printf, 2, 3)));
int tool_exit_status(const ironwal_error *error);

/* ---- standard output (output.c) ---- */

/* False: it cannot be written to, stop working; out_end knows why. */
bool out_write(const void *bytes, size_t len);
bool out_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool out_flush(void);
/* A name for people: what would move the cursor, the backslash, and in what is not UTF-8 all that is not ASCII, come as
 * \xNN. */
bool out_name(const char *name, size_t len);
/* The same as a text, to be freed. NULL: out of memory. */
char *tool_shown(const char *name, size_t len);
/* The bytes of an entry. On a terminal what would move the cursor, and what is no text, comes as \xNN, but newlines and
 * tabs as they are; is_raw, and everywhere else, as it is. */
bool out_entry(const void *entry, size_t len, bool is_raw);
bool out_is_terminal(void);
/* The reader has gone (asked for while there is nothing to write). */
bool out_reader_gone(void);
/* Flushes. status, or what a failed write makes of it: quiet if the reader has gone, else one line and EXIT_FAILED. */
int out_end(const struct tool *tool, int status);

/* "3 entries", "1 entry": the singular, and what its last letters become. */
void out_count(uint64_t count, const char *one, const char *many);

/* ---- JSON (json.c): one object a line ---- */

struct json;

struct json *json_new(void); /* to standard output; ends the program if there is no memory */
struct json *json_new_stderr(void);
void json_free(struct json *json);
void json_map(struct json *json);
void json_map_end(struct json *json);
void json_array(struct json *json);
void json_array_end(struct json *json);
void json_key(struct json *json, const char *key);
void json_key_len(struct json *json, const char *key, size_t len);
void json_u64(struct json *json, uint64_t value);
void json_i64(struct json *json, int64_t value);
void json_double(struct json *json, double value);
void json_bool(struct json *json, bool value);
void json_null(struct json *json);
void json_str(struct json *json, const char *text);
/* "KEY": value. */
void json_put_u64(struct json *json, const char *key, uint64_t value);
void json_put_double(struct json *json, const char *key, double value);
void json_put_bool(struct json *json, const char *key, bool value);
void json_put_str(struct json *json, const char *key, const char *text);
/* "KEY": "text" if the bytes are UTF-8, else "KEY_base64": "...". */
void json_key_bytes(struct json *json, const char *key, const void *bytes, size_t len);
/* As a value: what is not UTF-8 in base64. */
void json_bytes(struct json *json, const void *bytes, size_t len);
/* After an object: the next one comes on a line of its own. False as out_write. */
bool json_line(struct json *json);

/* ---- commands ---- */

/* cat of a stream, or of a shard (read.c). */
int tool_cat(struct tool *tool, int argc, char **argv, bool of_shard);

extern const struct command command_append, command_get, command_cat, command_streams, command_info, command_truncate,
	command_segment_start, command_sync, command_ping, command_stats, command_shard, command_checkpoint,
	command_prune, command_bench, command_token;

#endif
