/* metrics, as it is built without libmicrohttpd: the server serves without it, and refuses to begin with it. */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "net_harness.h"

TestSuite(metrics_off, .init = set_up, .fini = tear_down, .timeout = 60);

Test(metrics_off, it_serves_without)
{
	start_server();
	struct client client = client_new();
	struct response response;
	ask_plain(&client, 7, METHOD_PING);
	receive_ok(&client, 7, &response);
	client_close(&client);
}

Test(metrics_off, it_does_not_begin_with_it)
{
	struct sockaddr_storage address = {0};
	struct server *server;
	struct error err = {0};
	*(struct sockaddr_in *)&address =
		(struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	options.metrics_addresses = &address;
	options.metrics_count = 1;
	cr_assert(server_new(&options, &server, &err) == -1);
	cr_assert(err.code == ERR_CONFIG);
	cr_assert(strstr(err.message, "listen_metrics") != NULL && strstr(err.message, "-Dmetrics=enabled") != NULL,
		"%s", err.message);
}
