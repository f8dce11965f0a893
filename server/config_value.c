#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "config_value.h"

#define NS_PER_MS UINT64_C(1000000)

struct unit {
	const char *suffix;
	uint64_t factor;
};

/* Largest first, as the format functions want it. */
static const struct unit size_units[] = {
	{"G", UINT64_C(1) << 30}, {"M", UINT64_C(1) << 20}, {"K", UINT64_C(1) << 10}, {"", 1}, {NULL, 0}};
static const struct unit duration_units[] = {
	{"m", 60000 * NS_PER_MS}, {"s", 1000 * NS_PER_MS}, {"ms", NS_PER_MS}, {NULL, 0}};
static const struct unit count_units[] = {{"", 1}, {NULL, 0}};

static const struct unit *units_of(const struct config_key *key)
{
	switch (key->type) {
	case CONFIG_SIZE:
		return size_units;
	case CONFIG_DURATION:
		return duration_units;
	default:
		return count_units;
	}
}

/* Digits, then one of the units; no sign, no space, no fraction. */
static int parse_number(const char *text, const struct unit *units, uint64_t *ret_value)
{
	uint64_t value = 0;
	const char *at = text;

	for (; *at >= '0' && *at <= '9'; at++) {
		if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
			__builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
			return -1;
	}
	if (at == text)
		return -1;
	for (; units->suffix != NULL; units++) {
		if (strcmp(at, units->suffix) == 0)
			return __builtin_mul_overflow(value, units->factor, ret_value) ? -1 : 0;
	}
	return -1;
}

static void format_number(uint64_t value, const struct unit *units, char *buf, size_t size)
{
	while (units[1].suffix != NULL && (value == 0 || value % units->factor != 0))
		units++;
	snprintf(buf, size, "%" PRIu64 "%s", value / units->factor, units->suffix);
}

void config_format_size(uint64_t bytes, char *buf, size_t size)
{
	format_number(bytes, size_units, buf, size);
}

void config_format_duration(uint64_t ns, char *buf, size_t size)
{
	format_number(ns, duration_units, buf, size);
}

static void store_number(struct config *config, const struct config_key *key, uint64_t value)
{
	char *field = (char *)config + key->offset;

	if (key->width == sizeof(uint32_t)) {
		uint32_t narrow = (uint32_t)value;
		memcpy(field, &narrow, sizeof(narrow));
	} else {
		memcpy(field, &value, sizeof(value));
	}
}

static int set_number(struct config *config, const struct config_key *key, const char *text, char *why)
{
	const struct unit *units = units_of(key);
	uint64_t value;
	char min[40], max[40];

	if (parse_number(text, units, &value) == 0 && value >= key->min && value <= key->max) {
		store_number(config, key, value);
		return 0;
	}
	format_number(key->min, units, min, sizeof(min));
	format_number(key->max, units, max, sizeof(max));
	if (key->type == CONFIG_SIZE)
		snprintf(why, CONFIG_WHY_MAX, "expected %sa size from %s to %s, in bytes or with K, M or G",
			key->takes_none ? "none or " : "", min, max);
	else if (key->type == CONFIG_DURATION)
		snprintf(why, CONFIG_WHY_MAX, "expected %sa duration from %s to %s, with the unit: ms, s or m",
			key->takes_none ? "none or " : "", min, max);
	else
		snprintf(why, CONFIG_WHY_MAX, "expected %sa number from %s to %s", key->takes_none ? "none or " : "",
			min, max);
	return -1;
}

static int set_enum(struct config *config, const struct config_key *key, const char *text, char *why)
{
	size_t used;

	for (uint64_t i = 0; key->names[i] != NULL; i++) {
		if (strcmp(key->names[i], text) == 0) {
			store_number(config, key, i);
			return 0;
		}
	}
	used = (size_t)snprintf(why, CONFIG_WHY_MAX, "expected %s", key->names[0]);
	for (size_t i = 1; key->names[i] != NULL && used < CONFIG_WHY_MAX; i++)
		used += (size_t)snprintf(why + used, CONFIG_WHY_MAX - used, "%s%s",
			key->names[i + 1] != NULL ? ", " : " or ", key->names[i]);
	return -1;
}

/* Three or four octal digits: fewer are more likely a slip than meant. */
static int set_mode(struct config *config, const struct config_key *key, const char *text, char *why)
{
	size_t len = strlen(text);
	uint64_t mode = 0;

	for (size_t i = 0; i < len && len <= 4 && text[i] >= '0' && text[i] <= '7'; i++)
		mode = mode * 8 + (uint64_t)(text[i] - '0');
	if (len < 3 || len > 4 || strspn(text, "01234567") != len || mode < key->min || mode > key->max) {
		snprintf(why, CONFIG_WHY_MAX, "expected the rights of a file in octal, from %04o to %04o, as 0660",
			(unsigned)key->min, (unsigned)key->max);
		return -1;
	}
	store_number(config, key, mode);
	return 0;
}

