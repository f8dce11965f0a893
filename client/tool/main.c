/* ironwal: the command line of ironwald. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

static const struct command *const commands[] = {&command_append, &command_get, &command_cat, &command_streams,
	&command_info, &command_truncate, &command_segment_start, &command_sync, &command_ping, &command_stats,
	&command_shard, &command_checkpoint, &command_prune,
#ifdef IRONWAL_TLS
	&command_token,
#endif
	&command_bench};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

int tool_print_help(void)
{
	out_format("usage: ironwal [OPTIONS] COMMAND [ARGUMENTS]\n\n"
		   "Appends to and reads from the streams and shards of an ironwald.\n\n"
		   "Commands (`ironwal COMMAND --help` tells more, with an example):\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		out_format("  %-14s %s\n", commands[i]->name, commands[i]->summary);
	out_format("\n"
		   "Options, before or after the command:\n"
		   "  --connect ADDR   unix:PATH, tcp:HOST:PORT or tls:HOST:PORT; else $IRONWAL_CONNECT,\n"
		   "                   else " IRONWAL_DEFAULT_ADDRESS "\n"
		   "  --token-file FILE\n"
		   "                   the token that the server asks for; else $IRONWAL_TOKEN_FILE\n"
		   "  --allow-plain-token\n"
		   "                   send it also where everyone on the way can read it\n"
		   "  --tls-ca FILE    who may have signed the server's certificate; else $IRONWAL_TLS_CA,\n"
		   "                   else those that this system trusts\n"
		   "  --tls-cert FILE, --tls-key FILE\n"
		   "                   our own certificate, if the server asks for one; else $IRONWAL_TLS_CERT\n"
		   "                   and $IRONWAL_TLS_KEY\n"
		   "  --timeout SEC    how long an answer may take; default 30; 0: no limit\n"
		   "  --json           output (and errors) as JSON, one object a line\n"
		   "  --help, --version\n\n"
		   "Exit status: 0 done; 1 the server refused, there is no such stream or entry, or a local file\n"
		   "failed; 2 wrong usage; 3 no connection, connection lost, or no answer in time.\n\n"
		   "Example:\n"
		   "  ironwal append greetings hello && ironwal cat greetings\n");
	return EXIT_OK;
}

void tool_client_options(const struct tool *tool, ironwal_options *ret_options)
{
	const ironwal_options defaults = IRONWAL_OPTIONS_INIT;
	*ret_options = defaults;
	ret_options->timeout_ms = tool->timeout_ms;
	ret_options->token_file = tool->token_file;
	ret_options->allow_plain_token = tool->allow_plain_token;
	ret_options->tls_ca_file = tool->tls_ca;
	ret_options->tls_certificate_file = tool->tls_cert;
	ret_options->tls_key_file = tool->tls_key;
}

static const char *connect_hint(const struct tool *tool)
{
	const ironwal_error *error = tool->error;
	if (strstr(ironwal_error_message(error), "certificate is not accepted") != NULL)
		return "--tls-ca or IRONWAL_TLS_CA names who has signed it";
	if (ironwal_error_get_code(error) == IRONWAL_ERR_CONNECTION_LOST)
		return "does it want TLS, as tls:HOST:PORT? --connect or IRONWAL_CONNECT names another address";
	if (ironwal_error_get_code(error) == IRONWAL_ERR_PROTOCOL)
		return "is it an ironwald that listens there? --connect or IRONWAL_CONNECT names another address";
	if (ironwal_error_get_code(error) == IRONWAL_ERR_UNAUTHORIZED)
		return "--token-file or IRONWAL_TOKEN_FILE names the file with your token";
	if (ironwal_error_errno(error) == EACCES)
		return "the rights of the socket and its directories say who may connect: ask whoever runs ironwald";
	return "--connect or IRONWAL_CONNECT names another address";
}

static void connect_options(const struct tool *tool, ironwal_options *ret_options)
{
	tool_client_options(tool, ret_options);
	ret_options->max_in_flight_bytes = 8u << 20; /* what append --lines holds in memory */
	ret_options->client_name = "ironwal/" IRONWAL_VERSION_STRING;
}

int tool_connect_failed(const struct tool *tool)
{
	/* Without a connection, whatever the reason: the status that says so. */
	int status = tool_failed(tool, "connect", NULL, connect_hint(tool));
	return status == EXIT_USAGE ? EXIT_USAGE : EXIT_CONNECTION;
}

int tool_connect(struct tool *tool)
{
	ironwal_options options;
	connect_options(tool, &options);
	if (ironwal_connect(tool->address, &options, &tool->connection, tool->error) == 0)
		return TOOL_GO_ON;
	return tool_connect_failed(tool);
}

int tool_connect_again(struct tool *tool)
{
	ironwal_options options;
	connect_options(tool, &options);
	ironwal_close(tool->connection);
	tool->connection = NULL;
	return ironwal_connect_start(tool->address, &options, &tool->connection, tool->error);
}

/* The argument that comes next is the command. */
static int run_named(struct tool *tool, int argc, char **argv, const struct command *const *choice, size_t choice_count)
{
	if (optind == argc)
		return tool_usage(tool, "a command is missing");
	for (size_t i = 0; i < choice_count; i++) {
		const char *space = strrchr(choice[i]->name, ' ');
		if (strcmp(argv[optind], space != NULL ? space + 1 : choice[i]->name) != 0)
			continue;
		char **rest = argv + optind;
		int count = argc - optind;
		rest[0] = argv[0];
		optind = 0; /* a new round, with permutation */
		tool->command = choice[i];
		tool->argv = rest;
		return tool->command->run(tool, count, rest);
	}
	return tool_usage(tool, "there is no command '%s'", argv[optind]);
}

int tool_run_one_of(struct tool *tool, int argc, char **argv, const struct command *const *choice, size_t count)
{
	int status = tool_leading_options(tool, argc, argv, NULL);
	return status == TOOL_GO_ON ? run_named(tool, argc, argv, choice, count) : status;
}

static int run(struct tool *tool, int argc, char **argv)
{
	bool is_version = false;
	int status = tool_leading_options(tool, argc, argv, &is_version);
	if (is_version) {
		out_format("ironwal %s\n", ironwal_version());
		return EXIT_OK;
	}
	return status == TOOL_GO_ON ? run_named(tool, argc, argv, commands, COMMAND_COUNT) : status;
}

/* Where a standard descriptor is closed, the next one that is opened would take its number: the connection would be
 * written to as standard output. What stands in for it fails as the closed one does. */
static void occupy_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0)
			(void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
	}
}

int main(int argc, char **argv)
{
	static char name[] = "ironwal";
	struct tool tool = {.argv = argv, .timeout_ms = 30000, .error = ironwal_error_new()};
	occupy_standard_descriptors();
	opterr = 0; /* tool_option says it better */
	signal(SIGPIPE, SIG_IGN);
	if (argc > 0)
		argv[0] = name;
	if (tool.error == NULL)
		return tool_failed_here(&tool, "out of memory");
	int status = out_end(&tool, run(&tool, argc, argv));
	ironwal_close(tool.connection);
	ironwal_error_free(tool.error);
	return status;
}
