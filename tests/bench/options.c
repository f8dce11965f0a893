#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "arguments.h"
#include "clock.h"

static const char usage[] =
	"load: one thread of load on ironwald, or on Redis streams, and how long the answers took\n"
	"\n"
	"  --tcp HOST:PORT        where the server is (127.0.0.1:7411)\n"
	"  --unix PATH            the same, a Unix socket\n"
	"  --tls-ca FILE          over TLS; whose certificates are good is in FILE\n"
	"  --token-file FILE      the token that ironwald asks for\n"
	"  --redis                speak Redis: XADD key * f PAYLOAD (append), XRANGE (get, iter)\n"
	"  --mode MODE            append, get or iter (append)\n"
	"  --connections N        (1)\n"
	"  --pipeline N           requests in flight on each connection (1)\n"
	"  --payload BYTES        of an entry, random (100)\n"
	"  --batch N              entries to an append_batch or an iter (1: append)\n"
	"  --streams N            requests go round over so many (1)\n"
	"  --prefix TEXT          the streams are TEXT and a number (bench-)\n"
	"  --prefill N            get, iter: entries put into each stream before (10000)\n"
	"  --prefilled N          get, iter: so many are in each stream from an earlier run with --prefill\n"
	"  --keys                 append to the shards of so many keys instead of to streams\n"
	"  --sync                 every append asks to be durable\n"
	"  --duration SECONDS     measured for so long (2)\n"
	"  --count N              measured for so many requests, if that is over sooner\n"
	"  --warmup SECONDS       the same load before, not measured (0.3)\n"
	"  --json                 one JSON object instead of one line\n"
	"\n"
	"Closed loop: a request goes out when an earlier one is answered. Exit status 1 if any answer was wrong.\n";

static int set_address(struct load_options *options, const char *kind, const char *text)
{
	int len = snprintf(options->address, sizeof(options->address), "%s:%s", kind, text);
	options->plan.address = options->address;
	return len < (int)sizeof(options->address) ? 0 : refuse("an address of under 500 bytes is expected");
}

static int parse_mode(struct load_options *options, const char *text)
{
	for (int op = 0; op < BENCH_MIXED_OPS; op++) {
		if (strcmp(text, bench_op_name((enum bench_op)op)) == 0) {
			options->mode = (enum bench_op)op;
			return 0;
		}
	}
	return refuse("--mode %s: append, get or iter is expected", text);
}

static int check(struct load_options *options)
{
	struct bench_plan *plan = &options->plan;
	bool appends = options->mode == BENCH_APPEND;
	plan->options = &options->way;
	if (options->way.tls_ca_file != NULL) {
		if (strncmp(options->address, "tcp:", 4) != 0)
			return refuse("--tls-ca is for --tcp");
		memcpy(options->address, "tls:", 4);
	}
	if (options->redis && (options->way.tls_ca_file != NULL || options->way.token_file != NULL))
		return refuse("--tls-ca and --token-file are for ironwald");
	plan->weights[options->mode] = 1;
	plan->iter_count = plan->batch_count;
	uint64_t readable_count = options->prefilled_count > 0 ? options->prefilled_count : options->prefill_count;
	plan->prefill_count = appends || options->prefilled_count > 0 ? 0 : options->prefill_count;
	if (appends && options->prefilled_count > 0)
		return refuse("--prefilled is for get and iter");
	if (options->redis && appends && plan->batch_count > 1)
		return refuse("Redis has no batch of appends: --batch is for get and iter there");
	if (options->redis && plan->sync)
		return refuse("Redis has no --sync for one request: it is the server's appendfsync");
	if (plan->by_key && (options->redis || !appends))
		return refuse("--keys is for appends to ironwald");
	if (options->mode == BENCH_GET && plan->batch_count > 1)
		return refuse("--batch is for append and iter");
	if (options->mode == BENCH_ITER && plan->batch_count > readable_count)
		return refuse("--batch of an iter is at most --prefill (--prefilled)");
	const char *wrong = plan_check(plan);
	return wrong != NULL ? refuse("%s", wrong) : 0;
}

enum option_code {
	OPTION_TCP = OPTION_OWN,
	OPTION_UNIX,
	OPTION_TLS_CA,
	OPTION_TOKEN_FILE,
	OPTION_REDIS,
	OPTION_MODE,
	OPTION_CONNECTIONS,
	OPTION_PIPELINE,
	OPTION_PAYLOAD,
	OPTION_BATCH,
	OPTION_STREAMS,
	OPTION_PREFIX,
	OPTION_PREFILL,
	OPTION_PREFILLED,
	OPTION_KEYS,
	OPTION_SYNC,
	OPTION_COUNT,
};

