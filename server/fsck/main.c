/*
 * main: ironwal-fsck, which looks at a data directory that no daemon serves.
 *
 * Exit status: 0 clean, 1 a torn tail only, 2 damage, 8 it could not run.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dump.h"
#include "log.h"
#include "repair.h"
#include "verify.h"

struct arguments {
	const char *dir;
	bool json;
	bool write; /* repair does it */
	struct dump_options dump;
};

static void usage(FILE *to)
{
	fputs("usage: ironwal-fsck verify [--json] DIR\n"
	      "       ironwal-fsck dump [--json] [--entries] [--stream NAME] [--segment FILE] [--from ID] [--max N] "
	      "DIR\n"
	      "       ironwal-fsck repair [--json] [--write] DIR\n"
	      "       ironwal-fsck --help | --version\n",
		to);
}

static int fail(const char *dir, const struct error *err)
{
	fprintf(stderr, "ironwal-fsck: %s: %s\n", dir, err->message);
	return STATUS_FAILED;
}

/* io_posix_new makes what is not there. */
static int open_directory(const char *dir, struct io **ret_io)
{
	struct stat st;
	struct error err;
	int r = stat(dir, &st) != 0 ? -errno : S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	if (r == 0)
		r = io_posix_new(dir, ret_io);
	if (r == 0)
		return 0;
	error_set_io(&err, -r, "open", dir);
	fprintf(stderr, "ironwal-fsck: %s\n", err.message);
	return -1;
}

static int verify_command(const struct arguments *arguments, struct io *io)
{
	struct report report;
	struct progress progress;
	struct error err;
	progress_start(&progress, 0);
	report_init(&report, stdout, arguments->json);
	enum fsck_status status = verify_run(io, &report, &progress, &err);
	report_free(&report);
	return status == STATUS_FAILED ? fail(arguments->dir, &err) : (int)status;
}

static int dump_command(const struct arguments *arguments, struct io *io)
{
	struct dump_options options = arguments->dump;
	struct error err;
	options.json = arguments->json;
	enum fsck_status status = dump_run(io, &options, stdout, &err);
	return status == STATUS_FAILED ? fail(arguments->dir, &err) : (int)status;
}

static int repair_command(const struct arguments *arguments, struct io *io)
{
	struct report report;
	struct progress progress;
	struct error err;
	progress_start(&progress, 0);
	report_init(&report, stdout, arguments->json);
	enum fsck_status status = repair_run(io, arguments->write, &report, &progress, &err);
	report_free(&report);
	return status == STATUS_FAILED ? fail(arguments->dir, &err) : (int)status;
}

static const struct command {
	const char *name;
	int (*run)(const struct arguments *arguments, struct io *io);
} commands[] = {
	{"verify", verify_command},
	{"dump", dump_command},
	{"repair", repair_command},
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

enum {
	OPTION_JSON = 256,
	OPTION_HELP,
	OPTION_VERSION,
	OPTION_WRITE, /* of repair */
	/* those of dump */
	OPTION_ENTRIES,
	OPTION_STREAM,
	OPTION_SEGMENT,
	OPTION_FROM,
	OPTION_MAX,
};

static const struct option long_options[] = {
	{"json", no_argument, NULL, OPTION_JSON},
	{"help", no_argument, NULL, OPTION_HELP},
	{"version", no_argument, NULL, OPTION_VERSION},
	{"write", no_argument, NULL, OPTION_WRITE},
	{"entries", no_argument, NULL, OPTION_ENTRIES},
	{"stream", required_argument, NULL, OPTION_STREAM},
	{"segment", required_argument, NULL, OPTION_SEGMENT},
	{"from", required_argument, NULL, OPTION_FROM},
	{"max", required_argument, NULL, OPTION_MAX},
	{0},
};

static bool parse_number(const char *text, uint64_t *ret_number)
{
	char *end;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0)
		return false;
	*ret_number = value;
	return true;
}

static int usage_error(void)
{
	usage(stderr);
	return STATUS_FAILED;
}

/* An option of a command that has it. False: it has not, or the value is no good. */
static bool take_option(int option, struct arguments *arguments)
{
	struct dump_options *dump = &arguments->dump;
	switch (option) {
	case OPTION_JSON:
		arguments->json = true;
		return true;
	case OPTION_WRITE:
		arguments->write = true;
		return true;
	case OPTION_ENTRIES:
		dump->entries = true;
		return true;
	case OPTION_STREAM:
		dump->stream = optarg;
		dump->stream_len = strlen(optarg);
		return true;
	case OPTION_SEGMENT:
		dump->segment = optarg;
		return true;
	case OPTION_FROM:
		return parse_number(optarg, &dump->from);
	case OPTION_MAX:
		return parse_number(optarg, &dump->max);
	default:
		return false;
	}
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct arguments *arguments, const struct command **ret_command)
{
	int option;
	bool of_dump = false;
	while ((option = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
		if (option == 'h' || option == OPTION_HELP) {
			usage(stdout);
			return 0;
		}
		if (option == OPTION_VERSION) {
			puts("ironwal-fsck " IRONWALD_VERSION);
			return 0;
		}
		if (!take_option(option, arguments))
			return usage_error();
		of_dump |= option >= OPTION_ENTRIES;
	}
	*ret_command = optind < argc ? find_command(argv[optind]) : NULL;
	if (!*ret_command || optind + 2 != argc || (of_dump && (*ret_command)->run != dump_command) ||
		(arguments->write && (*ret_command)->run != repair_command))
		return usage_error();
	arguments->dir = argv[optind + 1];
	return -1;
}

int main(int argc, char **argv)
{
	struct arguments arguments = {.dump.max = UINT64_MAX};
	const struct command *command;
	struct io *io;
	int status = parse(argc, argv, &arguments, &command);
	if (status < 0) {
		log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC)); /* what the engine has to say is in the report */
		if (open_directory(arguments.dir, &io) != 0)
			return STATUS_FAILED;
		status = command->run(&arguments, io);
		io_posix_free(io);
	}
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fputs("ironwal-fsck: cannot write to standard output\n", stderr);
		return STATUS_FAILED;
	}
	return status;
}
