#include <getopt.h>
#include <stdbool.h>
#include <string.h>

#include "config.h"
#include "config_file.h"
#include "config_table.h"
#include "config_text.h"
#include "config_value.h"

#define MAX_ARGUMENTS 1000

/* What getopt_long returns for the options that are no keys. */
enum { OPTION_KEY = 1000, OPTION_CONFIG, OPTION_CHECK, OPTION_HELP, OPTION_VERSION };

struct option_names {
	char text[CONFIG_KEYS_MAX][CONFIG_NAME_MAX];
	struct option list[CONFIG_KEYS_MAX + 5]; /* the keys in the table's order, four more, the end */
};

/* What the command line says about keys, to be applied after the file. */
struct overrides {
	struct {
		const struct config_key *key;
		const char *text;
	} list[MAX_ARGUMENTS];
	size_t count;
};

static void names_init(struct option_names *names)
{
	static const struct option others[] = {
		{"config", required_argument, NULL, OPTION_CONFIG},
		{"check-config", no_argument, NULL, OPTION_CHECK},
		{"help", no_argument, NULL, OPTION_HELP},
		{"version", no_argument, NULL, OPTION_VERSION},
		{NULL, 0, NULL, 0},
	};

	for (size_t i = 0; i < config_key_count; i++) {
		snprintf(names->text[i], CONFIG_NAME_MAX, "%s", config_keys[i].name);
		for (char *at = names->text[i]; *at != '\0'; at++) {
			if (*at == '_')
				*at = '-';
		}
		names->list[i] = (struct option){names->text[i], required_argument, NULL, OPTION_KEY};
	}
	memcpy(&names->list[config_key_count], others, sizeof(others));
}

void config_default(struct config *config)
{
	char why[CONFIG_WHY_MAX];

	memset(config, 0, sizeof(*config));
	for (size_t i = 0; i < config_key_count; i++) {
		if (config_keys[i].default_text != NULL)
			(void)config_value_set(config, &config_keys[i], config_keys[i].default_text, false, why);
	}
	config->max_message_bytes_asked = config->max_message_bytes;
	config->engine.max_entry_bytes = config->max_message_bytes - CONFIG_ENTRY_MARGIN_BYTES;
}

static int unknown_option(const char *argument, struct error *err)
{
	char name[CONFIG_SHOWN_MAX], message[CONFIG_MESSAGE_MAX];
	const char *text = argument + strspn(argument, "-");

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(text, "="), text);
	config_say_unknown(name, true, message);
	return error_set(err, ERR_CONFIG, "ironwald: %s (--help lists all)", message);
}

/* Fills overrides and *ret_file, or finds that there is nothing to load. */
static int read_arguments(int argc, char **argv, struct overrides *overrides, const char **ret_file,
	enum config_action *ret_action, struct error *err)
{
	struct option_names names;
	int index = 0, found;

	if (argc > MAX_ARGUMENTS)
		return error_set(err, ERR_CONFIG, "ironwald: more than %d arguments", MAX_ARGUMENTS);
	names_init(&names);
	optind = 0; /* glibc: start afresh */
	opterr = 0;
	for (;;) {
		const char *argument = argv[optind == 0 ? 1 : optind];

		found = getopt_long(argc, argv, "+:h", names.list, &index);
		if (found == -1)
			break;
		if (found == '?' || found == ':') {
			/* A value that is missing, or that was given to an option without one, is told by its name. */
			size_t len = strcspn(argument + 2, "=");
			for (const struct option *at = names.list; argument[1] == '-' && at->name != NULL; at++) {
				if (strlen(at->name) == len && strncmp(at->name, argument + 2, len) == 0)
					return error_set(err, ERR_CONFIG, "ironwald: --%s: expected %s value", at->name,
						at->has_arg == required_argument ? "a" : "no");
			}
			return unknown_option(argument, err);
		}
		if (found == 'h' || found == OPTION_HELP) {
			*ret_action = CONFIG_HELP;
			return 0;
		}
		/* getopt takes --sync for --sync-mode, until a later version has a --sync-something. */
		if (strcspn(argument + 2, "=") != strlen(names.list[index].name))
			return unknown_option(argument, err);
		if (found == OPTION_VERSION) {
			*ret_action = CONFIG_VERSION;
			return 0;
		}
		if (found == OPTION_CHECK) {
			*ret_action = CONFIG_CHECK;
		} else if (found == OPTION_CONFIG) {
			if (*ret_file != NULL)
				return error_set(err, ERR_CONFIG, "ironwald: --config: given already");
			*ret_file = optarg;
		} else {
			overrides->list[overrides->count].key = &config_keys[index];
			overrides->list[overrides->count++].text = optarg;
		}
	}
	if (optind < argc) {
		char shown[CONFIG_SHOWN_MAX];
		config_show_path(argv[optind], shown);
		return error_set(err, ERR_CONFIG, "ironwald: unexpected argument \"%s\": expected --key=value", shown);
	}
	return 0;
}

/* The last one wins, so that a script can add to what it was given; addresses gather. */
static int apply(const struct overrides *overrides, struct config *config, struct error *err)
{
	uint64_t seen = 0;

	for (size_t i = 0; i < overrides->count; i++) {
		const struct config_key *key = overrides->list[i].key;
		uint64_t bit = UINT64_C(1) << (key - config_keys);
		bool add = key->type == CONFIG_ADDRESSES && (seen & bit) != 0;
		char name[CONFIG_NAME_MAX], why[CONFIG_WHY_MAX], message[CONFIG_MESSAGE_MAX];

		if (config_value_set(config, key, overrides->list[i].text, add, why) != 0) {
			snprintf(name, sizeof(name), "%s", key->name);
			for (char *at = name; *at != '\0'; at++) {
				if (*at == '_')
					*at = '-';
			}
			config_say_bad_value(name, overrides->list[i].text, why, message);
			return error_set(err, ERR_CONFIG, "ironwald: --%s", message);
		}
		seen |= bit;
	}
	return 0;
}

