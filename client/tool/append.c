/* ironwal append: one entry. With --lines, see append_lines.c. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "append.h"
#include "buf.h"

/* All of the descriptor, at most max bytes and one more. */
static int read_all(int fd, size_t max, struct buf *buf)
{
	while (buf->len <= max) {
		size_t want = max + 1 - buf->len < 65536 ? max + 1 - buf->len : 65536;
		if (buf_reserve(buf, want) != 0) {
			errno = ENOMEM;
			return -1;
		}
		ssize_t n = read(fd, buf->data + buf->len, want);
		if (n < 0 && errno != EINTR)
			return -1;
		if (n == 0)
			break;
		if (n > 0)
			buf->len += (size_t)n;
	}
	return 0;
}

int append_open(const struct tool *tool, const char *file, struct append_job *job)
{
	job->fd = STDIN_FILENO;
	job->input = "standard input";
	if (file == NULL)
		return TOOL_GO_ON;
	job->input = file;
	job->fd = open(file, O_RDONLY | O_CLOEXEC);
	return job->fd >= 0 ? TOOL_GO_ON : tool_failed_here(tool, "cannot open %s: %s", file, strerror(errno));
}

void append_close(struct append_job *job)
{
	if (job->fd != STDIN_FILENO)
		close(job->fd);
}

int append_read(const struct tool *tool, const struct append_job *job, const char *hint, struct buf *ret_entry)
{
	struct buf buf = {0};
	int status = TOOL_GO_ON;
	uint64_t max = ironwal_max_entry_bytes(tool->connection);
	if (read_all(job->fd, max, &buf) != 0)
		status = tool_failed_here(tool, "cannot read %s: %s; nothing was written", job->input, strerror(errno));
	else if (buf.len > max)
		status = tool_failed_here(tool, "%s is larger than an entry can be (%llu bytes); nothing was written%s",
			job->input, (unsigned long long)max, hint);
	if (status == TOOL_GO_ON)
		*ret_entry = buf;
	else
		buf_free(&buf);
	return status;
}

static int append_one(struct tool *tool, const struct append_job *job, const void *entry, size_t len)
{
	ironwal_append_result result;
	if (ironwal_append(tool->connection, job->stream, strlen(job->stream), entry, len, &job->options, &result,
		    tool->error) != 0)
		return tool_failed(tool, "append to", job->stream, NULL);
	if (tool->json) {
		struct json *json = json_new();
		json_map(json);
		json_key(json, "id");
		json_u64(json, result.first);
		json_key(json, "durable");
		json_bool(json, result.durable);
		json_map_end(json);
		json_line(json);
		json_free(json);
	} else {
		out_format("%llu\n", (unsigned long long)result.first);
	}
	return EXIT_OK;
}

static int append_input(struct tool *tool, const struct append_job *job)
{
	struct buf buf;
	int status = append_read(tool, job, "; --lines makes an entry of each line", &buf);
	if (status != TOOL_GO_ON)
		return status;
	status = append_one(tool, job, buf.data, buf.len);
	buf_free(&buf);
	return status;
}

static int run(struct tool *tool, int argc, char **argv)
{
	enum { OPTION_FILE = OPTION_OWN, OPTION_LINES, OPTION_SYNC, OPTION_EXPECTED_ID };
	static const struct option options[] = {TOOL_OPTIONS, {"file", required_argument, NULL, OPTION_FILE},
		{"lines", no_argument, NULL, OPTION_LINES}, {"sync", no_argument, NULL, OPTION_SYNC},
		{"expected-id", required_argument, NULL, OPTION_EXPECTED_ID}, {NULL, 0, NULL, 0}};
	struct append_job job = {.options = IRONWAL_APPEND_OPTIONS_INIT};
	const char *file = NULL;
	bool lines = false;
	int option, status;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case OPTION_FILE:
			file = optarg;
			break;
		case OPTION_LINES:
			lines = true;
			break;
		case OPTION_SYNC:
			job.options.sync = 1;
			break;
		case OPTION_EXPECTED_ID:
			job.options.has_expected_id = 1;
			if (!tool_parse_u64(optarg, &job.options.expected_id))
				return tool_usage(tool, "--expected-id: '%s' is not an id", optarg);
			break;
		default:
			if ((status = tool_option(tool, option)) != TOOL_GO_ON)
				return status;
		}
	}
	if ((status = tool_check_count(tool, argc - optind, 1, 2)) != TOOL_GO_ON)
		return status;
	job.stream = argv[optind];
	const char *entry = optind + 1 < argc ? argv[optind + 1] : NULL;
	if (entry != NULL && (lines || file != NULL))
		return tool_usage(tool, "an ENTRY and --%s exclude each other", lines ? "lines" : "file");
	if ((status = append_open(tool, file, &job)) != TOOL_GO_ON)
		return status;
	if ((status = tool_connect(tool)) == TOOL_GO_ON) {
		if (entry != NULL)
			status = append_one(tool, &job, entry, strlen(entry));
		else if (lines)
			status = append_lines(tool, &job);
		else
			status = append_input(tool, &job);
	}
	append_close(&job);
	return status;
}

const struct command command_append = {
	.name = "append",
	.summary = "append an entry, or the lines of a file, to a stream",
	.help = "usage: ironwal append [OPTIONS] STREAM [ENTRY]\n\n"
		"Appends ENTRY, or all of standard input as one entry, and prints its id.\n\n"
		"Options:\n"
		"  --file FILE        read FILE instead of standard input\n"
		"  --lines            every line is an entry (without its newline), sent in pipelined batches; prints\n"
		"                     how many and their ids; if it fails on the way, says which lines were written\n"
		"  --sync             on disk before it is acknowledged, whatever the server's mode\n"
		"  --expected-id N    only if N is the stream's next id, else nothing is written (Conflict)\n"
		"  --connect ADDR, --timeout SEC, --json, --help\n\n"
		"Example:\n"
		"  ironwal append --lines --file /etc/services services\n",
	.run = run,
};
