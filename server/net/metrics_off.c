/* metrics, as it is built without libmicrohttpd: it cannot be had, and says so. */
#include "metrics.h"

int metrics_new(struct net *net, struct metrics **ret_metrics, struct error *err)
{
	(void)net;
	(void)ret_metrics;
	return error_set(err, ERR_CONFIG,
		"listen_metrics: this ironwald was built without libmicrohttpd: set it to none, or build with "
		"-Dmetrics=enabled");
}

int metrics_start(struct metrics *metrics, struct error *err)
{
	(void)metrics;
	(void)err;
	return 0;
}

void metrics_close(struct metrics *metrics)
{
	(void)metrics;
}

void metrics_free(struct metrics *metrics)
{
	(void)metrics;
}
