/*
 * config_text: the words of a refusal, the same for the file and the command line.
 *
 * Owns nothing; any thread may call it.
 * Invariant: what comes from the user is cut and made printable before it goes into a message.
 */
#ifndef IRONWALD_CONFIG_TEXT_H
#define IRONWALD_CONFIG_TEXT_H

#include <stdbool.h>

#define CONFIG_SHOWN_MAX 100
#define CONFIG_MESSAGE_MAX 480

/* A path, its end if it is long. */
void config_show_path(const char *path, char shown[CONFIG_SHOWN_MAX]);

/* `unknown key "sinc_mode": did you mean sync_mode?` dashes: as an option of the command line. */
void config_say_unknown(const char *name, bool dashes, char message[CONFIG_MESSAGE_MAX]);

/* `sync_mode: bad value "x": expected ...` */
void config_say_bad_value(const char *name, const char *text, const char *why, char message[CONFIG_MESSAGE_MAX]);

#endif