static int take(struct load_options *options, int code, const char *name, char *text)
{
	struct bench_plan *plan = &options->plan;
	switch (code) {
	case OPTION_TCP:
		return set_address(options, "tcp", text);
	case OPTION_UNIX:
		return set_address(options, "unix", text);
	case OPTION_TLS_CA:
		options->way.tls_ca_file = text;
		return 0;
	case OPTION_TOKEN_FILE:
		options->way.token_file = text;
		return 0;
	case OPTION_REDIS:
		options->redis = true;
		return 0;
	case OPTION_MODE:
		return parse_mode(options, text);
	case OPTION_CONNECTIONS:
		return parse_number(name, text, 1, BENCH_CONNECTIONS_MAX, &plan->connections_count);
	case OPTION_PIPELINE:
		return parse_number(name, text, 1, BENCH_PIPELINE_MAX, &plan->pipeline);
	case OPTION_PAYLOAD:
		return parse_number(name, text, 0, BENCH_PAYLOAD_MAX, &plan->payload_bytes);
	case OPTION_BATCH:
		return parse_number(name, text, 1, BENCH_BATCH_MAX, &plan->batch_count);
	case OPTION_STREAMS:
		return parse_number(name, text, 1, BENCH_NAMES_MAX, &plan->names_count);
	case OPTION_PREFIX:
		plan->prefix = text;
		return 0;
	case OPTION_PREFILL:
		return parse_number(name, text, 1, BENCH_PREFILL_MAX, &options->prefill_count);
	case OPTION_PREFILLED:
		return parse_number(name, text, 1, BENCH_PREFILL_MAX, &options->prefilled_count);
	case OPTION_KEYS:
		plan->by_key = true;
		return 0;
	case OPTION_SYNC:
		plan->sync = true;
		return 0;
	case OPTION_COUNT:
		return parse_number(name, text, 1, UINT64_MAX / 2, &options->request_count);
	default:
		return take_common(&options->common, code, name, text, usage);
	}
}

int options_parse(struct load_options *options, int argc, char **argv)
{
	static const struct option table[] = {
		{"tcp", required_argument, NULL, OPTION_TCP},
		{"unix", required_argument, NULL, OPTION_UNIX},
		{"tls-ca", required_argument, NULL, OPTION_TLS_CA},
		{"token-file", required_argument, NULL, OPTION_TOKEN_FILE},
		{"redis", no_argument, NULL, OPTION_REDIS},
		{"mode", required_argument, NULL, OPTION_MODE},
		{"connections", required_argument, NULL, OPTION_CONNECTIONS},
		{"pipeline", required_argument, NULL, OPTION_PIPELINE},
		{"payload", required_argument, NULL, OPTION_PAYLOAD},
		{"batch", required_argument, NULL, OPTION_BATCH},
		{"streams", required_argument, NULL, OPTION_STREAMS},
		{"prefix", required_argument, NULL, OPTION_PREFIX},
		{"prefill", required_argument, NULL, OPTION_PREFILL},
		{"prefilled", required_argument, NULL, OPTION_PREFILLED},
		{"keys", no_argument, NULL, OPTION_KEYS},
		{"sync", no_argument, NULL, OPTION_SYNC},
		{"count", required_argument, NULL, OPTION_COUNT},
		COMMON_OPTIONS,
		{0},
	};
	*options = (struct load_options){
		.plan =
			{
				.client_name = "ironwald-bench",
				.prefix = "bench-",
				.connections_count = 1,
				.threads_count = 1,
				.pipeline = 1,
				.payload_bytes = 100,
				.batch_count = 1,
				.names_count = 1,
				.random = true,
				.checks = true,
				.seed = clock_now_ns(),
				.timeout_ns = 30 * NS_PER_SECOND,
			},
		.prefill_count = 10000,
		.request_count = UINT64_MAX,
		.common = COMMON_DEFAULTS,
	};
	int code, index = 0;
	options->way = (ironwal_options)IRONWAL_OPTIONS_INIT;
	(void)set_address(options, "tcp", "127.0.0.1:7411");
	while ((code = getopt_long(argc, argv, "", table, &index)) != -1) {
		int result = take(options, code, table[index].name, optarg);
		if (result != 0)
			return result;
	}
	if (optind < argc)
		return refuse("%s: what is this? --help tells what there is", argv[optind]);
	return check(options);
}
