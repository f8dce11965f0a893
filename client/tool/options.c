/* What stands on the command line: options, numbers, names. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

#define OWN_MAX 16

bool tool_parse_u64(const char *text, uint64_t *ret_value)
{
	char *end;
	if (text[0] < '0' || text[0] > '9') /* strtoull would take blanks and signs */
		return false;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0')
		return false;
	*ret_value = value;
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int tool_parse_hex(const char *text, size_t len, struct buf *buf)
{
	if (len % 2 != 0)
		return -1;
	for (size_t i = 0; i < len; i += 2) {
		int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
		const uint8_t byte = (uint8_t)(high * 16 + low);
		if (high < 0 || low < 0 || buf_append(buf, &byte, 1) != 0)
			return -1;
	}
	return 0;
}

int tool_parse_bytes(const struct tool *tool, const char *text, bool is_hex, struct buf *buf)
{
	size_t len = strlen(text);
	if (is_hex && tool_parse_hex(text, len, buf) != 0)
		return tool_usage(tool, "--hex: '%s' is not a number of two hex digits for each byte", text);
	if (!is_hex && buf_append(buf, text, len) != 0)
		return tool_failed_here(tool, "out of memory");
	return TOOL_GO_ON;
}

static int parse_timeout(struct tool *tool, const char *text)
{
	char *end;
	double seconds = strtod(text, &end);
	/* strtod takes blanks, signs, "0x10" and "inf", too. */
	if (strspn(text, "0123456789.") != strlen(text) || end == text || *end != '\0' || seconds > 1e9)
		return tool_usage(tool, "--timeout: '%s' is not a number of seconds", text);
	tool->timeout_ms = seconds > 0 ? (int64_t)ceil(seconds * 1000) : -1;
	return TOOL_GO_ON;
}

/* What getopt answered '?' to. Its own message would have no word of what to do, and show anything as it is. */
static int refuse_option(const struct tool *tool)
{
	const char *word = tool->argv[optind - 1];
	if (optopt > 0 && optopt < OPTION_CONNECT)
		return tool_usage(tool, "there is no option '-%c'", optopt);
	if (optopt == 0)
		return tool_usage(tool, "'%s' is no option, or the beginning of several", word);
	if (strchr(word, '=') != NULL)
		return tool_usage(tool, "'%s': this option takes no argument", word);
	return tool_usage(tool, "the argument of '%s' is missing", word);
}

int tool_option(struct tool *tool, int option)
{
	switch (option) {
	case OPTION_CONNECT:
		tool->address = optarg;
		return TOOL_GO_ON;
	case OPTION_TIMEOUT:
		return parse_timeout(tool, optarg);
	case OPTION_TOKEN_FILE:
		tool->token_file = optarg;
		return TOOL_GO_ON;
	case OPTION_ALLOW_PLAIN_TOKEN:
		tool->allow_plain_token = true;
		return TOOL_GO_ON;
	case OPTION_TLS_CA:
		tool->tls_ca = optarg;
		return TOOL_GO_ON;
	case OPTION_TLS_CERT:
		tool->tls_cert = optarg;
		return TOOL_GO_ON;
	case OPTION_TLS_KEY:
		tool->tls_key = optarg;
		return TOOL_GO_ON;
	case OPTION_JSON:
		tool->json = true;
		return TOOL_GO_ON;
	case OPTION_HELP:
		if (tool->command == NULL)
			return tool_print_help();
		out_format("%s", tool->command->help);
		return EXIT_OK;
	default:
		return refuse_option(tool);
	}
}

int tool_check_count(const struct tool *tool, int count, int least, int most)
{
	const char *usage = tool->command->help;
	int len = (int)strcspn(usage, "\n");
	if (count < least)
		return tool_usage(tool, "an argument is missing; %.*s", len, usage);
	if (count > most)
		return tool_usage(tool, "there are too many arguments; %.*s", len, usage);
	return TOOL_GO_ON;
}

static int own_option(struct tool *tool, const struct option_row *row)
{
	if (row->is_given != NULL)
		*row->is_given = true;
	if (row->number != NULL && !tool_parse_u64(optarg, row->number))
		return tool_usage(tool, "--%s: '%s' is not %s", row->name, optarg, row->what);
	if (row->text != NULL && optarg != NULL)
		*row->text = optarg;
	return TOOL_GO_ON;
}

int tool_arguments(struct tool *tool, int argc, char **argv, const struct option_row *rows, int least, int most)
{
	static const struct option common[] = {TOOL_OPTIONS};
	struct option options[sizeof(common) / sizeof(common[0]) + OWN_MAX + 1];
	size_t count = sizeof(common) / sizeof(common[0]);
	memcpy(options, common, sizeof(common));
	for (size_t i = 0; rows != NULL && rows[i].name != NULL && i < OWN_MAX; i++) {
		const bool takes_argument = rows[i].number != NULL || rows[i].text != NULL;
		const int takes = rows[i].is_optional ? optional_argument
				  : takes_argument    ? required_argument
						      : no_argument;
		options[count++] = (struct option){rows[i].name, takes, NULL, OPTION_OWN + (int)i};
	}
	options[count] = (struct option){NULL, 0, NULL, 0};
	int option, status;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		status =
			option >= OPTION_OWN ? own_option(tool, &rows[option - OPTION_OWN]) : tool_option(tool, option);
		if (status != TOOL_GO_ON)
			return status;
	}
	return tool_check_count(tool, argc - optind, least, most);
}

int tool_leading_options(struct tool *tool, int argc, char **argv, bool *is_version)
{
	static const struct option with_version[] = {
		{"version", no_argument, NULL, OPTION_OWN}, TOOL_OPTIONS, {NULL, 0, NULL, 0}};
	int option, status;
	while ((option = getopt_long(argc, argv, "+", with_version + (is_version == NULL), NULL)) != -1) {
		if (option == OPTION_OWN) {
			*is_version = true;
			return EXIT_OK;
		}
		if ((status = tool_option(tool, option)) != TOOL_GO_ON)
			return status;
	}
	return TOOL_GO_ON;
}
