#include "inherited.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "config.h"

/* An option of a socket, -1 if it is none. */
static int option_of(int fd, int option)
{
	int value;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 ? value : -1;
}

static int check_one(int fd, const struct address_guard *guard, struct error *err)
{
	struct error open;
	struct sockaddr_storage address = {0};
	socklen_t len = sizeof(address);

	if (option_of(fd, SO_TYPE) != SOCK_STREAM || option_of(fd, SO_ACCEPTCONN) != 1)
		return error_set(err, ERR_CONFIG,
			"descriptor %d of the supervisor is no stream socket that listens: expected ListenStream= and "
			"Accept=no in "
			"the socket unit",
			fd);
	if (getsockname(fd, (struct sockaddr *)&address, &len) != 0)
		return error_set(
			err, ERR_CONFIG, "descriptor %d of the supervisor has no address: %s", fd, strerror(errno));
	switch (address.ss_family) {
	case AF_UNIX:
		return 0; /* who may connect is up to its mode, and to the rights of its directory */
	case AF_INET:
	case AF_INET6:
		if (address_check_open((const struct sockaddr *)&address, guard, &open) == 0)
			return 0;
		return error_set(
			err, ERR_CONFIG, "descriptor %d of the supervisor (ListenStream=): %s", fd, open.message);
	default:
		return error_set(err, ERR_CONFIG,
			"descriptor %d of the supervisor is a socket of address family %d: expected TCP or Unix in "
			"ListenStream=",
			fd, address.ss_family);
	}
}

int inherited_check(int first, int count, const struct config *config, struct error *err)
{
	struct address_guard guard;

	if (count > CONFIG_MAX_LISTEN)
		return error_set(err, ERR_CONFIG, "%d sockets of the supervisor: at most %d can be listened on", count,
			CONFIG_MAX_LISTEN);
	config_guard(config, &guard);
	for (int i = 0; i < count; i++) {
		if (check_one(first + i, &guard, err) != 0)
			return -1;
	}
	return 0;
}
