/* ironwal token: makes a token, and the line that the server knows it by. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "base64.h"
#include "token_line.h"
#include "tool.h"

/* 264 random bits, and a text without padding. */
#define RANDOM_BYTES 33
#define TOKEN_CHARS (RANDOM_BYTES / 3 * 4)
#define LINE_MAX_BYTES 65536

static int make_token(const struct tool *tool, char token[TOKEN_CHARS + 1])
{
	uint8_t bytes[RANDOM_BYTES];
	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return tool_failed_here(tool, "cannot get random bytes: %s", strerror(errno));
	base64_encode(bytes, sizeof(bytes), token);
	token[TOKEN_CHARS] = '\0';
	explicit_bzero(bytes, sizeof(bytes));
	return TOOL_GO_ON;
}

/* "sha256:HEX NAME ROLES STREAMS...", good by the rules that the server has for it. To be freed. */
static int make_line(const struct tool *tool, const char *token, char **words, int count, char **ret_line)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned digest_len = 0;
	char why[TOKEN_WHY_MAX], *line = NULL;
	size_t size = 0;
	struct token checked;
	if (EVP_Digest(token, strlen(token), digest, &digest_len, EVP_sha256(), NULL) != 1)
		return tool_failed_here(tool, "cannot compute a SHA-256");
	FILE *out = open_memstream(&line, &size);
	if (out == NULL)
		return tool_failed_here(tool, "out of memory");
	fputs("sha256:", out);
	for (unsigned i = 0; i < digest_len; i++)
		fprintf(out, "%02x", digest[i]);
	for (int i = 0; i < count; i++)
		fprintf(out, " %s", words[i]);
	if (fclose(out) != 0) {
		free(line);
		return tool_failed_here(tool, "out of memory");
	}
	for (int i = 0; i < count; i++) {
		/* It would be several words, or several lines. */
		if (words[i][0] == '\0' || strpbrk(words[i], " \t\r\n") != NULL) {
			free(line);
			return tool_usage(
				tool, "'%s' is empty or has blanks: in a prefix %%20 stands for a blank", words[i]);
		}
	}
	if (token_line_read(line, size, &checked, why) != 1) {
		free(line);
		return tool_usage(tool, "%s", why);
	}
	token_clear(&checked);
	*ret_line = line;
	return TOOL_GO_ON;
}

/* For this user alone, and never over a file that is there. */
static int write_token(const struct tool *tool, const char *path, const char *token)
{
	char text[TOKEN_CHARS + 2];
	int len = snprintf(text, sizeof(text), "%s\n", token);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
	if (fd < 0)
		return tool_failed_here(tool, "cannot make %s: %s", path, strerror(errno));
	ssize_t count = write(fd, text, (size_t)len);
	bool good = count == len && fsync(fd) == 0;
	int os_errno = count >= 0 && count < len ? ENOSPC : errno;
	if (close(fd) != 0 && good) {
		good = false;
		os_errno = errno;
	}
	explicit_bzero(text, sizeof(text));
	if (good)
		return TOOL_GO_ON;
	unlink(path);
	return tool_failed_here(tool, "cannot write %s: %s", path, strerror(os_errno));
}

static int run_token(struct tool *tool, int argc, char **argv)
{
	char token[TOKEN_CHARS + 1], *line = NULL;
	int status = tool_arguments(tool, argc, argv, NULL, 4, 3 + TOKEN_PREFIXES_MAX);
	if (status != TOOL_GO_ON || (status = make_token(tool, token)) != TOOL_GO_ON)
		return status;
	status = make_line(tool, token, argv + optind + 1, argc - optind - 1, &line);
	if (status == TOOL_GO_ON)
		status = write_token(tool, argv[optind], token);
	explicit_bzero(token, sizeof(token));
	if (status == TOOL_GO_ON) {
		status = EXIT_OK;
		if (tool->json) {
			struct json *json = json_new();
			json_map(json);
			json_put_str(json, "file", argv[optind]);
			json_put_str(json, "line", line);
			json_map_end(json);
			json_line(json);
			json_free(json);
		} else {
			out_format("%s\n", line);
		}
	}
	free(line);
	return status;
}

const struct command command_token = {
	.name = "token",
	.summary = "make a token, and its line for the server's token_file",
	.help = "usage: ironwal token [OPTIONS] FILE NAME ROLES STREAMS...\n\n"
		"Makes a new random token, and writes it to FILE, which must not be there yet and is for you alone:\n"
		"--token-file FILE shows it to a server. Prints the line with its SHA-256 that goes into the\n"
		"token_file of the server, which it reads at its start and at SIGHUP. Needs no connection.\n\n"
		"NAME is whose it is, for the server's log. ROLES are read, append or admin, with commas between\n"
		"several. STREAMS are PREFIX* for the streams whose names begin so (%20 is a blank), or * for all.\n\n"
		"Options:\n" TOOL_OPTIONS_HELP "\n"
		"Example:\n"
		"  ironwal token billing.token billing read,append 'orders/*' 'bills/*' >>tokens\n",
	.run = run_token,
};