static int set_path(struct config *config, const struct config_key *key, const char *text, char *why)
{
	const char *noun = key->type == CONFIG_NAME ? "name" : "path";
	size_t len = strlen(text);

	if (len < key->min || len > key->max) {
		snprintf(why, CONFIG_WHY_MAX, "expected %sa %s of 1 to %" PRIu64 " bytes",
			key->takes_none ? "none or " : "", noun, key->max);
		return -1;
	}
	if (text[0] == '"' || text[0] == '\'') {
		/* It would make a directory of that name, quotes included, which nobody wants. */
		snprintf(why, CONFIG_WHY_MAX, "expected a %s without quotes around it", noun);
		return -1;
	}
	memcpy((char *)config + key->offset, text, len + 1);
	return 0;
}

/* ADDRESS:PORT or [ADDRESS]:PORT, in numbers: names would need a resolver, and may change behind our back. */
static int parse_address(const char *text, size_t len, struct sockaddr_storage *ret_address)
{
	char host[INET6_ADDRSTRLEN + 1];
	const char *host_at = text, *colon = memrchr(text, ':', len);
	size_t host_len;
	uint64_t port = 0;
	bool v6 = len > 0 && text[0] == '[';

	if (colon == NULL)
		return -1;
	host_len = (size_t)(colon - text);
	if (v6) {
		if (host_len < 2 || text[host_len - 1] != ']')
			return -1;
		host_at++;
		host_len -= 2;
	}
	if (host_len >= sizeof(host))
		return -1;
	memcpy(host, host_at, host_len);
	host[host_len] = '\0';

	size_t digits = len - (size_t)(colon + 1 - text);
	if (digits == 0 || digits > 5)
		return -1;
	for (size_t i = 0; i < digits; i++) {
		if (colon[1 + i] < '0' || colon[1 + i] > '9')
			return -1;
		port = port * 10 + (uint64_t)(colon[1 + i] - '0');
	}
	if (port > UINT16_MAX)
		return -1;

	memset(ret_address, 0, sizeof(*ret_address));
	if (v6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret_address;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)port);
		return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1 ? 0 : -1;
	}
	struct sockaddr_in *in = (struct sockaddr_in *)ret_address;
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)port);
	return inet_pton(AF_INET, host, &in->sin_addr) == 1 ? 0 : -1;
}

static bool has_port(const struct sockaddr_storage *address)
{
	return address->ss_family == AF_INET ? ((const struct sockaddr_in *)address)->sin_port != 0
					     : ((const struct sockaddr_in6 *)address)->sin6_port != 0;
}

static int add_address(struct config_addresses *addresses, const char *text, size_t len, char *why)
{
	struct sockaddr_storage address;
	int shown = len > 60 ? 60 : (int)len;

	if (parse_address(text, len, &address) != 0) {
		snprintf(why, CONFIG_WHY_MAX,
			"expected none or ADDRESS:PORT, as 127.0.0.1:7411 or [::1]:7411, with commas between several");
		return -1;
	}
	for (uint32_t i = 0; i < addresses->count; i++) {
		/* Port 0 is another one each time. */
		if (has_port(&address) && memcmp(&addresses->list[i], &address, sizeof(address)) == 0) {
			snprintf(why, CONFIG_WHY_MAX, "%.*s is there twice", shown, text);
			return -1;
		}
	}
	if (addresses->count == CONFIG_MAX_LISTEN) {
		snprintf(why, CONFIG_WHY_MAX, "expected at most %d addresses", CONFIG_MAX_LISTEN);
		return -1;
	}
	addresses->list[addresses->count++] = address;
	return 0;
}

static int set_addresses(struct config *config, const struct config_key *key, const char *text, bool add, char *why)
{
	struct config_addresses *field = (struct config_addresses *)((char *)config + key->offset);
	struct config_addresses addresses = {.count = 0};

	if (add && field->count == 0) {
		snprintf(why, CONFIG_WHY_MAX, "expected nothing beside none");
		return -1;
	}
	if (add)
		addresses = *field;
	for (;;) {
		text += strspn(text, " \t");
		size_t item = strcspn(text, ","), len = item;
		while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
			len--;
		if (add_address(&addresses, text, len, why) != 0)
			return -1;
		if (text[item] == '\0')
			break;
		text += item + 1;
	}
	*field = addresses;
	return 0;
}

