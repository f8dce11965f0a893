#include "client_token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "client_memory.h"

static int check_token(const char *token, size_t len, const char *from, ironwal_error *error)
{
	bool good = len > 0 && len <= TOKEN_BYTES_MAX;
	for (size_t i = 0; good && i < len; i++)
		good = token[i] > ' ' && token[i] <= '~';
	if (good)
		return 0;
	return cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT,
		"%.200s: a token has 1 to %d printable characters of ASCII, and no blanks", from, TOKEN_BYTES_MAX);
}

static int keep(const struct mem *mem, const char *token, size_t len, char **ret_token, ironwal_error *error)
{
	*ret_token = block_copy(mem, token, len);
	return *ret_token != NULL ? 0 : cerr_no_memory(error);
}

/* Of the file, without the end of its line. */
static int read_file(const struct mem *mem, const char *path, char **ret_token, ironwal_error *error)
{
	char text[TOKEN_BYTES_MAX + 3];
	size_t len = 0;
	ssize_t count;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return cerr_set_errno(
			error, IRONWAL_ERR_INVALID_ARGUMENT, errno, "cannot read the token in %.200s", path);
	do {
		count = read(fd, text + len, sizeof(text) - len);
		if (count > 0)
			len += (size_t)count;
	} while (len < sizeof(text) && (count > 0 || (count < 0 && errno == EINTR)));
	int os_errno = errno, result;
	close(fd);
	if (len > 0 && text[len - 1] == '\n')
		len--;
	if (len > 0 && text[len - 1] == '\r')
		len--;
	if (count < 0)
		result = cerr_set_errno(
			error, IRONWAL_ERR_INVALID_ARGUMENT, os_errno, "cannot read the token in %.200s", path);
	else if ((result = check_token(text, len, path, error)) == 0)
		result = keep(mem, text, len, ret_token, error);
	explicit_bzero(text, sizeof(text));
	return result;
}

int token_load(const struct mem *mem, const ironwal_options *options, char **ret_token, ironwal_error *error)
{
	const char *file = options->token_file;
	*ret_token = NULL;
	if (options->token != NULL) {
		size_t len = strlen(options->token);
		if (check_token(options->token, len, "options: token", error) != 0)
			return -1;
		return keep(mem, options->token, len, ret_token, error);
	}
	if (file == NULL)
		file = secure_getenv("IRONWAL_TOKEN_FILE");
	return file != NULL && file[0] != '\0' ? read_file(mem, file, ret_token, error) : 0;
}

int token_check_path(int fd, const char *address, const ironwal_options *options, ironwal_error *error)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	if (options->allow_plain_token || getpeername(fd, (struct sockaddr *)&peer, &len) != 0 ||
		address_is_local((const struct sockaddr *)&peer))
		return 0; /* without a peer nothing will be sent */
	return cerr_set(error, IRONWAL_ERR_INVALID_ARGUMENT,
		"the token is not sent to %s, as everyone on the way could read it: allow_plain_token "
		"(--allow-plain-token) "
		"sends it all the same",
		address);
}

void token_free(char *token)
{
	if (token != NULL)
		explicit_bzero(token, strlen(token));
	block_free(token);
}
