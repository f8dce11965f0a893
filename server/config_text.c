#include <stdio.h>
#include <string.h>

#include "config_table.h"
#include "config_text.h"

/* At most CONFIG_SHOWN_MAX - 1 bytes, with "..." where it was cut. Bytes over 0x7f pass: they may be UTF-8. */
static void show(const char *text, char shown[CONFIG_SHOWN_MAX])
{
	size_t len = 0;

	for (; text[len] != '\0' && len < CONFIG_SHOWN_MAX - 4; len++)
		shown[len] = ((unsigned char)text[len] < ' ' || text[len] == 0x7f) ? '?' : text[len];
	snprintf(shown + len, CONFIG_SHOWN_MAX - len, "%s", text[len] != '\0' ? "..." : "");
}

void config_show_path(const char *path, char shown[CONFIG_SHOWN_MAX])
{
	size_t len = strlen(path);
	char tail[CONFIG_SHOWN_MAX];

	if (len < CONFIG_SHOWN_MAX - 4) {
		show(path, shown);
		return;
	}
	snprintf(tail, sizeof(tail), "...%s", path + len - (CONFIG_SHOWN_MAX - 8));
	show(tail, shown);
}

/* A key as it is written there: in the file with _, as an option with - (and -- before it). */
static void spell(const char *name, bool dashes, char *buf, size_t size)
{
	snprintf(buf, size, "%s%s", dashes ? "--" : "", name);
	for (char *at = buf; dashes && *at != '\0'; at++) {
		if (*at == '_')
			*at = '-';
	}
}

void config_say_unknown(const char *name, bool dashes, char message[CONFIG_MESSAGE_MAX])
{
	const struct config_key *nearest = config_key_nearest(name, strlen(name));
	char shown[CONFIG_SHOWN_MAX], hint[CONFIG_NAME_MAX + 4];

	show(name, shown);
	if (nearest != NULL) {
		spell(nearest->name, dashes, hint, sizeof(hint));
		snprintf(message, CONFIG_MESSAGE_MAX, "unknown %s \"%s%s\": did you mean %s?",
			dashes ? "option" : "key", dashes ? "--" : "", shown, hint);
	} else {
		snprintf(message, CONFIG_MESSAGE_MAX, "unknown %s \"%s%s\"", dashes ? "option" : "key",
			dashes ? "--" : "", shown);
	}
}

void config_say_bad_value(const char *name, const char *text, const char *why, char message[CONFIG_MESSAGE_MAX])
{
	char shown[CONFIG_SHOWN_MAX];

	show(text, shown);
	snprintf(message, CONFIG_MESSAGE_MAX, "%s: bad value \"%s\": %s", name, shown, why);
}