static int set_none(struct config *config, const struct config_key *key, bool add, char *why)
{
	switch (key->type) {
	case CONFIG_PATH:
	case CONFIG_NAME:
		*((char *)config + key->offset) = '\0';
		return 0;
	case CONFIG_ADDRESSES:
		if (add) {
			snprintf(why, CONFIG_WHY_MAX, "expected none alone, or no none");
			return -1;
		}
		((struct config_addresses *)((char *)config + key->offset))->count = 0;
		return 0;
	default:
		store_number(config, key, 0);
		return 0;
	}
}

int config_value_set(
	struct config *config, const struct config_key *key, const char *text, bool add, char why[CONFIG_WHY_MAX])
{
	if (key->takes_none && strcmp(text, "none") == 0)
		return set_none(config, key, add, why);
	switch (key->type) {
	case CONFIG_ENUM:
		return set_enum(config, key, text, why);
	case CONFIG_PATH:
	case CONFIG_NAME:
		return set_path(config, key, text, why);
	case CONFIG_MODE:
		return set_mode(config, key, text, why);
	case CONFIG_ADDRESSES:
		return set_addresses(config, key, text, add, why);
	default:
		return set_number(config, key, text, why);
	}
}

void config_value_syntax(const struct config_key *key, char *buf, size_t size)
{
	static const char *const words[] = {
		[CONFIG_SIZE] = "SIZE",
		[CONFIG_COUNT] = "NUMBER",
		[CONFIG_DURATION] = "TIME",
		[CONFIG_PATH] = "PATH",
		[CONFIG_NAME] = "NAME",
		[CONFIG_MODE] = "MODE",
		[CONFIG_ADDRESSES] = "ADDRESS:PORT",
	};
	size_t used = 0;

	if (key->type != CONFIG_ENUM) {
		snprintf(buf, size, "%s%s", key->takes_none ? "none|" : "", words[key->type]);
		return;
	}
	buf[0] = '\0';
	for (size_t i = 0; key->names[i] != NULL && used < size; i++)
		used += (size_t)snprintf(buf + used, size - used, "%s%s", i == 0 ? "" : "|", key->names[i]);
}

static void addresses_text(const struct config_addresses *addresses, char *buf, size_t size)
{
	size_t used = 0;

	for (uint32_t i = 0; i < addresses->count && used < size; i++) {
		char text[ADDRESS_TEXT_MAX];
		address_format((const struct sockaddr *)&addresses->list[i], text, sizeof(text));
		used += (size_t)snprintf(buf + used, size - used, "%s%s", i == 0 ? "" : ",", text);
	}
}

static uint64_t load_number(const struct config *config, const struct config_key *key)
{
	const char *field = (const char *)config + key->offset;
	uint32_t narrow;
	uint64_t value;

	if (key->width != sizeof(narrow)) {
		memcpy(&value, field, sizeof(value));
		return value;
	}
	memcpy(&narrow, field, sizeof(narrow));
	return narrow;
}

static bool is_none(const struct config *config, const struct config_key *key)
{
	const char *field = (const char *)config + key->offset;

	switch (key->type) {
	case CONFIG_PATH:
	case CONFIG_NAME:
		return field[0] == '\0';
	case CONFIG_ADDRESSES:
		return ((const struct config_addresses *)field)->count == 0;
	default:
		return load_number(config, key) == 0;
	}
}

static bool is_text(const struct config_key *key)
{
	return key->type == CONFIG_PATH || key->type == CONFIG_NAME;
}

void config_value_text(const struct config *config, const struct config_key *key, char *buf, size_t size)
{
	const char *field = (const char *)config + key->offset;

	if (key->takes_none && is_none(config, key))
		snprintf(buf, size, "none");
	else if (is_text(key))
		snprintf(buf, size, "%s", field);
	else if (key->type == CONFIG_MODE)
		snprintf(buf, size, "%04o", (unsigned)load_number(config, key));
	else if (key->type == CONFIG_ADDRESSES)
		addresses_text((const struct config_addresses *)field, buf, size);
	else if (key->type == CONFIG_ENUM)
		snprintf(buf, size, "%s", key->names[load_number(config, key)]);
	else
		format_number(load_number(config, key), units_of(key), buf, size);
}

bool config_value_same(const struct config *left, const struct config *right, const struct config_key *key)
{
	const char *a = (const char *)left + key->offset, *b = (const char *)right + key->offset;

	if (is_text(key))
		return strcmp(a, b) == 0;
	if (key->type == CONFIG_ADDRESSES) {
		const struct config_addresses *some = (const struct config_addresses *)a;
		const struct config_addresses *others = (const struct config_addresses *)b;
		return some->count == others->count &&
		       memcmp(some->list, others->list, some->count * sizeof(some->list[0])) == 0;
	}
	return load_number(left, key) == load_number(right, key);
}

void config_value_copy(struct config *to, const struct config *from, const struct config_key *key)
{
	memcpy((char *)to + key->offset, (const char *)from + key->offset, key->width);
}
