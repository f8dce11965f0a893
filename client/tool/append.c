/* ironwal append: its arguments, and one entry. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
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

int append_check(const struct tool *tool, const struct append_job *job, const char *entry, const char *what)
{
	if (job->lines && job->batch)
		return tool_usage(tool, "--lines and --batch exclude each other");
	if (job->null && !job->lines && !job->batch)
		return tool_usage(tool, "--null goes with --lines or --batch");
	if (entry != NULL && (job->lines || job->batch || job->file != NULL))
		return tool_usage(tool, "%s and --%s exclude each other", what,
			job->lines   ? "lines"
			: job->batch ? "batch"
				     : "file");
	return TOOL_GO_ON;
}

int append_open(const struct tool *tool, struct append_job *job)
{
	job->fd = STDIN_FILENO;
	job->input = "standard input";
	if (job->file == NULL)
		return TOOL_GO_ON;
	job->input = job->file;
	job->fd = open(job->file, O_RDONLY | O_CLOEXEC);
	return job->fd >= 0
		       ? TOOL_GO_ON
		       : tool_failed_here(tool, "cannot open %s: %s; nothing was written", job->file, strerror(errno));
}

void append_close(struct append_job *job)
{
	if (job->fd != STDIN_FILENO)
		close(job->fd);
}

void append_progress(struct progress *progress, const struct append_job *job)
{
	struct stat st;
	bool known = fstat(job->fd, &st) == 0 && S_ISREG(st.st_mode);
	progress_start(progress, "entries", known ? (uint64_t)st.st_size : 0, 0);
}

int append_read(const struct tool *tool, const struct append_job *job, const char *hint, struct buf *ret_entry)
{
	struct buf buf = {0};
	int status = TOOL_GO_ON;
	if (isatty(job->fd) == 1 && isatty(STDERR_FILENO) == 1)
		fputs("ironwal: reads one entry from the terminal; ^D on a line of its own ends it\n", stderr);
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
		json_put_u64(json, "id", result.first);
		json_put_bool(json, "durable", result.durable);
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
	struct append_job job = {.options = IRONWAL_APPEND_OPTIONS_INIT};
	bool sync = false, has_expected_id = false;
	const struct option_row rows[] = {OPT_TEXT("file", &job.file), OPT_FLAG("lines", &job.lines),
		OPT_FLAG("batch", &job.batch), OPT_FLAG("null", &job.null), OPT_FLAG("sync", &sync),
		OPT_NUMBER("expected-id", &has_expected_id, &job.options.expected_id, "an id"), OPT_END};
	int status = tool_arguments(tool, argc, argv, rows, 1, 2);
	if (status != TOOL_GO_ON)
		return status;
	job.options.sync = sync;
	job.options.has_expected_id = has_expected_id;
	job.stream = argv[optind];
	const char *entry = optind + 1 < argc ? argv[optind + 1] : NULL;
	if ((status = append_check(tool, &job, entry, "an ENTRY")) != TOOL_GO_ON ||
		(status = append_open(tool, &job)) != TOOL_GO_ON)
		return status;
	if ((status = tool_connect(tool)) == TOOL_GO_ON) {
		if (entry != NULL)
			status = append_one(tool, &job, entry, strlen(entry));
		else if (job.lines)
			status = append_lines(tool, &job);
		else if (job.batch)
			status = append_batch(tool, &job);
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
		"Appends ENTRY, or all of standard input as one entry, and prints its id. A stream comes into being\n"
		"with its first entry.\n\n"
		"Options:\n"
		"  --file FILE        read FILE instead of standard input\n"
		"  --lines            every line is an entry (without its newline), sent in pipelined batches; prints\n"
		"                     how many and their ids; if it fails on the way, says which lines were written\n"
		"  --batch            every line is an entry, all in one batch: all of them are written, or none\n"
		"  --null             with --lines or --batch: entries end with NUL bytes, not with newlines\n"
		"  --sync             on disk before it is acknowledged, whatever the server's mode\n"
		"  --expected-id N    only if N is the stream's next id, else nothing is written "
		"(Conflict)\n" TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal append greetings hello\n"
		"  ironwal append --lines --file /etc/passwd users\n"
		"  printf 'debit 5\\ncredit 5\\n' | ironwal append --batch ledger\n",
	.run = run,
};
