#include "address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

void address_format(const struct sockaddr *address, char *text, size_t size)
{
	char host[INET6_ADDRSTRLEN];
	if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(text, size, "[%s]:%u", host, ntohs(in6->sin6_port));
	} else if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in4 = (const struct sockaddr_in *)address;
		inet_ntop(AF_INET, &in4->sin_addr, host, sizeof(host));
		snprintf(text, size, "%s:%u", host, ntohs(in4->sin_port));
	} else {
		snprintf(text, size, "?");
	}
}

bool address_is_local(const struct sockaddr *address)
{
	if (address->sa_family == AF_UNIX)
		return true;
	if (address->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
	if (address->sa_family != AF_INET6)
		return false;
	const struct in6_addr *in6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
	return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
}

int address_check_open(const struct sockaddr *address, const struct address_guard *guard, struct error *err)
{
	char text[ADDRESS_TEXT_MAX];
	if (address_is_local(address) || guard->allowed || (guard->authenticated && guard->encrypted))
		return 0;
	address_format(address, text, sizeof(text));
	if (!guard->authenticated)
		return error_set(err, ERR_CONFIG,
			"cannot listen on tcp %s: it is not a loopback address, and nobody is asked who they are: set "
			"token_file, tls_certificate and tls_key, or choose an address in 127.0.0.0/8 or [::1] "
			"(insecure_allow_open_addresses = yes lets everyone in who reaches it)",
			text);
	return error_set(err, ERR_CONFIG,
		"cannot listen on tcp %s: it is not a loopback address, and without TLS everyone on the way can read "
		"the tokens: set tls_certificate and tls_key, or choose an address in 127.0.0.0/8 or [::1] "
		"(insecure_allow_open_addresses = yes sends them in the clear)",
		text);
}

int address_check_open_metrics(const struct sockaddr *address, bool allowed, struct error *err)
{
	char text[ADDRESS_TEXT_MAX];
	if (address_is_local(address) || allowed)
		return 0;
	address_format(address, text, sizeof(text));
	return error_set(err, ERR_CONFIG,
		"cannot serve metrics at tcp %s: it is not a loopback address, and nobody is asked who they are there: "
		"choose an address in 127.0.0.0/8 or [::1] for listen_metrics, and what asks for a password in front "
		"of it (insecure_allow_open_addresses = yes lets everyone read them who reaches it)",
		text);
}
