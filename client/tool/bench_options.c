/* The command line of ironwal bench. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "bench.h"
#include "clock.h"
#include "content.h"
#include "utf8.h"

#define SECONDS_MAX 604800.0
#define COUNT_MAX UINT64_C(1000000000000000)
#define WEIGHT_MAX 1000000

const char bench_help[] =
	"usage: ironwal bench [OPTIONS]\n"
	"\n"
	"Loads the server and tells how many requests it answers, and how fast. A closed loop: each\n"
	"connection keeps --pipeline requests in flight, and sends another one when one is answered.\n"
	"\n"
	"It appends to the streams PREFIX000000, PREFIX000001, ... (with --keys to the shards of keys of\n"
	"these names). What it appends stays there: the protocol has no way to delete a stream, so use a\n"
	"server that is there for this, and a --prefix that nobody else writes to.\n"
	"\n"
	"Options, of what is sent:\n"
	"  --connections N     default 1\n"
	"  --pipeline N        requests in flight on each connection; default 1\n"
	"  --threads N         that the connections are spread over; default 1\n"
	"  --payload BYTES     of each entry; default 100\n"
	"  --batch N           entries of each append; default 1\n"
	"  --random            each entry is random bytes of its own; else all are 'ironwald' over and over\n"
	"  --sync              nothing is acknowledged before it is on disk, whatever the server's mode\n"
	"  --streams N         that requests go round over; default 1\n"
	"  --keys N            append by key, to so many keys, instead of to streams; read the shards\n"
	"  --prefix TEXT       of the names of streams or keys; default bench-\n"
	"  --mix OP=WEIGHT,... what requests are drawn from at random: append, get (one entry, drawn at\n"
	"                      random) and iter; default append=1. Reads ask for what was acknowledged to\n"
	"                      the same thread; while a stream has nothing, appends take their place\n"
	"  --iter-count N      entries that each iter asks for; default 100\n"
	"  --prefill N         before all, puts at least N entries into each stream (to each key). A mix\n"
	"                      without append needs that, or reads what is there already, of up to\n"
	"                      --payload bytes an entry\n"
	"\n"
	"How long:\n"
	"  --duration SEC      default 10, if there is no --count\n"
	"  --count N           requests in all; with --duration, whichever is over first\n"
	"  --warmup SEC        the same load before, not measured; default 0\n"
	"\n"
	"Checking:\n"
	"  --verify            each entry carries a checksum and who wrote it (so --payload is at least\n"
	"                      32). Whatever is read is checked, and in the end all that was acknowledged\n"
	"                      is read back once, and has to be found at its id. Nobody else may append\n"
	"                      to the streams meanwhile\n"
	"  --seed N            of random bytes, choices and --verify; default: another one each time\n"
	"\n" TOOL_OPTIONS_HELP "\n"
	"On a terminal a line on standard error shows how it goes. ^C ends the load, and what was measured\n"
	"is reported; a second ^C ends it at once. Latency is from when a request is made until its answer\n"
	"is read. Exit status: 0; 1 if an answer was an error or something was not as it was written; 2\n"
	"wrong usage; 3 no connection, or it was lost.\n"
	"\n"
	"Example:\n"
	"  ironwal bench --connections 64 --pipeline 16 --duration 10 --warmup 1\n"
	"  ironwal bench --connections 16 --mix append=80,get=15,iter=5 --count 100000 --verify\n";

/* ---- values ---- */

static int parse_number(const struct tool *tool, const char *name, uint64_t least, uint64_t most, uint64_t *ret)
{
	uint64_t value;
	if (!tool_parse_u64(optarg, &value) || value < least || value > most)
		return tool_usage(
			tool, "--%s: '%s' is not a number from %" PRIu64 " to %" PRIu64, name, optarg, least, most);
	*ret = value;
	return TOOL_GO_ON;
}

static int parse_seconds(const struct tool *tool, const char *name, double least, uint64_t *ret_ns)
{
	char *end;
	double seconds = strtod(optarg, &end);
	if (end == optarg || *end != '\0' || !isfinite(seconds) || seconds < least || seconds > SECONDS_MAX)
		return tool_usage(tool, "--%s: '%s' is not a number of seconds from %g to %.0f", name, optarg, least,
			SECONDS_MAX);
	*ret_ns = (uint64_t)(seconds * (double)NS_PER_SECOND);
	return TOOL_GO_ON;
}

