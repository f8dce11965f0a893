/*
 * log: one line to stderr for what an operator should know.
 *
 * Owns the level and the format (process-wide, atomic). Any thread may call anything.
 * Invariant: a line is written by one write(2), so that lines never mix; control characters in the text come out
 * escaped, so that one call is one line.
 *
 *   2026-01-31T12:34:56.789Z info  net: listening on 127.0.0.1:7411                                          text
 *   {"time":"2026-01-31T12:34:56.789Z","level":"info","module":"net","message":"listening on ..."}           json
 *
 * Where the descriptor is a stream of the systemd journal, its priority stands in front of either ("<6>"), and text has
 * no time and no level of its own: the journal has both.
 */
#ifndef IRONWALD_LOG_H
#define IRONWALD_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* The default is info. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* "error", "warn", "info", "debug". -1 for another name. */
int log_level_from_name(const char *name, size_t len, enum log_level *ret_level);
const char *log_level_name(enum log_level level);

/* The default is text. */
void log_set_format(enum log_format format);

/* Where lines go: stderr (2) unless a test sets another descriptor. */
void log_set_fd(int fd);
/* Whether that is the stream of the journal that JOURNAL_STREAM names ("DEVICE:INODE"); looks once, at the call. */
bool log_find_journal(void);
/* What stands in front of a line for the journal, as "<3>"; empty elsewhere. Static memory. */
const char *log_priority(enum log_level level);

static inline bool log_enabled(enum log_level level)
{
	return level <= log_get_level();
}

/* Saves and restores errno. A text over about 2,000 bytes is cut. */
void log_write(enum log_level level, const char *module, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* log_info("net", "listening on %s", address): the arguments are evaluated only if the level is on. */
#define log_at(level, module, ...) (log_enabled(level) ? log_write(level, module, __VA_ARGS__) : (void)0)
#define log_error(module, ...) log_at(LOG_LEVEL_ERROR, module, __VA_ARGS__)
#define log_warn(module, ...) log_at(LOG_LEVEL_WARN, module, __VA_ARGS__)
#define log_info(module, ...) log_at(LOG_LEVEL_INFO, module, __VA_ARGS__)
#define log_debug(module, ...) log_at(LOG_LEVEL_DEBUG, module, __VA_ARGS__)

#endif