void config_guard(const struct config *config, struct address_guard *ret_guard)
{
	*ret_guard = (struct address_guard){
		.authenticated = config->token_file[0] != '\0' || config->tls_client_ca[0] != '\0',
		.encrypted = config->tls_certificate[0] != '\0',
		.allowed = config->insecure_allow_open_addresses != 0,
	};
}

/* What is to keep strangers out is there as a whole, and suffices for where they could come from. */
static int check_guard(const struct config *config, struct error *err)
{
	struct address_guard guard;

	if ((config->tls_certificate[0] == '\0') != (config->tls_key[0] == '\0'))
		return error_set(err, ERR_CONFIG,
			"ironwald: tls_certificate and tls_key go together: expected both, or neither");
	if (config->tls_client_ca[0] != '\0' && config->tls_certificate[0] == '\0')
		return error_set(err, ERR_CONFIG,
			"ironwald: tls_client_ca is of no use without TLS: expected tls_certificate and tls_key, too");
	config_guard(config, &guard);
	for (uint32_t i = 0; i < config->listen_tcp.count; i++) {
		if (address_check_open((const struct sockaddr *)&config->listen_tcp.list[i], &guard, err) != 0)
			return -1;
	}
	for (uint32_t i = 0; i < config->listen_metrics.count; i++) {
		const struct sockaddr *address = (const struct sockaddr *)&config->listen_metrics.list[i];
		if (address_check_open_metrics(address, guard.allowed, err) != 0)
			return -1;
	}
	return 0;
}

/* What holds between keys, and what small values are raised to. */
static int finish(struct config *config, struct error *err)
{
	if (config->root_path[0] == '\0')
		return error_set(err, ERR_CONFIG,
			"ironwald: root_path is not given: expected --root-path=DIR, or root_path = DIR in the file");
	if (check_guard(config, err) != 0)
		return -1;
	config->max_message_bytes_asked = config->max_message_bytes;
	if (config->max_message_bytes < CONFIG_MIN_MESSAGE_BYTES)
		config->max_message_bytes = CONFIG_MIN_MESSAGE_BYTES;
	config->engine.max_entry_bytes = config->max_message_bytes - CONFIG_ENTRY_MARGIN_BYTES;
	return 0;
}

int config_load(int argc, char **argv, struct config *ret_config, enum config_action *ret_action, struct error *err)
{
	struct overrides overrides = {.count = 0};
	struct config config;
	enum config_action action = CONFIG_RUN;
	const char *file = NULL;

	config_default(&config);
	if (read_arguments(argc, argv, &overrides, &file, &action, err) != 0)
		return -1;
	if (action == CONFIG_RUN || action == CONFIG_CHECK) {
		if (file != NULL && config_file_read(file, &config, err) != 0)
			return -1;
		if (apply(&overrides, &config, err) != 0 || finish(&config, err) != 0)
			return -1;
	}
	*ret_config = config;
	*ret_action = action;
	return 0;
}

int config_check_listening(const struct config *config, int inherited_count, struct error *err)
{
	if (inherited_count > 0 || config->listen_tcp.count > 0 || config->listen_unix[0] != '\0')
		return 0;
	return error_set(err, ERR_CONFIG,
		"ironwald: listen_tcp and listen_unix are both none: expected an address or a path to listen on");
}

void config_print_help(FILE *out)
{
	struct option_names names;
	char syntax[100], left[160];

	names_init(&names);
	fputs("Usage: ironwald --root-path=DIR [--config=FILE] [--KEY=VALUE ...]\n"
	      "       ironwald --check-config [--config=FILE] [--KEY=VALUE ...]\n"
	      "\n"
	      "The write-ahead-log daemon. Options win over the file; every option is a key of the file too, with _ "
	      "for -.\n"
	      "\n"
	      "  --config=FILE    read key = value lines from it (see ironwald.conf(5))\n"
	      "  --check-config   read all, say whether it is good, and exit: 0 if it is, 2 if not\n"
	      "  --help           this\n"
	      "  --version        the version\n"
	      "\n",
		out);
	for (size_t i = 0; i < config_key_count; i++) {
		const struct config_key *key = &config_keys[i];

		config_value_syntax(key, syntax, sizeof(syntax));
		snprintf(left, sizeof(left), "--%s=%s", names.text[i], syntax);
		fprintf(out, "  %s\n        %s (%s%s%s)\n", left, key->help,
			key->default_text != NULL ? "default: " : "required",
			key->default_text != NULL ? key->default_text : "", key->reload ? "; reload" : "");
	}
	fputs("\nSIZE is in bytes, or with K, M or G (1024 and its powers); TIME has a unit: ms, s or m.\n"
	      "SIGHUP reads the file again; keys marked \"reload\" then change, the others wait for a restart.\n"
	      "Exit status: 0 stopped as asked, 1 failed, 2 usage or configuration, 3 damaged data.\n",
		out);
}

const char *config_sync_mode_name(enum sync_mode mode)
{
	return config_key_find("sync_mode", strlen("sync_mode"))->names[mode];
}

const char *config_compression_name(enum compression compression)
{
	return config_key_find("compression", strlen("compression"))->names[compression];
}