/* "append=80,get=15". The text is cut up. */
static int parse_mix(struct bench *bench, char *text)
{
	uint32_t weights[BENCH_MIXED_OPS] = {0};
	uint64_t sum = 0;
	char *rest = text, *part;
	while ((part = strsep(&rest, ",")) != NULL) {
		char *equals = strchr(part, '=');
		uint64_t weight;
		int op = 0;
		if (equals == NULL || !tool_parse_u64(equals + 1, &weight) || weight > WEIGHT_MAX)
			return tool_usage(bench->tool,
				"--mix: '%s' is not append=N, get=N or iter=N, with a weight of up to %d", part,
				WEIGHT_MAX);
		*equals = '\0';
		while (op < BENCH_MIXED_OPS && strcmp(part, bench_op_name((enum bench_op)op)) != 0)
			op++;
		if (op == BENCH_MIXED_OPS)
			return tool_usage(bench->tool, "--mix: there is append, get and iter, but no '%s'", part);
		if (weights[op] != 0)
			return tool_usage(bench->tool, "--mix: %s is there twice", part);
		weights[op] = (uint32_t)weight;
		sum += weight;
	}
	if (sum == 0)
		return tool_usage(bench->tool, "--mix: all weights are 0");
	memcpy(bench->plan.weights, weights, sizeof(weights));
	return TOOL_GO_ON;
}

static int parse_prefix(struct bench *bench)
{
	size_t len = strlen(optarg);
	if (len == 0 || len > BENCH_PREFIX_BYTES_MAX || !utf8_valid(optarg, len))
		return tool_usage(bench->tool, "--prefix: 1 to %d bytes of UTF-8 are expected", BENCH_PREFIX_BYTES_MAX);
	bench->plan.prefix = optarg;
	return TOOL_GO_ON;
}

/* ---- options ---- */

enum {
	BENCH_OPTION_CONNECTIONS = OPTION_OWN,
	BENCH_OPTION_PIPELINE,
	BENCH_OPTION_THREADS,
	BENCH_OPTION_PAYLOAD,
	BENCH_OPTION_BATCH,
	BENCH_OPTION_RANDOM,
	BENCH_OPTION_SYNC,
	BENCH_OPTION_STREAMS,
	BENCH_OPTION_KEYS,
	BENCH_OPTION_PREFIX,
	BENCH_OPTION_MIX,
	BENCH_OPTION_ITER_COUNT,
	BENCH_OPTION_PREFILL,
	BENCH_OPTION_DURATION,
	BENCH_OPTION_COUNT,
	BENCH_OPTION_WARMUP,
	BENCH_OPTION_VERIFY,
	BENCH_OPTION_SEED,
};

static const struct option options[] = {TOOL_OPTIONS,
	{"connections", required_argument, NULL, BENCH_OPTION_CONNECTIONS},
	{"pipeline", required_argument, NULL, BENCH_OPTION_PIPELINE},
	{"threads", required_argument, NULL, BENCH_OPTION_THREADS},
	{"payload", required_argument, NULL, BENCH_OPTION_PAYLOAD},
	{"batch", required_argument, NULL, BENCH_OPTION_BATCH}, {"random", no_argument, NULL, BENCH_OPTION_RANDOM},
	{"sync", no_argument, NULL, BENCH_OPTION_SYNC}, {"streams", required_argument, NULL, BENCH_OPTION_STREAMS},
	{"keys", required_argument, NULL, BENCH_OPTION_KEYS}, {"prefix", required_argument, NULL, BENCH_OPTION_PREFIX},
	{"mix", required_argument, NULL, BENCH_OPTION_MIX},
	{"iter-count", required_argument, NULL, BENCH_OPTION_ITER_COUNT},
	{"prefill", required_argument, NULL, BENCH_OPTION_PREFILL},
	{"duration", required_argument, NULL, BENCH_OPTION_DURATION},
	{"count", required_argument, NULL, BENCH_OPTION_COUNT},
	{"warmup", required_argument, NULL, BENCH_OPTION_WARMUP}, {"verify", no_argument, NULL, BENCH_OPTION_VERIFY},
	{"seed", required_argument, NULL, BENCH_OPTION_SEED}, {NULL, 0, NULL, 0}};

