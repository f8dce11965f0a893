/* The pages for who decides whether to restart the daemon, or to send it clients. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "pages.h"

#define STATUS_OK 200
#define STATUS_UNAVAILABLE 503

static void put(struct metrics_text *text, const char *line)
{
	if (buf_append(&text->buf, line, strlen(line)) != 0 || buf_append(&text->buf, "\n", 1) != 0)
		text->failed = true;
}

unsigned page_healthz(const struct net *net, struct metrics_text *text)
{
	struct health_report report;
	health_report(net->health, &report);
	put(text, report.alive ? "ok" : report.reason);
	return report.alive ? STATUS_OK : STATUS_UNAVAILABLE;
}

unsigned page_readyz(const struct net *net, struct metrics_text *text)
{
	struct health_report report, whole;
	char refusing[NET_REFUSING_MAX], line[NET_REFUSING_MAX + 64];
	health_report(net->health, &report);
	net_health(net, &whole);
	if (whole.ready) {
		put(text, "ok");
		return STATUS_OK;
	}
	if (net->stopping)
		put(text, "it stops");
	if (report.reason[0] != '\0')
		put(text, report.reason);
	for (uint32_t i = 0; i < engine_writer_count(net->engine); i++) {
		/* What failed has a path, and so the name of a stream. */
		if (net_refusing(net, i, refusing)) {
			snprintf(line, sizeof(line), "%s until a restart: see the log", refusing);
			put(text, line);
		}
	}
	return STATUS_UNAVAILABLE;
}