static int take_number(struct bench *bench, int option, const char *name)
{
	const struct tool *tool = bench->tool;
	struct bench_plan *plan = &bench->plan;
	switch (option) {
	case BENCH_OPTION_CONNECTIONS:
		return parse_number(tool, name, 1, BENCH_CONNECTIONS_MAX, &plan->connections_count);
	case BENCH_OPTION_PIPELINE:
		return parse_number(tool, name, 1, BENCH_PIPELINE_MAX, &plan->pipeline);
	case BENCH_OPTION_THREADS:
		return parse_number(tool, name, 1, BENCH_THREADS_MAX, &plan->threads_count);
	case BENCH_OPTION_PAYLOAD:
		return parse_number(tool, name, 0, BENCH_PAYLOAD_MAX, &plan->payload_bytes);
	case BENCH_OPTION_BATCH:
		return parse_number(tool, name, 1, BENCH_BATCH_MAX, &plan->batch_count);
	case BENCH_OPTION_ITER_COUNT:
		return parse_number(tool, name, 1, BENCH_BATCH_MAX, &plan->iter_count);
	case BENCH_OPTION_PREFILL:
		return parse_number(tool, name, 1, BENCH_PREFILL_MAX, &plan->prefill_count);
	case BENCH_OPTION_COUNT:
		return parse_number(tool, name, 1, COUNT_MAX, &bench->count);
	case BENCH_OPTION_SEED:
		return parse_number(tool, name, 0, UINT64_MAX, &plan->seed);
	default: /* those of the library's side */
		return tool_option(bench->tool, option);
	}
}

static int take(struct bench *bench, int option, const char *name)
{
	struct bench_plan *plan = &bench->plan;
	switch (option) {
	case BENCH_OPTION_RANDOM:
		plan->random = true;
		return TOOL_GO_ON;
	case BENCH_OPTION_SYNC:
		plan->sync = true;
		return TOOL_GO_ON;
	case BENCH_OPTION_VERIFY:
		plan->verify = plan->checks = true;
		return TOOL_GO_ON;
	case BENCH_OPTION_STREAMS:
	case BENCH_OPTION_KEYS:
		if (plan->names_count != 0)
			return tool_usage(bench->tool, "--streams and --keys are given more than once, or both");
		plan->by_key = option == BENCH_OPTION_KEYS;
		return parse_number(bench->tool, name, 1, BENCH_NAMES_MAX, &plan->names_count);
	case BENCH_OPTION_PREFIX:
		return parse_prefix(bench);
	case BENCH_OPTION_MIX:
		bench->mix = optarg; /* that it is an option comes before what it says */
		return TOOL_GO_ON;
	case BENCH_OPTION_DURATION:
		return parse_seconds(bench->tool, name, 0.01, &bench->duration_ns);
	case BENCH_OPTION_WARMUP:
		return parse_seconds(bench->tool, name, 0, &bench->warmup_ns);
	default:
		return take_number(bench, option, name);
	}
}

static int check(struct bench *bench)
{
	struct bench_plan *plan = &bench->plan;
	if (bench->duration_ns == UINT64_MAX && bench->count == UINT64_MAX)
		bench->duration_ns = 10 * NS_PER_SECOND;
	bench->in_place = !plan_appends(plan) && plan->prefill_count == 0;
	plan->any_run = bench->in_place;
	const char *wrong = plan_check(plan);
	if (wrong != NULL)
		return tool_usage(bench->tool, "%s", wrong);
	if (plan->verify && bench->count != UINT64_MAX && plan_appends(plan) && bench->count > ACKED_RECORDS_MAX)
		return tool_usage(
			bench->tool, "--verify can record up to %zu appends, fewer than --count", ACKED_RECORDS_MAX);
	plan->address = bench->tool->address != NULL ? bench->tool->address : secure_getenv("IRONWAL_CONNECT");
	if (plan->address == NULL || plan->address[0] == '\0')
		plan->address = IRONWAL_DEFAULT_ADDRESS;
	plan->timeout_ns = UINT64_MAX;
	if (bench->tool->timeout_ms >= 0)
		plan->timeout_ns = (uint64_t)bench->tool->timeout_ms * NS_PER_MS;
	return TOOL_GO_ON;
}

int bench_options(struct bench *bench, int argc, char **argv)
{
	int option, index = 0, status;
	bench->count = bench->duration_ns = UINT64_MAX;
	bench->plan = (struct bench_plan){
		.client_name = "ironwal-bench/" IRONWAL_VERSION_STRING,
		.prefix = "bench-",
		.weights = {[BENCH_APPEND] = 1},
		.connections_count = 1,
		.threads_count = 1,
		.pipeline = 1,
		.payload_bytes = 100,
		.batch_count = 1,
		.iter_count = 100,
		.seed = clock_now_ns(),
	};
	(void)getrandom(&bench->plan.seed, sizeof(bench->plan.seed), 0);
	while ((option = getopt_long(argc, argv, "", options, &index)) != -1) {
		if ((status = take(bench, option, options[index].name)) != TOOL_GO_ON)
			return status;
	}
	if ((status = tool_check_count(bench->tool, argc - optind, 0, 0)) != TOOL_GO_ON)
		return status;
	if (bench->mix != NULL && (status = parse_mix(bench, bench->mix)) != TOOL_GO_ON)
		return status;
	if (bench->plan.names_count == 0)
		bench->plan.names_count = 1;
	return check(bench);
}
